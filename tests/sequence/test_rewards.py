"""Oracles and scores as rewards: published networks, gradients, motifs, GGS metrics."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.core.errors import ArgumentError, CheckpointError
from graphdiff.core.state import State
from graphdiff.finetune.reward import Sum, Window
from graphdiff.finetune.specs import parse_rewards
from graphdiff.sequence.alphabet import DNA, PROTEIN, RNA
from graphdiff.sequence.dataset import SequenceDataset
from graphdiff.sequence.oracles import (
    GGS_LETTERS,
    GGSNetwork,
    GGSOracle,
    OracleReward,
    ggs_oracle,
    load_oracle,
    oracle_rewards,
    predict_sequences,
)
from graphdiff.sequence.regressor import RegressorTask
from graphdiff.sequence.regressor_data import RegressorData
from graphdiff.sequence.regressor_score import pearson
from graphdiff.sequence.rewards import (
    Motif,
    SequenceScores,
    gc,
    ggs_metrics,
    length,
    longest_run,
    similarity,
)
from graphdiff.sequence.sequences import Sequences
from graphdiff.train.config import TrainConfig
from graphdiff.train.trainer import Trainer

ROOT = Path(os.environ.get("GRAPHDIFF_DATA", "")) / "sequence" / "aav_ggs"
public = pytest.mark.skipif(
    not (ROOT / "aav_cnn_oracle.ckpt").is_file(),
    reason="needs the AAV files of GGS below $GRAPHDIFF_DATA/sequence/aav_ggs",
)


def proteins(n: int, size: int = 28, seed: int = 0) -> Sequences:
    tokens = np.random.default_rng(seed).integers(0, 20, (n, size))
    return Sequences.from_dense(tokens, PROTEIN)


def dense(sequences: Sequences) -> tuple[Tensor, Tensor]:
    tokens, mask = sequences.dense()
    return torch.from_numpy(tokens), torch.from_numpy(mask)


def state(tokens: Tensor, mask: Tensor | None = None) -> State:
    masks = {} if mask is None else {"tokens": mask}
    return State({"tokens": tokens}, masks, torch.arange(len(tokens)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny regressor of DNA with two targets."""
    texts = ["".join(np.random.default_rng(k).choice(list("ACGT"), 10)) for k in range(64)]
    sequences = Sequences.from_strings(texts, DNA)
    values = {"gc": np.asarray([gc(t) for t in texts]), "run": np.asarray(map_runs(texts))}
    data = SequenceDataset("words", sequences, {"train": np.arange(64)}, values)
    model = {"width": 8, "kernel": 3, "dilations": [1], "hidden": 8}
    about = {"kind": "regressor", "data": {"name": "words", "targets": ["gc", "run"]}}
    task = RegressorTask.from_config(json.loads(json.dumps({**about, "model": model})))
    how = TrainConfig(steps=2, batch_size=32, ema=None)
    out = tmp_path_factory.mktemp("oracle") / "words"
    return Trainer(task, how, out, RegressorData(data, task.config.data)).run().model


def map_runs(texts: list[str]) -> list[float]:
    return [longest_run(t) for t in texts]


# -- oracles as rewards ------------------------------------------------------------------------


def test_reward_of_classes_and_weights(folder: Path) -> None:
    reward = OracleReward(folder, "gc", alphabet=DNA)
    assert reward.differentiable
    tokens = torch.from_numpy(np.random.default_rng(0).integers(0, 4, (5, 10)))
    found = reward(state(tokens))
    assert found.dtype == torch.float64
    assert found.shape == (5,)
    for columns in (4, 5):
        weights = F.one_hot(tokens, columns).float().requires_grad_()
        value = reward(state(weights))
        assert torch.equal(value, found)
        (gradient,) = torch.autograd.grad(value.sum(), weights)
        assert (gradient[..., :4].abs().sum((1, 2)) > 0).all()
        assert (gradient[..., 4:] == 0).all()
    run = OracleReward(folder, "run")
    assert not torch.equal(run(state(tokens)), found)


