"""Encodings inside the graph denoisers: nothing without, the same function at first, training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from discrete_support import PAIR, PUBLISHED, config, moved, noisy, padded, real, scrambled
from encoding_support import dense, rotated, symmetric_graphs
from gdss_support import noisy as gdss_noisy
from gdss_support import task as gdss_task
from torch import Tensor

import graphdiff
from graphdiff.config import validate
from graphdiff.core.errors import ArgumentError, ConfigError
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.graph.defog import DefogTask
from graphdiff.graph.discrete import build_network
from graphdiff.graph.discrete_config import DigressNetConfig, DiscreteConfig, PairNetConfig
from graphdiff.graph.gdss_config import NetworkConfig
from graphdiff.graph.nets import encoded
from graphdiff.graph.nets.encoded import NodeEncoding, node_encoding
from graphdiff.graph.nets.features import rrwp_pairs
from graphdiff.model import Model
from graphdiff.train.card import Card

KINDS = ("rwpe", "laplacian", "spe")
kinds = pytest.mark.parametrize("kind", KINDS)
shapes = pytest.mark.parametrize("shape", [PAIR, PUBLISHED], ids=["pair", "digress"])


def network(shape: dict[str, Any], encoding: str, nodes: int = 4) -> Any:
    from graphdiff.graph.nets.digress import DigressNetwork
    from graphdiff.graph.nets.pair_transformer import PairTransformer

    given = {k: v for k, v in shape.items() if k != "kind"} | {"encoding": encoding}
    maker = PairTransformer if shape["kind"] == "pair" else DigressNetwork
    torch.manual_seed(0)
    return maker(nodes, 4, largest=9, **given).double()


# -- nothing without ------------------------------------------------------------------------------


@shapes
def test_no_encoding_is_no_module(shape: dict[str, Any]) -> None:
    net = network(shape, "none")
    assert net.encoding is None
    assert not any("encoding" in name for name in net.state_dict())


@kinds
@shapes
def test_weights_and_answers_start_as_without(shape: dict[str, Any], kind: str) -> None:
    """Bit for bit: the map that adds the encoding is zero, and no other draw moves."""
    without, within = network(shape, "none"), network(shape, kind)
    theirs = within.state_dict()
    assert all(torch.equal(v, theirs[name]) for name, v in without.state_dict().items())
    assert {name.split(".")[0] for name in theirs if name not in without.state_dict()} == {
        "encoding"
    }
    values, masks, t = noisy(9, 7, 4, 4)
    first, second = (net(values, t, masks) for net in (without, within))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_cards_of_before_load_and_have_none() -> None:
    for name in ("defog-comm20", "gdss-community-small"):
        model = graphdiff.load(name)
        assert model.task.to_config()["model"]["encoding"] == "none"
        assert model.denoiser.net.encoding is None
    for cls, table in ((DiscreteConfig, config()), (NetworkConfig, {"depth": 2})):
        assert "encoding" not in table.get("model", table)
        built = validate(cls, table)
        assert getattr(built, "model", built).encoding == "none"
    with pytest.raises(ConfigError, match="encoding"):
        validate(DiscreteConfig, config(model={**PAIR, "encoding": "pearl"}))


# -- the encoding ---------------------------------------------------------------------------------


def test_random_walks_are_those_of_the_other_features() -> None:
    values, masks, _ = noisy(6, 7, 0, 2)
    adj = values["adj"].double()
    found = NodeEncoding("rwpe", 3).double().features(adj, masks["adj"])
    torch.testing.assert_close(found, rrwp_pairs(adj, 16)[0])


def test_spe_does_not_see_the_basis(monkeypatch: pytest.MonkeyPatch) -> None:
    adj, mask = dense(symmetric_graphs())
    net = scrambled(NodeEncoding("spe", 5))
    before = net(adj, mask)
    original = encoded.decompose
    monkeypatch.setattr(encoded, "decompose", lambda *a, **k: rotated(original(*a, **k)))
    torch.testing.assert_close(net(adj, mask), before)
    assert float(before[mask].detach().std(0).min()) > 1e-3
    bare = scrambled(NodeEncoding("laplacian", 5))
    turned = bare(adj, mask)
    monkeypatch.setattr(encoded, "decompose", original)
    assert float((bare(adj, mask) - turned).abs().max().detach()) > 1e-3


@kinds
def test_small_continuous_noise_is_a_small_change(kind: str) -> None:
    """Weights near zero of either sign, as a score network sees them, stay finite and near zero."""
    _, adj, mask = gdss_noisy(12, 7, 2)
    net = scrambled(NodeEncoding(kind, 4))
    empty = net(torch.zeros_like(adj).double(), mask)
    for scale in (1.0, 1e-9):
        found = net(scale * adj.double(), mask)
        assert bool(found.isfinite().all())
        assert found[~mask].abs().sum() == 0
        if scale < 1 and kind != "laplacian":
            torch.testing.assert_close(found, empty, atol=1e-4, rtol=0)


@kinds
def test_no_gradient_reaches_a_decomposition(kind: str) -> None:
    """Repeated eigenvalues would make it infinite; walks are differentiable."""
    adj, mask = dense(symmetric_graphs())
    weights = adj.clone().requires_grad_()
    net = scrambled(NodeEncoding(kind, 4))
    (grad,) = torch.autograd.grad(net(weights, mask).square().sum(), weights, allow_unused=True)
    assert (grad is not None) == (kind == "rwpe")
    assert grad is None or bool(grad.isfinite().all())


def test_unknown_encodings_are_refused() -> None:
    with pytest.raises(ArgumentError, match="none, rwpe, laplacian, spe"):
        node_encoding("signnet", 3)
    assert node_encoding("none", 3) is None


def test_an_encoding_leaves_the_global_generator_alone() -> None:
    """What is built after it (the networks of GDSS) starts from the same weights."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    node_encoding("spe", 3)
    assert torch.equal(before, torch.get_rng_state())


