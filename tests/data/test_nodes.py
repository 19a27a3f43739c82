"""Graphs with labels: what is mended, what is refused, splits, and the way to PyG and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.nodes import NodeData, Split, random_splits, simple_edges


def index(*nodes: int) -> torch.Tensor:
    return torch.tensor(nodes, dtype=torch.int64)


def test_simple_edges_by_hand():
    raw = [[0, 1, 1, 2, 3, 3], [1, 0, 1, 0, 2, 2]]
    pairs, changed = simple_edges(raw, 6)
    assert pairs.T.tolist() == [[0, 1], [0, 2], [2, 3]]
    assert changed == {"self_loops": 1, "merged": 2, "isolated": 2}


def test_simple_edges_are_networkxs():
    import networkx as nx

    rng = np.random.default_rng(0)
    raw = rng.integers(0, 30, (2, 80))
    graph = nx.Graph(raw.T.tolist())
    graph.remove_edges_from(nx.selfloop_edges(graph))
    assert {tuple(e) for e in simple_edges(raw, 30)[0].T.tolist()} == {
        tuple(sorted(e)) for e in graph.edges
    }


def test_no_edges_at_all():
    pairs, changed = simple_edges(np.zeros((2, 0)), 3)
    assert pairs.shape == (2, 0)
    assert changed == {"isolated": 3}


@pytest.mark.parametrize("raw", [[[0, 1, 2]], [[0], [3]], [[-1], [0]]])
def test_wrong_edges_are_refused(raw):
    with pytest.raises(DataError, match="edges"):
        simple_edges(raw, 3)


def test_a_split_that_overlaps_is_refused():
    with pytest.raises(DataError, match="both val and test"):
        Split(index(0), index(1, 2), index(2))
    with pytest.raises(DataError, match="no training nodes"):
        Split(index(), index(1), index(2))


def test_split_of_masks_and_without():
    split = Split.of_masks([1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0])
    assert split.train.tolist() == [0, 3]
    assert split.overlap == 0.5
    assert split.without(index(3, 2)).train.tolist() == [0]
    assert split.without(index(3, 2)).test.tolist() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features": np.full((3, 2), np.nan)}, "not finite"),
        ({"features": np.ones((2, 2))}, "expected features"),
        ({"labels": [0, 1, -2]}, "labels lie between"),
        ({"labels": [0, 5, 1], "classes": ("a", "b")}, "labels lie between"),
        ({"splits": (Split(index(0), index(1), index(2)),), "labels": [0, 1, -1]}, "no label"),
        ({"splits": (Split(index(0), index(1), index(7)),)}, "puts node 7 into test"),
        ({"splits": (Split(index(-1, 0), index(1), index(2)),)}, "puts node -1 into train"),
        ({"labels": [0, 0.5, 1]}, "labels: found fractions"),
        ({"labels": [0, np.inf, 1]}, "labels: found fractions"),
        ({"ids": ("a", "b", "a")}, "3 nodes have 2 different ids"),
        ({"columns": ("w",)}, "2 features have 1 names"),
        ({"indicators": True}, "are not the indicators of 3 nodes"),
        ({"features": np.ones((0, 2)), "labels": [], "edges": [[], []]}, "the graph has no nodes"),
        ({"features": None, "labels": np.zeros(20_001)}, "20001 nodes and no features; .* give fe"),
    ],
)
def test_nonsense_is_refused(change, words):
    given = {"edges": [[0], [1]], "features": np.ones((3, 2)), "labels": [0, 1, 1], **change}
    with pytest.raises(DataError, match=words):
        NodeData.of("x", **given)


def test_a_split_of_a_caller_is_checked_as_its_own():
    data = NodeData.of("x", [[0], [1]], np.ones((3, 2)), [0, 1, -1])
    data.check_split(Split(index(0), index(1), index()))
    for split, words in (
        (Split(index(0), index(1), index(2)), "takes node 2, which has no label"),
        (Split(index(0), index(-2), index(1)), "puts node -2 into val"),
        (Split(index(0), index(1), index(3)), "puts node 3 into test, the nodes are 0 to 2"),
    ):
        with pytest.raises(DataError, match=words):
            data.check_split(split)
        with pytest.raises(DataError, match=words):
            replace(data, splits=(split,))


def test_classes_are_the_labels_that_occur():
    base = {"edges": [[0], [1]], "features": np.ones((4, 2))}
    data = NodeData.of("x", **base, labels=[7, 2, -1, 10**9])
    assert data.classes == ("2", "7", "1000000000")
    assert data.labels.tolist() == [1, 0, -1, 2]
    assert len(random_splits(data.labels, 1)[0].train) == 3
    text = NodeData.of("x", **base, labels=["b", "", "10", "?"])
    assert (text.classes, text.labels.tolist()) == (("10", "b"), [1, -1, 0, -1])
    given = NodeData.of("x", **base, labels=[2, 0, 0, -1], classes=("a", "b", "c"))
    assert (given.classes, given.labels.tolist()) == (("a", "b", "c"), [2, 0, 0, -1])
    nan = NodeData.of("x", **base, labels=[1.0, np.nan, 0.0, 1.0])
    assert (nan.classes, nan.labels.tolist()) == (("0", "1"), [1, -1, 0, 1])
    with pytest.raises(DataError, match=r"between 0 and 1000000000.*NodeData\.of"):
        NodeData("x", data.edges, data.features, torch.tensor([0, 1, 1, 10**9]))


def test_a_fingerprint_of_tensors_elsewhere():
    """Of a device, or with a gradient: numpy takes neither."""
    data = NodeData.of("x", [[0], [1]], np.ones((3, 2)), [0, 1, 1])
    learned = replace(data, features=data.features.clone().requires_grad_())
    assert learned.fingerprint() == data.fingerprint()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_graph_on_a_gpu():
    data = NodeData.of("x", [[0], [1]], np.ones((3, 2)), [0, 1, 1])
    far = replace(
        data, edges=data.edges.cuda(), features=data.features.cuda(), labels=data.labels.cuda()
    )
    assert far.fingerprint() == data.fingerprint()
    assert far.isolated.tolist() == [2]


def test_missing_features_are_indicators():
    data = NodeData.of("x", [[0], [1]], None, [0, 1, 1])
    assert torch.equal(data.features, torch.eye(3))
    assert data.indicators
    assert replace(data, splits=random_splits(data.labels, 1)).indicators
    assert not NodeData.of("x", [[0], [1]], np.eye(3), [0, 1, 1]).indicators
    assert "indicator" in data.notes["features"]
    assert data.isolated.tolist() == [2]


def test_homophily_counts_edges_with_two_known_ends():
    data = NodeData.of("x", [[0, 1, 2, 0], [1, 2, 3, 3]], None, [0, 0, 1, -1])
    assert data.homophily == 0.5


def test_normalised_rows_add_up_to_one():
    data = NodeData.of("x", [[0], [1]], [[1, 3], [0, 0], [2, 0]], [0, 1, 1])
    assert data.normalised().features.tolist() == [[0.25, 0.75], [0, 0], [1, 0]]


def test_there_and_back_by_pyg():
    rng = np.random.default_rng(0)
    first = NodeData.of("x", rng.integers(0, 20, (2, 40)), rng.random((20, 3)), np.arange(20) % 3)
    splits = random_splits(first.labels, 3)
    data = NodeData.of("x", first.edges, first.features, first.labels, splits)
    again = NodeData.from_pyg(data.to_pyg(), "x")
    wanted, found = data.fingerprint(), again.fingerprint()
    assert found == wanted
    assert data.to_pyg().is_undirected()


def test_the_fingerprint_sees_every_part():
    base = {"edges": [[0], [1]], "features": np.ones((3, 2)), "labels": [0, 1, 1]}
    prints = [NodeData.of("x", **{**base, **change}).fingerprint()["sha256"] for change in (
        {}, {"edges": [[0], [2]]}, {"features": np.zeros((3, 2))}, {"labels": [0, 1, 0]},
    )]  # fmt: skip
    assert len(set(prints)) == 4
    split = (Split(index(0), index(1), index(2)),)
    assert NodeData.of("x", **base, splits=split).fingerprint()["sha256"] == prints[0]


def test_random_splits_are_stratified_and_disjoint():
    labels = torch.tensor([0] * 50 + [1] * 25 + [2] * 25 + [-1] * 10)
    for split in random_splits(labels, 3, seed=5):
        for part, share in ((split.train, 0.48), (split.val, 0.32), (split.test, 0.2)):
            counts = torch.bincount(labels[part], minlength=3).tolist()
            assert counts == pytest.approx([50 * share, 25 * share, 25 * share], abs=1)
        assert len(split.train) + len(split.val) + len(split.test) == 100


def test_random_splits_depend_on_the_seed_only():
    labels = torch.arange(40) % 4
    a, b = random_splits(labels, 2, seed=1), random_splits(labels, 4, seed=1)
    assert all(torch.equal(x.test, y.test) for x, y in zip(a, b, strict=False))
    assert not torch.equal(a[0].test, a[1].test)
    assert not torch.equal(a[0].test, random_splits(labels, 1, seed=2)[0].test)


@pytest.mark.parametrize("shares", [(0.0, 0.5), (0.8, 0.4), (0.5, -0.1)])
def test_shares_are_checked(shares):
    with pytest.raises(ArgumentError, match="shares"):
        random_splits(torch.arange(9) % 3, 1, shares)