def test_reward_respects_the_mask(folder: Path) -> None:
    reward = OracleReward(folder, "gc")
    tokens = torch.from_numpy(np.random.default_rng(1).integers(0, 4, (2, 10)))
    mask = torch.arange(10) < torch.tensor([[6], [10]])
    other = tokens.clone()
    other[0, 6:] = (other[0, 6:] + 1) % 4
    assert torch.equal(reward(state(tokens, mask)), reward(state(other, mask)))
    assert not torch.equal(reward(state(tokens)), reward(state(other)))
    alone = reward(state(tokens[:1, :6]))
    assert torch.allclose(reward(state(tokens, mask))[:1], alone, atol=1e-6)


def test_ascent_along_the_gradient_raises_the_reward(folder: Path) -> None:
    reward = OracleReward(folder, "gc")
    logits = torch.zeros(3, 10, 4, requires_grad=True)
    before = reward(state(logits.softmax(-1)))
    for _ in range(5):
        (gradient,) = torch.autograd.grad(reward(state(logits.softmax(-1))).sum(), logits)
        logits = (logits + 50 * gradient).detach().requires_grad_()
    assert (reward(state(logits.softmax(-1))) > before).all()


def test_sums_and_windows_of_oracles_stay_differentiable(folder: Path) -> None:
    reward = OracleReward(folder, "gc")
    total = Sum(((2.0, reward), (1.0, Window(reward, 10.0, 11.0))))
    assert total.differentiable
    weights = F.one_hot(torch.zeros(1, 10, dtype=torch.int64), 4).float().requires_grad_()
    one = torch.autograd.grad(reward(state(weights)).sum(), weights)[0]
    both = torch.autograd.grad(total(state(weights)).sum(), weights)[0]
    assert torch.allclose(both, 3 * one, atol=1e-6)  # below the window its slope is 1


def test_what_does_not_fit_is_refused_at_construction(folder: Path) -> None:
    with pytest.raises(ArgumentError, match="none of them is named"):
        OracleReward(folder)
    with pytest.raises(ArgumentError, match="'tm' is asked for"):
        OracleReward(folder, "tm")
    for alphabet in (RNA, PROTEIN):
        with pytest.raises(ArgumentError, match=f"reads dna.*{alphabet.name}"):
            OracleReward(folder, "gc", alphabet=alphabet)
    with pytest.raises(CheckpointError, match="no model is called"):
        OracleReward("no-such-oracle")
    with pytest.raises(CheckpointError, match="'gdss'"):
        OracleReward("gdss-qm9")
    with pytest.raises(ArgumentError, match="tokens"):
        OracleReward(folder, "gc")(State({"x": torch.zeros(1, 2)}, {}, torch.arange(1)))


def test_makers_read_what_stands_behind_oracle(folder: Path) -> None:
    make = oracle_rewards(DNA)["oracle"]
    reward = make(f"{folder}@run")
    assert (reward.target, reward.name) == ("run", "oracle:words@run")
    with pytest.raises(ArgumentError, match="none of them is named"):
        make(str(folder))
    with pytest.raises(ArgumentError, match="reads dna"):
        oracle_rewards(PROTEIN)["oracle"](f"{folder}@run")


# -- published oracles -------------------------------------------------------------------------


def by_hand(state_dict: dict[str, Tensor], text: str) -> float:
    """The published network of one sequence, in numpy, letter by letter."""
    w = {k: v.double().numpy() for k, v in state_dict.items()}
    x = np.zeros((len(text), 20))
    x[np.arange(len(text)), [GGS_LETTERS.index(c) for c in text]] = 1
    windows = []
    for start in range(len(text) - 4):
        h = np.einsum("ock,kc->o", w["encoder.weight"], x[start : start + 5]) + w["encoder.bias"]
        h = w["embedding.layer.weight"] @ h + w["embedding.layer.bias"]
        windows.append(np.maximum(h, 0))
    return float(w["decoder.weight"][0] @ np.max(windows, 0) + w["decoder.bias"][0])


