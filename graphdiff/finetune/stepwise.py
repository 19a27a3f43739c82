r"""Step-wise distillation of the target: SDPO and VIDD.

Both need no gradient of the reward and none through the chain, and both learn from the *base*
model's steps, so that nothing can be hacked further than the base model goes.

**sdpo** (Han et al., 2026, arXiv 2507.04832). A group of samples shares a noisy state :math:`x_t`,
drawn from the base model, and ends in :math:`x_0^1, \dots, x_0^n`, drawn from its chain. The
network is asked to rank them as the reward does,

.. math:: L = -\sum_i \frac{e^{r_i/\alpha}}{\sum_j e^{r_j/\alpha}}
    \log \frac{\rho_i}{\sum_j \rho_j}, \qquad
    \rho_i = \frac{p_\theta(x_0^i \mid x_t)}{p_{ref}(x_0^i \mid x_t)},

whose minimum is :math:`\rho \propto e^{r/\alpha}`. As groups grow the denominator tends to
:math:`n` and the loss to the divergence from the target's law of :math:`x_0` given :math:`x_t`;
tokens are predicted independently, and the minimum then has the right law of each token.

**vidd** (Su et al., 2025, arXiv 2507.00445). At states of the present model's chains the base model
draws a step, and the network learns the steps weighted by how much they raise the value,

.. math:: L = -E_{x_s \sim p_{ref}(\cdot \mid x_t)}\bigl[ e^{(v(x_s) - v(x_t))/\alpha}
    \log p_\theta(x_s \mid x_t) \bigr],

weights normalised within the batch. With the soft value
:math:`v(x) = \alpha \log E[e^{r/\alpha} \mid x]` the minimum is the target's step; here ``v`` is
estimated from the base model's prediction, with ``repeats`` draws of clean tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.core.checks import classes_of
from graphdiff.core.denoiser import Denoiser
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.kernel import Categorical, sample_all
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.core.value import PredictedReward, RewardFunction, rewards_of
from graphdiff.finetune.rollout import Rollout, Tuned, kernels_at, log_prob, pick, predict, roll

__all__ = ["leaders", "sdpo_losses", "vidd_losses"]


def leaders(template: State, group: int) -> State:
    """The template with the sizes, masks and conditions of the first sample of each group."""
    first = torch.arange(template.batch_size, device=template.device) // group * group
    return State(
        {name: v[first] for name, v in template.values.items()},
        {name: m[first] for name, m in template.masks.items()},
        template.ids,
    )


def sdpo_losses(
    tuned: Tuned, template: State, reward: RewardFunction, seed: int, key: Key
) -> tuple[dict[str, Tensor], Rollout]:
    """Listwise preference losses ``[b]``, and the base model's chains.

    Args:
        tuned: What is tuned.
        template: Shapes, masks and ids; groups share those of their first sample.
        reward: Of finished samples.
        seed: Of the chains.
        key: Chooses the step at which a group parts.
    """
    config, sampler = tuned.config, tuned.sampler
    total = len(sampler.compile().slots)
    at = pick(total, 1, key)[0]
    shared = leaders(template, config.group)
    rollout = roll(
        sampler, tuned.reference, shared, reward, seed, meet=(at, config.group) if at else None
    )
    state = leaders(rollout.states[at], config.group)
    mine = _log_clean(tuned, tuned.denoiser, state, rollout.final, at)
    with torch.no_grad():
        theirs = _log_clean(tuned, tuned.reference, state, rollout.final, at)
    ratio = (mine - theirs).double().view(-1, config.group)
    wanted = torch.where(rollout.scored, rollout.rewards / config.alpha, -torch.inf)
    wanted = torch.softmax(wanted.view(-1, config.group), 1).nan_to_num()
    loss = -wanted * torch.log_softmax(ratio, 1) * config.group
    return {"preference": loss.flatten().float()}, rollout


def _log_clean(tuned: Tuned, denoiser: Denoiser, state: State, clean: State, i: int) -> Tensor:
    """``log p(x_0 | x_t)`` ``[b]`` at the time of step ``i``, up to a constant."""
    process = tuned.sampler.process
    t = tuned.sampler.compile().slots[i][0].time
    x0 = predict(tuned.sampler, denoiser, state, i)
    total = torch.zeros(state.batch_size, device=state.device)
    for name, part in process.parts.items():
        mask = state.mask(name)
        if classes_of(part) is not None:
            total = total + Categorical(x0[name], part.space, mask).log_prob(clean[name])
            continue
        assert isinstance(part, Gaussian)
        time = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = float(part.schedule.alpha(time)), float(part.schedule.sigma(time))
        # Spread of the clean value given a noisy one, for data of the process's own deviation.
        std = part.data_std * sigma / (alpha**2 * part.data_std**2 + sigma**2) ** 0.5
        gap = ((clean[name] - x0[name]) / max(std, 1e-6)).square()
        total = total - 0.5 * part.space.sum(gap, mask)
    return total


def vidd_losses(
    tuned: Tuned, rollout: Rollout, reward: RewardFunction, key: Key
) -> dict[str, Tensor]:
    """Value-weighted losses ``[b]`` at ``picked`` steps.

    Args:
        tuned: What is tuned.
        rollout: Chains of the network as it is.
        reward: Of finished samples.
        key: Chooses steps and draws those of the base model.
    """
    config, sampler = tuned.config, tuned.sampler
    total = rollout.steps
    value = PredictedReward(sampler.process, reward, config.repeats, "soft", config.alpha)
    chosen = pick(total, config.picked, key)
    found = []
    for i in chosen:
        state, last = rollout.states[i], i == total - 1
        own = Key(key.seed, state.ids, step=key.step + i).at(stream="vidd")
        with torch.no_grad():
            kernels = kernels_at(sampler, tuned.reference, state, i, rollout.seed)
            after = state.replace(**sample_all(kernels, own))
            before = _value(tuned, value, state, i, own)
            gain = rewards_of(reward, after) if last else _value(tuned, value, after, i + 1, own)
            lift = torch.where(torch.isfinite(gain), gain - _finite(before), -torch.inf)
            weight = torch.softmax(lift / config.alpha, 0) * len(lift)
        mine = kernels_at(sampler, tuned.denoiser, state, i, rollout.seed)
        found.append(-weight.nan_to_num().to(torch.float32) * log_prob(mine, after, last=last))
    return {"distill": torch.stack(found).sum(0) * (total / len(chosen))}


def _value(tuned: Tuned, value: PredictedReward, state: State, i: int, key: Key) -> Tensor:
    """Value of a state before step ``i``, by the base model."""
    slot = tuned.sampler.compile().slots[i][0]
    return value(state, slot.time, predict(tuned.sampler, tuned.reference, state, i), key)


def _finite(v: Tensor) -> Tensor:
    """A state whose clean guesses are all impossible counts as the worst possible one."""
    good = torch.isfinite(v)
    worst = v[good].amin() if bool(good.any()) else v.new_zeros(())
    return torch.where(good, v, worst)
