"""A sample is a function of (model, seed, id): batch, order, padding and labels change nothing."""

from __future__ import annotations

import pytest
import torch
from sampling_cases import NormalData, StringData
from torch import Tensor

from graphdiff.core.categorical import Absorbing
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.jump import AncestralJump
from graphdiff.core.plan import Ancestral, DPMSolverPP, Heun
from graphdiff.core.process import Product
from graphdiff.core.program import Solver
from graphdiff.core.sampler import Sampler, Times
from graphdiff.core.schedule import VE, VP, LogLinear
from graphdiff.core.solver import S4, EulerMaruyama, Langevin, PredictorCorrector, ReverseDiffusion
from graphdiff.core.space import Dense, Symmetric
from graphdiff.core.state import State, pad

SPACES = {"x": Dense(), "adj": Symmetric()}
PROCESS = Product({"x": Gaussian(VP(), Dense()), "adj": Gaussian(VE(0.1, 5.0), Symmetric())})
LANGEVIN = PredictorCorrector(ReverseDiffusion(), Langevin(0.1, 0.8))
SOLVERS: list[Solver] = [
    DPMSolverPP(order=2),
    Heun(),
    Ancestral(),
    EulerMaruyama(),
    LANGEVIN,
    S4(0.1, 0.8),
]


class Coupled:
    """A permutation-equivariant denoiser in which every entry depends on its whole graph."""

    def __call__(self, state: State, t: Tensor, cond: object = None) -> dict[str, Tensor]:
        x, adj, mask = state["x"], state["adj"], state.mask("x")
        assert mask is not None
        near = torch.tanh(adj @ x) + 0.5 * x
        pair = torch.tanh(x @ x.transpose(1, 2) / 2 + (adj @ adj) / 8) + 0.3 * adj
        return {
            "x": Dense().apply_mask(near * (1 - t.view(-1, 1, 1) / 2), mask),
            "adj": Symmetric().apply_mask(pair, mask),
        }


def graphs(sizes: list[int], ids: list[int], n: int | None = None) -> State:
    b, n = len(sizes), max(sizes) if n is None else n
    mask = torch.arange(n) < torch.tensor(sizes)[:, None]
    values = {
        "x": torch.zeros(b, n, 2, dtype=torch.float64),
        "adj": torch.zeros(b, n, n, dtype=torch.float64),
    }
    return State(values, {"x": mask, "adj": mask}, torch.tensor(ids))


def close(a: State, b: State, *, apart: bool = False) -> None:
    for name in a.values:
        equal = torch.allclose(a[name], b[name], rtol=1e-9, atol=1e-9)
        assert equal is not apart, name


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_batch_and_order(solver: Solver) -> None:
    sampler = Sampler(PROCESS, solver, Times(6))
    whole = sampler(Coupled(), graphs([5, 3, 4, 2], [7, 1, 900, 2**40]), seed=3)
    turned = sampler(Coupled(), graphs([4, 2, 5, 3], [900, 2**40, 7, 1]), seed=3)
    close(whole.select([2, 3, 0, 1]), turned)
    alone = sampler(Coupled(), graphs([3], [1], n=5), seed=3)
    close(whole.select([1]), alone)


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_padding(solver: Solver) -> None:
    sampler = Sampler(PROCESS, solver, Times(6))
    tight = sampler(Coupled(), graphs([3, 4], [0, 1]), seed=3)
    loose = sampler(Coupled(), graphs([3, 4], [0, 1], n=9), seed=3)
    close(pad(tight, SPACES, 9), loose)


def test_batch_norm_is_not_invariant() -> None:
    """The published Langevin step depends on the batch; the test above would notice."""
    solver = PredictorCorrector(ReverseDiffusion(), Langevin(0.1, 0.8, norm="batch"))
    sampler = Sampler(PROCESS, solver, Times(6))
    whole = sampler(Coupled(), graphs([5, 3], [7, 1]), seed=3)
    close(whole.select([1]), sampler(Coupled(), graphs([3], [1], n=5), seed=3), apart=True)


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_other_seeds_and_ids_give_other_samples(solver: Solver) -> None:
    sampler = Sampler(PROCESS, solver, Times(4))
    first = sampler(Coupled(), graphs([4], [0]), seed=3)
    close(first, sampler(Coupled(), graphs([4], [0]), seed=4), apart=True)
    close(first, sampler(Coupled(), graphs([4], [1]), seed=3), apart=True)


