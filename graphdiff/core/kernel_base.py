"""What a transition kernel is; see :mod:`graphdiff.core.kernel`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.core.rng import Draw, Key, draw

__all__ = ["Kernel"]


class Kernel(ABC):
    """A law of one component that factorises over the free coordinates of its space.

    Attributes:
        noise: Kind of noise that :meth:`push` transforms, None for a deterministic kernel.
        noise_size: Numbers of noise for each sample.
        noise_dtype: Floating type of the noise.
    """

    noise: ClassVar[Literal["normal", "uniform"] | None]

    @property
    @abstractmethod
    def noise_size(self) -> int:
        """Numbers of noise for each sample."""

    @property
    @abstractmethod
    def noise_dtype(self) -> torch.dtype:
        """Floating type of the noise."""

    @abstractmethod
    def push(self, flat: Tensor) -> Tensor:
        """The value that flat noise ``[b, noise_size]`` stands for, differentiable if it can be."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density (or log-probability) of ``x``, nats, ``[b]``."""

    @abstractmethod
    def kl(self, other: Kernel) -> Tensor:
        """Divergence KL(self || other) in nats, ``[b]``; exact.

        Raises:
            ArgumentError: The kernels are of different families or spaces.
        """

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """The expectation (class probabilities of a categorical kernel)."""

    @property
    @abstractmethod
    def mode(self) -> Tensor:
        """The most probable value."""

    @final
    def sample(self, key: Key) -> Tensor:
        """A draw; element ``b`` depends on ``(seed, ids[b], step, stream)`` of ``key`` only."""
        if self.noise is None:
            return self.mode
        return self.push(draw(key, [Draw(self.noise_size, self.noise, self.noise_dtype)])[0])


def mismatch(mine: Kernel, other: Kernel) -> ArgumentError:
    """The error for kernels of different families or spaces."""

    def name(kernel: Kernel) -> str:
        return f"{type(kernel).__name__} on {getattr(kernel, 'space', 'no space')}"

    return ArgumentError(
        f"no divergence from {name(mine)} to {name(other)}: both kernels must be of one family on "
        "one space; compare steps of the same solver of the same process"
    )
