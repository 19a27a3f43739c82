r"""Noise schedules: the pair :math:`(\alpha(t), \sigma(t))` on the clock :math:`t \in [0, 1]`.

A Gaussian process is :math:`x_t = \alpha(t) x_0 + \sigma(t) \varepsilon`; its two coefficients are
the only truth, and everything else is derived from them:

.. math::
    \log\mathrm{SNR}(t) = \log \frac{\alpha^2}{\sigma^2}, \qquad
    f(t) = \frac{\alpha'}{\alpha}, \qquad
    g^2(t) = (\sigma^2)' - 2 f \sigma^2,

where :math:`dx = f x\,dt + g\,dw` is the forward equation. Data sit at :math:`t = 0`, noise at
:math:`t = 1`. All arithmetic is in float64, because float32 noise levels ruin high-order solvers;
callers cast the result. Discrete processes read :math:`\alpha(t)` as the probability that a token
is kept.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError

__all__ = [
    "EDM",
    "VE",
    "VP",
    "Cosine",
    "FlowMatching",
    "LogLinear",
    "Schedule",
    "SquaredCosine",
    "SubVP",
    "Warped",
]

# sigma has a vertical tangent at t = 0 for most schedules; its square has not, and this far inside
# the clock the chain rule through the root is already exact to float64.
_EDGE = 1e-9


def _clock(t: Tensor | float) -> Tensor:
    """``t`` as float64 on its own device."""
    if isinstance(t, Tensor):
        return t.to(torch.float64)
    return torch.tensor(t, dtype=torch.float64)


def _require(good: bool, what: str, found: object, expected: str) -> None:
    if not good:
        raise ArgumentError(f"{what} is {found!r}, expected {expected}; correct the schedule")


class Schedule(ABC):
    """A noise schedule; subclasses are frozen dataclasses of plain numbers.

    A subclass writes :meth:`alpha` and :meth:`sigma` with differentiable torch operations, accepts
    floats and tensors of any shape, and answers in float64. The signal-to-noise ratio must not
    increase with ``t``.
    """

    @abstractmethod
    def alpha(self, t: Tensor | float) -> Tensor:
        """Signal coefficient at clock ``t`` in ``[0, 1]``, float64, shape of ``t``."""

    @abstractmethod
    def sigma(self, t: Tensor | float) -> Tensor:
        """Noise standard deviation at clock ``t`` in ``[0, 1]``, float64, shape of ``t``."""

    @final
    def log_snr(self, t: Tensor | float) -> Tensor:
        """``log(alpha^2 / sigma^2)``; infinite where ``sigma`` or ``alpha`` vanishes."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    @final
    def snr(self, t: Tensor | float) -> Tensor:
        """``alpha^2 / sigma^2``."""
        return (self.alpha(t) / self.sigma(t)).square()

    @final
    def drift(self, t: Tensor | float) -> Tensor:
        """``f(t) = alpha'(t) / alpha(t)``, the linear drift of the forward equation."""
        value, slope = self._derivative(self.alpha, t)
        return slope / value

    @final
    def diffusion2(self, t: Tensor | float) -> Tensor:
        """``g(t)^2 = (sigma^2)' - 2 f sigma^2``, the squared diffusion of the forward equation."""
        variance, slope = self._derivative(lambda u: self.sigma(u).square(), t)
        return slope - 2 * self.drift(t) * variance

    @final
    def inverse(self, log_snr: Tensor | float) -> Tensor:
        """The clock at which the log-SNR is ``log_snr``; values out of reach are clamped.

        Bisection in float64, 64 halvings: exact to rounding wherever the log-SNR is strictly
        decreasing.
        """
        target = _clock(log_snr)
        low, high = torch.zeros_like(target), torch.ones_like(target)
        for _ in range(64):
            middle = (low + high) / 2
            early = self.log_snr(middle) > target
            low = torch.where(early, middle, low)
            high = torch.where(early, high, middle)
        t = torch.where(target >= self.log_snr(0.0), torch.zeros_like(target), (low + high) / 2)
        return torch.where(target <= self.log_snr(1.0), torch.ones_like(target), t)

    @staticmethod
    def _derivative(
        function: Callable[[Tensor], Tensor], t: Tensor | float
    ) -> tuple[Tensor, Tensor]:
        """Value and derivative of an elementwise function of the clock.

        Reverse mode: the first use of torch's forward mode loads its decompositions, seconds long.
        """
        with torch.inference_mode(False), torch.enable_grad():
            clock = _clock(t).detach().clamp(min=_EDGE).clone().requires_grad_()
            value = function(clock)
            if not value.requires_grad:  # a constant coefficient
                return value, torch.zeros_like(clock).detach()
            (slope,) = torch.autograd.grad(value.sum(), clock)
        return value.detach(), slope


