"""Graphs that the tests of canonization share."""

from __future__ import annotations

import os
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from graphdiff.graph.canonical import ColouredGraph

DATA = Path(os.environ.get("GRAPHDIFF_DATA", "")) / "graphlearn" / "expressivity"


def of(graph: nx.Graph) -> ColouredGraph:
    """A networkx graph without colours."""
    number = {v: i for i, v in enumerate(graph)}
    edges = [(number[u], number[v]) for u, v in graph.edges]
    return ColouredGraph(
        len(graph), np.array(edges, np.int64).reshape(-1, 2), directed=graph.is_directed()
    )


def shuffled(graph: ColouredGraph, seed: int) -> ColouredGraph:
    """A copy with nodes renamed and edges (and, undirected, their ends) in another order."""
    rng = np.random.default_rng(seed)
    moved = graph.relabelled(rng.permutation(graph.nodes))
    order = rng.permutation(len(moved.edges))
    edges = moved.edges[order]
    if not graph.directed:
        turn = rng.random(len(edges)) < 0.5
        edges[turn] = edges[turn][:, ::-1]
    kinds = None if moved.edge_colour is None else moved.edge_colour[order]
    return ColouredGraph(graph.nodes, edges, moved.node_colour, kinds, graph.directed)


def cfi(base: nx.Graph, *, twisted: bool) -> ColouredGraph:
    """The graph of Cai, Fuerer and Immerman over a base graph, with one edge twisted or none.

    Node x becomes one node for each even subset of its edges; each edge has a node for its ends
    being in the subset and one for not being in it, joined straight or, if twisted, crosswise.
    """
    number: dict[object, int] = {}
    edges: list[tuple[int, int]] = []

    def name(what: object) -> int:
        return number.setdefault(what, len(number))

    for x in base:
        around = list(base[x])
        for bits in range(2 ** len(around)):
            if bits.bit_count() % 2 == 0:
                inner = name((x, bits))
                edges += [(inner, name((x, y, bits >> k & 1))) for k, y in enumerate(around)]
    for k, (x, y) in enumerate(base.edges):
        cross = int(twisted and k == 0)
        edges += [(name((x, y, b)), name((y, x, b ^ cross))) for b in (0, 1)]
    return ColouredGraph(len(number), np.array(edges))


def graph6(name: str) -> list[ColouredGraph]:
    """A published list of graphs, or a skipped test."""
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"GRAPHDIFF_DATA holds no {name}")
    return [of(g) for g in nx.read_graph6(path)]
