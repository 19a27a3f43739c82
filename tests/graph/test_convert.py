from __future__ import annotations

import importlib.util

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data
from torch_geometric.utils import to_networkx as pyg_to_networkx

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data import Graphs
from graphdiff.graph import convert
from graphdiff.graph.molecules import QM9_ATOMS, to_smiles

needs_dgl = pytest.mark.skipif(
    importlib.util.find_spec("dgl") is None, reason="DGL is not installed (extra dgl)"
)


@st.composite
def packed(draw: st.DrawFn) -> Graphs:
    """Small graphs, with or without classes, isolated nodes included."""
    typed = draw(st.booleans())
    sizes, edges, kinds, orders = [], [], [], []
    for _ in range(draw(st.integers(1, 3))):
        n = draw(st.integers(1, 5))
        pairs = [(u, v) for u in range(n) for v in range(u + 1, n)]
        chosen = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
        m = len(chosen)
        sizes.append(n)
        edges.append(np.asarray(chosen).reshape(-1, 2))
        kinds.append(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
        orders.append(draw(st.lists(st.integers(1, 3), min_size=m, max_size=m)))
    return Graphs.from_lists(sizes, edges, kinds if typed else None, orders if typed else None)


MANY = settings(max_examples=30, deadline=None)
TYPED = Graphs.from_lists([3, 1], [[(0, 1), (1, 2)], []], [[0, 2, 1], [3]], [[1, 3], []])


def plain(graphs: Graphs) -> Graphs:
    return Graphs(graphs.num_nodes, graphs.edge_ptr, graphs.edges)


def same(found: Graphs, wanted: Graphs) -> bool:
    """Equal; edge classes of sets without any edge cannot be told apart from none."""
    if not len(wanted.edges):
        strip = Graphs(wanted.num_nodes, wanted.edge_ptr, wanted.edges, wanted.node_type)
        return strip == Graphs(found.num_nodes, found.edge_ptr, found.edges, found.node_type)
    return found == wanted


@given(packed())
@MANY
def test_networkx_round_trip(graphs: Graphs) -> None:
    assert same(convert.from_networkx(convert.to_networkx(graphs)), graphs)


@given(packed())
@MANY
def test_pyg_round_trip(graphs: Graphs) -> None:
    assert same(convert.from_pyg(convert.to_pyg(graphs)), graphs)
    assert same(convert.from_pyg(convert.to_pyg_batch(graphs)), graphs)


@needs_dgl
@given(packed())
@MANY
def test_dgl_round_trip(graphs: Graphs) -> None:
    import dgl

    items = convert.to_dgl(graphs)
    assert same(convert.from_dgl(items), graphs)
    assert same(convert.from_dgl(dgl.batch(items)), graphs)


@given(packed())
@MANY
def test_state_round_trip(graphs: Graphs) -> None:
    typed = graphs.node_type is not None
    for classes in (None, 5):
        state = convert.to_state(graphs, classes=classes, to=6)
        assert state.batch_size == len(graphs)
        assert convert.from_state(state, typed=typed) == graphs
    assert [s["adj"].shape[1] for s in convert.to_states(graphs)] == graphs.num_nodes.tolist()


def test_rdkit_round_trip() -> None:
    mols = convert.to_rdkit(TYPED, QM9_ATOMS)
    assert to_smiles(mols[1]) == "F"
    sane = Graphs.from_lists([3, 1], [[(0, 1), (1, 2)], []], [[0, 0, 1], [3]], [[1, 3], []])
    from rdkit import Chem

    mols = [Chem.Mol(m) for m in convert.to_rdkit(sane, QM9_ATOMS)]
    for mol in mols:
        Chem.SanitizeMol(mol)
    assert convert.from_rdkit(mols, QM9_ATOMS) == sane
    with pytest.raises(DataError, match="molecule 1 has the element Cl"):
        convert.from_rdkit([mols[0], Chem.MolFromSmiles("CCl")], QM9_ATOMS)


def test_pyg_agrees_with_its_own_converter() -> None:
    graphs = Graphs.from_networkx([nx.karate_club_graph()])
    theirs = pyg_to_networkx(convert.to_pyg(graphs)[0], to_undirected=True)
    assert {*map(frozenset, theirs.edges)} == {*map(frozenset, nx.karate_club_graph().edges)}
    batch = convert.to_pyg_batch(TYPED)
    assert isinstance(batch, Batch)
    assert batch.batch.tolist() == [0, 0, 0, 1]
    assert batch.x.tolist() == [[0], [2], [1], [3]]
    assert batch.edge_attr.tolist() == [1, 3, 1, 3]


def test_pyg_one_hot_features() -> None:
    index = torch.tensor([[0, 1], [1, 0]])
    data = Data(
        edge_index=index, x=torch.eye(3)[[2, 0]], edge_attr=torch.eye(3)[[1, 1]], num_nodes=2
    )
    graphs = convert.from_pyg(data)
    assert graphs.node_type.tolist() == [2, 0]
    assert graphs.edge_type.tolist() == [2]


@needs_dgl
def test_dgl_keeps_isolated_nodes_and_degrees() -> None:
    graph = convert.to_dgl(Graphs.from_lists([4], [[(0, 1), (0, 2)]]))[0]
    assert graph.num_nodes() == 4
    assert graph.in_degrees().tolist() == [2, 1, 1, 0]


@needs_dgl
def test_dgl_refuses_directed_and_heterogeneous() -> None:
    import dgl

    with pytest.raises(DataError, match="graph 0 is directed"):
        convert.from_dgl([dgl.graph(([0], [1]))])
    hetero = dgl.heterograph({("a", "r", "b"): ([0], [0])})
    with pytest.raises(DataError, match="several node or edge types"):
        convert.from_dgl([hetero])


def test_missing_dgl_names_the_extra(monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "dgl", None)
    with pytest.raises(ArgumentError, match=r"install the extra, graphdiffusion\[dgl\]"):
        convert.to_dgl(TYPED)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (nx.DiGraph([(0, 1)]), "graph 1 is a DiGraph, expected an undirected simple graph"),
        (nx.MultiGraph([(0, 1)]), "graph 1 is a MultiGraph"),
        (nx.Graph([(0, 0)]), "graph 1 has a self-loop: remove loops"),
        (nx.Graph(), "graph 1 has no node"),
    ],
)
def test_networkx_bad_input(graph, message: str) -> None:
    with pytest.raises(DataError, match=message):
        convert.from_networkx([nx.path_graph(2), graph])


