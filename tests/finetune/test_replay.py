"""Replay: a memory of different samples, its law, and trainings that go on with it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tuning_cases import ALPHA, Problem

import graphdiff
from graphdiff.core.errors import CheckpointError, ConfigError
from graphdiff.core.rng import Key
from graphdiff.core.space import Dense, Symmetric
from graphdiff.core.state import State
from graphdiff.core.value import repeat
from graphdiff.finetune import replay
from graphdiff.finetune.config import TuneConfig
from graphdiff.finetune.replay import Memory, names_of, temperature
from graphdiff.finetune.task import tuning
from graphdiff.train import TrainConfig, Trainer
from graphdiff.train.checkpoint import load_resume

CONFIG = TuneConfig("replay", ALPHA, memory=64, refresh=2, effective=0, repeats=1)


def law(problem: Problem) -> torch.Tensor:
    """What replay works towards: rewards alone, whatever the base model prefers."""
    whole = (problem.made.exact.states < 3).all(1)  # the fourth class is the mask
    return torch.softmax((problem.made.table / ALPHA).masked_fill(~whole, -torch.inf), 0)


def away(problem: Problem) -> float:
    return float((problem.law(problem.denoiser) - law(problem)).abs().sum() / 2)


def test_the_law_of_greatest_entropy_is_learnt() -> None:
    """All 27 strings are found; 40 independent steps cannot hold the law exactly."""
    problem = Problem(steps=40)
    assert float((problem.target() - law(problem)).abs().sum() / 2) > 0.1  # the base counts not
    before = away(problem)
    problem.tune(CONFIG, 200)
    assert len(problem.memory) == 27
    assert before > 0.25
    assert away(problem) < 0.05


def test_keeping_what_is_known_already_learns_another_law(monkeypatch: Any) -> None:
    """The mutation: with every draw kept, what is drawn often counts often."""
    problem, count = Problem(), iter(range(10**6))
    problem.memory = Memory(10**6)
    monkeypatch.setattr(replay, "names_of", lambda task, ends: [next(count) for _ in ends.ids])
    problem.tune(CONFIG, 200)
    assert away(problem) > 0.1


def state(tokens: list[list[int]]) -> State:
    x = torch.tensor(tokens)
    return State({"x": x}, {"x": torch.ones_like(x, dtype=torch.bool)}, torch.arange(len(x)))


def add(memory: Memory, tokens: list[list[int]], rewards: list[float], *real: bool) -> int:
    found = torch.tensor(rewards, dtype=torch.float64)
    scored = torch.tensor(list(real) or [True] * len(rewards))
    names = names_of(Problem(), state(tokens))  # type: ignore[arg-type]
    return memory.add(state(tokens), names, found, scored, {"x": Dense()})


def test_a_memory_keeps_what_is_new_and_has_a_reward() -> None:
    memory = Memory(3)
    assert add(memory, [[0, 1, 2], [0, 1, 2], [1, 1, 1]], [1.0, 1.0, 2.0]) == 2
    assert add(memory, [[1, 1, 1], [2, 2, 2]], [2.0, 9.0], True, False) == 0
    assert memory.rewards.tolist() == [1.0, 2.0]
    assert add(memory, [[3, 0, 0], [3, 0, 1]], [0.5, 3.0]) == 2
    assert memory.rewards.tolist() == [1.0, 2.0, 3.0]  # the lowest of four went
    assert memory.samples is not None
    assert memory.samples["x"].tolist() == [[0, 1, 2], [1, 1, 1], [3, 0, 1]]
    assert add(memory, [[3, 0, 0]], [0.5]) == 1  # forgotten, so it is new again; and goes again
    assert memory.rewards.tolist() == [1.0, 2.0, 3.0]


def test_samples_of_other_sizes_are_padded() -> None:
    memory, spaces = Memory(9), {"adj": Symmetric()}
    for n, name in ((2, 1), (4, 2), (3, 3)):
        adj = torch.ones(1, n, n, dtype=torch.int64)
        adj[:, range(n), range(n)] = 0
        mask = {"adj": torch.ones(1, n, dtype=torch.bool)}
        one = (torch.ones(1, dtype=torch.float64), torch.ones(1, dtype=torch.bool))
        memory.add(State({"adj": adj}, mask, torch.zeros(1).long()), [name], *one, spaces)
    assert memory.samples is not None
    assert memory.samples["adj"].shape == (3, 4, 4)
    assert memory.samples.masks["adj"].sum(1).tolist() == [2, 4, 3]
    assert memory.samples["adj"].sum((1, 2)).tolist() == [2, 12, 6]


def test_conditions_of_another_shape_are_refused() -> None:
    memory, real = Memory(9), torch.ones(1, dtype=torch.bool)
    one = torch.ones(1, dtype=torch.float64)
    for n in (2, 3):
        values = {"x": torch.zeros(1, 2, dtype=torch.int64), "told": torch.zeros(1, n)}
        found = State(values, {}, torch.zeros(1).long())
        if n == 2:
            memory.add(found, [n], one, real, {"x": Dense()})
            continue
        with pytest.raises(ConfigError, match="'told' of shapes"):
            memory.add(found, [n], one, real, {"x": Dense()})


def test_draws_are_in_proportion() -> None:
    """Systematic resampling: each sample comes ``b q`` times, up to less than one."""
    memory = Memory(9)
    add(memory, [[0, 0, 0], [1, 0, 0], [2, 0, 0]], [0.0, 1.0, 2.0])
    q = memory.weights(1.0, 0)
    torch.testing.assert_close(q, torch.softmax(torch.arange(3.0, dtype=torch.float64), 0))
    for u in (0.0, 0.4, 0.999):
        drawn = memory.draw(q, torch.tensor(u), torch.arange(50, 150))
        assert drawn.ids.tolist() == list(range(50, 150))
        count = torch.bincount(drawn["x"][:, 0], minlength=3)
        assert float((count - 100 * q).abs().max()) < 1


@pytest.mark.parametrize("least", [0, 40, 99, 1000])
def test_the_temperature_keeps_enough_samples_in_play(least: int) -> None:
    rewards = torch.linspace(0, 1, 100, dtype=torch.float64).square()
    t = temperature(rewards, 0.05, least)
    effective = lambda a: float(1 / torch.softmax(rewards / a, 0).square().sum())  # noqa: E731
    goal = min(least, 90)
    assert effective(t) >= goal
    assert t == 0.05 if effective(0.05) >= goal else effective(t * 0.999) < goal


def test_repeats_are_averaged() -> None:
    """Three draws and three noises, each the loss of one draw at its own noise."""
    problem, ids = Problem(), torch.arange(16)
    config = replace(CONFIG, repeats=3)
    tuned, template = problem.tuned(config), problem.made.template(ids)
    key, memory = Key(1, ids, step=5), Memory(64)
    told = (problem.made.reward, 0, key)
    found, rollout, notes = replay.replay_losses(problem, tuned, memory, template, *told)  # type: ignore[arg-type]
    assert (rollout.final.batch_size, float(notes["found"])) == (8, len(memory))
    weights, one = memory.weights(ALPHA, 0), Key(1, ids[:1], step=5).at(stream="replay")
    want = torch.zeros(16)
    for k in range(3):
        u = repeat(one, k).uniform(1, torch.float64)[0, 0]
        clean = memory.draw(weights, u, ids)
        want += problem.losses(problem.denoiser, clean, repeat(key, k))["x"] / 3
    torch.testing.assert_close(found["x"], want)


def test_equal_samples_have_one_name_in_every_process() -> None:
    """Keys of graphs are sets, whose order is that of their hashes."""
    made = [(3, frozenset({(0, 1), (1, 2)})), (3, frozenset({(1, 2), (0, 1)}))]

    class Graphs:
        decode = staticmethod(lambda state: ([0, 1, None], None))
        item_key = staticmethod(lambda item: made[item])

    names = names_of(Graphs(), state([[0], [1], [2]]))  # type: ignore[arg-type]
    assert names[0] == names[1] != names[2]
    assert replay._bytes(made[0]) == b"(3,{(0,1),(1,2)})"


@pytest.mark.parametrize("name", ["defog-qm9", "mdlm-yeast-promoter"])
def test_a_tuning_goes_on_with_its_memory(name: str, tmp_path: Path) -> None:
    """Killed after a checkpoint, it ends as the one that was not: weights and memory."""
    model = graphdiff.load(name)
    reward = model.reward("qed" if "qm9" in name else "gc")
    config = TuneConfig("replay", 0.1, steps=4, refresh=2, effective=4, repeats=1)
    found = {}
    for run in ("whole", "parts"):
        for steps in (4,) if run == "whole" else (2, 4):
            train = TrainConfig(
                steps=steps, batch_size=8, max_loss_factor=None, checkpoint_every=2, log_every=1
            )
            task, data = tuning(model, reward, config, train)
            Trainer(task, train, tmp_path / run, data).run()
        found[run] = task
    whole, parts = found["whole"].found, found["parts"].found
    assert whole is not None
    assert parts is not None
    assert 0 < len(whole) <= 16
    assert whole.known == parts.known
    last = [load_resume(tmp_path / run / "checkpoints/step-000000004") for run in found]
    assert torch.equal(last[0]["task"]["rewards"], last[1]["task"]["rewards"])
    weights = [graphdiff.load(tmp_path / run).denoiser.state_dict() for run in found]
    assert all(torch.equal(x, weights[1][k]) for k, x in weights[0].items())
    assert math.isfinite(float(whole.rewards.sum()))


def test_what_cannot_be_replayed_is_named() -> None:
    model = graphdiff.load("defog-qm9")
    train = TrainConfig(steps=1, batch_size=8, max_loss_factor=None)
    bound = [model.constraint("sa<=3")]
    with pytest.raises(ConfigError, match="keeps rewards, which constraints would change"):
        tuning(model, model.reward("qed"), TuneConfig("replay"), train, bound)
    for change in ({"memory": 0}, {"refresh": 0}, {"effective": -1}, {"effective": 60_000}):
        with pytest.raises(ConfigError, match=f"tune.{next(iter(change))}: found"):
            TuneConfig("replay", **change)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="holds no memory of samples"):
        Memory(3).load({"multipliers": torch.zeros(1)})
