"""Scores against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.evaluate.scores import accuracy, macro_f1, node_scores, roc_auc


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("n", [12, 301])
def test_as_scikit_learn(classes, n):
    rng = np.random.default_rng(n + classes)
    y = np.concatenate([np.arange(classes), rng.integers(classes, size=n - classes)])
    logits = rng.normal(size=(n, classes)) + np.eye(classes)[y]
    logits[n // 2 :] = logits[: n - n // 2]  # ties
    p = logits.argmax(1)
    assert accuracy(p, y) == pytest.approx(metrics.accuracy_score(y, p))
    assert macro_f1(p, y) == pytest.approx(metrics.f1_score(y, p, average="macro"))
    if classes == 2:
        wanted = metrics.roc_auc_score(y, logits[:, 1] - logits[:, 0])
    else:
        wanted = metrics.roc_auc_score(y, softmax(logits, 1), multi_class="ovr")
    assert roc_auc(logits, y) == pytest.approx(wanted)
    assert node_scores(logits, y) == pytest.approx(
        {"accuracy": accuracy(p, y), "macro_f1": macro_f1(p, y), "roc_auc": wanted}
    )


@pytest.mark.parametrize("classes", [2, 4])
def test_a_number_added_to_all_logits_of_a_node_changes_nothing(classes):
    rng = np.random.default_rng(classes)
    y = np.arange(80) % classes
    logits = rng.normal(size=(80, classes)) + np.eye(classes)[y]
    shifted = logits + rng.normal(0, 5, (80, 1))
    assert node_scores(shifted, y) == pytest.approx(node_scores(logits, y))


def test_f1_counts_classes_that_are_only_predicted():
    y, p = np.array([0, 0, 1]), np.array([0, 2, 1])
    wanted = metrics.f1_score(y, p, average="macro")
    assert macro_f1(p, y) == pytest.approx(wanted)


def test_a_missing_class_has_no_curve():
    with pytest.raises(ArgumentError, match="both classes"):
        roc_auc(np.array([0.1, 0.2]), np.array([1, 1]))
    assert "roc_auc" not in node_scores(np.eye(3)[[0, 1]], np.array([0, 1]))


@pytest.mark.parametrize(("p", "y"), [([], []), ([1, 2], [1]), ([[1]], [[1]])])
def test_shapes_are_checked(p, y):
    with pytest.raises(ArgumentError, match="one length"):
        accuracy(p, y)
