r"""Weighted training on the model's own samples: WDCE and RWR.

Samples of the present model, weighted by :math:`w \propto dP^*/dP_\theta`, are samples of the
target, and the loss that trained the model, weighted by them, trains it on the target. With the
kernels of each visited step,

.. math:: \log w = \frac{r(x_0)}{\alpha} + \sum_t \log \frac{p_{ref}(x_s \mid x_t)}
          {p_\theta(x_s \mid x_t)},

and :math:`L = \sum_b w_b L_{train}(x_0^b)` at ``repeats`` noise levels for each sample: weighted
denoising cross-entropy for tokens (Zhu et al., 2025, arXiv 2508.10684), weighted score matching
for continuous components. Its minimum is the denoiser of the target :math:`p_{ref}\, e^{r/\alpha}`,
and near it all weights are equal. ``rwr`` leaves out the ratio (reward-weighted regression): it
weighs by :math:`e^{r/\alpha}` on the model's own samples, each iteration sharpens the law further,
and nothing holds it near the base model; stop early.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.core.rng import Key
from graphdiff.core.value import repeat
from graphdiff.finetune.rollout import Rollout, Tuned, kernels_at, log_prob
from graphdiff.task import Task

__all__ = ["log_weights", "weighted_losses"]


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
                theirs = kernels_at(tuned.sampler, tuned.reference, state, i)
                log_w = log_w + log_prob(theirs, after, last=last).double()
        log_w = log_w - rollout.log_paths
    return torch.where(rollout.scored, log_w, -torch.inf)


def weighted_losses(task: Task, tuned: Tuned, rollout: Rollout, key: Key) -> dict[str, Tensor]:
    """The task's own losses ``[b]`` on the finished samples, weighted.

    Args:
        task: Whose losses.
        tuned: What is tuned.
        rollout: Chains of the network as it is.
        key: Noise of the losses.
    """
    log_w = log_weights(tuned, rollout)
    w, repeats = torch.softmax(log_w, 0) * len(log_w), tuned.config.repeats
    found: dict[str, Tensor] = {}
    for k in range(repeats):
        for name, loss in task.losses(tuned.denoiser, rollout.final, repeat(key, k)).items():
            term = w.to(loss) * loss / repeats
            found[name] = found[name] + term if name in found else term
    return found
