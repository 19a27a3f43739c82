"""Requests for samples: numbers in range, and which part of a condition is a sample's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from graphdiff.core.errors import ArgumentError

__all__ = ["MAX_ID", "check_request", "pick"]

MAX_ID = 2**48
"""Sample ids are below this."""


def check_request(n: int, start: int, seed: int, batch_size: int) -> tuple[int, int, int, int]:
    """The four numbers of a request as ints in range."""
    wanted = {
        "n": (n, 0, MAX_ID),
        "start": (start, 0, MAX_ID - 1),
        "seed": (seed, 0, 2**63 - 1),
        "batch_size": (batch_size, 1, MAX_ID),
    }
    for name, (value, low, high) in wanted.items():
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise ArgumentError(f"{name} is {value!r}, expected a whole number")
        if not low <= int(value) <= high:
            raise ArgumentError(f"{name} is {int(value)}, expected {low} <= {name} <= {high}")
    if int(start) + int(n) > MAX_ID:
        raise ArgumentError(f"start + n is {int(start) + int(n)}, sample ids end at {MAX_ID - 1}")
    return int(n), int(start), int(seed), int(batch_size)


def pick(name: str, value: Any, place: torch.Tensor, n: int) -> Any:
    """The part of a condition that belongs to the samples at ``place`` of ``n``."""
    if isinstance(value, torch.Tensor) and value.ndim == 0:
        return value
    if isinstance(value, torch.Tensor) or (
        isinstance(value, Sequence) and not isinstance(value, str)
    ):
        if len(value) != n:
            raise ArgumentError(
                f"condition {name!r} has {len(value)} values, expected one, or one for each of "
                f"the {n} samples"
            )
        if isinstance(value, torch.Tensor):
            return value[place.to(value.device)]
        return [value[i] for i in place.tolist()]
    return value
