"""Baselines and scores, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from graphdiff.core.errors import ArgumentError
from graphdiff.data.signed import SignedEvents
from graphdiff.graph.semba.baselines import EdgeBank, boosted, drained, logistic, prior
from graphdiff.graph.semba.metrics import best_threshold, class_f1, measure
from graphdiff.graph.semba.negatives import Negatives
from graphdiff.graph.semba.stream import NONE, EventStream
from graphdiff.graph.semba.synthetic import two_camps


@pytest.fixture(scope="module")
def events() -> SignedEvents:
    return two_camps(nodes=30, events=1500, noise=0.05, seed=4)[0]


def test_history_tells_the_sides(events) -> None:
    """Triads of the causal history decide signs that activity of nodes does not."""
    train = EventStream(events, 0, 1100, teacher=True)
    test = EventStream(events, 1100, batch=10)
    for model in (boosted(train, max_iter=60), logistic(train)):
        found = model.predict(test)
        assert found.metrics()["auc"] > 0.85
        np.testing.assert_allclose(found.scores, model.scores(drained(test)[0]), rtol=1e-5)
    assert prior(train, test).metrics()["auc"] == 0.5


def test_thresholds_are_those_of_validation(events) -> None:
    train, valid = EventStream(events, 0, 900, teacher=True), EventStream(events, 900, 1200)
    model = boosted(train, max_iter=20).chosen(valid)
    found = model.predict(valid)
    here = found.metrics()["f1_macro"]
    for threshold in np.quantile(found.scores, np.linspace(0, 1, 23)):
        assert measure("sign", found.scores, found.labels, threshold)["f1_macro"] <= here + 1e-2
    assert model.predict(EventStream(events, 1200)).threshold == model.threshold


@pytest.mark.parametrize("task", ["signlink", "weight"])
def test_other_tasks(events, task) -> None:
    train = EventStream(events, 0, 1100, task=task, teacher=True)
    test = EventStream(events, 1100, task=task, batch=50)
    main = {"signlink": "f1_macro", "weight": "pcc"}[task]
    chance = prior(train, test).metrics()[main]
    for model in (boosted(train, max_iter=40), logistic(train)):
        assert model.chosen(test) is model
        assert model.predict(test).metrics()[main] > chance + 0.1


def test_edge_bank_by_hand() -> None:
    events = SignedEvents.of([0, 1, 0, 1, 2], [1, 2, 1, 0, 1], [1, -1, -1, 1, 1], [0, 1, 2, 3, 4])
    for undirected in (False, True):
        stream = EventStream(events, 2, batch=1, task="signlink", negatives=Negatives("historical"))
        EdgeBank(undirected).predict(stream)
        for batch in stream.batches:
            seen = 2 + batch.number
            rows = zip(events.source[:seen], events.target[:seen], events.weight, strict=False)
            bank = {}
            for u, v, w in rows:
                bank[u, v] = w
                if undirected:
                    bank[v, u] = w
            pairs = zip(batch.queries.source, batch.queries.target, strict=True)
            wanted = [NONE if p not in bank else int(bank[p] > 0) for p in pairs]
            assert batch.scores.argmax(1).tolist() == wanted
    with pytest.raises(ArgumentError, match="answers 'signlink'"):
        EdgeBank().predict(EventStream(events))


def test_scores_equal_those_of_scikit_learn() -> None:
    from sklearn import metrics

    rng = np.random.default_rng(0)
    y, s = rng.integers(0, 2, 300), rng.normal(size=300).round(1)
    found = measure("sign", s, y, 0.3)
    p = (s > 0.3).astype(int)
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(y, s))
    for name, kind in (("f1_macro", "macro"), ("f1_weighted", "weighted")):
        assert found[name] == pytest.approx(metrics.f1_score(y, p, average=kind))
    assert found["f1_negative"] == pytest.approx(metrics.f1_score(1 - y, 1 - p))
    y3, s3 = rng.integers(0, 3, 300), rng.normal(size=(300, 3))
    found = measure("signlink", s3, y3)
    wanted = metrics.f1_score(y3, s3.argmax(1), average="macro")
    assert found["f1_macro"] == pytest.approx(wanted)
    odds = np.exp(s3[:, :2]).sum(1) / np.exp(s3).sum(1)
    assert found["link_auc"] == pytest.approx(metrics.roc_auc_score(y3 != NONE, odds))
    real = y3 != NONE
    sign = metrics.roc_auc_score(y3[real], s3[real, 1] - s3[real, 0])
    assert found["sign_auc"] == pytest.approx(sign)
    w, z = rng.normal(size=200), rng.normal(size=200)
    found = measure("weight", z, w)
    assert found["r2"] == pytest.approx(metrics.r2_score(w, z))
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(w, z))
    assert found["pcc"] == pytest.approx(np.corrcoef(w, z)[0, 1])
    assert measure("weight", np.ones(200), w)["pcc"] == 0


def test_thresholds_and_classes() -> None:
    scores, labels = np.array([0.0, 1, 2, 3]), np.array([0.0, 0, 1, 1])
    assert 1 <= best_threshold(scores, labels) < 2
    # One negative above all positives: it is best to call all positive.
    above = np.array([1.0, 1, 1, 0])
    found = best_threshold(scores, above)
    assert found < 0
    assert measure("sign", scores, above, found)["f1_macro"] == pytest.approx(3 / 7)
    assert class_f1(np.array([0, 0]), np.array([0, 1]), 3).tolist() == pytest.approx([2 / 3, 0, 0])
    with pytest.raises(ArgumentError, match="no task 'edges'"):
        measure("edges", scores, labels)
    with pytest.raises(ArgumentError, match="needs both classes"):
        measure("sign", scores, np.ones(4))
