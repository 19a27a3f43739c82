"""What a network needs, counted without running it, and what happens when that is too much."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn
from train_points import PointsConfig, PointsTask

from graphdiff.core.errors import ConfigError
from graphdiff.graph.discrete import graph_memory
from graphdiff.graph.discrete_config import DiscreteConfig, DiscreteData, PairNetConfig
from graphdiff.train import TrainConfig, Trainer
from graphdiff.train.memory import available_bytes, per_example, refuse_if_too_large, state_bytes


def test_kept_activations_are_counted_exactly() -> None:
    """Two layers keep: input and hidden for the products, hidden again for tanh's derivative."""
    net = nn.Sequential(nn.Linear(10, 7), nn.Tanh(), nn.Linear(7, 3))
    each = per_example(net, lambda n, b: n(torch.zeros(b, 10, device="meta")))
    # the first product keeps its input (10 floats), tanh its output (7), which is also what the
    # second product keeps: one storage, counted once
    assert each == 4 * (10 + 7)
    assert state_bytes(net) == 5 * 4 * (10 * 7 + 7 + 7 * 3 + 3)


def config(nodes: int, sizes: tuple[int, ...] = (), **model: int) -> DiscreteConfig:
    data = DiscreteData("none", nodes, bonds=1, sizes=sizes, edge_probs=(0.9, 0.1))
    return DiscreteConfig(data, model=PairNetConfig(layers=2, dx=16, de=16, dy=16, **model))


def test_memory_grows_with_batch_and_with_the_square_of_the_nodes() -> None:
    small, large = (graph_memory(config(n), 8, training=True) for n in (30, 60))
    fixed = graph_memory(config(30), 0, training=True)
    assert graph_memory(config(30), 16, training=True) - fixed == pytest.approx(
        2 * (small - fixed), rel=1e-6
    )
    # pairs grow by 60 * 59 / (30 * 29) = 4.07, the node stream by 2
    assert 3.0 < (large - fixed) / (small - fixed) < 4.07


def test_small_graphs_count_less_than_the_largest() -> None:
    all_large = tuple([0] * 60 + [10])
    mixed = tuple([0] * 20 + [9] + [0] * 39 + [1])
    most, less = (graph_memory(config(60, s), 32, training=True) for s in (all_large, mixed))
    assert less < 0.5 * most
    assert graph_memory(config(60), 32, training=False) < most


@dataclass(frozen=True)
class Hungry(PointsTask):
    """Claims to need more than any machine has."""

    def memory(self, batch: int, *, training: bool) -> int | None:
        return batch * 2**50


def test_a_training_that_cannot_fit_is_refused_before_it_begins(tmp_path: Path) -> None:
    how = TrainConfig(steps=2, batch_size=4, threads=1)
    with pytest.raises(ConfigError, match=r"batches of 4 needs about .* GiB.*train\.accumulate"):
        Trainer(Hungry(PointsConfig()), how, tmp_path, device="cpu")
    with pytest.raises(ConfigError, match="batches of 1 needs"):  # parts of a batch are what counts
        Trainer(Hungry(PointsConfig()), replace(how, accumulate=4), tmp_path, device="cpu")
    assert not (tmp_path / "log.jsonl").exists()


def test_what_is_unknown_or_fits_is_let_through() -> None:
    cpu = torch.device("cpu")
    free = available_bytes(cpu)
    assert free > 2**20
    refuse_if_too_large(None, cpu, "it", "nothing")
    refuse_if_too_large(1, cpu, "it", "nothing")
    with pytest.raises(ConfigError, match=r"it needs about .*: do less"):
        refuse_if_too_large(2 * free, cpu, "it", "do less")
