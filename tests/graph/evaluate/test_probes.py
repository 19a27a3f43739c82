"""Probes find what is planted, and nothing where nothing is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import planted

from graphdiff.core.errors import ArgumentError
from graphdiff.data.nodes import NodeData, Split, random_splits
from graphdiff.graph.evaluate.baselines import baseline
from graphdiff.graph.evaluate.probes import (
    duplicates,
    label_in_features,
    overlap,
    report,
    same_neighbours,
    shuffled_labels,
    twins,
)


def graph(seed: int = 0, n: int = 120) -> NodeData:
    edges, x, y = planted(n, 80, 3, seed)
    data = NodeData.of("planted", edges, x, y)
    return replace(data, splits=random_splits(data.labels, 3))


def slow_twins(data: NodeData) -> set[tuple[int, int]]:
    near = [set() for _ in range(data.n)]
    for u, v in data.edges.T.tolist():
        near[u].add(v)
        near[v].add(u)
    return {
        (a, b)
        for a in range(data.n)
        for b in range(a + 1, data.n)
        if torch.equal(data.features[a], data.features[b]) and near[a] - {b} == near[b] - {a}
    }


def test_twins_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    for _ in range(20):
        edges = rng.integers(0, 12, (2, 14))
        data = NodeData.of("small", edges, rng.integers(0, 2, (12, 1)), np.zeros(12, int))
        group = twins(data)
        found = {(a, b) for a in range(12) for b in range(a + 1, 12) if group[a] == group[b]}
        # Groups join pairs that share a member; every pair must be found, none without a chain.
        pairs = slow_twins(data)
        assert pairs <= found
        linked = {k for pair in pairs for k in pair}
        assert all(a in linked and b in linked for a, b in found)


def test_copies_across_the_split_are_found():
    data = graph()
    clean = duplicates(data)
    assert not clean.leak
    x, edges = data.features.clone(), data.edges.tolist()
    split = data.splits[0]
    for a, b in zip(split.test[:12].tolist(), split.train[:12].tolist(), strict=True):
        x[a] = x[b]
        near = {v if u == b else u for u, v in data.edges.T.tolist() if b in (u, v)} - {a}
        pairs = [(u, v) for u, v in zip(*edges, strict=True) if a not in (u, v)]
        edges = [list(e) for e in zip(*pairs, *[(a, v) for v in near], strict=True)]
        data = replace(data, edges=NodeData.of("x", np.array(edges), x, data.labels).edges)
        edges = data.edges.tolist()
    found = duplicates(replace(data, features=x), [split])
    assert found.leak
    assert found.value > 4 / len(split.test)


def test_a_label_among_the_features_is_found():
    data = graph()
    assert not label_in_features(data).leak
    told = torch.cat([data.features, data.labels[:, None].float()], 1)
    found = label_in_features(replace(data, features=told))
    assert found.leak
    assert found.value == 1.0
    assert "column 80" in found.message


def test_overlap_of_random_splits():
    data = graph()
    found = overlap(data)
    assert abs(found.value - 0.48) < 0.15
    fixed = replace(data, splits=data.splits[:1])
    assert overlap(fixed).value == 0.0


def test_splits_that_share_nodes_do_not_exist():
    from graphdiff.core.errors import DataError

    with pytest.raises(DataError, match="both train and test"):
        Split(torch.tensor([0, 1]), torch.tensor([2]), torch.tensor([1, 3]))


@pytest.mark.parametrize("name", ["label-propagation", "sgc"])
def test_honest_methods_are_at_chance_on_shuffled_labels(name):
    from graphdiff.graph.evaluate.training import FitConfig

    data, quick = graph(), FitConfig(epochs=30, patience=30)
    found = shuffled_labels(
        data, data.splits[0], lambda d, s: baseline(name, d, s, config=quick).logits
    )
    assert not found.leak, found.message


def test_a_method_that_peeks_is_caught():
    data = graph()

    def peeks(told: NodeData, split: Split) -> torch.Tensor:
        """Label propagation that was handed all labels."""
        everything = Split(torch.cat([split.train, split.test]), split.val, torch.tensor([]))
        return baseline("label-propagation", told, everything).logits

    found = shuffled_labels(data, data.splits[0], peeks)
    assert found.leak
    assert found.value > 0.8


def test_the_report_has_every_probe():
    data = graph()
    assert [f.probe for f in report(data)] == [
        "duplicates", "same neighbours", "label in features", "overlap", "shuffled labels",
    ]  # fmt: skip
    assert all(set(f.to_dict()) >= {"value", "leak", "message", "n"} for f in report(data))
    with pytest.raises(ArgumentError, match="no splits"):
        report(replace(data, splits=()))


def test_copied_links_are_told_from_leaves_of_a_hub():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 100)
    order = torch.from_numpy(rng.permutation(100))
    split = Split(order[:50], order[50:80], order[80:])
    star = np.stack([np.zeros(99, int), np.arange(1, 100)])
    hub = NodeData.of("hub", star, rng.random((100, 5)), y)
    found = same_neighbours(hub, [split])
    assert found.value == 1.0 or found.value >= 19 / 20
    assert not found.leak
    # Node k + 50 is node k again: its links, its class, other words.
    links = rng.integers(100, 160, (50, 4))
    ends = [(k + shift, v) for shift in (0, 50) for k in range(50) for v in links[k]]
    many = np.concatenate([np.tile(y[:50], 2), rng.integers(0, 4, 60)])
    copied = NodeData.of("copied", np.array(ends).T, rng.random((160, 5)), many)
    found = same_neighbours(copied, [split])
    assert found.leak
    assert found.value > 0.3
    assert not duplicates(copied, [split]).leak
    # Twins that agree in four of five cases may be neighbours of like kind, and no copies.
    loose = many.copy()
    loose[50:60] = (loose[50:60] + 1) % 4
    alike = replace(copied, labels=torch.from_numpy(loose))
    found = same_neighbours(alike, [split])
    assert found.value > 0.3
    assert not found.leak


def test_isolated_nodes_have_no_neighbours_in_common():
    data = NodeData.of("x", [[0], [1]], np.arange(12.0).reshape(6, 2), [0, 1, 0, 1, 0, 1])
    assert len(set(twins(data, features=False)[2:].tolist())) == 4


def test_wikipedia_graphs_leak_and_their_filtered_versions_do_not():
    from graphdiff.core.errors import DataError
    from graphdiff.data.node_sets import load_nodes

    try:
        full, filtered = load_nodes("chameleon"), load_nodes("chameleon_filtered")
    except DataError as error:
        pytest.skip(f"needs the public graphs: {error}")
    assert duplicates(full).leak
    assert same_neighbours(full).leak
    assert not duplicates(filtered).leak
    assert not same_neighbours(filtered).leak