def test_networkx_labels_and_classes() -> None:
    graph = nx.Graph()
    graph.add_edge("b", "a", type=2)
    found = convert.from_networkx([graph])
    assert found.edges.tolist() == [[0, 1]]
    assert found.edge_type.tolist() == [2]
    nx.set_node_attributes(graph, {"a": "x", "b": "y"}, "type")
    with pytest.raises(DataError, match="'type' of graph 0 must hold whole numbers"):
        convert.from_networkx([graph])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edge_index": [[0], [1]]}, "graph 0 is directed"),
        ({"edge_index": [[0, 1, 1], [1, 0, 1]]}, "graph 0 has a self-loop"),
        ({"x": [[float("nan")], [0.0]]}, "graph 0 has NaN"),
        ({"x": [[0.5, 0.5], [1.0, 0.0]]}, "graph 0 .*not one-hot"),
        ({"x": [[0.5], [1.0]]}, "must hold whole numbers"),
    ],
)
def test_pyg_bad_input(change, message: str) -> None:
    good = {"edge_index": [[0, 1], [1, 0]]} | change
    data = Data(**{k: torch.tensor(v) for k, v in good.items()}, num_nodes=2)
    with pytest.raises(DataError, match=message):
        convert.from_pyg([data])


def test_pyg_partly_typed() -> None:
    items = convert.to_pyg(TYPED)
    items[1].x = None
    with pytest.raises(DataError, match="graph 1 has no x but others do"):
        convert.from_pyg(items)


def test_state_bad_input() -> None:
    state = convert.to_state(TYPED, classes=4)
    with pytest.raises(DataError, match=r"node 1 of graph 0 is not one-hot: .*quantise"):
        convert.from_state(state.replace(x=state["x"] * torch.tensor([1.0, 0.5, 1])[None, :, None]))
    with pytest.raises(DataError, match=r"graph 0 .*NaN"):
        convert.from_state(state.replace(adj=state["adj"] * torch.nan))
    with pytest.raises(DataError, match="graph 0 has more nodes than the maximum of 2"):
        convert.to_state(TYPED, to=2)
    with pytest.raises(ArgumentError, match="node class 3, but classes=3"):
        convert.to_state(TYPED, classes=3)


def test_state_names_ids_and_padding() -> None:
    state = convert.to_state(TYPED, ids=torch.tensor([7, 9]), names=("atoms", "bonds"), to=4)
    assert state.ids.tolist() == [7, 9]
    assert state["atoms"].tolist() == [[0, 2, 1, 0], [3, 0, 0, 0]]
    assert state.masks["bonds"].sum(1).tolist() == [3, 1]
    assert plain(convert.from_state(state, names=("atoms", "bonds"))) == plain(TYPED)
