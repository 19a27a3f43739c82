"""Property heads: networks, tasks, tables and scores; what must be refused says why."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from graphdiff.cli.app import app
from graphdiff.config import named_configs, resolve_config, split_config
from graphdiff.core.errors import ArgumentError, CheckpointError, ConfigError, DataError
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.model import load
from graphdiff.sequence.alphabet import DNA, PROTEIN, Alphabet
from graphdiff.sequence.dataset import SequenceDataset
from graphdiff.sequence.nets_regressor import PropertyNetwork, class_weights, reverse_complement
from graphdiff.sequence.oracles import Regressor, load_oracle, predict_sequences
from graphdiff.sequence.regressor import RegressorTask, other_strand, predict
from graphdiff.sequence.regressor_config import TargetData
from graphdiff.sequence.regressor_data import RegressorData, find_dataset, read_table
from graphdiff.sequence.regressor_score import (
    evaluate_predictor,
    pearson,
    rmse,
    score_predictions,
    spearman,
)
from graphdiff.sequence.sequences import Sequences
from graphdiff.task import task_class
from graphdiff.train.config import TrainConfig
from graphdiff.train.trainer import Trainer

SMALL: dict[str, Any] = {"width": 12, "kernel": 5, "dilations": (1, 2), "hidden": 16}


def network(classes: int = 4, **changes: Any) -> PropertyNetwork:
    torch.manual_seed(3)
    net = PropertyNetwork(classes, (1.0, -2.0), (2.0, 0.5), **{**SMALL, "length": 12, **changes})
    return net.double().eval()


def ask(net: PropertyNetwork, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    found = net({}, torch.ones(1), {} if mask is None else {"tokens": mask}, tokens)
    return found["y"]


def random_tokens(b: int, n: int, classes: int = 4, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, classes, (b, n)))


def words(n: int, length: int = 12, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("ACGT"), length)) for _ in range(n)]


def gc_set(n: int = 256, seed: int = 0) -> SequenceDataset:
    """Words whose values are known functions of the letters; a third lacks the second."""
    sequences = Sequences.from_strings(words(n, seed=seed), DNA)
    texts = sequences.strings()
    gc = np.asarray([sum(c in "GC" for c in t) for t in texts], np.float64)
    first = np.asarray([10.0 + 3 * (t[0] == "A") for t in texts])
    first[::3] = np.nan
    index = np.arange(n)
    splits = {"train": index[: n * 3 // 4], "test": index[n * 3 // 4 :]}
    return SequenceDataset("words", sequences, splits, {"gc": gc, "first": first})


def config(**changes: Any) -> dict[str, Any]:
    data = {"name": "words", "targets": ["gc", "first"], **changes.pop("data", {})}
    return {"kind": "regressor", "data": data, "model": SMALL, **changes}


def task(**changes: Any) -> RegressorTask:
    return RegressorTask.from_config(json.loads(json.dumps(config(**changes))))


def trained(out: Path, steps: int = 60, **changes: Any) -> Path:
    made = task(**changes)
    data = RegressorData(gc_set(), made.config.data)
    how = TrainConfig(steps=steps, batch_size=64, lr=5e-3, ema=None, log_every=10)
    return Trainer(made, how, out, data).run().model


# -- networks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize("strands", [True, False])
def test_padding_changes_nothing(positions: bool, strands: bool) -> None:
    net = network(length=12 if positions else 0, strands=strands)
    short = random_tokens(1, 7)
    padded = torch.cat([short, random_tokens(1, 5, seed=9)], dim=1)
    mask = torch.arange(12)[None] < 7
    alone = ask(net, short)
    assert torch.allclose(ask(net, padded, mask), alone, rtol=0, atol=1e-12)
    # and without the mask the letters behind are read
    assert (ask(net, padded) - alone).abs().max() > 1e-4


def test_classes_and_weights_agree_and_the_mask_column_is_dropped() -> None:
    net, tokens = network(), random_tokens(3, 9)
    one_hot = torch.nn.functional.one_hot(tokens, 4).double()
    wide = torch.nn.functional.one_hot(tokens, 5).double()
    expected = ask(net, tokens)
    assert torch.equal(ask(net, one_hot), expected)
    assert torch.equal(ask(net, wide), expected)
    hidden = tokens.clone()
    hidden[0, 4] = 4  # the mask class of an absorbing process: nothing is known there
    wide[0, 4] = torch.tensor([0, 0, 0, 0, 1.0])
    assert torch.equal(ask(net, hidden), ask(net, wide))
    assert not torch.allclose(ask(net, hidden)[0], expected[0])


@pytest.mark.parametrize("strands", [True, False])
def test_gradient_of_weights(strands: bool) -> None:
    net = network(strands=strands)
    weights = torch.nn.functional.one_hot(random_tokens(2, 6), 5).double()
    weights = (0.7 * weights + 0.06).requires_grad_()
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    assert torch.autograd.gradcheck(lambda w: ask(net, w, mask), (weights,))
    (gradient,) = torch.autograd.grad(ask(net, weights, mask).sum(), weights)
    assert (gradient[0, :, :4] != 0).all()
    assert (gradient[..., 4] == 0).all()
    assert (gradient[1, 4:] == 0).all()


def test_both_strands_have_equal_properties() -> None:
    tokens = random_tokens(4, 11)
    other = 3 - tokens.flip(1)
    both, one = network(strands=True), network(strands=False)
    assert torch.allclose(ask(both, tokens), ask(both, other), rtol=0, atol=1e-12)
    assert (ask(one, tokens) - ask(one, other)).abs().max() > 1e-4
    mean = (ask(one, tokens) + ask(one, other)) / 2
    assert torch.allclose(ask(both, tokens), mean, rtol=0, atol=1e-12)


def test_reverse_complement_is_that_of_biopython() -> None:
    seq = pytest.importorskip("Bio.Seq")
    text = "ACCGTTA"
    tokens = torch.from_numpy(DNA.encode(text).astype(np.int64))[None]
    expected = str(seq.Seq(text).reverse_complement())
    weights = torch.nn.functional.one_hot(tokens, 4)
    found, _ = reverse_complement(weights, torch.ones(1, 7, dtype=torch.bool))
    assert DNA.decode(found.argmax(-1)[0].numpy()) == expected
    padded = torch.cat([tokens, torch.zeros(1, 2, dtype=torch.int64)], 1).repeat(2, 1)
    mask = (torch.arange(9) < 7).repeat(2, 1)
    turned, there = other_strand(padded, mask, torch.tensor([True, False]))
    assert DNA.decode(turned[0][there[0]].numpy()) == expected
    assert torch.equal(turned[1], padded[1])
    assert there.sum(1).tolist() == [7, 7]


def test_positions_are_known_only_if_asked_for() -> None:
    # A letter far from both ends, moved: only a network with positions can tell.
    def at(k: int) -> Tensor:
        tokens = torch.zeros(1, 40, dtype=torch.int64)
        tokens[0, k] = 2
        return tokens

    with_, without = network(length=40), network(length=0)
    assert (ask(with_, at(19)) - ask(with_, at(21))).abs().max() > 1e-5
    assert torch.allclose(ask(without, at(19)), ask(without, at(21)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("tokens", "match"),
    [
        (torch.full((1, 6), 5), "expected 0 to 3"),
        (torch.zeros(1, 6, 7), "7 columns, expected 4"),
        (torch.zeros(1, 6, dtype=torch.float32), "expected int64"),
        (torch.zeros(1, 13, dtype=torch.int64), "more than the 12"),
    ],
)
def test_wrong_tokens_are_refused(tokens: Tensor, match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        ask(network().float(), tokens)


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(ArgumentError, match="mask has shape"):
        class_weights(random_tokens(2, 5), 4, torch.ones(2, 6, dtype=torch.bool))


# -- data --------------------------------------------------------------------------------------


def test_data_leave_out_what_has_no_value() -> None:
    data = gc_set(30)
    some = RegressorData(data, TargetData("words", ("first",)))
    known = np.isfinite(data.values["first"][data.splits["train"]])
    assert len(some) == known.sum() < len(data.splits["train"])
    assert some.facts.length == 12
    assert some.facts.alphabet == "dna"
    both = RegressorData(data, TargetData("words", ("gc", "first")))
    assert len(both) == len(data.splits["train"])
    assert both.facts.mean == pytest.approx(np.nanmean(both.values, 0).tolist())
    assert both.facts.std == pytest.approx(np.nanstd(both.values, 0).tolist())
    batch = both.batch(torch.tensor([3, 0]))
    assert batch["tokens"].shape == (2, 12)
    assert np.array_equal(batch["y"].numpy()[1], both.values[0].astype(np.float32), equal_nan=True)
    shuffled = RegressorData(
        replace(data, values={**data.values, "gc": data.values["gc"][::-1].copy()}),
        TargetData("words", ("gc", "first")),
    )
    assert shuffled.fingerprint()["sha256"] != both.fingerprint()["sha256"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"targets": ("tm",)}, "no values 'tm'"),
        ({"split": "valid"}, "no split 'valid'"),
        ({"length": 5}, "data.length is 5"),
    ],
)
def test_wrong_data_are_refused(change: dict[str, Any], match: str) -> None:
    with pytest.raises(DataError, match=match):
        RegressorData(gc_set(), replace(TargetData("words", ("gc",)), **change))


def test_a_constant_target_is_refused() -> None:
    data = gc_set()
    flat = replace(data, values={"gc": np.ones(len(data.sequences))})
    with pytest.raises(DataError, match="192 values, all equal"):
        RegressorData(flat, TargetData("words", ("gc",)))


CSV = "sequence,tm,note,split\nACGT,1.5,x,train\nacga,,y,test\nTTTT,nan,z,train\nGG,-2,w,train\n"


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(CSV)
    found = read_table(path, ["tm"], "dna")
    assert found.sequences.strings() == ["ACGT", "ACGA", "TTTT", "GG"]
    assert found.splits["train"].tolist() == [0, 2, 3]
    assert np.array_equal(found.values["tm"], [1.5, np.nan, np.nan, -2], equal_nan=True)
    (tmp_path / "own.tsv").write_text("tm\tsequence\n3\tACG\n4\tAAA\n")
    tabs = find_dataset(TargetData(str(tmp_path / "own.tsv"), ("tm",), alphabet="dna"))
    assert tabs.splits["train"].tolist() == [0, 1]
    (tmp_path / "own.fa").write_text(">a tm=1e1 x=2\nAC\nGT\n>b\nACC\n")
    fasta = find_dataset(TargetData(str(tmp_path / "own.fa"), ("tm",), alphabet="dna"))
    assert fasta.sequences.strings() == ["ACGT", "ACC"]
    assert np.array_equal(fasta.values["tm"], [10, np.nan], equal_nan=True)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("sequence,gc\nAC,1\n", "no column 'tm'"),
        ("sequence,tm\nAC,warm\n", r"line 2 of .*'warm'"),
        ("sequence,tm\nAC,inf\n", r"line 2 of .*'inf'"),
        ("sequence,tm\n,1\n", "line 2 of .* has no sequence"),
        ("sequence,tm\nAC,1\nAXC,2\n", "line 3 of .*'X'"),
        ("sequence,tm,split\nAC,1,\n", "empty split"),
        ("sequence,tm\n", "holds no sequences"),
        ("", "no column 'sequence', 'tm'"),
    ],
)
def test_a_wrong_table_names_the_line(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=match):
        read_table(path, ["tm"], "dna")


def test_tables_and_graphs_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.alphabet is not given"):
        find_dataset(TargetData("own.csv", ("tm",)))
    with pytest.raises(DataError, match="cannot read the table"):
        find_dataset(TargetData(str(tmp_path / "no.csv"), ("tm",), alphabet="dna"))


# -- task --------------------------------------------------------------------------------------


def prepared(**changes: Any) -> tuple[RegressorTask, RegressorData]:
    made = task(**changes)
    data = RegressorData(gc_set(), made.config.data)
    return made.prepared(data), data


def test_the_prepared_config_survives_the_card() -> None:
    made, _ = prepared()
    again = RegressorTask.from_config(json.loads(json.dumps(made.to_config())))
    assert again == made
    a, b = made.build().state_dict(), again.build().state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert task_class("regressor") is RegressorTask


@pytest.mark.parametrize("kind", ["mse", "huber"])
def test_loss_by_hand(kind: str) -> None:
    made, data = prepared(loss={"kind": kind, "delta": 0.4})
    denoiser = made.build().eval()
    clean = data.batch(torch.arange(9))
    found = made.losses(denoiser, clean, Key(0, clean.ids, step=1))
    guess = predict(denoiser, clean["tokens"], clean.masks["tokens"], 2).detach().numpy()
    y = clean["y"].numpy()
    for k, name in enumerate(("gc", "first")):
        for i in range(9):
            u = (guess[i, k] - y[i, k]) / made.config.data.std[k]
            if math.isnan(y[i, k]):
                expected = 0.0
            elif kind == "mse":
                expected = u * u
            else:
                expected = u * u / 2 if abs(u) < 0.4 else 0.4 * (abs(u) - 0.2)
            assert found[name][i].item() == pytest.approx(expected, rel=1e-4, abs=1e-7)
    torch.stack([v.sum() for v in found.values()]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in denoiser.parameters())


def test_reversed_examples_have_the_loss_of_their_complement() -> None:
    made, data = prepared(data={"reverse": True})
    denoiser = made.build().eval()
    clean = data.batch(torch.arange(40))
    key = Key(0, clean.ids, step=1)
    found = made.losses(denoiser, clean, key)["gc"]
    plain = replace(made.config, data=replace(made.config.data, reverse=False))
    forward = RegressorTask(plain).losses(denoiser, clean, key)["gc"]
    turned = clean.replace(tokens=3 - clean["tokens"].flip(1))
    backward = RegressorTask(plain).losses(denoiser, turned, key)["gc"]
    is_forward, is_backward = (torch.isclose(found, x, atol=1e-6) for x in (forward, backward))
    assert (is_forward | is_backward).all()
    assert 10 <= int(is_backward.sum()) <= 30


def test_training_learns_and_the_folder_predicts(tmp_path: Path) -> None:
    folder = trained(tmp_path / "run")
    oracle = load_oracle(folder)
    report = evaluate_predictor(oracle, gc_set(), "test", draws=100)
    assert report["pearson_gc"].value > 0.8
    assert report["pearson_first"].value > 0.6
    untrained = load_oracle(trained(tmp_path / "short", steps=1))
    assert abs(evaluate_predictor(untrained, gc_set(), "test", draws=0)["pearson_gc"].value) < 0.6
    values = predict_sequences(oracle, gc_set().sequences, batch=7)
    assert np.allclose(values, predict_sequences(oracle, gc_set().sequences), rtol=0, atol=1e-4)
    assert abs(values[:, 1].mean() - 10.75) < 0.5  # in units of the measurement


def test_a_regressor_starts_from_another(tmp_path: Path) -> None:
    first = trained(tmp_path / "a", steps=5)
    made, data = prepared()
    trainer = Trainer(made, TrainConfig(steps=1, batch_size=8), tmp_path / "b", data, init=first)
    weights = load(first, which="best").denoiser.state_dict()
    found = trainer._live.denoiser.state_dict()
    assert all(torch.equal(found[k], weights[k]) for k in weights)


def test_train_by_command(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    texts = words(40)
    lines = [f"{t},{sum(c in 'GC' for c in t)}" for t in texts]
    (tmp_path / "own.csv").write_text("sequence,gc\n" + "\n".join(lines) + "\n")
    toml = ['kind = "regressor"', "[data]", f'name = "{tmp_path / "own.csv"}"', 'alphabet = "dna"']
    toml += ['targets = ["gc"]', "[model]", "width = 8", "dilations = [1]", "hidden = 8"]
    toml += ["[train]", "steps = 3", "batch_size = 16"]
    (tmp_path / "own.toml").write_text("\n".join(toml))
    out = tmp_path / "run"
    result = CliRunner().invoke(app, ["train", str(tmp_path / "own.toml"), "--out", str(out)])
    assert result.exit_code == 0, result.output
    card = json.loads((load(out).path / "card.json").read_text())
    assert card["data"]["n"] == 40
    assert card["data"]["targets"] == ["gc"]
    oracle = load_oracle(out)
    assert oracle.targets == ("gc",)
    assert oracle(random_tokens(2, 12)).shape == (2, 1)


def test_a_regressor_is_not_sampled(tmp_path: Path) -> None:
    model = load(trained(tmp_path / "run", steps=1))
    with pytest.raises(ConfigError, match="cannot be sampled"):
        model.sample(2)
    made = model.task
    ids = torch.arange(1)
    for call in (
        made.sampler,
        lambda: made.sizes(ids, 0),
        lambda: made.template(ids, ids, pad=1),
        lambda: made.decode(State({}, {}, ids)),
        lambda: made.join([], []),
        lambda: made.write(None, tmp_path),
        lambda: made.convert(None, "str"),
        lambda: made.draw(None, tmp_path),
    ):
        with pytest.raises(ConfigError, match="cannot be sampled"):
            call()


def test_a_generator_is_no_oracle() -> None:
    with pytest.raises(CheckpointError, match="'defog'"):
        Regressor(load("defog-comm20"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"data": {"targets": []}}, r"data\.targets"),
        ({"data": {"targets": ["gc", "gc"]}}, r"data\.targets"),
        ({"data": {"std": [1.0, 0.0], "mean": [0.0, 0.0]}}, r"data\.std.*positive"),
        ({"data": {"std": [1.0, 1.0]}}, r"data\.mean.*as many"),
        ({"data": {"alphabet": "protein", "reverse": True}}, "no other strand"),
        ({"data": {"alphabet": "xna"}}, r"data\.alphabet"),
        ({"model": {"kernel": 4}}, r"model\.kernel.*odd"),
        ({"model": {"dropout": 1.0}}, r"model\.dropout"),
        ({"model": {"depth": 3}}, "unknown key"),
        ({"loss": {"delta": 0.0}}, r"loss\.delta"),
    ],
)
def test_wrong_configs_are_refused(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        task(**change)


def test_an_unprepared_regressor_says_so() -> None:
    with pytest.raises(ConfigError, match="found in its training set"):
        task().build()


@pytest.mark.parametrize("name", [n for n in named_configs() if n.startswith("regressor-")])
def test_named_configs(name: str) -> None:
    about, train = split_config(resolve_config(name))
    made = RegressorTask.from_config(about)
    TrainConfig.from_config(train)
    facts = {"alphabet": "dna", "length": 80}
    zeros, ones = (tuple([v] * len(made.config.data.targets)) for v in (0.0, 1.0))
    full = replace(made.config, data=replace(made.config.data, **facts, mean=zeros, std=ones))
    small, large = (RegressorTask(full).memory(b, training=True) for b in (1, 101))
    assert small is not None
    assert large is not None
    assert 1e5 < (large - small) / 100 < 1e7
    state = torch.random.get_rng_state()
    RegressorTask(full).memory(1, training=False)
    assert torch.equal(state, torch.random.get_rng_state())


# -- scores ------------------------------------------------------------------------------------


def test_scores_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, 200).astype(float)  # with ties
    y = x + rng.normal(0, 3, 200)
    assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert rmse(x, y) == pytest.approx(np.sqrt(np.mean((x - y) ** 2)), abs=1e-12)
    assert math.isnan(pearson(np.ones(5), y[:5]))


def test_intervals_cover_the_truth() -> None:
    # Bivariate normal with correlation 0.6: a 95 % interval misses it in about 3 of 60 sets.
    rng, missed = np.random.default_rng(1), 0
    for _ in range(60):
        x = rng.normal(size=80)
        y = 0.6 * x + 0.8 * rng.normal(size=80)
        low, high = score_predictions(x, y, draws=60)[0].interval or (0.0, 0.0)
        missed += not low <= 0.6 <= high
    assert missed <= 11  # P(Binomial(60, .07) > 11) < 0.1 %


def test_families_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    x, y = np.repeat(rng.normal(size=30), 20), np.repeat(rng.normal(size=30), 20)
    alone = score_predictions(x, y, draws=300)[0]
    together = score_predictions(x, y, groups=np.repeat(np.arange(30), 20), draws=300)[0]
    assert alone.value == together.value
    widths = [m.interval[1] - m.interval[0] for m in (alone, together) if m.interval]
    assert widths[1] / widths[0] == pytest.approx(math.sqrt(20), rel=0.3)
    assert together.population == "30 families"


def test_missing_measurements_are_left_out() -> None:
    x, y = np.arange(6.0), np.asarray([0, 1, np.nan, 3, np.nan, 5])
    found = {m.name: m for m in score_predictions(x, y, suffix="tm", draws=0)}
    assert found["pearson_tm"].value == pytest.approx(1)
    assert found["rmse_tm"].n == 4
    assert found["rmse_tm"].interval is None
    with pytest.raises(ArgumentError, match="only 2 of 3"):
        score_predictions(x[:3], y[:3])
    with pytest.raises(ArgumentError, match="one shape"):
        score_predictions(x, y[:3])


def test_scores_need_a_shared_target_and_alphabet(tmp_path: Path) -> None:
    oracle = load_oracle(trained(tmp_path / "run", steps=1))
    data = gc_set()
    with pytest.raises(ArgumentError, match="has values of tm"):
        evaluate_predictor(oracle, replace(data, values={"tm": data.values["gc"]}))
    proteins = Sequences.from_strings(["ACDEF"], PROTEIN)
    with pytest.raises(ArgumentError, match="reads dna"):
        predict_sequences(oracle, proteins)
    other = Sequences.from_strings(["ACGT"], Alphabet("dna", "TGCA"))
    with pytest.raises(ArgumentError, match="TGCA"):
        predict_sequences(oracle, other)
