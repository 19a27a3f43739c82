"""Schedules against their textbook equations."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdiff.core.errors import ArgumentError
from graphdiff.core.schedule import (
    EDM,
    VE,
    VP,
    Cosine,
    FlowMatching,
    LogLinear,
    Schedule,
    SquaredCosine,
    SubVP,
    Warped,
)

ALL = [
    VP(),
    VP(0.1, 1.0),
    SubVP(),
    VE(0.2, 1.0),
    VE(),
    EDM(),
    Cosine(),
    SquaredCosine(),
    FlowMatching(),
    LogLinear(),
    Warped(VP(), power=2.0),
    Warped(FlowMatching(), start=0.1, end=0.9),
]
schedules = st.sampled_from(ALL)
clocks = st.floats(1e-4, 0.9999)


@settings(deadline=None, max_examples=25)
@given(schedules, clocks, clocks)
def test_snr_falls(schedule: Schedule, t: float, s: float) -> None:
    s, t = sorted((s, t))
    if t - s > 1e-9:
        assert schedule.log_snr(s) > schedule.log_snr(t)
    assert schedule.snr(t) == pytest.approx(math.exp(schedule.log_snr(t)), rel=1e-9)


@settings(deadline=None, max_examples=25)
@given(schedules, clocks)
def test_inverse(schedule: Schedule, t: float) -> None:
    assert float(schedule.inverse(schedule.log_snr(t))) == pytest.approx(t, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_inverse_is_clamped(schedule: Schedule) -> None:
    assert schedule.inverse(1e9) < 1e-15
    assert schedule.inverse(-1e9) == 1
    assert schedule.inverse(torch.tensor([math.inf, -math.inf])).tolist() == [0, 1]


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_float64_in_any_shape(schedule: Schedule) -> None:
    t = torch.rand(3, 2, dtype=torch.float32)
    for function in (schedule.alpha, schedule.sigma, schedule.log_snr, schedule.diffusion2):
        assert function(t).dtype == torch.float64
        assert function(t).shape == (3, 2)
        assert torch.equal(function(t)[1, 1], function(float(t[1, 1].double())))


def _beta(s: VP | SubVP, t: float) -> float:
    return s.beta_min + t * (s.beta_max - s.beta_min)


def _textbook(schedule: Schedule, t: float) -> tuple[float, float]:
    """Drift and squared diffusion as the papers print them."""
    match schedule:
        case VP():
            return -0.5 * _beta(schedule, t), _beta(schedule, t)
        case SubVP():
            whole = schedule.beta_min * t + 0.5 * (schedule.beta_max - schedule.beta_min) * t * t
            return -0.5 * _beta(schedule, t), _beta(schedule, t) * -math.expm1(-2 * whole)
        case VE():
            ratio = schedule.sigma_max / schedule.sigma_min
            return 0.0, 2 * math.log(ratio) * (schedule.sigma_min * ratio**t) ** 2
        case EDM():
            low, high = (v ** (1 / schedule.rho) for v in (schedule.sigma_min, schedule.sigma_max))
            root = low + t * (high - low)
            rate = schedule.rho * root ** (schedule.rho - 1) * (high - low)
            return 0.0, 2 * root**schedule.rho * rate
        case Cosine():
            angle = 0.5 * math.pi * (t + schedule.s) / (1 + schedule.s)
            drift = -0.5 * math.pi / (1 + schedule.s) * math.tan(angle)
            return drift, -2 * drift
        case SquaredCosine():
            angle = 0.5 * math.pi * (t + schedule.s) / (1 + schedule.s)
            drift = -math.pi / (1 + schedule.s) * math.tan(angle)
            return drift, -2 * drift
        case FlowMatching():
            return -1 / (1 - t), 2 * t / (1 - t)
        case LogLinear():
            drift = -(1 - schedule.eps) / (1 - (1 - schedule.eps) * t)
            return drift, -2 * drift
    raise AssertionError(schedule)


@settings(deadline=None, max_examples=25)
@given(st.sampled_from([s for s in ALL if not isinstance(s, Warped)]), st.floats(1e-3, 0.999))
def test_drift_and_diffusion(schedule: Schedule, t: float) -> None:
    drift, diffusion2 = _textbook(schedule, t)
    assert float(schedule.drift(t)) == pytest.approx(drift, rel=1e-7, abs=1e-12)
    assert float(schedule.diffusion2(t)) == pytest.approx(diffusion2, rel=1e-6, abs=1e-12)


def test_diffusion_at_the_data_end() -> None:
    assert float(VP().diffusion2(0.0)) == pytest.approx(0.1, rel=1e-6)
    assert float(VE(0.2, 1.0).diffusion2(0.0)) == pytest.approx(2 * math.log(5) * 0.04, rel=1e-6)


@settings(deadline=None, max_examples=25)
@given(clocks)
def test_warped_runs_the_chain_rule(t: float) -> None:
    base, warped = VP(), Warped(VP(), power=2.0)
    assert float(warped.alpha(t)) == pytest.approx(float(base.alpha(t * t)), rel=1e-12)
    assert float(warped.diffusion2(t)) == pytest.approx(
        2 * t * float(base.diffusion2(t * t)), rel=1e-6
    )


@settings(deadline=None, max_examples=25)
@given(st.floats(0, 1), st.sampled_from([0.0, 0.008, 0.1]))
def test_squared_cosine_is_the_survival_of_digress(t: float, s: float) -> None:
    """``cos^2(a(t)) / cos^2(a(0))`` (Vignac et al., 2023, section 4.1); variance preserving."""
    schedule = SquaredCosine(s)
    a, a0 = (0.5 * math.pi * (u + s) / (1 + s) for u in (t, 0.0))
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    assert alpha == pytest.approx((math.cos(a) / math.cos(a0)) ** 2, rel=1e-9, abs=1e-15)
    assert alpha**2 + sigma**2 == pytest.approx(1, abs=1e-12)
    assert alpha == pytest.approx(float(Cosine(s).alpha(t)) ** 2, rel=1e-12)


def test_squared_cosine_falls_from_one_to_zero() -> None:
    alpha = SquaredCosine().alpha(torch.linspace(0, 1, 1001))
    assert alpha[0] == 1
    assert float(alpha[-1]) == 0
    assert bool((alpha.diff() < 0).all())


def test_small_noise_does_not_cancel() -> None:
    for t in (1e-6, 1e-10):
        assert float(VP().sigma(t)) == pytest.approx(math.sqrt(0.1 * t), rel=1e-4)
        slope = math.pi / 1.008 * math.tan(0.5 * math.pi * 0.008 / 1.008)
        assert float(Cosine().sigma(t)) == pytest.approx(math.sqrt(slope * t), rel=1e-3)
        assert float(SquaredCosine().sigma(t)) == pytest.approx(math.sqrt(2 * slope * t), rel=1e-3)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: VP(0.0, 1.0), "beta_min"),
        (lambda: VP(2.0, 1.0), "beta_max"),
        (lambda: VE(-1.0, 1.0), "sigma_min"),
        (lambda: VE(1.0, 0.5), "sigma_max"),
        (lambda: EDM(rho=0.5), "rho"),
        (lambda: LogLinear(1.0), "eps"),
        (lambda: SquaredCosine(-0.1), "s is"),
        (lambda: Warped(VP(), power=0.0), "power"),
        (lambda: Warped(VP(), start=0.5, end=0.5), "start"),
    ],
)
def test_bad_numbers_are_named(make: object, word: str) -> None:
    with pytest.raises(ArgumentError, match=word):
        make()
