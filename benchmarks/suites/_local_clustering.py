"""What the suite ``local_clustering`` measures, one seed or one graph at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.local import (
    LocalGraph,
    RoomError,
    classify,
    local_cluster,
    local_gamma,
    local_graph,
    noisy_labels,
    planted_cluster,
)

WALKS = ("flow", "pagerank", "heat")
FIRST = 100  # seeds below were looked at while defaults were chosen


def f1(rows: NDArray[Any], truth: NDArray[np.bool_]) -> float:
    """F1 of node numbers against a mask."""
    return float(2 * truth[rows].sum() / max(1, len(rows) + truth.sum()))


def cluster_f1(
    graph: LocalGraph, seed: int, truth: NDArray[np.bool_], method: str, **more: Any
) -> float:
    """F1 of a cluster whose volume is known; 0 where the component of the seed is too small."""
    volume = float(graph.degree[truth].sum())
    try:
        return f1(local_cluster(graph, seed, method, volume=volume, **more).rows, truth)
    except RoomError:
        return f1(_component(graph, seed), truth)


def _component(graph: LocalGraph, seed: int) -> NDArray[Any]:
    """A seed whose component cannot hold the mass: the component is the cluster."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    parts = (np.ones(len(graph.indices)), graph.indices, graph.indptr)
    label = connected_components(csr_matrix(parts, shape=(graph.nodes,) * 2))[1]
    return np.flatnonzero(label == label[seed])


def draw_seed(graph: LocalGraph, truth: NDArray[np.bool_], rng: np.random.Generator) -> int:
    """A random member of a cluster that has an edge."""
    return int(rng.choice(np.flatnonzero(truth & (graph.degree > 0))))


def one_seed(
    graph: LocalGraph,
    truth: NDArray[np.bool_],
    accuracies: Sequence[float],
    rng: np.random.Generator,
    options: dict[str, Any],
    walks: Sequence[str] = WALKS,
) -> dict[str, list[float]]:
    """F1 of each method at each accuracy of labels, from one seed of a class."""
    seed = draw_seed(graph, truth, rng)
    found: dict[str, list[float]] = {}
    for walk in walks:
        more = options.get(walk, {})
        found[walk] = [cluster_f1(graph, seed, truth, walk, **more)] * len(accuracies)
        found[f"{walk}, labels"] = []
    found["labels alone"] = []
    for accuracy in accuracies:
        labels = noisy_labels(truth, accuracy, accuracy, rng)
        found["labels alone"].append(f1(np.flatnonzero(labels), truth))
        for walk in walks:
            more = options.get(walk, {})
            found[f"{walk}, labels"].append(
                cluster_f1(graph, seed, truth, walk, labels=labels, known={seed: 1}, **more)
            )
    return found


def attributed(
    graph: LocalGraph, features: Any, truth: NDArray[np.bool_], rng: np.random.Generator, few: int
) -> dict[str, float]:
    """F1 with labels of a classifier that saw ``few`` nodes inside and as many outside.

    The classifier sees nodes drawn from the whole graph, as the paper does; F1 is over all nodes.
    """
    seed = draw_seed(graph, truth, rng)
    inside = rng.choice(np.flatnonzero(truth), few, replace=False)
    outside = rng.choice(np.flatnonzero(~truth), few, replace=False)
    labels = classify(features, inside, outside)
    found = {"classifier alone": f1(np.flatnonzero(labels), truth)}
    for walk in WALKS:
        found[walk] = cluster_f1(graph, seed, truth, walk)
        found[f"{walk}, labels"] = cluster_f1(
            graph, seed, truth, walk, labels=labels, known={seed: 1}
        )
    try:
        gamma = local_gamma(graph, features, seed)
    except ArgumentError:
        gamma = 0.0
    found["flow, attributes"] = cluster_f1(
        graph, seed, truth, "flow", attributes=features, gamma=gamma
    )
    return found


def model(
    n: int, k: int, leaving: float, chances: Sequence[tuple[float, float]], seed: int
) -> dict[str, list[float]]:
    """The random model of the theory: F1 with and without labels of chances ``(a1, a0)``."""
    rng = np.random.default_rng([FIRST, seed])
    graph = planted_cluster(n, k, inside=20, leaving=leaving, outside=20, rng=rng)
    truth = np.arange(n) < k
    start = draw_seed(graph, truth, rng)
    found: dict[str, list[float]] = {
        "flow": [cluster_f1(graph, start, truth, "flow")] * len(chances),
        "flow, labels": [],
        "labels alone": [],
    }
    for a1, a0 in chances:
        labels = noisy_labels(truth, a1, a0, rng)
        found["labels alone"].append(f1(np.flatnonzero(labels), truth))
        found["flow, labels"].append(
            cluster_f1(graph, start, truth, "flow", labels=labels, known={start: 1})
        )
    return found


def growth(n: int, queries: int) -> dict[str, dict[str, Any]]:
    """Work of queries about a cluster of 200 nodes in a graph of ``n``."""
    rng = np.random.default_rng([FIRST, n])
    began = time.process_time()
    graph = planted_cluster(n, 200, inside=12, leaving=3, outside=8, rng=rng)
    built = time.process_time() - began
    seeds = rng.choice(200, queries, replace=False).tolist()
    truth = np.arange(n) < 200
    volume = 200 * 15.0
    asked: dict[str, Callable[[int], Any]] = {
        "flow": lambda s: local_cluster(graph, s, "flow", volume=volume),
        "pagerank": lambda s: local_cluster(graph, s, "pagerank", volume=volume, scales=[1.5]),
        "heat": lambda s: local_cluster(graph, s, "heat", volume=volume, scales=[1.5], time=5.0),
    }
    found = {}
    for walk, ask in asked.items():
        ask(seeds[0])  # the array of the graph is made by the first query
        began = time.process_time()
        clusters = [ask(s) for s in seeds]
        spent = (time.process_time() - began) / queries
        found[walk] = {
            "edges": [c.work.edges for c in clusters],
            "touched": [c.work.touched for c in clusters],
            "read": [c.work.read for c in clusters],
            "f1": [f1(c.rows, truth) for c in clusters],
            "ms": 1000 * spent,
            "build_s": built,
            "graph_edges": graph.edges,
        }
    return found


def read_set(name: str) -> tuple[LocalGraph, NDArray[np.int64]]:
    """A published graph and its classes."""
    from graphdiff.data.local_graphs import load_local_graph

    data = load_local_graph(name)
    return local_graph(data.adjacency), data.classes
