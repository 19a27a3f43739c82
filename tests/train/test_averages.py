"""Learning rates and averaged weights against their formulas."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from graphdiff.core.errors import CheckpointError
from graphdiff.train import TrainConfig
from graphdiff.train.ema import Ema
from graphdiff.train.schedule import learning_rate


def test_warm_up_is_linear_and_ends_at_the_peak() -> None:
    config = TrainConfig(steps=100, lr=2.0, warmup_steps=4)
    rates = [learning_rate(config, k, epoch=0, total=100) for k in range(6)]
    assert rates == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0])


def test_exponential_decays_once_an_epoch() -> None:
    config = TrainConfig(epochs=3, lr=1.0, lr_schedule="exponential", lr_gamma=0.5)
    assert [learning_rate(config, 7 * e, epoch=e, total=21) for e in range(3)] == [1.0, 0.5, 0.25]


def test_cosine_falls_from_the_peak_to_the_final_fraction() -> None:
    config = TrainConfig(steps=110, lr=1.0, lr_schedule="cosine", lr_final=0.1, warmup_steps=10)
    rates = [learning_rate(config, k, epoch=0, total=110) for k in range(10, 111)]
    assert rates[0] == 1.0
    assert rates[50] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)
    assert all(a > b for a, b in pairwise(rates))
    assert rates[25] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)


@pytest.mark.parametrize("warmup", [False, True])
def test_average_is_the_weighted_sum_of_all_weights(warmup: bool) -> None:
    layer = nn.Linear(1, 1, bias=False).double()
    ema = Ema(layer, 0.9, warmup=warmup)
    path = [layer.weight.item()]
    expected = path[0]
    for k in range(1, 30):
        with torch.no_grad():
            layer.weight.add_(float(k))
        decay = min(0.9, (1 + k) / (10 + k)) if warmup else 0.9
        expected = decay * expected + (1 - decay) * layer.weight.item()
        ema.update()
    assert ema.state()["weight"].item() == pytest.approx(expected, rel=1e-12)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(2, 2)
        self.two = nn.Linear(2, 2)
        self.two.weight = self.one.weight
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        self.register_buffer("count", torch.zeros(1))


def test_average_of_shared_and_frozen_parameters_and_buffers() -> None:
    module = Tied()
    ema = Ema(module, 0.5)
    before = module.one.weight.detach().clone()
    with torch.no_grad():
        module.one.weight += 2
        module.frozen += 2
        module.count += 2
    ema.update()
    state = ema.state()
    assert list(state) == list(module.state_dict())
    torch.testing.assert_close(state["one.weight"], before + 1)
    torch.testing.assert_close(state["two.weight"], before + 1)
    assert state["frozen"].item() == 3
    assert state["count"].item() == 2
    other = Ema(Tied(), 0.5)
    other.load(state, 7)
    assert other.updates == 7
    torch.testing.assert_close(other.state()["one.bias"], state["one.bias"])
    with pytest.raises(CheckpointError, match=r"one\.bias"):
        other.load({"one.weight": before}, 0)
