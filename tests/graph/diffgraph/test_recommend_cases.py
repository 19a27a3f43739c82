"""The recommender: sparse data, settings, what draws, who is asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffgraph_support import CONFIG, groups
from scipy import sparse

from graphdiff.core.errors import ArgumentError
from graphdiff.data.behaviours import Behaviours
from graphdiff.graph.diffgraph import choice
from graphdiff.graph.diffgraph.choice import joined, latents, profile
from graphdiff.graph.diffgraph.denoiser import HeteroDenoiser
from graphdiff.graph.diffgraph.latent import train
from graphdiff.graph.diffgraph.recommend import Recommender

ONE = replace(CONFIG, ridges=(5.0,), train_steps=(20,), mix=(0.5,))


@pytest.fixture(scope="module")
def fitted() -> Recommender:
    return Recommender.fit(groups(), CONFIG)


def test_without_users_of_two_items_nothing_is_trained() -> None:
    data = Behaviours.of({"buy": sparse.eye(6, format="csr")}, "buy")
    model = Recommender.trained(data, ONE)
    fresh = HeteroDenoiser(model.space.width, model.space.width, ONE.denoiser, ONE.seed)
    pairs = zip(model.net.parameters(), fresh.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert len(model.recommend(0, 3)) == 3
    # two purchases each, one of them held out
    two = sparse.csr_matrix(np.repeat(np.eye(5), 2, axis=1))
    found = Recommender.fit(Behaviours.of({"buy": two}, "buy"), CONFIG)
    assert len(found.trials) == 4


def test_updates_that_hide_nothing_are_left_out() -> None:
    rows, cols = [0, 0, 1, 2, 3, 4, 5], [0, 1, 0, 1, 2, 3, 4]
    data = Behaviours.of({"buy": sparse.csr_matrix((np.ones(7), (rows, cols)))}, "buy")
    space = latents(data, ONE, 5.0)
    of = profile(data, space, ONE)
    assert of.users.tolist() == [0]  # an update hides none, one or both of two edges
    net = HeteroDenoiser(space.width, space.width, ONE.denoiser, 1)
    before = [value.clone() for value in net.parameters()]
    train(net, space, of, np.ones(2, np.float32), steps=40, lr=1e-2, decay=0.0, ranking=1.0, seed=0)
    assert all(value.isfinite().all() for value in net.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0])
def test_edges_of_the_target_have_their_weight(monkeypatch, weight: float) -> None:
    data = groups()
    config = replace(ONE, target_weight=weight)
    seen: list[np.ndarray] = []
    real = choice.train
    monkeypatch.setattr(choice, "train", lambda *a, **k: seen.append(a[3]) or real(*a, **k))
    model = Recommender.trained(data, config)
    of = profile(data, model.space, config)
    c = of.edges.tocoo()
    bought = data.edges["buy"].toarray()[of.users[c.row], c.col] > 0
    assert bought.any()
    assert not bought.all()
    assert seen[0].dtype == np.float32
    assert seen[0].tolist() == np.where(bought, weight, 1.0).tolist()


@pytest.mark.parametrize(
    "wrong", [{"target_weight": -1.0}, {"lr": 0.0}, {"decay": -0.1}, {"ranking": float("nan")}]
)
def test_weights_are_checked(wrong) -> None:
    with pytest.raises(ArgumentError, match="expected lr above 0"):
        replace(CONFIG, **wrong)


def test_dropout_is_drawn_from_the_seed() -> None:
    data = groups()
    config = replace(ONE, denoiser=replace(CONFIG.denoiser, dropout=0.5))
    made = []
    for start in (1, 2):  # states of the global generator
        torch.manual_seed(start)
        before = torch.get_rng_state()
        made.append(Recommender.trained(data, config).net)
        assert torch.equal(torch.get_rng_state(), before)
    pairs = zip(*(net.parameters() for net in made), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_source_alone_asks_no_network() -> None:
    model = Recommender.trained(groups(), replace(ONE, train_steps=(0,), mix=(0.0,)))
    calls: list[int] = []
    model.net.denoiser.net.register_forward_hook(lambda *_: calls.append(1))
    model.recommend(3)
    model.rank(model.data.test)
    of = model.profile(np.arange(5))
    source = model.scores(of)
    assert model.network_calls == len(calls) == 0
    assert np.array_equal(source, joined(model.space, of, model.drawn(of), 0.0))
    calls.clear()
    assert not np.array_equal(model.scores(of, 0.5), source)
    assert len(calls) == 4


def test_users_are_numbers_or_names(fitted: Recommender) -> None:
    unnamed = Recommender(
        fitted.config, replace(fitted.data, users=()), fitted.space, fitted.net
    )  # fmt: skip
    assert unnamed.recommend(np.int64(7)) == unnamed.recommend("7") == fitted.recommend("user-7")
    assert fitted.recommend(np.int64(7)) == fitted.recommend(7)
    for wrong in (45, -1, "45", "-1", "x", 1.5, None):
        with pytest.raises(ArgumentError, match="no user"):
            unnamed.recommend(wrong)
    with pytest.raises(ArgumentError, match="or a name"):
        fitted.recommend("7")


def test_pairs_that_cannot_be_ranked_are_refused(fitted: Recommender) -> None:
    with pytest.raises(ArgumentError, match="nothing to rank"):
        fitted.rank(np.zeros((0, 2), np.int64))
    for wrong in ([[45, 0]], [[0, 60]], [[-1, 0]], [[0, -1]]):
        with pytest.raises(ArgumentError, match="outside of 45 users and 60 items"):
            fitted.rank(np.array(wrong))
