"""Particles: laws and normalisers by enumeration, invariance, counted calls, wrong rewards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from exact import slope
from guided_cases import KINDS, Case, case
from scipy.stats import norm
from stats import accepted, chi2_pvalue, rejected
from torch import Tensor

from graphdiff.core import steer
from graphdiff.core.errors import ArgumentError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.oracles import GaussianOracle, law_of_chain
from graphdiff.core.particles import (
    choose,
    effective_number,
    expand,
    normalised,
    systematic,
)
from graphdiff.core.plan import PlanSpec
from graphdiff.core.process import Product
from graphdiff.core.sampler import Sampler, Step, Times
from graphdiff.core.schedule import VP
from graphdiff.core.state import State
from graphdiff.core.steer import SMC, SVDD, BestOf
from graphdiff.core.tilt import GradientTilt, NeighbourTilt, PolicyTilt
from graphdiff.core.value import PredictedReward

ALPHA = 0.7


def z_pvalue(log_z: Tensor, truth: Tensor) -> float:
    """Two-sided p-value of the mean of the estimates ``exp(log_z)`` against the truth."""
    ratio = (log_z - truth.log()).exp()
    z = (ratio.mean() - 1) / (ratio.std() / len(ratio) ** 0.5)
    return float(2 * norm.sf(abs(float(z))))


def tilt_of(name: str | None, made: Case) -> Any:
    if name == "policy":
        return PolicyTilt(made.product, made.reward, scale=1.0, draws=4)
    if name == "neighbour":
        return NeighbourTilt(made.product, made.reward, scale=0.8)
    return None


# -- weights and resampling ----------------------------------------------------------------------


def test_systematic_resampling_copies_each_particle_within_one_of_its_share() -> None:
    log_w = torch.randn(200, 12, dtype=torch.float64) * 2
    ancestors = systematic(log_w, torch.rand(200))
    counts = torch.zeros(200, 12).scatter_add_(1, ancestors, torch.ones(200, 12))
    share = 12 * normalised(log_w)
    assert (counts - share).abs().max() < 1 + 1e-9
    uniform = (torch.arange(4000) + 0.5) / 4000
    many = systematic(log_w[:1].expand(4000, -1), uniform)
    mean = torch.bincount(many.flatten(), minlength=12) / 4000
    torch.testing.assert_close(mean.double(), share[0], atol=1e-3, rtol=0)


def test_one_particle_is_chosen_by_weight() -> None:
    log_w = torch.tensor([[0.0, 1.0, -torch.inf, 0.5]])
    uniform = (torch.arange(10_000) + 0.5) / 10_000
    counts = torch.bincount(choose(log_w.expand(10_000, -1), uniform), minlength=4) / 10_000
    torch.testing.assert_close(counts.double(), normalised(log_w.double())[0], atol=2e-4, rtol=0)
    dead = torch.full((1, 3), -torch.inf)
    assert torch.equal(normalised(dead), torch.full((1, 3), 1 / 3))
    assert float(effective_number(dead)) == pytest.approx(3)
    assert float(effective_number(torch.tensor([[0.0, -torch.inf]]))) == 1


def test_populations_have_ids_of_their_own() -> None:
    template = State({"x": torch.zeros(2, 3), "c": torch.tensor([5, 6])}, {}, torch.tensor([4, 9]))
    rows, cond = expand(template, {"w": torch.tensor([1.0, 2.0]), "s": 3}, 3)
    assert rows.ids.tolist() == [12, 13, 14, 27, 28, 29]
    assert rows["c"].tolist() == [5, 5, 5, 6, 6, 6]
    assert cond["w"].tolist() == [1, 1, 1, 2, 2, 2]
    assert cond["s"] == 3
    with pytest.raises(ArgumentError, match="at least 1"):
        expand(template, None, 0)
    with pytest.raises(ArgumentError, match="exceeds"):
        expand(State({"x": torch.zeros(1)}, {}, torch.tensor([1 << 47])), None, 4)


# -- exactness -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tilt", [None, "policy", "neighbour"])
def test_the_normaliser_is_unbiased(kind: str, tilt: str | None) -> None:
    """``E[Z] = E_p[exp(r / alpha)]`` for any number of particles."""
    made = case(kind)
    smc = SMC(made.sampler, made.reward, 4, ALPHA, tilt=tilt_of(tilt, made), threshold=0.7)
    truth, ids = made.target(ALPHA)[1], torch.arange(4000)
    found = smc.run(made, made.template(ids), seed=1)
    assert accepted(z_pvalue(found.log_normaliser, truth))
    assert rejected(z_pvalue(found.log_normaliser, made.target(1.3 * ALPHA)[1]))
    assert found.resampled > 0


def test_without_the_normaliser_of_the_tilt_the_target_is_another(monkeypatch: Any) -> None:
    """``q`` is ``p exp(gain)`` over its sum; the ratio without that sum is ``exp(-gain)``."""
    made, gains = case("absorbing"), []
    plain = tilt_of("neighbour", made)

    def tilt(state: State, t: Tensor, x0: Any, key: Any) -> Any:
        answer = plain(state, t, x0, key)
        gains[:] = [(answer["x"] - x0["x"]).double(), state["x"]]
        return answer

    def unnormalised(step: Step) -> Tensor:
        gain, before = gains
        x = step.state["x"]
        shown = (before == 3) & (x != 3)  # tokens that this step has revealed
        return -torch.where(shown, gain.gather(-1, x.unsqueeze(-1)).squeeze(-1), 0.0).sum(1)

    smc = SMC(made.sampler, made.reward, 4, ALPHA, tilt=tilt, threshold=0.7)
    truth, template = made.target(ALPHA)[1], made.template(torch.arange(4000))
    assert accepted(z_pvalue(smc.run(made, template, seed=1).log_normaliser, truth))
    monkeypatch.setattr(steer, "log_ratio", unnormalised)
    assert rejected(z_pvalue(smc.run(made, template, seed=1).log_normaliser, truth))


@pytest.mark.parametrize("potential", ["difference", "max", "sum"])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_potentials_and_thresholds_change_no_target(potential: Any, threshold: float) -> None:
    made = case(steps=3)
    truth = made.target(ALPHA)[1]
    smc = SMC(made.sampler, made.reward, 5, ALPHA, potential=potential, threshold=threshold)
    found = smc.run(made, made.template(torch.arange(8000)), seed=2)
    assert accepted(z_pvalue(found.log_normaliser, truth))
    assert rejected(z_pvalue(found.log_normaliser, made.target(1.3 * ALPHA)[1]))
    assert (found.resampled == 0) == (threshold == 0)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_follow_the_weighted_law(kind: str) -> None:
    made = case(kind)
    smc = SMC(made.sampler, made.reward, 48, ALPHA, tilt=tilt_of("neighbour", made))
    drawn = smc(made, made.template(torch.arange(1500)), seed=3)
    counts = torch.bincount(made.number(drawn["x"]), minlength=len(made.table))
    assert accepted(chi2_pvalue(counts, made.target(ALPHA)[0]))
    assert rejected(chi2_pvalue(counts, made.target(1.5 * ALPHA)[0]))
    assert rejected(chi2_pvalue(counts, made.law()))


@pytest.mark.parametrize("tilt", [None, "policy"])
def test_the_error_falls_with_the_root_of_the_particles(tilt: str | None) -> None:
    made = case()
    truth, errors, sizes = made.target(ALPHA)[1], [], [4, 16, 64, 256]
    for k in sizes:
        smc = SMC(made.sampler, made.reward, k, ALPHA, tilt=tilt_of(tilt, made))
        found = smc.run(made, made.template(torch.arange(200)), seed=4)
        errors.append(
            float(((found.log_normaliser - truth.log()).exp() - 1).square().mean().sqrt())
        )
    assert abs(slope(sizes, errors) - 0.5) < 0.12  # s.e. of the slope from 200 populations: .03


def test_values_of_drawn_clean_samples_are_the_soft_value() -> None:
    """With many draws, and tokens that are independent, the value is exact."""
    made = case()
    value = PredictedReward(made.product, made.reward, draws=4000, average="soft", alpha=ALPHA)
    state = made.template(torch.arange(1)).replace(x=torch.tensor([[3, 1, 3]]))
    x0 = made(state, torch.tensor([0.5]))
    from graphdiff.core.rng import Key

    got = value(state, 0.5, x0, Key(0, state.ids))
    p = torch.softmax(x0["x"][0].double(), -1)
    joint = torch.stack([p[d][made.exact.states[:, d]] for d in range(3)]).prod(0)
    want = ALPHA * (joint @ (made.table / ALPHA).exp()).log()
    assert float(got) == pytest.approx(float(want), abs=0.05)  # s.e. of 4,000 draws: .01
    plain = PredictedReward(made.product, made.reward, draws=4000)(
        state, 0.5, x0, Key(0, state.ids)
    )
    assert float(plain) == pytest.approx(float(joint @ made.table), abs=0.05)
    assert float(plain) < float(got)  # Jensen


def gaussian() -> tuple[Sampler, GaussianOracle, Any]:
    process = Gaussian(VP())
    oracle = GaussianOracle(process, torch.tensor([0.3, -0.2]), 0.8)

    def reward(state: State) -> Tensor:
        return -(state["x"] - 1.0).square().sum(1)

    sde = PlanSpec(noise=1.0, denoise=True)
    return Sampler(Product({"x": process}), sde, Times(30, end=1e-3)), oracle, reward


@pytest.mark.parametrize("tilted", [False, True])
def test_continuous_chains_reach_the_posterior(tilted: bool) -> None:
    """Gaussian data, quadratic reward: the chain, and its weighted law, are Gaussian."""
    sampler, oracle, reward = gaussian()
    tilt = GradientTilt(sampler.process, reward, scale=0.02) if tilted else None
    smc = SMC(sampler, reward, 32, 1.0, tilt=tilt)
    template = State({"x": torch.zeros(600, 2)}, {}, torch.arange(600))
    found = smc.run(oracle, template, seed=1)
    times, parts = sampler.compile().times, []
    for m in (0.3, -0.2):
        one = GaussianOracle(oracle.process, torch.tensor([m]), 0.8)
        parts.append(
            law_of_chain(PlanSpec(noise=1.0, denoise=True).compile(one.process, times), one, times)
        )
    mean, std = torch.tensor(parts, dtype=torch.float64).unbind(1)
    variance = std.square()
    new = 1 / (1 / variance + 2)  # reward -(x - 1)^2 is a normal factor of variance 1/2
    centre = new * (mean / variance + 2)
    # E[exp(-(x - 1)^2)] of a normal law, for each coordinate
    log_z = (-0.5 * torch.log1p(2 * variance) - (mean - 1) ** 2 / (1 + 2 * variance)).sum()
    assert accepted(z_pvalue(found.log_normaliser, log_z.exp()))
    # All particles, each population weighted by its unbiased normaliser, estimate moments.
    x = found.state["x"].double().view(600, 32, 2)
    z = (found.log_normaliser - log_z).exp().unsqueeze(1)
    for power, want in ((x, centre), ((x - centre).square(), new)):
        each = z * (found.weights.unsqueeze(2) * power).sum(1)
        error = each.sum(0) / z.sum() - want
        spread = (each - want * z).square().sum(0).sqrt() / z.sum()
        assert float((error / spread).abs().max()) < 4
        assert float((0.2 / spread).min()) > 4  # what a wrong mean or variance would show


# -- identity, invariance, cost ------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_one_particle_is_the_sampler_bit_by_bit(kind: str) -> None:
    made = case(kind)
    template = made.template(torch.tensor([3, 8, 1]))
    plain = made.sampler(made, template, seed=5)
    for guide in (
        SMC(made.sampler, made.reward, 1, ALPHA),
        SVDD(made.sampler, made.reward, 1),
        BestOf(made.sampler, made.reward, 1),
    ):
        guided = guide(made, template, seed=5)
        assert torch.equal(guided["x"], plain["x"])
        assert torch.equal(guided.ids, plain.ids)


@pytest.mark.parametrize("name", ["smc", "twisted", "svdd", "soft", "best"])
def test_a_guided_sample_depends_on_its_id_alone(name: str) -> None:
    made = case()
    guide = {
        "smc": SMC(made.sampler, made.reward, 6, ALPHA),
        "twisted": SMC(made.sampler, made.reward, 6, ALPHA, tilt=tilt_of("policy", made)),
        "svdd": SVDD(made.sampler, made.reward, 4),
        "soft": SVDD(made.sampler, made.reward, 4, alpha=0.5),
        "best": BestOf(made.sampler, made.reward, 4),
    }[name]
    ids = torch.arange(12)
    whole = guide(made, made.template(ids), seed=2)["x"]
    some = torch.tensor([7, 2])
    assert torch.equal(guide(made, made.template(some), seed=2)["x"], whole[some])
    assert not torch.equal(guide(made, made.template(ids), seed=3)["x"], whole)


def test_guidance_asks_the_network_once_a_step() -> None:
    made = case(steps=6)
    for guide in (SMC(made.sampler, made.reward, 4, ALPHA), SVDD(made.sampler, made.reward, 4)):
        made.calls = 0
        seen: list[int] = []
        template = made.template(torch.arange(3))
        guide(made, template, seed=0, on_step=lambda s, seen=seen: seen.append(s.calls))
        assert made.calls == 6
        assert guide.network_calls == 24
        assert seen[-1] == 24


def test_conditions_travel_with_their_particles() -> None:
    """Each sample is told a number; resampling must not mix them up between samples."""
    made, told = case(), []

    def denoiser(state: State, t: Tensor, cond: Any) -> dict[str, Tensor]:
        told.append(cond["c"].clone())
        return made(state, t)

    template = made.template(torch.arange(3)).replace(c=torch.tensor([10, 20, 30]))
    SMC(made.sampler, made.reward, 4, 0.1, threshold=1.0)(denoiser, template, seed=0)
    want = torch.tensor([10, 20, 30]).repeat_interleave(4)
    assert all(torch.equal(c, want) for c in told)


def test_heuristics_raise_the_reward() -> None:
    made = case(steps=8)
    ids = torch.arange(400)
    mean = {}
    for name, guide in {
        "plain": BestOf(made.sampler, made.reward, 1),
        "best": BestOf(made.sampler, made.reward, 8),
        "svdd": SVDD(made.sampler, made.reward, 8),
        "soft": SVDD(made.sampler, made.reward, 8, alpha=ALPHA),
        "smc": SMC(made.sampler, made.reward, 8, ALPHA, select="best"),
    }.items():
        mean[name] = float(made.reward(guide(made, made.template(ids), seed=1)).mean())
    assert min(mean["best"], mean["svdd"], mean["smc"]) > mean["plain"] + 0.3
    assert mean["plain"] < mean["soft"] < mean["svdd"]


def test_the_best_of_n_is_the_best_of_these_samples() -> None:
    made = case()
    drawn = made.sampler(made, expand(made.template(torch.arange(5)), None, 7)[0], seed=1)
    best = BestOf(made.sampler, made.reward, 7)(made, made.template(torch.arange(5)), seed=1)
    want = made.reward(drawn).view(5, 7).amax(1)
    assert torch.equal(made.reward(best), want)


# -- wrong rewards -------------------------------------------------------------------------------


def test_samples_that_must_not_be_are_not_drawn() -> None:
    made = case()
    made.table = torch.where(made.table < 1.5, -torch.inf, made.table)
    drawn = SMC(made.sampler, made.reward, 32, ALPHA)(made, made.template(torch.arange(50)), seed=0)
    assert torch.isfinite(made.reward(drawn)).all()
    truth = made.target(ALPHA)[1]
    found = SMC(made.sampler, made.reward, 6, ALPHA).run(
        made, made.template(torch.arange(3000)), seed=0
    )
    assert accepted(z_pvalue(found.log_normaliser, truth))


def test_wrong_rewards_and_settings_are_named() -> None:
    made = case()
    template = made.template(torch.arange(2))

    def run(reward: Any, **settings: Any) -> None:
        SMC(made.sampler, reward, 2, **settings)(made, template, seed=0)

    with pytest.raises(ArgumentError, match=r"returned \[4, 1\] for 4 samples"):
        run(lambda s: made.reward(s)[:, None])
    with pytest.raises(ArgumentError, match="nan"):
        run(lambda s: made.reward(s) * torch.nan)
    with pytest.raises(ArgumentError, match="returned float"):
        run(lambda s: 1.0)
    for name, wrong in (("alpha", 0.0), ("threshold", 2.0), ("potential", "mean"), ("select", "x")):
        with pytest.raises(ArgumentError, match=name):
            replace(SMC(made.sampler, made.reward), **{name: wrong})
    with pytest.raises(ArgumentError, match="candidates"):
        SVDD(made.sampler, made.reward, 0)


def test_a_tilted_step_without_noise_is_refused() -> None:
    sampler, oracle, reward = gaussian()
    ode = Sampler(sampler.process, PlanSpec(), Times(5, end=1e-3))
    tilt = GradientTilt(sampler.process, reward, scale=0.05)
    template = State({"x": torch.zeros(2, 2)}, {}, torch.arange(2))
    with pytest.raises(ArgumentError, match="without noise"):
        SMC(ode, reward, 4, tilt=tilt)(oracle, template, seed=0)
    SMC(ode, reward, 4)(oracle, template, seed=0)  # untilted, only the prior is random
