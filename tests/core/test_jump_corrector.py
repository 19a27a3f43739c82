"""The corrector of discrete components: invariance by enumeration, and what it is good for."""

from __future__ import annotations

import pytest
import torch
from exact_discrete import ExactDiscrete, random_law, total_variation
from stats import accepted, chi2_pvalue, rejected

from graphdiff.core.categorical import CTMC, Absorbing, Marginal, Uniform
from graphdiff.core.errors import ArgumentError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.process import Product
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler, Times
from graphdiff.core.schedule import VP, Cosine, FlowMatching
from graphdiff.core.solver import (
    AncestralJump,
    FirstHitting,
    FlowJump,
    JumpCorrector,
    Langevin,
    PredictorCorrector,
)
from graphdiff.core.space import Symmetric
from graphdiff.core.state import State

F64 = torch.float64
PROCESSES = [
    Absorbing(FlowMatching(), 3),
    Uniform(Cosine(), 3),
    Marginal(FlowMatching(), (0.1, 0.6, 0.3)),
]
# Strongly correlated: two tokens of two or three classes that mostly agree.
CORRELATED = torch.tensor([0.4, 0.1, 0, 0.1, 0.4, 0, 0, 0, 0], dtype=F64)


def oracle_of(process: CTMC, tokens: int = 2) -> ExactDiscrete:
    if tokens == 2:
        return ExactDiscrete(process, CORRELATED, 2)
    clean = process.classes - 1 if isinstance(process, Absorbing) else None
    return ExactDiscrete(process, random_law(3, tokens, 0, clean), tokens)


def token_probs(oracle: ExactDiscrete, t: float, length: float) -> torch.Tensor:
    """Class probabilities ``[S, tokens, K]`` of a move whose length is ``length``."""
    program = JumpCorrector(size=length / 0.05).compile(oracle.process, [t, t - 0.05])
    key = Key(0, torch.arange(len(oracle.law)))
    return program.move(0, oracle.states, oracle.denoiser(t), None, key).mean


