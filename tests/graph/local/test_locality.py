"""Work and memory are those of the touched part: counted, and the same in graphs of any size."""

from __future__ import annotations

import threading
import tracemalloc

import networkx as nx
import numpy as np
import pytest

from graphdiff.graph.local import (
    flow_diffusion,
    heat_kernel,
    local_cluster,
    local_graph,
    pagerank,
    planted_cluster,
    with_labels,
)

QUERIES = {
    "flow": lambda graph: flow_diffusion(graph, 0, 400.0),
    "push": lambda graph: flow_diffusion(graph, 0, 400.0, solver="push"),
    "pagerank": lambda graph: pagerank(graph, 0, epsilon=1e-4),
    "heat": lambda graph: heat_kernel(graph, 0, epsilon=1e-3),
}


def core_and_tails(n: int):
    """A core of 100 nodes, always the same, with two tails that have all the others."""
    core = nx.connected_watts_strogatz_graph(100, 8, 0.3, seed=4)
    tails = np.stack([np.arange(100, n - 2), np.arange(102, n)], 1)
    bridges = np.array([[3, 100], [50, 100], [70, 101]])
    return local_graph(np.concatenate([np.array(core.edges), tails, bridges]), nodes=n)


@pytest.fixture(scope="module")
def graphs():
    return {n: core_and_tails(n) for n in (1_000, 10_000, 100_000)}


@pytest.mark.parametrize("method", QUERIES)
@pytest.mark.parametrize("labelled", [False, True])
def test_counted_work_is_the_same_in_graphs_of_any_size(graphs, method, labelled) -> None:
    found = []
    for graph in graphs.values():
        labels = lambda rows: rows % 7 == 0  # noqa: E731
        where = with_labels(graph, labels, 0.3) if labelled else graph
        found.append(QUERIES[method](where))
    first = found[0]
    assert first.work.touched < 500
    for other in found[1:]:
        assert other.work == first.work
        assert np.array_equal(other.rows, first.rows)
        assert np.array_equal(other.values, first.values)


def test_clusters_and_their_work_are_the_same(graphs) -> None:
    for method in ("flow", "pagerank", "heat"):
        found = [local_cluster(g, 0, method, volume=200.0, time=5.0) for g in graphs.values()]
        assert len({tuple(c.nodes) for c in found}) == 1, method
        assert len({repr(c.work) for c in found}) == 1, method
        assert set(range(100)) <= set(found[0].nodes)


def test_planted_graphs_of_three_sizes() -> None:
    """In random graphs nothing is equal, but nothing grows either."""
    for method, limit in (("flow", 1.3), ("pagerank", 1.6), ("heat", 1.6)):
        work = []
        for n in (10_000, 100_000):
            rng = np.random.default_rng(n)
            graph = planted_cluster(n, 100, inside=12, leaving=2, outside=6, rng=rng)
            query = {"flow": lambda g: flow_diffusion(g, 0, 2000.0),
                     "pagerank": lambda g: pagerank(g, 0, epsilon=1e-4),
                     "heat": lambda g: heat_kernel(g, 0, epsilon=1e-3)}[method]  # fmt: skip
            work.append(query(graph).work.read)
        assert work[1] < limit * work[0], (method, work)


@pytest.mark.parametrize("method", QUERIES)
def test_memory_is_that_of_the_touched_part(graphs, method) -> None:
    peaks = {}
    for n, graph in graphs.items():
        QUERIES[method](graph)  # the array of the graph is made once
        tracemalloc.start()
        QUERIES[method](graph)
        peaks[n] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[100_000] < 1.1 * peaks[1_000] + 4096
    assert peaks[100_000] < 100_000  # bytes, below one for each node


def test_scratch_is_reset_after_success_and_after_errors(graphs) -> None:
    graph = core_and_tails(1_000)
    for _ in range(3):
        for query in QUERIES.values():
            query(graph)
        with pytest.raises(ValueError, match="settled"):
            flow_diffusion(graph, 0, 400.0, max_rounds=1)
    assert len(graph._spare) == 1
    assert (graph._spare[0] == -1).all()


def test_queries_in_threads_do_not_disturb_each_other(graphs) -> None:
    graph = graphs[10_000]
    alone = [flow_diffusion(graph, seed, 300.0).values for seed in range(8)]
    found: dict[int, np.ndarray] = {}

    def ask(seed: int) -> None:
        for _ in range(5):
            found[seed] = flow_diffusion(graph, seed, 300.0).values

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(alone[seed], found[seed]) for seed in range(8))
    assert all((spare == -1).all() for spare in graph._spare)
