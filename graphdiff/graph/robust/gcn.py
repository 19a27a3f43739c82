r"""Graph convolutions for one graph: many runs trained side by side.

A two-layer network :math:`\hat A\,\mathrm{dropout}(\mathrm{relu}(\hat A X W_1 + b_1))\,W_2 + b_2`
(Kipf and Welling, 2017) with a normalised adjacency of :mod:`graphdiff.graph.adjacency`.

Runs differ in their seeds only, so :math:`R` of them are one network with :math:`R` blocks of
weights: each sparse product is made once for all. Adam and weight decay act on each number alone
and the loss is a sum over runs, so no run sees another.

Epochs are selected on validation by the rule of Jin et al. (2020, Pro-GNN): the weights are kept
whenever the validation loss or the validation accuracy is better than ever before.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from graphdiff.core.errors import ArgumentError
from graphdiff.data.nodes import Split
from graphdiff.graph.adjacency import Operator
from graphdiff.graph.node_features import dropout

__all__ = ["Fitted", "GCNConfig", "Stack", "check_runs", "fit_gcn"]


@dataclass(frozen=True)
class GCNConfig:
    """A network and its training; the defaults are those of Pro-GNN's protocol.

    Attributes:
        hidden: Width of the hidden layer; 0 for a linear classifier of one layer.
        dropout: Share of hidden units that are dropped.
        lr: Learning rate of Adam.
        weight_decay: Times the weights, added to the gradient.
        epochs: Updates.
    """

    hidden: int = 16
    dropout: float = 0.5
    lr: float = 0.01
    weight_decay: float = 5e-4
    epochs: int = 200

    def __post_init__(self) -> None:
        if self.hidden < 0 or self.epochs < 1 or not 0 <= self.dropout < 1 or not self.lr > 0:
            raise ArgumentError(
                "a network needs hidden >= 0, epochs >= 1, 0 <= dropout < 1 and lr > 0, found "
                f"{self}"
            )


class Stack(nn.Module):
    """``runs`` networks of the same shape, applied at once.

    Args:
        features: Number of features of a node.
        classes: Number of classes.
        config: Shape.
        runs: How many networks.
    """

    def __init__(self, features: int, classes: int, config: GCNConfig, runs: int) -> None:
        super().__init__()
        self.config, self.runs, self.classes = config, runs, classes
        sizes = [features, config.hidden, classes] if config.hidden else [features, classes]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(runs, a, b)) for a, b in itertools.pairwise(sizes)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(runs, b)) for b in sizes[1:])
        for weight in self.weights:
            for block in weight:
                nn.init.xavier_uniform_(block)

    def forward(self, operator: Operator | None, features: Tensor) -> Tensor:
        """Logits ``[n, runs, classes]``.

        Args:
            operator: Applied in each layer; none makes it a perceptron.
            features: Sparse or dense ``[n, f]``.
        """
        n, first = features.shape[0], self.weights[0]
        flat = features @ first.permute(1, 0, 2).reshape(first.shape[1], -1)
        x = self._spread(operator, flat, 0)
        for k, weight in enumerate(list(self.weights)[1:], 1):
            x = dropout(x.relu(), self.config.dropout, self.training)
            x = torch.bmm(x.view(n, self.runs, -1).transpose(0, 1), weight).transpose(0, 1)
            x = self._spread(operator, x.reshape(n, -1), k)
        return x.view(n, self.runs, self.classes)

    def _spread(self, operator: Operator | None, x: Tensor, layer: int) -> Tensor:
        moved = x if operator is None else operator.matmul(x)
        return moved + self.biases[layer].reshape(-1)


@dataclass(frozen=True, eq=False)
class Fitted:
    """Networks after training, each at its selected epoch.

    Attributes:
        stack: The networks.
        logits: Of every node, ``[runs, n, classes]``.
        val_loss: Validation loss ``[runs]`` at the last selected epoch; NaN without validation
            nodes.
        val_accuracy: Validation accuracy ``[runs]`` there; NaN likewise.
        epoch: That epoch ``[runs]``.
    """

    stack: Stack
    logits: Tensor
    val_loss: Tensor
    val_accuracy: Tensor
    epoch: Tensor

    def accuracy(self, labels: Tensor, nodes: Tensor) -> list[float]:
        """Share of ``nodes`` that each run gets right."""
        hit = self.logits[:, nodes].argmax(2) == labels[nodes]
        return [float(x) for x in hit.double().mean(1)]


class _Selection:
    """The rule of the module docstring, for each run."""

    def __init__(self, stack: Stack) -> None:
        device, runs = stack.weights[0].device, stack.runs
        self.loss = torch.full((runs,), torch.inf, device=device)
        self.accuracy = torch.full((runs,), -1.0, device=device)
        self.at = torch.zeros(3, runs, device=device)
        self.kept = [p.detach().clone() for p in stack.parameters()]

    def __call__(self, stack: Stack, loss: Tensor, accuracy: Tensor, epoch: int) -> None:
        better = (loss < self.loss) | (accuracy > self.accuracy)
        self.loss = torch.minimum(self.loss, loss)
        self.accuracy = torch.maximum(self.accuracy, accuracy)
        now = torch.stack([loss, accuracy, torch.full_like(loss, epoch)])
        self.at = torch.where(better, now, self.at)
        for old, new in zip(self.kept, stack.parameters(), strict=True):
            old[better] = new.detach()[better]


def check_runs(runs: int) -> None:
    """Refuse less than one run, before any work.

    Raises:
        ArgumentError: There is none.
    """
    if runs < 1:
        raise ArgumentError(f"expected at least one run, found runs={runs}")


def fit_gcn(
    operator: Operator | None,
    features: Tensor,
    labels: Tensor,
    split: Split,
    config: GCNConfig | None = None,
    *,
    runs: int = 1,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Fitted:
    """Train ``runs`` networks side by side and select the epoch of each on validation.

    Args:
        operator: Normalised adjacency; none for a perceptron.
        features: Sparse or dense ``[n, f]``.
        labels: ``[n]``; only those of training and validation nodes are read.
        split: Nodes to train on and to select on; without validation nodes the last epoch counts.
        config: Shape and training.
        runs: How many networks.
        seed: Of all of them together: runs of one call differ.
        progress: Called after every epoch with what is done and all.

    Raises:
        ArgumentError: ``runs`` is below 1.
    """
    check_runs(runs)
    config = config or GCNConfig()
    seen = torch.cat([split.train, split.val])
    classes = int(labels[seen].max()) + 1
    with torch.random.fork_rng(devices=_cuda(features)):
        torch.manual_seed(seed)
        stack = Stack(features.shape[1], classes, config, runs).to(features.device)
        adam = torch.optim.Adam(
            stack.parameters(), config.lr, weight_decay=config.weight_decay, fused=True
        )
        chosen = _Selection(stack)
        for epoch in range(config.epochs):
            stack.train()
            adam.zero_grad()
            _losses(stack(operator, features), labels, split.train).sum().backward()
            adam.step()
            stack.eval()
            with torch.no_grad():
                out = stack(operator, features)
                if len(split.val):
                    hit = out[split.val].argmax(2) == labels[split.val, None]
                    loss = _losses(out, labels, split.val)
                    chosen(stack, loss, hit.float().mean(0), epoch)
                elif epoch == config.epochs - 1:
                    chosen(stack, out.new_zeros(runs), out.new_zeros(runs), epoch)
            if progress is not None:
                progress(epoch + 1, config.epochs)
    with torch.no_grad():
        for parameter, best in zip(stack.parameters(), chosen.kept, strict=True):
            parameter.copy_(best)
        logits = stack(operator, features).transpose(0, 1).contiguous()
    stack.requires_grad_(False)
    if not len(split.val):
        chosen.at[:2] = torch.nan
    return Fitted(stack, logits, chosen.at[0], chosen.at[1], chosen.at[2].long())


def _losses(out: Tensor, labels: Tensor, nodes: Tensor) -> Tensor:
    """Cross-entropy of each run ``[runs]``, mean over ``nodes``."""
    picked = out[nodes].transpose(1, 2)  # [m, classes, runs]
    goal = labels[nodes, None].expand(-1, picked.shape[2])
    return cross_entropy(picked, goal, reduction="none").mean(0)


def _cuda(x: Any) -> list[torch.device]:
    return [x.device] if x.device.type == "cuda" else []
