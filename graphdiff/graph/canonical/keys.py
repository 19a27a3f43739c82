r"""Keys of isomorphism classes, for the forms graphs come in.

The key of a graph is the name of the backend and the SHA-256 of its canonical form,
:math:`k(G) = \mathrm{SHA256}(\rho_G\, G)`: equal for isomorphic graphs, and different for others
unless two of :math:`2^{256}` hashes collide. Sets of graphs are compared by looking keys up: one
labelling for each graph in place of one isomorphism test for each pair.

Classes that are all the default of packed sets and states (nodes 0, edges 1) are as none: the key
of a graph does not depend on whether other graphs of its set have classes that say something.

Keys of different backends (or versions of nauty) do not compare; the name in front of them keeps
such a mistake from looking like novelty.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.core.state import State
from graphdiff.data.graphs import Graphs
from graphdiff.graph.canonical.graph import ColouredGraph
from graphdiff.graph.canonical.labels import Canonizer

__all__ = ["canonical_keys", "coloured", "partition"]

Int = NDArray[np.int64]


def coloured(graphs: Any, *, colours: bool = True, attribute: str = "type") -> list[ColouredGraph]:
    """Coloured graphs out of what the library and networkx know.

    Args:
        graphs: A packed set (node and edge classes are colours: molecules come without RDKit), a
            state of quantised graphs (``x``, ``adj``), networkx graphs (directed ones too),
            coloured graphs, or a list of the last two.
        colours: Whether classes of nodes and edges count.
        attribute: What networkx graphs keep whole-number classes in; used where every node (every
            edge) has it.

    Raises:
        ArgumentError: For a multigraph, self-loops, classes that are no whole numbers, or an object
            of another kind; the message names the graph.
        DataError: For a state that is not quantised.
    """
    if isinstance(graphs, State):
        from graphdiff.graph.convert import from_state

        graphs = from_state(graphs)
    if isinstance(graphs, Graphs):
        return _unpacked(graphs, colours)
    if isinstance(graphs, ColouredGraph) or hasattr(graphs, "is_multigraph"):
        graphs = [graphs]
    out = []
    for k, graph in enumerate(graphs):
        try:
            out.append(_one(graph, colours, attribute))
        except ArgumentError as error:
            raise ArgumentError(f"graph {k}: {error}") from error
    return out


def _unpacked(graphs: Graphs, colours: bool) -> list[ColouredGraph]:
    kinds = graphs.node_type if colours else None
    orders = graphs.edge_type if colours else None
    out = []
    for k in range(len(graphs)):
        nodes = slice(graphs.node_ptr[k], graphs.node_ptr[k + 1])
        rows = slice(graphs.edge_ptr[k], graphs.edge_ptr[k + 1])
        seen = None if kinds is None else kinds[nodes].astype(np.int64)
        bonds = None if orders is None else orders[rows].astype(np.int64)
        edges = graphs.edges[rows].astype(np.int64)
        out.append(ColouredGraph(int(graphs.num_nodes[k]), edges, seen, bonds))
    return out


def _one(graph: Any, colours: bool, attribute: str) -> ColouredGraph:
    if isinstance(graph, ColouredGraph):
        plain = ColouredGraph(graph.nodes, graph.edges, directed=graph.directed)
        return graph if colours else plain
    if not hasattr(graph, "is_multigraph"):
        raise ArgumentError(
            f"is a {type(graph).__name__}, expected a ColouredGraph or a networkx graph: convert it"
        )
    if graph.is_multigraph():
        raise ArgumentError(
            f"is a {type(graph).__name__}: give each edge once, and its multiplicity as edge colour"
        )
    number = {node: i for i, node in enumerate(graph.nodes)}
    pairs = np.array([(number[u], number[v]) for u, v in graph.edges], np.int64).reshape(-1, 2)
    kinds = [data.get(attribute) for _, data in graph.nodes(data=True)]
    orders = [data.get(attribute) for _, _, data in graph.edges(data=True)]
    seen, bonds = (
        np.asarray(v) if colours and v and all(x is not None for x in v) else None
        for v in (kinds, orders)
    )
    return ColouredGraph(len(number), pairs, seen, bonds, graph.is_directed())


def canonical_keys(
    graphs: Any,
    *,
    colours: bool = True,
    attribute: str = "type",
    canonizer: Canonizer | None = None,
) -> list[str]:
    """A key for each graph, ``BACKEND:SHA256``; equal exactly for isomorphic graphs.

    All nodes of colour 0, or all edges of colour 1, are as nodes or edges without colours.

    Args:
        graphs: See :func:`coloured`.
        colours: Whether classes of nodes and edges count.
        attribute: Attribute of networkx graphs that holds them.
        canonizer: Backend, bounds and cache; None makes one.

    Raises:
        ArgumentError: For graphs that :func:`coloured` refuses or that are beyond the backend.
    """
    used = canonizer or Canonizer()
    found = coloured(graphs, colours=colours, attribute=attribute)
    return [f"{used.name}:{hashlib.sha256(used.form(graph)).hexdigest()}" for graph in found]


def partition(
    *sets: Any, colours: bool = True, attribute: str = "type", canonizer: Canonizer | None = None
) -> list[Int]:
    """Numbers of the isomorphism classes of graphs, common to all sets.

    By forms and not by their hashes, so it is exact.

    Args:
        sets: Each as :func:`coloured` takes it.
        colours: Whether classes of nodes and edges count.
        attribute: Attribute of networkx graphs that holds them.
        canonizer: Backend, bounds and cache; None makes one.

    Returns:
        For each set ``int64 [G]``. Classes are numbered in the order of their first graph.
    """
    used, known = canonizer or Canonizer(), dict[bytes, int]()
    out = []
    for graphs in sets:
        forms = [used.form(g) for g in coloured(graphs, colours=colours, attribute=attribute)]
        out.append(np.array([known.setdefault(f, len(known)) for f in forms], np.int64))
    return out
