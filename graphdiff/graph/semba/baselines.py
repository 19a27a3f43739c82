r"""What a model of signed events is compared with.

* :func:`boosted`, :func:`logistic`: gradient boosting and logistic regression on the causal history
  of :mod:`graphdiff.graph.semba.history`, the strong baselines;
* :class:`EdgeBank` (Poursafaei et al., 2022): a pair that met will meet again, with its last sign;
* :func:`prior`: the same answer for all;
* :func:`weight_probe`: what :math:`-|w|`, which is not known before the event, tells about its
  sign. It needs no model: a protocol in which it can be used has told the answer.

Each answers the streams of :mod:`graphdiff.graph.semba.stream`, batch by batch, before they are
revealed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.evaluate.scores import roc_auc
from graphdiff.graph.semba.metrics import best_threshold
from graphdiff.graph.semba.model import Predictions
from graphdiff.graph.semba.stream import NONE, EventStream, PredictFirst

__all__ = [
    "EdgeBank", "HistoryModel", "boosted", "drained", "logistic", "prior", "weight_probe",
]  # fmt: skip

Floats = NDArray[np.float64]


def drained(stream: EventStream) -> tuple[NDArray[np.float32], Floats]:
    """History ``[q, f]`` and answers ``[q]`` of a stream for training; predicted with zeros."""
    found = []
    for batch in stream:
        wide = (len(batch.queries), 3) if stream.task == "signlink" else (len(batch.queries),)
        batch.reveal(np.zeros(wide))
        found.append(batch.queries.history)
    return np.concatenate(found), stream.labels


@dataclass
class HistoryModel:
    """A fitted model of scikit-learn on causal history.

    Attributes:
        estimator: With ``decision_function``, or ``predict`` for weights.
        task: The task.
        threshold: Of signs, chosen on validation.
    """

    estimator: Any
    task: str
    threshold: float = 0.0

    def scores(self, history: NDArray[np.float32]) -> Floats:
        """Scores ``[q]`` or ``[q, 3]`` as streams want them."""
        if self.task == "weight":
            return np.asarray(self.estimator.predict(history), np.float64)
        return np.asarray(self.estimator.decision_function(history), np.float64)

    def predict(self, stream: EventStream) -> Predictions:
        """Predict a stream batch by batch."""
        # Rows are judged one by one and the model does not change, so that all can be judged in one
        # call; thousands of calls of one row each would cost a hundred times as much.
        whole = None if stream.task == "signlink" else self.scores(stream.plain().history)
        done = 0
        for batch in stream:
            end = done + len(batch.queries)
            batch.reveal(self.scores(batch.queries.history) if whole is None else whole[done:end])
            done = end
        return Predictions(self.task, stream.scores, stream.labels, self.threshold)

    def chosen(self, valid: EventStream) -> HistoryModel:
        """With the threshold of signs that is best on validation."""
        if self.task != "sign":
            return self
        found = self.predict(valid)
        return HistoryModel(self.estimator, self.task, best_threshold(found.scores, found.labels))


def boosted(train: EventStream, seed: int = 0, **settings: Any) -> HistoryModel:
    """Gradient-boosted trees on causal history.

    Args:
        train: Training stream.
        seed: Of the features that each node of a tree is offered, three tenths of them.
        **settings: Of scikit-learn's ``HistGradientBoostingClassifier`` or ``...Regressor``.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    x, y = drained(train)
    usual = {
        "learning_rate": 0.05, "max_leaf_nodes": 8, "max_iter": 150, "min_samples_leaf": 40,
        "l2_regularization": 5.0, "max_features": 0.3, "early_stopping": False,
    }  # fmt: skip
    kind = (
        HistGradientBoostingRegressor if train.task == "weight" else HistGradientBoostingClassifier
    )
    made = kind(**{**usual, **settings}, random_state=seed)
    return HistoryModel(made.fit(x, y), train.task)


def logistic(train: EventStream, penalty: float = 10.0) -> HistoryModel:
    """Logistic (for weights: ridge) regression on standardised causal history.

    Args:
        train: Training stream.
        penalty: Of the squared coefficients.
    """
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = drained(train)
    last = (
        Ridge(penalty)
        if train.task == "weight"
        else LogisticRegression(C=1 / penalty, max_iter=500)
    )
    return HistoryModel(make_pipeline(StandardScaler(), last).fit(x, y), train.task)


class EdgeBank:
    """A pair that met will meet again, with the sign it had; for ``signlink``.

    Args:
        undirected: Whether an event also speaks for the pair turned round.
    """

    def __init__(self, undirected: bool = False) -> None:
        self.undirected = undirected

    def predict(self, stream: EventStream) -> Predictions:
        """Predict a stream batch by batch; the events before it are known.

        Raises:
            ArgumentError: The stream is of another task.
        """
        if stream.task != "signlink":
            raise ArgumentError(f"EdgeBank answers 'signlink', the stream is of {stream.task!r}")
        bank: dict[tuple[int, int], float] = {}
        past = slice(0, stream.start)
        known = (stream.events.source[past], stream.events.target[past])
        self._store(bank, *known, stream.events.weight[past])
        for batch in stream:
            asked = zip(batch.queries.source.tolist(), batch.queries.target.tolist(), strict=True)
            sign = np.array([bank.get(pair, 0.0) for pair in asked])
            scores = np.stack([sign < 0, sign > 0, sign == 0], 1).astype(np.float64)
            seen = batch.reveal(scores)
            self._store(bank, seen.source, seen.target, seen.weight)
        return Predictions("signlink", stream.scores, stream.labels)

    def _store(self, bank: dict[tuple[int, int], float], u: Any, v: Any, w: Any) -> None:
        for a, b, weight in zip(u.tolist(), v.tolist(), w.tolist(), strict=True):
            bank[a, b] = weight
            if self.undirected:
                bank[b, a] = weight


def prior(train: EventStream, stream: EventStream) -> Predictions:
    """The same answer for every query: log-odds, log-shares or mean of the training answers."""
    y = drained(train)[1]
    if stream.task == "weight":
        answer: Any = float(y.mean())
    elif stream.task == "sign":
        answer = float(np.log(y.mean() + 1e-9) - np.log(1 - y.mean() + 1e-9))
    else:
        answer = np.log(np.bincount(y.astype(np.int64), minlength=NONE + 1) / len(y) + 1e-9)
    for batch in stream:
        batch.reveal(
            np.tile(answer, (len(batch.queries), 1))
            if np.ndim(answer)
            else np.full(len(batch.queries), answer)
        )
    return Predictions(stream.task, stream.scores, stream.labels)


def weight_probe(stream: EventStream, leaky: bool) -> float:
    """Area under the curve of :math:`-|w|` as a score of the sign; 0.5 where nothing leaks.

    Args:
        stream: Of task ``sign``.
        leaky: Take the weights from the list of events, as protocols do that update a model with a
            batch before it scores the batch; else ask the batch for them, and where it refuses,
            score all alike.
    """
    for batch in stream:
        try:
            weight = batch.events.weight
        except PredictFirst:
            weight = np.ones(len(batch.queries))
        if leaky:
            start = stream.start + sum(len(b.queries) for b in stream.batches[: batch.number])
            weight = stream.events.weight[start : start + len(batch.queries)]
        batch.reveal(-np.abs(weight))
    return roc_auc(stream.scores, stream.labels.astype(np.int64))
