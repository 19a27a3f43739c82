r"""Heterogeneous graphs: several types of nodes, relations between them, one type to classify.

A relation :math:`r` from type ``s`` to type ``t`` is a sparse matrix :math:`B_r` of shape
:math:`n_s \times n_t` that counts edges. Your own graph comes from :func:`hetero_graph` (edge lists
or sparse matrices, any ids) or :func:`from_pyg` (a ``HeteroData``); public sets come from
:mod:`graphdiff.data.heco`.

What is wrong beyond doubt is refused (:class:`~graphdiff.core.errors.DataError`); what can be
mended is mended and said so in :attr:`HeteroGraph.notes`:

====================================  ============================================================
found                                 done
====================================  ============================================================
splits that share nodes               refused: the score would be of what was trained on
ids out of range, negative or NaN     refused
a split with unlabelled nodes         refused
a class without a training node       refused: no method can predict it
ids with gaps, or strings             numbered in sorted order, or by ``nodes``; the names are kept
edges given several times             merged (``multi="merge"``) or counted (``multi="count"``)
edges within one type, one way only   taken both ways
no features                           identity: each node is its own feature
nodes without any edge                kept; propagation gives them zero, so features must speak
====================================  ============================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.hetero_input import (
    as_relation,
    class_numbers,
    edge_ids,
    feature_matrix,
    number_nodes,
)

__all__ = ["HeteroGraph", "RelationKey", "Split", "from_pyg", "hetero_graph"]

Index = NDArray[np.int64]
RelationKey = tuple[str, str, str]
"""Source type, name, target type, as in ``HeteroData.edge_index_dict``."""


@dataclass(frozen=True)
class Split:
    """Which nodes are trained on, chosen by, and scored; checked by :class:`HeteroGraph`.

    Attributes:
        train: Positions of labelled nodes, int64 ``[k]``.
        val: For choosing settings and epochs only.
        test: For scores only.
    """

    train: Index
    val: Index
    test: Index

    def items(self) -> tuple[tuple[str, Index], ...]:
        """Name and nodes of each part."""
        return (("train", self.train), ("val", self.val), ("test", self.test))


@dataclass(frozen=True)
class HeteroGraph:
    """A heterogeneous graph of which the nodes of one type have classes.

    Attributes:
        target: The type with classes, ``n`` nodes.
        sizes: Number of nodes of each type.
        relations: Counts of edges as CSR matrices ``[n_source, n_target]``.
        labels: Classes ``[n]`` from 0; -1 where unknown.
        features: Of the target nodes, CSR float32 ``[n, f]``; the identity where there are none.
        splits: By name, such as ``"20"`` for 20 labels per class.
        classes: Names of the classes.
        names: Original ids of the nodes of a type, where they are not 0, 1, 2, ….
        identity: Whether the features are the identity.
        notes: What was mended.

    Raises:
        DataError: Splits overlap or name nodes that do not exist or have no label, or a class has
            no training node.
    """

    target: str
    sizes: Mapping[str, int]
    relations: Mapping[RelationKey, sp.csr_array]
    labels: Index
    features: sp.csr_array
    splits: Mapping[str, Split]
    classes: tuple[str, ...]
    names: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    identity: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, split in self.splits.items():
            _check_split(name, split, self.labels, self.classes)

    @property
    def n(self) -> int:
        """Number of nodes of the target type."""
        return self.sizes[self.target]

    def split(self, name: str | int | Split | None = None) -> Split:
        """A split by name; without one, the only one. One that is given is checked.

        Raises:
            ArgumentError: There is no such split, or several and none was named.
            DataError: The split that is given is none of this graph, see :class:`HeteroGraph`.
        """
        if isinstance(name, Split):
            _check_split("given", name, self.labels, self.classes)
            return name
        if name is None and len(self.splits) == 1:
            return next(iter(self.splits.values()))
        if str(name) not in self.splits:
            raise ArgumentError(
                f"split {name!r}: this graph has {', '.join(self.splits) or 'no splits'}; name one"
            )
        return self.splits[str(name)]

    def resplit(self, per_class: int, seed: int, held: int = 1000) -> HeteroGraph:
        """The same graph with one random split named ``"random"``.

        Args:
            per_class: Training nodes of each class.
            seed: Of the drawing.
            held: Nodes for validation, and as many for testing.

        Raises:
            ArgumentError: There are too few labelled nodes.
        """
        rng, known = np.random.default_rng(seed), np.flatnonzero(self.labels >= 0)
        count = np.bincount(self.labels[known], minlength=len(self.classes))
        if count.min() < per_class or len(known) < per_class * len(count) + 2 * held:
            raise ArgumentError(
                f"cannot take {per_class} training nodes of each class and 2 x {held} others: "
                f"classes have {count.tolist()} labelled nodes; ask for fewer"
            )
        mixed = rng.permutation(known)
        of = self.labels[mixed]
        train = np.concatenate([mixed[of == c][:per_class] for c in range(len(count))])
        rest = mixed[~np.isin(mixed, train)]
        split = Split(np.sort(train), np.sort(rest[:held]), np.sort(rest[held : 2 * held]))
        return replace(self, splits={"random": split})


def hetero_graph(
    target: str,
    relations: Mapping[RelationKey, Any],
    labels: Any,
    *,
    features: Any = None,
    splits: Mapping[str, Any] | None = None,
    nodes: Mapping[str, Sequence[Any]] | None = None,
    sizes: Mapping[str, int] | None = None,
    multi: Literal["merge", "count"] = "merge",
) -> HeteroGraph:
    """A heterogeneous graph of your own; see the module docstring for what is mended.

    Args:
        target: Type whose nodes are classified.
        relations: For ``(source type, name, target type)``, edges ``[m, 2]`` of ids (integers or
            strings), or a sparse matrix ``[n_source, n_target]`` of counts.
        labels: Classes of the target nodes ``[n]`` (numbers or names; -1, NaN or None where
            unknown; in a numpy array of text "-1" and "nan", as numpy writes them), or a mapping
            from id to class.
        features: Of the target nodes, dense or sparse ``[n, f]``, in the order of the nodes.
        splits: By name, ``(train, val, test)`` or a mapping with these keys: ids, or masks ``[n]``.
        nodes: Ids of the nodes of a type, in order; needed where ids have gaps and features or a
            list of labels say what belongs to whom by position.
        sizes: Number of nodes of a type whose ids are 0, 1, 2, …; by default one more than the
            largest id.
        multi: What several equal edges are: one edge, or a count.

    Raises:
        DataError: See the module docstring.
        ArgumentError: ``target`` is in no relation, a relation is not named by three texts, or
            ``multi`` is unknown.
    """
    for key in relations:
        if not (isinstance(key, tuple) and len(key) == 3 and all(isinstance(k, str) for k in key)):
            raise ArgumentError(
                f"relation {key!r}: expected three names, (source type, name, target type)"
            )
    types = {kind for source, _, end in relations for kind in (source, end)}
    if target not in types:
        raise ArgumentError(
            f"target {target!r} is in no relation: types are {', '.join(sorted(types)) or 'none'}"
        )
    if multi not in ("merge", "count"):
        raise ArgumentError(f"multi is {multi!r}, expected 'merge' or 'count'")
    notes: list[str] = []
    raw = {key: edge_ids(key, edges) for key, edges in relations.items()}
    numbering = {
        kind: number_nodes(
            kind, raw, (nodes or {}).get(kind), (sizes or {}).get(kind), notes,
            labels=labels if kind == target else None,
        )
        for kind in sorted(types)
    }  # fmt: skip
    made = {
        key: as_relation(key, edges, numbering[key[0]], numbering[key[2]], multi, notes)
        for key, edges in raw.items()
    }
    place = numbering[target]
    y, classes = class_numbers(labels, place)
    x, identity = feature_matrix(features, len(place), notes)
    touched = np.zeros(len(place))
    for key, matrix in made.items():
        touched += _degree(matrix, key, target)
    if alone := int((touched == 0).sum()):
        notes.append(f"{alone} of {len(place)} {target!r} nodes have no edge; they are kept")
    found = {
        name: Split(*(place.positions(part, f"split {name!r}") for part in _parts(name, given)))
        for name, given in (splits or {}).items()
    }
    return HeteroGraph(
        target, {kind: len(n) for kind, n in numbering.items()}, made, y, x, found, classes,
        {kind: n.names for kind, n in numbering.items() if n.names is not None}, identity,
        tuple(notes),
    )  # fmt: skip


def from_pyg(data: Any, target: str | None = None) -> HeteroGraph:
    """A graph from a ``torch_geometric.data.HeteroData``.

    ``y`` of one node type gives the classes, its ``x`` the features, ``train_mask``, ``val_mask``
    and ``test_mask`` the split (named ``"pyg"``). Reverse relations (``rev_…``) are left out, since
    every relation is walked both ways.

    Args:
        data: The graph.
        target: Type to classify; by default the only one with ``y``.

    Raises:
        ArgumentError: No type has ``y``, or several have and none was named.
        DataError: See :func:`hetero_graph`.
    """
    with_y = [kind for kind in data.node_types if "y" in data[kind]]
    if target is None:
        if len(with_y) != 1:
            raise ArgumentError(
                f"types with classes y: {', '.join(with_y) or 'none'}; name the target"
            )
        target = with_y[0]
    elif target not in with_y:
        raise ArgumentError(f"type {target!r} has no classes y: {', '.join(with_y) or 'none'} has")
    store = data[target]
    keys = set(data.edge_types)
    relations = {
        key: data[key].edge_index.t().cpu().numpy()
        for key in data.edge_types
        if not (key[1].startswith("rev_") and (key[2], key[1][4:], key[0]) in keys)
    }
    masks = [f"{part}_mask" for part in ("train", "val", "test")]
    splits = None
    if all(mask in store for mask in masks):
        splits = {"pyg": [store[mask].cpu().numpy() for mask in masks]}
    sizes = {kind: int(data[kind].num_nodes) for kind in data.node_types}
    x = store.x.cpu().numpy() if "x" in store and store.x is not None else None
    return hetero_graph(
        target, relations, store.y.cpu().numpy(), features=x, splits=splits, sizes=sizes
    )


# -- parts ----------------------------------------------------------------------------------------


def _degree(matrix: sp.csr_array, key: RelationKey, kind: str) -> NDArray[Any]:
    """Edges of each node of a type in one relation; zero where the type is not in it."""
    ends = [matrix.sum(1 - side // 2) for side in (0, 2) if key[side] == kind]
    return np.sum(ends, 0) if ends else np.zeros(1)


def _parts(name: str, given: Any) -> tuple[Any, Any, Any]:
    if isinstance(given, Mapping):
        given = [given.get(part) for part in ("train", "val", "test")]
    if len(given) != 3 or any(part is None for part in given):
        raise DataError(f"split {name!r} needs train, val and test nodes; give all three")
    return given[0], given[1], given[2]


def _check_split(name: str, split: Split, labels: Index, classes: tuple[str, ...]) -> None:
    for part, nodes in split.items():
        if not isinstance(nodes, np.ndarray) or nodes.dtype != np.int64 or nodes.ndim != 1:
            raise DataError(
                f"split {name!r}: {part} is no int64 array [k] of positions; make it one, from a "
                "mask by np.flatnonzero"
            )
        if not len(nodes):
            raise DataError(f"split {name!r}: {part} is empty; give it some labelled nodes")
        if len(np.unique(nodes)) < len(nodes):
            raise DataError(f"split {name!r}: {part} names nodes more than once; name each once")
        if (out := nodes[(nodes < 0) | (nodes >= len(labels))]).size:
            raise DataError(
                f"split {name!r}: {part} names {len(out)} nodes that do not exist, {out[0]} for "
                f"one; expected positions from 0 to {len(labels) - 1}"
            )
        if (unknown := int((labels[nodes] < 0).sum())) > 0:
            raise DataError(
                f"split {name!r}: {unknown} of the {len(nodes)} {part} nodes have no label; leave "
                "them out"
            )
    parts = split.items()
    for i, (first, a) in enumerate(parts):
        for second, b in parts[i + 1 :]:
            if len(both := np.intersect1d(a, b)):
                raise DataError(
                    f"split {name!r}: {first} and {second} share {len(both)} nodes "
                    f"({', '.join(map(str, both[:5]))}{', …' if len(both) > 5 else ''}); a score "
                    "on them would mean nothing: take them out of one"
                )
    absent = [c for k, c in enumerate(classes) if not (labels[split.train] == k).any()]
    if absent:
        raise DataError(
            f"split {name!r}: no training node of class {', '.join(absent)}; label some, or mark "
            "the class as unknown (-1)"
        )
