r"""Predictors: one discretised step of the reverse-time SDE.

The forward process :math:`dx = f(t)\,x\,dt + g(t)\,dw` with :math:`f=\dot\alpha/\alpha` and
:math:`g^2=(\sigma^2)^{\cdot}-2f\sigma^2` is reversed by (Anderson 1982)

.. math:: dx = \left[f(t)\,x - g(t)^2\,\nabla\log p_t(x)\right]dt + g(t)\,d\bar w .

Every predictor of this module is affine in the state and the score,
:math:`x' = a_i x + c_i\,\nabla\log p_{t_i}(x) + s_i z`, and
:math:`\nabla\log p_t(x) = (\alpha\hat x_0 - x)/\sigma^2`, so that it compiles to three float64
numbers a step. Two kinds of coefficients exist:

* **continuous** (``discretization=None``): the step from ``times[i]`` to ``times[i + 1]``, exact
  coefficients, any grid and any schedule;
* **published** (``discretization=N``): the tables of the score-SDE family (Song et al., 2011.13456,
  appendix E-F, and GDSS, 2202.02514), which step by :math:`1/N` at each of the N times
  ``linspace(1, eps, N)``, the last one included. They need the grid
  ``Times(kind="published", n=N, end=eps)`` and reproduce the published samplers number for number.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.kernel import Delta, Kernel, Normal
from graphdiff.core.process import Process
from graphdiff.core.program import Carry, Program, Solver
from graphdiff.core.rng import Key
from graphdiff.core.schedule import VE, VP, Schedule
from graphdiff.core.space import Space

__all__ = ["EulerMaruyama", "Predictor", "ReverseDiffusion"]

# floor(t (N - 1)) must not fall to the index below when t is a rounded multiple of 1 / (N - 1)
_ROUNDING = 1e-6


def gaussian_of(process: Process, solver: object) -> Gaussian:
    """``process`` as a Gaussian process, or an error that names the solver."""
    if not isinstance(process, Gaussian):
        raise ArgumentError(
            f"{type(solver).__name__} follows a stochastic differential equation, found a "
            f"{type(process).__name__} process; use a solver of graphdiff.core.jump for it"
        )
    return process


def steps_of(times: Sequence[float], discretization: int | None, solver: object) -> list[float]:
    """Length of each step: differences of the grid, or 1/N for the published tables."""
    n = len(times) - 1
    if discretization is None:
        return [times[i] - times[i + 1] for i in range(n)]
    if discretization != n:
        raise ArgumentError(
            f"{type(solver).__name__}(discretization={discretization}) needs a grid of "
            f"{discretization} steps, found {n}; use Times(kind='published', n={discretization}) "
            "or leave discretization out"
        )
    return [1.0 / n] * n


def table_index(t: float, size: int) -> int:
    """Row of a published table of ``size`` entries that belongs to clock time ``t``."""
    return min(size - 1, max(0, math.floor(t * (size - 1) + _ROUNDING)))


def discrete_beta(schedule: VP, size: int, k: int) -> float:
    """Entry ``k`` of ``linspace(beta_min / N, beta_max / N, N)``."""
    last = max(size - 1, 1)
    return (schedule.beta_min + (schedule.beta_max - schedule.beta_min) * k / last) / size


def discrete_variance(schedule: VE, size: int, k: int) -> float:
    """Square of entry ``k`` of ``exp(linspace(log sigma_min, log sigma_max, N))``."""
    low, high = math.log(schedule.sigma_min), math.log(schedule.sigma_max)
    return math.exp(2.0 * (low + (high - low) * k / max(size - 1, 1)))


def retention(
    schedule: Schedule, times: Sequence[float], discretization: int | None
) -> list[float]:
    r"""Share of the signal variance that a forward step keeps, :math:`1-\beta_i` for VP, 1 for VE.

    Continuous: :math:`(\alpha_{t_i}/\alpha_{t_{i+1}})^2`. Published: the table ``1 - beta_k``.
    """
    n = len(times) - 1
    if discretization is None:
        alpha = schedule.alpha(torch.tensor(times, dtype=torch.float64)).tolist()
        return [(alpha[i] / alpha[i + 1]) ** 2 for i in range(n)]
    if isinstance(schedule, VE):
        return [1.0] * n
    if not isinstance(schedule, VP):
        raise no_table(schedule)
    index = [table_index(t, discretization) for t in times[:-1]]
    return [1.0 - discrete_beta(schedule, discretization, k) for k in index]


def no_table(schedule: Schedule) -> ArgumentError:
    """The error of a schedule for which no discretisation was published."""
    return ArgumentError(
        f"published discretisations exist for VP and VE schedules, found "
        f"{type(schedule).__name__}; leave discretization out to use the continuous coefficients"
    )


@dataclass(frozen=True)
class ScoreTable:
    r"""Coefficients of :math:`\nabla\log p_{t_i}(x) = (\alpha_i \hat x_0 - x)/\sigma_i^2`."""

    alpha: tuple[float, ...]
    variance: tuple[float, ...]

    @staticmethod
    def of(schedule: Schedule, times: Sequence[float]) -> ScoreTable:
        """Coefficients at all times but the last, at which no score is needed."""
        grid = torch.tensor(times[:-1], dtype=torch.float64)
        alpha, sigma = schedule.alpha(grid).tolist(), schedule.sigma(grid).tolist()
        for t, s in zip(times, sigma, strict=False):
            if not s > 0.0:
                raise ArgumentError(
                    f"the score is not defined at time {t:g}, where the noise is zero; let the "
                    "grid "
                    "end, not pass, there"
                )
        return ScoreTable(tuple(alpha), tuple(s * s for s in sigma))

    def score(self, i: int, x: Tensor, x0: Tensor) -> Tensor:
        """Score of the state ``x`` at ``times[i]`` for the clean prediction ``x0``."""
        return torch.add(x * (-1.0 / self.variance[i]), x0, alpha=self.alpha[i] / self.variance[i])


@dataclass(frozen=True)
class _Affine(Program):
    """``x' = state[i] x + clean[i] x0 + std[i] z`` at one evaluation a step."""

    times: tuple[float, ...]
    state: tuple[float, ...]
    clean: tuple[float, ...]
    std: tuple[float, ...]
    space: Space
    stages: int = 1

    def evaluate_at(self, i: int, stage: int) -> float | None:
        return self.times[i]

    def start(self, x: Tensor) -> Carry:
        return ()

    def update(
        self,
        i: int,
        stage: int,
        x: Tensor,
        x0: Tensor,
        mask: Tensor | None,
        carry: Carry,
        key: Key,
    ) -> tuple[Kernel, Carry]:
        mean = torch.add(x * self.state[i], x0, alpha=self.clean[i])
        if self.std[i] == 0.0:
            return Delta(mean), carry
        return Normal(mean, self.std[i], self.space, mask), carry


