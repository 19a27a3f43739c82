r"""Training of a network on the nodes of one graph, selected on validation.

Full-batch Adam on the training nodes; after every epoch the validation nodes are scored, the
weights of the best epoch are kept, and the training stops ``patience`` epochs after it. Test nodes
are scored once, with those weights. Where several epochs are equally good by ``accuracy``, the one
of smaller validation loss is taken, so that small validation sets do not pick the first of many.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from graphdiff.core.errors import DataError, TrainingError, require
from graphdiff.data.nodes import NodeData, Split
from graphdiff.graph.evaluate.scores import node_scores, roc_auc

__all__ = ["FitConfig", "Fitted", "check_splits", "fit_nodes"]

Forward = Callable[[], Tensor]


@dataclass(frozen=True)
class FitConfig:
    """How a network is trained on nodes.

    Attributes:
        epochs: At most.
        patience: Epochs without a better validation score before it stops.
        lr: Learning rate of Adam.
        weight_decay: L2 penalty of all parameters but those of a named group.
        map_decay: That of the group ``maps``; ``None`` is ``weight_decay``.
        select: ``loss`` (validation cross-entropy), ``accuracy``, or ``roc_auc``.
    """

    epochs: int = 1000
    patience: int = 200
    lr: float = 0.01
    weight_decay: float = 5e-4
    map_decay: float | None = None
    select: Literal["loss", "accuracy", "roc_auc"] = "accuracy"

    def __post_init__(self) -> None:
        require("fit.epochs", self.epochs >= 1, self.epochs, "1 or more")
        require("fit.patience", self.patience >= 1, self.patience, "1 or more")
        require("fit.lr", self.lr > 0, self.lr, "a positive number")
        require("fit.weight_decay", self.weight_decay >= 0, self.weight_decay, "0 or more")
        decay = self.map_decay
        require("fit.map_decay", decay is None or decay >= 0, decay, "0 or more, or none")

    @property
    def score(self) -> str:
        """By which methods and settings are compared: ``roc_auc`` where it selects."""
        return "roc_auc" if self.select == "roc_auc" else "accuracy"


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained network at its best epoch.

    Attributes:
        logits: Of all nodes ``[n, classes]``.
        scores: By part of the split, then by name; ``test`` was looked at once.
        epoch: The best one, from 1.
        epochs: Those that were trained.
        seconds: CPU time of this process.
        curve: Validation score of each epoch.
    """

    logits: Tensor
    scores: Mapping[str, Mapping[str, float]]
    epoch: int
    epochs: int
    seconds: float
    curve: list[float] = field(default_factory=list)

    @property
    def test(self) -> float:
        """Test accuracy."""
        return self.scores["test"]["accuracy"]


def check_splits(data: NodeData, splits: Sequence[Split], select: str) -> None:
    """Refuse splits that do not fit the graph, before anything is trained on them.

    Args:
        data: The graph.
        splits: Splits that need not be its own.
        select: As in :class:`FitConfig`.

    Raises:
        DataError: A split takes nodes that do not exist or have no label, or a class is absent
            where ``select`` needs all.
    """
    for split in splits:
        data.check_split(split)
        _check_selection(data.labels, split, data.classes, select)


def _check_selection(labels: Tensor, split: Split, classes: Sequence[str], select: str) -> None:
    """Refuse a part to select on where the area under the ROC curve is not known."""
    if select != "roc_auc":
        return
    name, part = ("validation", split.val) if len(split.val) else ("training", split.train)
    here = set(labels[part].tolist())
    absent = [c for k, c in enumerate(classes) if k not in here]
    if absent:
        raise DataError(
            f"the {name} part of a split has no node of class {', '.join(absent[:4])}, but the "
            "area under the ROC curve (fit.select = roc_auc) needs all classes there; take another "
            "split, or fit.select = accuracy"
        )


def fit_nodes(
    network: nn.Module,
    forward: Forward,
    labels: Tensor,
    split: Split,
    config: FitConfig,
    *,
    groups: Mapping[str, list[nn.Parameter]] | None = None,
    progress: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Fitted:
    """Train ``network``; its weights are those of the best validation epoch afterwards.

    Args:
        network: Whose parameters are trained, and which knows ``train()`` and ``eval()``.
        forward: The logits ``[n, classes]`` of all nodes; calls the network.
        labels: Classes ``[n]``.
        split: Nodes to train on, to select on, to test on.
        config: Settings.
        groups: Parameters with a weight decay of their own; ``maps`` is known.
        progress: Called after each epoch with what is done and all.
        stop: Asked after each epoch whether to stop there, with the best weights so far.

    Raises:
        DataError: A class is absent where ``config.select`` needs all.
        TrainingError: The loss is not finite.
    """
    classes = [str(c) for c in range(int(labels.max()) + 1)]
    _check_selection(labels, split, classes, config.select)
    began, own = time.process_time(), (groups or {}).get("maps", [])
    inner = {id(p) for p in own}
    rest = [p for p in network.parameters() if id(p) not in inner]
    decay = config.weight_decay if config.map_decay is None else config.map_decay
    parts = [{"params": rest, "weight_decay": config.weight_decay}]
    if own:
        parts.append({"params": list(own), "weight_decay": decay})
    optimizer = torch.optim.Adam(parts, lr=config.lr)
    chosen = split.val if len(split.val) else split.train
    best: tuple[float, float] = (-float("inf"), -float("inf"))
    kept: dict[str, Any] = copy.deepcopy(network.state_dict())
    epoch, curve = 0, []
    for k in range(config.epochs):
        network.train()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(forward()[split.train], labels[split.train])
        loss.backward()
        optimizer.step()
        score = _validate(network, forward, labels, chosen, config.select)
        if not np.isfinite(score[1]):
            raise TrainingError(
                f"the loss is not finite in epoch {k + 1}; lower fit.lr (now {config.lr:g}), or "
                "scale the features"
            )
        curve.append(score[0])
        if score > best:
            best, epoch, kept = score, k + 1, copy.deepcopy(network.state_dict())
        if progress is not None:
            progress(k + 1, config.epochs)
        if k + 1 - epoch >= config.patience or (stop is not None and stop()):
            break
    network.load_state_dict(kept)
    network.eval()
    with torch.no_grad():
        logits = forward()
    scores = {
        name: node_scores(logits[part].cpu(), labels[part].cpu())
        for name, part in (("train", split.train), ("val", split.val), ("test", split.test))
        if len(part)
    }
    return Fitted(logits, scores, epoch, len(curve), time.process_time() - began, curve)


def _validate(
    network: nn.Module, forward: Forward, labels: Tensor, part: Tensor, select: str
) -> tuple[float, float]:
    """What is maximised, and what breaks ties: minus the loss."""
    network.eval()
    with torch.no_grad():
        logits, truth = forward()[part], labels[part]
        loss = -float(nn.functional.cross_entropy(logits, truth))
        if select == "loss" or not np.isfinite(loss):
            return loss, loss
        if select == "accuracy":
            return float((logits.argmax(1) == truth).float().mean()), loss
        return roc_auc(logits.cpu(), truth.cpu()), loss
