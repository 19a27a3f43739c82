r"""Values: what the reward of a finished sample will be, judged half way.

The soft value of a state is :math:`V_t(x) = \alpha \log E[e^{r(x_0)/\alpha} \mid x_t = x]`; guided
by it, a chain has the law :math:`p^*(x_0) \propto p(x_0)\, e^{r(x_0)/\alpha}` exactly. Here it is
estimated from the network's prediction of the clean data, without training, as
:math:`r` of the likeliest clean sample, or from draws of :math:`p(x_0 \mid x_t)` whose tokens are
independent. The error of a value never biases a sampler that weighs by the reward in the end
(:mod:`graphdiff.core.steer`); a better one wastes fewer particles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from graphdiff.core.checks import classes_of
from graphdiff.core.errors import ArgumentError
from graphdiff.core.kernel import Categorical
from graphdiff.core.process import Product
from graphdiff.core.rng import Key
from graphdiff.core.state import State

__all__ = ["PredictedReward", "RewardFunction", "Value", "clean_state", "repeat", "rewards_of"]

RewardFunction = Callable[[State], Tensor]
"""Reward ``[b]`` of finished samples; higher is better."""


class Value(Protocol):
    """An estimate of the value of noisy states."""

    def __call__(self, state: State, t: float, x0: Mapping[str, Tensor], key: Key) -> Tensor:
        """Value ``[b]``.

        Args:
            state: The batch at clock ``t``.
            t: Clock.
            x0: The network's answer at ``(state, t)``.
            key: Noise of this step.
        """


def rewards_of(reward: RewardFunction, state: State, who: str = "the reward") -> Tensor:
    """Rewards, checked to be one number for each sample, none of them NaN; float64 ``[b]``.

    Minus infinity is allowed: a sample that must not be.

    Raises:
        ArgumentError: Another shape, no tensor, or NaN or plus infinity.
    """
    found = reward(state)
    if not isinstance(found, Tensor) or found.shape != (state.batch_size,):
        shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ArgumentError(
            f"{who} returned {shape} for {state.batch_size} samples, expected a tensor "
            f"[{state.batch_size}] with one number for each"
        )
    found = found.detach().double()
    bad = found.isnan() | found.isposinf()
    if bool(bad.any()):
        first = int(state.ids[bad][0])
        raise ArgumentError(
            f"{who} of sample {first} is {float(found[bad][0])} ({int(bad.sum())} of "
            f"{state.batch_size} samples); return -inf for samples that must not be"
        )
    return found


def clean_state(
    process: Product,
    state: State,
    x0: Mapping[str, Tensor],
    key: Key | None = None,
    purpose: str = "clean",
) -> State:
    """A clean sample for each noisy one: the mean of continuous components, and classes.

    Args:
        process: Process of each component.
        state: The noisy batch.
        x0: Prediction of its clean data.
        key: Draws the classes, each token by itself; the likeliest ones without.
        purpose: With the name of a component, the stream of its noise: never that of the chain,
            whose steps must not depend on what is drawn here.
    """
    values = dict(state.values)
    for name, part in process.parts.items():
        if classes_of(part) is None:
            values[name] = x0[name]
            continue
        law = Categorical(x0[name], part.space, state.mask(name))
        values[name] = law.mode if key is None else law.sample(key.at(stream=f"{purpose} {name}"))
    return State(values, state.masks, state.ids)


def repeat(key: Key, k: int) -> Key:
    """The key of the ``k``-th draw in a step; chains have fewer than 2**20 steps."""
    return key.at(step=(key.step + (k << 20)) % (1 << 32))


@dataclass(frozen=True)
class PredictedReward:
    r"""The reward of the predicted clean sample.

    Attributes:
        process: Process of each component.
        reward: Of finished samples.
        draws: Number of clean samples that are drawn from the prediction; 0 takes the likeliest.
        average: ``"mean"`` of their rewards, or ``"soft"``: :math:`\alpha \log` of the mean of
            :math:`e^{r/\alpha}`, which is the soft value where tokens are independent given the
            noisy ones.
        alpha: Temperature of ``"soft"``.
    """

    process: Product
    reward: RewardFunction
    draws: int = 0
    average: Literal["mean", "soft"] = "mean"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if self.draws < 0 or self.average not in ("mean", "soft") or not self.alpha > 0:
            raise ArgumentError(
                "PredictedReward needs draws >= 0, average 'mean' or 'soft' and alpha > 0, found "
                f"{self.draws}, {self.average!r} and {self.alpha}"
            )

    def __call__(self, state: State, t: float, x0: Mapping[str, Tensor], key: Key) -> Tensor:
        """Value ``[b]``, float64."""
        if not self.draws:
            return rewards_of(self.reward, clean_state(self.process, state, x0))
        found = []
        for k in range(self.draws):
            clean = clean_state(self.process, state, x0, repeat(key, k), "value")
            found.append(rewards_of(self.reward, clean))
        each = torch.stack(found)
        if self.average == "mean":
            return each.mean(0)
        soft = torch.logsumexp(each / self.alpha, 0) - math.log(self.draws)
        return self.alpha * soft
