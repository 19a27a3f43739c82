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
cannot be mended is refused with the file and the line.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from graphdiff.core.errors import DataError
from graphdiff.data.node_arrays import edge_array, feature_array, find_array, label_array
from graphdiff.data.node_csv import (
    class_order,
    find_table,
    read_edges,
    read_features,
    read_labels,
)
from graphdiff.data.node_splits import (
    load_arrays,
    masks_of_npz,
    read_split,
    split_files,
    splits_of_csv,
    splits_of_npz,
)
from graphdiff.data.nodes import UNKNOWN, NodeData, Split

__all__ = ["load_own_nodes", "read_split"]

GEOM = ("out1_graph_edges.txt", "out1_node_feature_label.txt")
INDICATORS = 20_000
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
    arrays = sorted(place.glob("*.npz"))
    alone = len(arrays) == 1 and not any(place.glob("*.npy"))
    if find_table(place, "edges") or (find_array(place, "edges") and not alone):
        return _of_tables(place)
    if all((place / name).is_file() for name in GEOM):
        return _of_geom(place)
    if alone:
        return _of_npz(arrays[0])
    found = ", ".join(sorted(p.name for p in place.iterdir())[:8]) or "nothing"
    raise DataError(f"{place}: found {found}; {EXPECTED}")


# --- csv ----------------------------------------------------------------------------------------


def _of_tables(folder: Path) -> NodeData:
    notes: dict[str, Any] = {}
    lines, features = _features(folder)
    place = {name: k for k, name in enumerate(lines)}
    labels, labelled = _labels(folder, place, features is not None, notes)
    where, edges = _edges(folder, notes)
    if features is None:
        for _, *ends in edges:
            for name in ends:
                place.setdefault(name, len(place))
        if len(place) > INDICATORS:
            raise DataError(
                f"{folder}: {len(place)} nodes and no features.csv; an indicator for each of so "
                "many nodes is too large, so give features (degrees, positions, words)"
            )
    for line, *ends in edges:
        for name in ends:
            if name not in place:
                hint = "; call the columns source,target if this is a header" if line == 1 else ""
                raise DataError(
                    f"{where}, line {line}: node {name!r} is not among the features; add it{hint}"
                )
    classes = class_order(labels)
    number: dict[str | None, int] = {c: k for k, c in enumerate(classes)}
    y = torch.tensor([number.get(labels.get(name), UNKNOWN) for name in place])
    if (absent := int((y == UNKNOWN).sum())) and labelled:
        notes["unlabelled"] = absent
    pairs = np.array([[place[a], place[b]] for _, a, b in edges], np.int64).reshape(-1, 2).T
    ids = () if list(place) == [str(k) for k in range(len(place))] else tuple(place)
    return NodeData.of(
        folder.resolve().name, pairs, features, y, _splits(folder, place, y), classes=classes,
        ids=ids, notes=notes,
    )  # fmt: skip


def _edges(folder: Path, notes: dict[str, Any]) -> tuple[Path, list[tuple[int, str, str]]]:
    path = find_table(folder, "edges")
    if path is None:
        path = find_array(folder, "edges")
        assert path is not None
        return path, edge_array(path)
    _, edges, more = read_edges(path)
    if more:
        notes["edge_columns"] = f"{path.name}: columns after the second were ignored"
    return path, edges


def _features(folder: Path) -> tuple[list[str], NDArray[np.float32] | None]:
    """Ids in order, and features."""
    if path := find_table(folder, "features"):
        lines, features = read_features(path)
        return list(lines), features
    if path := find_array(folder, "features"):
        features = feature_array(path)
        return [str(k) for k in range(len(features))], features
    return [], None


def _labels(
    folder: Path, place: dict[str, int], fixed: bool, notes: dict[str, Any]
) -> tuple[dict[str, str | None], bool]:
    """Classes by id, and whether there are any; without features, the ids of the file are nodes."""
    table, array = find_table(folder, "labels"), find_array(folder, "labels")
    if table is not None:
        _, lines, found = read_labels(table)
    elif array is not None:
        found = label_array(array)
        lines = {name: k for k, name in enumerate(found, 1)}
    else:
        notes["labels"] = "none were given: the graph can be predicted on, not learned from"
        return {}, False
    for name, line in lines.items():
        if name not in place:
            if fixed:
                raise DataError(
                    f"{table or array}, line {line}: node {name!r} is not among the features; "
                    "add it there"
                )
            place[name] = len(place)
    return found, True


def _splits(folder: Path, place: Mapping[str, int], y: torch.Tensor) -> tuple[Split, ...]:
    if path := find_table(folder, "splits"):
        return splits_of_csv(path, place, y)
    return tuple(split for path in split_files(folder) for split in splits_of_npz(path, y))


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
    if key["edges"] is None or key["labels"] is None:
        raise DataError(
            f"{path}: expected the arrays edges and labels (and features); found "
            f"{', '.join(arrays) or 'none'}"
        )
    labels, classes = _coded(arrays[key["labels"]], f"{path}: {key['labels']}")
    made = {"edges": _pairs(arrays[key["edges"]], key["edges"], path), "labels": labels}
    if key["features"] is not None:
        made["features"] = _numeric(arrays[key["features"]], f"{path}: {key['features']}")
    elif len(labels) > INDICATORS:
        raise DataError(f"{path}: {len(labels)} nodes and no features; give features")
    graph = nodes_of_arrays(str(path), made)
    splits: tuple[Split, ...] = ()
    if any(name.endswith(("_mask", "_masks")) for name in arrays):
        splits = masks_of_npz(arrays, graph.labels, str(path))
    return NodeData(
        path.stem, graph.edges, graph.features, graph.labels, splits, classes, notes=graph.notes
    )


def _pairs(edges: NDArray[Any], key: str, path: Path) -> NDArray[Any]:
    """Edges as ``[m, 2]``; of four numbers the name of the array says which way they lie."""
    whole = edges.dtype.kind in "iu" or (
        edges.dtype.kind == "f" and bool((edges == np.round(edges)).all())
    )
    if edges.size and not whole:
        raise DataError(f"{path}: {key} are {edges.dtype}, expected whole numbers of nodes")
    if edges.size == 0:
        return np.zeros((0, 2), np.int64)
    flat = edges.ndim == 2 and edges.shape[0] == 2 and (edges.shape[1] != 2 or key == "edge_index")
    return (edges.T if flat else edges).astype(np.int64)


def _coded(labels: NDArray[Any], where: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels as numbers, and names of the classes if they were text."""
    if labels.ndim != 1 or not len(labels):
        raise DataError(f"{where} has shape {list(labels.shape)}, expected one label for each node")
    if labels.dtype.kind in "US":
        text = [str(x) for x in labels.astype(str)]
        classes = class_order({str(k): x or None for k, x in enumerate(text)})
        number = {c: k for k, c in enumerate(classes)}
        return np.array([number.get(x, UNKNOWN) for x in text], np.int64), classes
    if labels.dtype.kind == "f" and bool((labels == np.round(labels)).all()):
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iub":
        raise DataError(f"{where} holds {labels.dtype}, expected whole numbers or text")
    return labels.astype(np.int64), ()


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
    graph = NodeData.of(folder.resolve().name, pairs, features, labels)
    splits = tuple(s for path in split_files(folder) for s in splits_of_npz(path, graph.labels))
    return NodeData(
        graph.name, graph.edges, graph.features, graph.labels, splits, graph.classes,
        notes=graph.notes,
    )  # fmt: skip


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
