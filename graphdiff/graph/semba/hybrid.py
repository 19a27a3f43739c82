r"""Two models of signs in one: a mean of their log-odds, weighed on validation.

:math:`s = (1 - a) s_1 + a s_2` with :math:`a \in \{0, 1/4, 1/2, 3/4, 1\}` of the highest area under
the curve on validation; the smallest of equals.
"""

from __future__ import annotations

import numpy as np

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.semba.metrics import best_threshold, measure
from graphdiff.graph.semba.model import Predictions

__all__ = ["blend", "blend_weight"]

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


def blend(
    first: Predictions, second: Predictions, weight: float, threshold: float = 0.0
) -> Predictions:
    """The mean of two models' scores of one stream.

    Args:
        first: Of the one.
        second: Of the other.
        weight: Of the second.
        threshold: Of the result.

    Raises:
        ArgumentError: They are not of the same queries, or not of signs.
    """
    if first.task != "sign" or second.task != "sign":
        raise ArgumentError(
            f"tasks {first.task!r} and {second.task!r}: expected predictions of 'sign' twice"
        )
    if not np.array_equal(first.labels, second.labels):
        raise ArgumentError(
            f"predictions of {len(first.labels)} and {len(second.labels)} events with other "
            "answers: expected the same stream"
        )
    mixed = (1 - weight) * first.scores + weight * second.scores
    return Predictions("sign", mixed, first.labels, threshold)


def blend_weight(first: Predictions, second: Predictions) -> tuple[float, float]:
    """Weight of the second model, and threshold, that are best on a validation stream."""
    found = [blend(first, second, a) for a in WEIGHTS]
    aucs = [measure("sign", p.scores, p.labels)["auc"] for p in found]
    best = int(np.argmax(aucs))
    return WEIGHTS[best], best_threshold(found[best].scores, found[best].labels)
