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
        features: Attributes ``[n, f]``, numbers, dense or scipy sparse (in CSR: other forms are
            converted first). Rows are looked at when their nodes are reached.
        gamma: :math:`\gamma \ge 0`, in 1 / units of the squared attributes.

    Raises:
        ArgumentError: Not a row for each node, no numbers, a bad ``gamma``, or, once it is reached,
            a value that is not finite.
    """
    if not 0 <= gamma < np.inf:
        raise ArgumentError(f"gamma must be 0 or more and finite, found {gamma}")
    table = _table(graph, features)

    def factor(left: Int, right: Int) -> Float:
        found: Float = np.exp(-gamma * squared_distances(table, left, right))
        return found

    return Reweighted(graph, factor)


def squared_distances(features: Any, left: Int, right: Int) -> Float:
    """Squared distances ``[m]`` of the attributes of pairs of nodes.

    Raises:
        ArgumentError: One of them is not finite.
    """
    # Whole numbers wrap around and truth values have no difference: fractions first.
    first, second = (features[rows].astype(np.float64) for rows in (left, right))
    with np.errstate(invalid="ignore", over="ignore"):  # refused below
        gap = first - second
        squares = gap.multiply(gap) if sparse.issparse(gap) else np.square(gap)
        found: Float = np.asarray(squares.sum(1), np.float64).ravel()
    bad = np.flatnonzero(~np.isfinite(found))
    if len(bad):
        raise ArgumentError(
            f"attributes hold NaN, infinity or too large a number in row {left[bad[0]]} or "
            f"{right[bad[0]]}; fill in missing values first"
        )
    return found


def local_gamma(graph: LocalGraph, features: Any, seeds: Any) -> float:
    """One over the median squared distance along the edges of the seeds.

    Raises:
        ArgumentError: A seed is unknown, they have no edges, the median of these distances
            is 0, or a value is not finite.
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
    """Attributes that rows can be taken of; no value is looked at."""
    table = features.tocsr() if sparse.issparse(features) else np.asarray(features)
    if table.ndim != 2 or table.shape[0] != graph.nodes:
        raise ArgumentError(
            f"found attributes of the shape {list(table.shape)} for a graph of {graph.nodes:,} "
            f"nodes; expected [{graph.nodes}, f]"
        )
    if table.dtype.kind not in "biuf":
        raise ArgumentError(f"attributes must be numbers, found {table.dtype}; encode them first")
    return table
