"""What every diffusion returns: values on the nodes that it touched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.local.graph import Float, Graph, Int
from graphdiff.graph.local.touched import Touched, Work

__all__ = ["Diffusion", "seeds_of"]


@dataclass(frozen=True, eq=False)
class Diffusion:
    """Values of a diffusion on the ``k`` nodes that it touched; zero on all others.

    Attributes:
        graph: The graph, reweighted if it was.
        rows: Numbers of the touched nodes in the graph, int64 ``[k]``, rising.
        values: ``x`` of flow, ``p`` of PageRank, ``h`` of heat, float64 ``[k]``.
        scores: What nodes are ranked by, float64 ``[k]``: ``x``, or values over degrees.
        rest: Mass that lies on nodes (flow), residuals (PageRank), or zeros (heat) ``[k]``.
        work: What it took.
    """

    graph: Graph
    rows: Int
    values: Float
    scores: Float
    rest: Float
    work: Work

    @property
    def nodes(self) -> list[Any]:
        """Names of the touched nodes."""
        return self.graph.base.name(self.rows)

    @property
    def support(self) -> Int:
        """Numbers of the nodes with a positive value."""
        found: Int = self.rows[self.values > 0]
        return found

    def dense(self, field: str = "values") -> Float:
        """One of the fields on all nodes ``[n]``; of the size of the graph."""
        full = np.zeros(self.graph.base.nodes)
        full[self.rows] = getattr(self, field)
        return full

    @classmethod
    def of(cls, touched: Touched, values: Float, scores: Float, rest: Float) -> Diffusion:
        """Sorted by number, copied out of the arrays of a query."""
        order = np.argsort(touched.nodes)
        return cls(
            touched.graph,
            touched.nodes[order],
            values[order],
            scores[order],
            rest[order],
            touched.work,
        )


def seeds_of(graph: Graph, seeds: Any) -> Int:
    """Numbers ``[k]`` of seeds.

    Raises:
        ArgumentError: One is not in the graph, or has no edge that a diffusion could leave it by.
    """
    found = graph.base.find(seeds)
    counts, _, _ = graph.rows(found)
    if not counts.all():
        lone = graph.base.name(found[counts == 0])
        bare = graph.base.rows(found)[0] == 0
        why = (
            "it is isolated: its cluster is itself"
            if bare[counts == 0].any()
            else "all its edges have weight 0 under the given labels or attributes: let the weight "
            "of unlike ends be above 0"
        )
        raise ArgumentError(f"nothing flows from seed {lone[0]!r}; {why}")
    return found
