r"""Weighted training on samples: WDCE, RWR and distilled SMC.

Samples of the present model, weighted by :math:`w \propto dP^*/dP_\theta`, are samples of the
target, and the loss that trained the model, weighted by them, trains it on the target. With the
kernels of each visited step,

.. math:: \log w = \frac{r(x_0)}{\alpha} + \sum_t \log \frac{p_{ref}(x_s \mid x_t)}
          {p_\theta(x_s \mid x_t)},

and :math:`L = \sum_b w_b L_{train}(x_0^b)` at ``repeats`` noise levels for each sample: weighted
denoising cross-entropy for tokens (Zhu et al., 2025, arXiv 2508.10684), weighted score matching
for continuous components. Its minimum is the denoiser of the target :math:`p_{ref}\, e^{r/\alpha}`,
and near it all weights are equal.

A ``baseline`` :math:`\beta` is taken from the weights, whose mean is 1. With :math:`C(p)` the loss
under samples of a law :math:`p`,

.. math:: \nabla L = \nabla C(p^*) - \beta\, \nabla C(p_\theta) :

the model learns what tells the target from its own samples. At the optimum both terms vanish and
the weights are 1, so that the gradient of *every* batch is :math:`1 - \beta` of what it was;
without a baseline its noise stays, and keeps WDCE from its optimum. The share :math:`1 - \beta`
also remains of the pull that makes predictions in different orders agree, so :math:`\beta` a
little below 1 is the choice.

``rwr`` leaves out the ratio (reward-weighted regression): it weighs by :math:`e^{r/\alpha}` on the
model's own samples, each iteration sharpens the law further, and nothing holds it near the base
model; stop early.

``smc`` distils particles: populations of the *base* model are steered towards the target
(:mod:`graphdiff.core.steer`), and the loss is weighted by their weights, times the normaliser of
their population. What is learnt from does not depend on the network, so it cannot drift.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.core.errors import RewardError
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.core.steer import SMC
from graphdiff.core.value import RewardFunction, repeat, rewards_of
from graphdiff.finetune.rollout import Rollout, Tuned, kernels_at, log_prob, worst_for_none
from graphdiff.task import Task

__all__ = ["log_weights", "smc_losses", "weighted_losses"]


def log_weights(tuned: Tuned, rollout: Rollout) -> Tensor:
    """Log-weights ``[b]`` up to a constant; minus infinity for samples without a reward.

    Args:
        tuned: What is tuned.
        rollout: Chains of the network as it is, with their ``log_paths`` for ``wdce``.
    """
    log_w = rollout.rewards / tuned.config.alpha
    if tuned.config.method == "wdce":
        with torch.no_grad():
            for i in range(rollout.steps):
                state, after, last = (
                    rollout.states[i],
                    rollout.states[i + 1],
                    i + 1 == rollout.steps,
                )
                theirs = kernels_at(tuned.sampler, tuned.reference, state, i, rollout.seed)
                log_w = log_w + log_prob(theirs, after, last=last).double()
        log_w = log_w - rollout.log_paths
    return torch.where(rollout.scored, log_w, -torch.inf)


def weighted_losses(task: Task, tuned: Tuned, rollout: Rollout, key: Key) -> dict[str, Tensor]:
    """The task's own losses ``[b]`` on the finished samples, weighted; the baseline is off.

    Args:
        task: Whose losses.
        tuned: What is tuned.
        rollout: Chains of the network as it is.
        key: Noise of the losses.
    """
    w = torch.softmax(log_weights(tuned, rollout), 0) * len(rollout.rewards)
    w = torch.where(rollout.scored, w - tuned.config.baseline, 0.0)
    return _weighted(task, tuned, rollout.final, w, key)


def smc_losses(
    task: Task, tuned: Tuned, template: State, reward: RewardFunction, seed: int, key: Key
) -> tuple[dict[str, Tensor], Tensor, State, Tensor]:
    """The task's own losses ``[b]`` on weighted particles of the base model.

    Rewards, particles and their weights ``[b]`` come with them.

    Args:
        task: Whose losses.
        tuned: What is tuned; a population has ``group`` particles.
        template: Shapes, masks and ids; populations have those of the first samples.
        reward: Of finished samples.
        seed: Of the chains.
        key: Noise of the losses.
    """
    config, b = tuned.config, template.batch_size
    few = template.select(torch.arange(b // config.group, device=template.device))
    chain = SMC(tuned.sampler, reward, config.group, config.alpha)
    with torch.no_grad():
        found = chain.run(tuned.reference, few, seed=seed)
    own = torch.log(found.weights.clamp(min=1e-300))
    w = torch.softmax((found.log_normaliser.unsqueeze(1) + own).flatten(), 0) * b
    ends = State(found.state.values, found.state.masks, template.ids)
    rewards = rewards_of(reward, ends)
    scored = torch.isfinite(rewards)
    if not bool(scored.any()):
        raise RewardError(f"none of {b} particles has a reward; the base model makes none with one")
    w = torch.where(scored, w, 0.0)
    return _weighted(task, tuned, ends, w, key), worst_for_none(rewards), ends, w


def _weighted(task: Task, tuned: Tuned, clean: State, w: Tensor, key: Key) -> dict[str, Tensor]:
    """Weighted losses ``[b]`` at several noise levels."""
    repeats = tuned.config.repeats
    found: dict[str, Tensor] = {}
    for k in range(repeats):
        for name, loss in task.losses(tuned.denoiser, clean, repeat(key, k)).items():
            term = w.to(loss) * loss / repeats
            found[name] = found[name] + term if name in found else term
    return found
