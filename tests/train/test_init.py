"""Trainings that start from the weights of another model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from train_points import PointsConfig, PointsTask

from graphdiff.core.errors import CheckpointError
from graphdiff.train import TrainConfig, Trainer, load_weights

HOW = TrainConfig(steps=3, batch_size=8, lr=1e-2, ema=0.9, threads=1)


def test_starts_from_the_averaged_weights_and_goes_on_without_them(tmp_path: Path) -> None:
    first = Trainer(PointsTask(PointsConfig()), HOW, tmp_path / "a", device="cpu").run()
    still = replace(HOW, steps=1, lr=1e-30, ema=None)
    second = Trainer(
        PointsTask(PointsConfig()), still, tmp_path / "b", device="cpu", init=first.model
    )
    done = second.run()
    wanted, found = load_weights(first.model, "ema"), load_weights(done.model, "weights")
    assert all(torch.allclose(found[name], v, atol=1e-7, rtol=0) for name, v in wanted.items())
    fresh = Trainer(PointsTask(PointsConfig()), still, tmp_path / "c", device="cpu").run()
    other = load_weights(fresh.model, "weights")
    assert not all(torch.allclose(other[name], v, atol=1e-3) for name, v in wanted.items())
    start = json.loads((tmp_path / "b" / "log.jsonl").read_text("utf-8").splitlines()[0])
    assert start["init"] == str(first.model)


def test_a_run_that_goes_on_reads_its_checkpoint_and_not_the_start(tmp_path: Path) -> None:
    base = Trainer(PointsTask(PointsConfig()), HOW, tmp_path / "base", device="cpu").run()
    how = replace(HOW, steps=6, checkpoint_every=3)

    def trainer(out: str) -> Trainer:
        return Trainer(
            PointsTask(PointsConfig()), how, tmp_path / out, device="cpu", init=base.model
        )

    whole = trainer("whole").run()
    for progress in trainer("cut").events():
        if progress.step == 3:
            break
    again = trainer("cut").run()
    left, right = load_weights(whole.model, "weights"), load_weights(again.model, "weights")
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    base = Trainer(PointsTask(PointsConfig()), HOW, tmp_path / "a", device="cpu").run()
    wider = PointsTask(replace(PointsConfig(), width=PointsConfig().width + 1))
    with pytest.raises(CheckpointError, match="do not fit the network of this config"):
        Trainer(wider, HOW, tmp_path / "b", device="cpu", init=base.model)
    with pytest.raises(CheckpointError, match="no model is called 'nothing-like-it'"):
        Trainer(
            PointsTask(PointsConfig()), HOW, tmp_path / "c", device="cpu", init="nothing-like-it"
        )
