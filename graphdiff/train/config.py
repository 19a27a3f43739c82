"""How a model is trained: :class:`TrainConfig`, the ``[train]`` table of a configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from graphdiff.core.errors import ConfigError

__all__ = ["TrainConfig"]


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation, logging and checkpoints of one training run.

    Attributes:
        steps: Number of optimiser steps; give this or ``epochs``.
        epochs: Number of passes over the training set; the last batch of a pass may be smaller.
        batch_size: Examples of one optimiser step, over all processes. A batch larger than the
            training set is the whole set.
        optimizer: ``"adam"``, or ``"adamw"`` (decoupled weight decay).
        lr: Peak learning rate.
        weight_decay: L2 penalty of Adam, or decay rate of AdamW.
        betas: Adam's decay rates of the first and second moment.
        eps: Adam's denominator offset.
        amsgrad: Use the running maximum of the second moment.
        lr_schedule: ``"constant"``, ``"exponential"`` (times ``lr_gamma`` each epoch) or
            ``"cosine"`` (down to ``lr_final`` times ``lr``).
        lr_gamma: Factor per epoch of the exponential schedule.
        lr_final: Final fraction of the cosine schedule.
        warmup_steps: Steps of linear warm-up, for any schedule.
        ema: Decay of the moving average of the weights; ``None`` or 0 keeps none.
        ema_warmup: Use ``min(ema, (1 + k) / (10 + k))`` at update ``k``, so that early averages
            forget the initialisation.
        clip: Largest gradient norm of each named parameter group; ``None`` only measures it.
        seed: Seed of the order of examples and of the training noise.
        log_every: Steps between log records; losses are checked then.
        checkpoint_every: Steps between checkpoints; the last step always has one.
        keep: Newest checkpoints that are kept.
        mixed_precision: ``"no"``, or ``"bf16"`` (autocast; weights and optimiser stay float32).
        accumulate: Parts in which a process computes its share of a batch, to save memory; it
            does not change what is computed.
        max_loss_factor: Stop when the loss of a component grows beyond this many times its running
            average; ``None`` stops only when it is not finite.
        compile: Compile the network with ``torch.compile``.
        threads: CPU threads of torch; ``None`` leaves torch's choice.
    """

    steps: int | None = None
    epochs: int | None = None
    batch_size: int = 128
    optimizer: Literal["adam", "adamw"] = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    amsgrad: bool = False
    lr_schedule: Literal["constant", "exponential", "cosine"] = "constant"
    lr_gamma: float = 0.999
    lr_final: float = 0.0
    warmup_steps: int = 0
    ema: float | None = 0.999
    ema_warmup: bool = False
    clip: float | None = None
    seed: int = 0
    log_every: int = 50
    checkpoint_every: int = 1000
    keep: int = 2
    mixed_precision: Literal["no", "bf16"] = "no"
    accumulate: int = 1
    max_loss_factor: float | None = 1000.0
    compile: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: A value is out of its range, or not exactly one of steps and epochs is set.
        """
        if (self.steps is None) == (self.epochs is None):
            found = "neither" if self.steps is None else "both"
            raise ConfigError(
                f"train: found {found} of `steps` and `epochs`, expected exactly one of them; "
                "set the length of the training by one of the two"
            )
        for name in ("steps", "epochs", "threads"):
            if getattr(self, name) is not None:
                self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("batch_size", "log_every", "checkpoint_every", "keep", "accumulate"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("weight_decay", "warmup_steps"):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        self._require("lr", 0 < self.lr < math.inf, "positive and finite")
        self._require("eps", 0 < self.eps < math.inf, "positive and finite")
        self._require("betas", all(0 <= b < 1 for b in self.betas), "two numbers in [0, 1)")
        self._require("lr_gamma", 0 < self.lr_gamma <= 1, "in (0, 1]")
        self._require("lr_final", 0 <= self.lr_final <= 1, "in [0, 1]")
        self._require("ema", self.ema is None or 0 <= self.ema < 1, "in [0, 1)")
        self._require("clip", self.clip is None or self.clip > 0, "positive")
        self._require("seed", 0 <= self.seed < 2**63, "in [0, 2**63)")
        factor = self.max_loss_factor
        self._require("max_loss_factor", factor is None or factor > 1, "above 1")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ConfigError(
                f"train.{name}: found {getattr(self, name)!r}, expected a value that is {expected}"
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, where: str = "train") -> TrainConfig:
        """Validate the ``[train]`` table.

        Raises:
            ConfigError: With the full path of the key that is unknown or wrong.
        """
        from graphdiff.config import validate

        return validate(cls, config, where=where)

    def to_config(self) -> dict[str, Any]:
        """The plain mapping that :meth:`from_config` accepts."""
        return {**asdict(self), "betas": list(self.betas)}
