r"""A Gaussian process over architectures: what a search knows after a few measurements.

With views :math:`\phi_v` of an architecture (:meth:`SearchSpace.features`) the kernel is half the
mean and half the product of Gaussian ones: likeness in any view counts, and in all of them more,

.. math:: k(x, y) = \frac1{2V} \sum_v g_v + \frac12 \prod_v g_v, \qquad
          g_v = \exp\Bigl(-\frac{\lVert\phi_v(x) - \phi_v(y)\rVert^2}
          {2 \lambda^2 s_v^2}\Bigr),

with :math:`s_v^2` the mean squared distance of the measured architectures in that view. The scale
:math:`\lambda` and the share of noise are those of highest marginal likelihood on a grid. Values
are standardised; where only the best counts, those below the median are lifted to it, since how bad
an architecture is says little about the good ones.

A prior mean ``m(x)`` of earlier tasks (:class:`Experience`) is subtracted first, scaled to the
spread of the values, whole, by half or not at all, as the likelihood has it: a new task may differ
from all before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.graph.nag.space import Architectures, SearchSpace

__all__ = ["Experience", "GaussianProcess", "expected_improvement", "normal_cdf", "normal_pdf"]

Array = NDArray[np.float64]
Views = list[Array]
SCALES = (0.5, 0.7, 1.0, 1.4, 2.0)
NOISES = (1e-3, 1e-2, 1e-1)
SHARES = (1.0, 0.5, 0.0)
"""Of a prior mean."""


def _squares(a: Array, b: Array) -> Array:
    found: Array = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T
    return np.maximum(found, 0)


def _units(views: Views) -> list[float]:
    """Mean squared distance in each view."""
    return [float(_squares(v, v).mean()) or 1.0 for v in views]


def _kernel(left: Views, right: Views, units: list[float], scale: float) -> Array:
    """The kernel of the module docstring, ``[m, k]``."""
    shape = (len(left[0]), len(right[0]))
    total, product = np.zeros(shape), np.ones(shape)
    for a, b, unit in zip(left, right, units, strict=True):
        alike = np.exp(-_squares(a, b) / (2 * scale**2 * unit))
        total, product = total + alike, product * alike
    return (total / len(left) + product) / 2


def _likelihood(root: NDArray[Any], half: Array) -> tuple[float, float]:
    """Log-likelihood up to a constant at the best variance, and that variance.

    The variance of the process has a closed form; ``root`` is the Cholesky factor of the rest.
    """
    variance = max(float(half @ half) / len(half), 1e-12)
    return -0.5 * len(half) * np.log(variance) - float(np.log(np.diag(root)).sum()), variance


@dataclass
class GaussianProcess:
    """A posterior over the values of architectures.

    Attributes:
        views: Features of the measured architectures.
        values: Their values ``[q]``, higher is better.
        prior: Prior means ``[q]`` in units of standard deviations; zeros by default.
        lift: Whether values below the median are lifted to it.
    """

    views: Views
    values: Array
    prior: Array | None = None
    lift: bool = True

    def __post_init__(self) -> None:
        y = self.values.astype(float)
        lifted = np.maximum(y, float(np.median(y))) if self.lift else y
        self._spread = float(lifted.std()) or 1.0
        self._unit = _units(self.views)
        known = np.zeros_like(y) if self.prior is None else self.prior
        best = -np.inf
        for scale in SCALES:
            kernel = _kernel(self.views, self.views, self._unit, scale)
            for noise in NOISES:
                root = np.linalg.cholesky(kernel + noise * np.eye(len(y)))
                for share in SHARES[: None if self.prior is not None else 1]:
                    rest = lifted / self._spread - share * known
                    half = np.linalg.solve(root, rest - rest.mean())
                    fit, variance = _likelihood(root, half)
                    if fit > best:
                        best, self._scale, self._root, self._half = fit, scale, root, half
                        self._share, self._mean, self._size = share, rest.mean(), variance**0.5

    def predict(self, views: Views, prior: Array | None = None) -> tuple[Array, Array]:
        """Mean and standard deviation ``[m]`` of values.

        Args:
            views: Features of ``m`` architectures.
            prior: Their prior means, if the measured ones have some.
        """
        cross = _kernel(self.views, views, self._unit, self._scale)
        cross = np.linalg.solve(self._root, cross)
        mean = self._half @ cross + self._mean
        if prior is not None:
            mean = mean + self._share * prior
        left = np.maximum(1 - (cross**2).sum(0), 1e-9)
        return mean * self._spread, self._size * self._spread * np.sqrt(left)


def normal_pdf(z: Array) -> Array:
    """Density of the standard normal law."""
    found: Array = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return found


def normal_cdf(z: Array) -> Array:
    """Distribution function of the standard normal law."""
    from scipy.special import ndtr

    found: Array = ndtr(z)
    return found


def expected_improvement(mean: Array, std: Array, best: float) -> Array:
    """``E[max(y - best, 0)]`` of normal ``y``, ``[m]``."""
    z = (mean - best) / std
    return std * (z * normal_cdf(z) + normal_pdf(z))


@dataclass(frozen=True)
class Experience:
    """What earlier tasks say about architectures: a prior mean, standardised over the space.

    Attributes:
        space: The space.
        mean: Prior means ``[m]`` of architectures, before scaling.
        centre: Mean of ``mean`` over random members.
        spread: Its standard deviation.
    """

    space: SearchSpace
    mean: Callable[[Views], Array]
    centre: float
    spread: float

    @classmethod
    def of(cls, space: SearchSpace, archs: Architectures, values: Array) -> Experience:
        """Learnt from pairs of architecture and value, many tasks side by side.

        The mean of a Gaussian process on the mean value of each architecture; a single value is
        noisy, since tasks differ. Scale and noise are those of highest marginal likelihood.

        Args:
            space: The space.
            archs: ``m`` architectures, some of them equal.
            values: Their values ``[m]``.
        """
        _, first, inverse, count = np.unique(
            archs.ops, axis=0, return_index=True, return_inverse=True, return_counts=True
        )
        z = (values - values.mean()) / (values.std() or 1.0)
        mean = np.bincount(inverse.ravel(), z) / count
        views = space.features(archs[first])
        units, best = _units(views), -np.inf
        for scale in (0.7, 1.0, 1.4):
            kernel = _kernel(views, views, units, scale)
            for noise in (0.01, 0.1, 1.0, 10.0):
                root = np.linalg.cholesky(kernel + np.diag(noise / count))
                half = np.linalg.solve(root, mean)
                fit = _likelihood(root, half)[0]
                if fit > best:
                    best, chosen, weights = fit, scale, np.linalg.solve(root.T, half)

        def predict(asked: Views) -> Array:
            found: Array = _kernel(asked, views, units, chosen) @ weights
            return found

        some = predict(space.features(space.draw(2000, np.random.default_rng(0))))
        return cls(space, predict, float(some.mean()), float(some.std()) or 1.0)

    def __call__(self, views: Views) -> Array:
        """Prior means ``[m]`` in standard deviations."""
        return (self.mean(views) - self.centre) / self.spread
