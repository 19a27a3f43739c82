"""Small expansion models, random connected graphs and levels for the tests of this folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import torch

from graphdiff.data.graphs import Graphs
from graphdiff.graph.expansion.coarsen import Expansion, coarsen, expansions
from graphdiff.graph.expansion.dataset import token_classes
from graphdiff.graph.expansion.level import Level, Packed
from graphdiff.graph.hspectre import HSpectreTask

sys.path.append(str(Path(__file__).parents[1] / "support"))
from stats import accepted, chi2_pvalue, rejected

__all__ = ["accepted", "chi2_pvalue", "rejected"]


def task(**changes: Any) -> HSpectreTask:
    """A small valid task; keyword tables are merged into it."""
    base: dict[str, Any] = {
        "kind": "hspectre",
        "seed": 3,
        "data": {"name": "tree", "sizes": [0, 1, 0, 2, 0, 0, 0, 4, 0, 0, 0, 0, 1]},
        "coarsening": {"sequences": 2},
        "model": {"hidden": 16, "pair": 12, "triangle": 4, "layers": 2},
        "sample": {"steps": 4},
    }
    for name, value in changes.items():
        base[name] = {**base[name], **value} if isinstance(value, dict) else value
    return HSpectreTask.from_config(base)


def connected(n: int, extra: int, seed: int) -> nx.Graph:
    """A random tree on ``n`` nodes with ``extra`` more edges tried."""
    rng = np.random.default_rng(seed)
    graph = nx.random_labeled_tree(n, seed=seed) if n > 1 else nx.empty_graph(1)
    for u, v in rng.integers(0, n, (extra, 2)):
        if u != v:
            graph.add_edge(int(u), int(v))
    return graph


def graphs() -> list[nx.Graph]:
    """Trees, a cycle, a clique, a star, and random graphs, some of them tiny."""
    named = [nx.path_graph(2), nx.cycle_graph(9), nx.complete_graph(6), nx.star_graph(12)]
    drawn = [connected(n, e, s) for s, (n, e) in enumerate([(3, 0), (17, 0), (30, 40), (24, 9)])]
    return [*named, *drawn]


def packed_set() -> Graphs:
    """:func:`graphs` as a set."""
    return Graphs.from_networkx(graphs())


def edge_array(graph: nx.Graph) -> np.ndarray:
    """Edges as int64 ``[m, 2]``."""
    return np.asarray(list(graph.edges), dtype=np.int64).reshape(-1, 2)


def sequence(graph: nx.Graph, seed: int = 0) -> list[Expansion]:
    """One coarsening sequence of a graph, backwards."""
    n, edges = graph.number_of_nodes(), edge_array(graph)
    return expansions(n, edges, coarsen(n, edges, np.random.default_rng(seed)))


def level_of(steps: list[Expansion]) -> tuple[Level, torch.Tensor, torch.Tensor]:
    """One packed level of several expansions, its packed tokens and its packed next splits."""
    counts = torch.tensor([len(s.split) for s in steps])
    owner = torch.repeat_interleave(
        torch.arange(len(steps)), torch.tensor([len(s.coarse) for s in steps])
    )

    def join(parts: list[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(parts))

    union = Packed(counts, owner, join([s.coarse for s in steps]))
    split, after = join([s.split for s in steps]), join([s.next_split for s in steps])
    target = torch.tensor([len(s.next_split) + int(s.next_split.sum()) for s in steps])
    total = torch.full_like(counts, 40)
    return Level.build(union, split, total, target), join([token_classes(s) for s in steps]), after
