r"""Constraints on the mean of a score, with a Lagrange multiplier for each.

A constraint is written ``NAME>=BOUND`` or ``NAME<=BOUND``: the mean of a score over the samples of
the tuned model. ``NAME:LOW..HIGH>=SHARE`` is the share of samples whose score lies in a window.
With slacks :math:`g_j = \pm(c_j - b_j)`, positive where the constraint holds, the problem is

.. math:: \max_\theta\; E[r] - \alpha\,\mathrm{KL}(p_\theta\,\|\,p_{ref})
    \quad\text{such that}\quad E[g_j] \ge 0 .

It is convex in the law, so that its solution is the saddle point of the Lagrangian: a tuner works
towards :math:`p_\lambda \propto p_{ref}\, e^{(r + \sum_j \lambda_j g_j) / \alpha}` as towards any
reward, and after each of its steps the multipliers follow the gradient of the dual, the slack
measured on that step's samples, and stay where they are defined:

.. math:: \lambda_j \leftarrow \max\bigl(0,\; \lambda_j - \eta\, \widehat E[g_j]\bigr) .

A multiplier is in units of reward per unit of score: what the constraint costs at the margin. At
the end each is zero or its constraint holds with equality. The curvature of the dual is
:math:`\mathrm{Var}(g_j) / \alpha`, so that steps :math:`\eta` above a fraction of
:math:`\alpha / \mathrm{Var}(g_j)` swing instead of settling. A bound that no law near the base
model meets shows as a multiplier that grows without end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError, CheckpointError
from graphdiff.core.state import State
from graphdiff.core.value import RewardFunction, rewards_of
from graphdiff.finetune.reward import Reward, Sum, Window

__all__ = ["Constraint", "Lagrangian", "Share", "parse_constraint"]

FORM = re.compile(r"(?P<name>.*[^<>=\s])\s*(?P<sense>>=|<=)\s*(?P<bound>[^<>=]+)")


@dataclass(frozen=True)
class Share:
    """One where a reward's value lies in a window, else zero: its mean is a share of samples.

    Attributes:
        reward: Whose values are meant.
        low: Lower end, included.
        high: Upper end, included.
    """

    reward: Reward
    low: float
    high: float
    differentiable: bool = False

    @property
    def name(self) -> str:
        """The reward and its window."""
        return f"{self.reward.name}:{self.low:g}..{self.high:g}"

    def __call__(self, state: State) -> Tensor:
        """Zero or one ``[b]``; zero also for a sample without a value."""
        value = self.reward(state)
        return ((value >= self.low) & (value <= self.high)).double()


@dataclass(frozen=True)
class Constraint:
    """A bound on the mean of a score over the samples of a model.

    Attributes:
        score: Of finished samples.
        sense: Whether the mean must not be below or not be above the bound.
        bound: The bound.
    """

    score: Reward
    sense: Literal[">=", "<="]
    bound: float

    def __post_init__(self) -> None:
        if self.sense not in (">=", "<=") or not abs(self.bound) < float("inf"):
            raise ArgumentError(
                f"a constraint is a score >= or <= a finite bound, found {self.sense!r} and "
                f"{self.bound}"
            )
        if isinstance(self.score, Share) and not 0 <= self.bound <= 1:
            raise ArgumentError(
                f"the constraint {self.name!r} bounds a share of samples, which lies between 0 and "
                f"1, by {self.bound:g}"
            )

    @property
    def name(self) -> str:
        """As it is written."""
        return f"{self.score.name}{self.sense}{self.bound:g}"

    def slack(self, state: State) -> Tensor:
        """How far each sample is on the right side of the bound ``[b]``.

        Minus infinity for a sample without a score: one that must not be.
        """
        value = self.score(state)
        gap = value - self.bound if self.sense == ">=" else self.bound - value
        return torch.where(torch.isneginf(value), -torch.inf, gap)


class Lagrangian:
    r"""A reward and what its constraints are worth: a :class:`Reward` that tuners work towards.

    Args:
        reward: The objective.
        constraints: What its mean is maximised under.
        step: Step size of the multipliers, :math:`\eta`.

    Attributes:
        multipliers: One for each constraint, float64, never negative; zero at the start.

    Raises:
        ArgumentError: There is no constraint, one is there twice, or the step is not positive.
    """

    def __init__(
        self, reward: RewardFunction, constraints: Sequence[Constraint], step: float
    ) -> None:
        names = [constraint.name for constraint in constraints]
        if not names or len(set(names)) < len(names):
            raise ArgumentError(
                f"a Lagrangian needs different constraints, found {', '.join(names) or 'none'}"
            )
        if not 0 < step < float("inf"):
            raise ArgumentError(f"the step of the multipliers must be positive, found {step}")
        self.reward, self.constraints, self.step = reward, tuple(constraints), step
        self.multipliers = torch.zeros(len(names), dtype=torch.float64)

    @property
    def name(self) -> str:
        """The objective and its constraints."""
        objective = getattr(self.reward, "name", type(self.reward).__name__)
        return f"{objective} such that {', '.join(c.name for c in self.constraints)}"

    @property
    def differentiable(self) -> bool:
        """Whether the objective and every score are."""
        scores = [constraint.score for constraint in self.constraints]
        return all(getattr(r, "differentiable", False) for r in (self.reward, *scores))

    def __call__(self, state: State) -> Tensor:
        """Reward and slacks times their multipliers ``[b]``; minus infinity where one of them is.

        A multiplier of zero leaves a score in the sum, so that a sample without one is left out
        from the first step on.
        """
        total = self.reward(state)
        for weight, constraint in zip(self.multipliers.tolist(), self.constraints, strict=True):
            slack = constraint.slack(state)
            never = torch.isneginf(slack)
            total = torch.where(never, -torch.inf, total + weight * slack.masked_fill(never, 0))
        return total

    def ascend(self, state: State, weights: Tensor | None = None) -> dict[str, Tensor]:
        """Move the multipliers by one step; what to log of it, scalars.

        Args:
            state: Samples of the law that the constraints are about. With several processes, this
                one's; the mean is that of all.
            weights: Weights ``[b]`` that make them so; equal ones if None.

        Returns:
            ``multiplier NAME``, as it was while the samples were judged, and ``violation NAME``:
            by how much the mean is on the wrong side of the bound, negative if it is not.
        """
        notes: dict[str, Tensor] = {}
        moved = self.multipliers.clone()
        for j, constraint in enumerate(self.constraints):
            slack = rewards_of(constraint.slack, state, f"the constraint {constraint.name!r}")
            scored = torch.isfinite(slack)
            w = scored.double() if weights is None else torch.where(scored, weights.double(), 0)
            both = torch.stack([(w * slack.masked_fill(~scored, 0)).sum(), w.sum()])
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.all_reduce(both)
            mean = both[0] / both[1].clamp(min=1e-300)
            notes[f"multiplier {constraint.name}"] = self.multipliers[j]
            notes[f"violation {constraint.name}"] = -mean
            moved[j] = max(0.0, float(self.multipliers[j] - self.step * mean.cpu()))
        self.multipliers = moved
        return notes

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"multipliers": self.multipliers.clone()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; from the start if ``state`` is empty.

        Raises:
            CheckpointError: It is of other constraints.
        """
        found = state.get("multipliers", torch.zeros_like(self.multipliers))
        if found.shape != self.multipliers.shape:
            raise CheckpointError(
                f"the checkpoint holds {len(found)} multipliers, but there are "
                f"{len(self.constraints)} constraints; give the constraints of that run"
            )
        self.multipliers = found.clone()


