"""GC-GNN and UGC-GNN: layers by hand, invariance, what labels let them tell apart."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from canonical_support import cfi, graph6, of, shuffled

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.canonical import Canonizer, ColouredGraph
from graphdiff.graph.canonical.network import Batch, LabelledGNN, collate


def outputs(net: LabelledGNN, graphs: list[ColouredGraph], canonizer: Canonizer | None) -> Any:
    labels = None if canonizer is None else [canonizer.labels(g) for g in graphs]
    with torch.no_grad():
        return net.double()(_double(collate(graphs, labels)))


def _double(batch: Batch) -> Batch:
    return Batch(batch.features.double(), batch.pattern, batch.owner, batch.graphs, batch.labels)


@pytest.mark.parametrize("kind", ["gin", "gcn"])
@pytest.mark.parametrize("readout", ["sum", "mean"])
def test_layers_are_the_published_ones(kind: Any, readout: Any) -> None:
    """Dense matrices: A + (1 + eps) I for GIN, D^-1/2 (A + I) D^-1/2 for GCN."""
    graph = of(nx.gnp_random_graph(7, 0.4, seed=3))
    x, labels = torch.randn(7, 2, generator=torch.Generator().manual_seed(0)), np.arange(7)[::-1]
    net = LabelledGNN(2, 3, 9, width=5, depth=2, kind=kind, readout=readout, seed=1)
    with torch.no_grad():
        net.epsilon.copy_(torch.tensor([0.3, -0.2]))
    dense = torch.zeros(7, 7)
    for u, v in graph.edges.tolist():
        dense[u, v] = dense[v, u] = 1
    loops = dense + torch.eye(7)
    root = loops.sum(1).rsqrt()
    h = net.enter(x) + net.embed(torch.from_numpy(labels.copy()))
    for i in range(2):
        gin = dense + (1 + net.epsilon[i]) * torch.eye(7)
        h = torch.relu(
            net.norms[i](
                net.layers[i]((gin if kind == "gin" else root[:, None] * loops * root) @ h)
            )
        )
    want = net.leave(h.sum(0) if readout == "sum" else h.mean(0))
    other = of(nx.path_graph(4))
    batch = collate([other, graph], [np.arange(4), labels.copy()], [torch.ones(4, 2), x])
    torch.testing.assert_close(net(batch)[1], want)


def test_arcs_carry_messages_forward_only() -> None:
    batch = collate([ColouredGraph(2, [(0, 1)], directed=True)])
    assert batch.pattern.row.tolist() == [1]
    assert batch.pattern.col.tolist() == [0]


def test_renumbering_changes_nothing() -> None:
    graphs = [of(nx.gnp_random_graph(9, 0.4, seed=s)) for s in range(5)] + [of(nx.petersen_graph())]
    copies = [shuffled(g, k) for k, g in enumerate(graphs)]
    net, canonizer = LabelledGNN(1, 4, 10, seed=2), Canonizer()
    torch.testing.assert_close(
        outputs(net, graphs, canonizer), outputs(net, copies, canonizer), atol=1e-9, rtol=0
    )


def test_pairs_that_refinement_cannot_tell_apart() -> None:
    """GIN gives such pairs the same output whatever its weights, GC-GNN does not."""
    pairs = [(of(nx.circulant_graph(41, [1, 2])), of(nx.circulant_graph(41, [1, 3])))]
    pairs += [tuple(cfi(nx.complete_graph(4), twisted=t) for t in (False, True))]
    canonizer = Canonizer()
    for one, two in pairs:
        plain = outputs(LabelledGNN(1, 8, seed=0), [one, two], None)
        torch.testing.assert_close(plain[0], plain[1], atol=1e-9, rtol=0)
        seeing = outputs(LabelledGNN(1, 8, one.nodes, seed=0), [one, two], canonizer)
        assert float((seeing[0] - seeing[1]).abs().max()) > 1e-4


def test_strongly_regular_graphs_are_told_apart() -> None:
    graphs = graph6("sr25/raw/sr251256.g6")
    plain = outputs(LabelledGNN(1, 8, seed=0), graphs, None)
    assert float((plain - plain[0]).abs().max()) < 1e-9
    seeing = outputs(LabelledGNN(1, 8, 25, seed=0), graphs, Canonizer())
    assert float(torch.pdist(seeing).min()) > 1e-4


def test_a_seed_fixes_the_weights_and_touches_no_global_state() -> None:
    before = torch.random.get_rng_state()
    one, two, other = (LabelledGNN(1, 2, 5, seed=s) for s in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(one.enter.weight, two.enter.weight)
    assert not torch.equal(one.enter.weight, other.enter.weight)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda g: collate([]), "needs one graph or more"),
        (lambda g: collate([g], [np.arange(3)]), "labels must have one row for each node"),
        (lambda g: collate([g], None, [torch.ones(3, 1)]), "features must have one row"),
        (lambda g: LabelledGNN(1, 2, 4)(collate([g])), "reads labels, but the batch has none"),
        (lambda g: LabelledGNN(1, 2)(collate([g], [np.arange(4)])), "this network reads no labels"),
        (lambda g: LabelledGNN(1, 2, 3)(collate([g], [np.arange(4)])), "label 3, .* knows 0 to 2"),
        (lambda g: LabelledGNN(1, 0), "outputs, width and depth must be >= 1"),
        (lambda g: LabelledGNN(1, 1, kind="gat"), "kind must be gin or gcn"),
    ],
)
def test_bad_input_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make(of(nx.path_graph(4)))
