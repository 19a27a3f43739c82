"""Graph descriptors against networkx."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from graphdiff.core.errors import ArgumentError
from graphdiff.data.graphs import Graphs
from graphdiff.graph.metrics.descriptors import (
    clustering_histogram,
    degree_histogram,
    describe,
    orbit_means,
    remove_isolated,
    spectral_histogram,
)
from graphdiff.graph.metrics.orbits import orbit_counts


def pack(graphs: list[nx.Graph]) -> Graphs:
    return Graphs.from_lists([g.number_of_nodes() for g in graphs], [list(g.edges) for g in graphs])


@pytest.fixture(scope="module")
def sample() -> list[nx.Graph]:
    graphs = [nx.gnp_random_graph(n, 0.4, seed=n) for n in (3, 5, 8, 8, 12, 21, 30)]
    return [*graphs, nx.path_graph(6), nx.star_graph(4), nx.empty_graph(2), nx.complete_graph(5)]


def test_degrees(sample: list[nx.Graph]) -> None:
    found = degree_histogram(pack(sample))
    for row, graph in zip(found, sample, strict=True):
        want = np.asarray(nx.degree_histogram(graph)) / graph.number_of_nodes()
        np.testing.assert_allclose(row[: len(want)], want)
        assert not row[len(want) :].any()


def test_clustering(sample: list[nx.Graph]) -> None:
    found = clustering_histogram(pack(sample))
    for row, graph in zip(found, sample, strict=True):
        values = list(nx.clustering(graph).values())
        want, _ = np.histogram(values, bins=100, range=(0.0, 1.0))
        np.testing.assert_allclose(row, want / want.sum())


def test_spectrum(sample: list[nx.Graph]) -> None:
    found = spectral_histogram(pack(sample))
    for row, graph in zip(found, sample, strict=True):
        values = np.linalg.eigvalsh(nx.normalized_laplacian_matrix(graph).toarray())
        want, _ = np.histogram(np.clip(values, -1e-5, 2), bins=200, range=(-1e-5, 2))
        np.testing.assert_allclose(row, want / want.sum())


def test_the_eigenvalue_two_of_bipartite_graphs_is_kept() -> None:
    row = spectral_histogram(pack([nx.path_graph(n) for n in range(2, 30)]))
    assert (row[:, -1] > 0).all()
    np.testing.assert_allclose(row.sum(1), 1.0)


def test_orbit_means(sample: list[nx.Graph]) -> None:
    found = orbit_means(pack(sample))
    for row, graph in zip(found, sample, strict=True):
        np.testing.assert_allclose(row, orbit_counts(nx.to_numpy_array(graph)[None])[0].mean(0))


def test_isolated_nodes_go_as_published() -> None:
    graphs = Graphs.from_lists(
        [5, 3, 2], [[(1, 3), (3, 4)], [], [(0, 1)]], [[0, 1, 2, 3, 4], [5, 6, 7], [8, 9]],
        [[1, 2], [], [3]],
    )  # fmt: skip
    out = remove_isolated(graphs).validate()
    assert out.num_nodes.tolist() == [3, 1, 2]
    assert out.edges.tolist() == [[0, 1], [1, 2], [0, 1]]
    assert out.node_type.tolist() == [1, 3, 4, 5, 8, 9]
    assert out.edge_type.tolist() == [1, 2, 3]


def test_common_width_and_unknown_name(sample: list[nx.Graph]) -> None:
    a, b = describe("degree", pack(sample[:2]), pack(sample))
    assert a.shape[1] == b.shape[1]
    with pytest.raises(ArgumentError, match="unknown graph descriptor 'colour'"):
        describe("colour", pack(sample))
