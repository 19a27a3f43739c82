r"""Populations of weighted particles: effective numbers, resampling, what a population ends as.

A population estimates a law :math:`p^* \propto p\, G` by particles :math:`x_1 \dots x_k` drawn from
``p`` with weights :math:`w_j \propto G(x_j)`. Its effective number of particles is
:math:`(\sum w)^2 / \sum w^2`. Systematic resampling (Carpenter, Clifford and Fearnhead, 1999)
copies particle ``j`` either :math:`\lfloor k w_j \rfloor` or one time more, and :math:`k w_j` times
in expectation; before it, the mean weight multiplies the estimate of the normaliser
:math:`E_p[G]`, which stays unbiased (Del Moral, 2004).

Every population belongs to one sample: its noise depends on the seed and the id of that sample,
never on what else is in the batch. Particle ``j`` of sample ``id`` is the chain ``id * k + j``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.core.rng import Key
from graphdiff.core.state import State

__all__ = ["Particles", "choose", "effective_number", "expand", "normalised", "systematic"]

MAX_ID = 1 << 48


def normalised(log_weights: Tensor) -> Tensor:
    """Weights ``[b, k]`` that sum to 1; equal ones where all of a population are zero."""
    dead = torch.isneginf(log_weights).all(1, keepdim=True)
    return torch.softmax(torch.where(dead, 0.0, log_weights), 1)


def effective_number(log_weights: Tensor) -> Tensor:
    """Effective number of particles ``[b]``, from 1 to ``k``."""
    return normalised(log_weights).square().sum(1).reciprocal()


def systematic(log_weights: Tensor, uniform: Tensor) -> Tensor:
    """Ancestors int64 ``[b, k]``, ascending; copies of a particle differ by less than one from k w.

    Args:
        log_weights: ``[b, k]``.
        uniform: One number of (0, 1) for each population ``[b]``.
    """
    cdf = normalised(log_weights.double()).cumsum(1)
    k = cdf.shape[1]
    places = (torch.arange(k, device=cdf.device) + uniform.double().unsqueeze(1)) / k
    return torch.searchsorted(cdf / cdf[:, -1:], places).clamp(max=k - 1)


def choose(log_weights: Tensor, uniform: Tensor) -> Tensor:
    """One particle of each population with the probability of its weight, int64 ``[b]``."""
    cdf = normalised(log_weights.double()).cumsum(1)
    level = uniform.double().unsqueeze(1) * cdf[:, -1:]
    return (cdf <= level).sum(1).clamp(max=cdf.shape[1] - 1)


def expand(template: State, cond: Any, k: int) -> tuple[State, Any]:
    """``k`` rows for each sample, with ids of their own; a mapping of conditions follows.

    With ``k = 1`` nothing changes: the chain is that of the plain sampler, bit by bit.

    Raises:
        ArgumentError: ``k`` is no positive number, or the ids would not fit into 48 bits.
    """
    if k < 1:
        raise ArgumentError(f"the number of particles must be at least 1, found {k}")
    if len(template.ids) and (int(template.ids.max()) + 1) * k > MAX_ID:
        raise ArgumentError(
            f"sample id {int(template.ids.max())} with {k} particles exceeds 2**48 chains; use "
            "smaller ids or fewer particles"
        )
    rows = torch.arange(template.batch_size, device=template.device).repeat_interleave(k)
    state = template.select(rows)
    number = torch.arange(k, device=template.device).repeat(template.batch_size)
    state = State(state.values, state.masks, state.ids * k + number)
    if isinstance(cond, Mapping):
        cond = {
            name: v[rows] if isinstance(v, Tensor) and v.ndim and len(v) == template.batch_size
            else v
            for name, v in cond.items()
        }  # fmt: skip
    return state, cond


@dataclass(frozen=True)
class Particles:
    r"""Finished populations.

    Attributes:
        state: All particles, those of a sample one after the other, ``b * k`` rows.
        ids: Id of each sample ``[b]``.
        log_weights: Log-weights ``[b, k]`` since the last resampling.
        log_normaliser: Log of the estimate of the normaliser ``[b]``: :math:`E_p[e^{r/\alpha}]`
            for a chain that weighs by the reward. Its exponential is unbiased.
        rewards: Reward of each particle ``[b, k]``.
        effective: Effective number of particles before each step's resampling ``[steps, b]``.
        resampled: How many resamplings there were, of all populations together.
        calls: Network calls, each on all rows.
    """

    state: State
    ids: Tensor
    log_weights: Tensor
    log_normaliser: Tensor
    rewards: Tensor
    effective: Tensor
    resampled: int
    calls: int

    @property
    def weights(self) -> Tensor:
        """Normalised weights ``[b, k]``."""
        return normalised(self.log_weights)

    def pick(self, index: Tensor) -> State:
        """Particle ``index[b]`` of each population, under the ids of the samples."""
        k = self.log_weights.shape[1]
        rows = torch.arange(len(self.ids), device=self.ids.device) * k + index
        part = self.state.select(rows)
        return State(part.values, part.masks, self.ids)

    def draw(self, seed: int) -> State:
        """One particle of each population, by weight."""
        key = Key(seed, self.ids).at(step=0, stream="choose")
        return self.pick(choose(self.log_weights, key.uniform(1, torch.float64).squeeze(1)))

    def best(self) -> State:
        """The particle of highest reward of each population."""
        return self.pick(self.rewards.argmax(1))


def mean_weight(log_weights: Tensor) -> Tensor:
    """Log of the mean weight of each population ``[b]``."""
    return torch.logsumexp(log_weights, 1) - math.log(log_weights.shape[1])
