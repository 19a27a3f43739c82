"""Graphs from everywhere, and what is wrong with some."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
from scipy import sparse

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.graph.local import LocalGraph, local_graph


def dense(graph: LocalGraph) -> np.ndarray:
    counts, ends, weights = graph.rows(np.arange(graph.nodes))
    full = np.zeros((graph.nodes, graph.nodes))
    full[np.repeat(np.arange(graph.nodes), counts), ends] = weights
    return full


@pytest.fixture
def matrix() -> np.ndarray:
    rng = np.random.default_rng(0)
    upper = np.triu((rng.random((12, 12)) < 0.3) * rng.random((12, 12)), 1)
    return upper + upper.T


def test_all_sources_give_the_same_graph(matrix) -> None:
    i, j = np.nonzero(np.triu(matrix))
    w = matrix[i, j]
    graph = nx.Graph()
    graph.add_nodes_from(range(12))
    graph.add_weighted_edges_from(zip(i.tolist(), j.tolist(), w.tolist(), strict=True))
    index = torch.tensor(np.stack([np.concatenate([i, j]), np.concatenate([j, i])]))
    data = pytest.importorskip("torch_geometric.data").Data(
        edge_index=index, edge_weight=torch.tensor(np.concatenate([w, w])), num_nodes=12
    )
    sources = {
        "csr": local_graph(sparse.csr_matrix(matrix)),
        "coo": local_graph(sparse.coo_matrix(matrix)),
        "upper": local_graph(sparse.csr_matrix(np.triu(matrix))),
        "array": local_graph(np.stack([i, j], 1), weights=w, nodes=12),
        "triples": local_graph([(a, b, c) for a, b, c in zip(i, j, w, strict=True)]),
        "networkx": local_graph(graph),
        "pyg": local_graph(data),
    }
    for name, found in sources.items():
        assert np.array_equal(dense(found), matrix), name
        assert np.allclose(found.degree, matrix.sum(1)), name
        assert found.volume == pytest.approx(matrix.sum())
        assert found.names is None
        assert found.edges == len(i)


def test_unweighted_graphs_store_no_weights() -> None:
    found = local_graph(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]))
    assert found.weights is None
    assert found.degree.tolist() == [1, 2, 1]
    assert found.notes == ()


def test_loops_repeats_and_zero_weights_are_mended_and_named() -> None:
    edges = np.array([[0, 0], [0, 1], [0, 1], [1, 2], [2, 1], [3, 3]])
    found = local_graph(edges)
    assert found.degree.tolist() == [1, 2, 1, 0]
    assert "2 self-loops dropped" in found.notes
    assert "1 repeated edges merged" in found.notes
    weighted = local_graph(edges, weights=[5, 1, 2, 4, 4, 1])
    assert dense(weighted)[0, 1] == 3
    assert dense(weighted)[1, 2] == dense(weighted)[2, 1] == 4
    assert local_graph([(0, 1), (1, 2)], weights=[1, 0]).degree.tolist() == [1, 1, 0]
    multi = nx.MultiGraph([("a", "b"), ("a", "b"), ("b", "c")])
    assert local_graph(multi).degree.tolist() == [1, 2, 1]


def test_one_way_edges_among_two_way_ones_are_named() -> None:
    found = local_graph(torch.tensor([[0, 1, 1], [1, 0, 2]]))
    assert found.degree.tolist() == [1, 2, 1]
    assert found.notes == ("1 edges listed in one direction only run both ways",)


def test_names() -> None:
    ids = local_graph(np.array([[10**12, 7], [7, 42]]))
    assert ids.name(ids.find([42, 10**12])) == [42, 10**12]
    assert ids.find(7).tolist() == [0]
    words = local_graph([("a", "b"), ("b", "c")])
    assert words.name(words.find(["c", "a"])) == ["c", "a"]
    tuples = local_graph(nx.grid_2d_graph(3, 3))
    assert tuples.name(tuples.find((1, 2))) == [(1, 2)]
    plain = local_graph(np.array([[0, 1]]), nodes=4)
    assert plain.nodes == 4
    assert plain.find(np.array([3, 0])).tolist() == [3, 0]
    assert plain.find(torch.tensor([3, 3])).tolist() == [3]


@pytest.mark.parametrize("seed", [4, -1, "a", 1.5, [0, 9], None])
def test_seeds_outside(seed) -> None:
    with pytest.raises(ArgumentError, match="no node of the graph"):
        local_graph(np.array([[0, 1]]), nodes=4).find(seed)
    with pytest.raises(ArgumentError, match="no node of the graph"):
        local_graph([("x", "y")]).find(seed)


@pytest.mark.parametrize(
    ("source", "more", "error", "words"),
    [
        (sparse.csr_matrix((2, 3)), {}, DataError, "square"),
        (sparse.csr_matrix(np.array([[0, 1], [2, 0]])), {}, DataError, "two directions"),
        (np.array([[0, 1]]), {"weights": [-1]}, DataError, "not negative"),
        (np.array([[0, 1]]), {"weights": [np.nan]}, DataError, "finite"),
        (np.array([[0, 1]]), {"weights": [1, 2]}, DataError, "weights of the shape"),
        (np.array([[0, 5]]), {"nodes": 3}, DataError, "allows 0 to 2"),
        (np.array([[-1, 0]]), {"nodes": 3}, DataError, "allows 0 to 2"),
        (np.array([[0.5, 1]]), {}, ArgumentError, "integer edge list"),
        (torch.zeros(3, 4, dtype=torch.int64), {}, ArgumentError, "edge_index"),
        ([(0, 1), (0, 1, 2)], {}, DataError, "all pairs or all triples"),
        ([("a", "b")], {"nodes": 4}, ArgumentError, "other names"),
        (nx.path_graph(3), {"weights": [1, 1]}, ArgumentError, "leave out"),
        ([], {}, DataError, "no nodes"),
        (3, {}, ArgumentError, "cannot read a graph"),
    ],
)
def test_bad_graphs(source, more, error, words) -> None:
    with pytest.raises(error, match=words):
        local_graph(source, **more)


def test_empty_seeds() -> None:
    with pytest.raises(ArgumentError, match="no node is given"):
        local_graph([(0, 1)]).find([])
