r"""Weights from attributes (Yang and Fountoulakis, ICML 2023, arXiv 2303.11187).

.. math:: w_{ij} \leftarrow w_{ij}\, e^{-\gamma \lVert x_i - x_j \rVert^2}

Distances are computed for the edges that a query reads, and no others. ``gamma`` sets how far apart
is far; :func:`local_gamma` takes the median squared distance along the edges of the seeds as its
unit, which again reads only their rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.local.graph import Float, Int, LocalGraph, Reweighted

__all__ = ["local_gamma", "squared_distances", "with_attributes"]


def with_attributes(graph: LocalGraph, features: Any, gamma: float) -> Reweighted:
    r"""A graph whose weights fall with the distance of attributes, as they are read.

    Args:
        graph: The graph.
        features: Attributes ``[n, f]``, dense or scipy sparse.
        gamma: :math:`\gamma \ge 0`, in 1 / units of the squared attributes.

    Raises:
        ArgumentError: Not a row for each node, a value that is not finite, or a bad ``gamma``.
    """
    if not 0 <= gamma < np.inf:
        raise ArgumentError(f"gamma must be 0 or more and finite, found {gamma}")
    table = _table(graph, features)

    def factor(left: Int, right: Int) -> Float:
        found: Float = np.exp(-gamma * squared_distances(table, left, right))
        return found

    return Reweighted(graph, factor)


def squared_distances(features: Any, left: Int, right: Int) -> Float:
    """Squared distances ``[m]`` of the attributes of pairs of nodes."""
    difference = features[left] - features[right]
    if sparse.issparse(difference):
        return np.asarray(difference.multiply(difference).sum(1), np.float64).ravel()
    found: Float = (np.asarray(difference, np.float64) ** 2).sum(1)
    return found


def local_gamma(graph: LocalGraph, features: Any, seeds: Any) -> float:
    """One over the median squared distance along the edges of the seeds.

    Raises:
        ArgumentError: A seed is unknown, they have no edges, or all these distances are 0.
    """
    table, numbers = _table(graph, features), graph.find(seeds)
    counts, ends, _ = graph.rows(numbers)
    middle = 0.0
    if len(ends):
        middle = float(np.median(squared_distances(table, np.repeat(numbers, counts), ends)))
    if middle <= 0:
        raise ArgumentError(
            "attributes do not differ along the edges of the seeds, or there are none, so there is "
            "no unit of distance; give gamma"
        )
    return 1 / middle


def _table(graph: LocalGraph, features: Any) -> Any:
    """Attributes that rows can be taken of."""
    table = features.tocsr() if sparse.issparse(features) else np.asarray(features)
    if table.ndim != 2 or table.shape[0] != graph.nodes:
        raise ArgumentError(
            f"found attributes of the shape {list(table.shape)} for a graph of {graph.nodes:,} "
            f"nodes; expected [{graph.nodes}, f]"
        )
    if not np.isfinite(table.data if sparse.issparse(table) else table).all():
        raise ArgumentError("attributes hold NaN or infinity; fill in missing values first")
    return table
