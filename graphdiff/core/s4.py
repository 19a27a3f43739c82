r"""S4: symmetric splitting of the reverse system of SDEs (GDSS, Jo et al. 2202.02514, appendix B).

The reverse SDE is split into its linear part and noise :math:`F` (solved exactly) and its score
part :math:`S` (one Euler kick), composed as
:math:`e^{\frac h2 F}\,e^{hS}\,e^{\frac h2 F}` and preceded by a Langevin move that uses the *same*
score: corrector and predictor for one network evaluation a step,

.. math::
   x_1 &= x + \epsilon\,s + \sqrt{2\epsilon}\,\lambda z_1, &
   x_2 &= m_1 x_1 + r_1 z_2, \\
   x_3 &= x_2 + h\,g(t)^2 s, &
   x_4 &= m_2 x_3 + r_2 z_3,

with :math:`s=\nabla\log p_t(x)`. Because ``s`` is fixed, :math:`x_4` given :math:`x` is normal: the
three noises are one draw of the variance
:math:`(m_1 m_2)^2\,2\epsilon\lambda^2 + (m_2 r_1)^2 + r_2^2` (without the last term when the final
mean is returned).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from graphdiff.core.corrector import LangevinTable, Norm
from graphdiff.core.errors import ArgumentError
from graphdiff.core.kernel import Delta, Kernel, Normal
from graphdiff.core.predictor import gaussian_of, no_table, steps_of
from graphdiff.core.process import Process
from graphdiff.core.program import Carry, Program, Solver
from graphdiff.core.rng import Key
from graphdiff.core.schedule import VE, VP, Schedule

__all__ = ["S4"]

# Noise that must be known before the kernel exists is drawn in the upper half of the step range,
# which the sampler never uses.
_INNER = 1 << 31


@dataclass(frozen=True)
class _S4Program(Program):
    times: tuple[float, ...]
    table: LangevinTable
    gain: tuple[float, ...]
    kick: tuple[float, ...]
    corrected: tuple[float, ...]
    variance: tuple[float, ...]
    stages: int = 1

    @property
    def reads_key(self) -> bool:  # type: ignore[override]
        return self.table.norm == "batch"

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
        score = self.table.score.score(i, x, x0)
        inner = key.at(step=key.step + _INNER) if self.table.norm == "batch" else key
        moved, spread = self.table.moved(i, x, score, mask, inner)
        mean = torch.add(moved * self.gain[i], score, alpha=self.kick[i])
        variance = spread * spread * self.corrected[i] + self.variance[i]
        if isinstance(variance, Tensor):
            return Normal(mean, variance.sqrt(), self.table.space, mask), carry
        if variance == 0.0:
            return Delta(mean), carry
        return Normal(mean, math.sqrt(variance), self.table.space, mask), carry


@final
@dataclass(frozen=True)
class S4(Solver):
    """Symmetric splitting with a Langevin move that costs no evaluation.

    Attributes:
        snr: ratio of the drift to the noise of the Langevin move.
        scale: factor of the noise of the Langevin move.
        norm: as in :class:`~graphdiff.core.corrector.Langevin`.
        discretization: ``None``: exact half steps of the grid. ``N``: the published
            half steps of length 1/(2N), whose variance for VP is ``1 - exp(-B)`` where the exact
            one is ``exp(B) - 1``.
        denoise: return the mean of the last half step, without its noise.
    """

    snr: float = 0.16
    scale: float = 1.0
    norm: Norm = "sample"
    discretization: int | None = None
    denoise: bool = True

    def compile(self, process: Process, times: Sequence[float]) -> Program:
        """Compute gains, kicks and variances of the composed step."""
        gaussian = gaussian_of(process, self)
        schedule = gaussian.schedule
        steps = steps_of(times, self.discretization, self)
        table = LangevinTable.of(
            gaussian.space,
            schedule,
            times,
            snr=self.snr,
            scale=self.scale,
            norm=self.norm,
            discretization=self.discretization,
        )
        diffusion2 = schedule.diffusion2(torch.tensor(times[:-1], dtype=torch.float64)).tolist()
        gain, kick, corrected, variance = [], [], [], []
        last = len(steps) - 1
        for i, h in enumerate(steps):
            t = times[i]
            m1, v1 = self._half(schedule, t, h / 2)
            m2, v2 = self._half(schedule, t - h / 2, h / 2)
            gain.append(m1 * m2)
            kick.append(m2 * h * diffusion2[i])
            corrected.append((m1 * m2) ** 2)
            variance.append(m2 * m2 * v1 + (0.0 if self.denoise and i == last else v2))
        if not all(math.isfinite(value) for row in (gain, kick, variance) for value in row):
            raise ArgumentError(
                f"S4 has no finite coefficients for {type(schedule).__name__} on a grid from "
                f"{times[0]:g} to {times[-1]:g}; start the grid below 1"
            )
        return _S4Program(
            tuple(times), table, tuple(gain), tuple(kick), tuple(corrected), tuple(variance)
        )

    def _half(self, schedule: Schedule, t: float, h: float) -> tuple[float, float]:
        """Factor and variance of the linear part from ``t`` back to ``t - h``."""
        if self.discretization is None:
            grid = torch.tensor([t, max(t - h, 0.0)], dtype=torch.float64)
            (a, a_next), (s, s_next) = schedule.alpha(grid).tolist(), schedule.sigma(grid).tolist()
            m = a_next / a if a > 0.0 else math.inf
            return m, max((m * s) ** 2 - s_next**2, 0.0)
        # The published half steps pass below time 0 at the end, where the formulas still hold.
        if isinstance(schedule, VP):
            slope = schedule.beta_max - schedule.beta_min
            rate = h * (schedule.beta_min + slope * (t - h / 2))
            return math.exp(rate / 2), -math.expm1(-rate)
        if isinstance(schedule, VE):
            ratio = schedule.sigma_max / schedule.sigma_min
            high, low = (schedule.sigma_min * ratio**u for u in (t, t - h))
            return 1.0, high**2 - low**2
        raise no_table(schedule)
