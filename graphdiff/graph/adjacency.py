r"""Normalised adjacency matrices of one graph, and what is spread along them.

.. math:: \hat A_{ij} \propto (d_i d_j)^\alpha (A + \ell I)_{ij}, \quad d = (A + \ell I) \mathbf 1 .

:math:`\alpha = -\tfrac12` is the usual symmetric normalisation, taken as it is (Kipf and Welling,
2017). For any other :math:`\alpha` rows are divided by their sum; :math:`\alpha > 0` listens more
to neighbours of high degree (the "advanced GCN" of Li et al., 2022, arXiv 2207.00012), which an
attacker's few edges hardly change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.sparse import Pattern

__all__ = ["Operator", "Pairs", "SparseOperator", "adjacency", "both_ways", "spread"]

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


class Operator(Protocol):
    """A linear map of node features."""

    def matmul(self, x: Tensor) -> Tensor:
        """The map of ``x`` ``[n, f]``."""


@dataclass(frozen=True, eq=False)
class SparseOperator:
    """A sparse matrix by pattern and values.

    Attributes:
        pattern: Where it has entries.
        values: The entries ``[nnz]``.
    """

    pattern: Pattern
    values: Tensor

    def matmul(self, x: Tensor) -> Tensor:
        """The product with ``x`` ``[n, f]``."""
        return self.pattern.matmul(self.values, x)

    def csr(self) -> Tensor:
        """As a sparse tensor of torch."""
        return self.pattern.csr(self.values)

    def to(self, device: torch.device | str) -> SparseOperator:
        """The same on another device."""
        return SparseOperator(self.pattern.to(device), self.values.to(device))


def adjacency(
    row: NDArray[np.int64],
    col: NDArray[np.int64],
    n: int,
    *,
    alpha: float = -0.5,
    loops: float = 1.0,
    weight: NDArray[np.float64] | None = None,
) -> SparseOperator:
    """The normalised adjacency of the module docstring.

    Args:
        row: Row of each entry ``[m]``; both directions of an undirected edge are given.
        col: Column of each entry ``[m]``; no self-loops, no repetitions.
        n: Number of nodes.
        alpha: Exponent of the degrees.
        loops: Weight of the self-loops that are added; 0 adds none, and isolated nodes have empty
            rows.
        weight: Of the entries ``[m]``; ones by default.

    Raises:
        ArgumentError: An entry is repeated or lies on the diagonal, or a degree is not positive.
    """
    if len(row) and bool((row == col).any()):
        raise ArgumentError("entries on the diagonal are not expected: `loops` adds self-loops")
    every = np.arange(n if loops else 0)
    rows, cols = np.concatenate([row, every]), np.concatenate([col, every])
    ones = np.ones(len(row)) if weight is None else weight
    values = np.concatenate([ones, np.full(len(every), loops)])
    order = np.argsort(rows * n + cols, kind="stable")
    rows, cols, values = rows[order], cols[order], values[order]
    degree = np.bincount(rows, values, n)
    degree[np.bincount(rows, minlength=n) == 0] = 1.0  # rows without entries stay empty
    if not (degree > 0).all():
        raise ArgumentError(
            f"node {int(np.argmin(degree))} has degree {degree.min():g}; with loops > 0 and "
            "weights >= 0 every degree is positive"
        )
    values = values * (degree[rows] * degree[cols]) ** alpha
    if alpha != -0.5:
        values = values / np.bincount(rows, values, n)[rows]
    pattern = Pattern.of(torch.from_numpy(rows), torch.from_numpy(cols), (n, n))
    return SparseOperator(pattern, torch.from_numpy(values).float())


def both_ways(edges: NDArray[np.int64]) -> Pairs:
    """Rows and columns of the symmetric adjacency of edges ``[2, m]``."""
    return np.concatenate([edges[0], edges[1]]), np.concatenate([edges[1], edges[0]])


def spread(operator: Operator, start: Tensor, share: float, steps: int) -> Tensor:
    r"""Label propagation, :math:`F \leftarrow \lambda A F + (1 - \lambda) F_0` (Zhou et al., 2004).

    Args:
        operator: Normalised adjacency.
        start: :math:`F_0`, ``[n, c]``.
        share: :math:`\lambda`, how much of a node's score is its neighbours', below 1.
        steps: Rounds.
    """
    scores = start
    for _ in range(steps):
        scores = share * operator.matmul(scores) + (1 - share) * start
    return scores
