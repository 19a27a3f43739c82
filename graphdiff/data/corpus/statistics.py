r"""Statistics and isomorphism hashes of many packed graphs at once.

* average degree :math:`2 m / n`;
* clustering: the mean over nodes of :math:`2 t_v / (d_v (d_v - 1))`, with :math:`t_v` triangles at
  node :math:`v`, 0 where :math:`d_v < 2`;
* hash: 64 bits of the colours that Weisfeiler-Lehman refinement gives the nodes. Isomorphic graphs
  have equal hashes. Graphs that refinement cannot tell apart have equal hashes, too, so counting
  equal hashes never misses a repeated graph, and may see one where there is none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphdiff.data.graphs import Graphs

__all__ = ["average_degree", "clustering", "hashes"]

Float = NDArray[np.float64]
Hashes = NDArray[np.uint64]

_CHUNK = 512
_ROUNDS = 8


def average_degree(graphs: Graphs) -> Float:
    """Average degree of each graph, ``float64 [G]``."""
    return 2.0 * graphs.num_edges / graphs.num_nodes


def _ends(graphs: Graphs) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Both ends of all edges, numbered over all graphs, and the graph of every node."""
    first = np.repeat(graphs.node_ptr[:-1], graphs.num_edges)
    ends = graphs.edges.astype(np.int64) + first[:, None]
    owner = np.repeat(np.arange(len(graphs)), graphs.num_nodes)
    return ends[:, 0], ends[:, 1], owner


def clustering(graphs: Graphs) -> Float:
    """Mean local clustering coefficient of each graph, ``float64 [G]``."""
    from scipy.sparse import csr_array

    parts = []
    for at in range(0, len(graphs), _CHUNK):
        part = graphs[at : at + _CHUNK]
        u, v, owner = _ends(part)
        n = len(owner)
        both = np.concatenate([u, v]), np.concatenate([v, u])
        adj = csr_array((np.ones(2 * len(u), np.int32), both), shape=(n, n))
        twice = np.asarray((adj @ adj).multiply(adj).sum(1)).ravel()
        degree = np.bincount(both[0], minlength=n)
        value = twice / np.maximum(degree * (degree - 1), 1)
        parts.append(np.bincount(owner, value, minlength=len(part)) / part.num_nodes)
    return np.concatenate([*parts, np.zeros(0)])


def _mix(x: Hashes) -> Hashes:
    """A bijection of 64-bit words that spreads every bit (Stafford's variant 13)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hashes(graphs: Graphs, rounds: int = _ROUNDS) -> Hashes:
    """A hash of each graph that does not depend on the order of its nodes, ``uint64 [G]``.

    Args:
        graphs: Graphs; node and edge classes are ignored.
        rounds: Refinements, each looks one hop further.
    """
    if not len(graphs):
        return np.zeros(0, np.uint64)
    u, v, owner = _ends(graphs)
    colour = np.zeros(len(owner), np.uint64)
    for k in range(rounds):
        # Sums of mixed words depend on the multiset of neighbours only.
        mixed = _mix(colour + np.uint64(2 * k + 1))
        total = np.zeros(len(owner), np.uint64)
        np.add.at(total, u, mixed[v])
        np.add.at(total, v, mixed[u])
        colour = _mix(colour * np.uint64(3) + _mix(total))
    whole = np.zeros(len(graphs), np.uint64)
    np.add.at(whole, owner, _mix(colour))
    size = graphs.num_nodes.astype(np.uint64) << np.uint64(32)
    return _mix(whole + _mix(size + graphs.num_edges.astype(np.uint64)))
