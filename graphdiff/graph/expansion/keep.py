r"""Properties that every level of a growing graph must have.

A property of connected graphs that contracting edges keeps (one that minors inherit: planar, a
tree) holds for every coarse graph of a graph that has it, so a level without it can have no
refinement with it. Such a level is rejected and drawn again: given the level before,
:math:`G_l` then follows its own law conditioned on the property,

.. math:: \tilde p(G_l \mid G_{l-1}) = p(G_l \mid G_{l-1})\, 1[G_l \in P] \,/\,
          p(G_l \in P \mid G_{l-1}).

The chain as a whole is *not* the model's law conditioned on the property of the last graph, which
would also weight each level by the chance that all later ones succeed. A sampler that keeps a
property makes it hold by construction: what it then scores in validity says nothing about the
network, and is never reported under the name of the plain sampler. (ConStruct, Madeira et al.,
2024, arXiv 2406.17341, keeps properties of dense graphs by inserting edges one after the other.)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.graph.expansion.level import Packed

__all__ = ["PROPERTIES", "holds"]

Int = NDArray[np.int64]


def _planar(n: int, edges: Int) -> bool:
    if n >= 3 and len(edges) > 3 * n - 6:
        return False  # Euler's bound spares the search
    import networkx as nx

    graph = nx.empty_graph(n)
    graph.add_edges_from(edges.tolist())
    return bool(nx.check_planarity(graph)[0])


def _tree(n: int, edges: Int) -> bool:
    return len(edges) == n - 1  # graphs that grow from a node are connected


PROPERTIES: dict[str, Callable[[int, Int], bool]] = {"planar": _planar, "tree": _tree}
"""By name: does a connected graph of ``n`` nodes with ``edges [m, 2]`` have the property?"""


def holds(name: str, graphs: Packed) -> Tensor:
    """Which graphs have a property, bool ``[b]``; all of them have ``"any"``."""
    b = len(graphs.counts)
    if name == "any":
        return torch.ones(b, dtype=torch.bool, device=graphs.counts.device)
    has, edges = PROPERTIES[name], graphs.edges.cpu().numpy()
    ends = np.cumsum(torch.bincount(graphs.owner, minlength=b).cpu().numpy())
    verdict = [
        has(n, own)
        for n, own in zip(graphs.counts.tolist(), np.split(edges, ends[:-1]), strict=True)
    ]
    return torch.tensor(verdict, dtype=torch.bool, device=graphs.counts.device)
