"""Constraints: the constrained optimum, the arithmetic of multipliers, parsing, resuming."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from tuning_cases import ALPHA, Differentiable, Problem

import graphdiff
from graphdiff.core.errors import ArgumentError, CheckpointError, ConfigError
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.finetune.config import TuneConfig
from graphdiff.finetune.constraint import Constraint, Lagrangian, Share, parse_constraint
from graphdiff.finetune.lesson import learn
from graphdiff.finetune.reward import ItemReward, Sum, Window
from graphdiff.finetune.task import tuning
from graphdiff.train import TrainConfig, Trainer

BATCH = 256


@dataclass(frozen=True)
class Score:
    """A table of scores of strings, as a black box."""

    problem: Problem
    table: Tensor
    name: str = "score"
    differentiable: bool = False

    def __call__(self, state: State) -> Tensor:
        return self.table[self.problem.made.number(state["x"])]


def second_table(problem: Problem) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.rand(len(problem.made.table), dtype=torch.float64, generator=generator)


def optimum(problem: Problem, score: Tensor, bound: float, sign: float) -> tuple[Tensor, float]:
    """``p_ref exp((r + l s c) / alpha)`` with the multiplier that the bound needs, by bisection."""
    base = problem.law(problem.reference)

    def law(weight: float) -> Tensor:
        p = base * ((problem.made.table + weight * sign * score) / ALPHA).exp()
        return p / p.sum()

    if sign * (float(law(0) @ score) - bound) >= 0:
        return law(0), 0.0
    low, high = 0.0, 200.0
    for _ in range(100):
        middle = (low + high) / 2
        enough = sign * (float(law(middle) @ score) - bound) >= 0
        low, high = (low, middle) if enough else (middle, high)
    return law(high), high


class Recorded(Lagrangian):
    """Keeps the multipliers of every iteration."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.path: list[float] = []

    def ascend(self, state: State, weights: Tensor | None = None) -> dict[str, Tensor]:
        self.path.append(float(self.multipliers[0]))
        return super().ascend(state, weights)


