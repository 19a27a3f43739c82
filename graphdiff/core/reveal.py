r"""Revealing hidden tokens in the order of the network's confidence.

Under absorbing noise the law of a token given those that are visible does not depend on the order
in which they became visible, so any order gives the same law with an exact prediction, also one
that looks at the prediction. Starting with the surest tokens puts off those whose conditional law
the network knows worst, until more is known (Kim et al., 2025, arXiv 2502.06768), and fixes the
number of tokens of a step: a share :math:`1/k` of what is hidden with ``k`` steps to go.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from graphdiff.core.categorical import Absorbing
from graphdiff.core.ctmc import free_part, is_class
from graphdiff.core.errors import ArgumentError
from graphdiff.core.kernel import Categorical, Kernel
from graphdiff.core.process import Process
from graphdiff.core.program import Carry, Program, Solver
from graphdiff.core.rng import Key

__all__ = ["ConfidentJump", "RevealProgram"]

INNER = 1 << 31
"""The order is drawn in the upper half of the step range, which the sampler never uses."""


@dataclass(frozen=True)
class RevealProgram(Program):
    """Programs that choose which masks are revealed, and draw these from the prediction."""

    process: Absorbing
    times: tuple[float, ...]

    @property
    def stages(self) -> int:  # type: ignore[override]
        """One network call a step."""
        return 1

    @property
    def reads_key(self) -> bool:  # type: ignore[override]
        """The order of the tokens is random."""
        return True

    @final
    def evaluate_at(self, i: int, stage: int) -> float | None:
        """The start of the step."""
        return self.times[i]

    @final
    def start(self, x: Tensor) -> Carry:
        """Nothing to remember."""
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
        """Chosen masks are drawn from the prediction, everything else stays."""
        space, classes = self.process.space, self.process.classes
        real = x if mask is None else space.apply_mask(x, mask)
        here, logits = free_part(space, real, x0)
        law, hidden = self.process.clean_law(here, logits), here == classes - 1
        chosen = hidden
        if hidden.shape[1]:
            inner = key.at(step=key.step + INNER)
            chosen = self._choose(hidden, law, len(self.times) - 1 - i, inner)
        weights = torch.where(chosen.unsqueeze(-1), law, is_class(here, classes).to(law.dtype))
        return Categorical.of_weights(weights, x.shape, space, mask), carry

    @abstractmethod
    def _choose(self, hidden: Tensor, law: Tensor, steps_left: int, key: Key) -> Tensor:
        """Which of the masks ``hidden`` are revealed, bool ``[b, size]``."""


def absorbing_of(process: Process, solver: Solver) -> Absorbing:
    """``process``, checked to be absorbing."""
    if not isinstance(process, Absorbing):
        raise ArgumentError(
            f"{type(solver).__name__} steps absorbing noise, found {type(process).__name__}; give "
            "that component AncestralJump or FlowJump"
        )
    return process


@final
@dataclass(frozen=True)
class ConfidentJump(Solver):
    """Reveal the tokens first whose likeliest class is surest.

    Attributes:
        jitter: Scale of Gumbel noise on the log-probability that tokens are ranked by; with 0,
            tokens that look alike are revealed together.
    """

    jitter: float = 0.5

    def compile(self, process: Process, times: Sequence[float]) -> Program:
        """The grid.

        Raises:
            ArgumentError: ``process`` is not absorbing, or ``jitter`` is negative.
        """
        process = absorbing_of(process, self)
        if self.jitter < 0:
            raise ArgumentError(f"jitter must not be negative, found {self.jitter}")
        return _Confident(process, tuple(times), self.jitter)


@final
@dataclass(frozen=True)
class _Confident(RevealProgram):
    jitter: float

    def _choose(self, hidden: Tensor, law: Tensor, steps_left: int, key: Key) -> Tensor:
        """A share of the masks, those first whose likeliest class is surest."""
        u = key.uniform(hidden.shape[1], torch.float64)
        score = law.amax(-1).double().log() - self.jitter * torch.log(-torch.log(u))
        score = torch.where(hidden, score, -torch.inf)
        count = (hidden.sum(1) + steps_left - 1) // steps_left
        order = torch.argsort(score, dim=1, descending=True, stable=True)
        return hidden & (torch.argsort(order, dim=1) < count.unsqueeze(1))
