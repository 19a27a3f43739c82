r"""Random graphs of the published recipes, drawn with an own seed.

* planar: edges of the Delaunay triangulation of uniform points of the unit square;
* tree: a uniform labelled tree (decoded from a uniform Prüfer sequence);
* SBM: communities of random sizes, edges with probability .3 inside and .005 between, drawn
  again until connected (Martinkus et al. 2022; Bergmeister et al. 2024);
* community: two :math:`G(n/2, 0.7)` blocks and bridges with probability
  :math:`2 \cdot 0.05 / (n / 2)`, at least one (Niu et al. 2020). The published generator seeds the
  two blocks with 0 and 1, so graphs of one size have the same two blocks; that is kept here,
  because a set without it has another distribution;
* grid: two-dimensional grids with sides from 10 to 19.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.data.graphs import Graphs

__all__ = ["community", "grid", "planar", "sbm", "tree"]

Edges = NDArray[np.int64]


def _count(count: int) -> int:
    if count < 1:
        raise ArgumentError(f"count must be positive, found {count}: ask for at least one graph")
    return count


def planar(count: int, nodes: tuple[int, int] = (64, 64), *, seed: int = 0) -> Graphs:
    """Delaunay graphs.

    Args:
        count: Number of graphs.
        nodes: Smallest and largest number of nodes, at least 3.
        seed: Seed of the points.
    """
    from scipy.spatial import Delaunay

    rng = np.random.default_rng(seed)
    sizes, edges = [], []
    for _ in range(_count(count)):
        n = int(rng.integers(nodes[0], nodes[1], endpoint=True))
        corners = Delaunay(rng.random((n, 2))).simplices
        pairs = np.sort(
            np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [0, 2]]])
        )
        sizes.append(n)
        edges.append(np.unique(pairs, axis=0))
    return Graphs.from_lists(sizes, edges)


def tree(count: int, nodes: tuple[int, int] = (64, 64), *, seed: int = 0) -> Graphs:
    """Uniform labelled trees.

    Args:
        count: Number of graphs.
        nodes: Smallest and largest number of nodes.
        seed: Seed of the Prüfer sequences.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(nodes[0], nodes[1], size=_count(count), endpoint=True)
    return Graphs.from_lists(
        sizes, [_prufer(rng.integers(n, size=max(n - 2, 0)), n) for n in sizes]
    )


def _prufer(code: NDArray[np.int64], n: int) -> Edges:
    """Edges of the tree with a Prüfer code (smallest leaf first)."""
    if n < 2:
        return np.zeros((0, 2), np.int64)
    degree = np.bincount(code, minlength=n) + 1
    edges = []
    for v in code.tolist():
        leaf = int(np.argmax(degree == 1))
        edges.append((leaf, v))
        degree[leaf] -= 1
        degree[v] -= 1
    u, v = np.flatnonzero(degree == 1).tolist()
    return np.asarray([*edges, (u, v)], dtype=np.int64)


def sbm(
    count: int,
    *,
    communities: tuple[int, int] = (2, 5),
    sizes: tuple[int, int] = (20, 40),
    inside: float = 0.3,
    between: float = 0.005,
    seed: int = 0,
) -> Graphs:
    """Connected stochastic block models.

    Args:
        count: Number of graphs.
        communities: Smallest and largest number of communities.
        sizes: Smallest and largest size of one (both included).
        inside: Probability of an edge inside a community.
        between: Probability of an edge between two communities.
        seed: Seed of everything.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rng = np.random.default_rng(seed)
    counts: list[int] = []
    edges: list[Edges] = []
    while len(counts) < _count(count):
        k = rng.integers(communities[0], communities[1], endpoint=True)
        block = np.repeat(np.arange(k), rng.integers(sizes[0], sizes[1], size=k, endpoint=True))
        n = len(block)
        u, v = np.triu_indices(n, 1)
        hit = rng.random(len(u)) < np.where(block[u] == block[v], inside, between)
        matrix = coo_array((np.ones(hit.sum()), (u[hit], v[hit])), shape=(n, n))
        if connected_components(matrix, directed=False)[0] == 1:
            counts.append(n)
            edges.append(np.stack([u[hit], v[hit]], 1))
    return Graphs.from_lists(counts, edges)


def community(count: int, nodes: tuple[int, int] = (12, 20), *, seed: int = 0) -> Graphs:
    """Two-community graphs of Niu et al. (2020).

    Args:
        count: Number of graphs.
        nodes: Range of the nominal size; an odd size loses one node, as published.
        seed: Seed of the sizes and bridges.
    """
    import networkx as nx

    rng = np.random.default_rng(seed)
    sizes, edges = [], []
    for _ in range(_count(count)):
        half = int(rng.integers(nodes[0], nodes[1], endpoint=True)) // 2
        first = list(nx.gnp_random_graph(half, 0.7, seed=0).edges)
        second = [(u + half, v + half) for u, v in nx.gnp_random_graph(half, 0.7, seed=1).edges]
        bridge = rng.random((half, half)) < 2 * 0.05 / half
        if not bridge.any():
            bridge[0, 0] = True
        u, v = np.nonzero(bridge)
        sizes.append(2 * half)
        edges.append(np.concatenate([np.asarray(first + second), np.stack([u, v + half], 1)]))
    return Graphs.from_lists(sizes, edges)


def grid(count: int, sides: tuple[int, int] = (10, 19), *, seed: int = 0) -> Graphs:
    """Two-dimensional grids with random sides.

    Args:
        count: Number of graphs.
        sides: Smallest and largest side (both included).
        seed: Seed of the sides.
    """
    rng = np.random.default_rng(seed)
    shapes: Any = rng.integers(sides[0], sides[1], size=(_count(count), 2), endpoint=True)
    return Graphs.from_lists(
        shapes.prod(1), [grid_edges(int(rows), int(columns)) for rows, columns in shapes]
    )


def grid_edges(rows: int, columns: int) -> Edges:
    """Edges of one grid, nodes numbered row by row."""
    number = np.arange(rows * columns).reshape(rows, columns)
    right = np.stack([number[:, :-1].ravel(), number[:, 1:].ravel()], 1)
    down = np.stack([number[:-1].ravel(), number[1:].ravel()], 1)
    return np.concatenate([right, down])
