"""Attacks: the search, and that a victim is the defence it claims to be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from robust_support import cuda

from graphdiff.core.errors import ArgumentError
from graphdiff.data.nodes import NodeData
from graphdiff.graph.adjacency import adjacency, both_ways
from graphdiff.graph.robust import Stable, StableConfig
from graphdiff.graph.robust.attack import AttackConfig, attack, flip, margin_loss, project
from graphdiff.graph.robust.encoder import EncoderConfig
from graphdiff.graph.robust.gcn import GCNConfig, fit_gcn
from graphdiff.graph.robust.refine import likely, refine
from graphdiff.graph.robust.similarity import edge_cosine, edge_jaccard
from graphdiff.graph.robust.victims import PlainVictim, StableVictim

QUICK = AttackConfig(block=3000, steps=30)


@pytest.fixture(scope="module")
def plain(graph) -> PlainVictim:
    data = graph.data
    operator = adjacency(*both_ways(data.edges.numpy()), data.n)
    fitted = fit_gcn(
        operator, data.features, data.labels, data.splits[0], GCNConfig(epochs=60), runs=2
    )
    return PlainVictim(data, fitted.stack)


@pytest.fixture(scope="module", params=[False, True])
def defended(graph, request) -> StableVictim:
    config = StableConfig(
        jaccard=0.05, symmetric=request.param,
        encoder=EncoderConfig(hidden=24, epochs=60), gcn=GCNConfig(epochs=60),
    )  # fmt: skip
    return StableVictim(graph.data, Stable(config).fit(graph.data, runs=2))


def weights(data) -> tuple[np.ndarray, torch.Tensor]:
    return data.edges.numpy(), torch.ones(data.edges.shape[1])


def test_victims_say_what_the_models_say(graph, plain, defended) -> None:
    edges, ones = weights(graph.data)
    operator = adjacency(*both_ways(edges), graph.data.n)
    wanted = plain.stack.eval()(operator, graph.data.features).mean(1)
    assert torch.allclose(plain.on(edges)(ones), wanted, atol=1e-5)
    assert torch.allclose(defended.on(edges)(ones), defended.model.logits().mean(0), atol=1e-4)


def test_a_weight_of_zero_is_no_edge(graph, plain, defended) -> None:
    """Also inside the defence, re-made here step by step for the graph without those edges."""
    edges, ones = weights(graph.data)
    fewer = ones.clone()
    fewer[::5] = 0
    left = edges[:, fewer.numpy() > 0]
    assert torch.allclose(
        plain.on(edges)(fewer), plain.on(left)(torch.ones(left.shape[1])), atol=1e-5
    )
    model, n = defended.model, graph.data.n
    config = model.config
    kept = left[:, likely(left, graph.words, config.jaccard)]
    anchor = adjacency(*both_ways(kept), n, loops=config.beta).csr()
    embedding = model.encoder(anchor, graph.data.features.to_sparse_csr())
    pairs = refine(kept, embedding, cosine=config.cosine, k=config.k, symmetric=config.symmetric)
    operator = adjacency(*pairs, n, alpha=config.alpha)
    wanted = model.stack.eval()(operator, embedding).mean(1)
    assert torch.allclose(defended.on(edges)(fewer), wanted, atol=1e-4)


def test_the_gradient_is_a_derivative(graph, plain, defended) -> None:
    edges, ones = weights(graph.data)
    nodes = graph.data.splits[0].test
    for victim in (plain, defended):
        answer = victim.on(edges)
        middle = (0.8 * ones).requires_grad_()
        (slope,) = torch.autograd.grad(
            margin_loss(answer(middle), graph.data.labels, nodes), middle
        )
        way = slope / slope.norm()
        with torch.no_grad():
            up, down = (
                margin_loss(answer(middle + h * way), graph.data.labels, nodes)
                for h in (1e-2, -1e-2)
            )
        assert float((up - down) / 2e-2) == pytest.approx(float(slope.norm()), rel=0.1)


def test_only_pairs_that_pass_are_worth_while(graph, defended) -> None:
    u, v = np.triu_indices(graph.data.n, 1)
    pairs = np.stack([u, v])
    found = defended.allowed(pairs)
    config = defended.model.config
    alike = edge_cosine(defended.model.embedding, *torch.from_numpy(pairs)).numpy()
    wanted = (edge_jaccard(graph.words, u, v) >= config.jaccard) & (alike > config.cosine + 0.1)
    assert (found == wanted).all()
    assert 0 < found.mean() < 1


def test_projection_is_the_nearest_feasible_point() -> None:
    rng = np.random.default_rng(0)
    for budget in (1.0, 3.5, 100.0):
        p = torch.from_numpy(rng.normal(0.3, 1, 30))
        found = project(p, budget)
        assert float(found.min()) >= 0
        assert float(found.max()) <= 1
        assert float(found.sum()) <= budget + 1e-6
        for _ in range(200):  # no feasible point is nearer: (p - found)(q - found) <= 0
            q = torch.from_numpy(rng.random(30))
            q *= min(1.0, budget / float(q.sum()))
            assert float((p - found) @ (q - found)) < 1e-6


def test_margin_loss() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 5.0, 0.0]])
    found = margin_loss(logits, torch.tensor([0, 2]), torch.tensor([0, 1]))
    wanted = -(torch.tanh(torch.tensor(1.0)) + torch.tanh(torch.tensor(-5.0))) / 2
    assert float(found) == pytest.approx(float(wanted))


def test_flips_add_and_remove(graph) -> None:
    data = graph.data
    first = data.edges[:, :1].numpy()
    assert flip(data, first).edges.tolist() == data.edges[:, 1:].tolist()
    twice = flip(flip(data, first), first)
    assert twice.edges.tolist() == data.edges.tolist()


def test_an_attack_stays_in_its_budget_and_hurts(graph, plain) -> None:
    nodes = graph.data.splits[0].test
    found = attack(graph.data, plain, nodes, 20, QUICK, seed=1)
    assert found.flips.shape[1] <= 20
    assert (found.flips[0] < found.flips[1]).all()
    have = set(zip(*graph.data.edges.tolist(), strict=True))
    flips = set(zip(*found.flips.tolist(), strict=True))
    after = set(zip(*found.data.edges.tolist(), strict=True))
    assert after == have ^ flips
    assert found.added == len(flips - have)
    edges, ones = weights(found.data)
    loss = margin_loss(plain.on(edges)(ones), graph.data.labels, nodes)
    assert float(loss) == pytest.approx(found.after, abs=1e-5)
    rng = np.random.default_rng(0)
    u, v = np.triu_indices(graph.data.n, 1)
    some = rng.choice(len(u), 20, replace=False)
    chance = flip(graph.data, np.stack([u[some], v[some]]))
    edges, ones = weights(chance)
    random = float(margin_loss(plain.on(edges)(ones), graph.data.labels, nodes))
    assert found.after > found.before + 3 * abs(random - found.before)
    again = attack(graph.data, plain, nodes, 20, QUICK, seed=1)
    assert (again.flips == found.flips).all()


def test_the_defence_is_attacked_through_its_own_rules(graph, defended) -> None:
    nodes = graph.data.splits[0].test
    found = attack(graph.data, defended, nodes, 20, QUICK)
    assert found.after > found.before
    have = set(zip(*graph.data.edges.tolist(), strict=True))
    new = np.array([pair for pair in zip(*found.flips.tolist(), strict=True) if pair not in have])
    assert defended.allowed(new.T).all()


def test_without_self_loops_a_lone_node_is_no_division_by_zero(graph) -> None:
    """Nodes 7 and 8 have no edge left, as the defence with beta=0 knows how to fit."""
    u, v = graph.data.edges
    apart = (torch.stack([u, v]) != 7).all(0) & (torch.stack([u, v]) != 8).all(0)
    data = replace(graph.data, edges=graph.data.edges[:, apart])
    config = StableConfig(
        jaccard=0.05, beta=0.0, encoder=EncoderConfig(hidden=24, epochs=5), gcn=GCNConfig(epochs=5)
    )
    victim = StableVictim(data, Stable(config).fit(data, runs=1))
    edges, ones = weights(data)
    assert torch.allclose(victim.on(edges)(ones), victim.model.logits().mean(0), atol=1e-4)
    # A pair that is asked for and not there is nothing either, and has a slope.
    more = np.concatenate([edges, [[7], [8]]], 1)
    weight = torch.cat([ones, torch.zeros(1)]).requires_grad_()
    out = victim.on(more)(weight)
    assert torch.allclose(out, victim.model.logits().mean(0), atol=1e-4)
    assert bool(torch.autograd.grad(out.sum(), weight)[0].isfinite().all())
    found = attack(data, victim, data.splits[0].test, 5, AttackConfig(block=500, steps=3))
    assert found.after >= found.before


def test_a_class_that_the_victim_does_not_know_is_lost() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 5.0, 0.0]], requires_grad=True)
    found = margin_loss(logits, torch.tensor([0, 4]), torch.tensor([0, 1]))
    assert float(found.detach()) == pytest.approx((1 - np.tanh(1.0)) / 2)
    (slope,) = torch.autograd.grad(found, logits)
    assert bool((slope[1] == 0).all())
    assert float(slope[0, 0]) < 0 < float(slope[0, 2])


class Answering:
    """A victim that answers ``scale`` times the mean weight for one class."""

    def __init__(self, n: int, scale: float) -> None:
        self.n, self.scale = n, scale

    def allowed(self, pairs: np.ndarray) -> np.ndarray:
        return np.ones(pairs.shape[1], bool)

    def on(self, pairs: np.ndarray):
        way = torch.eye(3)[0].expand(self.n, 3)
        return lambda weight: self.scale * weight.mean() * way


def test_a_loss_that_is_not_finite_ends_the_attack(graph) -> None:
    nodes = graph.data.splits[0].test
    attack(graph.data, Answering(120, 1.0), nodes, 3, AttackConfig(block=100, steps=2))
    with pytest.raises(ArgumentError, match="not finite"):
        attack(graph.data, Answering(120, float("nan")), nodes, 3, QUICK)


def test_what_makes_no_attack_is_refused(graph, plain) -> None:
    data, test = graph.data, graph.data.splits[0].test
    with pytest.raises(ArgumentError, match="budget of one"):
        attack(data, plain, test, 0)
    with pytest.raises(ArgumentError, match="found 0 nodes"):
        attack(data, plain, test[:0], 3)
    unknown = replace(data, labels=data.labels.index_fill(0, test[:2], -1), splits=())
    with pytest.raises(ArgumentError, match="2 of them without a label"):
        attack(unknown, plain, test, 3)
    one = NodeData.of("one", np.zeros((2, 0)), np.ones((1, 2)), [0])
    with pytest.raises(ArgumentError, match="no pair of nodes to flip: the graph has 1 nodes"):
        attack(one, Answering(1, 1.0), torch.tensor([0]), 3)
    for wrong in ({"block": 0}, {"steps": 0}, {"lr": 0.0}, {"lr": float("nan")}, {"roundings": -1}):
        with pytest.raises(ArgumentError, match="positive"):
            AttackConfig(**wrong)


@pytest.mark.gpu
def test_a_defence_on_a_gpu_is_attacked_there(graph) -> None:
    data = cuda(graph)
    config = StableConfig(
        jaccard=0.05, encoder=EncoderConfig(hidden=24, epochs=10), gcn=GCNConfig(epochs=10)
    )
    victim = StableVictim(data, Stable(config).fit(data))
    nodes = data.splits[0].test
    found = attack(data, victim, nodes, 5, AttackConfig(block=500, steps=3))
    assert found.after >= found.before
    assert found.data.edges.is_cuda
    operator = adjacency(*both_ways(data.edges.cpu().numpy()), data.n).to("cuda")
    fitted = fit_gcn(operator, data.features, data.labels, data.splits[0], GCNConfig(epochs=5))
    told = PlainVictim(data, fitted.stack)
    assert attack(data, told, nodes, 5, AttackConfig(block=500, steps=3)).flips.shape[0] == 2
