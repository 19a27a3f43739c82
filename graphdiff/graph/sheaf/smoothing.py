r"""Over-smoothing, measured: how much features still differ across edges after many layers.

:func:`roughness` is the share of a signal that varies along edges,

.. math:: r(X) = \frac{\mathrm{tr}\, X^\top \Delta X}{\mathrm{tr}\, X^\top X} \in [0, 2],

with the augmented normalised graph Laplacian :math:`\Delta`: the Dirichlet energy of features of
unit norm. It is zero for features that an averaging network cannot tell apart, 1 on average for
noise. :func:`profile` follows it through the layers of a network.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from graphdiff.graph.sheaf.laplacian import SheafLaplacian
from graphdiff.graph.sheaf.network import SheafConfig, SheafNetwork
from graphdiff.graph.sheaf.topology import Topology

__all__ = ["gcn_profile", "profile", "roughness"]


def graph_laplacian(topology: Topology, dtype: torch.dtype = torch.float32) -> SheafLaplacian:
    """The augmented normalised graph Laplacian, as a sheaf of one coordinate."""
    ones = torch.ones(topology.entries, 1, dtype=dtype, device=topology.v.device)
    return SheafLaplacian.diagonal(topology, ones)


def roughness(topology: Topology, x: Tensor) -> float:
    """Dirichlet energy of features ``[n, …]`` over their squared norm; 0 for no features."""
    flat = x.detach().reshape(topology.n, 1, -1)
    norm = float(flat.square().sum())
    return float(graph_laplacian(topology, flat.dtype).energy(flat)) / norm if norm else 0.0


def profile(network: SheafNetwork, x: Tensor, topology: Topology) -> list[float]:
    """Roughness after the encoder and after each layer of a sheaf network."""
    with torch.no_grad():
        return [roughness(topology, section) for section in network.sections(x, topology)]


def gcn_profile(topology: Topology, x: Tensor, depth: int, hidden: int, seed: int) -> list[float]:
    r"""Roughness through an untrained GCN, :math:`X \leftarrow \mathrm{ReLU}(\hat A X W)`.

    :math:`\hat A = I - \Delta` (Kipf and Welling, 2017), Glorot weights of width ``hidden``.
    """
    laplacian = graph_laplacian(topology, x.dtype)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        found = []
        for k in range(depth + 1):
            weight = torch.nn.init.xavier_uniform_(torch.empty(hidden, x.shape[1]))
            y = (x @ weight.to(x).T)[:, None]
            x = torch.relu(y - laplacian(y) if k else y)[:, 0]
            found.append(roughness(topology, x))
    return found


def untrained(
    config: SheafConfig, topology: Topology, x: Tensor, seeds: Iterable[int]
) -> list[list[float]]:
    """Profiles of freshly initialised sheaf networks, one for each seed."""
    found = []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = SheafNetwork(config, x.shape[1], 2, topology.n).to(x.dtype).eval()
        found.append(profile(net, x, topology))
    return found
