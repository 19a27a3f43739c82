"""Graphs with known symmetries, and rotations of their eigenvectors."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor, nn

from graphdiff.data.expressivity import cycle_set
from graphdiff.data.graphs import Graphs
from graphdiff.graph.encoding.spectrum import Spectrum, decompose


def cycle(n: int) -> list[tuple[int, int]]:
    return [(k, (k + 1) % n) for k in range(n)]


def hypercube(d: int) -> list[tuple[int, int]]:
    return [(a, a ^ 1 << k) for a in range(2**d) for k in range(d) if a < a ^ 1 << k]


def symmetric_graphs() -> Graphs:
    """C6, the cube, K5, two triangles, a star, an edge with an isolated node, one node."""
    complete = list(itertools.combinations(range(5), 2))
    triangles = [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5)]
    star = [(0, k) for k in range(1, 6)]
    lists = [cycle(6), hypercube(3), complete, triangles, star, [(0, 1)], []]
    empty = np.zeros((0, 2), np.int64)
    return Graphs.from_lists([6, 8, 5, 6, 6, 3, 1], [np.array(e) if e else empty for e in lists])


def dense(graphs: Graphs) -> tuple[Tensor, Tensor]:
    """Adjacency in float64 and mask."""
    _, adj, mask = graphs.dense()
    return torch.from_numpy((adj > 0).astype(np.float64)), torch.from_numpy(mask)


def simple_graphs() -> Graphs:
    """Four graphs of different sizes without repeated eigenvalues."""
    graphs = cycle_set(60, seed=3).graphs
    values = decompose(*dense(graphs))
    gaps = [float(v[k].diff().min()) for v, k in zip(values.values, values.kept, strict=True)]
    return graphs[np.flatnonzero(np.array(gaps) > 1e-3)[:4]]


def rotated(spectrum: Spectrum, seed: int = 0) -> Spectrum:
    """A random orthogonal change of basis within every eigenspace."""
    rng = np.random.default_rng(seed)
    vectors = spectrum.vectors.clone()
    for b in range(len(vectors)):
        values = spectrum.values[b].numpy()
        real = np.flatnonzero(spectrum.kept[b].numpy())
        for group in np.split(real, np.flatnonzero(np.diff(values[real]) > 1e-8) + 1):
            if len(group):
                q, _ = np.linalg.qr(rng.standard_normal((len(group), len(group))))
                vectors[b][:, group] = vectors[b][:, group] @ torch.from_numpy(q)
    return Spectrum(spectrum.values, vectors, spectrum.kept)


def widened(net: nn.Module) -> nn.Module:
    """In float64, with biases away from zero, so that misplaced ones show."""
    net = net.double()
    with torch.no_grad():
        for k, p in enumerate(net.parameters()):
            if p.ndim < 2:
                p.add_(0.3 * torch.sin(torch.arange(p.numel(), dtype=p.dtype) + k).view(p.shape))
    return net
