r"""Features of the neighbourhood subgraph pairwise distance kernel (NSPDK).

Costa and De Grave 2010 (ICML) describe a labelled graph by pairs of rooted neighbourhoods: for
every ordered pair of nodes :math:`(v, u)` at distance :math:`d` and every radius :math:`r` that
both neighbourhoods reach, one feature for the unordered pair of neighbourhoods of radius :math:`r`
around :math:`v` and :math:`u`, and one for that of :math:`u` alone. Counts are scaled to unit
Euclidean length within each :math:`(r, d)` and then over all :math:`(r, d)` together. The squared
MMD with the linear kernel of these vectors is what GDSS reports as "NSPDK" (with
:math:`r, d \le 4`).

The conventions are those of EDeN, which all published numbers come from:

* edges are nodes of their own: walking from a root, nodes lie at even and edges at odd depth (an
  edge at one more than twice the distance of its nearer end); a neighbourhood of radius
  :math:`r` is the list of the depths :math:`0..2r`, where a depth is the *multiset* of (label,
  degree) of what is found there, so two neighbourhoods count as equal if those multisets agree;
* a root reaches radius :math:`r` if something lies at depth :math:`2r`;
* features are hashed into :math:`2^{16}` columns. EDeN's hash depends on the Python process; ours
  is a fixed 64-bit hash, folded to ``bits``.

The code works on the dense distance matrices of many graphs at a time; multisets are hashed by
sums of mixed 64-bit labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError

if TYPE_CHECKING:
    from graphdiff.data.graphs import Graphs

__all__ = ["nspdk_features"]

U64 = NDArray[np.uint64]
_GOLD, _M1, _M2 = (
    np.uint64(k) for k in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def _mix(*parts: Any) -> U64:
    """Hashes tuples of 64-bit integers elementwise (the finaliser of SplitMix64, chained)."""
    state: Any = np.uint64(0)
    with np.errstate(over="ignore"):  # arithmetic is modulo 2**64; only scalars would warn
        for part in parts:
            state = (state ^ np.asarray(part).astype(np.uint64)) + _GOLD
            state = (state ^ (state >> np.uint64(30))) * _M1
            state = (state ^ (state >> np.uint64(27))) * _M2
            state = state ^ (state >> np.uint64(31))
    return np.asarray(state, np.uint64)


def _distances(adj: NDArray[np.bool_], limit: int) -> NDArray[np.int16]:
    """Hop distances ``[b, n, n]`` up to ``limit``; farther pairs get -1."""
    n = adj.shape[1]
    links = adj.astype(np.float32)
    reached = np.broadcast_to(np.eye(n, dtype=bool), adj.shape).copy()
    out = np.where(reached, 0, -1).astype(np.int16)
    front = reached.astype(np.float32)
    for step in range(1, limit + 1):
        new = (front @ links > 0) & ~reached
        if not new.any():
            break
        out[new] = step
        reached |= new
        front = new.astype(np.float32)
    return out


def _neighbourhoods(
    nodes: NDArray[np.int64], adj: NDArray[np.int64], dist: NDArray[np.int16], radius: int
) -> tuple[list[U64], list[NDArray[np.bool_]]]:
    """Hash of the neighbourhood of radius 0..radius of each node, and whether it is reached."""
    b, n, _ = adj.shape
    degree = (adj > 0).sum(2)
    node_hash = _mix(1, nodes, degree)
    owner, eu, ev = np.nonzero(np.triu(adj, 1))
    width = int(np.bincount(owner, minlength=b).max()) if len(owner) else 0
    slot = np.arange(len(owner)) - np.searchsorted(owner, owner)
    edge_hash = np.zeros((b, width), np.uint64)
    edge_hash[owner, slot] = _mix(2, adj[owner, eu, ev], 2)
    ends = np.zeros((2, b, width), np.int64)
    ends[0][owner, slot], ends[1][owner, slot] = eu, ev
    # An edge lies one step behind its nearer end. Where the other end is beyond the search, the
    # edge is deeper than any neighbourhood reads and stays out.
    near = [np.take_along_axis(dist, np.broadcast_to(e[:, None], (b, n, width)), 2) for e in ends]
    edge_dist = np.minimum(near[0], near[1])
    edge_dist[(near[0] < 0) | (near[1] < 0)] = -1
    edge_dist[np.broadcast_to((edge_hash == 0)[:, None], edge_dist.shape)] = -1

    def depth(where: NDArray[np.bool_], label: U64) -> U64:
        return np.where(where, label[:, None], np.uint64(0)).sum(2, dtype=np.uint64)

    state = _mix(3, depth(dist == 0, node_hash))
    hashes, reached = [state], [np.ones((b, n), bool)]
    for r in range(1, radius + 1):
        state = _mix(state, 4, depth(edge_dist == r - 1, edge_hash))
        found = dist == r
        state = _mix(state, 5, depth(found, node_hash))
        hashes.append(state)
        reached.append(found.any(2))
    return hashes, reached


def _rows(
    nodes: NDArray[np.int64],
    adj: NDArray[np.int64],
    mask: NDArray[np.bool_],
    r_max: int,
    d_max: int,
) -> tuple[NDArray[np.int64], U64, NDArray[np.float64]]:
    """(graph, 64-bit feature, value) of a padded batch."""
    dist = _distances(adj > 0, max(r_max, d_max))
    dist[~(mask[:, :, None] & mask[:, None, :])] = -1
    hashes, reached = _neighbourhoods(nodes, adj, dist, r_max)
    g, v, u = np.nonzero((dist >= 0) & (dist <= d_max))
    d = dist[g, v, u].astype(np.int64)
    graphs: list[Any] = []
    blocks: list[Any] = []
    features: list[Any] = []
    for r in range(r_max + 1):
        ok = reached[r][g, v] & reached[r][g, u]
        gr, dr = g[ok], d[ok]
        hv, hu = hashes[r][gr, v[ok]], hashes[r][gr, u[ok]]
        block = r * (d_max + 1) + dr
        pair = _mix(6, np.minimum(hv, hu), np.maximum(hv, hu), block)
        half = _mix(7, hu, block)
        graphs += [gr, gr]
        blocks += [block, block]
        features += [pair, half]
    graph: Any = np.concatenate(graphs)
    kind: Any = np.concatenate(blocks)
    feature: Any = np.concatenate(features)
    order = np.lexsort((feature, graph))
    graph, kind, feature = graph[order], kind[order], feature[order]
    first = np.ones(len(graph), bool)
    first[1:] = (graph[1:] != graph[:-1]) | (feature[1:] != feature[:-1])
    starts = np.flatnonzero(first)
    counts = np.diff(np.append(starts, len(graph))).astype(np.float64)
    graph, kind, feature = graph[starts], kind[starts], feature[starts]
    size = (r_max + 1) * (d_max + 1)
    cell = graph * size + kind
    square = np.bincount(cell, counts**2, minlength=len(adj) * size)
    used = (square.reshape(len(adj), size) > 0).sum(1)
    return graph, feature, counts / np.sqrt(square[cell] * used[graph])


def nspdk_features(graphs: Graphs, *, radius: int = 4, distance: int = 4, bits: int = 16) -> Any:
    """Unit-length NSPDK features of labelled graphs.

    Args:
        graphs: Node classes and edge classes are the labels; without classes all labels agree.
        radius: Largest neighbourhood radius r.
        distance: Largest distance d between the two roots.
        bits: Features are folded into ``2**bits`` columns (16 in all published numbers; with 24
            and more, collisions are rare).

    Returns:
        scipy CSR matrix ``[G, 2**bits]`` in float64; a graph without nodes has a zero row.

    Raises:
        ArgumentError: If ``bits`` is not in 8..31, or ``radius`` or ``distance`` is negative.
    """
    from scipy.sparse import csr_matrix

    if not 8 <= bits <= 31 or radius < 0 or distance < 0:
        raise ArgumentError(
            f"NSPDK needs 8 <= bits <= 31 and radius, distance >= 0; found {bits}, {radius}, "
            f"{distance}"
        )
    order = np.argsort(graphs.num_nodes, kind="stable")
    order = order[graphs.num_nodes[order] > 0]
    sizes = graphs.num_nodes[order]
    rows, columns, values = [], [], []
    at = 0
    while at < len(order):
        stop = int(np.searchsorted(sizes, max(9, int(1.25 * sizes[at])), side="right"))
        stop = min(stop, at + max(1, (1 << 18) // int(sizes[stop - 1]) ** 2))
        index = order[at:stop]
        row, feature, value = _rows(*graphs.dense(index), radius, distance)
        rows.append(index[row])
        columns.append((feature >> np.uint64(64 - bits)).astype(np.int64))
        values.append(value)
        at = stop
    empty = np.zeros(0, np.int64)
    row, column = np.concatenate([empty, *rows]), np.concatenate([empty, *columns])
    return csr_matrix(
        (np.concatenate([np.zeros(0), *values]), (row, column)), shape=(len(graphs), 1 << bits)
    )
