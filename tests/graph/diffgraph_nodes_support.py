"""A heterogeneous graph and settings, for the tests of node classification."""

from __future__ import annotations

import numpy as np
import torch

from graphdiff.data.hetero import HeteroGraph, hetero_graph
from graphdiff.graph.diffgraph.denoiser import DenoiserConfig
from graphdiff.graph.diffgraph.metapath import MetaPath
from graphdiff.graph.diffgraph.node_baselines import validation_score
from graphdiff.graph.diffgraph.nodes import NodeConfig

FAST = NodeConfig(steps=30, decays=(0.1,), draws=1, denoiser=DenoiserConfig(steps=2, hidden=16))
PATHS = ("doc-word-doc", "doc-site-doc")


def planted(
    seed: int = 0, n: int = 150, classes: int = 3, *, features: bool = True, per_class: int = 8
) -> HeteroGraph:
    """Documents whose words and sites, and features, tell their class, with noise."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    words = [(i, rng.choice(10) + 10 * (y[i] if rng.random() < 0.6 else rng.choice(classes)))
             for i in range(n) for _ in range(3)]  # fmt: skip
    sites = [(i, rng.choice(4) + 4 * (y[i] if rng.random() < 0.7 else rng.choice(classes)))
             for i in range(n)]  # fmt: skip
    x = rng.random((n, 12)) + 0.4 * np.eye(classes)[y].repeat(4, 1) if features else None
    graph = hetero_graph(
        "doc", {("doc", "has", "word"): words, ("doc", "on", "site"): sites}, y, features=x
    )
    return graph.resplit(per_class, seed, held=(n - classes * per_class) // 2)


def operators(graph: HeteroGraph, norm="walk") -> list[MetaPath]:
    return [MetaPath.of(graph, path, norm) for path in PATHS]


def accuracy(log_probs: torch.Tensor, graph: HeteroGraph, part: str = "test") -> float:
    return validation_score(log_probs, graph.labels, getattr(graph.split(), part))[0]
