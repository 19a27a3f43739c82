"""The Planetoid files (Yang et al., 2016), old pickles, read without running anything from them.

Of a pickle only plain containers, numpy arrays of numbers and the *state* of scipy's sparse
matrices are taken: a class is looked up in the short list below, everything else is refused, and
the stand-in for a sparse matrix is a dictionary that pickle fills.

The nodes of ``tx`` stand at the places that ``test.index`` lists; Citeseer's list has gaps, which
are isolated nodes without features or label.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from graphdiff.core.errors import DataError

__all__ = ["assemble", "read_planetoid_pickle"]


class _Sparse:
    """Stand-in for a sparse matrix: pickle fills its attributes, nothing runs."""

    def matrix(self) -> Any:
        state = self.__dict__
        try:
            parts = (state["data"], state["indices"], state["indptr"])
            return sp.csr_matrix(parts, shape=state.get("_shape", state.get("shape")))
        except (KeyError, ValueError) as error:
            raise DataError(f"the sparse matrix in the pickle is damaged: {error}") from error


def _array(kind: Any, shape: Any, code: Any) -> NDArray[Any]:
    """What numpy pickles as its reconstruction: an empty array that its state fills."""
    if kind is not np.ndarray:
        raise pickle.UnpicklingError("an array of another class than numpy.ndarray")
    return np.ndarray.__new__(np.ndarray, shape, code)


def _mapping(kind: Any = None) -> dict[Any, Any]:
    return {}


_ALLOWED: dict[tuple[str, str], Any] = {
    ("scipy.sparse.csr", "csr_matrix"): _Sparse,
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "defaultdict"): _mapping,
    ("__builtin__", "list"): list,
    ("builtins", "list"): list,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"the class {module}.{name} is not allowed") from None


def read_planetoid_pickle(data: bytes) -> Any:
    """One of the ``ind.NAME.*`` files: a scipy matrix, an array, or a dictionary of neighbours.

    Raises:
        DataError: It is damaged or holds any other class.
    """
    try:
        found = _Unpickler(io.BytesIO(data), encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError, TypeError) as error:
        raise DataError(f"the Planetoid file cannot be read safely: {error}") from error
    if isinstance(found, np.ndarray) and found.dtype.hasobject:
        raise DataError("the Planetoid file holds an array of objects, expected numbers")
    return found.matrix() if isinstance(found, _Sparse) else found


def assemble(
    files: Mapping[str, bytes],
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Edges ``[2, m]``, features ``[n, f]`` and labels ``[n]`` of ``allx ally tx ty graph index``.

    Raises:
        DataError: The parts do not fit.
    """
    allx, tx = (read_planetoid_pickle(files[k]).toarray() for k in ("allx", "tx"))
    ally, ty = (read_planetoid_pickle(files[k]) for k in ("ally", "ty"))
    graph: dict[int, list[int]] = read_planetoid_pickle(files["graph"])
    index = np.array(files["test.index"].split(), np.int64)
    n = int(max(index.max() + 1, len(allx), max(graph) + 1))
    if len(index) != len(tx) or index.min() < len(allx):
        raise DataError("the test index does not fit the test rows: the files are of two versions")
    features = np.zeros((n, allx.shape[1]), np.float32)
    onehot = np.zeros((n, ally.shape[1]))
    features[: len(allx)], onehot[: len(ally)] = allx, ally
    features[index], onehot[index] = tx, ty
    labels = np.where(onehot.any(1), onehot.argmax(1), -1)
    edges = np.array([(u, v) for u, row in graph.items() for v in row], np.int64).T
    return edges, features, labels.astype(np.int64)
