"""Solver plans: coefficients, exact marginals, orders, laws, other libraries, threads, JSON."""

from __future__ import annotations

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest
import torch
from exact import (
    GaussianOracle,
    MixtureOracle,
    grid,
    law_of_chain,
    prior,
    probability_flow,
    run,
    slope,
    solve,
    standard_mixture,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphdiff.core import plan
from graphdiff.core.coefficients import gauss_legendre, lagrange_weights, make_grid, phi
from graphdiff.core.errors import ArgumentError, ConfigError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.kernel import Delta
from graphdiff.core.plan import PlanSpec
from graphdiff.core.process import Product
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler
from graphdiff.core.schedule import EDM, VE, VP, Cosine, FlowMatching, Schedule, SubVP
from graphdiff.core.state import State
from graphdiff.core.tableau import SolverPlan
from graphdiff.core.times import Times

FLOWS = [
    plan.Euler(),
    plan.Heun(),
    plan.DDIM(),
    plan.DPMSolverPP(2),
    plan.DPMSolverPP(3),
    plan.DEIS(1),
    plan.DEIS(2),
    plan.DEIS(3),
    plan.UniPC(1),
    plan.UniPC(2),
    plan.UniPC(2, "bh1"),
    plan.UniPC(3),
    PlanSpec("data in t", 3, coordinate="t"),
    PlanSpec("data in sigma", 2, coordinate="sigma"),
    PlanSpec("noise in sigma", 3, "noise", "sigma"),
    PlanSpec("exponential Heun", 2, corrector="heun"),
]
NOISY = [
    plan.DDIM(0.3),
    plan.DDIM(1.0),
    plan.Ancestral(),
    plan.DPMSolverPP(2, sde=True),
    plan.DPMSolverPP(3, sde=True),
    plan.DEIS(2, sde=True),
    plan.UniPC(2, sde=True),
    PlanSpec("tau 0.5", 2, noise=0.5),
    PlanSpec("noisy Heun", 1, noise=0.7, corrector="heun"),
]
SCHEDULES = [VP(), SubVP(), VE(0.02, 10.0), EDM(), Cosine(), FlowMatching()]
names = [spec.name for spec in FLOWS + NOISY]


# --- coefficients ---------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.floats(-60, 20))
def test_phi_against_its_integral(k: int, z: float) -> None:
    nodes, weights = gauss_legendre(60)
    terms = (
        w * math.exp((1 - u) * z) * u ** (k - 1) / math.factorial(k - 1)
        for u, w in zip(nodes, weights, strict=True)
    )
    assert phi(k, z) == pytest.approx(math.fsum(terms), rel=1e-12)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.floats(-1e-3, 1e-3))
def test_phi_near_zero(k: int, z: float) -> None:
    series = sum(z**j / math.factorial(j + k) for j in range(8))
    assert phi(k, z) == pytest.approx(series, rel=1e-15)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(-5, 1), min_size=1, max_size=5, unique_by=lambda v: round(v, 1)))
def test_lagrange_weights_match_moments(nodes: list[float]) -> None:
    moments = [phi(k + 1, -0.7) * math.factorial(k) for k in range(len(nodes))]
    weights = lagrange_weights(nodes, moments)
    for k, moment in enumerate(moments):
        scale = sum(abs(w * v**k) for w, v in zip(weights, nodes, strict=True))
        found = math.fsum(w * v**k for w, v in zip(weights, nodes, strict=True))
        assert found == pytest.approx(moment, abs=1e-12 * max(1, scale))


# --- one step lands on the true marginal ----------------------------------------------------------


def _law(spec: PlanSpec, schedule: Schedule, times: list[float], mean: float, std: float) -> Tensor:
    """Exact mean and standard deviation at the end for data ``N(mean, std^2)``."""
    process = Gaussian(schedule)
    oracle = GaussianOracle(process, torch.tensor([mean]).double(), std)
    law = law_of_chain(spec.compile(process, times), oracle, times)
    return torch.tensor(law, dtype=torch.float64)


