"""A landscape of rewards with its enumerated optimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Landscape", "Smooth"]


@dataclass
class Landscape:
    """A factor: rewards of all words, the base model and its target.

    Attributes:
        name: Of the factor.
        words: The words.
        reward: Reward of each.
        net: The table of values on the base model.
        base: Law of its chain.
        alpha: Temperature.
    """

    name: str
    words: Any
    reward: Tensor
    net: Any
    base: Tensor
    alpha: float

    @property
    def target(self) -> Tensor:
        """The optimum."""
        weight = self.base * (self.reward / self.alpha).exp()
        return weight / weight.sum()

    @property
    def best(self) -> float:
        """The greatest ``E[r] - alpha KL``: ``alpha`` times the log of the normaliser."""
        return self.alpha * float((self.base * (self.reward / self.alpha).exp()).sum().log())

    def black(self, state: Any) -> Tensor:
        """Reward of finished words."""
        return self.reward[self.words.number(state["tokens"])]

    def scores(self, law: Tensor) -> dict[str, float]:
        """Distances of a law from the target, and what it earns."""
        target, gain = self.target, float(law @ self.reward)
        kept = law > 0
        kl = float((law[kept] * (law[kept] / self.base[kept]).log()).sum())
        off = float((target * (target / law.clamp(min=1e-300)).log()).sum())
        start = float(self.base @ self.reward)
        return {
            "tv": float((law - target).abs().sum() / 2),
            "kl_to_target": off,
            "reward": gain,
            "kl_to_base": kl,
            "regret": (self.best - (gain - self.alpha * kl)) / (self.best - start),
        }


@dataclass(frozen=True)
class Smooth:
    """The reward of one-hot words, whose derivative is the reward of each other letter."""

    land: Landscape
    differentiable: bool = True

    def __call__(self, state: Any) -> Tensor:
        """Reward ``[b]``; the derivative is that of the multilinear function of the weights."""
        weights = state["tokens"][..., :-1].double()
        words, word = self.land.words, weights.detach().argmax(-1)
        power = words.letters ** torch.arange(words.length - 1, -1, -1)
        other = torch.arange(words.letters) - word.unsqueeze(-1)
        near = words.number(word)[:, None, None] + other * power[:, None]
        return (self.land.reward[near] * (weights - weights.detach())).sum((1, 2)) + (
            self.land.reward[words.number(word)]
        )
