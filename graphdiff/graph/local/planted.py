r"""A planted cluster in a sparse random graph: the model of the theory, of any size.

Two nodes of the cluster ``K`` of ``k`` nodes are joined with the chance ``p``; a node of it and one
outside with ``q``; two nodes outside with ``b``. Of a node of ``K``, :math:`p(k-1)` edges stay
inside on average and :math:`q(n-k)` leave (Back de Luca, Fountoulakis and Yang, 2024, section 3).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.local.graph import LocalGraph
from graphdiff.graph.local.inputs import local_graph

__all__ = ["planted_cluster"]


def planted_cluster(
    n: int, k: int, *, inside: float, leaving: float, outside: float, rng: np.random.Generator
) -> LocalGraph:
    """A graph whose nodes ``0..k-1`` are the cluster; degrees are given as means.

    Args:
        n: Nodes.
        k: Nodes of the cluster, ``2 <= k < n``.
        inside: Mean number of edges of a node of the cluster that stay in it, ``p (k - 1)``.
        leaving: Mean number of its edges that leave, ``q (n - k)``.
        outside: Mean number of edges of a node outside to others outside, ``b (n - k - 1)``.
        rng: Source of randomness.

    Raises:
        ArgumentError: Sizes or means are out of range.
    """
    rest = n - k
    if not 2 <= k < n - 1:
        raise ArgumentError(f"expected 2 <= k < n - 1, found k={k} and n={n}")
    chances = (inside / (k - 1), leaving / rest, outside / (rest - 1))
    if not all(0 <= chance <= 1 for chance in chances):
        raise ArgumentError(
            f"means {inside}, {leaving}, {outside} are more edges than there are pairs, or negative"
        )
    within = _pairs(k, rng, chances[0])
    across = _some(k * rest, chances[1], rng)
    beyond = _pairs(rest, rng, chances[2])
    edges = np.concatenate([within, np.stack([across // rest, k + across % rest], 1), k + beyond])
    return local_graph(edges, nodes=n)


def _some(count: int, chance: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which of ``count`` independent events of a chance happen; time is that of those."""
    wanted = int(rng.binomial(count, chance))
    found = np.zeros(0, np.int64)
    while len(found) < wanted:  # without replacement, a few more than are missing
        more = rng.integers(0, count, int(1.1 * (wanted - len(found))) + 8)
        found = np.unique(np.concatenate([found, more]))
    return rng.permutation(found)[:wanted]


def _pairs(n: int, rng: np.random.Generator, chance: float) -> NDArray[np.int64]:
    """Unordered pairs ``[m, 2]`` of ``n`` nodes, each with a chance."""
    flat = _some(n * (n - 1) // 2, chance, rng)
    # Pair number j (j - 1) / 2 + i stands for i < j.
    j = ((1 + np.sqrt(1 + 8 * flat.astype(np.float64))) / 2).astype(np.int64)
    j -= j * (j - 1) // 2 > flat
    j += (j + 1) * j // 2 <= flat
    return np.stack([flat - j * (j - 1) // 2, j], 1)
