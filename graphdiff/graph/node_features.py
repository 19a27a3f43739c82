r"""Node features with many zeros: dropout and a linear layer that cost what the entries cost.

Bags of words are some 99 % zeros. A dense :math:`\mathrm{dropout}(X) W^\top + b` multiplies all of
them, and draws a random number for each to decide whether it stays, which takes longer than the
rest of a small network. Dropping a zero changes nothing: :class:`SparseFeatures` holds the entries
of X, only they are drawn and multiplied, and the law of the result is the same.

Every function here takes a dense tensor as well. On a CPU :func:`dropout` compares uniform numbers,
which torch draws four times as fast as Bernoulli ones; on a GPU it is torch's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor, nn

from graphdiff.graph.sparse import Pattern

__all__ = ["Features", "SparseFeatures", "compressed", "dense", "dropout", "linear"]

FEW = 0.2
"""Share of entries up to which features are compressed."""


@dataclass(frozen=True, eq=False)
class SparseFeatures:
    """Features ``[n, f]`` by their entries.

    Attributes:
        pattern: Where they are.
        values: What they are, ``[nnz]``.
    """

    pattern: Pattern
    values: Tensor

    def __len__(self) -> int:
        return self.pattern.shape[0]

    def to(self, device: str | torch.device) -> SparseFeatures:
        """The same features on another device."""
        return SparseFeatures(self.pattern.to(device), self.values.to(device))


Features = Tensor | SparseFeatures


def compressed(x: Tensor) -> Features:
    """Features ``[n, f]`` by their entries if at most a fifth of them is not zero, else ``x``."""
    if x.dim() != 2 or not x.numel() or int(x.count_nonzero()) > FEW * x.numel():
        return x
    row, col = x.nonzero(as_tuple=True)
    return SparseFeatures(Pattern.of(row, col, (x.shape[0], x.shape[1])), x[row, col])


def dense(x: Features) -> Tensor:
    """All features, ``[n, f]``."""
    return x.pattern.dense(x.values) if isinstance(x, SparseFeatures) else x


@overload
def dropout(x: Tensor, p: float, training: bool) -> Tensor: ...
@overload
def dropout(x: SparseFeatures, p: float, training: bool) -> SparseFeatures: ...
def dropout(x: Features, p: float, training: bool) -> Features:
    """In training each feature is zero with probability ``p``, the others are over ``1 - p``.

    Args:
        x: Features, or any tensor.
        p: Probability, at least 0 and below 1.
        training: Whether to drop at all.
    """
    if isinstance(x, SparseFeatures):
        return SparseFeatures(x.pattern, dropout(x.values, p, training))
    if not training or p == 0:
        return x
    if x.device.type != "cpu":
        return nn.functional.dropout(x, p)
    # Noise of a training, from torch's generator as in torch's own dropout; no sample hangs on it.
    return x / (1 - p) * (torch.rand(x.shape) >= p)  # noqa: TID251


def linear(layer: nn.Linear, x: Features) -> Tensor:
    """``layer`` of features ``[n, f]``: ``[n, channels]``."""
    if not isinstance(x, SparseFeatures):
        found: Tensor = layer(x)
        return found
    y = x.pattern.matmul(x.values, layer.weight.T)
    return y if layer.bias is None else y + layer.bias
