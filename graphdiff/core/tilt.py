r"""Tilts: maps of the prediction of clean data that make a chain prefer what is rewarded.

A tilt is ``(state, t, x0, key) -> x0'``, handed to the sampler, and changes the kernels that a step
is drawn from. For tokens it adds to the logits of the predicted clean class, so that impossible
classes (the mask, a class other than the visible one) stay impossible and the rest is renormalised:

.. math:: \eta'_{iv} = \eta_{iv} + w\, \Delta_{iv}, \qquad
          \Delta_{iv} \approx r(x \text{ with } x_i = v) - r(x) .

============= ==================================================================================
NeighbourTilt :math:`\Delta` exactly, by trying every class of every token (few tokens)
GradientTilt  :math:`\Delta = \partial r / \partial p`, the gradient of a differentiable reward at
              the predicted probabilities (first order, as TAG: Nisonoff et al., 2024, arXiv
              2406.01572), at relaxed draws, or with respect to the logits (the direct form of GILC)
PolicyTilt    :math:`\Delta = E[(r - \bar r)\, \partial \log p / \partial \eta]`, black box (the
              policy-gradient form of GILC)
NoisyTilt     the gradient of a predictor that judges noisy states
============= ==================================================================================

For a reward that is a sum over tokens the first two are exact with :math:`w = 1/\alpha`: the tilted
prediction is that of the tilted law. Continuous components move along the gradient,
:math:`\hat x_0 + w\,\nabla r(\hat x_0)`, and with a noisy predictor by the score that it adds,
:math:`\hat x_0 + w\,(\sigma^2/\alpha)\,\nabla_x \log p(c \mid x_t)` (Dhariwal and Nichol, 2021,
arXiv 2105.05233). A tilt alone is a heuristic; weighed by :class:`graphdiff.core.steer.SMC` it is
not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from graphdiff.core.checks import classes_of
from graphdiff.core.errors import ArgumentError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.kernel import Categorical
from graphdiff.core.process import Process, Product
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.core.value import RewardFunction, clean_state, repeat, rewards_of

__all__ = ["GradientTilt", "NeighbourTilt", "NoisyTilt", "PolicyTilt"]

Answer = Mapping[str, Tensor]


def _discrete(process: Product, only: Sequence[str], who: str) -> list[str]:
    """Components that a tilt of tokens acts on.

    Raises:
        ArgumentError: One of ``only`` is unknown or continuous, or there is no discrete one.
    """
    names = [name for name in only or process.names if classes_of(process[name]) is not None]
    if not names or (only and len(names) < len(only)):
        raise ArgumentError(
            f"{who} acts on discrete components; of {', '.join(only or process.names)} "
            f"{', '.join(names) or 'none'} is discrete; use GradientTilt or NoisyTilt"
        )
    return names


def _slope(found: Tensor, leaves: list[Tensor], count: int, who: str) -> list[Tensor]:
    """Gradients of the sum of ``found`` ``[b]``; zero for what it does not depend on.

    Raises:
        ArgumentError: A wrong shape, or no gradient.
    """
    if found.shape != (count,):
        raise ArgumentError(f"{who} returned {list(found.shape)}, expected [{count}]")
    if not found.requires_grad:
        raise ArgumentError(
            f"{who} has no gradient with respect to soft samples; write it in differentiable torch "
            "operations on class weights [b, ..., K], or use PolicyTilt, which needs none"
        )
    slopes = torch.autograd.grad(found.sum(), leaves, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, slopes, strict=True)]


def _leaf(part: Process, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Free coordinates of ``x``, and ``x`` as a function of them: a pair of nodes is one."""
    flat = part.space.gather(x).clone().requires_grad_()
    return flat, part.space.apply_mask(part.space.scatter(flat, x.shape), mask)


def _moved(part: Process, state: State, name: str, x0: Answer, step: Tensor) -> Tensor:
    """The prediction moved by ``step``; a continuous one stays in its space and zero at padding."""
    moved = x0[name] + step
    return moved if classes_of(part) is not None else part.space.project(moved, state.mask(name))


