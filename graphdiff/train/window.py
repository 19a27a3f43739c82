"""The losses between two log records, kept on the device until the record is due."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from graphdiff.train.engine import Engine

__all__ = ["Record", "Window"]

MEMORY = 0.9  # of the running average of a component's loss, per record


@dataclass(frozen=True)
class Record:
    """What happened between two log records; losses are means over steps."""

    steps: int
    examples: int
    epoch: int
    lr: float
    seconds: float
    losses: dict[str, float]
    norms: dict[str, float]
    batches: list[dict[str, Any]]

    def problem(self, averages: dict[str, float], factor: float | None) -> str | None:
        """What is wrong with the losses, naming step, component and examples; ``None`` if nothing.

        ``averages`` are running means of the absolute losses of earlier records.
        """
        for batch in self.batches:
            place = f"at step {batch['step']} (examples {_some(batch['examples'])})"
            losses, norms = batch["loss"], batch["grad_norm"]
            if bad := [name for name, value in losses.items() if not math.isfinite(value)]:
                return (
                    f"the loss of component {_names(bad)} {place} is {losses[bad[0]]}, "
                    "expected a finite number"
                )
            for name, value in losses.items():
                usual = averages.get(name)
                if factor is not None and usual and abs(value) > factor * usual:
                    return (
                        f"the loss of component {name!r} {place} is {value:.4g}, more than "
                        f"train.max_loss_factor={factor:g} times its average {usual:.4g}"
                    )
            if bad := [name for name, value in norms.items() if not math.isfinite(value)]:
                return (
                    f"the gradient norm of group {_names(bad)} {place} is {norms[bad[0]]}, "
                    "expected a finite number"
                )
        return None

    def update(self, averages: dict[str, float]) -> None:
        """Move the running means."""
        for name, value in self.losses.items():
            old = averages.get(name, abs(value))
            averages[name] = MEMORY * old + (1 - MEMORY) * abs(value)


class Window:
    """Collects steps; nothing is copied from the device before :meth:`close`."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._began = time.perf_counter()
        self._losses: list[dict[str, Tensor]] = []
        self._norms: list[dict[str, Tensor]] = []
        self._index: list[Tensor] = []
        self._lr = 0.0
        self._epoch = 0

    def add(
        self,
        losses: dict[str, Tensor],
        norms: dict[str, Tensor],
        index: Tensor,
        lr: float,
        epoch: int,
    ) -> None:
        """Add one step: this rank's part of the mean losses, and what the batch was."""
        self._losses.append(losses)
        self._norms.append(norms)
        self._index.append(index)
        self._lr, self._epoch = lr, epoch

    def close(self, engine: Engine) -> Record:
        """Read everything (one synchronisation) and sum the losses over the ranks."""
        losses, names = engine.sum(_table(self._losses)).double().cpu(), list(self._losses[0])
        norms, groups = _table(self._norms).double().cpu(), list(self._norms[0])
        seconds = time.perf_counter() - self._began
        batches = [
            {
                "step": self._first + place + 1,
                "examples": index.tolist(),
                "loss": dict(zip(names, loss, strict=True)),
                "grad_norm": dict(zip(groups, norm, strict=True)),
            }
            for place, (index, loss, norm) in enumerate(
                zip(self._index, losses.tolist(), norms.tolist(), strict=True)
            )
        ]
        return Record(
            steps=len(batches),
            examples=sum(len(index) for index in self._index),
            epoch=self._epoch,
            lr=self._lr,
            seconds=seconds,
            losses=dict(zip(names, losses.mean(0).tolist(), strict=True)),
            norms=dict(zip(groups, norms.mean(0).tolist(), strict=True)),
            batches=batches,
        )


def _table(rows: list[dict[str, Tensor]]) -> Tensor:
    """Scalars by step and name, ``[steps, names]``."""
    return torch.stack([torch.stack([row[name] for name in rows[0]]) for row in rows])


def _names(names: list[str]) -> str:
    return " and ".join(map(repr, names))


def _some(ids: list[int], count: int = 8) -> str:
    shown = ", ".join(map(str, ids[:count]))
    return f"{shown} and {len(ids) - count} more" if len(ids) > count else shown
