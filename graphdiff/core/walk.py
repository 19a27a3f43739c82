"""The walk of weighted particles: what the samplers of :mod:`graphdiff.core.steer` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from graphdiff.core.checks import classes_of
from graphdiff.core.denoiser import DenoiserFunction
from graphdiff.core.errors import ArgumentError
from graphdiff.core.kernel import Delta
from graphdiff.core.particles import expand
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler, Step, Tilt
from graphdiff.core.state import State
from graphdiff.core.value import PredictedReward, RewardFunction, Value, rewards_of

__all__ = ["Past", "Report", "Walk", "log_ratio", "random_steps"]

Report = Callable[[Step], None]
BELOW = 1.0
"""A value of minus infinity half way counts as so many temperatures below the worst finite one of
its population: the likeliest clean sample of a noisy state may be impossible and the state good."""


class Walk:
    """A chain on all particles, the value after each step, and the copying of particles.

    The network's answer at a new state serves its value and, if the next step asks at the same
    time, that step: with a solver of one evaluation a step, guidance adds no call of the network.
    """

    def __init__(
        self,
        sampler: Sampler,
        reward: RewardFunction,
        value: Value | None,
        denoiser: DenoiserFunction,
        k: int,
        tilt: Tilt | None,
    ) -> None:
        self.sampler, self.reward, self.k, self.tilt = sampler, reward, k, tilt
        self.value = value or PredictedReward(sampler.process, reward)
        self.denoiser, self.calls = denoiser, 0
        self.last: Step
        self._ready: Mapping[str, Tensor] | None = None
        self._index: Tensor | None = None

    def __call__(self, state: State, t: Tensor, cond: Any) -> Mapping[str, Tensor]:
        """The denoiser, or what it answered already."""
        ready, self._ready = self._ready, None
        return self._ask(state, t, cond) if ready is None else ready

    def _ask(self, state: State, t: Tensor, cond: Any) -> Mapping[str, Tensor]:
        self.calls += 1
        return self.denoiser(state, t, cond)

    def take(self, index: Tensor) -> None:
        """Particle ``index[b, j]`` of sample ``b`` takes the place of its particle ``j``."""
        first = torch.arange(len(index), device=index.device).unsqueeze(1) * self.k
        rows = (first + index).flatten()
        self._index = rows
        if self._ready is not None:
            self._ready = {name: v[rows] for name, v in self._ready.items()}
        state = self.last.state.select(rows)
        kept = State(state.values, state.masks, self.last.state.ids)
        carry = {
            name: tuple(c[rows] if c.ndim else c for c in carry)
            for name, carry in self.last.carry.items()
        }
        self.last = replace(self.last, state=kept, carry=carry)

    def steps(
        self, template: State, seed: int, cond: Any, on_step: Report | None
    ) -> Iterator[tuple[Step, Tensor]]:
        """Each step and the value of its particles ``[b * k]``; call :meth:`take` in between."""
        rows, cond = expand(template, cond, self.k)
        plan = self.sampler.compile()
        told = {n: v for n, v in rows.values.items() if n not in self.sampler.process.parts}
        told = {**told, **cond} if isinstance(cond, Mapping) else told or cond
        chain = self.sampler.steps(self, rows, seed=seed, cond=cond, tilt=self.tilt)
        step = next(chain)
        while True:
            self.last, self._index = step, None
            if on_step is not None:
                on_step(replace(step, calls=self.calls * self.k))
            key = Key(seed, step.state.ids, step=1 + step.index).at(stream="value")
            if step.index == step.total - 1:
                yield step, rewards_of(self.reward, step.state)
                return
            t = torch.full((1,), step.s, device=rows.device).expand(rows.batch_size)
            answer = self._ask(step.state, t, told)
            if plan.slots[step.index + 1][0].time == step.s:
                self._ready = answer
            yield step, self.value(step.state, step.s, answer, key)
            step = chain.send(self.last if self._index is not None else None)


class Past:
    """Values along each particle's path, as far as potentials need them."""

    def __init__(self, zero: Tensor) -> None:
        self.most, self.total, self.given = zero - torch.inf, zero, zero

    def take(self, index: Tensor) -> None:
        """Particle ``index[b, j]`` takes the place of particle ``j``."""
        self.most, self.total = self.most.gather(1, index), self.total.gather(1, index)
        self.given = self.given.gather(1, index)

    def gain(self, potential: str, v: Tensor, last: bool) -> Tensor:
        """Log of the potential of a step, from values over alpha ``[b, k]``."""
        if not last:
            v = _floored(v)
        self.most, self.total = torch.maximum(self.most, v), self.total + v
        if last or potential == "difference":
            # What has been given so far is made up to the value, and in the end to the reward.
            gain = v - self.given
        else:
            gain = self.most if potential == "max" else self.total
        self.given = self.given + gain
        return gain


class _Random:
    """A tilt that leaves the last step of continuous components alone, which adds no noise."""

    def __init__(self, tilt: Tilt, sampler: Sampler) -> None:
        parts = sampler.process.parts
        self.tilt, self.last = tilt, sampler.compile().slots[-1][0].noise
        self.free = [name for name, part in parts.items() if classes_of(part) is None]

    def __call__(
        self, state: State, t: Tensor, x0: Mapping[str, Tensor], key: Key
    ) -> Mapping[str, Tensor]:
        answer = self.tilt(state, t, x0, key)
        if key.step < self.last:
            return answer
        return {name: v for name, v in answer.items() if name not in self.free}


def log_ratio(step: Step) -> Tensor:
    """``log p(x_s | x_t) - log q(x_s | x_t)``, untilted over tilted kernels, ``[rows]``."""
    zero = torch.zeros(step.state.batch_size, dtype=torch.float64, device=step.state.device)
    for name, base in step.base.items():
        tilted, x = step.kernels[name], step.state[name]
        if any(c.ndim for c in step.carry[name]):
            raise ArgumentError(
                f"the solver of component {name!r} remembers past predictions, so the law of a "
                "tilted step depends on earlier tilts and cannot be weighed; give it a solver of "
                "order 1"
            )
        if isinstance(base, Delta) or isinstance(tilted, Delta):
            if isinstance(base, Delta) and isinstance(tilted, Delta) and _equal(base, tilted):
                continue
            raise ArgumentError(
                f"step {step.index} moves component {name!r} without noise, so a tilted step "
                "cannot be weighed; give it a stochastic solver (the SDE forms of a plan, or an "
                "ancestral jump), or leave out the tilt"
            )
        zero = zero + base.log_prob(x).double() - tilted.log_prob(x).double()
    return zero


def _equal(one: Delta, other: Delta) -> bool:
    return bool(torch.equal(one.value, other.value))


def _floored(v: Tensor) -> Tensor:
    """Values over alpha ``[b, k]`` that are finite."""
    never = torch.isneginf(v)
    worst = torch.where(never, torch.inf, v).amin(1, keepdim=True)
    worst = torch.where(torch.isposinf(worst), 0.0, worst)
    return torch.where(never, worst - BELOW, v)


def random_steps(tilt: Tilt | None, sampler: Sampler) -> Tilt | None:
    """``tilt``, but where the sampler ends without noise."""
    return None if tilt is None else _Random(tilt, sampler)
