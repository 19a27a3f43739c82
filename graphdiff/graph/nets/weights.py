"""Classes as network inputs: int64 classes, or class weights where a chain is differentiated."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["bond_weights", "class_weights"]


def class_weights(x: Tensor, classes: int, dims: int, dtype: torch.dtype) -> Tensor:
    """Weights ``[..., K]`` of classes int64 (``dims`` axes), or of weights (one axis more)."""
    if x.ndim > dims:
        return x.to(dtype)
    return functional.one_hot(x, classes).to(dtype)


def bond_weights(adj: Tensor, bonds: int, dtype: torch.dtype) -> Tensor:
    """How much of an edge each pair is, ``[b, n, n]``: 1 for the classes 1 to ``bonds - 1``."""
    if adj.ndim > 3:
        return adj[..., 1:bonds].sum(-1).to(dtype)
    return ((adj > 0) & (adj < bonds)).to(dtype)
