r"""One large network: nodes 0 to n - 1, undirected edges once each, and its rows of neighbours.

Directions, weights, repeated edges and self-loops of the original are dropped: the models that
are trained on the corpus know simple graphs. The neighbours of node ``v`` are
``neighbours[pointer[v] : pointer[v + 1]]``, ascending.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphdiff.core.errors import DataError

__all__ = ["Network", "ranges"]

Int = NDArray[np.int64]


def ranges(starts: Int, counts: Int) -> Int:
    """Concatenates ``arange(start, start + count)`` over all pairs, ``[sum of counts]``."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - counts), counts)


@dataclass(frozen=True, eq=False)
class Network:
    """A simple undirected network.

    Attributes:
        num_nodes: Number of nodes.
        edges: Pairs ``u < v`` in lexicographic order, ``int64 [m, 2]``.
    """

    num_nodes: int
    edges: Int

    @classmethod
    def of(cls, pairs: ArrayLike, num_nodes: int | None = None) -> Network:
        """Makes a network of any pairs of whole numbers.

        Args:
            pairs: ``[m, 2]``, in any order; both directions, repeats and self-loops are allowed.
            num_nodes: Number of nodes if ``pairs`` are numbers below it; None numbers the nodes
                that occur by the order of their ids.

        Raises:
            DataError: If there is no edge, or an id is not below ``num_nodes``.
        """
        raw = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
        if num_nodes is None:
            ids, flat = np.unique(raw, return_inverse=True)
            num_nodes, raw = len(ids), flat.reshape(-1, 2)
        raw = np.sort(raw[raw[:, 0] != raw[:, 1]], axis=1)
        if not len(raw):
            raise DataError("it has no edge between two different nodes; check the file's format")
        if raw.min() < 0 or raw.max() >= num_nodes:
            raise DataError(
                f"it has an edge to node {int(raw.max())} (or below 0), but {num_nodes} nodes; the "
                "file is damaged or of another format"
            )
        key = np.unique(raw[:, 0] * num_nodes + raw[:, 1])
        return cls(int(num_nodes), np.stack([key // num_nodes, key % num_nodes], 1))

    @cached_property
    def _rows(self) -> tuple[Int, Int]:
        both = np.concatenate([self.edges, self.edges[:, ::-1]])
        key = np.sort(both[:, 0] * self.num_nodes + both[:, 1])
        counts = np.bincount(key // self.num_nodes, minlength=self.num_nodes)
        pointer = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
        return pointer, key % self.num_nodes

    @property
    def pointer(self) -> Int:
        """Where the neighbours of each node start, ``int64 [n + 1]``."""
        return self._rows[0]

    @property
    def neighbours(self) -> Int:
        """Neighbours of all nodes, ``int64 [2 m]``."""
        return self._rows[1]

    @property
    def degrees(self) -> Int:
        """Number of neighbours of each node, ``int64 [n]``."""
        return np.diff(self.pointer)

    def sha256(self) -> str:
        """Hash of the node count and the edges: equal whatever file format they came in."""
        head = np.asarray([self.num_nodes], "<i8").tobytes()
        return hashlib.sha256(head + self.edges.astype("<i8").tobytes()).hexdigest()

    def induced(self, nodes: ArrayLike) -> Network:
        """The network on some nodes with all edges among them, numbered by ascending id.

        Raises:
            DataError: If no edge is left.
        """
        keep = np.unique(np.asarray(nodes, dtype=np.int64))
        number = np.full(self.num_nodes, -1, np.int64)
        number[keep] = np.arange(len(keep))
        ends = number[self.edges]
        return Network.of(ends[(ends >= 0).all(1)], len(keep))
