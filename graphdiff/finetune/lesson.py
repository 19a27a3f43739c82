"""What each method makes of one batch: losses, and the samples that they were made from."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.core.value import RewardFunction
from graphdiff.finetune.adjoint import adjoint_losses
from graphdiff.finetune.config import DIRECT, POLICY
from graphdiff.finetune.direct import direct_losses
from graphdiff.finetune.policy import policy_losses
from graphdiff.finetune.replay import Memory, replay_losses
from graphdiff.finetune.rollout import Rollout, Tuned, roll
from graphdiff.finetune.sepo import sepo_losses
from graphdiff.finetune.stepwise import sdpo_losses, vidd_losses
from graphdiff.finetune.weighted import smc_losses, weighted_losses
from graphdiff.task import Task

__all__ = ["Lesson", "learn"]


@dataclass(frozen=True)
class Lesson:
    """One batch.

    Attributes:
        losses: Losses ``[b]`` by name.
        rewards: Rewards of the samples that were drawn, finite.
        ends: These samples.
        weights: Weights ``[b]`` that make them samples of the law that is learnt; None if they are.
        rollout: The chains, if they are those of the present model and were kept.
        notes: What else to log, scalars.
    """

    losses: dict[str, Tensor]
    rewards: Tensor
    ends: State
    weights: Tensor | None = None
    rollout: Rollout | None = None
    notes: dict[str, Tensor] = field(default_factory=dict)


def learn(
    base: Task,
    tuned: Tuned,
    template: State,
    reward: RewardFunction,
    seed: int,
    key: Key,
    memory: Memory | None = None,
) -> Lesson:
    """Draw a batch, judge it, and say what is to be learnt from it.

    Args:
        base: The task of the base model.
        tuned: What is tuned, and by which method.
        template: Shapes, masks and ids.
        reward: Of finished samples.
        seed: Of the chains.
        key: Noise of what is not the chains'.
        memory: What was found so far, for ``"replay"``.
    """
    method = tuned.config.method
    if method in DIRECT:
        return Lesson(*direct_losses(tuned, template, reward, seed, key))
    if method == "adjoint":
        return Lesson(*adjoint_losses(tuned, template, reward, seed, key))
    if method == "smc":
        return Lesson(*smc_losses(base, tuned, template, reward, seed, key))
    if method == "replay":
        assert memory is not None
        told = (base, tuned, memory, template, reward, seed, key)
        found, rollout, notes = replay_losses(*told)
        return Lesson(found, rollout.rewards, rollout.final, None, rollout, notes)
    if method == "sdpo":
        found, rollout = sdpo_losses(tuned, template, reward, seed, key)
        # Samples of the base model, weighted to be those of the target.
        log_w = torch.where(rollout.scored, rollout.rewards / tuned.config.alpha, -torch.inf)
        return Lesson(found, rollout.rewards, rollout.final, torch.softmax(log_w, 0))
    if method == "sepo":
        found, rollout = sepo_losses(tuned, template, reward, seed, key)
    else:
        paths = method == "wdce"
        rollout = roll(tuned.sampler, tuned.denoiser, template, reward, seed, paths=paths)
        if method in POLICY:
            found = policy_losses(tuned, rollout, key)
        elif method == "vidd":
            found = vidd_losses(tuned, rollout, reward, key)
        else:
            found = weighted_losses(base, tuned, rollout, key)
    return Lesson(found, rollout.rewards, rollout.final, None, rollout)
