"""Where a training runs: one process, or the processes that ``torchrun`` started.

The trainer needs a device, autocast, and three collective operations. With one process these are
plain torch and cost nothing. With several, ``accelerate`` sets up the process group and the device
of each rank. The network is not wrapped: a task may call any part of its denoiser. Each rank
computes ``sum(loss) / global batch``, so the gradients summed over the ranks, in one buffer once a
step, are the gradient of the mean over the global batch, whatever the sizes of the shares.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

__all__ = ["Engine", "LocalEngine", "RankEngine", "make_engine"]


class Engine(ABC):
    """A device and the processes that share the work."""

    device: torch.device
    rank: int
    world: int

    @property
    def main(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This rank's contiguous share of ``count`` examples; shares differ by at most one."""
        return slice(count * self.rank // self.world, count * (self.rank + 1) // self.world)

    def seed(self, number: int) -> None:
        """Seed torch's generator; torch.manual_seed would note a traceback for every backend."""
        torch.default_generator.manual_seed(number)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(number)

    @abstractmethod
    def autocast(self) -> AbstractContextManager[Any]:
        """The precision in which losses are computed."""

    @abstractmethod
    def prepare(self, module: nn.Module) -> nn.Module:
        """Move ``module`` to the device; give every rank the weights of rank 0."""

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Add the gradient of ``loss`` to the parameters."""

    @abstractmethod
    def reduce_gradients(self, parameters: Sequence[Parameter]) -> None:
        """Replace each gradient by its sum over the ranks."""

    @abstractmethod
    def sum(self, value: Tensor) -> Tensor:
        """Sum over the ranks."""

    @abstractmethod
    def wait(self) -> None:
        """Return when every rank has come here."""


class LocalEngine(Engine):
    """One process."""

    def __init__(self, device: torch.device, mixed_precision: str = "no") -> None:
        self.device = device
        self.rank, self.world = 0, 1
        self._bf16 = mixed_precision == "bf16"

    def autocast(self) -> AbstractContextManager[Any]:  # noqa: D102
        if self._bf16:
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def prepare(self, module: nn.Module) -> nn.Module:  # noqa: D102
        return module.to(self.device)

    def backward(self, loss: Tensor) -> None:  # noqa: D102
        loss.backward()

    def reduce_gradients(self, parameters: Sequence[Parameter]) -> None:  # noqa: D102
        pass

    def sum(self, value: Tensor) -> Tensor:  # noqa: D102
        return value

    def wait(self) -> None:  # noqa: D102
        return


class RankEngine(Engine):
    """One of several processes, through ``accelerate``."""

    def __init__(self, device: torch.device | None, mixed_precision: str = "no") -> None:
        from accelerate import Accelerator

        cpu = device is not None and device.type == "cpu"
        self._accelerator = Accelerator(cpu=cpu, mixed_precision=mixed_precision)
        self.device = self._accelerator.device
        self.rank = self._accelerator.process_index
        self.world = self._accelerator.num_processes

    def autocast(self) -> AbstractContextManager[Any]:  # noqa: D102
        return self._accelerator.autocast()  # type: ignore[no-any-return]

    def prepare(self, module: nn.Module) -> nn.Module:  # noqa: D102
        from accelerate.utils import broadcast

        module = module.to(self.device)
        for tensor in module.state_dict().values():
            tensor.copy_(broadcast(tensor.detach().clone(), from_process=0))
        return module

    def backward(self, loss: Tensor) -> None:  # noqa: D102
        self._accelerator.backward(loss)

    def reduce_gradients(self, parameters: Sequence[Parameter]) -> None:  # noqa: D102
        for unused in (p for p in parameters if p.grad is None):
            unused.grad = torch.zeros_like(unused)
        gradients = [p.grad for p in parameters if p.grad is not None]
        total = self.sum(torch.cat([g.reshape(-1) for g in gradients]))
        parts = total.split([g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def sum(self, value: Tensor) -> Tensor:  # noqa: D102
        return self._accelerator.reduce(value, reduction="sum")  # type: ignore[no-any-return]

    def wait(self) -> None:  # noqa: D102
        self._accelerator.wait_for_everyone()


def make_engine(device: str | torch.device | None = None, mixed_precision: str = "no") -> Engine:
    """One rank of several if ``torchrun`` started this process; by default on a GPU if any."""
    chosen = None if device is None else torch.device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return RankEngine(chosen, mixed_precision)
    if chosen is None:
        chosen = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return LocalEngine(chosen, mixed_precision)
