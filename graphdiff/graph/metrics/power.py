r"""How small a difference a sample of this size can show.

Two samples of *one* model do not score the same. The **resolution** of a score is the difference
that two independent samples of its size exceed in 5 % of all cases although nothing differs: two
models whose scores are closer than that cannot be told apart with samples of this size.

* Of a resampled score it is the 95 % quantile of :math:`|d_i - d_j|` over pairs of bootstrap
  values, the reference held fixed (all models of a table share it).
* Of a proportion :math:`k / n` it is :math:`z \sqrt{2 \tilde p (1 - \tilde p) / n}` with
  :math:`z = 1.96` and :math:`\tilde p = (k + 2) / (n + 4)` (Agresti and Coull 1998,
  doi:10.1080/00031305.1998.10480550), which does not vanish at 0 and 1.

A sample is called too small if a distance half again as large could be the same model
(resolution above half the score or its floor, whichever is larger), or if a proportion resolves no
10 percentage points. Resolutions shrink like :math:`1 / \sqrt n`, which gives the size that would
do; as biased scores shrink, too, it is a lower bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from graphdiff.graph.metrics.report import Metric

__all__ = ["POINTS", "SHARE", "proportion_resolution", "resolution", "too_small"]

SHARE = 0.5
"""A distance is resolved if its resolution is at most this share of it."""
POINTS = 0.1
"""A proportion is resolved if its resolution is at most this."""

_Z = 1.959963984540054  # 97.5 % quantile of the normal distribution


def resolution(draws: NDArray[np.float64]) -> float | None:
    """95 % quantile of the difference of two independent resampled values.

    Args:
        draws: Bootstrap values ``[B]``; None comes back for fewer than two finite ones.
    """
    values = np.asarray(draws)[np.isfinite(draws)]
    if len(values) < 2:
        return None
    i, j = np.triu_indices(len(values), 1)
    return float(np.quantile(np.abs(values[i] - values[j]), 0.95))


def proportion_resolution(successes: int, trials: int) -> float | None:
    """Resolution of a proportion; None without trials."""
    if trials <= 0:
        return None
    p = (successes + 2) / (trials + 4)
    return _Z * math.sqrt(2 * p * (1 - p) / trials)


def _target(metric: Metric) -> float:
    """The resolution that would do; 0 for a score that is 0 to the digits papers print."""
    if metric.estimator.startswith("proportion"):
        return POINTS
    scale = max(abs(metric.value), metric.floor or 0.0)
    return SHARE * scale if scale >= 5e-5 else 0.0


def too_small(metrics: Iterable[Metric]) -> list[str]:
    """One sentence for each sample size that is too small for some metric.

    Unbiased estimates are left out: they are near zero for a good model, so no share of them could
    ever be resolved.
    """
    groups: dict[int, list[tuple[Metric, float]]] = {}
    for metric in metrics:
        finite = metric.resolution is not None and math.isfinite(metric.value)
        if not finite or metric.estimator == "unbiased" or not metric.n:
            continue
        target = _target(metric)
        if 0 < target < (metric.resolution or 0.0):
            groups.setdefault(metric.n, []).append((metric, target))
    return [_sentence(n, found) for n, found in groups.items()]


def _sentence(n: int, found: list[tuple[Metric, float]]) -> str:
    from graphdiff.graph.metrics.report import number

    names = ", ".join(f"{m.name} {number(m.resolution)}" for m, _ in found)
    need = max(n * ((m.resolution or 0.0) / target) ** 2 for m, target in found)
    return (
        f"n = {n} is too small to compare models: one model, sampled twice, differs by up to "
        f"(95 %) {names}; half of each distance and {POINTS:.0%} of each proportion would take at "
        f"least {_round(need)}"
    )


def _round(n: float) -> str:
    """Two significant digits, upwards."""
    unit = 10 ** max(int(math.log10(max(n, 1))) - 1, 0)
    return f"{math.ceil(n / unit) * unit:,}"
