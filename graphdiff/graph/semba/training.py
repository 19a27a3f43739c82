"""Passes of a network over a stream: predict, reveal, learn, update."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from graphdiff.core.errors import TrainingError
from graphdiff.graph.semba.memory import State
from graphdiff.graph.semba.metrics import MAIN, best_threshold, measure
from graphdiff.graph.semba.net import SembaNet
from graphdiff.graph.semba.stream import EventStream, Revealed

__all__ = ["Learner", "class_weights", "start_state", "train", "typical_gap"]

Floats = NDArray[np.float64]
Progress = Callable[[int, dict[str, float]], None]


def start_state(net: SembaNet, stream: EventStream) -> State:
    """Before the first event of a stream's events."""
    events, device, config = stream.events, next(net.parameters()).device, net.config
    start = float(events.time[0])
    return State.empty(events.num_nodes, config.memory, start, device, config.identity_seed)


def typical_gap(stream: EventStream) -> float:
    """Median time from an event at a node to the next one there, up to the end of the stream."""
    events, stop = stream.events, stream.stop
    nodes = np.concatenate([events.source[:stop], events.target[:stop]])
    time = np.tile(events.time[:stop], 2)
    order = np.lexsort((time, nodes))
    gaps = np.diff(time[order])[np.diff(nodes[order]) == 0]
    gaps = gaps[gaps > 0]
    return float(np.median(gaps)) if len(gaps) else 1.0


def class_weights(stream: EventStream, end: int | None = None) -> Tensor:
    """Weights under which each class has the same share of the training loss.

    Args:
        stream: Whose events and task.
        end: Events that are counted; None = up to the end of the stream.
    """
    positive = float((stream.events.weight[: stream.stop if end is None else end] > 0).mean())
    share = [1 - positive, positive] + [1.0] * (stream.task == "signlink")
    return 1 / torch.tensor(share).clamp(min=1e-3) / len(share)


@dataclass
class Learner:
    """What a pass needs beside state and stream.

    Attributes:
        net: The network.
        centre: Mean of the training weights, of task ``weight``.
        spread: Their standard deviation.
        optimizer: None = nothing is learnt.
        balance: Weights of the classes in the loss.
    """

    net: SembaNet
    centre: float
    spread: float
    optimizer: torch.optim.Optimizer | None = None
    balance: Tensor | None = field(default=None, repr=False)

    def run(self, state: State, stream: EventStream) -> tuple[State, float]:
        """Predict, then update, batch by batch.

        Returns:
            The state after the stream, and the mean loss (0 if nothing is learnt).
        """
        task, total, count = self.net.config.task, 0.0, 0
        for batch in stream:
            with torch.set_grad_enabled(self.optimizer is not None):
                fresh = self.net.memory.apply_pending(state)
                scores = self.net(state, fresh, batch.queries)
            told = scores.detach()
            if task == "weight":
                told = told.double() * self.spread + self.centre
            seen = batch.reveal(told)
            if self.optimizer is not None:
                total += self._step(self.optimizer, scores, seen) * len(batch.queries)
            count += len(batch.queries)
            state = self.net.memory.commit(state, fresh, seen)
        return state, total / count

    def _step(self, optimizer: torch.optim.Optimizer, scores: Tensor, seen: Revealed) -> float:
        """One step on a batch that was predicted and revealed."""
        loss = self.loss(scores, torch.tensor(seen.labels, device=scores.device))
        if not torch.isfinite(loss):
            raise TrainingError("the loss is not finite; lower lr, or look for extreme weights")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Of raw scores ``[q]`` or ``[q, 3]`` and answers ``[q]``, as the task has it."""
        if self.net.config.task == "weight":
            goal = ((labels - self.centre) / self.spread).to(scores.dtype)
            return (scores - goal).square().mean()
        classes = labels.long()
        if self.net.config.task == "signlink":
            return nn.functional.cross_entropy(scores, classes, self.balance)
        weight = None if self.balance is None else self.balance[classes]
        goal = labels.to(scores.dtype)
        return nn.functional.binary_cross_entropy_with_logits(scores, goal, weight)


@dataclass
class Trained:
    """The outcome of :func:`train`.

    Attributes:
        epochs: Loss and validation scores of each epoch.
        state: After the best epoch.
        threshold: Of signs, best on validation.
        said: Scores of the validation stream in the best epoch, and its answers.
    """

    epochs: list[dict[str, float]]
    state: State
    threshold: float
    said: tuple[Floats, Floats] | None


def train(
    learner: Learner, stream: EventStream, valid: EventStream | None, progress: Progress | None
) -> Trained:
    """Epochs over a stream; the network is left as it was after the best one on ``valid``.

    Memories are reset at the start of each epoch.
    """
    net, config = learner.net, learner.net.config
    optimizer = torch.optim.AdamW(net.parameters(), config.lr, weight_decay=config.decay)
    best, wait, found = -np.inf, 0, list[dict[str, float]]()
    kept: tuple[dict[str, Any], Trained]
    for epoch in range(config.epochs):
        net.train()
        learner.optimizer = optimizer
        state, loss = learner.run(start_state(net, stream), stream)
        net.eval()
        learner.optimizer = None
        scores, threshold, said = {"loss": loss}, 0.0, None
        if valid is not None:
            state, _ = learner.run(state, valid)
            said = (valid.scores, valid.labels)
            scores |= measure(config.task, *said)
            threshold = best_threshold(*said) if config.task == "sign" else 0.0
        found.append(scores)
        if progress is not None:
            progress(epoch + 1, scores)
        score = scores.get(MAIN[config.task], float(epoch))
        wait = 0 if score > best else wait + 1
        if not wait:
            outcome = Trained(found, state.clone(), threshold, said)
            best, kept = score, (copy.deepcopy(net.state_dict()), outcome)
        if wait >= config.patience:
            break
    net.load_state_dict(kept[0])
    return kept[1]
