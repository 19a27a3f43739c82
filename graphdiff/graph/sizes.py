"""How many nodes a sample has: as many as a user asks for, or as the training graphs have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError, ConfigError
from graphdiff.core.rng import Key

__all__ = ["draw_sizes", "given_sizes"]


def draw_sizes(histogram: Sequence[int], ids: Tensor, seed: int) -> Tensor:
    """A node count for each id from a histogram of counts, int64 ``[b]``.

    Raises:
        ConfigError: The histogram is empty.
    """
    counts = torch.tensor(histogram, dtype=torch.float64)
    if not len(counts):
        raise ConfigError(
            "data.sizes is empty, so the number of nodes of a sample is unknown; train or "
            "convert the model first (both fill it in), or set data.sizes"
        )
    edges = counts.cumsum(0) / counts.sum()
    u = Key(seed, ids, stream=0).at(stream="size").uniform(1, dtype=torch.float64).squeeze(1)
    return torch.searchsorted(edges.to(u.device), u, right=True).clamp(max=len(counts) - 1)


def given_sizes(size: Any, n: int, largest: int | None) -> Tensor:
    """Node counts that a user asked for, int64 ``[n]``; ``size`` is one number or one for each.

    Args:
        size: What was asked for.
        n: Number of samples.
        largest: Largest number of nodes that the model was trained on, if it cannot make more.

    Raises:
        ArgumentError: A size is below 1 or above ``largest``.
    """
    out = torch.as_tensor(size, dtype=torch.int64).expand(n).clone()
    low, high = (int(out.min()), int(out.max())) if n else (1, 1)
    if low < 1 or (largest is not None and high > largest):
        top = "" if largest is None else f" and at most {largest}, as in training"
        raise ArgumentError(f"size must be at least 1{top}; found {low} to {high}")
    return out
