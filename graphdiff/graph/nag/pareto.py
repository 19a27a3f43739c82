r"""Fronts of two numbers that are both to be low: dominance, crowding, hypervolume.

The hypervolume of points :math:`(a_i, b_i)` below a reference :math:`r` is the area that they
dominate, :math:`\lvert \bigcup_i [a_i, r_a] \times [b_i, r_b] \rvert`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["crowding", "front", "gains", "hypervolume", "ranks"]

Array = NDArray[np.float64]


def front(points: Array) -> NDArray[np.int64]:
    """Points ``[m, 2]`` that no other dominates, by the first number; of equal ones the first."""
    order = np.lexsort((points[:, 1], points[:, 0]))
    kept, lowest = [], np.inf
    for i in order:
        if points[i, 1] < lowest:
            kept.append(i)
            lowest = points[i, 1]
    return np.array(kept, np.int64)


def ranks(points: Array) -> NDArray[np.int64]:
    """Number of the front that each point ``[m, 2]`` is on once those before are taken away."""
    found = np.zeros(len(points), np.int64)
    left, rank = np.arange(len(points)), 0
    while len(left):
        first = front(points[left])
        # Equal points are on one front.
        on = (points[left][:, None] == points[left[first]][None]).all(-1).any(1)
        found[left[on]] = rank
        left, rank = left[~on], rank + 1
    return found


def crowding(points: Array) -> Array:
    """How far the neighbours on the same front are, ``[m]``; infinite at its ends (NSGA-II)."""
    found, rank = np.zeros(len(points)), ranks(points)
    for k in range(int(rank.max()) + 1 if len(rank) else 0):
        on = np.flatnonzero(rank == k)
        for axis in (0, 1):
            order = on[np.argsort(points[on, axis], kind="stable")]
            value = points[order, axis]
            width = value[-1] - value[0] or 1.0
            found[order[[0, -1]]] = np.inf
            found[order[1:-1]] += (value[2:] - value[:-2]) / width
    return found


def hypervolume(points: Array, reference: tuple[float, float]) -> float:
    """Area that points ``[m, 2]`` dominate below ``reference``."""
    a, b = reference
    inside = points[(points[:, 0] < a) & (points[:, 1] < b)]
    if not len(inside):
        return 0.0
    edge = inside[front(inside)]
    right = np.append(edge[1:, 0], a)
    return float(((right - edge[:, 0]) * (b - edge[:, 1])).sum())


def gains(points: Array, asked: Array, reference: tuple[float, float]) -> Array:
    """How much area each of ``asked`` ``[k, 2]`` would add to that of ``points``, ``[k]``."""
    a, b = reference
    inside = points[(points[:, 0] < a) & (points[:, 1] < b)]
    edge = inside[front(inside)] if len(inside) else inside
    # Strips between the first numbers of the front, with what is still free above each.
    left = np.concatenate([[-np.inf], edge[:, 0]])
    right = np.concatenate([edge[:, 0], [a]])
    free = np.concatenate([[b], edge[:, 1]])
    width = np.clip(right[None] - np.maximum(left[None], asked[:, :1]), 0, None)
    height = np.clip(free[None] - asked[:, 1:], 0, None)
    found: Array = (width * height).sum(1)
    return found
