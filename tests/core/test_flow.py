"""Discrete flow matching: rates against their definition, steps against enumeration."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from exact_discrete import ExactDiscrete, flow_rates, random_law, total_variation
from stats import accepted, chi2_pvalue, rejected

from graphdiff.core.categorical import CTMC, Absorbing, Marginal, Uniform
from graphdiff.core.ctmc import alpha_slope
from graphdiff.core.errors import ArgumentError
from graphdiff.core.flow import FlowJump
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.rates import flow_generator, flow_rate
from graphdiff.core.rng import Key
from graphdiff.core.schedule import VE, VP, Cosine, FlowMatching, LogLinear
from graphdiff.core.space import Dense, Symmetric

F64 = torch.float64
PROCESSES = [
    Absorbing(FlowMatching(), 3),
    Uniform(FlowMatching(), 3),
    Marginal(FlowMatching(), (0.2, 0.3, 0.5)),
    Marginal(Cosine(), (0.6, 0.39, 0.01)),
]
MORE = [
    Absorbing(LogLinear(), 4),
    Uniform(Cosine(), 2),
    Marginal(FlowMatching(), (0.4, 0.0001, 0.1, 0.4999)),
    Marginal(Cosine(), (0.05, 0.15, 0.1, 0.2, 0.05, 0.15, 0.02, 0.13, 0.05, 0.1)),
]
SOLVERS = [
    FlowJump(),
    FlowJump(eta=4.0),
    FlowJump(step="euler"),
    FlowJump(eta=4.0, step="euler"),
]


def clean_classes(process: CTMC) -> range:
    return range(len(process.stationary) - isinstance(process, Absorbing))


def oracle_of(process: CTMC, tokens: int = 2) -> ExactDiscrete:
    clean = len(clean_classes(process))
    return ExactDiscrete(process, random_law(len(process.stationary), tokens, 0, clean), tokens)


def conditional_law(process: CTMC, t: float, x1: int) -> torch.Tensor:
    alpha = float(process.schedule.alpha(t))
    pi = torch.tensor(process.stationary, dtype=F64)
    return alpha * torch.eye(len(pi), dtype=F64)[x1] + (1 - alpha) * pi


def sharp(process: CTMC, x1: int) -> torch.Tensor:
    """Logits of a prediction that is certain of ``x1``, one row for each class."""
    k = len(process.stationary)
    logits = torch.full((k, 1, k), -torch.inf, dtype=F64)
    logits[..., x1] = 0
    return logits


def conditional_kernel(solver, process: CTMC, t: float, s: float, x1: int) -> torch.Tensor:
    """``p(x_s | x_t, x1)`` ``[K, K]`` by the program of ``solver``."""
    k = len(process.stationary)
    program = solver.compile(process, [t, s])
    x = torch.arange(k)[:, None]
    key = Key(0, torch.arange(k))
    return program.update(0, 0, x, sharp(process, x1), None, (), key)[0].mean[:, 0]


def law_at_end(oracle: ExactDiscrete, solver, times: list[float]) -> torch.Tensor:
    """The law of the last state: the program's kernels as matrices over all strings."""
    program = solver.compile(oracle.process, times)
    law = oracle.marginal(times[0])
    for i in range(len(times) - 1):
        t = program.evaluate_at(i, 0)
        kernel, _ = program.update(
            i, 0, oracle.states, oracle.denoiser(t), None, (), Key(0, torch.arange(len(law)))
        )
        law = law @ oracle.product_kernel(kernel.mean)
    return law


def grid(n: int, start: float, end: float) -> list[float]:
    return [start + (end - start) * i / n for i in range(n + 1)]


@pytest.mark.parametrize("process", PROCESSES + MORE)
@pytest.mark.parametrize("t", [0.05, 0.5, 0.97])
def test_rates_are_their_definition_and_generate_the_marginal(process, t):
    slope = float(alpha_slope(process.schedule, t)[1])
    zero = torch.zeros(len(process.stationary), dtype=F64)
    for eta, omega in [(0.0, 0.0), (3.0, 0.0), (2.0, 0.4)]:
        rates = flow_generator(process, t, eta, omega)
        torch.testing.assert_close(rates, flow_rates(process, t, -slope, eta, omega))
        for x1 in clean_classes(process):
            torch.testing.assert_close(rates[x1].sum(1), zero, atol=1e-10, rtol=0)
            law = conditional_law(process, t, x1)
            pi = torch.tensor(process.stationary, dtype=F64)
            growth = -slope * (torch.eye(len(pi), dtype=F64)[x1] - pi)
            # Kolmogorov's forward equation, to rounding: d p / d tau = p R.
            error = (law @ rates[x1] - growth).abs().max()
            assert error < 1e-12 if omega == 0 else error > 0.01 * omega