def move(oracle: ExactDiscrete, t: float, length: float) -> torch.Tensor:
    return oracle.product_kernel(token_probs(oracle, t, length))


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("t", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("length", [0.01, 0.5, 100.0])
def test_one_token_keeps_its_marginal_exactly(process, t, length):
    oracle = oracle_of(process, 1)
    law, kernel = oracle.marginal(t), move(oracle, t, length)
    assert (kernel >= 0).all()
    assert kernel.diagonal().min() < 0.999
    torch.testing.assert_close(law @ kernel, law, atol=1e-12, rtol=0)
    flows = law[:, None] * kernel
    torch.testing.assert_close(flows, flows.T, atol=1e-12, rtol=0)  # detailed balance
    # A prediction 5 % off must show.
    wrong = oracle.denoiser(t) + torch.tensor([1.05, 1.0, 1.0], dtype=F64).log()
    program = JumpCorrector(size=length / 0.05).compile(process, [t, t - 0.05])
    other = program.move(0, oracle.states, wrong, None, Key(0, torch.arange(3))).mean[:, 0]
    moved = float((kernel - torch.eye(3, dtype=F64)).abs().max())
    assert (law @ other - law).abs().max() > 1e-4 * moved


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("t", [0.2, 0.8])
def test_generator_leaves_the_joint_marginal(process, t):
    """Tokens that move one at a time: q_t is stationary to rounding, and in detailed balance."""
    oracle, length = oracle_of(process), 1e-3
    probs = token_probs(oracle, t, length)
    here = torch.nn.functional.one_hot(oracle.states, 3).double()
    generator = torch.zeros(9, 9, dtype=F64)
    for d in range(2):
        alone = here.clone()
        alone[:, d] = probs[:, d]
        generator += (oracle.product_kernel(alone) - torch.eye(9, dtype=F64)) / length
    law = oracle.marginal(t)
    scale = float(generator.abs().max())
    torch.testing.assert_close(
        law @ generator, torch.zeros(9, dtype=F64), atol=1e-9 * scale, rtol=0
    )
    flows = law[:, None] * generator
    torch.testing.assert_close(flows, flows.T, atol=1e-9 * scale, rtol=0)


@pytest.mark.parametrize("process", PROCESSES)
def test_moving_at_once_is_of_second_order(process):
    oracle, t = oracle_of(process), 0.5
    law = oracle.marginal(t)
    errors = [total_variation(law @ move(oracle, t, length), law) for length in (0.02, 0.01)]
    assert 3.8 < errors[0] / errors[1] < 4.2


@pytest.mark.parametrize("process", PROCESSES)
def test_a_wrong_law_converges_to_the_marginal(process):
    oracle, t = oracle_of(process), 0.5
    kernel, exact = move(oracle, t, 0.02), oracle.marginal(t)
    # Independent tokens with the right marginals: what parallel steps produce.
    tokens = [torch.zeros(3, dtype=F64).index_add(0, oracle.states[:, d], exact) for d in range(2)]
    law = torch.outer(*tokens).flatten()
    errors = [total_variation(law, exact)]
    for _ in range(6):
        for _ in range(50):
            law = law @ kernel
        errors.append(total_variation(law, exact))
    assert errors[0] > 0.02
    assert errors[-1] < 0.1 * errors[0]


def law_at_end(
    oracle: ExactDiscrete, solver, times: list[float], tilt: float = 1.0
) -> torch.Tensor:
    """The enumerated law; ``tilt`` multiplies the prediction of class 0, for mutations."""
    bias = torch.tensor([tilt, 1.0, 1.0], dtype=F64).log()
    program = solver.compile(oracle.process, times)
    law, key = oracle.marginal(times[0]), Key(0, torch.arange(len(oracle.law)))
    for i in range(len(times) - 1):
        for stage in range(program.stages):
            t = program.evaluate_at(i, stage)
            if t is not None:
                x0 = oracle.denoiser(t) + bias
                kernel, _ = program.update(i, stage, oracle.states, x0, None, (), key)
                law = law @ oracle.product_kernel(kernel.mean)
    return law


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("predictor", [AncestralJump(), FlowJump()])
def test_correction_repairs_parallel_steps(process, predictor):
    """From the prior to data in 8 steps: each corrector move takes some of the error away."""
    oracle = oracle_of(process)
    times = [1 - i / 8 for i in range(9)]
    solvers = [predictor, *(PredictorCorrector(predictor, JumpCorrector(n)) for n in (1, 2, 4))]
    errors = [total_variation(law_at_end(oracle, solver, times), oracle.law) for solver in solvers]
    assert errors[0] > errors[1] > errors[2] > errors[3]
    assert errors[3] < 0.7 * errors[0]


@pytest.mark.parametrize("process", PROCESSES)
def test_still_of_first_order(process):
    oracle = oracle_of(process)
    solver = PredictorCorrector(FlowJump(), JumpCorrector(1, 1.0))
    exact = oracle.marginal(0.1)
    errors = []
    for n in (64, 128):
        times = [0.9 - 0.8 * i / n for i in range(n + 1)]
        errors.append(total_variation(law_at_end(oracle, solver, times), exact))
    assert errors[1] < 0.01
    assert 1.8 < errors[0] / errors[1] < 2.2


def test_through_the_sampler():
    """The prior is not corrected, another component moves along, draws follow their law."""
    samples = 40000
    part = Marginal(FlowMatching(), (0.1, 0.6, 0.3))
    oracle = oracle_of(part)
    process = Product({"x": part, "y": Absorbing(FlowMatching(), 3)})

    def denoiser(state, t, cond=None):
        x = state["x"]
        logits = oracle.denoiser(float(t[0]))[x[:, 0] * 3 + x[:, 1]]
        return {"x": logits, "y": torch.zeros(samples, 4, 3, dtype=F64)}

    solvers = {"x": PredictorCorrector(FlowJump(), JumpCorrector(2, 0.5)), "y": FirstHitting()}
    sampler = Sampler(process, solvers, Times(4, end=0.0))
    assert sampler.network_calls == 1 + 3 * 3
    zeros = torch.zeros(samples, 4, dtype=torch.int64)
    template = State({"x": zeros[:, :2], "y": zeros}, {}, torch.arange(samples))
    end = sampler(denoiser, template, seed=3)
    assert end["y"].max() < 2
    counts = (end["x"][:, 0] * 3 + end["x"][:, 1]).bincount(minlength=9)
    times = [1 - i / 4 for i in range(5)]
    assert accepted(chi2_pvalue(counts, law_at_end(oracle, solvers["x"], times)))
    assert rejected(chi2_pvalue(counts, law_at_end(oracle, solvers["x"], times, 1.05)))
    assert rejected(chi2_pvalue(counts, law_at_end(oracle, FlowJump(), times)))


def test_padding_does_not_change_moves():
    process = Marginal(FlowMatching(), (0.5, 0.3, 0.2), Symmetric())
    key = Key(0, torch.tensor([4, 6]), step=3)
    mask = torch.arange(5) < torch.tensor([5, 3])[:, None]
    x = process.prior(torch.zeros(2, 5, 5), mask, key)
    logits = key.at(step=9).normal(75).view(2, 5, 5, 3)
    logits = logits + logits.transpose(1, 2)
    program = JumpCorrector().compile(process, [0.6, 0.4])
    y = program.move(0, x, logits, mask, key).sample(key)
    one = Key(0, torch.tensor([6]), step=3)
    alone = program.move(0, x[1:, :3, :3], logits[1:, :3, :3], None, one).sample(one)
    assert torch.equal(y[1:, :3, :3], alone)
    assert not y[1, 3:].any()
    assert torch.equal(y, y.transpose(1, 2))


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: JumpCorrector(size=0.0), "size"),
        (lambda: JumpCorrector().compile(Gaussian(VP()), [1.0, 0.5]), "Gaussian"),
        (
            lambda: PredictorCorrector(AncestralJump(), JumpCorrector(0)).compile(
                PROCESSES[0], [1.0, 0.5]
            ),
            "n_steps",
        ),
        (
            lambda: PredictorCorrector(AncestralJump(), Langevin()).compile(
                PROCESSES[0], [1.0, 0.5]
            ),
            "Absorbing",
        ),
    ],
)
def test_errors(call, word):
    with pytest.raises(ArgumentError, match=word):
        call()
