r"""Diffusion between two views of the same nodes: schedules, starts and the published sampler.

A node has a *target* embedding :math:`z` (of the relation that counts) and a *source* embedding
:math:`c` (of all the others). DiffGraph (Li et al., 2025, arXiv 2501.02313) treats the second as a
noisy version of the first. As coded, it uses :math:`T` steps with

.. math::
    v_t = s\,\bigl(n_{min} + \tfrac{t}{T-1}(n_{max} - n_{min})\bigr), \qquad
    \bar\alpha_t = (1 - \beta_0)\,\frac{1 - v_t}{1 - v_0}, \qquad t = 0, \dots, T-1,

:math:`s = 10^{-4}`, :math:`n_{min} = 10^{-4}`, :math:`n_{max} = 10^{-3}`, and the first step
replaced by :math:`\beta_0 = 10^{-4}` (:class:`LinearVariance`). It starts the reverse chain at the
source itself and follows the means of the posteriors
:math:`q(x_{t-1} \mid x_t, \hat x_0)` without noise (:class:`PosteriorMean`).

**That chain is one network call.** Write a step as
:math:`x_{t-1} = a_t x_t + b_t \hat x_0(x_t, t)`. Since :math:`\bar\alpha_0 = 1 - \beta_0` and
:math:`\bar\alpha_{-1} = 1`, the last step has :math:`a_0 = 0, b_0 = 1`: the chain returns the
prediction made at :math:`t = 0`, whatever came before. What came before has hardly
moved the state: the variances differ by :math:`v_{T-1} - v_0 = 9 \cdot 10^{-8}` only, so that with
:math:`\sigma_t^2 = 1 - \bar\alpha_t \approx \beta_0` and :math:`\alpha_t = \sqrt{\bar\alpha_t}`

.. math::
    b_t = \alpha_{t-1} \Bigl(1 - e^{-h_t}\Bigr) \approx \frac{v_t - v_{t-1}}{\beta_0}, \qquad
    \sum_{t \ge 1} b_t \approx \frac{9 \cdot 10^{-8}}{10^{-4}} = 9 \cdot 10^{-4}.

The state at :math:`t = 0` therefore differs from the source by less than
:math:`9 \cdot 10^{-4}\,(\lVert c \rVert + \max_t \lVert \hat x_0 \rVert)`, and the chain of
:math:`T` calls by that times the slope of the network from ``network(source, t=0)``. The numbers
are computed by the core and tested.

Where a chain begins is a property of the process (:class:`ViewProcess`): at the source as
published, at the noised source (as an image is edited), or at noise, with the source as a condition
only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.plan import Ancestral
from graphdiff.core.process import Process
from graphdiff.core.program import Solver
from graphdiff.core.rng import Key
from graphdiff.core.schedule import Schedule
from graphdiff.core.tableau import SolverPlan

__all__ = ["LinearVariance", "PosteriorMean", "Start", "ViewProcess", "published_weights"]

Start = Literal["source", "noised", "noise"]


@dataclass(frozen=True)
class LinearVariance(Schedule):
    r"""The published schedule on the clock :math:`u = (t + 1) / T`; see the module docstring.

    Below :math:`u = 1/T`, where nothing was published, the variance falls linearly to zero.

    Attributes:
        steps: Number of published steps :math:`T`, at least 2.
        scale: :math:`s`, "noise scale".
        low: :math:`n_{min}`.
        high: :math:`n_{max}`.
        first: :math:`\beta_0`.
    """

    steps: int = 200
    scale: float = 1e-4
    low: float = 1e-4
    high: float = 1e-3
    first: float = 1e-4

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ArgumentError(f"steps is {self.steps}, expected 2 or more; correct the schedule")
        if not 0 <= self.low < self.high or not 0 < self.scale * self.high < 1:
            raise ArgumentError(
                f"noise runs from {self.low} to {self.high}, times {self.scale}; expected "
                "0 <= low < high and a product below 1"
            )
        if not 0 < self.first < 1:
            raise ArgumentError(f"first is {self.first}, expected a number between 0 and 1")

    def alpha(self, t: Tensor | float) -> Tensor:
        r""":math:`\sqrt{1 - \sigma^2}`."""
        return (1 - self._variance(t)).sqrt()

    def sigma(self, t: Tensor | float) -> Tensor:
        r""":math:`\sigma(u)`, about 0.01 from :math:`u = 1/T` on."""
        return self._variance(t).sqrt()

    def _variance(self, t: Tensor | float) -> Tensor:
        """``1 - alpha_bar`` without cancellation."""
        clock = torch.as_tensor(t, dtype=torch.float64)
        index = clock * self.steps - 1
        rise = self.scale * (self.high - self.low) * index.clamp(min=0) / (self.steps - 1)
        later = self.first + (1 - self.first) * rise / (1 - self.scale * self.low)
        return torch.where(index < 0, self.first * clock * self.steps, later)

    def clock(self, index: Tensor) -> Tensor:
        """Clock times of published step numbers ``0 .. T - 1``, float64."""
        return (index.to(torch.float64) + 1) / self.steps


def published_weights(schedule: LinearVariance) -> Tensor:
    r"""Weights ``[T]`` of the published loss: 1 at ``t = 0``, then ``SNR(t - 1) - SNR(t)``."""
    grid = schedule.clock(torch.arange(schedule.steps))
    snr = schedule.snr(grid)
    return torch.cat([torch.ones(1, dtype=torch.float64), snr[:-1] - snr[1:]])


@dataclass(frozen=True)
class PosteriorMean(Solver):
    """The mean of each exact posterior, its noise left out: the published reverse chain.

    Not a sampler of the process: neither the probability flow (that is ``DDIM()``) nor ancestral
    sampling. It is here to compare with.
    """

    def compile(self, process: Process, times: Sequence[float]) -> SolverPlan:
        """The table of ancestral sampling with all standard deviations zero."""
        plan = Ancestral().compile(process, times)
        rows = tuple(
            tuple(None if row is None else row._replace(std=0.0) for row in stage)
            for stage in plan.rows
        )
        return replace(plan, rows=rows)


@dataclass(frozen=True)
class ViewProcess(Gaussian):
    r"""Gaussian noise whose reverse chain begins at a view of the node instead of at the prior.

    The value of the component in the template handed to a sampler is that view.

    Attributes:
        start: ``"source"``: the view itself, no noise. ``"noised"``:
            :math:`\alpha_b c + \sigma_b \varepsilon`. ``"noise"``: the prior at ``begin``, the view
            gives its shape only.
        begin: Clock :math:`b` at which the chain begins; the first time of the sampler's grid.
    """

    start: Start = "noise"
    begin: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start not in get_args(Start):
            raise ArgumentError(f"start is {self.start!r}, expected one of {get_args(Start)}")
        if not 0 < self.begin <= 1:
            raise ArgumentError(f"begin is {self.begin!r}, expected a clock in (0, 1]")

    def prior(self, like: Tensor, mask: Tensor | None, key: Key) -> Tensor:
        """Where the chain begins; ``like`` ``[b, ...]`` is the view."""
        if self.start == "source":
            return self.space.apply_mask(like, mask)
        view = like if self.start == "noised" else torch.zeros_like(like)
        if self.start == "noised" or self.begin < 1:
            return self.corrupt(view, torch.full((1,), self.begin), mask, key)
        return super().prior(like, mask, key)
