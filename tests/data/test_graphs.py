from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data import Dataset, Graphs
from graphdiff.data.dataset import Strings
from graphdiff.data.graphs import concat


@st.composite
def packed(draw: st.DrawFn, typed: bool | None = None) -> Graphs:
    typed = draw(st.booleans()) if typed is None else typed
    sizes, edges, kinds, orders = [], [], [], []
    for _ in range(draw(st.integers(1, 4))):
        n = draw(st.integers(1, 6))
        pairs = [(u, v) for u in range(n) for v in range(u + 1, n)]
        chosen = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
        sizes.append(n)
        edges.append(np.asarray(chosen).reshape(-1, 2))
        kinds.append(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
        orders.append(draw(st.lists(st.integers(1, 3), min_size=len(chosen), max_size=len(chosen))))
    return Graphs.from_lists(sizes, edges, kinds if typed else None, orders if typed else None)


PATH = Graphs.from_lists([3, 1, 2], [[(1, 0), (2, 1)], [], [(0, 1)]])


@given(packed())
@settings(max_examples=50, deadline=None)
def test_dense_round_trip(graphs: Graphs) -> None:
    kinds, adj, mask = graphs.dense(to=7)
    typed = graphs.node_type is not None
    back = Graphs.from_dense(adj, mask, kinds if typed else None, edge_types=typed)
    assert back == graphs
    assert (kinds[~mask] == -1).all()
    assert (adj == adj.transpose(0, 2, 1)).all()


@given(packed(), st.data())
@settings(max_examples=30, deadline=None)
def test_index_and_concat(graphs: Graphs, data: st.DataObject) -> None:
    index = data.draw(st.lists(st.integers(0, len(graphs) - 1), min_size=1))
    assert graphs[index] == concat([graphs[i] for i in index])
    assert concat(list(graphs)) == graphs
    assert graphs[np.ones(len(graphs), bool)] == graphs


@pytest.mark.parametrize("mmap", [True, False])
def test_save_and_load(tmp_path, mmap: bool) -> None:
    typed = Graphs.from_dense([[[0, 2], [2, 0]]], node_type=[[1, 3]])
    for graphs in (PATH, typed):
        assert Graphs.load(graphs.save(tmp_path / "g.npz"), mmap=mmap) == graphs
    assert isinstance(Graphs.load(tmp_path / "g.npz").edges.base, np.memmap)
    assert not list(tmp_path.glob(".tmp-*"))


def test_hash_sees_content_only(tmp_path) -> None:
    other = Graphs.from_lists([3, 1, 2], [[(2, 1), (0, 1)], [], [(1, 0)]])
    assert other.sha256() == PATH.sha256() == Graphs.load(PATH.save(tmp_path / "g.npz")).sha256()
    assert PATH[[0, 1]].sha256() != PATH[[1, 0]].sha256()


def test_dense_matches_networkx() -> None:
    graphs = [nx.path_graph(3), nx.empty_graph(1), nx.cycle_graph(5)]
    _, adj, _ = Graphs.from_networkx(graphs).dense()
    for graph, found in zip(graphs, adj, strict=True):
        n = len(graph)
        assert (nx.to_numpy_array(graph) == found[:n, :n]).all()
        assert not found[n:].any()


def test_one_node_and_disconnected_graphs_are_kept() -> None:
    assert PATH[1].dense()[1].tolist() == [[[0]]]
    apart = Graphs.from_networkx([nx.disjoint_union(nx.path_graph(2), nx.path_graph(3))])
    assert apart.num_nodes.tolist() == [5]
    assert apart.num_edges.tolist() == [3]


def test_large_graph_is_named() -> None:
    with pytest.raises(DataError, match=r"graph 0 .*more nodes than the maximum of 2: raise"):
        PATH.dense(to=2)


@pytest.mark.parametrize(
    ("sizes", "edges", "message"),
    [
        ([2, 2], [[(0, 1)], [(1, 1)]], "graph 1 has a self-loop"),
        ([2], [[(0, 1), (1, 0)]], "graph 0 has a repeated edge"),
        ([2], [[(0, 2)]], "graph 0 has an edge to a node that does not exist"),
        ([0], [[]], "graph 0 has no node"),
    ],
)
def test_bad_edges(sizes, edges, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Graphs.from_lists(sizes, edges)


@pytest.mark.parametrize(
    ("adj", "error", "message"),
    [
        (np.eye(2)[None], DataError, "graph 0 has a self-loop: zero the diagonal"),
        (np.array([[[0, 1], [0, 0]]]), DataError, "graph 0 is not symmetric"),
        (np.array([[[0, np.nan], [np.nan, 0]]]), DataError, "graph 0 has NaN"),
        (np.array([[[0, 0.4], [0.4, 0]]]), DataError, "not whole numbers"),
        (np.zeros((2, 2)), ArgumentError, r"shape \[graphs, n, n\], found \[2, 2\]"),
        (np.array([[["a"]]]), ArgumentError, "whole numbers, found"),
    ],
)
def test_bad_matrices(adj, error, message: str) -> None:
    with pytest.raises(error, match=message):
        Graphs.from_dense(adj)


def test_wrong_dtype_and_shape_are_named() -> None:
    one = np.ones(1, np.int64)
    with pytest.raises(ArgumentError, match=r"Graphs\.edges must be int32 .* found int64"):
        Graphs(one, np.zeros(2, np.int64), np.zeros((0, 2), np.int64))
    with pytest.raises(ArgumentError, match=r"node_type must be int8 of shape \[1\]"):
        Graphs(one, np.zeros(2, np.int64), np.zeros((0, 2), np.int32), np.zeros(2, np.int8))
    with pytest.raises(ArgumentError, match="edge_ptr must run from 0"):
        Graphs(one, np.ones(2, np.int64), np.zeros((0, 2), np.int32))


def test_truncated_and_foreign_files(tmp_path) -> None:
    path = PATH.save(tmp_path / "g.npz")
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match=r"g\.npz is truncated or no npz"):
        Graphs.load(path)
    np.savez(tmp_path / "h.npz", a=np.zeros(2))
    with pytest.raises(DataError, match=r"h\.npz holds no array 'num_nodes' \(found: a\)"):
        Graphs.load(tmp_path / "h.npz")
    with pytest.raises(DataError, match="does not exist"):
        Graphs.load(tmp_path / "none.npz")


def test_unwritable_folder(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        PATH.save(tmp_path / "file" / "g.npz")


def test_empty_data_set_and_unknown_split() -> None:
    with pytest.raises(DataError, match="data set 'none' is empty"):
        Dataset("none", Graphs.empty(), {})
    data = Dataset("p", PATH, {"train": np.arange(2), "test": np.arange(2, 3)})
    with pytest.raises(ArgumentError, match="no split 'val'; it has train, test"):
        data.split("val")
    with pytest.raises(ArgumentError, match="no molecules"):
        data.split_smiles("test")
    with pytest.raises(DataError, match="points at graph 7"):
        Dataset("p", PATH, {"train": np.array([7])})
    assert data.fingerprint("test")["n"] == 1


def test_strings() -> None:
    items = ["C", "", "CCO"]
    text = Strings.pack(items)
    assert list(text) == items
    assert text[-1] == "CCO"
    assert text[:2] == ["C", ""]
    with pytest.raises(IndexError):
        text[3]
