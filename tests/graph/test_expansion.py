"""Coarsening, levels and the network of the expansion model: exact structure, exact symmetries."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from expansion_support import connected, edge_array, graphs, level_of, packed_set, sequence, task

from graphdiff.core.errors import DataError
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.data.graphs import Graphs
from graphdiff.graph.expansion.coarsen import coarsen, contract, low_spectrum
from graphdiff.graph.expansion.dataset import ExpansionData, largest_pieces, unpack
from graphdiff.graph.expansion.level import CLASSES, Level, Packed, subsets
from graphdiff.graph.expansion.triangles import triangles
from graphdiff.graph.nets.expansion import ExpansionNetwork
from graphdiff.graph.nets.segments import Segments


@pytest.mark.parametrize("graph", graphs(), ids=str)
def test_every_step_contracts_a_matching(graph: nx.Graph) -> None:
    """One or two children, adjacent if two; the share of nodes removed is that asked for."""
    for step in sequence(graph):
        fine = {tuple(e) for e in step.fine.tolist()}
        first = np.cumsum(step.split + 1) - step.split - 1
        assert set(step.split.tolist()) <= {0, 1}
        assert step.split.sum() >= 1
        assert all((first[p], first[p] + 1) in fine for p in np.flatnonzero(step.split))
        # rounding adds at most half a node to the largest share
        assert step.split.sum() <= max(1, 0.3 * len(step.next_split) + 0.5)


@pytest.mark.parametrize("seed", range(3))
def test_the_cheapest_edge_is_contracted_first(seed: int) -> None:
    graph = connected(20, 15, seed)
    edges = edge_array(graph)
    cost = np.random.default_rng(seed).random(len(edges))
    parent = contract(cost, edges, 20, 1, 0.0, np.ones(len(edges)))
    u, v = edges[cost.argmin()]
    assert parent[u] == parent[v]
    assert parent.max() == 18


def test_contraction_keeps_the_spectrum_it_is_asked_to_keep() -> None:
    """Two cliques and one bridge: the bridge carries the slow mode and is contracted last."""
    graph = nx.barbell_graph(8, 0)
    edges = edge_array(graph)
    for seed in range(5):
        node = np.arange(16)
        for parent in coarsen(16, edges, np.random.default_rng(seed), rank=1, skip=0.0):
            node = parent[node]
            if node.max() >= 1:
                assert not set(node[:8]) & set(node[8:])


def test_a_graph_in_pieces_is_refused() -> None:
    with pytest.raises(DataError, match="not connected"):
        coarsen(4, np.array([[0, 1], [2, 3]]), np.random.default_rng(0))


def test_the_largest_piece_of_a_graph_can_be_trained_on() -> None:
    two = nx.disjoint_union(nx.path_graph(3), nx.cycle_graph(5))
    graphs_in_pieces = Graphs.from_networkx([two, nx.star_graph(4)])
    largest = largest_pieces(graphs_in_pieces)
    assert nx.is_isomorphic(largest.to_networkx()[0], nx.cycle_graph(5))
    assert largest[1] == graphs_in_pieces[1]
    with pytest.raises(DataError, match=r"graph 0 .* pieces"):
        ExpansionData(graphs_in_pieces, task().config.coarsening)
    wide = task(coarsening={"pieces": "largest"}).config.coarsening
    assert ExpansionData(graphs_in_pieces, wide).sizes == (0, 0, 0, 0, 0, 2)


def test_sparse_and_dense_spectra_agree() -> None:
    """Eigenvalues of a path, 2 - 2 cos(pi k / n), from both solvers."""
    for n in (50, 450):  # the dense solver, the sparse one
        values, vectors = low_spectrum(n, edge_array(nx.path_graph(n)), 3)
        exact = 2 - 2 * np.cos(np.pi * np.arange(1, 4) / n)
        np.testing.assert_allclose(values, exact, rtol=1e-5)
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-8)


@pytest.mark.parametrize("graph", graphs(), ids=str)
def test_expanding_undoes_coarsening(graph: nx.Graph) -> None:
    """Tokens of a level give its fine graph, edge by edge; the last is the graph itself."""
    steps = sequence(graph, seed=1)
    for step in steps:
        level, tokens, _ = level_of([step])
        assert level.allowed[torch.arange(len(tokens)), tokens].all()
        fine = level.refine(tokens)
        assert torch.equal(fine.edges, torch.from_numpy(step.fine))
    last = nx.Graph(fine.edges.tolist())
    assert nx.is_isomorphic(last, graph)


def test_any_tokens_make_a_connected_graph_and_single_ones_keep_a_tree() -> None:
    rng = torch.Generator().manual_seed(0)
    for graph in graphs():
        level, _, _ = level_of(sequence(graph)[-1:])
        weights = level.allowed.float()
        if not len(weights):
            continue
        drawn = torch.multinomial(weights, 1, generator=rng).squeeze(1)
        fine = nx.Graph(level.refine(drawn).edges.tolist())
        assert nx.is_connected(fine)
        assert fine.number_of_nodes() == int(level.counts)
        if nx.is_tree(graph):
            single = weights * (subsets(weights.device).sum(1) == 1)
            drawn = torch.multinomial(single, 1, generator=rng).squeeze(1)
            assert nx.is_tree(nx.Graph(level.refine(drawn).edges.tolist()))


def test_packing_changes_nothing() -> None:
    steps = [sequence(g, seed=2)[-1] for g in graphs()]
    union, tokens, _ = level_of(steps)
    fine, start = union.refine(tokens), 0
    for i, step in enumerate(steps):
        alone, own, _ = level_of([step])
        assert torch.equal(fine.edges[fine.owner == i], alone.refine(own).edges)
        pairs = alone.pairs[:, 0] >= 0
        assert int((union.graph[union.pairs[:, 0]] == i).sum()) == int(pairs.sum())
        start += int(alone.counts)
    keep = torch.tensor([i % 2 == 0 for i in range(len(steps))])
    assert torch.equal(fine.select(keep).counts, fine.counts[keep])
    edges, mask = fine.padded()
    assert torch.equal(edges[mask], fine.edges)


@pytest.mark.parametrize("graph", [*graphs(), connected(60, 300, 5)], ids=str)
def test_triangles_are_all_triangles(graph: nx.Graph) -> None:
    edges = torch.from_numpy(edge_array(graph))
    found = triangles(edges, graph.number_of_nodes())
    nodes = {tuple(sorted(set(edges[t].flatten().tolist()))) for t in found}
    assert all(len(t) == 3 for t in nodes)
    assert len(nodes) == len(found) == sum(nx.triangles(graph).values()) // 3


def test_features_are_those_of_dense_walks() -> None:
    for graph in graphs():
        n, edges = graph.number_of_nodes(), torch.from_numpy(edge_array(graph))
        counts = torch.tensor([n])
        modes = torch.from_numpy(low_spectrum(n, edges.numpy(), 2)[1]).float()
        packed = Packed(counts, torch.zeros(len(edges), dtype=torch.int64), edges)
        split = torch.zeros(n, dtype=torch.int64)
        node, edge = Level.build(packed, split, counts, modes=modes).features
        a = torch.from_numpy(nx.to_numpy_array(graph, nodelist=range(n))).float()
        walk = a / a.sum(1, keepdim=True).clamp(min=1)
        i, j = edges.unbind(1)
        returns = [torch.linalg.matrix_power(walk, k).diagonal() for k in (2, 3)]
        torch.testing.assert_close(node[:, 1:3], torch.stack(returns, 1))
        two = a @ torch.diag(1 / a.sum(1).clamp(min=1)) @ a
        scale = (a.sum(1)[i] * a.sum(1)[j]).rsqrt()
        torch.testing.assert_close(edge[:, 1], scale * two[i, j])
        # a change of sign of the eigenvectors is not seen
        flipped = Level.build(packed, split, counts, modes=-modes).features
        assert torch.equal(flipped[0], node)
        assert torch.equal(flipped[1], edge)


def test_segments_are_each_others_derivative() -> None:
    index = torch.tensor([2, 0, 2, 5, 2, 0])
    rows = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    table = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    segments = Segments(index, 6)
    plain = torch.zeros(6, 3, dtype=torch.float64).index_add(0, index, rows)
    assert torch.equal(segments.sum(rows), plain)
    assert torch.equal(segments.spread(table), table[index])
    assert torch.autograd.gradcheck(segments.sum, rows)
    assert torch.autograd.gradcheck(segments.spread, table)


# -- the network ---------------------------------------------------------------------------------


def ask(net: ExpansionNetwork, level: Level, tokens: torch.Tensor, splits: torch.Tensor) -> Any:
    """Packed logits of tokens ``[e, 16]`` and splits ``[n, 3]``."""
    masks = {"e": level.token_mask, "v": level.node_mask}
    values = {name: torch.zeros_like(mask, dtype=torch.int64) for name, mask in masks.items()}
    values["e"][masks["e"]], values["v"][masks["v"]] = tokens, splits
    with torch.no_grad():
        out = net(values, torch.full((len(level.counts),), 0.4), masks, level)
    return out["e"][masks["e"]], out["v"][masks["v"]]


def hide(tokens: torch.Tensor, splits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Every second token and split hidden."""
    even = torch.arange(len(tokens)) % 2 == 0, torch.arange(len(splits)) % 2 == 0
    return torch.where(even[0], CLASSES, tokens), torch.where(even[1], 2, splits)


