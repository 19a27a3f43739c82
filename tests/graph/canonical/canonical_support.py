"""Graphs that the tests of canonization share."""

from __future__ import annotations

import os
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from graphdiff.data import expressivity
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
    """The graph of Cai, Fuerer and Immerman over nodes 0 to n - 1."""
    return ColouredGraph(*expressivity.cfi(np.array(base.edges), len(base), twisted=twisted))


def graph6(name: str) -> list[ColouredGraph]:
    """A published list of graphs, or a skipped test."""
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"GRAPHDIFF_DATA holds no {name}")
    return [of(g) for g in nx.read_graph6(path)]
