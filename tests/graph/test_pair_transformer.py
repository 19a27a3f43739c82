"""The pair transformer: symmetries, padding, conditions, and work done once for each pair."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from discrete_support import PAIR, moved, noisy, padded, real, scrambled, single
from torch import Tensor, nn

from graphdiff.graph.nets import half, pair_transformer
from graphdiff.graph.nets.pair_transformer import PairTransformer, clock_features

# (node classes, edge classes, other arguments): molecules, plain graphs, masks, conditions
CASES: dict[str, tuple[int, int, dict[str, Any]]] = {
    "molecules": (4, 4, {}),
    "plain": (0, 2, {}),
    "masks": (5, 3, {"hidden_class": True}),
    "plain masks": (0, 3, {"hidden_class": True}),
    "told": (0, 2, {"cond": 5}),
    "bare": (4, 4, {"triangles": 0, "count_cycles": False, "layers": 1}),
    "sheaf": (4, 4, {"mixing": "sheaf"}),
}
cases = pytest.mark.parametrize("case", CASES)


def network(case: str, **more: Any) -> PairTransformer:
    nodes, edges, extra = CASES[case]
    shape = {k: v for k, v in PAIR.items() if k != "kind"}
    # Small weights: raw outputs near one, so that absolute tolerances mean digits.
    return scrambled(PairTransformer(nodes, edges, largest=9, **{**shape, **extra, **more}), 0, 0.2)


def inputs(case: str, b: int = 9, n: int = 7) -> tuple[Any, Any, Tensor, Tensor | None]:
    nodes, edges, extra = CASES[case]
    values, masks, t = noisy(b, n, nodes, edges)
    width = extra.get("cond", 0)
    told = torch.sin(torch.arange(b * width, dtype=torch.float64)).view(b, width)
    return values, masks, t, told if width else None


def check(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal to rounding in float64: sums of a few hundred terms of order one."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-11, rtol=1e-10)


@cases
def test_shapes(case: str) -> None:
    nodes, edges, _ = CASES[case]
    values, masks, t, cond = inputs(case)
    out = network(case)(values, t, masks, cond)
    assert set(out) == set(values)
    assert out["adj"].shape == (9, 7, 7, edges)
    if nodes:
        assert out["x"].shape == (9, 7, nodes)
    full = {name: v[:1] for name, v in values.items()}  # the first graph has no padding
    check(
        network(case)(full, t[:1], {}, None if cond is None else cond[:1]),
        {name: v[:1] for name, v in out.items()},
    )


@cases
@pytest.mark.parametrize("path", [0, 100], ids=["matrices", "vectors"])
def test_permuting_the_nodes_permutes_the_answer(
    case: str, path: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padding moves into the middle and changes nothing either."""
    monkeypatch.setattr(half, "VECTOR_NODES", path)
    values, masks, t, cond = inputs(case)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    net, mask = network(case), masks["adj"]
    first = real(net(values, t, masks, cond), mask)
    there = {name: m[:, order] for name, m in masks.items()}
    second = real(net(moved(values, order), t, there, cond), mask[:, order])
    check(second, moved(first, order))
    assert (
        max(float(v.detach().std()) for v in first.values()) > 0.1
    )  # the answers are not constant


@cases
@pytest.mark.parametrize("path", [0, 100], ids=["matrices", "vectors"])
def test_padding_and_batch_mates_change_nothing(
    case: str, path: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half, "VECTOR_NODES", path)
    values, masks, t, cond = inputs(case)
    net, mask = network(case), masks["adj"]
    whole = real(net(values, t, masks, cond), mask)
    longer = net(padded(values, 5), t, padded(masks, 5), cond)
    longer = {n: v[:, :7, :7] if n == "adj" else v[:, :7] for n, v in longer.items()}
    check(real(longer, mask), whole)
    for k, n in enumerate(mask.sum(1).tolist()):
        alone = single(values, k, n)
        told = None if cond is None else cond[k : k + 1]
        out = net(alone, t[k : k + 1], {}, told)
        same = single(whole, k, n)
        check(real(out, torch.ones(1, n, dtype=torch.bool)), same)


@cases
def test_edges_are_symmetric(case: str) -> None:
    values, masks, t, cond = inputs(case)
    out = network(case)(values, t, masks, cond)["adj"]
    assert torch.equal(out, out.transpose(1, 2))
    assert out.diagonal(dim1=1, dim2=2).abs().sum() == 0


@cases
def test_every_parameter_learns(case: str) -> None:
    values, masks, t, cond = inputs(case)
    net = network(case)
    out = real(net(values, t, masks, cond), masks["adj"])
    sum(v.square().sum() for v in out.values()).backward()
    idle = {n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    # Without node classes nothing reads the normalised nodes of the end.
    assert idle == ({"out_norm_x.film.weight", "out_norm_x.film.bias"} if "x" not in out else set())
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in net.parameters())


def test_everything_that_is_told_matters() -> None:
    values, masks, t, cond = inputs("told")
    net = network("told")
    before = real(net(values, t, masks, cond), masks["adj"])["adj"].detach()
    for other in ((t.flip(0), cond), (t, cond.flip(0))):
        after = real(net(values, other[0], masks, other[1]), masks["adj"])["adj"].detach()
        assert (after - before).abs().amax((1, 2, 3))[0] > 1e-3


@pytest.mark.parametrize(("case", "classes"), [("molecules", {1, 2, 3}), ("masks", {1})])
def test_masks_are_no_edges_for_the_features(
    case: str, classes: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    for name in ("rrwp_pairs", "cycles"):
        function = getattr(pair_transformer, name)
        spy = lambda adj, *a, f=function: (seen.append(adj), f(adj, *a))[1]  # noqa: E731
        monkeypatch.setattr(pair_transformer, name, spy)
    values, masks, t, _ = inputs(case)
    network(case)(values, t, masks)
    expected = sum((values["adj"] == k).double() for k in classes)
    assert len(seen) == 2
    assert all(torch.equal(adj, expected) for adj in seen)


def test_edge_work_is_done_once_a_pair() -> None:
    """Counted, not timed: edge MLPs and edge logits run on n(n-1)/2 rows a graph."""
    values, masks, t, _ = inputs("molecules")
    net = network("molecules")
    rows: dict[str, int] = {}
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(
                lambda m, i, o, name=name: rows.__setitem__(name, o.shape[:-1].numel())
            )
    net(values, t, masks)
    pairs = {"out_e", "in_e", *(f"layers.{k}.{m}" for k in (0, 1)
             for m in ("bias", "paths", "edge.0", "edge.2"))}  # fmt: skip
    assert {name for name, count in rows.items() if count == 9 * 7 * 6 // 2} == pairs
    others = {count for name, count in rows.items() if name not in pairs}
    assert others == {9, 9 * 7}  # graph and node streams


def test_the_clock_is_resolved() -> None:
    """Bounded, different for different times, flat at the slowest frequency near the data."""
    t = torch.linspace(0, 1, 501, dtype=torch.float64)
    found = clock_features(t, 32)
    assert found.shape == (501, 32)
    torch.testing.assert_close(found.square().view(501, 2, 16).sum(1), torch.ones(501, 16).double())
    torch.testing.assert_close(found[:, 0], torch.cos(t * torch.pi / 2))
    distance = torch.cdist(found, found) + torch.eye(501) * 9
    assert float(distance.min()) > 0.1
