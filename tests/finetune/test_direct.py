"""Differentiated chains: their gradient, what they reach, what they keep, and the released KL."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from tuning_cases import ALPHA, Differentiable, Problem

import graphdiff
from graphdiff.core.denoiser import X0, Denoiser
from graphdiff.core.errors import ConfigError, RewardError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.kernel import Categorical
from graphdiff.core.plan import PlanSpec
from graphdiff.core.process import Product
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler, Times
from graphdiff.core.schedule import VP
from graphdiff.core.soft import harden, soften, step_at
from graphdiff.core.space import Symmetric
from graphdiff.core.state import State
from graphdiff.finetune.config import TuneConfig
from graphdiff.finetune.direct import direct_losses
from graphdiff.finetune.rollout import Tuned, kernels_at
from graphdiff.finetune.task import tuning
from graphdiff.train import TrainConfig

WHOLE = TuneConfig("drakes", ALPHA, truncate=0, picked=0)


def losses(
    problem: Problem, config: TuneConfig, k: int = 0, n: int = 2000
) -> tuple[dict[str, Tensor], Tensor]:
    ids = torch.arange(n)
    made = problem.made
    key = Key(1, ids, step=k)
    return direct_losses(problem.tuned(config), made.template(ids), Differentiable(made), k, key)[
        :2
    ]


def disturbed(steps: int) -> Problem:
    problem = Problem(steps)
    problem.disturb()
    return problem


def enumerated(problem: Problem) -> tuple[Tensor, Tensor]:
    """Derivatives of the mean reward and of the path divergence."""
    made, table = problem.made, problem.denoiser.net.logits
    every = State({"x": made.exact.states}, {}, torch.arange(64))
    p, cost = torch.zeros(64, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    p[-1] = 1
    for i in range(made.steps):
        mine = kernels_at(made.sampler, problem.denoiser, every, i)["x"]
        cost = (
            cost + p @ mine.kl(kernels_at(made.sampler, problem.reference, every, i)["x"]).double()
        )
        p = p @ made.exact.product_kernel(mine.mean.double())
    (reward,) = torch.autograd.grad(p @ made.table, table, retain_graph=True)
    return reward, torch.autograd.grad(cost, table)[0]


def measured(problem: Problem, config: TuneConfig, name: str, repeats: int) -> Tensor:
    found = []
    for k in range(repeats):
        value = losses(problem, config, k)[0][name].mean()
        found.append(torch.autograd.grad(value, problem.denoiser.net.logits)[0].double())
    return torch.stack(found)


def test_one_step_has_the_exact_gradient() -> None:
    """One step from masks: reward linear in each place, so the estimator is not biased."""
    problem = disturbed(1)
    want, kl = enumerated(problem)
    each = -measured(problem, WHOLE, "policy", 30)
    error = each.std(0) / 30**0.5 + 1e-6
    assert float(((each.mean(0) - want) / error).abs().max()) < 5.5
    assert float(((each.mean(0) - 1.3 * want) / error).abs().max()) > 5.5
    torch.testing.assert_close(
        measured(problem, WHOLE, "kl", 1)[0], ALPHA * kl.double(), atol=1e-4, rtol=1e-3
    )


def test_a_gumbel_softmax_has_another() -> None:
    """The published relaxation at temperature 1 loses a third of it; why 0 is the default."""
    problem = disturbed(1)
    want, _ = enumerated(problem)
    found = -measured(problem, replace(WHOLE, temperature=1.0), "policy", 10).mean(0)
    assert 0.5 < float(found.norm() / want.norm()) < 0.85


def test_longer_chains_keep_its_direction_and_size() -> None:
    """Biased, because the network is not linear in each place, but of the right size.

    One softmax over staying and moving instead, the mutation, has several times the size.
    """
    problem = disturbed(6)
    want, kl = enumerated(problem)
    found = -measured(problem, WHOLE, "policy", 8).mean(0)
    assert float(torch.cosine_similarity(found.flatten(), want.flatten(), 0)) > 0.9
    assert 0.8 < float(found.norm() / want.norm()) < 1.25
    pull = measured(problem, WHOLE, "kl", 8).mean(0) / ALPHA
    assert 0.9 < float(pull.norm() / kl.norm()) < 1.15


def test_one_softmax_over_moving_and_staying_does_not(monkeypatch: Any) -> None:
    problem = disturbed(6)
    want, _ = enumerated(problem)

    def one(self: Categorical, noise: Tensor, temperature: float, hard: bool = True) -> Tensor:
        same = noise.repeat(4, 1, 1)
        return self.relax(same, temperature, hard).unflatten(0, (4, -1))

    monkeypatch.setattr(Categorical, "moves", one)
    found = -measured(problem, WHOLE, "policy", 4).mean(0)
    assert float(found.norm() / want.norm()) > 2


def test_the_chain_is_that_of_the_sampler() -> None:
    """Hard draws have the law of the kernels, at any state of one-hot weights."""
    problem = disturbed(3)
    made = problem.made
    every = State({"x": made.exact.states}, {}, torch.arange(64))
    soft = step_at(made.sampler, problem.denoiser, soften(made.product, every), 1)
    plain = kernels_at(made.sampler, problem.denoiser, every, 1)["x"].mean
    each = soft.parts["x"].mean.unflatten(0, (4, 64))  # given each class
    mixed = (soft.state["x"].movedim(-1, 0).unsqueeze(-1) * each).sum(0)
    torch.testing.assert_close(mixed, plain, atol=1e-6, rtol=1e-5)
    # So is the divergence, at every string: visible tokens add nothing.
    theirs = step_at(made.sampler, problem.reference, soft.state, 1)
    few = step_at(made.sampler, problem.denoiser, soft.state, 1, draws=False)
    assert len(few.parts["x"].mean) == 64  # given the mask
    kernels = [
        kernels_at(made.sampler, d, every, 1)["x"] for d in (problem.denoiser, problem.reference)
    ]
    for mine in (soft, few):
        want = kernels[0].kl(kernels[1])
        torch.testing.assert_close(mine.kl(theirs), want, atol=1e-5, rtol=1e-4)
    n = 4000
    rows = made.exact.states[-1:].expand(n, 3)  # all masked
    state = soften(made.product, State({"x": rows}, {}, torch.arange(n)))
    drawn = step_at(made.sampler, problem.denoiser, state, 1).draw(
        Key(3, torch.arange(n), step=5), 0.0, hard=True
    )
    assert bool(((drawn["x"] == 0) | (drawn["x"] == 1)).all())
    share = torch.nn.functional.one_hot(harden(made.product, drawn)["x"], 4).double().mean(0)
    error = (plain[-1].double() * (1 - plain[-1].double()) / n).sqrt() + 1e-4
    assert float(((share - plain[-1]) / error).abs().max()) < 4.5


def test_drakes_comes_near_the_optimum_and_needs_its_divergence() -> None:
    """From .48; the bias of the estimator keeps it from going all the way (ddpo does)."""
    problem = Problem(8)
    before = problem.distance()
    problem.tune(WHOLE, 120)
    without = Problem(8)
    without.tune(replace(WHOLE, kl="none"), 120)
    assert problem.distance() < 0.18 < 0.4 < before
    assert without.distance() > 0.35
    got, want = without.law(without.denoiser), problem.law(problem.denoiser)
    assert float((got - want) @ problem.made.table) > 0.1  # more reward, further away


def test_the_released_divergence_does_not_see_hard_states() -> None:
    """Zero at states of hard tokens, where the path divergence is not; weights of soft states."""
    problem = disturbed(6)
    made = problem.made
    path, _ = losses(problem, replace(WHOLE, truncate=1), n=200)
    release, _ = losses(problem, replace(WHOLE, truncate=1, kl="drakes-release"), n=200)
    assert float(path["kl"].mean()) > 0.1
    # The only differentiated step starts from a hard state.
    assert float(release["kl"].abs().max()) == 0
    soft, _ = losses(
        problem, replace(WHOLE, truncate=3, kl="drakes-release", temperature=1.0), n=200
    )
    assert float(soft["kl"].detach().abs().mean()) > 1e-3
    base, config = graphdiff.load("defog-qm9"), replace(WHOLE, kl="drakes-release")
    with pytest.raises(ConfigError, match="masked tokens only"):
        tuning(base, Differentiable(made), config, TrainConfig(steps=1, max_loss_factor=None))


@pytest.mark.parametrize("method", ["draft", "draft-lv", "alignprop", "refl"])
def test_methods_without_divergence_raise_the_reward(method: Any) -> None:
    problem = Problem(6)
    before = float(problem.law(problem.denoiser) @ problem.made.table)
    problem.tune(TuneConfig(method, ALPHA, truncate=3), 40, lr=0.03)
    assert float(problem.law(problem.denoiser) @ problem.made.table) > before + 0.1


def test_divergence_of_early_steps_is_estimated_without_bias() -> None:
    problem = disturbed(8)
    gaps = []
    for k in range(40):
        whole, some = (
            losses(problem, replace(WHOLE, truncate=2, picked=m), k, 300)[0]["kl"].detach().mean()
            for m in (0, 2)
        )
        gaps.append(some - whole)
    each = torch.stack(gaps)
    assert float(each.abs().max()) > 0.01  # 2 of 6 steps are not all
    assert abs(float(each.mean() / (each.std() / 40**0.5))) < 4.5


class Counting(torch.autograd.graph.saved_tensors_hooks):
    """Numbers that autograd holds."""

    def __init__(self) -> None:
        self.held: dict[int, int] = {}
        super().__init__(self._pack, lambda x: x)

    def _pack(self, x: Tensor) -> Tensor:
        self.held[x.untyped_storage().data_ptr()] = x.untyped_storage().size()
        return x


@pytest.mark.parametrize("method", ["draft", "drakes"])
def test_a_direct_method_holds_the_steps_it_differentiates(method: Any) -> None:
    """Activations of K steps, not of T; of one with checkpoints."""

    def held(steps: int, truncate: int, checkpoint: bool = False) -> int:
        problem = Problem(steps)
        config = TuneConfig(method, ALPHA, truncate=truncate, picked=0, checkpoint=checkpoint)
        count = Counting()
        with count:
            losses(problem, config, n=64)
        return sum(count.held.values())

    assert held(24, 4) < 1.35 * held(8, 4)  # states of hard steps are kept, activations are not
    assert held(24, 16) > 2.5 * held(24, 4)
    if method == "draft":
        assert held(24, 16, True) < 0.3 * held(24, 16)


class Affine(nn.Module):
    """A denoiser of one number that is linear in it, one line for each of 20 times."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(
        self, values: Any, label: Tensor, masks: Any, cond: Any = None
    ) -> dict[str, Tensor]:
        i = (label * len(self.weight)).round().long().clamp(1, len(self.weight)) - 1
        return {"x": self.weight[i, None] * values["x"] + self.bias[i, None]}