class Predictor(Solver, ABC):
    """A solver that is affine in state and score, with one evaluation a step.

    Attributes:
        denoise: return the mean of the last step, without its noise.
    """

    denoise: bool

    @abstractmethod
    def coefficients(
        self, schedule: Schedule, times: Sequence[float]
    ) -> list[tuple[float, float, float]]:
        """Factor of the state, factor of the score and standard deviation of each step."""

    @final
    def compile(self, process: Process, times: Sequence[float]) -> Program:
        """Turn the coefficients on the score into coefficients on the clean prediction."""
        gaussian = gaussian_of(process, self)
        table = ScoreTable.of(gaussian.schedule, times)
        rows = self.coefficients(gaussian.schedule, times)
        if not all(math.isfinite(value) for row in rows for value in row):
            raise ArgumentError(
                f"{type(self).__name__} has no finite coefficients for "
                f"{type(gaussian.schedule).__name__} on a grid from {times[0]:g} to {times[-1]:g} "
                "(its drift diverges); start the grid below 1"
            )
        clean = [
            c * a / v for (_, c, _), a, v in zip(rows, table.alpha, table.variance, strict=True)
        ]
        state = [f - c / v for (f, c, _), v in zip(rows, table.variance, strict=True)]
        std = [s for _, _, s in rows]
        if self.denoise:
            std[-1] = 0.0
        return _Affine(tuple(times), tuple(state), tuple(clean), tuple(std), gaussian.space)


