r"""What a defence is compared with, all under one protocol: split, runs, selection on validation.

====================  ===========================================================================
``gcn``               the network on the graph as it is (Kipf and Welling, 2017)
``jaccard``           edges with a Jaccard similarity below a threshold go (Wu et al., 2019)
``svd``               :math:`A` replaced by its best approximation of rank :math:`r` (Entezari et
                      al., 2020), kept as factors
``guard``             edges weighted by the cosine of the features, those below .1 dropped, rows
                      normalised; a node weighs :math:`1/(\deg + 1)` beside its neighbours (the
                      first layer of GNNGuard, Zhang and Zitnik, 2020, used in both)
``mlp``               the network without a graph: what features alone say
``sgc``               a linear classifier on :math:`\hat A^2 X` (Wu et al., 2019)
``labels``            label propagation, :math:`Y \leftarrow \lambda \hat A Y + (1-\lambda) Y_0`:
                      what the graph alone says; no seeds
====================  ===========================================================================

Threshold, rank and :math:`\lambda` are those of the best mean validation accuracy among a few.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.nodes import NodeData, Split
from graphdiff.graph.adjacency import Operator, SparseOperator, adjacency, both_ways, spread
from graphdiff.graph.robust.gcn import Fitted, GCNConfig, check_runs, fit_gcn
from graphdiff.graph.robust.refine import likely
from graphdiff.graph.robust.similarity import edge_cosine
from graphdiff.graph.robust.stable import sparse_features, split_of
from graphdiff.graph.sparse import Pattern

__all__ = ["BASELINES", "Baseline", "LowRank", "fit_baseline", "guard", "low_rank", "spread_labels"]

BASELINES = ("gcn", "jaccard", "svd", "guard", "mlp", "sgc", "labels")
SETTINGS: dict[str, tuple[float, ...]] = {
    "jaccard": (0.01, 0.03, 0.05),
    "svd": (10, 50),
    "labels": (0.5, 0.9, 0.99),
}
"""Thresholds, ranks and shares that are tried."""
TRIALS = 3
"""Runs of each setting that is tried."""


@dataclass(frozen=True)
class Baseline:
    """Accuracies of a baseline.

    Attributes:
        name: Which.
        accuracy: On the test nodes, of each run.
        val_accuracy: Mean on the validation nodes; None without any.
        chosen: Setting chosen on validation, if it has one.
    """

    name: str
    accuracy: list[float]
    val_accuracy: float | None
    chosen: float | None = None


@dataclass(frozen=True, eq=False)
class LowRank:
    r"""The operator :math:`D^{-1/2} (U S U^\top + I) D^{-1/2}`, never formed.

    Attributes:
        left: :math:`U S` ``[n, r]``.
        right: :math:`U` ``[n, r]``.
        scale: :math:`D^{-1/2}` ``[n]``.
    """

    left: Tensor
    right: Tensor
    scale: Tensor

    def to(self, device: torch.device | str) -> LowRank:
        """The same on another device."""
        return LowRank(*(part.to(device) for part in (self.left, self.right, self.scale)))

    def matmul(self, x: Tensor) -> Tensor:
        """The product with ``x`` ``[n, f]``."""
        scaled = self.scale[:, None] * x
        return self.scale[:, None] * (self.left @ (self.right.T @ scaled) + scaled)


def low_rank(edges: NDArray[np.int64], n: int, rank: int) -> LowRank:
    """The best approximation of rank ``rank`` of a symmetric adjacency, normalised.

    Row sums of an approximation may be below one, or negative; such degrees count as one.

    Args:
        edges: Each edge once, ``[2, m]``.
        n: Number of nodes.
        rank: Singular values to keep, below ``n``.
    """
    from scipy.sparse.linalg import eigsh

    row, col = both_ways(edges)
    matrix = sp.coo_matrix((np.ones(len(row)), (row, col)), shape=(n, n)).tocsr()
    # Of a symmetric matrix the largest eigenvalues in size belong to the singular vectors.
    value, vector = eigsh(matrix, k=min(rank, n - 1), v0=np.ones(n), which="LM")
    degree = np.maximum(vector @ (value * vector.sum(0)) + 1, 1.0)
    parts = (vector * value, vector, degree**-0.5)
    return LowRank(*(torch.from_numpy(part).float() for part in parts))


def guard(edges: NDArray[np.int64], features: Tensor, least: float = 0.1) -> SparseOperator:
    """The weighted adjacency of ``guard``.

    Args:
        edges: Each edge once, ``[2, m]``.
        features: Dense ``[n, f]``.
        least: Edges whose cosine is below are dropped.
    """
    n = len(features)
    ends = torch.from_numpy(edges).to(features.device)
    weight = edge_cosine(features, *ends).double().cpu().numpy()
    edges, weight = edges[:, weight >= least], weight[weight >= least]
    row, col = both_ways(edges)
    both = np.concatenate([weight, weight])
    degree = np.bincount(row, minlength=n)
    share = both / np.bincount(row, both, n)[row] * (degree / (degree + 1))[row]
    every = np.arange(n)
    rows, cols = np.concatenate([row, every]), np.concatenate([col, every])
    values = np.concatenate([share, 1 / (degree + 1)])
    order = np.argsort(rows * n + cols)
    pattern = Pattern.of(torch.from_numpy(rows[order]), torch.from_numpy(cols[order]), (n, n))
    made = SparseOperator(pattern, torch.from_numpy(values[order]).float())
    return made.to(features.device)


def spread_labels(
    operator: Operator, labels: Tensor, train: Tensor, share: float, steps: int = 100
) -> Tensor:
    """Label propagation: scores ``[n, classes]``.

    Args:
        operator: Normalised adjacency.
        labels: ``[n]``; those of ``train`` are read.
        train: Nodes whose labels are spread.
        share: How much of a node's score is its neighbours', below 1.
        steps: Rounds.
    """
    start = torch.zeros(len(labels), int(labels[train].max()) + 1, device=labels.device)
    start[train, labels[train]] = 1.0
    return spread(operator, start, share, steps)


def fit_baseline(
    name: str,
    data: NodeData,
    split: Split | None = None,
    *,
    runs: int = 10,
    seed: int = 0,
    config: GCNConfig | None = None,
) -> Baseline:
    """Train a baseline; its setting and the epoch of each run are chosen on validation.

    Args:
        name: One of :data:`BASELINES`.
        data: The graph.
        split: The first of the graph by default.
        runs: Seeds, trained side by side.
        seed: Of all of them together.
        config: Of the network.

    Raises:
        ArgumentError: There is no such baseline, or ``runs`` is below 1.
        DataError: The graph has no split, the split does not fit it, or there are no validation
            nodes to choose a setting on.
    """
    if name not in BASELINES:
        raise ArgumentError(f"no baseline {name!r}; there are {', '.join(BASELINES)}")
    check_runs(runs)
    split, told = split_of(data, split), config or GCNConfig()
    if name in SETTINGS and not len(split.val):
        raise DataError(
            f"{data.name}: {name} chooses its setting on validation nodes, and the split has none; "
            "give some"
        )
    if name == "labels":
        return _spread(data, split)
    edges, n, device = data.edges.cpu().numpy(), data.n, data.features.device
    inputs = sparse_features(data.features)[0]
    make: Callable[[Any], Operator | None] = lambda _: _hat(edges, data)  # noqa: E731
    if name == "jaccard":
        words = sp.csr_matrix(data.features.cpu().numpy())
        make = lambda least: _hat(edges[:, likely(edges, words, least)], data)  # noqa: E731
    elif name == "svd":
        make = lambda rank: low_rank(edges, n, int(rank)).to(device)  # noqa: E731
    elif name == "guard":
        make = lambda _: guard(edges, data.features)  # noqa: E731
    elif name == "mlp":
        make = lambda _: None  # noqa: E731
    elif name == "sgc":
        hat, told = _hat(edges, data), replace(told, hidden=0)
        inputs, make = hat.matmul(hat.matmul(data.features)), lambda _: None

    def fit(setting: float | None, runs: int) -> Fitted:
        return fit_gcn(make(setting), inputs, data.labels, split, told, runs=runs, seed=seed)

    best: float | None = None
    if name in SETTINGS:
        best = max(SETTINGS[name], key=lambda s: float(fit(s, TRIALS).val_accuracy.mean()))
    fitted = fit(best, runs)
    accuracy = fitted.accuracy(data.labels, split.test)
    measured = float(fitted.val_accuracy.mean()) if len(split.val) else None
    return Baseline(name, accuracy, measured, best)


def _hat(edges: NDArray[np.int64], data: NodeData) -> SparseOperator:
    """The usual operator of some edges, where the features are."""
    return adjacency(*both_ways(edges), data.n).to(data.features.device)


def _spread(data: NodeData, split: Split) -> Baseline:
    operator = _hat(data.edges.cpu().numpy(), data)

    def right(scores: Tensor, nodes: Tensor) -> float:
        return float((scores[nodes].argmax(1) == data.labels[nodes]).double().mean())

    shares = SETTINGS["labels"]
    found = {s: spread_labels(operator, data.labels, split.train, s) for s in shares}
    best = max(found, key=lambda s: right(found[s], split.val))
    return Baseline("labels", [right(found[best], split.test)], right(found[best], split.val), best)
