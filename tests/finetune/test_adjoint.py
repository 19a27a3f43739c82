"""Adjoint matching: gradients along chains, closed-form controls, fixed points, what is reached."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graphdiff
from graphdiff.core.denoiser import X0, Denoiser
from graphdiff.core.errors import ConfigError, RewardError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.oracles import MixtureOracle
from graphdiff.core.plan import Ancestral, DPMSolverPP, PlanSpec
from graphdiff.core.process import Product
from graphdiff.core.program import Solver
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler, Times
from graphdiff.core.schedule import EDM, VP, FlowMatching, Schedule
from graphdiff.core.space import Symmetric, Upper, ZeroMean
from graphdiff.core.state import State
from graphdiff.finetune.adjoint import adjoint_losses, lean_adjoint, memoryless, remembered
from graphdiff.finetune.config import TuneConfig
from graphdiff.finetune.direct import direct_losses
from graphdiff.finetune.rollout import Tuned, kernels_at
from graphdiff.finetune.task import tuning
from graphdiff.train import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
STD, ALPHA, GOAL, PULL = 0.8, 0.5, 1.0, 1.0
TIMES = Times(12, kind="log_snr", start=1.0, end=0.01)


@dataclass(frozen=True)
class Normal:
    """Normal data of one number: what the tilted chain must be, in closed form.

    Attributes:
        schedule: Of the noise.
        times: Of the chain.
    """

    schedule: Schedule
    times: Times = TIMES

    @property
    def product(self) -> Product:
        return Product({"x": Gaussian(self.schedule, data_std=STD)})

    def sampler(self, solver: Solver | None = None) -> Sampler:
        return Sampler(self.product, solver or Ancestral(), self.times)

    def at(self) -> dict[str, Tensor]:
        """Coefficients at each time, the variance, and the slope of the end's mean in ``x_t``."""
        t = torch.tensor(self.times.grid(self.product), dtype=torch.float64)
        a, s = self.schedule.alpha(t), self.schedule.sigma(t)
        variance = (a * STD) ** 2 + s**2
        slope = a / a[-1] * variance[-1] / variance
        rest = variance[-1] - slope**2 * variance
        return {"a": a, "s": s, "variance": variance, "slope": slope, "rest": rest}

    def base(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the base model's clean data, one for each step."""
        n = self.at()
        weight = (n["a"] * STD**2 / n["variance"])[:-1]
        return weight, torch.zeros_like(weight)

    def best(self, pull: float = PULL, goal: float = GOAL) -> tuple[Tensor, Tensor]:
        """Those of the tilted law, for the reward ``-pull (x - goal)^2 / 2``.

        Given ``x_t`` the end is normal of variance ``rest``; tilted, its mean is
        ``(slope x / rest + k goal) / (1 / rest + k)`` with ``k = pull / ALPHA``.
        """
        n, k = {name: v[:-1] for name, v in self.at().items()}, pull / ALPHA
        shrink = 1 / (1 + k * n["rest"])
        gain = n["s"] ** 2 / n["a"] * n["slope"] * k
        weight, bias = self.base()
        return weight - gain * shrink * n["slope"], bias + gain * goal * shrink

    def moments(self) -> tuple[float, float]:
        """Mean and variance of the tilted law."""
        variance = 1 / (1 / float(self.at()["variance"][-1]) + PULL / ALPHA)
        return variance * GOAL * PULL / ALPHA, variance


class Lines(nn.Module):
    """Clean data that are linear in one number, with one line for each step of a chain.

    Lines may differ from sample to sample, ``[steps, b]``: their gradient is then each sample's.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.times = torch.empty(0)

    def forward(
        self, values: Any, label: Tensor, masks: Any, cond: Any = None
    ) -> dict[str, Tensor]:
        i = (label[:, None] - self.times.to(label)).abs().argmin(1)
        rows = torch.arange(len(i)) if self.weight.shape[1] > 1 else 0
        line = self.weight[i, rows] * values["x"][:, 0] + self.bias[i, rows]
        return {"x": line[:, None]}


def lines(case: Normal, weight: Tensor, bias: Tensor, samples: int = 1) -> Denoiser:
    net = Lines(*(v[:, None].repeat(1, samples) for v in (weight, bias)))
    net.times = torch.tensor(case.times.grid(case.product)[:-1], dtype=torch.float64)
    return Denoiser(net, case.product, {"x": X0()}).double()


@dataclass(frozen=True)
class Reward:
    """A differentiable function of the component ``x``."""

    function: Callable[[Tensor], Tensor]
    differentiable: bool = True

    def __call__(self, state: State) -> Tensor:
        return self.function(state["x"])


QUADRATIC = Reward(lambda x: -0.5 * PULL * (x[:, 0] - GOAL).square())


def template(n: int, width: int = 1, dtype: torch.dtype = torch.float64) -> State:
    return State({"x": torch.zeros(n, width, dtype=dtype)}, {}, torch.arange(n))


def paths(sampler: Sampler, denoiser: Any, start: State, seed: int = 1) -> list[State]:
    found, key = [start], Key(seed, start.ids)
    with torch.no_grad():
        for i in range(len(sampler.compile().slots)):
            kernels = kernels_at(sampler, denoiser, found[-1], i)
            moved = {n: k.sample(key.at(step=1 + i, stream=n)) for n, k in kernels.items()}
            found.append(found[-1].replace(**moved))
    return found


def mixed(process: Product) -> Callable[..., dict[str, Tensor]]:
    """A smooth function of all components of three nodes, on the spaces of a process."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"x": (3, 2), "adj": (3, 3), "dag": (3, 3), "pos": (3, 2)}
    sizes = {name: math.prod(shapes[name]) for name in process.parts}
    total = sum(sizes.values())
    weight = torch.randn(total, total, generator=generator, dtype=torch.float64) / total**0.5

    def denoiser(state: State, t: Tensor, cond: Any = None) -> dict[str, Tensor]:
        seen = torch.cat([state[name].flatten(1) for name in sizes], 1)
        out = torch.tanh(seen @ weight + t[:, None].to(seen)) @ weight.T
        flat = dict(zip(sizes, out.split(list(sizes.values()), 1), strict=True))
        return {
            name: process.parts[name].space.project(
                flat[name].view(-1, *shapes[name]), state.mask(name)
            )
            for name in sizes
        }

    return denoiser


def test_the_adjoint_is_the_gradient_along_the_chain() -> None:
    """Of free coordinates: a pair of nodes is one, padding is none, centred points stay centred."""
    process = Product(
        {
            "x": Gaussian(VP()),
            "adj": Gaussian(EDM(0.01, 20.0), Symmetric()),
            "dag": Gaussian(VP(), Upper()),
            "pos": Gaussian(FlowMatching(), ZeroMean()),
        }
    )
    sampler = Sampler(process, Ancestral(), Times(5, start=0.95, end=0.02))
    mask = torch.tensor([[True, True, True], [True, True, False]])
    shapes = {"x": (2, 3, 2), "adj": (2, 3, 3), "dag": (2, 3, 3), "pos": (2, 3, 2)}
    zeros = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}
    blank = State(zeros, dict.fromkeys(shapes, mask), torch.arange(2))
    denoiser = mixed(process)
    states = paths(sampler, denoiser, process.prior(blank, Key(4, blank.ids)))

    def judge(state: State) -> Tensor:
        return sum(torch.sin(state[name]).square().sum() for name in shapes)  # type: ignore[return-value]

    def from_here(i: int) -> dict[str, Tensor]:
        """The chain from step ``i`` on, with its own noise, differentiated as a whole."""
        leaves = {n: states[i][n].clone().requires_grad_() for n in shapes}
        free = {n: process[n].space.project(v, mask) for n, v in leaves.items()}
        if "adj" in free:  # both entries of a pair move together
            free["adj"] = process["adj"].space.scatter(
                process["adj"].space.gather(leaves["adj"]), shapes["adj"]
            )
        state = states[i].replace(**free)
        for k in range(i, 5):
            kernels = kernels_at(sampler, denoiser, state, k)
            noise = {
                n: states[k + 1][n] - kernels_at(sampler, denoiser, states[k], k)[n].mode
                for n in shapes
            }
            state = state.replace(**{n: kernels[n].mode + noise[n] for n in shapes})
        names = list(shapes)
        found = torch.autograd.grad(judge(state), [leaves[n] for n in names])
        slope = dict(zip(names, found, strict=True))
        slope["adj"] = slope["adj"] + slope["adj"].mT  # held at both entries
        return {n: process[n].space.apply_mask(v, mask) for n, v in slope.items()}

    end = {n: v.detach() for n, v in from_here(5).items()}
    steps = list(lean_adjoint(sampler, denoiser, states, end))  # type: ignore[arg-type]
    assert [step.step for step in steps] == [4, 3, 2, 1, 0]
    for step in steps:
        want = from_here(step.step)
        for name in shapes:
            torch.testing.assert_close(step.before[name], want[name], atol=1e-9, rtol=1e-6)
            assert float(want[name].abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("schedule", "start", "end"),
    [(VP(), 1.0, 1e-3), (EDM(0.02, 20.0), 1.0, 0.0), (FlowMatching(), 1.0, 0.0)],
)
def test_a_linear_reward_has_its_closed_form_on_any_grid(
    schedule: Schedule, start: float, end: float
) -> None:
    """On normal data the adjoint is not random, and five steps are as good as a thousand."""
    case = Normal(schedule, Times(5, start=start, end=end))
    denoiser, n = lines(case, *case.base()), case.at()
    states = paths(case.sampler(), denoiser, template(3).replace(x=torch.randn(3, 1).double()))
    rising = {"x": torch.full((3, 1), -2.0 / ALPHA, dtype=torch.float64)}
    for step in lean_adjoint(case.sampler(), denoiser, states, rising):
        want = torch.full_like(step.before["x"], float(-2.0 / ALPHA * n["slope"][step.step]))
        # float32 clocks, as networks are given
        torch.testing.assert_close(step.before["x"], want, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_the_mean_adjoint_of_a_mixture_converges_with_order_one() -> None:
    """Without a control its mean is the gradient of the expected reward, ``dE[x0|x_t]/dx_t``.

    Errors of 16, 32 and 64 steps are some .006, .003 and .0016 with standard errors of .0003,
    which are .08 of the slope.
    """
    part = Gaussian(VP())
    oracle = MixtureOracle(part, torch.tensor([[-0.8], [0.6]]), 0.5, [0.4, 0.6])
    n, t, place = 200_000, 0.45, 0.4
    x = torch.full((n, 1), place, dtype=torch.float64)
    h = 1e-4
    up, down = (oracle.denoise(x[:1] + d, t) for d in (h, -h))
    want, error = float((up - down) / (2 * h)), {}
    for steps in (16, 32, 64):
        sampler = Sampler(Product({"x": part}), Ancestral(), Times(steps, start=t, end=1e-3))
        states = paths(sampler, _differentiable(oracle), State({"x": x}, {}, torch.arange(n)))
        end = {"x": torch.full_like(x, -1.0)}
        *_, first = lean_adjoint(sampler, _differentiable(oracle), states, end)
        error[steps] = -float(first.before["x"].mean()) - want
    assert error[16] > error[32] > error[64] > 0
    slope = math.log2(error[16] / error[64]) / 2
    assert slope == pytest.approx(1, abs=0.25)


def _differentiable(oracle: MixtureOracle) -> Any:
    return lambda state, t, cond=None: oracle(state, t)


def scores(config: TuneConfig, solver: Solver | None = None) -> Tensor:
    """Gradients of the loss at the denoiser of the optimum, in standard errors."""
    case, n = Normal(VP()), 40_000
    denoiser, reference = lines(case, *case.best(), n), lines(case, *case.base())
    tuned, blank = Tuned(config, case.sampler(solver), denoiser, reference), template(n)
    loss = adjoint_losses(tuned, blank, QUADRATIC, 0, Key(1, blank.ids))[0]["adjoint"].sum()
    each = torch.cat(torch.autograd.grad(loss, list(denoiser.parameters())))
    return each.mean(1) / (each.std(1) / n**0.5)


CONFIG = TuneConfig("adjoint", ALPHA, picked=0)


def test_the_denoiser_of_the_optimum_is_a_fixed_point() -> None:
    """24 gradients, whose largest is above 4.1 standard errors once in a thousand times.

    With all steps, and with some of each sample. Another temperature and other noise (the variance
    of the reverse equation doubled or halved) have other fixed points.
    """
    assert float(scores(CONFIG).abs().max()) < 4.1
    assert float(scores(replace(CONFIG, picked=3)).abs().max()) < 4.1
    assert float(scores(replace(CONFIG, alpha=1.05 * ALPHA)).abs().max()) > 8
    for noise in (2**0.5, 0.5**0.5):
        assert float(scores(CONFIG, PlanSpec(noise=noise)).abs().max()) > 8


def test_some_steps_estimate_all() -> None:
    """Expected losses agree at the base model; a sum without its factor would be 4 times less."""
    case = Normal(VP())
    base = lines(case, *case.base())
    blank, found = template(4000), {}
    for picked in (0, 3):
        tuned = Tuned(replace(CONFIG, picked=picked), case.sampler(), base, base)
        losses = adjoint_losses(tuned, blank, QUADRATIC, 0, Key(2, blank.ids))[0]["adjoint"]
        found[picked] = losses.detach()
    gap = found[3] - found[0]
    assert abs(float(gap.mean() / (gap.std() / 4000**0.5))) < 4
    assert float(found[0].mean() / (gap.std() / 4000**0.5)) > 40


class Small(nn.Module):
    """The exact denoiser of normal data of two numbers, plus a small network that starts at 0."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Sequential(
                nn.Linear(3, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 2)
            )
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(
        self, values: Any, label: Tensor, masks: Any, cond: Any = None
    ) -> dict[str, Tensor]:
        a, s = (c(label).float()[:, None] for c in (self.schedule.alpha, self.schedule.sigma))
        share = (a * STD) ** 2 / ((a * STD) ** 2 + s**2)
        more = self.net(torch.cat([values["x"], 2 * share - 1], 1))
        return {"x": share / a * values["x"] + (1 - share) * more}


def tuned_small(config: TuneConfig, losses: Any, iterations: int = 250) -> Denoiser:
    case = Normal(VP())
    denoiser, reference = (
        Denoiser(Small(case.schedule), case.product, {"x": X0()}) for _ in range(2)
    )
    tuned = Tuned(config, case.sampler(), denoiser, reference.requires_grad_(False))
    optimizer = torch.optim.Adam(denoiser.parameters(), 0.01)
    blank = template(512, 2, torch.float32)
    for k in range(iterations):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - k / iterations)
        found = losses(tuned, blank, TWO, k, Key(1, blank.ids, step=k))[0]
        optimizer.zero_grad()
        sum(v.mean() for v in found.values()).backward()
        optimizer.step()
    return denoiser


TWO = Reward(lambda x: -0.5 * PULL * (x[:, 0] - GOAL).square() + 0.5 * x[:, 1])


def law(denoiser: Denoiser, chain: Sampler) -> tuple[Tensor, Tensor]:
    blank = template(20_000, 2, torch.float32)
    drawn = chain(denoiser, blank, seed=9)["x"].double()
    return drawn.mean(0), torch.cov(drawn.T)


def test_a_small_network_reaches_the_optimum_and_draft_does_not() -> None:
    """A quadratic reward of one number, a linear one of the other.

    Twelve steps with noise have a law of their own, whose variance is half of the data's; what is
    learnt on them is the denoiser all the same, and a good solver draws from the tilted law.
    Tolerances: standard errors of means and variances are .005; 40 steps of the solver leave .003,
    and a network that was trained for 250 iterations some .02.
    """
    denoiser = tuned_small(replace(CONFIG, picked=4), adjoint_losses)
    case = Normal(VP())
    mean, variance = case.moments()
    want = torch.tensor([mean, 0.5 / ALPHA * STD**2], dtype=torch.float64)
    fine = Normal(VP(), Times(40, kind="log_snr", start=1.0, end=0.01)).sampler(DPMSolverPP(2))
    got, covariance = law(denoiser, fine)
    torch.testing.assert_close(got, want, atol=0.04, rtol=0)
    spread = torch.diag(torch.tensor([variance, STD**2], dtype=torch.float64))
    torch.testing.assert_close(covariance, spread, atol=0.05, rtol=0)
    # Without a divergence the gradient of the reward is followed as far as the iterations go, on
    # the very chain that was differentiated.
    draft = tuned_small(TuneConfig("draft", ALPHA, truncate=0), direct_losses, 60)
    got, _ = law(draft, case.sampler())
    assert float(got[1]) > 2 * float(want[1])


@pytest.mark.parametrize("std", [0.05, 2.0])
def test_what_a_start_that_is_remembered_costs(std: float) -> None:
    """The target of a linear reward, followed, shifts the mean by ``1 - rho^2`` of what it should.

    Exactly, on any grid: it is the expectation of a linear chain.
    """
    schedule = EDM(1e-3, 2.0)
    part = Gaussian(schedule, data_std=std)
    rho = remembered(part, 1.0)
    product = Product({"x": part})
    sampler = Sampler(product, Ancestral(), Times(6))

    def base(state: State, t: Tensor, cond: Any = None) -> dict[str, Tensor]:
        a, s = (c(t)[:, None] for c in (schedule.alpha, schedule.sigma))
        return {"x": a * std**2 / ((a * std) ** 2 + s**2) * state["x"]}

    zero = template(1)
    states = [zero] * 7
    end = {"x": -torch.ones(1, 1, dtype=torch.float64)}
    shift = {
        step.step: -(schedule.sigma(sampler.compile().times[step.step]) ** 2) * step.before["x"]
        for step in lean_adjoint(sampler, base, states, end)  # type: ignore[arg-type]
    }
    state = zero
    for i in range(6):
        plan, key = sampler.compile().programs["x"], Key(0, zero.ids)
        t = torch.full((1,), sampler.compile().times[i], dtype=torch.float64)
        clean = base(state, t)["x"] + shift[i]
        state = state.replace(x=plan.update(i, 0, state["x"], clean, None, (), key)[0].mode)
    variance = std**2 + 1e-6  # of the end, whose noise is left
    assert float(state["x"]) == pytest.approx((1 - rho) * variance, rel=1e-3)
    if std > 1:
        assert 0.4 < rho < 0.6
        with pytest.raises(ConfigError, match="determines 50% of the variance"):
            memoryless(Sampler(product, DPMSolverPP(), Times(6)))
    else:
        assert memoryless(Sampler(product, DPMSolverPP(), Times(6))).solvers == Ancestral()


class _Held:
    """A tensor that autograd holds."""

    now, most = 0, 0

    def __init__(self, x: Tensor) -> None:
        self.x, self.size = x, x.numel()
        _Held.now += self.size
        _Held.most = max(_Held.most, _Held.now)

    def __del__(self) -> None:
        _Held.now -= self.size


def test_activations_of_one_network_call_are_held_at_a_time() -> None:
    """Numbers that autograd holds at most, of the whole iteration with its backward pass.

    Six times the steps, and of the picked ones, hold no more activations; beside them the states of
    the chain and the targets, two numbers for each step and sample, are kept.
    """

    def most(steps: int, picked: int) -> int:
        case = Normal(VP(), Times(steps, kind="log_snr", start=1.0, end=0.01))
        nets = [Denoiser(Small(case.schedule), case.product, {"x": X0()}) for _ in range(2)]
        tuned = Tuned(replace(CONFIG, picked=picked), case.sampler(), nets[0], nets[1])
        nets[1].requires_grad_(False)
        blank = template(64, 2, torch.float32)
        _Held.now = _Held.most = 0
        with torch.autograd.graph.saved_tensors_hooks(_Held, lambda held: held.x):
            found = adjoint_losses(tuned, blank, TWO, 0, Key(1, blank.ids))[0]
            found["adjoint"].sum().backward()
        return _Held.most

    one = most(6, 2)
    assert one > 64 * 32  # a layer's activations
    assert most(36, 2) < 1.1 * one
    assert most(36, 12) < 1.1 * one + 12 * 64 * 8


def test_a_reward_that_forbids_samples_is_followed_where_there_is_one() -> None:
    case = Normal(VP())
    base = lines(case, *case.base())
    tuned, blank = Tuned(CONFIG, case.sampler(), base, base), template(50)

    def losses(function: Callable[[Tensor], Tensor]) -> Any:
        return adjoint_losses(tuned, blank, Reward(function), 0, Key(0, blank.ids))

    half, found, end = losses(lambda x: torch.where(x[:, 0] > 0, x[:, 0], -torch.inf))
    positive = end["x"][:, 0] > 0
    assert bool((half["adjoint"][~positive] == 0).all())
    assert bool((half["adjoint"][positive] > 0).all())
    assert float(found.min()) >= 0  # shown as the lowest reward there is
    with pytest.raises(RewardError, match="none of 50 samples"):
        losses(lambda x: x[:, 0] - torch.inf)
    with pytest.raises(RewardError, match="gradient of reward 'Reward' by 'x' is not finite"):
        losses(lambda x: (x[:, 0] - x[:, 0]).abs().sqrt())
    with pytest.raises(RewardError, match="or on its continuous values"):
        losses(lambda x: torch.zeros(50))


@dataclass(frozen=True)
class Ink:
    """Mean ink of an image, 0 to 1."""

    differentiable: bool = True

    def __call__(self, state: State) -> Tensor:
        return (state["pixels"].flatten(1).mean(1) + 1) / 2


TRAIN = TrainConfig(steps=1, batch_size=8, max_loss_factor=None)


@pytest.mark.parametrize("name", ["digits", "digits-vp"])
def test_images_are_tuned(name: str) -> None:
    config = TuneConfig("adjoint", 0.01, steps=6, picked=2)
    task, data = tuning(graphdiff.load(name), Ink(), config, TRAIN)
    denoiser = task.build()
    found = task.losses(denoiser, data.batch(torch.arange(8)), Key(0, torch.arange(8), step=1))
    found["adjoint"].mean().backward()
    slopes = [p.grad for p in denoiser.parameters() if p.grad is not None]
    assert 0 < float(torch.nn.utils.get_total_norm(slopes)) < float("inf")
    assert set(found) == {"adjoint", "reward"}
    assert all(p.grad is None for p in task.reference.parameters())


def test_what_cannot_be_tuned_is_refused_before_anything_runs() -> None:
    config = TuneConfig("adjoint", 0.1)
    for name, match in (
        ("defog-qm9", "component 'adj' has Marginal noise; use drakes"),
        ("mdlm-yeast-promoter", "has Absorbing noise; use drakes"),
        ("gdss-qm9", "determines 50% of the variance of its samples .VE"),
        ("gdss-community-small", "Use wdce"),
        ("hspectre-tree", "no chain of Gaussian steps"),
    ):
        with pytest.raises(ConfigError, match=match):
            tuning(graphdiff.load(name), Ink(), config, TRAIN)
    model = graphdiff.load("digits")
    with pytest.raises(ConfigError, match="'black' is a black box"):
        tuning(model, _Black(), config, TRAIN)


class _Black:
    name = "black"

    def __call__(self, state: State) -> Tensor:
        return torch.zeros(state.batch_size)


@pytest.mark.slow
def test_the_benchmark_of_digits_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "graphdiff", "bench", "digits-reward", "--quick", "--out"]
    subprocess.run([*command, str(tmp_path)], check=True, cwd=ROOT, timeout=900)
    rows = json.loads((tmp_path / "digits-reward.json").read_text())["table"]
    assert [row["row"] for row in rows[:4]] == ["base", "target", "floor", "adjoint"]
    assert all(math.isfinite(row["distance"]) for row in rows)


@pytest.mark.parametrize("end", [0.0, 0.01])
def test_steps_weigh_what_they_add_to_the_signal(end: float) -> None:
    """A constant gap ``c`` costs ``alpha c^2 / 2`` times the signal-to-noise ratio that is gained.

    The sum telescopes; a step to clean data weighs as much as all before it and the start.
    """

    class Constant(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = nn.Parameter(torch.tensor(value))

        def forward(self, values: Any, *rest: Any) -> dict[str, Tensor]:
            return {"x": 0 * values["x"] + self.value}

    class Flat:
        name, differentiable = "flat", True

        def __call__(self, state: State) -> Tensor:
            return 0.0 * state["x"].sum(1)

    schedule, gap = VP(), 0.3
    product = Product({"x": Gaussian(schedule, data_std=STD)})
    sampler = Sampler(product, Ancestral(), Times(7, end=end))
    mine, base = (Denoiser(Constant(v), product, {"x": X0()}) for v in (gap, 0.0))
    config = TuneConfig("adjoint", ALPHA, picked=0)
    template = State({"x": torch.zeros(5, 2)}, {}, torch.arange(5))
    key = Key(1, template.ids, step=1)
    loss, _, _ = adjoint_losses(Tuned(config, sampler, mine, base), template, Flat(), 3, key)
    t = torch.tensor(sampler.compile().times, dtype=torch.float64)
    snr = (schedule.alpha(t) / schedule.sigma(t)).square()
    gained = 2 * snr[-2] - snr[0] if end == 0 else snr[-1] - snr[0]
    want = (0.5 * ALPHA * 2 * gap**2 * gained).float().expand(5)  # two numbers a sample
    torch.testing.assert_close(loss["adjoint"].detach(), want, rtol=1e-4, atol=0)
