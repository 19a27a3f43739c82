"""Classifier-free guidance: its limits, what it means for logits, and who is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphdiff.core.categorical import Marginal
from graphdiff.core.denoiser import Bayes
from graphdiff.core.guidance import ClassifierFree, combine
from graphdiff.core.schedule import FlowMatching


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Told(nn.Module):
    """Logits of a chain and of a matrix that depend on the condition, where it is told."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix, self.code = nn.Linear(5, 3), nn.Linear(2, 3)
        self.calls: list[tuple[int, list[str]]] = []

    def forward(
        self, values: Mapping[str, Tensor], label: Tensor, masks: Mapping[str, Tensor], cond: Any
    ) -> dict[str, Tensor]:
        given = dict(cond or {})
        self.calls.append((len(label), sorted(given)))
        extra = torch.zeros(len(label), 3)
        if "code" in given:
            told = given.get("told")
            extra = self.code(given["code"])
            extra = extra if told is None else torch.where(told[:, None], extra, 0)
        x = self.mix(values["x"]) * masks["x"].unsqueeze(-1) + extra[:, None] + label[:, None, None]
        return {"x": x, "adj": x.unsqueeze(1) + x.unsqueeze(2)}


def case(b: int = 4) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor], dict[str, Tensor]]:
    values, label = {"x": draws(b, 6, 5)}, draws(b, seed=1)
    masks = {"x": torch.arange(6) < torch.tensor([6, 5, 3, 1])[:b, None]}
    return values, label, masks, {"code": draws(b, 2, seed=2)}


def test_no_weight_is_the_network_itself() -> None:
    net = Told()
    values, label, masks, cond = case()
    for given in (None, {}, cond, {**cond, "told": torch.tensor([True, False, True, False])}):
        expected = net(values, label, masks, given)
        found = ClassifierFree(net)(values, label, masks, given)
        assert all(torch.equal(found[name], v) for name, v in expected.items())
    assert {count for count, _ in net.calls} == {4}


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_both_ends_are_bit_equal(weight: float) -> None:
    """In a batch of the same shape: weight 1 is the condition, weight 0 no condition."""
    net = Told()
    values, label, masks, cond = case()
    guided = {**cond, "guidance": torch.full((4,), weight)}
    found = ClassifierFree(net)(values, label, masks, guided)
    told = torch.full((8,), bool(weight))
    twice = {"code": torch.cat([cond["code"]] * 2), "told": told}
    expected = net(
        {"x": torch.cat([values["x"]] * 2)}, torch.cat([label] * 2),
        {"x": torch.cat([masks["x"]] * 2)}, twice,
    )  # fmt: skip
    for name, v in expected.items():
        assert torch.equal(found[name], v[:4])
    assert [count for count, _ in net.calls] == [8, 8]  # one call of twice the batch
    assert net.calls[0][1] == ["code", "told"]  # the weight is not shown to the network


def test_each_sample_has_its_own_weight() -> None:
    net = Told()
    values, label, masks, cond = case()
    weight = torch.tensor([0.0, 1.0, 2.5, -1.0])
    with torch.no_grad():
        found = ClassifierFree(net)(values, label, masks, {**cond, "guidance": weight})
    with torch.no_grad():
        told, untold = net(values, label, masks, cond), net(values, label, masks, None)
    for name, v in found.items():
        w = weight.reshape(-1, *(1,) * (v.ndim - 1))
        # One float32 rounding of each of the two batches.
        torch.testing.assert_close(v, untold[name] + w * (told[name] - untold[name]))
        assert float((v - told[name]).abs().max()) > 0.1


def test_samples_that_are_not_told_have_nothing_to_follow() -> None:
    net = Told()
    values, label, masks, cond = case()
    told = torch.tensor([True, False, True, False])
    found = ClassifierFree(net)(
        values, label, masks, {**cond, "told": told, "guidance": torch.full((4,), 3.0)}
    )
    free, plain = net(values, label, masks, None), net(values, label, masks, cond)
    for name, v in found.items():
        torch.testing.assert_close(v[~told], free[name][~told])
        assert float((v - free[name])[told].abs().min()) > 0
        assert float((v - plain[name])[told].abs().max()) > 0.1


@pytest.mark.parametrize("w", [-0.5, 0.3, 2.0])
def test_for_logits_it_is_the_normalised_product_of_powers(w: float) -> None:
    told, untold = draws(3, 5, 4).double(), draws(3, 5, 4, seed=1).double()
    guided = combine({"x": told}, {"x": untold}, torch.full((3,), w).double())["x"].softmax(-1)
    product = told.softmax(-1) ** w * untold.softmax(-1) ** (1 - w)
    torch.testing.assert_close(guided, product / product.sum(-1, keepdim=True))
    shift = draws(3, 5, 1, seed=2).double()  # constants of a token do not matter
    moved = combine({"x": told + shift}, {"x": untold}, torch.full((3,), w).double())["x"]
    torch.testing.assert_close(moved.softmax(-1), guided)


def test_combine_at_zero_and_one() -> None:
    told, untold = {"x": draws(2, 3) * 1e4}, {"x": draws(2, 3, seed=1) * 1e-4}
    both = combine(told, untold, torch.tensor([0.0, 1.0]))["x"]
    assert torch.equal(both[0], untold["x"][0])
    assert torch.equal(both[1], told["x"][1])
    half = combine({"x": told["x"].half()}, {"x": untold["x"].half()}, torch.ones(2))["x"]
    assert half.dtype == torch.float16


def test_guidance_commutes_with_bayes() -> None:
    """On raw outputs or on posteriors, the noisy token counts once."""
    process = Marginal(FlowMatching(), (0.2, 0.5, 0.3))
    x, t, w = torch.tensor([[0, 2, 1]]), torch.tensor([0.3]), torch.tensor([2.0]).double()
    told, untold = draws(1, 3, 3).double(), draws(1, 3, 3, seed=1).double()

    def answer(out: Tensor) -> Tensor:
        return Bayes().to_x0(process, out, x, t)

    raw = answer(combine({"x": told}, {"x": untold}, w)["x"])
    late = combine({"x": answer(told)}, {"x": answer(untold)}, w)["x"]
    torch.testing.assert_close(raw, late)