def _beta_integral(t: Tensor, low: float, high: float) -> Tensor:
    """Integral of the linear rate ``low + (high - low) u`` from 0 to ``t``."""
    return t * (low + 0.5 * (high - low) * t)


@dataclass(frozen=True)
class VP(Schedule):
    """Variance preserving, linear rate (Song et al., 2021, arXiv 2011.13456, eq. 32).

    ``alpha = exp(-B/2)``, ``sigma^2 = 1 - exp(-B)``, with the integrated rate
    ``B = beta_min t + (beta_max - beta_min) t^2 / 2``.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        _require(self.beta_min > 0, "beta_min", self.beta_min, "a positive number")
        _require(self.beta_max >= self.beta_min, "beta_max", self.beta_max, "at least beta_min")

    def alpha(self, t: Tensor | float) -> Tensor:
        """``exp(-B(t) / 2)``."""
        return torch.exp(-0.5 * _beta_integral(_clock(t), self.beta_min, self.beta_max))

    def sigma(self, t: Tensor | float) -> Tensor:
        """``sqrt(1 - exp(-B(t)))``."""
        return torch.sqrt(-torch.expm1(-_beta_integral(_clock(t), self.beta_min, self.beta_max)))


@dataclass(frozen=True)
class SubVP(Schedule):
    """Sub-VP (Song et al., 2021, arXiv 2011.13456, eq. 29): ``sigma = 1 - exp(-B)``."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        _require(self.beta_min > 0, "beta_min", self.beta_min, "a positive number")
        _require(self.beta_max >= self.beta_min, "beta_max", self.beta_max, "at least beta_min")

    def alpha(self, t: Tensor | float) -> Tensor:
        """``exp(-B(t) / 2)``."""
        return torch.exp(-0.5 * _beta_integral(_clock(t), self.beta_min, self.beta_max))

    def sigma(self, t: Tensor | float) -> Tensor:
        """``1 - exp(-B(t))``."""
        return -torch.expm1(-_beta_integral(_clock(t), self.beta_min, self.beta_max))


