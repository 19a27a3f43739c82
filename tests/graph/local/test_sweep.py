"""Conductance and sweeps against networkx and by brute force."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.local import (
    Diffusion,
    Work,
    conductance,
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


def test_nothing_to_sweep() -> None:
    with pytest.raises(ArgumentError, match="positive score"):
        sweep(scored(local_graph([(0, 1)]), np.zeros(2)))
