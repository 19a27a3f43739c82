r"""A Gaussian process over architectures: what a search knows after a few measurements.

With views :math:`\phi_v` of an architecture (:meth:`SearchSpace.features`) the kernel is half the
mean and half the product of Gaussian ones: likeness in any view counts, and in all of them more,

.. math:: k(x, y) = \frac1{2V} \sum_v g_v + \frac12 \prod_v g_v, \qquad
          g_v = \exp\Bigl(-\frac{\lVert\phi_v(x) - \phi_v(y)\rVert^2}
          {2 \lambda^2 s_v^2}\Bigr),

with :math:`s_v^2` the mean squared distance of the measured architectures in that view. The scale
:math:`\lambda` and the share of noise are those of highest marginal likelihood on a grid. Values
are standardised; those below the median are lifted to it, since how bad an architecture is says
little about the good ones.

A prior mean ``m(x)`` of earlier tasks (:class:`Experience`) is subtracted first, scaled to the
spread of the values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from graphdiff.graph.nag.space import Architectures, SearchSpace

__all__ = ["Experience", "GaussianProcess", "expected_improvement", "normal_cdf", "normal_pdf"]

Array = NDArray[np.float64]
Views = list[Array]
SCALES = (0.5, 0.7, 1.0, 1.4, 2.0)
NOISES = (1e-3, 1e-2, 1e-1)


def _squares(a: Array, b: Array) -> Array:
    found: Array = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T
    return np.maximum(found, 0)


@dataclass
class GaussianProcess:
    """A posterior over the values of architectures.

    Attributes:
        views: Features of the measured architectures.
        values: Their values ``[q]``, higher is better.
        prior: Prior means ``[q]`` in units of standard deviations; zeros by default.
    """

    views: Views
    values: Array
    prior: Array | None = None
    _scale: float = field(default=1.0, init=False)

    def __post_init__(self) -> None:
        y = self.values.astype(float)
        lifted = np.maximum(y, float(np.median(y)))
        self._spread = float(lifted.std()) or 1.0
        known = np.zeros_like(y) if self.prior is None else self.prior * self._spread
        rest = lifted - known
        self._mean = float(rest.mean())
        self._z = (rest - self._mean) / self._spread
        self._units = [float(_squares(v, v).mean()) or 1.0 for v in self.views]
        self._fit()

    def _kernel(self, left: Views, right: Views, scale: float) -> Array:
        shape = (len(left[0]), len(right[0]))
        total, product = np.zeros(shape), np.ones(shape)
        for a, b, unit in zip(left, right, self._units, strict=True):
            alike = np.exp(-_squares(a, b) / (2 * scale**2 * unit))
            total, product = total + alike, product * alike
        return (total / len(left) + product) / 2

    def _fit(self) -> None:
        best, q = -np.inf, len(self._z)
        for scale in SCALES:
            kernel = self._kernel(self.views, self.views, scale)
            for noise in NOISES:
                root = np.linalg.cholesky(kernel + noise * np.eye(q))
                half = np.linalg.solve(root, self._z)
                # The variance of the process has a closed form; what is left of the likelihood:
                variance = max(float(half @ half) / q, 1e-12)
                fit = -0.5 * q * np.log(variance) - float(np.log(np.diag(root)).sum())
                if fit > best:
                    best, self._scale, self._root, self._half = fit, scale, root, half
                    self._size = variance**0.5

    def predict(self, views: Views, prior: Array | None = None) -> tuple[Array, Array]:
        """Mean and standard deviation ``[m]`` of values.

        Args:
            views: Features of ``m`` architectures.
            prior: Their prior means, if the measured ones have some.
        """
        cross = np.linalg.solve(self._root, self._kernel(self.views, views, self._scale))
        mean = (self._half @ cross) * self._spread + self._mean
        if prior is not None:
            mean = mean + prior * self._spread
        left = np.maximum(1 - (cross**2).sum(0), 1e-9)
        return mean, self._size * self._spread * np.sqrt(left)


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
    def of(
        cls, space: SearchSpace, archs: Architectures, values: Array, *, noise: float = 3.0
    ) -> Experience:
        """Learnt from pairs of architecture and value, many tasks side by side.

        Values of one architecture are averaged; ``noise``, the variance of a single value in units
        of that of all, is large since tasks differ. The scale of the kernel is fixed.

        Args:
            space: The space.
            archs: ``m`` architectures, some of them equal.
            values: Their values ``[m]``.
            noise: See above.
        """
        _, first, inverse, count = np.unique(
            archs.ops, axis=0, return_index=True, return_inverse=True, return_counts=True
        )
        z = (values - values.mean()) / (values.std() or 1.0)
        mean = np.bincount(inverse.ravel(), z) / count
        views = space.features(archs[first])
        units = [float(_squares(v, v).mean()) or 1.0 for v in views]

        def kernel(left: Views, right: Views) -> Array:
            parts = [
                np.exp(-_squares(a, b) / (2 * u))
                for a, b, u in zip(left, right, units, strict=True)
            ]
            found: Array = sum(parts[1:], parts[0]) / len(parts)
            return found

        weights = np.linalg.solve(kernel(views, views) + np.diag(noise / count), mean)

        def predict(asked: Views) -> Array:
            found: Array = kernel(asked, views) @ weights
            return found

        some = predict(space.features(space.draw(2000, np.random.default_rng(0))))
        return cls(space, predict, float(some.mean()), float(some.std()) or 1.0)

    def __call__(self, views: Views) -> Array:
        """Prior means ``[m]`` in standard deviations."""
        return (self.mean(views) - self.centre) / self.spread
