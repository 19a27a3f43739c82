r"""Vectors that describe a graph: histograms of degree, clustering and spectrum; orbit counts.

The settings are those of GraphRNN (You et al. 2018, arXiv:1802.08773), which GDSS, SPECTRE and
DiGress keep: the histogram of node degrees; the histogram of local clustering coefficients
:math:`2 t_i / (d_i (d_i - 1))` in 100 bins on [0, 1]; the mean over nodes of the 15 orbit counts;
the histogram of the eigenvalues of the normalised Laplacian
:math:`I - D^{-1/2} A D^{-1/2}` in 200 bins on [-1e-5, 2]. SPECTRE adds the histograms of the
wavelet energies of the nodes (:mod:`graphdiff.graph.metrics.spectral`), 100 bins for each of
twelve filters. Histograms sum to one.

Graphs are processed in batches of similar size. Eigenvalues are clipped to the range of the
histogram: the published code loses the eigenvalue 2 of bipartite graphs whenever rounding puts it
at 2 + 1e-16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.metrics.orbits import NUM_ORBITS, orbit_counts, triangles
from graphdiff.graph.metrics.spectral import (
    NUM_FILTERS,
    filter_bank,
    normalised_laplacian,
    wavelet_energy,
)

if TYPE_CHECKING:
    from graphdiff.data.graphs import Graphs

__all__ = [
    "DESCRIPTORS",
    "clustering_histogram",
    "degree_histogram",
    "describe",
    "orbit_means",
    "remove_isolated",
    "spectral_histogram",
    "wavelet_histogram",
]

Float = NDArray[np.float64]

CELLS = 1 << 21  # matrix entries of one dense batch: 16 MB in float64


def remove_isolated(graphs: Graphs) -> Graphs:
    """Drops nodes without edges; a graph that has only such nodes keeps one of them.

    This is how GDSS and its successors treat generated graphs before every generic metric. Node
    and edge classes are kept.
    """
    from graphdiff.data.graphs import Graphs

    node_owner = np.repeat(np.arange(len(graphs)), graphs.num_nodes)
    edge_owner = np.repeat(np.arange(len(graphs)), graphs.num_edges)
    starts = graphs.node_ptr[:-1]
    ends = graphs.edges.astype(np.int64) + starts[edge_owner][:, None]
    used = np.zeros(len(node_owner), bool)
    used[ends.ravel()] = True
    lonely = (np.bincount(node_owner[used], minlength=len(graphs)) == 0) & (graphs.num_nodes > 0)
    used[starts[lonely]] = True
    rank = np.cumsum(used) - 1
    counts = np.bincount(node_owner[used], minlength=len(graphs)).astype(np.int64)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]]) if len(counts) else counts
    edges = (rank[ends] - first[edge_owner][:, None]).astype(np.int32)
    types = None if graphs.node_type is None else graphs.node_type[used]
    return Graphs(counts, graphs.edge_ptr, edges, types, graphs.edge_type)


def _batches(graphs: Graphs, *, equal: bool = False) -> Iterator[tuple[NDArray[np.int64], Float]]:
    """Index arrays and 0/1 matrices of graphs sorted by size; ``equal`` never mixes sizes."""
    order = np.argsort(graphs.num_nodes, kind="stable")
    sizes = graphs.num_nodes[order]
    at = 0
    while at < len(order):
        if equal:
            stop = int(np.searchsorted(sizes, sizes[at], side="right"))
        else:
            # A batch may hold sizes up to a quarter above its smallest.
            stop = int(np.searchsorted(sizes, max(8, int(1.25 * sizes[at])), side="right"))
        widest = max(1, int(sizes[stop - 1]))
        stop = min(stop, at + max(1, CELLS // widest**2))
        index = order[at:stop]
        yield index, (graphs.dense(index)[1] != 0).astype(np.float64)
        at = stop


def _histograms(owner: NDArray[np.int64], bins: NDArray[np.int64], rows: int, width: int) -> Float:
    flat = np.bincount(owner * width + bins, minlength=rows * width).reshape(rows, width)
    return flat / np.maximum(flat.sum(1, keepdims=True), 1)


def _degrees(graphs: Graphs) -> NDArray[np.int64]:
    owner = np.repeat(graphs.node_ptr[:-1], graphs.num_edges)
    ends = graphs.edges.astype(np.int64) + owner[:, None]
    return np.bincount(ends.ravel(), minlength=int(graphs.num_nodes.sum()))


def degree_histogram(graphs: Graphs) -> Float:
    """Histogram of node degrees, ``[G, largest degree + 1]``, rows sum to one."""
    degrees = _degrees(graphs)
    owner = np.repeat(np.arange(len(graphs)), graphs.num_nodes)
    width = int(degrees.max()) + 1 if len(degrees) else 1
    return _histograms(owner, degrees, len(graphs), width)


def clustering_histogram(graphs: Graphs, bins: int = 100) -> Float:
    """Histogram of local clustering coefficients on [0, 1], ``[G, bins]``, rows sum to one.

    Nodes of degree 0 and 1 have coefficient 0. Binning is that of ``numpy.histogram``.
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    out = np.zeros((len(graphs), bins))
    for index, adj in _batches(graphs):
        degree = adj.sum(2)
        # 2 t before the division, so that the quotient is the one networkx computes.
        value = 2 * triangles(adj) / np.maximum(degree * (degree - 1), 1)
        real = np.arange(adj.shape[1])[None] < graphs.num_nodes[index][:, None]
        slot = np.clip(np.searchsorted(edges, value[real], side="right") - 1, 0, bins - 1)
        out[index] = _histograms(np.nonzero(real)[0], slot, len(index), bins)
    return out


