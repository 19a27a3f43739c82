"""Public heterogeneous graphs as prepared for HeCo (Wang et al., 2021, arXiv 2105.09111).

``dblp``, ``aminer`` and ``acm``, each with 20, 40 or 60 labelled nodes per class, 1,000 for
validation and 1,000 for testing.

Files are found as all data of the package is, see :mod:`graphdiff.data.sources`, and checked. The
published ``nei_*.npy`` and ``t_feat.npz`` are pickles and are not read; nothing is lost, since they
repeat the edge lists or describe other types than the one with classes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from graphdiff.core.errors import ArgumentError
from graphdiff.data.hetero import HeteroGraph, RelationKey, hetero_graph
from graphdiff.data.sources import card, checked

__all__ = ["HECO", "load_heco"]

HECO = ("dblp", "aminer", "acm")
"""Sets that :func:`load_heco` reads."""


def load_heco(name: str, root: str | Path | None = None, *, positives: bool = False) -> HeteroGraph:
    """A public set as prepared for HeCo, from its edge lists.

    Splits are ``"20"``, ``"40"`` and ``"60"``, for as many labels per class.

    Args:
        name: ``dblp`` (4,057 authors, 4 areas), ``aminer`` (6,564 papers, 4 types, no features) or
            ``acm`` (4,019 papers, 3 fields).
        root: Folder of the files; None = the search path.
        positives: Read ``(target, "pos", target)`` as well: pairs that many meta-paths join, which
            HeCo trains on as positives and DiffGraph uses as a view of AMiner. They are the best
            of each node, hence one-way in the file, and taken both ways here.

    Raises:
        ArgumentError: There is no such set.
        DataError: A file is missing or damaged.
    """
    if name not in HECO:
        raise ArgumentError(f"there is no HeCo set {name!r}: known are {', '.join(HECO)}")
    about = card(f"heco-{name}")
    kinds: dict[str, str] = about["types"]
    target: str = about["target"]
    relations: dict[RelationKey, Any] = {}
    for file in about["relations"]:
        text = _heco(about, f"{file}.txt", root).decode()
        source, end = (kinds[letter] for letter in file)
        pairs = np.array([line.split() for line in text.splitlines()], np.int64)
        relations[source, file, end] = pairs
    if positives:
        relations[target, "pos", target] = _scipy_npz(_heco(about, "pos.npz", root))
    features = _heco(about, about["features"], root) if "features" in about else None
    splits = {
        size: [_array(_heco(about, f"{part}_{size}.npy", root)) for part in about["parts"]]
        for size in ("20", "40", "60")
    }
    return hetero_graph(
        target, relations, _array(_heco(about, "labels.npy", root)),
        features=None if features is None else _scipy_npz(features), splits=splits,
    )  # fmt: skip


def _heco(about: Mapping[str, Any], file: str, root: str | Path | None) -> bytes:
    """Content of a file of a card, checked."""
    entry = next(e for e in about["files"] if e["file"].endswith(f"/{file}"))
    return checked(about["name"], entry, root)[1]


def _array(data: bytes) -> Any:
    return np.load(io.BytesIO(data), allow_pickle=False).astype(np.int64)


def _scipy_npz(data: bytes) -> Any:
    return sp.load_npz(io.BytesIO(data)).tocsr()
