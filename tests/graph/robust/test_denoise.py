"""The diffusion of edges: what its network may see, and what its chain does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphdiff.core.errors import ArgumentError
from graphdiff.core.state import State
from graphdiff.data.nodes import NodeData
from graphdiff.graph.robust.denoise import (
    EDGE,
    DenoiseConfig,
    EdgeDenoiser,
    PairInputs,
    candidates,
    fit_edge_denoiser,
)
from graphdiff.graph.robust.similarity import top_k, unit_rows

CONFIG = DenoiseConfig(neighbours=4, strangers=20, hidden=16, steps=120, chains=16)


def embedding(graph) -> torch.Tensor:
    """Words, smoothed a little so that no two nodes are equal."""
    noise = np.random.default_rng(0).normal(0, 0.1, tuple(graph.data.features.shape))
    return graph.data.features + torch.from_numpy(noise).float()


@pytest.fixture(scope="module")
def denoiser(graph) -> EdgeDenoiser:
    return fit_edge_denoiser(graph.data, embedding(graph), CONFIG, seed=1)


def test_candidates_are_edges_and_similar_pairs(graph) -> None:
    edges, x = graph.data.edges.numpy(), embedding(graph)
    found = set(zip(*candidates(edges, x, CONFIG).tolist(), strict=True))
    wanted = set(zip(*edges.tolist(), strict=True))
    for u, row in enumerate(top_k(x, 5)[1].tolist()):
        wanted |= {(min(u, v), max(u, v)) for v in row if v != u}
    assert wanted < found  # the others are random pairs, some of them found already
    assert len(wanted) + 1000 < len(found) <= len(wanted) + 20 * 120
    assert all(u < v for u, v in found)


def test_no_input_of_a_pair_knows_its_own_bit(graph) -> None:
    pairs = candidates(graph.data.edges.numpy(), embedding(graph), CONFIG, 1)
    inputs = PairInputs(pairs, embedding(graph), graph.words)
    rng = np.random.default_rng(1)
    bits = torch.from_numpy(rng.integers(0, 2, pairs.shape[1]))
    before = inputs(bits[None])[0]
    for k in rng.choice(pairs.shape[1], 12, replace=False):
        other = bits.clone()
        other[k] = 1 - other[k]
        after = inputs(other[None])[0]
        assert torch.allclose(after[k], before[k], atol=1e-5)
        assert not torch.allclose(after, before, atol=1e-5)  # the neighbours do know it


def test_inputs_are_what_they_are_called(graph) -> None:
    import networkx as nx

    x = embedding(graph)
    pairs = candidates(graph.data.edges.numpy(), x, CONFIG, 1)
    bits = torch.from_numpy(np.random.default_rng(2).integers(0, 2, pairs.shape[1]))
    found = PairInputs(pairs, x, graph.words)(bits[None])[0]
    net = nx.Graph()
    net.add_nodes_from(range(graph.data.n))
    net.add_edges_from(pairs[:, bits.numpy() > 0].T.tolist())
    unit = unit_rows(x).numpy()
    for k in range(0, pairs.shape[1], 29):
        u, v = pairs[:, k].tolist()
        a, b = set(net[u]) - {v}, set(net[v]) - {u}
        degrees = sorted((len(a), len(b)))
        fits = [
            float(np.mean([unit[w] @ unit[end] for w in group])) if group else 0.0
            for group, end in ((a, v), (b, u))
        ]
        wanted = [
            *np.log1p(degrees), np.log1p(len(a & b)), min(fits), max(fits),
            float(not a or not b),
        ]  # fmt: skip
        assert np.allclose(found[k, 2:], wanted, atol=1e-5)


def test_it_learns_what_edges_are_like(graph, denoiser) -> None:
    assert np.mean(denoiser.losses[-60:]) < np.mean(denoiser.losses[:60])
    # Of a state without any information (t near 1) edges inside classes are the likelier ones.
    bits = denoiser.edges[None]
    state = State({EDGE: bits}, {}, torch.zeros(1, dtype=torch.int64))
    logits = denoiser.denoiser(state, torch.tensor([0.5]))[EDGE][0]
    score = (logits[:, 1] - logits[:, 0])[bits[0] == 1]
    order = candidates(graph.data.edges.numpy(), embedding(graph), CONFIG, 1)
    code = graph.data.edges[0] * 120 + graph.data.edges[1]
    place = np.searchsorted(order[0] * 120 + order[1], code.numpy())
    rank = np.cumsum(bits[0].numpy())[place] - 1
    bad = torch.from_numpy(graph.attacker)
    assert float(score[rank][~bad].mean()) > float(score[rank][bad].mean()) + 0.5


def test_the_chain_starts_in_the_given_graph(graph, denoiser) -> None:
    near = denoiser.weights(1e-5, seed=3)
    assert torch.equal(near, denoiser.edges.double())  # hardly any time, nothing moves
    far = denoiser.weights(0.7, seed=3)
    assert float((far - denoiser.edges).abs().mean()) > 0.01
    assert torch.equal(far, denoiser.weights(0.7, seed=3))
    assert not torch.equal(far, denoiser.weights(0.7, seed=4))
    # Weights are shares of 16 chains.
    assert torch.allclose(far * 16, (far * 16).round())


def test_every_step_of_the_chain_is_made(denoiser) -> None:
    seen = []

    def note(module, args) -> None:
        seen.append((args[0][EDGE].clone(), float(args[1][0])))

    hook = denoiser.denoiser.register_forward_pre_hook(note)
    denoiser.weights(0.4)
    hook.remove()
    assert [t for _, t in seen] == pytest.approx([0.4 * (1 - k / 8) for k in range(8)])
    assert torch.equal(seen[0][0], denoiser.edges.expand(16, -1))  # the given graph, at 0.4


def test_edges_of_the_attacker_go_first(graph, denoiser) -> None:
    weight = denoiser.weights(0.6)
    code = denoiser.pairs[0] * 120 + denoiser.pairs[1]
    place = np.searchsorted(code, (graph.data.edges[0] * 120 + graph.data.edges[1]).numpy())
    kept = weight.numpy()[place]
    assert kept[~graph.attacker].mean() > kept[graph.attacker].mean() + 0.1
    row, col, value = denoiser.graph(weight, least=0.5)
    assert (value > 0.5).all()
    assert len(row) == 2 * int((weight > 0.5).sum())
    assert set(zip(row.tolist(), col.tolist(), strict=True)) == set(
        zip(col.tolist(), row.tolist(), strict=True)
    )


def test_what_cannot_be_denoised_is_refused(graph, denoiser) -> None:
    for start in (0.0, 1.0):
        with pytest.raises(ArgumentError, match="time in"):
            denoiser.weights(start)
    empty = NodeData.of("empty", np.zeros((2, 0)), graph.data.features, graph.data.labels)
    with pytest.raises(ArgumentError, match="0% of the candidates"):
        fit_edge_denoiser(empty, embedding(graph), CONFIG)
    for wrong in ({"chains": 0}, {"lr": 0.0}, {"lr": float("nan")}):
        with pytest.raises(ArgumentError, match="positive"):
            DenoiseConfig(**wrong)
