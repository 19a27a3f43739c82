"""Policy gradients by concrete scores: the enumerated gradient, the optimum, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from guided_cases import Case, case
from torch import Tensor, nn
from tuning_cases import ALPHA, Problem

import graphdiff
from graphdiff.core.denoiser import Denoiser, Logits, Subs
from graphdiff.core.errors import ConfigError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.jump import AncestralJump
from graphdiff.core.kernel import Categorical
from graphdiff.core.plan import PlanSpec
from graphdiff.core.process import Product
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler, Times
from graphdiff.core.schedule import VP
from graphdiff.core.state import State
from graphdiff.finetune.config import TuneConfig
from graphdiff.finetune.rollout import Tuned, kernels_at
from graphdiff.finetune.sepo import Redraw, levels, sepo_losses
from graphdiff.finetune.task import tuning
from graphdiff.train import TrainConfig


class Timed(nn.Module):
    """Logits of every token for every string and every step."""

    def __init__(self, made: Case, off: float = 0.0) -> None:
        super().__init__()
        self.made = made
        times = made.sampler.compile().times[:-1]
        exact = torch.stack([made.exact.denoiser(t) for t in times]).clamp(min=-8).float()
        noise = torch.randn(exact.shape, generator=torch.Generator().manual_seed(1))
        self.logits = nn.Parameter(exact + off * noise)

    def forward(
        self, values: Any, label: Tensor, masks: Any, cond: Any = None
    ) -> dict[str, Tensor]:
        i = round((1 - float(label[0])) * self.made.steps)
        x = values["x"]
        free = self.logits[i][self.made.number(x)]
        return {"x": self.made.space.scatter(free.flatten(1), (*x.shape, free.shape[-1]))}


def network(made: Case, off: float = 0.0) -> Denoiser:
    kind = Subs() if made.exact.classes == 4 else Logits()
    return Denoiser(Timed(made, off), made.product, {"x": kind})


def every(made: Case) -> State:
    """All strings, as states."""
    ids = torch.arange(len(made.table))
    states = made.exact.states
    return State({"x": made.space.scatter(states, made.template(ids)["x"].shape)}, {}, ids)


def chain(made: Case, mine: Denoiser, theirs: Denoiser) -> tuple[list[Tensor], list[Tensor]]:
    """Transition matrix and divergence of every step, float64."""
    steps, costs = [], []
    state = every(made)
    for i in range(made.steps):
        kernel = kernels_at(made.sampler, mine, state, i)["x"]
        mean = made.space.gather(kernel.mean).view(len(made.table), 3, -1)
        steps.append(made.exact.product_kernel(mean.double()))
        costs.append(kernel.kl(kernels_at(made.sampler, theirs, state, i)["x"]).double())
    return steps, costs


def start(made: Case) -> Tensor:
    pi = torch.tensor(made.process.stationary, dtype=torch.float64)
    return torch.stack([pi[made.exact.states[:, d]] for d in range(3)]).prod(0)


def conditional(made: Case, logits: Tensor, i: int, site: int) -> Tensor:
    """Law of one token given the others for every string ``[S, K]``, by Bayes' rule."""
    x, k = made.exact.states, made.exact.classes
    if k == 4:
        hidden = x.clone()
        hidden[:, site] = 3
        p = torch.softmax(logits[i][made.number(hidden), site, :3], -1)
        return torch.cat([p, torch.zeros(len(x), 1)], 1).double()
    alpha = float(made.process.schedule.alpha(made.sampler.compile().times[i]))
    q = alpha * torch.eye(k) + (1 - alpha) / k  # q(v | x0) at [x0, v]
    p = torch.softmax(logits[i][:, site], -1)
    ratio = (p[:, :, None] * q[None] / q[:, x[:, site]].T[:, :, None]).sum(1)  # p(y) / p(x)
    return (ratio / ratio.sum(-1, keepdim=True)).double()


def enumerated(made: Case, mine: Denoiser, theirs: Denoiser) -> Tensor:
    """The gradient that the module promises, by summing over everything."""
    with torch.no_grad():
        steps, costs = chain(made, mine, theirs)
        values = [made.table]
        for step, cost in zip(reversed(steps), reversed(costs), strict=True):
            values.insert(0, step @ values[0] - ALPHA * cost)
        laws = [start(made)]
        for step in steps:
            laws.append(laws[-1] @ step)
    x, k = made.exact.states, made.exact.classes
    objective = torch.zeros((), dtype=torch.float64)
    open_to = range(1, made.steps + (k == 4))
    for level in open_to:
        i = min(level, made.steps - 1)
        for site in range(3):
            p = conditional(made, mine.net.logits, i, site)
            q = conditional(made, theirs.net.logits, i, site).detach()
            y = x[:, None, :].repeat(1, k, 1)
            y[:, :, site] = torch.arange(k)
            value = values[level][(y * k ** torch.tensor([2, 1, 0])).sum(-1)]
            possible = p > 0
            kl = torch.where(possible, p * (p.clamp(min=1e-30) / q.clamp(min=1e-30)).log(), 0)
            gain = (p * torch.where(possible, value, 0.0)).sum(-1) - ALPHA * kl.sum(-1)
            usable = x[:, site] != 3
            objective = objective + laws[level] @ torch.where(usable, gain, 0.0)
    (found,) = torch.autograd.grad(objective / len(open_to), mine.net.logits)
    return found


