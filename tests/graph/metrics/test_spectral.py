"""Wavelet statistic: its spline, its invariances, the published program where it is installed."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from graphdiff.data.graphs import Graphs
from graphdiff.graph.metrics.descriptors import wavelet_histogram
from graphdiff.graph.metrics.spectral import filter_bank, normalised_laplacian, wavelet_energy


def pack(graphs: list[nx.Graph]) -> Graphs:
    return Graphs.from_lists([len(g) for g in graphs], [list(g.edges) for g in graphs])


@pytest.fixture(scope="module")
def sample() -> list[nx.Graph]:
    graphs = [nx.gnp_random_graph(n, 0.3, seed=n) for n in (4, 9, 9, 17, 30)]
    return [*graphs, nx.path_graph(7), nx.cycle_graph(8), nx.empty_graph(3)]


def energies(adj: np.ndarray) -> np.ndarray:
    """The definition: filters as matrices, squared, summed over rows."""
    values, vectors = np.linalg.eigh(adj)
    return np.stack(
        [np.square(vectors @ np.diag(g) @ vectors.T).sum(1) for g in filter_bank(values)]
    )


def test_laplacian_equals_networkx(sample: list[nx.Graph]) -> None:
    for graph in sample:
        found = normalised_laplacian(nx.to_numpy_array(graph)[None])[0]
        np.testing.assert_allclose(found, nx.normalized_laplacian_matrix(graph).toarray())


def test_the_spline_is_continuous_with_its_slope() -> None:
    # The finest band-pass filter has scale 1/2: its pieces meet at 2 and beyond, the coarsest
    # (scale 20) meets them at 0.05 and 0.1.
    for at in (0.05, 0.1):
        left, middle, right = filter_bank(np.asarray([at - 1e-6, at, at + 1e-6]))[1]
        assert left == pytest.approx(middle, abs=1e-4)
        assert right == pytest.approx(middle, abs=1e-4)
        assert right - middle == pytest.approx(middle - left, abs=1e-7)
    # All filters reach one height, the low-pass one at zero.
    grid = filter_bank(np.linspace(0, 2, 200_001))
    assert grid.max(1)[:-1] == pytest.approx(np.full(11, grid[0, 0]), rel=1e-6)
    # x^2 at scale 1/2: the last filter is (x / 2)^2 up to 2.
    np.testing.assert_allclose(
        filter_bank(np.linspace(0, 2, 9))[-1], (np.linspace(0, 2, 9) / 2) ** 2
    )


def test_scales_of_the_filters() -> None:
    # Near zero every band-pass filter is (s x)^2: scales from 20 to 1/2, evenly in the logarithm.
    scales = np.sqrt(filter_bank(np.asarray(0.01))[1:]) / 0.01
    np.testing.assert_allclose(scales, 20 * (1 / 40) ** (np.arange(11) / 10))
    # The low-pass filter falls to 1/e at 0.6 of the lowest frequency 0.1.
    low = filter_bank(np.asarray([0.0, 0.06]))[0]
    assert low[1] / low[0] == pytest.approx(np.exp(-1))


def test_energies_are_their_definition(sample: list[nx.Graph]) -> None:
    for graph in sample:
        laplacian = normalised_laplacian(nx.to_numpy_array(graph)[None])
        found = wavelet_energy(*np.linalg.eigh(laplacian))[0]
        np.testing.assert_allclose(found, energies(laplacian[0]), atol=1e-10)


def test_node_order_does_not_matter(sample: list[nx.Graph]) -> None:
    order = np.random.default_rng(0)
    mixed = [
        nx.from_numpy_array(nx.to_numpy_array(g)[np.ix_(p, p)])
        for g in sample
        for p in [order.permutation(len(g))]
    ]
    # Energies move by rounding, so a node may change a bin: compare cumulated histograms.
    a, b = wavelet_histogram(pack(sample)), wavelet_histogram(pack(mixed))
    assert np.abs(a - b).sum(1).max() < 0.03


def test_histograms(sample: list[nx.Graph]) -> None:
    found = wavelet_histogram(pack(sample))
    bound = filter_bank(np.arange(0, 2, 0.01)).max()
    for row, graph in zip(found, sample, strict=True):
        energy = energies(normalised_laplacian(nx.to_numpy_array(graph)[None])[0])
        # Away from the edges of the bins, where rounding decides.
        want = np.stack([np.histogram(e, bins=100, range=(0, bound))[0] for e in energy]).ravel()
        assert np.abs(row - want / want.sum()).sum() < 0.05
        assert row.sum() == pytest.approx(1.0)


def test_equals_pygsp() -> None:
    filters = pytest.importorskip("pygsp.filters")

    class Line:
        lmax = 2.0

    grid = np.linspace(0, 2, 2001)
    want = np.asarray(filters.Abspline(Line, 12).evaluate(grid))
    np.testing.assert_allclose(filter_bank(grid), want, atol=1e-9)
    # Mutation: another number of filters moves every scale.
    assert np.abs(np.asarray(filters.Abspline(Line, 11).evaluate(grid)) - want[:11]).max() > 0.1
