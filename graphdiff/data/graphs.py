r"""Packed sets of graphs.

A set of :math:`G` graphs is stored as one ragged structure. With :math:`n_g` nodes in graph
:math:`g`, the undirected edges :math:`\{u, v\}`, :math:`u < v`, are the rows
``edges[edge_ptr[g]:edge_ptr[g + 1]]`` with node ids local to the graph, in lexicographic order.
Node classes are concatenated graph by graph; edge classes (bond orders) follow ``edges``. Nothing
is padded, so the memory is that of the real nodes and edges, and the arrays may live in a file
that is memory-mapped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.packed import read_arrays, write_arrays
from graphdiff.data.packing import pack_dense, pack_lists, pointer, ranges
from graphdiff.data.packing import refuse as refuse_graphs

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Graphs", "concat"]

Int = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Graphs:
    """An immutable list of undirected graphs in packed form.

    Attributes:
        num_nodes: Nodes of each graph, ``int64 [G]``.
        edge_ptr: Where the edges of each graph start, ``int64 [G + 1]``.
        edges: Node pairs with ``u < v``, local ids, ``int32 [M, 2]``.
        node_type: Class of each node, ``int8 [sum of num_nodes]``, or None.
        edge_type: Class of each edge (1, 2, 3 = bond order), ``int8 [M]``, or None.

    Raises:
        ArgumentError: If a shape or dtype is not the one above.
    """

    num_nodes: Int
    edge_ptr: Int
    edges: NDArray[np.int32]
    node_type: NDArray[np.int8] | None = None
    edge_type: NDArray[np.int8] | None = None

    def __post_init__(self) -> None:
        graphs = len(self.num_nodes) if np.ndim(self.num_nodes) == 1 else -1
        rows = len(self.edges) if np.ndim(self.edges) == 2 else -1
        total = int(np.sum(self.num_nodes)) if graphs >= 0 else -1
        wanted: list[tuple[str, type, tuple[int, ...]]] = [
            ("num_nodes", np.int64, (graphs,)),
            ("edge_ptr", np.int64, (graphs + 1,)),
            ("edges", np.int32, (rows, 2)),
            ("node_type", np.int8, (total,)),
            ("edge_type", np.int8, (rows,)),
        ]
        for name, dtype, shape in wanted:
            array = getattr(self, name)
            if array is None and name in ("node_type", "edge_type"):
                continue
            found = (getattr(array, "dtype", type(array)), np.shape(array))
            if found != (np.dtype(dtype), shape):
                want = ", ".join("?" if s < 0 else str(s) for s in shape)
                raise ArgumentError(
                    f"Graphs.{name} must be {np.dtype(dtype)} of shape [{want}], found {found[0]} "
                    f"of shape {list(found[1])}: convert it, or build the set with "
                    "Graphs.from_lists, from_dense or from_networkx"
                )
        if int(self.edge_ptr[-1]) != rows or int(self.edge_ptr[0]) != 0:
            raise ArgumentError(
                f"Graphs.edge_ptr must run from 0 to the number of edges {rows}, found "
                f"{int(self.edge_ptr[0])} to {int(self.edge_ptr[-1])}"
            )

    # -- building ---------------------------------------------------------------------------

    @classmethod
    def empty(cls) -> Graphs:
        """The set without graphs."""
        return cls(np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros((0, 2), np.int32))

    @classmethod
    def from_lists(
        cls,
        num_nodes: ArrayLike,
        edges: Sequence[ArrayLike],
        node_type: Sequence[ArrayLike] | None = None,
        edge_type: Sequence[ArrayLike] | None = None,
    ) -> Graphs:
        """Packs one edge list (and optional class lists) per graph.

        Pairs may come in any order and orientation; they are stored sorted with ``u < v``.

        Args:
            num_nodes: Nodes of each graph, ``[G]``.
            edges: For each graph an array ``[m, 2]``.
            node_type: For each graph the node classes ``[n]``.
            edge_type: For each graph the edge classes ``[m]``.

        Raises:
            DataError: If a graph has a self-loop, a repeated edge, or a node id out of range;
                the message names the graph.
        """
        return cls(*pack_lists(num_nodes, edges, node_type, edge_type)).validate()

    @classmethod
    def from_dense(
        cls,
        adj: ArrayLike,
        mask: ArrayLike | None = None,
        node_type: ArrayLike | None = None,
        *,
        edge_types: bool | None = None,
    ) -> Graphs:
        """Packs padded matrices.

        Args:
            adj: Symmetric integer or boolean matrices ``[b, n, n]``, 0 = no edge.
            mask: True where a node is real, ``[b, n]``. Real nodes need not come first; they
                are renumbered in order. None = all real.
            node_type: Node classes ``[b, n]``.
            edge_types: Whether to keep the values of ``adj`` as edge classes. None keeps them
                if any exceeds 1 or if node classes are given.

        Raises:
            DataError: For a self-loop, a matrix that is not symmetric, or a value that is not
                a finite whole number; the message names the graph.
        """
        return cls(*pack_dense(adj, mask, node_type, edge_types))

    @classmethod
    def from_networkx(
        cls, graphs: Iterable[nx.Graph], *, node_attr: str = "type", edge_attr: str = "type"
    ) -> Graphs:
        """Packs networkx graphs; nodes are numbered in the order of ``graph.nodes``.

        Node and edge classes are kept if every node (every edge) carries ``node_attr``
        (``edge_attr``).
        """
        from graphdiff.graph.convert import from_networkx

        return from_networkx(graphs, node_attr=node_attr, edge_attr=edge_attr)

    def to_networkx(self) -> list[nx.Graph]:
        """One ``networkx.Graph`` per graph, classes in the attributes ``type``."""
        from graphdiff.graph.convert import to_networkx

        return to_networkx(self)

    # -- reading ----------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.num_nodes)

    def __iter__(self) -> Iterator[Graphs]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graphs):
            return NotImplemented
        mine, yours = self._arrays(), other._arrays()
        return mine.keys() == yours.keys() and all(np.array_equal(mine[k], yours[k]) for k in mine)

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def node_ptr(self) -> Int:
        """Where the nodes of each graph start in ``node_type``, ``int64 [G + 1]``."""
        return pointer(self.num_nodes)

    @property
    def num_edges(self) -> Int:
        """Edges of each graph, ``int64 [G]``."""
        return np.diff(self.edge_ptr)

    @property
    def max_nodes(self) -> int:
        """Nodes of the largest graph; 0 for an empty set."""
        return int(self.num_nodes.max()) if len(self) else 0

    def __getitem__(self, index: int | slice | ArrayLike) -> Graphs:
        """The graphs at an index, slice, index array or boolean mask, as a new set."""
        rows = np.atleast_1d(np.arange(len(self))[index])  # type: ignore[index]
        edge_rows = ranges(self.edge_ptr[rows], self.num_edges[rows])
        counts = np.asarray(self.num_nodes[rows])
        return Graphs(
            counts,
            pointer(self.num_edges[rows]),
            self.edges[edge_rows],
            None if self.node_type is None else self.node_type[ranges(self.node_ptr[rows], counts)],
            None if self.edge_type is None else self.edge_type[edge_rows],
        )

    def dense(
        self, index: int | slice | ArrayLike | None = None, to: int | None = None
    ) -> tuple[Int, Int, NDArray[np.bool_]]:
        """Padded matrices of some graphs.

        Args:
            index: Which graphs, as in ``graphs[index]``; None = all.
            to: Width of the padding; None = the largest of the chosen graphs.

        Returns:
            Node classes ``int64 [b, n]`` (-1 on padding, 0 where the set has no classes), the
            symmetric matrix of edge classes ``int64 [b, n, n]`` (1 where the set has none), and
            the mask ``bool [b, n]``.

        Raises:
            DataError: If a graph has more than ``to`` nodes.
        """
        g = self if index is None else self[index]
        width = g.max_nodes if to is None else to
        refuse_graphs(
            g.num_nodes > width,
            f"has more nodes than the maximum of {width}",
            "raise the maximum of the model, or leave large graphs out with "
            "graphs[graphs.num_nodes <= maximum]",
        )
        b = len(g)
        mask = np.arange(width)[None] < g.num_nodes[:, None]
        nodes = np.full((b, width), -1, np.int64)
        nodes[mask] = 0 if g.node_type is None else g.node_type
        adj = np.zeros((b, width, width), np.int64)
        owner = np.repeat(np.arange(b), g.num_edges)
        u, v = g.edges[:, 0], g.edges[:, 1]
        adj[owner, u, v] = adj[owner, v, u] = 1 if g.edge_type is None else g.edge_type
        return nodes, adj, mask

    def validate(self) -> Graphs:
        """Checks the content (not only the shapes) and returns the set itself.

        Raises:
            DataError: If a graph has no node, a self-loop, a repeated edge, edges that are not
                sorted with ``u < v``, or a node id out of range; the message names the graph.
        """
        refuse_graphs(self.num_nodes < 1, "has no node", "leave empty graphs out")
        owner = np.repeat(np.arange(len(self)), self.num_edges)
        u, v = self.edges[:, 0].astype(np.int64), self.edges[:, 1].astype(np.int64)

        def refuse(bad: NDArray[np.bool_], what: str, cure: str) -> None:
            flags = np.zeros(len(self), bool)
            flags[owner[bad]] = True
            refuse_graphs(flags, what, cure)

        refuse(
            u == v, "has a self-loop", "remove loops, networkx: remove_edges_from(selfloop_edges)"
        )
        refuse(
            (np.minimum(u, v) < 0) | (np.maximum(u, v) >= self.num_nodes[owner]),
            "has an edge to a node that does not exist",
            "node ids must lie in 0 .. num_nodes - 1 of their own graph",
        )
        refuse(u > v, "has an edge with u > v", "pack it with Graphs.from_lists")
        rank = (owner * (self.max_nodes + 1) + u) * (self.max_nodes + 1) + v
        step = np.diff(rank, prepend=-1)
        refuse(step == 0, "has a repeated edge", "give each undirected edge once")
        refuse(step < 0, "has unsorted edges", "pack it with Graphs.from_lists")
        return self

    def canonical(self) -> Graphs:
        """The same graphs with edges as ``u < v`` in lexicographic order, checked.

        Raises:
            DataError: As :meth:`validate`.
        """
        owner = np.repeat(np.arange(len(self)), self.num_edges)
        pairs = np.sort(self.edges, axis=1)
        order = np.lexsort((pairs[:, 1], pairs[:, 0], owner))
        kinds = None if self.edge_type is None else self.edge_type[order]
        out = Graphs(self.num_nodes, self.edge_ptr, pairs[order], self.node_type, kinds)
        return out.validate()

    # -- storage ----------------------------------------------------------------------------

    def _arrays(self) -> dict[str, NDArray[Any]]:
        names = ("num_nodes", "edge_ptr", "edges", "node_type", "edge_type")
        return {n: getattr(self, n) for n in names if getattr(self, n) is not None}

    def sha256(self) -> str:
        """Hash of the content, equal on every machine."""
        digest = hashlib.sha256()
        for name, array in sorted(self._arrays().items()):
            digest.update(f"{name}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> Path:
        """Writes an uncompressed ``.npz`` under a temporary name, then renames it."""
        return write_arrays(Path(path), self._arrays())

    @classmethod
    def load(cls, path: str | Path, *, mmap: bool = True) -> Graphs:
        """Reads what :meth:`save` wrote, or any npz with these arrays.

        Args:
            path: The file.
            mmap: Map the arrays instead of reading them (compressed files are always read).

        Raises:
            DataError: If the file is missing, truncated, or lacks an array.
        """
        arrays = read_arrays(Path(path), mmap=mmap)
        for name in ("num_nodes", "edge_ptr", "edges"):
            if name not in arrays:
                raise DataError(
                    f"{path} holds no array {name!r} (found: {', '.join(sorted(arrays))}): it is "
                    "not a packed set of graphs; write one with Graphs.save"
                )
        return cls(
            arrays["num_nodes"].astype(np.int64, copy=False),
            arrays["edge_ptr"].astype(np.int64, copy=False),
            arrays["edges"].astype(np.int32, copy=False),
            arrays.get("node_type"),
            arrays.get("edge_type"),
        )


def concat(parts: Sequence[Graphs]) -> Graphs:
    """Joins sets of graphs, in order.

    Raises:
        DataError: If only some of the sets have node or edge classes.
    """
    parts = [p for p in parts if len(p)] or list(parts[:1])
    if not parts:
        return Graphs.empty()
    classes: dict[str, NDArray[np.int8] | None] = {}
    for name in ("node_type", "edge_type"):
        arrays = [getattr(p, name) for p in parts]
        if any(a is None for a in arrays) and not all(a is None for a in arrays):
            raise DataError(f"only some of the sets to join have {name}: drop it or add it to all")
        classes[name] = None if arrays[0] is None else np.concatenate(arrays)
    return Graphs(
        np.concatenate([p.num_nodes for p in parts]),
        pointer(np.concatenate([p.num_edges for p in parts])),
        np.concatenate([p.edges for p in parts]),
        **classes,
    )
