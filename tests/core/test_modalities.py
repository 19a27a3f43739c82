"""One sampler for graphs, images, token strings and mixed states, against exact denoisers.

Thresholds are the largest statistic of exact draws of the same number, so a sampler that is right
passes, and every check has a mutation (one coefficient off) that must fail.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from sampling_cases import (
    Case,
    Counting,
    MixedData,
    NormalData,
    StringData,
    chi2,
    chi2_limit,
    moment_limits,
    moments,
)

from graphdiff.core.categorical import Absorbing, Uniform
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.jump import AncestralJump
from graphdiff.core.plan import Ancestral, DPMSolverPP, UniPC
from graphdiff.core.process import Product
from graphdiff.core.sampler import Sampler, Times
from graphdiff.core.schedule import EDM, VE, VP, Cosine, LogLinear
from graphdiff.core.solver import (
    S4,
    EulerMaruyama,
    Langevin,
    PredictorCorrector,
    ReverseDiffusion,
    Solver,
)
from graphdiff.core.space import Dense, Symmetric
from graphdiff.core.state import State


def graph_case(b: int = 400, n: int = 5) -> Case:
    mean, var = {"adj": 0.0, "x": (0.7, -0.4)}, {"adj": 0.5, "x": (0.25, 0.36)}
    process = Product(
        {
            "x": Gaussian(VP(), Dense()),
            "adj": Gaussian(VE(0.05, 8.0), Symmetric(), data_std=0.5**0.5),
        }
    )
    sizes = 2 + torch.arange(b) % (n - 1)
    mask = torch.arange(n) < sizes[:, None]
    values = {"x": torch.zeros(b, n, 2), "adj": torch.zeros(b, n, n)}
    template = State(values, {"x": mask, "adj": mask}, torch.arange(b))
    return Case(process, NormalData(process, mean, var), template)


def image_case(b: int = 60, side: int = 8) -> Case:
    yy, xx = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    mean = torch.stack((yy * xx, (yy + xx) / 2))
    var = 0.1 + 0.3 * torch.stack((yy * yy, xx * xx))
    process = Product({"pixels": Gaussian(EDM(0.01, 60.0), Dense(), data_std=0.6)})
    template = State({"pixels": torch.zeros(b, 2, side, side)}, {}, torch.arange(b))
    return Case(process, NormalData(process, {"pixels": mean}, {"pixels": var}), template)


def string_case(kind: str, b: int = 3000) -> Case:
    table = torch.tensor([[6.0, 1.0, 2.0], [1.0, 4.0, 1.0], [0.5, 0.5, 4.0]], dtype=torch.float64)
    table /= table.sum()
    part = (
        Absorbing(LogLinear(1e-4), 4, Dense())
        if kind == "absorbing"
        else Uniform(Cosine(), 3, Dense())
    )
    process = Product({"tokens": part})
    template = State({"tokens": torch.zeros(b, 2, dtype=torch.int64)}, {}, torch.arange(b))
    return Case(process, StringData(process, table), template)


def mixed_case(b: int = 3000) -> Case:
    process = Product({"x": Gaussian(VP(), Dense()), "c": Uniform(Cosine(), 3, Dense())})
    values = {"x": torch.zeros(b, 1), "c": torch.zeros(b, 1, dtype=torch.int64)}
    template = State(values, {}, torch.arange(b))
    return Case(process, MixedData(process), template)


def quadratic(n: int) -> Times:
    """Times that thicken towards the data, where a VP schedule changes fastest."""
    return Times.at([1e-3 + 0.999 * (1 - i / n) ** 2 for i in range(n)] + [1e-3])


CONTINUOUS = {
    "dpm++2": (DPMSolverPP(order=2), quadratic(50)),
    "unipc": (UniPC(order=2), quadratic(30)),
    "ancestral": (Ancestral(), quadratic(150)),
    "reverse": (ReverseDiffusion(), quadratic(250)),
    "euler-maruyama": (EulerMaruyama(), quadratic(300)),
    "reverse+langevin": (
        PredictorCorrector(ReverseDiffusion(), Langevin(snr=0.05, norm="schedule")),
        quadratic(200),
    ),
    "s4": (S4(snr=0.05, norm="schedule"), quadratic(250)),
}


def spread_of(case: Case, solver: Solver | dict[str, Solver], times: Times, **oracle: float):
    sampler = Sampler(case.process, solver, times)
    denoiser = dataclasses.replace(case.oracle, **oracle) if oracle else case.oracle
    state = sampler(denoiser, case.template, seed=5)
    end = sampler.compile().times[-1]
    return case.oracle.standardised(state, end), state


@pytest.mark.parametrize("name", CONTINUOUS)
def test_graph_distribution(name: str) -> None:
    case = graph_case()
    z, state = spread_of(case, *CONTINUOUS[name])
    limits, found = moment_limits(z.numel()), moments(z)
    assert all(found[k] <= limits[k] for k in limits), (found, limits)
    adj, mask = state["adj"], state.mask("adj")
    assert mask is not None
    assert torch.equal(adj, adj.transpose(1, 2))
    assert torch.equal(adj, Symmetric().apply_mask(adj, mask))
    assert torch.equal(state["x"], Dense().apply_mask(state["x"], mask))


@pytest.mark.parametrize("name", ["dpm++2", "ancestral", "reverse+langevin"])
def test_graph_distribution_notices_a_wrong_coefficient(name: str) -> None:
    case = graph_case()
    z, _ = spread_of(case, *CONTINUOUS[name], bias=0.95)
    limits, found = moment_limits(z.numel()), moments(z)
    assert any(found[k] > limits[k] for k in limits), (found, limits)


@pytest.mark.parametrize(
    ("solver", "n"),
    [(DPMSolverPP(order=2), 50), (DPMSolverPP(order=2, sde=True), 80)],
    ids=["ode", "sde"],
)
def test_image_distribution(solver: Solver, n: int) -> None:
    case = image_case()
    times = Times(n, "karras", end=0.0)
    z, _ = spread_of(case, solver, times)
    limits, found = moment_limits(z.numel()), moments(z)
    assert all(found[k] <= limits[k] for k in limits), (found, limits)
    wrong = moments(spread_of(case, solver, times, bias=0.95)[0])
    assert any(wrong[k] > limits[k] for k in limits), (wrong, limits)


def string_statistic(case: Case, n: int, **oracle: float) -> tuple[float, float]:
    sampler = Sampler(case.process, AncestralJump(), Times(n, end=0.0))
    denoiser = dataclasses.replace(case.oracle, **oracle)
    tokens = sampler(denoiser, case.template, seed=3)["tokens"]
    assert int(tokens.min()) >= 0
    assert int(tokens.max()) < 3
    counts = torch.bincount(tokens[:, 0] * 3 + tokens[:, 1], minlength=9)
    return chi2(counts, case.oracle.table), chi2_limit(len(tokens), case.oracle.table)


@pytest.mark.parametrize("kind", ["absorbing", "uniform"])
def test_string_distribution(kind: str) -> None:
    found, limit = string_statistic(string_case(kind), 120)
    assert found <= limit


@pytest.mark.parametrize("kind", ["absorbing", "uniform"])
def test_string_distribution_notices_a_wrong_posterior(kind: str) -> None:
    found, limit = string_statistic(string_case(kind), 120, bias=0.75)
    assert found > limit


def test_strings_in_one_step_lose_their_correlation() -> None:
    """The mutation of the grid: tokens drawn at once are independent, which the check must see."""
    found, limit = string_statistic(string_case("absorbing"), 1)
    assert found > limit


def mixed_statistics(case: Case, **oracle: float) -> tuple[dict[str, float], dict[str, float]]:
    sampler = Sampler(
        case.process,
        {"x": DPMSolverPP(order=2, sde=True), "c": AncestralJump()},
        Times(150, end=0.0),
    )
    counted = Counting(dataclasses.replace(case.oracle, **oracle))
    state = sampler(counted, case.template, seed=8)
    assert len(counted.times) == sampler.network_calls == 150
    c, x = state["c"][:, 0], state["x"][:, 0].double()
    pi, mu = torch.tensor(case.oracle.pi), torch.tensor(case.oracle.mu, dtype=torch.float64)
    z = (x - mu[c]) / case.oracle.sd
    found = {**moments(z), "class": chi2(torch.bincount(c, minlength=3), pi)}
    return found, {**moment_limits(len(c)), "class": chi2_limit(len(c), pi)}


def test_mixed_state_keeps_the_correlation() -> None:
    """Point and class are denoised together: given the class, the point has the class's law."""
    found, limits = mixed_statistics(mixed_case())
    assert all(found[k] <= limits[k] for k in limits), (found, limits)


def test_mixed_state_notices_a_wrong_coefficient() -> None:
    found, limits = mixed_statistics(mixed_case(), bias=0.9)
    assert any(found[k] > limits[k] for k in limits), (found, limits)
