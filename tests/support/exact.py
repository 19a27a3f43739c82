"""Continuous oracles and reference flows in float64: what solvers are measured against.

The probability flow in ``y = x / alpha`` and ``lam = log(alpha / sigma)`` is ``dy/dlam = D - y``,
free of the schedule, so one classical Runge-Kutta integrator serves all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from graphdiff.core.gaussian import Gaussian
from graphdiff.core.oracles import EmpiricalOracle, GaussianOracle, MixtureOracle
from graphdiff.core.plan import PlanSpec
from graphdiff.core.program import Program
from graphdiff.core.rng import Key
from graphdiff.core.schedule import VP, Schedule

__all__ = [
    "EmpiricalOracle",
    "GaussianOracle",
    "MixtureOracle",
    "flow",
    "grid",
    "prior",
    "run",
    "slope",
    "solve",
    "standard_mixture",
]

Denoise = Callable[[Tensor, float], Tensor]


def standard_mixture(schedule: Schedule | None = None, dims: int = 8) -> MixtureOracle:
    """Six modes of standard deviation 0.25 at standard normal places in 8 dimensions."""
    process = Gaussian(schedule if schedule is not None else VP())
    means = Key(7, torch.arange(6)).normal(dims, torch.float64)
    return MixtureOracle(process, means, 0.25)


def prior(oracle: MixtureOracle, samples: int, t: float, seed: int = 1) -> Tensor:
    """Exact draws of the marginal at ``t``, ``[samples, d]``."""
    key = Key(seed, torch.arange(samples))
    schedule = oracle.process.schedule
    place = torch.bucketize(key.at(step=1).uniform(1, torch.float64).squeeze(1),
                            oracle.log_weights.exp().cumsum(0)[:-1])  # fmt: skip
    std = torch.sqrt(schedule.alpha(t) ** 2 * oracle.variances + schedule.sigma(t) ** 2)
    noise = key.normal(oracle.means.shape[1], torch.float64)
    return schedule.alpha(t) * oracle.means[place] + std[place, None] * noise


def grid(schedule: Schedule, n: int, start: float, end: float, rho: float | None = None) -> list[float]:
    """``n + 1`` times with equal steps of log-SNR, or of ``(sigma / alpha)^(1 / rho)``."""
    ends = [float(schedule.log_snr(t)) / 2 for t in (start, end)]
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    if rho is None:
        lam = ends[0] + steps * (ends[1] - ends[0])
    else:
        low, high = (math.exp(-e / rho) for e in ends)
        lam = -rho * torch.log(low + steps * (high - low))
    times = schedule.inverse(2 * lam).tolist()
    return [start, *times[1:-1], end]


def flow(schedule: Schedule, denoise: Denoise, x: Tensor, t: float, s: float, n: int) -> Tensor:
    """End at ``s`` of the probability flow from ``x`` at ``t``: ``n`` steps of RK4 in ``lam``."""
    lam = torch.linspace(0, 1, 2 * n + 1, dtype=torch.float64)
    first, last = (float(schedule.log_snr(u)) / 2 for u in (t, s))
    clock = schedule.inverse(2 * (first + lam * (last - first)))
    clock[0], clock[-1] = t, s
    alpha, times = schedule.alpha(clock).tolist(), clock.tolist()
    h = (last - first) / n
    y = x / alpha[0]

    def slope_at(y: Tensor, k: int) -> Tensor:
        return denoise(y * alpha[k], times[k]) - y

    for i in range(n):
        a = slope_at(y, 2 * i)
        b = slope_at(y + h / 2 * a, 2 * i + 1)
        c = slope_at(y + h / 2 * b, 2 * i + 1)
        d = slope_at(y + h * c, 2 * i + 2)
        y = y + h / 6 * (a + 2 * b + 2 * c + d)
    return y * alpha[-1]


def run(program: Program, steps: int, denoise: Denoise, x: Tensor, key: Key | None = None) -> Tensor:
    """A whole chain, without a sampler: evaluate, update, draw."""
    key = key if key is not None else Key(0, torch.arange(x.shape[0]))
    carry = program.start(x)
    for i in range(steps):
        for stage in range(program.stages):
            t = program.evaluate_at(i, stage)
            if t is not None:
                here = key.at(step=1 + i * program.stages + stage)
                kernel, carry = program.update(i, stage, x, denoise(x, t), None, carry, here)
                x = kernel.sample(here)
    return x


def solve(spec: PlanSpec, oracle: MixtureOracle, times: Sequence[float], x: Tensor) -> Tensor:
    """The end of the chain of ``spec`` on ``times`` with the exact denoiser."""
    return run(spec.compile(oracle.process, times), len(times) - 1, oracle.denoise, x)


def slope(steps: Sequence[int], errors: Sequence[float]) -> float:
    """Order of convergence: least-squares slope of ``-log(error)`` against ``log(steps)``."""
    u = torch.tensor(steps, dtype=torch.float64).log()
    v = torch.tensor(errors, dtype=torch.float64).log()
    u, v = u - u.mean(), v - v.mean()
    return -float((u * v).sum() / (u * u).sum())