@pytest.mark.parametrize("process", PROCESSES + MORE)
@pytest.mark.parametrize("t", [0.1, 0.9])
def test_averaged_rates(process, t):
    """A sum over all clean classes, which the library does not form."""
    k = len(process.stationary)
    logits = 2 * Key(0, torch.arange(k)).normal(k, F64).view(k, 1, k)
    x = torch.arange(k)[:, None]
    law = process.clean_law(x, logits)[:, 0]
    _, slope = alpha_slope(process.schedule, t)
    for eta, omega in [(0.0, 0.0), (5.0, 0.3)]:
        rates = flow_rates(process, t, -float(slope), eta, omega)
        expected = torch.einsum("xc,cxy->xy", law, rates)
        got = flow_rate(process, x, logits, t, eta, omega)[:, 0]
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("process", PROCESSES + MORE)
@pytest.mark.parametrize(("t", "s"), [(1.0, 0.7), (0.9, 0.1), (0.4, 0.39), (0.5, 0.0)])
@pytest.mark.parametrize("eta", [0.0, 0.7, 50.0])
def test_marginal_is_exact_at_any_step_with_the_true_class(process, t, s, eta):
    for x1 in clean_classes(process):
        kernel = conditional_kernel(FlowJump(eta), process, t, s, x1)
        law = conditional_law(process, t, x1) @ kernel
        torch.testing.assert_close(law, conditional_law(process, s, x1), atol=1e-11, rtol=1e-9)
    # A step 5 % off ends elsewhere (the last class is the mask, or rare).
    other = conditional_law(process, s + 0.05 * (t - s), 0)
    start = conditional_law(process, t, 0)
    assert (start @ conditional_kernel(FlowJump(eta), process, t, s, 0) - other).abs().max() > 1e-4


@pytest.mark.parametrize("process", PROCESSES + MORE)
def test_steps_compose(process):
    """Chapman-Kolmogorov given the clean class, where nothing is redrawn."""
    straight = isinstance(process.schedule, FlowMatching)
    for omega in (0.0, 0.4) if straight else (0.0,):
        solver = FlowJump(omega=omega)
        for x1 in clean_classes(process):
            once = conditional_kernel(solver, process, 0.9, 0.2, x1)
            first = conditional_kernel(solver, process, 0.9, 0.5, x1)
            second = conditional_kernel(solver, process, 0.5, 0.2, x1)
            possible = conditional_law(process, 0.9, x1) > 0
            torch.testing.assert_close(once[possible], (first @ second)[possible])


@pytest.mark.parametrize("process", PROCESSES[:3])
def test_guided_step_solves_its_equation(process):
    """The product of many short exponentials of the defining rates, second order in their length.

    With 400 midpoints the error of that product is 1e-6 of the rates.
    """
    steps, t, s = 400, 0.8, 0.3
    h = (t - s) / steps
    for x1 in clean_classes(process):
        flow = torch.eye(len(process.stationary), dtype=F64)
        for i in range(steps):
            rates = flow_rates(process, t - (i + 0.5) * h, 1.0, 0.0, 0.5)[x1]
            flow = flow @ torch.matrix_exp(h * rates)
        possible = conditional_law(process, t, x1) > 0
        got = conditional_kernel(FlowJump(omega=0.5), process, t, s, x1)
        torch.testing.assert_close(got[possible], flow[possible], atol=1e-5, rtol=0)


