"""The Gaussian process: bridges, marginals, losses and the exact ELBO."""

from __future__ import annotations

import math

import pytest
import torch
from exact import GaussianOracle
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdiff.core.errors import ArgumentError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.process import Product
from graphdiff.core.rng import Key
from graphdiff.core.schedule import EDM, VE, VP, Cosine, FlowMatching, LogLinear, Schedule, SubVP
from graphdiff.core.space import Dense, Symmetric, ZeroMean
from graphdiff.core.state import State

ALL = [VP(), SubVP(), VE(0.2, 1.0), EDM(), Cosine(), FlowMatching(), LogLinear()]
schedules = st.sampled_from(ALL)


def _key(n: int, seed: int = 0) -> Key:
    return Key(seed, torch.arange(n))


@settings(deadline=None, max_examples=25)
@given(schedules, st.floats(0.01, 0.5), st.floats(0.01, 0.49), st.floats(-3, 3))
def test_bridge_keeps_the_marginal(schedule: Schedule, s: float, gap: float, x0: float) -> None:
    """Averaging the bridge over q(x_t|x0) gives q(x_s|x0): mean and variance."""
    t = s + gap
    process = Gaussian(schedule)
    clean = torch.full((2, 1), x0, dtype=torch.float64)
    # The mean is affine in x_t: two values of x_t give its slope and offset.
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    kernel = process.bridge(x, clean, t, s, None)
    offset, slope = float(kernel.mean[0]), float(kernel.mean[1] - kernel.mean[0])
    alpha_t, sigma_t = float(schedule.alpha(t)), float(schedule.sigma(t))
    mean = offset + slope * alpha_t * x0
    variance = float(torch.as_tensor(kernel.std).flatten()[0]) ** 2 + (slope * sigma_t) ** 2
    assert mean == pytest.approx(float(schedule.alpha(s)) * x0, rel=1e-9, abs=1e-9)
    assert variance == pytest.approx(float(schedule.sigma(s)) ** 2, rel=1e-9)


