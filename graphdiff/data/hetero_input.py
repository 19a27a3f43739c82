"""Reading of what users give as a heterogeneous graph: ids, edges, classes, features.

Used by :mod:`graphdiff.data.hetero`, which says what is refused and what is mended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from graphdiff.core.errors import DataError

__all__ = [
    "Numbering",
    "as_relation",
    "class_numbers",
    "edge_ids",
    "feature_matrix",
    "number_nodes",
]

Index = NDArray[np.int64]
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Numbering:
    """Positions of the nodes of a type.

    Attributes:
        kind: The type.
        size: Number of nodes.
        names: Ids in order, or None where they are 0, 1, 2, ….
    """

    kind: str
    size: int
    names: NDArray[Any] | None = None

    def __len__(self) -> int:
        """Number of nodes."""
        return self.size

    def of(self, ids: NDArray[Any], where: str) -> Index:
        """Positions of ids.

        Raises:
            DataError: An id is not that of a node.
        """
        if self.names is None:
            if ids.dtype.kind not in "iu":
                raise DataError(
                    f"{where}: {self.kind!r} ids are {ids.dtype}, expected integers; give the ids "
                    f"of all nodes as nodes={{{self.kind!r}: [...]}}"
                )
            bad = (ids < 0) | (ids >= self.size)
            found = ids.astype(np.int64)
        else:
            order = np.argsort(self.names, kind="stable")
            try:
                place = np.searchsorted(self.names, ids, sorter=order)
            except TypeError as error:
                raise DataError(
                    f"{where}: {self.kind!r} ids of type {ids.dtype} cannot be compared with those "
                    f"of the nodes, {self.names.dtype}; use one type"
                ) from error
            found = order[np.minimum(place, self.size - 1)].astype(np.int64)
            bad = self.names[found] != ids
        if bad.any():
            raise DataError(
                f"{where}: {int(bad.sum())} {self.kind!r} ids are not among the {self.size} nodes, "
                f"{ids[bad][0]!r} for one; correct them or give nodes or sizes for {self.kind!r}"
            )
        return found

    def positions(self, given: Any, where: str) -> Index:
        """Positions of nodes given as a mask ``[n]`` or as ids, in ascending order.

        Raises:
            DataError: The mask has another length, or an id is not that of a node.
        """
        ids = np.asarray(given)
        if ids.dtype == bool:
            if ids.shape != (self.size,):
                raise DataError(f"{where}: a mask of shape {ids.shape}, expected [{self.size}]")
            return np.flatnonzero(ids).astype(np.int64)
        return np.sort(self.of(ids.reshape(-1), where))


def edge_ids(key: Key, edges: Any) -> Any:
    """Edges as an array of ids ``[m, 2]``, or a CSR matrix.

    Raises:
        DataError: Another shape, ids that are NaN or fractional, counts that are negative or NaN.
    """
    name = "-".join(key)
    if sp.issparse(edges):
        matrix = sp.csr_array(edges).astype(np.float64)
        if not np.isfinite(matrix.data).all() or (matrix.data < 0).any():
            raise DataError(f"relation {name}: counts must be finite and not negative")
        return matrix
    if hasattr(edges, "detach"):
        edges = edges.detach().cpu().numpy()
    pairs = np.asarray(edges)
    if pairs.size == 0:
        return np.zeros((0, 2), np.int64)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        hint = "; transpose it" if pairs.ndim == 2 and pairs.shape[0] == 2 else ""
        raise DataError(f"relation {name}: edges of shape {pairs.shape}, expected [m, 2]{hint}")
    if pairs.dtype.kind == "f":
        if not np.isfinite(pairs).all() or (pairs != np.round(pairs)).any():
            raise DataError(f"relation {name}: ids must be whole numbers or strings, none NaN")
        pairs = pairs.astype(np.int64)
    if pairs.dtype.kind in "iu" and (pairs < 0).any():
        raise DataError(f"relation {name}: {int((pairs < 0).sum())} ids are negative; correct them")
    if pairs.dtype.kind not in "iuUSO":
        raise DataError(f"relation {name}: ids are {pairs.dtype}, expected integers or strings")
    return pairs.astype(str) if pairs.dtype.kind == "O" else pairs


def number_nodes(
    kind: str,
    raw: Mapping[Key, Any],
    nodes: Sequence[Any] | None,
    size: int | None,
    notes: list[str],
    labels: Any = None,
) -> Numbering:
    """Which nodes a type has.

    Args:
        kind: The type.
        raw: Relations as :func:`edge_ids` gives them.
        nodes: Ids of the nodes, if given.
        size: Number of nodes, if given.
        notes: Lines are added to it.
        labels: Of the target type: a list of them says how many nodes there are, a mapping which.

    Raises:
        DataError: An id is listed twice, or gaps among ids meet labels given by position.
    """
    if nodes is not None:
        names = np.asarray(nodes)
        names = names.astype(str) if names.dtype.kind == "O" else names
        if len(np.unique(names)) < len(names):
            raise DataError(
                f"nodes[{kind!r}]: {len(names)} ids, some of them twice; list each once"
            )
        return Numbering(kind, len(names), names)
    ends = [
        (raw[key].shape[side // 2] if sp.issparse(raw[key]) else raw[key][:, side // 2])
        for key in raw
        for side in (0, 2)
        if key[side] == kind
    ]
    counts, lists = (
        [e for e in ends if isinstance(e, int)],
        [e for e in ends if not isinstance(e, int)],
    )
    if labels is not None and not isinstance(labels, Mapping) and np.ndim(labels) == 1:
        counts.append(len(labels))
    if size is not None:
        counts.append(size)
    if counts:
        if len(set(counts)) > 1:
            raise DataError(
                f"type {kind!r} has {', '.join(map(str, sorted(set(counts))))} nodes, depending on "
                "which of its matrices, labels or sizes one asks; make them agree"
            )
        return Numbering(kind, counts[0])
    named = [np.asarray(list(labels))] if isinstance(labels, Mapping) else []
    names = np.unique(np.concatenate([*lists, *named]))
    if names.dtype.kind in "iu" and len(names) and names[-1] == len(names) - 1:
        return Numbering(kind, len(names))
    notes.append(
        f"ids of {kind!r} are not 0, 1, 2, …; its {len(names)} nodes were numbered in order"
    )
    return Numbering(kind, len(names), names)


def as_relation(
    key: Key, edges: Any, source: Numbering, end: Numbering, multi: str, notes: list[str]
) -> sp.csr_array:
    """Counts of edges ``[n_source, n_target]``, float64.

    Raises:
        DataError: An id is not that of a node.
    """
    name, shape = "-".join(key), (len(source), len(end))
    if sp.issparse(edges):
        if edges.shape != shape:
            raise DataError(f"relation {name}: a matrix of shape {edges.shape}, expected {shape}")
        matrix = edges.copy()
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
    else:
        rows = source.of(edges[:, 0], f"relation {name}")
        cols = end.of(edges[:, 1], f"relation {name}")
        matrix = sp.csr_array((np.ones(len(rows)), (rows, cols)), shape=shape)
        matrix.sum_duplicates()
    if (several := int((matrix.data > 1).sum())) and multi == "merge":
        notes.append(f"relation {name}: {several} edges were given several times and merged")
        matrix.data = np.minimum(matrix.data, 1.0)
    if key[0] == key[2] and (one_way := abs(matrix - matrix.T).count_nonzero()):
        notes.append(f"relation {name}: {one_way // 2} edges went one way only; taken both ways")
        matrix = sp.csr_array(matrix.maximum(matrix.T))
    if not matrix.nnz:
        notes.append(f"relation {name} has no edges")
    return sp.csr_array(matrix)


def class_numbers(labels: Any, place: Numbering) -> tuple[Index, tuple[str, ...]]:
    """Classes ``[n]`` from 0, -1 where unknown, and their names.

    Raises:
        DataError: Another length, fewer than two classes, or fractional numbers.
    """
    given: list[Any] = [None] * len(place)
    if isinstance(labels, Mapping):
        where = place.of(np.asarray(list(labels)), "labels")
        for k, value in zip(where, labels.values(), strict=True):
            given[k] = value
    else:
        if hasattr(labels, "detach"):
            labels = labels.detach().cpu().numpy()
        if np.ndim(labels) != 1 or len(labels) != len(place):
            raise DataError(
                f"labels of shape {np.shape(labels)}, expected one for each of the {len(place)} "
                f"{place.kind!r} nodes"
            )
        text = isinstance(labels, np.ndarray) and labels.dtype.kind == "U"
        # A list is read as it is: as an array of text what is unknown would be a class of its own.
        given = [None if text and v in ("-1", "nan") else v for v in labels]
    given = [v.item() if hasattr(v, "item") else v for v in given]
    if any(isinstance(v, float) and v == v and not v.is_integer() for v in given):
        raise DataError("labels are fractional numbers; this predicts classes: number them")
    unknown = [v is None or v != v or v == -1 for v in given]
    values: list[Any] = [
        None if out else (int(v) if isinstance(v, float) else v)
        for v, out in zip(given, unknown, strict=True)
    ]
    kinds = sorted({v for v in values if v is not None}, key=lambda v: (str(type(v)), v))
    if len(kinds) < 2:
        raise DataError(f"labels name {len(kinds)} classes; there must be two or more")
    number = {v: k for k, v in enumerate(kinds)}
    found = np.array([-1 if v is None else number[v] for v in values], np.int64)
    return found, tuple(str(v) for v in kinds)


def feature_matrix(features: Any, n: int, notes: list[str]) -> tuple[sp.csr_array, bool]:
    """Features as CSR float32 ``[n, f]``, and whether they are the identity.

    Raises:
        DataError: Another number of rows, or values that are not finite.
    """
    if features is None:
        notes.append("no features: each node is its own (identity)")
        return sp.csr_array(sp.identity(n, np.float32, format="csr")), True
    if hasattr(features, "detach"):
        features = features.detach().cpu().numpy()
    matrix = sp.csr_array(features).astype(np.float32)
    if matrix.ndim != 2 or matrix.shape[0] != n:
        raise DataError(f"features of shape {np.shape(features)}, expected [{n}, f]")
    if not np.isfinite(matrix.data).all():
        raise DataError(
            f"{int((~np.isfinite(matrix.data)).sum())} features are NaN or infinite; fill them in"
        )
    return matrix, False