def parse_constraint(spec: str, reward: Callable[[str], Reward]) -> Constraint:
    """``NAME>=BOUND`` or ``NAME<=BOUND``; ``NAME:LOW..HIGH`` is the share inside the window.

    Args:
        spec: The constraint.
        reward: Makes the reward of a name and its window, as ``--reward`` reads it.

    Raises:
        ArgumentError: It is malformed, unknown, or no single score.
    """
    found = FORM.fullmatch(spec.strip())
    if found is None:
        raise ArgumentError(
            f"cannot read the constraint {spec!r}: expected NAME>=BOUND or NAME<=BOUND on the mean "
            "of a score (sa<=3.5), or NAME:LOW..HIGH>=SHARE on the share of samples inside a "
            "window (logp:1..3>=0.9)"
        )
    try:
        bound = float(found["bound"])
    except ValueError as error:
        raise ArgumentError(
            f"{found['bound']!r} in the constraint {spec!r} is no number"
        ) from error
    score = reward(found["name"])
    if isinstance(score, Sum):
        raise ArgumentError(
            f"the constraint {spec!r} bounds a weighted score; leave the weight away and divide "
            "the bound by it"
        )
    if isinstance(score, Window):
        score = Share(score.reward, score.low, score.high)
    sense: Literal[">=", "<="] = ">=" if found["sense"] == ">=" else "<="
    return Constraint(score, sense, bound)
