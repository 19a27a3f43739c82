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

__all__ = ["NodeData", "Split", "random_splits", "simple_edges"]

UNKNOWN = -1


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
        masks = (torch.as_tensor(np.asarray(m)).bool() for m in (train, val, test))
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
        ids: Names of the nodes, as the files call them; empty where they are ``0 … n - 1``.
        notes: What was changed on the way in, and whatever else one must know.

    Raises:
        DataError: Shapes do not fit, features are not finite, an edge leaves the graph, or a split
            takes nodes that have no label.
    """

    name: str
    edges: Tensor
    features: Tensor
    labels: Tensor
    splits: tuple[Split, ...] = ()
    classes: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.features)
        if self.features.dim() != 2 or self.labels.shape != (n,):
            raise DataError(
                f"{self.name}: expected features [n, f] and labels [n], found "
                f"{list(self.features.shape)} and {list(self.labels.shape)}"
            )
        if not bool(self.features.isfinite().all()):
            row = int((~self.features.isfinite()).any(1).nonzero()[0, 0])
            raise DataError(
                f"{self.name}: the features of node {self.node_name(row)} are not finite; fill or "
                "drop missing values first"
            )
        if self.edges.numel() and (int(self.edges.min()) < 0 or int(self.edges.max()) >= n):
            raise DataError(f"{self.name}: an edge names a node outside of 0 … {n - 1}")
        top = int(self.labels.max()) if n else -1
        if int(self.labels.min()) < UNKNOWN or (self.classes and top >= len(self.classes)):
            raise DataError(
                f"{self.name}: labels lie between {int(self.labels.min())} and {top}, expected "
                f"-1 (unknown) to {len(self.classes) - 1}"
            )
        if not self.classes:
            object.__setattr__(self, "classes", tuple(str(c) for c in range(top + 1)))
        for split in self.splits:
            for part in (split.train, split.val, split.test):
                if len(part) and int(part[-1]) >= n:
                    raise DataError(f"{self.name}: a split names node {int(part[-1])} of {n}")
                bare = part[self.labels[part] == UNKNOWN]
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
            features: ``[n, f]``; ``None`` gives every node its own indicator (and a note).
            labels: ``[n]``, -1 where unknown.
            splits: Splits.
            **more: ``classes``, ``ids``, ``notes``.
        """
        y = torch.as_tensor(np.asarray(labels)).long()
        notes = dict(more.pop("notes", {}))
        if features is None:
            features = torch.eye(len(y))
            notes["features"] = "none were given: each node has its own indicator"
        x = torch.as_tensor(np.asarray(features), dtype=torch.float32)
        pairs, changed = simple_edges(edges, len(y), name)
        return cls(name, pairs, x, y, tuple(splits), notes={**notes, **changed}, **more)

    @classmethod
    def from_pyg(cls, data: Any, name: str = "") -> NodeData:
        """From a ``torch_geometric.data.Data`` with ``x`` and ``y``; masks ``[n]`` or ``[n, k]``.

        Raises:
            DataError: It has no labels, or masks of another shape.
        """
        if getattr(data, "y", None) is None:
            raise DataError("the PyG graph has no labels `y`; set -1 where a label is unknown")
        masks = [getattr(data, f"{part}_mask", None) for part in ("train", "val", "test")]
        splits = []
        if all(m is not None for m in masks):
            columns: list[Any] = [m[:, None] if m.dim() == 1 else m for m in masks if m is not None]
            splits = [
                Split.of_masks(*(m[:, k] for m in columns)) for k in range(columns[0].shape[1])
            ]
        x = getattr(data, "x", None)
        return cls.of(
            name or type(data).__name__,
            data.edge_index.cpu().numpy(),
            None if x is None else x.cpu().numpy(),
            data.y.cpu().numpy().reshape(-1),
            splits,
        )

    def to_pyg(self) -> Any:
        """A ``torch_geometric.data.Data``: both directions of each edge, masks ``[n, k]``."""
        from torch_geometric.data import Data

        both = torch.cat([self.edges, self.edges.flip(0)], 1)
        made = Data(x=self.features, y=self.labels, edge_index=both)
        for part in ("train", "val", "test"):
            if self.splits:
                mask = torch.zeros(self.n, len(self.splits), dtype=torch.bool)
                for k, split in enumerate(self.splits):
                    mask[getattr(split, part), k] = True
                setattr(made, f"{part}_mask", mask)
        return made

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
        seen = torch.zeros(self.n, dtype=torch.bool)
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
    raw = torch.as_tensor(np.asarray(edges)).long()
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
            members = rng.permutation(np.flatnonzero(labels.numpy() == c))
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
        made.update(tensor.contiguous().numpy().tobytes())
    return made.hexdigest()