def test_continuous_values_reach_the_closed_form() -> None:
    """Normal data and a quadratic reward: the tilted law is normal again."""
    schedule, steps, alpha, goal = VP(), 20, 2.0, 1.5
    product = Product({"x": Gaussian(schedule)})
    times = Times(steps, end=1 / steps, start=1.0)
    sampler = Sampler(product, PlanSpec(noise=1.0), times)
    t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    a, s = schedule.alpha(t), schedule.sigma(t)
    exact = (a / (a**2 + s**2)).float()

    def network() -> Denoiser:
        return Denoiser(Affine(exact.clone(), torch.zeros(steps)), product, {"x": X0()})

    @dataclass(frozen=True)
    class Quadratic:
        differentiable: bool = True

        def __call__(self, state: State) -> Tensor:
            return -(state["x"][:, 0] - goal).square().double()

    denoiser, reference = network(), network()
    config = TuneConfig("drakes", alpha, truncate=0, picked=0)
    tuned = Tuned(config, sampler, denoiser, reference)
    optimizer, batch = torch.optim.Adam(denoiser.parameters(), 0.02), 512
    for k in range(250):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - k / 250)
        ids = torch.arange(batch)
        template = State({"x": torch.zeros(batch, 1)}, {}, ids)
        found, _, _ = direct_losses(tuned, template, Quadratic(), k, Key(1, ids, step=k))
        optimizer.zero_grad()
        sum(v.mean() for v in found.values()).backward()  # type: ignore[union-attr]
        optimizer.step()
    ids = torch.arange(20_000)
    with torch.no_grad():
        template = State({"x": torch.zeros(len(ids), 1)}, {}, ids)
        base = sampler(reference, template, seed=99)["x"].flatten().double()
        got = sampler(denoiser, template, seed=99)["x"].flatten().double()
    variance = 1 / (1 / base.var() + 2 / alpha)
    mean = variance * (base.mean() / base.var() + 2 * goal / alpha)
    assert abs(float(got.mean() - mean)) < 0.03
    assert float(got.var() / variance) == pytest.approx(1, abs=0.06)


