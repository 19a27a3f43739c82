"""Weights from labels and attributes."""

from __future__ import annotations

import tracemalloc

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


def test_known_labels_are_not_cut_to_fit(random_graph, reweighted) -> None:
    """A longer word among letters, and a fraction among whole numbers, are labels of their own."""
    graph, weights = random_graph(0)
    apart = np.zeros(40, int)
    apart[[3, 8]] = 1, 2
    for given, known in (
        (np.array(["a"] * 40), {8: "ab", 3: "abc"}),
        (np.zeros(40, int), {3: 0.5, 8: 0.25}),
        (np.zeros(40, bool), {3: 2, 8: 3}),
        (dict.fromkeys(range(40), "a"), {3: "abc", 8: "ab"}),
    ):
        found = with_labels(graph, given, 0.05, known=known)
        assert np.allclose(dense(found, 40), reweighted(weights, apart, 0.05))
    with pytest.raises(ArgumentError, match="labels are numbers, known ones words such as 'a'"):
        with_labels(graph, np.zeros(40, int), known={3: "a"}).rows(np.array([3]))


def test_names_of_a_mapping_are_those_of_the_graph() -> None:
    graph = local_graph([("a", "b"), ("b", "c")])
    found = dense(with_labels(graph, {"c": 1, "b": 0, "a": 0}, 0.5), 3)
    assert found[0, 1] == 1
    assert found[1, 2] == 0.5
    partial = with_labels(graph, {"a": 0, "b": 1})
    assert partial.rows(graph.find("a"))[2].tolist() == [0.05]
    with pytest.raises(ArgumentError, match="1 of 2 nodes that were reached have no label, 'c'"):
        partial.rows(graph.find("c"))


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


class Counted(dict):
    """A mapping that knows who was looked up."""

    def __init__(self, *items) -> None:
        super().__init__(*items)
        self.asked: list[int] = []

    def __getitem__(self, name):
        self.asked.append(name)
        return super().__getitem__(name)


def test_a_mapping_is_looked_up_for_reached_nodes_only() -> None:
    rng = np.random.default_rng(0)
    graph = planted_cluster(5000, 60, inside=10, leaving=1, outside=5, rng=rng)
    labels = Counted((k, int(k < 60)) for k in range(5000))
    found = flow_diffusion(with_labels(graph, labels), 0, 500.0)
    assert set(labels.asked) == set(found.rows.tolist())
    assert len(set(labels.asked)) < 1000


@pytest.mark.parametrize("kind", ["labels", "dense", "sparse"])
def test_tables_are_read_where_nodes_are_reached(kind) -> None:
    """What is missing elsewhere is not seen, and nothing of the size of the table is made."""
    rng = np.random.default_rng(0)
    graph = planted_cluster(100_000, 60, inside=10, leaving=1, outside=5, rng=rng)
    table = rng.normal(size=(graph.nodes, 4))

    def view(values: np.ndarray):
        if kind == "labels":
            return with_labels(graph, np.sign(values[:, 0]), 0.5)
        return with_attributes(graph, values if kind == "dense" else sparse.csr_matrix(values), 0.1)

    found = flow_diffusion(view(table), 0, 300.0)
    far = np.ones(graph.nodes, bool)
    far[found.rows] = False
    gaps = np.where(far[:, None], np.nan, table)
    assert np.array_equal(flow_diffusion(view(gaps), 0, 300.0).values, found.values)
    gaps[found.rows[3]] = np.nan
    with pytest.raises(ArgumentError, match="NaN"):
        flow_diffusion(view(gaps), 0, 300.0)
    if kind == "labels":
        given, make = np.sign(table[:, 0]), with_labels
    else:
        given = table if kind == "dense" else sparse.csr_matrix(table)
        make = lambda g, x: with_attributes(g, x, 0.1)  # noqa: E731
    tracemalloc.start()
    make(graph, given).rows(np.arange(5))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < graph.nodes / 2  # bytes


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


@pytest.mark.parametrize("kind", [np.uint8, np.int8, bool, np.float32])
def test_attributes_of_every_type_of_number(random_graph, kind) -> None:
    """Whole numbers do not wrap around, and truth values are 0 and 1."""
    graph, weights = random_graph(4)
    x = np.random.default_rng(0).integers(0, 2 if kind is bool else 100, (40, 3))
    wanted = weights * np.exp(-1e-3 * ((x[:, None] - x[None]) ** 2).sum(-1))
    table = x.astype(kind)
    for given in (table, sparse.csr_matrix(table), sparse.coo_matrix(table)):
        assert np.allclose(dense(with_attributes(graph, given, 1e-3), 40), wanted)
        near = np.flatnonzero(weights[5])
        unit = np.median(((x[near] - x[5]) ** 2).sum(1))
        assert local_gamma(graph, given, 5) == pytest.approx(1 / unit)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda g: with_labels(g, [0, 1]), "labels of the shape"),
        (lambda g: with_labels(g, np.zeros(40), 1.5), "between 0 and 1"),
        (lambda g: with_labels(g, np.full(40, np.nan)).rows(np.arange(3)), "NaN"),
        (lambda g: with_labels(g, lambda rows: [0]).rows(np.arange(3)), "one label for each"),
        (lambda g: with_attributes(g, np.zeros((3, 2)), 1.0), "attributes of the shape"),
        (
            lambda g: with_attributes(g, np.full((40, 2), np.inf), 1.0).rows(np.arange(3)),
            "infinity",
        ),
        (lambda g: with_attributes(g, np.full((40, 2), "a"), 1.0), "must be numbers"),
        (lambda g: with_attributes(g, np.zeros((40, 2)), -1.0), "gamma"),
        (lambda g: local_gamma(g, np.zeros((40, 2)), 0), "give gamma"),
        (lambda g: noisy_labels(np.ones(3, bool), 1.2, 0, np.random.default_rng(0)), "chances"),
    ],
)
def test_bad_weights(random_graph, make, words) -> None:
    with pytest.raises(ArgumentError, match=words):
        make(random_graph(0)[0])
