"""Baselines: against PyG and dense algebra, and what each can and cannot know."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted import planted

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.nodes import NodeData, Split, random_splits
from graphdiff.data.synthetic_nodes import contextual_blocks
from graphdiff.graph.evaluate.baselines import (
    ALPHAS,
    BASELINES,
    GCN,
    baseline,
    normalised_adjacency,
)
from graphdiff.graph.evaluate.training import FitConfig

QUICK = FitConfig(epochs=60, patience=30)


def graph(seed: int = 0) -> NodeData:
    edges, x, y = planted(90, 60, 3, seed)
    data = NodeData.of("planted", edges, x, y)
    return NodeData.of("planted", edges, x, y, random_splits(data.labels, 2))


def dense(edges: torch.Tensor, n: int) -> torch.Tensor:
    a = torch.zeros(n, n)
    a[edges[0], edges[1]] = a[edges[1], edges[0]] = 1
    return a


@pytest.mark.parametrize("loops", [True, False])
def test_the_matrix_is_the_formula(loops):
    data = graph()
    pattern, values = normalised_adjacency(data.edges, data.n, loops)
    a = dense(data.edges, data.n) + (torch.eye(data.n) if loops else 0)
    d = a.sum(1).clamp(min=1).rsqrt()
    assert torch.allclose(pattern.dense(values), d[:, None] * a * d, atol=1e-6)


def test_gcn_is_pygs():
    from torch_geometric.nn import GCNConv

    data = graph()
    net = GCN(60, 3, hidden=8).eval()
    first, second = GCNConv(60, 8), GCNConv(8, 3)
    with torch.no_grad():
        for conv, k in ((first, 0), (second, 1)):
            net.bias[k].normal_()
            conv.lin.weight.copy_(net.linear[k].weight)
            conv.bias.copy_(net.bias[k])
    edges = data.to_pyg().edge_index
    theirs = second(first(data.features, edges).relu(), edges)
    ours = net(data.features, *normalised_adjacency(data.edges, data.n))
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_residual_is_a_linear_path_beside():
    data = graph()
    matrix = normalised_adjacency(data.edges, data.n)
    net = GCN(60, 3, layers=1, residual=True).eval()
    plain = GCN(60, 3, layers=1).eval()
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if "beside" not in k})
    gap = net(data.features, *matrix) - plain(data.features, *matrix)
    assert torch.allclose(gap, net.beside[0](data.features), atol=1e-5)


@pytest.mark.parametrize("name", BASELINES)
def test_each_is_reproducible_and_blind_to_test_labels(name):
    data = graph()
    split = data.splits[0]
    other = data.labels.clone()
    other[split.test] = (other[split.test] + 1) % 3
    changed = NodeData.of("planted", data.edges, data.features, other)
    first = baseline(name, data, split, 1, QUICK)
    second = baseline(name, changed, split, 1, QUICK)
    assert torch.equal(first.logits, second.logits)
    assert first.logits.shape == (90, 3)
    assert first.scores["val"] == second.scores["val"]


def test_majority_is_the_largest_training_class():
    data = graph()
    split = data.splits[0]
    found = baseline("majority", data, split)
    top = torch.bincount(data.labels[split.train]).argmax()
    assert bool((found.logits.argmax(1) == top).all())
    assert found.test == pytest.approx(float((data.labels[split.test] == top).float().mean()))


def test_label_propagation_is_the_fixed_point():
    """Of alpha S F + (1 - alpha) Y, by dense inversion; the chosen alpha is one of the grid."""
    data = graph()
    split = data.splits[0]
    found = baseline("label-propagation", data, split)
    pattern, values = normalised_adjacency(data.edges, data.n, loops=False)
    s = pattern.dense(values).double()
    y = torch.zeros(90, 3, dtype=torch.float64)
    y[split.train, data.labels[split.train]] = 1
    fixed = [(1 - a) * torch.linalg.solve(torch.eye(90).double() - a * s, y) for a in (0.1, 0.5)]
    fixed.append(0.1 * torch.linalg.solve(torch.eye(90).double() - 0.9 * s, y))
    prior = 1e-6 * y.sum(0) / len(split.train)
    gaps = [float((found.logits.double().exp() - f - prior).abs().max()) for f in fixed]
    assert min(gaps) < 5e-3


def test_label_propagation_answers_where_no_label_comes():
    edges = np.array([[0, 2], [1, 3]])
    data = NodeData.of("pairs", edges, np.eye(6), [0, 0, 1, 1, 0, 0])
    split = Split(torch.tensor([0, 2, 4]), torch.tensor([1]), torch.tensor([3, 5]))
    logits = baseline("label-propagation", data, split).logits
    assert logits.isfinite().all()
    assert logits.argmax(1).tolist() == [0, 0, 1, 1, 0, 0]


def test_words_of_neighbours_tell_sgc_what_mlp_cannot_know():
    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    x = np.zeros((80, 2))
    x[40:] = np.eye(2)[y[40:]]  # only the second half has features
    edges = np.array([np.arange(40), np.arange(40, 80)])  # each is tied to one of the other half
    data = NodeData.of("half", edges, x, y)
    order = torch.from_numpy(rng.permutation(40))
    split = Split(order[:16], order[16:28], order[28:])
    config = FitConfig(epochs=100, patience=50)
    assert baseline("mlp", data, split, config=config).test < 0.9
    for name in ("sgc", "gcn", "gcn-residual"):
        assert baseline(name, data, split, config=config).test == 1.0, name


def test_an_unknown_name_is_refused():
    data = graph()
    with pytest.raises(ArgumentError, match="gcn-residual"):
        baseline("gat", data, data.splits[0])


def test_the_score_that_selects_chooses_from_the_grid(monkeypatch):
    """The alpha of label propagation: of the highest area under the curve, if that selects."""
    apart = 0
    for seed in range(4):
        data = contextual_blocks(120, 2, homophily=0.7, seed=seed)
        split = data.splits[0]
        each = []
        for alpha in ALPHAS:
            monkeypatch.setattr("graphdiff.graph.evaluate.baselines.ALPHAS", (alpha,))
            each.append(baseline("label-propagation", data, split).scores["val"])
        monkeypatch.undo()
        for select in ("accuracy", "roc_auc"):
            config = FitConfig(select=select)
            found = baseline("label-propagation", data, split, config=config).scores["val"]
            assert found[select] == max(one[select] for one in each)
        best = max(each, key=lambda one: one["accuracy"])
        apart += best["roc_auc"] < max(one["roc_auc"] for one in each)
    assert apart


@pytest.mark.parametrize("name", ["majority", "label-propagation", "gcn"])
def test_splits_that_do_not_fit_are_refused(name):
    data = graph()
    split = data.splits[0]
    labels = data.labels.clone()
    labels[split.test[0]] = -1
    bare = NodeData.of("bare", data.edges, data.features, labels)
    with pytest.raises(DataError, match="no label"):
        baseline(name, bare, split)
    with pytest.raises(DataError, match="node 90"):
        baseline(name, data, Split(split.train, split.val, torch.tensor([90])))
    no_two = Split(split.train, split.val[data.labels[split.val] != 2], split.test)
    with pytest.raises(DataError, match="validation part"):
        baseline(name, data, no_two, config=FitConfig(select="roc_auc"))
