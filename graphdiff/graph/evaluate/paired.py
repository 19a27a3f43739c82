r"""Intervals and paired tests over splits or seeds.

Of two methods measured on the same :math:`n` splits only the differences :math:`d_i` matter: what
makes a split easy is easy for both. The paired :math:`t` test takes
:math:`t = \bar d / \sqrt{s_d^2 / n}` as Student with :math:`n - 1` degrees of freedom.

Splits of one graph share training nodes, so the :math:`d_i` are correlated and this variance is too
small. Nadeau and Bengio (2003) estimate the correlation by the ratio of sizes and use

.. math:: t = \bar d \Big/ \sqrt{\left(\tfrac1n + \tfrac{n_{test}}{n_{train}}\right) s_d^2}

which ``overlap`` :math:`= n_{test} / n_{train}` asks for. With ten 48/32/20 splits it widens an
interval by the factor :math:`\sqrt{1 + 10 \cdot 20/48} \approx 2.3`. Many tests at once are
corrected by Holm's step-down rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError

__all__ = ["Paired", "Summary", "holm", "paired", "summary"]


@dataclass(frozen=True)
class Summary:
    """Mean, sample standard deviation and the 95 % interval of the mean of ``n`` measurements.

    The interval is Student's; of one measurement it is not known (``nan``).
    """

    mean: float
    std: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.4g} ± {(self.high - self.low) / 2:.2g} (n = {self.n})"

    def to_dict(self, prefix: str = "", digits: int = 6) -> dict[str, float | int]:
        """Flat, for a table: ``{prefix}mean`` and so on."""
        return {
            f"{prefix}{name}": round(value, digits) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class Paired:
    """Mean of the paired differences, its 95 % interval, and the two-sided p-value.

    ``overlap`` is the one that was corrected for. Differences that are all the same number have no
    spread to be judged by: the interval is not known (``nan``), nor is the p-value, which is 1
    where that number is zero. Accuracies are multiples of one over the test nodes, so that two or
    three splits often differ alike by chance.
    """

    n: int
    difference: float
    low: float
    high: float
    p: float
    overlap: float = 0.0

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.difference:+.3g} in each of n = {self.n}: no spread, no interval"
        interval = f"{self.low:+.3g} to {self.high:+.3g}"
        return f"{self.difference:+.3g} ({interval}), p = {self.p:.2g}, n = {self.n}"


def summary(values: Iterable[float]) -> Summary:
    """Mean and interval of measurements over splits, seeds or users.

    Raises:
        ArgumentError: There is none, or one is not finite.
    """
    found = _finite(values, "measurements")
    mean = float(found.mean())
    if len(found) == 1:
        return Summary(mean, math.nan, math.nan, math.nan, 1)
    std = float(found.std(ddof=1))
    half = _quantile(len(found) - 1) * std / math.sqrt(len(found))
    return Summary(mean, std, mean - half, mean + half, len(found))


def paired(a: Iterable[float], b: Iterable[float], overlap: float = 0.0) -> Paired:
    """Is ``a`` better than ``b`` on the same splits? The difference is ``a - b``.

    Args:
        a: Scores of one method, one for each split (or seed, or user).
        b: Scores of the other, in the same order.
        overlap: ``n_test / n_train`` where the splits are of one data set (Nadeau and Bengio,
            2003); 0 for independent pairs.

    Raises:
        ArgumentError: Lengths differ, fewer than two pairs, values that are not finite, or a
            negative overlap.
    """
    from scipy import stats

    first, second = _finite(a, "scores"), _finite(b, "scores")
    if len(first) != len(second) or len(first) < 2:
        raise ArgumentError(
            f"a paired test needs two lists of the same length, of 2 or more; found {len(first)} "
            f"and {len(second)} scores"
        )
    if not overlap >= 0:
        raise ArgumentError(f"overlap is n_test / n_train, found {overlap}; give 0 or more")
    n, d = len(first), first - second
    mean, scale = float(d.mean()), math.sqrt((1 / n + overlap) * float(d.var(ddof=1)))
    # Equal differences leave rounding errors as their variance.
    if scale <= 1e-12 * max(abs(mean), float(np.abs(first).max()), 1e-300):
        return Paired(
            n, mean, math.nan, math.nan, 1.0 if np.allclose(mean, 0) else math.nan, overlap
        )
    half = _quantile(n - 1) * scale
    p = float(2 * stats.t.sf(abs(mean) / scale, n - 1))
    return Paired(n, mean, mean - half, mean + half, p, overlap)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm, 1979), in the given order.

    A ``nan``, of a test that could not be made (:func:`paired`), stays and is not counted.

    Raises:
        ArgumentError: One is not between 0 and 1.
    """
    p = np.asarray(list(p_values), np.float64)
    if bool(((p < 0) | (p > 1)).any()):
        raise ArgumentError(f"p-values lie between 0 and 1, found {list(p_values)}")
    order = np.argsort(p, kind="stable")[: int((~np.isnan(p)).sum())]  # nan comes last
    raised = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1))
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.minimum(raised, 1.0)
    return [float(x) for x in corrected]


def _quantile(freedom: int) -> float:
    from scipy import stats

    return float(stats.t.ppf(0.975, freedom))


def _finite(values: Iterable[float], what: str) -> NDArray[np.float64]:
    found = np.asarray(list(values), np.float64)
    if found.ndim != 1 or not len(found) or not np.isfinite(found).all():
        raise ArgumentError(f"expected finite {what}, one or more, found {found.tolist()}")
    return found