@dataclass(frozen=True)
class VE(Schedule):
    """Variance exploding, geometric (Song et al., 2021, arXiv 2011.13456, eq. 31).

    ``alpha = 1``, ``sigma = sigma_min (sigma_max / sigma_min)^t``; noise ``sigma_min`` stays at
    ``t = 0``.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        _require(self.sigma_min > 0, "sigma_min", self.sigma_min, "a positive number")
        _require(self.sigma_max > self.sigma_min, "sigma_max", self.sigma_max, "above sigma_min")

    def alpha(self, t: Tensor | float) -> Tensor:
        """One."""
        return torch.ones_like(_clock(t))

    def sigma(self, t: Tensor | float) -> Tensor:
        """``sigma_min (sigma_max / sigma_min)^t``."""
        return self.sigma_min * torch.exp(_clock(t) * math.log(self.sigma_max / self.sigma_min))


@dataclass(frozen=True)
class EDM(Schedule):
    """Karras et al., 2022 (arXiv 2206.00364, eq. 5) with its noise levels as the clock.

    ``alpha = 1``, ``sigma = (sigma_min^(1/rho) + t (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho``.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        _require(self.sigma_min >= 0, "sigma_min", self.sigma_min, "zero or more")
        _require(self.sigma_max > self.sigma_min, "sigma_max", self.sigma_max, "above sigma_min")
        _require(self.rho >= 1, "rho", self.rho, "at least 1")

    def alpha(self, t: Tensor | float) -> Tensor:
        """One."""
        return torch.ones_like(_clock(t))

    def sigma(self, t: Tensor | float) -> Tensor:
        """The noise level of clock ``t``: equal steps of ``t`` are the published grid."""
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        level: Tensor = low + _clock(t) * (high - low)
        return level.pow(self.rho)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Nichol & Dhariwal, 2021 (arXiv 2102.09672, eq. 17), variance preserving.

    ``alpha = cos(a) / cos(a_0)`` with ``a = (pi/2)(t + s)/(1 + s)``; written with sines of
    differences so that neither end cancels. ``alpha(1) = 0``.
    """

    s: float = 0.008

    def __post_init__(self) -> None:
        _require(self.s >= 0, "s", self.s, "zero or more")

    def alpha(self, t: Tensor | float) -> Tensor:
        """``cos(a(t)) / cos(a(0))``."""
        unit = 0.5 * math.pi / (1 + self.s)
        return torch.sin(unit * (1 - _clock(t))) / math.cos(unit * self.s)

    def sigma(self, t: Tensor | float) -> Tensor:
        """``sqrt(1 - alpha^2) = sqrt(sin(a - a_0) sin(a + a_0)) / cos(a_0)``."""
        unit, clock = 0.5 * math.pi / (1 + self.s), _clock(t)
        square: Tensor = torch.sin(unit * clock) * torch.sin(unit * (clock + 2 * self.s))
        return square.clamp(min=0).sqrt() / math.cos(unit * self.s)


@dataclass(frozen=True)
class SquaredCosine(Schedule):
    """Cosine schedule of discrete diffusion (DiGress, Vignac et al., 2023, arXiv 2209.14734).

    ``alpha`` is the square of that of :class:`Cosine`: there ``alpha^2`` is the share of signal
    power, here the probability that a token survives. As a Gaussian schedule it is variance
    preserving, ``sigma = sqrt(1 - alpha^2)``.
    """

    s: float = 0.008

    def __post_init__(self) -> None:
        _require(self.s >= 0, "s", self.s, "zero or more")

    def alpha(self, t: Tensor | float) -> Tensor:
        """``cos^2(a(t)) / cos^2(a(0))`` with ``a = (pi/2)(t + s)/(1 + s)``."""
        return Cosine(self.s).alpha(t).square()

    def sigma(self, t: Tensor | float) -> Tensor:
        """``sqrt(1 - alpha^2)``, by way of the sigma of :class:`Cosine` so that nothing cancels."""
        cosine = Cosine(self.s)
        return cosine.sigma(t) * torch.sqrt(1 + cosine.alpha(t).square())


@dataclass(frozen=True)
class FlowMatching(Schedule):
    """Straight paths (Lipman et al., 2023, arXiv 2210.02747): ``alpha = 1 - t``, ``sigma = t``."""

    def alpha(self, t: Tensor | float) -> Tensor:
        """``1 - t``."""
        return 1 - _clock(t)

    def sigma(self, t: Tensor | float) -> Tensor:
        """``t``."""
        return _clock(t).clone()


@dataclass(frozen=True)
class LogLinear(Schedule):
    """Straight survival (Lou et al., 2024, arXiv 2310.16834): ``alpha = 1 - (1 - eps) t``.

    As a discrete schedule a token survives with probability ``alpha``; as a Gaussian one it is
    variance preserving, ``sigma = sqrt(1 - alpha^2)``.
    """

    eps: float = 1e-3

    def __post_init__(self) -> None:
        _require(0 <= self.eps < 1, "eps", self.eps, "a number in [0, 1)")

    def alpha(self, t: Tensor | float) -> Tensor:
        """``1 - (1 - eps) t``."""
        return 1 - (1 - self.eps) * _clock(t)

    def sigma(self, t: Tensor | float) -> Tensor:
        """``sqrt(1 - alpha^2)``."""
        lost = (1 - self.eps) * _clock(t)
        return torch.sqrt(lost * (2 - lost))


@dataclass(frozen=True)
class Warped(Schedule):
    """Another schedule on a bent clock: ``u = start + (end - start) t^power``.

    ``power > 1`` spends more of the clock near the data; ``start`` and ``end`` cut a piece out of
    the base schedule (a latent model that is never asked below some noise level).
    """

    base: Schedule
    power: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        _require(isinstance(self.base, Schedule), "base", self.base, "a Schedule")
        _require(self.power > 0, "power", self.power, "a positive number")
        _require(0 <= self.start < self.end <= 1, "(start, end)", (self.start, self.end),
                 "0 <= start < end <= 1")  # fmt: skip

    def _warp(self, t: Tensor | float) -> Tensor:
        return self.start + (self.end - self.start) * _clock(t).pow(self.power)

    def alpha(self, t: Tensor | float) -> Tensor:
        """Of the base schedule at the warped clock."""
        return self.base.alpha(self._warp(t))

    def sigma(self, t: Tensor | float) -> Tensor:
        """Of the base schedule at the warped clock."""
        return self.base.sigma(self._warp(t))