@settings(deadline=None, max_examples=25)
@given(schedules, st.lists(st.floats(0.02, 0.98), min_size=3, max_size=3, unique=True))
def test_chapman_kolmogorov(schedule: Schedule, times: list[float]) -> None:
    """Bridging t -> s -> r is bridging t -> r."""
    r, s, t = sorted(times)
    if min(s - r, t - s) < 1e-3:
        return
    process = Gaussian(schedule)
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    x0 = torch.full_like(x, 0.7)
    direct, first = process.bridge(x, x0, t, r, None), process.bridge(x, x0, t, s, None)
    second = process.bridge(first.mean, x0, s, r, None)
    factor = float(process.bridge(x, x0, s, r, None).mean.diff(dim=0))
    variance = second.std**2 + factor**2 * first.std**2
    torch.testing.assert_close(second.mean, direct.mean, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(variance, direct.std**2, rtol=1e-8, atol=1e-15)


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_bridge_against_its_definition(schedule: Schedule) -> None:
    """Bayes: q(x_s|x_t,x0) is proportional to q(x_t|x_s) q(x_s|x0)."""
    t, s = 0.8, 0.3
    a_t, a_s = float(schedule.alpha(t)), float(schedule.alpha(s))
    v_t, v_s = float(schedule.sigma(t)) ** 2, float(schedule.sigma(s)) ** 2
    ratio = a_t / a_s
    step = v_t - ratio**2 * v_s
    x, x0 = torch.tensor([[1.3]]).double(), torch.tensor([[-0.4]]).double()
    precision = 1 / v_s + ratio**2 / step
    kernel = Gaussian(schedule).bridge(x, x0, t, s, None)
    assert float(kernel.std) ** 2 == pytest.approx(1 / precision, rel=1e-9)
    expected = (a_s * x0 / v_s + ratio * x / step) / precision
    torch.testing.assert_close(kernel.mean, expected, rtol=1e-9, atol=0)


def test_bridge_at_the_ends() -> None:
    x, x0 = torch.ones(2, 3), torch.full((2, 3), 0.25)
    landed = Gaussian(VP()).bridge(x, x0, 0.5, 0.0, None)
    assert torch.equal(landed.mean, x0)
    assert float(landed.std) == 0
    forgot = Gaussian(FlowMatching()).bridge(x, x0, 1.0, 0.5, None)
    assert torch.equal(forgot.mean, 0.5 * x0)
    assert float(forgot.std) == 0.5


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_times_may_be_shared_or_not(schedule: Schedule) -> None:
    process = Gaussian(schedule)
    x, x0 = torch.randn(4, 3), torch.randn(4, 3)
    one = process.bridge(x, x0, 0.7, 0.2, None)
    for shape in ((), (1,), (4,)):
        t, s = torch.full(shape, 0.7).double(), torch.full(shape, 0.2).double()
        torch.testing.assert_close(process.bridge(x, x0, t, s, None).mean, one.mean)
    expanded = torch.tensor(0.7).double().expand(4)
    torch.testing.assert_close(process.bridge(x, x0, expanded, 0.2, None).mean, one.mean)
    alpha, _ = process.coefficients(expanded, x)
    assert alpha.numel() == 1


def test_corrupt_moments_and_a_mutation() -> None:
    """A z-test of variance that exact noise passes and 5 % off fails."""
    n, t = 4000, torch.tensor(0.4).double()
    process = Gaussian(VP())
    x0 = torch.full((n, 4), 0.5, dtype=torch.float64)
    x = process.corrupt(x0, t.expand(n), None, _key(n))
    z = (x - process.schedule.alpha(t) * x0) / process.schedule.sigma(t)

    def statistic(z: torch.Tensor) -> float:
        return abs(float(z.square().mean()) - 1) * math.sqrt(z.numel() / 2)

    assert statistic(z) < 4
    assert statistic(1.05 * z) > 4
    assert abs(float(z.mean())) * math.sqrt(z.numel()) < 4


@pytest.mark.parametrize("space", [Symmetric(), ZeroMean()], ids=repr)
def test_spaces_are_kept(space: Symmetric | ZeroMean) -> None:
    shape = (3, 5, 5) if isinstance(space, Symmetric) else (3, 5, 2)
    mask = torch.arange(5).expand(3, 5) < torch.tensor([[5], [3], [1]])
    process = Gaussian(VE(0.2, 1.0), space)
    x0 = space.project(torch.randn(shape), mask)
    t = torch.tensor([0.2, 0.5, 0.9])
    x = process.corrupt(x0, t, mask, _key(3))
    torch.testing.assert_close(space.project(x, mask), x)
    y = process.bridge(x, x0, t, t / 2, mask).sample(_key(3))
    torch.testing.assert_close(space.project(y, mask), y)
    loss = process.loss(x0, x0 * 2, x, t, mask)
    assert loss.shape == (3,)
    assert bool(loss.isfinite().all())


@pytest.mark.parametrize("weighting", ["x0", "eps", "v", "edm"])
def test_loss_measures_the_named_error(weighting: str) -> None:
    process = Gaussian(VP(), weighting=weighting, data_std=0.5)
    x0, guess = torch.randn(3, 4).double(), torch.randn(3, 4).double()
    t = torch.tensor([0.2, 0.5, 0.9]).double()
    x = process.corrupt(x0, t, None, _key(3))
    a, s = (f(t).unsqueeze(1) for f in (process.schedule.alpha, process.schedule.sigma))

    def quantity(clean: torch.Tensor) -> torch.Tensor:
        eps = (x - a * clean) / s
        edm = (s / a) * 0.5 / ((s / a) ** 2 + 0.25).sqrt()
        return {"x0": clean, "eps": eps, "v": a * eps - s * clean, "edm": clean / edm}[weighting]

    expected = (quantity(guess) - quantity(x0)).square().mean(1)
    torch.testing.assert_close(process.loss(guess, x0, x, t, None), expected)


def test_prior() -> None:
    assert float(Gaussian(VP()).prior_kernel(torch.zeros(1, 2), None).std) == pytest.approx(1.0)
    wide = Gaussian(VE(0.2, 5.0), data_std=2.0)
    draw = wide.prior(torch.zeros(2000, 4).double(), None, _key(2000))
    assert float(draw.std()) == pytest.approx(math.sqrt(29), rel=0.05)
    exact = Gaussian(VE(0.2, 5.0), prior_std=5.0)
    base = Gaussian(VE(0.2, 5.0), prior_std=1.0)
    like = torch.zeros(3, 2).double()
    draws = exact.prior(like, None, _key(3)), base.prior(like, None, _key(3))
    torch.testing.assert_close(draws[0], 5 * draws[1])


@pytest.mark.parametrize("schedule", [VP(), VE(0.05, 20.0), FlowMatching()], ids=repr)
def test_elbo_tends_to_the_exact_likelihood(schedule: Schedule) -> None:
    """With the exact denoiser of Gaussian data the gap of the ELBO vanishes with the step."""
    end, std = (0.999 if isinstance(schedule, FlowMatching) else 1.0), 0.6
    process = Gaussian(schedule, Dense())
    oracle = GaussianOracle(process, torch.tensor([0.3]).double(), std)

    def gap(n: int) -> float:
        """Mean of -ELBO minus the entropy, in closed form over x0 and x_t (both Gaussian)."""
        times = torch.linspace(0.02, end, n + 1, dtype=torch.float64)
        a, s2 = schedule.alpha(times), schedule.sigma(times) ** 2
        v = a**2 * std**2 + s2
        # Posterior variance of x0 given x_t: the mean squared error of the exact denoiser.
        mse = std**2 * s2 / v
        total = torch.zeros((), dtype=torch.float64)
        for i in range(n):
            zero, one = torch.zeros(1, 1).double(), torch.ones(1, 1).double()
            there, here = times[i + 1 : i + 2], times[i : i + 1]
            true = process.bridge(zero, one, there, here, None)
            model = process.bridge(zero, zero, there, here, None)
            total = total + true.kl(model)[0] * mse[i + 1]
        # KL(q(x_1|x0) || N(alpha m, v_1)) averaged over x0; E[log q(x_e|x0) / p(x_e)] exact.
        last = 0.5 * (torch.log(v[-1] / s2[-1]))
        information = 0.5 * torch.log(v[0] / s2[0])
        return float(total + last - information)

    gaps = [gap(n) for n in (25, 50, 100)]
    assert all(g > -1e-9 for g in gaps)
    assert gaps[2] < 0.6 * gaps[1] < 0.36 * gaps[0]
    assert float(oracle.log_prob(torch.tensor([[0.3]]), 0.5)) < 10


def test_product_is_order_free_and_uses_streams_by_name() -> None:
    parts = {"x": Gaussian(VP()), "adj": Gaussian(VE(0.2, 1.0), Symmetric())}
    product, other = Product(parts), Product(dict(reversed(parts.items())))
    assert product.names == other.names == ("adj", "x")
    assert product == other
    assert hash(product) == hash(other)
    state = State({"x": torch.zeros(2, 4, 3), "adj": torch.zeros(2, 4, 4)}, {}, torch.arange(2))
    t = torch.tensor([0.3, 0.6])
    a, b = product.corrupt(state, t, _key(2)), other.corrupt(state, t, _key(2))
    for name in product.names:
        assert torch.equal(a[name], b[name])
    alone = parts["x"].corrupt(state["x"], t, None, _key(2).at(stream="x"))
    assert torch.equal(a["x"], alone)
    losses = product.loss({n: state[n] for n in product.names}, state, a, t)
    assert {n: v.tolist() for n, v in losses.items()} == {"adj": [0, 0], "x": [0, 0]}
    assert set(product.bridge(a, state.values, 0.5, 0.2)) == {"x", "adj"}


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ArgumentError, match="schedule"):
        Gaussian("vp")
    with pytest.raises(ArgumentError, match="weighting"):
        Gaussian(VP(), weighting="snr")
    with pytest.raises(ArgumentError, match="data_std"):
        Gaussian(VP(), data_std=0)
    with pytest.raises(ArgumentError, match="at least one"):
        Product({})
    with pytest.raises(ArgumentError, match="'x'"):
        Product({"x": VP()})
    with pytest.raises(ArgumentError, match="adj"):
        Product({"x": Gaussian(VP())})["adj"]