@pytest.mark.parametrize("kind", ["absorbing", "uniform", "graph"])
def test_the_gradient_is_the_enumerated_one(kind: str) -> None:
    """All strings, levels, tokens and neighbours, at a network off the base model."""
    made = case(kind, steps=3)
    mine, theirs = network(made, 0.5), network(made).requires_grad_(False)
    want = enumerated(made, mine, theirs)
    for picked in (0, 2):
        config = TuneConfig("sepo", ALPHA, group=4, picked=picked)
        tuned, found = Tuned(config, made.sampler, mine, theirs), []
        for k in range(150):
            ids = torch.arange(600)
            key = Key(2, ids, step=1 + k)
            losses, _ = sepo_losses(tuned, made.template(ids), made.reward, k, key)
            total = torch.stack([v.mean() for v in losses.values()]).sum()
            found.append(-torch.autograd.grad(total, mine.net.logits)[0])  # type: ignore[arg-type]
        each = torch.stack(found)
        # One level in each of the 150 runs; entries that a few runs touch are not normal.
        often = (each != 0).sum(0) >= 25
        assert float(want[often].square().sum()) > 0.95 * float(want.square().sum())
        spread = each.std(0) / len(found) ** 0.5 + 1e-5

        def worst(gradient: Tensor, each: Tensor = each, spread: Tensor = spread) -> float:
            return float(((each.mean(0) - gradient) / spread)[often].abs().max())  # noqa: B023

        assert worst(want) < 6  # nearly normal, at most 2304 entries
        assert worst(1.6 * want) > 6


def test_the_tuned_law_is_the_optimum(monkeypatch: Any) -> None:
    """As near as its siblings come; and not without the divergence."""

    def reached() -> float:
        problem = Problem()
        problem.tune(TuneConfig("sepo", ALPHA, picked=6, group=4), 150, batch=200, lr=0.1)
        return problem.distance()

    assert Problem().distance() > 0.4
    assert reached() < 0.06
    monkeypatch.setattr(Categorical, "kl", lambda self, other: 0 * self.log_prob(self.mode))
    assert reached() > 0.2


def test_one_token_is_drawn_anew() -> None:
    """Never padding, never a mask, the same one in a group, both entries of a pair."""
    made = case("graph", steps=3)
    b, n = 40, 4
    mask = torch.arange(n) < torch.tensor([3, 4] * 20)[:, None].sort(0).values
    x = torch.ones(b, n, n, dtype=torch.int64) * mask[:, None] * mask[:, :, None]
    x = x * (1 - torch.eye(n, dtype=torch.int64))
    state = State({"x": x}, {"x": mask}, torch.arange(b))
    key = Key(0, torch.arange(b), step=1)
    redraw = Redraw.choose(made.sampler, state, 1, 4, key)
    sites = redraw.sites["x"]
    assert redraw.choices.tolist() == [3] * 20 + [6] * 20
    assert (sites.flatten(1).sum(1) == 2).all()
    assert torch.equal(sites, sites.transpose(1, 2))
    assert not bool((sites & ~(x > 0)).any())
    assert torch.equal(
        sites.view(10, 4, n, n), sites.view(10, 4, n, n)[:, :1].expand(-1, 4, -1, -1)
    )
    assert len(torch.unique(sites, dim=0)) > 2  # ten draws of six pairs
    masked = case("absorbing", steps=3)
    y = torch.tensor([[3, 0, 3], [3, 3, 3]]).repeat(20, 1).view(b, 3)
    redraw = Redraw.choose(masked.sampler, State({"x": y}, {}, torch.arange(b)), 1, 1, key)
    assert redraw.choices.tolist() == [1, 0] * 20
    assert bool((redraw.sites["x"] == (y != 3)).all())
    after = redraw.draw(network(masked), key)["x"]
    assert bool(((after == 3) == (y == 3)).all())
    assert set(after[::2, 1].tolist()) == {0, 1, 2}


def test_what_has_no_concrete_score_is_refused() -> None:
    made = case("uniform", steps=1)
    with pytest.raises(ConfigError, match="at least 2"):
        levels(made.sampler)
    assert list(levels(case("absorbing", steps=1).sampler)) == [1]
    mixed = Product({"x": made.process, "pos": Gaussian(VP())})
    solvers = {"x": AncestralJump(), "pos": PlanSpec()}
    with pytest.raises(ConfigError, match="component 'pos' has Gaussian noise"):
        levels(Sampler(mixed, solvers, Times(4, end=1e-3)))


@pytest.mark.parametrize(("name", "reward"), [("mdlm-yeast-promoter", "gc"), ("lggm", "edges")])
def test_shipped_networks_are_tuned(name: str, reward: str) -> None:
    """Masked sequences, and graphs with a prompt, two components and padding."""
    base = graphdiff.load(name)
    how = TrainConfig(steps=1, batch_size=8, max_loss_factor=None)
    config = TuneConfig("sepo", 0.1, steps=4, group=4, picked=2)
    task, data = tuning(base, base.reward(reward), config, how)
    net, ids = task.build(), torch.arange(8)
    losses = task.losses(net, data.batch(ids), Key(0, ids, step=1))
    torch.stack([v.mean() for v in losses.values()]).sum().backward()  # type: ignore[no-untyped-call]
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    assert all(bool(torch.isfinite(g).all()) for g in grads)
    assert any(bool(g.any()) for g in grads)
    assert losses["distance"][0] == pytest.approx(0, abs=1e-5)
    odd = TrainConfig(steps=1, batch_size=9, max_loss_factor=None)
    with pytest.raises(ConfigError, match=r"multiple of tune\.group"):
        tuning(base, base.reward(reward), config, odd)
