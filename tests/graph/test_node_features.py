"""Features with many zeros: the same layer, the same gradients, dropout of the same law."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import kstest, norm
from torch import nn

from graphdiff.graph.evaluate.baselines import GCN, MLP, normalised_adjacency
from graphdiff.graph.node_features import SparseFeatures, compressed, dense, dropout, linear
from graphdiff.graph.sheaf import SheafConfig, SheafNetwork, Topology


@pytest.fixture
def words():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(40, 30, generator=generator)
    return torch.where(torch.rand(40, 30, generator=generator) < 0.1, x, 0.0)


@pytest.fixture
def edges():
    return torch.stack([torch.arange(39), torch.arange(1, 40)])


def test_compressed_holds_the_same_features(words):
    found = compressed(words)
    assert isinstance(found, SparseFeatures)
    assert len(found) == 40
    assert len(found.values) == int((words != 0).sum())
    assert torch.equal(dense(found), words)
    assert torch.equal(dense(found.to("cpu")), words)


def test_full_or_empty_features_stay_as_they_are(words):
    for x in (words + 1, torch.zeros(5, 0), torch.zeros(0, 4)):
        assert compressed(x) is x
        assert dense(x) is x


def test_all_zero_features_have_no_entries():
    found = compressed(torch.zeros(3, 4))
    layer = nn.Linear(4, 2)
    assert torch.equal(linear(layer, found), layer.bias.expand(3, 2))


@pytest.mark.parametrize("bias", [True, False])
def test_the_layer_and_its_gradients_are_those_of_torch(words, bias):
    layer = nn.Linear(30, 5, bias=bias).double()
    x = words.double()
    loss = lambda y: (y * torch.arange(5.0)).square().sum()  # noqa: E731
    wanted = torch.autograd.grad(loss(layer(x)), list(layer.parameters()))
    found = linear(layer, compressed(x))
    torch.testing.assert_close(found, layer(x))
    torch.testing.assert_close(torch.autograd.grad(loss(found), list(layer.parameters())), wanted)


@pytest.mark.parametrize("entries", [True, False])
def test_dropout_has_the_law_of_independent_features(words, entries):
    """Sums of dropped features against their normal limit, mean and variance known exactly."""
    p, draws, x = 0.6, 600, compressed(words) if entries else words
    torch.manual_seed(1)
    sums = torch.stack([dense(dropout(x, p, True)).sum() for _ in range(draws)]).double()
    mean = float(words.double().sum())
    spread = float((words.double().square().sum() * p / (1 - p)).sqrt())
    law = norm(mean, spread)
    assert kstest(sums.numpy(), law.cdf).pvalue > 1e-3
    unscaled = sums * (1 - p)  # forgetting to scale what is kept is noticed
    assert kstest(unscaled.numpy(), law.cdf).pvalue < 1e-6


def test_what_is_kept_is_scaled_and_nothing_else_appears(words):
    torch.manual_seed(0)
    found = dense(dropout(compressed(words), 0.5, True))
    kept = found != 0
    assert 0 < int(kept.sum()) < int((words != 0).sum())
    torch.testing.assert_close(found[kept], 2 * words[kept])
    assert torch.equal(dense(dropout(compressed(words), 0.5, False)), words)


@pytest.mark.parametrize("maps", ["diagonal", "identity", "connection"])
def test_networks_see_the_same_either_way(words, edges, maps):
    topology = Topology.of(edges, 40)
    net = SheafNetwork(SheafConfig(maps, 2, hidden=4), 30, 3).eval()
    torch.testing.assert_close(net(compressed(words), topology), net(words, topology))


@pytest.mark.parametrize("residual", [False, True])
def test_baselines_see_the_same_either_way(words, edges, residual):
    hat = normalised_adjacency(edges, 40)
    net = GCN(30, 3, hidden=8, residual=residual).eval()
    torch.testing.assert_close(net(compressed(words), *hat), net(words, *hat))
    plain = MLP(30, 3).eval()
    torch.testing.assert_close(plain(compressed(words)), plain(words))


def test_a_residual_layer_drops_the_same_features_on_both_paths(words, edges):
    pattern, values = normalised_adjacency(edges, 40, loops=False)
    net = GCN(30, 30, layers=1, dropout=0.5, residual=True).train()
    with torch.no_grad():
        net.linear[0].weight.copy_(torch.eye(30))
        net.beside[0].weight.copy_(torch.eye(30))
        net.beside[0].bias.zero_()
        net.bias[0].zero_()
    torch.manual_seed(3)
    out = net(compressed(words), pattern, values)
    torch.manual_seed(3)
    seen = dense(dropout(compressed(words), 0.5, True))
    torch.testing.assert_close(out, pattern.matmul(values, seen) + seen)
