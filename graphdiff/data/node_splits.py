"""Splits as a user names them: the public ones, random ones, or those of a file.

=====================  ====================================================================
``public``             those that come with the data
``random``             ten random ones, stratified by class, 48/32/20
``random:60/20/20``    the same with other percentages of train, val and test
``FILE.csv``           ``id,split`` or ``id,split_0,split_1,…`` with train, val, test or nothing
``FILE.npz``           ``train_mask``, ``val_mask``, ``test_mask`` (or ``…_masks``)
=====================  ====================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.node_csv import find_table, read_table, split_rows
from graphdiff.data.node_headers import split_header
from graphdiff.data.nodes import UNKNOWN, NodeData, Split, random_splits

__all__ = [
    "COUNT", "masks_of_npz", "read_split", "splits_of_csv", "splits_of_folder", "splits_of_npz",
]  # fmt: skip

COUNT = 10
PARTS = ("train", "val", "test")
NAMES = {
    "train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "dev": 1, "test": 2,
}  # fmt: skip
NONE = frozenset({"", "-", "none", "unused"})


def read_split(
    text: str | Path, data: NodeData, count: int = COUNT, seed: int = 0
) -> tuple[Split, ...]:
    """Splits of the nodes of ``data``.

    Args:
        text: One of the forms in the table above.
        data: The graph.
        count: How many random ones.
        seed: Of random ones.

    Raises:
        ArgumentError: It is none of these forms, or ``public`` where the data has no splits.
        DataError: The file is not readable, names nodes that do not exist, or parts overlap.
    """
    word = str(text)
    if word == "public":
        if not data.splits:
            left = data.notes.get("splits_left_out")
            why = f" that can be trained on (left out: {left})" if left else ""
            raise ArgumentError(
                f"{data.name} comes without splits{why}; add a splits.csv, or take --split random"
            )
        return data.splits
    if word == "random" or word.startswith("random:"):
        return random_splits(data.labels, count, _shares(word), seed)
    path = Path(text).expanduser()
    if not path.is_file():
        raise ArgumentError(
            f"split {word!r}: no such file; expected public, random, random:48/32/20, or a .csv "
            "or .npz file"
        )
    if path.suffix == ".npz":
        return splits_of_npz(path, data.labels)
    names = data.ids or tuple(str(k) for k in range(data.n))
    return splits_of_csv(path, {name: k for k, name in enumerate(names)}, data.labels)


def _shares(word: str) -> tuple[float, float]:
    """Shares of train and val in ``random:48/32/20``."""
    if word == "random":
        return (0.48, 0.32)
    try:
        numbers = [float(part) for part in word.removeprefix("random:").split("/")]
    except ValueError:
        numbers = []
    total = sum(numbers)
    whole = 1.0 if total <= 1.5 else 100.0
    if len(numbers) != 3 or min(numbers) <= 0 or abs(total - whole) > 1e-6 * whole:
        raise ArgumentError(
            f"split {word!r}: expected three positive percentages that add up to 100, "
            "train/val/test, as random:48/32/20"
        )
    return numbers[0] / whole, numbers[1] / whole


def splits_of_csv(
    path: Path,
    place: Mapping[str, int],
    labels: torch.Tensor,
    notes: dict[str, Any] | None = None,
) -> tuple[Split, ...]:
    """Splits of a csv file.

    Args:
        path: The file.
        place: Number of each id.
        labels: ``[n]``, -1 where unknown.
        notes: Where it is written that a split without training nodes was left out; without it
            such a split is refused.

    Raises:
        DataError: A node does not exist, has no label, or a part has another name.
    """
    table = read_table(path, 2, "an id and its part in one or more splits")
    rows: list[tuple[int, list[int]]] = []
    for line, name, cells in split_rows(table, split_header(table, place, frozenset(NAMES))):
        if name not in place:
            raise table.error(line, f"node {name!r} is not in the graph; remove the line")
        for cell in cells:
            if cell not in NAMES and cell not in NONE:
                raise table.error(
                    line, f"found {cell!r}, expected train, val, test, or nothing (unused)"
                )
        parts = [NAMES.get(cell, -1) for cell in cells]
        if labels[place[name]] == UNKNOWN and max(parts) >= 0:
            raise table.error(
                line, f"node {name!r} has no label, so it can be in no part; leave the cell empty"
            )
        rows.append((place[name], parts))
    if not rows:
        raise DataError(f"{path} has a header and no node; give one line for each node")
    nodes = torch.tensor([node for node, _ in rows])
    columns = torch.tensor([parts for _, parts in rows]).T
    return tuple(
        _checked(Split(*(nodes[column == k] for k in range(3))), f"{path}, split {i}")
        for i, column in enumerate(columns)
        if _trains(bool((column == 0).any()), path, i, notes)
    )


def _trains(there: bool, where: str | Path, k: int, notes: dict[str, Any] | None) -> bool:
    """Whether a split has training nodes.

    Raises:
        DataError: It has none, and there are no ``notes`` to say that it is left out.
    """
    if there:
        return True
    if notes is None:
        raise DataError(f"{where}: split {k} has no training nodes; put some nodes into train")
    before = f"{notes['splits_left_out']}; " if "splits_left_out" in notes else ""
    notes["splits_left_out"] = f"{before}{Path(where).name}, split {k} (no training nodes)"
    return False


def _checked(split: Split, where: str) -> Split:
    if not len(split.val):
        raise DataError(
            f"{where} has no validation nodes, on which the weights are chosen; write val for some"
        )
    return split


def splits_of_npz(
    path: Path, labels: torch.Tensor, notes: dict[str, Any] | None = None
) -> tuple[Split, ...]:
    """Splits of an ``.npz`` file with masks; ``notes`` as in :func:`splits_of_csv`.

    Raises:
        DataError: A mask is absent, of another length, or takes nodes without labels.
    """
    return masks_of_npz(load_arrays(path), labels, str(path), notes)


def splits_of_folder(
    folder: Path, place: Mapping[str, int], labels: torch.Tensor, notes: dict[str, Any]
) -> tuple[Split, ...]:
    """Splits that lie beside a graph: ``splits.csv``, else ``*split*.npz``.

    A graph without labels is only predicted on, so its splits are not read. What is left out is
    written into ``notes``.

    Args:
        folder: Of the graph.
        place: Number of each id.
        labels: ``[n]``, -1 where unknown.
        notes: Of the graph.

    Raises:
        DataError: As :func:`splits_of_csv` and :func:`splits_of_npz`.
    """
    table, files = find_table(folder, "splits"), split_files(folder)
    if not (table or files):
        return ()
    if bool((labels == UNKNOWN).all()):
        notes["splits_left_out"] = "all: no node has a label"
        return ()
    if table:
        return splits_of_csv(table, place, labels, notes)
    return tuple(split for path in files for split in splits_of_npz(path, labels, notes))


def masks_of_npz(
    arrays: Mapping[str, NDArray[Any]],
    labels: torch.Tensor,
    where: str,
    notes: dict[str, Any] | None = None,
) -> tuple[Split, ...]:
    """Splits of arrays ``train_mask(s)`` and so on, of shape ``[n]``, ``[k, n]`` or ``[n, k]``.

    Args:
        arrays: By name.
        labels: ``[n]``, -1 where unknown.
        where: The file, for messages.
        notes: As in :func:`splits_of_csv`.

    Raises:
        DataError: Some are there and others not, or shapes or values are wrong.
    """
    n = len(labels)
    found = {p: next((arrays[f"{p}_{s}"] for s in ("masks", "mask") if f"{p}_{s}" in arrays), None)
             for p in PARTS}  # fmt: skip
    absent = [f"{p}_mask" for p, mask in found.items() if mask is None]
    if absent:
        raise DataError(
            f"{where}: {', '.join(absent)} is missing; found {', '.join(arrays) or 'nothing'}"
        )
    masks = {p: _mask(m, n, f"{where}: {p}_mask") for p, m in found.items() if m is not None}
    counts = {p: len(m) for p, m in masks.items()}
    if len(set(counts.values())) > 1:
        raise DataError(f"{where}: masks of several numbers of splits, {counts}; make them agree")
    splits = []
    for k, columns in enumerate(zip(*masks.values(), strict=True)):
        if not _trains(bool(columns[0].any()), where, k, notes):
            continue
        try:
            split = _checked(Split.of_masks(*columns), f"{where}, split {k}")
        except DataError as error:
            raise DataError(f"{where}, split {k}: {error}") from error
        bare = [p for p in PARTS if bool((labels[getattr(split, p)] == UNKNOWN).any())]
        if bare:
            raise DataError(
                f"{where}, split {k}: {bare[0]} takes nodes that have no label; take them out"
            )
        splits.append(split)
    return tuple(splits)


def _mask(mask: NDArray[Any], n: int, where: str) -> NDArray[np.bool_]:
    """As ``[k, n]``."""
    rows = mask.reshape(1, -1) if mask.ndim == 1 else mask
    if rows.ndim == 2 and rows.shape[1] != n and rows.shape[0] == n:
        rows = rows.T
    if rows.ndim != 2 or rows.shape[1] != n:
        hint = "; give masks, not lists of nodes" if mask.dtype.kind in "iu" else ""
        raise DataError(f"{where} has shape {list(mask.shape)}, the graph {n} nodes{hint}")
    if mask.dtype.kind not in "biu" or not np.isin(rows, (0, 1)).all():
        raise DataError(f"{where} holds other values than true and false; give a mask of the nodes")
    return rows.astype(bool)


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of an ``.npz`` file; nothing in it is run.

    Raises:
        DataError: It is damaged, or holds objects instead of numbers or text.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            if not hasattr(found, "files"):
                raise DataError(f"{path} holds one array, expected several with names (np.savez)")
            return {key: found[key] for key in found.files}
    except DataError:
        raise
    except (OSError, ValueError, KeyError, EOFError, ArithmeticError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    except Exception as error:  # zipfile has errors of its own
        if type(error).__module__ not in ("zipfile", "zlib"):
            raise
        raise DataError(f"{path} is damaged: {error}; write it again") from error


def split_files(folder: Path) -> list[Path]:
    """``*split*.npz`` beside the graph or in ``splits/``, in the order of their numbers."""
    found = [*folder.glob("*split*.npz"), *(folder / "splits").glob("*.npz")]
    return sorted(found, key=lambda p: [int(x) for x in re.findall(r"\d+", p.name)] or [0])
