"""Sheaf Laplacians against their definition, and what the theory says of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphdiff.core.errors import ArgumentError
from graphdiff.data.nodes import simple_edges
from graphdiff.graph.sheaf.laplacian import SheafLaplacian, inverse_root
from graphdiff.graph.sheaf.maps import cayley, connection, householder, tangent_bases
from graphdiff.graph.sheaf.topology import Topology

N, D = 11, 3


def graph(seed: int = 0, n: int = N, share: float = 0.4) -> Topology:
    rng = np.random.default_rng(seed)
    edges, _ = simple_edges(np.array(np.nonzero(np.triu(rng.random((n, n)) < share, 1))), n)
    return Topology.of(edges, n)


def numbers(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def by_definition(topology: Topology, maps: torch.Tensor, augmented: bool = True) -> torch.Tensor:
    """(D + I)^-1/2 of the coboundary times its transpose, edge by edge."""
    d, n = maps.shape[-1], topology.n
    at = {
        pair: k for k, pair in enumerate(zip(topology.v.tolist(), topology.u.tolist(), strict=True))
    }
    pairs = [(v, u) for v, u in at if v < u]
    coboundary = torch.zeros(len(pairs) * d, n * d, dtype=torch.float64)
    for e, (v, u) in enumerate(pairs):
        rows = slice(e * d, e * d + d)
        coboundary[rows, v * d : v * d + d] = maps[at[v, u]]
        coboundary[rows, u * d : u * d + d] = -maps[at[u, v]]
    raw = coboundary.T @ coboundary
    scale = torch.zeros_like(raw)
    for v in range(n):
        block = slice(v * d, v * d + d)
        total = raw[block, block].numpy() + (np.eye(d) if augmented else 0)
        values, vectors = np.linalg.eigh(total)
        root = np.where(values > 1e-12, np.maximum(values, 1e-12) ** -0.5, 0)
        scale[block, block] = torch.from_numpy((vectors * root) @ vectors.T)
    return scale @ raw @ scale


def kinds(topology: Topology, augmented: bool = True) -> dict:
    entries = topology.entries
    weights = torch.rand(entries, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    weights = weights * weights[topology.reverse]
    diagonal, square = numbers(entries, D), numbers(entries, D, D)
    turned = householder(numbers(entries, D * (D - 1) // 2), D)
    more = {"augmented": augmented}
    return {
        "diagonal": (
            SheafLaplacian.diagonal(topology, diagonal, **more), torch.diag_embed(diagonal)
        ),
        "bundle": (SheafLaplacian.bundle(topology, turned, **more), turned),
        "weighted": (
            SheafLaplacian.bundle(topology, turned, weights, **more),
            weights[:, None, None] * turned,
        ),
        "general": (SheafLaplacian.general(topology, square, **more), square),
    }  # fmt: skip


@pytest.mark.parametrize("augmented", [True, False])
@pytest.mark.parametrize("kind", ["diagonal", "bundle", "weighted", "general"])
def test_matrix_equals_the_definition(kind, augmented):
    topology = graph()
    laplacian, maps = kinds(topology, augmented)[kind]
    torch.testing.assert_close(laplacian.dense(), by_definition(topology, maps, augmented))


@pytest.mark.parametrize("kind", ["diagonal", "bundle", "weighted", "general"])
def test_symmetric_with_a_spectrum_between_0_and_2(kind):
    laplacian, _ = kinds(graph(2))[kind]
    matrix = laplacian.dense()
    torch.testing.assert_close(matrix, matrix.T)
    values = laplacian.spectrum()
    assert float(values[0]) > -1e-10
    assert float(values[-1]) < 2 + 1e-10


@pytest.mark.parametrize("kind", ["diagonal", "general"])
def test_product_and_energy_equal_those_of_the_matrix(kind):
    laplacian, _ = kinds(graph(4))[kind]
    x = numbers(N, D, 5)
    flat = x.reshape(N * D, 5)
    torch.testing.assert_close(laplacian(x).reshape(N * D, 5), laplacian.dense() @ flat)
    energy = (flat * (laplacian.dense() @ flat)).sum()
    torch.testing.assert_close(laplacian.energy(x), energy)


def test_identity_maps_are_the_graph_laplacian_of_networkx():
    import networkx as nx

    topology = graph(6)
    maps = torch.ones(topology.entries, 2, dtype=torch.float64)
    laplacian = SheafLaplacian.diagonal(topology, maps, augmented=False)
    other = nx.Graph()
    other.add_nodes_from(range(N))
    other.add_edges_from(zip(topology.v.tolist(), topology.u.tolist(), strict=True))
    reference = nx.normalized_laplacian_matrix(other, nodelist=range(N)).toarray()
    for k in range(2):
        np.testing.assert_allclose(laplacian.dense().numpy()[k::2, k::2], reference, atol=1e-12)
        assert np.abs(laplacian.dense().numpy()[k::2, 1 - k :: 2]).max() == 0


def test_appended_coordinates_are_the_graph_and_the_signless_laplacian():
    topology = graph(7)
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64)
    none = torch.zeros(topology.entries, 0, dtype=torch.float64)
    matrix = SheafLaplacian.diagonal(topology, none, fixed=signs).dense()
    ones = torch.zeros(N, N, dtype=torch.float64).index_put(
        (topology.v, topology.u), torch.ones(1, dtype=torch.float64)
    )
    degree = topology.degree.double()
    c = torch.diag((degree + 1).rsqrt())
    torch.testing.assert_close(matrix[0::2, 0::2], c @ (torch.diag(degree) - ones) @ c)
    torch.testing.assert_close(matrix[1::2, 1::2], c @ (torch.diag(degree) + ones) @ c)


def test_kernel_of_the_trivial_sheaf_is_one_section_for_each_component_and_coordinate():
    edges = torch.tensor([[0, 1, 3, 5], [1, 2, 4, 6]])  # three components and an isolated node
    topology = Topology.of(edges, 8)
    maps = torch.ones(4 * 2, 2, dtype=torch.float64)
    sections = SheafLaplacian.diagonal(topology, maps, augmented=False).kernel()
    assert sections.shape == (4 * 2, 8, 2)
    # D^{1/2} times a constant on each component; the isolated node is free.
    for section in sections:
        for v, u in edges.T.tolist():
            ratio = section / topology.degree.double().sqrt().clamp(min=1)[:, None]
            torch.testing.assert_close(ratio[v], ratio[u])


def test_large_graphs_use_lanczos_with_the_same_spectrum(monkeypatch):
    topology = graph(8, n=40, share=0.1)
    for kind in ("diagonal", "general"):
        laplacian, _ = kinds(topology)[kind]
        dense = laplacian.spectrum(6)
        matrix = laplacian.dense()
        monkeypatch.setattr("graphdiff.graph.sheaf.laplacian.DENSE", 1)
        torch.testing.assert_close(laplacian.spectrum(6), dense, atol=1e-8, rtol=0)
        values, vectors = laplacian._eigen(6)
        torch.testing.assert_close(matrix @ vectors, vectors * values, atol=1e-7, rtol=0)
        assert laplacian.spectrum(10**6).shape == (40 * D,)  # more than there are: all
        monkeypatch.undo()


def test_flat_bundles_have_global_sections_and_twisted_cycles_have_none():
    """Around a cycle: identity holonomy keeps d sections, a rotation of the plane none."""
    edges = torch.tensor([[0, 1, 2, 0], [1, 2, 3, 3]])
    topology = Topology.of(edges, 4)
    flat = torch.eye(2, dtype=torch.float64).expand(8, 2, 2)
    assert len(SheafLaplacian.bundle(topology, flat, augmented=False).kernel()) == 2
    twisted = flat.clone()
    last = int(((topology.v == 3) & (topology.u == 0)).nonzero())
    twisted[last] = cayley(torch.tensor([0.7], dtype=torch.float64), 2)
    assert len(SheafLaplacian.bundle(topology, twisted, augmented=False).kernel()) == 0


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("make", [cayley, householder])
def test_maps_are_orthogonal(make, d):
    made = make(numbers(20, d * (d - 1) // 2), d)
    torch.testing.assert_close(made @ made.transpose(1, 2), torch.eye(d).double().expand(20, d, d))
    sign = torch.linalg.det(made).sign()
    assert (sign == (1 if make is cayley else (-1) ** d)).all()


def test_cayley_closed_forms_equal_the_solve():
    for d in (2, 3):
        angles = numbers(7, d * (d - 1) // 2)
        skew = torch.zeros(7, d, d, dtype=torch.float64)
        upper = torch.triu_indices(d, d, 1)
        skew[:, upper[0], upper[1]] = angles
        skew = skew - skew.transpose(1, 2)
        eye = torch.eye(d, dtype=torch.float64)
        torch.testing.assert_close(cayley(angles, d), torch.linalg.solve(eye - skew, eye + skew))


def test_maps_refuse_a_wrong_number_of_angles():
    with pytest.raises(ArgumentError, match="3 numbers, found 2"):
        cayley(torch.zeros(4, 2), 3)


def test_inverse_root_and_its_gradients_where_eigenvalues_are_equal():
    matrix = numbers(4, 3, 3)
    matrix = matrix @ matrix.transpose(1, 2)
    matrix[0], matrix[1] = torch.eye(3), torch.diag(torch.tensor([2.0, 2.0, 5.0])).double()
    eye = torch.eye(3).double()
    root = inverse_root(matrix + eye)
    torch.testing.assert_close(root @ (matrix + eye) @ root, eye.expand(4, 3, 3))
    matrix.requires_grad_()

    def symmetric(a: torch.Tensor) -> torch.Tensor:
        return inverse_root((a + a.transpose(1, 2)) / 2 + eye)

    assert torch.autograd.gradcheck(symmetric, (matrix,))
    assert torch.autograd.gradgradcheck(symmetric, (matrix,))


def test_directions_in_which_a_matrix_is_zero_stay_zero_in_its_gradient():
    """Without the identity a block of an isolated node, or of maps of low rank, is singular."""
    matrix = torch.diag_embed(torch.tensor([[4.0, 1.0, 0.0], [0.0, 0.0, 0.0]])).double()
    matrix.requires_grad_()
    root = inverse_root(matrix)
    torch.testing.assert_close(root[0].diag(), torch.tensor([0.5, 1.0, 0.0]).double())
    (slope,) = torch.autograd.grad(root.sum(), matrix)
    # -1/2 l^(-3/2) on the diagonal, -1 / (sqrt(l m) (sqrt(l) + sqrt(m))) beside it.
    wanted = torch.tensor([[-1 / 16, -1 / 6, 0], [-1 / 6, -0.5, 0], [0, 0, 0]]).double()
    torch.testing.assert_close(slope, torch.stack([wanted, torch.zeros(3, 3).double()]))


def test_connection_of_features_on_a_plane_is_flat():
    """Features that lie in one plane have parallel bases: d global sections remain."""
    topology = graph(9, n=20, share=0.35)
    plane = torch.linalg.qr(numbers(7, 2, seed=2)).Q
    features = numbers(20, 2, seed=3) @ plane.T
    bases = tangent_bases(topology, features, 2)
    torch.testing.assert_close(
        bases.transpose(1, 2) @ bases, torch.eye(2).double().expand(20, 2, 2)
    )
    moved = connection(topology, features, 2)
    torch.testing.assert_close(moved, moved[topology.reverse].transpose(1, 2))
    laplacian = SheafLaplacian.transported(topology, moved, augmented=False)
    assert len(laplacian.kernel()) == 2
    curved = connection(topology, numbers(20, 7, seed=4), 2)
    assert len(SheafLaplacian.transported(topology, curved, augmented=False).kernel()) == 0


def test_connection_takes_a_node_without_neighbours():
    topology = Topology.of(torch.tensor([[0], [1]]), 3)
    assert tangent_bases(topology, numbers(3, 4), 2).isfinite().all()
    with pytest.raises(ArgumentError, match="needs 5 features"):
        tangent_bases(topology, numbers(3, 4), 5)


def test_index_structures():
    topology = graph(10)
    pairs = torch.stack([topology.v, topology.u])
    assert (pairs[:, topology.reverse] == pairs.flip(0)).all()
    assert int(topology.degree.sum()) == topology.entries


@pytest.mark.parametrize(
    "edges", [[[0], [0]], [[1], [0]], [[0, 0], [1, 1]], [[0], [5]]],
    ids=["loop", "reversed", "twice", "outside"],
)  # fmt: skip
def test_bad_edges_are_refused(edges):
    with pytest.raises(ArgumentError):
        Topology.of(torch.tensor(edges), 3)
