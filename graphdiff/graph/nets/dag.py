r"""A transformer over directed acyclic graphs whose wires may be noisy themselves.

Places carry a type, or a continuous vector; a pair :math:`i < j` carries the class of its wire, or
a number. With :math:`e_{ij}` what is known of the wire from ``i`` to ``j`` and :math:`c` the clock,
a layer is

.. math::
    h_i &\mathrel{+}= W_o \sum_j \mathrm{softmax}_j\bigl(q_i k_j + F e_{ij} + B e_{ji}\bigr) v_j,
    \qquad h_i \mathrel{+}= \mathrm{MLP}(h_i),

each behind a layer norm whose scale and shift are linear in :math:`c`. ``F`` and ``B`` give each
head a bias of its own for wires that leave a place and wires that enter it, so that direction is
seen and nothing is hidden. Types are read off the places; wires off pairs
:math:`\mathrm{MLP}[h_i, h_j, e_{ij}]`, ordered. Places have embeddings of their own: their order
is topological, and they are not exchangeable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from graphdiff.graph.nets.pair_transformer import clock_features
from graphdiff.graph.nets.weights import class_weights

__all__ = ["DAGTransformer"]


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, wires: int, ratio: int, dropout: float) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.film = nn.Linear(width, 4 * width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.bias = nn.Linear(2 * wires, heads)
        self.attended = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.mlp = nn.Sequential(
            nn.Linear(width, ratio * width), nn.SiLU(), nn.Linear(ratio * width, width)
        )
        for last in (self.film, self.attended, self.mlp[-1]):
            assert isinstance(last, nn.Linear)
            nn.init.normal_(last.weight, std=0.02)
            nn.init.zeros_(last.bias)

    def forward(self, h: Tensor, both: Tensor, clock: Tensor) -> Tensor:
        b, n, _ = h.shape
        one, up, two, down = self.film(clock).unsqueeze(1).chunk(4, -1)
        seen = functional.layer_norm(h, (self.width,)) * (1 + one) + up
        q, k, v = (
            part.view(b, n, self.heads, -1).transpose(1, 2) for part in self.qkv(seen).chunk(3, -1)
        )
        bias = self.bias(both).permute(0, 3, 1, 2)
        found = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        h = h + self.dropout(self.attended(found.transpose(1, 2).reshape(b, n, self.width)))
        seen = functional.layer_norm(h, (self.width,)) * (1 + two) + down
        changed: Tensor = h + self.dropout(self.mlp(seen))
        return changed


class DAGTransformer(nn.Module):
    """The network; see the module docstring.

    Args:
        places: Number of places ``n``.
        inputs: Classes (or channels) of a place.
        outputs: Of the output at a place.
        wires: Classes of a wire in the input; 1 for a number; 0 where ``fixed`` says all.
        wires_out: Of the output of a pair; 0 for none.
        fixed: Fixed wires, bool ``[n, n]``.
        layers: Number of layers.
        width: Of the stream.
        heads: Attention heads.
        ratio: Hidden width of the MLPs over ``width``.
        dropout: In training.
    """

    def __init__(
        self,
        places: int,
        inputs: int,
        outputs: int,
        *,
        wires: int = 0,
        wires_out: int = 0,
        fixed: Tensor | None = None,
        layers: int = 4,
        width: int = 64,
        heads: int = 4,
        ratio: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.inputs, self.wires, self.wires_out = inputs, wires, wires_out
        self.embed = nn.Linear(inputs, width)
        self.place = nn.Parameter(torch.empty(places, width))
        nn.init.normal_(self.place, std=0.02)
        self.clock = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        known = 1 if fixed is not None else wires
        self.layers = nn.ModuleList(
            _Layer(width, heads, known, ratio, dropout) for _ in range(layers)
        )
        self.ops = nn.Linear(width, outputs)
        self.pair = (
            nn.Sequential(
                nn.Linear(2 * width + known, width), nn.SiLU(), nn.Linear(width, wires_out)
            )
            if wires_out
            else None
        )
        both = None
        if fixed is not None:
            there = fixed.float().unsqueeze(-1)
            both = torch.cat([there, there.transpose(0, 1)], -1).unsqueeze(0)
        self.register_buffer("both", both, persistent=False)

    def forward(
        self, values: Mapping[str, Tensor], label: Tensor, masks: Any, cond: Any = None
    ) -> dict[str, Tensor]:
        """``ops`` ``[b, n, outputs]`` and, if wires are searched, ``adj`` ``[b, n, n(, k)]``."""
        dtype = self.embed.weight.dtype
        x = class_weights(values["ops"], self.inputs, 2, dtype)
        clock = self.clock(clock_features(label.to(dtype), self.place.shape[1]))
        h = self.embed(x) + self.place + clock.unsqueeze(1)
        both = self.get_buffer("both") if self.pair is None else self._read(values["adj"], dtype)
        both = both.expand(len(h), -1, -1, -1)
        for layer in self.layers:
            h = layer(h, both, clock)
        found = {"ops": self.ops(h)}
        if self.pair is not None:
            n, known = h.shape[1], both.shape[-1] // 2
            ends = [h.unsqueeze(2).expand(-1, -1, n, -1), h.unsqueeze(1).expand(-1, n, -1, -1)]
            pairs = self.pair(torch.cat([*ends, both[..., :known]], -1))
            found["adj"] = pairs if self.wires > 1 else pairs.squeeze(-1)
        return found

    def _read(self, adj: Tensor, dtype: torch.dtype) -> Tensor:
        """Wires that leave and that enter, ``[b, n, n, 2 k]``; nothing below the diagonal."""
        there = (
            class_weights(adj, self.wires, 3, dtype)
            if self.wires > 1
            else adj.to(dtype).unsqueeze(-1)
        )
        n = adj.shape[1]
        upper = torch.ones(n, n, dtype=torch.bool, device=adj.device).triu(1)
        there = torch.where(upper.unsqueeze(-1), there, 0)
        return torch.cat([there, there.transpose(1, 2)], -1)
