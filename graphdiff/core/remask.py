r"""Solvers of absorbing noise alone: one token after the other, and tokens that are masked again.

:class:`FirstHitting`. The times at which masks are revealed are independent of the data, so the
order is uniform over all orders and a chain may jump from one revelation to the next (Zheng et al.,
2024, arXiv 2409.02908). One token in each step, with the exact prediction, is an exact draw from
the data, whatever their correlations: the error of a step is that of revealing several tokens
independently.

:class:`ReMDM` masks visible tokens again with probability :math:`\sigma` in a step from t to s
(Wang et al., 2025, arXiv 2503.00307),

.. math::
    q(x_s \mid x_t \ne m, x_0) &= (1 - \sigma)\,\delta_{x_t} + \sigma\,\delta_m, \\
    q(x_s \mid x_t = m, x_0) &= \frac{\alpha_s - (1 - \sigma)\,\alpha_t}{1 - \alpha_t}\,\delta_{x_0}
        + \frac{1 - \alpha_s - \sigma\,\alpha_t}{1 - \alpha_t}\,\delta_m,

which has the same marginals for every :math:`0 \le \sigma \le \sigma_{max} = \min(1,
(1 - \alpha_s)/\alpha_t)`, so any network trained for absorbing noise can be sampled with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, final, get_args

import torch
from torch import Tensor

from graphdiff.core.ctmc import free_part
from graphdiff.core.errors import ArgumentError
from graphdiff.core.jump import Jumps, alphas_of
from graphdiff.core.kernel import Categorical, Kernel
from graphdiff.core.process import Process
from graphdiff.core.program import Program, Solver
from graphdiff.core.reveal import INNER, RevealProgram, absorbing_of
from graphdiff.core.rng import Key

__all__ = ["FirstHitting", "ReMDM"]

Remasking = Literal["cap", "rescale", "max"]


@final
@dataclass(frozen=True)
class FirstHitting(Solver):
    """Reveal masks in uniformly random order, at most a fixed number in each step.

    A step reveals ``ceil(masks left / steps left)`` tokens of each sample, and at least ``tokens``:
    with at least as many steps as tokens and ``tokens = 1`` the law is exact, with fewer the work
    is spread evenly. The chain always ends without masks. The grid says only at which times the
    network is asked; the exact prediction under absorbing noise does not depend on them.

    Attributes:
        tokens: Least number of tokens that a step reveals, where so many are masked.

    Raises:
        ArgumentError: ``tokens`` is below 1.
    """

    tokens: int = 1

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ArgumentError(f"FirstHitting needs tokens >= 1, found {self.tokens}")

    def compile(self, process: Process, times: Sequence[float]) -> Program:
        """Only the number of steps counts.

        Raises:
            ArgumentError: ``process`` is not absorbing.
        """
        return _FirstHittingProgram(absorbing_of(process, self), tuple(times), self.tokens)


@final
@dataclass(frozen=True)
class ReMDM(Solver):
    r"""Ancestral steps that mask tokens again, so that early errors can be corrected.

    Attributes:
        sigma: Probability of masking a visible token again in a step. ``"cap"``:
            :math:`\min(\eta, \sigma_{max})`; ``"rescale"``: :math:`\eta\,\sigma_{max}`; ``"max"``:
            :math:`\sigma_{max}`, which forgets all it can.
        eta: Strength of ``"cap"`` and ``"rescale"``, in [0, 1]; 0 is ancestral sampling. Published
            values are 0.008 to 0.05; more steps want smaller ones.
        on: Window ``(first, last)`` of the clock: steps that start at ``first >= t > last`` remask,
            the others are ancestral.

    Raises:
        ArgumentError: a number is out of range, or ``sigma`` is unknown.
    """

    sigma: Remasking = "cap"
    eta: float = 0.02
    on: tuple[float, float] = (1.0, 0.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "on", tuple(self.on))
        if self.sigma not in get_args(Remasking):
            raise ArgumentError(
                f"sigma must be one of {', '.join(get_args(Remasking))}; found {self.sigma!r}"
            )
        if not 0.0 <= self.eta <= 1.0:
            raise ArgumentError(f"ReMDM needs eta in [0, 1], found {self.eta}")
        if len(self.on) != 2 or not 1.0 >= self.on[0] > self.on[1] >= 0.0:
            raise ArgumentError(
                f"on is a window (first, last) with 1 >= first > last >= 0, found {self.on}"
            )

    def compile(self, process: Process, times: Sequence[float]) -> Program:
        """Probabilities of the grid.

        Raises:
            ArgumentError: ``process`` is not absorbing.
        """
        process, grid = absorbing_of(process, self), tuple(times)
        alphas = alphas_of(process, grid)
        keep, reveal = [], []
        for i in range(len(grid) - 1):
            sigma = self._probability(grid[i], alphas[i], alphas[i + 1])
            keep.append(1 - sigma)
            reveal.append((alphas[i + 1] - (1 - sigma) * alphas[i]) / (1 - alphas[i]))
        return _ReMDMProgram(process, grid, alphas, tuple(keep), tuple(reveal))

    def _probability(self, t: float, alpha_t: float, alpha_s: float) -> float:
        if not self.on[0] >= t > self.on[1]:
            return 0.0
        most = min(1.0, (1 - alpha_s) / alpha_t) if alpha_t > 0 else 1.0
        if self.sigma == "max":
            return most
        return min(self.eta, most) if self.sigma == "cap" else self.eta * most


@final
@dataclass(frozen=True)
class _ReMDMProgram(Jumps):
    keep: tuple[float, ...]
    reveal: tuple[float, ...]

    def _kernel(self, i: int, x: Tensor, x0: Tensor, mask: Tensor | None) -> Kernel:
        process = self.process
        here, logits = free_part(process.space, x, x0)
        law = process.clean_law(here, logits)
        hidden = (here == law.shape[-1] - 1).unsqueeze(-1)
        keep, reveal = self.keep[i], self.reveal[i]
        shown = hidden.to(law.dtype) * (reveal - keep) + keep
        weights = law * shown
        # The prediction has no mask class; what it leaves belongs there.
        weights = torch.cat((weights[..., :-1], 1 - shown), -1)
        return Categorical.of_weights(weights, x.shape, process.space, mask)


@final
@dataclass(frozen=True)
class _FirstHittingProgram(RevealProgram):
    tokens: int
    places: Tensor | None = field(default=None, compare=False)
    """Places of this step, if they are drawn already."""

    @property
    def replays(self) -> bool:
        """The order does not depend on the prediction."""
        return True

    def settled(self, i: int, x: Tensor, mask: Tensor | None, key: Key) -> Program:
        """The same step with its places drawn."""
        space = self.process.space
        here = space.gather(x if mask is None else space.apply_mask(x, mask))
        hidden = here == self.process.classes - 1
        inner = key.at(step=key.step + INNER)
        return replace(self, places=self._choose(hidden, hidden, len(self.times) - 1 - i, inner))

    def _choose(self, hidden: Tensor, law: Tensor, steps_left: int, key: Key) -> Tensor:
        """A random subset of the right size."""
        if self.places is not None:
            return hidden & self.places
        size = hidden.shape[1]
        if not size:
            return hidden
        share = (hidden.sum(1) + steps_left - 1) // steps_left
        count = share.clamp(min=self.tokens, max=size)
        # float64: ties would reveal two tokens at once.
        level = key.uniform(size, torch.float64).masked_fill(~hidden, 2.0)
        last = level.sort(1).values.gather(1, count.unsqueeze(1) - 1)
        return hidden & (level <= last)
