r"""Symmetric pair features stored once for each pair, channels last.

``[b, p, c]`` with :math:`p = n(n-1)/2` holds what ``[b, n, n, c]`` holds twice (the diagonal means
nothing). Pairs are numbered :math:`k = j(j-1)/2 + i` for :math:`i < j`, as
:class:`graphdiff.core.space.Symmetric` numbers them, so a longer padding only appends pairs.

Contractions over nodes run on whichever layout the machine likes: a batched product of matrices
on a GPU and for larger graphs, vector operations over the samples for small graphs on a CPU (see
:mod:`graphdiff.graph.nets.pairs`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.core.tables import table
from graphdiff.graph.nets.pairs import outer, spread

__all__ = ["attend", "between", "incident", "pair_ends", "square", "to_full", "to_half"]

VECTOR_NODES = 16
"""Up to this many nodes a CPU contracts by vector operations: products of matrices this small run
at a tenth of the speed of larger ones."""


@table
def pair_ends(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes ``i < j`` of each pair, int64 ``[p]`` each."""
    j, i = torch.tril_indices(n, n, offset=-1, device=device)
    return i, j


@table
def _places(n: int, device: torch.device) -> Tensor:
    """Pair of each entry of an ``n`` by ``n`` matrix, int64 ``[n * n]``; ``p`` on the diagonal."""
    i, j = pair_ends(n, device)
    place = torch.full((n, n), len(i), dtype=torch.int64, device=device)
    place[i, j] = place[j, i] = torch.arange(len(i), device=device)
    return place.flatten()


@table
def _incidence(n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """1 where a node is an end of a pair, ``[n, p]``."""
    i, j = pair_ends(n, device)
    node = torch.arange(n, device=device)[:, None]
    return ((node == i) | (node == j)).to(dtype)


def to_half(full: Tensor) -> Tensor:
    """Entries above the diagonal: ``[b, n, n, ...]`` to ``[b, p, ...]``."""
    n = full.shape[1]
    i, j = pair_ends(n, full.device)
    return full.flatten(1, 2).index_select(1, i * n + j)


def to_full(half: Tensor, n: int, diagonal: float = 0.0) -> Tensor:
    """Symmetric ``[b, n, n, c]`` with a constant diagonal from ``[b, p, c]``."""
    slot = half.new_full((half.shape[0], 1, half.shape[2]), diagonal)
    place = _places(n, half.device)
    return torch.cat([half, slot], dim=1).index_select(1, place).unflatten(1, (n, n))


def between(x: Tensor) -> tuple[Tensor, Tensor]:
    """Node features ``[b, n, c]`` at both ends of each pair, ``[b, p, c]`` each."""
    i, j = pair_ends(x.shape[1], x.device)
    return x.index_select(1, i), x.index_select(1, j)


def incident(half: Tensor, n: int) -> Tensor:
    """Sum over the pairs of each node: ``[b, p, c]`` to ``[b, n, c]``."""
    return torch.matmul(_incidence(n, half.device, half.dtype), half)


def _by_vectors(n: int, device: torch.device) -> bool:
    return device.type == "cpu" and n <= VECTOR_NODES


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, heads: int) -> Tensor:
    """Multi-head attention with an additive bias for each pair.

    Args:
        q: Queries ``[b, n, heads * d]``, already scaled.
        k: Keys ``[b, n, heads * d]``.
        v: Values ``[b, n, heads * e]``.
        bias: ``[b, n, n, heads]``; very negative where a node must not be attended to.
        heads: Number of heads.

    Returns:
        ``[b, n, heads * e]``.
    """
    n = q.shape[1]
    if _by_vectors(n, q.device):
        qs, ks, vs = (
            x.unflatten(2, (heads, -1)).permute(2, 3, 1, 0).contiguous() for x in (q, k, v)
        )
        weights = torch.softmax(outer(qs, ks) + bias.permute(3, 1, 2, 0), dim=2)
        return spread(weights, vs).permute(3, 2, 0, 1).flatten(2)
    qh, kh, vh = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    out = torch.nn.functional.scaled_dot_product_attention(
        qh, kh, vh, attn_mask=bias.permute(0, 3, 1, 2), scale=1.0
    )
    return out.transpose(1, 2).flatten(2)


def square(f: Tensor, g: Tensor) -> Tensor:
    """Two-step paths between the ends of each pair.

    ``f`` and ``g`` are symmetric ``[b, n, n, c]`` with a zero diagonal; returns
    ``sum_k f_ik g_kj + g_ik f_kj``, ``[b, p, c]``.
    """
    if _by_vectors(f.shape[1], f.device):
        fs, gs = (x.permute(3, 1, 2, 0).contiguous() for x in (f, g))
        paths = outer(fs, gs).permute(3, 1, 2, 0)
    else:
        fs, gs = (x.permute(0, 3, 1, 2).contiguous() for x in (f, g))
        paths = torch.matmul(fs, gs).permute(0, 2, 3, 1)
    return to_half(paths) + to_half(paths.transpose(1, 2))