def orbit_means(graphs: Graphs) -> Float:
    """Mean over the nodes of the 15 four-node orbit counts, ``[G, 15]``."""
    out = np.zeros((len(graphs), NUM_ORBITS))
    for index, adj in _batches(graphs):
        out[index] = orbit_counts(adj).sum(1) / np.maximum(graphs.num_nodes[index], 1)[:, None]
    return out


def spectral_histogram(graphs: Graphs, bins: int = 200) -> Float:
    """Histogram of normalised-Laplacian eigenvalues, ``[G, bins]``, on [-1e-5, 2]."""
    low, high = -1e-5, 2.0
    edges = np.linspace(low, high, bins + 1)
    out = np.zeros((len(graphs), bins))
    for index, adj in _batches(graphs, equal=True):
        if not adj.shape[1]:
            continue
        values = np.clip(np.linalg.eigvalsh(normalised_laplacian(adj)), low, high)
        slot = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, bins - 1)
        owner = np.repeat(np.arange(len(index)), values.shape[1])
        out[index] = _histograms(owner, slot.ravel(), len(index), bins)
    return out


def wavelet_histogram(graphs: Graphs, bins: int = 100) -> Float:
    """Histograms of the wavelet energies of the nodes, ``[G, 12 * bins]``, on [0, bound].

    As published, the bound is the largest *gain* of the filters (on a grid of step 0.01) while the
    energies go up to its square, and larger energies are left out.
    """
    bound = float(filter_bank(np.arange(0, 2, 0.01)).max())
    edges = np.linspace(0.0, bound, bins + 1)
    out = np.zeros((len(graphs), NUM_FILTERS * bins))
    for index, adj in _batches(graphs, equal=True):
        if not adj.shape[1]:
            continue
        energy = wavelet_energy(*np.linalg.eigh(normalised_laplacian(adj)))
        slot = np.clip(np.searchsorted(edges, energy, side="right") - 1, 0, bins - 1)
        owner, band, _ = np.nonzero(energy <= bound)
        slot = band * bins + slot[energy <= bound]
        out[index] = _histograms(owner, slot, len(index), NUM_FILTERS * bins)
    return out


DESCRIPTORS: dict[str, Callable[[Graphs], Float]] = {
    "degree": degree_histogram,
    "clustering": clustering_histogram,
    "orbit": orbit_means,
    "spectral": spectral_histogram,
    "wavelet": wavelet_histogram,
}


def describe(name: str, *sets: Graphs) -> list[Float]:
    """One descriptor of several sets of graphs, padded to a common width.

    Raises:
        ArgumentError: For an unknown descriptor.
    """
    if name not in DESCRIPTORS:
        raise ArgumentError(
            f"unknown graph descriptor {name!r}; there are {', '.join(DESCRIPTORS)}"
        )
    rows = [DESCRIPTORS[name](g) for g in sets]
    width = max(r.shape[1] for r in rows)
    return [np.pad(r, ((0, 0), (0, width - r.shape[1]))) for r in rows]
