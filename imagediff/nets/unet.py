r"""A small class-conditional UNet for pixel images.

Two resolutions. Each residual block computes

.. math:: h \leftarrow h' + \mathrm{conv}\,\bigl(\mathrm{silu}\bigl(
          (1 + \gamma(e))\, \mathrm{norm}(\mathrm{conv}(\mathrm{silu}(\mathrm{norm}(h))))
          + \beta(e)\bigr)\bigr)

where :math:`e` embeds the noise level and the class, :math:`\gamma, \beta` are linear in it
(FiLM) and :math:`h'` is :math:`h`, through a 1x1 convolution where the width changes. The lowest
resolution adds self-attention. The last convolution of every residual branch and of the network
starts at zero, so a fresh network answers zero and a fresh block is the identity.

The noise level enters as the log signal-to-noise ratio :math:`\lambda`, divided by 4: a number of
order one for every schedule, hence one network for variance-preserving and -exploding processes.

References:
    Ronneberger et al., *U-Net*, 2015. Perez et al., *FiLM*, 2018. Karras et al., *Elucidating the
    Design Space of Diffusion-Based Generative Models*, 2022. Ho & Salimans, *Classifier-Free
    Diffusion Guidance*, 2022.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphdiff.core.errors import ArgumentError

__all__ = ["UNet"]


def _zero(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


class _Fourier(nn.Module):
    """Sines and cosines of a scalar at fixed, geometrically spaced frequencies."""

    frequencies: Tensor

    def __init__(self, size: int, lowest: float = 0.25, highest: float = 16.0) -> None:
        super().__init__()
        frequencies = torch.logspace(math.log10(lowest), math.log10(highest), size // 2)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, value: Tensor) -> Tensor:
        angle = value[:, None] * self.frequencies
        return torch.cat((angle.sin(), angle.cos()), dim=1)


class _ResBlock(nn.Module):
    """Two normalised 3x3 convolutions, the second modulated by the embedding."""

    def __init__(self, inputs: int, outputs: int, embed: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.film = nn.Linear(embed, 2 * outputs)
        self.norm2 = nn.GroupNorm(groups, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        _zero(self.conv2)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        return self.skip(x) + self.conv2(F.silu(h))


class _Attention(nn.Module):
    """Self-attention over all pixels, one head of the full width."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        _zero(self.out)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=2)
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(h.transpose(1, 2).reshape(x.shape))


class UNet(nn.Module):
    """Raw network of one image component; :class:`graphdiff.core.denoiser.Denoiser` wraps it.

    Args:
        name: Component that the network reads and answers.
        channels: Channels of the image.
        classes: Number of classes; class number ``classes`` means "no class".
        width: Channels at full resolution; half resolution has twice as many.
        embed: Size of the embedding of noise level and class.
        groups: Groups of the normalisations; must divide ``width``.

    Raises:
        ArgumentError: ``groups`` does not divide ``width``, or ``embed`` is odd.
    """

    def __init__(
        self,
        *,
        name: str = "pixels",
        channels: int = 1,
        classes: int = 10,
        width: int = 20,
        embed: int = 64,
        groups: int = 4,
    ) -> None:
        super().__init__()
        if width % groups or embed % 2:
            raise ArgumentError(
                f"UNet: width {width} must be a multiple of groups {groups} and embed {embed} must "
                "be even; change the [net] section of the config"
            )
        self.name, self.channels, self.classes = name, channels, classes
        self.fourier = _Fourier(embed)
        self.level = nn.Sequential(nn.Linear(embed, embed), nn.SiLU(), nn.Linear(embed, embed))
        self.classes_embedding = nn.Embedding(classes + 1, embed)
        wide = 2 * width
        self.conv_in = nn.Conv2d(channels, width, 3, padding=1)
        self.down = _ResBlock(width, width, embed, groups)
        self.shrink = nn.Conv2d(width, wide, 3, stride=2, padding=1)
        self.low1 = _ResBlock(wide, wide, embed, groups)
        self.attention = _Attention(wide, groups)
        self.low2 = _ResBlock(wide, wide, embed, groups)
        self.grow = nn.Conv2d(wide, width, 3, padding=1)
        self.up = _ResBlock(wide, width, embed, groups)
        self.norm_out = nn.GroupNorm(groups, width)
        self.conv_out = nn.Conv2d(width, channels, 3, padding=1)
        _zero(self.conv_out)

    def forward(
        self,
        values: Mapping[str, Tensor],
        label: Tensor,
        masks: Mapping[str, Tensor],
        cond: Mapping[str, Any] | None = None,
    ) -> dict[str, Tensor]:
        """Answer the raw output of the image component.

        Every parametrisation of a Gaussian process is affine in the raw output, so mixing raw
        outputs is the same as mixing the denoised images.

        Args:
            values: Scaled noisy values; ``values[name]`` is ``[b, channels, h, w]``.
            label: Log signal-to-noise ratio of the component, ``[b]``.
            masks: Unused; images are dense.
            cond: ``label``: int64 ``[b]`` of classes (absent: unconditional); ``guidance``: weights
                ``w`` ``[b]`` of ``null + w (class - null)``, at the price of a batch twice as
                large. Absent means ``w = 1``, without that price.

        Raises:
            ArgumentError: An image or class of the wrong shape, type or range.
        """
        x = values[self.name]
        self._check(x)
        null = torch.full((len(x),), self.classes, dtype=torch.int64, device=x.device)
        cond = cond or {}
        number = cond.get("label")
        if number is None:
            return {self.name: self._answer(x, label, null)}
        if number.shape != null.shape or number.dtype != torch.int64:
            raise ArgumentError(
                f"UNet: cond['label'] must be int64 of shape {tuple(null.shape)}, found "
                f"{number.dtype} of shape {tuple(number.shape)}; give one class per image"
            )
        guidance = cond.get("guidance")
        if guidance is None:
            return {self.name: self._answer(x, label, number)}
        if guidance.shape != null.shape:
            raise ArgumentError(
                f"UNet: cond['guidance'] must be of shape {tuple(null.shape)}, found "
                f"{tuple(guidance.shape)}; give one weight per image"
            )
        both = self._answer(torch.cat((x, x)), torch.cat((label, label)), torch.cat((number, null)))
        with_class, without = both.chunk(2)
        mixed = torch.lerp(without, with_class, guidance.to(x.dtype)[:, None, None, None])
        return {self.name: mixed}

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.channels or x.shape[2] % 2 or x.shape[3] % 2:
            raise ArgumentError(
                f"UNet: {self.name!r} must be [b, {self.channels}, even, even], found "
                f"{list(x.shape)}; crop or pad the images"
            )

    def _answer(self, x: Tensor, label: Tensor, number: Tensor) -> Tensor:
        # Both ends of a schedule may be infinite; beyond 24 nothing changes for an image.
        level = self.fourier(label.to(x.dtype).clamp(-24, 24) / 4)
        embedding = F.silu(self.level(level) + self.classes_embedding(number))
        skip = self.down(self.conv_in(x), embedding)
        low = self.low1(self.shrink(skip), embedding)
        low = self.low2(self.attention(low), embedding)
        high = self.grow(F.interpolate(low, scale_factor=2.0, mode="nearest"))
        high = self.up(torch.cat((high, skip), dim=1), embedding)
        return self.conv_out(F.silu(self.norm_out(high)))
