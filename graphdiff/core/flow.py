r"""Solver of discrete flow matching: steps with the rates of :mod:`graphdiff.core.rates`.

A step freezes the prediction. Given a clean class the rates of the flow are a constant generator in
the clock :math:`u = -\log(1 - \alpha)`, so that a step of any length is a matrix exponential,
averaged over the prediction. Its cost is that of a few products for each token: closed forms for
absorbing and uniform noise, and a table ``[K, K, K]`` for each step, made once in float64, for any
other stationary law. Symmetric components are stepped on one half.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, final

import torch
from torch import Tensor

from graphdiff.core.ctmc import CTMC, class_probs, free_part, is_class
from graphdiff.core.errors import ArgumentError
from graphdiff.core.jump import Jumps, alphas_of, discrete_of, slopes_of
from graphdiff.core.kernel import Categorical, Kernel
from graphdiff.core.process import Process
from graphdiff.core.program import Program, Solver
from graphdiff.core.rates import rates_away, step_table

__all__ = ["FlowJump"]


@final
@dataclass(frozen=True)
class FlowJump(Solver):
    r"""Step with the rates of discrete flow matching.

    Attributes:
        eta: Stochasticity, rate of redrawing a token from ``p_t(. | x1)`` per unit of the clock.
            Leaves the marginals as they are.
        omega: Target guidance. 0 keeps the marginals; published values are 0 to 0.5.
        step: ``"exact"`` solves the equation of every possible ``x1`` over the step, so that with
            ``omega = 0`` and the true ``x1`` the marginal is exact at any step size, and with the
            exact prediction for one token as well; the redraws of ``eta`` come last, from the law
            at the end. ``"euler"`` freezes the rates, as published; a token then moves at most
            once, with probability at most 1. Both have first order for several tokens.

    A step that ends in clean data (``alpha = 1``) draws from the prediction.

    Raises:
        ArgumentError: ``eta`` or ``omega`` is negative, or ``step`` is unknown.
    """

    eta: float = 0.0
    omega: float = 0.0
    step: Literal["exact", "euler"] = "exact"

    def __post_init__(self) -> None:
        if not self.eta >= 0 or not self.omega >= 0:
            raise ArgumentError(
                f"FlowJump needs eta >= 0 and omega >= 0, found {self.eta} and {self.omega}"
            )
        if self.step not in ("exact", "euler"):
            raise ArgumentError(f'step must be "exact" or "euler", found {self.step!r}')

    def compile(self, process: Process, times: Sequence[float]) -> Program:
        """Jump probabilities of the grid.

        Raises:
            ArgumentError: ``process`` is not discrete.
        """
        process, grid = discrete_of(process, self), tuple(times)
        alphas = alphas_of(process, grid)
        _check_gain(process, alphas)
        if self.step == "euler":
            slopes = slopes_of(process, grid)
            return _EulerFlow(process, grid, alphas, slopes, self.eta, self.omega)
        steps = range(len(grid) - 1)
        spans = tuple(_span(alphas[i], alphas[i + 1]) for i in steps)
        redraw = tuple(-math.expm1(-self.eta * (grid[i] - grid[i + 1])) for i in steps)
        # d tau / du = (1 - alpha) / alpha' turns the pull of the guidance into the clock u; the
        # mean slope of the step is exact for linear paths.
        pulls = tuple(
            self.omega * (grid[i] - grid[i + 1]) / (alphas[i + 1] - alphas[i]) for i in steps
        )
        single = _single_rate(process.stationary)
        if single is None:
            return _TableFlow(process, grid, alphas, redraw, spans, pulls)
        jumps = tuple(-math.expm1(-u * (1 + c * single)) for u, c in zip(spans, pulls, strict=True))
        return _ClosedFlow(process, grid, alphas, redraw, jumps)


@dataclass(frozen=True)
class _ExactFlow(Jumps):
    """Programs that solve the conditional equations over a step."""

    redraw: tuple[float, ...]

    @final
    def _kernel(self, i: int, x: Tensor, x0: Tensor, mask: Tensor | None) -> Kernel:
        process, alpha, redraw = self.process, self.alphas[i + 1], self.redraw[i]
        here, logits = free_part(process.space, x, x0)
        law = process.clean_law(here, logits)
        moved = law if alpha == 1.0 else self._moved(i, here, law)
        if redraw and alpha < 1.0:
            pi = class_probs(process.stationary, law.device).to(law.dtype)
            fresh = torch.lerp(pi.expand_as(law), law, alpha)
            moved = torch.lerp(moved, fresh, redraw)
        return Categorical.of_weights(moved, x.shape, process.space, mask)

    @abstractmethod
    def _moved(self, i: int, x: Tensor, law: Tensor) -> Tensor:
        """Probabilities ``[b, size, K]`` after the jumps of step ``i``."""


@final
@dataclass(frozen=True)
class _ClosedFlow(_ExactFlow):
    """Absorbing and uniform noise, where every jump goes to ``x1``."""

    jumps: tuple[float, ...]

    def _moved(self, i: int, x: Tensor, law: Tensor) -> Tensor:
        jump = self.jumps[i]
        stay = is_class(x, law.shape[-1]).to(law.dtype) * (1 - jump)
        return torch.add(stay, law, alpha=jump)


@final
@dataclass(frozen=True)
class _TableFlow(_ExactFlow):
    """Any other stationary law: one table of transition probabilities for each step."""

    spans: tuple[float, ...]
    pulls: tuple[float, ...]

    def _moved(self, i: int, x: Tensor, law: Tensor) -> Tensor:
        table = step_table(self.process.stationary, self.spans, self.pulls, i, law)
        classes = law.shape[-1]
        if classes <= 8:
            # One product for all classes of x: few launches, and small enough to keep.
            each = torch.matmul(law, table.flatten(1)).view(*x.shape, classes, classes)
            at = x[..., None, None].expand(*x.shape, 1, classes)
            return each.gather(-2, at).squeeze(-2)
        moved: Tensor = law @ table[:, 0]
        for k in range(1, classes):
            moved = torch.where((x == k).unsqueeze(-1), law @ table[:, k], moved)
        return moved


@final
@dataclass(frozen=True)
class _EulerFlow(Jumps):
    """Frozen rates."""

    slopes: tuple[float, ...]
    eta: float
    omega: float

    def _kernel(self, i: int, x: Tensor, x0: Tensor, mask: Tensor | None) -> Kernel:
        process = self.process
        here, logits = free_part(process.space, x, x0)
        law = process.clean_law(here, logits)
        if self.alphas[i + 1] < 1.0:
            rates = rates_away(
                process.stationary, here, law, self.alphas[i], self.slopes[i], self.eta, self.omega
            )
            jumps = rates * (self.times[i] - self.times[i + 1])
            total = jumps.sum(-1, keepdim=True)
            # More than one expected jump is shared out.
            jumps = jumps / total.clamp(min=1)
            law = torch.where(is_class(here, law.shape[-1]), 1 - total.clamp(max=1), jumps)
        return Categorical.of_weights(law, x.shape, process.space, mask)


def _span(alpha_t: float, alpha_s: float) -> float:
    """``u_s - u_t`` for ``u = -log(1 - alpha)``; infinite in clean data."""
    return math.inf if alpha_s == 1.0 else -math.log1p((alpha_t - alpha_s) / (1 - alpha_t))


def _check_gain(process: CTMC, alphas: Sequence[float]) -> None:
    for before, after in pairwise(alphas):
        if not before < after:
            raise ArgumentError(
                f"FlowJump needs a schedule whose alpha grows towards the data; {process.schedule} "
                f"has {before:g} and then {after:g}; use FlowMatching, LogLinear or Cosine"
            )


def _single_rate(pi: tuple[float, ...]) -> float | None:
    """``1 / (Z pi(x))`` where every jump goes to ``x1`` at rate 1 of ``u``; otherwise None."""
    if 0.0 in pi:
        return 0.5
    return 1.0 if max(pi) - min(pi) < 1e-12 else None