@pytest.mark.parametrize("solver", [DPMSolverPP(order=2), Heun()], ids=str)
def test_deterministic_solvers_commute_with_node_permutation(solver: Solver) -> None:
    """From permuted noise a probability flow ends in the permuted graph."""
    sampler = Sampler(PROCESS, solver, Times(6))
    start = next(sampler.steps(Coupled(), graphs([5, 5], [0, 1]), seed=3))
    order = torch.tensor([3, 0, 4, 1, 2])

    def permuted(values: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"x": values["x"][:, order], "adj": values["adj"][:, order][:, :, order]}

    saved = start.to_dict()
    carry = [
        permuted(dict(zip(saved["carry"], pair, strict=True)))
        for pair in zip(*saved["carry"].values(), strict=True)
    ]
    turned = {
        **saved,
        "values": permuted(saved["values"]),
        "carry": {name: [c[name] for c in carry] for name in saved["carry"]},
    }
    template = graphs([5, 5], [0, 1])
    end = [*sampler.steps(Coupled(), template, seed=3, resume=start)][-1].state
    other = [*sampler.steps(Coupled(), template, seed=3, resume=type(start).from_dict(turned))]
    close(State(permuted(dict(end.values)), end.masks, end.ids), other[-1].state)


@pytest.mark.parametrize("solver", [Ancestral(), LANGEVIN, S4(0.1, 0.8)], ids=str)
def test_kernels_commute_with_node_permutation(solver: Solver) -> None:
    """One stochastic step: mean and spread of the permuted graph are permuted."""
    order = torch.tensor([3, 0, 4, 1, 2])
    times = (0.6, 0.4)
    template = graphs([5, 5], [0, 1])
    for name, part in PROCESS.parts.items():
        program = solver.compile(part, times)
        key = Sampler(PROCESS, solver, Times.at(times)).process
        x = key.prior(template, _key()).values[name]
        x0 = torch.tanh(x)

        def turn(v: Tensor, name: str = name) -> Tensor:
            return v[:, order] if name == "x" else v[:, order][:, :, order]

        mask = template.mask(name)
        here, _ = program.update(0, 0, x, x0, mask, (), _key())
        there, _ = program.update(0, 0, turn(x), turn(x0), mask, (), _key())
        torch.testing.assert_close(turn(here.mean), there.mean)
        if not isinstance(here.std, float):
            torch.testing.assert_close(here.std, there.std)


def _key():
    from graphdiff.core.rng import Key

    return Key(0, torch.arange(2))


def test_bits_are_equal_at_a_fixed_batch_shape() -> None:
    sampler = Sampler(PROCESS, LANGEVIN, Times(5))
    first = sampler(Coupled(), graphs([5, 3], [7, 1]), seed=3)
    again = Sampler(PROCESS, LANGEVIN, Times(5))(Coupled(), graphs([5, 3], [7, 1]), seed=3)
    assert all(torch.equal(first[name], again[name]) for name in first.values)


def test_strings_ignore_their_batch() -> None:
    table = torch.tensor([[0.5, 0.1], [0.1, 0.3]], dtype=torch.float64)
    process = Product({"tokens": Absorbing(LogLinear(1e-4), 3, Dense())})
    sampler = Sampler(process, AncestralJump(), Times(10, end=0.0))

    def run(ids: list[int]) -> Tensor:
        values = {"tokens": torch.zeros(len(ids), 2, dtype=torch.int64)}
        template = State(values, {}, torch.tensor(ids))
        return sampler(StringData(process, table), template, seed=1)["tokens"]

    whole = run(list(range(20)))
    assert torch.equal(whole[[4, 17, 2]], run([4, 17, 2]))
    assert len(whole.unique()) == 2


def test_the_exact_law_does_not_depend_on_padding() -> None:
    """Means over many small graphs agree with those of the same graphs in wide tensors."""
    oracle = NormalData(PROCESS, {"x": 0.4, "adj": 0.0}, {"x": 0.2, "adj": 0.3})
    sampler = Sampler(PROCESS, LANGEVIN, Times(5))
    tight = sampler(oracle, graphs([2, 3] * 8, list(range(16))), seed=0)
    loose = sampler(oracle, graphs([2, 3] * 8, list(range(16)), n=6), seed=0)
    close(pad(tight, SPACES, 6), loose)
