"""Learning-rate schedules, as pure functions of the step.

A rate is computed from the step number alone, so a resumed run needs no scheduler state. With
warm-up ``w`` steps, total ``T`` steps and peak rate ``r``, step ``k = 0 … T-1`` uses::

    constant      r
    exponential   r * gamma**epoch(k)
    cosine        r * (f + (1 - f) * (1 + cos(pi * u)) / 2),   u = (k - w) / (T - w)

each multiplied by ``min(1, (k + 1) / w)``. Cosine follows Loshchilov and Hutter, "SGDR" (2017),
equation 5, without restarts and with a final fraction ``f``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphdiff.train.config import TrainConfig

__all__ = ["learning_rate"]


def learning_rate(config: TrainConfig, step: int, *, epoch: int, total: int) -> float:
    """The learning rate of ``step`` in ``epoch`` (both from 0) of a run of ``total`` steps."""
    warmup = config.warmup_steps
    factor = min(1.0, (step + 1) / warmup) if warmup else 1.0
    if config.lr_schedule == "exponential":
        factor *= config.lr_gamma**epoch
    elif config.lr_schedule == "cosine":
        progress = min(1.0, max(0, step - warmup) / max(1, total - warmup))
        cosine = (1.0 + math.cos(math.pi * progress)) / 2.0
        factor *= config.lr_final + (1.0 - config.lr_final) * cosine
    return config.lr * factor
