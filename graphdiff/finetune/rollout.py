"""Chains that tuners learn from: states at every step, rewards, and kernels of any step again.

The chain is that of the sampler (:mod:`graphdiff.core.sampler`), so what is tuned is what is
sampled. A step is replayed from its two states: the network is asked at the first, and the solver
says what it would have drawn from, with gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from graphdiff.core.denoiser import Denoiser
from graphdiff.core.errors import ConfigError, RewardError
from graphdiff.core.kernel import Delta, Kernel
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler
from graphdiff.core.state import State
from graphdiff.core.step import Step
from graphdiff.core.value import RewardFunction, rewards_of
from graphdiff.finetune.config import TuneConfig

__all__ = [
    "Rollout",
    "Tuned",
    "divergence",
    "kernels_at",
    "log_prob",
    "pick",
    "predict",
    "replayable",
    "roll",
    "scored_among",
    "worst_for_none",
]


@dataclass(frozen=True)
class Rollout:
    """Finished chains.

    Attributes:
        states: States before each step, and the finished ones: ``T + 1`` batches.
        rewards: Rewards ``[b]``, float64, finite: samples without one have the lowest of the batch.
        scored: Whether a sample had a reward ``[b]``.
        log_paths: Log-probability ``[b]`` of the steps of each chain, float64; zeros unless asked
            for.
        seed: Of the noise of the steps.
    """

    states: tuple[State, ...]
    rewards: Tensor
    scored: Tensor
    log_paths: Tensor
    seed: int

    @property
    def steps(self) -> int:
        """Number of steps ``T``."""
        return len(self.states) - 1

    @property
    def final(self) -> State:
        """The finished samples."""
        return self.states[-1]


def replayable(sampler: Any) -> Sampler:
    """``sampler``, checked to have steps that can be replayed from two states.

    Raises:
        ConfigError: It is no sampler of the core, or its solvers ask the network more than once a
            step or draw noise of their own.
    """
    if not isinstance(sampler, Sampler):
        raise ConfigError(
            f"this model draws its samples by {type(sampler).__name__}, whose steps cannot be "
            "replayed; it cannot be tuned by this method"
        )
    for name, program in sampler.compile().programs.items():
        if not program.replays:
            raise ConfigError(
                f"the solver of component {name!r} asks the network more than once a step, or "
                "draws noise of its own, so its steps cannot be replayed; choose another one by "
                "tune.solver (for masked tokens 'ancestral' or 'first_hitting', for discrete "
                "graphs 'flow' or 'ancestral', for continuous ones a plan with noise)"
            )
    return sampler


@dataclass(frozen=True)
class Tuned:
    """What is tuned, and what it is held to.

    Attributes:
        config: Method, temperature and number of steps.
        sampler: The chain.
        denoiser: The network that is tuned.
        reference: The base model.
    """

    config: TuneConfig
    sampler: Sampler
    denoiser: Denoiser
    reference: Denoiser


def roll(
    sampler: Sampler,
    denoiser: Denoiser,
    template: State,
    reward: RewardFunction,
    seed: int,
    *,
    paths: bool = False,
    meet: tuple[int, int] | None = None,
    move: Callable[[State], State] | None = None,
) -> Rollout:
    """Run chains without gradients and judge what they end in.

    Args:
        sampler: The chain.
        denoiser: The network, in evaluation mode while it runs.
        template: Shapes, masks and ids.
        reward: Of finished samples.
        seed: Of the noise.
        paths: Keep the log-probability of the steps.
        meet: A step and a size of groups: before that step the samples of a group all take the
            state of the first of them, and part again.
        move: What becomes of the state in which they met.

    Raises:
        ConfigError: A step cannot be replayed.
        RewardError: No sample has a reward.
    """
    training = denoiser.training
    denoiser.eval()
    try:
        with torch.no_grad(), parametrize.cached():  # low-rank changes are added once
            states = [sampler.process.prior(template, Key(seed, template.ids))]
            logs = torch.zeros(template.batch_size, dtype=torch.float64, device=template.device)
            chain, back = sampler.steps(denoiser, template, seed=seed), None
            while (step := _next(chain, back)) is not None:
                back = None
                if any(c.ndim for carry in step.carry.values() for c in carry):
                    raise ConfigError(
                        "the solver remembers past predictions, so its steps cannot be replayed; "
                        "choose one of order 1"
                    )
                states.append(step.state)
                if meet is not None and step.index + 1 == meet[0]:
                    met = _first_of_group(step.state, meet[1])
                    back = replace(step, state=met if move is None else move(met))
                    states[-1] = back.state
                if paths:
                    end = step.index == step.total - 1
                    logs = logs + log_prob(step.kernels, step.state, last=end).double()
            found = rewards_of(reward, states[-1])
    finally:
        denoiser.train(training)
    scored = scored_among(found)
    return Rollout(tuple(states), worst_for_none(found), scored, logs, seed)


def scored_among(rewards: Tensor) -> Tensor:
    """Which samples have a reward, bool ``[b]``.

    Raises:
        RewardError: None has.
    """
    scored = torch.isfinite(rewards)
    if not bool(scored.any()):
        raise RewardError(
            f"none of {len(rewards)} samples has a reward; a tuner needs a base model that makes "
            "samples with one"
        )
    return scored


def worst_for_none(rewards: Tensor) -> Tensor:
    """Rewards ``[b]`` in which samples without one have the lowest of the others, or zero."""
    scored = torch.isfinite(rewards)
    lowest = rewards[scored].amin() if bool(scored.any()) else rewards.new_zeros(())
    return torch.where(scored, rewards, lowest)


def _next(chain: Any, back: Step | None) -> Step | None:
    """The next step of a chain; ``back`` replaces the last one."""
    try:
        found: Step = chain.send(back)
    except StopIteration:
        return None
    return found


def _first_of_group(state: State, group: int) -> State:
    """Every sample at the state of the first of its group, with its own id."""
    first = torch.arange(state.batch_size, device=state.device) // group * group
    return State({name: v[first] for name, v in state.values.items()}, state.masks, state.ids)


def predict(sampler: Sampler, denoiser: Denoiser, state: State, i: int) -> dict[str, Tensor]:
    """The network's clean data at a state before step ``i``."""
    slot = sampler.compile().slots[i][0]
    cond = {n: v for n, v in state.values.items() if n not in sampler.process.parts} or None
    t = torch.full((state.batch_size,), slot.time, device=state.device)
    found: dict[str, Tensor] = denoiser(state, t, cond)
    return found


