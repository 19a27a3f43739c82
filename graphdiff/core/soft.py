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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphdiff.core.checks import classes_of
from graphdiff.core.denoiser import Denoiser, Subs
from graphdiff.core.kernel import Categorical, Delta, Kernel
from graphdiff.core.process import Product
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

    Attributes:
        state: The state, discrete components as weights.
        parts: For each discrete component the kernel given each class ``k`` (in the order of the
            classes), for each continuous one its only kernel.
        carry: What the programs remember after the step.
        clean: For each component the kernels of the predicted clean data, as ``parts``; the
            prediction itself for continuous ones.
        sure: For each discrete component whether the kernel given class ``k`` is the same for all
            networks: a visible token under :class:`graphdiff.core.denoiser.Subs`.
    """

    state: State
    parts: Mapping[str, tuple[Kernel, ...]]
    carry: Mapping[str, Carry]
    clean: Mapping[str, tuple[Categorical, ...] | Tensor]
    sure: Mapping[str, tuple[bool, ...]]

    def draw(self, key: Key, temperature: float, *, hard: bool) -> State:
        """The next state, differentiable in the network and in the weights of this one.

        Args:
            key: Noise of the step.
            temperature: Of relaxed draws; 0 for one-hot draws with the gradient of their
                probabilities.
            hard: One-hot values with the gradient of relaxed ones (straight-through).
        """
        values = dict(self.state.values)
        for name, kernels in self.parts.items():
            own = key.at(stream=name)
            if isinstance(kernels[0], Categorical):
                values[name] = _mixed_draw(values[name], kernels, own, temperature, hard)  # type: ignore[arg-type]
            else:
                values[name] = kernels[0].sample(own)
        return State(values, self.state.masks, self.state.ids)

    def guess(self, key: Key, temperature: float, *, hard: bool) -> State:
        """A clean sample drawn from the prediction, differentiable as :meth:`draw`."""
        values = dict(self.state.values)
        for name, clean in self.clean.items():
            if isinstance(clean, Tensor):
                values[name] = clean
            else:
                own = key.at(stream=f"guess {name}")
                values[name] = _mixed_draw(values[name], clean, own, temperature, hard)
        return State(values, self.state.masks, self.state.ids)

    def kl(self, other: SoftStep) -> Tensor:
        """Divergence ``[b]`` from the same step of another network, nats.

        Steps without noise count nothing: they say nothing about a choice.
        """
        total = self.state.ids.new_zeros(self.state.batch_size, dtype=torch.float32)
        for name, kernels in self.parts.items():
            theirs, first = other.parts[name], kernels[0]
            if isinstance(first, Delta):
                continue
            if not isinstance(first, Categorical):
                total = total + first.kl(theirs[0])
                continue
            weights = _free_weights(self.state[name], first).unbind(-1)
            same = [a and b for a, b in zip(self.sure[name], other.sure[name], strict=True)]
            each = [
                w * p.kl_each(q)  # type: ignore[attr-defined]
                for w, p, q, equal in zip(weights, kernels, theirs, same, strict=True)
                if not equal
            ]
            space, shape = first.space, first.shape
            total = total + space.sum(space.scatter(torch.stack(each).sum(0), shape), first.mask)
        return total


def step_at(
    sampler: Sampler,
    denoiser: Denoiser,
    state: State,
    i: int,
    carry: Mapping[str, Carry] | None = None,
    seed: int = 0,
    like: SoftStep | None = None,
) -> SoftStep:
    """What step ``i`` is drawn from at a state of class weights, differentiable.

    Args:
        sampler: A chain with one network call a step, see ``finetune.rollout.replayable``.
        denoiser: The network.
        state: Discrete components as weights ``[b, ..., K]``, see :func:`soften`.
        i: Number of the step.
        carry: What the programs remember; nothing, by default.
        seed: Of the chain, for noise that the solver draws itself.
        like: The same step of another network at the same state, whose kernels are taken where no
            network has a say.
    """
    plan, process = sampler.compile(), sampler.process
    slot = plan.slots[i][0]
    clock = torch.full((1,), slot.time, device=state.device)
    hard = harden(process, state)
    raw = _raw(denoiser, state, hard, clock)
    parts, after, clean, sure = {}, {}, {}, {}
    for name, part in process.parts.items():
        key, mask = Key(seed, state.ids).at(slot.noise, plan.streams[name]), state.mask(name)
        held = () if carry is None else carry.get(name, ())
        classes, x = classes_of(part), hard[name]
        # What would have been drawn from another class, with the noise of this one.
        program = plan.programs[name].settled(i, x, mask, key)
        values = [x] if classes is None else [_all(x, k, part.space, mask) for k in range(classes)]
        told = denoiser.parametrizations[name]
        # The last class is the mask; no network has a say in what is visible.
        sure[name] = tuple(
            isinstance(told, Subs) and k < len(values) - 1 for k in range(len(values))
        )
        pairs: list[Any] = []
        for k, (value, known) in enumerate(zip(values, sure[name], strict=True)):
            if known and like is not None and like.sure[name][k]:
                pairs.append((like.parts[name][k], like.clean[name][k]))
                continue
            if known and isinstance(told, Subs):
                x0 = told.carried(raw[name].detach(), value)
            else:
                x0 = told.to_x0(part, raw[name], value, clock)
            x0 = part.space.project(x0, mask)
            kernel, after[name] = program.update(i, 0, value, x0, mask, held, key)
            pairs.append((kernel, x0 if classes is None else Categorical(x0, part.space, mask)))
        parts[name] = tuple(kernel for kernel, _ in pairs)
        clean[name] = pairs[0][1] if classes is None else tuple(guess for _, guess in pairs)
    return SoftStep(state, parts, after, clean, sure)


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


def _all(x: Tensor, k: int, space: Space, mask: Tensor | None) -> Tensor:
    """Class ``k`` at every real place."""
    full = torch.full_like(x, k)
    full = space.scatter(space.gather(full), full.shape)
    return full if mask is None else space.apply_mask(full, mask)


def _mixed_draw(
    weights: Tensor, kernels: tuple[Categorical, ...], key: Key, temperature: float, hard: bool
) -> Tensor:
    """Relaxed draws of the kernels of all classes with one noise, weighted; ``[b, ..., K]``."""
    first = kernels[0]
    noise, free = first.gumbel_noise(key), _free_weights(weights, first).unsqueeze(-1).unbind(-2)
    drawn = [
        w * kernel.relax(noise, temperature, hard, stay=k)
        for k, (w, kernel) in enumerate(zip(free, kernels, strict=True))
    ]
    return first.place_weights(torch.stack(drawn).sum(0))


def _free_weights(weights: Tensor, kernel: Categorical) -> Tensor:
    """Weights ``[b, ..., K]`` at the free coordinates of a kernel's values, ``[b, size, K]``."""
    flat = kernel.space.gather(weights)
    return flat.reshape(len(flat), kernel.noise_size, weights.shape[-1])
