r"""Graph sets with their spectra, and a training loop that selects on validation.

Decompositions are made once, in float64. Batches are cut from a shuffled list sorted by size, so
that padding stays small; each training batch draws new signs for its eigenvectors, which changes
nothing for encoders that are invariant and is needed by those that are not.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from graphdiff.core.errors import ArgumentError
from graphdiff.data.graphs import Graphs
from graphdiff.graph.encoding.network import GraphNetwork
from graphdiff.graph.encoding.spectrum import Spectrum, decompose

__all__ = ["Fitted", "GraphSet", "fit", "predict"]

Loss = Literal["l1", "ce"]


@dataclass(frozen=True)
class GraphSet:
    """Graphs as a padded batch, with spectra and targets.

    Attributes:
        adj: Adjacency ``[g, n, n]``.
        mask: Real nodes, bool ``[g, n]``.
        spectrum: Full spectra.
        target: ``[g, k]`` floats or classes ``[g]``.
    """

    adj: Tensor
    mask: Tensor
    spectrum: Spectrum
    target: Tensor

    @classmethod
    def of(cls, graphs: Graphs, target: NDArray[np.generic] | Tensor | None = None) -> GraphSet:
        """Pad and decompose; the weights are 0 and 1 in float32.

        Args:
            graphs: The graphs, at least one, all below ``DENSE_NODES`` nodes.
            target: What is to be predicted: numbers ``[g, k]``, one number for each graph (floats
                ``[g]``, kept as ``[g, 1]``), or classes (integers ``[g]``). Zeros ``[g, 1]`` by
                default.

        Raises:
            ArgumentError: There is no graph, or targets do not fit the graphs.
        """
        if not len(graphs):
            raise ArgumentError("a set of graphs needs at least one graph, found none")
        goal = _target(torch.zeros(len(graphs), 1) if target is None else target, len(graphs))
        _, adj, mask = graphs.dense()
        weights = torch.from_numpy((adj > 0).astype(np.float64))
        real = torch.from_numpy(mask)
        spectrum = decompose(weights, real).to(torch.float32)
        return cls(weights.float(), real, spectrum, goal)

    def __len__(self) -> int:
        return len(self.adj)

    def select(self, index: Tensor | NDArray[np.int64]) -> GraphSet:
        """Some of the graphs, with no more padding than they need."""
        rows = torch.as_tensor(index)
        n = int(self.mask[rows].sum(1).max())
        spectrum = self.spectrum[rows].trimmed(n)
        return GraphSet(self.adj[rows, :n, :n], self.mask[rows, :n], spectrum, self.target[rows])

    def to(self, device: torch.device | str) -> GraphSet:
        """On another device."""
        moved = {name: getattr(self, name).to(device) for name in ("adj", "mask", "target")}
        return replace(self, spectrum=self.spectrum.to(device), **moved)

    def batches(self, size: int, rng: np.random.Generator | None = None) -> Iterator[GraphSet]:
        """All graphs in batches of like size; shuffled if there is a generator.

        Raises:
            ArgumentError: ``size`` is below 1.
        """
        if size < 1:
            raise ArgumentError(f"a batch needs at least one graph, found a size of {size}")
        count = self.mask.sum(1).cpu().numpy()
        order = np.arange(len(self)) if rng is None else rng.permutation(len(self))
        order = order[np.argsort(count[order], kind="stable")]
        starts = np.arange(0, len(order), size)
        for start in starts if rng is None else rng.permutation(starts):
            part = self.select(order[start : start + size])
            yield part if rng is None else replace(part, spectrum=part.spectrum.flipped(rng))


def _target(given: NDArray[np.generic] | Tensor, count: int) -> Tensor:
    """Targets of ``count`` graphs: float32 ``[g, k]``, or classes int64 ``[g]``."""
    goal = torch.as_tensor(given)
    if goal.ndim not in (1, 2):
        raise ArgumentError(
            f"targets must be numbers [g, k] or classes [g], found the shape {list(goal.shape)}"
        )
    if len(goal) != count:
        raise ArgumentError(f"{len(goal)} targets for {count} graphs; give one for each")
    if goal.ndim == 1 and not goal.is_floating_point():
        return goal.long()
    # One number each: a vector beside outputs [g, 1] would be broadcast to [g, g].
    return goal.float() if goal.ndim == 2 else goal.float().unsqueeze(1)


@dataclass(frozen=True)
class Fitted:
    """A trained network.

    Attributes:
        net: The network with the weights of its best validation epoch.
        curve: Validation loss after each epoch.
        best: That epoch, from 0.
        steps: Optimiser steps that were made.
    """

    net: GraphNetwork
    curve: list[float]
    best: int
    steps: int


def _errors(out: Tensor, target: Tensor, loss: Loss) -> Tensor:
    if loss == "ce":
        return functional.cross_entropy(out, target, reduction="none")
    return (out - target).abs().mean(1)


def _check(net: GraphNetwork, data: GraphSet, loss: Loss, part: str) -> None:
    """Refuse targets that the loss cannot read or would silently broadcast."""
    target, g = data.target, len(data)
    found = f"{target.dtype} {list(target.shape)}"
    if loss == "l1":
        wanted = f"floats [{g}, {net.outputs}]"
        good = target.is_floating_point() and target.shape == (g, net.outputs)
    else:
        wanted = f"classes [{g}] from 0 to {net.outputs - 1}"
        good = not target.is_floating_point() and target.shape == (g,)
        if good:
            low, high = int(target.min()), int(target.max())
            good, found = 0 <= low <= high < net.outputs, f"{low} to {high}"
    if not good:
        raise ArgumentError(
            f"the loss {loss!r} of a network with {net.outputs} outputs needs {wanted} as targets "
            f"of the {part} graphs, found {found}"
        )


def _ready(net: GraphNetwork, train: GraphSet, valid: GraphSet, loss: Loss) -> None:
    """Refuse what :func:`fit` cannot train on or select with, before any work."""
    if loss not in get_args(Loss):
        raise ArgumentError(f"no loss {loss!r}; there are {', '.join(get_args(Loss))}")
    if not len(train) or not len(valid):
        raise ArgumentError(
            f"expected training and validation graphs, found {len(train)} and {len(valid)}"
        )
    for part, data in (("training", train), ("validation", valid)):
        _check(net, data, loss, part)


def predict(net: GraphNetwork, data: GraphSet, *, batch: int = 256) -> Tensor:
    """Outputs ``[g, outputs]`` in the order of the graphs."""
    net.eval()
    count = data.mask.sum(1).cpu().numpy()
    order = np.argsort(count, kind="stable")
    with torch.no_grad():
        found = [net(p.adj, p.mask, p.spectrum) for p in data.batches(batch)]
    return torch.cat(found)[torch.as_tensor(np.argsort(order))]


def fit(
    net: GraphNetwork,
    train: GraphSet,
    valid: GraphSet,
    *,
    loss: Loss = "l1",
    epochs: int = 40,
    batch: int = 64,
    lr: float = 3e-3,
    weight_decay: float = 1e-4,
    seed: int = 0,
) -> Fitted:
    """Train with Adam, a warm-up and a cosine to zero; the best validation epoch is kept.

    Args:
        net: Is changed.
        train: Training graphs.
        valid: Graphs that choose the epoch; never those that are reported on.
        loss: ``"l1"`` (mean absolute error; targets ``[g, outputs]``) or ``"ce"`` (cross-entropy;
            classes ``[g]``).
        epochs: Passes over the training graphs.
        batch: Graphs of a step.
        lr: Largest learning rate.
        weight_decay: Decoupled, on matrices only.
        seed: Of batches and signs.

    Raises:
        ArgumentError: There is nothing to train on or to select with, a number is not positive,
            the loss is unknown, or targets do not fit it and the outputs of the network.
    """
    if min(epochs, batch) < 1 or not lr > 0:
        raise ArgumentError(
            f"expected epochs and batch of at least 1 and lr > 0, found epochs={epochs}, "
            f"batch={batch} and lr={lr}"
        )
    _ready(net, train, valid, loss)
    rng = np.random.default_rng(seed)
    groups = [
        {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in net.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=lr)
    total = epochs * -(-len(train) // batch)
    warm = min(50, total // 5 + 1)
    rate = lambda s: min((s + 1) / warm, 0.5 * (1 + np.cos(np.pi * s / total)))  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    curve: list[float] = []
    kept, steps = copy.deepcopy(net.state_dict()), 0
    for _ in range(epochs):
        net.train()
        for part in train.batches(batch, rng):
            optimiser.zero_grad(set_to_none=True)
            _errors(net(part.adj, part.mask, part.spectrum), part.target, loss).mean().backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            steps += 1
        curve.append(float(_errors(predict(net, valid), valid.target, loss).mean()))
        if curve[-1] <= min(curve):
            kept = copy.deepcopy(net.state_dict())
    net.load_state_dict(kept)
    best = len(curve) - 1 - int(np.argmin(curve[::-1]))
    return Fitted(net, curve, best, steps)
