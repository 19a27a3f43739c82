r"""Transition kernels: the law of the next value of a component, given what is known now.

A kernel is the hinge between processes and everything that uses them: samplers call
:meth:`Kernel.sample`, an ELBO is :math:`\mathrm{KL}(q(x_s|x_t,x_0)\,\|\,q(x_s|x_t,\hat x_0))`,
policy gradients need :meth:`Kernel.log_prob`, and direct fine-tuning differentiates
:meth:`Kernel.push` (normal) or :meth:`Categorical.relaxed` (categorical). Densities count each free
coordinate of the space once and padding never.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.core.kernel_base import Kernel, mismatch
from graphdiff.core.kernel_categorical import Categorical
from graphdiff.core.rng import Draw, Key, draw, stream_id
from graphdiff.core.space import Space

__all__ = ["Categorical", "Delta", "Kernel", "Normal", "sample_all"]


def sample_all(kernels: Mapping[str, Kernel], key: Key) -> dict[str, Tensor]:
    """Sample every component on the stream of its name, with one call of the generator.

    Equal to ``kernels[name].sample(key.at(stream=name))`` for each name.

    Raises:
        ArgumentError: Two names share a stream number.
    """
    draws: dict[str, Draw] = {}
    for name, kernel in kernels.items():
        if kernel.noise is not None:
            stream = stream_id(name)
            draws[name] = Draw(kernel.noise_size, kernel.noise, kernel.noise_dtype, stream)
    if len({d.stream for d in draws.values()}) < len(draws):
        raise ArgumentError(
            f"two of the components {', '.join(draws)} have the same stream number, so their "
            "noise would be equal; rename one of them"
        )
    flats = dict(zip(draws, draw(key, list(draws.values())), strict=True))
    return {
        name: kernel.push(flats[name]) if name in flats else kernel.mode
        for name, kernel in kernels.items()
    }


@final
class Normal(Kernel):
    """Isotropic normal noise of standard deviation ``std`` around ``mean``.

    Args:
        mean: Mean ``[b, ...]``, a member of ``space`` (zero at padding).
        std: Standard deviation: a number, one for each sample ``[b]``, or a tensor that
            broadcasts against ``mean``.
        space: Where the free coordinates sit.
        mask: Padding mask, or None.
    """

    noise: ClassVar[Literal["normal", "uniform"] | None] = "normal"

    def __init__(
        self, mean: Tensor, std: float | Tensor, space: Space, mask: Tensor | None
    ) -> None:
        if isinstance(std, Tensor) and std.ndim == 1 and mean.ndim > 1:
            std = std.reshape(-1, *(1,) * (mean.ndim - 1))
        self._mean = mean
        self.std = std
        self.space = space
        self.mask = mask

    @property
    def noise_size(self) -> int:
        """Free coordinates of a sample."""
        return self.space.size(self._mean.shape)

    @property
    def noise_dtype(self) -> torch.dtype:
        """The type of the mean."""
        return self._mean.dtype

    def push(self, flat: Tensor) -> Tensor:
        """``mean + std * noise``."""
        noise = self.space.noise(flat, self._mean.shape, self.mask)
        if isinstance(self.std, Tensor):
            return torch.addcmul(self._mean, noise, self.std.to(noise.dtype))
        return torch.add(self._mean, noise, alpha=self.std)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density on the free coordinates, nats, ``[b]``."""
        std = self._std_like()
        square = self.space.sum(((x - self._mean) / std).square(), self.mask)
        return -0.5 * square - self._sum(std.log() + 0.5 * math.log(2 * math.pi))

    def kl(self, other: Kernel) -> Tensor:
        """KL(self || other), nats, ``[b]``."""
        if not isinstance(other, Normal) or other.space != self.space:
            raise mismatch(self, other)
        mine, theirs = self._std_like(), other._std_like()
        ratio = (mine / theirs).square()
        shift = ((self._mean - other._mean) / theirs).square()
        return 0.5 * (self.space.sum(shift, self.mask) + self._sum(ratio - 1 - ratio.log()))

    @property
    def mean(self) -> Tensor:
        """The mean."""
        return self._mean

    @property
    def mode(self) -> Tensor:
        """The mean."""
        return self._mean

    def _std_like(self) -> Tensor:
        return torch.as_tensor(self.std, dtype=self._mean.dtype, device=self._mean.device)

    def _sum(self, v: Tensor) -> Tensor:
        """Sum over degrees of freedom of ``v``, which may be one number for each sample."""
        shape = self._mean.shape
        if v.ndim and v.numel() > v.shape[0]:
            return self.space.sum(v.expand(shape), self.mask)
        each = v.reshape(-1)
        if self.mask is None:
            return (each * self.space.dimension(shape)).expand(shape[0])
        return each * self.space.count(shape, self.mask)


@final
class Delta(Kernel):
    """A certain value: the step of a deterministic solver."""

    noise: ClassVar[Literal["normal", "uniform"] | None] = None

    def __init__(self, value: Tensor) -> None:
        self.value = value

    @property
    def noise_size(self) -> int:
        """Zero."""
        return 0

    @property
    def noise_dtype(self) -> torch.dtype:
        """float32; nothing is drawn."""
        return torch.float32

    def push(self, flat: Tensor) -> Tensor:
        """The value; ``flat`` ``[b, 0]`` is ignored."""
        return self.value

    def log_prob(self, x: Tensor) -> Tensor:
        """Zero where ``x`` is the value, minus infinity elsewhere, ``[b]``."""
        same = (x == self.value).flatten(1).all(1)
        return torch.where(same, 0.0, -torch.inf)

    def kl(self, other: Kernel) -> Tensor:
        """Zero for the same value, infinite for another, ``[b]``."""
        if not isinstance(other, Delta):
            raise mismatch(self, other)
        return -self.log_prob(other.value)

    @property
    def mean(self) -> Tensor:
        """The value."""
        return self.value

    @property
    def mode(self) -> Tensor:
        """The value."""
        return self.value
