"""Small graphs with dense references."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from graphdiff.graph.local import LocalGraph, local_graph


def make_graph(
    seed: int, n: int = 40, chance: float = 0.12, weighted: bool = True
) -> tuple[LocalGraph, np.ndarray]:
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((n, n)) < chance, 1)
    upper |= np.eye(n, k=1, dtype=bool)
    weights = np.where(upper, rng.uniform(0.2, 3, (n, n)) if weighted else 1.0, 0.0)
    weights = weights + weights.T
    return local_graph(sparse.csr_matrix(weights)), weights


@pytest.fixture
def random_graph():
    """Makes a connected graph (a path and chords) and its dense weights."""
    return make_graph


@pytest.fixture
def reweighted():
    """Dense weights after labels."""

    def make(weights: np.ndarray, labels: np.ndarray, unlike: float) -> np.ndarray:
        return weights * np.where(labels[:, None] == labels[None, :], 1.0, unlike)

    return make
