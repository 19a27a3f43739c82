r"""One graph with features and labels on its nodes, and splits of them: :class:`NodeData`.

A graph here is simple and undirected: each edge is held once, as ``u < v``. What a file or another
library brings is made so on the way in, and what was changed is written down (``notes``):
directions dropped, repeated edges merged, self-loops removed, isolated nodes counted. Splits that
overlap, or that take nodes without labels, are refused: a score on them would mean nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.node_labels import UNKNOWN, coded

__all__ = ["UNKNOWN", "NodeData", "Split", "as_array", "random_splits", "simple_edges"]

INDICATORS = 20_000


def as_array(values: Any) -> NDArray[Any]:
    """An array of anything that numpy takes, or of a tensor on any device."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


@dataclass(frozen=True, eq=False)
class Split:
    """Nodes to train on, to select on and to test on: three sorted int64 vectors.

    Raises:
        DataError: A node is in two of them, or the training part is empty.
    """

    train: Tensor
    val: Tensor
    test: Tensor

    def __post_init__(self) -> None:
        parts = {"train": self.train, "val": self.val, "test": self.test}
        for name, part in parts.items():
            object.__setattr__(self, name, torch.unique(part.long()))
        names = list(parts)
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                a, b = getattr(self, first), getattr(self, second)
                common = a[torch.isin(a, b)]
                if len(common):
                    raise DataError(
                        f"the split puts {len(common)} nodes into both {first} and {second} "
                        f"(node {int(common[0])} is the first); a node may be in one part only"
                    )
        if not len(self.train):
            raise DataError("the split has no training nodes; give at least one")

    @classmethod
    def of_masks(cls, train: Any, val: Any, test: Any) -> Split:
        """From three boolean vectors ``[n]``."""
        masks = (torch.as_tensor(as_array(m)).bool() for m in (train, val, test))
        return cls(*(m.nonzero()[:, 0] for m in masks))

    def without(self, drop: Tensor) -> Split:
        """The split without the nodes ``drop``."""
        return Split(*(p[~torch.isin(p, drop)] for p in (self.train, self.val, self.test)))

    @property
    def overlap(self) -> float:
        """Ratio of test to training nodes, for :func:`graphdiff.graph.evaluate.paired`."""
        return len(self.test) / len(self.train)


