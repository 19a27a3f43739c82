"""Chains whose law, and whose law weighted by a reward, are known by enumeration."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from exact_discrete import ExactDiscrete, random_law
from torch import Tensor

from graphdiff.core.categorical import Absorbing, Uniform
from graphdiff.core.ctmc import CTMC
from graphdiff.core.jump import AncestralJump
from graphdiff.core.process import Product
from graphdiff.core.sampler import Sampler, Times
from graphdiff.core.schedule import FlowMatching
from graphdiff.core.space import Dense, Space, Symmetric
from graphdiff.core.state import State

__all__ = ["KINDS", "Case", "case"]

KINDS = ("absorbing", "uniform", "graph")


@dataclass
class Case:
    """A short string (or a graph of three nodes) with an exact denoiser and a table of rewards."""

    process: CTMC
    exact: ExactDiscrete
    steps: int
    table: Tensor  # reward of every string [S]
    calls: int = field(default=0)

    @property
    def sampler(self) -> Sampler:
        return Sampler(self.product, AncestralJump(), Times(self.steps, end=0.0))

    @property
    def product(self) -> Product:
        return Product({"x": self.process})

    @property
    def space(self) -> Space:
        return self.process.space

    def template(self, ids: Tensor) -> State:
        b, d = len(ids), self.exact.tokens
        shape = (b, 3, 3) if isinstance(self.space, Symmetric) else (b, d)
        return State({"x": torch.zeros(shape, dtype=torch.int64)}, {}, ids)

    def number(self, x: Tensor) -> Tensor:
        """Row of each string among all, int64 ``[b]``."""
        flat, found = self.space.gather(x), torch.zeros(len(x), dtype=torch.int64)
        for token in flat.unbind(1):
            found = found * self.exact.classes + token
        return found

    def reward(self, state: State) -> Tensor:
        return self.table[self.number(state["x"])]

    def __call__(self, state: State, t: Tensor, cond: Any = None) -> dict[str, Tensor]:
        """The exact denoiser."""
        self.calls += 1
        free = self.exact.denoiser(float(t[0]))[self.number(state["x"])]
        free = free.clamp(min=-1e4)
        shape = (*state["x"].shape, self.exact.classes)
        return {"x": self.space.scatter(free.flatten(1), shape)}

    def law(self) -> Tensor:
        """The law ``[S]`` of the chain as it is run: every step moves tokens independently."""
        times = self.sampler.compile().times
        pi = torch.tensor(self.process.stationary, dtype=torch.float64)
        p = torch.ones(1, dtype=torch.float64)
        for _ in range(self.exact.tokens):
            p = torch.kron(p, pi)
        flat = Dense()
        own = type(self.process)(self.process.schedule, self.process.classes, flat)
        for t, s in pairwise(times):
            kernel = own.bridge(self.exact.states, self.exact.denoiser(t), t, s, None)
            p = p @ self.exact.product_kernel(kernel.mean)
        return p

    def target(self, alpha: float) -> tuple[Tensor, Tensor]:
        """``p* [S]`` and its normaliser ``E_p[exp(r / alpha)]``."""
        weighted = self.law() * (self.table / alpha).exp()
        return weighted / weighted.sum(), weighted.sum()


def case(kind: str = "absorbing", steps: int = 4, seed: int = 0) -> Case:
    """Three tokens of three classes, or the eight graphs of three nodes; random rewards."""
    if kind == "absorbing":
        process: CTMC = Absorbing(FlowMatching(), 4)
        clean = 3
    elif kind == "uniform":
        process, clean = Uniform(FlowMatching(), 3), 3
    else:
        process, clean = Uniform(FlowMatching(), 2, Symmetric()), 2
    exact = ExactDiscrete(process, random_law(process.classes, 3, seed, clean), 3)
    generator = torch.Generator().manual_seed(seed + 1)
    table = torch.rand(len(exact.law), dtype=torch.float64, generator=generator) * 3
    return Case(process, exact, steps, table)
