"""Heterogeneous graphs of users and of HeCo: what is read, mended and refused."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data import sources
from graphdiff.data.heco import HECO, load_heco
from graphdiff.data.hetero import Split, from_pyg, hetero_graph

AB = ("a", "r", "b")
EDGES = {AB: np.array([[0, 0], [1, 0], [2, 1], [3, 1]])}
LABELS = [0, 1, 0, 1]


def test_a_plain_graph():
    graph = hetero_graph(
        "a", EDGES, LABELS, features=np.eye(4)[:, :3], splits={"s": ([0, 1], [2], [3])}
    )
    assert graph.sizes == {"a": 4, "b": 2}
    assert graph.relations[AB].toarray().tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]
    assert graph.labels.tolist() == LABELS
    assert not graph.identity
    assert graph.notes == ()
    assert graph.split().train.tolist() == [0, 1]
    assert graph.split("s") is graph.split()
    with pytest.raises(ArgumentError, match="has s; name one"):
        graph.split("t")


def test_edges_may_be_a_matrix():
    matrix = sp.coo_array(([1.0, 1.0], ([0, 3], [0, 1])), shape=(4, 2))
    made = hetero_graph("a", {AB: matrix}, LABELS)
    assert made.relations[AB].toarray().tolist() == matrix.toarray().tolist()
    with pytest.raises(DataError, match="4, 5 nodes"):
        hetero_graph("a", {AB: matrix}, [*LABELS, 0])
    for bad in (-1.0, np.nan):
        matrix.data[0] = bad
        with pytest.raises(DataError, match="finite and not negative"):
            hetero_graph("a", {AB: matrix}, LABELS)


def test_ids_with_gaps_and_names_are_numbered():
    edges = {AB: [["x9", "500"], ["x1", "7"], ["x1", "500"]]}
    graph = hetero_graph("a", edges, {"x9": "cat", "x1": "dog", "lone": "dog"})
    assert graph.names["a"].tolist() == ["lone", "x1", "x9"]
    assert graph.names["b"].tolist() == ["500", "7"]
    assert graph.relations[AB].toarray().tolist() == [[0, 0], [1, 1], [1, 0]]
    assert graph.classes == ("cat", "dog")
    assert graph.labels.tolist() == [1, 1, 0]
    assert any("not 0, 1, 2" in note for note in graph.notes)
    assert any("1 of 3 'a' nodes have no edge" in note for note in graph.notes)
    given = hetero_graph("a", edges, ["dog", "cat", None], nodes={"a": ["x9", "x1", "z"]})
    assert given.relations[AB].toarray().tolist() == [[1, 0], [1, 1], [0, 0]]
    assert given.labels.tolist() == [1, 0, -1]


def test_integer_gaps():
    edges = {AB: [[10, 3], [30, 3], [20, 8]]}
    graph = hetero_graph("a", edges, {10: 0, 20: 1, 30: 0})
    assert graph.names["a"].tolist() == [10, 20, 30]
    assert graph.relations[AB].toarray().tolist() == [[1, 0], [0, 1], [1, 0]]
    with pytest.raises(DataError, match="are not among the 3 nodes"):
        hetero_graph("a", edges, [0, 1, 0])


def test_splits_by_ids_and_masks():
    edges, labels = {AB: [[10, 3], [30, 3], [20, 8], [40, 8]]}, {10: 0, 20: 1, 30: 0, 40: 1}
    graph = hetero_graph(
        "a", edges, labels, splits={"s": {"train": [20, 10], "val": [30], "test": [40]}}
    )
    assert [part.tolist() for _, part in graph.split().items()] == [[0, 1], [2], [3]]
    masks = [np.array(m, bool) for m in ([1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1])]
    same = hetero_graph("a", edges, labels, splits={"s": masks})
    assert [part.tolist() for _, part in same.split().items()] == [[0, 1], [2], [3]]
    with pytest.raises(DataError, match=r"expected \[4\]"):
        hetero_graph("a", edges, labels, splits={"s": [m[:3] for m in masks]})
    with pytest.raises(DataError, match="train, val and test"):
        hetero_graph("a", edges, labels, splits={"s": {"train": [10], "val": [20]}})


def test_several_edges_are_merged_or_counted():
    edges = {AB: [[0, 0], [0, 0], [1, 1]]}
    merged = hetero_graph("a", edges, [0, 1])
    assert merged.relations[AB].toarray().tolist() == [[1, 0], [0, 1]]
    assert any("1 edges were given several times" in note for note in merged.notes)
    counted = hetero_graph("a", edges, [0, 1], multi="count")
    assert counted.relations[AB].toarray().tolist() == [[2, 0], [0, 1]]
    assert not any("several" in note for note in counted.notes)
    with pytest.raises(ArgumentError, match="multi is"):
        hetero_graph("a", edges, [0, 1], multi="drop")  # type: ignore[arg-type]


def test_edges_within_a_type_go_both_ways():
    cites = ("a", "cites", "a")
    graph = hetero_graph("a", {cites: [[0, 1], [1, 2], [2, 1], [2, 2]]}, [0, 1, 0])
    assert graph.relations[cites].toarray().tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 1]]
    assert any("1 edges went one way only" in note for note in graph.notes)


def test_no_features_is_the_identity():
    graph = hetero_graph("a", EDGES, LABELS)
    assert graph.identity
    assert (graph.features.toarray() == np.eye(4)).all()
    assert any("no features" in note for note in graph.notes)
    with pytest.raises(DataError, match="expected"):
        hetero_graph("a", EDGES, LABELS, features=np.eye(3))
    with pytest.raises(DataError, match="2 features are NaN"):
        hetero_graph("a", EDGES, LABELS, features=np.array([[np.nan], [np.inf], [0], [1]]))


@pytest.mark.parametrize(
    ("splits", "what"),
    [
        (([0, 1], [1, 2], [3]), "train and val share 1 nodes"),
        (([0, 1], [2], [0, 3]), "train and test share 1 nodes"),
        (([0, 1], [2, 3], [3]), "val and test share 1 nodes"),
        (([0, 1, 1], [2], [3]), "more than once"),
        (([0, 2], [1], [3]), "no training node of class 1"),
        (([0, 1], [], [3]), "val is empty"),
        (([0, 1], [2], [4]), "are not among"),
        (([0, 1], [2], [-1]), "are not among"),
    ],
)
def test_bad_splits_are_refused(splits, what):
    splits = [np.array(part, np.int64) for part in splits]
    with pytest.raises(DataError, match=what):
        hetero_graph("a", EDGES, LABELS, splits={"s": splits})


def test_unlabelled_nodes_in_a_split_are_refused():
    with pytest.raises(DataError, match="1 of the 1 test nodes have no label"):
        hetero_graph("a", EDGES, [0, 1, 0, -1], splits={"s": ([0, 1], [2], [3])})


@pytest.mark.parametrize(
    ("edges", "what"),
    [
        ([[0, 1, 2, 3], [0, 0, 1, 1]], "transpose it"),
        ([[0, -1]], "negative"),
        ([[0.5, 1.0]], "whole numbers"),
        ([[np.nan, 1.0]], "whole numbers"),
        ([[9, 0]], "are not among the 4 nodes"),
    ],
)
def test_bad_edges_are_refused(edges, what):
    with pytest.raises(DataError, match=what):
        hetero_graph("a", {AB: np.array(edges)}, LABELS)


@pytest.mark.parametrize(
    ("labels", "what"),
    [([0, 0, 0, 0], "1 classes"), ([0.5, 1, 0, 1], "fractional"), ([0, 1], "not among"),
     ([[0, 1, 0, 1]], "one for each")],
)  # fmt: skip
def test_bad_labels_are_refused(labels, what):
    with pytest.raises(DataError, match=what):
        hetero_graph("a", EDGES, labels)


def test_unknown_labels_and_target():
    graph = hetero_graph("a", EDGES, [0.0, 1.0, np.nan, -1])
    assert graph.labels.tolist() == [0, 1, -1, -1]
    with pytest.raises(ArgumentError, match="is in no relation"):
        hetero_graph("c", EDGES, LABELS)


@pytest.mark.parametrize("kind", [list, np.array, lambda v: np.array(v, object)])
@pytest.mark.parametrize("unknown", [np.nan, None, -1])
def test_names_of_classes_with_unknown_ones(kind, unknown):
    graph = hetero_graph("a", EDGES, kind(["x", "y", unknown, "x"]))
    assert graph.labels.tolist() == [0, 1, -1, 0]
    assert graph.classes == ("x", "y")


def test_labels_that_are_infinite_are_refused():
    with pytest.raises(DataError, match="fractional"):
        hetero_graph("a", EDGES, [0.0, np.inf, 1.0, 0.0])


@pytest.mark.parametrize("key", [("a", "b"), "arb", ("a", "r", "b", "c"), ("a", 0, "b")])
def test_relations_have_three_names(key):
    with pytest.raises(ArgumentError, match="source type, name, target type"):
        hetero_graph("a", {key: EDGES[AB]}, LABELS)


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        (([0, 1], [1], [3]), "train and val share 1 nodes"),
        (([0, 1], [2], [4]), "test names 1 nodes that do not exist, 4 for one"),
        (([0, 1], [2], [-1]), "expected positions from 0 to 3"),
        (([0, 2], [1], [3]), "no training node of class 1"),
        (([0.0, 1.0], [2], [3]), "train is no int64 array"),
        (([0, 1], [2], [True, False, False, False]), "test is no int64 array"),
    ],
)
def test_a_split_that_is_given_is_checked(parts, what):
    graph = hetero_graph("a", EDGES, LABELS)
    with pytest.raises(DataError, match=what):
        graph.split(Split(*(np.array(part) for part in parts)))
    with pytest.raises(DataError, match="val is no int64 array"):
        graph.split(Split(np.array([0, 1]), [2], np.array([3])))
    good = Split(*(np.array(part) for part in ([0, 1], [2], [3])))
    assert graph.split(good) is good


def test_resplit_is_fair_and_repeatable():
    rng = np.random.default_rng(0)
    edges = {AB: np.stack([np.arange(90), rng.integers(0, 5, 90)], 1)}
    graph = hetero_graph("a", edges, np.arange(90) % 3)
    one, same, other = (graph.resplit(5, seed, held=20).split() for seed in (0, 0, 1))
    assert np.bincount(graph.labels[one.train]).tolist() == [5, 5, 5]
    assert len(one.val) == len(one.test) == 20
    assert (one.train == same.train).all()
    assert not np.array_equal(one.train, other.train)
    with pytest.raises(ArgumentError, match="cannot take"):
        graph.resplit(5, 0, held=40)


def test_from_pyg():
    data = pytest.importorskip("torch_geometric.data").HeteroData()
    data["a"].x, data["a"].y = torch.eye(4)[:, :2], torch.tensor(LABELS)
    data["b"].num_nodes = 3
    data["a", "r", "b"].edge_index = torch.tensor([[0, 1, 2, 3], [0, 0, 1, 1]])
    data["b", "rev_r", "a"].edge_index = data["a", "r", "b"].edge_index.flip(0)
    for part, nodes in (("train", [0, 1]), ("val", [2]), ("test", [3])):
        data["a"][f"{part}_mask"] = torch.zeros(4, dtype=torch.bool)
        data["a"][f"{part}_mask"][nodes] = True
    graph = from_pyg(data)
    assert set(graph.relations) == {AB}
    assert graph.sizes == {"a": 4, "b": 3}
    assert graph.relations[AB].toarray()[:, :2].tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]
    assert graph.features.toarray().tolist() == torch.eye(4)[:, :2].tolist()
    assert [part.tolist() for _, part in graph.split("pyg").items()] == [[0, 1], [2], [3]]
    with pytest.raises(ArgumentError, match="no classes y"):
        from_pyg(data, "b")
    del data["a"].y
    with pytest.raises(ArgumentError, match="name the target"):
        from_pyg(data)


def held(name: str) -> bool:
    return all(sources.find([entry["file"]]) for entry in sources.card(f"heco-{name}")["files"])


SIZES = {
    "dblp": {"author": 4057, "paper": 14328, "conference": 20, "term": 7723},
    "aminer": {"paper": 6564, "author": 13329, "reference": 35890},
    "acm": {"paper": 4019, "author": 7167, "subject": 60},
}


@pytest.mark.parametrize("name", HECO)
def test_heco(name):
    if not held(name):
        pytest.skip(f"GRAPHDIFF_DATA holds no heco-{name}")
    graph = load_heco(name)
    assert graph.sizes == SIZES[name]
    assert graph.identity == (name == "aminer")
    for size in (20, 40, 60):
        split = graph.split(size)
        assert np.bincount(graph.labels[split.train]).tolist() == [size] * len(graph.classes)
        assert len(split.val) == len(split.test) == 1000


def test_positives_go_both_ways():
    if not held("aminer"):
        pytest.skip("GRAPHDIFF_DATA holds no heco-aminer")
    key = ("paper", "pos", "paper")
    matrix = load_heco("aminer", positives=True).relations[key]
    one_way = sp.load_npz(sources.find(["heco_aminer/pos.npz"])).tocsr()
    assert abs(matrix - matrix.T).nnz == 0
    assert (matrix - one_way).min() >= 0
    assert key not in load_heco("aminer").relations


def test_cards_name_what_is_fetched():
    for name in HECO:
        card = sources.card(f"heco-{name}")
        assert [e["sha256"] for e in card["files"]] == [e["sha256"] for e in card["fetch"]]
        assert [e["file"] for e in card["files"]] == [e["file"] for e in card["fetch"]]


def test_files_are_checked(tmp_path):
    with pytest.raises(ArgumentError, match="no HeCo set"):
        load_heco("cora")
    with pytest.raises(DataError, match="graphdiff data fetch heco-acm"):
        load_heco("acm", tmp_path)
    (tmp_path / "heco_acm").mkdir()
    (tmp_path / "heco_acm" / "pa.txt").write_text("0\t0\n")
    found = hashlib.sha256(b"0\t0\n").hexdigest()
    with pytest.raises(DataError, match=f"wrong checksum: sha256 {found}"):
        load_heco("acm", tmp_path)
