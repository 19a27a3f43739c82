r"""Intervals for proportions and for resampled statistics.

Wilson's score interval (Wilson 1927, JASA 22:209) for :math:`k` successes in :math:`n` trials:

.. math:: \frac{k + z^2/2}{n + z^2} \pm \frac{z}{n + z^2} \sqrt{\frac{k (n-k)}{n} + \frac{z^2}{4}}.

A bootstrap resample of a distance such as the biased MMD or the Frechet distance lies *above* the
value it comes from on average (the resample is one more step away from the population), so the
plain percentile interval may exclude the value itself. :func:`centred` therefore moves the
resampled values so that their mean is the value; it describes the spread, not the bias. The bias
is what the floor beside each value shows, as it is measured at the same sample size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Interval", "centred", "percentile", "wilson"]

Interval = tuple[float, float]
_Z = 1.959963984540054  # 97.5 % quantile of the normal distribution


def wilson(successes: int, trials: int) -> Interval | None:
    """95 % Wilson interval of a proportion; None without trials."""
    if trials <= 0:
        return None
    z2 = _Z * _Z
    middle = (successes + z2 / 2) / (trials + z2)
    half = _Z / (trials + z2) * (successes * (trials - successes) / trials + z2 / 4) ** 0.5
    # At the ends the exact bound is the end itself; rounding must not move it inside.
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == trials else middle + half
    return (low, high)


def percentile(draws: NDArray[np.float64]) -> Interval | None:
    """2.5 % and 97.5 % quantiles of resampled values; None without any."""
    if not len(draws):
        return None
    low, high = np.quantile(draws, [0.025, 0.975])
    return (float(low), float(high))


def centred(
    value: float, draws: NDArray[np.float64], low: float = -np.inf, high: float = np.inf
) -> Interval | None:
    """Quantiles of the draws moved so that their mean is ``value``, cut to [low, high].

    Args:
        value: The statistic of the sample itself.
        draws: Bootstrap values ``[B]``.
        low: Smallest possible value of the statistic.
        high: Largest possible value.
    """
    ends = percentile(np.asarray(draws) - np.mean(draws) + value) if len(draws) else None
    if ends is None:
        return None
    return (min(max(ends[0], low), high), min(max(ends[1], low), high))
