"""Behaviours: reading, splits, validation, bad input."""

from __future__ import annotations

import os

import numpy as np
import pytest
from scipy import sparse

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.behaviour_table import read_edges
from graphdiff.data.behaviours import Behaviours, load_behaviours

needs_data = pytest.mark.skipif("GRAPHDIFF_DATA" not in os.environ, reason="needs GRAPHDIFF_DATA")

TABLE = """user,item,behaviour,time
u7,apple,view,30
u7,apple,buy,40
u7,pear,buy,50
u7,pear,buy,20
x,apple,view,10
x,fig,buy,5
x,plum,buy,5
"""


def small(**fields: object) -> Behaviours:
    view = sparse.csr_matrix([[1, 1, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0]])
    buy = sparse.csr_matrix([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]])
    return Behaviours.of({"view": view, "buy": buy}, "buy", **fields)


def test_union_and_weights() -> None:
    data = small()
    assert data.auxiliary == ("view",)
    assert data.seen.toarray().tolist() == [[1, 1, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0]]
    both = data.weighted({"view": 1.0, "buy": 2.0}).toarray()
    assert both.tolist() == [[3, 1, 0, 3], [0, 3, 1, 0], [0, 0, 0, 0]]
    with pytest.raises(ArgumentError, match="like"):
        data.weighted({"like": 1.0})


def test_held_out_edges_leave_every_relation() -> None:
    held = small().hold_out(seed=3)
    assert held.valid.shape == (1, 2)  # one user has two purchases
    user, item = held.valid[0]
    assert user == 0
    assert item in (0, 3)
    assert held.edges["view"][user, item] == held.edges["buy"][user, item] == 0
    assert held.edges["buy"].nnz == 2
    assert held.edges["view"].nnz == 4
    with pytest.raises(ArgumentError, match="already"):
        held.hold_out()
    with pytest.raises(DataError, match="no user has 3"):
        small().hold_out(at_least=3)


def test_the_last_purchase_is_held_out_and_ties_are_broken_at_random(tmp_path) -> None:
    times = np.array([[7, 9, 8] + [0] * 300, [0, 0, 0] + [5] * 300])
    data = Behaviours.of({"buy": sparse.csr_matrix(times)}, "buy")
    held = dict(data.hold_out().valid.tolist())
    assert held[0] == 1
    assert held[1] not in (3, 302)  # neither the first nor the last of a basket of 300


def test_published_values_are_times_and_repeats_are_joined() -> None:
    rows, cols, seconds = [0, 0, 1], [1, 1, 0], np.array([50, 90, 70])
    data = Behaviours.of({"buy": sparse.coo_matrix((seconds, (rows, cols)), (2, 3))}, "buy")
    assert data.edges["buy"].toarray().tolist() == [[0, 1, 0], [1, 0, 0]]
    assert data.times["buy"].tolist() == [90, 70]


def test_own_table(tmp_path) -> None:
    path = tmp_path / "edges.csv"
    path.write_text(TABLE)
    test = tmp_path / "test.csv"
    test.write_text("user,item\nx,pear\n")
    data = read_edges(path, "buy", test=test, users=["idle"], items=["unsold"])
    assert data.users == ["idle", "u7", "x"]
    assert data.items[0] == "unsold"
    assert data.shape == (3, 5)
    assert data.edges["buy"].nnz == 4
    assert data.edges["buy"][0].nnz == 0
    pear = data.items.index("pear")
    assert data.test.tolist() == [[2, pear]]
    last = dict(zip(data.edges["buy"][1].indices, data.times["buy"][:2], strict=True))
    assert last[pear] == 50
    assert dict(data.hold_out().valid.tolist())[1] == pear


