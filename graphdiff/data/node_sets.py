"""Public graphs for node classification, with the splits that their tables use.

``texas``, ``wisconsin``, ``film``, ``cora``, ``citeseer``
    Graphs and ten 48/32/20 splits of Pei et al. (2020).
``chameleon``, ``squirrel``
    The same splits; features as issued again by Platonov et al. (2023), whose ``_filtered``
    versions drop duplicated nodes.
``minesweeper``, ``tolokers``
    Platonov et al. (2023), ten 50/25/25 splits.

Files are found as all data of the package is (:mod:`graphdiff.data.sources`), and their checksums
compared. :func:`load_nodes` also takes the path of your own graph
(:mod:`graphdiff.data.own_nodes`).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.nodes import NodeData, Split
from graphdiff.data.planetoid import assemble
from graphdiff.data.sources import card, checked

__all__ = ["load_nodes", "node_set_names", "nodes_of_arrays", "read_geom"]

HETEROPHILOUS = (
    "chameleon", "squirrel", "chameleon_filtered", "squirrel_filtered", "minesweeper", "tolokers",
)  # fmt: skip
GEOM = ("texas", "wisconsin", "film")
PLANETOID = ("cora", "citeseer")
SPLITS = 10
Root = str | Path | None


def node_set_names() -> tuple[str, ...]:
    """Names that :func:`load_nodes` knows."""
    return (*GEOM, *HETEROPHILOUS, *PLANETOID)


def load_nodes(name: str | Path, root: Root = None) -> NodeData:
    """A public graph by name, or your own by path.

    Args:
        name: One of :func:`node_set_names`, or a folder or ``.npz`` file.
        root: Folder to look into instead of the search path.

    Raises:
        ArgumentError: The name is unknown and no such path exists.
        DataError: Files are missing, damaged, of another version, or hold nonsense.
    """
    place = Path(name).expanduser()
    if str(name) in HETEROPHILOUS:
        file = f"heterophilous/{name}.npz"
        return _heterophilous(str(name), _files("node-sets", [file], root)[file])
    if str(name) in GEOM:
        return _geom(str(name), root)
    if str(name) in PLANETOID:
        return _planetoid(str(name), root)
    if place.exists():
        from graphdiff.data.own_nodes import load_own_nodes

        return load_own_nodes(place)
    raise ArgumentError(
        f"unknown graph {str(name)!r}: it is no file or folder, and none of "
        f"{', '.join(node_set_names())}"
    )


def _files(about: str, names: list[str], root: Root) -> dict[str, bytes]:
    """Content of files by name, each with the checksum of the card."""
    known = {entry["file"]: entry for entry in card(about)["files"]}
    return {name: checked(about, known[name], root)[1] for name in names}


def _heterophilous(name: str, data: bytes) -> NodeData:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return nodes_of_arrays(name, {key: arrays[key] for key in arrays.files})


def nodes_of_arrays(name: str, arrays: Mapping[str, NDArray[Any]]) -> NodeData:
    """A graph from arrays as Platonov et al. store them.

    Args:
        name: For messages.
        arrays: ``edges`` ``[m, 2]`` or ``[2, m]``, ``node_features`` (or ``features``, ``x``;
            optional), ``node_labels`` (or ``labels``, ``y``), and, optionally, ``train_masks``,
            ``val_masks``, ``test_masks``, ``[k, n]``, ``[n, k]`` or ``[n]``.

    Raises:
        DataError: An array is absent or of another shape.
    """
    edges = _first(arrays, ("edges", "edge_index"))
    labels = _first(arrays, ("node_labels", "labels", "y"))
    features = _first(arrays, ("node_features", "features", "x"))
    if edges is None or labels is None:
        raise DataError(
            f"{name}: expected the arrays edges and labels (and features); found "
            f"{', '.join(arrays) or 'none'}"
        )
    pairs = edges.T if edges.ndim == 2 and edges.shape[1] == 2 else edges
    parts = [_first(arrays, (f"{p}_masks", f"{p}_mask")) for p in ("train", "val", "test")]
    splits = []
    if all(p is not None for p in parts):
        columns = [_by_split(p, len(labels), name) for p in parts]  # type: ignore[arg-type]
        splits = [Split.of_masks(*masks) for masks in zip(*columns, strict=True)]
    return NodeData.of(name, pairs, features, labels, splits)


def _first(arrays: Mapping[str, NDArray[Any]], names: tuple[str, ...]) -> NDArray[Any] | None:
    return next((arrays[name] for name in names if name in arrays), None)


def _by_split(masks: NDArray[Any], n: int, name: str) -> NDArray[Any]:
    """Masks as ``[k, n]``."""
    found = masks.reshape(1, -1) if masks.ndim == 1 else masks
    if found.ndim == 2 and found.shape[1] != n and found.shape[0] == n:
        found = found.T
    if found.ndim != 2 or found.shape[1] != n:
        raise DataError(f"{name}: masks of shape {list(masks.shape)} do not fit {n} nodes")
    return found


def _geom(name: str, root: Root) -> NodeData:
    base = f"geomgcn/new_data/{name}"
    names = [f"{base}/out1_graph_edges.txt", f"{base}/out1_node_feature_label.txt"]
    splits = _split_names(name)
    files = _files("node-sets", [*names, *splits], root)
    edges, features, labels = read_geom(files[names[0]], files[names[1]], name)
    made = [_split(files[s]) for s in splits]
    return NodeData.of(name, edges, features, labels, made)


def read_geom(
    edges: bytes, nodes: bytes, name: str
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Edges, features and labels of the two text files of Geom-GCN.

    Features are 0/1 vectors, or lists of the words that occur (Film).

    Raises:
        DataError: A line cannot be read.
    """
    rows: dict[int, tuple[list[int], int]] = {}
    try:
        header, *lines = nodes.decode("utf-8").splitlines()
        for line in lines:
            first, listed, last = line.split("\t")
            rows[int(first)] = ([int(w) for w in listed.split(",") if w], int(last))
        pairs = [tuple(map(int, line.split("\t"))) for line in edges.decode().splitlines()[1:]]
    except ValueError as error:
        raise DataError(f"{name}: cannot read the Geom-GCN files: {error}") from error
    n = max(rows) + 1
    if sorted(rows) != list(range(n)):
        raise DataError(f"{name}: nodes must be numbered 0 to {n - 1}, found {len(rows)} of them")
    # Film lists the words that occur; the others give one 0 or 1 for each word.
    if "feature_amount" in header or any(w > 1 for words, _ in rows.values() for w in words):
        wide = 1 + max(w for words, _ in rows.values() for w in words)
        features = np.zeros((n, wide), np.float32)
        for node, (words, _) in rows.items():
            features[node, words] = 1
    else:
        features = np.array([rows[k][0] for k in range(n)], np.float32)
    labels = np.array([rows[k][1] for k in range(n)], np.int64)
    return np.array(pairs, np.int64).T, features, labels


def _planetoid(name: str, root: Root) -> NodeData:
    parts = ("allx", "ally", "tx", "ty", "graph", "test.index")
    names = {part: f"planetoid/ind.{name}.{part}" for part in parts}
    splits = _split_names(name)
    files = _files("node-sets", [*names.values(), *splits], root)
    edges, features, labels = assemble({part: files[file] for part, file in names.items()})
    bare = torch.from_numpy(np.flatnonzero(labels < 0))
    made = [_split(files[s]).without(bare) for s in splits]
    return NodeData.of(name, edges, features, labels, made)


def _split_names(name: str) -> list[str]:
    return [f"geomgcn/splits/{name}_split_0.6_0.2_{k}.npz" for k in range(SPLITS)]


def _split(data: bytes) -> Split:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return Split.of_masks(*(arrays[f"{p}_mask"] for p in ("train", "val", "test")))
