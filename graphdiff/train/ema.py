"""Exponential moving average of the weights (Polyak averaging).

After each optimiser step ``m <- d m + (1 - d) w``. With warm-up the decay at update ``k`` (from 1)
is ``min(d, (1 + k) / (10 + k))``, as in TensorFlow's ``ExponentialMovingAverage(num_updates)``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from graphdiff.core.errors import CheckpointError

__all__ = ["Ema"]


class Ema:
    """The moving average of the trainable parameters of ``module``.

    Buffers and frozen parameters are not averaged: :meth:`state` takes them from the module.
    """

    def __init__(self, module: nn.Module, decay: float, *, warmup: bool = False) -> None:
        self._module = module
        self._decay = decay
        self._warmup = warmup
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._names = list(trained)
        self._live: list[Tensor] = list(trained.values())
        self._mean = [p.detach().clone() for p in self._live]
        self.updates = 0

    def decay(self) -> float:
        """The decay of the next update."""
        if not self._warmup:
            return self._decay
        k = self.updates + 1
        return min(self._decay, (1 + k) / (10 + k))

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the present weights."""
        torch._foreach_lerp_(self._mean, self._live, 1.0 - self.decay())
        self.updates += 1

    def state(self) -> dict[str, Tensor]:
        """A state dict of the module with averaged in place of live parameters."""
        state = {name: value.detach() for name, value in self._module.state_dict().items()}
        # A parameter that several names share is listed once by named_parameters.
        means = {id(p): m for p, m in zip(self._live, self._mean, strict=True)}
        for name, parameter in self._module.named_parameters(remove_duplicate=False):
            if id(parameter) in means and name in state:
                state[name] = means[id(parameter)]
        return state

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor], updates: int) -> None:
        """Restore an average that :meth:`state` returned.

        Raises:
            CheckpointError: A parameter is missing.
        """
        missing = [name for name in self._names if name not in state]
        if missing:
            raise CheckpointError(
                f"the averaged weights lack {len(missing)} parameters of the network, the first is "
                f"{missing[0]!r}; the checkpoint belongs to another network"
            )
        for name, mean in zip(self._names, self._mean, strict=True):
            mean.copy_(state[name])
        self.updates = updates
