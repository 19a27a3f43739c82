r"""Transition kernels: the law of the next value of a component, given what is known now.

A kernel is the hinge between processes and everything that uses them: samplers call
:meth:`Kernel.sample`, an ELBO is :math:`\mathrm{KL}(q(x_s|x_t,x_0)\,\|\,q(x_s|x_t,\hat x_0))`,
policy gradients need :meth:`Kernel.log_prob`, and direct fine-tuning differentiates
:meth:`Kernel.push` (normal) or :meth:`Categorical.relaxed` (categorical). Densities count each free
coordinate of the space once and padding never.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from torch.nn import functional

from graphdiff.core.errors import ArgumentError
from graphdiff.core.rng import Draw, Key, draw, stream_id
from graphdiff.core.space import Space

__all__ = ["Categorical", "Delta", "Kernel", "Normal", "sample_all"]


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
            raise _mismatch(self, other)
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
class Categorical(Kernel):
    """Independent classes, one for each free coordinate.

    Args:
        logits: Unnormalised log-probabilities ``[b, ..., K]``; ``-inf`` excludes a class. On a
            symmetric space the entries above the diagonal count.
        space: Where the free coordinates of the values ``[b, ...]`` sit.
        mask: Padding mask, or None. Padding and the diagonal take class 0.
    """

    noise: ClassVar[Literal["normal", "uniform"] | None] = "uniform"

    def __init__(self, logits: Tensor, space: Space, mask: Tensor | None) -> None:
        self._logits: Tensor | None = logits
        self._weights: Tensor | None = None
        self._shape = logits.shape[:-1]
        self.space = space
        self.mask = mask

    @classmethod
    def of_weights(
        cls, weights: Tensor, shape: Sequence[int], space: Space, mask: Tensor | None
    ) -> Categorical:
        """The law of values of ``shape``, given on their free coordinates.

        A step of a sampler knows probabilities, not logarithms, and half of a symmetric matrix
        stands for the whole; a draw then needs neither logarithm, exponential nor full tensor.

        Args:
            weights: Probabilities up to a factor, ``[b, size, K]``, not negative.
            shape: Shape of the values ``[b, ...]``, of which ``space`` counts ``size`` as free.
            space: Where the free coordinates of the values sit.
            mask: Padding mask, or None.
        """
        kernel = cls.__new__(cls)
        kernel._logits, kernel._weights, kernel._shape = None, weights, torch.Size(shape)
        kernel.space, kernel.mask = space, mask
        return kernel

    @property
    def logits(self) -> Tensor:
        """Unnormalised log-probabilities ``[b, ..., K]``; finite if made from weights."""
        if self._logits is None:
            free = self._free_logits()
            self._logits = self.space.scatter(free.flatten(1), (*self._shape, free.shape[-1]))
        return self._logits

    @property
    def shape(self) -> torch.Size:
        """Shape of the values, ``[b, ...]``."""
        return self._shape

    @property
    def noise_size(self) -> int:
        """Free coordinates of a sample: half of a symmetric matrix."""
        return self.space.size(self.shape)

    @property
    def noise_dtype(self) -> torch.dtype:
        """float64: float32 noise cannot reach rare classes and so lowers the temperature."""
        return torch.float64

    def push(self, flat: Tensor) -> Tensor:
        """Inverse cumulative distribution in float64; int64 values ``[b, ...]``."""
        cdf = self._free_weights().cumsum(-1, dtype=torch.float64)
        # u < 1 strictly, so the count stays below K and classes of probability 0 are skipped.
        level = flat.double().unsqueeze(-1) * cdf[..., -1:]
        return self._place((cdf <= level).sum(-1))

    def relaxed(self, key: Key, temperature: float, hard: bool = True) -> Tensor:
        """A differentiable draw by the Gumbel-max trick (Jang et al., 2017, arXiv 1611.01144).

        Args:
            key: Stream of the noise; a relaxed draw differs from :meth:`sample` of the same key.
            temperature: Above 0; small ones approach the categorical law and raise the variance
                of the gradient.
            hard: Return one-hot vectors whose gradient is that of the soft ones
                (straight-through). The law of the hard values is exact at any temperature.

        Returns:
            Class weights ``[b, ..., K]``; class 0 at padding and on the diagonal.

        Raises:
            ArgumentError: ``temperature`` is not positive.
        """
        if not temperature > 0:
            raise ArgumentError(f"temperature must be positive, found {temperature}")
        free = self._free_logits()
        classes = free.shape[-1]
        uniform = key.uniform(self.noise_size * classes, torch.float64).reshape(free.shape)
        scores = free.double() - torch.log(-torch.log(uniform))
        weights = torch.softmax(scores / temperature, -1)
        if hard:
            one_hot = functional.one_hot(scores.argmax(-1), classes)
            weights = one_hot + (weights - weights.detach())
        weights = weights.to(self.logits.dtype)
        placed = torch.stack([self._place(w) for w in weights.unbind(-1)], -1)
        # The places without a coordinate are zero vectors now; they are class 0.
        spare = 1 - self._place(torch.ones_like(weights[..., 0]))
        return placed + functional.pad(spare.unsqueeze(-1), (0, classes - 1))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability of the classes ``x`` int64 ``[b, ...]``, nats, ``[b]``."""
        each = torch.log_softmax(self.logits, -1).gather(-1, x.unsqueeze(-1)).squeeze(-1)
        return self.space.sum(each, self.mask)

    def kl(self, other: Kernel) -> Tensor:
        """KL(self || other), nats, ``[b]``; infinite where ``other`` excludes a possible class."""
        if not isinstance(other, Categorical) or other.space != self.space:
            raise _mismatch(self, other)
        log_p = torch.log_softmax(self.logits, -1)
        log_q = torch.log_softmax(other.logits, -1)
        p = log_p.exp()
        # A class of probability 0, or the smallest that weights have, adds nothing, whatever the
        # logarithms are.
        never = p < 1e-30
        gap = log_p.masked_fill(never, 0) - log_q.masked_fill(never, 0)
        return self.space.sum((p * gap).sum(-1), self.mask)

    @property
    def mean(self) -> Tensor:
        """Class probabilities ``[b, ..., K]``, also at padding."""
        return torch.softmax(self.logits, -1)

    @property
    def mode(self) -> Tensor:
        """The most probable class, int64 ``[b, ...]``."""
        return self._place(self._free_logits().argmax(-1))

    def _free_logits(self) -> Tensor:
        """Logits of the free coordinates, ``[b, size, K]``."""
        if self._weights is not None:
            # What underflows stays finite, and so do divergences and gradients.
            return self._weights.clamp(min=torch.finfo(self._weights.dtype).tiny).log()
        flat = self.space.gather(self.logits)
        return flat.reshape(len(flat), self.noise_size, self.logits.shape[-1])

    def _free_weights(self) -> Tensor:
        """Probabilities of the free coordinates up to a factor, ``[b, size, K]``."""
        if self._weights is not None:
            return self._weights
        # A softmax over few classes costs several times its exponentials, and the factor is free.
        free = self._free_logits().double()
        return (free - free.amax(-1, keepdim=True)).exp()

    def _place(self, flat: Tensor) -> Tensor:
        """Flat values ``[b, size]`` as a tensor ``[b, ...]`` with zeros at padding."""
        x = self.space.scatter(flat, self.shape)
        return x if self.mask is None else self.space.apply_mask(x, self.mask)


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
            raise _mismatch(self, other)
        return -self.log_prob(other.value)

    @property
    def mean(self) -> Tensor:
        """The value."""
        return self.value

    @property
    def mode(self) -> Tensor:
        """The value."""
        return self.value


def _mismatch(mine: Kernel, other: Kernel) -> ArgumentError:
    def name(kernel: Kernel) -> str:
        return f"{type(kernel).__name__} on {getattr(kernel, 'space', 'no space')}"

    return ArgumentError(
        f"no divergence from {name(mine)} to {name(other)}: both kernels must be of one family on "
        "one space; compare steps of the same solver of the same process"
    )
