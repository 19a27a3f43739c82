r"""Steps that can be differentiated: classes as one-hot weights, drawn by the Gumbel-max trick.

A discrete component is held as class weights :math:`w \in \Delta^{K-1}` at every place. Where
:math:`w` is a vertex it is a class, and a step is the sampler's own. Between vertices the step is
extended linearly in each place,

.. math:: F(w) = \sum_k w_k\, f_k, \qquad
    f_k = \text{draw of } q(x_s \mid x_t = k, \hat x_0),

with the same noise for all :math:`k`: the derivative with respect to :math:`w_k` is what the next
value *would have been*, had this place held class :math:`k`. For masked tokens this is
:math:`(1 - w_M)\,w + w_M\, y` with a draw :math:`y` of the prediction, as DRAKES steps (Wang et
al., 2025, arXiv 2410.13643, section 4.2). The prediction itself sees the weights: networks take
them in place of classes. Continuous components are drawn by their reparametrised kernel.

A draw is a choice to leave class :math:`k`, and then a class to move to; its derivative is that of
the *probabilities* of both (temperature 0), or that of a relaxed draw (Gumbel softmax). The first
is exact for one step and a reward that is linear in each place, whatever the other places hold: it
is the sum over what could have been drawn. A Gumbel softmax weighs it by
:math:`E[y(1-y)/\tau]` in place of :math:`p(1-p)`: 69 % of the gradient at :math:`\tau = 1` for
three classes. And where moving and staying share one softmax, each of :math:`T` steps contributes
as if the token moved in it, so that the gradient of a chain grows with :math:`T`.

The divergence of two kernels is extended in the same way,
:math:`\sum_k w_k\,\mathrm{KL}(q_k\,\|\,q'_k)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphdiff.core.checks import classes_of
from graphdiff.core.denoiser import Denoiser, Parametrization, Subs
from graphdiff.core.kernel import Categorical, Delta, Kernel
from graphdiff.core.process import Process, Product
from graphdiff.core.program import Carry
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler
from graphdiff.core.space import Space
from graphdiff.core.state import State

__all__ = ["SoftStep", "harden", "soften", "step_at"]


def soften(process: Product, state: State, dtype: torch.dtype = torch.float32) -> State:
    """Discrete components int64 ``[b, ...]`` as one-hot weights ``[b, ..., K]``."""
    values = dict(state.values)
    for name, part in process.parts.items():
        classes = classes_of(part)
        if classes is not None:
            values[name] = torch.nn.functional.one_hot(values[name], classes).to(dtype)
    return State(values, state.masks, state.ids)


def harden(process: Product, state: State) -> State:
    """The likeliest class of each place."""
    values = dict(state.values)
    for name, part in process.parts.items():
        if classes_of(part) is not None and values[name].is_floating_point():
            values[name] = values[name].detach().argmax(-1)
    return State(values, state.masks, state.ids)


@dataclass(frozen=True)
class SoftStep:
    """What a step is drawn from, at a state of class weights.

    The kernels of a discrete component given each class, and the predictions that they come from,
    are one kernel whose batch is ``[k b]``, class by class: a few large operations in place of many
    small ones.

    Attributes:
        state: The state, discrete components as weights.
        parts: For each discrete component the kernels given the classes from ``first`` on, for each
            continuous one its only kernel.
        carry: What the programs remember after the step.
        clean: For each component the kernels of the predicted clean data, as ``parts``; the
            prediction itself for continuous ones.
        sure: For each discrete component the number of leading classes given which the kernel is
            the same for all networks: visible tokens under :class:`graphdiff.core.denoiser.Subs`.
        first: For each discrete component the first class whose kernel is here.
    """

    state: State
    parts: Mapping[str, Kernel]
    carry: Mapping[str, Carry]
    clean: Mapping[str, Categorical | Tensor]
    sure: Mapping[str, int]
    first: Mapping[str, int]

    def draw(self, key: Key, temperature: float, *, hard: bool) -> State:
        """The next state, differentiable in the network and in the weights of this one.

        Args:
            key: Noise of the step.
            temperature: Of relaxed draws; 0 for one-hot draws with the gradient of their
                probabilities.
            hard: One-hot values with the gradient of relaxed ones (straight-through).
        """
        values = dict(self.state.values)
        for name, kernel in self.parts.items():
            own = key.at(stream=name)
            if isinstance(kernel, Categorical):
                values[name] = self._mixed_draw(name, kernel, own, temperature, hard)
            else:
                values[name] = kernel.sample(own)
        return State(values, self.state.masks, self.state.ids)

    def guess(self, key: Key, temperature: float, *, hard: bool) -> State:
        """A clean sample drawn from the prediction, differentiable as :meth:`draw`."""
        values = dict(self.state.values)
        for name, clean in self.clean.items():
            if isinstance(clean, Tensor):
                values[name] = clean
            else:
                own = key.at(stream=f"guess {name}")
                values[name] = self._mixed_draw(name, clean, own, temperature, hard)
        return State(values, self.state.masks, self.state.ids)

    def kl(self, other: SoftStep) -> Tensor:
        """Divergence ``[b]`` from the same step of another network, nats.

        Steps without noise count nothing: they say nothing about a choice.
        """
        b = self.state.batch_size
        total = self.state.ids.new_zeros(b, dtype=torch.float32)
        for name, kernel in self.parts.items():
            theirs = other.parts[name]
            if isinstance(kernel, Delta):
                continue
            if not isinstance(kernel, Categorical):
                total = total + kernel.kl(theirs)
                continue
            assert isinstance(theirs, Categorical)
            # Given the classes before this one both kernels are the same.
            start = max(min(self.sure[name], other.sure[name]), self.first[name], other.first[name])
            mine = kernel.rows(slice((start - self.first[name]) * b, None))
            each = mine.kl_each(theirs.rows(slice((start - other.first[name]) * b, None)))
            weights = _free_weights(self.state[name], kernel.space)[..., start:].movedim(-1, 0)
            flat = (weights * each.unflatten(0, (-1, b))).sum(0)
            shape = (b, *kernel.shape[1:])
            mask = None if kernel.mask is None else kernel.mask[:b]
            total = total + kernel.space.sum(kernel.space.scatter(flat, shape), mask)
        return total

    def _mixed_draw(
        self, name: str, kernel: Categorical, key: Key, temperature: float, hard: bool
    ) -> Tensor:
        """Relaxed draws of the kernels of all classes with one noise, weighted; ``[b, ..., K]``."""
        assert self.first[name] == 0, "made for divergences only"
        one = kernel.rows(slice(0, self.state.batch_size))
        drawn = kernel.moves(one.gumbel_noise(key), temperature, hard)
        weights = _free_weights(self.state[name], kernel.space).movedim(-1, 0)
        return one.place_weights((weights.unsqueeze(-1) * drawn).sum(0))


def step_at(
    sampler: Sampler,
    denoiser: Denoiser,
    state: State,
    i: int,
    carry: Mapping[str, Carry] | None = None,
    seed: int = 0,
    draws: bool = True,
) -> SoftStep:
    """What step ``i`` is drawn from at a state of class weights, differentiable.

    Args:
        sampler: A chain with one network call a step, see ``finetune.rollout.replayable``.
        denoiser: The network.
        state: Discrete components as weights ``[b, ..., K]``, see :func:`soften`.
        i: Number of the step.
        carry: What the programs remember; nothing, by default.
        seed: Of the chain, for noise that the solver draws itself.
        draws: Whether the step can be drawn from. If not, the kernels that are the same for all
            networks are left out, which divergences do not need.
    """
    plan, process = sampler.compile(), sampler.process
    slot = plan.slots[i][0]
    clock = torch.full((1,), slot.time, device=state.device)
    hard = harden(process, state)
    raw = _raw(denoiser, state, hard, clock)
    parts: dict[str, Kernel] = {}
    clean: dict[str, Categorical | Tensor] = {}
    after, sure, first = {}, {}, {}
    for name, part in process.parts.items():
        key, mask, x = (
            Key(seed, state.ids).at(slot.noise, plan.streams[name]),
            state.mask(name),
            hard[name],
        )
        held = () if carry is None else carry.get(name, ())
        told, classes = denoiser.parametrizations[name], classes_of(part)
        if classes is None:
            x0 = part.space.project(told.to_x0(part, raw[name], x, clock), mask)
            parts[name], after[name] = plan.programs[name].update(i, 0, x, x0, mask, held, key)
            clean[name] = x0
            continue
        # The last class is the mask; no network has a say in what is visible.
        sure[name] = classes - 1 if isinstance(told, Subs) else 0
        first[name] = 0 if draws else sure[name]
        many = classes - first[name]
        value = _each_class(x, range(first[name], classes), part.space, mask)
        x0 = _predictions(told, part, raw[name], value, clock)
        wide = None if mask is None else _times(mask, many)
        x0 = part.space.project(x0, wide)
        own = key.select(torch.arange(len(x), device=x.device).repeat(many))
        # What would have been drawn from another class, with the noise of this one.
        program = plan.programs[name].settled(i, _times(x, many), wide, own)
        parts[name], carried = program.update(
            i, 0, value, x0, wide, tuple(_times(h, many) for h in held), own
        )
        after[name] = tuple(h[-len(x) :] for h in carried)
        clean[name] = Categorical(x0, part.space, wide)
    return SoftStep(state, parts, after, clean, sure, first)


def _raw(denoiser: Denoiser, state: State, hard: State, clock: Tensor) -> dict[str, Tensor]:
    """The network's raw output at class weights, float32 or wider."""
    process = denoiser.process
    cond: Any = {n: v for n, v in state.values.items() if n not in process.parts} or None
    values = {
        name: state[name] if classes_of(process.parts[name]) is not None
        else part.inputs(process.parts[name], state[name], clock)
        for name, part in denoiser.parametrizations.items()
    }  # fmt: skip
    label = denoiser.label(clock, state.batch_size)
    out = denoiser.net(values, label, state.masks, cond)
    return {
        name: v if v.dtype in (torch.float32, torch.float64) else v.float()
        for name, v in out.items()
    }


