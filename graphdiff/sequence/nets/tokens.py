r"""What networks on tokens share: class weights as input, the clock, the class of a sample.

A token is an int64 class, or a vector of class weights (one-hot, or soft where a chain is
differentiated); both enter as weights :math:`w \in R^K`, zero at padding, so that nothing behind
the end of a sequence is seen. The clock enters as random Fourier features (Tancik et al., 2020,
arXiv 2006.10739),

.. math:: \phi(t) = (\sin 2\pi t\, w,\ \cos 2\pi t\, w), \qquad w_i \sim \mathcal N(0, 30^2),

and a sample's class as an embedding, whose last row stands for "not told".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from graphdiff.core.errors import ArgumentError

__all__ = ["Clock", "SampleClass", "class_weights"]


def class_weights(tokens: Tensor, classes: int, mask: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Tokens as weights ``[b, L, K]``, zero at padding.

    Args:
        tokens: Classes int64 ``[b, L]`` or weights ``[b, L, K]``.
        classes: Number K of classes, with the mask class where there is one.
        mask: Real positions, bool ``[b, L]``, or None.
        dtype: Of the weights made from classes.

    Raises:
        ArgumentError: The tokens are neither, or have another number of classes.
    """
    if tokens.is_floating_point():
        if tokens.ndim != 3 or tokens.shape[-1] != classes:
            raise ArgumentError(
                f"class weights must have shape [b, L, {classes}], found {list(tokens.shape)}; "
                "noisy tokens have a weight for every class of the process, the mask included"
            )
        weights = tokens.to(dtype)
    else:
        if tokens.ndim != 2:
            raise ArgumentError(f"tokens must be classes [b, L], found {list(tokens.shape)}")
        weights = functional.one_hot(tokens, classes).to(dtype)
    return weights if mask is None else weights * mask.unsqueeze(-1)


class Clock(nn.Module):
    """Random Fourier features of the clock, and a linear map of them.

    Args:
        width: Number of features, even.
        scale: Standard deviation of the frequencies, in periods over the whole clock.
    """

    def __init__(self, width: int, scale: float = 30.0) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.empty(width // 2), requires_grad=False)
        nn.init.normal_(self.frequencies, std=scale)
        self.linear = nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        """Features ``[b, width]`` of ``t`` ``[b]``."""
        angle = 2 * math.pi * t.to(self.frequencies.dtype).unsqueeze(-1) * self.frequencies
        out: Tensor = self.linear(torch.cat([angle.sin(), angle.cos()], -1))
        return out


class SampleClass(nn.Embedding):
    """Embedding of a sample's class; the last row is that of a sample whose class is not told.

    Args:
        labels: Number of classes.
        width: Length of an embedding.
    """

    def __init__(self, labels: int, width: int) -> None:
        super().__init__(labels + 1, width)

    def of(self, cond: Any, batch: int, device: torch.device) -> Tensor:
        """Embeddings ``[b, width]`` of the condition of a network.

        Args:
            cond: Mapping with ``label`` int64 ``[b]``, and ``told`` bool ``[b]`` for those whose
                label is shown (all of them by default); None where nothing is told.
            batch: Number of samples.
            device: Where they are.
        """
        given: Mapping[str, Tensor] = cond or {}
        silent = self.num_embeddings - 1
        if "label" not in given:
            index = torch.full((batch,), silent, device=device)
        else:
            told = given.get("told")
            label = given["label"]
            index = label if told is None else torch.where(told, label, silent)
        out: Tensor = self(index)
        return out
