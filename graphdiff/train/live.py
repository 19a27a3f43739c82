"""The moving parts of one training run: network, optimiser, averages, and where it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import Parameter

from graphdiff.core.errors import CheckpointError, ConfigError
from graphdiff.train.config import TrainConfig
from graphdiff.train.ema import Ema

if TYPE_CHECKING:
    from graphdiff.core.denoiser import Denoiser
    from graphdiff.task import Data, Task
    from graphdiff.train.engine import Engine

__all__ = ["Live"]


@dataclass
class Live:
    """A training as it runs; everything that a checkpoint holds.

    Attributes:
        task: The task as it goes into the card.
        config: How it is trained.
        out: Folder of the run.
        total: Steps of the whole training.
        fingerprint: What it is trained on.
        denoiser: The network.
        groups: Its trainable parameters, by name of group.
        optimizer: One optimiser over all groups.
        ema: Averaged weights, if they are kept.
        step: Steps made.
        averages: Running mean of the absolute loss of each component.
        seconds: Time spent in steps, over all sittings.
    """

    task: Task
    config: TrainConfig
    out: Path
    total: int
    fingerprint: Mapping[str, Any]
    denoiser: Denoiser
    groups: dict[str, list[Parameter]]
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    step: int = 0
    averages: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def build(
        cls,
        task: Task,
        config: TrainConfig,
        out: Path,
        data: Data,
        total: int,
        engine: Engine,
        init: str | Path | None = None,
    ) -> Live:
        """A run at step 0 of a task that was prepared from ``data``.

        Raises:
            ConfigError: The groups of the task do not cover each trainable parameter once.
            CheckpointError: The weights of ``init`` do not fit the network.
        """
        denoiser = task.build()
        if init is not None:
            _start_from(denoiser, init)
        engine.prepare(denoiser)
        groups = task.groups(denoiser)
        _check_groups(denoiser, groups)
        if config.compile:
            denoiser.compile()
        return cls(
            task=task,
            config=config,
            out=out,
            total=total,
            fingerprint=data.fingerprint(),
            denoiser=denoiser,
            groups=groups,
            optimizer=_optimizer(config, groups, engine.device),
            ema=Ema(denoiser, config.ema, warmup=config.ema_warmup) if config.ema else None,
        )

    @property
    def parameters(self) -> list[Parameter]:
        """All trainable parameters, group by group."""
        return [parameter for group in self.groups.values() for parameter in group]


def _start_from(denoiser: Denoiser, init: str | Path) -> None:
    """Load the weights of another model into a fresh network."""
    from graphdiff.model import find
    from graphdiff.train.checkpoint import load_weights

    path = find(init)
    try:
        denoiser.load_state_dict(load_weights(path, which="best"))
    except RuntimeError as error:
        raise CheckpointError(
            f"the weights of {path} do not fit the network of this config "
            f"({' '.join(str(error).split())}); take its [model], [noise] and classes from the "
            "card of that model, or leave init away to train from scratch"
        ) from error


def _optimizer(
    config: TrainConfig, groups: Mapping[str, Sequence[Parameter]], device: torch.device
) -> torch.optim.Optimizer:
    """One Adam over all groups: it keeps no state across parameters, so it equals one per group."""
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(
        [{"params": list(parameters)} for parameters in groups.values()],
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        amsgrad=config.amsgrad,
        # One kernel for all parameters: small networks spend most of a step in Python otherwise.
        fused=device.type in ("cpu", "cuda"),
    )


def _check_groups(denoiser: Denoiser, groups: Mapping[str, Sequence[Parameter]]) -> None:
    """Every trainable parameter must be in exactly one group."""
    if not any(groups.values()):
        raise ConfigError("the task names no parameters to train; expected at least one group")
    seen: dict[int, str] = {}
    for group, parameters in groups.items():
        for parameter in parameters:
            if id(parameter) in seen:
                raise ConfigError(
                    f"a parameter is in the groups {seen[id(parameter)]!r} and {group!r} of the "
                    "task; expected each parameter once"
                )
            seen[id(parameter)] = group
    lost = [n for n, p in denoiser.named_parameters() if p.requires_grad and id(p) not in seen]
    if lost:
        raise ConfigError(
            f"{len(lost)} trainable parameters are in no group of the task, the first is "
            f"{lost[0]!r}; freeze them or add them to a group"
        )
