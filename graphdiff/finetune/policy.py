r"""Policy gradients on the chain: DDPO and group-relative advantages, with the exact path KL.

A chain is a policy whose actions are its steps (Black et al., 2023, arXiv 2305.13301). With
:math:`k_t = \mathrm{KL}(p_\theta(\cdot \mid x_t)\,\|\,p_{ref}(\cdot \mid x_t))`, exact for each
visited state, the objective and its gradient are

.. math::
    J &= E\Bigl[r(x_0) - \alpha \sum_t k_t\Bigr], \\
    \nabla J &= E\Bigl[\sum_t \nabla \log p_\theta(x_s \mid x_t)
        \bigl(A - \alpha (K_t - \bar K_t)\bigr) - \alpha \nabla k_t\Bigr], \qquad
    K_t = \sum_{u < t} k_u .

``J`` is greatest for :math:`p^* \propto p_{ref}\, e^{r/\alpha}` on paths, whose last state has the
law :math:`p_{ref}(x_0)\, e^{r(x_0)/\alpha}` up to a factor. The advantage :math:`A` is the reward
less the mean of the *other* samples (``ddpo``, in its score-function form: every iteration draws
new chains, so there is no ratio to clip), or the reward standardised within groups of samples
(``grpo``; Shao et al., 2024, arXiv 2402.03300), which makes :math:`\alpha` relative to the spread
of the rewards. With ``picked`` steps of ``T`` the sums are estimated without bias.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.core.errors import ConfigError
from graphdiff.core.rng import Key
from graphdiff.finetune.config import TuneConfig
from graphdiff.finetune.rollout import Rollout, Tuned, divergence, kernels_at, log_prob, pick

__all__ = ["advantages", "policy_losses"]


def advantages(rewards: Tensor, config: TuneConfig) -> Tensor:
    """What is better than what, ``[b]``.

    Raises:
        ConfigError: Groups do not divide the batch, or there is nothing to compare with.
    """
    b = len(rewards)
    if config.method == "ddpo":
        if b < 2:
            raise ConfigError("ddpo compares samples: train.batch_size must be at least 2")
        return rewards - (rewards.sum() - rewards) / (b - 1)
    if b % config.group:
        raise ConfigError(
            f"tune.group is {config.group}, which does not divide the batch of {b} samples; "
            "choose a divisor"
        )
    grouped = rewards.view(-1, config.group)
    spread = grouped.std(1, keepdim=True).clamp(min=1e-6)
    return ((grouped - grouped.mean(1, keepdim=True)) / spread).flatten()


def policy_losses(tuned: Tuned, rollout: Rollout, key: Key) -> dict[str, Tensor]:
    """Losses ``[b]`` whose gradient is that of ``-J``, and the KL for the log.

    Args:
        tuned: What is tuned.
        rollout: Chains of the network as it is.
        key: Chooses the steps.
    """
    config, sampler = tuned.config, tuned.sampler
    total = rollout.steps
    chosen = pick(total, config.picked, key)
    m = len(chosen)
    ours, costs = [], []
    for i in chosen:
        state, after = rollout.states[i], rollout.states[i + 1]
        mine = kernels_at(sampler, tuned.denoiser, state, i, rollout.seed)
        with torch.no_grad():
            theirs = kernels_at(sampler, tuned.reference, state, i, rollout.seed)
        last = i == total - 1
        ours.append(log_prob(mine, after, last=last))
        costs.append(divergence(mine, theirs))
    logs, kls = torch.stack(ours), torch.stack(costs)
    gain = advantages(rollout.rewards, config).to(logs)
    # Later divergences of the same chain are a cost of this step; a pair of steps is picked with
    # another probability than a single one.
    with torch.no_grad():
        later = kls.flip(0).cumsum(0).flip(0) - kls
        later = later * ((total - 1) / (m - 1) if m > 1 else 1.0)
        b = later.shape[1]
        if b > 1:
            later = later - (later.sum(1, keepdim=True) - later) / (b - 1)
    scale = total / m
    policy = -scale * (logs * (gain - config.alpha * later)).sum(0)
    pull = scale * config.alpha * kls.sum(0)
    # The value of the first is meaningless, its gradient is not: it is shown as zero.
    return {"policy": policy - policy.detach(), "kl": pull}
