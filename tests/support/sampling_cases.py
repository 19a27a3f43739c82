"""Exact denoisers and exact checks for chains of every modality.

Every oracle is a callable ``(state, t, cond) -> {component: clean data}`` with the exact posterior
of a known law, in float64. Its ``bias`` multiplies one coefficient, to see that the checks notice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from graphdiff.core.process import Product
from graphdiff.core.state import State


class Counting:
    """A denoiser that counts how often it is asked, and when."""

    def __init__(self, inner: Callable[[State, Tensor, Any], Mapping[str, Tensor]]) -> None:
        self.inner, self.times = inner, []

    def __call__(self, state: State, t: Tensor, cond: Any = None) -> Mapping[str, Tensor]:
        self.times.append(float(t[0]))
        return self.inner(state, t, cond)


@dataclass(frozen=True)
class NormalData:
    """Independent normal coordinates; ``mean`` and ``var`` broadcast against a component."""

    process: Product
    mean: Mapping[str, Any]
    var: Mapping[str, Any]
    bias: float = 1.0

    def __call__(self, state: State, t: Tensor, cond: Any = None) -> dict[str, Tensor]:
        out = {}
        for name, part in self.process.parts.items():
            x, (mean, var) = state[name], self.law(name)
            a, s = (float(f(t[0].double())) for f in (part.schedule.alpha, part.schedule.sigma))
            gain = self.bias * a * var / (a * a * var + s * s)
            x0 = mean + gain * (x.double() - a * mean)
            out[name] = part.space.apply_mask(x0.to(x.dtype), state.mask(name))
        return out

    def law(self, name: str) -> tuple[Tensor, Tensor]:
        return tuple(torch.as_tensor(m[name], dtype=torch.float64) for m in (self.mean, self.var))

    def standardised(self, state: State, t: float) -> Tensor:
        """All free coordinates of a state at ``t``, which should be standard normal."""
        flat = []
        for name, part in self.process.parts.items():
            mean, var = self.law(name)
            a, s = (float(f(t)) for f in (part.schedule.alpha, part.schedule.sigma))
            z = (state[name].double() - a * mean) / (a * a * var + s * s).sqrt()
            mask = state.mask(name)
            keep = part.space.apply_mask(torch.ones_like(z), mask)
            flat.append(part.space.gather(z)[part.space.gather(keep) > 0])
        return torch.cat(flat)


@dataclass(frozen=True)
class StringData:
    """Strings over a small alphabet with an enumerated law ``table`` ``[K] * L``."""

    process: Product
    table: Tensor
    bias: float = 1.0
    name: str = "tokens"

    def __call__(self, state: State, t: Tensor, cond: Any = None) -> dict[str, Tensor]:
        part, x = self.process.parts[self.name], state[self.name]
        letters, length = self.table.shape[0], self.table.dim()
        strings = torch.tensor(list(itertools.product(range(letters), repeat=length)))
        alpha = float(part.schedule.alpha(t[0].double()))
        equal = (x[:, None, :] == strings[None]).double()
        if part.classes == letters + 1:  # absorbing: visible letters are the clean ones
            factor = torch.where(x[:, None, :] == letters, 1.0, equal)
        else:
            factor = alpha * equal + (1.0 - alpha) / letters
        joint = self.table.flatten() * factor.prod(-1)
        one_hot = torch.nn.functional.one_hot(strings, part.classes).double()
        marginal = torch.einsum("bs,slk->blk", joint / joint.sum(1, keepdim=True), one_hot)
        marginal[..., 0] *= self.bias
        return {self.name: marginal.clamp_min(1e-30).log()}


@dataclass(frozen=True)
class MixedData:
    """A class ``c`` with probabilities ``pi`` and points ``x = mu[c] + sd * z``: ``x``, ``c``."""

    process: Product
    pi: tuple[float, ...] = (0.2, 0.5, 0.3)
    mu: tuple[float, ...] = (-2.0, 0.0, 1.5)
    sd: float = 0.3
    bias: float = 1.0

    def __call__(self, state: State, t: Tensor, cond: Any = None) -> dict[str, Tensor]:
        x, c = state["x"].double(), state["c"]
        px, pc = self.process.parts["x"], self.process.parts["c"]
        a, s = (float(f(t[0].double())) for f in (px.schedule.alpha, px.schedule.sigma))
        keep = float(pc.schedule.alpha(t[0].double()))
        mu, pi = (torch.tensor(v, dtype=torch.float64) for v in (self.mu, self.pi))
        var = (a * self.sd) ** 2 + s * s
        log = pi.log() - 0.5 * (x - a * mu).square() / var
        equal = (c == torch.arange(len(pi))).double()
        log = log + (keep * equal + (1 - keep) / len(pi)).log()
        post = log.softmax(-1)
        mean = mu + self.bias * a * self.sd**2 / var * (x - a * mu)
        return {"x": (post * mean).sum(-1, keepdim=True).to(state["x"].dtype), "c": log[:, None, :]}


def moments(z: Tensor) -> dict[str, float]:
    """Mean, spread and shape of what should be standard normal, in standard errors."""
    n = z.numel()
    u = torch.special.ndtr(z.flatten().sort().values)
    rank = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return {
        "mean": abs(float(z.mean())) * math.sqrt(n),
        "spread": abs(float(z.square().mean()) - 1.0) * math.sqrt(n / 2),
        "ks": float((u - rank).abs().max()) * math.sqrt(n),
    }


def moment_limits(n: int, trials: int = 300, seed: int = 0) -> dict[str, float]:
    """Largest of each statistic over exact draws of ``n`` normals: the test's own null."""
    generator = torch.Generator().manual_seed(seed)
    draws = [
        moments(torch.randn(n, generator=generator, dtype=torch.float64)) for _ in range(trials)
    ]
    return {name: 1.1 * max(d[name] for d in draws) for name in draws[0]}


def chi2(counts: Tensor, probs: Tensor) -> float:
    """Pearson's statistic of counts against probabilities."""
    expected = probs.double().flatten() * counts.sum()
    return float(((counts.double().flatten() - expected).square() / expected).sum())


def chi2_limit(n: int, probs: Tensor, trials: int = 300, seed: int = 0) -> float:
    """Largest statistic over exact draws of ``n`` categories: the test's own null."""
    generator = torch.Generator().manual_seed(seed)
    p = probs.double().flatten()
    draws = torch.multinomial(p.expand(trials, -1), n, replacement=True, generator=generator)
    return 1.1 * max(chi2(torch.bincount(d, minlength=p.numel()), p) for d in draws)


@dataclass(frozen=True)
class Case:
    """A process, its exact oracle and a template."""

    process: Product
    oracle: Any
    template: State
    extra: dict[str, Any] = field(default_factory=dict)
