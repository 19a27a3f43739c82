"""Predictors, Langevin moves and S4: exact recursions, published formulas, stationarity."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.kernel import Delta, Normal
from graphdiff.core.program import Program, Solver
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Times
from graphdiff.core.schedule import EDM, VE, VP, Cosine, FlowMatching, Schedule, SubVP
from graphdiff.core.solver import (
    S4,
    EulerMaruyama,
    Langevin,
    PredictorCorrector,
    ReverseDiffusion,
)
from graphdiff.core.space import Dense, Symmetric

MEAN, VAR = 0.8, 0.3
KEY = Key(0, torch.arange(4))


def denoise(schedule: Schedule, t: float, x: Tensor) -> Tensor:
    a, s2 = float(schedule.alpha(t)), float(schedule.sigma(t)) ** 2
    return MEAN + a * VAR / (a * a * VAR + s2) * (x - a * MEAN)


def affine(program: Program, schedule: Schedule, i: int) -> tuple[float, float, float]:
    """Slope, offset and noise variance of one step with the exact denoiser: found by asking."""
    x = torch.tensor([[0.0], [1.0], [2.0], [-3.0]], dtype=torch.float64)
    t = program.evaluate_at(i, 0)
    assert t is not None
    kernel, _ = program.update(i, 0, x, denoise(schedule, t, x), None, program.start(x), KEY)
    mean = kernel.mean
    slope, offset = float(mean[1] - mean[0]), float(mean[0])
    torch.testing.assert_close(mean, slope * x + offset)
    std = torch.as_tensor(0.0 if isinstance(kernel, Delta) else kernel.std, dtype=torch.float64)
    return slope, offset, float(std.flatten()[0]) ** 2


def law_after(solver: Solver, schedule: Schedule, times: tuple[float, ...]) -> tuple[float, float]:
    """Mean and variance in the end, from the exact marginal at the start, without sampling."""
    program = solver.compile(Gaussian(schedule, Dense()), times)
    a, s = float(schedule.alpha(times[0])), float(schedule.sigma(times[0]))
    mean, var = a * MEAN, a * a * VAR + s * s
    for i in range(len(times) - 1):
        slope, offset, noise = affine(program, schedule, i)
        mean, var = slope * mean + offset, slope * slope * var + noise
    return mean, var


def law_error(solver: Solver, schedule: Schedule, n: int) -> float:
    times = Times(n, start=0.9, end=0.4).grid(Gaussian(schedule, Dense()))
    mean, var = law_after(solver, schedule, times)
    a, s = float(schedule.alpha(times[-1])), float(schedule.sigma(times[-1]))
    return abs(mean - a * MEAN) + abs(var - a * a * VAR - s * s)


# A Langevin move of vanishing size leaves the splitting alone to be measured.
WEAK = [
    EulerMaruyama(denoise=False),
    ReverseDiffusion(denoise=False),
    S4(snr=1e-6, denoise=False),
]


@pytest.mark.parametrize("solver", WEAK, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(
    "schedule",
    [VP(0.1, 8.0), SubVP(0.1, 8.0), VE(0.2, 3.0), EDM(0.01, 5.0), Cosine(), FlowMatching()],
    ids=lambda s: type(s).__name__,
)
def test_weak_order_is_one(solver: Solver, schedule: Schedule) -> None:
    errors = [law_error(solver, schedule, n) for n in (25, 50, 100)]
    slope = math.log2(errors[0] / errors[2]) / 2
    assert errors[2] < 0.02
    assert slope > 0.85, (slope, errors)


@pytest.mark.parametrize("solver", WEAK, ids=lambda s: type(s).__name__)
def test_weak_order_notices_a_wrong_noise(solver: Solver) -> None:
    class Louder(Solver):
        def compile(self, process, times):
            program = solver.compile(process, times)
            name = "std" if hasattr(program, "std") else "variance"
            return dataclasses.replace(
                program, **{name: tuple(1.05 * v for v in getattr(program, name))}
            )

    errors = [law_error(Louder(), VP(0.1, 8.0), n) for n in (25, 100)]
    assert errors[1] > 0.5 * errors[0]
    assert errors[1] > 3 * law_error(solver, VP(0.1, 8.0), 100)


# --- the published discretisation, written out again from the papers ---------------------------

N, END, SNR, SCALE = 50, 1e-3, 0.17, 0.7


def published_index(t: float) -> int:
    return int((torch.tensor(t, dtype=torch.float32) * (N - 1)).long())


def published_beta(schedule: VP, k: int) -> float:
    return float(torch.linspace(schedule.beta_min / N, schedule.beta_max / N, N)[k])


def published_variances(schedule: VE, k: int) -> tuple[float, float]:
    logs = torch.linspace(math.log(schedule.sigma_min), math.log(schedule.sigma_max), N)
    ladder = torch.exp(logs.double()) ** 2
    return float(ladder[k]), float(ladder[k - 1]) if k else 0.0


def published_euler(schedule: Schedule, x: Tensor, score: Tensor, t: float, z: Tensor):
    if isinstance(schedule, VP):
        beta = schedule.beta_min + t * (schedule.beta_max - schedule.beta_min)
        drift, g = -0.5 * beta * x, math.sqrt(beta)
    else:
        ratio = schedule.sigma_max / schedule.sigma_min
        drift, g = 0.0 * x, schedule.sigma_min * ratio**t * math.sqrt(2 * math.log(ratio))
    mean = x - (drift - g * g * score) / N
    return mean, mean + g * math.sqrt(1 / N) * z


def published_reverse(schedule: Schedule, x: Tensor, score: Tensor, t: float, z: Tensor):
    k = published_index(t)
    if isinstance(schedule, VP):
        beta = published_beta(schedule, k)
        f, g = math.sqrt(1 - beta) * x - x, math.sqrt(beta)
    else:
        high, low = published_variances(schedule, k)
        f, g = 0.0 * x, math.sqrt(high - low)
    mean = x - (f - g * g * score)
    return mean, mean + g * z


def published_langevin(schedule: Schedule, x: Tensor, score: Tensor, t: float, z: Tensor):
    alpha = 1 - published_beta(schedule, published_index(t)) if isinstance(schedule, VP) else 1.0
    norm = score.flatten(1).norm(dim=1).mean(), z.flatten(1).norm(dim=1).mean()
    step = (SNR * norm[1] / norm[0]) ** 2 * 2 * alpha
    return x + step * score + torch.sqrt(2 * step) * z * SCALE


def published_half(schedule: Schedule, t: float) -> tuple[float, float]:
    dt = -0.5 / N
    if isinstance(schedule, VP):
        slope = schedule.beta_max - schedule.beta_min
        log_coeff = 0.25 * dt * (2 * schedule.beta_min + (2 * t + dt) * slope)
        return math.exp(-log_coeff), math.sqrt(1 - math.exp(2 * log_coeff))
    ratio = schedule.sigma_max / schedule.sigma_min
    sigma = [schedule.sigma_min * ratio**u for u in (t, t + dt)]
    return 1.0, math.sqrt(sigma[0] ** 2 - sigma[1] ** 2)


class Published:
    """Inputs of one step at one of the published times, on a masked component."""

    def __init__(self, schedule: Schedule, symmetric: bool, i: int) -> None:
        self.schedule, self.i = schedule, i
        self.space = Symmetric() if symmetric else Dense()
        self.process = Gaussian(schedule, self.space)
        self.times = Times(N, "published", end=END).grid(self.process)
        shape = (4, 5, 5) if symmetric else (4, 5, 3)
        self.mask = torch.arange(5) < torch.tensor([5, 3, 4, 2])[:, None]
        draw = [
            self.space.normal(KEY.at(step=k), shape, self.mask, torch.float64) for k in (1, 2, 3)
        ]
        self.x, self.x0, self.z = draw
        self.t = self.times[i]
        a, s2 = float(schedule.alpha(self.t)), float(schedule.sigma(self.t)) ** 2
        self.score = (a * self.x0 - self.x) / s2

    def step(self, solver: Solver, stage: int = 0, key: Key = KEY):
        program = solver.compile(self.process, self.times)
        assert program.evaluate_at(self.i, stage) == self.t
        args = (self.i, stage, self.x, self.x0, self.mask, program.start(self.x), key)
        return program.update(*args)[0]


STEPS = [0, 1, 24, N - 1]
SCHEDULES = [VP(0.1, 1.0), VE(0.2, 1.0)]


def test_published_grid_has_every_time_and_a_last_step() -> None:
    times = Times(N, "published", end=END).grid(Gaussian(VP(), Dense()))
    assert len(times) == N + 1
    assert times[-1] == 0.0
    expected = torch.linspace(1.0, END, N, dtype=torch.float64).tolist()
    assert times[:-1] == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("i", STEPS)
@pytest.mark.parametrize("symmetric", [False, True], ids=["nodes", "pairs"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=["VP", "VE"])
@pytest.mark.parametrize(
    ("solver", "formula"),
    [
        (EulerMaruyama(discretization=N), published_euler),
        (ReverseDiffusion(discretization=N), published_reverse),
    ],
    ids=["euler", "reverse"],
)
def test_published_predictors(
    solver: Solver, formula: Callable, schedule: Schedule, symmetric: bool, i: int
) -> None:
    case = Published(schedule, symmetric, i)
    mean, value = formula(schedule, case.x, case.score, case.t, case.z)
    kernel = case.step(solver)
    torch.testing.assert_close(kernel.mean, mean, rtol=1e-6, atol=1e-6)
    if i == N - 1:  # the published loop returns the mean of the last step
        assert isinstance(kernel, Delta)
    else:
        pushed = kernel.push(case.space.gather(case.z))
        torch.testing.assert_close(pushed, value, rtol=1e-6, atol=1e-6)
        assert not torch.allclose(pushed, mean + 1.05 * (value - mean), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("i", STEPS)
@pytest.mark.parametrize("symmetric", [False, True], ids=["nodes", "pairs"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=["VP", "VE"])
def test_published_langevin(schedule: Schedule, symmetric: bool, i: int) -> None:
    case = Published(schedule, symmetric, i)
    corrector = Langevin(SNR, SCALE, norm="batch", discretization=N)
    key = KEY.at(step=77)
    kernel = case.step(PredictorCorrector(ReverseDiffusion(N), corrector), 0, key)
    z = case.space.normal(key, case.x.shape, case.mask, torch.float64)
    expected = published_langevin(schedule, case.x, case.score, case.t, z)
    torch.testing.assert_close(kernel.mean, expected, rtol=1e-6, atol=1e-6)
    assert isinstance(kernel, Delta)


@pytest.mark.parametrize("i", STEPS)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=["VP", "VE"])
def test_published_s4(schedule: Schedule, i: int) -> None:
    """Mean and variance of the composed step; the three published noises are one draw of ours."""
    case = Published(schedule, True, i)
    key = KEY.at(step=78)
    kernel = case.step(S4(SNR, SCALE, norm="batch", discretization=N), 0, key)
    inner = key.at(step=78 + (1 << 31))
    z = case.space.normal(inner, case.x.shape, case.mask, torch.float64)
    x = published_langevin(schedule, case.x, case.score, case.t, z)
    m1, r1 = published_half(schedule, case.t)
    m2, r2 = published_half(schedule, case.t - 0.5 / N)
    if isinstance(schedule, VP):
        g2 = schedule.beta_min + case.t * (schedule.beta_max - schedule.beta_min)
    else:
        ratio = schedule.sigma_max / schedule.sigma_min
        g2 = (schedule.sigma_min * ratio**case.t) ** 2 * 2 * math.log(ratio)
    mean = m2 * (m1 * x + g2 * case.score / N)
    var = (m2 * r1) ** 2 + (0.0 if i == N - 1 else r2**2)
    assert isinstance(kernel, Normal)
    torch.testing.assert_close(kernel.mean, mean, rtol=1e-6, atol=1e-6)
    assert float(kernel.std) == pytest.approx(math.sqrt(var), rel=1e-6)


def test_s4_with_sample_norm_is_the_composition_of_its_parts() -> None:
    """The one normal draw has the moments of Langevin, half step, kick, half step."""
    case = Published(VP(0.1, 4.0), True, 20)
    kernel = case.step(S4(SNR, SCALE, discretization=N))
    move = case.step(
        PredictorCorrector(ReverseDiffusion(N), Langevin(SNR, SCALE, discretization=N))
    )
    m1, r1 = published_half(case.schedule, case.t)
    m2, r2 = published_half(case.schedule, case.t - 0.5 / N)
    g2 = 0.1 + case.t * 3.9
    mean = m2 * (m1 * move.mean + g2 * case.score / N)
    var = (m1 * m2 * move.std) ** 2 + (m2 * r1) ** 2 + r2**2
    torch.testing.assert_close(kernel.mean, mean)
    torch.testing.assert_close(kernel.std, var.sqrt())


# --- Langevin ------------------------------------------------------------------------------------


def langevin_law(
    scale: float, snr: float, moves: int, norm: str = "schedule"
) -> tuple[float, float]:
    schedule, t, b, d = VP(0.1, 8.0), 0.4, 400, 16
    process = Gaussian(schedule, Dense())
    solver = PredictorCorrector(ReverseDiffusion(), Langevin(snr, scale, norm=norm))
    program = solver.compile(process, (t, t - 1e-4))
    a, s2 = float(schedule.alpha(t)), float(schedule.sigma(t)) ** 2
    mean, var = a * MEAN, a * a * VAR + s2
    key = Key(9, torch.arange(b))
    x = mean + math.sqrt(var) * key.normal(d, torch.float64)
    for step in range(moves):
        kernel, _ = program.update(0, 0, x, denoise(schedule, t, x), None, (), key)
        x = kernel.sample(key.at(step=step + 1))
    n = b * d
    return float(x.mean() - mean) * math.sqrt(n / var), float(x.var() / var - 1) * math.sqrt(n / 2)


def test_langevin_leaves_the_marginal_where_it_is() -> None:
    """Sixty moves from the exact marginal; 4 standard errors."""
    z_mean, z_var = langevin_law(scale=1.0, snr=0.08, moves=60)
    assert abs(z_mean) < 4
    assert abs(z_var) < 4


def test_langevin_with_less_noise_is_noticed() -> None:
    assert langevin_law(scale=0.9, snr=0.1, moves=60)[1] < -4


def test_langevin_with_the_norm_of_the_sample_has_its_known_law() -> None:
    """A step 1 / |score|^2 has the stationary density p |score|^2: chi2 of d + 2, not of d."""
    z_mean, z_var = langevin_law(scale=1.0, snr=0.12, moves=60, norm="sample")
    excess = 2 / 16 * math.sqrt(400 * 16 / 2)
    assert abs(z_mean) < 4
    assert abs(z_var - excess) < 4
    assert z_var > 3


def test_langevin_step_of_a_sample_ignores_its_batch() -> None:
    case = Published(VP(0.1, 1.0), True, 10)
    solver = PredictorCorrector(ReverseDiffusion(), Langevin(SNR))
    program = solver.compile(case.process, case.times)
    whole, _ = program.update(10, 0, case.x, case.x0, case.mask, (), KEY)
    for b in range(4):
        one = slice(b, b + 1)
        alone, _ = program.update(
            10, 0, case.x[one], case.x0[one], case.mask[one], (), KEY.select(one)
        )
        torch.testing.assert_close(alone.mean, whole.mean[one], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(alone.std, whole.std[one], rtol=1e-12, atol=1e-12)


def test_langevin_step_is_the_expected_ratio_of_norms() -> None:
    case = Published(VE(0.2, 1.0), True, 10)
    kernel = case.step(PredictorCorrector(ReverseDiffusion(), Langevin(SNR)))
    pairs = torch.tensor([10, 3, 6, 1])
    ratio = 2 * pairs / case.score.flatten(1).square().sum(1)  # a matrix holds each pair twice
    step = 2 * SNR**2 * ratio
    torch.testing.assert_close(kernel.std.flatten(), torch.sqrt(2 * step))


@pytest.mark.parametrize("norm", ["sample", "batch"])
@pytest.mark.parametrize("masked", [True, False])
def test_langevin_of_graphs_without_pairs_or_score(norm: str, masked: bool) -> None:
    """One node has no pair, and a score may vanish: the move is finite, not 0 / 0."""
    process = Gaussian(VP(0.1, 1.0), Symmetric())
    solver = PredictorCorrector(ReverseDiffusion(), Langevin(SNR, norm=norm))
    program = solver.compile(process, (0.5, 0.4))
    x = torch.zeros(4, 1, 1)
    mask = torch.ones(4, 1, dtype=torch.bool) if masked else None
    kernel, _ = program.update(0, 0, x, x, mask, (), KEY)
    assert torch.equal(kernel.sample(KEY), x)


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (ReverseDiffusion(discretization=7), "published"),
        (EulerMaruyama(discretization=7), "published"),
        (S4(discretization=7), "published"),
        (PredictorCorrector(EulerMaruyama(), Langevin(n_steps=0)), "n_steps"),
        (PredictorCorrector(EulerMaruyama(), Langevin(snr=0.0)), "snr"),
        (PredictorCorrector(EulerMaruyama(), Langevin(norm="graph")), "norm"),  # type: ignore[arg-type]
    ],
)
def test_recipes_that_do_not_fit_are_refused(solver: Solver, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        solver.compile(Gaussian(VP(), Dense()), (1.0, 0.5, 0.1))


@pytest.mark.parametrize("solver", [ReverseDiffusion(2), S4(discretization=2)])
def test_published_tables_need_their_schedules(solver: Solver) -> None:
    with pytest.raises(ArgumentError, match="VP and VE"):
        solver.compile(Gaussian(Cosine(), Dense()), (0.9, 0.5, 0.1))


def test_diverging_drift_is_refused() -> None:
    with pytest.raises(ArgumentError, match="start the grid below 1"):
        EulerMaruyama().compile(Gaussian(FlowMatching(), Dense()), (1.0, 0.5, 0.1))
