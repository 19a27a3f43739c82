"""Graphs with labels from PyTorch Geometric and back: ``NodeData.from_pyg`` and ``to_pyg``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from graphdiff.core.errors import DataError
from graphdiff.data.nodes import UNKNOWN, NodeData, Split, as_array

__all__ = ["nodes_of_pyg", "pyg_of_nodes"]

PARTS = ("train", "val", "test")


def nodes_of_pyg(data: Any, name: str = "") -> NodeData:
    """See :meth:`graphdiff.data.nodes.NodeData.from_pyg`."""
    name = name or type(data).__name__
    if getattr(data, "edge_index", None) is None:
        raise DataError(f"{name}: the PyG graph has no edge_index; give edges [2, m]")
    notes: dict[str, Any] = {}
    if getattr(data, "y", None) is None:
        labels: NDArray[Any] = np.full(int(data.num_nodes), UNKNOWN)
        notes["labels"] = "none were given: the graph can be predicted on, not learned from"
    else:
        labels = as_array(data.y)
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    splits = _splits(data, labels, name, notes)
    x = getattr(data, "x", None)
    return NodeData.of(name, data.edge_index, x, labels, splits, notes=notes)


def pyg_of_nodes(data: NodeData) -> Any:
    """See :meth:`graphdiff.data.nodes.NodeData.to_pyg`."""
    from torch_geometric.data import Data

    both = torch.cat([data.edges, data.edges.flip(0)], 1)
    made = Data(x=data.features, y=data.labels, edge_index=both)
    for part in PARTS if data.splits else ():
        mask = torch.zeros(data.n, len(data.splits), dtype=torch.bool)
        for k, split in enumerate(data.splits):
            mask[getattr(split, part), k] = True
        setattr(made, f"{part}_mask", mask)
    return made


def _splits(data: Any, labels: NDArray[Any], name: str, notes: dict[str, Any]) -> list[Split]:
    masks = {part: getattr(data, f"{part}_mask", None) for part in PARTS}
    absent = [f"{part}_mask" for part, mask in masks.items() if mask is None]
    if len(absent) == len(PARTS):
        return []
    if absent or (labels == UNKNOWN).all():
        why = f"there is no {absent[0]}" if absent else "no node has a label"
        notes["splits_left_out"] = f"all: {why}"
        return []
    columns = [_columns(mask, len(labels), f"{name}: {part}_mask") for part, mask in masks.items()]
    count = max(found.shape[1] for found in columns)
    widths = {f"{part}_mask": m.shape[1] for part, m in zip(PARTS, columns, strict=True)}
    if any(width not in (1, count) for width in widths.values()):
        raise DataError(f"{name}: masks of several numbers of splits, {widths}; make them agree")
    parts = [np.broadcast_to(found, (len(labels), count)).copy() for found in columns]
    there = parts[0].any(0)
    if not there.all():
        which = ", ".join(str(k) for k in np.flatnonzero(~there))
        notes["splits_left_out"] = f"no training nodes: split {which}"
    kept = np.flatnonzero(there).tolist()
    return [Split.of_masks(*(part[:, k] for part in parts)) for k in kept]


def _columns(mask: Any, n: int, where: str) -> NDArray[np.bool_]:
    """As ``[n, k]``."""
    found = as_array(mask)
    if found.ndim not in (1, 2) or len(found) != n:
        raise DataError(
            f"{where} has shape {list(found.shape)}, the graph {n} nodes; expected [n] or [n, k]"
        )
    return (found[:, None] if found.ndim == 1 else found).astype(bool)
