"""Weights from labels and attributes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.local import (
    classify,
    flow_diffusion,
    local_gamma,
    local_graph,
    noisy_labels,
    planted_cluster,
    with_attributes,
    with_labels,
)


def dense(graph, n: int) -> np.ndarray:
    counts, ends, weights = graph.rows(np.arange(n))
    full = np.zeros((n, n))
    full[np.repeat(np.arange(n), counts), ends] = weights
    return full


@pytest.mark.parametrize("kind", ["array", "list", "mapping", "function", "words"])
def test_labels_of_every_kind(random_graph, reweighted, kind) -> None:
    graph, weights = random_graph(0)
    labels = np.random.default_rng(0).integers(0, 4, 40)
    given = {
        "array": labels,
        "list": labels.tolist(),
        "mapping": dict(enumerate(labels.tolist())),
        "function": lambda rows: labels[rows],
        "words": np.array(list("abcd"))[labels],
    }[kind]
    assert np.allclose(
        dense(with_labels(graph, given, 0.05), 40), reweighted(weights, labels, 0.05)
    )


def test_known_labels_replace_others(random_graph, reweighted) -> None:
    graph, weights = random_graph(0)
    labels = np.arange(40) % 2
    right = labels.copy()
    right[[3, 8]] = 1, 0
    for given in (labels, lambda rows: labels[rows]):
        found = with_labels(graph, given, 0.05, known={3: 1, 8: 0})
        assert np.allclose(dense(found, 40), reweighted(weights, right, 0.05))
    assert (labels == np.arange(40) % 2).all()
    with pytest.raises(ArgumentError, match="no node"):
        with_labels(graph, labels, known={99: 1})


def test_names_of_a_mapping_are_those_of_the_graph() -> None:
    graph = local_graph([("a", "b"), ("b", "c")])
    found = dense(with_labels(graph, {"c": 1, "b": 0, "a": 0}, 0.5), 3)
    assert found[0, 1] == 1
    assert found[1, 2] == 0.5
    with pytest.raises(ArgumentError, match="1 of 3 nodes have no label, 'c'"):
        with_labels(graph, {"a": 0, "b": 1})


def test_a_function_is_asked_about_reached_nodes_only() -> None:
    rng = np.random.default_rng(0)
    graph = planted_cluster(50_000, 60, inside=10, leaving=1, outside=5, rng=rng)
    asked: set[int] = set()

    def labels(rows: np.ndarray) -> np.ndarray:
        asked.update(rows.tolist())
        return rows < 60

    found = flow_diffusion(with_labels(graph, labels), 0, 500.0)
    assert asked == set(found.rows.tolist())
    assert len(asked) < 2000


def test_unlike_edges_can_be_cut(random_graph) -> None:
    graph, _ = random_graph(1)
    labels = np.arange(40) < 20
    found = flow_diffusion(with_labels(graph, labels, 0.0), 3, 20.0)
    assert (found.rows < 20).all()


def test_noisy_labels_are_right_as_often_as_asked() -> None:
    truth = np.arange(200_000) < 50_000
    found = noisy_labels(truth, 0.7, 0.9, np.random.default_rng(0))
    assert found[truth].mean() == pytest.approx(0.7, abs=0.01)
    assert 1 - found[~truth].mean() == pytest.approx(0.9, abs=0.01)
    assert (noisy_labels(truth, 1, 1, np.random.default_rng(0)) == truth).all()
    assert (noisy_labels(truth, 0, 0, np.random.default_rng(0)) != truth).all()


def test_classifier_on_attributes() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(400) < 150
    features = rng.normal(size=(400, 5)) + 2.0 * truth[:, None]
    for table in (features, sparse.csr_matrix(features)):
        found = classify(table, np.arange(20), np.arange(300, 320))
        assert (found == truth).mean() > 0.95
        some = classify(table, np.arange(20), np.arange(300, 320), rows=np.array([5, 200]))
        assert some.tolist() == found[[5, 200]].tolist()
    with pytest.raises(ArgumentError, match="inside and as outside"):
        classify(features, [0, 1], [1])
    with pytest.raises(ArgumentError, match="at least one"):
        classify(features, [], [1])


def test_attributes(random_graph) -> None:
    graph, weights = random_graph(4)
    x = np.random.default_rng(0).normal(size=(40, 3))
    wanted = weights * np.exp(-0.3 * ((x[:, None] - x[None]) ** 2).sum(-1))
    for table in (x, sparse.csr_matrix(x)):
        assert np.allclose(dense(with_attributes(graph, table, 0.3), 40), wanted)
    assert np.allclose(dense(with_attributes(graph, x, 0.0), 40), weights)
    near = np.flatnonzero(weights[5])
    unit = np.median(((x[near] - x[5]) ** 2).sum(1))
    assert local_gamma(graph, x, 5) == pytest.approx(1 / unit)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda g: with_labels(g, [0, 1]), "labels of the shape"),
        (lambda g: with_labels(g, np.zeros(40), 1.5), "between 0 and 1"),
        (lambda g: with_labels(g, np.full(40, np.nan)), "NaN"),
        (lambda g: with_labels(g, lambda rows: [0]).rows(np.arange(3)), "one label for each"),
        (lambda g: with_attributes(g, np.zeros((3, 2)), 1.0), "attributes of the shape"),
        (lambda g: with_attributes(g, np.full((40, 2), np.inf), 1.0), "infinity"),
        (lambda g: with_attributes(g, np.zeros((40, 2)), -1.0), "gamma"),
        (lambda g: local_gamma(g, np.zeros((40, 2)), 0), "give gamma"),
        (lambda g: noisy_labels(np.ones(3, bool), 1.2, 0, np.random.default_rng(0)), "chances"),
    ],
)
def test_bad_weights(random_graph, make, words) -> None:
    with pytest.raises(ArgumentError, match=words):
        make(random_graph(0)[0])
