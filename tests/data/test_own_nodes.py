"""A user's own graph: every form that is read, what is mended, and refusals that name the line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.node_sets import load_nodes
from graphdiff.data.node_splits import read_split
from graphdiff.data.own_nodes import load_own_nodes

EDGES = "source,target\nx9,b\nb,x9\nb,Ü 1\nb,b\n"
FEATURES = "id,w1,w2\nx9,1,0\nb,0,2.5\nÜ 1,1,1\nalone,0,0\n"
LABELS = "id,label\nb,dog\nx9,cat\nÜ 1,\n"


def folder(path: Path, **files: str) -> Path:
    for name, text in files.items():
        (path / f"{name}.csv").write_text(text, "utf-8")
    return path


def edges_of(data) -> set[tuple[str, str]]:
    return {(data.node_name(u), data.node_name(v)) for u, v in data.edges.T.tolist()}


def test_csv_by_hand(tmp_path):
    data = load_own_nodes(folder(tmp_path, edges=EDGES, features=FEATURES, labels=LABELS))
    assert data.ids == ("x9", "b", "Ü 1", "alone")
    assert data.classes == ("cat", "dog")
    assert data.labels.tolist() == [0, 1, -1, -1]
    assert data.features.tolist() == [[1, 0], [0, 2.5], [1, 1], [0, 0]]
    assert edges_of(data) == {("x9", "b"), ("b", "Ü 1")}
    assert data.notes == {"self_loops": 1, "merged": 1, "isolated": 1, "unlabelled": 2}
    assert data.splits == ()
    assert data.columns == ("w1", "w2")
    assert not data.indicators


def test_headers_are_optional_and_marks_may_differ(tmp_path):
    wanted = load_own_nodes(folder(tmp_path, edges=EDGES, features=FEATURES, labels=LABELS))
    other = tmp_path / "other"
    other.mkdir()
    bare = {k: v.partition("\n")[2] for k, v in
            {"edges": EDGES, "features": FEATURES, "labels": LABELS}.items()}  # fmt: skip
    (other / "edges.tsv").write_text(bare["edges"].replace(",", "\t"), "utf-8")
    (other / "features.csv").write_text("\ufeff" + bare["features"].replace(",", ";"), "utf-8")
    (other / "labels.csv.gz").write_bytes(gzip.compress(bare["labels"].encode()))
    found = load_own_nodes(other)
    assert (found.ids, found.classes, found.notes) == (wanted.ids, wanted.classes, wanted.notes)
    assert found.columns == ()
    assert found.fingerprint()["sha256"] == wanted.fingerprint()["sha256"]


def test_nodes_that_are_called_like_a_header(tmp_path):
    data = load_own_nodes(folder(tmp_path, edges="u,v\nv,to\nu,to\n", labels="u,1\nv,0\nto,1\n"))
    assert edges_of(data) == {("u", "v"), ("v", "to"), ("u", "to")}


def test_numbers_as_ids_with_gaps(tmp_path):
    made = folder(tmp_path, edges="from,to\n10,700\n700,3\n", labels="10,2\n700,10\n3,-1\n")
    data = load_own_nodes(made)
    assert data.ids == ("10", "700", "3")
    assert data.classes == ("2", "10")
    assert data.labels.tolist() == [0, 1, -1]
    assert torch.equal(data.features, torch.eye(3))
    assert "indicator" in data.notes["features"]
    assert data.indicators


def test_without_labels_it_can_still_be_predicted_on(tmp_path):
    data = load_own_nodes(folder(tmp_path, edges="a,b\nb,c\n"))
    assert data.labels.tolist() == [-1, -1, -1]
    assert "none were given" in data.notes["labels"]


def test_splits_csv(tmp_path):
    labels = "a,x\nb,y\nc,x\nd,y\n"
    splits = "id,split_0,split_1\na,train,test\nb,val,train\nc,test,\nd,train,valid\n"
    data = load_own_nodes(folder(tmp_path, edges="a,b\nc,d\n", labels=labels, splits=splits))
    first, second = data.splits
    assert [p.tolist() for p in (first.train, first.val, first.test)] == [[0, 3], [1], [2]]
    assert [p.tolist() for p in (second.train, second.val, second.test)] == [[1], [3], [0]]
    assert read_split(tmp_path / "splits.csv", data)[1].test.tolist() == [0]


def test_nodes_without_features_are_told_by_their_names(tmp_path):
    """Another order of labels.csv is another order of nodes, and of their indicators."""
    lines = ["0,x", "1,y", "2,x"]
    names = []
    for turn in (lines, lines[::-1]):
        data = load_own_nodes(folder(tmp_path, edges="0,1\n1,2\n", labels="\n".join(turn)))
        assert data.indicators
        names.append(data.ids)
    assert names == [("0", "1", "2"), ("2", "1", "0")]


def test_what_is_unknown_is_what_the_page_lists(tmp_path):
    edges = "a,b\nb,c\nc,d\nd,e\n"
    data = load_own_nodes(folder(tmp_path, edges=edges, labels="a,NA\nb,nan\nc,NaN\nd,?\ne,\n"))
    assert data.classes == ("NA",)
    assert data.labels.tolist() == [0, -1, -1, -1, -1]
    assert "'NA' is a class" in data.notes["labels"]
    data = load_own_nodes(folder(tmp_path, edges=edges, labels="a,--1\nb,-1\nc,1\n"))
    assert data.classes == ("--1", "-1", "1")  # text: not all of them are whole numbers


def test_splits_that_cannot_be_trained_on_do_not_stand_in_the_way(tmp_path):
    splits = "a,train\nb,val\nc,test\n"
    data = load_own_nodes(folder(tmp_path, edges="a,b\nb,c\n", splits=splits))
    assert data.splits == ()
    assert data.notes["splits_left_out"] == "all: no node has a label"
    folder(tmp_path, labels="a,x\nb,y\nc,x\n", splits="id,s,t\na,test,train\nb,test,val\nc,test,\n")
    data = load_own_nodes(tmp_path)
    assert [split.train.tolist() for split in data.splits] == [[0]]
    assert data.notes["splits_left_out"] == "splits.csv, split 0 (no training nodes)"
    folder(tmp_path, splits="a,test\nb,test\nc,test\n")
    data = load_own_nodes(tmp_path)
    with pytest.raises(ArgumentError, match=r"without splits that can be trained on .*split 0"):
        read_split("public", data)
    # A file that was asked for is refused.
    with pytest.raises(DataError, match=r"splits\.csv: split 0 has no training nodes"):
        read_split(tmp_path / "splits.csv", data)


GOOD = {"edges": "a,b\nb,c\n", "features": "a,1\nb,2\nc,3\n", "labels": "a,x\nb,y\nc,x\n"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"edges": "source,target\na,b\nb,z\n"},
            r"edges\.csv, line 3: node 'z' is not among the feat",
        ),
        ({"edges": "a,b\n\nb\n"}, r"edges\.csv, line 3: found 1 columns, expected source,target"),
        ({"edges": "a,b\nb,\n"}, r"edges\.csv, line 2: an end of the edge is empty"),
        ({"edges": "start,end\na,b\n"}, r"edges\.csv, line 1: .*call the columns source,target"),
        ({"edges": ""}, r"edges\.csv is empty"),
        ({"edges": 'a,"b\nb,c\n'}, r"edges\.csv, line 2: .*quotation"),
        ({"features": "a,1\nb,2\nb,3\nc,1\n"}, r"features\.csv, line 3: node 'b' is listed twice"),
        ({"features": "a,1,2\nb,2\nc,3,1\n"}, r"features\.csv, line 2: found 1 features, .* 2"),
        ({"features": "a,1\nb,red\nc,3\n"}, r"features\.csv, line 2: column 2 holds 'red'"),
        ({"features": "a,1,1\nb,2,\nc,3,1\n"}, r"features\.csv, line 2: column 3 is empty"),
        ({"features": "a,1\nb,nan\nc,3\n"}, r"features\.csv, line 2: column 2 holds nan, .*finite"),
        ({"features": "a,1\nb,2\n,3\n"}, r"features\.csv, line 3: the id is empty"),
        ({"features": "id,w\n"}, r"header and no node"),
        ({"labels": "a,x\nq,y\n"}, r"labels\.csv, line 2: node 'q' is not among the features"),
        ({"labels": "a,x\na,y\n"}, r"labels\.csv, line 2: node 'a' is listed twice, .* line 1"),
        ({"labels": "a,x,3\n"}, r"labels\.csv, line 1: found 3 columns"),
        ({"splits": "id,split\na,train\nb,exam\nc,val\n"}, r"splits\.csv, line 3: found 'exam'"),
        ({"splits": "a,train\nz,val\n"}, r"splits\.csv, line 2: node 'z' is not in the graph"),
        ({"splits": "a,train\na,test\n"}, r"splits\.csv, line 2: node 'a' is listed twice"),
        ({"splits": "a,train\nb,test\n"}, r"splits\.csv, split 0 has no validation nodes"),
        ({"splits": "a,train,val\nb,val\n"}, r"splits\.csv, line 2: found 1 splits"),
        ({"splits": "a,train\nb,val\n", "labels": "a,x\nb,\n"}, r"line 2: node 'b' has no label"),
    ],
)
def test_refusals_name_file_and_line(tmp_path, change, words):
    with pytest.raises(DataError, match=words):
        load_own_nodes(folder(tmp_path, **{**GOOD, **change}))


def test_not_utf8(tmp_path):
    folder(tmp_path, **GOOD)
    (tmp_path / "labels.csv").write_bytes("a,caf\xe9\n".encode("latin1"))
    with pytest.raises(DataError, match=r"labels\.csv is not UTF-8"):
        load_own_nodes(tmp_path)


def test_too_many_nodes_for_indicators(tmp_path):
    lines = "".join(f"{k},{k + 1}\n" for k in range(20_001))
    with pytest.raises(DataError, match=r"20002 nodes and no features; .* so give features"):
        load_own_nodes(folder(tmp_path, edges=lines))


def test_folders_with_nothing(tmp_path):
    with pytest.raises(DataError, match=r"found nothing; expected edges\.csv"):
        load_own_nodes(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        load_own_nodes(tmp_path / "absent")
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(DataError, match=r"is no \.npz file"):
        load_own_nodes(tmp_path / "a.csv")
    with pytest.raises(ArgumentError, match="unknown graph"):
        load_nodes("texxas")


# --- npz ----------------------------------------------------------------------------------------

ARRAYS = {
    "edges": np.array([[0, 1], [1, 2], [2, 3]]),
    "node_features": np.arange(8.0).reshape(4, 2),
    "node_labels": np.array([0, 1, 0, 1]),
    "train_masks": np.array([[1, 0, 0, 0], [0, 1, 0, 0]], bool),
    "val_masks": np.array([[0, 1, 0, 0], [1, 0, 0, 0]], bool),
    "test_masks": np.array([[0, 0, 1, 1], [0, 0, 1, 1]], bool),
}


def save(path: Path, **change) -> Path:
    arrays = {k: v for k, v in {**ARRAYS, **change}.items() if v is not None}
    np.savez(path, **arrays)
    return path


def test_npz_file_and_folder(tmp_path):
    data = load_own_nodes(save(tmp_path / "g.npz"))
    assert data.name == "g"
    assert data.edges.T.tolist() == [[0, 1], [1, 2], [2, 3]]
    assert [s.train.tolist() for s in data.splits] == [[0], [1]]
    assert load_own_nodes(tmp_path).fingerprint() == data.fingerprint()


def test_npz_with_two_edges_lies_as_its_name_says(tmp_path):
    data = load_own_nodes(save(tmp_path / "a.npz", edges=np.array([[0, 1], [0, 2]])))
    assert data.edges.T.tolist() == [[0, 1], [0, 2]]
    lying = save(tmp_path / "b.npz", edges=None, edge_index=np.array([[0, 0], [1, 2]]))
    assert load_own_nodes(lying).edges.T.tolist() == [[0, 1], [0, 2]]


def test_npz_to_predict_on(tmp_path):
    masks = {f"{p}_masks": np.zeros((2, 4), bool) for p in ("train", "val", "test")}
    data = load_own_nodes(save(tmp_path / "g.npz", **masks))
    assert data.splits == ()
    assert "g.npz, split 1 (no training nodes)" in data.notes["splits_left_out"]
    with pytest.raises(DataError, match=r"g\.npz: split 0 has no training nodes"):
        read_split(tmp_path / "g.npz", data)
    data = load_own_nodes(save(tmp_path / "g.npz", node_labels=None))
    assert data.labels.tolist() == [-1] * 4
    assert data.splits == ()
    assert {"labels", "splits_left_out"} <= data.notes.keys()


def test_npz_has_the_classes_that_occur(tmp_path):
    data = load_own_nodes(save(tmp_path / "g.npz", node_labels=np.array([3, 10**9, 3, 7])))
    assert data.classes == ("3", "7", "1000000000")
    assert data.labels.tolist() == [0, 2, 0, 1]
    assert len(data.splits) == 2
    bare = load_own_nodes(save(tmp_path / "g.npz", node_features=None))
    assert bare.indicators
    assert torch.equal(bare.features, torch.eye(4))


def test_npz_with_text_labels(tmp_path):
    data = load_own_nodes(save(tmp_path / "g.npz", node_labels=np.array(["b", "a", "b", "a"])))
    assert data.classes == ("a", "b")
    assert data.labels.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train_masks": np.ones((2, 5), bool)}, r"shape \[2, 5\], the graph 4 nodes"),
        ({"train_masks": np.array([0, 2])}, "give masks, not lists"),
        ({"train_masks": np.array([[3, 0, 0, 0], [0, 1, 0, 0]])}, "other values than true and"),
        ({"val_masks": None}, "val_mask is missing"),
        ({"val_masks": np.zeros((2, 4), bool)}, "no validation nodes"),
        ({"train_masks": np.ones((2, 4), bool)}, "both train and val"),
        ({"val_masks": np.array([0, 1, 0, 0], bool)}, "several numbers of splits"),
        ({"node_labels": None, "node_features": None}, "expected the arrays edges and labels"),
        ({"edges": np.array([[0, np.inf]])}, "expected whole numbers of nodes"),
        ({"node_labels": np.array(3)}, r"labels: found int64 of shape"),
        ({"node_labels": np.array([0.5, 1, 0, 1])}, "expected whole numbers or text"),
        ({"node_labels": np.array([0, 1, 0, -1])}, "no label"),
        ({"edges": np.array([[0, 9]])}, "there are 4"),
        ({"edges": np.array([[0.5, 1]])}, "expected whole numbers of nodes"),
        ({"node_features": np.ones((3, 2))}, "expected features"),
        ({"node_features": np.array([["a"], ["b"], ["c"], ["d"]])}, "expected numbers"),
        ({"node_labels": np.array([0, None, 1, 0], object)}, "cannot read"),
    ],
)
def test_npz_refusals(tmp_path, change, words):
    path = save(tmp_path / "g.npz", **change)
    with pytest.raises(DataError, match=words) as found:
        load_own_nodes(path)
    assert "g.npz" in str(found.value)


def test_a_damaged_npz(tmp_path):
    path = save(tmp_path / "g.npz")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"g\.npz"):
        load_own_nodes(path)


# --- one array in a file ------------------------------------------------------------------------


def test_arrays_in_files_of_their_own(tmp_path):
    import scipy.sparse as sp

    x = np.array([[0, 1.5], [2, 0], [0, 0]])
    np.save(tmp_path / "edges.npy", [[0, 1], [1, 2]])
    np.save(tmp_path / "labels.npy", [1, -1, 0])
    sp.save_npz(tmp_path / "features.npz", sp.csr_matrix(x))
    masks = np.eye(3, dtype=bool)
    np.savez(tmp_path / "splits.npz", train_mask=masks[0], val_mask=masks[2], test_mask=[0, 0, 0])
    data = load_own_nodes(tmp_path)
    assert data.edges.T.tolist() == [[0, 1], [1, 2]]
    assert data.features.tolist() == x.tolist()
    assert data.labels.tolist() == [1, -1, 0]
    assert data.splits[0].val.tolist() == [2]
    assert data.notes["unlabelled"] == 1
    # The same by csv for the edges, text for the labels, [2, m] for the edges.
    (tmp_path / "edges.npy").unlink()
    folder(tmp_path, edges="0,1\n2,1\n")
    np.save(tmp_path / "labels.npy", ["b", "", "a"])
    again = load_own_nodes(tmp_path)
    assert again.fingerprint()["sha256"] == data.fingerprint()["sha256"]
    assert again.classes == ("a", "b")


def test_labels_by_row_beside_a_table_with_ids(tmp_path):
    folder(tmp_path, edges="b,a\na,9\n", features="b,1\na,2\n9,3\n")
    np.save(tmp_path / "labels.npy", [5, -1, 2])
    masks = np.eye(3, dtype=bool)
    np.savez(tmp_path / "split.npz", train_mask=masks[0], val_mask=masks[2], test_mask=[0, 0, 0])
    data = load_own_nodes(tmp_path)
    assert (data.ids, data.classes) == (("b", "a", "9"), ("2", "5"))
    assert data.labels.tolist() == [1, -1, 0]
    (tmp_path / "features.csv").unlink()  # rows are then all that names a node
    with pytest.raises(DataError, match=r"edges\.csv, line 1: node 'b' is not among the labels"):
        load_own_nodes(tmp_path)
    data = load_own_nodes(folder(tmp_path, edges="2,0\n1,2\n"))
    assert data.ids == ("0", "1", "2")
    assert data.labels.tolist() == [1, -1, 0]


def test_an_array_of_edges_beside_tables(tmp_path):
    np.savez(tmp_path / "edges.npz", np.array([[0, 1], [1, 2]]))
    assert load_own_nodes(tmp_path).edges.T.tolist() == [[0, 1], [1, 2]]
    folder(tmp_path, features="0,1\n1,2\n2,3\n", labels="0,x\n1,y\n2,x\n")
    data = load_own_nodes(tmp_path)
    assert data.features.tolist() == [[1], [2], [3]]
    assert data.classes == ("x", "y")


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("edges", [[0, 1], [1, 7]], r"edges\.npy, line 2: node '7' is not among the features"),
        ("edges", [[0, 1, 2]], r"edges\.npy has shape \[1, 3\]"),
        ("edges", [[0, 1.5], [1, 2]], r"edges\.npy holds float64"),
        ("features", [[1.0], [np.inf], [0]], r"features\.npy: row 1 holds a value"),
        ("features", [1.0, 2, 3], r"features\.npy holds float64 of shape \[3\]"),
        ("labels", [0.5, 1, 0], r"labels\.npy holds fractions"),
        ("labels", [0, 1, 0, 1], r"labels\.npy holds 4 labels, but there are 3 nodes"),
        ("labels", [0, 1], r"labels\.npy holds 2 labels, but there are 3 nodes"),
        ("labels", [0, np.inf, 1], r"labels\.npy holds fractions"),
        ("edges", [["0", "1"], ["1", "2"]], r"edges\.npy holds <U1, expected whole numbers"),
        ("edges", [[0, 1], [1, np.inf]], r"edges\.npy holds float64, expected whole numbers"),
    ],
)
def test_refusals_of_arrays(tmp_path, name, array, words):
    arrays = {"edges": [[0, 1], [1, 2]], "features": [[1.0], [2], [3]], "labels": [0, 1, 0]}
    for key, value in {**arrays, name: array}.items():
        np.save(tmp_path / f"{key}.npy", value)
    with pytest.raises(DataError, match=words):
        load_own_nodes(tmp_path)


# --- Geom-GCN -----------------------------------------------------------------------------------

NODES = "node_id\tfeature\tlabel\n0\t1,0\t0\n1\t0,1\t1\n2\t1,1\t0\n"
PAIRS = "node_id\tnode_id\n0\t1\n1\t2\n2\t2\n"


def geom(path: Path, nodes: str = NODES, pairs: str = PAIRS) -> Path:
    (path / "out1_node_feature_label.txt").write_text(nodes)
    (path / "out1_graph_edges.txt").write_text(pairs)
    (path / "splits").mkdir()
    for k in (0, 10, 2):
        masks = np.roll(np.eye(3, dtype=bool), k, 0)
        np.savez(
            path / "splits" / f"g_split_0.6_0.2_{k}.npz",
            train_mask=masks[0], val_mask=masks[1], test_mask=masks[2],
        )  # fmt: skip
    return path


def test_geom_folder(tmp_path):
    data = load_own_nodes(geom(tmp_path))
    assert data.features.tolist() == [[1, 0], [0, 1], [1, 1]]
    assert data.notes == {"self_loops": 1}
    wanted = [int(np.roll(np.eye(3), k, 0)[0].argmax()) for k in (0, 2, 10)]
    assert [s.train.tolist() for s in data.splits] == [[k] for k in wanted]


def test_geom_has_the_classes_that_occur(tmp_path):
    data = load_own_nodes(geom(tmp_path, NODES.replace("0,1\t1", f"0,1\t{10**9}")))
    assert data.classes == ("0", "1000000000")
    assert data.labels.tolist() == [0, 1, 0]
    assert len(data.splits) == 3


@pytest.mark.parametrize(
    ("nodes", "pairs", "words"),
    [
        (NODES + "1\t0,1\t1\n", PAIRS, r"label\.txt, line 5: node 1 is listed twice"),
        (NODES.replace("0,1\t", "0,1,1\t"), PAIRS, r"line 3: found 3 features, other lines have 2"),
        (NODES.replace("1,1\t0", "1,1"), PAIRS, r"line 4: expected node, features"),
        (NODES, PAIRS + "0\t7\n", r"edges\.txt, line 5: node 7 is not in"),
        (NODES, PAIRS + "0 1\n", r"edges\.txt, line 5: expected two whole numbers"),
    ],
)
def test_geom_refusals(tmp_path, nodes, pairs, words):
    with pytest.raises(DataError, match=words):
        load_own_nodes(geom(tmp_path, nodes, pairs))


def test_geom_masks_of_another_length(tmp_path):
    geom(tmp_path)
    path = tmp_path / "splits" / "g_split_0.6_0.2_2.npz"
    np.savez(path, train_mask=[1, 0], val_mask=[0, 1], test_mask=[0, 0])
    with pytest.raises(DataError, match=r"_2\.npz: train_mask has shape \[2\], the graph 3 nodes"):
        load_own_nodes(tmp_path)


# --- --split ------------------------------------------------------------------------------------


def test_random_and_public_splits(tmp_path):
    data = load_own_nodes(save(tmp_path / "g.npz"))
    assert read_split("public", data) == data.splits
    many = load_own_nodes(
        folder(tmp_path, edges="0,1\n", labels="".join(f"{k},{k % 2}\n" for k in range(40)))
    )
    with pytest.raises(ArgumentError, match="comes without splits"):
        read_split("public", many)
    made = read_split("random:60/20/20", many, count=4, seed=3)
    assert [(len(s.train), len(s.val), len(s.test)) for s in made] == [(24, 8, 8)] * 4
    assert len(read_split("random", many)) == 10
    assert [p.tolist() for p in (made[1].train,)] == [
        read_split("random:.6/.2/.2", many, seed=3)[1].train.tolist()
    ]


@pytest.mark.parametrize("word", ["random:", "random:50/50", "random:60/20/30", "random:a/b/c",
                                  "random:100/0/0", "no.csv"])  # fmt: skip
def test_wrong_splits_are_refused(tmp_path, word):
    data = load_own_nodes(save(tmp_path / "g.npz"))
    with pytest.raises(ArgumentError, match="split"):
        read_split(word, data)
