r"""The score network of DiffusionNAG: a transformer over the places of an architecture.

Types are embedded and scaled by :math:`\sqrt d`, sinusoidal codes of place and clock are added,
and each of the layers (post-norm, as in CATE, Yan et al., 2021, arXiv 2102.07108) attends only
where the graph allows it; the outputs of all layers, side by side, go through one MLP
(An et al., 2024, arXiv 2305.16943, appendix C).

``mask`` says where place ``i`` may look: at what it can be reached from (``"closure"``: the
transitive closure of the wires, as the paper says), at what it reads (``"adjacency"``: what the
released code trained with, since its option was misspelt), or anywhere (``"none"``). A place sees
itself in any case.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from graphdiff.graph.nets.weights import class_weights

__all__ = ["CATE", "AttentionMask", "closure", "visible"]

AttentionMask = Literal["closure", "adjacency", "none"]


def closure(wires: Tensor) -> Tensor:
    """Whether a path leads from ``i`` to ``j``, bool ``[..., n, n]``, of wires ``[..., n, n]``."""
    reach = wires.float()
    steps = max(1, math.ceil(math.log2(max(wires.shape[-1], 2))))
    for _ in range(steps):
        reach = ((reach + reach @ reach) > 0).float()
    return reach > 0


def visible(wires: Tensor, mask: AttentionMask) -> Tensor:
    """Whether place ``i`` (rows) may look at place ``j``, bool ``[..., n, n]``."""
    if mask == "none":
        return torch.ones_like(wires)
    seen = closure(wires) if mask == "closure" else wires
    return seen.transpose(-1, -2) | torch.eye(wires.shape[-1], dtype=torch.bool).to(wires.device)


class CATE(nn.Module):
    """The published network, for spaces with fixed wires.

    Args:
        wires: Fixed wires, bool ``[n, n]``.
        inputs: Classes (or channels) of the input.
        outputs: Of the output.
        layers: Number of layers.
        width: Of the stream.
        heads: Attention heads.
        ff: Hidden width of the feed-forward blocks.
        dropout: In training.
        mask: Where places may look.
    """

    def __init__(
        self,
        wires: Tensor,
        inputs: int,
        outputs: int,
        *,
        layers: int = 12,
        width: int = 64,
        heads: int = 8,
        ff: int = 128,
        dropout: float = 0.1,
        mask: AttentionMask = "closure",
    ) -> None:
        super().__init__()
        self.inputs, self.width = inputs, width
        self.embed = nn.Linear(inputs, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, ff, dropout, batch_first=True)
            for _ in range(layers)
        )
        both = width * layers
        self.out = nn.Sequential(nn.Linear(both, 2 * both), nn.SiLU(), nn.Linear(2 * both, outputs))
        places = torch.arange(len(wires), dtype=torch.float32)
        self.register_buffer("places", _waves(places, width), persistent=False)
        self.register_buffer("hidden", ~visible(wires, mask), persistent=False)

    def forward(
        self, values: Mapping[str, Tensor], label: Tensor, masks: Any, cond: Any = None
    ) -> dict[str, Tensor]:
        """Raw output ``[b, n, outputs]`` for ``ops``; ``label`` is the clock ``[b]``."""
        x = class_weights(values["ops"], self.inputs, 2, self.embed.weight.dtype)
        h = self.embed(x) * math.sqrt(self.width) + self.get_buffer("places")
        h = h + _waves(1000 * label.to(h.dtype), self.width).unsqueeze(1)
        found = []
        for layer in self.layers:
            h = layer(h, src_mask=self.get_buffer("hidden"))
            found.append(h)
        return {"ops": self.out(torch.cat(found, -1))}


def _waves(t: Tensor, width: int) -> Tensor:
    """Sines and cosines of ``t`` ``[k]`` at wavelengths up to ten thousand, ``[k, width]``."""
    rate = torch.exp(
        torch.arange(width // 2, device=t.device) * (-math.log(10_000.0) / (width // 2))
    )
    angle = t.unsqueeze(-1) * rate.to(t.dtype)
    return torch.cat([angle.sin(), angle.cos()], -1)
