"""Structural features against brute force, networkx and numpy, one graph at a time."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor

from graphdiff.core.space import Symmetric
from graphdiff.graph.nets.features import cycles, rrwp, rrwp_pairs, spectrum

GRAPHS = {
    "empty": nx.empty_graph(5),
    "one node": nx.empty_graph(1),
    "complete": nx.complete_graph(7),
    "bipartite": nx.complete_bipartite_graph(3, 4),
    "petersen": nx.petersen_graph(),
    "bowtie": nx.Graph([(0, 1), (1, 2), (0, 2), (2, 3), (3, 4), (2, 4)]),
    "ladder": nx.circular_ladder_graph(5),
    "tree": nx.balanced_tree(2, 2),
    "pieces": nx.disjoint_union_all([nx.cycle_graph(6), nx.path_graph(3), nx.empty_graph(2)]),
    **{f"random {p} {s}": nx.gnp_random_graph(9, p, seed=s) for p in (0.3, 0.6) for s in range(4)},
}


def batch(graphs: list[nx.Graph], pad: int = 0) -> tuple[Tensor, Tensor]:
    """Adjacencies in float64 and masks, padded to the largest graph and ``pad`` more."""
    sizes = torch.tensor([len(g) for g in graphs])
    n = int(sizes.max()) + pad
    adj = torch.zeros(len(graphs), n, n, dtype=torch.float64)
    for k, graph in enumerate(graphs):
        adj[k, : len(graph), : len(graph)] = torch.from_numpy(nx.to_numpy_array(graph))
    return adj, torch.arange(n) < sizes.unsqueeze(1)


def counted(graph: nx.Graph) -> tuple[list[list[int]], list[int]]:
    """Cycles of length 3, 4, 5 through each node and of length 3 to 6, by listing them all."""
    own, whole = [[0, 0, 0] for _ in graph], [0, 0, 0, 0]
    for cycle in nx.simple_cycles(graph, length_bound=6):
        whole[len(cycle) - 3] += 1
        for node in cycle if len(cycle) < 6 else ():
            own[node][len(cycle) - 3] += 1
    return own, whole


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cycles_equal_a_list_of_all_cycles(dtype: torch.dtype) -> None:
    """One batch of every size; whole numbers below 2^24, so equality is exact."""
    adj, _ = batch(list(GRAPHS.values()))
    own, whole = cycles(adj.to(dtype))
    for k, graph in enumerate(GRAPHS.values()):
        nodes, total = counted(graph)
        assert own[k, : len(graph)].tolist() == nodes
        assert own[k, len(graph) :].abs().sum() == 0
        assert whole[k].tolist() == total


def test_cycles_of_complete_graphs() -> None:
    """``n! / (n - k)! / 2k`` cycles of length k; at 20 nodes walks exceed 2^24, so only nearly."""
    own, whole = cycles(batch([nx.complete_graph(20)])[0].float())
    expected = [math.perm(20, k) / (2 * k) for k in (3, 4, 5, 6)]
    assert whole[0].tolist() == pytest.approx(expected, rel=1e-6)
    through = [k * e / 20 for k, e in zip((3, 4, 5), expected, strict=False)]
    assert own[0, 7].tolist() == pytest.approx(through, rel=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_random_walks_equal_powers_of_the_walk_matrix(steps: int) -> None:
    adj, _ = batch(list(GRAPHS.values()))
    found = rrwp(adj, steps)
    nodes, pairs = rrwp_pairs(adj, steps)
    assert found.shape == (*adj.shape, steps)
    assert nodes.shape == (*adj.shape[:2], steps)
    for k, a in enumerate(adj.numpy()):
        degree = np.maximum(a.sum(1), 1)
        walk = a / degree[:, None]
        for power in range(steps):
            expected = np.linalg.matrix_power(walk, power)
            np.testing.assert_allclose(found[k, ..., power], expected, atol=1e-12)
            # The symmetric walk differs from the walk by sqrt(d_i / d_j) only.
            ahead = np.linalg.matrix_power(walk, power + 1)
            even = torch.from_numpy(ahead * np.sqrt(degree[:, None] / degree))
            np.testing.assert_allclose(nodes[k, :, power], even.diagonal(), atol=1e-12)
            half = Symmetric().gather(even.unsqueeze(0))[0]
            np.testing.assert_allclose(pairs[k, :, power], half, atol=1e-12)


def test_rows_of_a_walk_sum_to_one_unless_the_node_is_alone() -> None:
    adj, _ = batch([GRAPHS["pieces"]])
    sums = rrwp(adj, 4)[0].sum(1)
    assert torch.allclose(sums[:9], torch.ones(9, 4, dtype=torch.float64))
    assert sums[9:].tolist() == [[1, 0, 0, 0]] * 2


@pytest.mark.parametrize("name", GRAPHS)
def test_spectrum_equals_that_of_each_graph(name: str) -> None:
    """Alone and in a padded batch; eigenvectors by what defines them, where levels coincide."""
    graph = GRAPHS[name]
    laplacian = nx.laplacian_matrix(graph).toarray().astype(np.float64)
    levels = np.linalg.eigvalsh(laplacian)
    pieces = nx.number_connected_components(graph)
    above = levels[pieces:][:5]
    expected = [pieces / 10, *above, *[2.0] * (5 - len(above))]
    for adj, mask in (batch([graph]), batch([graph, nx.complete_graph(12)], pad=2)):
        nodes, whole = spectrum(adj, mask)
        np.testing.assert_allclose(whole[0], expected, atol=1e-9)
        assert nodes[0, len(graph) :].abs().sum() == 0
        vectors = nodes[0, : len(graph), 1:].numpy()
        there = min(2, len(above))
        residual = laplacian @ vectors[:, :there] - vectors[:, :there] * above[:there]
        np.testing.assert_allclose(residual, 0, atol=1e-8)
        gram = np.diag([1.0] * there + [0.0] * (2 - there))
        np.testing.assert_allclose(vectors.T @ vectors, gram, atol=1e-9)
        for v in vectors.T[:there]:
            assert v[np.abs(v).argmax()] > 0


@pytest.mark.parametrize("name", GRAPHS)
def test_nodes_outside_the_largest_piece_are_marked(name: str) -> None:
    graph = GRAPHS[name]
    pieces = sorted(nx.connected_components(graph), key=lambda c: (-len(c), min(c)))
    nodes, _ = spectrum(*batch([graph], pad=3))
    outside = [float(v not in pieces[0]) for v in graph]
    assert nodes[0, : len(graph), 0].tolist() == outside
    assert nodes[0, len(graph) :, 0].abs().sum() == 0


def test_a_long_path_is_one_piece() -> None:
    """The number of squarings that reach the far end grows with the logarithm of the size."""
    for n in (2, 3, 17, 33):
        nodes, whole = spectrum(*batch([nx.path_graph(n)]))
        assert nodes[0, :, 0].sum() == 0
        assert float(whole[0, 0]) == pytest.approx(0.1)


def generic() -> list[nx.Graph]:
    """Random graphs without equal eigenvalues, whose eigenvectors are therefore determined."""
    found = []
    for seed in range(60):
        graph = nx.gnp_random_graph(8 + seed % 2, 0.4, seed=seed)
        level, vector = np.linalg.eigh(nx.laplacian_matrix(graph).toarray().astype(float))
        pieces = nx.number_connected_components(graph)
        peaks = np.sort(np.abs(vector[:, pieces : pieces + 2]), 0)[-2:]
        sizes = sorted(map(len, nx.connected_components(graph)))
        apart = np.diff(level[pieces - 1 :]).min() > 1e-3 and (peaks[1] - peaks[0]).min() > 1e-3
        if apart and sizes[-1] > sizes[-2:][0] * (len(sizes) > 1):
            found.append(graph)
    return found


def test_padding_changes_no_feature() -> None:
    graphs = generic()
    assert len(graphs) > 10
    adj, mask = batch(graphs)
    wide, longer = batch(graphs, pad=5)
    n, p = adj.shape[1], adj.shape[1] * (adj.shape[1] - 1) // 2
    pairs = [(cycles(adj), cycles(wide)), (spectrum(adj, mask), spectrum(wide, longer))]
    for (own, whole), (own_wide, whole_wide) in pairs:
        torch.testing.assert_close(own_wide[:, :n], own, atol=1e-9, rtol=0)
        assert own_wide[:, n:].abs().sum() == 0
        torch.testing.assert_close(whole_wide, whole, atol=1e-9, rtol=0)
    nodes, half = rrwp_pairs(adj, 6)
    nodes_wide, half_wide = rrwp_pairs(wide, 6)
    torch.testing.assert_close(nodes_wide[:, :n], nodes)
    torch.testing.assert_close(half_wide[:, :p], half)
    assert half_wide[:, p:].abs().sum() == 0
    torch.testing.assert_close(rrwp(wide, 6)[:, :n, :n], rrwp(adj, 6))


def test_features_follow_the_order_of_the_nodes() -> None:
    adj, mask = batch(generic(), pad=1)
    order = torch.tensor([4, 9, 0, 7, 2, 8, 1, 6, 3, 5])  # padding moves into the middle
    there = adj[:, order][:, :, order]
    answers = [
        (cycles(adj), cycles(there)),
        (spectrum(adj, mask), spectrum(there, mask[:, order])),
    ]
    for (own, whole), (own_there, whole_there) in answers:
        torch.testing.assert_close(own_there, own[:, order], atol=1e-9, rtol=0)
        torch.testing.assert_close(whole_there, whole, atol=1e-9, rtol=0)
    torch.testing.assert_close(rrwp(there, 5), rrwp(adj, 5)[:, order][:, :, order])