# -- the networks ---------------------------------------------------------------------------------


def simple(values: dict[str, Tensor], masks: dict[str, Tensor]) -> Tensor:
    """Graphs whose eigenvectors are determined up to a sign that the convention fixes."""
    adj = (values["adj"] > 0).double()
    found = encoded.decompose(adj, masks["adj"], least=1.0)
    keep = []
    for k, n in enumerate(masks["adj"].sum(1).tolist()):
        top = found.vectors[k, :n, :n].abs().sort(0).values
        gaps = float(found.values[k, :n].diff().min()) if n > 1 else 1.0
        if n > 3 and gaps > 1e-3 and float((top[-1] - top[-2])[1:].min()) > 1e-3:
            keep.append(k)
    return torch.tensor(keep[:6])


@kinds
@shapes
def test_permutations_and_padding(shape: dict[str, Any], kind: str) -> None:
    if shape["kind"] == "digress":  # its own spectral features depend on bases
        shape = {**shape, "features": "none"}
    values, masks, t = noisy(400, 7, 4, 4)
    keep = simple(values, masks) if kind == "laplacian" else torch.arange(9)
    assert len(keep) > 2
    values, masks = ({n: v[keep] for n, v in part.items()} for part in (values, masks))
    t, mask = t[keep], masks["adj"]
    net = scrambled(network(shape, kind), 0, 0.2)
    whole = real(net(values, t, masks), mask)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    there = {name: m[:, order] for name, m in masks.items()}
    turned = real(net(moved(values, order), t, there), mask[:, order])
    expected = moved(whole, order)
    longer = net(padded(values, 3), t, padded(masks, 3))
    for name, value in whole.items():
        torch.testing.assert_close(turned[name], expected[name], atol=1e-8, rtol=1e-7)
        cut = longer[name][:, :7, :7] if name == "adj" else longer[name][:, :7]
        torch.testing.assert_close(real({name: cut}, mask)[name], value, atol=1e-8, rtol=1e-7)
    other = scrambled(network(shape, "none"), 0, 0.2)
    assert not torch.allclose(real(other(values, t, masks), mask)["adj"], whole["adj"], atol=1e-3)


