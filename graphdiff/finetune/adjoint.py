r"""Adjoint matching: the control of a continuous chain, learnt by regression.

A chain with noise can be steered exactly. Add a control to the reverse equation of the base model,
:math:`dx = [b + g u]\,d\tau + g\,dw`, and ask for the reward at the least cost
(Domingo-Enrich et al., 2025, arXiv 2409.08861),

.. math:: \min_u\; E\Bigl[\tfrac12 \int \lVert u \rVert^2\,d\tau - r(x_0)/\alpha\Bigr] .

The best control is :math:`u^* = g\,\nabla V_t` with the soft value
:math:`V_t(x) = \log E_{ref}[e^{r(x_0)/\alpha} \mid x_t = x]`, and the samples have the law
:math:`p_{ref}(x_0 \mid x_1)\, e^{r(x_0)/\alpha - V_1(x_1)}` given their start. The value of the
start is a bias: only if the start says nothing about the sample (the chain is *memoryless*) is it
constant, and the law :math:`p^* \propto p_{ref}\,e^{r/\alpha}`. A chain forgets its start if its
noise is that of the reverse equation, :math:`g^2 = (\sigma^2)' - 2\sigma^2\alpha'/\alpha`
(:func:`graphdiff.core.plan.Ancestral`; :math:`2t/(1 - t)` for flow matching), and if
:math:`\alpha_1 s \ll \sigma_1`, with :math:`s` the deviation of the data. Of a start that is
remembered, steps can only move the rest: they reach :math:`1 - \rho^2` of the shift that a linear
reward asks for, :math:`\rho^2 = \alpha_1^2 s^2 / (\alpha_1^2 s^2 + \sigma_1^2)`. :func:`memoryless`
refuses chains of :math:`\rho^2` over one percent; variance exploding noise up to 20 deviations of
the data has .0025.

Along a path of the present model the *lean adjoint*, with the drift of the base model alone,

.. math:: a_0 = -\nabla r(x_0)/\alpha, \qquad
    a_t = \Bigl(\frac{\partial m_{ref}(x_t)}{\partial x_t}\Bigr)^{\!\top} a_s,

is found backwards, one vector-Jacobian product a step; :math:`m_{ref}` is the mean of the base
model's step to ``s``. At the optimum :math:`E[a_t \mid x_t] = -\nabla V_t`, so the control is
regressed onto :math:`-g\,a_t`. In clean data :math:`g u = (\alpha g^2/\sigma^2)(D - D_{ref})`, and
:math:`g^2\alpha^2/\sigma^4` is the rate of the signal-to-noise ratio :math:`\kappa`, so that
the loss is

.. math:: L = \frac{\alpha}{2} \sum_t (\kappa_s - \kappa_t)
    \bigl\lVert D_\theta(x_t) - D_{ref}(x_t) + (\sigma_t^2/\alpha_t)\, a_t \bigr\rVert^2 ,

in units of the reward (:math:`\alpha` in front is the temperature). It is a regression: nothing is
differentiated through the chain. What is learnt is the denoiser of :math:`p^*`, so any solver may
sample it afterwards. ``picked`` steps of each sample, its own, estimate the sum without bias;
their activations are computed again in the backward pass, so one network is held at a time.

At the ends: a step from :math:`\alpha_t = 0` forgets :math:`x_t`, and its target is that of its
end; a step to :math:`\sigma_s = 0` weighs :math:`\kappa_t`, as much as all before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from graphdiff.core.denoiser import Denoiser
from graphdiff.core.errors import ConfigError, RewardError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.plan import Ancestral
from graphdiff.core.process import Product
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler
from graphdiff.core.schedule import Schedule
from graphdiff.core.state import State
from graphdiff.core.value import RewardFunction
from graphdiff.finetune.direct import rewards_with_gradient
from graphdiff.finetune.rollout import Tuned, predict, scored_among, worst_for_none

__all__ = ["Adjoint", "adjoint_losses", "lean_adjoint", "memoryless", "remembered"]

REMEMBERED = 0.01
"""Share of the data's variance that the start may determine: the share of the shift that is lost,
which is then less than tunings differ by."""


def remembered(part: Gaussian, t: float) -> float:
    r"""Share :math:`\rho^2` of the variance of clean data that the noisy value at ``t`` determines.

    For data of the standard deviation ``part.data_std``.
    """
    alpha, sigma = float(part.schedule.alpha(t)), float(part.schedule.sigma(t))
    signal = (alpha * part.data_std) ** 2
    return signal / (signal + sigma**2)


def memoryless(sampler: Any) -> Sampler:
    """The chain of ``sampler`` with the noise of the reverse equation, on the same times.

    Raises:
        ConfigError: It is no sampler of the core, a component is not Gaussian, or its start is
            remembered.
    """
    if not isinstance(sampler, Sampler):
        raise ConfigError(
            f"this model draws its samples by {type(sampler).__name__}, which is no chain of "
            "Gaussian steps; tune.method 'adjoint' cannot tune it"
        )
    for name, part in sampler.process.parts.items():
        if not isinstance(part, Gaussian):
            raise ConfigError(
                f"tune.method 'adjoint' steers Gaussian noise, but component {name!r} has "
                f"{type(part).__name__} noise; use drakes, the same aim for classes with a "
                "differentiable reward, or ddpo, wdce or smc"
            )
    chain = Sampler(sampler.process, Ancestral(), sampler.times)
    start = chain.compile().times[0]
    for name, part in sampler.process.parts.items():
        assert isinstance(part, Gaussian)
        share = remembered(part, start)
        if share > REMEMBERED:
            raise ConfigError(
                f"the start of component {name!r} determines {share:.0%} of the variance of its "
                f"samples ({part.schedule} at time {start:g}, data_std {part.data_std:g}), and no "
                "step can change that: tune.method 'adjoint' would miss the optimum by as much. "
                "Use wdce, which weighs whole chains, or a model trained with more noise (at most "
                f"{REMEMBERED:.0%})"
            )
    return chain


@dataclass(frozen=True)
class Adjoint:
    """The lean adjoint at both ends of one step.

    Attributes:
        step: Number of the step.
        clean: The base model's clean data at the state before it, by component ``[b, ...]``.
        before: The adjoint at that state, ``[b, ...]``: what a unit of the state adds to
            ``-reward / alpha``. In a component of node pairs both entries of a pair hold it.
        after: The adjoint at the state after it.
    """

    step: int
    clean: dict[str, Tensor]
    before: dict[str, Tensor]
    after: dict[str, Tensor]


def adjoint_losses(
    tuned: Tuned, template: State, reward: RewardFunction, seed: int, key: Key
) -> tuple[dict[str, Tensor], Tensor, State]:
    """Losses ``[b]`` of the regression; rewards ``[b]``, float64; the samples.

    Args:
        tuned: What is tuned; its sampler is :func:`memoryless`.
        template: Shapes, masks and ids.
        reward: Differentiable reward of finished samples.
        seed: Of the chains.
        key: Chooses steps.

    Raises:
        RewardError: No sample has a reward, or the reward has no finite gradient.
    """
    process, alpha = tuned.sampler.process, tuned.config.alpha
    states = _rollout(tuned, template, seed)
    slope, found = _slope(process, reward, states[-1])
    scored = scored_among(found)
    table = _Table.of(tuned.sampler)
    end = {name: v / -alpha for name, v in slope.items()}
    steps = lean_adjoint(tuned.sampler, tuned.reference, states, end)
    targets = [table.target(step) for step in steps][::-1]
    loss = _regression(tuned, states, targets, table, key)
    return {"adjoint": torch.where(scored, loss, 0.0)}, worst_for_none(found), states[-1]


def lean_adjoint(
    sampler: Sampler, reference: Denoiser, states: Sequence[State], end: Mapping[str, Tensor]
) -> Iterator[Adjoint]:
    """The lean adjoint along paths, from the last step to the first.

    One call of the network and one vector-Jacobian product a step; activations of one step are
    held at a time.

    Args:
        sampler: The chain, of one network call a step and without memory of past predictions.
        reference: The base model.
        states: States before each step, and the finished ones: ``T + 1`` batches.
        end: The adjoint at the finished samples, ``-gradient / alpha``, by component ``[b, ...]``.
    """
    programs, after = sampler.compile().programs, dict(end)
    for i in reversed(range(len(states) - 1)):
        with torch.enable_grad():
            here, leaves = _free(sampler.process, states[i])
            clean = predict(sampler, reference, here, i)
            total = torch.zeros((), device=here.device)
            for name, part in sampler.process.parts.items():
                told = (here.mask(name), (), Key(0, here.ids))
                kernel, _ = programs[name].update(i, 0, here[name], clean[name], *told)
                moved = part.space.sum(kernel.mode * after[name], here.mask(name))
                total = total + moved.sum()
            slope = _gradient(sampler.process, here, total, leaves)
        yield Adjoint(i, {name: v.detach() for name, v in clean.items()}, slope, after)
        after = slope


def _free(process: Product, state: State) -> tuple[State, dict[str, Tensor]]:
    """The state as a function of its free coordinates: a pair of nodes has one gradient."""
    leaves = {
        name: part.space.gather(state[name]).detach().requires_grad_()
        for name, part in process.parts.items()
    }
    values = {
        name: part.space.scatter(leaves[name], state[name].shape)
        for name, part in process.parts.items()
    }
    return state.replace(**values), leaves


def _gradient(
    process: Product, state: State, total: Tensor, leaves: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Of a number by the free coordinates, put where they belong."""
    names = list(leaves)
    found = torch.autograd.grad(
        total, [leaves[name] for name in names], allow_unused=True, materialize_grads=True
    )
    slope = {}
    for name, value in zip(names, found, strict=True):
        space = process.parts[name].space
        slope[name] = space.project(space.scatter(value, state[name].shape), state.mask(name))
    return slope


