"""The classifier: what it learns, keeps, refuses, and what a saved one gives."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import planted

from graphdiff.core.errors import ArgumentError, CheckpointError, ConfigError, DataError
from graphdiff.data.nodes import NodeData, Split, random_splits
from graphdiff.graph.evaluate.training import FitConfig
from graphdiff.graph.sheaf import SheafConfig
from graphdiff.graph.sheaf.classifier import SheafClassifier
from graphdiff.graph.sheaf.comparison import SHEAF
from graphdiff.graph.sheaf.fitting import IDENTITY, compare
from graphdiff.graph.sheaf.plan import SPACE, Plan, draw_plan
from graphdiff.graph.sheaf.scaling import choose_scaling

SMALL = SheafConfig(stalk=2, hidden=8)
QUICK = FitConfig(epochs=80, patience=80)


def graph(seed: int = 0, n: int = 120) -> NodeData:
    edges, x, y = planted(n, 80, 3, seed)
    data = NodeData.of("planted", edges, x, y, classes=("a", "b", "c"))
    return replace(data, splits=random_splits(data.labels, 3))


@pytest.fixture(scope="module")
def model() -> SheafClassifier:
    return SheafClassifier.fit(graph(), network=SMALL, training=QUICK)


def test_it_beats_the_majority_and_sets_its_card(model):
    data = graph()
    found = model.predict(data)
    split = data.splits[0]
    majority = float(torch.bincount(data.labels[split.test]).max()) / len(split.test)
    score = float((found.classes == data.labels)[split.test].float().mean())
    assert score > majority + 0.1
    entry = model.facts["metrics"]["test_accuracy"]
    assert entry["value"] == pytest.approx(score)
    assert entry["n"] == len(split.test)
    assert entry["low"] < score < entry["high"]
    assert found.probabilities.sum(1).tolist() == pytest.approx([1.0] * data.n, abs=1e-5)
    assert found.labels == [("a", "b", "c")[c] for c in found.classes.tolist()]


def test_saved_and_loaded_it_predicts_the_same(model, tmp_path):
    model.save(tmp_path / "m")
    again = SheafClassifier.load(tmp_path / "m")
    other = graph(5)
    assert torch.equal(model.predict(other).probabilities, again.predict(other).probabilities)
    assert again.about == model.about
    assert again.facts["metrics"] == model.facts["metrics"]
    card = json.loads((tmp_path / "m" / "card.json").read_text())
    assert card["kind"] == "sheaf"
    assert card["data"]["split"]["test"] == len(graph().splits[0].test)
    assert len(card["data"]["split"]["sha256"]) == 64
    assert card["command"]
    assert {p.name for p in (tmp_path / "m").iterdir()} == {"card.json", "weights.safetensors"}
    with pytest.raises(CheckpointError, match="exists already"):
        model.save(tmp_path / "m")


def test_what_it_learned_holds_on_another_graph(model):
    other = graph(5)
    hits = (model.predict(other).classes == other.labels).float().mean()
    assert hits > torch.bincount(other.labels).max() / other.n + 0.05


def test_nodes_in_another_order_have_the_same_classes(model):
    data = graph()
    turn = torch.from_numpy(np.random.default_rng(0).permutation(data.n))
    back = turn.argsort()
    moved = NodeData.of("moved", back[data.edges], data.features[turn], data.labels[turn])
    first, second = model.predict(data), model.predict(moved)
    assert torch.allclose(first.probabilities[turn], second.probabilities, atol=1e-4)


def test_labels_of_test_nodes_are_not_looked_at(model):
    data = graph()
    split = data.splits[0]
    labels = data.labels.clone()
    labels[split.test] = (labels[split.test] + 1) % 3
    other = SheafClassifier.fit(replace(data, labels=labels), split, network=SMALL, training=QUICK)
    wanted = model.predict(data).probabilities
    assert torch.equal(other.predict(data).probabilities, wanted)


def test_the_seed_decides_everything():
    data = graph()
    few = FitConfig(epochs=5)
    one, two, three = (
        SheafClassifier.fit(data, network=SMALL, training=few, seed=s).predict(data).probabilities
        for s in (1, 1, 2)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_pyg_data_in_and_out():
    data = graph()
    pyg = data.to_pyg()
    few = FitConfig(epochs=10)
    ours = SheafClassifier.fit(data, network=SMALL, training=few)
    theirs = SheafClassifier.fit(pyg, network=SMALL, training=few)
    pyg.y = None  # not needed to predict
    assert torch.equal(ours.predict(data).classes, theirs.predict(pyg).classes)


def test_scaling_follows_the_training_graph():
    data = graph()
    rng = np.random.default_rng(0)
    measured = data.features + torch.from_numpy(rng.normal(50, 3, data.features.shape)).float()
    assert choose_scaling(data.features) == "rows"
    assert choose_scaling(measured) == "columns"
    few = FitConfig(epochs=5)
    fitted = SheafClassifier.fit(replace(data, features=measured), network=SMALL, training=few)
    assert fitted.about.scaling == "columns"
    units = SheafClassifier.fit(
        replace(data, features=1000 * measured - 7), network=SMALL, training=few
    )
    first = fitted.predict(replace(data, features=measured)).probabilities
    second = units.predict(replace(data, features=1000 * measured - 7)).probabilities
    assert torch.allclose(first, second, atol=1e-2)
    # Half of the graph is scaled by the whole, not by itself.
    half = NodeData.of("half", np.zeros((2, 0)), measured[:60], data.labels[:60])
    alone = NodeData.of("all", np.zeros((2, 0)), measured, data.labels)
    assert torch.allclose(
        fitted.predict(half).probabilities, fitted.predict(alone).probabilities[:60], atol=1e-5
    )


def test_a_stopped_fit_keeps_its_best_weights():
    data, seen = graph(), []
    fitted = SheafClassifier.fit(
        data, network=SMALL, training=QUICK,
        progress=lambda *a: seen.append(a), stop=lambda: len(seen) >= 8,
    )  # fmt: skip
    assert fitted.fitted.epochs == 8
    assert torch.allclose(fitted.fitted.logits.softmax(1), fitted.predict(data).probabilities)


def test_refusals(model):
    data = graph()
    narrow = replace(data, features=data.features[:, :5])
    with pytest.raises(ArgumentError, match="5 features, the model was trained with 80"):
        model.predict(narrow)
    with pytest.raises(ArgumentError, match="expected a NodeData or a PyG Data"):
        model.predict([1, 2])
    with pytest.raises(DataError, match="fewer than two classes"):
        SheafClassifier.fit(NodeData.of("x", [[0], [1]], None, [0, 0, -1]))
    split = Split(torch.arange(5), torch.tensor([], dtype=torch.int64), torch.arange(5, 9))
    with pytest.raises(DataError, match="no validation nodes"):
        SheafClassifier.fit(data, split)
    good = data.splits[0]
    with pytest.raises(DataError, match="node 120"):
        SheafClassifier.fit(data, Split(good.train, good.val, torch.tensor([120])))
    labels = data.labels.clone()
    labels[good.test[0]] = -1
    with pytest.raises(DataError, match="no label"):
        SheafClassifier.fit(replace(data, labels=labels, splits=()), good)
    with pytest.raises(ArgumentError, match="cannot move to device 'warp'"):
        model.to("warp")


def test_only_the_very_data_were_trained_on(model, tmp_path):
    data = graph()
    assert model.trained_on(data)
    model.save(tmp_path / "m")
    assert SheafClassifier.load(tmp_path / "m").trained_on(data)
    labels = data.labels.clone()
    labels[0] = (labels[0] + 1) % 3
    relabelled = replace(data, labels=labels)
    assert model.knows(relabelled)
    assert not model.trained_on(relabelled)
    assert not model.trained_on(replace(data, edges=data.edges[:, 1:]))


def test_a_network_of_one_graph_refuses_others(tmp_path):
    data = graph()
    tied = SheafClassifier.fit(
        data, network=replace(SMALL, adjacency=4), training=FitConfig(epochs=3)
    )
    tied.save(tmp_path / "m")
    again = SheafClassifier.load(tmp_path / "m")
    assert again.knows(data)
    assert torch.equal(again.predict(data).classes, tied.predict(data).classes)
    with pytest.raises(ArgumentError, match=r"another graph.*network\.adjacency"):
        again.predict(graph(5))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"kind": "gdss"}, CheckpointError, "expected 'sheaf'"),
        ({"task": {"features": 81}}, CheckpointError, "do not fit"),
        ({"task": {"scaling": "columns"}}, CheckpointError, "no scaling"),
        ({"task": {"classes": 3}}, ConfigError, "classes"),
    ],
)
def test_damaged_cards_are_refused(model, tmp_path, change, error, words):
    model.save(tmp_path / "m")
    path = tmp_path / "m" / "card.json"
    card = json.loads(path.read_text())
    for key, value in change.items():
        card[key] = {**card[key], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(card))
    with pytest.raises(error, match=words):
        SheafClassifier.load(tmp_path / "m")


# --- several splits -----------------------------------------------------------------------------


def test_comparison_keeps_the_best_split_and_pairs():
    data = graph()
    plan = Plan(SMALL, FitConfig(epochs=25, patience=25))
    done = []
    found = compare(
        data, data.splits, plan, progress=lambda k, n: done.append((k, n)), baselines=True
    )
    rows = {row["method"]: row for row in found.rows()}
    assert set(rows) == {SHEAF, IDENTITY, "majority", "label-propagation", "mlp", "gcn"}
    assert all(row["n"] == 3 for row in rows.values())
    mine, other = found.of(SHEAF), found.of("mlp")
    gap = np.mean([mine[k].test - other[k].test for k in range(3)])
    assert rows["mlp"]["difference"] == pytest.approx(gap)
    assert rows["mlp"]["p"] <= rows["mlp"]["p_holm"]
    assert found.split == max(range(3), key=lambda k: mine[k].val)
    test = data.splits[found.split].test
    right = found.classifier.predict(data).classes[test] == data.labels[test]
    assert float(right.float().mean()) == pytest.approx(mine[found.split].test)
    shares = [k / n for k, n in done]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_one_split_is_tested_over_its_nodes():
    from scipy.stats import binomtest

    data = graph()
    found = compare(data, data.splits[:1], Plan(SMALL, FitConfig(epochs=25, patience=25)))
    row = next(r for r in found.rows() if r["method"] == "majority")
    mine, other = found.of(SHEAF)[0].right, found.of("majority")[0].right
    won, lost = int((mine & ~other).sum()), int((other & ~mine).sum())
    assert row["p"] == pytest.approx(binomtest(won, won + lost).pvalue)
    bounds = binomtest(int(other.sum()), len(other)).proportion_ci()
    assert (row["low"], row["high"]) == pytest.approx((bounds.low, bounds.high))


def test_tuning_draws_from_the_space_and_reports_the_default_beside():
    data, plan = graph(), Plan(SMALL, FitConfig(epochs=6))
    rng = np.random.default_rng(0)
    drawn = [draw_plan(plan, rng) for _ in range(30)]
    for table, keys in SPACE.items():
        for key, values in keys.items():
            assert {getattr(getattr(p, table), key) for p in drawn} == set(values), key
    assert all(p.network.maps == SMALL.maps and p.fit.epochs == 6 for p in drawn)
    found = compare(data, data.splits[:2], plan, tune=2, baselines=False)
    tuned, default = found.of(SHEAF), found.of("sheaf, not tuned")
    assert all(tuned[k].val >= default[k].val for k in tuned)
    alone = compare(data, data.splits[:2], plan, baselines=False).of(SHEAF)
    assert [default[k].test for k in (0, 1)] == [alone[k].test for k in (0, 1)]


def test_a_stop_keeps_what_is_complete():
    data, seen = graph(), []
    plan = Plan(SMALL, FitConfig(epochs=10, patience=10))
    found = compare(
        data, data.splits, plan, baselines=False,
        progress=lambda *a: seen.append(a), stop=lambda: len(seen) > 15,
    )  # fmt: skip
    assert found.stopped
    assert list(found.of(SHEAF)) == [0]
    assert found.classifier.fitted.epochs == 10
