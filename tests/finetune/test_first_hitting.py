"""Tuning chains that reveal tokens one at a time: exact laws, and replayed steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from guided_cases import Case
from torch import Tensor
from tuning_cases import ALPHA, Problem

from graphdiff.core.errors import ConfigError
from graphdiff.core.kernel import Categorical
from graphdiff.core.remask import FirstHitting
from graphdiff.core.reveal import ConfidentJump
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler, Times
from graphdiff.core.soft import soften, step_at
from graphdiff.core.state import State
from graphdiff.finetune.config import TuneConfig
from graphdiff.finetune.rollout import kernels_at, log_prob, replayable, roll
from graphdiff.finetune.weighted import weighted_losses
from graphdiff.sequence.tempered import Tempered


class OneByOne(Problem):
    """Three tokens, revealed in three steps in uniformly random order."""

    def __init__(self, disturb: float = 0.0) -> None:
        super().__init__(3)
        self.made.__class__ = _Case
        self.disturb(disturb)

    def law(self, denoiser: Any) -> Tensor:
        return self.walk(denoiser, None)[0].detach()

    def walk(self, denoiser: Any, reference: Any) -> tuple[Tensor, Tensor]:
        """The law, and the divergence of the paths, by enumeration of states and orders."""
        states = self.made.exact.states
        mine = _predictions(denoiser)
        theirs = _predictions(reference) if reference is not None else mine
        number = {tuple(s): k for k, s in enumerate(states.tolist())}
        p, cost = [torch.zeros((), dtype=torch.float64)] * 64, torch.zeros((), dtype=torch.float64)
        p[number[3, 3, 3]] = torch.ones((), dtype=torch.float64)
        for _ in range(3):
            after = [torch.zeros((), dtype=torch.float64)] * 64
            for k, state in enumerate(states.tolist()):
                hidden = [i for i in range(3) if state[i] == 3]
                for i in hidden:
                    q, q0 = mine[k, i], theirs[k, i]
                    cost = cost + p[k] / len(hidden) * (q * (q / q0).log()).sum()
                    for a in range(3):
                        goal = number[(*state[:i], a, *state[i + 1 :])]
                        after[goal] = after[goal] + p[k] / len(hidden) * q[a]
            p = after
        return torch.stack(p), cost


class _Case(Case):
    @property
    def sampler(self) -> Sampler:
        return Sampler(self.product, FirstHitting(), Times(self.steps, end=0.0))


def _predictions(denoiser: Any) -> Tensor:
    return torch.softmax(denoiser.net.logits[..., :3].double(), -1)


@pytest.mark.parametrize(
    ("config", "iterations", "lr", "bar"),
    [
        (TuneConfig("wdce", ALPHA), 150, 0.05, 0.05),
        (TuneConfig("wdce", ALPHA, baseline=0.9), 150, 0.05, 0.02),
        (TuneConfig("ddpo", ALPHA, picked=0), 150, 0.1, 0.05),
        (TuneConfig("ddpo", ALPHA, picked=2), 200, 0.1, 0.05),
        # Its gradient is biased over several steps, see test_direct.
        (TuneConfig("drakes", ALPHA, truncate=0, picked=0), 100, 0.1, 0.15),
    ],
    ids=["wdce", "wdce-baseline", "ddpo", "ddpo-picked", "drakes"],
)
def test_tuners_reach_the_optimum(
    config: TuneConfig, iterations: int, lr: float, bar: float
) -> None:
    """As for steps at fixed times, with three network calls instead of twenty."""
    problem = OneByOne()
    before = problem.distance()
    problem.tune(config, iterations, lr=lr)
    assert before > 0.25
    assert problem.distance() < bar


def test_with_a_baseline_a_batch_at_the_optimum_teaches_nothing() -> None:
    """Exact conditionals of a law and of its tilt: all weights are equal, whatever was drawn."""
    problem, ids = OneByOne(), torch.arange(50)
    law = torch.softmax(torch.randn(27, generator=torch.Generator().manual_seed(4)), 0).double()
    words = [k for k, s in enumerate(problem.made.exact.states.tolist()) if 3 not in s]
    tilted = law * (problem.made.table[words] / ALPHA).exp()
    problem.reference.net.logits.data.copy_(_conditionals(law))
    problem.denoiser.net.logits.data.copy_(_conditionals(tilted / tilted.sum()))
    sampler, template = problem.made.sampler, problem.made.template(ids)
    rollout = roll(sampler, problem.denoiser, template, problem.made.reward, 3, paths=True)
    found = []
    for baseline in (0.0, 0.75, 1.0):
        tuned = problem.tuned(TuneConfig("wdce", ALPHA, baseline=baseline))
        loss = weighted_losses(problem, tuned, rollout, Key(1, ids, step=0))["x"].mean()  # type: ignore[arg-type]
        found += torch.autograd.grad(loss, problem.denoiser.net.logits)
    assert float(found[0].abs().max()) > 1e-3
    torch.testing.assert_close(found[1], found[0] / 4, rtol=1e-3, atol=1e-6)
    assert float(found[2].abs().max()) < 1e-6


def _conditionals(law: Tensor) -> Tensor:
    """Logits ``[64, 3, 4]`` of the letters at masked places given the visible ones."""
    cube = law.reshape(3, 3, 3)
    for place in range(3):  # index 3 of a place sums over its letters
        cube = torch.cat([cube, cube.sum(place, keepdim=True)], place)
    full = cube.log().float()
    at = [full.narrow(i, 0, 3).movedim(i, -1).unsqueeze(i).expand(4, 4, 4, 3) for i in range(3)]
    logits = torch.stack([part.reshape(64, 3) for part in at], 1)
    return torch.nn.functional.pad(logits, (0, 1))


def test_without_the_divergence_they_do_not(monkeypatch: Any) -> None:
    problem = OneByOne()
    monkeypatch.setattr(Categorical, "kl", lambda self, other: 0 * self.log_prob(self.mode))
    problem.tune(TuneConfig("ddpo", ALPHA, picked=0), 150, lr=0.1)
    monkeypatch.undo()
    assert problem.distance() > 0.2


def test_the_policy_gradient_is_that_of_the_objective() -> None:
    """Against the enumerated derivative."""
    problem = OneByOne(disturb=0.5)
    table = problem.denoiser.net.logits
    law, cost = problem.walk(problem.denoiser, problem.reference)
    (want,) = torch.autograd.grad(law @ problem.made.table - ALPHA * cost, table)
    problem.check_policy_gradient(want)


def test_a_replayed_step_is_the_step() -> None:
    problem = OneByOne(disturb=0.5)
    sampler, template = problem.made.sampler, problem.made.template(torch.arange(40))
    rollout = roll(sampler, problem.denoiser, template, problem.made.reward, 3, paths=True)
    total = torch.zeros(40, dtype=torch.float64)
    for step in sampler.steps(problem.denoiser, template, seed=3):
        before = rollout.states[step.index]
        again = kernels_at(sampler, problem.denoiser, before, step.index, rollout.seed)
        assert torch.equal(again["x"].mean, step.kernels["x"].mean)
        total += log_prob(again, step.state, last=step.index == 2).double()
        if step.index == 0:  # other places: what happened is impossible
            other = kernels_at(sampler, problem.denoiser, before, step.index, 4)
            assert bool((log_prob(other, step.state, last=False) < -20).any())
    torch.testing.assert_close(total, rollout.log_paths)


def test_a_soft_step_reveals_the_places_of_the_step() -> None:
    """Also what it would do to other classes is decided at the places of this state."""
    problem = OneByOne(disturb=0.5)
    made = problem.made
    state = State({"x": torch.tensor([[3, 1, 3], [3, 3, 3], [0, 3, 2]])}, {}, torch.arange(3))
    for i in (0, 1, 2):
        plain = kernels_at(made.sampler, problem.denoiser, state, i, 5)["x"].mean
        soft = step_at(made.sampler, problem.denoiser, soften(made.product, state), i, seed=5).draw(
            Key(5, state.ids, step=1 + i), 0.0, hard=True
        )["x"]
        stays = plain.gather(-1, state["x"].unsqueeze(-1)).squeeze(-1) > 1 - 1e-6
        assert torch.equal(soft.argmax(-1)[stays], state["x"][stays])
        assert bool((soft.argmax(-1)[~stays] != 3).all())
        assert int((~stays).sum()) == (3 if i == 0 else 4 if i == 1 else 6)


def test_an_order_that_follows_the_prediction_cannot_be_replayed() -> None:
    made = OneByOne().made
    times = Times(3, end=0.0)
    with pytest.raises(ConfigError, match="noise of its own"):
        replayable(Sampler(made.product, ConfidentJump(), times))
    cooled = Sampler(made.product, Tempered(FirstHitting(), 0.5), times)
    assert replayable(cooled) is cooled
    with pytest.raises(ConfigError, match="noise of its own"):
        replayable(Sampler(made.product, Tempered(ConfidentJump(), 0.5), times))