def _slope(
    process: Product, reward: RewardFunction, state: State
) -> tuple[dict[str, Tensor], Tensor]:
    """Gradient of the reward at finished samples, and the rewards ``[b]``.

    Raises:
        RewardError: The reward cannot be used, or its gradient is not finite.
    """
    with torch.enable_grad():
        here, leaves = _free(process, state)
        found = rewards_with_gradient(reward, here)
        total = torch.where(torch.isfinite(found.detach()), found, 0.0).sum()
        slope = _gradient(process, here, total, leaves)
    for name, value in slope.items():
        if not bool(torch.isfinite(value).all()):
            raise RewardError(
                f"the gradient of reward {getattr(reward, 'name', type(reward).__name__)!r} by "
                f"{name!r} is not finite; mend the reward (a square root or logarithm at zero?)"
            )
    return slope, found.detach()


def _rollout(tuned: Tuned, template: State, seed: int) -> list[State]:
    """States of the present model's chains, before each step and in the end."""
    sampler, training = tuned.sampler, tuned.denoiser.training
    states = [sampler.process.prior(template, Key(seed, template.ids))]
    tuned.denoiser.eval()
    try:
        states += [step.state for step in sampler.steps(tuned.denoiser, template, seed=seed)]
    finally:
        tuned.denoiser.train(training)
    return states


