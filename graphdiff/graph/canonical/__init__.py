"""Graph canonization: canonical labels and keys, universal ids, and networks that read them.

* :mod:`~graphdiff.graph.canonical.graph`: coloured graphs, checked;
* :mod:`~graphdiff.graph.canonical.labels`: canonical labels and forms, cached, by two backends:
  :mod:`~graphdiff.graph.canonical.nauty` (optional) and :mod:`~graphdiff.graph.canonical.search`;
* :mod:`~graphdiff.graph.canonical.keys`: keys and classes of packed sets, networkx graphs, states;
* :mod:`~graphdiff.graph.canonical.universal`: ids that nodes carry from graph to graph;
* :mod:`~graphdiff.graph.canonical.network`: GC-GNN and UGC-GNN.
"""

from __future__ import annotations

from graphdiff.graph.canonical.graph import ColouredGraph
from graphdiff.graph.canonical.keys import canonical_keys, coloured, partition
from graphdiff.graph.canonical.labels import Canonizer, canonical_form, canonical_labels

__all__ = [
    "Canonizer",
    "ColouredGraph",
    "canonical_form",
    "canonical_keys",
    "canonical_labels",
    "coloured",
    "partition",
]
