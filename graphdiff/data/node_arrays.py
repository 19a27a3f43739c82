"""Arrays of a user's graph that lie one in a file: ``edges.npy``, ``features.npz``, ``labels.npy``.

A file is an ``.npy``, an ``.npz`` with one array, or a sparse matrix as ``scipy.sparse.save_npz``
writes it. Nodes are the rows; nothing in a file is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from graphdiff.core.errors import DataError
from graphdiff.data.node_labels import known_labels, text_of
from graphdiff.data.node_splits import load_arrays

__all__ = ["edge_array", "feature_array", "find_array", "label_array", "whole"]

SPARSE = {"format", "shape", "data"}


def find_array(folder: Path, stem: str) -> Path | None:
    """``stem.npy`` or ``stem.npz`` of a folder."""
    return next((p for s in (".npy", ".npz") if (p := folder / f"{stem}{s}").is_file()), None)


def edge_array(path: Path) -> list[tuple[int, str, str]]:
    """Edges ``[m, 2]`` or ``[2, m]`` as rows (number of the edge from 1, and two ids).

    Raises:
        DataError: It has another shape or holds no whole numbers.
    """
    found = _read(path)
    if found.ndim != 2 or 2 not in found.shape:
        raise DataError(f"{path} has shape {list(found.shape)}, expected edges [m, 2] or [2, m]")
    rows = found if found.shape[1] == 2 else found.T
    if not whole(rows):
        raise DataError(f"{path} holds {rows.dtype}, expected whole numbers of nodes")
    return [(k, str(int(a)), str(int(b))) for k, (a, b) in enumerate(rows, 1)]


def whole(values: NDArray[Any]) -> bool:
    """Whether an array holds whole numbers, as integers or as floating numbers."""
    if values.dtype.kind == "f":
        return bool((np.isfinite(values) & (values == np.round(values))).all())
    return values.dtype.kind in "iu"


def feature_array(path: Path) -> NDArray[np.float32]:
    """Features ``[n, f]``.

    Raises:
        DataError: It has another shape, or holds text or values that are not finite.
    """
    found = _read(path)
    if found.ndim != 2 or found.dtype.kind not in "fiub":
        raise DataError(
            f"{path} holds {found.dtype} of shape {list(found.shape)}, expected numbers "
            "[nodes, features]"
        )
    made: NDArray[np.float32] = found.astype(np.float32)
    if not np.isfinite(made).all():
        row = int(np.flatnonzero(~np.isfinite(made).all(1))[0])
        raise DataError(f"{path}: row {row} holds a value that is not finite; fill it first")
    return made


def label_array(path: Path) -> list[str | None]:
    """Class of each node; -1, empty text, ``?`` and nan are unknown.

    Raises:
        DataError: It is no vector of whole numbers or text.
    """
    found = _read(path)
    flat = found.reshape(-1) if found.ndim == 2 and 1 in found.shape else found
    if flat.ndim != 1 or flat.dtype.kind not in "iubfUS":
        raise DataError(
            f"{path} holds {found.dtype} of shape {list(found.shape)}, expected one whole number "
            "or text for each node"
        )
    if flat.dtype.kind in "US":
        return known_labels(text_of(flat, str(path)))
    known = ~np.isnan(flat) if flat.dtype.kind == "f" else np.ones(len(flat), bool)
    if flat.dtype.kind == "f" and not whole(flat[known]):
        raise DataError(f"{path} holds fractions, expected whole numbers or text as classes")
    pairs = zip(flat, known, strict=True)
    return known_labels([str(int(c)) if there else "" for c, there in pairs])


def _read(path: Path) -> NDArray[Any]:
    if path.suffix == ".npy":
        try:
            found: NDArray[Any] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"cannot read {path}: {error}") from error
        return found
    arrays = load_arrays(path)
    if set(arrays) >= SPARSE:
        try:
            return np.asarray(sp.load_npz(path).toarray())
        except (ValueError, KeyError) as error:
            raise DataError(f"{path} is no sparse matrix: {error}") from error
    if len(arrays) != 1:
        raise DataError(f"{path} holds {', '.join(arrays)}, expected one array or a sparse matrix")
    return next(iter(arrays.values()))
