r"""The Gaussian process of any schedule: marginals, bridges and losses in closed form.

.. math::
    q(x_t \mid x_0) &= \mathcal N(\alpha_t x_0, \sigma_t^2), \\
    q(x_s \mid x_t, x_0) &= \mathcal N\Big(
        \tfrac{\sigma_s}{\sigma_t} e^{-h/2}\, x_t + \alpha_s (1 - e^{-h})\, x_0,\;
        \sigma_s^2 (1 - e^{-h})\Big),
    \qquad h = \log\mathrm{SNR}_s - \log\mathrm{SNR}_t .

The bridge is written with :math:`e^{-h}` and ``expm1`` so that nothing cancels for close times,
and so that the ends :math:`\sigma_s = 0` (land on the prediction, no noise) and
:math:`\alpha_t = 0` (forget ``x_t``) need no special case. Coefficients are computed in float64
and cast to the dtype of the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.core.kernel import Normal
from graphdiff.core.process import Process
from graphdiff.core.rng import Key
from graphdiff.core.schedule import Schedule
from graphdiff.core.space import Dense, Space

__all__ = ["Gaussian", "Weighting"]

Weighting = Literal["x0", "eps", "v", "edm"]


def collapse(t: Tensor | float) -> Tensor | float:
    """``t`` without repetition: an expanded ``[b]`` (stride 0) becomes ``[1]``."""
    if isinstance(t, Tensor) and t.dim() == 1 and t.shape[0] > 1 and t.stride(0) == 0:
        return t[:1]
    return t


def like(value: Tensor, x: Tensor) -> Tensor:
    """A 0-dim, ``[1]`` or ``[b]`` coefficient in the dtype and device of ``x``, broadcastable."""
    value = value.to(device=x.device, dtype=x.dtype)
    return value if value.dim() == 0 else value.view(-1, *(1,) * (x.dim() - 1))


@dataclass(frozen=True)
class Gaussian(Process):
    """Gaussian noise with coefficients ``(alpha, sigma)`` on the free coordinates of a space.

    Attributes:
        schedule: the coefficients.
        space: where the free coordinates sit.
        prior_std: standard deviation of the prior; by default that of the marginal at ``t = 1``
            for data of standard deviation ``data_std``.
        data_std: standard deviation of the data, for the prior and for the EDM preconditioning.
        weighting: the error that the loss measures. ``"x0"``: of the clean data; ``"eps"``: of the
            noise (Ho et al., 2020, eq. 14); ``"v"``: of ``alpha eps - sigma x0`` (Salimans & Ho,
            2022); ``"edm"``: ``(s^2 + data_std^2) / (s data_std)^2`` with ``s = sigma / alpha``
            (Karras et al., 2022, table 1).
    """

    schedule: Schedule
    space: Space = field(default_factory=Dense)
    prior_std: float | None = None
    data_std: float = 1.0
    weighting: Weighting = "eps"

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, Schedule):
            raise ArgumentError(
                f"schedule is {self.schedule!r}, expected a Schedule such as VP() or VE()"
            )
        if self.weighting not in get_args(Weighting):
            raise ArgumentError(
                f"weighting is {self.weighting!r}, expected one of {get_args(Weighting)}"
            )
        if not self.data_std > 0 or (self.prior_std is not None and not self.prior_std > 0):
            raise ArgumentError(
                f"data_std is {self.data_std!r} and prior_std {self.prior_std!r}: "
                "standard deviations must be positive"
            )

    def coefficients(self, t: Tensor | float, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(alpha, sigma)`` at clock ``t`` (float, 0-dim, ``[1]`` or ``[b]``), ready for ``x``.

        They have the dtype and device of ``x`` and broadcast against it. A ``t`` that was expanded
        from one value costs one evaluation of the schedule.
        """
        t = collapse(t)
        return like(self.schedule.alpha(t), x), like(self.schedule.sigma(t), x)

    def prior(self, like: Tensor, mask: Tensor | None, key: Key) -> Tensor:
        """A draw at ``t = 1``; ``like`` ``[b, ...]`` gives shape, dtype and device only."""
        return self._prior_std() * self.space.normal(key, like.shape, mask, like.dtype)

    def prior_kernel(self, like: Tensor, mask: Tensor | None) -> Normal:
        """The prior as a kernel, for likelihoods: zero mean, ``prior_std``."""
        return Normal(torch.zeros_like(like), self._prior_std(), self.space, mask)

    def _prior_std(self) -> float:
        if self.prior_std is not None:
            return self.prior_std
        return math.hypot(
            float(self.schedule.alpha(1.0)) * self.data_std, float(self.schedule.sigma(1.0))
        )

    def marginal(self, x0: Tensor, t: Tensor | float, mask: Tensor | None) -> Normal:
        """``q(x_t | x_0)`` for ``x0`` ``[b, ...]`` and ``t`` float or ``[b]``."""
        alpha, sigma = self.coefficients(t, x0)
        return Normal(alpha * x0, sigma, self.space, mask)

    def corrupt(self, x0: Tensor, t: Tensor, mask: Tensor | None, key: Key) -> Tensor:
        """A draw of ``x_t = alpha x0 + sigma eps`` for ``x0`` ``[b, ...]`` and ``t`` ``[b]``."""
        alpha, sigma = self.coefficients(t, x0)
        noise = self.space.normal(key, x0.shape, mask, x0.dtype)
        return torch.addcmul(alpha * x0, sigma, noise)

    def bridge(
        self,
        x_t: Tensor,
        x0: Tensor,
        t: Tensor | float,
        s: Tensor | float,
        mask: Tensor | None,
    ) -> Normal:
        """``q(x_s | x_t, x_0)`` for ``s < t`` (floats or ``[b]``), exact for every schedule."""
        t, s = collapse(t), collapse(s)
        sigma_t, sigma_s = self.schedule.sigma(t), self.schedule.sigma(s)
        h = self.schedule.log_snr(s) - self.schedule.log_snr(t)
        fresh = -torch.expm1(-h)
        keep = sigma_s / sigma_t * torch.exp(-0.5 * h)
        mean = torch.addcmul(
            like(keep, x_t) * x_t, like(self.schedule.alpha(s) * fresh, x_t), x0.to(x_t.dtype)
        )
        return Normal(mean, like(sigma_s * fresh.sqrt(), x_t), self.space, mask)

    def loss(
        self, x0_pred: Tensor, x0: Tensor, x_t: Tensor, t: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Weighted squared error, averaged over the free coordinates of each sample, ``[b]``."""
        error = self.space.sum((x0_pred - x0).square(), mask)
        count = self.space.count(x0.shape, mask).to(error.device).clamp(min=1)
        return self.weight(t).to(device=error.device, dtype=error.dtype) * error / count

    def weight(self, t: Tensor | float) -> Tensor:
        """Factor of a squared error of ``x0`` at clock ``t``; float64, shape of ``t``."""
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        if self.weighting == "x0":
            return torch.ones_like(alpha)
        if self.weighting == "eps":
            return (alpha / sigma).square()
        if self.weighting == "v":
            return ((alpha.square() + sigma.square()) / sigma).square()
        return (alpha / sigma).square() + 1 / self.data_std**2
