"""Triangles of sparse graphs."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["corners", "triangles"]


def triangles(pairs: Tensor, n: int) -> Tensor:
    r"""All triangles of an undirected graph as triples of edge numbers, int64 ``[t, 3]``.

    Edges point from the end of lower degree to the other, so a node has at most
    :math:`\sqrt{2k}` edges going out, and each pair of these is looked up once.

    Args:
        pairs: Edges without repeats ``[k, 2]``.
        n: Number of nodes.
    """
    device, k = pairs.device, len(pairs)
    if k < 3:
        return torch.zeros(0, 3, dtype=torch.int64, device=device)
    degree = torch.bincount(pairs.flatten(), minlength=n)
    rank = torch.empty_like(degree)
    rank[torch.argsort(degree, stable=True)] = torch.arange(n, device=device)
    ends = rank[pairs].sort(1).values
    key, order = torch.sort(ends[:, 0] * n + ends[:, 1])
    tail, head = key // n, key % n
    stop = torch.searchsorted(tail.contiguous(), torch.arange(n, device=device), right=True)
    later = stop[tail] - torch.arange(k, device=device) - 1
    one = torch.repeat_interleave(torch.arange(k, device=device), later)
    start = later.cumsum(0) - later
    two = one + 1 + torch.arange(len(one), device=device) - start[one]
    third = head[one] * n + head[two]
    place = torch.searchsorted(key, third).clamp(max=k - 1)
    hit = key[place] == third
    return order[torch.stack([one[hit], two[hit], place[hit]], 1)]


def corners(edges: Tensor, found: Tensor) -> Tensor:
    """The three nodes of each of the triangles ``found`` ``[t, 3]``, int64 ``[t, 3]``."""
    ends = edges[found[:, :2]].flatten(1)
    first, second = ends[:, :2], ends[:, 2:]
    shared = (second == first[:, :1]) | (second == first[:, 1:])
    third = torch.where(shared[:, 0], second[:, 1], second[:, 0])
    return torch.cat([first, third.unsqueeze(1)], 1)
