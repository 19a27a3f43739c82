"""Conductance and sweeps against networkx and by brute force."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.local import (
    Diffusion,
    Reweighted,
    Work,
    conductance,
    local_cluster,
    local_graph,
    pagerank,
    sweep,
    with_labels,
)


def scored(graph, scores: np.ndarray) -> Diffusion:
    rows = np.arange(len(scores))
    return Diffusion(graph, rows, scores, scores, np.zeros(len(scores)), Work())


@pytest.mark.parametrize("seed", range(5))
def test_conductance_against_networkx(seed) -> None:
    base = nx.gnm_random_graph(40, 100, seed=seed)
    rng = np.random.default_rng(seed)
    for _, _, data in base.edges(data=True):
        data["weight"] = rng.uniform(0.1, 3)
    graph = local_graph(base)
    for size in (1, 7, 20, 35):
        chosen = rng.permutation(40)[:size]
        if 0 < graph.degree[chosen].sum() < graph.volume:
            wanted = nx.conductance(base, chosen.tolist(), weight="weight")
            assert conductance(graph, chosen) == pytest.approx(wanted)


def test_sweep_is_the_best_prefix(random_graph) -> None:
    for seed in range(5):
        graph, _ = random_graph(seed)
        scores = np.random.default_rng(seed).random(40)
        scores[[3, 9]] = 0
        rows, values, work = sweep(scored(graph, scores))
        order = np.argsort(-scores)[:38]
        wanted = [conductance(graph, order[: k + 1]) for k in range(38)]
        assert values == pytest.approx(wanted)
        assert rows.tolist() == order[: int(np.argmin(wanted)) + 1].tolist()
        assert work.edges == np.diff(graph.indptr)[order].sum()


def test_a_component_has_no_cut_and_the_whole_graph_is_no_cluster() -> None:
    two = local_graph(nx.disjoint_union(nx.complete_graph(5), nx.complete_graph(6)))
    found = sweep(pagerank(two, 0, epsilon=1e-6))
    assert set(found[0]) == set(range(5))
    assert found[1].min() == 0
    whole = local_graph(nx.complete_graph(5))
    assert np.isinf(sweep(pagerank(whole, 0, epsilon=1e-6))[1][-1])


def test_measures_of_reweighted_graphs(random_graph, reweighted) -> None:
    graph, weights = random_graph(2)
    labels = np.arange(40) % 3
    new = reweighted(weights, labels, 0.1)
    rows = np.arange(10)
    cut, volume = new[:10, 10:].sum(), new[:10].sum()
    assert conductance(with_labels(graph, labels, 0.1), rows) == pytest.approx(cut / volume)
    diffusion = scored(with_labels(graph, labels, 0.1), np.linspace(1, 0.1, 40))
    assert sweep(diffusion, graph)[1][9] == pytest.approx(conductance(graph, rows))
    assert sweep(diffusion)[1][9] == pytest.approx(cut / volume)


@pytest.mark.parametrize("seed", range(4))
def test_one_factor_for_all_edges_changes_no_conductance(random_graph, seed) -> None:
    """Beyond half of the volume too, where the volume of the rest is an estimate."""
    graph, _ = random_graph(seed)
    scores = np.random.default_rng(seed).random(40)
    rows, values, _ = sweep(scored(graph, scores))
    view = Reweighted(graph, lambda left, right: np.full(len(left), 0.05))
    others = sweep(scored(view, scores))
    assert others[1] == pytest.approx(values)
    assert others[0].tolist() == rows.tolist()
    assert np.isinf(others[1][-1])


def test_the_rest_of_a_reweighted_graph_is_estimated(random_graph, reweighted) -> None:
    graph, weights = random_graph(3)
    labels = np.random.default_rng(0).integers(0, 3, 40)
    new = reweighted(weights, labels, 0.1)
    _, values, _ = sweep(scored(with_labels(graph, labels, 0.1), np.linspace(1, 0.1, 40)))
    whole, beyond = weights.sum(), 0
    for k in range(1, 40):
        cut, volume, held = new[:k, k:].sum(), new[:k].sum(), weights[:k].sum()
        rest = max(cut, (whole - held) * volume / held)
        beyond += rest < volume
        assert values[k - 1] == pytest.approx(cut / min(volume, rest))
    assert beyond > 10
    assert values[:-1].max() <= 1 + 1e-12
    assert np.isinf(values[-1])


@pytest.mark.parametrize("method", ["flow", "pagerank", "heat"])
def test_labels_that_are_all_alike_change_no_cluster(method) -> None:
    """With them as without, the whole graph is no cluster, however far a walk has come."""
    graph = nx.barbell_graph(5, 0)
    plain = local_cluster(graph, 0, method, volume=24, scales=[1.0])
    for more in ({"labels": [0] * 10}, {"attributes": np.zeros((10, 2)), "gamma": 1.0}):
        found = local_cluster(graph, 0, method, volume=24, scales=[1.0], **more)
        assert set(found.nodes) == set(plain.nodes) == set(range(5))
        assert found.conductance == pytest.approx(1 / 21)
    assert set(local_cluster(graph, 0, "heat", labels=[0] * 10).nodes) == set(range(5))


def test_a_sweep_of_a_reweighted_graph_asks_about_its_nodes_only(random_graph) -> None:
    graph, _ = random_graph(0)
    asked: set[int] = set()

    def factor(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        asked.update(left.tolist())
        return np.where(left % 2 == right % 2, 1.0, 0.2)

    sweep(scored(Reweighted(graph, factor), np.where(np.arange(40) < 30, 1.0, 0.0)))
    assert asked == set(range(30))


def test_nothing_to_sweep() -> None:
    with pytest.raises(ArgumentError, match="positive score"):
        sweep(scored(local_graph([(0, 1)]), np.zeros(2)))
