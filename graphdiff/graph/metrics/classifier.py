r"""A two-sample score with a scale of its own: how well a classifier tells samples from data.

Let :math:`P` be the law of a descriptor of reference graphs, :math:`Q` that of generated ones, and
:math:`D` any function into (0, 1). With one reference and one generated graph at equal odds, the
Jensen-Shannon divergence in bits is what is learned from a graph about its origin, and

.. math:: \mathrm{JS}(P, Q) = \sup_D\; 1 + \tfrac12 \mathbb E_P \log_2 D
                              + \tfrac12 \mathbb E_Q \log_2 (1 - D) ,

attained by the posterior :math:`D = p / (p + q)`. So one bit minus the cross-entropy of *any*
classifier is a lower bound, and an unbiased estimate of it wherever :math:`D` was fitted without
the graphs it is evaluated on. The score is :math:`\sqrt{\max(\cdot, 0)}`, a bound on the
Jensen-Shannon *distance*, a metric in [0, 1]. Likewise the informedness of a threshold,
:math:`P(D \ge c) - Q(D \ge c)`, bounds the total variation. A descriptor loses information, never
adds any, so the largest bound over descriptors bounds the distance of the graphs themselves. This
is the PolyGraph discrepancy of Krimmel et al. 2025 (arXiv:2510.06122).

**Cross-fitting.** The published protocol fits and chooses on one half and evaluates on the other.
Here both samples are cut into K folds, and each fold is judged by what the other folds decided:

* for every pair of folds and every descriptor a classifier is fitted without the two;
* for fold k, the classifiers of the pairs (j, k), evaluated on the folds j, give log-odds
  :math:`f` that are held out within the fitting folds. They fix a temperature,
  :math:`D = \sigma(\tau f)` (or the threshold c), and choose the descriptor;
* a classifier of that descriptor, fitted on all folds but k, is evaluated on fold k.

Every graph enters once, and its fold took no part in any decision about it, so there is no
selection bias. :math:`\tau = 0` is allowed, that is :math:`D = \tfrac12` and a bound of zero: a
classifier that learned nothing does not claim anything. :math:`D` is kept
:math:`1 / 2m` away from 0 and 1 with :math:`m` graphs fitted to, because m graphs cannot show that
something is rarer. Samples of different size are weighted to equal odds.

The score is low when the classifier is weak or the samples are few: it says what was *found*.
:func:`discrepancy_test` gives an exact p-value by exchanging the labels and repeating everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError

__all__ = ["CLASSIFIERS", "Bound", "Discrepancy", "Rows", "discrepancy", "discrepancy_test"]

Float = NDArray[np.float64]
Rows = Mapping[str, Sequence[Float]]
Bound = Literal["js", "tv"]

_TAUS = np.concatenate([[0.0], np.geomspace(1 / 32, 32, 41)])


def _logistic(columns: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    # Standardised rows have a squared length near the number of columns: log-odds stay near one.
    return LogisticRegression(C=10 / columns, max_iter=200)


def _boosting(columns: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=40, max_leaf_nodes=8, min_samples_leaf=5, early_stopping=False, random_state=0
    )


CLASSIFIERS: dict[str, tuple[Callable[[int], Any], str]] = {
    "logistic": (_logistic, "logistic regression"),
    "boosting": (_boosting, "gradient boosting"),
}
"""Classifiers by name: how one is made for a number of columns, and what it is called."""


@dataclass(frozen=True)
class Discrepancy:
    """A cross-fitted score.

    Attributes:
        bound: ``js`` (Jensen-Shannon distance) or ``tv`` (total variation).
        reference: What each reference graph adds to the bound ``[m]``: its mean and that of
            ``generated`` sum to the divergence in bits, or to the informedness.
        generated: The same for the generated graphs ``[n]``.
        chosen: The descriptor each fold was judged by.
        subscores: The score of each descriptor alone, in [0, 1]; empty if not asked for.
    """

    bound: Bound
    reference: Float
    generated: Float
    chosen: tuple[str, ...]
    subscores: Mapping[str, float] = field(default_factory=dict)

    @property
    def raw(self) -> float:
        """The bound before it is cut at zero: bits, or informedness."""
        return float(self.reference.mean() + self.generated.mean())

    @property
    def value(self) -> float:
        """The score in [0, 1]."""
        return float(as_score(self.raw, self.bound))

    def bootstrap(self, draws: int, rng: np.random.Generator) -> Float:
        """Scores ``[draws]`` with both sides resampled, the fitted classifiers held fixed."""
        total = np.zeros(draws)
        for side in (self.reference, self.generated):
            counts = rng.multinomial(len(side), np.full(len(side), 1 / len(side)), size=draws)
            total += counts @ side / len(side)
        return as_score(total, self.bound)


def as_score(raw: Any, bound: Bound) -> Any:
    """A bound in bits, or an informedness, as a score in [0, 1]."""
    inside = np.clip(raw, 0.0, 1.0)
    return np.sqrt(inside) if bound == "js" else inside


def _terms(odds: Float, y: NDArray[np.bool_], tau: Any, fitted: int) -> Float:
    """Half a bit plus half the log-likelihood of each graph, ``[..., n]``."""
    edge = np.log(2 * fitted - 1)  # log-odds of 1 - 1 / (2 fitted)
    f = np.clip(np.multiply.outer(tau, odds), -edge, edge)
    return 0.5 - 0.5 * np.logaddexp(0, np.where(y, -f, f)) / np.log(2)


def hits(odds: Float, y: NDArray[np.bool_], threshold: Any) -> Float:
    """1 for a reference graph at or above the threshold, -1 for a generated one, else 0."""
    return np.where(odds >= np.asarray(threshold)[..., None], np.where(y, 1.0, -1.0), 0.0)


def sum_of_means(terms: Float, y: NDArray[np.bool_]) -> Float:
    """Mean over reference graphs plus mean over generated ones, ``[...]``."""
    return terms[..., y].mean(-1) + terms[..., ~y].mean(-1)


def _tune(odds: Float, y: NDArray[np.bool_], bound: Bound, fitted: int) -> tuple[float, float]:
    """The temperature or threshold that suits held-out log-odds best, and the bound it gives."""
    if bound == "js":
        options, terms = _TAUS, _terms(odds, y, _TAUS, fitted)
    else:
        options = np.append(np.unique(odds), np.inf)
        terms = hits(odds, y, options)
    found = sum_of_means(terms, y)
    best = int(np.argmax(found))
    return float(options[best]), float(found[best])


class _Folds:
    """Rows of all descriptors, the folds they lie in, and the classifiers fitted so far."""

    def __init__(
        self, rows: Mapping[str, Float], y: NDArray[np.bool_], folds: int,
        make: Callable[[int], Any], rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self.rows, self.y, self.make, self.folds = rows, y, make, folds
        self.fold = np.empty(len(y), np.int64)
        for side in (y, ~y):
            count = int(side.sum())
            self.fold[side] = rng.permutation(np.arange(count) % folds)

    def odds(self, name: str, without: tuple[int, ...]) -> Float:
        """Log-odds of the graphs in some folds by a classifier that was fitted to the others."""
        out = np.isin(self.fold, without)
        x, y = self.rows[name][~out], self.y[~out]
        middle, spread = x.mean(0), x.std(0)
        keep = spread > 1e-12 * np.maximum(np.abs(middle), 1)
        if not keep.any():
            return np.zeros(int(out.sum()))
        weight = np.where(y, len(y) / (2 * y.sum()), len(y) / (2 * (~y).sum()))
        model = self.make(int(keep.sum()))
        model.fit((x[:, keep] - middle[keep]) / spread[keep], y, sample_weight=weight)
        held = (self.rows[name][out][:, keep] - middle[keep]) / spread[keep]
        return np.asarray(model.decision_function(held), np.float64)

    def inner(self, name: str) -> Float:
        """``[K, n]``: log-odds of each graph without its own fold and fold k (NaN in fold k)."""
        table = np.full((self.folds, len(self.y)), np.nan)
        for j in range(self.folds):
            for k in range(j):
                found, both = self.odds(name, (j, k)), np.isin(self.fold, (j, k))
                at = np.full(len(self.y), np.nan)
                at[both] = found
                table[k, self.fold == j] = at[self.fold == j]
                table[j, self.fold == k] = at[self.fold == k]
        return table

    def judge(self, names: Sequence[str], tuned: Mapping[str, list[tuple[float, float]]],
              bound: Bound) -> tuple[Float, tuple[str, ...]]:  # fmt: skip
        """Terms of all graphs ``[n]`` and the descriptor chosen for each fold."""
        terms, chosen = np.empty(len(self.y)), []
        for k in range(self.folds):
            name = max(names, key=lambda d: tuned[d][k][1])
            here, setting = self.fold == k, tuned[name][k][0]
            odds = self.odds(name, (k,))
            if bound == "js":
                terms[here] = _terms(odds, self.y[here], setting, int((~here).sum()))
            else:
                terms[here] = hits(odds, self.y[here], setting)
            chosen.append(name)
        return terms, tuple(chosen)


def _check(rows: Rows, folds: int, classifier: str, bound: str) -> None:
    if classifier not in CLASSIFIERS:
        raise ArgumentError(
            f"unknown classifier {classifier!r}; there are {', '.join(CLASSIFIERS)}"
        )
    if bound not in ("js", "tv"):
        raise ArgumentError(f"bound must be 'js' or 'tv', found {bound!r}")
    if folds < 3:
        raise ArgumentError(f"folds must be at least 3 (one is held out twice), found {folds}")
    if not rows:
        raise ArgumentError("no descriptor was given: the score needs at least one")
    if len({(len(x), len(y)) for x, y, *_ in rows.values()}) > 1:
        raise ArgumentError("all descriptors must describe the same graphs: sizes differ")
    for side, x in zip(("generated", "reference"), next(iter(rows.values())), strict=False):
        if len(x) < 2 * folds:
            raise ArgumentError(
                f"{len(x)} {side} graphs are too few for {folds} folds: give at least {2 * folds}"
            )


def discrepancy(
    rows: Rows,
    *,
    classifier: str = "logistic",
    bound: Bound = "js",
    folds: int = 4,
    seed: int = 0,
    subscores: bool = True,
) -> Discrepancy:
    """The cross-fitted score of generated against reference graphs.

    Args:
        rows: By name, a descriptor of generated and of reference graphs, ``[n, d]`` and
            ``[m, d]``; see
            :func:`~graphdiff.graph.metrics.pgd.graph_rows`.
        classifier: One of :data:`CLASSIFIERS`.
        bound: ``js`` bounds the Jensen-Shannon distance, ``tv`` the total variation.
        folds: Number of folds; the fits grow with its square.
        seed: Seed of the folds.
        subscores: Also score each descriptor alone.

    Raises:
        ArgumentError: For an unknown classifier or bound, or less than two graphs of a side in
            every fold.
    """
    _check(rows, folds, classifier, bound)
    sizes = [len(x) for x in next(iter(rows.values()))[:2]]
    y = np.arange(sum(sizes)) >= sizes[0]
    stacked = {name: np.concatenate([pair[0], pair[1]]) for name, pair in rows.items()}
    return _run(stacked, y, classifier, bound, folds, seed, subscores)


def _run(
    rows: Mapping[str, Float], y: NDArray[np.bool_], classifier: str, bound: Bound, folds: int,
    seed: int, subscores: bool,
) -> Discrepancy:  # fmt: skip
    held = _Folds(rows, y, folds, CLASSIFIERS[classifier][0], np.random.default_rng(seed))
    tuned: dict[str, list[tuple[float, float]]] = {}
    for name in rows:
        table = held.inner(name)
        tuned[name] = []
        for k in range(folds):
            rest = held.fold != k
            tuned[name].append(_tune(table[k, rest], y[rest], bound, int(rest.sum())))
    terms, chosen = held.judge(list(rows), tuned, bound)
    alone = {}
    if subscores:
        for name in rows:
            own = held.judge([name], tuned, bound)[0]
            alone[name] = float(as_score(sum_of_means(own, y), bound))
    return Discrepancy(bound, terms[y], terms[~y], chosen, alone)


def discrepancy_test(
    rows: Rows, draws: int = 99, *, classifier: str = "logistic", bound: Bound = "js",
    folds: int = 4, seed: int = 0,
) -> tuple[float, Float]:  # fmt: skip
    """Exact test that generated and reference graphs have one law.

    The labels are exchanged and the whole procedure is repeated, choice of the descriptor
    included. The statistic is the bound before it is cut at zero.

    Returns:
        The p-value (1 + draws at or above the data) / (1 + draws), and the scores in [0, 1] of
        the exchanged labels; their 95 % quantile is the threshold of the score.
    """
    _check(rows, folds, classifier, bound)
    sizes = [len(x) for x in next(iter(rows.values()))[:2]]
    y = np.arange(sum(sizes)) >= sizes[0]
    stacked = {name: np.concatenate([pair[0], pair[1]]) for name, pair in rows.items()}
    rng = np.random.default_rng([seed, 1])
    # The folds of every draw are random, too: with fixed ones the data would not be exchangeable.
    seeds = rng.integers(0, 2**31, draws + 1)
    values = np.asarray([
        _run(stacked, y if i == 0 else rng.permutation(y), classifier, bound, folds, int(s), False)
        .raw
        for i, s in enumerate(seeds)
    ])  # fmt: skip
    p = (1 + int((values[1:] >= values[0]).sum())) / (draws + 1)
    return p, as_score(values[1:], bound)