def kernels_at(
    sampler: Sampler, denoiser: Denoiser, state: State, i: int, seed: int = 0
) -> dict[str, Kernel]:
    """What step ``i`` is drawn from at ``state``, differentiable in the network.

    Args:
        sampler: The chain, see :func:`replayable`.
        denoiser: The network.
        state: Before the step.
        i: Number of the step.
        seed: Of the chain; it counts where a solver draws noise of its own, as the order in which
            tokens are revealed.
    """
    plan = sampler.compile()
    x0, found = predict(sampler, denoiser, state, i), {}
    for name in sampler.process.parts:
        key = Key(seed, state.ids).at(plan.slots[i][0].noise, plan.streams[name])
        told = (state[name], x0[name], state.mask(name), (), key)
        found[name] = plan.programs[name].update(i, 0, *told)[0]
    return found


def log_prob(kernels: Mapping[str, Kernel], state: State, *, last: bool) -> Tensor:
    """Log-probability ``[b]`` of the step to ``state``, over all components.

    A step without noise says nothing about the network's choice; the last one of a continuous
    component is allowed to be one.

    Raises:
        ConfigError: Another step moves without noise.
    """
    total: Tensor | float = 0.0
    for name, kernel in kernels.items():
        if isinstance(kernel, Delta):
            if last:
                continue
            raise ConfigError(
                f"the solver moves component {name!r} without noise, so there is no policy to "
                "tune; choose a stochastic one"
            )
        total = total + kernel.log_prob(state[name])
    if not isinstance(total, Tensor):
        return torch.zeros(state.batch_size, device=state.device)
    return total


def divergence(mine: Mapping[str, Kernel], theirs: Mapping[str, Kernel]) -> Tensor:
    """Divergence ``[b]`` of a step from another network's, over all components with noise."""
    found = [k.kl(theirs[name]) for name, k in mine.items() if not isinstance(k, Delta)]
    if not found:  # a last step without noise
        first = next(iter(mine.values())).mode
        return torch.zeros(len(first), device=first.device)
    return torch.stack(found).sum(0)


def pick(total: int, picked: int, key: Key) -> list[int]:
    """Steps in their order, without repeats; the same for all samples of a batch."""
    if not picked or picked >= total:
        return list(range(total))
    one = Key(key.seed, key.ids[:1].clamp(max=0), step=key.step).at(stream="picked")
    return sorted(torch.argsort(one.uniform(total, torch.float64)[0])[:picked].tolist())