@pytest.mark.parametrize("process", PROCESSES + MORE)
@pytest.mark.parametrize("step", ["exact", "euler"])
def test_short_steps_follow_the_rates(process, step):
    """(kernel - 1) / h tends to the averaged rates, guidance and redraws included."""
    k, t = len(process.stationary), 0.6
    x, key = torch.arange(k)[:, None], Key(0, torch.arange(k))
    logits = key.normal(k, F64).view(k, 1, k)
    rates = flow_rate(process, x, logits, t, 3.0, 0.2)[:, 0]
    errors = []
    for h in (1e-5, 5e-6):
        program = FlowJump(3.0, 0.2, step).compile(process, [t, t - h])
        probs = program.update(0, 0, x, logits, None, (), key)[0].mean[:, 0]
        errors.append(float(((probs - torch.eye(k, dtype=F64)) / h - rates).abs().max()))
    scale = float(rates.abs().max())
    if step == "euler":
        assert max(errors) < 1e-8 * scale
    else:
        assert errors[0] < 1e-3 * scale**2
        assert errors[1] < 0.55 * errors[0]


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("eta", [0.0, 5.0])
def test_exact_for_one_token(process, eta):
    oracle = oracle_of(process, 1)
    for times in (grid(1, 0.9, 0.2), grid(3, 1.0, 0.0)):
        law = law_at_end(oracle, FlowJump(eta), times)
        torch.testing.assert_close(law, oracle.marginal(times[-1]), atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_first_order(process, solver):
    oracle = oracle_of(process)
    exact = oracle.marginal(0.1)
    errors = [
        total_variation(law_at_end(oracle, solver, grid(n, 0.9, 0.1)), exact) for n in (64, 128)
    ]
    assert errors[1] < 0.02
    assert abs(math.log2(errors[0] / errors[1]) - 1) < 0.15


@pytest.mark.parametrize("process", [*PROCESSES, Uniform(Cosine(), 3), Absorbing(Cosine(), 3)])
@pytest.mark.parametrize("solver", [*SOLVERS, FlowJump(2.0, 0.05)])
def test_whole_clock(process, solver):
    oracle = oracle_of(process)
    law = law_at_end(oracle, solver, grid(50, 1.0, 0.0))
    torch.testing.assert_close(law.sum(), torch.ones((), dtype=F64))
    assert total_variation(law, oracle.law) < 0.05
    if isinstance(process, Absorbing):
        assert law[oracle.law == 0].sum() < 1e-12


@pytest.mark.parametrize("process", [PROCESSES[0], PROCESSES[2]])
@pytest.mark.parametrize("solver", SOLVERS)
def test_sampled_law(process, solver):
    """Draws follow the enumerated law, and not that of a chain 5 % longer."""
    samples, n = 30000, 6
    oracle = oracle_of(process)
    times = grid(n, 0.9, 0.1)
    program = solver.compile(process, times)
    key = Key(1, torch.arange(samples))
    start = oracle.marginal(0.9).cumsum(0)
    row = torch.searchsorted(start, key.uniform(1, F64).squeeze(1)).clamp(max=8)
    x = oracle.states[row]
    for i in range(n):
        x0 = oracle.denoiser(times[i])[x[:, 0] * 3 + x[:, 1]]
        x = program.update(i, 0, x, x0, None, (), key)[0].sample(key.at(step=1 + i))
    counts = (x[:, 0] * 3 + x[:, 1]).bincount(minlength=9)
    assert accepted(chi2_pvalue(counts, law_at_end(oracle, solver, times)))
    longer = [0.9 + 1.05 * (t - 0.9) for t in times]
    assert rejected(chi2_pvalue(counts, law_at_end(oracle, solver, longer)))


def test_large_steps_stay_laws():
    """Euler with many expected jumps must not leave negative probabilities."""
    for process in PROCESSES:
        oracle = oracle_of(process)
        for solver in (*SOLVERS, FlowJump(500.0, 3.0), FlowJump(500.0, 3.0, "euler")):
            law = law_at_end(oracle, solver, [0.999, 0.01])
            assert (law >= 0).all()
            torch.testing.assert_close(law.sum(), torch.ones((), dtype=F64))


def test_guidance_sharpens():
    """omega pulls to the prediction: given the class, more mass is on it than the path has."""
    for process in PROCESSES:
        free = conditional_law(process, 0.4, 0)[0]
        start = conditional_law(process, 0.9, 0)
        mass = [
            (start @ conditional_kernel(FlowJump(omega=w), process, 0.9, 0.4, 0))[0]
            for w in (0.0, 0.2, 1.0)
        ]
        torch.testing.assert_close(mass[0], free)
        assert mass[0] < mass[1] < mass[2]


@pytest.mark.parametrize("solver", [*SOLVERS, FlowJump(2.0, 0.3)])
@pytest.mark.parametrize("space", [Dense(), Symmetric()])
def test_batch_and_padding_do_not_change_draws(solver, space):
    process = Marginal(FlowMatching(), (0.5, 0.3, 0.15, 0.05), space)
    nodes = len(space.node_axes)
    key = Key(0, torch.tensor([4, 6, 9]))
    mask = torch.arange(5) < torch.tensor([5, 3, 4])[:, None]
    program = solver.compile(process, grid(4, 1.0, 0.0))
    x = process.prior(torch.zeros((3, *[5] * nodes), dtype=torch.int64), mask, key)
    table = key.at(step=99).normal(5**nodes * 4).view(3, *[5] * nodes, 4)
    logits = table if nodes == 1 else table + table.transpose(1, 2)
    part = (slice(1, 2), *[slice(3)] * nodes)
    alone = x[part]
    for i in range(4):
        x = program.update(i, 0, x, logits, mask, (), key)[0].sample(key.at(step=1 + i))
        one = Key(0, torch.tensor([6]), step=1 + i)
        alone = program.update(i, 0, alone, logits[part], None, (), one)[0].sample(one)
        assert torch.equal(x[part], alone)
        assert not x[1, 3:].any()
    if nodes == 2:
        assert torch.equal(x, x.transpose(1, 2))
        assert not x.diagonal(dim1=1, dim2=2).any()


@pytest.mark.parametrize("solver", SOLVERS)
def test_pairs_are_stepped_as_single_tokens(solver):
    """A symmetric component is its pairs, and a kernel answers for the full matrix."""
    process = Marginal(FlowMatching(), (0.6, 0.3, 0.1), Symmetric())
    flat = dataclasses.replace(process, space=Dense())
    key = Key(0, torch.arange(2))
    x = process.prior(torch.zeros(2, 4, 4, dtype=torch.int64), None, key)
    logits = key.at(step=1).normal(48).view(2, 4, 4, 3)
    logits = logits + logits.transpose(1, 2)
    pairs, free = Symmetric().gather(x), Symmetric().gather(logits).view(2, 6, 3)
    full = solver.compile(process, [0.7, 0.4]).update(0, 0, x, logits, None, (), key)[0]
    half = solver.compile(flat, [0.7, 0.4]).update(0, 0, pairs, free, None, (), key)[0]
    assert full.noise_size == 6
    assert torch.equal(full.sample(key), Symmetric().scatter(half.sample(key), x.shape))
    torch.testing.assert_close(full.log_prob(x), half.log_prob(pairs))
    torch.testing.assert_close(full.kl(full), torch.zeros(2))
    assert full.mean.shape == (2, 4, 4, 3)


def test_float32_is_close_to_float64():
    process = Marginal(Cosine(), (0.4, 0.0001, 0.1, 0.4999))
    key = Key(0, torch.arange(100))
    x, logits = process.prior(torch.zeros(100, 8), None, key), key.normal(32, F64).view(100, 8, 4)
    for solver in SOLVERS:
        program = solver.compile(process, [0.9, 0.85])
        high = program.update(0, 0, x, logits, None, (), key)[0].mean
        low = program.update(0, 0, x, logits.float(), None, (), key)[0].mean
        torch.testing.assert_close(low.double(), high, atol=2e-6, rtol=0)


def test_gradients_are_finite():
    key = Key(0, torch.arange(4))
    for process in (PROCESSES[0], PROCESSES[2]):
        logits = (50 * key.normal(18)).view(4, 6, 3).requires_grad_()
        x = process.prior(torch.zeros(4, 6), None, key)
        for s in (0.3, 0.0):
            program = FlowJump(1.0).compile(process, [0.6, s])
            kernel = program.update(0, 0, x, logits, None, (), key)[0]
            other = program.update(0, 0, x, logits.detach() * 0.5, None, (), key)[0]
            value = kernel.relaxed(key, 1.0).square().sum() + kernel.kl(other).sum()
            (grad,) = torch.autograd.grad(value, logits)
            assert grad.isfinite().all()
            assert grad.any()


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: FlowJump(eta=-1.0), "eta"),
        (lambda: FlowJump(step="tau"), "tau"),
        (lambda: FlowJump().compile(Gaussian(VP()), [1.0, 0.5]), "Gaussian"),
        (lambda: FlowJump().compile(Uniform(VE(), 3), [1.0, 0.5]), "grows"),
    ],
)
def test_errors(call, word):
    with pytest.raises(ArgumentError, match=word):
        call()
