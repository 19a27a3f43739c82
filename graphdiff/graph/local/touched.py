r"""The part of a graph that a query has reached, numbered as it is reached.

A query numbers the nodes that it touches ``0, 1, ...`` and keeps its values, and the rows that it
has read, in arrays of that size. Time and memory are those of the touched part:

* a node is *touched* when a value reaches it, and *opened* when its row is read, which happens
  once;
* numbers are looked up in an array of the graph (:meth:`LocalGraph.borrow`), whose touched entries
  alone are reset at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from graphdiff.graph.local.graph import Float, Graph, Int, spans

__all__ = ["Touched", "Work"]


@dataclass
class Work:
    """What a query has done, counted.

    Attributes:
        touched: Nodes that a value has reached.
        opened: Nodes whose row was read.
        read: Entries of these rows: the volume of the opened part if weights are 1.
        edges: Entries gone through in all; an entry that is used twice counts twice.
        rounds: Steps of the outer loop.
    """

    touched: int = 0
    opened: int = 0
    read: int = 0
    edges: int = 0
    rounds: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(*(a + b for a, b in zip(self._all(), other._all(), strict=True)))

    def _all(self) -> tuple[int, int, int, int, int]:
        return self.touched, self.opened, self.read, self.edges, self.rounds


class Touched:
    """Local numbers, values and rows of one query; a context manager.

    Args:
        graph: Where it looks.
        fields: Names of float64 values that each touched node has, 0 at first.
    """

    def __init__(self, graph: Graph, fields: tuple[str, ...]) -> None:
        self.graph, self.size, self.work = graph, 0, Work()
        self._fields: dict[str, NDArray[np.float64]] = {name: np.zeros(64) for name in fields}
        self._fields["degree"] = np.zeros(64)
        self._node, self._row = np.zeros(64, np.int64), np.zeros(64, np.int64)
        self.opened = np.zeros(0, np.int64)
        self._indptr, self._ends, self._weights = np.zeros(64, np.int64), *_empty(256)
        self._rows = self._entries = 0
        self._order = np.zeros(64, np.int64)

    def __enter__(self) -> Touched:
        self._number = self.graph.base.borrow()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._number[self.nodes] = -1
        self.graph.base.give_back(self._number)

    def __getitem__(self, name: str) -> Float:
        """Values of the touched nodes ``[k]``, a view; a new one after nodes were touched."""
        found: Float = self._fields[name][: self.size]
        return found

    @property
    def nodes(self) -> Int:
        """Numbers in the graph of the touched nodes ``[k]``."""
        found: Int = self._node[: self.size]
        return found

    @property
    def order(self) -> Int:
        """Local numbers of the opened nodes, as they were opened."""
        found: Int = self._order[: self._rows]
        return found

    def touch(self, nodes: Int) -> Int:
        """Local numbers ``[m]`` of nodes of the graph, new ones for those not touched yet."""
        found: Int = self._number[nodes]
        fresh = np.unique(nodes[found < 0]) if (found < 0).any() else nodes[:0]
        if len(fresh):
            begin, self.size = self.size, self.size + len(fresh)
            self._reserve()
            self._node[begin : self.size] = fresh
            self._row[begin : self.size] = -1
            self._number[fresh] = np.arange(begin, self.size)
            known = self.graph.degrees(fresh)
            if known is not None:
                self._fields["degree"][begin : self.size] = known
            self.work.touched = self.size
            found = self._number[nodes]
        return found

    def open(self, local: Int) -> None:
        """Reads the rows of touched nodes, those that were not read before."""
        fresh = local[self._row[local] < 0]
        if not len(fresh):
            return
        counts, ends, weights = self.graph.rows(self._node[fresh])
        place = self.touch(ends)
        first, last = self._rows, self._rows + len(fresh)
        self._order = _longer(self._order, last)
        self._indptr = _longer(self._indptr, last + 1)
        self._order[first:last], self._row[fresh] = fresh, np.arange(first, last)
        self._indptr[first + 1 : last + 1] = self._entries + np.cumsum(counts)
        begin, self._entries, self._rows = self._entries, self._entries + len(place), last
        self._ends, self._weights = (
            _longer(self._ends, self._entries),
            _longer(self._weights, self._entries),
        )
        self._ends[begin : self._entries] = place
        self._weights[begin : self._entries] = weights
        if self.graph.degrees(self._node[:1]) is None:
            owner = np.repeat(np.arange(len(fresh)), counts)
            self._fields["degree"][fresh] = np.bincount(owner, weights, minlength=len(fresh))
        self.work.opened, self.work.read = self._rows, self._entries

    def know(self, local: Int) -> None:
        """Makes degrees of touched nodes known; where weights are made on reading, reads rows."""
        if self.graph.degrees(self._node[:1]) is None:
            self.open(local)

    def neighbours(self, local: Int) -> Int:
        """Local numbers of the neighbours of opened nodes, each once."""
        row = self._row[local]
        counts = self._indptr[row + 1] - self._indptr[row]
        self.work.edges += int(counts.sum())
        found: Int = np.unique(self._ends[spans(self._indptr[row], counts)])
        return found

    def spread(self, local: Int, amounts: Float, goal: str) -> Int:
        """Adds ``amounts[i] * w_ij`` to ``goal`` of each neighbour ``j``; returns these neighbours.

        Args:
            local: Different local numbers ``[k]``.
            amounts: One for each ``[k]``.
            goal: Name of a field.
        """
        self.open(local)
        row = self._row[local]
        counts = self._indptr[row + 1] - self._indptr[row]
        place = spans(self._indptr[row], counts)
        ends, shares = self._ends[place], self._weights[place] * np.repeat(amounts, counts)
        self.work.edges += len(place)
        target = self._fields[goal]
        if 4 * len(ends) > self.size:  # one pass over all that is touched costs less
            target[: self.size] += np.bincount(ends, shares, minlength=self.size)
            if len(ends) > self.size:
                return np.arange(self.size, dtype=np.int64)
        else:
            np.add.at(target, ends, shares)
        return np.unique(ends)

    def matrix(self) -> sparse.csr_matrix:
        """Weights of the opened rows (in their order) to all touched nodes, not copied."""
        parts = (
            self._weights[: self._entries],
            self._ends[: self._entries],
            self._indptr[: self._rows + 1],
        )
        return sparse.csr_matrix(parts, shape=(self._rows, self.size), copy=False)

    def _reserve(self) -> None:
        for name, values in self._fields.items():
            self._fields[name] = _longer(values, self.size)
        self._node, self._row = _longer(self._node, self.size), _longer(self._row, self.size)


def _empty(size: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    return np.zeros(size, np.int64), np.zeros(size)


def _longer(values: NDArray[Any], size: int) -> NDArray[Any]:
    """Room for ``size`` items, twice what there was at least, so that growing costs no square."""
    if size <= len(values):
        return values
    grown = np.zeros(max(size, 2 * len(values)), values.dtype)
    grown[: len(values)] = values
    return grown
