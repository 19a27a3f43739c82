r"""How well predictions follow measurements: Pearson, Spearman and root mean square error.

Intervals are percentiles of a bootstrap over sequences, or, where sequences come in families
(mutants of one ancestor), over whole families: relatives are measured and mispredicted alike, and
:math:`n` of them say less than :math:`n` independent sequences do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.metrics.intervals import percentile
from graphdiff.graph.metrics.report import Metric, Report
from graphdiff.sequence.dataset import SequenceDataset
from graphdiff.sequence.oracles import Predictor, predict_sequences

__all__ = ["evaluate_predictor", "pearson", "rmse", "score_predictions", "spearman"]

Float = NDArray[np.float64]
LEAST = 3
"""So many measurements a correlation needs."""


def pearson(x: Float, y: Float) -> float:
    """Pearson's correlation; NaN where one of both is constant."""
    a, b = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else float("nan")


def spearman(x: Float, y: Float) -> float:
    """Spearman's rank correlation, equal values sharing their mean rank."""
    from scipy.stats import rankdata

    return pearson(rankdata(x), rankdata(y))


def rmse(x: Float, y: Float) -> float:
    """Root mean square difference, in the units of the measurement."""
    return float(np.sqrt(np.mean((x - y) ** 2)))


_METRICS: dict[str, tuple[Callable[[Float, Float], float], Literal["lower", "higher"]]] = {
    "pearson": (pearson, "higher"),
    "spearman": (spearman, "higher"),
    "rmse": (rmse, "lower"),
}


def score_predictions(
    predicted: ArrayLike,
    measured: ArrayLike,
    *,
    suffix: str = "",
    groups: ArrayLike | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> list[Metric]:
    """Metrics of one target, over the sequences that were measured.

    Args:
        predicted: Predictions ``[n]``.
        measured: Measurements ``[n]``, NaN where there is none.
        suffix: Put behind the names, ``pearson_SUFFIX``.
        groups: Family of each sequence, int ``[n]``; whole families are resampled.
        draws: Bootstrap resamples; 0 gives no interval.
        seed: Seed of the bootstrap.

    Raises:
        ArgumentError: Shapes differ, or fewer than three sequences were measured.
    """
    guess, truth = np.asarray(predicted, np.float64), np.asarray(measured, np.float64)
    group = np.arange(truth.size) if groups is None else np.asarray(groups)
    if guess.ndim != 1 or guess.shape != truth.shape or group.shape != truth.shape:
        raise ArgumentError(
            f"expected predictions, measurements and groups of one shape [n], found "
            f"{list(guess.shape)}, {list(truth.shape)} and {list(group.shape)}"
        )
    known = np.isfinite(truth)
    if known.sum() < LEAST:
        raise ArgumentError(
            f"only {int(known.sum())} of {truth.size} sequences have a measurement{_of(suffix)}: "
            f"a correlation needs {LEAST}; choose another split or target"
        )
    guess, truth = guess[known], truth[known]
    families = np.unique(group[known], return_inverse=True)[1].ravel()
    picks = list(_resamples(families, draws, np.random.default_rng(seed)))
    found = []
    for name, (function, direction) in _METRICS.items():
        values = np.asarray([function(guess[i], truth[i]) for i in picks])
        found.append(
            Metric(
                f"{name}_{suffix}" if suffix else name,
                function(guess, truth),
                direction,
                n=len(truth),
                population=f"{int(families.max()) + 1} families" if groups is not None else "",
                interval=percentile(values[np.isfinite(values)]),
            )
        )
    return found


def _of(suffix: str) -> str:
    return f" of {suffix!r}" if suffix else ""


def _resamples(families: NDArray[np.int64], draws: int, rng: np.random.Generator) -> Any:
    """Positions of ``draws`` resamples of whole families."""
    order = np.argsort(families, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(families[order])) + 1)
    for _ in range(draws):
        chosen = rng.integers(len(parts), size=len(parts))
        yield np.concatenate([parts[k] for k in chosen])


def evaluate_predictor(
    predictor: Predictor,
    dataset: SequenceDataset,
    split: str = "test",
    *,
    groups: ArrayLike | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Report:
    """Compare an oracle with the measurements of a split.

    Args:
        predictor: A trained regressor or a published oracle
            (:func:`graphdiff.sequence.oracles.load_oracle`).
        dataset: Sequences with values that carry the names of its targets.
        split: Which of them; it should share no family with the training split.
        groups: Family of each sequence of the whole set, int ``[N]``; see the module docstring.
        draws: Bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        ``pearson_TARGET``, ``spearman_TARGET`` and ``rmse_TARGET`` of every target that the data
        set has values of.

    Raises:
        ArgumentError: The alphabets differ, no target was measured, or the split is unknown.
    """
    index = dataset.index(split)
    shared = [target for target in predictor.targets if target in dataset.values]
    if not shared:
        raise ArgumentError(
            f"{predictor.name} predicts {', '.join(predictor.targets)}, but data set "
            f"{dataset.name!r} has values of {', '.join(dataset.values) or 'nothing'}"
        )
    predicted = predict_sequences(predictor, dataset.split(split))
    family = None if groups is None else np.asarray(groups)[index]
    metrics: list[Metric] = []
    for target in shared:
        column = predicted[:, predictor.targets.index(target)]
        truth = dataset.split_values(split, target)
        metrics += score_predictions(
            column, truth, suffix=target, groups=family, draws=draws, seed=seed
        )
    mark = dataset.fingerprint(split)
    title = f"{predictor.name} on {dataset.name}, split {split}"
    return Report(title, tuple(metrics), info={"data": mark, "draws": draws, "seed": seed})
