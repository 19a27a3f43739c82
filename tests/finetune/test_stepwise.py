"""Distilled steps and particles against the enumerated optimum, and their rollouts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tuning_cases import ALPHA, Problem

from graphdiff.core.steer import SMC
from graphdiff.finetune.config import TuneConfig
from graphdiff.finetune.rollout import roll
from graphdiff.finetune.stepwise import leaders


@pytest.mark.parametrize(
    ("config", "iterations", "reached"),
    [
        (TuneConfig("smc", ALPHA, group=32), 100, 0.06),
        # Estimated values, and clean tokens that are predicted independently: near, not there.
        (TuneConfig("vidd", ALPHA, repeats=4, picked=8), 100, 0.15),
        (TuneConfig("sdpo", ALPHA, group=32), 120, 0.2),
    ],
    ids=["smc", "vidd", "sdpo"],
)
def test_distilling_comes_near_the_optimum(
    config: TuneConfig, iterations: int, reached: float
) -> None:
    problem = Problem()
    before = problem.distance()
    problem.tune(config, iterations)
    assert before > 0.4
    assert problem.distance() < reached


def test_particles_without_the_normaliser_of_their_population_are_another_law(
    monkeypatch: Any,
) -> None:
    """With small populations the weights between them matter."""

    def reached() -> float:
        problem = Problem()
        problem.tune(TuneConfig("smc", ALPHA, group=2), 100)
        return problem.distance()

    good, run = reached(), SMC.run

    def forgetful(self: SMC, *given: Any, **named: Any) -> Any:
        found = run(self, *given, **named)
        object.__setattr__(found, "log_normaliser", torch.zeros_like(found.log_normaliser))
        return found

    monkeypatch.setattr(SMC, "run", forgetful)
    assert good < 0.08
    assert reached() > 2 * good


def test_groups_meet_once_and_part_again() -> None:
    problem = Problem(8)
    made, ids = problem.made, torch.arange(64)
    met = roll(made.sampler, problem.denoiser, made.template(ids), made.reward, 0, meet=(3, 8))
    groups = [state["x"].view(8, 8, 3) for state in met.states]
    assert bool((groups[3] == groups[3][:, :1]).all())
    assert not bool((groups[2] == groups[2][:, :1]).all())
    assert not bool((groups[-1] == groups[-1][:, :1]).all())
    alone = roll(made.sampler, problem.denoiser, made.template(ids), made.reward, 0)
    for k in range(3):
        assert torch.equal(met.states[k]["x"], alone.states[k]["x"])
    assert torch.equal(met.final.ids, ids)


def test_a_group_has_the_template_of_its_first_sample() -> None:
    problem = Problem(2)
    template = problem.made.template(torch.arange(6))
    mask = torch.arange(6)[:, None] > torch.arange(3)
    found = leaders(type(template)(template.values, {"x": mask}, template.ids), 3)
    assert torch.equal(found.masks["x"], mask[[0, 0, 0, 3, 3, 3]])
    assert torch.equal(found.ids, torch.arange(6))


def test_a_step_of_vidd_lifts_by_the_value() -> None:
    """At the last step the weighted loss has its minimum at the tilted step itself."""
    problem = Problem(1)
    problem.tune(TuneConfig("vidd", ALPHA, picked=0, repeats=1), 150, batch=1024)
    made = problem.made
    # One step from masks: tokens are independent, so the best product law is that of the marginals.
    best = torch.zeros(3, 4, dtype=torch.float64)
    target = problem.target()
    for token in range(3):
        best[token] = torch.zeros(4, dtype=torch.float64).index_add_(
            0, made.exact.states[:, token], target
        )
    got = problem.law(problem.denoiser)
    for token in range(3):
        mine = torch.zeros(4, dtype=torch.float64).index_add_(0, made.exact.states[:, token], got)
        assert float((mine - best[token]).abs().sum() / 2) < 0.04
