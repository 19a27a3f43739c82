"""Baselines: each operator against its definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from robust_support import cuda

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.graph.adjacency import adjacency, both_ways
from graphdiff.graph.robust.baselines import BASELINES, fit_baseline, guard, low_rank, spread_labels
from graphdiff.graph.robust.gcn import GCNConfig


def dense(graph) -> np.ndarray:
    n = graph.data.n
    found = np.zeros((n, n))
    u, v = graph.data.edges.numpy()
    found[u, v] = found[v, u] = 1
    return found


def test_low_rank_is_the_truncated_svd(graph) -> None:
    operator = low_rank(graph.data.edges.numpy(), 120, 12)
    u, s, v = np.linalg.svd(dense(graph))
    near = u[:, :12] * s[:12] @ v[:12]
    d = np.maximum(near.sum(1) + 1, 1) ** -0.5
    wanted = d[:, None] * (near + np.eye(120)) * d
    found = operator.matmul(torch.eye(120)).numpy()
    assert np.allclose(found, wanted, atol=1e-4)


def test_guard_weighs_by_cosine_and_its_rows_sum_to_one(graph) -> None:
    x = graph.data.features.double()
    operator = guard(graph.data.edges.numpy(), x)
    unit = torch.nn.functional.normalize(x, dim=1).numpy()
    cosine = unit @ unit.T
    weight = dense(graph) * np.where(cosine >= 0.1, cosine, 0)
    degree = (weight > 0).sum(1)
    share = weight / np.maximum(weight.sum(1), 1e-12)[:, None] * (degree / (degree + 1))[:, None]
    wanted = share + np.diag(1 / (degree + 1))
    found = operator.pattern.dense(operator.values).numpy()
    assert np.allclose(found, wanted, atol=1e-6)
    assert np.allclose(found.sum(1), 1, atol=1e-6)


def test_labels_spread_to_the_fixed_point(graph) -> None:
    data, train = graph.data, graph.data.splits[0].train
    operator = adjacency(*both_ways(data.edges.numpy()), 120)
    found = spread_labels(operator, data.labels, train, 0.8, steps=200)
    hat = operator.pattern.dense(operator.values).double()
    start = torch.zeros(120, 3, dtype=torch.float64)
    start[train, data.labels[train]] = 1
    wanted = 0.2 * torch.linalg.solve(torch.eye(120, dtype=torch.float64) - 0.8 * hat, start)
    assert torch.allclose(found.double(), wanted, atol=1e-5)


@pytest.mark.parametrize("name", BASELINES)
def test_each_runs_and_does_better_than_chance(graph, name) -> None:
    found = fit_baseline(name, graph.data, runs=2, config=GCNConfig(epochs=40))
    assert len(found.accuracy) == (1 if name == "labels" else 2)
    assert np.mean(found.accuracy) > 0.4
    assert (found.chosen is not None) == (name in ("jaccard", "svd", "labels"))


def test_settings_come_from_validation(graph) -> None:
    split = graph.data.splits[0]
    hidden = graph.data.labels.clone()
    hidden[split.test] = (hidden[split.test] + 1) % 3
    told = replace(graph.data, labels=hidden)
    for name in ("jaccard", "svd", "labels"):
        pair = [
            fit_baseline(name, g, runs=2, config=GCNConfig(epochs=20)) for g in (graph.data, told)
        ]
        assert pair[0].chosen == pair[1].chosen
        assert pair[0].val_accuracy == pair[1].val_accuracy


def test_without_validation_nodes_nothing_is_chosen_or_reported(graph) -> None:
    split = replace(graph.data.splits[0], val=torch.zeros(0, dtype=torch.int64))
    told = replace(graph.data, splits=(split,))
    for name in ("jaccard", "svd", "labels"):
        with pytest.raises(DataError, match=f"{name} chooses its setting on validation"):
            fit_baseline(name, told)
    found = fit_baseline("gcn", told, runs=1, config=GCNConfig(epochs=3))
    assert found.val_accuracy is None
    assert len(found.accuracy) == 1


def test_what_cannot_be_fitted_is_refused(graph) -> None:
    with pytest.raises(ArgumentError, match="'gat'; there are gcn"):
        fit_baseline("gat", graph.data)
    with pytest.raises(ArgumentError, match="runs=0"):
        fit_baseline("gcn", graph.data, runs=0)
    beyond = replace(graph.data.splits[0], test=torch.tensor([120]))
    for name in ("mlp", "labels"):
        with pytest.raises(DataError, match="node 120"):
            fit_baseline(name, graph.data, beyond)


@pytest.mark.gpu
@pytest.mark.parametrize("name", BASELINES)
def test_a_graph_on_a_gpu_is_fitted_there(graph, name) -> None:
    config = GCNConfig(epochs=20, dropout=0.0)
    near, far = (fit_baseline(name, d, runs=1, config=config) for d in (graph.data, cuda(graph)))
    assert far.accuracy == pytest.approx(near.accuracy, abs=0.1)
