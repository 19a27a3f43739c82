r"""Scores of predictions on signed events.

Signs: area under the ROC curve, F1 of each class, their mean and their mean weighted by frequency,
at a threshold on the logit that the caller chose on validation. ``signlink``: the same of three
classes, and the area under the curve of "is there an event". Weights: the root of the mean square
error, Pearson's correlation, and :math:`R^2 = 1 - \sum (y - \hat y)^2 / \sum (y - \bar y)^2`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.evaluate.scores import roc_auc
from graphdiff.graph.semba.stream import NONE

__all__ = ["MAIN", "best_threshold", "class_f1", "measure"]

Floats = NDArray[np.float64]
MAIN = {"sign": "auc", "signlink": "f1_macro", "weight": "pcc"}
"""By which score an epoch is chosen on validation; higher is better."""


def class_f1(predicted: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> Floats:
    """F1 of each class, ``[classes]``; 0 where a class neither occurs nor is predicted."""
    found = np.zeros(classes)
    for c in range(classes):
        hit = float(((predicted == c) & (labels == c)).sum())
        found[c] = 2 * hit / max(float((predicted == c).sum() + (labels == c).sum()), 1.0)
    return found


def best_threshold(scores: Floats, labels: Floats) -> float:
    """The threshold of highest macro F1 of signs; for validation, never for the test.

    Quantiles of the scores are tried, the least of equals taken, and last one below all scores.
    """
    below = np.nextafter(scores.min(), -np.inf)  # all are positive
    grid = np.append(np.quantile(scores, np.linspace(0, 1, 101)), below)
    truth = labels.astype(np.int64)
    each = [class_f1((scores > c).astype(np.int64), truth, 2).mean() for c in grid]
    return float(grid[int(np.argmax(each))])


def measure(task: str, scores: Floats, labels: Floats, threshold: float = 0.0) -> dict[str, float]:
    """Scores by name; see the module docstring.

    Args:
        task: ``sign``, ``signlink`` or ``weight``.
        scores: Logits of a positive sign ``[q]``, of three classes ``[q, 3]``, or weights ``[q]``.
        labels: Answers ``[q]``, as a stream gives them.
        threshold: Above which a sign is called positive.

    Raises:
        ArgumentError: There is no such task, or a class is absent.
    """
    if task == "weight":
        return _weights(scores, labels)
    if task not in MAIN:
        raise ArgumentError(f"there is no task {task!r}: known are {', '.join(MAIN)}")
    truth = labels.astype(np.int64)
    if task == "sign":
        f1 = class_f1((scores > threshold).astype(np.int64), truth, 2)
        found = {"auc": roc_auc(scores, truth), "f1_positive": f1[1], "f1_negative": f1[0]}
    else:
        f1 = class_f1(scores.argmax(1), truth, 3)
        there = np.logaddexp(scores[:, 0], scores[:, 1]) - scores[:, NONE]
        found = {"link_auc": roc_auc(there, (truth != NONE).astype(np.int64))}
        real = truth != NONE
        found["sign_auc"] = roc_auc((scores[:, 1] - scores[:, 0])[real], truth[real])
    share = np.bincount(truth, minlength=len(f1)) / len(truth)
    found |= {"f1_macro": float(f1.mean()), "f1_weighted": float(f1 @ share)}
    return {name: float(value) for name, value in found.items()}


def _weights(scores: Floats, labels: Floats) -> dict[str, float]:
    error, centred = labels - scores, labels - labels.mean()
    spread = float(np.sqrt((centred**2).sum() * ((scores - scores.mean()) ** 2).sum()))
    product = float(centred @ (scores - scores.mean()))
    return {
        "rmse": float(np.sqrt((error**2).mean())),
        "pcc": product / spread if spread > 0 else 0.0,
        "r2": 1 - float((error**2).sum() / max(float((centred**2).sum()), 1e-300)),
    }
