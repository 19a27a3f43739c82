r"""Graphs with coloured nodes and edges, checked, as canonization takes them.

A coloured graph is :math:`G = (V, E, \kappa, \lambda)` with :math:`V = \{0, \dots, n - 1\}`, simple
edges (undirected, or directed with at most one arc per ordered pair) and whole-number colours
:math:`\kappa : V \to \mathbb Z`, :math:`\lambda : E \to \mathbb Z`. An isomorphism is a bijection
of nodes that keeps edges, their direction and both colours. For a numbering
:math:`\rho : V \to \{0, \dots, n - 1\}` the graph :math:`\rho G` has node :math:`v` at place
:math:`\rho(v)`; written out in order it is the byte string of :meth:`ColouredGraph.written`, which
determines :math:`\rho G`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphdiff.core.errors import ArgumentError

__all__ = ["ColouredGraph"]

Int = NDArray[np.int64]


def _whole(values: Any, name: str, shape: tuple[int, ...]) -> Int:
    """An array of whole numbers of a shape (-1: any), as int64."""
    found = np.asarray(values)
    if found.size == 0 and shape[0] in (-1, 0):
        return np.zeros([max(s, 0) for s in shape], np.int64)
    fits = found.ndim == len(shape) and all(
        s in (-1, m) for s, m in zip(shape, found.shape, strict=True)
    )
    if not fits:
        want = ", ".join("m" if s < 0 else str(s) for s in shape)
        raise ArgumentError(
            f"{name} must have shape [{want}], found {list(found.shape)}: give one entry for each"
        )
    if found.dtype.kind not in "iub":
        raise ArgumentError(
            f"{name} must be whole numbers, found {found.dtype}: number the classes, for example "
            "with numpy.unique(values, return_inverse=True)"
        )
    return found.astype(np.int64)


@dataclass(frozen=True, eq=False)
class ColouredGraph:
    """One simple graph, undirected or directed, with optional colours of nodes and edges.

    Attributes:
        nodes: Number of nodes n.
        edges: Node pairs ``int64 [m, 2]`` in any order; arcs from first to second if directed.
        node_colour: Whole number of each node, ``int64 [n]``, or None.
        edge_colour: Whole number of each edge, ``int64 [m]``, or None.
        directed: Whether the direction of the pairs counts.

    Raises:
        ArgumentError: For a self-loop, a repeated edge, a node that does not exist, or colours of
            a wrong length or type; the message names the first such edge.
    """

    nodes: int
    edges: Int
    node_colour: Int | None = None
    edge_colour: Int | None = None
    directed: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.nodes, (int, np.integer)) or self.nodes < 0:
            raise ArgumentError(f"nodes must be a number of nodes >= 0, found {self.nodes!r}")
        edges = _whole(self.edges, "edges", (-1, 2))
        put = object.__setattr__
        put(self, "nodes", int(self.nodes))
        put(self, "edges", edges)
        for name, count in (("node_colour", self.nodes), ("edge_colour", len(edges))):
            if getattr(self, name) is not None:
                put(self, name, _whole(getattr(self, name), name, (count,)))
        self._refuse(
            (edges < 0).any(1) | (edges >= self.nodes).any(1),
            f"leads to a node that does not exist (nodes are 0 to {self.nodes - 1})",
            "renumber the nodes from zero",
        )
        self._refuse(
            edges[:, 0] == edges[:, 1],
            "is a self-loop",
            "remove loops, or mark such nodes by a node colour",
        )
        code = self._codes(edges)
        order = np.argsort(code, kind="stable")
        again = np.zeros(len(edges), bool)
        again[order[1:]] = code[order[1:]] == code[order[:-1]]
        self._refuse(
            again, "is there twice", "give each edge once, and its multiplicity as edge colour"
        )

    def _refuse(self, bad: Any, what: str, cure: str) -> None:
        if bad.any():
            u, v = self.edges[np.flatnonzero(bad)[0]].tolist()
            raise ArgumentError(f"edge ({u}, {v}) {what}: {cure}")

    def _codes(self, pairs: Int) -> Int:
        """One number for each edge between two nodes; pairs of undirected edges are sorted."""
        pairs = pairs if self.directed else np.sort(pairs, axis=1)
        return pairs[:, 0] * self.nodes + pairs[:, 1]

    def relabelled(self, labels: ArrayLike) -> ColouredGraph:
        """The same graph with node v renamed to ``labels[v]``, edges in order.

        Args:
            labels: A permutation of 0 to n - 1, ``[n]``.

        Raises:
            ArgumentError: If it is none.
        """
        rho = _whole(labels, "labels", (self.nodes,))
        if not np.array_equal(np.sort(rho), np.arange(self.nodes)):
            raise ArgumentError(
                f"labels must be a permutation of 0 to {self.nodes - 1}, found {rho.tolist()[:12]}"
            )
        code = self._codes(rho[self.edges])
        order = np.argsort(code)
        n = max(self.nodes, 1)
        pairs = np.stack([code[order] // n, code[order] % n], 1)
        seen = None if self.node_colour is None else self.node_colour[np.argsort(rho)]
        kinds = None if self.edge_colour is None else self.edge_colour[order]
        return ColouredGraph(self.nodes, pairs, seen, kinds, self.directed)

    def written(self, labels: Int) -> bytes:
        """The graph renamed by ``labels`` (a permutation, not checked) as bytes.

        Two graphs have equal bytes exactly if they are equal once renamed; a graph without colours
        differs from one whose colours are all equal.
        """
        code = self._codes(labels[self.edges])
        order = np.argsort(code)
        head = [self.nodes, len(code), self.directed]
        head += [self.node_colour is not None, self.edge_colour is not None]
        parts = [np.array(head, np.int64), code[order]]
        if self.node_colour is not None:
            parts.append(self.node_colour[np.argsort(labels)])
        if self.edge_colour is not None:
            parts.append(self.edge_colour[order])
        return np.concatenate(parts).astype("<i8").tobytes()

    def without_defaults(self) -> ColouredGraph:
        """The same graph; colours that are all the default, nodes 0 or edges 1, are left out.

        Classes that say nothing are then as none, whether or not other graphs of a set have some.
        """
        seen, kinds = self.node_colour, self.edge_colour
        seen = None if seen is None or not seen.any() else seen
        kinds = None if kinds is None or bool((kinds == 1).all()) else kinds
        if seen is self.node_colour and kinds is self.edge_colour:
            return self
        return ColouredGraph(self.nodes, self.edges, seen, kinds, self.directed)

    def digest(self) -> bytes:
        """A 16-byte hash of the graph as it is numbered: what a cache looks labels up by."""
        return hashlib.blake2b(self.written(np.arange(self.nodes)), digest_size=16).digest()
