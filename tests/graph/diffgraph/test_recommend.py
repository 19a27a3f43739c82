"""The recommender: selection, training, saving; the suite, reduced."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffgraph_support import CONFIG, groups
from scipy import sparse

from graphdiff.core.errors import ArgumentError, CheckpointError, DataError
from graphdiff.core.rng import Key
from graphdiff.data.behaviours import Behaviours
from graphdiff.graph.diffgraph import latent
from graphdiff.graph.diffgraph.choice import (
    RecommenderConfig,
    joined,
    latents,
    profile,
    rank_joined,
    select,
)
from graphdiff.graph.diffgraph.denoiser import HeteroDenoiser
from graphdiff.graph.diffgraph.latent import train, unit
from graphdiff.graph.diffgraph.ranking import LAST, Ranks, rank
from graphdiff.graph.diffgraph.recommend import Recommender

SUITES = Path(__file__).resolve().parents[3] / "benchmarks" / "suites"


@pytest.fixture(scope="module")
def fitted() -> Recommender:
    return Recommender.fit(groups(), CONFIG)


def test_it_recommends_items_of_the_own_group(fitted: Recommender) -> None:
    own = 0
    for user in range(12):
        found = fitted.recommend(f"user-{user}", 5)
        assert len(found) == 5
        values = [score for _, score in found]
        assert values == sorted(values, reverse=True)
        items = [int(name.removeprefix("item-")) for name, _ in found]
        assert not fitted.data.edges["buy"][user, items].toarray().any()
        own += sum(item % 3 == user % 3 for item in items)
    assert own >= 50  # of 60; a third of them at random


def test_selection_does_not_read_the_test_pairs(fitted: Recommender) -> None:
    other = replace(fitted.data, test=np.zeros((0, 2), np.int64))
    again = Recommender.fit(other, CONFIG)
    assert again.trials == fitted.trials
    assert again.recommend(3) == fitted.recommend(3)


def test_trials_are_sorted_complete_and_chosen(fitted: Recommender) -> None:
    assert len(fitted.trials) == 4  # of one ridge
    ndcg = [trial.ndcg for trial in fitted.trials]
    assert ndcg == sorted(ndcg, reverse=True)
    best = fitted.trials[0]
    assert fitted.config.ridges == (best.ridge,)
    assert fitted.config.train_steps == (best.steps,)
    assert fitted.config.mix == (best.mix,)
    assert fitted.network_calls == (4 if best.mix else 0)


def test_an_untrained_choice_is_the_same_however_many_follow() -> None:
    held = groups().hold_out()
    few = {(t.steps, t.mix): t for t in select(held, replace(CONFIG, train_steps=(0, 3)))}
    many = {(t.steps, t.mix): t for t in select(held, replace(CONFIG, train_steps=(0, 3, 6)))}
    assert all(many[key] == trial for key, trial in few.items())


def test_mix_ends_are_the_parts() -> None:
    data = groups()
    space = latents(data, CONFIG, 5.0)
    shown = space.profile(np.arange(6), data.edges["buy"], 40)
    z = Key(0, torch.arange(6)).normal(space.width)
    source, both, alone = (joined(space, shown, z, mix) for mix in (0.0, 0.5, 1.0))
    there = np.isfinite(shown.scores)
    assert both[there] == pytest.approx((source[there] + alone[there]) / 2, abs=1e-5)
    likeness = np.einsum("bd,bnd->bn", z.numpy(), space.basis.numpy()[shown.items])
    for k in range(6):
        order = np.argsort(-likeness[k][there[k]])
        assert np.array_equal(np.argsort(-alone[k][there[k]]), order)
        assert (np.diff(source[k][there[k]]) <= 1e-6).all()  # candidates are sorted by source


@pytest.mark.parametrize("unseen", [False, True])
def test_places_among_candidates_are_those_of_the_full_ranking(unseen: bool) -> None:
    data = groups()
    space = latents(data, CONFIG, 5.0)
    shown = space.profile(np.arange(45), data.edges["buy"], 60)  # all items are candidates
    scores = joined(space, shown, Key(0, torch.arange(45)).normal(space.width), 0.4)
    full = np.full((45, 60), -1e9, np.float32)
    np.put_along_axis(full, shown.items, np.where(np.isfinite(scores), scores, -1e9), 1)
    found = rank_joined(data, shown, scores, data.test[::-1], unseen)
    mask = data.seen if unseen else data.edges["buy"]
    expected = rank(lambda u: full[u], data.test, mask)
    assert np.array_equal(found.places, expected.places)
    assert np.array_equal(found.users, expected.users)
    few = replace(shown, items=shown.items[:, :7], scores=shown.scores[:, :7])
    part = rank_joined(data, few, scores[:, :7], data.test, unseen)
    there = (few.items == data.test[:, 1:]).any(1)
    assert (part.places[there] <= expected.places[there]).all()
    assert (part.places[~there] == LAST).all()
    assert Ranks(part.users[~there], part.places[~there]).recall(1000).max() == 0  # nor a hit


def test_training_lowers_the_loss_and_touches_no_global_generator() -> None:
    data = groups()
    space = latents(data, CONFIG, 5.0)
    of = profile(data, space, CONFIG)
    weights = np.ones(of.edges.nnz, np.float32)
    before = torch.get_rng_state()
    net = HeteroDenoiser(space.width, space.width, CONFIG.denoiser, 1)

    def loss() -> float:
        with torch.no_grad():
            hidden = Key(99, torch.arange(of.edges.nnz)).uniform(1)[:, 0] < 0.3
            target = space.target(of, hidden.float())
            made = net.eval().estimate(
                target, space.source(of, (~hidden).float()), Key(98, torch.from_numpy(of.users))
            )
        return float(made.loss[target.abs().sum(1) > 0].mean())

    first = loss()
    how = {"lr": 1e-2, "decay": 0.1, "ranking": 0.5, "seed": 1}
    train(net, space, of, weights, steps=40, **how)
    assert loss() < 0.9 * first
    assert torch.equal(torch.get_rng_state(), before)
    twin = HeteroDenoiser(space.width, space.width, CONFIG.denoiser, 1)
    train(twin, space, of, weights, steps=40, **how)
    pairs = zip(net.parameters(), twin.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_hidden_and_shown_edges_are_complements(monkeypatch) -> None:
    data = groups()
    space = latents(data, CONFIG, 5.0)
    of = profile(data, space, CONFIG)
    seen: list[torch.Tensor] = []
    real_source, real_target = space.source, space.target
    monkeypatch.setattr(space, "source", lambda o, k: seen.append(k) or real_source(o, k))
    monkeypatch.setattr(space, "target", lambda o, w: seen.append(w) or real_target(o, w))
    net = HeteroDenoiser(space.width, space.width, CONFIG.denoiser, 1)
    train(net, space, of, np.full(of.edges.nnz, 2.0, np.float32), steps=3, lr=1e-3, decay=0.0,
          ranking=0.0, seed=0)  # fmt: skip
    for shown, hidden in zip(seen[::2], seen[1::2], strict=True):
        assert torch.equal(shown + hidden / 2, torch.ones(of.edges.nnz))
        assert 0.2 < float((hidden > 0).float().mean()) < 0.5
    assert not torch.equal(seen[0], seen[2])


def test_unit_length() -> None:
    x = unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    assert x.norm(dim=1).tolist() == pytest.approx([2**0.5, 0.0])


def test_saved_and_loaded_it_says_the_same(fitted: Recommender, tmp_path) -> None:
    model = Recommender.trained(
        groups(), replace(CONFIG, ridges=(5.0,), train_steps=(5,), mix=(0.5,))
    )
    model.save(tmp_path / "model")
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"weights.safetensors", "card.json"}
    again = Recommender.load(tmp_path / "model")
    assert again.config == model.config
    for user in (0, 7):
        mine, loaded = model.recommend(user), again.recommend(f"user-{user}")
        assert [name for name, _ in mine] == [name for name, _ in loaded]
        assert [s for _, s in mine] == pytest.approx([s for _, s in loaded], abs=1e-5)
    with pytest.raises(CheckpointError, match="exists already"):
        model.save(tmp_path / "model")
    path = tmp_path / "model" / "card.json"
    card = json.loads(path.read_text())
    card["kind"] = "gdss"
    path.write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="kind"):
        Recommender.load(tmp_path / "model")


def test_refusals(fitted: Recommender) -> None:
    with pytest.raises(ArgumentError, match="no user"):
        fitted.recommend("nobody")
    with pytest.raises(ArgumentError, match="candidates"):
        fitted.recommend(0, 41)
    with pytest.raises(ArgumentError, match="ascending"):
        RecommenderConfig(train_steps=(3, 1))
    with pytest.raises(ArgumentError, match="between 0 and 1"):
        RecommenderConfig(mix=(2.0,))
    lonely = Behaviours.of({"buy": sparse.eye(4, format="csr")}, "buy")
    with pytest.raises(DataError, match="none can be held out"):
        Recommender.fit(lonely, CONFIG)


def test_users_without_edges_get_what_is_popular() -> None:
    data = groups()
    empty = {name: sparse.vstack([m, sparse.csr_matrix((1, 60))]).tocsr() for name, m in
             data.edges.items()}  # fmt: skip
    model = Recommender.trained(
        Behaviours.of(empty, "buy"), replace(CONFIG, ridges=(5.0,), train_steps=(2,), mix=(0.5,))
    )
    of = model.profile(np.array([45]))
    counts = np.asarray(model.data.seen.sum(0)).ravel()
    assert counts[of.items[0]].tolist() == sorted(counts, reverse=True)[:40]
    found = model.recommend(45, 10)
    assert len({name for name, _ in found}) == 10


# -- the suite ----------------------------------------------------------------------------------


def test_suite_reduced(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(SUITES))
    sys.modules.pop("diffgraph", None)
    import diffgraph

    record = diffgraph.run(True, tmp_path)
    methods = [row["method"] for row in record["table"]]
    assert len(set(methods)) == len(methods)
    assert {"popularity", "item-kNN", "walk, 3 steps", "source", "diffusion",
            "diffusion and source", "DiffGraph, best on test"} <= set(methods)  # fmt: skip
    assert len({tuple(row) for row in record["table"]}) == 1
    by = {row["method"]: row for row in record["recommendation"]}
    row, base = by["diffusion"], by["walk, 3 steps"]
    assert row["calls"] == 8
    assert row["users"] == 60
    assert row["recall_low"] < row["recall"] < row["recall_high"]
    assert row["recall_over"] == pytest.approx(row["recall"] - base["recall"], abs=1e-6)
    assert base["recall_over"] == 0
    assert by["source"]["calls"] == 0
    assert by["popularity"]["recall"] < by["item-kNN"]["recall"]
    diffgraph.draw(record, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 5000


def test_latent_module_has_no_loop_over_time() -> None:
    """Chains are the core's alone."""
    text = Path(latent.__file__).read_text("utf-8")
    assert "sampler" not in text.lower()
