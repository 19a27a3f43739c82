r"""What every prediction on nodes is compared with, trained and selected in the same way.

With :math:`\hat A = \tilde D^{-1/2}(A + I)\tilde D^{-1/2}`, :math:`\tilde D` the degrees of
:math:`A + I`, and :math:`S = D^{-1/2} A D^{-1/2}`:

=====================  =======================================================================
``majority``           the most frequent class of the training nodes
``label-propagation``  :math:`F \leftarrow \alpha S F + (1 - \alpha) Y` (Zhou et al., 2004)
``mlp``                two linear layers on the features alone
``sgc``                logistic regression on :math:`\hat A^k X` (Wu et al., 2019)
``gcn``                :math:`\hat A\,\mathrm{ReLU}(\hat A X W_1) W_2` (Kipf and Welling, 2017)
``gcn-residual``       the same with a linear path beside each product,
                       :math:`\hat A X W + X R` (as in Luo et al., 2024)
=====================  =======================================================================

Each has a small grid (weight decay of networks, :math:`k`, :math:`\alpha`), of which the best on
validation is taken, by accuracy (by the area under the ROC curve where that selects), ties by loss:
a baseline that is not tuned proves nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from graphdiff.core.errors import ArgumentError
from graphdiff.data.nodes import NodeData, Split
from graphdiff.graph.adjacency import SparseOperator, adjacency, both_ways, spread
from graphdiff.graph.evaluate.scores import node_scores
from graphdiff.graph.evaluate.training import FitConfig, Fitted, check_splits, fit_nodes
from graphdiff.graph.node_features import Features, compressed, dropout, linear
from graphdiff.graph.sparse import Pattern

__all__ = ["BASELINES", "GCN", "MLP", "baseline", "normalised_adjacency"]

BASELINES = ("majority", "label-propagation", "mlp", "sgc", "gcn", "gcn-residual")
DECAYS = (5e-4, 5e-3)
HOPS = (1, 2, 4)
ALPHAS = (0.1, 0.5, 0.9)
ROUNDS = 50
HIDDEN = 64
DROPOUT = 0.5


def baseline(
    name: str,
    data: NodeData,
    split: Split,
    seed: int = 0,
    config: FitConfig | None = None,
    *,
    stop: Callable[[], bool] | None = None,
) -> Fitted:
    """Fit one baseline.

    Args:
        name: One of :data:`BASELINES`.
        data: The graph; features as they should be seen (see :meth:`NodeData.normalised`).
        split: Nodes to train on, to select on, to test on.
        seed: Of initialisation and dropout.
        config: Training of those that are trained, but for their weight decay, which is from the
            grid; and by which score the best of the grid is chosen.
        stop: Asked after each epoch whether to stop there.

    Raises:
        ArgumentError: The name is unknown.
        DataError: The split does not fit the graph.
    """
    if name not in BASELINES:
        raise ArgumentError(f"unknown baseline {name!r}, expected one of {', '.join(BASELINES)}")
    config = config or FitConfig()
    check_splits(data, [split], config.select)
    if name == "majority":
        return _majority(data, split)
    if name == "label-propagation":
        return _propagation(data, split, config.score)
    if name == "sgc":
        return _best(_hops(data, split, seed, config, stop), data, split, config.score)
    runs = (
        _network(name, data, split, seed, replace(config, weight_decay=decay, map_decay=None), stop)
        for decay in DECAYS
    )
    return _best(runs, data, split, config.score)


def normalised_adjacency(edges: Tensor, n: int, loops: bool = True) -> tuple[Pattern, Tensor]:
    r"""The matrix :math:`\hat A` (with ``loops``) or :math:`S` of the module docstring.

    Args:
        edges: Each edge once, ``u < v``, int64 ``[2, m]``.
        n: Number of nodes.
        loops: Whether every node is its own neighbour. Without, isolated nodes have empty rows.

    Returns:
        The pattern, and its values ``[nnz]``.
    """
    made = adjacency(*both_ways(edges.cpu().numpy()), n, loops=float(loops)).to(edges.device)
    return made.pattern, made.values


class GCN(nn.Module):
    """A graph convolutional network.

    Args:
        features: Of a node.
        outputs: Classes.
        hidden: Channels between the layers.
        layers: Number of products with the graph.
        dropout: Before each layer.
        residual: Whether each layer has a linear path of its input beside the product.
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        hidden: int = HIDDEN,
        layers: int = 2,
        dropout: float = DROPOUT,
        residual: bool = False,
    ) -> None:
        super().__init__()
        widths = [features, *[hidden] * (layers - 1), outputs]
        pairs = list(pairwise(widths))
        self.linear = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairs)
        self.bias = nn.ParameterList(nn.Parameter(torch.zeros(b)) for _, b in pairs)
        self.beside = nn.ModuleList(nn.Linear(a, b) for a, b in pairs if residual)
        self.dropout = dropout
        for layer in self.linear:
            nn.init.xavier_uniform_(layer.weight)  # type: ignore[arg-type]

    def forward(self, x: Features, pattern: Pattern, values: Tensor) -> Tensor:
        """Logits ``[n, outputs]`` of features ``[n, f]`` and a matrix ``[n, n]``."""
        for k, layer in enumerate(self.linear):
            x = dropout(x, self.dropout, self.training)
            y = pattern.matmul(values, linear(cast(nn.Linear, layer), x)) + self.bias[k]
            if self.beside:
                y = y + linear(cast(nn.Linear, self.beside[k]), x)
            if k + 1 < len(self.linear):
                x = torch.relu(y)
        return y


