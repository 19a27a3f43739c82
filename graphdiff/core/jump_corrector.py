r"""Corrector of discrete components: jumps that leave the marginal where it is.

The forward rates :math:`R_t` together with the reverse rates :math:`\hat R_t` have the marginal
:math:`q_t` as their stationary law (Campbell et al., 2022, arXiv 2205.14987, section 4.4), since
:math:`q_t(x)\,(R_t + \hat R_t)(x \to y) = q_t(x) R_t(x \to y) + q_t(y) R_t(y \to x)` is symmetric.
A move of length :math:`\delta` jumps to :math:`y` with probability
:math:`\delta\,(R_t + \hat R_t)(x \to y)`. It is linear in the rates, so that with the exact
prediction one token keeps its marginal *exactly*; several tokens that move at once change it by
:math:`O(\delta^2)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from graphdiff.core.corrector import Corrector, CorrectorProgram
from graphdiff.core.ctmc import CTMC, class_probs, free_part, is_class
from graphdiff.core.errors import ArgumentError
from graphdiff.core.jump import alphas_of, discrete_of, slopes_of
from graphdiff.core.kernel import Categorical, Kernel
from graphdiff.core.process import Process
from graphdiff.core.rng import Key

__all__ = ["JumpCorrector"]


@final
@dataclass(frozen=True)
class JumpCorrector(Corrector):
    """Forward and reverse jumps at one time; use it through ``PredictorCorrector``.

    It acts at the time that the last step has reached, and not at the first time if nothing is left
    of the data there (``alpha = 0``), where the prior is exact.

    Attributes:
        n_steps: Moves at each time, one network evaluation each.
        size: Length of a move, in steps of the grid. It is shortened to where a token is sure to
            jump, which happens near the ends of the clock; more ``n_steps`` correct further.

    Raises:
        ArgumentError: ``size`` is not positive.
    """

    n_steps: int = 1
    size: float = 0.5

    def __post_init__(self) -> None:
        if not self.size > 0:
            raise ArgumentError(f"JumpCorrector needs size > 0, found {self.size}")

    def compile(self, process: Process, times: Sequence[float]) -> CorrectorProgram:
        """Lengths of the moves.

        Raises:
            ArgumentError: ``process`` is not discrete.
        """
        process = discrete_of(process, self)
        alphas, slopes = alphas_of(process, times), slopes_of(process, times)
        lengths = []
        for i in range(len(times) - 1):
            if alphas[i] == 0.0:
                lengths.append(0.0)
                continue
            # A token leaves at most at the rate of hits, and back at most at it over 1 - alpha.
            fastest = -slopes[i] / alphas[i] * (1 + 1 / (1 - alphas[i]))
            lengths.append(min(self.size * (times[i] - times[i + 1]), 1 / fastest))
        return _JumpCorrectorProgram(process, alphas, slopes, tuple(lengths))


@final
@dataclass(frozen=True)
class _JumpCorrectorProgram(CorrectorProgram):
    process: CTMC
    alphas: tuple[float, ...]
    slopes: tuple[float, ...]
    lengths: tuple[float, ...]

    def rests(self, i: int) -> bool:
        return self.lengths[i] == 0.0

    def move(self, i: int, x: Tensor, x0: Tensor, mask: Tensor | None, key: Key) -> Kernel:
        process, alpha, slope = self.process, self.alphas[i], self.slopes[i]
        here, logits = free_part(process.space, x, x0)
        pi = class_probs(process.stationary, logits.device).to(logits.dtype)
        at = is_class(here, len(pi))
        rates = process.reverse_rate_at(here, logits, alpha, slope) + (-slope / alpha) * pi
        jumps = torch.where(at, 0, self.lengths[i] * rates)
        stays = (1 - jumps.sum(-1, keepdim=True)).clamp(min=0)
        return Categorical.of_weights(torch.where(at, stays, jumps), x.shape, process.space, mask)
