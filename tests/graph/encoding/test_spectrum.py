"""Decompositions: against scipy, networkx and PyG; padding, missing pairs, cuts, large graphs."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from encoding_support import cycle, dense, symmetric_graphs
from scipy.sparse.csgraph import laplacian as scipy_laplacian

from graphdiff.core.errors import ArgumentError
from graphdiff.data.expressivity import cycle_set
from graphdiff.data.graphs import Graphs
from graphdiff.graph.encoding import spectrum as module
from graphdiff.graph.encoding.laplacian import (
    Eigenvectors,
    laplacian_encoding,
    with_fixed_signs,
)
from graphdiff.graph.encoding.spectrum import decompose, laplacian, lowest
from graphdiff.graph.encoding.walks import return_probabilities


def test_laplacians_equal_those_of_scipy_and_networkx() -> None:
    import networkx as nx

    graphs = symmetric_graphs()
    adj, _ = dense(graphs)
    for k, graph in enumerate(graphs.to_networkx()):
        n = graph.number_of_nodes()
        part = adj[k, :n, :n]
        weights = sp.csr_matrix(part.numpy())
        mine = laplacian(part)
        expected = scipy_laplacian(weights, normed=True).toarray()
        torch.testing.assert_close(mine, torch.from_numpy(expected))
        theirs = nx.normalized_laplacian_matrix(graph, nodelist=range(n)).toarray()
        torch.testing.assert_close(mine, torch.from_numpy(theirs))
        plain = scipy_laplacian(weights).toarray()
        torch.testing.assert_close(laplacian(part, "plain"), torch.from_numpy(plain))


def test_negative_weights_and_loops() -> None:
    """Positive semidefinite with spectrum below 2 whatever the signs; loops are ignored."""
    rng = np.random.default_rng(0)
    adj = torch.from_numpy(rng.standard_normal((20, 7, 7)))
    adj = adj + adj.mT
    for least in (1e-12, 1.0):
        values = torch.linalg.eigvalsh(laplacian(adj, least=least))
        assert float(values.min()) > -1e-12
        assert float(values.max()) < 2 + 1e-12
    loops = adj + torch.diag_embed(torch.ones(20, 7, dtype=torch.float64))
    assert torch.equal(laplacian(adj), laplacian(loops))
    # With a least degree of 1 small weights give a small Laplacian, without they do not.
    assert float(laplacian(1e-6 * adj, least=1.0).abs().max()) < 1e-4
    assert float(laplacian(1e-6 * adj).abs().max()) > 0.5


@pytest.mark.parametrize("kind", ["normalised", "plain"])
def test_pairs_solve_the_eigenproblem_and_padding_is_zero(kind) -> None:
    graphs = symmetric_graphs()
    adj, mask = dense(graphs)
    found = decompose(adj, mask, kind=kind)
    assert torch.equal(found.kept.sum(1), mask.sum(1))
    assert found.vectors[~mask].abs().sum() == 0
    assert found.values[~found.kept].abs().sum() == 0
    matrix = laplacian(adj, kind)
    left = matrix @ found.vectors
    torch.testing.assert_close(left, found.vectors * found.values.unsqueeze(1))
    gram = found.vectors.mT @ found.vectors
    torch.testing.assert_close(gram, torch.diag_embed(found.kept.double()))
    assert bool((found.values[0, :6].diff() > -1e-12).all())


def test_kernel_counts_components() -> None:
    adj, mask = dense(symmetric_graphs())
    found = decompose(adj, mask)
    zeros = ((found.values.abs() < 1e-9) & found.kept).sum(1)
    assert zeros.tolist() == [1, 1, 1, 2, 1, 2, 1]


def test_more_pairs_than_there_are() -> None:
    adj, mask = dense(symmetric_graphs())
    all_of_them, more = decompose(adj, mask), decompose(adj, mask, 20)
    assert more.vectors.shape == (7, 8, 20)
    assert torch.equal(more.vectors[:, :, :8], all_of_them.vectors)
    assert not more.kept[:, 8:].any()
    assert laplacian_encoding(all_of_them, 30).shape == (7, 8, 30)
    assert laplacian_encoding(decompose(adj, mask, 1), 3).abs().sum() == 0


def test_a_cut_through_an_eigenspace_can_be_avoided() -> None:
    """C6 has the normalised eigenvalues 0, 1/2 twice, 3/2 twice, 2."""
    adj, mask = dense(Graphs.from_lists([6, 4], [cycle(6), [(0, 1), (1, 2), (2, 3)]]))
    for k, kept in ((1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (6, 6), (9, 6)):
        assert int(decompose(adj, mask, k, whole=True).kept[0].sum()) == kept
        assert int(decompose(adj, mask, k).kept[0].sum()) == min(k, 6)
        assert int(decompose(adj, mask, k, whole=True).kept[1].sum()) == min(k, 4)


def test_padding_and_batch_mates_change_nothing() -> None:
    graphs = cycle_set(6).graphs
    whole = decompose(*dense(graphs))
    for k in range(6):
        alone = decompose(*dense(graphs[k : k + 1]))
        trimmed = whole[k : k + 1].trimmed(int(graphs.num_nodes[k]))
        torch.testing.assert_close(trimmed.values, alone.values)
        projectors = [
            torch.einsum("bnd,bd,bmd->bnm", s.vectors, s.values.exp(), s.vectors)
            for s in (trimmed, alone)
        ]
        torch.testing.assert_close(*projectors)


def test_laplacian_encoding_is_that_of_pyg_up_to_signs() -> None:
    from torch_geometric.data import Data
    from torch_geometric.transforms import AddLaplacianEigenvectorPE

    graphs = cycle_set(12, seed=3).graphs
    adj, mask = dense(graphs)
    mine = laplacian_encoding(decompose(adj, mask), 4)
    compared = 0
    for k in range(len(graphs)):
        n = int(graphs.num_nodes[k])
        if bool((adj[k, :n, :n].sum(1) == 0).any()):
            continue  # PyG takes an isolated node's diagonal entry to be 1, Chung to be 0
        values = decompose(adj[k : k + 1, :n, :n]).values[0, :7]
        if float(values.diff().min()) < 1e-3:
            continue  # a basis within an eigenspace is anybody's choice
        edges = adj[k, :n, :n].nonzero().t()
        made = AddLaplacianEigenvectorPE(4, "pe", is_undirected=True)(
            Data(edge_index=edges, num_nodes=n)
        )
        theirs = made.pe.double()
        sign = torch.sign((theirs * mine[k, :n]).sum(0))
        torch.testing.assert_close(theirs * sign, mine[k, :n], atol=2e-4, rtol=1e-3)
        compared += 1
    assert compared >= 5


def test_return_probabilities_are_those_of_pyg_and_of_powers() -> None:
    from torch_geometric.data import Data
    from torch_geometric.transforms import AddRandomWalkPE

    graphs = cycle_set(6, seed=1).graphs
    adj, _ = dense(graphs)
    for steps in (1, 2, 7, 8):
        mine = return_probabilities(adj, steps)
        assert mine.shape[-1] == steps
        for k in range(len(graphs)):
            n = int(graphs.num_nodes[k])
            part = adj[k, :n, :n]
            walk = part / part.sum(1, keepdim=True).clamp(min=1)
            powers = [torch.linalg.matrix_power(walk, s + 1).diagonal() for s in range(steps)]
            torch.testing.assert_close(mine[k, :n], torch.stack(powers, 1))
            made = AddRandomWalkPE(steps, "pe")(Data(edge_index=part.nonzero().t(), num_nodes=n)).pe
            torch.testing.assert_close(made.double(), mine[k, :n], atol=1e-6, rtol=1e-5)
    assert mine[0, int(graphs.num_nodes[0]) :].abs().sum() == 0


def test_fixed_signs_and_random_ones() -> None:
    adj, mask = dense(cycle_set(4).graphs)
    found = decompose(adj, mask)
    flipped = found.flipped(np.random.default_rng(0))
    assert torch.equal(flipped.vectors.abs(), found.vectors.abs())
    share = (flipped.vectors == found.vectors).all(1)[found.kept].double().mean()
    assert 0.2 < float(share) < 0.8
    torch.testing.assert_close(
        with_fixed_signs(flipped.vectors), with_fixed_signs(found.vectors), atol=0, rtol=0
    )
    peaks = with_fixed_signs(found.vectors)
    assert float(peaks.amax(1)[found.kept].min()) > 0
    assert bool((peaks.amax(1) >= -peaks.amin(1))[found.kept].all())


@pytest.mark.parametrize("kind", ["normalised", "plain"])
def test_large_graphs_component_by_component(kind, monkeypatch) -> None:
    """Three equal rings of 300 nodes, a path and isolated nodes: every multiplicity is found."""
    ring = np.array(cycle(300))
    path = np.array([(k, k + 1) for k in range(40)]) + 900
    edges = np.concatenate([ring, ring + 300, ring + 600, path])
    n = 950
    half = sp.coo_matrix((np.ones(len(edges)), edges.T), shape=(n, n))
    matrix = (half + half.T).tocsr()
    expected = np.linalg.eigvalsh(laplacian(torch.from_numpy(matrix.toarray()), kind).numpy())
    found = lowest(matrix, 25, kind=kind)
    values, vectors = found.values[0].numpy(), found.vectors[0].numpy()
    assert bool(found.kept.all())
    np.testing.assert_allclose(values, expected[:25], atol=1e-8)
    assert (values < 1e-9).sum() == 13  # three rings, the path, nine isolated nodes
    full = laplacian(torch.from_numpy(matrix.toarray()), kind).numpy()
    np.testing.assert_allclose(full @ vectors, vectors * values, atol=1e-7)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(25), atol=1e-7)
    small = lowest(matrix[:5, :5], 100, kind=kind)
    assert (small.values.shape, small.vectors.shape) == ((1, 5), (1, 5, 5))


def ring(n: int) -> sp.csr_matrix:
    half = sp.coo_matrix((np.ones(n), np.array(cycle(n)).T), shape=(n, n))
    return (half + half.T).tocsr()


def test_encoders_take_the_spectrum_of_a_large_graph() -> None:
    """Two parts, one of them without symmetries, so that eigenvectors are a choice of sign."""
    rng = np.random.default_rng(0)
    weights = np.triu(rng.random((14, 14)), 1)
    matrix = sp.block_diag([sp.csr_matrix(weights + weights.T), sp.csr_matrix([[0, 1], [1, 0]])])
    dense = torch.from_numpy(matrix.toarray())[None]
    mine, theirs = (
        with_fixed_signs(laplacian_encoding(s, 6))
        for s in (lowest(matrix, 7), decompose(dense, k=7))
    )
    torch.testing.assert_close(mine[..., 1:], theirs[..., 1:])  # the kernel has a basis to choose
    told = Eigenvectors(6)(dense, torch.ones(1, 16) > 0, lowest(matrix, 7))
    assert told.shape == (1, 16, 12)


def test_all_pairs_of_a_large_component(monkeypatch) -> None:
    """Lanczos finds one less than there are."""
    monkeypatch.setattr(module, "DENSE_NODES", 10)
    for k in (11, 12, 30):
        found = lowest(ring(12), k)
        expected = np.sort(1 - np.cos(2 * np.pi * np.arange(12) / 12))[:k]
        np.testing.assert_allclose(found.values[0].numpy(), expected, atol=1e-9)


def test_the_matrix_that_is_given_stays_as_it_is() -> None:
    matrix = (ring(8) + sp.identity(8)).tocsr()
    before = matrix.copy()
    lowest(matrix, 3)
    assert matrix.nnz == before.nnz
    assert (matrix.data == before.data).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("how", [{}, {"k": 3, "whole": True}, {"kind": "plain"}])
def test_a_graph_that_is_not_finite_leaves_the_others_alone(value, how) -> None:
    adj, mask = dense(symmetric_graphs())
    good = decompose(adj, mask, **how)
    adj[1, 0, 3] = adj[1, 3, 0] = value
    found = decompose(adj, mask, **how)
    others = torch.tensor([0, 2, 3, 4, 5, 6])
    assert torch.equal(found.values[others], good.values[others])
    assert torch.equal(found.vectors[others], good.vectors[others])
    assert torch.equal(found.kept[others], good.kept[others])
    assert bool(found.values[1].isnan().all())
    assert bool(found.vectors[1].isnan().all())


def test_a_large_matrix_is_refused_before_any_work(monkeypatch) -> None:
    monkeypatch.setattr(module, "DENSE_NODES", 10)
    with pytest.raises(ArgumentError, match="call lowest"):
        decompose(torch.zeros(1, 10, 10))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: decompose(torch.zeros(3, 3)), "add a batch axis"),
        (lambda: decompose(torch.zeros(1, 3, 3), k=0), "at least 1"),
        (lambda: decompose(torch.zeros(1, 3, 3), torch.ones(1, 2) > 0), r"mask must be \[1, 3\]"),
        (lambda: decompose(torch.zeros(1, 3, 4)), "square"),
        (lambda: laplacian(torch.zeros(3, 3), "random"), "expected 'normalised' or 'plain'"),
        (lambda: lowest(sp.csr_matrix(np.triu(np.ones((3, 3)), 1)), 2), "not symmetric"),
        (lambda: lowest(sp.csr_matrix((2, 3)), 2), "square matrix"),
        (lambda: lowest(sp.identity(3), 2, kind="norm"), "expected 'normalised' or 'plain'"),
        (lambda: lowest(sp.csr_matrix([[0, np.nan], [np.nan, 0]]), 1), "not finite"),
        (lambda: return_probabilities(torch.zeros(1, 2, 2), 0), "at least 1"),
        (lambda: laplacian_encoding(decompose(torch.zeros(1, 2, 2)), 0), "at least 1"),
    ],
)  # fmt: skip
def test_bad_input(call, words) -> None:
    with pytest.raises(ArgumentError, match=words):
        call()
