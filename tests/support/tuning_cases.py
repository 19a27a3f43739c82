"""Tuning three tokens whose law is enumerable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from guided_cases import Case, case
from torch import Tensor, nn

from graphdiff.core.denoiser import Denoiser, Subs
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.finetune.config import DIRECT, POLICY, TuneConfig
from graphdiff.finetune.direct import direct_losses
from graphdiff.finetune.policy import policy_losses
from graphdiff.finetune.rollout import Rollout, Tuned, kernels_at, roll
from graphdiff.finetune.stepwise import sdpo_losses, vidd_losses
from graphdiff.finetune.weighted import smc_losses, weighted_losses

ALPHA = 0.8


class Table(nn.Module):
    """Logits of every token for every string: a network that can be anything."""

    def __init__(self, made: Case) -> None:
        super().__init__()
        self.made = made
        # Under absorbing noise the law of the clean string given a noisy one knows no time.
        self.logits = nn.Parameter(made.exact.denoiser(0.5).clamp(min=-8).float())

    def forward(
        self, values: Any, label: Tensor, masks: Any, cond: Any = None
    ) -> dict[str, Tensor]:
        x = values["x"]
        if not x.is_floating_point():
            return {"x": self.logits[self.made.number(x)]}
        return {"x": (every(x) @ self.logits.flatten(1)).view(len(x), 3, 4)}


class Problem:
    """Three tokens, a table, and the law of its chain."""

    def __init__(self, steps: int = 20) -> None:
        self.made = case(steps=steps)
        self.denoiser, self.reference = self._network(), self._network()
        self.reference.requires_grad_(False)

    def _network(self) -> Denoiser:
        return Denoiser(Table(self.made), self.made.product, {"x": Subs()})

    def law(self, denoiser: Denoiser) -> Tensor:
        """The exact law of the chain of a network."""
        sampler, made = self.made.sampler, self.made
        every = State({"x": made.exact.states}, {}, torch.arange(len(made.table)))
        p = torch.zeros(len(made.table), dtype=torch.float64)
        p[-1] = 1  # all masked
        with torch.no_grad():
            for i in range(made.steps):
                mean = kernels_at(sampler, denoiser, every, i)["x"].mean.double()
                p = p @ made.exact.product_kernel(mean)
        return p / p.sum()

    def target(self) -> Tensor:
        weights = self.law(self.reference) * (self.made.table / ALPHA).exp()
        return weights / weights.sum()

    def distance(self) -> float:
        return float((self.law(self.denoiser) - self.target()).abs().sum() / 2)

    def tuned(self, config: TuneConfig) -> Tuned:
        return Tuned(config, self.made.sampler, self.denoiser, self.reference)

    def roll(self, ids: Tensor, seed: int) -> Rollout:
        made = self.made
        template = made.template(ids)
        return roll(made.sampler, self.denoiser, template, made.reward, seed, paths=True)

    def losses(self, denoiser: Denoiser, clean: State, key: Key) -> dict[str, Tensor]:
        """What a task of this problem is trained by."""
        t = key.at(stream="time").uniform(1).squeeze(1)
        noisy = self.made.product.corrupt(clean, t, key)
        return self.made.product.loss(denoiser(noisy, t), clean, noisy, t)

    def tune(self, config: TuneConfig, iterations: int, batch: int = 256, lr: float = 0.05) -> None:
        optimizer = torch.optim.Adam(self.denoiser.parameters(), lr)
        for k in range(iterations):
            for group in optimizer.param_groups:
                group["lr"] = lr * (1 - k / iterations)
            ids = torch.arange(batch)
            found = self.step(config, ids, k)
            optimizer.zero_grad()
            sum(v.mean() for v in found.values()).backward()  # type: ignore[union-attr]
            optimizer.step()

    def step(self, config: TuneConfig, ids: Tensor, k: int) -> dict[str, Tensor]:
        """The losses of one iteration."""
        key, tuned, method = Key(1, ids, step=k), self.tuned(config), config.method
        template, black = self.made.template(ids), self.made.reward
        if method in DIRECT:
            return direct_losses(tuned, template, Differentiable(self.made), k, key)[0]
        if method == "sdpo":
            return sdpo_losses(tuned, template, black, k, key)[0]
        if method == "smc":
            return smc_losses(self, tuned, template, black, k, key)[0]  # type: ignore[arg-type]
        rollout = self.roll(ids, k)
        if method in POLICY:
            return policy_losses(tuned, rollout, key)
        if method == "vidd":
            return vidd_losses(tuned, rollout, black, key)
        return weighted_losses(self, tuned, rollout, key)  # type: ignore[arg-type]


def every(x: Tensor) -> Tensor:
    """Weights of all strings ``[b, 64]`` from those of three tokens ``[b, 3, 4]``."""
    first, second, third = x[:, 0, :, None, None], x[:, 1, None, :, None], x[:, 2, None, None, :]
    return (first * second * third).flatten(1)


@dataclass(frozen=True)
class Differentiable:
    """The reward of a case as a multilinear function of class weights."""

    made: Case
    differentiable: bool = True

    def __call__(self, state: State) -> Tensor:
        return every(state["x"]).double() @ self.made.table
