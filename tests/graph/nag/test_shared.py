"""Guidance and tuners of the core on architectures, which none of them knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import graphdiff
from graphdiff.cli.app import app
from graphdiff.core.state import State
from graphdiff.finetune.config import TuneConfig
from graphdiff.finetune.task import tuning
from graphdiff.graph.nag.predictor import PredictorReward, fit_predictor
from graphdiff.guide import Guide
from graphdiff.train import TrainConfig, Trainer


@pytest.fixture(scope="module")
def model() -> Any:
    return graphdiff.load("nag-nb201")


@pytest.fixture(scope="module")
def reward(model: Any) -> PredictorReward:
    """A predictor of the number of 3x3 convolutions."""
    archs = model.task.space.draw(300, np.random.default_rng(0))
    shape = {"layers": 2, "width": 32, "hidden": 32, "dropout": 0.0}
    how = {"steps": 150, "batch": 64, "lr": 1e-2, "noisy": False}
    return PredictorReward(
        fit_predictor(model.task.config, archs, convolutions(archs), **how, **shape)  # type: ignore[arg-type]
    )


def convolutions(archs: Any) -> Any:
    return (archs.ops == 5).sum(1).astype(float)


@pytest.mark.parametrize("method", ["best", "smc", "twisted", "svdd", "gilc", "gradient"])
def test_every_guidance_raises_the_reward(model: Any, reward: PredictorReward, method: str) -> None:
    guide = Guide(reward, method, 4, 0.0 if method == "svdd" else 0.3)  # type: ignore[arg-type]
    free = convolutions(model.samples(48, seed=0).raw).mean()
    guided = model.samples(48, seed=0, guide=guide)
    assert convolutions(guided.raw).mean() > free + 0.4
    assert model.task.space.valid(guided.raw).mean() > 0.9


@pytest.mark.parametrize("method", ["drakes", "ddpo", "replay"])
def test_tuners_raise_the_reward(
    model: Any, reward: PredictorReward, method: Any, tmp_path: Path
) -> None:
    """The log's rewards of the first and of the last updates; what is written is a generator."""
    config = TuneConfig(method, 0.5, effective=0, repeats=1, refresh=2)
    train = TrainConfig(
        steps=16, batch_size=32, lr=1e-3, max_loss_factor=None, log_every=1, clip=1.0, ema=None
    )
    task, data = tuning(model, reward, config, train)
    rewards = []
    build = task.losses

    def losses(*told: Any) -> Any:
        found = build(*told)
        rewards.append(-float(found["reward"].mean()))
        return found

    object.__setattr__(task, "losses", losses)
    Trainer(task, train, tmp_path / "run", data).run()
    assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 0.2
    tuned = graphdiff.load(tmp_path / "run")
    assert tuned.task.kind == "nag"
    assert tuned.task.space.valid(tuned.samples(16, seed=0).raw).mean() > 0.8  # type: ignore[attr-defined]


def test_a_reward_of_classes_is_that_of_weights(model: Any, reward: PredictorReward) -> None:
    raw = model.samples(8, seed=3).raw
    ops = torch.from_numpy(raw.ops.astype(np.int64))
    hot = torch.nn.functional.one_hot(ops, 8).float()
    first = reward(State({"ops": ops}, {}, torch.arange(8)))
    torch.testing.assert_close(reward(State({"ops": hot}, {}, torch.arange(8))), first)


def test_a_generator_is_tuned_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("def score(cell):\n    return sum(t == 'nor_conv_3x3' for t in cell.types)\n")
    words = ["finetune", "nag-nb201", "--reward", f"{file}:score", "--method", "ddpo"]
    words += ["--set", "train.steps=2", "--set", "train.batch_size=8"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "run")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert len(graphdiff.load(tmp_path / "run").sample(2)) == 2