@dataclass(frozen=True)
class GradientTilt:
    """The gradient of a differentiable reward at the predicted clean data; no network Jacobian.

    Attributes:
        process: Process of each component.
        reward: Reward ``[b]`` of a state whose discrete components are class weights
            ``[b, ..., K]``, floating, differentiable (zero vectors where there is no coordinate:
            padding, the diagonal of a graph).
        scale: The weight :math:`w`.
        draws: Number of relaxed draws (straight-through Gumbel) that the gradient is averaged
            over; 0 takes the predicted probabilities themselves.
        temperature: Of the relaxed draws.
        wrt: ``"probs"``, the derivative by the class weights, or ``"logits"``, through the softmax.
        only: Components that are tilted; all by default.
    """

    process: Product
    reward: RewardFunction
    scale: float = 1.0
    draws: int = 0
    temperature: float = 1.0
    wrt: Literal["probs", "logits"] = "probs"
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.draws < 0 or not self.temperature > 0 or self.wrt not in ("probs", "logits"):
            raise ArgumentError(
                "GradientTilt needs draws >= 0, temperature > 0 and wrt 'probs' or 'logits', found "
                f"{self.draws}, {self.temperature} and {self.wrt!r}"
            )
        for name in self.only:
            self.process[name]

    def __call__(self, state: State, t: Tensor, x0: Answer, key: Key) -> Answer:
        """Tilted predictions."""
        names = list(self.only or self.process.names)
        total = {name: torch.zeros_like(x0[name]) for name in names}
        with torch.inference_mode(False), torch.enable_grad():
            for k in range(max(self.draws, 1)):
                for name, g in self._slopes(names, state, x0, repeat(key, k)).items():
                    total[name] += g
        w = self.scale / max(self.draws, 1)
        return {
            name: _moved(self.process[name], state, name, x0, w * total[name]) for name in names
        }

    def _slopes(self, names: list[str], state: State, x0: Answer, key: Key) -> dict[str, Tensor]:
        soft, leaves = dict(state.values), {}
        for name, part in self.process.parts.items():
            value, mask = x0[name].detach(), state.mask(name)
            if classes_of(part) is not None and self.wrt == "probs":
                value = self._soft(name, value, state, key).detach()
            leaves[name], full = _leaf(part, value, mask)
            if classes_of(part) is not None and self.wrt == "logits":
                full = part.space.apply_mask(self._soft(name, full, state, key), mask)
            soft[name] = full
        found = self.reward(State(soft, state.masks, state.ids))
        wanted = [leaves[name] for name in names]
        slopes = _slope(found, wanted, len(state.ids), "the reward")
        return {
            name: self.process[name].space.scatter(g, x0[name].shape)
            for name, g in zip(names, slopes, strict=True)
        }

    def _soft(self, name: str, logits: Tensor, state: State, key: Key) -> Tensor:
        """Class weights of a component: predicted probabilities, or a relaxed draw."""
        if not self.draws:
            return torch.softmax(logits, -1)
        law = Categorical(logits, self.process[name].space, state.mask(name))
        return law.relaxed(key.at(stream=f"tilt {name}"), self.temperature)


@dataclass(frozen=True)
class PolicyTilt:
    """A black-box reward: clean draws of the prediction say which classes are rewarded.

    Attributes:
        process: Process of each component.
        reward: Reward of finished samples.
        scale: The weight :math:`w`.
        draws: Clean samples that are drawn from the prediction, at least 2.
        only: Discrete components that are tilted; all of them by default.
    """

    process: Product
    reward: RewardFunction
    scale: float = 1.0
    draws: int = 8
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.draws < 2:
            raise ArgumentError(f"PolicyTilt needs at least 2 draws, found {self.draws}")
        _discrete(self.process, self.only, "PolicyTilt")

    def __call__(self, state: State, t: Tensor, x0: Answer, key: Key) -> Answer:
        """Tilted predictions."""
        names = _discrete(self.process, self.only, "PolicyTilt")
        drawn, rewards = [], []
        for k in range(self.draws):
            drawn.append(clean_state(self.process, state, x0, repeat(key, k), "tilt"))
            rewards.append(rewards_of(self.reward, drawn[-1]))
        r = torch.stack(rewards)
        finite = torch.where(torch.isneginf(r), r[~torch.isneginf(r)].amin() if bool(
            (~torch.isneginf(r)).any()) else 0.0, r)  # fmt: skip
        # The mean of the others is a baseline that leaves the gradient unbiased.
        others = (finite.sum(0) - finite) / (self.draws - 1)
        gain = (finite - others) / self.draws
        out = {}
        for name in names:
            eta = x0[name]
            slope = torch.zeros_like(eta)
            p = torch.softmax(eta, -1)
            for a, sample in zip(gain, drawn, strict=True):
                hot = functional.one_hot(sample[name], eta.shape[-1]).to(eta.dtype)
                slope += a.to(eta.dtype).reshape(-1, *(1,) * (eta.ndim - 1)) * (hot - p)
            out[name] = eta + self.scale * slope
        return out