def network() -> ExpansionNetwork:
    net = task().build().net
    assert isinstance(net, ExpansionNetwork)
    return net.eval()


def test_the_network_sees_each_graph_alone() -> None:
    steps, net = [sequence(g)[-1] for g in graphs()], network()
    level, tokens, splits = level_of(steps)
    hidden = hide(tokens, splits)
    e, v = ask(net, level, *hidden)
    token_owner = level.owner[level.token]
    for i, step in enumerate(steps):
        alone, _, _ = level_of([step])
        mine = ask(net, alone, hidden[0][token_owner == i], hidden[1][level.graph == i])
        # float32: sums of the same numbers in batches of another shape
        torch.testing.assert_close(mine[0], e[token_owner == i], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(mine[1], v[level.graph == i], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("graph", graphs()[2:], ids=str)
def test_children_of_a_node_can_be_exchanged(graph: nx.Graph) -> None:
    """Exchanging two children moves slots of tokens and rows of nodes, and nothing else."""
    net, step = network(), sequence(graph)[-1]
    level, tokens, splits = level_of([step])
    state = hide(tokens, splits)
    e, v = ask(net, level, *state)
    p = int(np.flatnonzero(step.split)[0])
    first = int((level.parent == p).nonzero()[0])
    nodes = torch.arange(len(splits))
    nodes[first], nodes[first + 1] = first + 1, first
    classes = torch.stack([_exchanged(level, t, p) for t in level.token]) if len(e) else e.long()
    moved = torch.where(state[0] < CLASSES, _pick(classes, state[0]), CLASSES)
    e2, v2 = ask(net, level, moved, state[1][nodes])
    torch.testing.assert_close(v2, v[nodes], rtol=1e-4, atol=1e-4)
    if len(e):
        torch.testing.assert_close(e2[:, :15].gather(1, classes), e[:, :15], rtol=1e-4, atol=1e-4)


def _pick(classes: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    if not len(at):
        return at
    return classes.gather(1, at.clamp(max=14).unsqueeze(1)).squeeze(1)


def _exchanged(level: Level, edge: torch.Tensor, p: int) -> torch.Tensor:
    """Class of each subset after the children of ``p`` change places, ``[15]``."""
    slot = torch.arange(4)
    u, v = level.coarse[edge].tolist()
    if u == p:
        slot = slot ^ 2
    if v == p:
        slot = slot ^ 1
    bits = subsets(slot.device)[:, slot].long()
    return (bits << torch.arange(4)).sum(1) - 1


def test_coarse_nodes_can_be_renumbered() -> None:
    """A permutation of the coarse nodes permutes the logits."""
    step, net = sequence(connected(24, 30, 1))[-1], network()
    level, tokens, splits = level_of([step])
    state = hide(tokens, splits)
    e, v = ask(net, level, *state)
    new = torch.from_numpy(np.random.default_rng(0).permutation(len(step.split)))
    coarse = new[level.coarse]
    turned = coarse[:, 0] > coarse[:, 1]
    ends = coarse.sort(1).values
    order = torch.argsort(ends[:, 0] * len(new) + ends[:, 1])
    split = torch.empty_like(torch.from_numpy(step.split))
    split[new] = torch.from_numpy(step.split)
    packed = Packed(level.coarse_counts, level.owner, ends[order])
    other = Level.build(packed, split, level.total, level.target)
    flip = torch.tensor([0, 2, 1, 3])  # turning an edge exchanges the roles of its ends
    flipped = (subsets(flip.device)[:, flip].long() << torch.arange(4)).sum(1) - 1
    row = torch.full((len(level.coarse),), -1)
    row[level.token] = torch.arange(len(level.token))
    rows = row[order][row[order] >= 0]
    turn = turned[level.token][rows]
    mine = state[0][rows]
    mine = torch.where(turn & (mine < CLASSES), flipped[mine.clamp(max=14)], mine)
    node = torch.argsort(new[level.parent], stable=True)
    e2, v2 = ask(net, other, mine, state[1][node])
    torch.testing.assert_close(v2, v[node], rtol=1e-4, atol=1e-4)
    expected = torch.where(turn.unsqueeze(1), e[rows][:, :15][:, flipped], e[rows][:, :15])
    torch.testing.assert_close(e2[:, :15], expected, rtol=1e-4, atol=1e-4)


# -- training ------------------------------------------------------------------------------------


def test_batches_hold_the_levels_they_name() -> None:
    data = ExpansionData(packed_set(), task().config.coarsening, modes=2)
    assert data.sizes[30] == 1
    index = torch.tensor([5, 0, len(data) - 1])
    together = data.batch(index)
    level = unpack(together)
    for row, i in enumerate(index.tolist()):
        alone = data.batch(torch.tensor([i]))
        for name in ("e", "v", "coarse", "split", "modes"):
            mine = together[name][row][together.masks[name][row]]
            assert torch.equal(mine, alone[name][alone.masks[name]])
    assert torch.equal(level.token_mask, together.masks["e"])
    assert torch.equal(level.node_mask, together.masks["v"])
    with pytest.raises(DataError, match="no graphs"):
        ExpansionData(packed_set()[[]], task().config.coarsening)


def test_the_loss_is_the_mean_cross_entropy_of_what_is_hidden() -> None:
    t_task = task()
    data, denoiser = ExpansionData(packed_set(), t_task.config.coarsening), t_task.build().eval()
    clean = data.batch(torch.tensor([30, 60, 90]))
    key = Key(5, clean.ids, step=2)
    found = t_task.losses(denoiser, clean, key)
    t = key.at(stream="time").uniform(1).squeeze(1)
    level, names = unpack(clean), ("e", "v")
    masks = {n: clean.masks[n] for n in names}
    noisy = denoiser.process.corrupt(State({n: clean[n] for n in names}, masks, clean.ids), t, key)
    raw = denoiser.net(noisy.values, t, masks, level)
    for name, mask_class in (("e", 15), ("v", 2)):
        hidden = masks[name] & (noisy[name] == mask_class)
        log_p = torch.log_softmax(raw[name][..., :mask_class], -1)
        each = -log_p.gather(-1, clean[name].unsqueeze(-1)).squeeze(-1)
        expected = torch.where(hidden, each, 0).sum(1) / hidden.sum(1).clamp(min=1)
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5)


def test_training_lowers_the_loss() -> None:
    t_task = task()
    data, denoiser = ExpansionData(packed_set(), t_task.config.coarsening), t_task.build()
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=1e-2)
    index = torch.arange(0, len(data), 2)

    def loss(step: int) -> torch.Tensor:
        losses = t_task.losses(denoiser, data.batch(index), Key(0, index, step=step))
        return torch.stack([v.mean() for v in losses.values()]).sum()

    before = np.mean([float(loss(1000 + k).detach()) for k in range(4)])
    for step in range(40):
        optimiser.zero_grad()
        loss(step).backward()
        optimiser.step()
    after = np.mean([float(loss(1000 + k).detach()) for k in range(4)])
    assert after < 0.8 * before  # the same unseen noise before and after