def test_bad_tables(tmp_path) -> None:
    path = tmp_path / "edges.csv"
    for text, message in (
        ("user,item\na,b\n", "lacks the columns behaviour"),
        ("user,item,behaviour\n", "no edge"),
        ("user,item,behaviour\na,,buy\n", "line 2: item"),
        ("user,item,behaviour,time\na,b,buy,soon\n", "no number"),
        ("user,item,behaviour\na,b,view\n", "no relation 'buy'"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_edges(path, "buy")
    with pytest.raises(DataError, match="no file"):
        read_edges(tmp_path / "none.csv", "buy")
    path.write_text("user,item,behaviour\na,b,buy\n")
    test = tmp_path / "test.csv"
    test.write_text("user,item\na,b\n")
    with pytest.raises(DataError, match="must not overlap"):
        read_edges(path, "buy", test=test)


def test_bad_data() -> None:
    with pytest.raises(DataError, match="must not overlap"):
        small(test=[[0, 0]])
    with pytest.raises(DataError, match="outside"):
        small(test=[[0, 9]])
    with pytest.raises(DataError, match="twice"):
        small(test=[[0, 2], [0, 2]])
    with pytest.raises(DataError, match="validation and in test"):
        small(test=[[0, 2]], valid=np.array([[0, 2]]))
    with pytest.raises(DataError, match="same users and items"):
        Behaviours.of({"a": sparse.eye(2), "buy": sparse.eye(3)}, "buy")
    with pytest.raises(DataError, match="names for"):
        small(users=["one"])
    with pytest.raises(DataError, match="known are"):
        load_behaviours("ijcai")


def test_pairs_are_not_bent_into_shape() -> None:
    for wrong in ([[2, 2, 0], [0, 1, 3]], [[0, 1, 2]] * 2, [0, 2], [[[0, 2]]]):
        with pytest.raises(DataError, match=r"expected \[m, 2\]"):
            small(test=wrong)
        with pytest.raises(DataError, match=r"expected \[m, 2\]"):
            small(valid=wrong)
    for wrong in ([[0, 2.5]], [[0, np.nan]], [["0", "2"]]):
        with pytest.raises(DataError, match="no whole numbers"):
            small(test=wrong)
    assert small(test=[[0.0, 2.0]]).test.tolist() == [[0, 2]]
    assert small(test=[], valid=[[2, 2]]).valid.tolist() == [[2, 2]]


def test_stored_zeros_are_no_edges_and_negative_values_are_refused() -> None:
    at = ([0, 0, 1], [0, 1, 2])
    for kept in (np.array([1, 0, 1]), np.array([True, False, True]), np.array([0.5, 0.0, 2.0])):
        buy = sparse.csr_matrix((kept, at), (2, 4))
        test = sparse.csr_matrix((kept, ([0, 0, 1], [2, 3, 3])), (2, 4))
        assert buy.nnz == 3
        data = Behaviours.of({"buy": buy, "view": buy.tocoo()}, "buy", test)
        assert data.edges["buy"].toarray().tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]
        assert data.edges["view"].nnz == 2
        assert data.test.tolist() == [[0, 2], [1, 3]]
    timed = Behaviours.of({"buy": sparse.csr_matrix((np.array([70, 0, 90]), at), (2, 4))}, "buy")
    assert timed.times["buy"].tolist() == [70, 90]
    for wrong in (-1.0, np.nan):
        matrix = sparse.csr_matrix((np.array([1, wrong]), ([0, 1], [0, 1])), (2, 4))
        with pytest.raises(DataError, match="relation 'view' has values that are negative or NaN"):
            Behaviours.of({"view": matrix, "buy": sparse.eye(2, 4)}, "buy")
        with pytest.raises(DataError, match="test has values"):
            Behaviours.of({"buy": sparse.csr_matrix((2, 4))}, "buy", matrix)


def test_tables_that_cannot_be_read(tmp_path) -> None:
    path = tmp_path / "edges.csv"
    path.write_bytes("user,item,behaviour\nJos\u00e9,pear,buy\n".encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_edges(path, "buy")
    path.write_text('user,item,behaviour\na,b,buy\nc,"d,buy\n')
    with pytest.raises(DataError, match=r"line 3: .*; mend the quotation"):
        read_edges(path, "buy")
    path.write_text("user,item,behaviour\na,b,buy\n\nc,,buy\n")
    with pytest.raises(DataError, match="line 4: item is empty"):
        read_edges(path, "buy")


def test_damaged_and_missing_files(tmp_path) -> None:
    with pytest.raises(DataError, match="diffgraph"):
        load_behaviours("tmall", tmp_path)
    folder = tmp_path / "diffgraph_tmall"
    folder.mkdir()
    (folder / "train_mat_fav.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(DataError, match="no sparse matrix"):
        load_behaviours("tmall", tmp_path)
    sparse.save_npz(folder / "train_mat_fav.npz", sparse.csr_matrix(np.eye(3)))
    with pytest.raises(DataError, match="wrong checksum"):
        load_behaviours("tmall", tmp_path)


@needs_data
@pytest.mark.parametrize(
    ("name", "shape", "edges", "test"),
    [
        ("retail-rocket", (2174, 30113), {"view": 75374, "cart": 12456, "buy": 9551}, 2174),
        ("tmall", (31882, 31232), {"fav": 49482, "cart": 140068, "buy": 167862}, 10000),
    ],
)
def test_published_sets(name, shape, edges, test) -> None:
    data = load_behaviours(name)
    assert data.shape == shape
    assert {key: matrix.nnz for key, matrix in data.edges.items()} == edges
    assert len(data.test) == test
    # what the docs say of the test items: never seen in training by their users
    assert np.asarray(data.seen[data.test[:, 0], data.test[:, 1]]).sum() == 0
