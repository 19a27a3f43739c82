"""Your own graph with features and labels on its nodes: :func:`load_own_nodes`.

Three forms are read:

* a folder with ``edges.csv`` (``source,target``), and, where you have them, ``features.csv``
  (``id,number,…``), ``labels.csv`` (``id,label``) and ``splits.csv`` (``id,split`` or
  ``id,split_0,split_1,…``), or each of them as an array in a ``.npy`` or ``.npz``
  (:mod:`graphdiff.data.node_arrays`), its rows being the nodes; ``*split*.npz`` have masks;
* one ``.npz`` file, or a folder with one: ``edges``, ``node_features``, ``node_labels``, and
  ``train_masks``, ``val_masks``, ``test_masks`` (:func:`graphdiff.data.node_sets.nodes_of_arrays`);
* a Geom-GCN folder: ``out1_graph_edges.txt``, ``out1_node_feature_label.txt``, and
  ``*_split_*.npz`` beside them or in ``splits/``.

Ids are any text; nodes have the order of ``features.csv`` (else of ``labels.csv``, then of their
first edge). Directions, repetitions and self-loops are mended and counted in ``notes``; what
cannot be mended is refused with the file and the line. What only a fit needs may be absent:
without labels splits are not read, and a split without training nodes is left out (and noted).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import DataError
from graphdiff.data.node_arrays import find_array, whole
from graphdiff.data.node_csv import find_table
from graphdiff.data.node_folder import nodes_of_folder
from graphdiff.data.node_splits import load_arrays, masks_of_npz, read_split, splits_of_folder
from graphdiff.data.nodes import UNKNOWN, NodeData

__all__ = ["load_own_nodes", "read_split"]

GEOM = ("out1_graph_edges.txt", "out1_node_feature_label.txt")
EXPECTED = (
    "expected edges.csv (with features.csv, labels.csv, splits.csv), one .npz, or the files "
    "out1_graph_edges.txt and out1_node_feature_label.txt of Geom-GCN"
)


def load_own_nodes(path: str | Path) -> NodeData:
    """A graph from a folder or an ``.npz`` file.

    Args:
        path: The folder or file.

    Raises:
        DataError: Nothing readable is there, or what is there contradicts itself.
    """
    place = Path(path).expanduser()
    if place.is_file():
        if place.suffix == ".npz":
            return _of_npz(place)
        raise DataError(f"{place} is no .npz file; give the folder that holds it: {EXPECTED}")
    if not place.is_dir():
        raise DataError(f"{place}: no such file or folder; {EXPECTED}")
    alone = _alone(place)
    if find_table(place, "edges") or (find_array(place, "edges") and alone is None):
        return nodes_of_folder(place)
    if all((place / name).is_file() for name in GEOM):
        return _of_geom(place)
    if alone is not None:
        return _of_npz(alone)
    found = ", ".join(sorted(p.name for p in place.iterdir())[:8]) or "nothing"
    raise DataError(f"{place}: found {found}; {EXPECTED}")


def _alone(folder: Path) -> Path | None:
    """The one ``.npz`` of a folder that holds a whole graph, not only its edges."""
    arrays = sorted(folder.glob("*.npz"))
    if len(arrays) != 1 or any(folder.glob("*.npy")):
        return None
    beside = any(find_table(folder, stem) for stem in ("features", "labels"))
    if arrays[0].stem == "edges" and (beside or len(load_arrays(arrays[0])) == 1):
        return None
    return arrays[0]


# --- npz ----------------------------------------------------------------------------------------


def _of_npz(path: Path) -> NodeData:
    from graphdiff.data.node_sets import nodes_of_arrays

    arrays = load_arrays(path)
    names = {
        "edges": ("edges", "edge_index"),
        "labels": ("node_labels", "labels", "y"),
        "features": ("node_features", "features", "x"),
    }
    key = {what: next((k for k in some if k in arrays), None) for what, some in names.items()}
    made, notes = {what: arrays[k] for what, k in key.items() if k is not None}, dict[str, Any]()
    if "edges" not in made or made.keys() == {"edges"}:
        raise DataError(
            f"{path}: expected the arrays edges and labels (and features); found "
            f"{', '.join(arrays) or 'none'}"
        )
    made["edges"] = _pairs(made["edges"], str(key["edges"]), path)
    if "features" in made:
        made["features"] = _numeric(made["features"], f"{path}: {key['features']}")
    if "labels" not in made:
        made["labels"] = np.full(made["features"].shape[:1], UNKNOWN)
        notes["labels"] = "none were given: the graph can be predicted on, not learned from"
    graph = nodes_of_arrays(str(path), made)
    known = bool((graph.labels != UNKNOWN).any())
    there = any(name.endswith(("_mask", "_masks")) for name in arrays)
    if there and not known:
        notes["splits_left_out"] = "all: no node has a label"
    splits = masks_of_npz(arrays, graph.labels, str(path), notes) if there and known else ()
    return replace(graph, name=path.stem, splits=splits, notes={**graph.notes, **notes})


def _pairs(edges: NDArray[Any], key: str, path: Path) -> NDArray[Any]:
    """Edges as ``[m, 2]``; of four numbers the name of the array says which way they lie."""
    if edges.size and not whole(edges):
        raise DataError(f"{path}: {key} are {edges.dtype}, expected whole numbers of nodes")
    if edges.size == 0:
        return np.zeros((0, 2), np.int64)
    flat = edges.ndim == 2 and edges.shape[0] == 2 and (edges.shape[1] != 2 or key == "edge_index")
    return (edges.T if flat else edges).astype(np.int64)


def _numeric(features: NDArray[Any], where: str) -> NDArray[np.float32]:
    if features.dtype.kind not in "fiub":
        raise DataError(f"{where} holds {features.dtype}, expected numbers; encode text first")
    return features.astype(np.float32)


# --- Geom-GCN -----------------------------------------------------------------------------------


def _of_geom(folder: Path) -> NodeData:
    from graphdiff.data.node_sets import read_geom
    from graphdiff.data.sources import read_bytes

    edges, nodes = (folder / name for name in GEOM)
    raw = {path: read_bytes(path) for path in (edges, nodes)}
    _check_lines(raw, edges, nodes)
    pairs, features, labels = read_geom(raw[edges], raw[nodes], str(folder))
    graph, notes = NodeData.of(folder.resolve().name, pairs, features, labels), dict[str, Any]()
    place = {str(k): k for k in range(graph.n)}
    splits = splits_of_folder(folder, place, graph.labels, notes)
    return replace(graph, splits=splits, notes={**graph.notes, **notes})


def _check_lines(raw: Mapping[Path, bytes], edges: Path, nodes: Path) -> None:
    """Refuse by line what the reader of the public files would take as it comes.

    Raises:
        DataError: A line is cut off or not of numbers, or a node is there twice or not at all.
    """
    header, *lines = _lines(raw[nodes], nodes)
    first: dict[int, int] = {}
    wide: set[int] = set()
    listed = "feature_amount" in header
    for number, line in enumerate(lines, 2):
        parts = line.split("\t")
        try:
            node, words, _ = (
                int(parts[0]),
                [int(w) for w in parts[1].split(",") if w],
                int(parts[2]),
            )
        except (ValueError, IndexError):
            raise DataError(
                f"{nodes}, line {number}: expected node, features (0,1,…) and label as whole "
                "numbers with tabs between"
            ) from None
        if node in first:
            raise DataError(f"{nodes}, line {number}: node {node} is listed twice")
        first[node] = number
        listed = listed or max(words, default=0) > 1
        wide.add(len(words))
        if len(wide) > 1 and not listed and not any(w > 1 for w in words):
            raise DataError(
                f"{nodes}, line {number}: found {len(words)} features, other lines have "
                f"{min(wide - {len(words)})}"
            )
    for number, line in enumerate(_lines(raw[edges], edges)[1:], 2):
        try:
            a, b = (int(part) for part in line.split("\t"))
        except ValueError:
            raise DataError(
                f"{edges}, line {number}: expected two whole numbers with a tab between"
            ) from None
        for node in (a, b):
            if node not in first:
                raise DataError(f"{edges}, line {number}: node {node} is not in {nodes.name}")


def _lines(data: bytes, path: Path) -> list[str]:
    try:
        lines = data.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}") from error
    if len(lines) < 2 and path.name == GEOM[1]:
        raise DataError(f"{path} holds no node")
    return lines
