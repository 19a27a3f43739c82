r"""Canonical labelling by nauty, through the optional package pynauty.

nauty (McKay and Piperno 2014) knows coloured nodes but no coloured edges. With :math:`k` distinct
edge colours, coded :math:`1, \dots, k`, the graph is put on :math:`L = \lceil \log_2(k + 1) \rceil`
layers: node :math:`v` becomes a path :math:`v_0 - v_1 - \dots - v_{L-1}`, and an edge of code
:math:`c` joins :math:`u_l` and :math:`v_l` in each layer :math:`l` whose bit is set in :math:`c`.
Layer and node colour together colour the copies. Automorphisms of the layered graph keep layers and
paths, hence are those of the coloured graph, and the places of layer 0 number its nodes (nauty and
Traces User's Guide, "Isomorphism of edge-coloured graphs").

pynauty is under the GPL, version 3, and is only imported when it is asked for: graphdiff itself
neither needs nor contains it (``pip install 'graphdiffusion[canon]'``).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.canonical.graph import ColouredGraph

if TYPE_CHECKING:
    from graphdiff.data.graphs import Graphs

__all__ = ["available", "certificates", "nauty_labels", "version"]

Int = NDArray[np.int64]


def available() -> bool:
    """Whether pynauty is installed."""
    return importlib.util.find_spec("pynauty") is not None


def load() -> Any:
    """The package pynauty.

    Raises:
        ArgumentError: If it is not installed.
    """
    try:
        return importlib.import_module("pynauty")
    except ImportError as error:
        raise ArgumentError(
            "pynauty is not installed: pip install 'graphdiffusion[canon]', or choose "
            "backend='search'"
        ) from error


def version() -> str:
    """Version of pynauty: forms of different versions need not agree."""
    return str(load().__version__)


def _layers(graph: ColouredGraph) -> tuple[int, dict[int, list[int]]]:
    """Number of layers, and whom each copy of a node leads to."""
    n, edges = graph.nodes, graph.edges
    layers, code = 1, np.ones(len(edges), np.int64)
    if graph.edge_colour is not None and len(edges):
        code = np.unique(graph.edge_colour, return_inverse=True)[1].reshape(-1) + 1
        layers = int(code.max()).bit_length()
    leads: dict[int, list[int]] = {}
    for layer in range(layers):
        shift = layer * n
        for u, v in (edges[(code >> layer) & 1 == 1] + shift).tolist():
            leads.setdefault(u, []).append(v)
        if layer:
            for v in range(shift, shift + n):
                leads.setdefault(v - n, []).append(v)
                if graph.directed:
                    leads.setdefault(v, []).append(v - n)
    return layers, leads


def nauty_labels(graph: ColouredGraph) -> Int:
    """The place of each node in nauty's canonical order, ``int64 [n]``.

    Raises:
        ArgumentError: If pynauty is not installed.
    """
    nauty, n = load(), graph.nodes
    if n < 2:
        return np.zeros(n, np.int64)
    layers, leads = _layers(graph)
    cells: list[set[int]] = []
    if layers > 1 or graph.node_colour is not None:
        colour = np.zeros(n, np.int64) if graph.node_colour is None else graph.node_colour
        values = np.unique(colour)
        for layer in range(layers):
            cells += [set((np.flatnonzero(colour == c) + layer * n).tolist()) for c in values]
    layered = nauty.Graph(
        n * layers, directed=graph.directed, adjacency_dict=leads, vertex_coloring=cells
    )
    order = np.asarray(nauty.canon_label(layered), np.int64)[:n]
    return np.argsort(order)


def certificates(graphs: Graphs, rows: Sequence[int]) -> list[bytes]:
    """Certificates of some graphs of a set, without classes of nodes and edges.

    Two graphs with equally many nodes are isomorphic exactly if their certificates are equal. The
    checks and arrays of :class:`ColouredGraph` are left out: some ten microseconds for a graph.

    Args:
        graphs: A set without repeated edges.
        rows: Which of its graphs, each with one node or more.

    Raises:
        ArgumentError: If pynauty is not installed.
    """
    nauty, out = load(), []
    at = np.asarray(rows, np.int64)
    columns = (graphs.num_nodes[at], graphs.edge_ptr[at], graphs.edge_ptr[at + 1])
    for nodes, first, last in zip(*(c.tolist() for c in columns), strict=True):
        leads: dict[int, list[int]] = {}
        for u, v in graphs.edges[first:last].tolist():
            leads.setdefault(u, []).append(v)
        out.append(nauty.certificate(nauty.Graph(nodes, adjacency_dict=leads)))
    return out