class MLP(nn.Module):
    """Two linear layers on the features alone.

    Args:
        features: Of a node.
        outputs: Classes.
        hidden: Channels between the layers.
        dropout: Before each layer.
    """

    def __init__(
        self, features: int, outputs: int, hidden: int = HIDDEN, dropout: float = DROPOUT
    ) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(features, hidden), nn.Linear(hidden, outputs)
        self.dropout = dropout

    def forward(self, x: Features) -> Tensor:
        """Logits ``[n, outputs]`` of features ``[n, f]``."""
        y = torch.relu(linear(self.first, dropout(x, self.dropout, self.training)))
        found: Tensor = self.last(dropout(y, self.dropout, self.training))
        return found


def _network(
    name: str,
    data: NodeData,
    split: Split,
    seed: int,
    config: FitConfig,
    stop: Callable[[], bool] | None,
) -> Fitted:
    x, wide, many = compressed(data.features), data.features.shape[1], len(data.classes)
    device = data.features.device
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net: nn.Module
        if name == "mlp":
            net = MLP(wide, many).to(device)
            forward: Callable[[], Tensor] = lambda: net(x)  # noqa: E731
        else:
            net = GCN(wide, many, residual=name == "gcn-residual").to(device)
            pattern, values = normalised_adjacency(data.edges, data.n)
            forward = lambda: net(x, pattern, values)  # noqa: E731
        return fit_nodes(net, forward, data.labels, split, config, stop=stop)


def _hops(
    data: NodeData,
    split: Split,
    seed: int,
    config: FitConfig,
    stop: Callable[[], bool] | None,
) -> Iterable[Fitted]:
    """SGC with every number of hops and weight decay."""
    pattern, values = normalised_adjacency(data.edges, data.n)
    x = data.features
    for k in range(1, max(HOPS) + 1):
        x = pattern.matmul(values, x)
        if k not in HOPS:
            continue
        for decay in DECAYS:
            how = replace(config, weight_decay=decay / 10, map_decay=None)
            yield _logistic(x, data, split, seed, how, stop)


def _logistic(
    x: Tensor,
    data: NodeData,
    split: Split,
    seed: int,
    config: FitConfig,
    stop: Callable[[], bool] | None,
) -> Fitted:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Linear(x.shape[1], len(data.classes)).to(x.device)
        # Averages over neighbours are small numbers; a larger step makes up for it.
        how = replace(config, lr=10 * config.lr)
        return fit_nodes(net, lambda: net(x), data.labels, split, how, stop=stop)


def _majority(data: NodeData, split: Split) -> Fitted:
    began = time.process_time()
    counts = torch.bincount(data.labels[split.train], minlength=len(data.classes))
    logits = counts.float().expand(data.n, -1).clone()
    return _untrained(logits, data, split, began)


def _propagation(data: NodeData, split: Split, score: str) -> Fitted:
    y = data.features.new_zeros(data.n, len(data.classes))
    y[split.train, data.labels[split.train]] = 1
    # Nodes that no label reaches get the most frequent class.
    prior = 1e-6 * y.sum(0) / len(split.train)
    pattern, values = normalised_adjacency(data.edges, data.n, loops=False)
    runs = []
    for alpha in ALPHAS:
        began = time.process_time()
        f = spread(SparseOperator(pattern, values), y, alpha, ROUNDS)
        runs.append(_untrained((f + prior).log(), data, split, began))
    return _best(runs, data, split, score)


def _untrained(logits: Tensor, data: NodeData, split: Split, began: float) -> Fitted:
    parts = {"train": split.train, "val": split.val, "test": split.test}
    scores = {
        name: node_scores(logits[part].cpu(), data.labels[part].cpu())
        for name, part in parts.items()
        if len(part)
    }
    return Fitted(logits, scores, 0, 0, time.process_time() - began)


def _best(runs: Iterable[Fitted], data: NodeData, split: Split, score: str) -> Fitted:
    """The run of the best validation score, ties by loss; with the CPU time of all."""
    name, part = ("val", split.val) if len(split.val) else ("train", split.train)
    best: tuple[Any, Fitted] | None = None
    seconds = 0.0
    for run in runs:
        loss = float(nn.functional.cross_entropy(run.logits[part], data.labels[part]))
        rank = (run.scores[name][score], -loss)
        seconds += run.seconds
        if best is None or rank > best[0]:
            best = (rank, run)
    assert best is not None
    return replace(best[1], seconds=seconds)