def test_symmetric_states_stay_symmetric() -> None:
    """Weights of node pairs: one draw for both halves, class 0 on the diagonal and at padding."""
    logits = torch.randn(6, 4, 4, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True] * 4, [True] * 3 + [False]]).repeat(3, 1)
    every = Categorical(logits, Symmetric(), mask)  # given each of three classes
    kernel = every.rows(slice(0, 2))
    moved = every.moves(kernel.gumbel_noise(Key(0, torch.arange(2))), 0.0)
    drawn = kernel.place_weights(moved[0])
    torch.testing.assert_close(drawn, drawn.transpose(1, 2))
    assert bool((drawn.sum(-1) == 1).all())
    assert bool((drawn[:, range(4), range(4), 0] == 1).all())
    assert bool((drawn[1, 3, :, 0] == 1).all())


def test_wrong_rewards_are_named() -> None:
    problem = Problem(3)
    made, ids = problem.made, torch.arange(4)
    template, key, tuned = made.template(ids), Key(0, ids), problem.tuned(WHOLE)

    def call(reward: Any) -> None:
        direct_losses(tuned, template, reward, 0, key)

    with pytest.raises(RewardError, match=r"returned \[1\] for 4 samples"):
        call(lambda state: state["x"].sum().view(1))
    with pytest.raises(RewardError, match="NaN or infinite"):
        call(lambda state: state["x"].sum((1, 2)) * float("nan"))
    with pytest.raises(RewardError, match="does not depend on the class weights"):
        call(lambda state: torch.zeros(4))
    with pytest.raises(RewardError, match="none of 4 samples"):
        call(lambda state: state["x"].sum((1, 2)) - float("inf"))
    base = graphdiff.load("defog-qm9")
    train = TrainConfig(steps=1, max_loss_factor=None)
    with pytest.raises(ConfigError, match="'qed' is a black box"):
        tuning(base, base.reward("qed"), TuneConfig("drakes"), train)
    for name, wrong in (("truncate", -1), ("temperature", -1.0), ("kl", "reverse")):
        with pytest.raises(ConfigError, match=f"tune.{name}"):
            replace(TuneConfig(), **{name: wrong})


