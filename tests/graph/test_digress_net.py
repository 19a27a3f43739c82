"""The published graph transformer: symmetries, padding, features, and a plain second writing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from discrete_support import PUBLISHED, moved, noisy, padded, real, scrambled, single
from torch import Tensor, nn

from graphdiff.graph.nets import digress
from graphdiff.graph.nets.digress import DigressNetwork
from graphdiff.graph.nets.features import cycles, spectrum

# (node classes, edge classes, other arguments)
CASES: dict[str, tuple[int, int, dict[str, Any]]] = {
    "none": (4, 4, {"features": "none"}),
    "cycles": (4, 4, {"features": "cycles"}),
    "all": (4, 4, {"features": "all"}),
    "rrwp": (4, 4, {"features": "rrwp"}),
    "plain": (0, 2, {"features": "all"}),
    "masks": (5, 3, {"features": "rrwp", "hidden_class": True}),
    "plain masks": (0, 3, {"features": "cycles", "hidden_class": True}),
    "told": (0, 2, {"features": "rrwp", "cond": 5}),
}
cases = pytest.mark.parametrize("case", CASES)


def network(case: str) -> DigressNetwork:
    nodes, edges, extra = CASES[case]
    shape = {k: v for k, v in PUBLISHED.items() if k != "kind"}
    return scrambled(DigressNetwork(nodes, edges, largest=9, **{**shape, **extra}))


def inputs(case: str) -> tuple[Any, Any, Tensor, Tensor | None]:
    """Graphs whose eigenvectors are determined, where the network sees eigenvectors."""
    nodes, edges, extra = CASES[case]
    values, masks, t = noisy(500, 7, nodes, edges)
    keep = torch.arange(500)
    if extra["features"] == "all":
        keep = generic((values["adj"] > 0).double(), masks["adj"])
    keep = keep[:9]
    assert len(keep) == 9
    width = extra.get("cond", 0)
    told = torch.sin(torch.arange(9 * width, dtype=torch.float64)).view(9, width)
    pick = ({name: v[keep] for name, v in group.items()} for group in (values, masks))
    return *pick, t[keep], told if width else None


def generic(adj: Tensor, mask: Tensor) -> Tensor:
    """Graphs that are connected, with simple eigenvalues and one largest entry a vector."""
    found = []
    for k, n in enumerate(mask.sum(1).tolist()):
        if n < 3:
            continue
        a = adj[k, :n, :n]
        level, vector = torch.linalg.eigh(torch.diag(a.sum(1)) - a)
        top = vector[:, 1:3].abs().sort(0).values
        gaps = (level[1:] - level[:-1]).min()
        if gaps > 1e-3 and (top[-1] - top[-2]).min() > 1e-3:
            found.append(k)
    return torch.tensor(found)


def check(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal to rounding in float64: sums of a few hundred terms, eigenvectors to 1e-12."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-10, rtol=1e-9)


@cases
def test_shapes(case: str) -> None:
    nodes, edges, _ = CASES[case]
    values, masks, t, cond = inputs(case)
    out = network(case)(values, t, masks, cond)
    assert set(out) == set(values)
    assert out["adj"].shape == (9, 7, 7, edges)
    if nodes:
        assert out["x"].shape == (9, 7, nodes)
    n = int(masks["adj"][0].sum())
    told = None if cond is None else cond[:1]
    check(network(case)(single(values, 0, n), t[:1], {}, told), single(out, 0, n))


@cases
def test_permuting_the_nodes_permutes_the_answer(case: str) -> None:
    values, masks, t, cond = inputs(case)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    net, mask = network(case), masks["adj"]
    first = net(values, t, masks, cond)
    there = {name: m[:, order] for name, m in masks.items()}
    check(net(moved(values, order), t, there, cond), moved(first, order))
    assert max(float(v.detach().std()) for v in real(first, mask).values()) > 0.1


@cases
def test_padding_and_batch_mates_change_nothing(case: str) -> None:
    values, masks, t, cond = inputs(case)
    net, mask = network(case), masks["adj"]
    whole = net(values, t, masks, cond)
    check(net(padded(values, 5), t, padded(masks, 5), cond), {
        name: padded({name: v.movedim(-1, 1).flatten(0, 1)}, 5)[name]
        .unflatten(0, (9, -1)).movedim(1, -1)
        for name, v in whole.items()
    })  # fmt: skip
    for k, n in enumerate(mask.sum(1).tolist()):
        told = None if cond is None else cond[k : k + 1]
        check(net(single(values, k, n), t[k : k + 1], {}, told), single(whole, k, n))


@cases
def test_edges_are_symmetric_and_padding_is_zero(case: str) -> None:
    values, masks, t, cond = inputs(case)
    out = network(case)(values, t, masks, cond)
    assert torch.equal(out["adj"], out["adj"].transpose(1, 2))
    check(real(out, masks["adj"]), out)


@cases
def test_every_parameter_learns(case: str) -> None:
    """All but those of the last layer whose streams end there (so published)."""
    values, masks, t, cond = inputs(case)
    net = network(case)
    out = net(values, t, masks, cond)
    sum(v.square().sum() for v in out.values()).backward()
    idle = {n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    ends = {2: ("block.pool_x", "block.pool_e", "block.y_y", "block.y_out")}
    if "x" not in out:
        ends[0] = ("block.v", "block.x_out", "block.film_x")
    expected = {f"layers.1.{m}" for i, more in ends.items()
                for m in (f"first.{i}", f"second.{i}", f"ff.{i}", *more)}  # fmt: skip
    modules = {name.rpartition(".")[0] for name in idle}
    assert all(any(m.startswith(e) for e in expected) for m in modules), modules
    assert all(any(m.startswith(e) for m in modules) for e in expected)


def linear(w: dict[str, Tensor], name: str, v: Tensor) -> Tensor:
    return v @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def perceptron(w: dict[str, Tensor], name: str, v: Tensor) -> Tensor:
    return linear(w, f"{name}.2", linear(w, f"{name}.0", v).relu())


def normal(w: dict[str, Tensor], name: str, v: Tensor) -> Tensor:
    centred = v - v.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def plain(w: dict[str, Tensor], adj: Tensor, kinds: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The architecture for one graph without padding or features, by loops.

    Vignac et al., 2023, appendix B and figure 3: attention for every feature, FiLM, pooling.
    """
    n, heads, dx = len(kinds), 2, 16
    bonds = torch.nn.functional.one_hot(adj, 4).double()
    bonds = bonds * ~torch.eye(n, dtype=torch.bool)[..., None]
    atoms = torch.nn.functional.one_hot(kinds, 4).double()
    x = perceptron(w, "in_x", torch.cat([atoms, bonds.sum(1)], 1)).relu()
    e = perceptron(w, "in_e", bonds).relu()
    away = ~torch.eye(n, dtype=torch.bool)[..., None]
    e = (e + e.transpose(0, 1)) / 2 * away
    y = perceptron(w, "in_y", t[None]).relu()
    for k in range(2):
        p = f"layers.{k}.block"
        q, key, v = (linear(w, f"{p}.{m}", x) for m in "qkv")
        scores = torch.empty(n, n, dx, dtype=torch.float64)
        for i in range(n):
            for j in range(n):
                raw = q[i] * key[j] / (dx / heads) ** 0.5
                if i == j:  # an edge to itself does not exist: neither scale nor shift
                    scores[i, j] = raw
                    continue
                gain, shift = linear(w, f"{p}.e_mul", e[i, j]), linear(w, f"{p}.e_add", e[i, j])
                scores[i, j] = raw * (gain + 1) + shift
        film = [linear(w, f"{p}.film_{s}.{m}", y) for s in "ex" for m in ("add", "mul")]
        new_e = linear(w, f"{p}.e_out", film[0] + (film[1] + 1) * scores) * away
        weights = scores.exp() / scores.exp().sum(1, keepdim=True)
        new_x = linear(w, f"{p}.x_out", film[2] + (film[3] + 1) * (weights * v).sum(1))
        parts = [linear(w, f"{p}.y_y", y)]
        for s, rows in (("x", x), ("e", e[away[..., 0]])):
            spread = (rows.var(0, unbiased=False) + 1e-12).sqrt()  # both ends of a lone pair agree
            pooled = torch.cat([rows.mean(0), rows.amin(0), rows.amax(0), spread])
            parts.append(linear(w, f"{p}.pool_{s}.lin", pooled))
        new_y = perceptron(w, f"{p}.y_out", sum(parts))
        out = []
        for i, (old, new) in enumerate(((x, new_x), (e, new_e), (y, new_y))):
            held = normal(w, f"layers.{k}.first.{i}", old + new)
            forward = held + perceptron(w, f"layers.{k}.ff.{i}", held)
            out.append(normal(w, f"layers.{k}.second.{i}", forward))
        x, e, y = out[0], out[1] * away, out[2]
    edges = (perceptron(w, "out_e", e) + bonds) * away
    return perceptron(w, "out_x", x) + atoms, (edges + edges.transpose(0, 1)) / 2


