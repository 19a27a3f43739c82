"""Tuning three tokens whose law is enumerable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from guided_cases import Case, case
from torch import Tensor, nn

from graphdiff.core.denoiser import Denoiser, Subs
from graphdiff.core.rng import Key
from graphdiff.core.soft import soften
from graphdiff.core.state import State
from graphdiff.finetune.config import DIRECT, TuneConfig
from graphdiff.finetune.constraint import Lagrangian
from graphdiff.finetune.lesson import learn
from graphdiff.finetune.policy import policy_losses
from graphdiff.finetune.replay import Memory
from graphdiff.finetune.rollout import Rollout, Tuned, kernels_at, roll

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
        self.reward: Any = None  # that of the case
        self.memory = Memory(64)
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

    def disturb(self, size: float = 0.5) -> None:
        """Move the network away from the reference."""
        with torch.no_grad():
            noise = torch.randn(64, 3, 4, generator=torch.Generator().manual_seed(1))
            self.denoiser.net.logits.add_(size * noise)

    def check_policy_gradient(self, want: Tensor) -> None:
        """That the policy gradient, of all steps and of two, has the mean ``want`` ``[64, 3, 4]``.

        Also that 1.6 times as much is told from it.
        """
        for picked in (0, 2):
            tuned, found = self.tuned(TuneConfig("ddpo", ALPHA, picked=picked)), []
            for k in range(30):
                ids = torch.arange(2000)
                loss = policy_losses(tuned, self.roll(ids, k), Key(2, ids, step=k))
                total = sum(v.mean() for v in loss.values())
                found.append(-torch.autograd.grad(total, self.denoiser.net.logits)[0])  # type: ignore[arg-type]
            each = torch.stack(found)
            error = each.std(0) / 30**0.5 + 1e-6
            # Student's t with 29 degrees of freedom, 768 entries.
            assert float(((each.mean(0) - want) / error).abs().max()) < 5.5
            assert float(((each.mean(0) - 1.6 * want) / error).abs().max()) > 5.5

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

    def decode(self, state: State) -> tuple[list[str], None]:
        """Strings of the three tokens."""
        return ["".join(map(str, row)) for row in state["x"].tolist()], None

    def item_key(self, item: str) -> str:
        """The string."""
        return item

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
        """The losses of one iteration; multipliers of constraints move."""
        direct = config.method in DIRECT
        reward = self.reward or (Differentiable(self.made) if direct else self.made.reward)
        template, key, tuned = self.made.template(ids), Key(1, ids, step=k), self.tuned(config)
        told = (template, reward, k, key, self.memory)
        lesson = learn(self, tuned, *told)  # type: ignore[arg-type]
        if isinstance(reward, Lagrangian):
            ends = soften(self.made.product, lesson.ends) if direct else lesson.ends
            reward.ascend(ends, lesson.weights)
        return lesson.losses


def every(x: Tensor) -> Tensor:
    """Weights of all strings ``[b, 64]`` from those of three tokens ``[b, 3, 4]``."""
    first, second, third = x[:, 0, :, None, None], x[:, 1, None, :, None], x[:, 2, None, None, :]
    return (first * second * third).flatten(1)


@dataclass(frozen=True)
class Differentiable:
    """The reward of a case, or another table, as a multilinear function of class weights."""

    made: Case
    table: Tensor | None = None
    differentiable: bool = True
    name: str = "table"

    def __call__(self, state: State) -> Tensor:
        table = self.made.table if self.table is None else self.table
        return every(state["x"]).double() @ table
