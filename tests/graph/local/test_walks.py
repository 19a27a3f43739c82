"""PageRank and heat pushes against dense and sparse references, with the promised bounds."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import expm_multiply

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.local import heat_kernel, local_graph, pagerank, with_labels
from graphdiff.graph.local.heat import _levels


def start(n: int, seeds: list[int]) -> np.ndarray:
    s = np.zeros(n)
    s[seeds] = 1 / len(seeds)
    return s


def exact_pagerank(weights: np.ndarray, s: np.ndarray, teleport: float) -> np.ndarray:
    walk = weights / weights.sum(0)
    return teleport * np.linalg.solve(np.eye(len(s)) - (1 - teleport) * walk, s)


def exact_heat(weights: np.ndarray, s: np.ndarray, time: float) -> np.ndarray:
    walk = csr_matrix(weights / weights.sum(0) - np.eye(len(s)))
    return expm_multiply(time * walk, s)


@pytest.mark.parametrize("epsilon", [1e-2, 1e-3, 1e-5])
@pytest.mark.parametrize("teleport", [0.05, 0.15, 0.6])
def test_pagerank_bounds(epsilon, teleport, random_graph) -> None:
    graph, weights = random_graph(1, n=80)
    degree, seeds = weights.sum(1), [4, 30]
    found = pagerank(graph, seeds, teleport=teleport, epsilon=epsilon)
    p, r = found.dense(), found.dense("rest")
    assert (r >= 0).all()
    assert (r < epsilon * degree).all()
    assert p.sum() + r.sum() == pytest.approx(1)
    exact = exact_pagerank(weights, start(80, seeds), teleport)
    # The residual explains the error exactly, and so the error is within the promise.
    assert np.allclose(p + exact_pagerank(weights, r, teleport), exact, atol=1e-12)
    error = exact - p
    assert (error >= -1e-12).all()
    assert (error <= epsilon * degree + 1e-12).all()


def test_pagerank_against_networkx() -> None:
    base = nx.karate_club_graph()
    found = pagerank(local_graph(base), 5, teleport=0.15, epsilon=1e-9).dense()
    other = nx.pagerank(base, alpha=0.85, personalization={5: 1}, tol=1e-12, max_iter=1000)
    assert np.allclose(found, [other[k] for k in range(34)], atol=1e-7)


def test_lazy_walks_are_a_change_of_teleport(random_graph) -> None:
    graph, weights = random_graph(2)
    lazy, s = 0.2, start(40, [0])
    walk = (np.eye(40) + weights / weights.sum(0)) / 2
    exact = lazy * np.linalg.solve(np.eye(40) - (1 - lazy) * walk, s)
    found = pagerank(graph, 0, teleport=2 * lazy / (1 + lazy), epsilon=1e-10).dense()
    assert np.allclose(found, exact, atol=1e-7)


@pytest.mark.parametrize("epsilon", [3e-2, 1e-3, 1e-6])
@pytest.mark.parametrize("time", [0.5, 5.0, 40.0])
def test_heat_bounds(epsilon, time, random_graph) -> None:
    graph, weights = random_graph(1, n=80)
    degree, seeds = weights.sum(1), [4, 30]
    h = heat_kernel(graph, seeds, time=time, epsilon=epsilon).dense()
    error = exact_heat(weights, start(80, seeds), time) - h
    assert (error >= -1e-10).all()
    assert (error <= epsilon * degree + 1e-10).all()


def test_heat_is_as_inexact_as_it_may_be(random_graph) -> None:
    """A bound that is never near is no test: some errors are a thirtieth of the promise."""
    graph, weights = random_graph(6, n=200, chance=0.02)
    h = heat_kernel(graph, 0, time=5, epsilon=1e-3).dense()
    error = (exact_heat(weights, start(200, [0]), 5) - h) / weights.sum(1)
    assert 3e-5 < error.max() <= 1e-3


@pytest.mark.parametrize("time", [0.1, 1.0, 15.0, 400.0])
def test_levels(time) -> None:
    from scipy.stats import poisson

    cut, share = _levels(time, 1e-4, 0.5)
    last = len(cut) - 1
    assert np.allclose(share, poisson.pmf(np.arange(last + 1), time), atol=1e-12)
    assert poisson.sf(last, time) * 0.5 <= 5e-5
    assert last == 1 or poisson.sf(last - 1, time) * 0.5 > 5e-5
    assert (cut[:last] * poisson.sf(np.arange(last), time)).sum() <= 5e-5 * (1 + 1e-6)


@pytest.mark.parametrize("method", [pagerank, heat_kernel])
def test_reweighted_graphs(method, random_graph, reweighted) -> None:
    graph, weights = random_graph(8, n=60)
    labels = np.random.default_rng(3).integers(0, 3, 60)
    new = reweighted(weights, labels, 0.1)
    found = method(with_labels(graph, labels, 0.1), 7, epsilon=1e-4)
    exact = (
        exact_pagerank(new, start(60, [7]), 0.15)
        if method is pagerank
        else exact_heat(new, start(60, [7]), 5.0)
    )
    error = exact - found.dense()
    assert (error >= -1e-10).all()
    assert (error <= 1e-4 * new.sum(1) + 1e-10).all()
    assert np.allclose(found.scores[found.values > 0] * new.sum(1)[found.support],
                       found.values[found.values > 0])  # fmt: skip


@pytest.mark.parametrize("epsilon", [1e-2, 1e-3, 1e-4])
def test_work_is_within_the_proof(epsilon) -> None:
    graph = local_graph(nx.barabasi_albert_graph(5000, 4, seed=0))
    assert pagerank(graph, 17, teleport=0.2, epsilon=epsilon).work.edges <= 1 / (0.2 * epsilon)
    cut = _levels(5.0, epsilon, 1 / graph.degree[17])[0]
    found = heat_kernel(graph, 17, time=5.0, epsilon=epsilon)
    assert found.work.edges <= (1 / cut[:-1]).sum()


@pytest.mark.parametrize("method", [pagerank, heat_kernel])
def test_nothing_leaves_a_component(method) -> None:
    graph = local_graph(nx.disjoint_union(nx.complete_graph(6), nx.cycle_graph(30)))
    found = method(graph, 2, epsilon=1e-8)
    assert set(found.rows) == set(range(6))
    assert found.values.sum() == pytest.approx(1, abs=1e-5)
    with pytest.raises(ArgumentError, match="isolated"):
        method(local_graph([(0, 1)], nodes=3), 2)
    for bad in ({"epsilon": 0}, {"teleport" if method is pagerank else "time": 0}):
        with pytest.raises(ArgumentError):
            method(graph, 0, **bad)
