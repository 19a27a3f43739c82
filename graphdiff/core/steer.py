r"""Guidance by particles: samplers whose law is that of the model, weighted by a reward.

The target is :math:`p^*(x_0) \propto p(x_0)\, e^{r(x_0)/\alpha}` with ``p`` the law of the chain as
it is run (its steps included). Particles move by the chain's kernels :math:`p(x_s \mid x_t)`, or by
kernels :math:`q` of a tilted prediction (:mod:`graphdiff.core.tilt`), and are weighted by

.. math:: w \leftarrow w\, \frac{p(x_s \mid x_t)}{q(x_s \mid x_t)}\, G_s, \qquad
          \prod_s G_s = e^{r(x_0)/\alpha} .

Kernels are normalised, so the ratio contains the normaliser of the tilted one; leaving that out
(as published code does) changes the target. The potentials :math:`G` decide when the weights come,
not what they are in the end (Singhal et al., 2025, arXiv 2501.06848): with
:math:`\lambda = 1/\alpha` and values :math:`V` (:mod:`graphdiff.core.value`),

============== ============================================ ======================================
``difference`` :math:`e^{\lambda (V_s - V_t)}`              twisted SMC (Wu et al., 2306.17775)
``max``        :math:`e^{\lambda \max_{u \ge s} V_u}`       Feynman-Kac steering
``sum``        :math:`e^{\lambda \sum_{u \ge s} V_u}`       Feynman-Kac steering
============== ============================================ ======================================

and the last one is what makes the product right. Populations are resampled systematically when
their effective number of particles falls below ``threshold * particles``, each by itself.

:class:`SVDD` (Li et al., 2024, arXiv 2408.08252) keeps one chain for each sample and takes, in
every step, one of several candidates by value. :class:`BestOf` takes the best of independent
samples: what every method must beat at equal network calls. Each takes the place of a sampler.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from graphdiff.core.denoiser import DenoiserFunction
from graphdiff.core.errors import ArgumentError
from graphdiff.core.particles import (
    Particles,
    choose,
    effective_number,
    expand,
    mean_weight,
    systematic,
)
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler, Step, Tilt
from graphdiff.core.state import State
from graphdiff.core.value import RewardFunction, Value, rewards_of
from graphdiff.core.walk import Past, Report, Walk, log_ratio, random_steps

__all__ = ["SMC", "SVDD", "BestOf", "Tilted"]


@dataclass(frozen=True)
class SMC:
    """Sequential Monte Carlo towards ``p(x) exp(reward(x) / alpha)``.

    Attributes:
        sampler: The chain that is guided; its solvers must draw noise if there is a ``tilt``.
        reward: Of finished samples.
        particles: Particles of each sample; with 1 it is the sampler itself.
        alpha: Temperature: the smaller, the closer to the best.
        value: Judges noisy states; the reward of the likeliest clean sample by default.
        tilt: Another prediction to move by; weights make up for it.
        potential: When weights come, see the module docstring.
        threshold: Resample when fewer than this share of the particles are effective; 0 never
            does (importance sampling), 1 always.
        select: Which particle becomes the sample: one drawn by weight, or the ``"best"``.
    """

    sampler: Sampler
    reward: RewardFunction
    particles: int = 16
    alpha: float = 1.0
    value: Value | None = None
    tilt: Tilt | None = None
    potential: Literal["difference", "max", "sum"] = "difference"
    threshold: float = 0.5
    select: Literal["draw", "best"] = "draw"

    def __post_init__(self) -> None:
        _need("particles", self.particles >= 1, self.particles, "at least 1")
        _need("alpha", self.alpha > 0, self.alpha, "positive")
        _need("threshold", 0 <= self.threshold <= 1, self.threshold, "between 0 and 1")
        known = ("difference", "max", "sum")
        _need("potential", self.potential in known, self.potential, f"one of {', '.join(known)}")
        _need("select", self.select in ("draw", "best"), self.select, "'draw' or 'best'")

    @property
    def network_calls(self) -> int:
        """Network evaluations of one sample: those of all its particles."""
        return self.particles * self.sampler.network_calls

    def __call__(
        self,
        denoiser: DenoiserFunction,
        template: State,
        *,
        seed: int,
        cond: Any = None,
        on_step: Report | None = None,
    ) -> State:
        """One guided sample for each of the template."""
        found = self.run(denoiser, template, seed=seed, cond=cond, on_step=on_step)
        return found.best() if self.select == "best" else found.draw(seed)

    def run(
        self,
        denoiser: DenoiserFunction,
        template: State,
        *,
        seed: int,
        cond: Any = None,
        on_step: Report | None = None,
    ) -> Particles:
        """All particles with their weights, and the estimate of the normaliser.

        Raises:
            ArgumentError: The reward answers with a wrong shape or NaN, or a tilted step of the
                sampler is not random.
        """
        b, k, ids = template.batch_size, self.particles, template.ids
        tilt = random_steps(self.tilt, self.sampler)
        walk = Walk(self.sampler, self.reward, self.value, denoiser, k, tilt)
        log_w = torch.zeros(b, k, dtype=torch.float64, device=template.device)
        log_z, past = log_w[:, 0].clone(), Past(torch.zeros_like(log_w))
        effective, resampled, v = [], 0, log_w
        for step, each in walk.steps(template, seed, cond, on_step):
            v = each.view(b, k)
            gain = past.gain(self.potential, v / self.alpha, step.index == step.total - 1)
            log_w = log_w + gain + log_ratio(step).view(b, k)
            effective.append(effective_number(log_w))
            if step.index == step.total - 1:
                break
            few = effective[-1] < self.threshold * k
            if k > 1 and bool(few.any()):
                uniform = _uniform(seed, ids, step.index)
                old = torch.arange(k, device=ids.device).expand(b, k)
                index = torch.where(few.unsqueeze(1), systematic(log_w, uniform), old)
                walk.take(index)
                past.take(index)
                log_z = log_z + torch.where(few, mean_weight(log_w), 0.0)
                log_w = torch.where(few.unsqueeze(1), 0.0, log_w)
                resampled += int(few.sum())
        log_z = log_z + mean_weight(log_w)
        return Particles(
            walk.last.state, ids, log_w, log_z, v, torch.stack(effective), resampled, walk.calls
        )


@dataclass(frozen=True)
class SVDD:
    """One chain for each sample that takes the best of several candidates in every step.

    Not a sampler of ``p(x) exp(reward(x) / alpha)``: candidates of one state are weighed against
    each other and never against those of other states.

    Attributes:
        sampler: The chain that is guided.
        reward: Of finished samples.
        candidates: Candidates of each step.
        alpha: Temperature of the choice; 0 takes the best one, as published results do.
        value: Judges noisy states; the reward of the likeliest clean sample by default.
    """

    sampler: Sampler
    reward: RewardFunction
    candidates: int = 10
    alpha: float = 0.0
    value: Value | None = None

    def __post_init__(self) -> None:
        _need("candidates", self.candidates >= 1, self.candidates, "at least 1")
        _need("alpha", self.alpha >= 0, self.alpha, "at least 0")

    @property
    def network_calls(self) -> int:
        """Network evaluations of one sample: those of all its candidates."""
        return self.candidates * self.sampler.network_calls

    def __call__(
        self,
        denoiser: DenoiserFunction,
        template: State,
        *,
        seed: int,
        cond: Any = None,
        on_step: Report | None = None,
    ) -> State:
        """One guided sample for each of the template."""
        b, k, ids = template.batch_size, self.candidates, template.ids
        walk = Walk(self.sampler, self.reward, self.value, denoiser, k, None)
        for step, each in walk.steps(template, seed, cond, on_step):
            v = each.view(b, k)
            best = v.argmax(1)
            if self.alpha > 0:
                best = choose(v / self.alpha, _uniform(seed, ids, step.index))
            walk.take(best.unsqueeze(1).expand(b, k))
        chosen = walk.last.state.select(torch.arange(b, device=ids.device) * k)
        return State(chosen.values, chosen.masks, ids)


@dataclass(frozen=True)
class Tilted:
    """A sampler that moves by a tilted prediction, without weights.

    Attributes:
        sampler: The chain.
        tilt: Another prediction to move by.
    """

    sampler: Sampler
    tilt: Tilt

    @property
    def network_calls(self) -> int:
        """Those of the sampler."""
        return self.sampler.network_calls

    def __call__(
        self,
        denoiser: DenoiserFunction,
        template: State,
        *,
        seed: int,
        cond: Any = None,
        on_step: Report | None = None,
    ) -> State:
        """One guided sample for each of the template."""
        return self.sampler(
            denoiser, template, seed=seed, cond=cond, on_step=on_step, tilt=self.tilt
        )


@dataclass(frozen=True)
class BestOf:
    """The best of ``n`` independent samples.

    Attributes:
        sampler: The chain; any kind of chain, also one that is not a :class:`Sampler`.
        reward: Of finished samples.
        n: Samples of which one is kept.
    """

    sampler: Any
    reward: RewardFunction
    n: int = 16

    def __post_init__(self) -> None:
        _need("n", self.n >= 1, self.n, "at least 1")

    @property
    def network_calls(self) -> int:
        """Network evaluations of one sample: those of all ``n``."""
        return self.n * int(self.sampler.network_calls)

    def __call__(
        self,
        denoiser: DenoiserFunction,
        template: State,
        *,
        seed: int,
        cond: Any = None,
        on_step: Report | None = None,
    ) -> State:
        """The best sample for each of the template."""
        rows, cond = expand(template, cond, self.n)

        def report(step: Step) -> None:
            if on_step is not None:
                on_step(replace(step, calls=step.calls * self.n))

        told = {} if cond is None else {"cond": cond}
        state = self.sampler(denoiser, rows, seed=seed, on_step=report, **told)
        rewards = rewards_of(self.reward, state).view(-1, self.n)
        rows_of = torch.arange(template.batch_size, device=template.device) * self.n
        best = state.select(rows_of + rewards.argmax(1))
        return State(best.values, best.masks, template.ids)


def _uniform(seed: int, ids: Tensor, index: int) -> Tensor:
    """One number of (0, 1) for each sample and step ``[b]``."""
    key = Key(seed, ids, step=1 + index).at(stream="resample")
    return key.uniform(1, torch.float64).squeeze(1)


def _need(name: str, holds: bool, found: object, expected: str) -> None:
    if not holds:
        raise ArgumentError(f"{name} is {found!r}, expected {expected}")
