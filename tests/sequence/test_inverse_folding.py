"""Inverse folding as a task: requests, chains, scores, training, files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from folding_support import TS50, WEIGHTS, backbone, needs_data, shaken, write_helices
from torch import Tensor

import graphdiff
from graphdiff.config import resolve_config, split_config
from graphdiff.core.denoiser import Denoiser
from graphdiff.core.errors import ArgumentError, ConfigError, DataError
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.guide import Guide
from graphdiff.model import Model
from graphdiff.sequence.inverse_folding import BackboneSet, InverseFoldingTask
from graphdiff.sequence.inverse_folding_chain import score_designs, structure_likelihood
from graphdiff.sequence.inverse_folding_output import Designs
from graphdiff.sequence.nets.folding import AMINO, FoldingNet
from graphdiff.sequence.nets.mpnn import MPNN
from graphdiff.sequence.structure import Backbone, save_backbones
from graphdiff.sequence.structure_io import read_json, read_structure
from graphdiff.train import TrainConfig, Trainer
from graphdiff.train.checkpoint import Card

SHAPE = {
    "hidden": 16, "encoder_layers": 1, "decoder_layers": 2, "neighbours": 6, "dropout": 0.0,
}  # fmt: skip


def task(decoder: str = "full", **sample: Any) -> InverseFoldingTask:
    return InverseFoldingTask.from_config(
        {
            "data": {"name": "none"},
            "model": {"decoder": decoder, **SHAPE},
            "sample": {"steps": 4, "temperature": 1.0, **sample},
        }
    )


def model(decoder: str = "full", strong: float = 1.0, **sample: Any) -> Model:
    """A random network whose residues depend on each other."""
    own = task(decoder, **sample)
    denoiser = own.build()
    shaken(denoiser, 1)
    net = denoiser.net
    assert isinstance(net, FoldingNet)
    with torch.no_grad():
        net.mpnn.letters.weight.mul_(strong)
        for layer in net.mpnn.layers:
            layer.message.third.weight.mul_(strong)
    denoiser.eval().requires_grad_(False)
    return Model("random", own, denoiser, Card(kind=own.kind, task=own.to_config()))


DIMER = backbone("ACDEFGHIKLMN", seed=5, chains=2, name="dimer")


# -- requests -------------------------------------------------------------------------------------


def template(cond: Mapping[str, Any], n: int = 2) -> State:
    own, ids = task(), torch.arange(n)
    sizes = own.sizes(ids, 0, **cond)
    return own.template(ids, sizes, pad=int(sizes.max()), **cond)


def test_what_is_designed() -> None:
    free = (template({"backbone": DIMER})["given"][0] < 0).nonzero().squeeze(1)
    assert free.tolist() == list(range(12))
    given = template({"backbone": DIMER, "design": "B", "fixed": "B2-4,B6"})["given"][0]
    assert (given < 0).nonzero().squeeze(1).tolist() == [6, 10]
    assert given[7].item() == DIMER.tokens[7]


def test_ties_are_fewer_tokens() -> None:
    state = template({"backbone": DIMER, "tie": "A=B"})
    assert state["tokens"].shape == (2, 6)
    assert state["site"][0].tolist() == [0, 1, 2, 3, 4, 5] * 2
    state = template({"backbone": DIMER, "tie": "A1-2=B3-4; A6=B1", "fixed": "A1"})
    assert state["tokens"].shape == (2, 9)
    assert state["site"][0, 8] == state["site"][0, 0]
    assert state["given"][0, 8] == DIMER.tokens[0]  # tied to a fixed residue


@pytest.mark.parametrize(
    ("cond", "problem"),
    [
        ({"tie": "A"}, "at least two parts"),
        ({"tie": "A1-3=B1-2"}, "unequal sizes"),
        ({"tie": "A=B", "fixed": "A1,B1"}, "keep different letters: A1, H1"),
        ({"fixed": "A,B"}, "nothing of 'dimer' is left to design"),
        ({"fixed": "A99"}, "has no residue 99; it has numbers 1 to 6"),
        ({"design": "C"}, "has the chains A, B"),
        ({"omit": "Z"}, "'Z' is no amino acid"),
        ({"omit": "ACDEFGHIKLMNPQRSTVWY"}, "leaves no letter"),
        ({"temperature": -1.0}, "temperature is -1.0"),
    ],
)
def test_wrong_requests_say_what_is_wrong(cond: dict[str, Any], problem: str) -> None:
    with pytest.raises(ArgumentError, match=problem):
        template({"backbone": DIMER, **cond})


def test_unknown_conditions_and_no_backbone() -> None:
    with pytest.raises(ConfigError, match="takes backbone, chains, design"):
        template({"backbone": DIMER, "charge": 2})
    with pytest.raises(ConfigError, match="which backbone"):
        template({})
    with pytest.raises(DataError, match="no structure file"):
        template({"backbone": "nowhere.pdb"})


def test_each_sample_may_have_its_own_request(tmp_path: Path) -> None:
    pytest.importorskip("Bio")
    files = [
        str(write_helices(tmp_path / f"{k}.pdb", {"A": "ACDEFGHIKL"[:n]}))
        for k, n in (("long", 10), ("short", 6))
    ]
    found = model().samples(4, cond={"backbone": [*files, *files], "fixed": "A1-2"})
    assert [len(text) for text in found.items] == [10, 6, 10, 6]
    assert all(text.startswith("AC") for text in found.items)
    assert found.raw.names.tolist() == ["long", "short"] * 2
    with pytest.raises(ArgumentError, match="'Z1': 'long' has the chains A"):
        model().samples(1, cond={"backbone": files[0], "fixed": "Z1"})
    with pytest.raises(DataError, match="has no chain B"):
        model().samples(1, cond={"backbone": files[0], "chains": "B"})


def test_several_backbones_take_turns(tmp_path: Path) -> None:
    sets = [backbone("ACDE", name="a"), backbone("ACDEFG", name="b")]
    path = save_backbones(tmp_path / "set.npz", sets)
    found = model(backbone=str(path)).samples(3, start=1)
    assert found.raw.names.tolist() == ["b", "a", "b"]


def test_wrong_configs_name_the_key() -> None:
    for config, path in (
        ({"data": {"name": "x", "noise": -1.0}}, r"data\.noise"),
        ({"data": {"name": "x"}, "sample": {"temperature": 1e-6}}, r"sample\.temperature"),
        ({"data": {"name": "x"}, "sample": {"solver": "autoregressive"}}, r"model\.decoder"),
        ({"data": {"name": "x"}, "model": {"widht": 3}}, r"config\.model\.widht: unknown key"),
    ):
        with pytest.raises(ConfigError, match=path):
            InverseFoldingTask.from_config(config)
    with pytest.raises(ConfigError, match="knows eta, score, solver, steps; temperature belongs"):
        task().sampler(temperature=0.5)
    with pytest.raises(ConfigError, match="needs a model with decoder 'causal'"):
        task().sampler(solver="autoregressive")
    with pytest.raises(DataError, match="no backbones 'none'"):
        task().data()


# -- chains ---------------------------------------------------------------------------------------

EVERY = [
    ("full", "first_hitting"), ("full", "confident"), ("full", "ancestral"), ("full", "remdm"),
    ("causal", "first_hitting"), ("causal", "autoregressive"),
]  # fmt: skip


@pytest.mark.parametrize(("decoder", "solver"), EVERY)
def test_designs_keep_what_is_asked(decoder: str, solver: str) -> None:
    cond = {"backbone": DIMER, "tie": "A=B", "fixed": "A2,A3", "omit": "AY", "temperature": 2.0}
    found = model(decoder).samples(20, cond=cond, solver=solver)
    free = set()
    for text in found.items:
        first, second = text.split("/")
        assert first == second
        assert first[1:3] == "CD"
        free |= set(first[0] + first[3:])
    assert len(free) > 8
    assert not free & set("AY")
    designed = found.raw.designed.reshape(20, 12)
    assert (~designed).sum(1).tolist() == [4] * 20
    assert np.isfinite(found.raw.score).all()


@pytest.mark.parametrize(("decoder", "solver"), EVERY)
def test_samples_do_not_depend_on_their_batch(decoder: str, solver: str) -> None:
    own, cond = model(decoder, strong=4.0), {"backbone": DIMER}
    whole = own.samples(6, cond=cond, solver=solver, seed=3)
    parts = own.samples(4, cond=cond, solver=solver, seed=3, start=2, batch_size=3)
    assert whole.items[2:] == parts.items
    np.testing.assert_allclose(whole.raw.score[2:], parts.raw.score, atol=1e-5)
    assert own.samples(6, cond=cond, solver=solver, seed=4).items != whole.items


@pytest.mark.parametrize(("decoder", "solver"), EVERY)
def test_padding_changes_no_sample(decoder: str, solver: str, tmp_path: Path) -> None:
    """Alone, or beside a longer backbone."""
    path = save_backbones(tmp_path / "s.npz", [DIMER, backbone("A" * 13, name="long")])
    alone = save_backbones(tmp_path / "one.npz", [DIMER])
    own = model(decoder, strong=4.0)
    both = own.samples(4, cond={"backbone": str(path)}, solver=solver)
    one = own.samples(4, cond={"backbone": str(alone)}, solver=solver)
    assert both.items[::2] == one.items[::2]


def test_cold_designs_are_the_likeliest_letters() -> None:
    """With every other residue fixed, a design at temperature 0 is the argmax of the network."""
    own = model("causal", strong=4.0)
    cond = {"backbone": DIMER, "design": "A3", "temperature": 0.0}
    found = {
        solver: own.sample(3, cond=cond, solver=solver)
        for solver in ("autoregressive", "first_hitting", "confident")
    }
    state = template(cond, 1)
    tokens = torch.full((1, 12), AMINO)
    told = {k: v for k, v in state.values.items() if k not in ("tokens", "temperature")}
    out = own.denoiser.net({"tokens": tokens}, torch.zeros(1), {}, told)["tokens"]
    letter = "ACDEFGHIKLMNPQRSTVWY"[int(out[0, 2, :AMINO].argmax())]
    for solver, texts in found.items():
        assert texts == [f"AC{letter}EFG/HIKLMN"] * 3, solver


def law_of_pairs(own: Model, state: State) -> Tensor:
    """Exact law ``[2, 2]`` of two residues over the letters A and C, over both orders."""

    def asked(first: int, second: int) -> Tensor:
        tokens = torch.tensor([[first, second]])
        told = {k: v for k, v in state.values.items() if k != "tokens"}
        out = own.denoiser.net({"tokens": tokens}, torch.zeros(1), {}, told)["tokens"]
        return torch.softmax(out[0, :, :AMINO].double(), -1)[:, :2]

    blank = asked(AMINO, AMINO)
    one = torch.stack([blank[0, a] * asked(a, AMINO)[1] for a in range(2)])
    two = torch.stack([blank[1, b] * asked(AMINO, b)[0] for b in range(2)], 1)
    return (one + two) / 2


@pytest.mark.parametrize(
    ("decoder", "solver"),
    [("full", "first_hitting"), ("causal", "first_hitting"), ("causal", "autoregressive")],
)
def test_designs_follow_the_law_of_random_orders(decoder: str, solver: str) -> None:
    """Two residues, two letters: all four frequencies against enumeration, and a mutation."""
    own, count = model(decoder, strong=20.0 if decoder == "causal" else 10.0), 4000
    cond = {"backbone": backbone("AC"), "omit": "DEFGHIKLMNPQRSTVWY"}
    state = template(cond, 1)
    law = law_of_pairs(own, state)
    assert abs(law.sum().item() - 1) < 1e-6
    texts = own.sample(count, cond=cond, solver=solver, steps=2, score=0)
    seen = torch.tensor([[texts.count(a + b) for b in "AC"] for a in "AC"]).double()
    assert seen.sum() == count

    def chi2(law: Tensor) -> float:
        return float(((seen - count * law) ** 2 / (count * law)).sum())

    assert chi2(law) < 16.3  # 0.1 % of chi-squared with 3 degrees
    colder = law**1.2
    assert chi2(colder / colder.sum()) > 16.3
    if decoder == "causal":  # whose residues depend on each other strongly enough to tell
        assert chi2(law.sum(1, keepdim=True) * law.sum(0, keepdim=True)) > 16.3


def test_guidance_and_its_reward_go_through_the_same_chain() -> None:
    class Tryptophans:
        name, differentiable = "W", False

        def __call__(self, state: State) -> Tensor:
            return (state["tokens"] == 18).double().sum(1)

    own, cond = model("full"), {"backbone": DIMER}
    plain = "".join(own.sample(16, cond=cond))
    for method in ("smc", "svdd", "best"):
        guide = Guide(Tryptophans(), method, particles=4, alpha=0.2)  # type: ignore[arg-type]
        found = "".join(own.sample(16, cond=cond, guide=guide))
        assert found.count("W") > plain.count("W"), method


# -- scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", ["full", "causal"])
@pytest.mark.parametrize("calls", [1, 2])
def test_scores_are_log_probabilities(decoder: str, calls: int) -> None:
    """In one order the scores of all sequences of a pair are a normalised law."""
    if decoder == "causal" and calls == 2:
        pytest.skip("the mean over orders of log-probabilities is no law")
    own = model(decoder, strong=4.0)
    cond = {"backbone": backbone("ACD"), "fixed": "A2"}
    state = template(cond, 1)
    every = torch.cartesian_prod(torch.arange(AMINO), torch.tensor([1]), torch.arange(AMINO))
    rows = {k: v.expand(len(every), *v.shape[1:]) for k, v in state.values.items()}
    masks = {"tokens": state.masks["tokens"].expand(len(every), -1)}
    ids = torch.zeros(len(every), dtype=torch.int64)
    found = score_designs(own.denoiser, State({**rows, "tokens": every}, masks, ids), calls, seed=1)
    total = (2 * found).exp().sum().item()
    if decoder == "full":
        assert abs(total - 1) < 1e-5
    else:  # the law over 21 letters gives some of it to X
        assert 0.2 < total < 1


def likelihood_net() -> MPNN:
    torch.manual_seed(0)
    net = MPNN(21, **SHAPE)  # type: ignore[arg-type]
    shaken(net, 2)
    return net.eval().requires_grad_(False)


def test_structure_likelihood_is_a_mean_of_log_probabilities() -> None:
    """Of one designed residue: all letters, X among them, sum to one."""
    item, net = backbone("ACDEF"), likelihood_net()
    designed = np.array([False, False, True, False, False])
    every = [f"AC{x}EF" for x in "ACDEFGHIKLMNPQRSTVWYX"]
    found = structure_likelihood(item, every, net, designed=designed, batch_size=4)
    assert abs(np.exp(found).sum() - 1) < 1e-5
    again = structure_likelihood(item, every[3:5], net, designed=designed)
    np.testing.assert_allclose(again, found[3:5], atol=1e-6)
    assert structure_likelihood(item, [], net).shape == (0,)
    with pytest.raises(ArgumentError, match="needs 5 letters"):
        structure_likelihood(item, ["ACDE"], net)
    with pytest.raises(ArgumentError, match="must be positive"):
        structure_likelihood(item, every, net, orders=0)


def test_structure_likelihood_averages_orders() -> None:
    item, net = backbone("ACDEFGHI"), likelihood_net()
    net.letters.weight *= 10
    one, two = (structure_likelihood(item, ["ACDEFGHI"], net, seed=s, orders=1) for s in (0, 1))
    assert one != two
    # Orders are numbered, so the mean over 3 holds the first of them.
    three = structure_likelihood(item, ["ACDEFGHI"], net, orders=3)
    assert three != one
    assert structure_likelihood(item, ["ACDEFGHI"], net, orders=3) == three


# -- training and files ---------------------------------------------------------------------------


def helices() -> list[Backbone]:
    """Helices of A that begin with M and end with K."""
    sizes = [8, 10, 12] * 4
    return [backbone(f"M{'A' * (n - 2)}K", seed=k, name=f"h{k}") for k, n in enumerate(sizes)]


@pytest.mark.parametrize("decoder", ["full", "causal"])
def test_training_learns_and_its_model_samples(decoder: str, tmp_path: Path) -> None:
    own = task(decoder)
    data = BackboneSet(helices(), "helices")
    how = TrainConfig(steps=40, batch_size=6, lr=1e-2, ema=None, log_every=10)
    losses = []
    trainer = Trainer(own, how, tmp_path / "run", data)
    trainer.run(lambda p: losses.append(p.losses["tokens"]))
    assert losses[-1] < 0.5 * losses[0]
    found = graphdiff.load(tmp_path / "run")
    assert found.task.config.data.largest == 12
    cond = {"backbone": helices()[2], "temperature": 0.0}
    designs = found.samples(2, cond=cond, steps=12)
    # Without the structure every letter would be A, the most frequent one.
    assert [text[:2] for text in designs.items] == ["MA"] * 2
    assert designs.raw.recovery.min() > 0.9


def test_losses_do_not_depend_on_the_batch_and_unknown_residues_are_not_asked_for() -> None:
    own = InverseFoldingTask(replace(task().config, data=replace(task().config.data, noise=0.2)))
    denoiser = own.build().eval()
    items = [backbone("ACDEFGHI", 1), backbone("XXDEXK", 2), backbone("ACD", 3)]
    data = BackboneSet(items, "x")
    index = torch.arange(3)
    clean = data.batch(index)
    assert clean.masks["tokens"].sum(1).tolist() == [8, 3, 3]
    with torch.no_grad():
        whole = own.losses(denoiser, clean, Key(5, index))["tokens"]
        for i in range(3):
            one = data.batch(index[i : i + 1])
            alone = own.losses(denoiser, one, Key(5, index[i : i + 1]))["tokens"]
            torch.testing.assert_close(alone[0], whole[i], rtol=1e-4, atol=1e-5)
        # Other letters under the same masks: what is not a token cannot matter.
        spoilt = clean.replace(tokens=torch.where(clean.masks["tokens"], clean["tokens"], 7))
        torch.testing.assert_close(own.losses(denoiser, spoilt, Key(5, index))["tokens"], whole)


def test_the_bound_bounds_the_likelihood() -> None:
    """Weighted as the bound, the mean loss of one residue is exactly its cross-entropy."""
    own = InverseFoldingTask(
        replace(
            task().config,
            loss=replace(task().config.loss, weighting="elbo"),
            data=replace(task().config.data, noise=0.0),
        )
    )
    denoiser = own.build()
    shaken(denoiser, 1)
    denoiser.eval()
    data, count = BackboneSet([backbone("D")] * 8000, "x"), 8000
    index = torch.arange(count)
    with torch.no_grad():
        clean = data.batch(index)
        losses = own.losses(denoiser, clean, Key(0, index))["tokens"].double()
        told = {k: v[:1] for k, v in clean.values.items() if k != "tokens"}
        out = denoiser.net({"tokens": torch.tensor([[AMINO]])}, torch.zeros(1), {}, told)
    exact = -torch.log_softmax(out["tokens"][0, 0, :AMINO].double(), -1)[2]
    # A single token is masked with probability t and weighted by 1 / t: variance from small t.
    error = (losses.mean() - exact).abs() / (losses.std() / count**0.5)
    assert error < 4
    assert (losses.mean() * 0.8 - exact).abs() / (losses.std() / count**0.5) > 4


def test_data_sets(tmp_path: Path) -> None:
    path = save_backbones(tmp_path / "set.npz", helices())
    config = {"data": {"name": str(path), "longest": 10}, "model": SHAPE}
    data = InverseFoldingTask.from_config(config).data()
    assert (len(data), data.left_out) == (8, 4)
    facts = data.fingerprint()
    assert facts["residues"] == 4 * 8 + 4 * 10
    again = InverseFoldingTask.from_config({"data": {"name": "set.npz", "longest": 10}})
    assert again.data(tmp_path).fingerprint()["sha256"] == facts["sha256"]
    config["data"]["longest"] = 3
    with pytest.raises(DataError, match=r"raise data\.longest"):
        InverseFoldingTask.from_config(config).data()


def test_memory_grows_with_the_batch() -> None:
    own = InverseFoldingTask(replace(task().config, data=replace(task().config.data, largest=40)))
    few, many = (own.memory(b, training=True) for b in (2, 20))
    assert few is not None
    assert many is not None
    assert 0 < few < many < 20 * few
    assert task().memory(4, training=True) is None


def test_files_and_conversions(tmp_path: Path) -> None:
    own = model("causal")
    cond = {"backbone": DIMER, "fixed": "A1-3"}
    found = own.samples(5, cond=cond)
    files = own.task.write(found, tmp_path / "out")
    assert [f.name for f in files] == ["samples.npz", "samples.fasta"]
    lines = files[1].read_text().splitlines()
    heads, texts = lines[::2], lines[1::2]
    scores = []
    for rank, (head, text) in enumerate(zip(heads, texts, strict=True), 1):
        number, *facts = head[1:].split()
        told = dict(f.split("=") for f in facts)
        assert found.items[int(number)] == text
        assert (told["backbone"], told["rank"]) == ("dimer", str(rank))
        letters = text.replace("/", "")
        same = np.mean([letters[i] == DIMER.sequence[i] for i in range(3, 12)])
        assert abs(float(told["recovery"]) - same) < 1e-3
        scores.append(float(told["score"]))
    assert scores == sorted(scores, reverse=True)
    again = Designs.load(files[0])
    assert again.strings() == found.items
    np.testing.assert_array_equal(again.score, found.raw.score)
    assert own.task.convert(found, "sequences") == found.items
    assert own.task.convert(found, "designs")[2].strings() == [found.items[2]]
    with pytest.raises(ArgumentError, match="choose sequences"):
        own.task.convert(found, "smiles")
    np.savez(tmp_path / "other.npz", a=np.zeros(1))
    with pytest.raises(DataError, match="holds no designs"):
        Designs.load(tmp_path / "other.npz")


def test_records_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("Bio")
    own = model()
    found = own.samples(3, cond={"backbone": DIMER})
    record = own.task.convert(found, "seqrecord")[1]
    assert str(record.seq) == found.items[1].replace("/", "")
    assert record.annotations["chains"] == found.items[1].split("/")
    path = own.task.draw(found, tmp_path / "p.png", count=2)
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_residues_without_coordinates_keep_their_letters(tmp_path: Path) -> None:
    mask = np.array([True, True, False, True, True, True])
    whole = backbone("ACWEFG", seed=2)
    coords = np.where(mask[:, None, None], whole.coords, 0).astype(np.float32)
    item = replace(whole, coords=coords, mask=mask)
    for decoder, solver in EVERY:
        found = model(decoder).samples(3, cond={"backbone": item}, solver=solver)
        assert {text[2] for text in found.items} == {"W"}, solver
        assert not found.raw.designed.reshape(3, 6)[:, 2].any()


def test_shipped_config() -> None:
    config, train = split_config(resolve_config("inverse-folding"))
    InverseFoldingTask.from_config(config)
    TrainConfig.from_config(train)


# -- published weights ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Model:
    from graphdiff.sequence.convert_mpnn import convert

    return graphdiff.load(convert(WEIGHTS, tmp_path_factory.mktemp("m") / "mpnn"))


@needs_data
def test_published_weights_recover_native_sequences(published: Model) -> None:
    """Five chains of TS50: far above chance (about 6 %), as published for this noise (0.2 Å)."""
    items = sorted(read_json(TS50), key=len)[:5]
    recovery = []
    for item in items:
        cond = {"backbone": item, "temperature": 0.1}
        recovery += published.samples(4, cond=cond, solver="autoregressive").raw.recovery.tolist()
    assert 0.33 < np.mean(recovery) < 0.6


@needs_data
def test_native_sequences_are_likelier_than_shuffled_ones() -> None:
    from graphdiff.sequence.convert_mpnn import load_mpnn

    net, rng = load_mpnn(WEIGHTS), np.random.default_rng(0)
    for item in sorted(read_json(TS50), key=len)[:4]:
        letters = list(item.sequence)
        shuffled = ["".join(rng.permutation(letters)) for _ in range(3)]
        found = structure_likelihood(item, [item.sequence, *shuffled], net, orders=2)
        assert found[0] > found[1:].max() + 0.5
        assert 2 < np.exp(-found[0]) < 12  # perplexity


@needs_data
def test_published_weights_fill_masks_without_training(published: Model) -> None:
    """A causal decoder as a denoiser: half of a chain from the other half."""
    item = read_structure(TS50.parent / "6MRR.pdb")
    half = ",".join(f"A{n}" for n in item.numbers[::2])
    cond = {"backbone": item, "fixed": half, "temperature": 0.0}
    found = published.samples(2, cond=cond, solver="first_hitting", steps=8, score=0)
    assert found.raw.recovery.min() > 0.4


def test_equal_structures_of_a_batch_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net = model("causal").denoiser.net
    assert isinstance(net, FoldingNet)
    other = backbone("GAVLIMKEGAVL", seed=6, chains=2, name="other")
    near = replace(
        DIMER, coords=DIMER.coords + np.float32(1e-3) * (np.arange(4) == 2)[None, :, None]
    )
    state = template({"backbone": [other, DIMER, near, DIMER, other]}, 5)
    with torch.no_grad():
        each = [net.mpnn.encode(*(state[k][i : i + 1] for k in PARTS)) for i in range(5)]
    seen: list[int] = []
    encode = net.mpnn.encode

    def counted(coords: Tensor, *rest: Tensor) -> Any:
        seen.append(len(coords))
        return encode(coords, *rest)

    monkeypatch.setattr(net.mpnn, "encode", counted)
    with torch.no_grad():
        found = net.encode(state.values)
    assert seen == [3]
    for i, own in enumerate(each):
        torch.testing.assert_close(found.nodes[i], own.nodes[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.edges[0][i], own.edges[0][0], rtol=1e-5, atol=1e-6)
    net.encode(state.values)  # a frozen network has no gradients to keep apart
    net.requires_grad_(True)
    net.encode(state.values)
    assert seen == [3, 3, 5]


PARTS = ("coords", "resolved", "position", "chain")


def test_denoiser_is_of_the_core() -> None:
    assert isinstance(task().build(), Denoiser)
