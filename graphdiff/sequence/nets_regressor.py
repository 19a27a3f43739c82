r"""A network that reads properties of a sequence: convolutions, pooling, a small MLP.

A sequence is a table of class weights :math:`w \in [0, 1]^{L \times K}` (one-hot, or soft while a
tuner differentiates through it). One convolution finds words, a learned vector says where they
stand, residual dilated convolutions

.. math:: h \leftarrow h + W_2\, \mathrm{ReLU}(W_1 *_d \mathrm{LayerNorm}(h))

join words over a distance, and the mean and the maximum over the real positions go into an MLP.
What lies on padding is set to zero before every convolution, as it is beyond the ends, so that
padding changes nothing. Positions are counted along the real tokens.

With ``strands`` the answer is the mean over a double strand read in both directions, so that a
sequence and its reverse complement have exactly equal properties.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphdiff.core.errors import ArgumentError

__all__ = ["PropertyNetwork", "class_weights", "reverse_complement"]


def class_weights(
    tokens: Tensor, classes: int, mask: Tensor | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Class weights ``[b, L, classes]`` of tokens; zero where padded and where nothing is known.

    Args:
        tokens: Classes int64 ``[b, L]``, where class ``classes`` is the mask of an absorbing
            process, or floating class weights ``[b, L, classes]`` or ``[b, L, classes + 1]``,
            whose last column is the mask's and is dropped. Gradients flow through weights.
        classes: Letters of the alphabet.
        mask: True where real, ``[b, L]``; None if nothing is padded.
        dtype: Type of the weights that are made of classes.

    Raises:
        ArgumentError: Another shape or dtype, or a class beyond these.
    """
    if mask is not None and mask.shape != tokens.shape[:2]:
        raise ArgumentError(
            f"the mask has shape {list(mask.shape)}, but the tokens {list(tokens.shape)}; expected "
            "[b, L] of the tokens"
        )
    if tokens.ndim == 2 and tokens.dtype == torch.int64:
        real = tokens if mask is None else tokens.masked_fill(~mask, 0)
        if real.numel() and not 0 <= int(real.min()) <= int(real.max()) <= classes:
            raise ArgumentError(
                f"tokens lie between {int(real.min())} and {int(real.max())}, expected 0 to "
                f"{classes - 1} (or {classes} for the mask): they are of another alphabet"
            )
        weights = F.one_hot(real, classes + 1)[..., :classes].to(dtype)
    elif tokens.ndim == 3 and tokens.is_floating_point():
        if tokens.shape[-1] not in (classes, classes + 1):
            raise ArgumentError(
                f"class weights have {tokens.shape[-1]} columns, expected {classes} (or "
                f"{classes + 1} with the mask): they are of another alphabet"
            )
        weights = tokens[..., :classes]
    else:
        raise ArgumentError(
            f"tokens are {tokens.dtype} of shape {list(tokens.shape)}, expected int64 [b, L] or "
            f"floating class weights [b, L, {classes}]"
        )
    if mask is None:
        return weights
    return weights.masked_fill(~mask.unsqueeze(-1), 0.0)


def reverse_complement(weights: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The other strand of ``weights`` ``[b, L, 4]`` with its mask; padding moves to the front.

    The letters ``ACGT`` and ``ACGU`` are ordered so that a base and its complement stand at
    mirrored places.
    """
    return weights.flip(1, 2), mask.flip(1)


class _Block(nn.Module):
    """A residual dilated convolution."""

    def __init__(self, width: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        pad = dilation * (kernel // 2)
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, kernel, padding=pad, dilation=dilation)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, real: Tensor) -> Tensor:
        """``h`` ``[b, L, width]`` and where it is real, ``[b, L, 1]``."""
        x = self.norm(h) * real
        x = self.conv(x.transpose(1, 2)).transpose(1, 2)
        return h + self.out(self.dropout(F.relu(x))) * real


class PropertyNetwork(nn.Module):
    """See the module docstring; called as a :class:`graphdiff.core.denoiser.Denoiser` calls.

    Args:
        classes: Letters of the alphabet.
        mean: Mean of each target over the training set.
        std: Its standard deviation; the answer is ``mean + std * MLP``.
        length: Longest sequence; 0 reads any length and does not know positions.
        width: Channels.
        kernel: Width of the convolutions, odd.
        dilations: Dilation of each residual block.
        hidden: Width of the MLP.
        dropout: Share of the features that training drops.
        strands: Average over both strands (DNA and RNA).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        length: int = 0,
        width: int = 64,
        kernel: int = 9,
        dilations: Sequence[int] = (1, 2, 4),
        hidden: int = 128,
        dropout: float = 0.1,
        strands: bool = False,
    ) -> None:
        super().__init__()
        self.classes, self.length, self.strands = classes, length, strands
        self.stem = nn.Conv1d(classes, width, kernel, padding=kernel // 2)
        self.place = nn.Embedding(length, width) if length else None
        if self.place is not None:
            nn.init.normal_(self.place.weight, std=0.02)
        self.blocks = nn.ModuleList(_Block(width, kernel, d, dropout) for d in dilations)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(
            nn.Linear(2 * width, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, len(mean)),
        )
        # Facts of the config, not weights: a model that starts from another's keeps its own.
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32), persistent=False)

    def forward(
        self, values: Mapping[str, Tensor], label: Tensor, masks: Mapping[str, Tensor], cond: Any
    ) -> dict[str, Tensor]:
        """Targets ``y`` ``[b, targets]``.

        Args:
            values: Not read: at clock 1 the noisy targets say nothing.
            label: Not read.
            masks: ``tokens``: True where real, ``[b, L]``; absent if nothing is padded.
            cond: The tokens, as :func:`class_weights` takes them.

        Raises:
            ArgumentError: Tokens of another alphabet, or longer than ``length``.
        """
        mask = masks.get("tokens")
        weights = class_weights(cond, self.classes, mask, self.stem.weight.dtype)
        real = weights.new_ones(weights.shape[:2], dtype=torch.bool) if mask is None else mask
        if self.strands:
            other, there = reverse_complement(weights, real)
            weights, real = torch.cat([weights, other]), torch.cat([real, there])
        out = self.read(weights.to(self.stem.weight.dtype), real)
        if self.strands:
            out = torch.stack(out.chunk(2)).mean(0)
        return {"y": self.mean + self.std * out}

    def read(self, weights: Tensor, mask: Tensor) -> Tensor:
        """Standardised targets ``[b, targets]`` of one strand."""
        real = mask.unsqueeze(-1).to(weights.dtype)
        h = F.relu(self.stem(weights.transpose(1, 2)).transpose(1, 2))
        if self.place is not None:
            count = mask.long().cumsum(1)
            # The shape is looked at first: a value would make the host wait for the device.
            if mask.shape[1] > self.length and int(count.max()) > self.length:
                raise ArgumentError(
                    f"a sequence has {int(count.max())} letters, more than the {self.length} that "
                    "this model was made for; set data.length and train again, or model.positions "
                    "= false for any length"
                )
            h = h + self.place((count - 1).clamp(min=0, max=self.length - 1))
        h = h * real
        for block in self.blocks:
            h = block(h, real)
        h = self.norm(h)
        mean = (h * real).sum(1) / real.sum(1).clamp(min=1)
        top = h.masked_fill(~mask.unsqueeze(-1), torch.finfo(h.dtype).min).amax(1)
        out: Tensor = self.head(torch.cat([mean, top], dim=1))
        return out
