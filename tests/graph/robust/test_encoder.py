"""The contrastive encoder: its written-out gradient against autograd, and its training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, prelu

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.adjacency import adjacency, both_ways
from graphdiff.graph.robust.encoder import Encoder, EncoderConfig, fit_encoder, loss_and_gradient
from graphdiff.graph.robust.stable import sparse_features


def parts(graph, dtype=torch.float64):
    edges, n = graph.data.edges.numpy(), graph.data.n
    anchor = adjacency(*both_ways(edges), n, loops=2.0).csr().to(dtype)
    views = [adjacency(*both_ways(edges[:, k::2]), n, loops=3.0).csr().to(dtype) for k in (0, 1)]
    features, turned = (x.to(dtype) for x in sparse_features(graph.data.features))
    return features, turned, anchor, views


def plain_loss(encoder, features, anchor, views, shuffle):
    """The definition, dense, for autograd."""
    x = features.to_dense()

    def layer(a, x):
        return prelu(a.to_dense() @ x @ encoder.weight + encoder.bias, encoder.slope)

    summaries = [torch.sigmoid(layer(view, x).mean(0)) for view in views]
    good, bad = layer(anchor, x), layer(anchor, x[shuffle])
    scores = [
        torch.cat([h @ encoder.form @ c for h in (good, bad)]) for c in summaries
    ]  # the sum of the scores with each summary
    goal = torch.cat([torch.ones(len(x)), torch.zeros(len(x))]).to(x)
    return binary_cross_entropy_with_logits(scores[0] + scores[1], goal)


def test_the_gradient_is_that_of_the_definition(graph) -> None:
    features, turned, anchor, views = parts(graph)
    torch.manual_seed(0)
    encoder = Encoder(features.shape[1], 7).double()
    with torch.no_grad():
        encoder.bias.normal_()
        encoder.slope.fill_(0.4)
    shuffle = torch.from_numpy(np.random.default_rng(0).permutation(graph.data.n))
    found = loss_and_gradient(encoder, features, turned, anchor, views, shuffle)
    loss = plain_loss(encoder, features, anchor, views, shuffle)
    loss.backward()
    assert float(found.loss) == pytest.approx(loss.item(), rel=1e-12)
    for name in ("weight", "bias", "slope", "form"):
        assert torch.allclose(getattr(found, name), getattr(encoder, name).grad, atol=1e-12), name


def test_embeddings_are_one_graph_convolution(graph) -> None:
    features, _, anchor, _ = parts(graph)
    encoder = Encoder(features.shape[1], 5).double()
    wanted = anchor.to_dense() @ features.to_dense() @ encoder.weight + encoder.bias
    wanted = torch.where(wanted > 0, wanted, encoder.slope * wanted)
    assert torch.allclose(encoder(anchor, features), wanted)


def test_training_stops_keeps_the_best_and_repeats(graph) -> None:
    features, turned, anchor, views = parts(graph, torch.float32)
    config = EncoderConfig(hidden=16, lr=0.01, epochs=300, patience=3)
    first, losses = fit_encoder(features, turned, anchor, views, config, seed=1)
    again, same = fit_encoder(features, turned, anchor, views, config, seed=1)
    other, _ = fit_encoder(features, turned, anchor, views, config, seed=2)
    assert losses == same
    assert torch.equal(first(anchor, features), again(anchor, features))
    assert not torch.equal(first(anchor, features), other(anchor, features))
    assert len(losses) < 300
    assert int(np.argmin(losses)) == len(losses) - 1 - config.patience
    # The weights are those before the update of the best epoch.
    best = EncoderConfig(hidden=16, lr=0.01, epochs=int(np.argmin(losses)) + 1, patience=300)
    short, _ = fit_encoder(features, turned, anchor, views, best, seed=1)
    assert torch.equal(first.weight, short.weight)
    assert min(losses) < losses[0]


def test_embeddings_tell_edges_of_the_attacker(graph) -> None:
    features, turned, anchor, views = parts(graph, torch.float32)
    encoder, _ = fit_encoder(features, turned, anchor, views, EncoderConfig(hidden=32, epochs=80))
    embedding = encoder(anchor, features)
    u, v = graph.data.edges
    alike = torch.nn.functional.cosine_similarity(embedding[u], embedding[v]).numpy()
    assert alike[~graph.attacker].mean() > alike[graph.attacker].mean() + 0.1


def test_numbers_out_of_range_are_refused() -> None:
    for wrong in ({"hidden": 0}, {"epochs": 0}, {"patience": 0}, {"lr": 0.0}):
        with pytest.raises(ArgumentError, match="positive"):
            EncoderConfig(**wrong)
