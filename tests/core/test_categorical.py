"""Discrete processes against enumeration: marginals, bridges, rates, the bound, the draws."""

from __future__ import annotations

import math

import pytest
import torch
from exact_discrete import ExactDiscrete, random_law
from hypothesis import given, settings
from hypothesis import strategies as st
from stats import accepted, chi2_pvalue, rejected

from graphdiff.core.categorical import CTMC, Absorbing, Marginal, Uniform
from graphdiff.core.errors import ArgumentError
from graphdiff.core.rng import Key
from graphdiff.core.schedule import Cosine, FlowMatching, LogLinear
from graphdiff.core.space import Dense, Symmetric

F64 = torch.float64
PROCESSES = [
    Absorbing(FlowMatching(), 3),
    Absorbing(Cosine(), 4),
    Uniform(FlowMatching(), 3),
    Uniform(LogLinear(), 2),
    Marginal(Cosine(), (0.2, 0.3, 0.5)),
]
clocks = st.tuples(st.floats(0.001, 0.999), st.floats(0.001, 0.999)).map(sorted)


def exact(process: CTMC, tokens: int = 2) -> ExactDiscrete:
    clean = process.classes - 1 if isinstance(process, Absorbing) else None
    return ExactDiscrete(process, random_law(len(process.stationary), tokens, 0, clean), tokens)


