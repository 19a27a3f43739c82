r"""A transformer on token strings: norms before the sublayers, rotary positions.

With :math:`N_c` a layer norm whose scale and shift are linear in the clock and the class of the
sample :math:`c` (a plain one where the network is told neither), one layer is

.. math:: x \leftarrow x + \mathrm{Attention}(N_c\, x), \qquad
    x \leftarrow x + \mathrm{MLP}(N_c\, x).

Queries and keys are rotated by angles proportional to their position (Su et al., 2021, arXiv
2104.09864), so that attention sees distances only and strings of any length are possible. Padding
is never attended to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from graphdiff.sequence.nets.tokens import Clock, SampleClass, class_weights

__all__ = ["SequenceTransformer", "rotate"]


def rotate(x: Tensor, base: float = 10000.0) -> Tensor:
    """Rotary positions: pair ``i`` of the features at position ``p`` turns by ``p base^(-2i/d)``.

    Args:
        x: Queries or keys ``[b, h, L, d]``, ``d`` even; feature ``i`` pairs with ``i + d / 2``.
        base: Ratio of the slowest to the fastest angle, nearly.
    """
    length, half = x.shape[-2], x.shape[-1] // 2
    rate = base ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angle = torch.arange(length, device=x.device, dtype=torch.float32)[:, None] * rate
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class _Layer(nn.Module):
    """One layer; ``film`` is None in a network that is told nothing."""

    def __init__(self, width: int, heads: int, ratio: int, dropout: float, told: bool) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.first = nn.LayerNorm(width, elementwise_affine=not told)
        self.second = nn.LayerNorm(width, elementwise_affine=not told)
        self.film = nn.Linear(width, 4 * width) if told else None
        if self.film is not None:
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)
        self.inward = nn.Linear(width, 3 * width, bias=False)
        self.outward = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width)
        )

    def forward(self, x: Tensor, told: Tensor | None, seen: Tensor | None) -> Tensor:
        film = None if self.film is None else self.film(told).unsqueeze(1).chunk(4, -1)

        def norm(layer: nn.Module, x: Tensor, k: int) -> Tensor:
            h: Tensor = layer(x)
            return h if film is None else h * (1 + film[k]) + film[k + 1]

        x = x + self._drop(self._attend(norm(self.first, x, 0), seen))
        return x + self._drop(self.mlp(norm(self.second, x, 2)))

    def _attend(self, x: Tensor, seen: Tensor | None) -> Tensor:
        b, length, width = x.shape
        parts = self.inward(x).view(b, length, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(rotate(q), rotate(k), v, attn_mask=seen)
        out: Tensor = self.outward(mixed.transpose(1, 2).reshape(b, length, width))
        return out

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)


class SequenceTransformer(nn.Module):
    """See the module docstring.

    Args:
        classes: Number K of classes of a token, with the mask where there is one.
        width: Width of the stream, a multiple of twice the heads.
        layers: Number of layers.
        heads: Attention heads.
        ratio: Hidden width of the MLPs in units of ``width``.
        time: Whether the network is told the clock.
        labels: Number of classes of a sample that the network may be told; 0 for none.
        dropout: Probability of dropping an entry of a sublayer's output.
    """

    def __init__(
        self,
        classes: int,
        *,
        width: int = 128,
        layers: int = 4,
        heads: int = 4,
        ratio: int = 4,
        time: bool = True,
        labels: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.start = nn.Linear(classes, width, bias=False)
        self.clock = Clock(width) if time else None
        self.label = SampleClass(labels, width) if labels else None
        told = time or labels > 0
        self.layers = nn.ModuleList(
            _Layer(width, heads, ratio, dropout, told) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        # A new network knows nothing: all classes are equally likely.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        values: Mapping[str, Tensor],
        label: Tensor,
        masks: Mapping[str, Tensor],
        cond: Any = None,
    ) -> dict[str, Tensor]:
        """Raw outputs ``{"tokens": [b, L, K]}``; arguments as of :meth:`DilatedCNN.forward`."""
        tokens, mask = values["tokens"], masks.get("tokens")
        weights = class_weights(tokens, self.classes, mask, self.start.weight.dtype)
        x = self.start(weights)
        told: Tensor | None = None
        if self.clock is not None:
            told = self.clock(label)
        if self.label is not None:
            own = self.label.of(cond, len(tokens), tokens.device)
            told = own if told is None else told + own
        told = None if told is None else functional.silu(told)
        seen = None if mask is None else mask[:, None, None, :]
        for layer in self.layers:
            x = layer(x, told, seen)
        return {"tokens": self.head(self.norm(x))}
