"""Local graph clustering: the cluster of a seed, at the cost of the cluster and not of the graph.

* :func:`local_graph` reads a graph, :func:`local_cluster` finds the cluster of a seed in it;
* :mod:`~graphdiff.graph.local.flow`, :mod:`~graphdiff.graph.local.pagerank`,
  :mod:`~graphdiff.graph.local.heat`: the three diffusions;
* :mod:`~graphdiff.graph.local.labels`, :mod:`~graphdiff.graph.local.attributes`: weights from noisy
  labels and from attributes, computed for the edges that are reached;
* :mod:`~graphdiff.graph.local.sweep`: conductance and the best cut;
* :mod:`~graphdiff.graph.local.planted`: the random graphs of the theory.
"""

from __future__ import annotations

from graphdiff.graph.local.attributes import local_gamma, with_attributes
from graphdiff.graph.local.cluster import LocalCluster, f1_score, local_cluster
from graphdiff.graph.local.diffusion import Diffusion
from graphdiff.graph.local.flow import flow_diffusion
from graphdiff.graph.local.graph import LocalGraph, Reweighted
from graphdiff.graph.local.heat import heat_kernel
from graphdiff.graph.local.inputs import local_graph
from graphdiff.graph.local.labels import classify, noisy_labels, with_labels
from graphdiff.graph.local.pagerank import pagerank
from graphdiff.graph.local.planted import planted_cluster
from graphdiff.graph.local.room import RoomError
from graphdiff.graph.local.sweep import conductance, sweep
from graphdiff.graph.local.touched import Work

__all__ = [
    "Diffusion", "LocalCluster", "LocalGraph", "Reweighted", "RoomError", "Work", "classify",
    "conductance", "f1_score", "flow_diffusion", "heat_kernel", "local_cluster", "local_gamma",
    "local_graph", "noisy_labels", "pagerank", "planted_cluster", "sweep", "with_attributes",
    "with_labels",
]  # fmt: skip