def test_network_equals_the_plain_one() -> None:
    values, masks, t, _ = inputs("none")
    net = network("none")
    weights = {name: p.detach() for name, p in net.state_dict().items()}
    found = net(values, t, masks)
    for k, n in enumerate(masks["adj"].sum(1).tolist()):
        if n < 2:  # no pair to pool over
            continue
        x, e = plain(weights, values["adj"][k, :n, :n], values["x"][k, :n], t[k])
        check(single(found, k, n), {"x": x[None], "adj": e[None]})


@pytest.mark.parametrize(("case", "classes"), [("all", {1, 2, 3}), ("masks", {1})])
def test_features_are_those_of_the_edges(
    case: str, classes: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masked edges count as none; counts are divided by ten and cut off at one, as published."""
    seen: list[Tensor] = []
    for name in ("rrwp", "cycles", "spectrum"):
        function = getattr(digress, name)
        spy = lambda adj, *a, f=function: (seen.append(adj), f(adj, *a))[1]  # noqa: E731
        monkeypatch.setattr(digress, name, spy)
    values, masks, t, _ = inputs(case)
    net = network(case)
    shown: list[Tensor] = []
    net.in_y.register_forward_pre_hook(lambda m, args: shown.append(args[0]))
    net(values, t, masks)
    expected = sum((values["adj"] == k).double() for k in classes)
    assert seen
    assert all(torch.equal(adj, expected) for adj in seen)
    size = masks["adj"].sum(1, keepdim=True) / 9
    parts = [t[:, None], size]
    if case == "all":
        parts += [(cycles(expected)[1] / 10).clamp(max=1), spectrum(expected, masks["adj"])[1]]
    torch.testing.assert_close(shown[0], torch.cat(parts, 1))


def test_edge_work_is_done_for_ordered_pairs() -> None:
    """What the pair transformer saves: here n^2 rows reach the edge layers, not n(n-1)/2."""
    values, masks, t, _ = inputs("none")
    net = network("none")
    rows = []
    assert isinstance(net.out_e, nn.Sequential)
    net.out_e.register_forward_hook(lambda m, i, o: rows.append(o.shape[:-1].numel()))
    net(values, t, masks)
    assert rows == [9 * 7 * 7]