def random_oracle() -> GGSOracle:
    torch.manual_seed(0)
    order = torch.tensor([PROTEIN.letters.index(c) for c in GGS_LETTERS])
    return GGSOracle("random", GGSNetwork(width=6).requires_grad_(False), order)


def test_the_network_is_that_of_ggs() -> None:
    oracle, some = random_oracle(), proteins(4)
    expected = [by_hand(oracle.net.state_dict(), text) for text in some.strings()]
    found = predict_sequences(oracle, some)
    assert np.allclose(found[:, 0], expected, atol=1e-5)
    assert np.allclose(found[:, 1], np.asarray(expected) / 19.536, atol=1e-6)
    wrong = GGSOracle("wrong", oracle.net, torch.arange(20))  # our order, not that of the file
    assert np.abs(predict_sequences(wrong, some)[:, 0] - expected).max() > 1e-2


def test_the_network_is_independent_of_padding() -> None:
    oracle = random_oracle()
    texts = ["ACDEFGHIKL", "MNPQRST", "ACDEF"]
    tokens, mask = dense(Sequences.from_strings(texts, PROTEIN))
    found = oracle(torch.where(mask, tokens, 7), mask)[:, 0]
    expected = [by_hand(oracle.net.state_dict(), text) for text in texts]
    assert np.allclose(found.numpy(), expected, atol=1e-5)
    with pytest.raises(ArgumentError, match="windows of 5"):
        oracle(tokens[:, :4])


def test_checkpoints_are_read_without_running_them(tmp_path: Path) -> None:
    net = random_oracle().net
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    with pytest.raises(CheckpointError, match="cannot read"):
        ggs_oracle(tmp_path / "text.ckpt")
    with pytest.raises(CheckpointError, match="cannot read"):
        ggs_oracle(tmp_path / "missing.ckpt")
    torch.save({"state_dict": net.state_dict()}, tmp_path / "small.ckpt")
    with pytest.raises(CheckpointError, match="another network"):
        ggs_oracle(tmp_path / "small.ckpt")
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, (str(marker),)

    torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match="cannot read"):
        load_oracle(tmp_path / "evil.ckpt")
    assert not marker.exists()


@cache
def measured() -> tuple[Sequences, np.ndarray]:
    lines = (ROOT / "ground_truth.csv").read_text().split()[1:]
    texts, scores = zip(*(line.split(",") for line in lines), strict=True)
    return Sequences.from_strings(texts, PROTEIN), np.asarray(scores, float)


# Pearson of an independent reading of the files, in another order of letters, on all 44,128.
PUBLIC = {"cnn_oracle": 0.9465, "medium_unsmoothed_predictor": 0.600}
PUBLIC |= {"hard_unsmoothed_predictor": 0.650, "medium_smoothed_predictor": 0.354}


@public
@pytest.mark.parametrize("name", PUBLIC)
def test_public_oracles_follow_the_measurements(name: str) -> None:
    sequences, truth = measured()
    assert len(sequences) == 44_128
    assert truth.max() == pytest.approx(19.536, abs=0.01)
    part = np.arange(0, 44_128, 32)
    found = predict_sequences(load_oracle(ROOT / f"aav_{name}.ckpt"), sequences[part])
    assert pearson(found[:, 0], truth[part]) == pytest.approx(PUBLIC[name], abs=0.06)
    assert found[:, 1] == pytest.approx(found[:, 0] / 19.536, abs=1e-6)


@public
@pytest.mark.slow
def test_the_public_oracle_on_all_measurements() -> None:
    sequences, truth = measured()
    found = predict_sequences(load_oracle(ROOT / "aav_cnn_oracle.ckpt"), sequences)
    assert pearson(found[:, 0], truth) == pytest.approx(0.9465, abs=0.0005)


