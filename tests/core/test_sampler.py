"""The loop itself: grids, stages, counts, resuming, threads, noise bookkeeping, refusals."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from sampling_cases import Counting, MixedData, NormalData
from torch import Tensor

import graphdiff.core.rng as rng
from graphdiff.core.categorical import Uniform
from graphdiff.core.errors import ArgumentError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.jump import AncestralJump
from graphdiff.core.kernel import Delta
from graphdiff.core.plan import DDIM, Ancestral, DPMSolverPP, Heun, UniPC
from graphdiff.core.process import Product
from graphdiff.core.program import Program, Solver
from graphdiff.core.sampler import Sampler, Step, Times
from graphdiff.core.schedule import VE, VP, Cosine, FlowMatching
from graphdiff.core.solver import S4, Langevin, PredictorCorrector, ReverseDiffusion
from graphdiff.core.space import Dense, Symmetric
from graphdiff.core.state import State

GRAPH = Product({"x": Gaussian(VP(), Dense()), "adj": Gaussian(VE(0.1, 5.0), Symmetric())})
ORACLE = NormalData(GRAPH, {"x": 0.5, "adj": 0.0}, {"x": 0.4, "adj": 0.3})
MIXED = Product({"x": Gaussian(VP(), Dense()), "c": Uniform(Cosine(), 3, Dense())})


def graph(b: int = 3, n: int = 4, dtype: torch.dtype = torch.float32) -> State:
    mask = torch.arange(n) < (2 + torch.arange(b) % (n - 1))[:, None]
    values = {"x": torch.zeros(b, n, 2, dtype=dtype), "adj": torch.zeros(b, n, n, dtype=dtype)}
    return State(values, {"x": mask, "adj": mask}, torch.arange(10, 10 + b))


def mixed(b: int = 3) -> State:
    values = {"x": torch.zeros(b, 1), "c": torch.zeros(b, 1, dtype=torch.int64)}
    return State(values, {}, torch.arange(b))


def same(a: State, b: State) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a.values)


CORRECTED = PredictorCorrector(ReverseDiffusion(), Langevin(0.1))

# --- times ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uniform", "log_snr", "karras"])
def test_grids_descend_between_their_ends(kind: str) -> None:
    times = Times(12, kind, start=0.95, end=0.01).grid(Gaussian(VP(), Dense()))
    assert len(times) == 13
    assert (times[0], times[-1]) == (0.95, 0.01)
    assert all(t > s for t, s in pairwise(times))


def test_log_snr_and_karras_are_even_in_their_coordinate() -> None:
    process = Gaussian(VP(), Dense())
    coordinate = {
        "log_snr": lambda t: process.schedule.log_snr(t),
        "karras": lambda t: torch.exp(-process.schedule.log_snr(t) / 14),
    }
    for kind, of in coordinate.items():
        times = Times(9, kind, start=0.95, end=0.01).grid(process)
        gaps = of(torch.tensor(times, dtype=torch.float64)).diff()
        torch.testing.assert_close(gaps, gaps.mean().expand(9), rtol=1e-8, atol=1e-8)


def test_to_zero_adds_one_step() -> None:
    times = Times(9, "log_snr", end=0.01, to_zero=True).grid(Gaussian(VP(), Dense()))
    assert len(times) == 10
    assert times[-2:] == (0.01, 0.0)


def test_explicit_times() -> None:
    assert Times.at((1.0, 0.4, 0.0)).grid(GRAPH) == (1.0, 0.4, 0.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Times(0), "n >= 1"),
        (lambda: Times(3, "quadratic"), "kinds"),
        (lambda: Times(3, start=0.1, end=0.2), "end < start"),
        (lambda: Times(3, start=1.2), "end < start"),
        (lambda: Times.at((0.5, 0.7)), "descend"),
        (lambda: Times.at((0.5, 0.5)), "descend"),
        (lambda: Times.at((float("nan"), 0.5)), "descend"),
        (lambda: Times.at((1.5, 0.5)), r"\[0, 1\]"),
        (lambda: Times(3, "explicit", values=(1.0, 0.5)), "n \\+ 1"),
        (lambda: Times(1, "explicit", values=(1.0, 0.5), to_zero=True), "to_zero"),
        (lambda: Times(2, values=(1.0, 0.5, 0.1)), "explicit"),
        (lambda: Times(5, end=0.0, to_zero=True).grid(GRAPH), "already"),
        (lambda: Times(5, "log_snr").grid(GRAPH), "component"),
        (lambda: Times(5, "log_snr", component="y").grid(GRAPH), "'y'"),
        (lambda: Times(5, "log_snr").grid(Gaussian(FlowMatching(), Dense())), "finite"),
        (lambda: Times(5, "karras", rho=0.0).grid(Gaussian(VP(), Dense())), "rho"),
    ],
)
def test_grids_that_are_refused(make, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


# --- stages and counts ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solvers", "calls"),
    [
        (DDIM(), 6),
        (Heun(), 12),
        (UniPC(order=2), 6),
        (S4(0.1), 6),
        (CORRECTED, 12),
        (PredictorCorrector(ReverseDiffusion(), Langevin(0.1, n_steps=3)), 24),
        ({"x": CORRECTED, "adj": DDIM()}, 12),
        ({"x": DDIM(), "adj": Heun()}, 12),
    ],
)
def test_network_calls_are_counted_and_announced(solvers, calls: int) -> None:
    sampler = Sampler(GRAPH, solvers, Times(6))
    denoiser = Counting(ORACLE)
    steps = list(sampler.steps(denoiser, graph(), seed=0))
    assert sampler.network_calls == calls == len(denoiser.times) == steps[-1].calls
    assert [step.index for step in steps] == list(range(6))
    assert all(step.total == 6 for step in steps)
    grid = sampler.compile().times
    assert [(step.t, step.s) for step in steps] == list(pairwise(grid))


def test_a_component_with_fewer_stages_moves_where_its_time_is_asked() -> None:
    """With a predictor-corrector it moves with the predictor, with Heun in the first stage."""
    late = Sampler(GRAPH, {"x": CORRECTED, "adj": DDIM()}, Times(3)).compile().slots[0]
    assert [slot.parts for slot in late] == [(("x", 0),), (("adj", 0), ("x", 1))]
    early = Sampler(GRAPH, {"x": Heun(), "adj": DDIM()}, Times(3)).compile().slots[0]
    assert [slot.parts for slot in early] == [(("adj", 0), ("x", 0)), (("x", 1),)]


def test_resting_changes_nothing_of_the_other_component() -> None:
    """``adj`` of DDIM is the same whether ``x`` has one stage or four, if ``adj`` ignores ``x``."""
    alone = Sampler(GRAPH, DDIM(), Times(5))(ORACLE, graph(), seed=1)
    solvers = {"x": PredictorCorrector(ReverseDiffusion(), Langevin(0.1, n_steps=3)), "adj": DDIM()}
    beside = Sampler(GRAPH, solvers, Times(5))(ORACLE, graph(), seed=1)
    assert torch.equal(alone["adj"], beside["adj"])
    assert not torch.equal(alone["x"], beside["x"])


@dataclass(frozen=True)
class At(Solver, Program):  # type: ignore[misc]
    """Asks at times of its own, some of which may be None; moves nothing."""

    ask: tuple[float | None, ...]

    @property
    def stages(self) -> int:  # type: ignore[override]
        return len(self.ask)

    def compile(self, process, times):
        return self

    def evaluate_at(self, i: int, stage: int) -> float | None:
        return self.ask[stage]

    def start(self, x: Tensor):
        return ()

    def update(self, i, stage, x, x0, mask, carry, key):
        return Delta(x + 1), carry


def test_clashing_times_are_refused() -> None:
    sampler = Sampler(GRAPH, {"x": At((0.5, 0.3)), "adj": At((0.4,))}, Times(3))
    with pytest.raises(ArgumentError, match=r"'adj' asks the network at \[0\.4\]"):
        sampler.compile()
    with pytest.raises(ArgumentError, match="common evaluations"):
        _ = Sampler(GRAPH, {"x": At((0.5, 0.3)), "adj": At((0.3, 0.5))}, Times(3)).network_calls


def test_skipped_stages_cost_no_call() -> None:
    sampler = Sampler(GRAPH, {"x": At((0.5, None)), "adj": At((None, 0.5))}, Times(3))
    start = GRAPH.prior(graph(), rng.Key(0, graph().ids))
    state = sampler(ORACLE, graph(), seed=0)
    assert sampler.network_calls == 3
    torch.testing.assert_close(state["x"], start["x"] + 3)


# --- noise ---------------------------------------------------------------------------------------


def drawn(monkeypatch: pytest.MonkeyPatch, solvers, process=GRAPH, template=None) -> list[int]:
    """Numbers of noise for each sample in every call of the generator during two steps."""
    sizes: list[int] = []
    original = rng._words

    def counting(key, draws):
        sizes.append(sum(d.n for d in draws))
        return original(key, draws)

    sampler = Sampler(process, solvers, Times(2))
    sampler.compile()
    template = graph() if template is None else template
    oracle = ORACLE if process is GRAPH else MixedData(process)
    monkeypatch.setattr(rng, "_words", counting)
    sampler(oracle, template, seed=0)
    monkeypatch.undo()
    return sizes


def test_noise_is_drawn_once_a_stage_for_free_coordinates_only(monkeypatch) -> None:
    x, pairs = 4 * 2, 4 * 3 // 2
    prior = [pairs, x]
    assert drawn(monkeypatch, DDIM()) == prior
    assert drawn(monkeypatch, Ancestral()) == [*prior, x + pairs, x + pairs]
    # The last predictor returns a mean, so three of its four draws remain.
    assert drawn(monkeypatch, CORRECTED) == [*prior, *[x + pairs] * 3]
    assert drawn(monkeypatch, {"x": DDIM(), "adj": Ancestral()}) == [*prior, pairs, pairs]
    assert drawn(monkeypatch, {"x": DDIM(), "c": AncestralJump()}, MIXED, mixed()) == [1, 1, 1, 1]


def test_every_stage_has_noise_of_its_own() -> None:
    slots = Sampler(GRAPH, CORRECTED, Times(5)).compile().slots
    numbers = [slot.noise for step in slots for slot in step]
    assert numbers == list(range(1, 11))


# --- resuming, threads ---------------------------------------------------------------------------

SOLVERS = [
    DPMSolverPP(order=3),
    UniPC(order=2),
    Heun(),
    Ancestral(),
    CORRECTED,
    S4(0.1),
    S4(0.1, norm="batch"),
    {"x": CORRECTED, "adj": DPMSolverPP(order=2)},
]


@pytest.mark.parametrize("solvers", SOLVERS, ids=str)
def test_resuming_is_bit_equal(solvers) -> None:
    sampler = Sampler(GRAPH, solvers, Times(7))
    whole = list(sampler.steps(ORACLE, graph(), seed=4))
    for index in (0, 3, 5):
        buffer = io.BytesIO()
        torch.save(whole[index].to_dict(), buffer)
        buffer.seek(0)
        saved = Step.from_dict(torch.load(buffer, weights_only=True))
        rest = list(sampler.steps(ORACLE, graph(), seed=4, resume=saved))
        assert [step.index for step in rest] == list(range(index + 1, 7))
        assert rest[-1].calls == whole[-1].calls
        assert same(rest[-1].state, whole[-1].state)


def test_resuming_a_mixed_state_is_bit_equal() -> None:
    sampler = Sampler(MIXED, {"x": DPMSolverPP(order=2), "c": AncestralJump()}, Times(6, end=0.0))
    whole = list(sampler.steps(MixedData(MIXED), mixed(), seed=4))
    rest = list(sampler.steps(MixedData(MIXED), mixed(), seed=4, resume=whole[2]))
    assert same(rest[-1].state, whole[-1].state)


def test_resuming_another_chain_is_refused() -> None:
    sampler = Sampler(GRAPH, DDIM(), Times(4))
    step = next(sampler.steps(ORACLE, graph(), seed=4))
    with pytest.raises(ArgumentError, match="seed 4"):
        sampler.steps(ORACLE, graph(), seed=5, resume=step)
    with pytest.raises(ArgumentError, match="4 steps"):
        Sampler(GRAPH, DDIM(), Times(5)).steps(ORACLE, graph(), seed=4, resume=step)
    other = graph().select([1, 0, 2])
    with pytest.raises(ArgumentError, match="sample ids"):
        sampler.steps(ORACLE, other, seed=4, resume=step)
    with pytest.raises(ArgumentError, match="lacks carry"):
        Step.from_dict({k: v for k, v in step.to_dict().items() if k != "carry"})


def test_threads_equal_serial() -> None:
    sampler = Sampler(GRAPH, CORRECTED, Times(6))
    serial = [sampler(ORACLE, graph(), seed=seed) for seed in range(4)]
    found: dict[int, State] = {}

    def work(seed: int) -> None:
        found[seed] = sampler(ORACLE, graph(), seed=seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(found[seed], serial[seed]) for seed in range(4))


def test_interleaved_chains_equal_serial() -> None:
    sampler = Sampler(GRAPH, DPMSolverPP(order=3), Times(6))
    chains = [sampler.steps(ORACLE, graph(), seed=seed) for seed in (0, 1)]
    last = [step for pair in zip(*chains, strict=True) for step in pair][-2:]
    for seed in (0, 1):
        assert same(last[seed].state, sampler(ORACLE, graph(), seed=seed))


# --- gradients -----------------------------------------------------------------------------------


def test_gradients_only_when_asked() -> None:
    scale = torch.ones((), requires_grad=True)

    def denoiser(state: State, t: Tensor, cond: object) -> dict[str, Tensor]:
        return {name: scale * x0 for name, x0 in ORACLE(state, t).items()}

    sampler = Sampler(GRAPH, Ancestral(), Times(3))
    assert not sampler(denoiser, graph(), seed=0)["x"].requires_grad
    assert torch.is_grad_enabled()
    for step in sampler.steps(denoiser, graph(), seed=0):
        assert torch.is_grad_enabled()  # a generator must not leave its mode with its caller
        assert not step.state["x"].requires_grad
    with torch.no_grad():
        state = sampler(denoiser, graph(), seed=0, grad=True)
    state["x"].sum().backward()
    assert scale.grad is not None
    eps = 1e-3
    ends = []
    for value in (1 + eps, 1 - eps):
        scale.data.fill_(value)
        ends.append(sampler(denoiser, graph(dtype=torch.float64), seed=0)["x"].sum())
    scale.data.fill_(1.0)
    torch.testing.assert_close(
        float(scale.grad), float((ends[0] - ends[1]) / (2 * eps)), rtol=1e-2, atol=1e-2
    )


def test_on_step_sees_every_step_and_cond_arrives() -> None:
    seen, conds = [], []

    def denoiser(state: State, t: Tensor, cond: object) -> dict[str, Tensor]:
        conds.append(cond)
        return ORACLE(state, t)

    Sampler(GRAPH, DDIM(), Times(3))(denoiser, graph(), seed=0, cond="red", on_step=seen.append)
    assert [step.index for step in seen] == [0, 1, 2]
    assert conds == ["red"] * 3


def test_float64_states_get_float64_times() -> None:
    dtypes = []

    def denoiser(state: State, t: Tensor, cond: object) -> dict[str, Tensor]:
        assert t.shape == (3,)
        dtypes.append(t.dtype)
        return ORACLE(state, t)

    state = Sampler(GRAPH, CORRECTED, Times(1))(denoiser, graph(dtype=torch.float64), seed=0)
    Sampler(GRAPH, DDIM(), Times(1))(denoiser, graph(), seed=0)
    assert dtypes == [torch.float64, torch.float64, torch.float32]
    assert state["x"].dtype == state["adj"].dtype == torch.float64


# --- refusals ------------------------------------------------------------------------------------


def wrong(**values: Tensor) -> State:
    good = graph()
    return State({**good.values, **values}, good.masks, good.ids)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (lambda: graph().select(slice(0)), "empty batch"),
        (lambda: State({"x": torch.zeros(2, 3, 1)}, {}, torch.arange(2)), "components"),
        (lambda: wrong(x=torch.zeros(3, 4, 2, dtype=torch.int64)), "floating"),
        (lambda: wrong(adj=torch.zeros(3, 4, 5)), r"\[b, n, n\]"),
        (lambda: wrong(x=torch.zeros(3, 6, 2)), "mask of component 'x'"),
        (lambda: wrong(x=torch.zeros(3, 4, 2, device="meta")), "device|not on"),
    ],
)
def test_templates_that_are_refused(template, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Sampler(GRAPH, DDIM(), Times(2)).steps(ORACLE, template(), seed=0)


def test_conditions_of_a_template_reach_the_denoiser_and_stay_with_their_sample() -> None:
    seen = []

    def told(state: State, t: torch.Tensor, cond: object) -> object:
        seen.append(cond)
        return ORACLE(state, t, None)

    label = torch.tensor([7, 8, 9])
    sampler = Sampler(GRAPH, DDIM(), Times(2))
    plain = sampler(ORACLE, graph(), seed=0)
    carried = sampler(told, graph().replace(label=label), seed=0, cond={"scale": 2.0})
    assert all(set(c) == {"label", "scale"} and torch.equal(c["label"], label) for c in seen)
    assert len(seen) == 2
    assert torch.equal(carried["label"], label)
    assert all(torch.equal(carried[name], plain[name]) for name in GRAPH.names)
    with pytest.raises(ArgumentError, match=r"label.*mapping"):
        sampler.steps(told, graph().replace(label=label), seed=0, cond=torch.zeros(3))


def test_discrete_templates_need_integers() -> None:
    template = State({"x": torch.zeros(2, 1), "c": torch.zeros(2, 1)}, {}, torch.arange(2))
    sampler = Sampler(MIXED, {"x": DDIM(), "c": AncestralJump()}, Times(2))
    with pytest.raises(ArgumentError, match=r"'c' .*int64"):
        sampler.steps(MixedData(MIXED), template, seed=0)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x0: x0["x"], "mapping"),
        (lambda x0: {"x": x0["x"]}, "not for adj"),
        (lambda x0: {**x0, "x": x0["x"][:1]}, "shape"),
        (lambda x0: {**x0, "x": x0["x"].long()}, "floating"),
        (lambda x0: {**x0, "x": x0["x"] + 1}, "padding"),
        (lambda x0: {**x0, "x": x0["x"].to("meta")}, "meta"),
    ],
)
def test_answers_that_are_refused(answer, message: str) -> None:
    sampler = Sampler(GRAPH, DDIM(), Times(2))
    with pytest.raises(ArgumentError, match=message):
        sampler(lambda state, t, cond: answer(ORACLE(state, t)), graph(), seed=0)


@pytest.mark.parametrize("solver", [DDIM(), CORRECTED, S4(0.1)])
def test_nan_names_component_and_sample(solver: Solver) -> None:
    def denoiser(state: State, t: Tensor, cond: object) -> dict[str, Tensor]:
        x0 = ORACLE(state, t)
        if float(t[0]) < 0.5:
            x0["x"][1, 0, 0] = torch.nan
        return x0

    with pytest.raises(ArgumentError, match=r"'x' of sample 11 .*1 of 3"):
        Sampler(GRAPH, solver, Times(4))(denoiser, graph(), seed=0)


def test_nan_logits_are_noticed_though_classes_stay_finite() -> None:
    def denoiser(state: State, t: Tensor, cond: object) -> dict[str, Tensor]:
        x0 = MixedData(MIXED)(state, t)
        if 0.3 < float(t[0]) < 0.5:
            x0["c"][2] = torch.nan
        return x0

    sampler = Sampler(MIXED, {"x": DDIM(), "c": AncestralJump()}, Times(6, end=0.0))
    with pytest.raises(ArgumentError, match="'c' of sample 2"):
        sampler(denoiser, mixed(), seed=0)


def test_solvers_must_match_components() -> None:
    with pytest.raises(ArgumentError, match="adj, x"):
        Sampler(GRAPH, {"x": DDIM()}, Times(2))
    with pytest.raises(ArgumentError, match="one solver for each"):
        Sampler(GRAPH, {"x": DDIM(), "adj": DDIM(), "z": DDIM()}, Times(2))
    with pytest.raises(ArgumentError, match="Uniform"):
        Sampler(MIXED, ReverseDiffusion(), Times(2)).compile()


def test_names_that_share_a_stream_are_refused() -> None:
    seen: dict[int, str] = {}
    pair: tuple[str, str] | None = None
    for k in range(3000):
        name = f"{k * 2654435761 % 2**32:x}"
        other = seen.setdefault(rng.stream_id(name), name)
        if other != name:
            pair = (other, name)
            break
    assert pair is not None
    process = Product({name: Gaussian(VP(), Dense()) for name in pair})
    with pytest.raises(ArgumentError, match="noise stream"):
        Sampler(process, DDIM(), Times(2)).compile()