@kinds
@pytest.mark.parametrize("node", ["gcn", "gmh"])
def test_both_networks_of_gdss_read_it(kind: str, node: str) -> None:
    task = gdss_task(model={"encoding": kind, "node": node})
    denoiser = task.build()
    net = denoiser.net
    x, adj, mask = gdss_noisy(6, 7, 4)
    values, masks = {"x": x, "adj": adj}, {"x": mask, "adj": mask}
    before = net(values, torch.zeros(6), masks)
    assert before["x"].shape == x.shape
    assert before["adj"].shape == adj.shape
    with torch.no_grad():
        net.encoding.out.weight.normal_(generator=torch.Generator().manual_seed(0))
    after = net(values, torch.zeros(6), masks)
    assert all(float((after[n] - before[n]).abs().max().detach()) > 1e-5 for n in before)
    assert all(after[name][~mask].abs().sum() == 0 for name in after)
    groups = task.groups(denoiser)
    assert set(groups) == {"x", "adj", "encoding"}
    assert sum(len(g) for g in groups.values()) == len(list(net.parameters()))
    assert set(gdss_task().groups(gdss_task().build())) == {"x", "adj"}


@pytest.mark.parametrize("model", [PAIR, PUBLISHED], ids=["pair", "digress"])
@kinds
def test_tasks_train_with_it(model: dict[str, Any], kind: str) -> None:
    """One step gives every weight of the encoding a gradient, once its map is not zero."""
    task = DefogTask.from_config(config(model={**model, "encoding": kind}))
    denoiser = task.build()
    with torch.no_grad():
        denoiser.net.encoding.out.weight.fill_(0.1)
    values, masks, _ = noisy(6, 7, 0, 2)
    clean = State(values, masks, torch.arange(6))
    losses = task.losses(denoiser, clean, Key(0, torch.arange(6)))
    losses["adj"].sum().backward()
    parts = dict(denoiser.net.encoding.named_parameters())
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in parts.values())
    assert task.memory(8, training=True) > 0


def test_configs_build_what_they_say() -> None:
    for net in (PairNetConfig(encoding="spe"), DigressNetConfig(layers=1, encoding="spe")):
        made = DiscreteConfig(**{**_data(), "model": net})
        assert build_network(made).encoding.kind == "spe"


def _data() -> dict[str, Any]:
    return {"data": validate(DiscreteConfig, config()).data}


def test_sampling_with_an_encoding_repeats() -> None:
    task = DefogTask.from_config(config(model={**PAIR, "encoding": "spe"}))
    toy = Model("toy", task, task.build().eval(), Card(kind=task.kind, task={}))
    whole = toy.samples(9, seed=4).raw
    assert toy.samples(9, seed=4, batch_size=2).raw == whole
    assert toy.samples(9, seed=5).raw != whole


@pytest.mark.parametrize("kind", ["laplacian", "spe"])
def test_a_sample_that_diverges_is_named(kind: str) -> None:
    """The one, and not an error of the decomposition of all."""
    task = gdss_task(model={"encoding": kind})
    toy = Model("toy", task, task.build().eval(), Card(kind=task.kind, task={}))

    def spoil(module: Any, args: Any, out: dict[str, Tensor]) -> dict[str, Tensor]:
        row = torch.arange(len(out["adj"])) == 2  # none where a trial asks for one sample
        return {**out, "adj": out["adj"].masked_fill(row[:, None, None], torch.nan)}

    toy.denoiser.net.register_forward_hook(spoil)
    with pytest.raises(ArgumentError, match=r"of sample 2 is not finite \(1 of 3 samples\)"):
        toy.samples(4, seed=0)
