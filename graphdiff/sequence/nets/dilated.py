r"""A residual convolutional network with dilated kernels on token strings.

With :math:`c` the clock and the class of the sample (if the network is told them), one layer is

.. math:: x \leftarrow x + \mathrm{ReLU}\bigl(\mathrm{conv}_d\,
    \mathrm{LN}(x + W\,\mathrm{ReLU}(c))\bigr),

where :math:`\mathrm{conv}_d` has a kernel of ``kernel`` taps that are ``d`` positions apart. At
width 128, 4 stacks of the dilations 1, 1, 4, 16, 64 and kernel 9 this is the network of DRAKES
(Wang et al., 2025, arXiv 2410.13643) and of Dirichlet flow matching (Stark et al., 2024, arXiv
2402.05841) for DNA: 3,326,661 parameters with five classes. What lies behind the end of a sequence
is zero before every convolution, so that padding changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from graphdiff.sequence.nets.tokens import Clock, SampleClass, class_weights

__all__ = ["DilatedCNN"]


class _Layer(nn.Module):
    """One residual convolution; streams are ``[b, L, width]``."""

    def __init__(self, width: int, kernel: int, dilation: int, told: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        reach = dilation * (kernel // 2)
        self.conv = nn.Conv1d(width, width, kernel, padding=reach, dilation=dilation)
        self.told = nn.ModuleList(nn.Linear(width, width) for _ in range(told))
        self.dropout = dropout

    def forward(self, x: Tensor, told: Sequence[Tensor], real: Tensor | None) -> Tensor:
        h = functional.dropout(x, self.dropout, self.training)
        for linear, vector in zip(self.told, told, strict=True):
            h = h + linear(vector).unsqueeze(1)
        h = self.norm(h)
        if real is not None:
            h = h * real
        out: Tensor = x + functional.relu(self.conv(h.transpose(1, 2))).transpose(1, 2)
        return out


class DilatedCNN(nn.Module):
    """See the module docstring.

    Args:
        classes: Number K of classes of a token, with the mask where there is one.
        width: Channels.
        stacks: Layers of each dilation, one after the other.
        kernel: Taps of a kernel, odd.
        dilations: Distance of the taps, one entry for each group of ``stacks`` layers.
        time: Whether the network is told the clock.
        labels: Number of classes of a sample that the network may be told; 0 for none.
        dropout: Probability of dropping a channel of a layer's input.
    """

    def __init__(
        self,
        classes: int,
        *,
        width: int = 128,
        stacks: int = 4,
        kernel: int = 9,
        dilations: Sequence[int] = (1, 1, 4, 16, 64),
        time: bool = True,
        labels: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.start = nn.Conv1d(classes, width, kernel, padding=kernel // 2)
        self.clock = Clock(width) if time else None
        self.label = SampleClass(labels, width) if labels else None
        told = int(time) + int(labels > 0)
        self.layers = nn.ModuleList(
            _Layer(width, kernel, dilation, told, dropout)
            for dilation in dilations
            for _ in range(stacks)
        )
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(
        self,
        values: Mapping[str, Tensor],
        label: Tensor,
        masks: Mapping[str, Tensor],
        cond: Any = None,
    ) -> dict[str, Tensor]:
        """Raw outputs ``{"tokens": [b, L, K]}``; what they are at padding means nothing.

        Args:
            values: ``tokens`` as classes int64 ``[b, L]`` or class weights ``[b, L, K]``.
            label: Clock ``[b]``.
            masks: Of ``tokens``, bool ``[b, L]``.
            cond: ``label`` and ``told``, see :class:`SampleClass`.
        """
        tokens, mask = values["tokens"], masks.get("tokens")
        dtype = self.start.weight.dtype
        real = None if mask is None else mask.unsqueeze(-1).to(dtype)
        weights = class_weights(tokens, self.classes, mask, dtype)
        x = functional.relu(self.start(weights.transpose(1, 2))).transpose(1, 2)
        told = []
        if self.clock is not None:
            told.append(functional.relu(self.clock(label)))
        if self.label is not None:
            told.append(functional.relu(self.label.of(cond, len(tokens), tokens.device)))
        for layer in self.layers:
            x = layer(x, told, real)
        return {"tokens": self.head(x)}
