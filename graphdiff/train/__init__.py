"""Training: one loop for every task, with checkpoints that survive anything."""

from __future__ import annotations

from graphdiff.train.checkpoint import Card, load_weights, read_card, save_model, update_metrics
from graphdiff.train.config import TrainConfig
from graphdiff.train.store import new_card
from graphdiff.train.trainer import Outcome, Progress, Trainer

__all__ = [
    "Card",
    "Outcome",
    "Progress",
    "TrainConfig",
    "Trainer",
    "load_weights",
    "new_card",
    "read_card",
    "save_model",
    "update_metrics",
]