@pytest.mark.parametrize("process", PROCESSES)
@settings(max_examples=15, deadline=None)
@given(clocks)
def test_transitions(process, pair):
    """Matrix exponentials; Chapman-Kolmogorov; rates are the derivative and sum to zero."""
    s, t = pair
    oracle = exact(process)
    step = process.transition(t, s)
    torch.testing.assert_close(step, oracle.token(t, s), atol=1e-10, rtol=1e-8)
    middle = (s + t) / 2
    chained = process.transition(middle, s) @ process.transition(t, middle)
    torch.testing.assert_close(step, chained, atol=1e-12, rtol=1e-10)
    rate, h = process.rate(middle), 1e-6 * min(middle, 1 - middle)
    torch.testing.assert_close(rate.sum(1), torch.zeros_like(rate[0]), atol=1e-9, rtol=0)
    assert (rate - torch.diag(rate.diagonal()) >= 0).all()
    eye = torch.eye(len(rate), dtype=F64)
    numeric = (process.transition(middle + h, middle) - eye) / h
    torch.testing.assert_close(numeric, rate, atol=1e-4, rtol=1e-3)
    pi = torch.tensor(process.stationary, dtype=F64)
    torch.testing.assert_close(pi @ step, pi)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_marginal_kernel(process, t):
    oracle = exact(process)
    kernel = process.marginal(oracle.states, t, None)
    got = oracle.product_kernel(kernel.mean)
    torch.testing.assert_close(got, oracle.noisy(t), atol=1e-12, rtol=1e-10)
    batch = process.marginal(oracle.states, torch.full((len(got),), t), None)
    torch.testing.assert_close(batch.mean, kernel.mean, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("process", PROCESSES)
def test_number_of_classes(process):
    """What a sampler tells a discrete component from a continuous one by."""
    assert process.classes == len(process.stationary)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize(("t", "s"), [(0.9, 0.6), (0.4, 0.39), (0.5, 0.0), (1.0, 0.7)])
def test_bridge_with_the_true_class(process, t, s):
    """Bayes' rule for one token, and the law of x_s when x_t is drawn and bridged."""
    oracle = exact(process, 1)
    k = oracle.classes
    start, step = oracle.token(s, alpha_s=1.0), oracle.token(t, s)
    for x0 in range(k - isinstance(process, Absorbing)):
        sharp = torch.full((k, 1, k), -torch.inf, dtype=F64)
        sharp[..., x0] = 0
        got = process.bridge(oracle.states, sharp, t, s, None).mean[:, 0]
        joint = start[x0][:, None] * step  # [x_s, x_t]
        reachable = joint.sum(0) > 1e-12
        bayes = (joint / joint.sum(0)).T
        torch.testing.assert_close(got[reachable], bayes[reachable], atol=1e-10, rtol=1e-8)
        torch.testing.assert_close((joint.sum(0)[:, None] * got).sum(0), start[x0])


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize(("t", "s"), [(0.8, 0.3), (0.5, 0.0)])
def test_bridge_of_one_token_with_the_exact_denoiser(process, t, s):
    """Averaged over p(x0 | x_t) the bridge is the true reverse kernel."""
    oracle = exact(process, 1)
    got = process.bridge(oracle.states, oracle.denoiser(t), t, s, None).mean[:, 0]
    torch.testing.assert_close(oracle.marginal(t) @ got, oracle.marginal(s))
    seen = oracle.marginal(t) > 0
    torch.testing.assert_close(got[seen], oracle.reverse(t, s)[seen], atol=1e-10, rtol=1e-8)
    # A 5 % mutation of one prediction must show.
    wrong = oracle.denoiser(t) + torch.tensor([1.05, *[1.0] * (oracle.classes - 1)]).log()
    law = oracle.marginal(t) @ process.bridge(oracle.states, wrong, t, s, None).mean[:, 0]
    assert (law - oracle.marginal(s)).abs().max() > 1e-4


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("t", [0.05, 0.5, 0.95])
def test_reverse_rates(process, t):
    """Token by token the rates of the exact denoiser make up the true reverse generator."""
    oracle = exact(process, 2)
    rates = process.reverse_rate(oracle.states, oracle.denoiser(t), t)
    torch.testing.assert_close(rates.sum(-1), torch.zeros_like(rates[..., 0]), atol=1e-9, rtol=0)
    true = oracle.generator(t)
    weight = len(oracle.law) // oracle.classes ** torch.arange(1, 3)
    for row in (oracle.marginal(t) > 0).nonzero().flatten().tolist():
        for d in range(2):
            own = int(oracle.states[row, d])
            for y in set(range(oracle.classes)) - {own}:
                other = row + (y - own) * int(weight[d])
                torch.testing.assert_close(rates[row, d, y], true[row, other], atol=1e-9, rtol=1e-8)


def bound(oracle: ExactDiscrete, denoiser, nodes: int = 48) -> torch.Tensor:
    """Integral of E[loss | x0] over the clock for every clean string, by Gauss-Legendre."""
    import numpy as np

    points, weights = np.polynomial.legendre.leggauss(nodes)
    total = torch.zeros(len(oracle.law), dtype=F64)
    for z, w in zip(((points + 1) / 2).tolist(), (weights / 2).tolist(), strict=True):
        # t = z^2 (3 - 2 z) flattens the logarithmic ends.
        t, slope = z * z * (3 - 2 * z), 6 * z * (1 - z)
        size = len(oracle.law)
        x0 = oracle.states.repeat_interleave(size, 0)
        x_t = oracle.states.repeat(size, 1)
        logits = denoiser(t).repeat(size, 1, 1)
        loss = oracle.process.loss(logits, x0, x_t, torch.full((size * size,), t, dtype=F64), None)
        chance = oracle.noisy(t)
        each = torch.where(chance > 0, loss.view(size, size), 0)
        total += w * slope * (chance * each).sum(1)
    return total


@pytest.mark.parametrize(
    "process",
    [Absorbing(FlowMatching(), 3), Absorbing(Cosine(), 3), Uniform(FlowMatching(), 3),
     Marginal(FlowMatching(), (0.2, 0.3, 0.5)), Uniform(Cosine(), 2)],
)  # fmt: skip
def test_bound_with_the_exact_denoiser_is_the_likelihood(process):
    oracle = exact(process, 2)
    possible = oracle.law > 0
    nll = -oracle.law[possible].log()
    got = bound(oracle, oracle.denoiser)[possible]
    torch.testing.assert_close(got, nll, atol=2e-4, rtol=2e-4)
    # Any other denoiser gives a larger bound on average.
    tilt = torch.tensor([0.3, *[0.0] * (oracle.classes - 1)], dtype=F64)
    worse = bound(oracle, lambda t: oracle.denoiser(t) + tilt)[possible]
    assert (oracle.law[possible] * (worse - nll)).sum() > 1e-3


def test_bound_is_accurate_in_float32_near_the_end():
    """Near t = 1 the rate of hits is 1 / alpha: rounding must not be multiplied by it."""
    process = Uniform(FlowMatching(), 4)
    key = Key(0, torch.arange(200))
    x0, x_t = (key.bits(6) >> 3) % 4, (key.at(step=1).bits(6) >> 3) % 4
    logits = key.normal(24).view(200, 6, 4)
    for t in (0.9, 0.999, 0.99999):
        clock = torch.full((200,), t, dtype=F64)
        low = process.loss(logits, x0, x_t, clock, None)
        high = process.loss(logits.double(), x0, x_t, clock, None)
        torch.testing.assert_close(low.double(), high, atol=1e-6, rtol=5e-3)
    assert process.loss(logits, x0, x_t, torch.ones(200), None).isfinite().all()


@pytest.mark.parametrize("process", PROCESSES)
def test_draws_have_the_marginal_law(process):
    samples, t = 20000, 0.4
    oracle = exact(process, 1)
    key = Key(3, torch.arange(samples))
    x0 = torch.zeros(samples, 2, dtype=torch.int64)
    x_t = process.corrupt(x0, torch.full((samples,), t), None, key)
    law = oracle.token(t, alpha_s=1.0)[0]
    counts = x_t.flatten().bincount(minlength=oracle.classes)
    assert accepted(chi2_pvalue(counts, law))
    # alpha 5 % off.
    hit = 1 - 1.05 * oracle.alpha(t)
    pi = torch.tensor(process.stationary, dtype=F64)
    mutant = hit * pi + (1 - hit) * torch.eye(oracle.classes, dtype=F64)[0]
    assert rejected(chi2_pvalue(counts, mutant))
    prior = process.prior(x0, None, key).flatten().bincount(minlength=oracle.classes)
    assert accepted(chi2_pvalue(prior, pi))


def test_bridged_draws_have_the_marginal_law():
    process = Marginal(FlowMatching(), (0.2, 0.3, 0.5))
    samples = 40000
    key = Key(0, torch.arange(samples))
    x0 = torch.ones(samples, 1, dtype=torch.int64)
    x_t = process.corrupt(x0, torch.full((samples,), 0.8), None, key)
    sharp = torch.tensor([-1e9, 0.0, -1e9]).expand(samples, 1, 3)
    x_s = process.bridge(x_t, sharp, 0.8, 0.3, None).sample(key.at(step=1))
    counts = x_s.flatten().bincount(minlength=3)
    assert accepted(chi2_pvalue(counts, process.marginal(x0[:1], 0.3, None).mean[0, 0]))
    assert rejected(chi2_pvalue(counts, process.marginal(x0[:1], 0.335, None).mean[0, 0]))


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 5), more=st.integers(0, 4))
@pytest.mark.parametrize("space", [Dense(), Symmetric()])
def test_padding_and_batch_do_not_change_draws(space, n, more):
    process = Uniform(FlowMatching(), 4, space)
    nodes = len(space.node_axes)
    small = torch.zeros((1, *[n] * nodes), dtype=torch.int64)
    large = torch.zeros((3, *[n + more] * nodes), dtype=torch.int64)
    mask = (torch.arange(n + more) < n).expand(3, -1)
    inside = (slice(1, 2), *[slice(n)] * nodes)
    one, many = Key(0, torch.tensor([6])), Key(0, torch.tensor([2, 6, 9]))
    t = torch.tensor([0.7])
    noisy = process.corrupt(large, t.expand(3), mask, many)
    alone = process.corrupt(small, t, None, one)
    assert torch.equal(noisy[inside], alone)
    assert torch.equal(process.prior(large, mask, many)[inside], process.prior(small, None, one))
    bridged = process.bridge(noisy, torch.zeros(*noisy.shape, 4), 0.7, 0.2, mask).sample(many)
    single = process.bridge(alone, torch.zeros(*alone.shape, 4), 0.7, 0.2, None).sample(one)
    assert torch.equal(bridged[inside], single)
    outside = bridged.clone()
    outside[(slice(None), *inside[1:])] = 0
    assert not outside.any()


