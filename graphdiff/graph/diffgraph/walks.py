r"""Recommenders without training: popularity, neighbours of items, random walks.

With the weighted edges of a user :math:`a_u` (a row of :math:`A = \sum_b w_b A_b`), degrees
:math:`D_U, D_I` and item norms :math:`n_i = \lVert A_{\cdot i} \rVert`,

.. math::
    \text{popularity:}\quad & s_{ui} = \sum_u A_{ui}, \\
    \text{item-kNN:}\quad & s_u = a_u N, \qquad N_{ij} = \frac{\langle A_{\cdot i}, A_{\cdot j}
        \rangle}{n_i n_j}, \\
    P^{2m + 1}:\quad & s_u = a_u D_u^{-1} \bigl(D_I^{-1} A^\top D_U^{-1} A\bigr)^m D_I^{-\beta},

the last a walk of :math:`2m + 1` steps from the user (Cooper et al., 2014, "Random walks in
recommender systems"), with the score of popular items lowered by :math:`\beta` (Christoffel et al.,
2015, RP3beta). Products are formed for a block of users at a time, right to left, and never for two
items at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from graphdiff.core.errors import ArgumentError
from graphdiff.data.behaviours import Behaviours

__all__ = ["ItemKNN", "Popularity", "Walk", "inverse", "scaled"]

Float = NDArray[np.float32]
Users = NDArray[np.int64]


class _Weighted(Protocol):
    def __call__(self, users: Users) -> Float:
        """Scores ``[b, items]``."""


def inverse(degrees: NDArray[Any], power: float = 1.0) -> Float:
    """``degrees ** -power``, zero for what has no edge."""
    found = np.zeros(len(degrees), np.float32)
    there = degrees > 0
    found[there] = degrees[there].astype(np.float64) ** -power
    return found


def scaled(matrix: sparse.csr_matrix, power: float = 1.0) -> sparse.csr_matrix:
    """Rows divided by their sums to a power; empty rows stay empty."""
    sums = np.asarray(matrix.sum(1)).ravel()
    return sparse.csr_matrix(sparse.diags(inverse(sums, power)) @ matrix)


def _edges(data: Behaviours, weights: Mapping[str, float] | None) -> sparse.csr_matrix:
    """The weighted sum of relations; without weights the union, each pair once."""
    return data.seen if weights is None else data.weighted(weights)


class Popularity:
    """Number (or weight) of the edges of an item.

    Args:
        data: Training edges.
        weights: Of the relations; each pair once if left out.
    """

    def __init__(self, data: Behaviours, weights: Mapping[str, float] | None = None) -> None:
        self.counts = np.asarray(_edges(data, weights).sum(0), np.float32).ravel()

    def __call__(self, users: Users) -> Float:
        """Scores ``[b, items]``."""
        return np.tile(self.counts, (len(users), 1))


class ItemKNN:
    """Cosine of items with those of the user.

    Args:
        data: Training edges.
        weights: Of the relations; each pair once if left out.
    """

    def __init__(self, data: Behaviours, weights: Mapping[str, float] | None = None) -> None:
        edges = _edges(data, weights)
        norms = np.sqrt(np.asarray(edges.multiply(edges).sum(0)).ravel())
        self.edges = edges
        self.unit = sparse.csr_matrix(edges @ sparse.diags(inverse(norms)))
        self._turned = sparse.csr_matrix(self.unit.T)

    def __call__(self, users: Users) -> Float:
        """Scores ``[b, items]``."""
        likeness = (self.edges[users] @ self._turned) @ self.unit
        return np.asarray(likeness.toarray(), np.float32)


class Walk:
    """Where a random walk of an odd number of steps from a user ends.

    Args:
        data: Training edges.
        steps: 3, 5, ....
        weights: Of the relations; each pair once if left out.
        beta: Power of the degree that an item is divided by.

    Raises:
        ArgumentError: ``steps`` is even or below 3.
    """

    def __init__(
        self,
        data: Behaviours,
        steps: int = 3,
        weights: Mapping[str, float] | None = None,
        beta: float = 0.0,
    ) -> None:
        if steps < 3 or steps % 2 == 0:
            raise ArgumentError(f"a walk from user to item has 3, 5, ... steps, found {steps}")
        edges = _edges(data, weights)
        self.steps = steps
        self.there = scaled(edges)
        self.back = scaled(sparse.csr_matrix(edges.T))
        self._end = inverse(np.asarray(edges.sum(0)).ravel(), beta)

    def __call__(self, users: Users) -> Float:
        """Probabilities ``[b, items]`` (divided by degrees to the power ``beta``)."""
        place = self.there[users]
        for _ in range(self.steps // 2):
            place = (place @ self.back) @ self.there
        return np.asarray(place.toarray(), np.float32) * self._end