@dataclass(frozen=True)
class NeighbourTilt:
    """The exact difference that each class of each token makes to the likeliest clean sample.

    Costs ``size * K`` rewards for each sample and step.

    Attributes:
        process: Process of each component.
        reward: Reward of finished samples.
        scale: The weight :math:`w`.
        only: Discrete components that are tilted; all of them by default.
        batch: Neighbours that are judged at once.
    """

    process: Product
    reward: RewardFunction
    scale: float = 1.0
    only: tuple[str, ...] = ()
    batch: int = 4096

    def __post_init__(self) -> None:
        _discrete(self.process, self.only, "NeighbourTilt")
        if self.batch < 1:
            raise ArgumentError(f"batch must be at least 1, found {self.batch}")

    def __call__(self, state: State, t: Tensor, x0: Answer, key: Key) -> Answer:
        """Tilted predictions."""
        here = clean_state(self.process, state, x0)
        least = rewards_of(self.reward, here)
        names = _discrete(self.process, self.only, "NeighbourTilt")
        return {name: x0[name] + self._gain(name, here, least).to(x0[name]) for name in names}

    def _gain(self, name: str, here: State, least: Tensor) -> Tensor:
        """``scale`` times the differences, ``[b, ..., K]``; impossible neighbours lose most."""
        part, x = self.process[name], here[name]
        classes, flat = classes_of(part) or 0, part.space.gather(x)
        b, size = flat.shape
        rows = torch.arange(b * size * classes, device=x.device)
        found = []
        for some in rows.split(self.batch):
            sample, place = some // (size * classes), some // classes % size
            changed = flat[sample]
            changed[torch.arange(len(some), device=x.device), place] = some % classes
            near = here.select(sample)
            moved = part.space.scatter(changed, near[name].shape)
            mask = near.mask(name)
            moved = moved if mask is None else part.space.apply_mask(moved, mask)
            found.append(rewards_of(self.reward, near.replace(**{name: moved})))
        r = torch.cat(found).view(b, size, classes)
        lowest = torch.where(torch.isneginf(least), 0.0, least).view(b, 1, 1)
        gain = self.scale * torch.where(torch.isneginf(r), -1e4, r - lowest)
        full = part.space.scatter(gain.flatten(1), (*x.shape, classes))
        return full


@dataclass(frozen=True)
class NoisyTilt:
    """The gradient of a predictor that judges noisy states.

    Attributes:
        process: Process of each component.
        predictor: ``(state, t) -> log p(c | x_t)`` ``[b]``; discrete components of ``state`` are
            one-hot ``[b, ..., K]``, floating.
        scale: The weight :math:`w`.
        only: Components that are tilted; all by default.
    """

    process: Product
    predictor: Callable[[State, Tensor], Tensor]
    scale: float = 1.0
    only: tuple[str, ...] = ()

    def __call__(self, state: State, t: Tensor, x0: Answer, key: Key) -> Answer:
        """Tilted predictions."""
        names, soft, leaves = list(self.only or self.process.names), dict(state.values), {}
        with torch.inference_mode(False), torch.enable_grad():
            for name, part in self.process.parts.items():
                classes, x = classes_of(part), state[name].detach()
                hot = x if classes is None else functional.one_hot(x, classes).to(x0[name].dtype)
                leaves[name], soft[name] = _leaf(part, hot, state.mask(name))
            found = self.predictor(State(soft, state.masks, state.ids), t)
            wanted = [leaves[name] for name in names]
            slopes = _slope(found, wanted, len(state.ids), "the predictor")
        out = {}
        for name, flat in zip(names, slopes, strict=True):
            part, x = self.process[name], state[name]
            g = part.space.scatter(flat, x0[name].shape)
            if isinstance(part, Gaussian):
                alpha, sigma = part.coefficients(t, x)
                g = sigma.square() / alpha.clamp(min=1e-3) * g
            elif classes_of(part) is not None:
                g = g - g.gather(-1, x.unsqueeze(-1))
            out[name] = _moved(part, state, name, x0, self.scale * g)
        return out
