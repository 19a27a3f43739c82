"""The kernel of discrete components; see :mod:`graphdiff.core.kernel`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from torch.nn import functional

from graphdiff.core.errors import ArgumentError
from graphdiff.core.kernel_base import Kernel, mismatch
from graphdiff.core.rng import Key
from graphdiff.core.softmax import log_probabilities
from graphdiff.core.space import Space

__all__ = ["Categorical"]


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
            temperature: Small ones approach the categorical law and raise the variance of the
                gradient; 0 takes the gradient of the probabilities, at one-hot values.
            hard: Return one-hot vectors whose gradient is that of the soft ones
                (straight-through). The law of the hard values is exact at any temperature.

        Returns:
            Class weights ``[b, ..., K]``; class 0 at padding and on the diagonal.

        Raises:
            ArgumentError: ``temperature`` is negative.
        """
        return self.place_weights(self.relax(self.gumbel_noise(key), temperature, hard))

    def gumbel_noise(self, key: Key) -> Tensor:
        """Standard Gumbel noise ``[b, size, K]`` for :meth:`relax`, float64."""
        classes = (self._logits if self._weights is None else self._weights).shape[-1]  # type: ignore[union-attr]
        flat = key.uniform(self.noise_size * classes, torch.float64)
        return -torch.log(-torch.log(flat.reshape(len(flat), self.noise_size, classes)))

    def rows(self, rows: slice) -> Categorical:
        """The kernel of some samples."""
        mask = None if self.mask is None else self.mask[rows]
        if self._weights is None:
            return Categorical(self.logits[rows], self.space, mask)
        weights = self._weights[rows]
        return Categorical.of_weights(weights, (len(weights), *self._shape[1:]), self.space, mask)

    def moves(self, noise: Tensor, temperature: float, hard: bool = True) -> Tensor:
        """Draws that are choices to move, and then of a class; see :mod:`graphdiff.core.soft`.

        Args:
            noise: As of :meth:`gumbel_noise`, ``[b, size, K]``.
            temperature: As of :meth:`relaxed`.
            hard: As of :meth:`relaxed`.

        Returns:
            Weights ``[K, b, size, K]``. The batch of this kernel is ``K b``, and its samples from
            ``k b`` on are those of tokens in class ``k``.

        Raises:
            ArgumentError: ``temperature`` is negative.
        """
        free = self._checked_logits(temperature).unflatten(0, (-1, len(noise)))
        return _move_or_stay(free, noise, temperature, hard).to(self._float)

    def relax(self, noise: Tensor, temperature: float, hard: bool = True) -> Tensor:
        r"""As :meth:`relaxed` on the free coordinates, with given noise.

        Noise and weights are ``[b, size, K]``.

        Raises:
            ArgumentError: ``temperature`` is negative.
        """
        free = self._checked_logits(temperature)
        return _relaxed(free, noise, temperature, hard).to(self._float)

    def _checked_logits(self, temperature: float) -> Tensor:
        """Free logits for a relaxed draw, float64."""
        if not temperature >= 0:
            raise ArgumentError(f"temperature must not be negative, found {temperature}")
        # Impossible classes stay finite, and so do gradients.
        return self._free_logits().double().clamp(min=-1e4)

    @property
    def _float(self) -> torch.dtype:
        """Type of the parameters."""
        return self._logits.dtype if self._weights is None else self._weights.dtype  # type: ignore[union-attr]

    def place_weights(self, weights: Tensor) -> Tensor:
        """Weights ``[b, size, K]`` as ``[b, ..., K]``; class 0 where there is no coordinate."""
        placed = self.space.scatter(weights.flatten(1), (*self._shape, weights.shape[-1]))
        if self.mask is not None:
            placed = self.space.apply_mask(placed, self.mask)
        spare = 1 - self._place(torch.ones_like(weights[..., 0]))
        return placed + functional.pad(spare.unsqueeze(-1), (0, weights.shape[-1] - 1))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability of the classes ``x`` int64 ``[b, ...]``, nats, ``[b]``."""
        at = self.space.gather(x).unsqueeze(-1)
        return self._sum(log_probabilities(self._free_logits()).gather(-1, at).squeeze(-1))

    def kl(self, other: Kernel) -> Tensor:
        """KL(self || other), nats, ``[b]``; infinite where ``other`` excludes a possible class."""
        if not isinstance(other, Categorical) or other.space != self.space:
            raise mismatch(self, other)
        return self._sum(self.kl_each(other))

    def kl_each(self, other: Categorical) -> Tensor:
        """Divergence from ``other`` at each free coordinate, nats, ``[b, size]``."""
        log_p = log_probabilities(self._free_logits())
        log_q = log_probabilities(other._free_logits())
        p = log_p.exp()
        # A class of probability 0, or the smallest that weights have, adds nothing, whatever the
        # logarithms are.
        never = p < 1e-30
        gap = log_p.masked_fill(never, 0) - log_q.masked_fill(never, 0)
        return (p * gap).sum(-1)

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

    def _sum(self, flat: Tensor) -> Tensor:
        """Sum ``[b]`` of flat values ``[b, size]`` at the coordinates that are real."""
        return self.space.sum(self.space.scatter(flat, self._shape), self.mask)

    def _place(self, flat: Tensor) -> Tensor:
        """Flat values ``[b, size]`` as a tensor ``[b, ...]`` with zeros at padding."""
        x = self.space.scatter(flat, self.shape)
        return x if self.mask is None else self.space.apply_mask(x, self.mask)


def _relaxed(logits: Tensor, noise: Tensor, temperature: float, hard: bool) -> Tensor:
    """Soft argmax of the noisy logits; one-hot with its gradient if ``hard``."""
    scores = logits + noise
    if not logits.requires_grad and (hard or not temperature):
        return functional.one_hot(scores.argmax(-1), scores.shape[-1]).to(scores)
    weights = torch.softmax(scores / temperature if temperature else logits, -1)
    if temperature and not hard:
        return weights
    one_hot = functional.one_hot(scores.argmax(-1), scores.shape[-1])
    return one_hot + (weights - weights.detach())


def _move_or_stay(logits: Tensor, noise: Tensor, temperature: float, hard: bool) -> Tensor:
    """A choice to leave class ``k`` in row ``k``, and a class to move to, both differentiable.

    Args:
        logits: ``[K, b, size, K]``.
        noise: ``[b, size, K]``.
        temperature: Of the relaxed draws.
        hard: Whether values are one-hot.
    """
    here = torch.eye(len(logits), dtype=torch.bool, device=logits.device)[:, None, None]
    there = logits.masked_fill(here, -torch.inf)
    gone = torch.logsumexp(there, -1)
    # The largest score is this sum and Gumbel noise that is independent of the class.
    drawn = (there + noise).detach().amax(-1) - gone.detach() - noise.movedim(-1, 0)
    odds = gone - logits.diagonal(dim1=0, dim2=-1).movedim(-1, 0)
    move = torch.sigmoid((odds + drawn) / temperature if temperature else odds)
    if hard or not temperature:
        move = (odds.detach() + drawn > 0).to(move) + (move - move.detach())
    away = _relaxed(there, noise, temperature, hard)
    return move.unsqueeze(-1) * away + (1 - move.unsqueeze(-1)) * here
