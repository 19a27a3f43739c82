"""The commands: train, sample and evaluate in a folder, and their errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from graphdiff.core.errors import ArgumentError, CheckpointError, ConfigError, DataError
from imagediff.cli import app

CONFIG = """
kind = "image"
[model]
width = 8
embed = 16
[process]
kind = "vp"
[train]
steps = 3
batch_size = 16
"""


def run(*arguments: object) -> str:
    """Standard output of a command; what it raises is raised here."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image")
    (folder / "small.toml").write_text(CONFIG)
    run("train", folder / "small.toml", "--out", folder / "run", "--device", "cpu", "--json")
    return folder / "run"


def test_train_sample_evaluate(model, tmp_path):
    made = json.loads(run("sample", model, "--out", tmp_path, "-n", 12, "--steps", 2, "--json"))
    assert made["info"]["network_calls_per_sample"] == 2
    assert {Path(f).name for f in made["files"]} >= {"samples.npz", "grid.png"}
    with np.load(tmp_path / "samples.npz") as archive:
        assert archive["label"].tolist() == [*range(10), 0, 1]
    report = json.loads(run("evaluate", tmp_path, "--json"))
    assert report == json.loads((tmp_path / "metrics.json").read_text())
    first = report["metrics"][0]
    assert (first["name"], first["n"]) == ("classifier_accuracy", 12)
    assert "classifier_accuracy" in run("evaluate", tmp_path)


def test_shards_hold_the_samples_of_the_whole(model, tmp_path):
    parts = []
    for folder, extra in (("whole", ("-n", 6)), ("part", ("-n", 3, "--start", 3))):
        run("sample", model, "--out", tmp_path / folder, "--steps", 2, "--label", 4, *extra)
        with np.load(tmp_path / folder / "samples.npz") as archive:
            parts.append(dict(archive))
    whole, part = parts
    assert set(whole["label"]) == {4}
    assert np.array_equal(part["id"], whole["id"][3:])
    # Rounding moves with the shape of a batch, and may carry a pixel over a half.
    assert np.abs(part["ink"].astype(int) - whole["ink"][3:].astype(int)).max() <= 1


def test_guidance_changes_the_samples(model, tmp_path):
    inks = []
    for weight in (1, 4):
        out = tmp_path / str(weight)
        options = ("-n", 4, "--steps", 3, "--weights", "weights", "--guidance", weight)
        run("sample", model, "--out", out, *options)
        with np.load(out / "samples.npz") as archive:
            inks.append(archive["pixels"])
    assert not np.array_equal(*inks)  # three steps of training tell the classes hardly apart


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (("train", "digts", "--out", "{out}"), ConfigError, "'digts'"),
        (("train", "digits", "--out", "{out}", "--set", "model.widht=3"), ConfigError, "widht"),
        (("sample", "no-such-model", "--out", "{out}"), CheckpointError, "no-such-model"),
        (("sample", "{model}", "--out", "{out}", "--label", "11"), ArgumentError, "0 to 9"),
        (("sample", "{model}", "--out", "{out}", "--solver", "x"), ConfigError, "solver"),
        (("evaluate", "{out}"), DataError, "samples.npz"),
    ],
)
def test_mistakes_are_named(model, tmp_path, arguments, error, match):
    filled = [part.format(out=tmp_path / "out", model=model) for part in arguments]
    with pytest.raises(error, match=match):
        run(*filled)
