"""Data and settings of the recommenders, for their tests."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from graphdiff.data.behaviours import Behaviours
from graphdiff.graph.diffgraph.choice import RecommenderConfig
from graphdiff.graph.diffgraph.denoiser import DenoiserConfig

CONFIG = RecommenderConfig(
    ridges=(5.0, 20.0), width=12, denoiser=DenoiserConfig(steps=4, hidden=16, residual=True),
    train_steps=(0, 5), mix=(0.0, 0.5), candidates=40,
)  # fmt: skip


def groups(seed: int = 0, users: int = 45, items: int = 60) -> Behaviours:
    """Users of three groups that like the items of their own group."""
    draws = np.random.default_rng(seed)
    likes = np.where(np.arange(users)[:, None] % 3 == np.arange(items)[None] % 3, 0.4, 0.02)
    view = draws.random((users, items)) < likes
    buy = view & (draws.random((users, items)) < 0.6)
    test = np.array([[u, int(draws.choice(np.flatnonzero(buy[u])))] for u in range(users)])
    view[test[:, 0], test[:, 1]] = buy[test[:, 0], test[:, 1]] = False
    names = [f"item-{i}" for i in range(items)]
    relations = {"view": sparse.csr_matrix(view * 1), "buy": sparse.csr_matrix(buy * 1)}
    return Behaviours.of(relations, "buy", test, items=names,
                         users=[f"user-{u}" for u in range(users)])  # fmt: skip
