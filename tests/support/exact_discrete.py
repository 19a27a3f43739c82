"""Discrete diffusion by enumeration in float64: every state of a short string over few classes.

Nothing here uses the formulas of the library: transition matrices are matrix exponentials of the
hit generator, and posteriors are sums over all clean states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from graphdiff.core.ctmc import CTMC


def all_states(classes: int, tokens: int) -> Tensor:
    """Every string, int64 ``[classes**tokens, tokens]``; row number = the string read base K."""
    return torch.cartesian_prod(*[torch.arange(classes)] * tokens).reshape(-1, tokens)


def random_law(classes: int, tokens: int, seed: int = 0, clean: int | None = None) -> Tensor:
    """A correlated law over all strings; only classes below ``clean`` occur."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(classes**tokens, dtype=torch.float64, generator=generator).pow(3) + 0.01
    if clean is not None:
        weights = weights * (all_states(classes, tokens) < clean).all(1)
    return weights / weights.sum()


@dataclass(frozen=True)
class ExactDiscrete:
    """A process on ``tokens`` tokens whose clean data follow ``law`` ``[K**tokens]``."""

    process: CTMC
    law: Tensor
    tokens: int

    @property
    def classes(self) -> int:
        return len(self.process.stationary)

    @property
    def states(self) -> Tensor:
        return all_states(self.classes, self.tokens)

    def alpha(self, t: float) -> float:
        return float(self.process.schedule.alpha(t))

    def token(self, t: float, s: float = 0.0, alpha_s: float | None = None) -> Tensor:
        """``P(x_t = j | x_s = i)`` of one token, ``[K, K]``; ``alpha_s = 1`` starts from data."""
        start = self.alpha(s) if alpha_s is None else alpha_s
        hits = math.log(start) - math.log(max(self.alpha(t), 1e-200))
        pi = torch.tensor(self.process.stationary, dtype=torch.float64)
        generator = pi.expand(self.classes, -1) - torch.eye(self.classes, dtype=torch.float64)
        return torch.matrix_exp(generator * hits)

    def joint(self, token: Tensor) -> Tensor:
        """Independent tokens: ``[S, S]`` from ``[K, K]``."""
        full = torch.ones(1, 1, dtype=torch.float64)
        for _ in range(self.tokens):
            full = torch.kron(full, token)
        return full

    def noisy(self, t: float) -> Tensor:
        """``q(x_t | x_0)``, ``[S, S]``."""
        return self.joint(self.token(t, alpha_s=1.0))

    def marginal(self, t: float) -> Tensor:
        """The law of ``x_t``, ``[S]``."""
        return self.law @ self.noisy(t)

    def posterior(self, t: float) -> Tensor:
        """``p(x_0 | x_t)`` at ``[x_t, x_0]``."""
        joint = self.law[:, None] * self.noisy(t)
        return (joint / joint.sum(0).clamp(min=1e-300)).T

    def denoiser(self, t: float) -> Tensor:
        """Logits of ``p(x_0 token = k | x_t)``, ``[S, tokens, K]``."""
        hot = torch.nn.functional.one_hot(self.states, self.classes).double()
        probs = torch.einsum("st,tdk->sdk", self.posterior(t), hot)
        # States that never occur get a flat prediction, so that no row is empty.
        never = probs.sum(-1, keepdim=True) < 0.5
        return torch.where(never, 1.0 / self.classes, probs).log()

    def reverse(self, t: float, s: float) -> Tensor:
        """The true ``p(x_s | x_t)`` at ``[x_t, x_s]`` by Bayes' rule over all strings."""
        both = self.marginal(s)[:, None] * self.joint(self.token(t, s))
        return (both / both.sum(0).clamp(min=1e-300)).T

    def generator(self, t: float) -> Tensor:
        """The true reverse rates ``[x_t, y]`` of whole strings (one token at a time)."""
        one = self.process.rate(t)
        eye = torch.eye(self.classes, dtype=torch.float64)
        forward = torch.zeros(len(self.law), len(self.law), dtype=torch.float64)
        for d in range(self.tokens):
            full = torch.ones(1, 1, dtype=torch.float64)
            for other in range(self.tokens):
                full = torch.kron(full, one if other == d else eye)
            forward = forward + full
        law = self.marginal(t)
        rates = forward.T * law[None, :] / law[:, None].clamp(min=1e-300)
        rates = rates - torch.diag(rates.diagonal())
        return rates - torch.diag(rates.sum(1))

    def product_kernel(self, probs: Tensor) -> Tensor:
        """Class probabilities ``[S, tokens, K]`` of the next string as a matrix ``[S, S]``."""
        picked = [probs[:, d][:, self.states[:, d]] for d in range(self.tokens)]
        return torch.stack(picked).prod(0)


def flow_rates(
    process: CTMC, t: float, slope: float, eta: float = 0.0, omega: float = 0.0
) -> Tensor:
    """Rates of discrete flow matching at ``[x1, x, y]``, entry by entry from their definition.

    ``slope`` is the growth of alpha towards the data, ``-d alpha / dt``.
    """
    pi, alpha = process.stationary, float(process.schedule.alpha(t))
    classes = range(len(pi))
    rates = torch.zeros(len(pi), len(pi), len(pi), dtype=torch.float64)
    for x1 in classes:
        law = [alpha * (k == x1) + (1 - alpha) * pi[k] for k in classes]
        growth = [slope * ((k == x1) - pi[k]) for k in classes]
        possible = [k for k in classes if law[k] > 0]
        for x in possible:
            for y in possible:
                if y == x:
                    continue
                least = max(growth[y] - growth[x], 0.0) / (len(possible) * law[x])
                pull = omega / (len(possible) * law[x]) if y == x1 else 0.0
                rates[x1, x, y] = least + eta * law[y] + pull
            rates[x1, x, x] = -rates[x1, x].sum()
    return rates


def total_variation(p: Tensor, q: Tensor) -> float:
    """Half the absolute difference of two laws."""
    return float((p - q).abs().sum() / 2)
