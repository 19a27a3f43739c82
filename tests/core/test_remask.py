"""First hitting and remasking: laws by enumeration, draws, invariance."""

from __future__ import annotations

import math

import pytest
import torch
from exact_discrete import ExactDiscrete, random_law, total_variation
from stats import accepted, chi2_pvalue, rejected

from graphdiff.core.categorical import Absorbing, Uniform
from graphdiff.core.errors import ArgumentError
from graphdiff.core.jump import AncestralJump
from graphdiff.core.process import Product
from graphdiff.core.remask import FirstHitting, ReMDM
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler, Times
from graphdiff.core.schedule import Cosine, FlowMatching
from graphdiff.core.space import Dense, Symmetric
from graphdiff.core.state import State

F64 = torch.float64
PROCESS = Absorbing(FlowMatching(), 3)
REMASKING = [ReMDM(), ReMDM("cap", 0.3), ReMDM("rescale", 0.5), ReMDM("max"), ReMDM("max", on=(0.6, 0.3))]  # noqa: E501  # fmt: skip


def oracle_of(process: Absorbing, tokens: int) -> ExactDiscrete:
    k = process.classes
    return ExactDiscrete(process, random_law(k, tokens, 0, k - 1), tokens)


def grid(n: int, start: float = 1.0, end: float = 0.0) -> list[float]:
    return [start + (end - start) * i / n for i in range(n + 1)]


def first_hitting_step(oracle: ExactDiscrete, program, i: int, repeats: int = 200) -> torch.Tensor:
    """The kernel ``[S, S]`` averaged over the order of revelation, without its sampling error.

    Every order is equally likely, so the kernels that occur for a string are counted once each; a
    subset that never came up in 200 draws of at most 6 would show as a wrong number of kernels.
    """
    rows = []
    mask_class = oracle.classes - 1
    for row, x in enumerate(oracle.states):
        key = Key(5, torch.arange(repeats), step=1 + i)
        many = x.expand(repeats, -1)
        logits = oracle.denoiser(0.5)[row].expand(repeats, -1, -1)
        probs = program.update(i, 0, many, logits, None, (), key)[0].mean
        distinct = torch.unique(probs, dim=0)
        left = int((x == mask_class).sum())
        count = min(max(program.tokens, math.ceil(left / (len(program.times) - 1 - i))), left)
        assert len(distinct) == math.comb(left, count)
        strings = [distinct[:, d][:, oracle.states[:, d]] for d in range(oracle.tokens)]
        rows.append(torch.stack(strings).prod(0).mean(0))
    return torch.stack(rows)


def first_hitting_law(tokens: int, steps: int, solver: FirstHitting) -> tuple[torch.Tensor, ExactDiscrete]:  # noqa: E501  # fmt: skip
    oracle = oracle_of(PROCESS, tokens)
    program = solver.compile(PROCESS, grid(steps))
    law = torch.zeros(3**tokens, dtype=F64)
    law[-1] = 1  # all masks
    for i in range(steps):
        law = law @ first_hitting_step(oracle, program, i)
    return law, oracle


