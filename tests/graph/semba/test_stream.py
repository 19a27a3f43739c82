"""Predict, then update: what a stream refuses to tell, and when."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphdiff.core.errors import ArgumentError
from graphdiff.data.signed import SignedEvents
from graphdiff.graph.semba.negatives import Negatives
from graphdiff.graph.semba.stream import NONE, EventStream, PredictFirst
from graphdiff.graph.semba.synthetic import two_camps


@pytest.fixture(scope="module")
def events() -> SignedEvents:
    return two_camps(nodes=25, events=400, seed=3)[0]


def tied(m: int = 60) -> SignedEvents:
    u = np.arange(m) % 7
    return SignedEvents.of(u, u + 1, np.where(np.arange(m) % 3, 1, -1), np.arange(m) // 4)


def zeros(batch) -> np.ndarray:
    return np.zeros(len(batch.queries))


def test_events_before_predictions_are_refused(events) -> None:
    batch = next(iter(EventStream(events, batch=50)))
    for name in ("events", "labels"):
        with pytest.raises(PredictFirst, match="asked for before its predictions were handed in"):
            getattr(batch, name)
    shown = set(vars(batch.queries))
    assert shown == {"source", "target", "time", "history", "visible", "_known"}
    seen = batch.reveal(zeros(batch))
    assert batch.events is seen
    assert (seen.weight == events.weight[:50]).all()
    assert (batch.labels == (events.weight[:50] > 0)).all()


def test_predictions_are_final(events) -> None:
    stream = EventStream(events, batch=400)
    batch = next(iter(stream))
    scores = torch.zeros(400, dtype=torch.float64, requires_grad=True)
    batch.reveal(scores)
    with torch.no_grad():
        scores += 7
    assert (stream.scores == 0).all()
    with pytest.raises(ArgumentError, match="final"):
        batch.reveal(scores)


def test_the_next_batch_waits_for_the_last(events) -> None:
    stream = EventStream(events, batch=50)
    served = iter(stream)
    next(served)
    with pytest.raises(PredictFirst, match="batch 1 was asked for before batch 0 was predicted"):
        next(served)
    for batch in stream:
        if batch.number == 3:
            with pytest.raises(PredictFirst, match="3 of 8 batches"):
                _ = stream.scores
        batch.reveal(zeros(batch))
    assert len(stream.labels) == 400


@pytest.mark.parametrize("bad", [np.zeros(3), np.full(50, np.nan), np.zeros((50, 2))])
def test_bad_scores(events, bad) -> None:
    batch = next(iter(EventStream(events, batch=50)))
    with pytest.raises(ArgumentError, match="expected finite numbers of shape"):
        batch.reveal(bad)
    with pytest.raises(PredictFirst):
        _ = batch.labels


def test_batches_end_with_an_instant() -> None:
    events = tied()
    sizes = []
    for batch in EventStream(events, batch=5):
        assert len(np.intersect1d(batch.queries.time, events.time[: sum(sizes)])) == 0
        sizes.append(len(batch.queries))
        batch.reveal(zeros(batch))
    assert sizes == [8] * 7 + [4]
    ones = [len(b.queries) for b in EventStream(events, batch=1) if b.reveal(zeros(b))]
    assert ones == [4] * 15
    with pytest.raises(ArgumentError, match="a stream starts with an instant"):
        EventStream(events, 6)
    with pytest.raises(ArgumentError, match=r"event 22 .* a stream ends with an instant"):
        EventStream(events, 4, 22)
    last = [b for b in EventStream(events, 4, 24, batch=7) if b.reveal(zeros(b))][-1]
    assert last.queries.time.max() < events.time[24]


@pytest.mark.parametrize("teacher", [False, True])
def test_what_a_query_sees(events, teacher) -> None:
    for batch in EventStream(events, 100, batch=50, teacher=teacher):
        first = 100 + 50 * batch.number
        wanted = np.arange(first, first + 50) if teacher else np.full(50, first)
        assert (batch.queries.visible == wanted).all()
        near = batch.queries.recent(5)
        limit = batch.queries.time if teacher else np.full(50, events.time[first])
        assert (near.time < np.tile(limit, 2)[:, None])[near.there].all()
        batch.reveal(zeros(batch))


@pytest.mark.parametrize("task", ["sign", "signlink", "weight"])
def test_later_events_change_no_earlier_query(events, task) -> None:
    """Whatever happens from batch b on, the queries up to b are the same to the bit."""
    weight = events.weight.copy()
    weight[250:] *= -3
    u, v = events.source.copy(), events.target.copy()
    u[300:], v[300:] = (u[300:] + 1) % 25, (v[300:] + 1) % 25
    other = SignedEvents(u, v, weight, events.time, events.nodes)
    wide = 3 if task == "signlink" else None
    kept = []
    for data in (events, other):
        stream = EventStream(data, 50, batch=50, task=task, negatives=Negatives("historical"))
        rows = []
        for batch in stream:
            q = batch.queries
            rows.append((q.source, q.target, q.time, q.history, q.recent(4).weight))
            size = len(q)
            batch.reveal(np.zeros((size, wide) if wide else size))
        kept.append(rows)
    for k in range(5):  # events 50 to 300; those of batch 4 have other weights only
        assert all((a == b).all() for a, b in zip(kept[0][k], kept[1][k], strict=True)), k
    assert not (kept[0][5][3] == kept[1][5][3]).all()


def test_signlink_queries(events) -> None:
    stream = EventStream(events, 200, batch=40, task="signlink", seed=1)
    place = []
    for batch in stream:
        q = batch.queries
        seen = batch.reveal(np.zeros((len(q), 3)))
        real = seen.labels != NONE
        assert real.sum() == len(seen) == len(q) // 2
        pairs = set(zip(seen.source.tolist(), seen.target.tolist(), strict=True))
        asked = list(zip(q.source.tolist(), q.target.tolist(), strict=True))
        assert all((pair in pairs) == bool(r) for pair, r in zip(asked, real, strict=True))
        sign = {p: w > 0 for p, w in zip(pairs_of(seen), seen.weight, strict=True)}
        for pair, label in zip(asked, seen.labels, strict=True):
            if label != NONE and pairs_of(seen).count(pair) == 1:
                assert label == sign[pair]
        place.append(real[: len(real) // 2].mean())
    assert 0.3 < np.mean(place) < 0.7  # the order does not tell which are events


def pairs_of(seen) -> list[tuple[int, int]]:
    return list(zip(seen.source.tolist(), seen.target.tolist(), strict=True))


def test_negatives_of_each_kind(events) -> None:
    def pairs(a: int, b: int) -> set[tuple[int, int]]:
        return {
            (int(u), int(v)) for u, v in zip(events.source[a:b], events.target[a:b], strict=True)
        }

    rng, now = np.random.default_rng(0), pairs(300, 350)
    for kind, pool in (
        ("historical", pairs(0, 300) - now),
        ("inductive", pairs(200, 300) - pairs(0, 200) - now),
    ):
        u, v = Negatives(kind, train=200).draw(events, 300, 350, rng)
        drawn = set(zip(u.tolist(), v.tolist(), strict=True))
        assert drawn <= pool, kind
        assert len(drawn) > 5
    u, v = Negatives().draw(events, 300, 350, rng)
    assert (u == events.source[300:350]).mean() > 0.8
    assert (u != v).all()
    assert not set(zip(u.tolist(), v.tolist(), strict=True)) & now
    # Before the first event nobody has met: random pairs of those who appear in the batch.
    u, v = Negatives("historical").draw(events, 0, 50, rng)
    assert max(u.max(), v.max()) <= max(events.source[:50].max(), events.target[:50].max())


def test_bad_arguments(events) -> None:
    for how, match in (
        ({"start": 400}, "expected 0 <= start < stop"),
        ({"start": 10, "stop": 10}, "expected 0 <= start < stop"),
        ({"batch": 0}, "batches of 1 or more"),
        ({"task": "signs"}, "no task 'signs': known are sign, signlink, weight"),
    ):
        with pytest.raises(ArgumentError, match=match):
            EventStream(events, **how)
    with pytest.raises(ArgumentError, match="known are random, historical, inductive"):
        Negatives("hard")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="found train=0: give train"):
        Negatives("inductive")