def test_symmetric_noise_is_half():
    """Counted, not timed: a pair costs one number, and so does a token of the bridge."""
    process = Uniform(FlowMatching(), 3, Symmetric())
    x = torch.zeros(2, 6, 6, dtype=torch.int64)
    assert process.bridge(x, torch.zeros(2, 6, 6, 3), 0.5, 0.2, None).noise_size == 15
    noisy = process.corrupt(x, torch.tensor([0.9, 0.9]), None, Key(0, torch.arange(2)))
    assert torch.equal(noisy, noisy.transpose(1, 2))


def test_losses_count_pairs_once_and_padding_never():
    for weighting in ("elbo", "ce"):
        process = Uniform(FlowMatching(), 3, Symmetric(), weighting)
        x0 = torch.ones(1, 4, 4, dtype=torch.int64)
        x_t = Symmetric().project(torch.tensor([[[0, 1, 2, 0]] * 4]), None)
        logits = torch.randn(1, 4, 4, 3, generator=torch.Generator().manual_seed(0))
        logits = logits + logits.transpose(1, 2)
        t = torch.tensor([0.5])
        mask = torch.tensor([[True, True, True, False]])
        part = (slice(None), slice(3), slice(3))
        whole = process.loss(logits, x0, x_t, t, mask)
        torch.testing.assert_close(whole, process.loss(logits[part], x0[part], x_t[part], t, None))
        noisy = logits + torch.randn_like(logits) * Symmetric().apply_mask(torch.ones(1, 4, 4), mask).logical_not()[..., None]  # noqa: E501  # fmt: skip
        torch.testing.assert_close(process.loss(noisy, x0, x_t, t, mask), whole)


