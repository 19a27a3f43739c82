r"""Correctors: moves that leave the marginal at a time where it is.

A :class:`Corrector` is compiled like a solver; :class:`PredictorCorrector` runs it before a solver
that moves on. :class:`Langevin` corrects Gaussian components,
:class:`~graphdiff.core.jump_corrector.JumpCorrector` discrete ones:

.. math:: x' = x + \epsilon\,\nabla\log p_t(x) + \sqrt{2\epsilon}\,\lambda\,z,
   \qquad \epsilon = 2\,(1-\beta)\left(\rho\,\frac{\|z\|}{\|\nabla\log p_t(x)\|}\right)^2

with the signal-to-noise ratio :math:`\rho` (``snr``) and the noise factor :math:`\lambda`
(``scale``; 1 for true Langevin dynamics, below 1 to sharpen) of the predictor-corrector samplers
of Song et al. (2011.13456, algorithms 4 and 5) and GDSS (2202.02514).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final, get_args

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.core.kernel import Delta, Kernel, Normal
from graphdiff.core.predictor import ScoreTable, gaussian_of, retention, steps_of
from graphdiff.core.process import Process
from graphdiff.core.program import Carry, Program, Solver
from graphdiff.core.rng import Key
from graphdiff.core.schedule import Schedule
from graphdiff.core.space import Space, Symmetric

__all__ = ["Corrector", "CorrectorProgram", "Langevin", "PredictorCorrector"]

Norm = Literal["sample", "batch", "schedule"]


class CorrectorProgram(ABC):
    """The corrector of one component, compiled on one grid of times.

    Attributes:
        reads_key: whether :meth:`move` draws noise itself, see :class:`Program`.
    """

    reads_key: bool = False

    def rests(self, i: int) -> bool:
        """Whether nothing is to be corrected at ``times[i]``; the network is then not asked."""
        return False

    @abstractmethod
    def move(self, i: int, x: Tensor, x0: Tensor, mask: Tensor | None, key: Key) -> Kernel:
        """The law of the corrected value; ``x0`` is the prediction at ``times[i]``."""


class Corrector(ABC):
    """A recipe for moves that leave the marginal where it is: a frozen dataclass.

    Attributes:
        n_steps: moves at each time, one network evaluation each.
    """

    n_steps: int

    @abstractmethod
    def compile(self, process: Process, times: Sequence[float]) -> CorrectorProgram:
        """Compute the sizes of the moves.

        Raises:
            ArgumentError: if the recipe does not fit the process or the grid.
        """


@dataclass(frozen=True)
class LangevinTable:
    """Compiled step sizes; shared by :class:`Langevin` and :class:`~graphdiff.core.s4.S4`."""

    score: ScoreTable
    factor: tuple[float, ...]
    floor: tuple[float, ...]
    scale: float
    norm: Norm
    space: Space

    @staticmethod
    def of(
        gaussian_space: Space,
        schedule: Schedule,
        times: Sequence[float],
        *,
        snr: float,
        scale: float,
        norm: Norm,
        discretization: int | None,
    ) -> LangevinTable:
        """Compute the step factors ``2 (1 - beta_i) snr^2`` on a grid."""
        if not snr > 0.0 or not scale >= 0.0:
            raise ArgumentError(
                f"a Langevin step needs snr > 0 and scale >= 0, found snr={snr}, scale={scale}"
            )
        if norm not in get_args(Norm):
            raise ArgumentError(f"norm must be one of {get_args(Norm)}, found {norm!r}")
        score = ScoreTable.of(schedule, times)
        keep = retention(schedule, times, discretization)
        # A vanishing score would make the step infinite. The mean square of a score is about
        # 1 / (alpha^2 + sigma^2) for data of unit scale; a hundred-millionth of it is no score.
        floor = tuple(1e-8 / (a * a + v) for a, v in zip(score.alpha, score.variance, strict=True))
        factor = tuple(2.0 * k * snr * snr for k in keep)
        return LangevinTable(score, factor, floor, scale, norm, gaussian_space)

    def step_size(self, i: int, grad: Tensor, mask: Tensor | None) -> Tensor:
        """Step of each sample from its own score and the expected norm of its noise, ``[b]``."""
        # Score and noise fill the same places of the full tensor, so that a pair of nodes which
        # the tensor holds twice cancels in the ratio of their norms, but not in the number of
        # coordinates.
        copies = 2 if isinstance(self.space, Symmetric) else 1
        factor, floor = self.factor[i], self.floor[i]
        power = grad.flatten(1).square().sum(1)
        if mask is None:
            full = copies * float(self.space.count((1, *grad.shape[1:]), None))
            return torch.reciprocal(power.clamp(min=floor * max(full, 1.0))).mul(factor * full)
        noise = (copies * self.space.count(tuple(grad.shape), mask)).to(grad.dtype)
        return torch.div(noise * factor, torch.maximum(power, floor * noise.clamp(min=1.0)))

    def batch_step_size(self, i: int, grad: Tensor, noise: Tensor) -> Tensor:
        """The one step of the whole batch from mean norms of score and drawn noise, ``[]``."""
        size = math.sqrt(self.floor[i])
        grad_norm = torch.linalg.vector_norm(grad.flatten(1), dim=1).mean().clamp(min=size)
        noise_norm = torch.linalg.vector_norm(noise.flatten(1), dim=1).mean()
        return torch.square(noise_norm / grad_norm).mul(self.factor[i])

    def moved(
        self, i: int, x: Tensor, grad: Tensor, mask: Tensor | None, key: Key
    ) -> tuple[Tensor, Tensor | float]:
        """Mean and standard deviation of the corrected state.

        With ``norm="batch"`` the step depends on the noise, which is therefore drawn here and is
        part of the mean; the standard deviation is 0.
        """
        if self.norm == "batch":
            noise = self.space.normal(key, tuple(x.shape), mask, dtype=x.dtype)
            step = self.batch_step_size(i, grad, noise)
            return x + step * grad + (torch.sqrt(2.0 * step) * self.scale) * noise, 0.0
        if self.norm == "schedule":
            fixed = self.factor[i] * self.score.variance[i]
            return torch.add(x, grad, alpha=fixed), math.sqrt(2.0 * fixed) * self.scale
        step = self.step_size(i, grad, mask)
        mean = x + step.view(-1, *[1] * (x.dim() - 1)) * grad
        return mean, torch.sqrt(2.0 * step) * self.scale


@final
@dataclass(frozen=True)
class Langevin(Corrector):
    r"""Langevin correction with an adaptive step; use it through :class:`PredictorCorrector`.

    Attributes:
        snr: ratio of the drift to the noise of a move.
        scale: factor of the noise (``scale_eps`` of the published code).
        n_steps: moves at each time, one network evaluation each.
        norm: which norms make the step. ``"sample"``: the score of the sample itself and the
            expected norm of its noise; a sample never depends on its batch and the kernel is
            normal. A step that depends on the state has the stationary law
            :math:`\propto p\,\|\nabla\log p\|^2`, which for d normal coordinates is a variance
            too large by the factor 1 + 2/d. ``"batch"``: the published rule, norms averaged over
            the batch with the noise that was drawn; a sample then depends on its batch and the
            kernel is a point. ``"schedule"``: the norm :math:`\sqrt{d}/\sigma_t` that the score has
            for data without spread; the step is a number and the stationary law exact.
        discretization: ``N`` reads ``1 - beta`` from the published table of N entries; ``None``
            takes it from the schedule and the grid.
    """

    snr: float = 0.16
    scale: float = 1.0
    n_steps: int = 1
    norm: Norm = "sample"
    discretization: int | None = None

    def compile(self, process: Process, times: Sequence[float]) -> CorrectorProgram:
        """Compute the step factors of the grid."""
        gaussian = gaussian_of(process, self)
        if self.discretization is not None:
            steps_of(times, self.discretization, self)
        return _LangevinProgram(
            LangevinTable.of(
                gaussian.space,
                gaussian.schedule,
                times,
                snr=self.snr,
                scale=self.scale,
                norm=self.norm,
                discretization=self.discretization,
            )
        )


@dataclass(frozen=True)
class _LangevinProgram(CorrectorProgram):
    table: LangevinTable

    @property
    def reads_key(self) -> bool:  # type: ignore[override]
        return self.table.norm == "batch"

    def move(self, i: int, x: Tensor, x0: Tensor, mask: Tensor | None, key: Key) -> Kernel:
        grad = self.table.score.score(i, x, x0)
        mean, std = self.table.moved(i, x, grad, mask, key)
        if self.table.norm == "batch":
            return Delta(mean)
        return Normal(mean, std, self.table.space, mask)


@dataclass(frozen=True)
class _PredictorCorrectorProgram(Program):
    corrector: CorrectorProgram
    n_steps: int
    predictor: Program

    @property
    def stages(self) -> int:  # type: ignore[override]
        return self.n_steps + self.predictor.stages

    @property
    def reads_key(self) -> bool:  # type: ignore[override]
        return self.corrector.reads_key or self.predictor.reads_key

    def evaluate_at(self, i: int, stage: int) -> float | None:
        if stage < self.n_steps and self.corrector.rests(i):
            return None
        return self.predictor.evaluate_at(i, max(0, stage - self.n_steps))

    def start(self, x: Tensor) -> Carry:
        return self.predictor.start(x)

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
        if stage >= self.n_steps:
            return self.predictor.update(i, stage - self.n_steps, x, x0, mask, carry, key)
        return self.corrector.move(i, x, x0, mask, key), carry


@final
@dataclass(frozen=True)
class PredictorCorrector(Solver):
    """``corrector.n_steps`` corrector moves at ``times[i]``, then a step of the predictor.

    All components of a product are corrected from the same uncorrected state and predicted from the
    same corrected one, as in the published loop, because the sampler updates them together.

    Attributes:
        predictor: any solver of the process that evaluates first at ``times[i]``.
        corrector: the correction: :class:`Langevin` for a Gaussian process,
            :class:`~graphdiff.core.jump_corrector.JumpCorrector` for a discrete one.
    """

    predictor: Solver
    corrector: Corrector

    def compile(self, process: Process, times: Sequence[float]) -> Program:
        """Compile both parts on one grid.

        Raises:
            ArgumentError: ``corrector.n_steps`` is below 1, or a part does not fit the process.
        """
        moves = self.corrector.n_steps
        if moves < 1:
            raise ArgumentError(
                f"{type(self.corrector).__name__} needs n_steps >= 1, found {moves}; use the "
                "predictor alone for no correction"
            )
        corrector = self.corrector.compile(process, times)
        program = self.predictor.compile(process, times)
        return _PredictorCorrectorProgram(corrector, moves, program)
