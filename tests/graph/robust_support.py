"""A small graph with planted classes, words and a few edges of an attacker."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from graphdiff.data.nodes import NodeData, random_splits


@dataclass(frozen=True)
class Planted:
    data: NodeData
    attacker: NDArray[np.bool_]  # of each edge

    @property
    def words(self) -> sp.csr_matrix:
        return sp.csr_matrix(self.data.features.numpy())


def planted(n: int = 120, seed: int = 0, inside: float = 0.12, false: int = 60) -> Planted:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    u, v = np.triu_indices(n, 1)
    same = labels[u] == labels[v]
    true = rng.random(len(u)) < np.where(same, inside, 0.005)
    cross = np.flatnonzero(~same & ~true)
    bad = np.zeros(len(u), bool)
    bad[rng.choice(cross, false, replace=False)] = True
    topic = labels[:, None] == (np.arange(60) % 3)[None]
    words = (rng.random((n, 60)) < np.where(topic, 0.3, 0.03)).astype(np.float32)
    there = true | bad
    y = torch.from_numpy(labels)
    splits = random_splits(y, 1, (0.2, 0.2), seed)
    data = NodeData.of("planted", np.stack([u[there], v[there]]), words, y, splits)
    return Planted(data, bad[there])


def cuda(graph: Planted) -> NodeData:
    """The graph on a GPU."""
    data = graph.data
    moved = {name: getattr(data, name).cuda() for name in ("edges", "features", "labels")}
    return replace(data, **moved)
