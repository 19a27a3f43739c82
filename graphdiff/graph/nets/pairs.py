r"""Symmetric edge features stored once per node pair, samples last.

A symmetric field with a meaningless diagonal has :math:`P = n(n-1)/2` free entries. Networks whose
edge update is the same function for :math:`(i, j)` and :math:`(j, i)` do their work on
``[c, p, b]`` instead of ``[b, n, n, c]``: less than half of it, and with the samples innermost
every product over the few nodes of a graph is one long vector operation. Pairs are numbered
:math:`k = j(j-1)/2 + i` for :math:`i < j`, as :class:`graphdiff.core.space.Symmetric` does, so a
longer padding only appends pairs.

Two contractions serve attention and graph convolution; each is the derivative of the other:

.. math::
    \mathrm{outer}(q, k)_{gij} = \sum_d q_{gdi} k_{gdj}, \qquad
    \mathrm{spread}(s, h)_{gdi} = \sum_j s_{gij} h_{gdj}.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

__all__ = ["outer", "pair_mask", "spread", "symmetric_pairs", "to_dense", "to_pairs"]

SMALL = 64
"""Up to this many nodes the CPU contracts by vector operations over the samples: batched products
of matrices this small run at a tenth of their speed (37 ms against 3 ms for 32,768 of 9x4x9)."""


@lru_cache(maxsize=256)
def _tables(n: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """``(i [p], j [p], place [n * n])``; ``place`` sends the diagonal to the extra slot ``p``."""
    with torch.inference_mode(False):  # a cached inference tensor could not be used in training
        j, i = torch.tril_indices(n, n, offset=-1)
        place = torch.full((n, n), i.numel(), dtype=torch.long)
        order = torch.arange(i.numel())
        place[i, j] = order
        place[j, i] = order
        return i.to(device), j.to(device), place.flatten().to(device)


def pair_mask(mask: Tensor) -> Tensor:
    """Whether both ends are real: node mask ``[n, b]`` to ``[p, b]``."""
    i, j, _ = _tables(mask.shape[0], mask.device)
    return mask.index_select(0, i) & mask.index_select(0, j)


def to_pairs(dense: Tensor) -> Tensor:
    """Entries above the diagonal: ``[b, n, n]`` to ``[p, b]``."""
    n = dense.shape[1]
    i, j, _ = _tables(n, dense.device)
    return dense.flatten(1).t().index_select(0, i * n + j)


def to_dense(pairs: Tensor, n: int, diagonal: float) -> Tensor:
    """Symmetric ``[c, n, n, b]`` with a constant diagonal from ``[c, p, b]``."""
    _, _, place = _tables(n, pairs.device)
    slot = pairs.new_full((pairs.shape[0], 1, pairs.shape[2]), diagonal)
    return torch.cat([pairs, slot], dim=1).index_select(1, place).unflatten(1, (n, n))


def symmetric_pairs(field: Tensor) -> Tensor:
    """Sum of both orders: ``[c, n, n, b]`` to ``[c, p, b]``."""
    n = field.shape[1]
    i, j, _ = _tables(n, field.device)
    flat = field.flatten(1, 2)
    return flat.index_select(1, i * n + j) + flat.index_select(1, j * n + i)


def _by_vectors(n: int, device: torch.device) -> bool:
    return device.type == "cpu" and n <= SMALL


def _outer(q: Tensor, k: Tensor) -> Tensor:
    if not _by_vectors(q.shape[2], q.device):
        return torch.einsum("gdib,gdjb->gijb", q, k).contiguous()
    out = q[:, 0, :, None] * k[:, 0, None]
    for d in range(1, q.shape[1]):
        out.addcmul_(q[:, d, :, None], k[:, d, None])
    return out


def _spread(s: Tensor, h: Tensor) -> Tensor:
    if not _by_vectors(h.shape[2], h.device):
        return torch.einsum("gijb,gdjb->gdib", s, h).contiguous()
    out = s[:, None, :, 0] * h[:, :, 0, None]
    for j in range(1, h.shape[2]):
        out.addcmul_(s[:, None, :, j], h[:, :, j, None])
    return out


class _Outer(Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor) -> Tensor:
        ctx.save_for_backward(q, k)
        return _outer(q, k)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        q, k = ctx.saved_tensors
        (g,) = grads
        return spread(g, k), spread(g.transpose(1, 2), q)


class _Spread(Function):
    @staticmethod
    def forward(ctx: Any, s: Tensor, h: Tensor) -> Tensor:
        ctx.save_for_backward(s, h)
        return _spread(s, h)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        s, h = ctx.saved_tensors
        (g,) = grads
        return outer(g, h), spread(s.transpose(1, 2), g)


def outer(q: Tensor, k: Tensor) -> Tensor:
    """``q [g, d, i, b]`` and ``k [g, d, j, b]`` to ``[g, i, j, b]``."""
    out: Tensor = _Outer.apply(q, k)
    return out


def spread(s: Tensor, h: Tensor) -> Tensor:
    """``s [g, i, j, b]`` and ``h [g, d, j, b]`` to ``[g, d, i, b]``."""
    out: Tensor = _Spread.apply(s, h)
    return out
