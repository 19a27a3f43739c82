"""States: collate, pad and unpad lose nothing; buckets waste little; errors name the sample."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdiff.core.errors import ArgumentError
from graphdiff.core.space import Dense, Symmetric
from graphdiff.core.state import State, bucket_by_size, collate, concat, pad, unpad

SPACES = {"x": Dense(), "adj": Symmetric(), "y": Dense()}
NODES = ("x", "adj")


def graph(n: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randint(0, 2, (n, n), generator=generator).triu(1)
    x = torch.randn(n, 3, generator=generator)
    return {"x": x, "adj": a + a.T, "y": torch.randn(2, generator=generator)}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5), more=st.integers(0, 4))
def test_round_trip(sizes, more):
    items = [graph(n, seed) for seed, n in enumerate(sizes)]
    state = collate(items, SPACES, range(len(sizes)), nodes=NODES)
    assert state["x"].shape[1] == max(sizes)
    assert state.mask("x").sum(1).tolist() == sizes
    assert state.mask("y") is None
    wider = pad(state, SPACES, max(sizes) + more)
    assert wider["adj"].shape[1:] == (max(sizes) + more,) * 2
    assert wider["adj"].dtype == torch.int64
    for one in (state, wider, collate(items, SPACES, range(len(sizes)), nodes=NODES, to=9)):
        assert all(equal(a, b) for a, b in zip(items, unpad(one, SPACES), strict=True))


def test_select_concat_replace_to():
    items = [graph(n, n) for n in (2, 4, 3)]
    state = collate(items, SPACES, [7, 8, 9], nodes=NODES)
    for index in ([2, 0], torch.tensor([2, 0])):
        part = state.select(index)
        assert part.ids.tolist() == [9, 7]
        assert all(
            equal(a, b) for a, b in zip(unpad(part, SPACES), [items[2], items[0]], strict=True)
        )
    joined = concat([state.select(slice(0, 1)), state.select(slice(1, 3))])
    assert torch.equal(joined["adj"], state["adj"])
    assert torch.equal(joined.mask("x"), state.mask("x"))
    bare = State(state.values, {}, state.ids)
    assert concat([bare, state]).mask("adj").sum(1).tolist() == [4, 4, 4, 2, 4, 3]
    assert not state.replace(x=torch.zeros(3, 4, 3))["x"].any()
    assert state.to("cpu").device.type == "cpu"
    assert state.batch_size == 3


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), max_size=60),
    batch=st.integers(1, 16),
    waste=st.floats(0, 0.9),
)
def test_buckets(sizes, batch, waste):
    buckets = bucket_by_size(sizes, batch=batch, max_waste=waste)
    places = [i for bucket in buckets for i in bucket.index.tolist()]
    assert sorted(places) == list(range(len(sizes)))
    for bucket in buckets:
        own = [sizes[i] for i in bucket.index.tolist()]
        assert bucket.size == max(own)
        assert len(own) <= batch
        assert 1 - sum(own) / (bucket.size * len(own)) <= waste + 1e-12
    assert [b.size for b in buckets] == sorted((b.size for b in buckets), reverse=True)


def test_one_node_graph():
    state = collate([graph(1)], SPACES, [0], nodes=NODES)
    assert state["adj"].shape == (1, 1, 1)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: collate([], SPACES, []), "empty"),
        (
            lambda: collate([graph(5), graph(9)], SPACES, [0, 1], nodes=NODES, to=6),
            "sample 1 has 9",
        ),
        (lambda: collate([{"x": torch.ones(2, 3)}], SPACES, [0]), "lacks"),
        (
            lambda: collate([{**graph(2), "x": torch.ones(3, 3)}], SPACES, [0], nodes=NODES),
            "different numbers of nodes",
        ),
        (
            lambda: collate(
                [graph(2), {**graph(2), "y": torch.ones(5)}], SPACES, [0, 1], nodes=NODES
            ),
            "component 'y'",
        ),
        (lambda: pad(collate([graph(5)], SPACES, [0], nodes=NODES), SPACES, 3), "more than the 3"),
        (lambda: concat([]), "empty"),
        (lambda: bucket_by_size([1], batch=0), "batch"),
        (lambda: bucket_by_size([1], batch=1, max_waste=1.0), "max_waste"),
        (lambda: State({"x": torch.ones(2)}, {}, torch.arange(3)), "'x'"),
        (lambda: State({"x": torch.ones(2)}, {"z": torch.ones(2).bool()}, torch.arange(2)), "'z'"),
        (lambda: State({"x": torch.ones(2)}, {"x": torch.ones(2)}, torch.arange(2)), "torch.bool"),
        (lambda: State({"x": torch.ones(2)}, {}, torch.ones(2)), "int64"),
        (lambda: State({"x": torch.ones(2)}, {}, torch.arange(2))["z"], "'z'"),
        (
            lambda: concat([State({"x": torch.ones(1, n)}, {}, torch.arange(1)) for n in (2, 3)]),
            "state 1",
        ),
    ],
)
def test_errors(call, word):
    with pytest.raises(ArgumentError, match=word):
        call()
