"""Networks of architectures: what places may see, and in which direction."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

from graphdiff.graph.nag.spaces import DAG, NASBench201
from graphdiff.graph.nets.cate import CATE, closure, visible
from graphdiff.graph.nets.dag import DAGTransformer
from graphdiff.graph.nets.directed import DirectedGCN

WIRES = torch.from_numpy(NASBench201.wiring)


def test_the_closure_is_that_of_networkx() -> None:
    wires = torch.from_numpy(DAG().draw(30, np.random.default_rng(0)).wires)
    found = closure(wires)
    for one, reach in zip(wires, found, strict=True):
        graph = nx.transitive_closure(nx.from_numpy_array(one.numpy(), create_using=nx.DiGraph))
        assert np.array_equal(nx.to_numpy_array(graph, nodelist=range(8)) > 0, reach.numpy())


@pytest.mark.parametrize("mask", ["closure", "adjacency", "none"])
def test_places_see_what_the_mask_allows(mask: Any) -> None:
    """By gradients of each output through one layer."""
    torch.manual_seed(0)
    net = CATE(WIRES, 7, 7, layers=1, width=16, heads=2, ff=16, mask=mask).eval().double()
    x = torch.rand(1, 8, 7, dtype=torch.float64, requires_grad=True)
    out = net({"ops": x}, torch.full((1,), 0.3), {})["ops"]
    seen = torch.stack(
        [torch.autograd.grad(out[0, i].sum(), x, retain_graph=True)[0][0].abs().sum(1) > 0
         for i in range(8)]
    )  # fmt: skip
    assert torch.equal(seen, visible(WIRES, mask))
    assert bool(seen[7, 1]) or mask == "adjacency"  # the output is told of the first operation
    assert bool(seen[0, 7]) == (mask == "none")  # the input reads nothing
    if mask == "adjacency":
        assert not torch.equal(seen, visible(WIRES, "closure"))


def test_the_published_shape() -> None:
    net = CATE(WIRES, 7, 7)
    assert len(net.layers) == 12
    assert [m.in_features for m in net.out if hasattr(m, "in_features")] == [768, 1536]


def net(wires: int = 3, **more: Any) -> DAGTransformer:
    torch.manual_seed(0)
    shape = {"wires": wires, "wires_out": wires, "layers": 2, "width": 16, "heads": 2, **more}
    return DAGTransformer(8, 5, 5, **shape).eval().double()


def classes(b: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "ops": torch.randint(5, (b, 8), generator=generator),
        "adj": torch.randint(3, (b, 8, 8), generator=generator),
    }


def test_what_stands_below_the_diagonal_is_not_read() -> None:
    values, made = classes(), net()
    first = made(values, torch.zeros(2), {})
    values["adj"] = values["adj"].triu(1)
    second = made(values, torch.zeros(2), {})
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_direction_is_seen() -> None:
    """The same graph with its wires turned round, places in reverse order, is another input."""
    values, made = classes(1), net()
    values["adj"] = values["adj"].triu(1)
    with torch.no_grad():
        made.place.zero_()
        turned = {
            "ops": values["ops"].flip(1),
            "adj": values["adj"].transpose(1, 2).flip(1, 2),
        }
        first, second = made(values, torch.zeros(1), {}), made(turned, torch.zeros(1), {})
    assert not torch.allclose(first["ops"], second["ops"].flip(1), atol=1e-4)


def test_weights_of_classes_are_classes() -> None:
    values, made = classes(), net()
    hot = {
        "ops": torch.nn.functional.one_hot(values["ops"], 5).double(),
        "adj": torch.nn.functional.one_hot(values["adj"], 3).double(),
    }
    first, second = made(values, torch.zeros(2), {}), made(hot, torch.zeros(2), {})
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["adj"].shape == (2, 8, 8, 3)


def test_a_batch_is_its_members() -> None:
    values, made = classes(3), net()
    whole = made(values, torch.linspace(0, 1, 3), {})
    for k in range(3):
        one = made(
            {n: v[k : k + 1] for n, v in values.items()}, torch.linspace(0, 1, 3)[k:][:1], {}
        )
        for name, out in one.items():
            torch.testing.assert_close(out[0], whole[name][k])


def test_messages_go_both_ways() -> None:
    """Two layers reach two steps along and two against the wires, and no further."""
    torch.manual_seed(0)
    n = 7
    wires = torch.eye(n).roll(1, 1)
    wires[-1, 0] = 0
    made = DirectedGCN(3, layers=2, width=8, hidden=8).eval().double()
    x = torch.rand(1, n, 3, dtype=torch.float64, requires_grad=True)
    h = x
    for k in range(2):
        loops = wires.double() + torch.eye(n)
        into, back = loops.T / loops.T.sum(-1, keepdim=True), loops / loops.sum(-1, keepdim=True)
        h = torch.relu(0.5 * (into @ made.along[k](h) + back @ made.against[k](h)))
    seen = torch.autograd.grad(h[0, 3].sum(), x)[0][0].abs().sum(1) > 0
    assert seen.tolist() == [False, True, True, True, True, True, False]
    out = made(x, wires, torch.zeros(1))
    want = made.head(torch.cat([h.mean(1), made.clock(_clock())], -1))
    torch.testing.assert_close(out, want)


def _clock() -> torch.Tensor:
    from graphdiff.graph.nets.pair_transformer import clock_features

    return clock_features(torch.zeros(1, dtype=torch.float64), 32).double()
