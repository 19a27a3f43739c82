r"""Policy gradients by concrete scores: SEPO, with neighbours drawn and finished at every level.

**The theorem** (Zekri and Boullé, 2025, arXiv 2502.01384). A law :math:`\pi_\theta` that is known
only by its concrete scores :math:`s_\theta(x)_y = \pi_\theta(y) / \pi_\theta(x)` has a policy
gradient: since :math:`\sum_y \pi_\theta(y) \nabla \log \pi_\theta(y) = 0`,

.. math:: \nabla \log \pi_\theta(x) = -\sum_{y \ne x} \pi_\theta(y)\, \nabla \log s_\theta(x)_y .

**Where it is nothing new.** A step of a chain is a law whose normaliser is known,
:math:`s_\theta(x_s)_y = p_\theta(y \mid x_t) / p_\theta(x_s \mid x_t)`, and token by token the sum
is :math:`\nabla \log p_\theta(x_s \mid x_t)` again: applied to the steps of a chain the theorem is
the gradient of ``ddpo``, term by term. It says more where a network states a law without a
normaliser: the law :math:`p_t` of *one noisy state*, whose scores turn forward rates into reverse
ones. With the weights :math:`\pi_\theta(y)` normalised over the neighbours
:math:`N_i(x) = \{x^{i \leftarrow v}\}` that differ from ``x`` in one token, as a network answers,

.. math:: -\sum_{y \in N_i(x)} \frac{s_\theta(x)_y}{\sum_z s_\theta(x)_z}\, \nabla \log
    s_\theta(x)_y = \nabla \log \pi_\theta(x^i \mid x^{-i}), \qquad
    \pi_\theta(v \mid x^{-i}) = \frac{s_\theta(x)_{x^{i \leftarrow v}}}{\sum_z s_\theta(x)_z} .

``ddpo`` scores a token given the tokens that were revealed before it; this scores any token given
*all others*. For a mask the conditional is the prediction with that token masked, for other noise
:math:`s = \hat R(x \to y) / R(y \to x)` is read from the reverse rates at ``x``.

**What is done here.** In each iteration a group of ``group`` chains shares its state :math:`x` at
one level, drawn uniformly; one token ``i`` of it is drawn anew by each,
:math:`y \sim \pi_\theta(\cdot \mid x^{-i})`, which is a step of the corrector (the *gradient flow*)
whose stationary law is :math:`p_t`; and each chain goes on to its own end. Groups differ by one
token, so their rewards say what that token is worth, and with ``n`` tokens to choose from,

.. math:: n \sum_{y} \nabla \log \pi_\theta(y^i \mid x^{-i})\, (A_y - \bar A)
    - \alpha\, n\, \nabla \mathrm{KL}(\pi_\theta(\cdot \mid x^{-i})\,\|\,
    \pi_{ref}(\cdot \mid x^{-i})), \qquad A_y = r(x_0) - \alpha \sum_{u \ge t} k_u,

is, averaged over the group, an unbiased estimate of the gradient of
:math:`\sum_i E_y[V(y)] - \alpha\,\mathrm{KL}` for the state as it is, with ``V`` the regularised
value of the chain that follows and :math:`k_u` the exact divergence of its steps. It vanishes where
every conditional is the base model's times :math:`e^{V/\alpha}`: those are the conditionals, hence
the concrete scores, of :math:`p^* \propto p_{ref}\, e^{r/\alpha}`.

**Differences from the paper.** There the score is that of the last level only, and the network at
other levels learns what its weights share; a network of masked tokens would moreover be asked about
tokens that it sees, whose logits its training never looks at. Here every level learns. There all
neighbours carry the advantage of ``x``, with :math:`\pi_\theta(y)` from a second importance sample;
here the neighbours are drawn from the normalised weights and judged themselves. Every iteration
draws new chains, so that the importance ratio is one and there is nothing to clip, as in ``ddpo``.
One network call is differentiated in an iteration, whatever the number of steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from graphdiff.core.categorical import Absorbing
from graphdiff.core.ctmc import CTMC, class_probs, is_class
from graphdiff.core.denoiser import Denoiser
from graphdiff.core.errors import ConfigError
from graphdiff.core.kernel import Categorical
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler
from graphdiff.core.state import State
from graphdiff.core.value import RewardFunction
from graphdiff.finetune.rollout import (
    Rollout,
    Tuned,
    divergence,
    kernels_at,
    log_prob,
    pick,
    predict,
    roll,
)
from graphdiff.finetune.stepwise import leaders

__all__ = ["Redraw", "levels", "sepo_losses"]


def levels(sampler: Sampler) -> range:
    """States of a chain, by the number of steps before them, whose tokens can be drawn anew.

    Masked tokens can at every level down to the finished sample. Of other noise the scores are
    those of a noisy state, and the last one that the network is asked about is before the last
    step.

    Raises:
        ConfigError: A component has no concrete score, or there is no such state.
    """
    parts, total = sampler.process.parts, len(sampler.compile().slots)
    for name, part in parts.items():
        if not isinstance(part, CTMC):
            raise ConfigError(
                f"tune.method 'sepo' needs concrete scores of classes, but component {name!r} has "
                f"{type(part).__name__} noise; choose ddpo or grpo"
            )
    masked = all(isinstance(part, Absorbing) for part in parts.values())
    found = range(1, total + 1 if masked else total)
    if not found:
        raise ConfigError(
            "tune.method 'sepo' draws tokens of a noisy state anew, and a chain of one step has "
            "none; set tune.steps to at least 2"
        )
    return found


@dataclass(frozen=True)
class Redraw:
    """One token of each sample that is drawn anew, given all others.

    Attributes:
        sampler: The chain.
        level: Steps that were made before.
        state: The states ``[b]``.
        sites: Where the token sits, bool like each component; both entries of a node pair. None
            in a sample that has no token to choose from.
        choices: Number of tokens to choose from ``[b]``.
    """

    sampler: Sampler
    level: int
    state: State
    sites: Mapping[str, Tensor]
    choices: Tensor

    @classmethod
    def choose(cls, sampler: Sampler, state: State, level: int, group: int, key: Key) -> Redraw:
        """A token for each group, uniform over those of all components that are no masks."""
        flats = []
        for name, part in sampler.process.parts.items():
            assert isinstance(part, CTMC)
            x = state[name]
            usable = torch.ones_like(x, dtype=torch.bool)
            if isinstance(part, Absorbing):
                usable = x != part.classes - 1
            real = part.space.gather(part.space.apply_mask(usable, state.mask(name))).bool()
            u = key.at(stream=f"site {name}").uniform(real.shape[1], torch.float64)
            flats.append(torch.where(real, u, -1.0))
        place = torch.cat(flats, 1)
        first = torch.arange(len(place), device=place.device) // group * group
        place = place[first]
        best = place.argmax(1, keepdim=True)
        chosen = torch.zeros_like(place, dtype=torch.bool).scatter_(1, best, True) & (place >= 0)
        sites, at = {}, 0
        for (name, part), flat in zip(sampler.process.parts.items(), flats, strict=True):
            assert isinstance(part, CTMC)
            piece = chosen[:, at : at + flat.shape[1]]
            sites[name] = part.space.scatter(piece, state[name].shape)
            at += flat.shape[1]
        return cls(sampler, level, state, sites, (place >= 0).sum(1))

    def kernels(self, denoiser: Denoiser) -> dict[str, Categorical]:
        """The law of the token given all others, and certainty of these."""
        i = min(self.level, len(self.sampler.compile().slots) - 1)
        asked = self._asked()
        x0 = predict(self.sampler, denoiser, asked, i)
        clock = torch.tensor(self.sampler.compile().slots[i][0].time, dtype=torch.float64)
        found = {}
        for name, part in self.sampler.process.parts.items():
            assert isinstance(part, CTMC)
            alpha = float(part.schedule.alpha(clock))
            law = _log_conditional(part, asked[name], x0[name], alpha, asked.mask(name))
            x = self.state[name]
            known = torch.where(is_class(x, law.shape[-1]), 0.0, -torch.inf).to(law)
            logits = torch.where(self.sites[name].unsqueeze(-1), law, known)
            found[name] = Categorical(logits, part.space, self.state.mask(name))
        return found

    def draw(self, denoiser: Denoiser, key: Key) -> State:
        """The states with their tokens drawn anew."""
        return self.state.replace(
            **{
                name: kernel.sample(key.at(stream=f"redraw {name}"))
                for name, kernel in self.kernels(denoiser).items()
            }
        )

    def _asked(self) -> State:
        """What the network is shown: masks where the token sits, if there are masks."""
        values = {}
        for name, part in self.sampler.process.parts.items():
            if isinstance(part, Absorbing):
                values[name] = self.state[name].masked_fill(self.sites[name], part.classes - 1)
        return self.state.replace(**values)


def _log_conditional(
    part: CTMC, x: Tensor, x0: Tensor, alpha: float, mask: Tensor | None
) -> Tensor:
    """Log-probability ``[b, ..., K]`` up to a constant of each token given all others."""
    if isinstance(part, Absorbing):
        # A token that is revealed for certain: the prediction at masks.
        return part.bridge_at(x, x0, alpha, 1.0, mask).logits
    # The reverse rate over the forward rate back; the pace of the clock cancels.
    ratio = part.reverse_rate_at(x, x0, alpha, -alpha)
    pi = class_probs(part.stationary, x.device).to(ratio)
    ratio = (ratio / pi[x].unsqueeze(-1)).clamp(min=torch.finfo(ratio.dtype).tiny)
    return torch.where(is_class(x, len(pi)), 0.0, ratio.log())


def sepo_losses(
    tuned: Tuned, template: State, reward: RewardFunction, seed: int, key: Key
) -> tuple[dict[str, Tensor], Rollout]:
    """Losses ``[b]`` whose mean has the gradient above, with a minus; and the chains.

    Args:
        tuned: What is tuned.
        template: Shapes, masks and ids; groups share those of their first sample.
        reward: Of finished samples.
        seed: Of the chains.
        key: Chooses level and tokens, and draws these.

    Raises:
        ConfigError: A component has no concrete score.
    """
    config, sampler = tuned.config, tuned.sampler
    open_to = levels(sampler)
    level = open_to[pick(len(open_to), 1, key)[0]]
    made: list[Redraw] = []

    def move(state: State) -> State:
        made.append(Redraw.choose(sampler, state, level, config.group, key))
        return made[0].draw(tuned.denoiser, key)

    shared = leaders(template, config.group)
    rollout = roll(
        sampler, tuned.denoiser, shared, reward, seed, meet=(level, config.group), move=move
    )
    mine = made[0].kernels(tuned.denoiser)
    with torch.no_grad():
        theirs = made[0].kernels(tuned.reference)
        gain = rollout.rewards - config.alpha * _later(tuned, rollout, level, key).double()
        gain = gain.view(-1, config.group)
        others = (gain.sum(1, keepdim=True) - gain) / (config.group - 1)
        advantage = (gain - others).flatten().float()
    scale = made[0].choices.float()
    policy = -scale * advantage * log_prob(mine, rollout.states[level], last=False)
    pull = config.alpha * scale * divergence(mine, theirs)
    # The value of the first is meaningless, its gradient is not: it is shown as zero.
    return {"policy": policy - policy.detach(), "kl": pull}, rollout


def _later(tuned: Tuned, rollout: Rollout, level: int, key: Key) -> Tensor:
    """Divergence ``[b]`` of the steps after a level, from ``picked`` of them, without bias."""
    rest = rollout.steps - level
    total = torch.zeros(rollout.final.batch_size, device=rollout.final.device)
    chosen = pick(rest, tuned.config.picked, key.at(step=(key.step + (1 << 31)) % (1 << 32)))
    for i in chosen:
        state = rollout.states[level + i]
        mine = kernels_at(tuned.sampler, tuned.denoiser, state, level + i, rollout.seed)
        theirs = kernels_at(tuned.sampler, tuned.reference, state, level + i, rollout.seed)
        total = total + divergence(mine, theirs) * (rest / len(chosen))
    return total
