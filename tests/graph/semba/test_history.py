"""Causal history: every column against a plain loop over the past, and nothing of the future."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphdiff.core.errors import ArgumentError
from graphdiff.data.signed import SignedEvents
from graphdiff.graph.semba.history import FEATURES, History, strict_past


def some(m: int = 250, n: int = 14, seed: int = 0, instants: int = 90) -> SignedEvents:
    rng = np.random.default_rng(seed)
    u = rng.integers(0, n, m)
    v = (u + rng.integers(1, n, m)) % n
    w = rng.choice([-3.0, -1.0, 1.0, 2.0, 5.0], m)
    return SignedEvents.of(u, v, w, np.sort(rng.integers(0, instants, m)).astype(float) * 100)


def column(name: str) -> int:
    return FEATURES.index(name)


def base(past) -> float:
    return 1 - 2 * (sum(w < 0 for *_, w, _ in past) + 1) / (len(past) + 2)


def mean(past, end: int, node: int) -> float:
    signs = [np.sign(e[2]) for e in past if e[end] == node]
    return (sum(signs) + 2 * base(past)) / (len(signs) + 2)


def slow(events: SignedEvents, u: int, v: int, t: float, seen: int) -> dict[str, float]:
    """The definitions of the module docstring, one event after the other."""
    rows = list(zip(events.source, events.target, events.weight, events.time, strict=True))
    past = rows[:seen]
    found: dict[str, float] = {}
    for who, node in (("source", u), ("target", v)):
        for end, role in ((0, "gave"), (1, "received")):
            mine = [(k, e) for k, e in enumerate(past) if e[end] == node]
            signs = [np.sign(e[2]) for _, e in mine]
            size = len(mine)
            residual = trusted = 0.0
            for k, e in mine:
                before = [x for x in rows[:k] if x[3] < e[3]]
                sign = np.sign(e[2])
                # Given: against how the receiver stands. Received: against how the giver praises.
                residual += sign - mean(before, 1 - end, e[1 - end])
                trusted += sign * max(mean(before, 1, e[1 - end]), 0)
            values = {
                "count": math.log1p(size),
                "mean sign": (sum(signs) + 2 * base(past)) / (size + 2),
                "mean weight": sum(np.sign(e[2]) * math.log1p(abs(e[2])) for _, e in mine)
                / (size + 1),
                "residual": residual / (size + 1),
                "last 5": sum(s < 0 for s in signs[-5:]) / (min(size, 5) + 1),
                "last 20": sum(s < 0 for s in signs[-20:]) / (min(size, 20) + 1),
                "trusted": trusted / (size + 1),
                "age": math.log1p(t - mine[-1][1][3]) / 10 if mine else 3.0,
            }
            found |= {f"{who} {role}: {k}": x for k, x in values.items()}
    for way, (a, b) in (("same pair", (u, v)), ("reverse", (v, u))):
        mine = [e for e in past if (e[0], e[1]) == (a, b)]
        last = mine[-1] if mine else None
        found[f"{way}: count"] = math.log1p(len(mine))
        found[f"{way}: weight"] = np.sign(last[2]) * math.log1p(abs(last[2])) if last else 0.0
        found[f"{way}: age"] = math.log1p(t - last[3]) / 10 if last else 3.0
    start = max(seen - 200, 0)
    found["recent negative share"] = sum(e[2] < 0 for e in rows[start:seen]) / (seen - start + 1)
    return found


def test_columns_equal_a_loop_over_the_past() -> None:
    events = some()
    past = strict_past(events.time)
    x = History(events).features(events.source, events.target, events.time, past)
    assert x.shape == (len(events), len(FEATURES))
    for k in (0, 1, 40, 120, 201, 249):
        u, v = int(events.source[k]), int(events.target[k])
        wanted = slow(events, u, v, float(events.time[k]), int(past[k]))
        assert len(wanted) == len(FEATURES) - 8
        for name, value in wanted.items():
            assert x[k, column(name)] == pytest.approx(value, abs=2e-5), (k, name)


def test_triads_equal_a_loop_over_common_neighbours() -> None:
    """One path for each event at the end of fewer events, with the last event beyond."""
    events = some(m=120, n=9, seed=1)
    past = strict_past(events.time)
    x = History(events).features(events.source, events.target, events.time, past)
    rows = list(zip(events.source, events.target, np.sign(events.weight), strict=True))
    turned = set()
    for k in range(20, 120, 6):
        u, v, seen = events.source[k], events.target[k], rows[: past[k]]
        degree = {a: sum(a in e[:2] for e in seen) for a in (u, v)}
        turned.add(bool(degree[v] < degree[u]))
        start, goal = (v, u) if degree[v] < degree[u] else (u, v)
        found = {a + b: [0, 0.0] for a in "><" for b in "><"}
        for a, b, sign in seen:
            if start not in (a, b):
                continue
            middle = b if a == start else a
            for ends in ((middle, goal), (goal, middle)):
                beyond = [s for c, d, s in seen if (c, d) == ends]
                if beyond:
                    near, far = a == start, ends[0] == middle  # forwards, seen from the start
                    way = (near, far) if start == u else (not far, not near)
                    name = "".join(">" if forward else "<" for forward in way)
                    found[name][0] += 1
                    found[name][1] += sign * beyond[-1]
        for name, (count, balance) in found.items():
            assert x[k, column(f"triads {name}: count")] == pytest.approx(math.log1p(count))
            got = x[k, column(f"triads {name}: balance")]
            assert got == pytest.approx(balance / (count + 1), abs=1e-6)
    assert turned == {False, True}


def test_the_future_does_not_change_a_bit() -> None:
    events = some()
    cut = int(strict_past(events.time)[150])
    rng = np.random.default_rng(5)
    w = events.weight.copy()
    w[cut:] = rng.choice([-7.5, 0.3], len(w) - cut)
    u, v = events.source.copy(), events.target.copy()
    u[cut:], v[cut:] = v[cut:], u[cut:]
    other = SignedEvents(u, v, w, events.time, events.nodes)
    ask = (
        events.source[:cut],
        events.target[:cut],
        events.time[:cut],
        strict_past(events.time)[:cut],
    )
    assert (History(events).features(*ask) == History(other).features(*ask)).all()
    near = [h.recent(ask[0], ask[3], 4) for h in (History(events), History(other))]
    assert all((a == b).all() for a, b in zip(*near, strict=True))


def test_queries_of_their_own_instant_are_refused() -> None:
    events = some()
    one = np.array([0])
    t = events.time[100:101]
    with pytest.raises(ArgumentError, match="only those strictly before may be visible"):
        History(events).features(one, one + 1, t, 101)
    assert History(events).features(one, one + 1, t, int(strict_past(events.time)[100])).any()


def test_unknown_nodes_have_an_empty_past() -> None:
    events = some()
    far = np.array([events.num_nodes + 5])
    x = History(events).features(far, far + 1, events.time[-1:] + 1, len(events))[0]
    for name in FEATURES:
        if "count" in name or "weight" in name or "balance" in name:
            assert x[column(name)] == 0, name
        if "age" in name:
            assert x[column(name)] == 3, name


def test_last_events_of_a_node() -> None:
    events = some()
    nodes, seen = np.array([0, 3, 3, 99]), np.array([250, 120, 0, 250])
    other, weight, time, received, there = History(events).recent(nodes, seen, 6)
    for r, (node, end) in enumerate(zip(nodes, seen, strict=True)):
        mine = [k for k in range(end) if node in (events.source[k], events.target[k])][::-1][:6]
        assert there[r].sum() == len(mine)
        for c, k in enumerate(mine):
            got = events.target[k] == node
            assert received[r, c] == got
            assert other[r, c] == (events.source[k] if got else events.target[k])
            assert (weight[r, c], time[r, c]) == (events.weight[k], events.time[k])
