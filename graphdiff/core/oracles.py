r"""Exact denoisers: what a perfectly trained network would answer.

For clean data with a known law the mean :math:`E[x_0 \mid x_t]`, the score and the density of
:math:`x_t` are closed forms. They replace the network where an answer must be exact: to measure a
solver's error and order, to test samplers and tuners, and in the documentation. An oracle is a
callable ``(state, t, cond) -> {name: x0}`` like any denoiser.

For a mixture :math:`\sum_k w_k \mathcal N(m_k, s_k^2 I)` and :math:`x_t = \alpha x_0 + \sigma z`,

.. math::
    p(k \mid x) \propto w_k \mathcal N(x; \alpha m_k, v_k I), \quad v_k = \alpha^2 s_k^2 + \sigma^2,
    \qquad
    E[x_0 \mid x, k] = m_k + \frac{\alpha s_k^2}{v_k} (x - \alpha m_k) .

A single mode is the Gaussian oracle, modes of zero width are a data set (the empirical oracle, to
which a network that memorised its training set converges). Everything is computed in float64 and
answered in the dtype of the state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.core.gaussian import Gaussian, collapse
from graphdiff.core.kernel import Normal
from graphdiff.core.program import Program
from graphdiff.core.rng import Key
from graphdiff.core.state import State

__all__ = [
    "EmpiricalOracle",
    "GaussianOracle",
    "MixtureOracle",
    "law_of_chain",
    "probability_flow",
]


class MixtureOracle:
    """A mixture of isotropic Gaussians on one component; all its coordinates are free.

    Args:
        process: the Gaussian process of the component; its space must not tie coordinates.
        means: modes, ``[k, ...]`` with the shape of a sample behind.
        std: standard deviation within a mode: a number, or one for each mode ``[k]``.
        weights: probabilities of the modes ``[k]``; equal by default.
        name: the component.

    Raises:
        ArgumentError: numbers of modes differ, a deviation is negative, or weights do not sum to 1.
    """

    def __init__(
        self,
        process: Gaussian,
        means: Tensor,
        std: float | Tensor,
        weights: Sequence[float] | Tensor | None = None,
        name: str = "x",
    ) -> None:
        means = means.detach().to(torch.float64)
        modes = means.shape[0]
        given = torch.full((modes,), 1 / modes) if weights is None else torch.as_tensor(weights)
        probs = given.to(means)
        spread = torch.as_tensor(std).to(means).expand(modes) if _fits(std, modes) else None
        if spread is None or probs.shape != (modes,):
            raise ArgumentError(
                f"{modes} modes with weights of shape {tuple(probs.shape)} and std of shape "
                f"{tuple(torch.as_tensor(std).shape)}; give one number for each mode"
            )
        if bool((spread < 0).any()) or bool((probs < 0).any()) or abs(probs.sum() - 1) > 1e-6:
            raise ArgumentError(
                f"weights {probs.tolist()} must be probabilities and std {spread.tolist()} not "
                "negative; correct them"
            )
        self.process = process
        self.name = name
        self.means = means.flatten(1)
        self.variances = spread.square()
        self.log_weights = probs.log()

    def _at(self, x: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Flat ``x``, and ``alpha``, ``sigma`` ``[b or 1, 1]`` and log joint ``[b, k]``."""
        flat = x.to(torch.float64).flatten(1)
        clock = collapse(t)
        alpha = self.process.schedule.alpha(clock).to(flat.device).reshape(-1, 1)
        sigma = self.process.schedule.sigma(clock).to(flat.device).reshape(-1, 1)
        means, variances = self.means.to(flat.device), self.variances.to(flat.device)
        v = alpha.square() * variances + sigma.square()
        distance = (flat.unsqueeze(1) - alpha.unsqueeze(-1) * means).square().sum(-1)
        constant = -0.5 * flat.shape[1] * torch.log(2 * math.pi * v)
        return flat, alpha, sigma, self.log_weights.to(flat.device) + constant - 0.5 * distance / v

    def posterior(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Probability of each mode given ``x_t = x`` ``[b, ...]``; ``[b, k]``, float64."""
        return torch.softmax(self._at(x, t)[3], dim=1)

    def denoise(self, x: Tensor, t: Tensor | float) -> Tensor:
        """``E[x_0 | x_t = x]`` for ``x`` ``[b, ...]``, ``t`` float or ``[b]``; dtype of ``x``."""
        flat, alpha, sigma, joint = self._at(x, t)
        p = torch.softmax(joint, dim=1)
        means, variances = self.means.to(flat.device), self.variances.to(flat.device)
        gain = alpha * variances / (alpha.square() * variances + sigma.square())
        # sum_k p_k (m_k (1 - gain_k alpha) + gain_k x), without a [b, k, d] tensor.
        mean = (p * (1 - gain * alpha)) @ means + (p * gain).sum(1, keepdim=True) * flat
        return mean.to(x.dtype).view_as(x)

    def score(self, x: Tensor, t: Tensor | float) -> Tensor:
        """``grad log p_t(x)``, float64, shape of ``x``."""
        flat, alpha, sigma, _ = self._at(x, t)
        clean = self.denoise(x.to(torch.float64), t).flatten(1)
        return ((alpha * clean - flat) / sigma.square()).view_as(x)

    def log_prob(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """``log p_t(x)`` in nats, ``[b]``, float64; the law of the data where ``sigma(t) = 0``."""
        return torch.logsumexp(self._at(x, t)[3], dim=1)

    def sample(self, key: Key, t: float) -> Tensor:
        """Exact draws of ``x_t``, one for each id of ``key``: ``[b, d]``, float64."""
        alpha, sigma = self.process.schedule.alpha(t), self.process.schedule.sigma(t)
        level = key.at(step=1).uniform(1, torch.float64).squeeze(1)
        mode = torch.bucketize(level, self.log_weights.exp().cumsum(0)[:-1])
        std = torch.sqrt(alpha.square() * self.variances + sigma.square())[mode]
        noise = key.normal(self.means.shape[1], torch.float64)
        return alpha * self.means[mode] + std.unsqueeze(1) * noise

    def __call__(self, state: State, t: Tensor, cond: Any = None) -> dict[str, Tensor]:
        """Clean data of the component."""
        return {self.name: self.denoise(state[self.name], t)}


class GaussianOracle(MixtureOracle):
    """Data ``N(mean, std^2 I)``: one mode; the probability flow is then linear and known exactly.

    Args:
        process: the Gaussian process of the component.
        mean: mean of the data, with the shape of a sample.
        std: standard deviation of the data.
        name: the component.
    """

    def __init__(self, process: Gaussian, mean: Tensor, std: float = 1.0, name: str = "x") -> None:
        super().__init__(process, mean.unsqueeze(0), std, name=name)

    def flow(self, x: Tensor, t: float, s: float) -> Tensor:
        """Where the probability flow that passes ``x`` at ``t`` is at ``s``; float64."""
        flat = x.to(torch.float64).flatten(1)
        alpha_t, alpha_s = self.process.schedule.alpha(t), self.process.schedule.alpha(s)
        std_t, std_s = self.std(t), self.std(s)
        return (alpha_s * self.means + std_s / std_t * (flat - alpha_t * self.means)).view_as(x)

    def std(self, t: Tensor | float) -> Tensor:
        """Standard deviation of ``x_t``."""
        alpha, sigma = self.process.schedule.alpha(t), self.process.schedule.sigma(t)
        return torch.sqrt(alpha.square() * self.variances.squeeze() + sigma.square())


class EmpiricalOracle(MixtureOracle):
    """The law that puts equal mass on the points of a data set.

    Args:
        process: the Gaussian process of the component.
        data: clean examples ``[n, ...]``.
        name: the component.
    """

    def __init__(self, process: Gaussian, data: Tensor, name: str = "x") -> None:
        super().__init__(process, data, 0.0, name=name)


def probability_flow(
    oracle: MixtureOracle, x: Tensor, start: float, end: float, steps: int = 2000
) -> Tensor:
    """End of the probability flow from ``x`` ``[b, ...]``: the reference for solvers, float64.

    In ``y = x / alpha`` and ``lam = log(alpha / sigma)`` the flow is ``dy/dlam = D - y`` for every
    schedule; it is integrated by the classical Runge-Kutta method in ``steps`` equal steps of
    ``lam``, four calls each. ``alpha(start)`` and ``sigma(end)`` must not vanish.
    """
    schedule = oracle.process.schedule
    first, last = (float(schedule.log_snr(t)) / 2 for t in (start, end))
    unit = torch.linspace(0, 1, 2 * steps + 1, dtype=torch.float64)
    clock = schedule.inverse(2 * (first + unit * (last - first)))
    clock[0], clock[-1] = start, end
    alpha = schedule.alpha(clock).tolist()
    h = (last - first) / steps
    y = x.to(torch.float64) / alpha[0]

    def slope(y: Tensor, k: int) -> Tensor:
        return oracle.denoise(y * alpha[k], clock[k]) - y

    for k in range(0, 2 * steps, 2):
        a = slope(y, k)
        b = slope(y + h / 2 * a, k + 1)
        c = slope(y + h / 2 * b, k + 1)
        d = slope(y + h * c, k + 2)
        y = y + h / 6 * (a + 2 * b + 2 * c + d)
    end_value: Tensor = y * alpha[-1]
    return end_value


def law_of_chain(
    program: Program, oracle: GaussianOracle, times: Sequence[float]
) -> tuple[float, float]:
    """Exact mean and standard deviation at the end of a chain that starts on the marginal.

    For one-dimensional Gaussian data and a linear program the state is a linear combination of
    the noises drawn so far; the chain runs once on the vector of coefficients (entry 0 belongs to
    the constant 1, entry 1 to the start, then one entry for each draw), so nothing is estimated.
    """
    schedule = oracle.process.schedule
    x = torch.zeros((len(times) - 1) * program.stages + 2, 1, dtype=torch.float64)
    x[0] = schedule.alpha(times[0]) * oracle.means[0]
    x[1] = oracle.std(times[0])
    key = Key(0, torch.arange(len(x)))
    carry, used = program.start(x), 2
    for i in range(len(times) - 1):
        for stage in range(program.stages):
            t = program.evaluate_at(i, stage)
            if t is None:
                continue
            # The denoiser is affine; its constant belongs to entry 0 alone.
            offset = oracle.denoise(torch.zeros(1, 1, dtype=torch.float64), t)
            x0 = oracle.denoise(x, t) - offset
            x0[0] += offset[0]
            kernel, carry = program.update(i, stage, x, x0, None, carry, key)
            x = kernel.mean.clone()
            if isinstance(kernel, Normal):
                x[used] += kernel.std
                used += 1
    return float(x[0]), float(x[1:].norm())


def _fits(std: float | Tensor, modes: int) -> bool:
    return torch.as_tensor(std).numel() in (1, modes) and torch.as_tensor(std).dim() <= 1