@dataclass(frozen=True, eq=False)
class NodeData:
    """A simple undirected graph with features, labels and splits.

    Attributes:
        name: Of the data set.
        edges: Each edge once, ``u < v``, sorted, int64 ``[2, m]``.
        features: Floating ``[n, f]``.
        labels: Class of each node, int64 ``[n]``; -1 where it is not known.
        splits: Alternative splits of the nodes with labels; empty where there are none.
        classes: Names of the classes.
        ids: Names of the nodes, as the files call them; empty where they have none but their row.
        notes: What was changed on the way in, and whatever else one must know.
        indicators: Whether there were no features, and row k is the indicator of node k: the column
            then means this node, not a property that nodes of other graphs have.
        columns: Names of the features; empty where they have none.

    Raises:
        DataError: There are no nodes, shapes do not fit, features are not finite, an edge leaves
            the graph, or a split takes nodes that do not exist or have no label.
    """

    name: str
    edges: Tensor
    features: Tensor
    labels: Tensor
    splits: tuple[Split, ...] = ()
    classes: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    indicators: bool = False
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.features.dim() != 2 or self.labels.shape != self.features.shape[:1]:
            raise DataError(
                f"{self.name}: expected features [n, f] and labels [n], found "
                f"{list(self.features.shape)} and {list(self.labels.shape)}"
            )
        if not self.n:
            raise DataError(f"{self.name}: the graph has no nodes; give at least one")
        self._check_names()
        if not bool(self.features.isfinite().all()):
            row = int((~self.features.isfinite()).any(1).nonzero()[0, 0])
            raise DataError(
                f"{self.name}: the features of node {self.node_name(row)} are not finite; fill or "
                "drop missing values first"
            )
        if self.edges.numel() and (int(self.edges.min()) < 0 or int(self.edges.max()) >= self.n):
            raise DataError(f"{self.name}: an edge names a node outside of 0 … {self.n - 1}")
        # Without names there can be no more classes than nodes.
        low, top, most = int(self.labels.min()), int(self.labels.max()), len(self.classes) or self.n
        if low < UNKNOWN or top >= most:
            hint = "" if self.classes else "; NodeData.of takes any whole numbers"
            raise DataError(
                f"{self.name}: labels lie between {low} and {top}, expected -1 (unknown) to "
                f"{most - 1}{hint}"
            )
        if not self.classes:
            object.__setattr__(self, "classes", tuple(str(c) for c in range(top + 1)))
        for split in self.splits:
            self.check_split(split)

    def _check_names(self) -> None:
        """Names of nodes and features fit them."""
        wide = self.features.shape[1]
        if self.ids and (len(self.ids) != self.n or len(set(self.ids)) != self.n):
            raise DataError(
                f"{self.name}: {self.n} nodes have {len(set(self.ids))} different ids of "
                f"{len(self.ids)}; give each node one of its own, or none at all (ids=())"
            )
        if self.columns and len(self.columns) != wide:
            raise DataError(
                f"{self.name}: {wide} features have {len(self.columns)} names; name each, or none "
                "(columns=())"
            )
        if self.indicators and wide != self.n:
            raise DataError(
                f"{self.name}: features of shape {[self.n, wide]} are not the indicators of "
                f"{self.n} nodes; give indicators=False with features of your own"
            )

    def check_split(self, split: Split) -> None:
        """Refuse a split that this graph could not have itself.

        Args:
            split: Nodes to train on, to select on and to test on.

        Raises:
            DataError: It takes a node that does not exist or has no label.
        """
        for word in ("train", "val", "test"):
            part: Tensor = getattr(split, word)
            outside = part[(part < 0) | (part >= self.n)]
            if len(outside):
                raise DataError(
                    f"{self.name}: a split puts node {int(outside[0])} into {word}, the nodes are "
                    f"0 to {self.n - 1}; give the split of this graph"
                )
            bare = part[self.labels.to(part.device)[part] == UNKNOWN]
            if len(bare):
                raise DataError(
                    f"{self.name}: a split takes node {self.node_name(int(bare[0]))}, which "
                    f"has no label ({len(bare)} such nodes); take it out of the split"
                )

    @classmethod
    def of(
        cls,
        name: str,
        edges: Any,
        features: Any,
        labels: Any,
        splits: Sequence[Split] = (),
        **more: Any,
    ) -> NodeData:
        """From any edge list: directions, repetitions and self-loops are mended and noted.

        Args:
            name: Of the data set.
            edges: Integer ``[2, m]``.
            features: ``[n, f]``; ``None`` gives every node its own indicator (and a note), which
                20,000 nodes may have at most.
            labels: ``[n]``, -1 where unknown. Without ``classes`` they may be any whole numbers or
                text: those that occur become the names of the classes, 0 to C - 1.
            splits: Splits.
            **more: ``classes``, ``ids``, ``notes``, ``columns``.

        Raises:
            DataError: There are more nodes than may have indicators, or as the class says.
        """
        given = as_array(labels)
        if "classes" not in more:
            given, more["classes"] = coded(given, f"{name}: labels")
        y = torch.as_tensor(given).long()
        notes = dict(more.pop("notes", {}))
        if features is None:
            features, more["indicators"] = _indicators(len(y), name), True
            notes["features"] = "none were given: each node has its own indicator"
        x = torch.as_tensor(as_array(features), dtype=torch.float32)
        pairs, changed = simple_edges(edges, len(y), name)
        return cls(name, pairs, x, y, tuple(splits), notes={**notes, **changed}, **more)

    @classmethod
    def from_pyg(cls, data: Any, name: str = "") -> NodeData:
        """From a ``torch_geometric.data.Data`` on any device.

        Labels and splits are not needed to predict: without ``y`` every label is unknown, and masks
        that nobody can train on (no label at all, no training node, one of the three missing) are
        left out, as ``notes`` says.

        Args:
            data: With ``edge_index``, and ``x``, ``y`` and masks ``[n]`` or ``[n, k]`` where it has
                them. A mask ``[n]`` beside others ``[n, k]`` (WikiCS) is that of all k splits.
            name: Of the graph.

        Raises:
            DataError: There is no ``edge_index``, masks have other shapes, or as :meth:`of`.
        """
        from graphdiff.data.node_pyg import nodes_of_pyg

        return nodes_of_pyg(data, name)

    def to_pyg(self) -> Any:
        """A ``torch_geometric.data.Data``: both directions of each edge, masks ``[n, k]``."""
        from graphdiff.data.node_pyg import pyg_of_nodes

        return pyg_of_nodes(self)

    @property
    def n(self) -> int:
        """Number of nodes."""
        return len(self.features)

    @property
    def homophily(self) -> float:
        """Share of edges between nodes of one class, among those whose ends have labels."""
        a, b = self.labels[self.edges]
        known = (a != UNKNOWN) & (b != UNKNOWN)
        return float((a == b)[known].float().mean()) if bool(known.any()) else float("nan")

    @property
    def isolated(self) -> Tensor:
        """Nodes without edges."""
        seen = torch.zeros(self.n, dtype=torch.bool, device=self.edges.device)
        seen[self.edges.flatten()] = True
        return (~seen).nonzero()[:, 0]

    def node_name(self, k: int) -> str:
        """What the files call node ``k``."""
        return self.ids[k] if self.ids else str(k)

    def normalised(self) -> NodeData:
        """Features divided by the sum of each row (rows of zeros stay), as is usual for words."""
        total = self.features.sum(1, keepdim=True)
        return replace(self, features=self.features / total.where(total > 0, torch.ones(())))

    def fingerprint(self) -> dict[str, Any]:
        """Name, sizes and hashes of content and splits, for cards and tables."""
        return {
            "name": self.name,
            "nodes": self.n,
            "edges": self.edges.shape[1],
            "features": self.features.shape[1],
            "classes": len(self.classes),
            "sha256": _hash(self.edges, self.features, self.labels),
            "split_sha256": _hash(*(p for s in self.splits for p in (s.train, s.val, s.test))),
            "splits": len(self.splits),
        }


