"""Edge lists and padded matrices to the flat arrays of :class:`graphdiff.data.graphs.Graphs`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphdiff.core.errors import ArgumentError, DataError

__all__ = ["Arrays", "pack_dense", "pack_lists", "pointer", "ranges", "refuse"]

Int = NDArray[np.int64]
Classes = NDArray[np.int8] | None
Arrays = tuple[Int, Int, NDArray[np.int32], Classes, Classes]
"""Node counts, edge pointer, edges, node classes, edge classes."""


def ranges(starts: NDArray[Any], counts: NDArray[Any]) -> Int:
    """Concatenates ``arange(start, start + count)`` over all pairs."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - counts), counts)


def pointer(counts: NDArray[Any]) -> Int:
    """Where each run of ``counts`` begins, and the end."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def pack_lists(
    num_nodes: ArrayLike,
    edges: Sequence[ArrayLike],
    node_type: Sequence[ArrayLike] | None,
    edge_type: Sequence[ArrayLike] | None,
) -> Arrays:
    """One edge list (and optional class lists) per graph; see ``Graphs.from_lists``."""
    counts = np.asarray(num_nodes, dtype=np.int64).reshape(-1)
    pairs = [np.asarray(e, dtype=np.int64).reshape(-1, 2) for e in edges]
    if len(pairs) != len(counts):
        raise ArgumentError(
            f"{len(counts)} node counts but {len(pairs)} edge lists: give one list per graph"
        )
    m = np.asarray([len(p) for p in pairs], dtype=np.int64)
    flat = np.concatenate([*pairs, np.zeros((0, 2), np.int64)])
    flat = np.sort(flat, axis=1)
    owner = np.repeat(np.arange(len(counts)), m)
    order = np.lexsort((flat[:, 1], flat[:, 0], owner))
    kinds = None
    if edge_type is not None:
        kinds = np.concatenate([*(np.asarray(k) for k in edge_type), np.zeros(0, np.int8)])
        kinds = kinds.astype(np.int8)[order]
    nodes = None
    if node_type is not None:
        nodes = np.concatenate([*(np.asarray(k) for k in node_type), np.zeros(0, np.int8)])
        nodes = nodes.astype(np.int8)
    return counts, pointer(m), flat[order].astype(np.int32), nodes, kinds


def pack_dense(
    adj: ArrayLike,
    mask: ArrayLike | None,
    node_type: ArrayLike | None,
    edge_types: bool | None,
) -> Arrays:
    """Padded symmetric matrices; see ``Graphs.from_dense``."""
    matrix = _whole_numbers("adj", adj)
    if matrix.ndim != 3 or matrix.shape[1] != matrix.shape[2]:
        raise ArgumentError(
            f"adj must have shape [graphs, n, n], found {list(matrix.shape)}: give a batch of "
            "square matrices (adj[None] for one graph)"
        )
    b, n, _ = matrix.shape
    keep = np.ones((b, n), bool) if mask is None else np.asarray(mask, dtype=bool)
    if keep.shape != (b, n):
        raise ArgumentError(f"mask must have shape {[b, n]}, found {list(keep.shape)}")
    matrix = matrix * (keep[:, :, None] & keep[:, None, :])
    refuse(np.einsum("bii->bi", matrix).any(1), "has a self-loop", "zero the diagonal")
    refuse(
        (matrix != matrix.transpose(0, 2, 1)).any((1, 2)),
        "is not symmetric",
        "graphs here are undirected: give adj + adj.T, or symmetrise it otherwise",
    )
    counts = keep.sum(1).astype(np.int64)
    new = np.cumsum(keep, 1) - 1
    owner, u, v = np.nonzero(np.triu(matrix, 1))
    pairs = np.stack([new[owner, u], new[owner, v]], 1).astype(np.int32)
    nodes = None
    if node_type is not None:
        classes = _whole_numbers("node_type", node_type)
        if classes.shape != (b, n):
            raise ArgumentError(f"node_type must have shape {[b, n]}, found {list(classes.shape)}")
        nodes = classes[keep].astype(np.int8)
    values = matrix[owner, u, v].astype(np.int8)
    if edge_types is None:
        edge_types = nodes is not None or bool((values > 1).any())
    ptr = pointer(np.bincount(owner, minlength=b))
    return counts, ptr, pairs, nodes, values if edge_types else None


def _whole_numbers(name: str, value: ArrayLike) -> NDArray[Any]:
    """An integer array, or a DataError that names the first graph with another value."""
    array = np.asarray(value)
    if array.dtype.kind in "biu":
        return array.astype(np.int64)
    if array.dtype.kind != "f":
        raise ArgumentError(f"{name} must be an array of whole numbers, found {array.dtype}")
    bad = ~np.isfinite(array)
    rest = tuple(range(1, array.ndim))
    refuse(bad.any(rest), f"has NaN or infinite values in {name}", "drop or mend this graph")
    refuse(
        (array != np.rint(array)).any(rest),
        f"has values in {name} that are not whole numbers",
        "round or threshold them first, or use quantise of the model",
    )
    return array.astype(np.int64)


def refuse(bad: NDArray[np.bool_], what: str, cure: str) -> None:
    """Raise a DataError that names the first of the graphs that are ``bad``."""
    if bad.any():
        hits = np.flatnonzero(bad)
        more = f" (and {len(hits) - 1} more)" if len(hits) > 1 else ""
        raise DataError(f"graph {hits[0]}{more} {what}: {cure}")