def _truth(schedule: Schedule, t: float, mean: float, std: float) -> Tensor:
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    return torch.stack([alpha * mean, torch.sqrt((alpha * std) ** 2 + sigma**2)])


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from([*FLOWS, *NOISY]),
    st.sampled_from(SCHEDULES),
    st.lists(st.floats(0.02, 0.98), min_size=2, max_size=6, unique_by=lambda v: round(v, 2)),
    st.floats(-2, 2),
)
def test_true_x0_lands_on_the_marginal(
    spec: PlanSpec, schedule: Schedule, times: list[float], x0: float
) -> None:
    """With the true x0 (data of zero width) every chain keeps mean and variance exactly."""
    times = sorted(times, reverse=True)
    found = _law(spec, schedule, times, x0, 0.0)
    torch.testing.assert_close(found, _truth(schedule, times[-1], x0, 0.0), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim_against_the_paper(schedule: Schedule, eta: float) -> None:
    t, s = 0.8, 0.5
    x, x0 = torch.randn(3, 2).double(), torch.randn(3, 2).double()
    kernel, _ = (
        plan.DDIM(eta)
        .compile(Gaussian(schedule), [t, s])
        .update(0, 0, x, x0, None, (), Key(0, torch.arange(3)))
    )
    bridge = Gaussian(schedule).bridge(x, x0, t, s, None)
    std = eta * bridge.std
    eps = (x - schedule.alpha(t) * x0) / schedule.sigma(t)
    expected = schedule.alpha(s) * x0 + torch.sqrt(schedule.sigma(s) ** 2 - std**2) * eps
    torch.testing.assert_close(kernel.mean, expected)
    assert float(getattr(kernel, "std", 0.0)) == pytest.approx(float(std), abs=1e-12)
    if eta == 1:
        torch.testing.assert_close(kernel.mean, bridge.mean)


@pytest.mark.parametrize("spec", [*FLOWS, *NOISY], ids=names)
@pytest.mark.parametrize("schedule", [VP(), Cosine(), FlowMatching()], ids=repr)
def test_both_ends_are_exact(spec: PlanSpec, schedule: Schedule) -> None:
    """From alpha = 0 to sigma = 0 nothing is infinite, and the end is the last prediction."""
    program = spec.compile(Gaussian(schedule), [1.0, 0.7, 0.4, 0.1, 0.0])
    data = torch.randn(5, 3)
    out = run(program, 4, lambda x, t: data, torch.randn(5, 3))
    assert torch.equal(out, data)
    assert isinstance(program, SolverPlan)


def test_denoise_returns_the_prediction() -> None:
    program = replace(plan.Heun(), denoise=True).compile(Gaussian(EDM()), [1.0, 0.5, 0.0])
    data = torch.randn(5, 3)
    assert torch.equal(run(program, 2, lambda x, t: data, torch.randn(5, 3)), data)
    assert program.evaluate_at(1, 1) is None


# --- orders ---------------------------------------------------------------------------------------

ORDERS = [
    (plan.Euler(), 1),
    (plan.Heun(), 2),
    (plan.DPMSolverPP(1), 1),
    (plan.DPMSolverPP(2), 2),
    (plan.DPMSolverPP(3), 3),
    (plan.DEIS(1), 1),
    (plan.DEIS(2), 2),
    (plan.DEIS(3), 3),
    (plan.UniPC(1), 2),
    (plan.UniPC(2), 3),
    (plan.UniPC(2, "bh1"), 3),
    (plan.UniPC(3), 4),
    (PlanSpec("noise in sigma", 2, "noise", "sigma"), 2),
    (PlanSpec("data in t", 2, "data", "t"), 2),
]


def _smooth(schedule: Schedule) -> MixtureOracle:
    means = torch.tensor([[-1.0, 0.3], [0.8, 0.9], [0.2, -1.1]]).double()
    return MixtureOracle(Gaussian(schedule), means, 0.6, [0.2, 0.5, 0.3])


@pytest.fixture(scope="module")
def exact_flow() -> tuple[MixtureOracle, float, Tensor, Tensor]:
    schedule = VP()
    oracle, end = _smooth(schedule), float(schedule.inverse(-2 * math.log(0.05)))
    x = prior(oracle, 16, 1.0)
    return oracle, end, x, probability_flow(oracle, x, 1.0, end, 800)


@pytest.mark.parametrize(("spec", "order"), ORDERS, ids=[f"{s.name}-{o}" for s, o in ORDERS])
def test_order(
    spec: PlanSpec, order: int, exact_flow: tuple[MixtureOracle, float, Tensor, Tensor]
) -> None:
    oracle, end, x, truth = exact_flow
    steps = [80, 120, 180]
    times = [grid(oracle.process.schedule, n, 1.0, end) for n in steps]
    errors = [float((solve(spec, oracle, g, x) - truth).norm(dim=1).mean()) for g in times]
    assert slope(steps, errors) == pytest.approx(order, abs=0.15)


WEAK = [
    (plan.DDIM(0.5), 1),
    (plan.Ancestral(), 1),
    (plan.DPMSolverPP(2, sde=True), 1),
    (plan.UniPC(1, sde=True), 1),
]


@pytest.mark.parametrize(("spec", "order"), WEAK, ids=[s.name for s, _ in WEAK])
def test_order_in_law(spec: PlanSpec, order: int) -> None:
    """Noise: the error of the standard deviation of the end, without Monte Carlo."""
    schedule = VP()
    end = float(schedule.inverse(-2 * math.log(0.05)))
    truth = _truth(schedule, end, 0.4, 0.6)
    steps = [60, 120, 240]
    errors = [
        float((_law(spec, schedule, grid(schedule, n, 1.0, end), 0.4, 0.6) - truth)[1].abs())
        for n in steps
    ]
    assert slope(steps, errors) > order - 0.15


# --- distribution ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bent(plan.Solver):
    """A plan whose noise is off by a factor."""

    spec: PlanSpec
    factor: float

    def compile(self, process: Gaussian, times: list[float]) -> SolverPlan:
        made = self.spec.compile(process, times)
        rows = tuple(
            tuple(row and row._replace(std=row.std * self.factor) for row in stage)
            for stage in made.rows
        )
        return replace(made, rows=rows)


def _surprise(solver: plan.Solver) -> float:
    """Deviation of the variance of many samples, in standard errors."""
    process = Gaussian(VP())
    oracle = GaussianOracle(process, torch.tensor([0.3, -0.2]).double(), 0.5)
    n, times = 20000, Times(40, "log_snr", end=0.05)
    state = State({"x": torch.zeros(n, 2).double()}, {}, torch.arange(n))
    end = Sampler(Product({"x": process}), solver, times)(oracle, state, seed=3)["x"]
    z = (end - process.schedule.alpha(0.05) * oracle.means) / oracle.std(0.05)
    return abs(float(z.square().mean()) - 1) * math.sqrt(z.numel() / 2)


def test_law_of_many_samples_and_a_mutation() -> None:
    spec = PlanSpec("SDE", 2, noise=1.0)
    assert _surprise(spec) < 4
    assert _surprise(_Bent(spec, 1.05)) > 6


# --- more steps are never worse -------------------------------------------------------------------


def _ladder(spec: PlanSpec, dtype: torch.dtype, steps: list[int]) -> list[float]:
    oracle = standard_mixture()
    schedule = oracle.process.schedule
    end = float(schedule.inverse(-2 * math.log(0.01)))
    x = prior(oracle, 8, 1.0)
    truth = probability_flow(oracle, x, 1.0, end, 600)
    grids = [grid(schedule, n, 1.0, end) for n in steps]
    ends = [solve(spec, oracle, g, x.to(dtype)).double() for g in grids]
    return [float((y - truth).norm(dim=1).mean()) / math.sqrt(8) for y in ends]


LADDER = [plan.DDIM(), plan.Heun(), plan.DPMSolverPP(2), plan.DPMSolverPP(3), plan.DEIS(3),
          plan.UniPC(3)]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("spec", LADDER, ids=[s.name for s in LADDER])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_never_worse_with_more_steps(spec: PlanSpec, dtype: torch.dtype) -> None:
    # 1e-8: error of the reference; 2e-5: 1000 roundings of float32 states, and the denoiser's own.
    floor = 1e-8 if dtype == torch.float64 else 2e-5
    errors = _ladder(spec, dtype, [10, 20, 50, 100, 200, 400, 500, 1000])
    for before, after in itertools.pairwise(errors):
        assert after <= max(before, floor)


def test_more_steps_help_quickly() -> None:
    for spec in (plan.DDIM(), plan.DEIS(3)):
        errors = _ladder(spec, torch.float32, [10, 40, 120])
        assert errors[2] < errors[1] < errors[0]


# --- other libraries ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table(Schedule):
    """The thousand discrete levels of another library at t = (k + 1) / 1000."""

    cumprod: tuple[float, ...]

    def alpha(self, t: Tensor | float) -> Tensor:
        index = (torch.as_tensor(t, dtype=torch.float64) * 1000).round().long()
        return torch.tensor((1.0, *self.cumprod), dtype=torch.float64)[index].sqrt()

    def sigma(self, t: Tensor | float) -> Tensor:
        return torch.sqrt(1 - self.alpha(t) ** 2)


def _theirs(scheduler: object, oracle: MixtureOracle, x: Tensor) -> Tensor:
    for k in scheduler.timesteps:
        t = (float(k) + 1) / 1000
        schedule = oracle.process.schedule
        eps = (x - schedule.alpha(t) * oracle.denoise(x, t)) / schedule.sigma(t)
        x = scheduler.step(eps, k, x).prev_sample
    return x


@pytest.mark.parametrize("kind", ["ddim", "2m"])
def test_against_diffusers(kind: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    if kind == "ddim":
        theirs = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    else:
        theirs = diffusers.DPMSolverMultistepScheduler(
            timestep_spacing="trailing", algorithm_type="dpmsolver++", solver_order=2,
            final_sigmas_type="zero", lower_order_final=False,
        )  # fmt: skip
    theirs.set_timesteps(20)
    table = Table(tuple(theirs.alphas_cumprod.double().tolist()))
    oracle = MixtureOracle(Gaussian(table), standard_mixture().means, 0.25)
    x = Key(5, torch.arange(6)).normal(8, torch.float64)
    times = [*((float(k) + 1) / 1000 for k in theirs.timesteps), 0.0]
    spec = plan.DDIM() if kind == "ddim" else plan.DPMSolverPP(2)
    ours = solve(spec, oracle, times, x)
    # Their noise levels are float32.
    torch.testing.assert_close(ours, _theirs(theirs, oracle, x), rtol=0, atol=2e-4)


def test_against_torchdiffeq() -> None:
    torchdiffeq = pytest.importorskip("torchdiffeq")
    schedule = VP()
    oracle = _smooth(schedule)
    x, end = prior(oracle, 4, 1.0), 0.02

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        t = float(t)
        drift, diffusion2 = schedule.drift(t), schedule.diffusion2(t)
        return drift * x - 0.5 * diffusion2 * oracle.score(x, t)

    clock = torch.tensor([1.0, end]).double()
    truth = torchdiffeq.odeint(velocity, x, clock, rtol=1e-6, atol=1e-6)[-1]
    ours = solve(plan.UniPC(3), oracle, grid(schedule, 150, 1.0, end), x)
    torch.testing.assert_close(ours, truth, rtol=0, atol=2e-5)


# --- purity, JSON, errors -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec", [plan.UniPC(3), plan.DPMSolverPP(2, sde=True)], ids=lambda s: s.name
)
def test_threads_equal_serial_bitwise(spec: PlanSpec) -> None:
    oracle = standard_mixture()
    program = spec.compile(oracle.process, grid(VP(), 15, 1.0, 1e-3))

    def chain(seed: int) -> Tensor:
        key = Key(seed, torch.arange(4))
        return run(program, 15, oracle.denoise, key.normal(8, torch.float64), key)

    serial = [chain(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for a, b in zip(serial, pool.map(chain, range(8)), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("spec", [*FLOWS, *NOISY], ids=names)
def test_json_round_trip(spec: PlanSpec) -> None:
    assert PlanSpec.from_json(spec.to_json()) == spec
    assert hash(spec) == hash(PlanSpec.from_json(spec.to_json()))


def test_json_of_a_searched_plan() -> None:
    spec = PlanSpec(
        "found",
        order=(1, 2, 3),
        prediction=("noise", "data", "noise"),
        lags=((), (1,), (2, 1)),
        corrector=("unic", "heun", "none"),
        noise=(0.0, 0.0, 0.0),
        times=(0.9, 0.61234567890123, 0.3, 0.1),
    )
    again = PlanSpec.from_json(spec.to_json())
    assert again == spec
    oracle = _smooth(VP())
    x = prior(oracle, 4, 0.9)
    program = again.compile(oracle.process)
    a = run(program, 3, oracle.denoise, x)
    assert program.stages == 2
    assert [program.evaluate_at(i, 1) for i in range(3)] == [None, 0.3, None]
    truth = probability_flow(oracle, x, 0.9, 0.1, 100)
    assert float((a - truth).norm(dim=1).mean()) < 0.2


def test_plans_are_lean() -> None:
    """Deterministic steps remember only what they need and fold the corrector in."""
    times = grid(VP(), 6, 1.0, 1e-3)
    process = Gaussian(VP())
    depth = {s.name: max(r.depth for r in s.compile(process, times).rows[0]) for s in FLOWS}
    assert depth["DDIM(0)"] == depth["Euler"] == 0
    assert depth["DPM++2M"] == 1
    assert depth["DPM++3M"] == depth["DEIS3"] == depth["UniPC2"] == 2
    assert depth["UniPC3"] == 3
    kernel, _ = (
        plan.UniPC(3)
        .compile(process, times)
        .update(0, 0, torch.zeros(1, 1), torch.zeros(1, 1), None, (), Key(0, torch.arange(1)))
    )
    assert isinstance(kernel, Delta)


def test_gradients_flow_through_a_chain() -> None:
    oracle = _smooth(VP())
    program = plan.DPMSolverPP(3).compile(oracle.process, grid(VP(), 5, 1.0, 0.01))
    x = prior(oracle, 2, 1.0).requires_grad_()
    run(program, 5, oracle.denoise, x).sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: PlanSpec(order=0), "order"),
        (lambda: PlanSpec(prediction="x0"), "prediction"),
        (lambda: PlanSpec(corrector="langevin"), "corrector"),
        (lambda: PlanSpec(coordinate="beta"), "coordinate"),
        (lambda: PlanSpec(noise=-1.0), "noise"),
        (lambda: plan.DDIM(1.5), "eta"),
        (lambda: PlanSpec(prediction="noise", noise=1.0), "prediction='data'"),
        (lambda: PlanSpec(relaxation="bh2", coordinate="t"), "relaxation"),
        (lambda: PlanSpec(lags=((0,),)), "lags"),
        (lambda: plan.DPMSolverPP(4), "order"),
        (lambda: PlanSpec(order=(1, 2)).compile(Gaussian(VP()), [1, 0.5]), "entries"),
        (lambda: PlanSpec().compile(Gaussian(VP()), [0.5, 0.5]), "descend"),
        (lambda: PlanSpec().compile(Gaussian(VP()), [0.5]), "two times"),
        (lambda: PlanSpec().compile(Gaussian(VP()), [1.5, 0.5]), "within"),
        (lambda: PlanSpec().compile(Gaussian(VP())), "no times"),
        (lambda: PlanSpec(times=(1.0, 0.1)).compile(Gaussian(VP()), [1, 0.2]), "plan.times"),
        (lambda: PlanSpec().compile(None, [1, 0.2]), "Gaussian"),
    ],
)
def test_bad_plans_are_named(make: object, word: str) -> None:
    with pytest.raises(ArgumentError, match=word):
        make()


@pytest.mark.parametrize("text", ["{", "[]", '{"ordr": 2}', '{"order": "two"}', '{"times": 3}'])
def test_bad_files_are_named(text: str) -> None:
    with pytest.raises(ConfigError, match="plan"):
        PlanSpec.from_json(text)


def test_grid_is_float64() -> None:
    made = make_grid(VP(), [1.0, 0.5, 0.0])
    assert made.sigma[-1] == 0
    assert made.lam[-1] == math.inf
    assert made.h(0) == pytest.approx(made.lam[1] - made.lam[0])
