r"""Orbit counts of all graphlets with up to four nodes, on dense adjacency matrices.

An orbit is a position in a small connected graph (a graphlet) up to its symmetries. Graphlets of
two to four nodes have fifteen, numbered as in Przulj 2007 (doi:10.1093/bioinformatics/btl301):

====== ======================== ======= ===========================
orbit  position                 orbit   position
====== ======================== ======= ===========================
0      edge                     8       4-cycle
1, 2   path of 3: end, middle   9       paw: pendant node
3      triangle                 10, 11  paw: degree 2, degree 3
4, 5   path of 4: end, middle   12, 13  diamond: degree 2, degree 3
6, 7   star: leaf, centre       14      complete graph of 4
====== ======================== ======= ===========================

The counts are of *induced* subgraphs, as ORCA counts them (Hocevar and Demsar 2014,
doi:10.1093/bioinformatics/btu105). Here they come from sub-graphs that need not be induced, each a
closed form in the adjacency matrix :math:`A`, the degrees :math:`d`, the common neighbours
:math:`C = A^2` and the triangles :math:`t_i = \tfrac12 \sum_j A_{ij} C_{ij}`; a triangular system
then takes away what denser graphlets contribute. Only the complete graph needs an enumeration: the
edges inside the common neighbourhood of each edge. Everything is exact in float64 while counts
stay below :math:`2^{53}`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphdiff.core.errors import ArgumentError

__all__ = ["NUM_ORBITS", "orbit_counts", "triangles"]

NUM_ORBITS = 15

Float = NDArray[np.float64]


def _adjacency(adj: ArrayLike) -> Float:
    a = np.asarray(adj)
    if a.ndim != 3 or a.shape[1] != a.shape[2]:
        raise ArgumentError(
            f"adj must have shape [graphs, n, n], found {list(a.shape)}: give a batch of square "
            "matrices (adj[None] for one graph)"
        )
    a = (a != 0).astype(np.float64)
    if np.einsum("bii->", a) or (a != a.transpose(0, 2, 1)).any():
        raise ArgumentError(
            "adj must be symmetric with a zero diagonal: remove self-loops and give both directions"
        )
    return a


def triangles(adj: ArrayLike) -> Float:
    """Triangles through each node, ``[b, n]``, of adjacency matrices ``[b, n, n]``."""
    a = _adjacency(adj)
    return 0.5 * (a * (a @ a)).sum(2)


def _cliques(a: Float, c: Float) -> Float:
    """Complete graphs of four nodes through each node, ``[b, n]``.

    An edge lies in as many of them as there are edges inside its common neighbourhood, and each
    of them counts once at three edges of every node.
    """
    out = np.zeros(a.shape[:2])
    owner, u, v = np.nonzero(np.triu(a * (c >= 2), 1))
    starts = np.searchsorted(owner, np.arange(len(a) + 1))
    for b in np.unique(owner):
        i, j = u[starts[b] : starts[b + 1]], v[starts[b] : starts[b + 1]]
        common = a[b, i] * a[b, j]
        inside = 0.5 * ((common @ a[b]) * common).sum(1)
        np.add.at(out[b], i, inside)
        np.add.at(out[b], j, inside)
    return out / 3.0


def orbit_counts(adj: ArrayLike) -> Float:
    """Induced orbit counts of every node.

    Args:
        adj: Symmetric matrices with a zero diagonal ``[b, n, n]``; any non-zero entry is an edge.
            Padding nodes (zero rows) count zero everywhere.

    Returns:
        ``[b, n, 15]`` in the order of the module docstring.

    Raises:
        ArgumentError: If a matrix is not square, not symmetric or has a self-loop.
    """
    a = _adjacency(adj)
    c = a @ a
    d = a.sum(2)
    tri = 0.5 * (a * c).sum(2)
    on_edge = a * c
    off = c.copy()
    off[:, np.arange(a.shape[1]), np.arange(a.shape[1])] = 0.0

    def over(x: Float) -> Float:
        """Sum over neighbours of a node quantity ``[b, n]``."""
        return np.einsum("bij,bj->bi", a, x)

    # Subgraphs that need not be induced, by orbit of the node.
    n4 = np.einsum("bij,bj->bi", off, d - 1) - (off * a).sum(2)
    n5 = (d - 1) * over(d - 1) - on_edge.sum(2)
    n6, n7 = over((d - 1) * (d - 2) / 2), d * (d - 1) * (d - 2) / 6
    n8 = (off * (off - 1)).sum(2) / 2
    n9 = over(tri) - on_edge.sum(2)
    n10, n11 = np.einsum("bij,bj->bi", on_edge, d - 2), tri * (d - 2)
    n12 = 0.5 * ((a @ (a * (c - 1))) * a).sum(2)
    n13 = (on_edge * (c - 1)).sum(2) / 2

    o = np.zeros((*d.shape, NUM_ORBITS))
    o[..., 0], o[..., 3] = d, tri
    o[..., 1] = over(d - 1) - 2 * tri
    o[..., 2] = d * (d - 1) / 2 - tri
    k4 = _cliques(a, c)
    tip, hub = n12 - 3 * k4, n13 - 3 * k4
    o[..., 14], o[..., 13], o[..., 12] = k4, hub, tip
    o[..., 11] = n11 - 2 * hub - 3 * k4
    o[..., 10] = n10 - 2 * hub - 2 * tip - 6 * k4
    o[..., 9] = n9 - 2 * tip - 3 * k4
    o[..., 8] = n8 - tip - hub - 3 * k4
    o[..., 7] = n7 - o[..., 11] - hub - k4
    o[..., 6] = n6 - o[..., 9] - o[..., 10] - 2 * tip - hub - 3 * k4
    cycle = 2 * o[..., 8]
    o[..., 5] = n5 - cycle - 2 * o[..., 11] - o[..., 10] - 4 * hub - 2 * tip - 6 * k4
    o[..., 4] = n4 - cycle - 2 * o[..., 9] - o[..., 10] - 2 * hub - 4 * tip - 6 * k4
    return o