@final
@dataclass(frozen=True)
class EulerMaruyama(Predictor):
    r"""Euler-Maruyama steps of the reverse SDE.

    :math:`x' = x - h\,[f x - g^2 \nabla\log p] + g\sqrt{h}\,z` with drift and diffusion at
    ``times[i]``. Weak order 1.

    Attributes:
        discretization: ``None``: :math:`h` is the step of the grid. ``N``: :math:`h = 1/N`
            at every one of the N published times.
        denoise: return the mean of the last step, without its noise.
    """

    discretization: int | None = None
    denoise: bool = True

    def coefficients(
        self, schedule: Schedule, times: Sequence[float]
    ) -> list[tuple[float, float, float]]:
        """Factor of the state, factor of the score and standard deviation of each step."""
        steps = steps_of(times, self.discretization, self)
        grid = torch.tensor(times[:-1], dtype=torch.float64)
        drift, diffusion2 = schedule.drift(grid).tolist(), schedule.diffusion2(grid).tolist()
        return [
            (1.0 - f * h, g2 * h, math.sqrt(max(g2 * h, 0.0)))
            for f, g2, h in zip(drift, diffusion2, steps, strict=True)
        ]


@final
@dataclass(frozen=True)
class ReverseDiffusion(Predictor):
    r"""Reverse-diffusion steps: the discretised forward step, undone.

    If the forward step is :math:`x_t = \sqrt{1-\beta}\,x_s + \sqrt{v}\,z`, then
    :math:`x_s = (2-\sqrt{1-\beta})\,x_t + v\,\nabla\log p_t + \sqrt{v}\,z` (2011.13456, eq. 46).

    Attributes:
        discretization: ``None``: the exact transition between ``times[i + 1]`` and ``times[i]``.
            ``N``: the published tables (VP: ``linspace(beta_min / N, beta_max / N, N)``; VE:
            differences of the geometric ladder of N variances), read at ``floor(t (N - 1))``.
        denoise: return the mean of the last step, without its noise.
    """

    discretization: int | None = None
    denoise: bool = True

    def coefficients(
        self, schedule: Schedule, times: Sequence[float]
    ) -> list[tuple[float, float, float]]:
        """Factor of the state, factor of the score and standard deviation of each step."""
        steps_of(times, self.discretization, self)
        if self.discretization is not None:
            pairs = [self._published(schedule, t, self.discretization) for t in times[:-1]]
        else:
            grid = torch.tensor(times, dtype=torch.float64)
            alpha, sigma = schedule.alpha(grid).tolist(), schedule.sigma(grid).tolist()
            pairs = []
            for i in range(len(times) - 1):
                keep = alpha[i] / alpha[i + 1]
                pairs.append((keep, sigma[i] ** 2 - (keep * sigma[i + 1]) ** 2))
        return [(2.0 - keep, v, math.sqrt(max(v, 0.0))) for keep, v in pairs]

    def _published(self, schedule: Schedule, t: float, size: int) -> tuple[float, float]:
        """Forward factor and variance of the published table at clock time ``t``."""
        k = table_index(t, size)
        if isinstance(schedule, VP):
            beta = discrete_beta(schedule, size, k)
            return math.sqrt(1.0 - beta), beta
        if isinstance(schedule, VE):
            below = discrete_variance(schedule, size, k - 1) if k > 0 else 0.0
            return 1.0, discrete_variance(schedule, size, k) - below
        raise no_table(schedule)