def simple_edges(edges: Any, n: int, name: str = "graph") -> tuple[Tensor, dict[str, int]]:
    """Edges of the simple undirected graph, and how many of what had to be mended.

    Args:
        edges: Integer ``[2, m]``.
        n: Number of nodes.
        name: For messages.

    Returns:
        int64 ``[2, k]`` with ``u < v``, sorted; counts of self-loops, repetitions, isolated nodes.

    Raises:
        DataError: The shape is wrong or a node does not exist.
    """
    raw = torch.as_tensor(as_array(edges)).long()
    if raw.numel() == 0:
        raw = raw.reshape(2, 0)
    if raw.dim() != 2 or raw.shape[0] != 2:
        raise DataError(f"{name}: edges must be [2, m], found {list(raw.shape)}")
    if raw.numel() and (int(raw.min()) < 0 or int(raw.max()) >= n):
        raise DataError(
            f"{name}: edges name nodes {int(raw.min())} to {int(raw.max())}, but there are {n} "
            f"nodes (0 to {n - 1})"
        )
    loops = raw[0] == raw[1]
    low, high = raw[:, ~loops].min(0).values, raw[:, ~loops].max(0).values
    code = torch.unique(low * n + high)
    pairs = torch.stack([code // max(n, 1), code % max(n, 1)])
    changed = {"self_loops": int(loops.sum()), "merged": int((~loops).sum()) - pairs.shape[1]}
    seen = torch.zeros(n, dtype=torch.bool)
    seen[pairs.flatten()] = True
    changed["isolated"] = int((~seen).sum())
    return pairs, {key: count for key, count in changed.items() if count}


def random_splits(
    labels: Tensor, count: int = 10, shares: tuple[float, float] = (0.48, 0.32), seed: int = 0
) -> tuple[Split, ...]:
    """Random splits, stratified by class; nodes without label are in none.

    Args:
        labels: ``[n]``, -1 where unknown.
        count: How many.
        shares: Of training and validation; the rest is for testing (the usual 48/32/20).
        seed: Of the draw.

    Raises:
        ArgumentError: Shares that leave nothing.
        DataError: Fewer than three nodes have labels.
    """
    if not (shares[0] > 0 and shares[1] >= 0 and sum(shares) <= 1):
        raise ArgumentError(f"shares of train and val must be positive, sum <= 1; found {shares}")
    if int((labels != UNKNOWN).sum()) < 3:
        raise DataError("fewer than three nodes have labels; a split needs more")
    made = []
    for k in range(count):
        rng = np.random.default_rng((seed, k))
        parts: list[list[NDArray[np.int64]]] = [[], [], []]
        for c in range(int(labels.max()) + 1):
            members = rng.permutation(np.flatnonzero(labels.cpu().numpy() == c))
            a = max(round(shares[0] * len(members)), min(len(members), 1))
            b = a + round(shares[1] * len(members))
            for part, piece in zip(parts, np.split(members, [a, b]), strict=True):
                part.append(piece)
        made.append(Split(*(torch.from_numpy(np.concatenate(part)) for part in parts)))
    return tuple(made)


def _hash(*tensors: Tensor) -> str:
    made = hashlib.sha256()
    for tensor in tensors:
        made.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        made.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return made.hexdigest()


def _indicators(n: int, name: str) -> Tensor:
    if n > INDICATORS:
        raise DataError(
            f"{name}: {n} nodes and no features; an indicator for each of so many nodes is too "
            f"large ({INDICATORS} at most), so give features (degrees, positions, words)"
        )
    return torch.eye(n)
