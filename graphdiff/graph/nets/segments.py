"""Sums over segments and their transpose, the two moves of message passing on edge lists.

Row ``r`` of a table ``[r, d]`` belongs to segment ``index[r]``. :meth:`Segments.sum` adds the rows
of each segment, :meth:`Segments.spread` repeats the row of a segment at each of its members; each
is the other's derivative, and sorted indices make both fast where an unsorted ``index_add`` is not.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

__all__ = ["Segments"]


class Segments:
    """Which segment each row belongs to.

    Args:
        index: Segment of each row, int64 ``[r]``.
        count: Number of segments.
    """

    def __init__(self, index: Tensor, count: int) -> None:
        self.index = index
        self.count = count

    @cached_property
    def _sorted(self) -> tuple[Tensor, Tensor]:
        order = torch.argsort(self.index, stable=True)
        return order, self.index[order]

    def sum(self, rows: Tensor) -> Tensor:
        """Sum of the rows of each segment, ``[count, d]``."""
        out: Tensor = _Sum.apply(rows, self)
        return out

    def spread(self, table: Tensor) -> Tensor:
        """Row ``index[r]`` of ``table`` ``[count, d]`` for every ``r``, ``[r, d]``."""
        out: Tensor = _Spread.apply(table, self)
        return out

    def add(self, rows: Tensor) -> Tensor:
        """:meth:`sum` without a record for the derivative."""
        order, index = self._sorted
        out = rows.new_zeros(self.count, rows.shape[1])
        return out.index_add_(0, index, rows.index_select(0, order))


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, segments: Segments) -> Tensor:
        ctx.segments = segments
        return segments.add(rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.index_select(0, ctx.segments.index), None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, segments: Segments) -> Tensor:
        ctx.segments = segments
        return table.index_select(0, segments.index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.segments.add(grad.contiguous()), None
