r"""Coarsening sequences: from a graph to a single node by contracting few edges at a time.

One step contracts a random matching of cheap edges, so that each coarse node stands for one or two
nodes and a coarse edge for at least one edge. Cheap means that the low end of the spectrum is kept:
with :math:`A = U_k \Lambda_k^{-1/2}` from the smallest non-zero eigenpairs of the Laplacian, the
local variation of edge :math:`\{i, j\}` is (Loukas, 2019, section 4.3, for contraction sets of two)

.. math:: c_{ij} = \tfrac12 (d_i + d_j) \lVert A_i - A_j \rVert^2 .

The next level takes the means :math:`B` of the rows of :math:`A`, whitened by the coarse Laplacian:
:math:`A \leftarrow B (B^\top L B)^{-1/2}`. Edges are passed over at random, so that one graph has
many sequences (Bergmeister et al., 2024, arXiv 2312.11529, algorithm 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import DataError

__all__ = ["Expansion", "coarsen", "contract", "expansions", "low_spectrum"]

Int = NDArray[np.int64]
Float = NDArray[np.float64]

DENSE = 400
"""Up to this many nodes eigenvectors come from the dense solver."""


@dataclass(frozen=True)
class Expansion:
    """One step back: how a coarse graph becomes a finer one.

    Fine nodes are numbered so that the children of coarse node ``p`` follow those of ``p - 1``.

    Attributes:
        coarse: Edges of the coarse graph, ``u < v``, sorted, int64 ``[m, 2]``.
        split: 1 where a coarse node has two children, 0 where it has one, int64 ``[p]``.
        fine: Edges of the fine graph in its own numbering, ``u < v``, sorted, int64 ``[k, 2]``.
        next_split: ``split`` of the step after this one, zeros if this is the last, int64 ``[n]``.
    """

    coarse: Int
    split: Int
    fine: Int
    next_split: Int


def low_spectrum(n: int, edges: Int, k: int, weights: Float | None = None) -> tuple[Float, Float]:
    """The ``k`` smallest non-zero eigenpairs of the Laplacian of a connected graph.

    Dense up to 400 nodes, shift-invert Lanczos with a fixed start beyond.

    Returns:
        Eigenvalues ``[k]`` and eigenvectors ``[n, k]`` of unit length; zeros where ``n - 1 < k``.
    """
    values, vectors = np.zeros(k), np.zeros((n, k))
    found = min(k, n - 1)
    if found <= 0:
        return values, vectors
    w = np.ones(len(edges)) if weights is None else weights
    if n <= DENSE:
        lap = np.zeros((n, n))
        np.add.at(lap, (edges[:, 0], edges[:, 1]), -w)
        lap += lap.T
        np.fill_diagonal(lap, -lap.sum(1))
        low, high = np.linalg.eigh(lap)
    else:
        from scipy.sparse import coo_array, csgraph
        from scipy.sparse.linalg import eigsh

        adj = coo_array((w, (edges[:, 0], edges[:, 1])), shape=(n, n))
        sparse = csgraph.laplacian((adj + adj.T).tocsc())
        # A small negative shift: the Laplacian itself is singular.
        low, high = eigsh(
            sparse, k=found + 1, sigma=-1e-6 * w.mean(), v0=np.sin(1.0 + np.arange(n))
        )
        order = np.argsort(low)
        low, high = low[order], high[:, order]
    values[:found] = np.maximum(low[1 : found + 1], 1e-12)
    vectors[:, :found] = high[:, 1 : found + 1]
    return values, vectors


def contract(cost: Float, edges: Int, n: int, count: int, skip: float, u: Float) -> Int:
    """Coarse node of each node after contracting a random cheap matching, int64 ``[n]``.

    Goes through the edges from cheap to dear and contracts those whose ends are both free, passing
    over each with probability ``skip``; if less than half of ``count`` comes of it, once more
    without passing over any. At least one edge is contracted.

    Args:
        cost: Cost of each edge ``[m]``.
        edges: ``[m, 2]``.
        n: Number of nodes.
        count: How many contractions to make at most.
        skip: Probability of passing over an edge.
        u: Uniform numbers ``[m]``.
    """
    mate = np.full(n, -1, np.int64)
    order = np.argsort(cost, kind="stable")
    left = count
    for passed in (u[order] < skip, np.zeros(len(order), bool)):
        if 2 * left <= count and left < count:
            break
        for e in order[~passed].tolist():
            if left == 0:
                break
            a, b = edges[e]
            if mate[a] < 0 and mate[b] < 0:
                mate[a], mate[b] = b, a
                left -= 1
    lead = np.where(mate < 0, np.arange(n), np.minimum(np.arange(n), mate))
    return np.unique(lead, return_inverse=True)[1].astype(np.int64)


def coarsen(
    n: int,
    edges: Int,
    rng: np.random.Generator,
    *,
    low: float = 0.1,
    high: float = 0.3,
    skip: float = 0.3,
    spectrum: tuple[Float, Float] | None = None,
    rank: int = 8,
) -> list[Int]:
    """Coarse node of each node at every level, from the graph down to one node.

    Args:
        n: Number of nodes.
        edges: Edges ``[m, 2]`` of a connected graph.
        rng: Chooses the reduction of each level, uniform in ``[low, high]``, and the matchings.
        low: Smallest share of nodes that a level removes.
        high: Largest share.
        skip: Probability of passing over an edge.
        spectrum: ``low_spectrum(n, edges, rank)``, if it is known already.
        rank: Dimension of the spectrum that is kept.

    Raises:
        DataError: The graph is not connected.
    """
    values, vectors = low_spectrum(n, edges, rank) if spectrum is None else spectrum
    keep = values > 0
    a = vectors[:, keep] / np.sqrt(values[keep])
    weights, parents = np.ones(len(edges)), []
    while n > 1:
        if not len(edges):
            raise DataError(
                "a graph is not connected, and contracting edges never joins its pieces; set "
                'coarsening.pieces = "largest" to train on the largest piece of each graph'
            )
        degree = np.bincount(edges.ravel(), np.repeat(weights, 2), minlength=n)
        i, j = edges[:, 0], edges[:, 1]
        cost = 0.5 * (degree[i] + degree[j]) * np.square(a[i] - a[j]).sum(1)
        count = max(1, round(float(rng.uniform(low, high)) * n))
        parent = contract(cost, edges, n, count, skip, rng.random(len(edges)))
        parents.append(parent)
        m, size = int(parent.max()) + 1, np.bincount(parent)
        edges, weights = _merge(parent[edges], weights, m)
        b = np.stack([np.bincount(parent, column, minlength=m) for column in a.T], 1)
        a = _whiten(b / size[:, None], edges, weights)
        n = m
    return parents


def expansions(n: int, edges: Int, parents: list[Int]) -> list[Expansion]:
    """The sequence backwards, from one node to the graph, in the numbering of children."""
    levels = [(n, np.sort(edges, 1))]
    for parent in parents:
        size = int(parent.max()) + 1
        levels.append((size, _merge(parent[levels[-1][1]], None, size)[0]))
    place = np.zeros(1, np.int64)  # new number of each node of the level
    steps: list[tuple[Int, Int, Int]] = []
    for (count, fine), (_, coarse), parent in zip(
        reversed(levels[:-1]), reversed(levels[1:]), reversed(parents), strict=True
    ):
        split = np.zeros(len(place), np.int64)
        split[place] = np.bincount(parent, minlength=len(place)) - 1
        order = np.lexsort((np.arange(count), place[parent]))
        steps.append((_renumber(coarse, place), split, fine))
        place = np.empty(count, np.int64)
        place[order] = np.arange(count)
        steps[-1] = (*steps[-1][:2], _renumber(fine, place))
    splits = [s for _, s, _ in steps[1:]] + [np.zeros(n, np.int64)]
    return [Expansion(c, s, f, v) for (c, s, f), v in zip(steps, splits, strict=True)]


def _merge(edges: Int, weights: Float | None, n: int) -> tuple[Int, Float]:
    """Edges without loops and repeats, sorted, and the sums of their weights."""
    pair = np.sort(edges, 1)
    away = pair[:, 0] != pair[:, 1]
    key = pair[away, 0] * n + pair[away, 1]
    w = np.ones(len(key)) if weights is None else weights[away]
    unique, inverse = np.unique(key, return_inverse=True)
    merged = np.stack([unique // max(n, 1), unique % max(n, 1)], 1)
    return merged.astype(np.int64), np.bincount(inverse, w, minlength=len(unique)).astype(
        np.float64
    )


def _whiten(b: Float, edges: Int, weights: Float) -> Float:
    """``b (b' L b)^(-1/2)``, directions of no variation left out."""
    change = b[edges[:, 0]] - b[edges[:, 1]]
    values, vectors = np.linalg.eigh(change.T @ (change * weights[:, None]))
    keep = values > 1e-10 * max(values[-1], 1e-300) if len(values) else values > 0
    out: Float = b @ (vectors[:, keep] / np.sqrt(values[keep]))
    return out


def _renumber(edges: Int, place: Int) -> Int:
    pair = np.sort(place[edges], 1)
    out: Int = pair[np.lexsort((pair[:, 1], pair[:, 0]))]
    return out
