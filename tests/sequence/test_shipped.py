"""The shipped models of sequences: complete cards, small files, and what their cards say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import graphdiff
from graphdiff.core.rng import Key
from graphdiff.model import models
from graphdiff.sequence.alphabet import DNA
from graphdiff.sequence.oracles import OracleReward, load_oracle, predict_sequences
from graphdiff.sequence.sequences import Sequences
from graphdiff.train.checkpoint import read_card

NAMES = ("mdlm-yeast-promoter", "regressor-yeast-a", "regressor-yeast-b")


@pytest.mark.parametrize("name", NAMES)
def test_cards_are_complete(name: str) -> None:
    folder = models()[name]
    card = read_card(folder)
    assert card.command is not None
    assert card.command.startswith(f"graphdiff train {name} ")
    assert card.data is not None
    assert {"name", "split", "n", "sha256"} <= set(card.data)
    assert card.licence == "Apache-2.0"
    assert card.notes
    assert card.metrics["n"] >= 100
    assert all(m["n"] and m["interval"] for m in card.metrics["metrics"])
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1_000_000


def test_the_tuned_sibling_has_a_card_and_does_what_it_says() -> None:
    """More active by the oracle that it was not tuned with, and no copy of one sequence."""
    folder = models()["mdlm-yeast-promoter-active"]
    card = read_card(folder)
    assert card.command is not None
    assert card.command.startswith("graphdiff finetune mdlm-yeast-promoter --reward oracle:")
    assert card.data is not None
    weights = read_card(models()["mdlm-yeast-promoter"]).files["weights.safetensors"].sha256
    assert card.data["base_sha256"] == {"weights.safetensors": weights}
    assert card.licence == "Apache-2.0"
    claim = {m["name"]: m for m in card.metrics["metrics"]}["judged_activity"]
    judge = load_oracle("regressor-yeast-b")
    found = [
        graphdiff.load(name).samples(128, seed=7, steps=40, batch_size=128).raw
        for name in ("mdlm-yeast-promoter", "mdlm-yeast-promoter-active")
    ]
    base, tuned = (torch.from_numpy(predict_sequences(judge, x)[:, 0]).median() for x in found)
    assert float(tuned - base) > 2
    assert abs(float(tuned) - claim["value"]) < 0.8  # the median of 128: standard error about .2
    assert len(set(found[1].strings())) == 128


def test_the_oracles_agree_on_samples_of_the_model() -> None:
    """Trained on different families: their predictions of new promoters must correlate."""
    model = graphdiff.load("mdlm-yeast-promoter")
    found = model.samples(128, seed=5, steps=40, batch_size=128).raw
    one, other = (
        torch.from_numpy(predict_sequences(load_oracle(f"regressor-yeast-{half}"), found)[:, 0])
        for half in "ab"
    )
    assert float(torch.corrcoef(torch.stack([one, other]))[0, 1]) > 0.7
    shuffled = one[torch.argsort(Key(0, torch.arange(1)).uniform(128)[0])]
    assert float(torch.corrcoef(torch.stack([shuffled, other]))[0, 1]) < 0.4


def test_an_oracle_is_a_reward_of_classes_and_of_weights() -> None:
    reward = OracleReward("regressor-yeast-a", "ypd", alphabet=DNA)
    text = ["ACGT" * 20, "TTTTT" * 16]
    tokens, mask = (torch.from_numpy(x) for x in Sequences.from_strings(text, DNA).dense())
    state = graphdiff.load("mdlm-yeast-promoter").task.template(
        torch.arange(2), torch.tensor([80, 80]), pad=80
    )
    plain = reward(state.replace(tokens=tokens))
    weights = torch.nn.functional.one_hot(tokens, 5).float().requires_grad_()
    soft = reward(state.replace(tokens=weights))
    torch.testing.assert_close(soft.detach(), plain)
    soft.sum().backward()
    assert weights.grad is not None
    assert float(weights.grad[..., :4].abs().sum()) > 0
    assert bool(mask.all())


def test_samples_in_one_fasta_file(tmp_path: Path) -> None:
    """As the documentation says, without any data set at hand."""
    env = {k: v for k, v in os.environ.items() if k != "GRAPHDIFF_DATA"}

    def call(*words: str, rc: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "graphdiff", *words],
            capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path, env=env,
        )  # fmt: skip
        assert done.returncode == rc, done.stdout + done.stderr
        return done.stdout + done.stderr

    base = ["sample", "mdlm-yeast-promoter", "-n", "6", "--steps", "10", "--out"]
    call(*base, "x.fasta")
    lines = (tmp_path / "x.fasta").read_text().splitlines()
    assert sum(line.startswith(">") for line in lines) == 6
    assert sum(len(line) for line in lines if not line.startswith(">")) == 6 * 80
    assert (tmp_path / "x.fasta.json").is_file()
    assert not list(tmp_path.glob(".x.fasta*"))
    assert "exists already" in call(*base, "x.fasta", rc=2)
    call(*base, "x.fasta", "--force")
    assert "writes no .smi file" in call(*base, "x.smi", rc=2)
    call(*base, "folder.v2")
    assert (tmp_path / "folder.v2" / "samples.fasta").read_text().splitlines() == lines