def _predictions(
    told: Parametrization, part: Process, raw: Tensor, value: Tensor, clock: Tensor
) -> Tensor:
    """Clean data ``[k b, ..., K]`` predicted by one answer of the network at several classes."""
    b = len(raw)
    if not isinstance(told, Subs):
        return told.to_x0(part, _times(raw, len(value) // b), value, clock)
    masked = told.to_x0(part, raw, value[-b:], clock)
    if len(value) == b:
        return masked
    visible = _times(raw.detach(), len(value) // b - 1)
    return torch.cat([told.carried(visible, value[:-b]), masked])


def _each_class(x: Tensor, classes: Iterable[int], space: Space, mask: Tensor | None) -> Tensor:
    """One class after the other at every real place, ``[k b, ...]``."""
    one = torch.ones_like(x)
    one = space.scatter(space.gather(one), one.shape)
    one = one if mask is None else space.apply_mask(one, mask)
    return torch.cat([one * k for k in classes])


def _times(x: Tensor, many: int) -> Tensor:
    """The batch, ``many`` times."""
    return x if many == 1 else x.repeat(many, *(1,) * (x.ndim - 1))


def _free_weights(weights: Tensor, space: Space) -> Tensor:
    """Weights ``[b, ..., K]`` at the free coordinates, ``[b, size, K]``."""
    size = space.size(weights.shape[:-1])
    return space.gather(weights).reshape(len(weights), size, weights.shape[-1])
