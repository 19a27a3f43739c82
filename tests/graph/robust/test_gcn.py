"""Normalisation and networks: against formulas, against PyG, and runs that do not mix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.adjacency import adjacency, both_ways
from graphdiff.graph.robust.gcn import GCNConfig, Stack, _Selection, fit_gcn

CONFIG = GCNConfig(hidden=4, epochs=15)


def hat(graph, **more):
    return adjacency(*both_ways(graph.data.edges.numpy()), graph.data.n, **more)


@pytest.mark.parametrize("alpha", [-0.5, -0.1, 0.3, 2.0])
@pytest.mark.parametrize("loops", [1.0, 3.0])
def test_normalisation_is_the_formula(alpha, loops) -> None:
    rng = np.random.default_rng(0)
    dense = (rng.random((30, 30)) < 0.2) * (1 - np.eye(30))  # not symmetric
    row, col = np.nonzero(dense)
    found = adjacency(row, col, 30, alpha=alpha, loops=loops)
    wanted = dense + loops * np.eye(30)
    d = wanted.sum(1)
    wanted = np.diag(d**alpha) @ wanted @ np.diag(d**alpha)
    if alpha != -0.5:
        wanted /= wanted.sum(1, keepdims=True)
    assert np.allclose(found.pattern.dense(found.values), wanted, atol=1e-6)
    assert torch.allclose(found.csr().to_dense(), found.pattern.dense(found.values))


def test_weights_of_edges_count() -> None:
    row, col = np.array([0, 1, 1, 2]), np.array([1, 0, 2, 1])
    found = adjacency(row, col, 3, alpha=0.0, weight=np.array([0.5, 0.5, 2.0, 2.0]))
    wanted = np.array([[1, 0.5, 0], [0.5, 1, 2], [0, 2, 1]])
    wanted /= wanted.sum(1, keepdims=True)
    assert np.allclose(found.pattern.dense(found.values), wanted)


def test_normalisation_agrees_with_pyg(graph) -> None:
    from torch_geometric.nn.conv.gcn_conv import gcn_norm

    both = torch.from_numpy(np.stack(both_ways(graph.data.edges.numpy())))
    index, weight = gcn_norm(both, num_nodes=graph.data.n)
    wanted = torch.zeros(graph.data.n, graph.data.n).index_put((index[1], index[0]), weight)
    found = hat(graph)
    assert torch.allclose(found.pattern.dense(found.values), wanted, atol=1e-6)


def test_a_network_is_that_of_pyg(graph) -> None:
    from torch_geometric.nn import GCNConv

    torch.manual_seed(0)
    stack = Stack(60, 3, GCNConfig(hidden=5), 3).eval()
    for bias in stack.biases:
        torch.nn.init.normal_(bias)
    both = torch.from_numpy(np.stack(both_ways(graph.data.edges.numpy())))
    found = stack(hat(graph), graph.data.features)
    for run in range(3):
        layers = [GCNConv(60, 5), GCNConv(5, 3)]
        for k, layer in enumerate(layers):
            layer.lin.weight.data = stack.weights[k][run].T.contiguous()
            layer.bias.data = stack.biases[k][run]
        with torch.no_grad():
            wanted = layers[1](layers[0](graph.data.features, both).relu(), both)
        assert torch.allclose(found[:, run], wanted, atol=1e-5)


def test_runs_do_not_see_each_other(graph) -> None:
    """Three runs at once are three runs one by one, from the same weights."""
    config = replace(CONFIG, dropout=0.0)
    data, split = graph.data, graph.data.splits[0]
    torch.manual_seed(0)
    stack = Stack(60, 3, config, 3)
    singles = []
    for run in range(3):
        one = Stack(60, 3, config, 1)
        for p, q in zip(one.parameters(), stack.parameters(), strict=True):
            p.data = q.data[run : run + 1].clone()
        singles.append(one)
    from graphdiff.graph.robust.gcn import _losses

    for net in (stack, *singles):
        adam = torch.optim.Adam(net.parameters(), 0.01, weight_decay=5e-4)
        for _ in range(10):
            adam.zero_grad()
            _losses(net(hat(graph), data.features), data.labels, split.train).sum().backward()
            adam.step()
    together = stack(hat(graph), data.features)
    for run, one in enumerate(singles):
        assert torch.allclose(together[:, run : run + 1], one(hat(graph), data.features), atol=1e-5)


def test_epochs_are_kept_by_loss_or_accuracy() -> None:
    stack = Stack(2, 2, GCNConfig(hidden=0), 2)
    chosen = _Selection(stack)
    losses = [[1.0, 1.0], [0.9, 1.1], [0.95, 1.2], [0.93, 1.3]]
    accuracies = [[0.5, 0.5], [0.5, 0.5], [0.5, 0.6], [0.4, 0.6]]
    for epoch, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True)):
        with torch.no_grad():
            stack.weights[0].fill_(float(epoch))
        chosen(stack, torch.tensor(loss), torch.tensor(accuracy), epoch)
    assert chosen.at[2].tolist() == [1.0, 2.0]  # by loss, by accuracy; ties do not count
    assert chosen.kept[0][:, 0, 0].tolist() == [1.0, 2.0]
    assert chosen.at[0].tolist() == pytest.approx([0.9, 1.2])


def test_test_labels_are_not_read(graph) -> None:
    data, split = graph.data, graph.data.splits[0]
    first = fit_gcn(hat(graph), data.features, data.labels, split, CONFIG, runs=2, seed=3)
    hidden = data.labels.clone()
    hidden[split.test] = -1
    second = fit_gcn(hat(graph), data.features, hidden, split, CONFIG, runs=2, seed=3)
    assert torch.equal(first.logits, second.logits)
    other = fit_gcn(hat(graph), data.features, data.labels, split, CONFIG, runs=2, seed=4)
    assert not torch.equal(first.logits, other.logits)
    assert not torch.equal(first.logits[0], first.logits[1])


def test_logits_are_those_of_the_selected_weights(graph) -> None:
    data, split = graph.data, graph.data.splits[0]
    found = fit_gcn(hat(graph), data.features, data.labels, split, CONFIG, runs=3)
    again = found.stack.eval()(hat(graph), data.features).transpose(0, 1)
    assert torch.allclose(again, found.logits)
    assert found.val_accuracy.tolist() == pytest.approx(found.accuracy(data.labels, split.val))
    for run in range(3):
        wanted = torch.nn.functional.cross_entropy(again[run, split.val], data.labels[split.val])
        assert float(found.val_loss[run]) == pytest.approx(float(wanted), rel=1e-4)


def test_without_validation_the_last_epoch_counts(graph) -> None:
    data, split = graph.data, graph.data.splits[0]
    bare = replace(split, val=torch.zeros(0, dtype=torch.int64))
    found = fit_gcn(hat(graph), data.features, data.labels, bare, CONFIG, runs=2)
    assert found.epoch.tolist() == [14, 14]
    assert bool(found.val_accuracy.isnan().all())  # nothing was measured
    assert bool(found.val_loss.isnan().all())


def test_no_runs_are_refused(graph) -> None:
    data = graph.data
    with pytest.raises(ArgumentError, match="runs=0"):
        fit_gcn(hat(graph), data.features, data.labels, data.splits[0], CONFIG, runs=0)


def test_it_learns(graph) -> None:
    data, split = graph.data, graph.data.splits[0]
    clean = data.edges[:, torch.from_numpy(~graph.attacker)].numpy()
    operator = adjacency(*both_ways(clean), data.n)
    found = fit_gcn(operator, data.features, data.labels, split, GCNConfig(epochs=60), runs=3)
    assert min(found.accuracy(data.labels, split.test)) > 0.8


def test_what_makes_no_sense_is_refused() -> None:
    one = np.array([0])
    with pytest.raises(ArgumentError, match="diagonal"):
        adjacency(one, one, 2)
    with pytest.raises(ArgumentError, match="sorted by row"):
        adjacency(np.array([0, 0]), np.array([1, 1]), 2)
    with pytest.raises(ArgumentError, match="node 1 has degree 0"):
        adjacency(np.array([1]), np.array([0]), 2, loops=0.0, weight=np.zeros(1))
    for wrong in ({"hidden": -1}, {"epochs": 0}, {"dropout": 1.0}, {"lr": 0.0}):
        with pytest.raises(ArgumentError, match="a network needs"):
            GCNConfig(**wrong)


def test_without_loops_isolated_nodes_have_empty_rows() -> None:
    made = adjacency(np.array([0, 1]), np.array([1, 0]), 3, loops=0.0)
    assert made.pattern.dense(made.values).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
