r"""Solvers of discrete components: ways to step a chain of classes back in time.

Over a step from ``t`` to ``s`` a solver freezes the prediction :math:`p(x_0 \mid x_t)` and moves
every token by itself. :class:`AncestralJump` uses the exact bridge of that prediction;
:class:`EulerJump` and :class:`TauLeaping` freeze the reverse rates :math:`\hat R_t` instead. All
three have first order in the step. One network call for each step.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from graphdiff.core.ctmc import CTMC, alpha_slope, safe_log
from graphdiff.core.errors import ArgumentError
from graphdiff.core.kernel import Categorical, Kernel
from graphdiff.core.process import Process
from graphdiff.core.program import Carry, Program, Solver
from graphdiff.core.rng import Key

__all__ = ["AncestralJump", "EulerJump", "TauLeaping"]


@final
@dataclass(frozen=True)
class AncestralJump(Solver):
    """Sample the bridge ``q(x_s | x_t)`` of the prediction (Austin et al., 2021, eq. 4).

    Exact for one token; with several the error is that of moving them independently.
    """

    def compile(self, process: Process, times: Sequence[float]) -> Program:
        """The signal levels of the grid.

        Raises:
            ArgumentError: ``process`` is not discrete.
        """
        process = discrete_of(process, self)
        return _Ancestral(process, tuple(times), alphas_of(process, times))


@final
@dataclass(frozen=True)
class EulerJump(Solver):
    r"""Jump to ``y`` with probability :math:`h \hat R(y)`, at most one in total.

    A step that starts where the rate is infinite (``alpha = 0``, not for absorbing noise) or ends
    in clean data (``alpha = 1``) takes the exact bridge, because no frozen rate reaches there.
    """

    def compile(self, process: Process, times: Sequence[float]) -> Program:
        """Step sizes and rates of the grid.

        Raises:
            ArgumentError: ``process`` is not discrete.
        """
        process = discrete_of(process, self)
        return _Euler(process, tuple(times), alphas_of(process, times), slopes_of(process, times))


@final
@dataclass(frozen=True)
class TauLeaping(Solver):
    r"""Poisson jumps at frozen rates (Campbell et al., 2022, arXiv 2205.14987, section 4.3).

    A token makes :math:`\mathrm{Poisson}(h \hat R)` jumps in a step. Classes have no order, so
    jumps cannot be added up. Steps at the ends of the clock are those of :class:`EulerJump`.

    Attributes:
        multiple: What a token does that jumps more than once: ``"first"`` keeps its first jump,
            which moves it with probability ``1 - exp(-h R)``; ``"reject"`` keeps it in place, as
            published.
    """

    multiple: Literal["first", "reject"] = "first"

    def __post_init__(self) -> None:
        if self.multiple not in ("first", "reject"):
            raise ArgumentError(f'multiple must be "first" or "reject", found {self.multiple!r}')

    def compile(self, process: Process, times: Sequence[float]) -> Program:
        """Step sizes and rates of the grid.

        Raises:
            ArgumentError: ``process`` is not discrete.
        """
        process = discrete_of(process, self)
        alphas, slopes = alphas_of(process, times), slopes_of(process, times)
        return _TauLeap(process, tuple(times), alphas, slopes, self.multiple == "reject")


@dataclass(frozen=True)
class Jumps(Program):
    """Programs with one network call a step and nothing to remember."""

    process: CTMC
    times: tuple[float, ...]
    alphas: tuple[float, ...]

    @property
    def stages(self) -> int:  # type: ignore[override]
        return 1

    @final
    def evaluate_at(self, i: int, stage: int) -> float | None:
        return self.times[i]

    @final
    def start(self, x: Tensor) -> Carry:
        return ()

    @final
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
        return self._kernel(i, x, x0, mask), carry

    @abstractmethod
    def _kernel(self, i: int, x: Tensor, x0: Tensor, mask: Tensor | None) -> Kernel:
        """The law of the next value."""


@final
@dataclass(frozen=True)
class _Ancestral(Jumps):
    def _kernel(self, i: int, x: Tensor, x0: Tensor, mask: Tensor | None) -> Kernel:
        return self.process.bridge_at(x, x0, self.alphas[i], self.alphas[i + 1], mask)


@dataclass(frozen=True)
class _Frozen(Jumps):
    """Programs that hold the reverse rates over a step."""

    slopes: tuple[float, ...]

    @final
    def _kernel(self, i: int, x: Tensor, x0: Tensor, mask: Tensor | None) -> Kernel:
        infinite = self.alphas[i] == 0.0 and self.process.stationary[-1] < 1.0
        if infinite or self.alphas[i + 1] == 1.0:
            return self.process.bridge_at(x, x0, self.alphas[i], self.alphas[i + 1], mask)
        rates = self.process.reverse_rate_at(x, x0, self.alphas[i], self.slopes[i])
        here = x.unsqueeze(-1) == torch.arange(x0.shape[-1], device=x.device)
        jumps = torch.where(here, 0, rates.clamp(min=0)) * (self.times[i] - self.times[i + 1])
        total = jumps.sum(-1, keepdim=True)
        move = self._move(total)
        away = jumps * (move / total.clamp(min=torch.finfo(total.dtype).tiny))
        probs = torch.where(here, 1 - move, away)
        return Categorical(safe_log(probs), self.process.space, mask)

    @abstractmethod
    def _move(self, total: Tensor) -> Tensor:
        """Probability that a token moves when ``total`` jumps are expected."""


@final
@dataclass(frozen=True)
class _Euler(_Frozen):
    def _move(self, total: Tensor) -> Tensor:
        return total.clamp(max=1)


@final
@dataclass(frozen=True)
class _TauLeap(_Frozen):
    reject: bool

    def _move(self, total: Tensor) -> Tensor:
        return total * torch.exp(-total) if self.reject else -torch.expm1(-total)


def discrete_of(process: Process, solver: object) -> CTMC:
    """``process``, checked to be discrete."""
    if not isinstance(process, CTMC):
        raise ArgumentError(
            f"{type(solver).__name__} steps a discrete process (Absorbing, Uniform, Marginal), "
            f"found {type(process).__name__}; give that component another solver"
        )
    return process


def alphas_of(process: CTMC, times: Sequence[float]) -> tuple[float, ...]:
    """``alpha`` on a grid."""
    return tuple(process.schedule.alpha(torch.tensor(times, dtype=torch.float64)).tolist())


def slopes_of(process: CTMC, times: Sequence[float]) -> tuple[float, ...]:
    """``d alpha / dt`` on a grid."""
    return tuple(
        alpha_slope(process.schedule, torch.tensor(times, dtype=torch.float64))[1].tolist()
    )
