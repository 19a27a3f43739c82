r"""Temperature of the prediction, for any solver of classes.

A step is drawn from :math:`p_T(x_0 \mid x_t) \propto p(x_0 \mid x_t)^{1/T}`; :math:`T = 0` takes
the likeliest class. Probabilities are of one token at a time, so that strings are not drawn from
:math:`p(x)^{1/T}`, only nearer to its modes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from graphdiff.core.categorical import Absorbing
from graphdiff.core.errors import ArgumentError
from graphdiff.core.jump import discrete_of
from graphdiff.core.kernel import Kernel
from graphdiff.core.process import Process
from graphdiff.core.program import Carry, Program, Solver
from graphdiff.core.rng import Key

__all__ = ["Tempered", "tempered"]


def tempered(x0: Tensor, temperature: float, *, mask_class: bool) -> Tensor:
    """Logits ``[..., K]`` of the tempered prediction; impossible classes stay impossible.

    Args:
        x0: Logits.
        temperature: :math:`T`, at least 0.
        mask_class: Whether the last class is a mask, which is never predicted.
    """
    never = torch.finfo(x0.dtype).min / 4
    if mask_class:
        last = torch.arange(x0.shape[-1], device=x0.device) == x0.shape[-1] - 1
        x0 = x0.masked_fill(last, never)
    if temperature == 0:
        best = x0.argmax(-1, keepdim=True)
        return torch.full_like(x0, never).scatter(-1, best, 0.0)
    # The largest is zero first, so that nothing overflows at low temperatures.
    return ((x0 - x0.amax(-1, keepdim=True)) / temperature).clamp(min=never)


@final
@dataclass(frozen=True)
class Tempered(Solver):
    """A solver whose predictions are tempered.

    Attributes:
        solver: Of a discrete component.
        temperature: 1 changes nothing, 0 is the likeliest class.

    Raises:
        ArgumentError: The temperature is negative.
    """

    solver: Solver
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ArgumentError(f"the temperature must be at least 0, found {self.temperature}")

    def compile(self, process: Process, times: Sequence[float]) -> Program:
        """The program of the solver, told other predictions.

        Raises:
            ArgumentError: ``process`` is not discrete, or the solver does not fit it.
        """
        hides = isinstance(discrete_of(process, self), Absorbing)
        return _Program(self.solver.compile(process, times), self.temperature, hides)


@final
@dataclass(frozen=True)
class _Program(Program):
    inner: Program
    temperature: float
    hides: bool

    @property
    def stages(self) -> int:  # type: ignore[override]
        return self.inner.stages

    @property
    def reads_key(self) -> bool:  # type: ignore[override]
        return self.inner.reads_key

    @property
    def replays(self) -> bool:
        return self.inner.replays

    def settled(self, i: int, x: Tensor, mask: Tensor | None, key: Key) -> Program:
        return replace(self, inner=self.inner.settled(i, x, mask, key))

    def evaluate_at(self, i: int, stage: int) -> float | None:
        return self.inner.evaluate_at(i, stage)

    def start(self, x: Tensor) -> Carry:
        return self.inner.start(x)

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
        cooled = tempered(x0, self.temperature, mask_class=self.hides)
        return self.inner.update(i, stage, x, cooled, mask, carry, key)
