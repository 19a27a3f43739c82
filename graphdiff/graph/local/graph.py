r"""Graphs as local methods read them: a few rows at a time.

A :class:`LocalGraph` is a symmetric matrix of weights :math:`w_{ij} \ge 0` in compressed rows, with
the degrees :math:`d_i = \sum_j w_{ij}`. What a local method sees of it are :meth:`~LocalGraph.rows`
of the nodes that it has reached, so its cost is that of these rows. A :class:`Reweighted` graph
multiplies weights by a factor :math:`f(i, j)` only when a row is read: weights from labels or
attributes cost nothing where nobody looks.

Nodes are numbered ``0..n-1`` inside; ``names`` are what the user calls them, and what every
function of :mod:`graphdiff.graph.local` takes and returns.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError

__all__ = ["Factor", "Graph", "LocalGraph", "Reweighted"]

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Factor = Callable[[Int, Int], Float]
"""Factors ``[m]`` of the weights of ``m`` edges, from the numbers of their two ends."""


class Graph(Protocol):
    """What local methods ask of a graph: :class:`LocalGraph` and :class:`Reweighted` have it."""

    @property
    def base(self) -> LocalGraph:
        """The graph whose volume and sinks count."""

    def rows(self, nodes: Int) -> tuple[Int, Int, Float]:
        """Edges of nodes: their counts ``[k]``, ends ``[m]`` and weights ``[m]``."""

    def degrees(self, nodes: Int) -> Float | None:
        """Degrees ``[k]`` if they are known without reading rows."""


@dataclass(frozen=True, eq=False)
class LocalGraph:
    """An undirected weighted graph without self-loops; make one with ``local_graph(...)``.

    Attributes:
        indptr: Where rows begin, int64 ``[n + 1]``.
        indices: Ends of edges, each edge in both rows, integer ``[2m]``.
        weights: Weights ``[2m]`` > 0; None = all are 1.
        names: What the user calls the nodes ``[n]``; None = their numbers.
        notes: What was mended when the graph was read.
    """

    indptr: Int
    indices: NDArray[Any]
    weights: Float | None = None
    names: Sequence[Hashable] | NDArray[Any] | None = None
    notes: tuple[str, ...] = ()
    _spare: list[NDArray[np.int64]] = field(default_factory=list, repr=False)

    @property
    def base(self) -> LocalGraph:
        """The graph itself."""
        return self

    @property
    def nodes(self) -> int:
        """Number of nodes ``n``."""
        return len(self.indptr) - 1

    @property
    def edges(self) -> int:
        """Number of undirected edges ``m``."""
        return len(self.indices) // 2

    @cached_property
    def degree(self) -> Float:
        """Weighted degrees ``[n]``."""
        if self.weights is None:
            return np.diff(self.indptr).astype(np.float64)
        summed = np.concatenate([[0.0], np.cumsum(self.weights)])
        found: Float = summed[self.indptr[1:]] - summed[self.indptr[:-1]]
        # A difference of running sums may miss zero by rounding.
        found[np.diff(self.indptr) == 0] = 0.0
        return found

    @cached_property
    def volume(self) -> float:
        """Sum of all degrees."""
        return float(self.degree.sum())

    def rows(self, nodes: Int) -> tuple[Int, Int, Float]:
        """Edges of nodes: their counts ``[k]``, ends ``[m]`` and weights ``[m]``."""
        begin = self.indptr[nodes]
        counts = self.indptr[nodes + 1] - begin
        place = spans(begin, counts)
        ends = self.indices[place].astype(np.int64)
        return counts, ends, np.ones(len(ends)) if self.weights is None else self.weights[place]

    def degrees(self, nodes: Int) -> Float | None:
        """Degrees of nodes ``[k]``."""
        found: Float = self.degree[nodes]
        return found

    # -- names --------------------------------------------------------------------------------

    @cached_property
    def _number(self) -> dict[Hashable, int]:
        return {} if self.names is None else {_key(x): k for k, x in enumerate(self.names)}

    def find(self, names: Any) -> Int:
        """Numbers ``[k]`` of nodes, from one name or several.

        Raises:
            ArgumentError: One is not in the graph, or none is given.
        """
        asked = _listed(names)
        if not asked:
            raise ArgumentError("no node is given; name one or more seeds")
        if self.names is None:
            whole = [isinstance(x, int) and 0 <= x < self.nodes for x in asked]
            numbers = [int(x) if ok else -1 for x, ok in zip(asked, whole, strict=True)]
        else:
            numbers = [self._number.get(x, -1) for x in asked]
        wrong = [x for x, k in zip(asked, numbers, strict=True) if k < 0]
        if wrong:
            raise ArgumentError(
                f"{wrong[0]!r} is no node of the graph ({len(wrong)} of {len(asked)} are not); its "
                f"{self.nodes:,} nodes are {self._some_names()}"
            )
        return np.array(numbers, np.int64)

    def name(self, numbers: Int) -> list[Any]:
        """Names of nodes, from their numbers ``[k]``."""
        if self.names is None:
            return [int(k) for k in numbers]
        return [_key(self.names[int(k)]) for k in numbers]

    def _some_names(self) -> str:
        if self.names is None:
            return f"0 to {self.nodes - 1}"
        shown = ", ".join(repr(x) for x in self.name(np.arange(min(3, self.nodes))))
        return f"{shown}{', ...' if self.nodes > 3 else ''}"

    # -- scratch ------------------------------------------------------------------------------

    def borrow(self) -> NDArray[np.int64]:
        """An array ``[n]`` of -1 to number nodes with; :meth:`give_back` it as it was.

        One is made for each query that runs at the same time, and then used again: a query neither
        makes nor clears anything of the size of the graph.
        """
        try:
            return self._spare.pop()
        except IndexError:
            return np.full(self.nodes, -1, np.int64)

    def give_back(self, scratch: NDArray[np.int64]) -> None:
        """Returns what :meth:`borrow` gave, all -1 again."""
        self._spare.append(scratch)


@dataclass(frozen=True, eq=False)
class Reweighted:
    """A graph whose weights are multiplied by a factor as they are read.

    Sinks and volumes stay those of the graph below, so that labels move the flow and not the
    room for it. Edges of factor 0 are left out.

    Attributes:
        base: The graph.
        factor: Factors in ``[0, inf)`` from both ends of edges, symmetric.
    """

    base: LocalGraph
    factor: Factor

    def rows(self, nodes: Int) -> tuple[Int, Int, Float]:
        """Edges of nodes: their counts ``[k]``, ends ``[m]`` and weights ``[m]``."""
        counts, ends, weights = self.base.rows(nodes)
        owner = np.repeat(np.arange(len(nodes)), counts)
        weights = weights * self.factor(nodes[owner], ends)
        if not bool((weights >= 0).all()) or not bool(np.isfinite(weights).all()):
            raise ArgumentError("factors of edge weights must be finite and not negative")
        keep = weights > 0
        if keep.all():
            return counts, ends, weights
        return np.bincount(owner[keep], minlength=len(nodes)), ends[keep], weights[keep]

    def degrees(self, nodes: Int) -> Float | None:
        """None: they are known once rows are read."""
        return None


def spans(begin: Int, counts: Int) -> Int:
    """``begin[0], begin[0] + 1, ...``: positions of many slices of ``counts`` items, joined."""
    total = int(counts.sum())
    offset = np.repeat(begin - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
    found: Int = np.arange(total, dtype=np.int64) + offset
    return found


def _key(name: Any) -> Hashable:
    """Names of numpy compare as plain ones."""
    plain: Hashable = name.item() if isinstance(name, np.generic) else name
    return plain


def _listed(names: Any) -> list[Any]:
    if hasattr(names, "tolist"):
        names = names.tolist()
    if isinstance(names, (list, set, frozenset, range)):
        return list(dict.fromkeys(_key(x) for x in names))
    return [_key(names)]
