"""DiffGraph for recommendation as published."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffgraph_support import groups

from graphdiff.core.errors import ArgumentError
from graphdiff.data.behaviours import Behaviours
from graphdiff.graph.diffgraph.published import Published, PublishedConfig
from graphdiff.graph.diffgraph.ranking import rank


def test_published_encoder_by_hand() -> None:
    data = groups(users=9, items=30)
    model = Published(data, PublishedConfig("target", dim=4))
    buy = data.edges["buy"].toarray().astype(float)
    a = np.block([[np.zeros((9, 9)), buy], [buy.T, np.zeros((30, 30))]])
    root = np.maximum(a.sum(1), 1) ** -0.5
    p = torch.from_numpy(root[:, None] * a * root[None]).float()
    e = model.vectors.detach()
    total, h = e, e
    for _ in range(2):
        h = p @ h
        h = torch.where(h > 0, h, h / 2)
        total = total + h / h.norm(dim=1, keepdim=True).clamp(min=1e-12)
    assert torch.allclose(model.views()[0], total, atol=1e-5)


def test_published_source_is_the_sum_of_the_other_relations() -> None:
    data = groups(users=9, items=30)
    three = replace(data, edges={**data.edges, "cart": data.edges["view"]})
    two, more = (Published(d, PublishedConfig(dim=4)) for d in (data, three))
    assert torch.allclose(more.views()[1], 2 * two.views()[1], atol=1e-5)
    assert torch.allclose(more.views()[0], two.views()[0], atol=1e-6)


def test_published_answer_is_target_plus_one_call() -> None:
    model = Published(groups(), PublishedConfig(dim=8)).eval()
    target, source = model.views()
    users, items = model.embed()
    once = model.denoisers[0].sample(source[:45])
    assert users == pytest.approx((target[:45] + once).detach().numpy(), abs=1e-6)
    assert [d.network_calls for d in model.denoisers] == [1, 1]
    assert items.shape == (60, 8)


@pytest.mark.parametrize("variant", ["full", "no-loss", "sum", "target", "union"])
def test_published_model_learns_the_groups(variant: str) -> None:
    data = groups()
    config = PublishedConfig(variant, dim=16, batch=128, epochs=12, lr=1e-2)
    epochs: list[int] = []
    model = Published(data, config).fit(lambda epoch, _: epochs.append(epoch))
    assert epochs == list(range(1, 13))
    found = rank(model.scorer(), data.test, data.edges["buy"])
    assert found.recall(20).mean() > 0.55  # at random a third


def test_only_the_first_epoch_has_dropout_as_in_the_released_code() -> None:
    modes: list[bool] = []
    model = Published(groups(), PublishedConfig(dim=4, epochs=3))
    model.fit(lambda epoch, m: modes.append(m.training))
    assert modes == [True, False, False]


def test_published_variants_are_known() -> None:
    with pytest.raises(ArgumentError, match="one of"):
        PublishedConfig("other")


def test_published_settings_are_checked() -> None:
    for name in ("dim", "layers", "T", "batch", "epochs"):
        with pytest.raises(ArgumentError, match=f"{name} is 0"):
            PublishedConfig(**{name: 0})
    with pytest.raises(ArgumentError, match="lr is 0"):
        PublishedConfig(lr=0.0)
    alone = Behaviours.of({"buy": groups().edges["buy"]}, "buy")
    for variant in ("full", "no-loss"):
        with pytest.raises(ArgumentError, match="from other relations, and these data have none"):
            Published(alone, PublishedConfig(variant))
    assert Published(alone, PublishedConfig("target", dim=4)).embed()[1].shape == (60, 4)


def test_published_dropout_is_drawn_from_the_seed() -> None:
    data, made = groups(), []
    for start in (1, 2):  # states of the global generator
        torch.manual_seed(start)
        before = torch.get_rng_state()
        made.append(Published(data, PublishedConfig(dim=4, epochs=1)).fit().embed())
        assert torch.equal(torch.get_rng_state(), before)
    assert all(np.array_equal(a, b) for a, b in zip(*made, strict=True))


@pytest.mark.gpu
def test_published_model_is_moved_whole() -> None:
    here = Published(groups(), PublishedConfig(dim=8))
    there = Published(groups(), PublishedConfig(dim=8)).to("cuda")
    for mine, other in zip(here.embed(), there.embed(), strict=True):
        assert mine == pytest.approx(other, abs=1e-5)
    config = PublishedConfig(dim=8, epochs=3, lr=1e-2, batch=128)
    users, items = Published(groups(), config).to("cuda").fit().embed()
    assert np.isfinite(users).all()
    assert np.isfinite(items).all()
