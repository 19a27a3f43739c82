r"""Conductance, and the sweep that turns a diffusion into a cluster.

.. math:: \phi(S) = \mathrm{cut}(S) \big/ \min(\mathrm{vol}\,S,\ \mathrm{vol}\,V - \mathrm{vol}\,S)

A sweep ranks nodes by score, takes the first 1, 2, 3, ... of them, and returns the prefix of lowest
conductance: one pass over the edges of the nodes with a positive score.

On a reweighted graph :math:`\mathrm{vol}\,V` is not known without reading all of it. The rest of
the graph is known before reweighting, :math:`\mathrm{vol}_0`, and is taken to be reweighted as
much as ``S`` is on average,

.. math:: \mathrm{vol}\,V - \mathrm{vol}\,S \approx \max\bigl(\mathrm{cut}(S),\
          (\mathrm{vol}_0 V - \mathrm{vol}_0 S)\ \mathrm{vol}\,S / \mathrm{vol}_0 S\bigr).

That is exact where all factors are equal, and 0 for the whole graph, which is no cluster. Up to
half of :math:`\mathrm{vol}_0 V` it makes ``S`` the smaller side, whose volume is exact; beyond, the
conductance is an estimate.
"""

from __future__ import annotations

import numpy as np

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.local.diffusion import Diffusion
from graphdiff.graph.local.graph import Float, Graph, Int, LocalGraph
from graphdiff.graph.local.touched import Work

__all__ = ["conductance", "sweep"]


def sweep(diffusion: Diffusion, graph: Graph | None = None) -> tuple[Int, Float, Work]:
    """The prefix of lowest conductance of the nodes ranked by score.

    Args:
        diffusion: What ranks them.
        graph: Where conductance is measured; None = where the diffusion ran.

    Returns:
        Numbers ``[k]`` of the cluster, best score first; the conductances ``[r]`` of all prefixes
        (infinite for the whole graph; estimates beyond half of a reweighted one); the work.

    Raises:
        ArgumentError: No node has a positive score.
    """
    order = np.argsort(-diffusion.scores, kind="stable")
    order = order[diffusion.scores[order] > 0]
    if not len(order):
        raise ArgumentError("no node has a positive score; lower epsilon or raise the source mass")
    ranked = diffusion.rows[order]
    found, work = _prefixes(diffusion.graph if graph is None else graph, ranked)
    return ranked[: int(found.argmin()) + 1], found, work


def conductance(graph: Graph, rows: Int) -> float:
    """Conductance of a set of different nodes, given by their numbers ``[k]``.

    On a reweighted graph it is an estimate for more than half of the volume, see the module.
    """
    return float(_prefixes(graph, rows)[0][-1])


def _prefixes(graph: Graph, ranked: Int) -> tuple[Float, Work]:
    """Conductances ``[r]`` of the first 1, 2, ... nodes."""
    counts, ends, weights = graph.rows(ranked)
    owner = np.repeat(np.arange(len(ranked)), counts)
    rank = graph.base.borrow()
    rank[ranked] = np.arange(len(ranked))
    other = rank[ends]
    rank[ranked] = -1
    graph.base.give_back(rank)
    volume = np.cumsum(np.bincount(owner, weights, minlength=len(ranked)), dtype=np.float64)
    # An edge is inside as soon as the later of its ends is.
    earlier = (other >= 0) & (other < owner)
    inside = np.cumsum(np.bincount(owner[earlier], weights[earlier], minlength=len(ranked)))
    cut = np.maximum(volume - 2 * inside, 0)
    side = np.minimum(volume, _rest(graph, ranked, volume, cut))
    small = 1e-9 * volume  # running sums end within rounding of the volume of the whole
    found = np.where(side > small, np.where(cut > small, cut, 0) / np.maximum(side, small), np.inf)
    return found, Work(0, 0, 0, len(ends), 0)


def _rest(graph: Graph, ranked: Int, volume: Float, cut: Float) -> Float:
    """Volumes ``[r]`` of what is outside of each prefix; an estimate on a reweighted graph."""
    if isinstance(graph, LocalGraph):
        return graph.volume - volume
    held: Float = np.cumsum(graph.base.degree[ranked])
    outside = graph.base.volume - held
    ratio = np.divide(outside, held, out=np.ones_like(held), where=held > 0)
    found: Float = np.maximum(cut, volume * ratio)
    return found
