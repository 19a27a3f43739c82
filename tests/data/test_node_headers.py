"""First lines of tables: which are headers, which are nodes, and what is said where in doubt."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphdiff.core.errors import DataError
from graphdiff.data.own_nodes import load_own_nodes

EDGES = "a,b\nb,c\nc,a\nc,d\n"
FEATURES = "a,5\nb,6\nc,7\nd,8\n"
LABELS = "a,x\nb,y\nc,x\nd,y\n"


def load(path: Path, **files: str):
    for name, text in files.items():
        (path / f"{name}.csv").write_text(text, "utf-8")
    return load_own_nodes(path)


def labels_of(data) -> dict[str, str | None]:
    names = [data.classes[k] if k >= 0 else None for k in data.labels.tolist()]
    return dict(zip(data.ids, names, strict=True))


# --- labels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", ["a,y\nb,n\nc,y\nd,n\n", "a,y\nb,n\nc,n\nd,n\n"])
def test_a_label_that_is_called_y_is_no_header(tmp_path, body):
    bare = load(tmp_path, edges=EDGES, labels=body)
    assert labels_of(bare) == dict(line.split(",") for line in body.split())
    titled = load(tmp_path, edges=EDGES, labels=f"page,y\n{body.replace('y', 'w')}")
    assert titled.ids == ("a", "b", "c", "d")
    assert "labels_header" not in titled.notes  # no doubt: y is a word of headers


@pytest.mark.parametrize("header", ["paper,field", "user,community"])
@pytest.mark.parametrize("features", [None, FEATURES])
def test_a_header_of_other_words_is_no_node(tmp_path, header, features):
    files = {"edges": EDGES, "labels": f"{header}\n{LABELS}"}
    data = load(tmp_path, **files, **({"features": features} if features else {}))
    assert labels_of(data) == {"a": "x", "b": "y", "c": "x", "d": "y"}
    assert f"line 1 ({header}) was taken for a header" in data.notes["labels_header"]


def test_an_isolated_node_at_the_top_is_a_node(tmp_path):
    data = load(tmp_path, edges=EDGES, labels=f"alone,x\n{LABELS}")
    assert labels_of(data)["alone"] == "x"
    data = load(tmp_path, edges=EDGES, labels=f"alone,\n{LABELS}")
    assert labels_of(data)["alone"] is None
    numbers = "90,7\n0,1\n1,2\n2,1\n"
    data = load(tmp_path, edges="0,1\n1,2\n", labels=numbers)
    assert labels_of(data)["90"] == "7"


def test_words_of_headers_may_name_nodes(tmp_path):
    data = load(tmp_path, edges="name,b\nb,c\n", labels="name,x\nb,y\nc,x\n")
    assert labels_of(data) == {"name": "x", "b": "y", "c": "x"}
    data = load(tmp_path, edges="name,b\nb,c\n", labels="name,label\nname,x\nb,y\nc,x\n")
    assert labels_of(data) == {"name": "x", "b": "y", "c": "x"}


@pytest.mark.parametrize("header", [",label", ",0", ",field"])
def test_a_series_of_pandas(tmp_path, header):
    data = load(tmp_path, edges=EDGES, labels=f"{header}\n{LABELS}")
    assert data.ids == ("a", "b", "c", "d")


# --- features -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["page", "gene", ""])
@pytest.mark.parametrize("numbers", [(0, 1, 2), (1, 2), (2019, 2020, 2021, 2022), (0,)])
def test_columns_without_names_in_pandas(tmp_path, name, numbers):
    columns = [str(k) for k in numbers]
    rows = [[c, *("5" for _ in numbers)] for c in "abcd"]
    text = "\n".join(",".join(row) for row in [[name, *columns], *rows])
    data = load(tmp_path, edges=EDGES, features=text)
    assert data.ids == ("a", "b", "c", "d")
    assert data.columns == tuple(columns)
    assert ("features_header" in data.notes) == bool(name)


def test_a_row_that_looks_like_numbered_columns(tmp_path):
    """Its id is an end of an edge, or in the labels."""
    rows = "a,0,1\nb,1,0\nc,0,0\nd,1,1\n"
    data = load(tmp_path, edges=EDGES, features=rows)
    assert data.ids == ("a", "b", "c", "d")
    assert data.columns == ()
    # A pair that is joined to nothing else, on the first line of each file.
    data = load(tmp_path, edges="a,b\nc,d\nd,e\n", features=f"{rows}e,1,0\n")
    assert data.ids == ("a", "b", "c", "d", "e")
    alone = load(tmp_path, edges=EDGES, features=f"alone,0,1\n{rows}", labels=f"alone,x\n{LABELS}")
    assert alone.ids == ("alone", "a", "b", "c", "d")
    assert "features_header" not in alone.notes


@pytest.mark.parametrize(
    ("first", "words"),
    [("a,", "line 1: column 2 is empty"), ("a,?", r"line 1: column 2 holds '\?'"),
     ("a,red", "line 1: column 2 holds 'red'"), ("z,", "line 1: column 2 is empty")],
)  # fmt: skip
def test_a_gap_in_the_first_line_is_told(tmp_path, first, words):
    with pytest.raises(DataError, match=words):
        load(tmp_path, edges="a,b\nb,c\nc,a\n", features=f"{first}\nb,2\nc,3\n")


@pytest.mark.parametrize(
    ("header", "columns"),
    [("id,w 1,w2", ("w 1", "w2")), ("page,w1,w2", ("w1", "w2")), (",w1,w2", ("w1", "w2")),
     ("id,7,9", ("7", "9")), ("id,number", ())],
)  # fmt: skip
def test_names_of_columns_are_kept(tmp_path, header, columns):
    rows = "a,1,2\nb,3,4\nc,5,6\nd,7,8\n"
    bare = load(tmp_path, edges=EDGES, features=rows)
    data = load(tmp_path, edges=EDGES, features=f"{header}\n{rows}")
    assert (bare.columns, data.columns) == ((), columns)
    assert data.normalised().columns == columns
    assert data.fingerprint() == bare.fingerprint()


# --- edges and splits ---------------------------------------------------------------------------


def test_an_edge_list_with_other_words_at_its_top(tmp_path):
    data = load(tmp_path, edges=f"paper,cites\n{EDGES}", labels=f"paper,field\n{LABELS}")
    assert data.ids == ("a", "b", "c", "d")
    assert data.edges.shape[1] == 4
    assert {"edges_header", "labels_header"} <= data.notes.keys()
    # An edge between nodes that are on no other line of the edges, but have labels.
    data = load(tmp_path, edges="a,b\nc,d\n", labels=LABELS)
    assert data.edges.shape[1] == 2
    assert "edges_header" not in data.notes


def test_the_index_of_pandas_is_no_end(tmp_path):
    with pytest.raises(DataError, match=r"edges\.csv, line 1: .*index=False"):
        load(tmp_path, edges=",source,target\n0,1,2\n1,2,0\n")


def test_a_wrong_part_in_the_first_line_of_the_splits(tmp_path):
    with pytest.raises(DataError, match=r"splits\.csv, line 1: found 'exam'"):
        load(tmp_path, edges=EDGES, labels=LABELS, splits="a,exam\nb,train\nc,val\n")
    data = load(tmp_path, edges=EDGES, labels=LABELS, splits="page,part\nb,train\nc,val\n")
    assert data.splits[0].train.tolist() == [1]