@pytest.mark.parametrize(
    ("config", "sense", "iterations", "batch", "lr", "reached"),
    [
        (TuneConfig("wdce", ALPHA), ">=", 150, 256, 0.05, 0.06),
        (TuneConfig("ddpo", ALPHA, picked=0), "<=", 200, 256, 0.1, 0.06),
        (TuneConfig("smc", ALPHA, group=32), ">=", 120, 256, 0.05, 0.08),
        # A biased gradient of relaxed draws, with constraints or without.
        (TuneConfig("drakes", ALPHA, truncate=0), "<=", 120, 128, 0.05, 0.18),
    ],
    ids=["wdce", "ddpo", "smc", "drakes"],
)
def test_the_tuned_law_is_the_constrained_optimum(
    config: TuneConfig, sense: Any, iterations: int, batch: int, lr: float, reached: float
) -> None:
    """As near as the tuners come without constraints, and the multiplier is the exact one."""
    problem = Problem()
    table, sign = second_table(problem), 1.0 if sense == ">=" else -1.0
    bound = float(problem.target() @ table) + sign * 0.15
    want, multiplier = optimum(problem, table, bound, sign)
    assert float((want - problem.target()).abs().sum() / 2) > 0.18  # the constraint matters
    direct = config.method == "drakes"
    score: Any = Differentiable(problem.made, table) if direct else Score(problem, table)
    reward: Any = Differentiable(problem.made) if direct else problem.made.reward
    problem.reward = Recorded(reward, [Constraint(score, sense, bound)], 1.0)
    problem.tune(config, iterations, batch=batch, lr=lr)
    law = problem.law(problem.denoiser)
    assert float((law - want).abs().sum() / 2) < reached
    # The multiplier follows means of batches: three of their standard errors.
    mean = float(law @ table)
    error = (float(law @ table.square()) - mean**2) ** 0.5 / batch**0.5
    assert sign * (mean - bound) > -3 * error
    # It swings with these means, so its own mean over the second half is compared.
    half = problem.reward.path[iterations // 2 :]
    assert sum(half) / len(half) == pytest.approx(multiplier, rel=0.25)


def test_a_constraint_that_holds_anyway_changes_nothing() -> None:
    """Its multiplier would be negative if it could."""
    problem = Problem()
    table = second_table(problem)
    bound = float(problem.target() @ table) - 0.15
    problem.reward = Lagrangian(
        problem.made.reward, [Constraint(Score(problem, table), ">=", bound)], step=1.0
    )
    problem.tune(TuneConfig("wdce", ALPHA), 120)
    assert problem.reward.multipliers.tolist() == [0.0]
    assert problem.distance() < 0.05


def items(state: State) -> list[Any]:
    """Numbers; a negative one cannot be decoded."""
    return [None if v < 0 else float(v) for v in state["x"].tolist()]


def numbers(*values: int) -> State:
    return State({"x": torch.tensor(values)}, {}, torch.arange(len(values)))


def test_multipliers_are_steps_of_the_dual() -> None:
    size = ItemReward(items, float, "size")
    low, high = Constraint(size, ">=", 3.0), Constraint(size, "<=", 5.0)
    both = Lagrangian(size, [low, high], step=0.5)
    assert both.name == "size such that size>=3, size<=5"
    assert not both.differentiable
    state = numbers(1, 2, -1, 3)
    assert both(state).tolist() == [1, 2, -math.inf, 3]  # the multipliers are zero
    notes = both.ascend(state)
    assert {k: float(v) for k, v in notes.items()} == {
        "multiplier size>=3": 0.0,
        "violation size>=3": 1.0,  # 3 less the mean of 1, 2, 3
        "multiplier size<=5": 0.0,
        "violation size<=5": -3.0,
    }
    assert both.multipliers.tolist() == [0.5, 0.0]
    assert both(state).tolist() == [1 + 0.5 * -2, 2 + 0.5 * -1, -math.inf, 3]
    both.ascend(state, torch.tensor([1.0, 0.0, 5.0, 3.0]))  # a mean of 2.5
    assert both.multipliers.tolist() == [0.75, 0.0]
    both.ascend(numbers(9, 9))
    assert both.multipliers.tolist() == [0.0, 2.0]
    saved = both.state()
    fresh = Lagrangian(size, [low, high], step=0.5)
    fresh.load(saved)
    assert torch.equal(fresh.multipliers, both.multipliers)
    both.load({})
    assert both.multipliers.tolist() == [0.0, 0.0]
    with pytest.raises(CheckpointError, match="2 multipliers, but there are 1"):
        Lagrangian(size, [low], 0.5).load(saved)
    for wrong, message in (([], "none"), ([low, low], "size>=3, size>=3")):
        with pytest.raises(ArgumentError, match=message):
            Lagrangian(size, wrong, 0.5)
    with pytest.raises(ArgumentError, match="must be positive"):
        Lagrangian(size, [low], 0.0)


def test_constraints_are_parsed() -> None:
    known: dict[str, Any] = {
        "size": ItemReward(items, float, "size"),
        "size:2..4": Window(ItemReward(items, float, "size"), 2, 4),
    }
    plain = parse_constraint(" size <= 3.5 ", known.__getitem__)
    assert plain.name == "size<=3.5"
    assert plain.slack(numbers(1, 5, -1)).tolist() == [2.5, -1.5, -math.inf]
    share = parse_constraint("size:2..4>=0.9", known.__getitem__)
    assert isinstance(share.score, Share)
    assert share.name == "size:2..4>=0.9"
    assert not share.score.differentiable
    assert share.score(numbers(1, 2, 4, 5, -1)).tolist() == [0, 1, 1, 0, 0]
    known["2*size"] = Sum(((2.0, known["size"]),))
    for spec, message in (
        ("size", "expected NAME>=BOUND"),
        ("size>3", "expected NAME>=BOUND"),
        ("size==3", "expected NAME>=BOUND"),
        (">=3", "expected NAME>=BOUND"),
        ("size>=many", "'many' in the constraint"),
        ("size>=inf", "finite bound"),
        ("2*size>=1", "leave the weight away"),
        ("size:2..4>=1.5", "between 0 and 1"),
    ):
        with pytest.raises(ArgumentError, match=message):
            parse_constraint(spec, known.__getitem__)


HOW: dict[str, Any] = {
    "batch_size": 8, "lr": 1e-4, "ema": None, "checkpoint_every": 2, "log_every": 1,
    "max_loss_factor": None,
}  # fmt: skip


@pytest.mark.parametrize("method", ["wdce", "grpo", "sdpo"])
def test_a_constrained_tuning_resumes_to_the_bit(method: Any, tmp_path: Path) -> None:
    """Weights, multipliers and log; the multiplier moves, so that a forgotten one would show."""
    base = graphdiff.load("defog-qm9")
    config = TuneConfig(method, 0.1, steps=5, picked=2, group=4, repeats=1, dual_lr=2.0)
    bounds = [base.constraint("logp>=3"), base.constraint("rings:0..1>=0.5")]

    def trainer(steps: int, out: Path) -> Trainer:
        train = TrainConfig(steps=steps, **HOW)
        task, data = tuning(base, base.reward("qed"), config, train, bounds)
        return Trainer(task, train, out, data)

    whole = trainer(4, tmp_path / "whole")
    whole.run()
    trainer(2, tmp_path / "cut").run()
    assert trainer(4, tmp_path / "cut").run().finished
    name = "checkpoints/step-000000004/weights.safetensors"
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
    logs = [
        [
            record["loss"]
            for record in map(json.loads, (tmp_path / out / "log.jsonl").read_text().splitlines())
            if record["event"] == "train"
        ]
        for out in ("whole", "cut")
    ]
    assert logs[0] == logs[1]
    found = [(r["multiplier logp>=3"], r["violation logp>=3"]) for r in logs[0]]
    assert found[0][0] == 0
    for (before, violation), (after, _) in pairwise(found):
        assert after == pytest.approx(max(0, before + 2.0 * violation), abs=1e-6)
    assert found[-1][0] > 0
    assert all(-1 < r["reward"] < 0 for r in logs[0])  # the objective alone
    loaded = graphdiff.load(tmp_path / "whole")
    assert loaded.card.data["constraints"] == ["logp>=3", "rings:0..1>=0.5"]
    train = TrainConfig(steps=6, **HOW)
    other, data = tuning(base, base.reward("qed"), config, train, bounds[:1])
    with pytest.raises(ConfigError, match="constraints"):
        Trainer(other, train, tmp_path / "cut", data).run()


def test_direct_methods_need_differentiable_scores() -> None:
    base = graphdiff.load("mdlm-yeast-promoter")
    reward = base.reward("oracle:regressor-yeast-a@ypd")
    train = TrainConfig(steps=1, **HOW)
    config = TuneConfig("draft", steps=4, truncate=1)
    with pytest.raises(ConfigError, match="black box"):
        tuning(base, reward, config, train, [base.constraint("gc<=0.5")])
    task, data = tuning(
        base, reward, config, train, [base.constraint("oracle:regressor-yeast-b@ypd>=0")]
    )
    assert "constraints" in data.fingerprint()
    assert task.training_state()["multipliers"].tolist() == [0.0]


@pytest.mark.parametrize("method", ["smc", "sdpo"])
def test_means_are_those_of_the_law_that_is_learnt(method: Any) -> None:
    """Both learn from the base model's samples or particles, whose plain mean is another one."""
    problem = Problem()
    table = second_table(problem)
    config = TuneConfig(method, ALPHA, group=4)
    ids = torch.arange(8000)
    template, key = problem.made.template(ids), Key(0, ids, step=1)
    base: Any = problem
    with torch.no_grad():
        lesson = learn(base, problem.tuned(config), template, problem.made.reward, 3, key)
    assert lesson.weights is not None
    values = table[problem.made.number(lesson.ends["x"])]
    w = lesson.weights / lesson.weights.sum()
    want = float(problem.target() @ problem.made.table)
    rewards = problem.made.table[problem.made.number(lesson.ends["x"])]
    # Chains of a group are alike: as many samples as there are groups, weights as they are.
    error = float((w.square() * (rewards - want).square()).sum()) ** 0.5
    assert abs(float(w @ rewards) - want) < 8 * error
    assert abs(float(rewards.mean()) - want) > 16 * error
    notes = Lagrangian(
        problem.made.reward, [Constraint(Score(problem, table), ">=", 0.0)], 1.0
    ).ascend(lesson.ends, lesson.weights)
    assert float(notes["violation score>=0"]) == pytest.approx(-float(w @ values))


def test_validity_is_that_of_what_was_made() -> None:
    """Items are corrected, so that their validity would be one; the raw graph's is not."""
    base = graphdiff.load("defog-qm9")
    template = base.task.template(torch.arange(2), torch.tensor([3, 3]), pad=3)
    carbon = base.task.config.data.atoms.index("C")  # type: ignore[attr-defined]
    triple = 3 * torch.ones(3, 3, dtype=torch.int64) - 3 * torch.eye(3, dtype=torch.int64)
    adj = torch.stack([triple, triple.clamp(max=1)])  # six bonds at each carbon, and a ring
    state = template.replace(x=torch.full((2, 3), carbon), adj=adj)
    assert base.reward("valid")(state).tolist() == [0.0, 1.0]
    assert base.constraint("valid>=0.95").slack(state).tolist() == pytest.approx([-0.95, 0.05])
    with pytest.raises(ArgumentError, match="takes no name"):
        base.reward("valid:x")