def test_cross_entropy():
    logits = torch.tensor([[[0.1, 0.5, -1.0], [1.0, 0.0, 0.0]]], requires_grad=True)
    x0, x_t, t = torch.tensor([[1, 0]]), torch.tensor([[2, 0]]), torch.tensor([0.5])
    uniform = Uniform(FlowMatching(), 3, weighting="ce").loss(logits, x0, x_t, t, None)
    torch.testing.assert_close(uniform[0], torch.nn.functional.cross_entropy(logits[0], x0[0]))
    hidden = Absorbing(FlowMatching(), 3, weighting="ce").loss(logits, x0, x_t, t, None)
    torch.testing.assert_close(hidden[0], math.log(1 + math.exp(-0.4)) * torch.ones(()))
    (grad,) = torch.autograd.grad(hidden.sum(), logits)
    assert not grad[0, 1].any()
    assert grad.isfinite().all()


@pytest.mark.parametrize("process", [Absorbing(FlowMatching(), 3), Uniform(FlowMatching(), 3)])
def test_gradients_through_the_bridge_are_finite(process):
    key = Key(0, torch.arange(4))
    logits = (50 * key.normal(18)).view(4, 6, 3).requires_grad_()
    x_t = (key.bits(6) >> 3) % 3
    for s in (0.3, 0.0):
        kernel = process.bridge(x_t, logits, 0.6, s, None)
        other = process.bridge(x_t, logits.detach() * 0.5, 0.6, s, None)
        value = kernel.relaxed(key, 1.0).square().sum() + kernel.kl(other).sum()
        (grad,) = torch.autograd.grad(value, logits)
        assert grad.isfinite().all()


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: Uniform(FlowMatching(), 1), "at least 2"),
        (lambda: Absorbing(FlowMatching(), 3, weighting="mse"), "mse"),
        (lambda: Marginal(FlowMatching(), (0.5, 0.6)), "sum to 1"),
        (lambda: Marginal(FlowMatching(), (1.0, 0.0)), "positive"),
        (
            lambda: Uniform(FlowMatching(), 3).bridge(
                torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2, 4), 0.5, 0.2, None
            ),
            "3 classes",
        ),
        (
            lambda: Uniform(FlowMatching(), 3).corrupt(
                torch.zeros(1, 2), torch.ones(1), None, Key(0, torch.arange(1))
            ),
            "int64",
        ),
    ],
)
def test_errors(call, word):
    with pytest.raises(ArgumentError, match=word):
        call()
