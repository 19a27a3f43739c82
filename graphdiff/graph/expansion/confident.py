r"""Revealing hidden tokens in the order of the network's confidence.

Under absorbing noise the law of a token given those that are visible does not depend on the order
in which they became visible, so any order gives the same law with an exact prediction, also one
that looks at the prediction. Starting with the surest tokens puts off those whose conditional law
the network knows worst, until more is known (Kim et al., 2025, arXiv 2502.06768), and fixes the
number of tokens of a step: a share :math:`1/k` of what is hidden with ``k`` steps to go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from graphdiff.core.categorical import Absorbing
from graphdiff.core.errors import ArgumentError
from graphdiff.core.kernel import Categorical, Kernel
from graphdiff.core.process import Process
from graphdiff.core.program import Carry, Program, Solver
from graphdiff.core.rng import Key

__all__ = ["ConfidentJump"]

NOISE_STEPS = 2**31
"""The kernel draws from the step's own noise; the order draws from this much further up."""


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
        if not isinstance(process, Absorbing):
            raise ArgumentError(
                f"ConfidentJump reveals tokens of an Absorbing process, found "
                f"{type(process).__name__}; use AncestralJump"
            )
        if self.jitter < 0:
            raise ArgumentError(f"jitter must not be negative, found {self.jitter}")
        return _Confident(process, tuple(times), self.jitter)


@final
@dataclass(frozen=True)
class _Confident(Program):
    process: Absorbing
    times: tuple[float, ...]
    jitter: float
    stages: int = 1
    reads_key: bool = True

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
        last = self.process.classes - 1
        flat, hidden = x.flatten(1), (x == last).flatten(1)
        if mask is not None:
            hidden = hidden & mask.reshape(hidden.shape)
        never = torch.arange(last + 1, device=x.device) == last
        log_p = torch.log_softmax(x0.flatten(1, -2).masked_fill(never, -torch.inf), -1)
        u = key.at(step=key.step + NOISE_STEPS).uniform(flat.shape[1], torch.float64)
        score = log_p.amax(-1).double() - self.jitter * torch.log(-torch.log(u))
        score = torch.where(hidden, score, -torch.inf)
        left = len(self.times) - 1 - i
        count = (hidden.sum(1) + left - 1) // left
        order = torch.argsort(score, dim=1, descending=True, stable=True)
        chosen = hidden & (torch.argsort(order, dim=1) < count.unsqueeze(1))
        here = flat.unsqueeze(-1) == torch.arange(last + 1, device=x.device)
        stay = torch.where(here, 0.0, -torch.inf).to(log_p.dtype)
        logits = torch.where(chosen.unsqueeze(-1), log_p, stay)
        return Categorical(logits.reshape(x0.shape), self.process.space, mask), carry
