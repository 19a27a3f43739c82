"""Graphs from scipy matrices, edge lists, networkx and PyTorch Geometric.

What is mended is written down in :attr:`LocalGraph.notes`: self-loops are dropped, since they say
nothing about where a cluster ends; an edge that is listed again in the same direction is merged,
the weights added where there are weights; an edge that is listed in one direction only is made to
run both ways. An edge whose two directions have different weights is refused.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.graph.local.graph import LocalGraph

__all__ = ["local_graph"]


def local_graph(source: Any, *, weights: Any = None, nodes: int | None = None) -> LocalGraph:
    """Reads a graph.

    Args:
        source: A scipy sparse matrix ``[n, n]``; a networkx graph (weights in the edge attribute
            ``weight`` if there are any); a PyG ``Data`` (``edge_index``, and ``edge_weight`` if it
            has one) or an ``edge_index`` tensor ``[2, m]``; an edge list as an integer array
            ``[m, 2]`` or pairs (or triples with a weight) of any names.
        weights: Weights ``[m]`` of an edge list or ``edge_index``, >= 0; edges of weight 0 are
            left out.
        nodes: For an edge list of numbers: there are the nodes ``0..nodes-1``, isolated ones
            among them. Without it, the nodes are those that occur, and keep their numbers as names.

    Raises:
        ArgumentError: The source is of no known kind, or arguments do not belong to it.
        DataError: A weight is negative or not finite, the two directions of an edge have
            different weights, the matrix is not square, a number is out of range, or there are no
            nodes.
    """
    if isinstance(source, LocalGraph):
        _nothing_more(weights, nodes, "a LocalGraph")
        return source
    if sparse.issparse(source):
        _nothing_more(weights, nodes, "a matrix")
        if source.shape[0] != source.shape[1]:
            raise DataError(f"expected a square matrix [n, n], found {list(source.shape)}")
        found = source.tocoo()
        numbers = (found.row.astype(np.int64), found.col.astype(np.int64))
        return _build(*numbers, np.asarray(found.data, np.float64), source.shape[0], None)
    if hasattr(source, "edge_index"):
        _nothing_more(None, nodes, "a PyG Data")
        own = getattr(source, "edge_weight", None) if weights is None else weights
        return _from_index(source.edge_index, own, source.num_nodes)
    if hasattr(source, "adjacency") and hasattr(source, "is_directed"):
        _nothing_more(weights, nodes, "a networkx graph")
        return _from_networkx(source)
    if hasattr(source, "detach"):
        return _from_index(source, weights, nodes)
    return _from_list(source, weights, nodes)


def _nothing_more(weights: Any, nodes: int | None, what: str) -> None:
    if weights is not None or nodes is not None:
        raise ArgumentError(f"{what} has its own nodes and weights: leave out weights= and nodes=")


def _from_index(index: Any, weights: Any, nodes: int | None) -> LocalGraph:
    pairs = index.detach().cpu().numpy()
    if pairs.ndim != 2 or pairs.shape[0] != 2 or pairs.dtype.kind not in "iu":
        raise ArgumentError(
            f"expected an integer edge_index [2, m], found {pairs.dtype} {list(pairs.shape)}"
        )
    values = weights.detach().cpu().numpy() if hasattr(weights, "detach") else weights
    return _from_list(pairs.T, values, nodes)


def _from_networkx(graph: Any) -> LocalGraph:
    names = list(graph.nodes)
    number = {name: k for k, name in enumerate(names)}
    listed = list(graph.edges(data="weight"))
    weighted = any(w is not None for *_, w in listed)
    left = np.array([number[a] for a, _, _ in listed], np.int64)
    right = np.array([number[b] for _, b, _ in listed], np.int64)
    values = [1.0 if w is None else float(w) for *_, w in listed] if weighted else None
    plain = names == list(range(len(names)))
    return _build(left, right, values, len(names), None if plain else names)


def _from_list(source: Any, weights: Any, nodes: int | None) -> LocalGraph:
    if isinstance(source, np.ndarray):
        table: Any = source
    else:
        try:
            table = [tuple(edge) for edge in source]
        except TypeError:
            raise ArgumentError(
                f"cannot read a graph from {type(source).__name__}: give a scipy sparse matrix, a "
                "networkx graph, a PyG Data, or an edge list"
            ) from None
        width = {len(edge) for edge in table} or {2}
        if not width <= {2} and not width <= {3}:
            raise DataError(
                "edges must be all pairs or all triples (a, b, weight); found lengths "
                f"{sorted(width)}"
            )
        if width == {3}:
            if weights is not None:
                raise ArgumentError("triples (a, b, weight) have weights: leave out weights=")
            weights = [edge[2] for edge in table]
            table = [edge[:2] for edge in table]
        if all(isinstance(x, (int, np.integer)) for edge in table for x in edge):
            table = np.array(table, np.int64).reshape(-1, 2)
    if isinstance(table, np.ndarray):
        return _from_numbers(table, weights, nodes)
    if nodes is not None:
        raise ArgumentError("nodes= counts nodes that are numbers; these have other names")
    names = list(dict.fromkeys(x for edge in table for x in edge))
    number = {name: k for k, name in enumerate(names)}
    ends = np.array([[number[a], number[b]] for a, b in table], np.int64)
    return _build(ends[:, 0], ends[:, 1], weights, len(names), names)


def _from_numbers(table: NDArray[Any], weights: Any, nodes: int | None) -> LocalGraph:
    if table.ndim != 2 or table.shape[1] != 2 or table.dtype.kind not in "iu":
        raise ArgumentError(
            f"expected an integer edge list [m, 2], found {table.dtype} {list(table.shape)}"
        )
    pairs = table.astype(np.int64)
    if nodes is None:
        names, pairs = np.unique(pairs, return_inverse=True)
        pairs = pairs.reshape(-1, 2)
        plain = len(names) == 0 or (names[0] == 0 and names[-1] == len(names) - 1)
        return _build(pairs[:, 0], pairs[:, 1], weights, len(names), None if plain else names)
    if len(pairs) and (pairs.min() < 0 or pairs.max() >= nodes):
        raise DataError(
            f"edges name the nodes {pairs.min()} to {pairs.max()}, but nodes={nodes} allows 0 to "
            f"{nodes - 1}; leave nodes= out if numbers are not contiguous"
        )
    return _build(pairs[:, 0], pairs[:, 1], weights, nodes, None)


def _build(
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    weights: Any,
    n: int,
    names: Sequence[Hashable] | NDArray[Any] | None,
) -> LocalGraph:
    """A symmetric graph from directed entries, with notes of what was mended."""
    if n < 1:
        raise DataError("the graph has no nodes; give at least one edge, or nodes=")
    values = _checked(weights, len(left))
    notes = []
    loop = left == right
    if loop.any():
        notes.append(f"{int(loop.sum())} self-loops dropped")
    keep = ~loop if values is None else ~loop & (values > 0)
    left, right = left[keep], right[keep]
    given = np.ones(len(left)) if values is None else values[keep]
    one = sparse.csr_matrix((given, (left, right)), shape=(n, n))
    if one.nnz < len(left):
        notes.append(f"{len(left) - one.nnz} repeated edges merged")
    if values is None:
        one.data[:] = 1.0
    gap = one - one.T
    if gap.nnz and bool((gap.data != 0).any()):
        back = one.T.tocsr()
        clash = gap.multiply(one > 0).multiply(back > 0)
        if clash.nnz and float(abs(clash).max()) > 1e-9 * float(one.max()):
            a, b = (int(k[0]) for k in clash.nonzero())
            shown = (a, b) if names is None else (names[a], names[b])
            raise DataError(
                f"the edge {shown[0]!r} - {shown[1]!r} has the weights {one[a, b]:g} and "
                f"{one[b, a]:g} in its two directions; graphs are undirected here: add or average "
                "the directions first"
            )
        single = int(((one > 0) != (back > 0)).nnz // 2)
        # Undirected lists name every edge once, which nobody needs to be told.
        if single and single < one.nnz:
            notes.append(f"{single} edges listed in one direction only run both ways")
        one = one.maximum(back)
    one = one.tocsr()
    one.sort_indices()
    equal = bool((one.data == 1).all())
    return LocalGraph(
        one.indptr.astype(np.int64),
        one.indices,
        None if equal else one.data.astype(np.float64),
        names,
        tuple(notes),
    )


def _checked(weights: Any, m: int) -> NDArray[np.float64] | None:
    if weights is None:
        return None
    values = np.asarray(weights, np.float64)
    if values.shape != (m,):
        raise DataError(f"found weights of the shape {list(values.shape)} for {m} edges")
    bad = ~np.isfinite(values) | (values < 0)
    if bad.any():
        raise DataError(
            f"edge weights must be finite and not negative, found {values[bad][0]:g} "
            f"({int(bad.sum())} of {m})"
        )
    return values
