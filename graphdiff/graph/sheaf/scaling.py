"""Scaling of node features, the same for the graph of a training and for those predicted later.

``rows`` divides each row by its sum, for words; ``columns`` standardises each column by the mean
and the spread of the training graph, for measurements; ``none`` leaves them. :func:`choose_scaling`
takes rows where no value is negative and at least half are zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Scaling", "choose_scaling", "scale_of", "scaled"]

Scaling = Literal["rows", "columns", "none"]


def choose_scaling(features: Tensor) -> Scaling:
    """``rows`` where nothing is negative and at least half is zero (words), else ``columns``."""
    few = not features.numel() or float((features == 0).float().mean()) >= 0.5
    return "rows" if few and not bool((features < 0).any()) else "columns"


def scale_of(features: Tensor, scaling: Scaling) -> dict[str, Tensor]:
    """What the scaling of other graphs needs to know of this one."""
    if scaling != "columns":
        return {}
    spread = features.std(0, unbiased=False)
    return {"mean": features.mean(0), "spread": spread.where(spread > 0, torch.ones(()))}


def scaled(x: Tensor, scaling: Scaling, scale: Mapping[str, Tensor]) -> Tensor:
    """Features ``[n, f]`` as the network sees them; ``scale`` is from :func:`scale_of`."""
    if scaling == "columns":
        return (x - scale["mean"]) / scale["spread"]
    if scaling == "rows":
        total = x.sum(1, keepdim=True)
        return x / total.where(total != 0, torch.ones(()))
    return x
