"""Tilts: exact for additive rewards, against enumeration and finite differences, wrong rewards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from exact_discrete import ExactDiscrete
from guided_cases import KINDS, Case, case
from stats import accepted, chi2_pvalue, rejected
from torch import Tensor
from torch.nn import functional

from graphdiff.core.categorical import Absorbing
from graphdiff.core.errors import ArgumentError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.jump import AncestralJump
from graphdiff.core.oracles import GaussianOracle
from graphdiff.core.plan import PlanSpec
from graphdiff.core.process import Product
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler, Times
from graphdiff.core.schedule import VP, FlowMatching
from graphdiff.core.space import Dense, Symmetric, ZeroMean
from graphdiff.core.state import State
from graphdiff.core.tilt import GradientTilt, NeighbourTilt, NoisyTilt, PolicyTilt

ALPHA = 0.6
SCORES = torch.tensor([[0.0, 1.0, -0.5, 9.0], [0.3, -1.0, 0.8, 9.0], [1.2, 0.0, 0.4, 9.0]])


def additive() -> Case:
    """Independent tokens under absorbing noise, and a reward that is a sum over tokens."""
    process = Absorbing(FlowMatching(), 4)
    single = torch.tensor([[0.5, 0.3, 0.2, 0], [0.2, 0.2, 0.6, 0], [0.1, 0.7, 0.2, 0]]).double()
    exact = ExactDiscrete(process, torch.ones(64, dtype=torch.float64) / 64, 3)
    law = torch.stack([single[d][exact.states[:, d]] for d in range(3)]).prod(0)
    exact = ExactDiscrete(process, law, 3)
    table = torch.stack([SCORES[d][exact.states[:, d]] for d in range(3)]).sum(0).double()
    return Case(process, exact, 5, table)


def soft_reward(state: State) -> Tensor:
    """The sum over tokens, of class weights or of classes."""
    x = state["x"]
    weights = x if x.is_floating_point() else functional.one_hot(x, 4).to(SCORES)
    return (weights * SCORES.to(weights.dtype)).sum((1, 2))


def tilts(made: Case, scale: float) -> dict[str, Any]:
    return {
        "gradient": GradientTilt(made.product, soft_reward, scale),
        "relaxed": GradientTilt(made.product, soft_reward, scale, draws=2),
        "neighbour": NeighbourTilt(made.product, made.reward, scale),
        "noisy": NoisyTilt(made.product, lambda s, t: soft_reward(s), scale),
    }


@pytest.mark.parametrize("name", ["gradient", "relaxed", "neighbour", "noisy"])
def test_an_additive_reward_is_followed_exactly(name: str) -> None:
    """Without any weight the tilted chain has the law ``p exp(r / alpha)``; 20 % off it has not."""
    made = additive()
    ids, target = torch.arange(4000), made.target(ALPHA)[0]
    for scale, test in ((1 / ALPHA, accepted), (1.2 / ALPHA, rejected)):
        state = made.template(ids)
        for step in made.sampler.steps(made, state, seed=1, tilt=tilts(made, scale)[name]):
            state = step.state
        counts = torch.bincount(made.number(state["x"]), minlength=64)
        assert test(chi2_pvalue(counts, target))


def test_impossible_classes_stay_impossible() -> None:
    """The mask has the highest score of all, and visible tokens have classes that score higher."""
    made = additive()
    state = made.template(torch.arange(2)).replace(x=torch.tensor([[3, 0, 3], [1, 3, 3]]))
    t = torch.full((2,), 0.5)
    x0 = made(state, t)
    for tilt in tilts(made, 2.0).values():
        p = torch.softmax(tilt(state, t, x0, Key(0, state.ids))["x"], -1)
        assert float(p[..., 3].max()) < 1e-6
        assert float(p[0, 1, 0]) > 1 - 1e-6
        assert float(p[1, 0, 1]) > 1 - 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_are_all_tried(kind: str) -> None:
    """Against a loop over tokens and classes."""
    made = case(kind)
    state = made.sampler(made, made.template(torch.arange(3)), seed=0)
    classes = made.exact.classes
    shape = (*state["x"].shape, classes)
    x0 = {"x": functional.one_hot(state["x"], classes).float().mul(5).reshape(shape)}
    tilt = NeighbourTilt(made.product, made.reward, 1.5, batch=5)
    got = made.space.gather(tilt(state, torch.ones(3), x0, Key(0, state.ids))["x"] - x0["x"])
    flat, here = made.space.gather(state["x"]), made.reward(state)
    for b in range(3):
        for d in range(3):
            for v in range(classes):
                near = flat.clone()
                near[b, d] = v
                moved = state.replace(x=made.space.scatter(near, state["x"].shape))
                want = 1.5 * (made.reward(moved)[b] - here[b])
                have = got.reshape(3, 3, classes)[b, d, v]
                assert float(have) == pytest.approx(float(want), abs=1e-5)


def test_the_policy_form_estimates_the_gradient_through_the_softmax() -> None:
    """For an additive reward, whose gradient by the logits is exact."""
    made = additive()
    state = made.template(torch.arange(1)).replace(x=torch.full((1, 3), 3))
    t, key = torch.full((1,), 0.7), Key(0, state.ids)
    x0 = made(state, t)
    want = GradientTilt(made.product, soft_reward, wrt="logits")(state, t, x0, key)["x"] - x0["x"]
    many = state.select(torch.zeros(500, dtype=torch.int64))
    many = State(many.values, {}, torch.arange(500))
    wide = {"x": x0["x"].expand(500, -1, -1)}
    tilt = PolicyTilt(made.product, made.reward, draws=8)
    found = tilt(many, t.expand(500), wide, Key(3, many.ids))["x"] - wide["x"]
    z = (found.mean(0) - want[0]) / (found.std(0) / 500**0.5 + 1e-9)
    assert float(z[..., :3].abs().max()) < 4
    wrong = (found.mean(0) - 1.5 * want[0]) / (found.std(0) / 500**0.5 + 1e-9)
    assert float(wrong[..., :3].abs().max()) > 4


def test_a_continuous_component_moves_along_the_gradient() -> None:
    """Gaussian data and a linear log-likelihood: classifier guidance shifts the mean, exactly."""
    process = Gaussian(VP())
    oracle = GaussianOracle(process, torch.tensor([0.5]), 0.8)
    product = Product({"x": process})
    slope = 1.4  # log p(c | x0) = slope * x0 tilts N(0.5, 0.64) to N(0.5 + 0.64 * slope, 0.64)

    def noisy(state: State, t: Tensor) -> Tensor:
        alpha, sigma = process.coefficients(t, state["x"])
        gain = alpha * 0.64 / (alpha.square() * 0.64 + sigma.square())
        return (slope * gain * state["x"]).sum(1)  # log E[exp(slope x0) | x_t], up to a constant

    sampler = Sampler(product, PlanSpec(order=2), Times(60, end=1e-3))
    template = State({"x": torch.zeros(3000, 1)}, {}, torch.arange(3000))
    plain = sampler(oracle, template, seed=0)["x"]
    state = template
    for step in sampler.steps(oracle, template, seed=0, tilt=NoisyTilt(product, noisy)):
        state = step.state
    shift = float((state["x"] - plain).mean())
    assert shift == pytest.approx(0.64 * slope, abs=0.02)  # prior mismatch and the grid: below .01
    clean = GradientTilt(product, lambda s: slope * s["x"].sum(1), scale=0.5)
    x0 = {"x": torch.zeros(4, 1)}
    moved = clean(template.select(slice(0, 4)), torch.ones(4), x0, Key(0, torch.arange(4)))
    torch.testing.assert_close(moved["x"], torch.full((4, 1), 0.5 * slope))


def test_without_scale_a_tilt_changes_nothing() -> None:
    made = additive()
    template = made.template(torch.arange(6))
    plain = made.sampler(made, template, seed=4)
    named = {**tilts(made, 0.0), "policy": PolicyTilt(made.product, made.reward, 0.0)}
    for tilt in named.values():
        state = template
        for step in made.sampler.steps(made, template, seed=4, tilt=tilt):
            state = step.state
            assert set(step.base) == {"x"}
        assert torch.equal(state["x"], plain["x"])


def test_wrong_tilts_are_named() -> None:
    made = additive()
    template = made.template(torch.arange(2))

    def run(tilt: Any) -> None:
        next(made.sampler.steps(made, template, seed=0, tilt=tilt))

    with pytest.raises(ArgumentError, match="no gradient"):
        run(GradientTilt(made.product, lambda s: s["x"].argmax(-1).sum(1).float()))
    with pytest.raises(ArgumentError, match=r"\[2, 3\], expected \[2\]"):
        run(GradientTilt(made.product, lambda s: s["x"].sum(-1)))
    with pytest.raises(ArgumentError, match="temperature"):
        GradientTilt(made.product, soft_reward, temperature=0)
    with pytest.raises(ArgumentError, match="at least 2 draws"):
        PolicyTilt(made.product, made.reward, draws=1)
    with pytest.raises(ArgumentError, match="no component 'y'"):
        NeighbourTilt(made.product, made.reward, only=("y",))
    mixed = Product({"x": made.process, "p": Gaussian(VP())})
    with pytest.raises(ArgumentError, match="discrete components"):
        PolicyTilt(mixed, made.reward, only=("p",))


def test_a_step_that_is_sent_back_is_where_the_chain_goes_on() -> None:
    """What is sent is what the next step starts from."""
    made = Case(**{**additive().__dict__, "steps": 4})
    sampler = Sampler(
        Product({"x": Absorbing(FlowMatching(), 4, Dense())}), AncestralJump(), Times(4, end=0.0)
    )
    chain = sampler.steps(made, made.template(torch.arange(5)), seed=0)
    step = next(chain)
    from dataclasses import replace

    full = torch.tensor([[0, 1, 2]]).expand(5, -1)
    after = chain.send(replace(step, state=step.state.replace(x=full)))
    assert torch.equal(after.state["x"], full)  # visible tokens never change
    assert after.index == 1


def test_a_pair_of_nodes_is_one_coordinate() -> None:
    """A reward that reads both halves of a matrix: the gradient is that of exchanging the pair."""
    made = case("graph")
    weight = torch.tensor([[0.0, 1.0, -2.0], [0.5, 0.0, 3.0], [1.0, -1.0, 0.0]])

    def reward(state: State) -> Tensor:
        x = state["x"]
        edge = x[..., 1] if x.is_floating_point() else x.float()
        return (edge * weight.to(edge)).sum((1, 2))

    state = made.sampler(made, made.template(torch.arange(4)), seed=0)
    t, key = torch.full((4,), 0.5), Key(0, state.ids)
    x0 = made(state, t)
    exact = NeighbourTilt(made.product, reward)(state, t, x0, key)["x"] - x0["x"]
    noisy = NoisyTilt(made.product, lambda s, t: reward(s))
    for tilt in (GradientTilt(made.product, reward), noisy):
        found = tilt(state, t, x0, key)["x"] - x0["x"]
        edge = found[..., 1] - found[..., 0]
        torch.testing.assert_close(edge, exact[..., 1] - exact[..., 0], atol=1e-5, rtol=0)
        torch.testing.assert_close(found, found.transpose(1, 2))


def test_a_continuous_component_stays_in_its_space() -> None:
    """Symmetric with a zero diagonal, or centred, and zero at padding, whatever is rewarded."""
    product = Product({"x": Gaussian(VP(), Symmetric())})
    mask = torch.tensor([[True, True, True, False]])
    state = State({"x": torch.zeros(1, 4, 4)}, {"x": mask}, torch.arange(1))
    weight = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    tilt = GradientTilt(product, lambda s: (s["x"] * weight).sum((1, 2)))
    got = tilt(state, torch.ones(1), {"x": torch.zeros(1, 4, 4)}, Key(0, state.ids))["x"][0]
    want = weight + weight.T
    want.fill_diagonal_(0)
    want[3], want[:, 3] = 0, 0
    torch.testing.assert_close(got, want)
    points = Product({"p": Gaussian(VP(), ZeroMean())})
    state = State({"p": torch.zeros(1, 4, 2)}, {"p": mask}, torch.arange(1))
    tilt = GradientTilt(points, lambda s: (s["p"] * weight[:, :2]).sum((1, 2)))
    got = tilt(state, torch.ones(1), {"p": torch.zeros(1, 4, 2)}, Key(0, state.ids))["p"][0]
    want = weight[:, :2] - weight[:3, :2].mean(0)
    want[3] = 0
    torch.testing.assert_close(got, want)
