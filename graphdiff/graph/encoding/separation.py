r"""Which graphs an encoding tells apart, and whether it tells a graph from itself.

The code of a graph is the output of a network with random weights on its nodes, in float64; two
graphs are separated if their codes differ by more than rounding. Random weights separate nearly all
that the architecture can (units that are dead on both graphs lose some pairs). An encoding that
depends on the choice of a basis also "separates" a graph from a copy with its nodes in another
order: such separations say nothing, so copies are counted beside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.data.graphs import Graphs
from graphdiff.graph.encoding.network import GraphNetwork
from graphdiff.graph.encoding.spectrum import decompose

__all__ = [
    "Separation",
    "code_classes",
    "graph_codes",
    "neighbourhood_codes",
    "relabelled",
    "separation",
]

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Separation:
    """What codes tell apart.

    Attributes:
        pairs: Pairs of graphs.
        apart: Those with different codes.
        torn: Graphs whose code differs from that of a relabelled copy.
    """

    pairs: int
    apart: int
    torn: int


def relabelled(graphs: Graphs, seed: int = 0) -> Graphs:
    """The same graphs, each with its nodes in a random order (classes of nodes are dropped)."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(n) for n in graphs.num_nodes]
    edges = [order[g.edges] for order, g in zip(orders, graphs, strict=True)]
    return Graphs.from_lists(graphs.num_nodes, edges)


def graph_codes(net: GraphNetwork, graphs: Graphs, *, batch: int = 512) -> Float:
    """Outputs of a network ``[g, outputs]`` in float64; the network is left in float64."""
    net.double().eval()
    found = [np.zeros((0, net.outputs))]
    for start in range(0, len(graphs), batch):
        _, dense, real = graphs.dense(slice(start, start + batch))
        adj, mask = torch.from_numpy((dense > 0).astype(np.float64)), torch.from_numpy(real)
        with torch.no_grad():
            found.append(net(adj, mask, decompose(adj, mask)).numpy())
    return np.concatenate(found)


def neighbourhood_codes(net: GraphNetwork, graphs: Graphs) -> Float:
    r"""Codes from the graphs that the neighbours of each node form among themselves.

    The code of a graph is :math:`\sum_i \mathrm{arsinh}(c_i)` over the codes of its neighbourhoods
    (nodes without neighbours are left out; a graph without edges has zeros), which is stronger than
    any encoding from the spectrum of the whole graph on strongly regular graphs. Nothing in it
    depends on other graphs or saturates, so codes of different calls can be compared.
    """
    parts, owner = [], []
    sizes = []
    for number, graph in enumerate(graphs):
        _, dense, _ = graph.dense()
        for row in dense[0] > 0:
            near = np.flatnonzero(row)
            if len(near):
                i, j = np.nonzero(np.triu(dense[0][np.ix_(near, near)]))
                parts.append(np.stack([i, j], 1))
                sizes.append(len(near))
                owner.append(number)
    found = np.zeros((len(graphs), net.outputs))
    if parts:
        codes = graph_codes(net, Graphs.from_lists(sizes, parts))
        np.add.at(found, owner, np.arcsinh(codes))
    return found


def code_classes(codes: Float, tolerance: float = 1e-8) -> NDArray[np.int64]:
    """Classes ``[g]`` of equal codes: no gap above the tolerance within a class, on any axis.

    Args:
        codes: ``[g, k]``.
        tolerance: In units of the largest modulus of all numbers.

    Raises:
        ArgumentError: A code is not finite.
    """
    if not np.isfinite(codes).all():
        raise ArgumentError("a code is not finite; look at the weights of the network")
    label = np.zeros(len(codes), np.int64)
    limit = tolerance * max(float(np.abs(codes).max(initial=0)), 1e-300)
    for axis in codes.T:
        order = np.lexsort((axis, label))
        new = (np.diff(label[order]) > 0) | (np.diff(axis[order]) > limit)
        label[order] = np.concatenate([[0], np.cumsum(new)])
    return label


def separation(codes: Float, copies: Float, tolerance: float = 1e-8) -> Separation:
    """Count pairs that are told apart and graphs that are told from themselves.

    Args:
        codes: Of ``g`` graphs that are no two isomorphic, ``[g, k]``.
        copies: Of relabelled copies, in the same order.
        tolerance: See :func:`code_classes`.
    """
    g = len(codes)
    label = code_classes(np.concatenate([codes, copies]), tolerance)
    sizes = np.bincount(label[:g])
    same = int((sizes * (sizes - 1) // 2).sum())
    return Separation(
        g * (g - 1) // 2, g * (g - 1) // 2 - same, int((label[:g] != label[g:]).sum())
    )
