r"""Scores of predicted classes: accuracy, F1 and the area under the ROC curve.

``micro`` F1 of single labels is accuracy; ``macro`` is the mean over the classes that occur, of
:math:`2 TP / (2 TP + FP + FN)`. The area under the ROC curve of two classes is the chance that a
positive is scored above a negative, ties counting half:
:math:`\mathrm{AUC} = (\sum_{+} \mathrm{rank} - n_+(n_+ + 1)/2) / (n_+ n_-)`;
of more classes it is the mean over the classes, each against the rest by its log-probability (a
logit says nothing beside that of another node: adding a number to all logits of one node is the
same prediction).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError

__all__ = ["accuracy", "macro_f1", "node_scores", "roc_auc"]


def accuracy(predicted: Any, labels: Any) -> float:
    """Share of labels ``[n]`` that are predicted; the micro-averaged F1 of single labels."""
    p, y = _pair(predicted, labels)
    return float((p == y).mean())


def macro_f1(predicted: Any, labels: Any) -> float:
    """Mean F1 over the classes that occur among labels or predictions ``[n]``."""
    p, y = _pair(predicted, labels)
    each = []
    for c in np.union1d(p, y):
        hit = float(((p == c) & (y == c)).sum())
        each.append(2 * hit / float((p == c).sum() + (y == c).sum()))
    return float(np.mean(each))


def roc_auc(scores: Any, labels: Any) -> float:
    """Area under the ROC curve.

    Args:
        scores: ``[n]`` for two classes (higher means class 1), or logits ``[n, classes]``.
        labels: Integer classes ``[n]``.

    Raises:
        ArgumentError: A class is absent, so that there is no curve.
    """
    from scipy.special import log_softmax

    s, y = np.asarray(scores, np.float64), np.asarray(labels)
    if s.ndim == 2 and s.shape[1] == 2:
        s = s[:, 1] - s[:, 0]
    if s.ndim == 1:
        return _binary_auc(s, y == 1)
    s = log_softmax(s, 1)
    return float(np.mean([_binary_auc(s[:, c], y == c) for c in range(s.shape[1])]))


def node_scores(logits: Any, labels: Any) -> dict[str, float]:
    """Accuracy, macro F1 and, where every class occurs, the area under the ROC curve.

    Args:
        logits: Logits ``[n, classes]``.
        labels: Integer classes ``[n]``.
    """
    s, y = np.asarray(logits, np.float64), np.asarray(labels)
    chosen = s.argmax(1)
    found = {"accuracy": accuracy(chosen, y), "macro_f1": macro_f1(chosen, y)}
    if len(np.unique(y)) == s.shape[1] > 1:
        found["roc_auc"] = roc_auc(s, y)
    return found


def _binary_auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    from scipy.stats import rankdata

    up, down = int(positive.sum()), int((~positive).sum())
    if up == 0 or down == 0:
        raise ArgumentError(
            f"the area under the ROC curve needs both classes, found {up} positive and {down} "
            "negative labels; score more nodes, or take accuracy"
        )
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - up * (up + 1) / 2) / (up * down))


def _pair(predicted: Any, labels: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    p, y = np.asarray(predicted), np.asarray(labels)
    if p.shape != y.shape or p.ndim != 1 or not len(p):
        raise ArgumentError(
            f"expected predicted and true classes of one length, 1 or more; found shapes {p.shape} "
            f"and {y.shape}"
        )
    return p, y
