"""The Planetoid pickles: read without running anything, and nothing else is."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import scipy.sparse as sp

from graphdiff.core.errors import DataError
from graphdiff.data.planetoid import assemble, read_planetoid_pickle


def old_csr(matrix: sp.csr_matrix) -> bytes:
    """A matrix as scipy of 2016 pickled it: a class, and a dictionary for it."""

    class Old:
        def __reduce__(self):
            state = {
                "_shape": matrix.shape, "data": matrix.data, "indices": matrix.indices,
                "indptr": matrix.indptr, "format": "csr",
            }  # fmt: skip
            return sp.csr_matrix, (), state

    data = pickle.dumps(Old(), protocol=3)
    return data.replace(b"cscipy.sparse._csr\n", b"cscipy.sparse.csr\n").replace(
        b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"
    )


def old_array(array: np.ndarray) -> bytes:
    data = pickle.dumps(array, protocol=3)
    return data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def files(gap: bool = False) -> dict[str, bytes]:
    """Six nodes in a ring; with ``gap``, node 5 is not in the test index and stands alone."""
    n = 7 if gap else 6
    last = [4, 6] if gap else [5, 4]
    features = np.eye(n, 3, dtype=np.float32) + 1
    onehot = np.eye(2, dtype=np.int32)[np.arange(n) % 2]
    ring = {v: [(v + 1) % 4, (v - 1) % 4] for v in range(4)} | {4: [0]}
    return {
        "allx": old_csr(sp.csr_matrix(features[:4])), "tx": old_csr(sp.csr_matrix(features[last])),
        "ally": old_array(onehot[:4]), "ty": old_array(onehot[last]),
        "graph": pickle.dumps(ring, protocol=3), "test.index": "\n".join(map(str, last)).encode(),
    }  # fmt: skip


def test_test_rows_stand_where_the_index_says():
    edges, features, labels = assemble(files())
    expected = np.eye(6, 3, dtype=np.float32) + 1
    np.testing.assert_array_equal(features, expected)
    np.testing.assert_array_equal(labels, np.arange(6) % 2)
    assert edges.shape == (2, 9)


def test_gaps_of_the_index_are_nodes_without_label():
    _, features, labels = assemble(files(gap=True))
    assert labels.tolist() == [0, 1, 0, 1, 0, -1, 0]
    assert not features[5].any()


def test_other_classes_are_refused_and_not_run(tmp_path):
    mark = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(mark),)

    with pytest.raises(DataError, match="not allowed"):
        read_planetoid_pickle(pickle.dumps(Evil()))
    assert not mark.exists()


def test_arrays_of_objects_and_damage_are_refused():
    with pytest.raises(DataError):
        read_planetoid_pickle(old_array(np.array([{}, {}], dtype=object)))
    with pytest.raises(DataError):
        read_planetoid_pickle(files()["allx"][:40])
    with pytest.raises(DataError, match="two versions"):
        assemble({**files(), "test.index": b"4"})
