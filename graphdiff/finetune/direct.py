r"""Direct fine-tuning: the reward is differentiated through the last steps of the chain.

With the steps of :mod:`graphdiff.core.soft` a finished sample is a differentiable function of the
network, :math:`x_0 = F_T \circ \dots \circ F_1`, and the objective is

.. math:: J = E[r(x_0)] - \alpha\, E\Bigl[\sum_t
    \mathrm{KL}\bigl(p_\theta(\cdot \mid x_t)\,\|\,p_{ref}(\cdot \mid x_t)\bigr)\Bigr] .

The first :math:`T - K` steps are drawn as they are sampled, without a gradient, and only the last
``truncate`` :math:`= K` hold activations.

========= ==========================================================================================
draft     the last ``truncate`` steps (DRaFT-K; Clark et al., 2024, arXiv 2309.17400)
draft-lv  the last step, averaged over ``repeats`` draws of its noise (the same, section 4.3)
alignprop a number of steps drawn from 1 .. ``truncate`` for each batch (Prabhudesai et al., 2023,
          arXiv 2310.03739)
refl      the clean sample predicted after a step drawn from the last ``truncate`` ones (Xu et al.,
          2023, arXiv 2304.05977)
drakes    the last ``truncate`` steps and the divergence of *all* steps (Wang et al., 2025,
          arXiv 2410.13643)
========= ==========================================================================================

``kl = "path"`` is the divergence above, exact for every visited state. The first :math:`T - K`
states enter through ``picked`` of them, without bias, and are computed again in the backward pass
instead of being kept. ``kl = "drakes-release"`` is what the released code of DRAKES computes for
masked tokens, for comparison only: with :math:`p`, :math:`q` the predictions, :math:`m_t` the
probability of a mask and :math:`w` soft weights,

.. math:: \sum_{t > T - K} \frac1{m_t} \sum_{i, v} (1 - w^i_M)\, w^i_v
    \Bigl(q^i_v - p^i_v + p^i_v \log \frac{p^i_v}{q^i_v}\Bigr),

whose weight is that of *visible* tokens, so that states of hard tokens count nothing.
Discrete draws are relaxed; their gradient is that of a straight-through estimator and biased.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from graphdiff.core.categorical import Absorbing
from graphdiff.core.errors import ConfigError, RewardError
from graphdiff.core.kernel import Categorical
from graphdiff.core.program import Carry
from graphdiff.core.rng import Key
from graphdiff.core.soft import SoftStep, harden, soften, step_at
from graphdiff.core.softmax import log_probabilities
from graphdiff.core.state import State
from graphdiff.core.value import RewardFunction, repeat
from graphdiff.finetune.config import DIRECT
from graphdiff.finetune.rollout import Tuned, pick, scored_among, worst_for_none

__all__ = ["direct_losses", "require_differentiable", "rewards_with_gradient"]


def require_differentiable(tuned: Tuned, reward: RewardFunction) -> None:
    """Check that a direct method can be used at all.

    Raises:
        ConfigError: The reward is a black box, or the released divergence meets another process
            than absorbing noise.
    """
    config = tuned.config
    if not getattr(reward, "differentiable", False):
        name = getattr(reward, "name", type(reward).__name__)
        raise ConfigError(
            f"tune.method {config.method!r} differentiates the reward, but {name!r} is a black box "
            "(its attribute differentiable is not True); choose ddpo, grpo, wdce, sdpo, vidd or "
            "smc, or give a reward made of torch operations on class weights"
        )
    if config.kl == "drakes-release":
        for name, part in tuned.sampler.process.parts.items():
            if not isinstance(part, Absorbing):
                raise ConfigError(
                    f"tune.kl 'drakes-release' is defined for masked tokens only, but component "
                    f"{name!r} has {type(part).__name__} noise; use tune.kl 'path'"
                )


def direct_losses(
    tuned: Tuned, template: State, reward: RewardFunction, seed: int, key: Key
) -> tuple[dict[str, Tensor], Tensor, State]:
    """Losses ``[b]`` whose sum has the gradient of ``-J``; rewards ``[b]``, float64; the samples.

    Args:
        tuned: What is tuned.
        template: Shapes, masks and ids.
        reward: Differentiable reward of states of class weights.
        seed: Of the chains.
        key: Chooses steps.
    """
    assert tuned.config.method in DIRECT
    chain = _Chain(tuned, seed, key)
    total, k = chain.total, chain.kept
    start, carry, states = chain.head(template, total - k)
    state, pulls = soften(tuned.sampler.process, start), []
    for i in range(total - k, chain.last):
        step, state, pull = chain.step(state, i, carry, priced=chain.kl != "none")
        carry = step.carry
        if pull is not None:
            pulls.append(pull)
    ends = chain.ends(state, carry)
    found = torch.stack([rewards_with_gradient(reward, end) for end in ends]).mean(0)
    scored = scored_among(found.detach())
    gain = torch.where(scored, found, 0.0)
    losses = {"policy": -(gain - gain.detach()).float()}
    if chain.kl != "none":
        pull = torch.stack(pulls).sum(0) if pulls else torch.zeros_like(losses["policy"])
        if chain.kl == "path":
            pull = pull + chain.early(states)
        losses["kl"] = tuned.config.alpha * pull
    return losses, worst_for_none(found.detach()), harden(tuned.sampler.process, ends[0])


@dataclass(frozen=True)
class _Chain:
    """The steps of one batch."""

    tuned: Tuned
    seed: int
    key: Key

    @property
    def total(self) -> int:
        return len(self.tuned.sampler.compile().slots)

    @property
    def kl(self) -> str:
        config = self.tuned.config
        return config.kl or ("path" if config.method == "drakes" else "none")

    @property
    def kept(self) -> int:
        """Steps from which on gradients are kept."""
        config, total = self.tuned.config, self.total
        most = min(config.truncate or total, total)
        if config.method == "draft-lv":
            return 1
        if config.method not in ("alignprop", "refl"):
            return most
        # The same for all samples of a batch.
        one = Key(self.key.seed, self.key.ids[:1].clamp(max=0), step=self.key.step)
        u = float(one.at(stream="truncate").uniform(1, torch.float64))
        return 1 + min(int(u * most), most - 1)

    @property
    def last(self) -> int:
        """The steps before this one are drawn in turn; ``ends`` does the rest."""
        if self.tuned.config.method == "refl":
            return self.total - self.kept
        return self.total - (self.tuned.config.method == "draft-lv")

    def head(self, template: State, count: int) -> tuple[State, Mapping[str, Carry], list[State]]:
        """The first ``count`` steps as they are sampled: state, memory, and the states before."""
        tuned, sampler = self.tuned, self.tuned.sampler
        state = sampler.process.prior(template, Key(self.seed, template.ids))
        carry: Mapping[str, Carry] = {}
        states: list[State] = []
        if not count:
            return state, carry, states
        training = tuned.denoiser.training
        tuned.denoiser.eval()
        try:
            # Nothing here has a gradient, so low-rank changes are added once.
            with torch.no_grad(), parametrize.cached():
                for step in sampler.steps(tuned.denoiser, template, seed=self.seed):
                    states.append(state)
                    state, carry = step.state, step.carry
                    if step.index + 1 == count:
                        break
        finally:
            tuned.denoiser.train(training)
        return state, carry, states

    def step(
        self, state: State, i: int, carry: Mapping[str, Carry], *, priced: bool = False
    ) -> tuple[SoftStep, State, Tensor | None]:
        """One differentiable step, and its divergence if it is ``priced``."""
        tuned, config = self.tuned, self.tuned.config
        key = Key(self.seed, state.ids, step=1 + i)

        def go(values: dict[str, Tensor]) -> tuple[SoftStep, State, Tensor | None]:
            here = State(values, state.masks, state.ids)
            step = step_at(tuned.sampler, tuned.denoiser, here, i, carry, self.seed)
            hard = config.straight_through and self.kl != "drakes-release"
            after = step.draw(key, config.temperature, hard=hard)
            # In here, so that a checkpoint holds nothing of the reference either.
            return step, after, self.divergence(step, i, carry) if priced else None

        found: tuple[SoftStep, State, Tensor | None]
        found = _kept_or_not(go, dict(state.values), config.checkpoint)
        return found

    def ends(self, state: State, carry: Mapping[str, Carry]) -> list[State]:
        """Finished samples in weights; several only with ``draft-lv``."""
        config, process = self.tuned.config, self.tuned.sampler.process
        if config.method == "draft-lv":
            step, _, _ = self.step(state, self.last, carry)
            key = Key(self.seed, state.ids, step=1 + self.last)
            found = [
                step.draw(repeat(key, k), config.temperature, hard=True)
                for k in range(config.repeats)
            ]
        elif config.method == "refl":
            step, _, _ = self.step(state, self.last, carry)
            key = Key(self.seed, state.ids, step=1 + self.last)
            found = [step.guess(key, config.temperature, hard=True)]
        else:
            found = [state]
        return [_one_hot(process, end) for end in found]

    def divergence(self, step: SoftStep, i: int, carry: Mapping[str, Carry]) -> Tensor:
        """Of a differentiable step from that of the reference, ``[b]``."""
        tuned = self.tuned
        theirs = step_at(
            tuned.sampler, tuned.reference, step.state, i, carry, self.seed, draws=False
        )
        if self.kl == "path":
            return step.kl(theirs)
        return _released(tuned, step, theirs, i)

    def early(self, states: list[State]) -> Tensor | float:
        """Divergence of the steps without gradients, estimated from some of them, ``[b]``."""
        tuned, process = self.tuned, self.tuned.sampler.process
        chosen = pick(len(states), tuned.config.picked, self.key)
        total: Tensor | float = 0.0
        for i in chosen:
            here = soften(process, states[i])

            def go(values: dict[str, Tensor], i: int = i, here: State = here) -> Tensor:
                state = State(values, here.masks, here.ids)
                sampler, seed = tuned.sampler, self.seed
                mine = step_at(sampler, tuned.denoiser, state, i, seed=seed, draws=False)
                with torch.no_grad():
                    theirs = step_at(sampler, tuned.reference, state, i, seed=seed, draws=False)
                return mine.kl(theirs)

            total = total + _kept_or_not(go, dict(here.values), True)
        return total * (len(states) / len(chosen)) if chosen else total


def _kept_or_not(function: Any, values: dict[str, Tensor], again: bool) -> Any:
    """Call it; with ``again`` its activations are computed anew in the backward pass."""
    return checkpoint(function, values, use_reentrant=False) if again else function(values)


def _one_hot(process: Any, state: State) -> State:
    """One-hot weights with the gradient of the soft ones; nothing changes what is one-hot."""
    values = dict(state.values)
    for name, part in process.parts.items():
        if hasattr(part, "stationary"):
            soft = values[name]
            hard = torch.nn.functional.one_hot(soft.detach().argmax(-1), soft.shape[-1])
            values[name] = hard.to(soft) + (soft - soft.detach())
    return State(values, state.masks, state.ids)


def rewards_with_gradient(reward: RewardFunction, state: State) -> Tensor:
    """Rewards ``[b]`` float64, with their gradient.

    Raises:
        RewardError: Another shape, NaN, plus infinity, or no gradient.
    """
    found = reward(state)
    name = getattr(reward, "name", type(reward).__name__)
    if not isinstance(found, Tensor) or found.shape != (state.batch_size,):
        shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise RewardError(
            f"reward {name!r} returned {shape} for {state.batch_size} samples, expected a tensor "
            f"[{state.batch_size}]"
        )
    if bool((found.detach().isnan() | found.detach().isposinf()).any()):
        raise RewardError(
            f"reward {name!r} is NaN or infinite for some samples; return -inf for samples that "
            "must not be"
        )
    if torch.is_grad_enabled() and not found.requires_grad:
        raise RewardError(
            f"reward {name!r} does not depend on the class weights of the state, or on its "
            "continuous values, in a way that torch can differentiate; use a policy gradient "
            "(ddpo), or mend the reward"
        )
    return found.double()


def _released(tuned: Tuned, step: SoftStep, theirs: SoftStep, i: int) -> Tensor:
    """The divergence of DRAKES's released code at one step, ``[b]``."""
    total = torch.zeros(step.state.batch_size, device=step.state.device)
    for name, part in tuned.sampler.process.parts.items():
        assert isinstance(part, Absorbing)
        w, space = step.state[name], part.space
        mine, other, b = step.clean[name], theirs.clean[name], len(w)
        assert isinstance(mine, Categorical)
        assert isinstance(other, Categorical)
        log_p = log_probabilities(mine.logits[-b:, ..., :-1])  # where the token is masked
        log_q = log_probabilities(other.logits[-b:, ..., :-1])
        p, q = log_p.exp(), log_q.exp()
        term = q - p + p * (log_p - log_q)
        # A token that is visible for certain is copied by both networks.
        term = torch.where((w[..., -1:] == 0) & (w.amax(-1, keepdim=True) == 1), 0.0, term)
        each = ((1 - w[..., -1:]) * w[..., :-1] * term).sum(-1)
        t = tuned.sampler.compile().times[i]
        masked = 1 - float(part.schedule.alpha(torch.tensor(t, dtype=torch.float64)))
        total = total + space.sum(each, step.state.mask(name)) / masked
    return total
