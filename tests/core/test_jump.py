"""Solvers of discrete components: laws by enumeration, orders, ends of the clock."""

from __future__ import annotations

import math

import pytest
import torch
from exact_discrete import ExactDiscrete, random_law, total_variation
from stats import accepted, chi2_pvalue, rejected

from graphdiff.core.categorical import CTMC, Absorbing, Marginal, Uniform
from graphdiff.core.errors import ArgumentError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.jump import AncestralJump, EulerJump, TauLeaping
from graphdiff.core.rng import Key
from graphdiff.core.schedule import VP, Cosine, FlowMatching
from graphdiff.core.space import Symmetric

SOLVERS = [AncestralJump(), EulerJump(), TauLeaping(), TauLeaping("reject")]
PROCESSES = [
    Absorbing(FlowMatching(), 3),
    Uniform(FlowMatching(), 3),
    Marginal(FlowMatching(), (0.2, 0.3, 0.5)),
]


def oracle_of(process: CTMC, tokens: int = 2) -> ExactDiscrete:
    clean = process.classes - 1 if isinstance(process, Absorbing) else None
    return ExactDiscrete(process, random_law(len(process.stationary), tokens, 0, clean), tokens)


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


@pytest.mark.parametrize("process", PROCESSES)
def test_ancestral_is_exact_for_one_token(process):
    oracle = oracle_of(process, 1)
    for times in (grid(1, 0.9, 0.2), grid(3, 1.0, 0.0)):
        law = law_at_end(oracle, AncestralJump(), times)
        torch.testing.assert_close(law, oracle.marginal(times[-1]), atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("process", [*PROCESSES, Uniform(Cosine(), 3), Absorbing(Cosine(), 3)])
@pytest.mark.parametrize("solver", SOLVERS)
def test_whole_clock(process, solver):
    """From the prior to clean data: infinite rates at the ends, and no mask is left."""
    oracle = oracle_of(process)
    law = law_at_end(oracle, solver, grid(50, 1.0, 0.0))
    torch.testing.assert_close(law.sum(), torch.ones((), dtype=torch.float64))
    assert total_variation(law, oracle.law) < 0.05
    if isinstance(process, Absorbing):
        assert law[oracle.law == 0].sum() < 1e-12


@pytest.mark.parametrize("solver", SOLVERS)
def test_sampled_law(solver):
    """Draws follow the enumerated law, and not that of rates 5 % too large."""
    process, samples, n = PROCESSES[1], 30000, 6
    oracle = oracle_of(process)
    times = grid(n, 0.9, 0.1)
    program = solver.compile(process, times)
    key = Key(1, torch.arange(samples))
    start = oracle.marginal(0.9).cumsum(0)
    row = torch.searchsorted(start, key.uniform(1, torch.float64).squeeze(1)).clamp(max=8)
    x = oracle.states[row]
    for i in range(n):
        x0 = oracle.denoiser(times[i])[x[:, 0] * 3 + x[:, 1]]
        x = program.update(i, 0, x, x0, None, (), key)[0].sample(key.at(step=1 + i))
    counts = (x[:, 0] * 3 + x[:, 1]).bincount(minlength=9)
    assert accepted(chi2_pvalue(counts, law_at_end(oracle, solver, times)))
    longer = [0.9 + 1.05 * (t - 0.9) for t in times]
    assert rejected(chi2_pvalue(counts, law_at_end(oracle, solver, longer)))


def test_large_steps_stay_laws():
    """Euler with more than one expected jump must not leave negative probabilities."""
    process = Uniform(FlowMatching(), 3)
    oracle = oracle_of(process)
    for solver in SOLVERS:
        law = law_at_end(oracle, solver, [0.999, 0.01])
        assert (law >= 0).all()
        torch.testing.assert_close(law.sum(), torch.ones((), dtype=torch.float64))


@pytest.mark.parametrize("solver", SOLVERS)
def test_graphs_and_padding(solver):
    process = Absorbing(FlowMatching(), 4, Symmetric())
    mask = torch.arange(5) < torch.tensor([2, 5])[:, None]
    key = Key(0, torch.arange(2))
    like = torch.zeros(2, 5, 5, dtype=torch.int64)
    program = solver.compile(process, grid(8, 1.0, 0.0))
    assert program.stages == 1
    with torch.inference_mode():
        x, carry = process.prior(like, mask, key), ()
        for i in range(8):
            logits = torch.zeros(2, 5, 5, 4)
            kernel, carry = program.update(i, 0, x, logits, mask, carry, key)
            assert kernel.noise_size == 10
            x = kernel.sample(key.at(step=1 + i))
    assert torch.equal(x, x.transpose(1, 2))
    assert x.max() < 3
    assert not x[0, 2:].any()


def test_errors():
    with pytest.raises(ArgumentError, match="Gaussian"):
        AncestralJump().compile(Gaussian(VP()), [1.0, 0.5])
    with pytest.raises(ArgumentError, match="sometimes"):
        TauLeaping("sometimes")  # type: ignore[arg-type]