@pytest.mark.parametrize("steps", [3, 5])
def test_one_token_a_step_is_an_exact_draw(steps):
    """Correlated data of three tokens, exact prediction: no error, and none after the end."""
    law, oracle = first_hitting_law(3, steps, FirstHitting())
    torch.testing.assert_close(law, oracle.law, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize(("steps", "solver"), [(2, FirstHitting()), (3, FirstHitting(2)), (1, FirstHitting())])  # noqa: E501  # fmt: skip
def test_several_tokens_a_step_are_not(steps, solver):
    law, oracle = first_hitting_law(3, steps, solver)
    assert total_variation(law, oracle.law) > 0.01
    assert law[oracle.law == 0].sum() < 1e-30
    if steps == 1:  # all at once: the product of the marginals
        torch.testing.assert_close(law, oracle.product_kernel(oracle.denoiser(0.5).exp())[-1])


def test_the_order_is_uniform():
    """Which of 4 masks comes first, and which pair, over samples; a loaded order is noticed."""
    samples = 6000
    x = torch.full((samples, 5), 2)
    x[:, 1] = 0
    logits = torch.tensor([0.0, 0.0, 0.0]).expand(samples, 5, 3)
    key = Key(7, torch.arange(samples), step=4)
    for steps, cells in ((4, 4), (2, 6)):
        program = FirstHitting().compile(PROCESS, grid(steps))
        y = program.update(0, 0, x, logits, None, (), key)[0].sample(key)
        revealed = (y != x).long()
        assert (revealed.sum(1) == 4 // steps).all()
        assert not revealed[:, 1].any()
        _, counts = torch.unique(revealed, dim=0, return_counts=True)
        assert len(counts) == cells
        even = torch.full((cells,), 1 / cells, dtype=F64)
        assert accepted(chi2_pvalue(counts, even))
        loaded = even.clone()
        loaded[0] *= 1.25  # 5 % of 1/4 would need 40,000 draws to see
        assert rejected(chi2_pvalue(counts, loaded))


def test_first_hitting_spreads_the_work():
    """Samples of 7, 3 and 0 masks in 4 steps: as even as they can be, none left."""
    x = torch.full((3, 7), 2)
    x[1, 3:], x[2] = 1, 1
    program = FirstHitting().compile(PROCESS, grid(4))
    left = []
    key = Key(0, torch.arange(3))
    for i in range(4):
        x = program.update(i, 0, x, torch.zeros(3, 7, 3), None, (), key.at(step=1 + i))[0].sample(
            key.at(step=1 + i)
        )
        left.append((x == 2).sum(1).tolist())
    assert left == [[5, 2, 0], [3, 1, 0], [1, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("solver", [FirstHitting(), FirstHitting(3), *REMASKING])
@pytest.mark.parametrize("space", [Dense(), Symmetric()])
def test_batch_and_padding_do_not_change_draws(solver, space):
    process = Absorbing(FlowMatching(), 4, space)
    nodes = len(space.node_axes)
    key = Key(0, torch.tensor([4, 6, 9]))
    mask = torch.arange(6) < torch.tensor([6, 4, 5])[:, None]
    program = solver.compile(process, grid(3))
    x = process.prior(torch.zeros((3, *[6] * nodes), dtype=torch.int64), mask, key)
    table = key.at(step=99).normal(6**nodes * 4).view(3, *[6] * nodes, 4)
    logits = table if nodes == 1 else table + table.transpose(1, 2)
    part = (slice(1, 2), *[slice(4)] * nodes)
    alone = x[part]
    for i in range(3):
        step = key.at(step=1 + i)
        x = program.update(i, 0, x, logits, mask, (), step)[0].sample(step)
        one = Key(0, torch.tensor([6]), step=1 + i)
        alone = program.update(i, 0, alone, logits[part], None, (), one)[0].sample(one)
        assert torch.equal(x[part], alone)
        assert not x[1, 4:].any()
    assert x.max() < 3
    if nodes == 2:
        assert torch.equal(x, x.transpose(1, 2))


@pytest.mark.parametrize("size", [0, 1])
def test_graphs_without_pairs(size):
    process = Absorbing(FlowMatching(), 3, Symmetric())
    x = torch.zeros(2, size, size, dtype=torch.int64)
    key = Key(0, torch.arange(2))
    program = FirstHitting().compile(process, grid(2))
    y = program.update(0, 0, x, torch.zeros(2, size, size, 3), None, (), key)[0].sample(key)
    assert torch.equal(y, x)


def test_through_the_sampler():
    """Steps read the key of their component, and the chain is exact for a correlated law."""
    samples = 4000
    law = torch.tensor([0.4, 0.1, 0, 0.15, 0.35, 0, 0, 0, 0], dtype=F64)
    oracle = ExactDiscrete(PROCESS, law, 2)

    def denoiser(state, t, cond=None):
        x = state["x"]
        return {"x": oracle.denoiser(0.5)[x[:, 0] * 3 + x[:, 1]]}

    template = State({"x": torch.zeros(samples, 2, dtype=torch.int64)}, {}, torch.arange(samples))
    process = Product({"x": PROCESS})
    exact = Sampler(process, FirstHitting(), Times(2, end=0.0))
    x = exact(denoiser, template, seed=1)["x"]
    counts = (x[:, 0] * 3 + x[:, 1]).bincount(minlength=9)
    assert exact.network_calls == 2
    assert accepted(chi2_pvalue(counts, oracle.law))
    crude = Sampler(process, AncestralJump(), Times(2, end=0.0))(denoiser, template, seed=1)["x"]
    assert rejected(chi2_pvalue((crude[:, 0] * 3 + crude[:, 1]).bincount(minlength=9), oracle.law))


def remask_kernel(solver, process: Absorbing, t: float, s: float, x1: int) -> torch.Tensor:
    k = process.classes
    logits = torch.full((k, 1, k), -torch.inf, dtype=F64)
    logits[..., x1] = 0
    program = solver.compile(process, [t, s])
    x, key = torch.arange(k)[:, None], Key(0, torch.arange(k))
    return program.update(0, 0, x, logits, None, (), key)[0].mean[:, 0]


@pytest.mark.parametrize("process", [PROCESS, Absorbing(Cosine(), 4)])
@pytest.mark.parametrize(("t", "s"), [(1.0, 0.6), (0.9, 0.8), (0.5, 0.45), (0.2, 0.1), (0.4, 0.0)])
@pytest.mark.parametrize("solver", REMASKING)
def test_remasking_keeps_the_marginal(process, t, s, solver):
    alpha_t, alpha_s = float(process.schedule.alpha(t)), float(process.schedule.alpha(s))
    start = torch.zeros(process.classes, dtype=F64)
    start[0], start[-1] = alpha_t, 1 - alpha_t
    end = torch.zeros_like(start)
    end[0], end[-1] = alpha_s, 1 - alpha_s
    kernel = remask_kernel(solver, process, t, s, 0)
    torch.testing.assert_close(start @ kernel, end, atol=1e-12, rtol=0)
    # A mutation: 5 % more remasking than the masks make up for.
    if kernel[0, -1] > 1e-3:
        wrong = kernel.clone()
        wrong[0, -1] *= 1.05
        wrong[0, 0] = 1 - wrong[0, -1]
        assert (start @ wrong - end).abs().max() > 1e-6 or alpha_t == 0


def test_remasking_probabilities():
    """The three rules, from numbers: alpha goes from 0.75 to 0.8, so sigma_max is 4/15."""
    t, s = 0.25, 0.2
    for solver, sigma in [
        (ReMDM("cap", 0.1), 0.1),
        (ReMDM("cap", 0.9), 4 / 15),
        (ReMDM("rescale", 0.1), 0.4 / 15),
        (ReMDM("max"), 4 / 15),
        (ReMDM("max", on=(0.2, 0.1)), 0.0),
        (ReMDM("max", on=(0.25, 0.1)), 4 / 15),
        (ReMDM("max", on=(0.5, 0.25)), 0.0),
    ]:
        kernel = remask_kernel(solver, PROCESS, t, s, 1)
        assert math.isclose(kernel[1, 2], sigma, abs_tol=1e-12)
        assert math.isclose(kernel[0, 2], sigma, abs_tol=1e-12)
        assert math.isclose(kernel[2, 1], (0.8 - (1 - sigma) * 0.75) / 0.25, rel_tol=1e-12)


def test_no_remasking_is_ancestral():
    key = Key(0, torch.arange(50))
    x, logits = key.bits(6) % 3, key.normal(18).view(50, 6, 3)
    for times in ([0.7, 0.4], [0.7, 0.0], [1.0, 0.4]):
        plain = AncestralJump().compile(PROCESS, times).update(0, 0, x, logits, None, (), key)[0]
        none = ReMDM(eta=0.0).compile(PROCESS, times).update(0, 0, x, logits, None, (), key)[0]
        torch.testing.assert_close(none.mean, plain.mean, atol=1e-6, rtol=1e-5)


def remask_law(oracle: ExactDiscrete, solver, times: list[float]) -> torch.Tensor:
    program = solver.compile(oracle.process, times)
    law, key = oracle.marginal(times[0]), Key(0, torch.arange(len(oracle.law)))
    for i in range(len(times) - 1):
        x0 = oracle.denoiser(times[i])
        kernel, _ = program.update(i, 0, oracle.states, x0, None, (), key)
        law = law @ oracle.product_kernel(kernel.mean)
    return law


@pytest.mark.parametrize("solver", [ReMDM("rescale", 0.1), ReMDM("cap", 0.05), ReMDM("max", on=(0.3, 0.2))])  # noqa: E501  # fmt: skip
def test_remasked_chain_is_near_the_data(solver):
    """With many steps a constant share is remasked in each: the error stays small, masks go."""
    oracle = oracle_of(PROCESS, 2)
    law = remask_law(oracle, solver, grid(200))
    torch.testing.assert_close(law.sum(), torch.ones((), dtype=F64))
    assert total_variation(law, oracle.law) < 0.03
    assert law[oracle.law == 0].sum() < 1e-30


def test_remasking_corrects_errors():
    """A prediction that is wrong until half time: ancestral steps keep its errors."""
    oracle = oracle_of(PROCESS, 1)
    times = grid(64)

    def law_with(solver) -> float:
        program = solver.compile(PROCESS, times)
        law, key = oracle.marginal(1.0), Key(0, torch.arange(3))
        for i in range(64):
            x0 = oracle.denoiser(times[i])
            if times[i] > 0.5:
                x0 = x0[..., [1, 0, 2]]
            kernel, _ = program.update(i, 0, oracle.states, x0, None, (), key)
            law = law @ oracle.product_kernel(kernel.mean)
        return total_variation(law, oracle.law)

    assert law_with(ReMDM("cap", 0.1)) < 0.5 * law_with(AncestralJump())


@pytest.mark.parametrize("solver", [ReMDM("cap", 0.2), ReMDM("max", on=(0.8, 0.2))])
def test_remasked_draws(solver):
    """Draws follow the enumerated law, and not that of 5 % more of the clock."""
    samples, times = 30000, grid(6, 0.9, 0.1)
    oracle = oracle_of(PROCESS, 2)
    program = solver.compile(PROCESS, times)
    key = Key(1, torch.arange(samples))
    start = oracle.marginal(0.9).cumsum(0)
    row = torch.searchsorted(start, key.uniform(1, F64).squeeze(1)).clamp(max=8)
    x = oracle.states[row]
    for i in range(6):
        x0 = oracle.denoiser(times[i])[x[:, 0] * 3 + x[:, 1]]
        x = program.update(i, 0, x, x0, None, (), key)[0].sample(key.at(step=1 + i))
    counts = (x[:, 0] * 3 + x[:, 1]).bincount(minlength=9)
    assert accepted(chi2_pvalue(counts, remask_law(oracle, solver, times)))
    longer = [0.9 + 1.05 * (t - 0.9) for t in times]
    assert rejected(chi2_pvalue(counts, remask_law(oracle, solver, longer)))


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: FirstHitting(0), "tokens"),
        (lambda: FirstHitting().compile(Uniform(FlowMatching(), 3), [1.0, 0.5]), "Uniform"),
        (lambda: ReMDM("loop"), "loop"),
        (lambda: ReMDM(eta=1.5), "eta"),
        (lambda: ReMDM(on=(0.2, 0.4)), "window"),
        (lambda: ReMDM().compile(Uniform(FlowMatching(), 3), [1.0, 0.5]), "Uniform"),
    ],
)
def test_errors(call, word):
    with pytest.raises(ArgumentError, match=word):
        call()
