from __future__ import annotations

from collections import Counter

import networkx as nx
import numpy as np
import pytest

from graphdiff.core.errors import ArgumentError
from graphdiff.data import synthetic


def test_planar_graphs_are_planar_and_connected() -> None:
    for graph in synthetic.planar(8, (3, 40), seed=1).to_networkx():
        assert nx.check_planarity(graph)[0]
        assert nx.is_connected(graph)


def test_trees_are_trees_of_every_size() -> None:
    assert all(nx.is_tree(g) for g in synthetic.tree(60, (1, 20), seed=2).to_networkx())


def test_trees_are_uniform() -> None:
    """Cayley: 16 labelled trees on 4 nodes, each equally likely (chi-squared, 15 degrees)."""
    graphs = synthetic.tree(3200, (4, 4), seed=3)
    counts = Counter(tuple(map(tuple, g.edges.tolist())) for g in graphs)
    assert len(counts) == 16
    chi2 = sum((c - 200) ** 2 / 200 for c in counts.values())
    assert chi2 < 44.3  # exceeded with probability 1e-4 under uniformity


def test_sbm_densities() -> None:
    graphs = synthetic.sbm(12, communities=(2, 2), sizes=(30, 30), seed=4)
    _, adj, _ = graphs.dense()
    inside = adj[:, :30, :30].sum() / (12 * 30 * 29)
    between = adj[:, :30, 30:].sum() / (12 * 900)
    assert abs(inside - 0.3) < 5 * np.sqrt(0.21 / (12 * 435))
    assert 0 < between < 0.02
    assert all(nx.is_connected(g) for g in graphs.to_networkx())


def test_grid_equals_networkx() -> None:
    for graph in synthetic.grid(5, (2, 5), seed=5).to_networkx():
        shapes = [(a, len(graph) // a) for a in range(2, 6) if len(graph) % a == 0]
        assert any(nx.is_isomorphic(graph, nx.grid_2d_graph(a, b)) for a, b in shapes)


def test_community_sizes_and_bridges() -> None:
    graphs = synthetic.community(30, seed=6)
    assert set(graphs.num_nodes.tolist()) <= {12, 14, 16, 18, 20}
    assert all(nx.is_connected(g) for g in graphs.to_networkx())


@pytest.mark.parametrize("make", [synthetic.planar, synthetic.tree, synthetic.sbm, synthetic.grid])
def test_seeds_and_bad_count(make) -> None:
    assert make(2, seed=7) == make(2, seed=7)
    assert make(2, seed=7) != make(2, seed=8)
    with pytest.raises(ArgumentError, match="count must be positive"):
        make(0)
