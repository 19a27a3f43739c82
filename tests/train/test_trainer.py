"""The training loop: what it computes, in which order, and what it says when it goes wrong."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from train_points import Points, PointsConfig, PointsTask

from graphdiff.core.errors import ConfigError, DataError, TrainingError
from graphdiff.core.rng import Key
from graphdiff.train import TrainConfig, Trainer, load_weights, read_card
from graphdiff.train.checkpoint import list_checkpoints
from graphdiff.train.log import read_log

TASK = PointsTask(PointsConfig())


def settings(**changes: Any) -> TrainConfig:
    base: dict[str, Any] = {"steps": 12, "batch_size": 16, "lr": 1e-2, "log_every": 1, "threads": 1}
    return TrainConfig(**{**base, **changes})


def train(out: Path, task: PointsTask = TASK, **changes: Any) -> Trainer:
    trainer = Trainer(task, settings(**changes), out, device="cpu")
    trainer.run()
    return trainer


@dataclass
class Recorder(Points):
    """The training set, writing down what is asked of it."""

    def __init__(self, config: PointsConfig) -> None:
        super().__init__(config)
        self.asked: list[list[int]] = []

    def batch(self, index: Tensor) -> Any:
        self.asked.append(index.tolist())
        return super().batch(index)


def test_is_adam_on_each_network_with_its_own_clipping(tmp_path: Path) -> None:
    """GDSS trains two networks by two optimisers; one optimiser with clipping by group is that."""
    config = settings(clip=0.3, weight_decay=0.01, ema=0.9)
    data = Recorder(TASK.config)
    Trainer(TASK, config, tmp_path, data, device="cpu").run()

    denoiser = TASK.build().train()
    nets = [denoiser.net.place, denoiser.net.radius]
    optimizers = [torch.optim.Adam(n.parameters(), lr=1e-2, weight_decay=0.01) for n in nets]
    average = {k: v.clone() for k, v in denoiser.state_dict().items()}
    for step, index in enumerate(data.asked, 1):
        clean = Points(TASK.config).batch(torch.tensor(index))
        losses = TASK.losses(denoiser, clean, Key(0, clean.ids, step=step).at(stream="train"))
        for net, optimizer, loss in zip(nets, optimizers, losses.values(), strict=True):
            optimizer.zero_grad()
            loss.mean().backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 0.3)
            optimizer.step()
        for name, value in denoiser.state_dict().items():
            average[name] = 0.9 * average[name] + 0.1 * value
    for which, expected in (("weights", denoiser.state_dict()), ("ema", average)):
        torch.testing.assert_close(load_weights(tmp_path, which), dict(expected))


def test_every_example_once_an_epoch(tmp_path: Path) -> None:
    data = Recorder(TASK.config)
    trainer = Trainer(TASK, settings(steps=None, epochs=3), tmp_path, data, device="cpu")
    trainer.run()
    assert [len(batch) for batch in data.asked] == [16, 16, 16, 2] * 3
    epochs = [list(chain(*data.asked[i : i + 4])) for i in (0, 4, 8)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != list(range(50))
    assert [r["epoch"] for r in read_log(tmp_path / "log.jsonl", "train")][::4] == [0, 1, 2]


def test_batch_larger_than_the_data_is_the_data(tmp_path: Path) -> None:
    data = Recorder(TASK.config)
    trainer = Trainer(TASK, settings(steps=2, batch_size=999), tmp_path, data, device="cpu")
    assert (trainer.batch_size, trainer.steps_per_epoch) == (50, 1)
    trainer.run()
    assert [sorted(batch) for batch in data.asked] == [list(range(50))] * 2
    start = next(read_log(tmp_path / "log.jsonl", "start"))
    assert (start["batch_size"], start["batch_size_asked"]) == (50, 999)


def test_accumulation_and_record_length_change_nothing(tmp_path: Path) -> None:
    whole = load_weights(train(tmp_path / "a").out)
    parts = load_weights(train(tmp_path / "b", accumulate=5).out)
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-5)
    rare = load_weights(train(tmp_path / "c", log_every=7, checkpoint_every=5, keep=1).out)
    assert all(torch.equal(rare[name], whole[name]) for name in whole)
    assert [p.name for p in list_checkpoints(tmp_path / "c")] == ["step-000000012"]
    records = list(read_log(tmp_path / "c" / "log.jsonl", "train"))
    assert [r["step"] for r in records] == [5, 7, 10, 12]
    single = [r["loss"]["place"] for r in read_log(tmp_path / "a" / "log.jsonl", "train")]
    assert records[1]["loss"]["place"] == pytest.approx(sum(single[5:7]) / 2)


def test_learns(tmp_path: Path) -> None:
    train(tmp_path, steps=300, log_every=50, batch_size=50, lr_schedule="cosine")
    losses = [sum(r["loss"].values()) for r in read_log(tmp_path / "log.jsonl", "train")]
    assert losses[-1] < 0.6 * losses[0]


def test_progress_and_log_and_card(tmp_path: Path) -> None:
    config = settings(log_every=5, checkpoint_every=6)
    trainer = Trainer(TASK, config, tmp_path, device="cpu")
    seen = []
    outcome = trainer.run(seen.append)
    assert [p.step for p in seen] == [5, 6, 10, 12]
    assert [p.saved is not None for p in seen] == [False, True, False, True]
    assert {p.total for p in seen} == {12}
    assert seen[-1].eta == 0
    assert all(p.examples_per_second > 0 and math.isfinite(p.eta) for p in seen)
    assert outcome.finished
    assert outcome.model == list_checkpoints(tmp_path)[-1]
    assert "12 steps" in outcome.message
    events = [r["event"] for r in read_log(tmp_path / "log.jsonl")]
    assert events == [
        "start",
        "train",
        "train",
        "checkpoint",
        "train",
        "train",
        "checkpoint",
        "end",
    ]
    record = next(read_log(tmp_path / "log.jsonl", "train"))
    assert set(record["loss"]) == set(record["grad_norm"]) == {"place", "radius"}
    card = read_card(tmp_path)
    assert (card.kind, card.step, card.seed, card.citation) == ("points", 12, 0, "nobody, 2024")
    assert card.task == TASK.to_config()
    assert TrainConfig.from_config(card.train or {}) == config
    assert card.data == Points(TASK.config).fingerprint()
    assert card.rng == "philox4x32-10"
    assert set(card.versions) == {"graphdiff", "torch", "python"}
    assert card.command
    # A finished training that is run again does nothing and says so.
    again = Trainer(TASK, config, tmp_path, device="cpu").run()
    assert (again.step, again.model) == (12, outcome.model)


def test_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    train(tmp_path, PointsTask(PointsConfig(dropout=0.5)), steps=3)
    assert torch.equal(torch.get_rng_state(), state)


def test_bf16_keeps_float32_weights(tmp_path: Path) -> None:
    trainer = train(tmp_path, mixed_precision="bf16")
    weights = load_weights(trainer.out)
    exact = load_weights(train(tmp_path / "exact").out)
    assert {w.dtype for w in weights.values()} == {torch.float32}
    assert any(not torch.equal(weights[n], exact[n]) for n in exact)
    torch.testing.assert_close(weights, exact, rtol=0.2, atol=0.02)


def test_frozen_parameters_stay(tmp_path: Path) -> None:
    task = PointsTask(PointsConfig(frozen=True))

    @dataclass(frozen=True)
    class PlaceOnly(PointsTask):
        def losses(self, denoiser: Any, clean: Any, key: Key) -> dict[str, Tensor]:
            return {"place": super().losses(denoiser, clean, key)["place"]}

    task = PlaceOnly(task.config)
    before = task.build().state_dict()
    train(tmp_path, task)
    after = load_weights(tmp_path)
    changed = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"place"}


def test_tasks_that_are_wrong(tmp_path: Path) -> None:
    class Shape(PointsTask):
        def losses(self, denoiser: Any, clean: Any, key: Key) -> dict[str, Tensor]:
            return {n: v.mean() for n, v in super().losses(denoiser, clean, key).items()}

    class Few(PointsTask):
        def groups(self, denoiser: Any) -> dict[str, list[torch.nn.Parameter]]:
            return {"place": super().groups(denoiser)["place"]}

    class Twice(PointsTask):
        def groups(self, denoiser: Any) -> dict[str, list[torch.nn.Parameter]]:
            return {**super().groups(denoiser), "all": list(denoiser.parameters())}

    with pytest.raises(TrainingError, match=r"'place' has shape \[\], .* the 16 examples"):
        train(tmp_path / "a", Shape())
    with pytest.raises(ConfigError, match=r"in no group .* 'net\.radius\.0\.weight'"):
        train(tmp_path / "b", Few())
    with pytest.raises(ConfigError, match="'place' and 'all'"):
        train(tmp_path / "c", Twice())
    with pytest.raises(DataError, match="empty"):
        train(tmp_path / "d", PointsTask(PointsConfig(examples=0)))


def test_not_a_number_is_traced_to_its_batch(tmp_path: Path) -> None:
    task = PointsTask(PointsConfig(poison=7))
    with pytest.raises(TrainingError, match="the loss of component 'place' and 'radius'") as caught:
        train(tmp_path, task, steps=4, log_every=4, checkpoint_every=1)
    last = list_checkpoints(tmp_path)
    lines = (tmp_path / "failed" / "batches.jsonl").read_text().splitlines()
    batch = json.loads(lines[-1])
    assert 7 in batch["examples"]
    assert batch["loss"]["radius"] == "NaN"
    assert f"at step {batch['step']} (examples {batch['examples'][0]}" in str(caught.value)
    assert str(tmp_path / "failed") in str(caught.value)
    if last:
        assert str(last[-1]) in str(caught.value)
        assert all(torch.isfinite(w).all() for w in load_weights(last[-1]).values())
    assert [r["event"] for r in read_log(tmp_path / "log.jsonl")][-1] == "failure"


def test_window_names_the_first_bad_step(tmp_path: Path) -> None:
    task, data = PointsTask(PointsConfig(poison=7)), Recorder(PointsConfig(poison=7))
    trainer = Trainer(task, settings(steps=4, log_every=4), tmp_path, data, device="cpu")
    with pytest.raises(TrainingError) as caught:
        trainer.run()
    step = next(i for i, batch in enumerate(data.asked, 1) if 7 in batch)
    assert f"at step {step} (" in str(caught.value)
    assert len((tmp_path / "failed" / "batches.jsonl").read_text().splitlines()) == 4


def test_exploding_loss(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="max_loss_factor=100"):
        train(tmp_path, lr=1e3, max_loss_factor=100.0)


def test_output_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot write to the output folder"):
        train(tmp_path / "file" / "run")
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(TrainingError, match=r"found 0\.0 MB free, expected at least 1\.\d MB"):
        train(tmp_path / "run")


@pytest.mark.slow
def test_compiled_network(tmp_path: Path) -> None:
    compiled = load_weights(train(tmp_path / "a", compile=True).out)
    torch.testing.assert_close(
        compiled, load_weights(train(tmp_path / "b").out), rtol=1e-3, atol=1e-5
    )
