"""Continuous oracles and reference flows in float64: what solvers are measured against."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from graphdiff.core.gaussian import Gaussian
from graphdiff.core.oracles import (
    EmpiricalOracle,
    GaussianOracle,
    MixtureOracle,
    law_of_chain,
    probability_flow,
)
from graphdiff.core.plan import PlanSpec
from graphdiff.core.program import Program
from graphdiff.core.rng import Key
from graphdiff.core.schedule import VP, Schedule

__all__ = [
    "EmpiricalOracle",
    "GaussianOracle",
    "MixtureOracle",
    "grid",
    "law_of_chain",
    "prior",
    "probability_flow",
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
    return oracle.sample(Key(seed, torch.arange(samples)), t)


def grid(
    schedule: Schedule, n: int, start: float, end: float, rho: float | None = None
) -> list[float]:
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


def run(
    program: Program, steps: int, denoise: Denoise, x: Tensor, key: Key | None = None
) -> Tensor:
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