@public
def test_the_public_oracle_is_a_differentiable_reward() -> None:
    reward = OracleReward(ROOT / "aav_cnn_oracle.ckpt", "normalised", alphabet=PROTEIN)
    assert isinstance(reward.predictor, GGSOracle)
    reward.predictor.net.double()
    tokens, _ = dense(proteins(3))
    weights = F.one_hot(tokens, 21).double().requires_grad_()
    (gradient,) = torch.autograd.grad(reward(state(weights)).sum(), weights)
    # against a finite difference along a direction, so short that no maximum changes hands
    step = torch.zeros_like(weights)
    step[0, 3, :20] = torch.linspace(-1, 1, 20, dtype=torch.float64) * 1e-6
    with torch.no_grad():
        up, down = (reward(state(weights + s * step)).sum() for s in (1, -1))
    assert float(up - down) / 2 == pytest.approx(float((gradient * step).sum()), rel=1e-4)
    assert torch.equal(reward(state(tokens)), reward(state(weights)).detach())


# -- scores ------------------------------------------------------------------------------------


def test_plain_scores_by_hand() -> None:
    assert gc("GCat") == 0.5
    assert length("ACGT") == 4
    assert longest_run("AACCCG") == 3
    assert longest_run("") == 0
    assert similarity("ACGT", "ACGT") == 1
    assert similarity("ACGT", "ACG") == 0.75
    with pytest.raises(ArgumentError, match="empty"):
        gc("")


IUPAC = ["TATAWAW", "N", "RY", "ACGT", "CAN", "BDHV", "SSKM"]


@pytest.mark.parametrize("pattern", IUPAC)
@pytest.mark.parametrize("strands", [False, True])
def test_motifs_are_those_of_biopython(pattern: str, strands: bool) -> None:
    utils = pytest.importorskip("Bio.SeqUtils")
    seq = pytest.importorskip("Bio.Seq")
    rng = np.random.default_rng(5)
    texts = ["".join(rng.choice(list("ACGT"), 60, p=[0.4, 0.1, 0.1, 0.4])) for _ in range(20)]
    texts[0] = "GG" + pattern.replace("W", "A").replace("N", "T")[:1] + "TATAAAATATATAT"
    count = Motif(pattern, DNA, count=True, strands=strands)
    present = Motif(pattern, DNA, strands=strands)
    for text in texts:
        places = set(utils.nt_search(text, pattern)[1:])
        if strands:
            other = str(seq.Seq(pattern).reverse_complement())
            places |= set(utils.nt_search(text, other)[1:])
        assert count(text) == len(places)
        assert present(text.lower()) == float(bool(places))


def test_motifs_of_proteins_and_rna() -> None:
    assert Motif("NXT", PROTEIN, count=True)("ANATNNTT") == 3
    assert Motif("BX", PROTEIN)("AD") == 0
    assert Motif("AUG", RNA, strands=True)("CAU") == 1
    assert Motif("AA", DNA, count=True)("AAAA") == 3
    assert Motif("AT", DNA, count=True, strands=True)("ATAT") == 2  # its own reverse complement
    with pytest.raises(ArgumentError, match="'J'"):
        Motif("AJ", DNA)
    with pytest.raises(ArgumentError, match="no letter in it"):
        Motif("", DNA)
    with pytest.raises(ArgumentError, match="no other strand"):
        Motif("AC", PROTEIN, strands=True)


@pytest.mark.parametrize(
    ("spec", "text", "expected"),
    [
        ("gc", "GGAA", 0.5),
        ("2*gc", "GGAA", 1.0),
        ("-1*run:3", "AAAAAC", -2.0),
        ("run", "AAAAAC", 5.0),
        ("motif:TATAWA", "GTATATA", 1.0),
        ("count:TA", "GTATATA", 3.0),
        ("motif:GGG+rc", "ACCCA", 1.0),
        ("motif:GGG", "ACCCA", 0.0),
        ("similar:ACGT", "ACGA", 0.75),
        ("count:TA:0..1", "GTATATA", -2.0),
        ("gc:0.4..0.6", "GGGG", -0.4),
        ("length", "ACG", 3.0),
    ],
)
def test_scores_as_they_are_written(spec: str, text: str, expected: float) -> None:
    reward = parse_rewards([spec], SequenceScores(DNA), lambda s: [text])
    found = reward(state(torch.zeros(1, 2, dtype=torch.int64)))
    assert float(found) == pytest.approx(expected)