@dataclass(frozen=True)
class FewBonds:
    """Minus the expected number of bonds of a molecule."""

    differentiable: bool = True

    def __call__(self, state: State) -> Tensor:
        """Sum over pairs of the weight that they are one."""
        return -state["adj"][..., 1:].sum((1, 2, 3)).double() / 2


def test_graphs_are_tuned_directly() -> None:
    """Networks of graphs take class weights: the same answer, and a gradient to every class."""
    model = graphdiff.load("defog-qm9")
    ids = torch.arange(4)
    state = model.sampler(steps=6)(
        model.denoiser, model.task.template(ids, torch.tensor([9, 8, 9, 7]), pad=9), seed=0
    )
    soft = soften(model.denoiser.process, state)
    label = torch.full((4,), 0.3)
    plain = model.denoiser.net(state.values, label, state.masks)
    leaf = {name: v.requires_grad_() for name, v in soft.values.items()}
    again = model.denoiser.net(leaf, label, state.masks)
    for key, value in plain.items():
        torch.testing.assert_close(again[key], value)
    sum(v.square().sum() for v in again.values()).backward()  # type: ignore[union-attr]
    assert all(float(v.grad.abs().sum()) > 0 for v in leaf.values())  # type: ignore[union-attr]
    train = TrainConfig(steps=1, batch_size=8, max_loss_factor=None)
    config = TuneConfig("drakes", 0.5, steps=6, truncate=2, picked=2)
    task, data = tuning(model, FewBonds(), config, train)
    denoiser = task.build()
    found = task.losses(denoiser, data.batch(torch.arange(8)), Key(0, torch.arange(8), step=1))
    sum(v.mean() for v in found.values()).backward()  # type: ignore[union-attr]
    norm = torch.nn.utils.get_total_norm(
        [p.grad for p in denoiser.parameters() if p.grad is not None]
    )
    assert 0 < float(norm) < float("inf")
    assert float(found["reward"].mean()) > 5  # bonds


def test_the_divergence_remembers_what_the_step_did() -> None:
    """With a solver of order 2, equal networks are no divergence apart at any step.

    A reference that is handed the memory *after* the step takes another one.
    """
    product = Product({"x": Gaussian(VP())})
    sampler = Sampler(product, PlanSpec(noise=1.0, order=2), Times(6, end=0.1, start=1.0))
    weight, bias = torch.linspace(0.2, 0.9, 20), torch.linspace(-1, 1, 20)

    def network(shift: float) -> Denoiser:
        return Denoiser(Affine(weight + shift, bias.clone()), product, {"x": X0()})

    @dataclass(frozen=True)
    class Mean:
        differentiable: bool = True

        def __call__(self, state: State) -> Tensor:
            return state["x"][:, 0].double()

    ids = torch.arange(16)
    template = State({"x": torch.zeros(16, 1)}, {}, ids)
    for shift, far in ((0.0, False), (0.1, True)):
        config = TuneConfig("drakes", 1.0, truncate=0)
        tuned = Tuned(config, sampler, network(shift), network(0.0))
        found, _, _ = direct_losses(tuned, template, Mean(), 0, Key(1, ids))
        assert bool((found["kl"] > 1e-4).all()) is far
        assert far or not found["kl"].any()