@dataclass(frozen=True)
class _Table:
    """Numbers of each step: its time, and of each component.

    Attributes:
        times: Time of each step.
        gains: ``sigma^2 / alpha`` at each time of the grid.
        weights: ``kappa_s - kappa_t`` of each step.
    """

    times: tuple[float, ...]
    gains: Mapping[str, tuple[float, ...]]
    weights: Mapping[str, tuple[float, ...]]

    @staticmethod
    def of(sampler: Sampler) -> _Table:
        times = sampler.compile().times
        rows = {
            name: _numbers(part.schedule, times) for name, part in sampler.process.parts.items()
        }
        gains, weights = ({name: row[k] for name, row in rows.items()} for k in (0, 1))
        return _Table(tuple(times[:-1]), gains, weights)

    def target(self, step: Adjoint) -> dict[str, Tensor]:
        """Clean data that the network should answer with before a step."""
        i, found = step.step, {}
        for name, gains in self.gains.items():
            if gains[i] == float("inf"):
                shift = gains[i + 1] * step.after[name]
            else:
                shift = gains[i] * step.before[name]
            found[name] = step.clean[name] - shift
        return found


def _numbers(
    schedule: Schedule, times: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Gains and weights, see :class:`_Table`."""
    grid = torch.tensor(times, dtype=torch.float64)
    alpha, sigma = schedule.alpha(grid), schedule.sigma(grid)
    snr = (alpha / sigma).square()
    weights = snr[1:] - snr[:-1]
    if float(sigma[-1]) == 0:
        weights[-1] = snr[-2]
    return tuple((sigma.square() / alpha).tolist()), tuple(weights.tolist())


def _regression(
    tuned: Tuned,
    states: Sequence[State],
    targets: Sequence[Mapping[str, Tensor]],
    table: _Table,
    key: Key,
) -> Tensor:
    """The loss ``[b]``, of ``picked`` steps for each sample."""
    parts, first = tuned.sampler.process.parts, states[0]
    total, device = len(targets), first.device
    count = min(tuned.config.picked or total, total)
    order = key.at(stream="picked").uniform(total, torch.float64).argsort(1)[:, :count]
    rows = torch.arange(first.batch_size, device=device)
    seen = {name: torch.stack([state[name] for state in states[:-1]]) for name in parts}
    wanted = {name: torch.stack([target[name] for target in targets]) for name in parts}
    times = torch.tensor(table.times, dtype=torch.float64, device=device)
    cond = {n: v for n, v in first.values.items() if n not in parts} or None
    loss: Tensor | float = 0.0
    for chosen in order.to(device).unbind(1):

        def errors(values: dict[str, Tensor], chosen: Tensor = chosen) -> Tensor:
            state = State({**first.values, **values}, first.masks, first.ids)
            clean, error = (
                tuned.denoiser(state, times[chosen], cond),
                torch.zeros((), device=device),
            )
            for name, part in parts.items():
                weight = torch.tensor(table.weights[name], device=device)[chosen]
                gap = clean[name] - wanted[name][chosen, rows]
                error = error + weight * part.space.sum(gap.square(), first.mask(name))
            return error

        values = {name: stacked[chosen, rows] for name, stacked in seen.items()}
        loss = loss + checkpoint(errors, values, use_reentrant=False)
    assert isinstance(loss, Tensor)
    return loss * (0.5 * tuned.config.alpha * total / count)