def test_an_ehrlich_function_by_name() -> None:
    from graphdiff.sequence.ehrlich import Ehrlich

    score = SequenceScores(DNA)["ehrlich:24-2-4-3"]
    assert score(Ehrlich.draw(DNA, 24, motifs=2, motif_length=4, seed=3).optimum()) == 1
    assert score("A" * 24) < 1


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("run:x", "number of letters"),
        ("motif:JJ", "'J'"),
        ("similar:", "empty"),
        ("ehrlich:3", "seed"),
    ],
)
def test_malformed_scores_say_what_is_wrong(name: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        parse_rewards([name], SequenceScores(DNA), lambda s: [""])


def test_unknown_scores_are_listed() -> None:
    scores = SequenceScores(PROTEIN)
    assert "gc" not in scores
    assert len(scores) == len(list(scores))
    for name in scores:
        assert math.isfinite(scores[name]("A" * 32))
    with pytest.raises(ArgumentError, match=r"unknown reward 'gc'.*motif:ACDE"):
        parse_rewards(["gc"], scores, lambda s: [""])
    with pytest.raises(KeyError):
        scores["motive:ACD"]


def test_scores_travel_to_other_processes() -> None:
    import pickle

    for name in SequenceScores(DNA):
        score = SequenceScores(DNA)[name]
        again = pickle.loads(pickle.dumps(score))
        assert again("ACGTACGTACGTACGTACGTACGTACGTACGT") == score("ACGT" * 8)


# -- GGS metrics -------------------------------------------------------------------------------


def test_ggs_metrics_by_hand() -> None:
    pytest.importorskip("rapidfuzz")
    oracle = random_oracle()
    pool = proteins(9, size=8)
    texts = pool.strings()
    samples = Sequences.from_strings([*texts, texts[0], texts[1]], PROTEIN)
    given = proteins(5, size=7, seed=4)
    best = sorted(texts, key=lambda t: -by_hand(oracle.net.state_dict(), t))[:4]
    report = ggs_metrics(samples, oracle, given, predictor=oracle, top=4)
    fitness = [by_hand(oracle.net.state_dict(), t) / 19.536 for t in best]
    assert report["fitness"].value == pytest.approx(float(np.median(fitness)), abs=1e-6)
    assert report["fitness_max"].value == pytest.approx(max(fitness), abs=1e-6)
    pairs = [edit(a, b) for i, a in enumerate(best) for b in best[:i]]
    assert report["diversity"].value == pytest.approx(np.mean(pairs))
    near = [min(edit(a, b) for b in given.strings()) for a in best]
    assert report["novelty"].value == pytest.approx(float(np.median(near)))
    assert report["unique"].value == pytest.approx(9 / 11)
    assert not report.warnings
    few = ggs_metrics(samples, oracle, given)
    assert few["fitness"].n == 9
    assert "only 9 different" in few.warnings[0]


def edit(a: str, b: str) -> int:
    """Levenshtein distance by its recursion."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]


def test_ggs_metrics_refuse_what_they_cannot_judge(folder: Path) -> None:
    oracle, some = random_oracle(), proteins(3, size=8)
    with pytest.raises(ArgumentError, match="not 'tm'"):
        ggs_metrics(some, oracle, some, target="tm")
    with pytest.raises(ArgumentError, match="1 different"):
        ggs_metrics(some[[0, 0]], oracle, some)
    with pytest.raises(ArgumentError, match="reads dna"):
        ggs_metrics(some, load_oracle(folder), some, target="gc")
