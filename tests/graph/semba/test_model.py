"""Models on streams: no answer reaches its own prediction; learning, saving, refusing."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from graphdiff.core.errors import ArgumentError, CheckpointError
from graphdiff.data import sources
from graphdiff.data.signed import SignedEvents
from graphdiff.data.signed_files import load_signed, signed_names
from graphdiff.graph.semba.baselines import weight_probe
from graphdiff.graph.semba.config import SembaConfig
from graphdiff.graph.semba.memory import State
from graphdiff.graph.semba.metrics import measure
from graphdiff.graph.semba.model import SignedTemporalModel
from graphdiff.graph.semba.net import SembaNet
from graphdiff.graph.semba.stream import EventStream
from graphdiff.graph.semba.synthetic import two_camps
from graphdiff.graph.semba.training import Learner, class_weights

SMALL = {"memory": 16, "time": 8, "out": 16, "heads": 2, "hidden": 16, "neighbours": 5}
START, VALID = 300, 400


@pytest.fixture(scope="module")
def events() -> SignedEvents:
    return two_camps(nodes=25, events=520, seed=3)[0]


def fitted(events: SignedEvents, task: str = "sign", **settings) -> SignedTemporalModel:
    config = SembaConfig(task=task, **{**SMALL, "epochs": 2, "lr": 0.01, **settings})
    train = EventStream(events, 0, START, batch=50, task=task, teacher=True)
    return SignedTemporalModel.fit(
        train, config, EventStream(events, START, VALID, batch=20, task=task)
    )


@pytest.fixture(scope="module")
def model(events) -> SignedTemporalModel:
    return fitted(events)


def scores(model, events, start=VALID, batch=20, task="sign"):
    return model.copy().predict(EventStream(events, start, batch=batch, task=task)).scores


def changed(events: SignedEvents, part: slice, weight) -> SignedEvents:
    w = events.weight.copy()
    w[part] = weight
    return SignedEvents(events.source, events.target, w, events.time, events.nodes)


# -- leaks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("history", [True, False])
@pytest.mark.parametrize("online", [0.0, 0.1])
def test_answers_of_a_batch_do_not_reach_its_predictions(events, history, online) -> None:
    """Shuffle the labels of a batch: its predictions stay, to the bit; later ones move."""
    model = fitted(events, history=history, online=online, epochs=1)
    known = scores(model, events)
    rng = np.random.default_rng(0)
    for b in (0, 2, 4):
        part = slice(VALID + 20 * b, VALID + 20 * b + 20)
        other = changed(events, part, rng.permutation(-events.weight[part]))
        found = scores(model, other)
        assert (found[: 20 * b + 20] == known[: 20 * b + 20]).all()
        assert not (found[20 * b + 20 :] == known[20 * b + 20 :]).all()


@pytest.mark.parametrize("task", ["sign", "signlink", "weight"])
def test_later_events_do_not_reach_earlier_predictions(events, task) -> None:
    model = fitted(events, task, epochs=1)
    known = scores(model, events, task=task)
    cut = 460  # the start of batch 3
    u, v, w = events.source.copy(), events.target.copy(), events.weight.copy()
    w[cut:] *= -2
    u[cut + 20 :], v[cut + 20 :] = v[cut + 20 :], u[cut + 20 :]
    found = scores(model, SignedEvents(u, v, w, events.time, events.nodes), task=task)
    same = (cut - VALID) * (2 if task == "signlink" else 1)
    assert (found[:same] == known[:same]).all()
    if task != "signlink":  # whose negatives of the batch do not depend on weights either
        assert (found[: same + 20] == known[: same + 20]).all()
    assert not (found == known).all()


def test_training_does_not_see_validation_or_test(events) -> None:
    """Weights of an epoch are the same whatever follows the training events."""
    other = changed(events, slice(START, None), -events.weight[START:])
    nets = [fitted(data, epochs=1).net.state_dict() for data in (events, other)]
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])


def test_weight_probe_finds_the_leak_and_only_the_leak() -> None:
    events, _ = two_camps(nodes=25, events=400, seed=3)
    loud = np.where(events.weight < 0, 10 * events.weight, events.weight)
    stream = EventStream(changed(events, slice(None), loud), batch=30)
    assert weight_probe(stream, leaky=True) == 1.0
    assert weight_probe(stream, leaky=False) == 0.5


PUBLISHED = [("bitcoin-otc", 0.7519), ("bitcoin-alpha", 0.6223)]


@pytest.mark.parametrize(("name", "published"), PUBLISHED)
def test_weight_probe_on_public_sets(name, published) -> None:
    if sources.find([sources.card(name)["files"][0]["file"]]) is None:
        pytest.skip(f"GRAPHDIFF_DATA holds no {name}")
    events = load_signed(name)
    stream = EventStream(events, events.split().valid, batch=200)
    # The published split is by rank; ours keeps the ratings of a day together.
    assert weight_probe(stream, leaky=True) == pytest.approx(published, abs=5e-4)
    assert weight_probe(stream, leaky=False) == 0.5
    assert name in signed_names()


# -- models ---------------------------------------------------------------------------------------


def test_predictions_depend_on_memory(events, model) -> None:
    """Smaller batches are fresher, and memories of others change the answer."""
    assert not np.allclose(scores(model, events), scores(model, events, batch=1))
    other = model.copy()
    other.state.memory += 1
    assert not np.allclose(scores(model, events), scores(other, events))


def test_same_seed_same_model(events, model) -> None:
    assert (scores(fitted(events), events) == scores(model, events)).all()
    assert not (scores(fitted(events, seed=1), events) == scores(model, events)).all()


def test_predicting_in_turn_equals_predicting_at_once(events, model) -> None:
    twice = model.copy()
    first = twice.predict(EventStream(events, VALID, 460, batch=20)).scores
    second = twice.predict(EventStream(events, 460, batch=20)).scores
    assert np.array_equal(np.concatenate([first, second]), scores(model, events))


def test_new_nodes_and_new_events(events, model) -> None:
    late = model.copy()
    late.predict(EventStream(events, VALID, batch=20))
    t = events.time[-1]
    longer = events.extended([events.nodes[0], 777], [778, 777 + 2], [1, -1], [t + 1, t + 2])
    found = late.predict(EventStream(longer, len(events), batch=1))
    assert found.scores.shape == (2,)
    assert len(late.state.memory) == longer.num_nodes


def test_online_learning_changes_weights_only_if_asked(events, model) -> None:
    for online, moved in ((0.0, False), (0.1, True)):
        other = model.with_online(online)
        other.predict(EventStream(events, VALID, batch=20))
        weights = zip(other.net.parameters(), model.net.parameters(), strict=True)
        assert any(not torch.equal(a, b) for a, b in weights) == moved


@pytest.mark.parametrize("task", ["sign", "signlink", "weight"])
def test_saved_and_loaded(events, tmp_path, task) -> None:
    model = fitted(events, task, epochs=1)
    folder = model.save(tmp_path / "model")
    again = SignedTemporalModel.load(folder)
    assert again.config == model.config
    assert again.threshold == model.threshold
    assert (scores(again, events, task=task) == scores(model, events, task=task)).all()
    assert {p.name for p in folder.iterdir()} == {"card.json", "weights.safetensors"}


@pytest.mark.parametrize("task", ["sign", "signlink"])
def test_learning_on_weighs_classes_as_training_does(events, task, monkeypatch) -> None:
    """With balance, by the events that were seen before the stream."""
    model, used, step = fitted(events, task, epochs=1, balance=True), [], Learner._step

    def spied(self: Learner, *rest) -> float:
        used.append(self.balance)
        return step(self, *rest)

    monkeypatch.setattr(Learner, "_step", spied)
    even, uneven = model.with_online(0.1), model.with_online(0.1)
    uneven.config = replace(uneven.config, balance=False)
    found = [scores(made, events, task=task) for made in (even, uneven)]
    half = len(used) // 2
    assert half == 6
    assert used[half:] == [None] * half
    positive = (events.weight[:VALID] > 0).mean()
    share = np.array([1 - positive, positive] + [1.0] * (task == "signlink"))
    for weights in used[:half]:
        np.testing.assert_allclose(weights.numpy() * share, 1 / len(share), rtol=1e-5)
    assert not np.array_equal(*found)


@pytest.mark.parametrize("task", ["sign", "weight"])
def test_cards_tell_validation_and_nothing_else(events, task, tmp_path) -> None:
    train = EventStream(events, 0, START, batch=50, task=task, teacher=True)
    config = SembaConfig(task=task, **SMALL, epochs=2)
    alone = SignedTemporalModel.fit(train, config)
    assert [set(epoch) for epoch in alone.epochs] == [{"loss"}] * 2
    card = json.loads((alone.save(tmp_path / "alone") / "card.json").read_text())
    assert card["metrics"] == {}
    model = fitted(events, task)
    card = json.loads((model.save(tmp_path / "model") / "card.json").read_text())
    said = card["metrics"]["validation"]
    assert said == pytest.approx(measure(task, model.validation.scores, model.validation.labels))


def test_damaged_and_foreign_models(events, model, tmp_path) -> None:
    folder = model.save(tmp_path / "model")
    with pytest.raises(CheckpointError, match="exists already"):
        model.save(folder)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "kind": "gdss"}))
    with pytest.raises(CheckpointError, match="expected 'semba'"):
        SignedTemporalModel.load(folder)
    del card["task"]["known"]
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="not a complete signed temporal model"):
        SignedTemporalModel.load(folder)
    (folder / "weights.safetensors").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError, match="pickle"):
        SignedTemporalModel.load(folder)


def test_streams_that_do_not_fit(events, model) -> None:
    for stream, match in (
        (EventStream(events, 450), "has seen 400 events, the stream starts at 450"),
        (EventStream(events, VALID, teacher=True), "without teacher"),
        (EventStream(events, VALID, task="weight"), "of task 'weight', the settings of 'sign'"),
        (EventStream(changed(events, slice(3), 9.0), VALID), "not those that the model has seen"),
    ):
        with pytest.raises(ArgumentError, match=match):
            model.copy().predict(stream)
    train = EventStream(events, 0, START)
    for valid in (EventStream(events, 350), EventStream(events, START, teacher=True)):
        with pytest.raises(ArgumentError, match="one after the other, validation without teacher"):
            SignedTemporalModel.fit(train, SembaConfig(**SMALL), valid)
    with pytest.raises(ArgumentError, match="memories need all events from the first one on"):
        SignedTemporalModel.fit(EventStream(events, 100), SembaConfig(**SMALL))


@pytest.mark.parametrize("task", ["sign", "signlink"])
def test_balanced_classes_have_the_same_share_of_the_loss(events, task) -> None:
    stream = EventStream(events, 0, START, task=task)
    weights = class_weights(stream)
    positive = (events.weight[:START] > 0).mean()
    count = np.array([1 - positive, positive, 1.0][: len(weights)])
    np.testing.assert_allclose(weights.numpy() * count, 1 / len(weights), rtol=1e-5)
    learner = Learner(SembaNet(SembaConfig(task=task, **SMALL)), 0.0, 1.0, balance=weights)
    labels = torch.tensor([0.0, 1.0, 1.0])
    if task == "sign":
        logits = torch.tensor([0.3, -0.2, 1.0])
        each = torch.nn.functional.softplus(torch.tensor([0.3, 0.2, -1.0]))
        wanted = (each * weights[[0, 1, 1]]).mean()
    else:
        logits = torch.tensor([[0.3, 0.0, 1.0], [-1.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
        each = logits.logsumexp(1) - logits[range(3), [0, 1, 1]]
        wanted = (each * weights[[0, 1, 1]]).sum() / weights[[0, 1, 1]].sum()
    torch.testing.assert_close(learner.loss(logits, labels), wanted)


def test_weights_are_in_units_of_the_events(events) -> None:
    other = changed(events, slice(None), 100 + 5 * events.weight)
    found = fitted(other, "weight").predict(EventStream(other, VALID, batch=20, task="weight"))
    assert found.scores.mean() == pytest.approx(100, abs=5)
    assert found.metrics()["rmse"] < 2 * found.labels.std()


def test_progress_and_the_best_epoch(events) -> None:
    said = []
    train = EventStream(events, 0, START, batch=50, teacher=True)
    valid = EventStream(events, START, VALID, batch=20)
    config = SembaConfig(**SMALL, epochs=4, patience=1, lr=0.01)
    model = SignedTemporalModel.fit(train, config, valid, progress=lambda k, f: said.append((k, f)))
    assert [k for k, _ in said] == list(range(1, len(said) + 1))
    assert model.epochs == [f for _, f in said]
    aucs = [f["auc"] for f in model.epochs]
    assert len(aucs) == 4 or aucs[-1] <= max(aucs[:-1])
    # The kept weights are those of the best epoch: they give its score again.
    again = SignedTemporalModel.fit(
        train, SembaConfig(**SMALL, epochs=1 + int(np.argmax(aucs)), patience=9, lr=0.01), valid
    )
    assert max(f["auc"] for f in again.epochs) == max(aucs)


def test_identities_are_noise_of_the_node(events) -> None:
    model = fitted(events, identity=True, epochs=1)
    start = State.empty(9, 16, 0.0, identity=0)
    assert torch.equal(start.memory[:, 0], -start.memory[:, 1])
    assert 0.7 < start.memory.std() < 1.3
    assert torch.equal(State.empty(4, 16, 0.0, identity=0).grown(9, 0.0, 0).memory, start.memory)
    assert not torch.equal(State.empty(9, 16, 0.0, identity=1).memory, start.memory)
    silent = model.state.memory[-1]  # the last node has had no event yet, or it has moved
    fresh = State.empty(events.num_nodes, 16, 0.0, identity=0).memory[-1]
    assert torch.equal(silent, fresh) == (events.num_nodes - 1 not in met(events, VALID))


def met(events: SignedEvents, end: int) -> set[int]:
    return set(events.source[:end].tolist()) | set(events.target[:end].tolist())


@pytest.mark.slow
def test_sides_that_only_balance_tells() -> None:
    """Two camps, no causal history: with identities, memories find who sides with whom."""
    events, _ = two_camps(nodes=40, events=3000, noise=0.05, seed=0)
    split = events.split()
    train = EventStream(events, 0, split.train, batch=25, teacher=True)
    valid = EventStream(events, split.train, split.valid, batch=5)
    config = SembaConfig(history=False, identity=True, epochs=6, patience=6, lr=3e-3)
    model = SignedTemporalModel.fit(train, config, valid)
    assert model.predict(EventStream(events, split.valid, batch=5)).metrics()["auc"] > 0.9
