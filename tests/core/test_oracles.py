"""Oracles against brute force: quadrature, autograd and Monte Carlo."""

from __future__ import annotations

import math

import pytest
import torch
from exact import (
    EmpiricalOracle,
    GaussianOracle,
    MixtureOracle,
    prior,
    probability_flow,
    standard_mixture,
)

from graphdiff.core.errors import ArgumentError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.schedule import VE, VP, FlowMatching, Schedule
from graphdiff.core.state import State

SCHEDULES = [VP(), VE(0.02, 5.0), FlowMatching()]


def _two(schedule: Schedule) -> MixtureOracle:
    means = torch.tensor([[-1.0], [0.5]]).double()
    return MixtureOracle(Gaussian(schedule), means, torch.tensor([0.3, 0.6]), [0.3, 0.7])


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_mixture_against_quadrature(schedule: Schedule) -> None:
    oracle, t = _two(schedule), 0.4
    a, s = float(schedule.alpha(t)), float(schedule.sigma(t))
    x0 = torch.linspace(-9, 9, 200001, dtype=torch.float64)
    data = oracle.log_prob(x0.unsqueeze(1), 0.0) if not isinstance(schedule, VE) else None
    if data is None:  # sigma(0) > 0: write the density of the data out
        weights = torch.tensor([0.3, 0.7]).double().log()
        std = torch.tensor([0.3, 0.6]).double()
        means = torch.tensor([-1.0, 0.5]).double()
        each = weights - 0.5 * ((x0[:, None] - means) / std).square()
        data = torch.logsumexp(each - torch.log(std * math.sqrt(2 * math.pi)), 1)
    for point in (-1.2, 0.1, 2.0):
        likelihood = torch.exp(-0.5 * ((point - a * x0) / s).square()) / (
            s * math.sqrt(2 * math.pi)
        )
        joint = data.exp() * likelihood
        mass = torch.trapezoid(joint, x0)
        mean = torch.trapezoid(joint * x0, x0) / mass
        x = torch.tensor([[point]]).double()
        assert float(oracle.denoise(x, t)) == pytest.approx(float(mean), rel=1e-6)
        assert float(oracle.log_prob(x, t)) == pytest.approx(float(mass.log()), abs=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_score_is_the_gradient(schedule: Schedule) -> None:
    oracle = standard_mixture(schedule)
    x = prior(oracle, 5, 0.5).requires_grad_()
    t = torch.linspace(0.2, 0.9, 5).double()
    (gradient,) = torch.autograd.grad(oracle.log_prob(x, t).sum(), x)
    torch.testing.assert_close(oracle.score(x.detach(), t), gradient)
    assert oracle.posterior(x, t).sum(1).tolist() == pytest.approx([1] * 5)


def test_one_mode_is_the_gaussian() -> None:
    process, mean = Gaussian(VP()), torch.tensor([0.2, -0.4]).double()
    oracle = GaussianOracle(process, mean, 0.5)
    x = torch.randn(6, 2).double()
    t = 0.5
    a, v = float(process.schedule.alpha(t)), float(oracle.std(t)) ** 2
    torch.testing.assert_close(oracle.denoise(x, t), mean + a * 0.25 / v * (x - a * mean))
    numeric = probability_flow(oracle, x, 0.9, 0.1, 600)
    torch.testing.assert_close(oracle.flow(x, 0.9, 0.1), numeric, rtol=1e-7, atol=1e-9)


def test_empirical_answers_with_data_at_low_noise() -> None:
    process, data = Gaussian(VP()), torch.randn(7, 3, 2).double()
    oracle = EmpiricalOracle(process, data)
    x = process.schedule.alpha(0.001) * data
    torch.testing.assert_close(oracle.denoise(x, 0.001), data)
    far = oracle.denoise(torch.zeros(1, 3, 2), torch.tensor([1.0]))
    torch.testing.assert_close(far, data.mean(0, keepdim=True).float(), rtol=1e-3, atol=1e-3)


def test_oracle_is_a_denoiser() -> None:
    oracle = _two(VP())
    x = torch.randn(4, 1)
    state = State({"x": x}, {}, torch.arange(4))
    answer = oracle(state, torch.tensor(0.5).expand(4), None)
    assert answer["x"].dtype == torch.float32
    torch.testing.assert_close(answer["x"], oracle.denoise(x, torch.full((4,), 0.5)))


@pytest.mark.parametrize(
    ("std", "weights"),
    [(torch.ones(3), None), (-1.0, None), (1.0, [0.5, 0.4]), (1.0, [1.0])],
)
def test_bad_mixtures_are_named(std: float | torch.Tensor, weights: list[float] | None) -> None:
    with pytest.raises(ArgumentError, match=r"modes|probabilities"):
        MixtureOracle(Gaussian(VP()), torch.zeros(2, 1), std, weights)
