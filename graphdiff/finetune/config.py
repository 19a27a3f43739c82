"""Configuration of reward fine-tuning: what ``graphdiff finetune --set tune.…`` changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graphdiff.core.errors import ConfigError

__all__ = ["METHODS", "TuneConfig"]

METHODS = ("ddpo", "grpo", "wdce", "rwr")


@dataclass(frozen=True)
class TuneConfig:
    """How a model is tuned towards ``p(x) exp(reward(x) / alpha)``.

    Attributes:
        method: ``"ddpo"`` or ``"grpo"`` (:mod:`graphdiff.finetune.policy`), ``"wdce"`` or
            ``"rwr"`` (:mod:`graphdiff.finetune.weighted`).
        alpha: Temperature; the smaller, the further from the base model.
        steps: Steps of the sampler while tuning; ``None`` for those of the model.
        picked: Steps of each chain that a policy gradient is taken at; 0 for all.
        group: Samples that ``"grpo"`` compares with each other; a divisor of the batch.
        repeats: Noise levels that a weighted sample is trained at in each iteration.
    """

    method: Literal["ddpo", "grpo", "wdce", "rwr"] = "wdce"
    alpha: float = 0.1
    steps: int | None = None
    picked: int = 8
    group: int = 8
    repeats: int = 4

    def __post_init__(self) -> None:
        self._require("method", self.method in METHODS, f"one of {', '.join(METHODS)}")
        self._require("alpha", self.alpha > 0, "positive")
        self._require("steps", self.steps is None or self.steps >= 1, "at least 1")
        self._require("picked", self.picked >= 0 and self.picked != 1, "0 (all), or at least 2")
        self._require("group", self.group >= 2, "at least 2")
        self._require("repeats", self.repeats >= 1, "at least 1")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ConfigError(f"tune.{name}: found {getattr(self, name)!r}, expected {expected}")
