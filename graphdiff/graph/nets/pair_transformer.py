r"""A graph transformer whose edge stream is stored once for each pair of nodes.

Streams: nodes ``x [b, n, dx]``, pairs ``e [b, p, de]``, the graph ``y [b, dy]``. One layer, with
:math:`N(\cdot\,|y)` a layer norm whose scale and shift are linear in :math:`y`:

.. math::
    x_i &\mathrel{+}= W_o \sum_j \mathrm{softmax}_j\bigl(q_i k_j + B e_{ij}\bigr) v_j \\
    e_{ij} &\mathrel{+}= \mathrm{MLP}\bigl[e_{ij},\; (Px)_i (Px)_j,\; (Sx)_i + (Sx)_j,\;
        \textstyle\sum_k (Fe)_{ik} (Ge)_{kj}\bigr] \\
    x_i &\mathrel{+}= \mathrm{MLP}\bigl[x_i,\; \textstyle\sum_j e_{ij} / \sqrt{n}\bigr] \\
    y &\mathrel{+}= \mathrm{MLP}\bigl[y,\; \overline{x},\; \overline{e}\bigr]

The streams and their mutual conditioning are those of DiGress (Vignac et al., 2023, arXiv
2209.14734, appendix B); the layer differs where that network spends its time. DiGress keeps
attention scores for every feature of every ordered pair and both orders of each pair; here scores
are per head, an edge update is computed once for each pair (half of the memory and of the work),
and the products over paths of length two (``triangles`` channels, none by default), as in folding
and edge-transformer networks, see cycles that node attention cannot. Every operation is
equivariant under permutations of the nodes and blind to padding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from graphdiff.graph.nets.encoded import Encoding, node_encoding
from graphdiff.graph.nets.features import cycles, rrwp_pairs
from graphdiff.graph.nets.half import attend, between, incident, pair_ends, square, to_full, to_half
from graphdiff.graph.nets.sheaf_mixing import SheafMixing
from graphdiff.graph.nets.weights import bond_weights, class_weights

__all__ = ["PairTransformer", "clock_features"]

NEVER = -1e9
Mixing = Literal["attention", "sheaf"]


def clock_features(t: Tensor, width: int) -> Tensor:
    """``cos`` and ``sin`` of the clock at geometric frequencies from 1 to 1000, ``[b, width]``."""
    half = width // 2
    rate = torch.logspace(0, 3, half, dtype=torch.float32, device=t.device)
    angle = t[:, None] * rate * (math.pi / 2)
    return torch.cat([angle.cos(), angle.sin()], -1)


@dataclass(frozen=True)
class _Shape:
    """A batch: number of nodes, masks and sizes, computed once for all layers."""

    n: int
    node: Tensor  # [b, n, 1]
    pair: Tensor  # [b, p, 1]
    hidden: Tensor  # [b, n, n, 1], NEVER where a node must not be attended to
    root: Tensor  # [b, 1, 1], 1 / sqrt(number of nodes)
    nodes: Tensor  # [b, 1], number of nodes
    pairs: Tensor  # [b, 1], number of pairs

    @staticmethod
    def of(mask: Tensor, dtype: torch.dtype) -> _Shape:
        n = mask.shape[1]
        i, j = pair_ends(n, mask.device)
        pair = (mask.index_select(1, i) & mask.index_select(1, j)).unsqueeze(-1).to(dtype)
        count = mask.sum(1, keepdim=True).to(dtype).clamp(min=1)
        hidden = torch.where(mask, 0.0, NEVER).to(dtype)[:, None, :, None]
        pairs = (count * (count - 1) / 2).clamp(min=1)
        node = mask.unsqueeze(-1).to(dtype)
        return _Shape(n, node, pair, hidden, count.rsqrt().unsqueeze(-1), count, pairs)


class _Norm(nn.Module):
    """Layer norm whose scale and shift are linear in the graph stream."""

    def __init__(self, width: int, y: int) -> None:
        super().__init__()
        self.width = width
        self.film = nn.Linear(y, 2 * width)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, v: Tensor, y: Tensor) -> Tensor:
        scale, shift = self.film(y).unsqueeze(1).chunk(2, -1)
        normed = functional.layer_norm(v, (self.width,))
        return torch.addcmul(shift, normed, scale + 1)


class _Layer(nn.Module):
    def __init__(
        self, dx: int, de: int, dy: int, heads: int, triangles: int, ratio: int, mixing: Mixing
    ) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dx // heads) ** -0.5
        self.norm_x, self.norm_e, self.norm_f = _Norm(dx, dy), _Norm(de, dy), _Norm(dx, dy)
        self.sheaf = SheafMixing(dx, de, heads) if mixing == "sheaf" else None
        if self.sheaf is None:
            self.qkv = nn.Linear(dx, 3 * dx, bias=False)
            self.bias = nn.Linear(de, heads)
            self.attended = nn.Linear(dx, dx)
        self.ends = nn.Linear(dx, 2 * de)
        self.paths = nn.Linear(de, 2 * triangles) if triangles else None
        self.edge = nn.Sequential(
            nn.Linear(3 * de + triangles, ratio * de), nn.SiLU(), nn.Linear(ratio * de, de)
        )
        self.node = nn.Sequential(
            nn.Linear(dx + de, ratio * dx), nn.SiLU(), nn.Linear(ratio * dx, dx)
        )
        self.graph = nn.Sequential(nn.Linear(dx + de + dy, dy), nn.SiLU(), nn.Linear(dy, dy))
        mixed = self.attended if self.sheaf is None else self.sheaf.outer
        for last in (mixed, self.edge[-1], self.node[-1], self.graph[-1]):
            assert isinstance(last, nn.Linear)
            nn.init.normal_(last.weight, std=0.02)
            nn.init.zeros_(last.bias)

    def forward(
        self, x: Tensor, e: Tensor, y: Tensor, shape: _Shape
    ) -> tuple[Tensor, Tensor, Tensor]:
        n = shape.n
        seen, edges = self.norm_x(x, y), self.norm_e(e, y)
        # Padded nodes hear others as well; it must not reach the mean over the nodes.
        if self.sheaf is not None:
            x = x + self.sheaf(seen, edges, shape.pair) * shape.node
        else:
            q, k, v = self.qkv(seen).chunk(3, -1)
            bias = to_full(self.bias(edges), n) + shape.hidden
            x = x + self.attended(attend(q * self.scale, k, v, bias, self.heads)) * shape.node
        e = e + self.edge(self._about_pairs(x, edges, shape)) * shape.pair
        gathered = incident(e, n) * shape.root
        x = x + self.node(torch.cat([self.norm_f(x, y), gathered], -1)) * shape.node
        pooled = [x.sum(1) / shape.nodes, e.sum(1) / shape.pairs, y]
        return x, e, y + self.graph(torch.cat(pooled, -1))

    def _about_pairs(self, x: Tensor, edges: Tensor, shape: _Shape) -> Tensor:
        """What an edge update reads: the edge, products and sums of its ends, paths."""
        product, total = self.ends(x).chunk(2, -1)
        first, second = between(product)
        one, other = between(total)
        parts = [edges, first * second, one + other]
        if self.paths is not None:
            f, g = to_full(self.paths(edges) * shape.pair, shape.n).chunk(2, -1)
            parts.append(square(f, g) * shape.root)
        return torch.cat(parts, -1)


class PairTransformer(nn.Module):
    """Logits of the clean classes of nodes and pairs from noisy ones.

    Args:
        nodes: Node classes; 0 for graphs whose nodes have no class (then there is no component
            ``x``).
        edges: Edge classes, 0 of which means no edge.
        dx: Width of the node stream, a multiple of ``heads``.
        de: Width of the pair stream.
        dy: Width of the graph stream.
        layers: Number of layers.
        heads: Attention heads.
        triangles: Channels of the products over paths of length two; 0 leaves them out.
        ratio: Hidden width of the MLPs over the width of their stream.
        steps: Steps of the random walks among the input features.
        count_cycles: Whether cycle counts are among the input features.
        largest: Largest number of nodes, to scale the size that the network is told.
        cond: Width of a condition vector for each graph; 0 for none.
        hidden_class: Whether the last node and edge class is a mask (absorbing noise), which is
            no edge for the structural features.
        encoding: Positional encoding that is added to the nodes, see
            :mod:`graphdiff.graph.nets.encoded`.
        mixing: How nodes hear each other: ``"attention"``, or ``"sheaf"`` diffusion with a stalk
            coordinate for each head (:mod:`graphdiff.graph.nets.sheaf_mixing`).
    """

    def __init__(
        self,
        nodes: int,
        edges: int,
        *,
        dx: int = 64,
        de: int = 32,
        dy: int = 64,
        layers: int = 4,
        heads: int = 4,
        triangles: int = 0,
        ratio: int = 2,
        steps: int = 12,
        count_cycles: bool = False,
        largest: int = 1,
        cond: int = 0,
        hidden_class: bool = False,
        encoding: Encoding = "none",
        mixing: Mixing = "attention",
    ) -> None:
        super().__init__()
        self.nodes, self.edges, self.steps, self.largest = nodes, edges, steps, largest
        self.count_cycles, self.clock, self.bonds = count_cycles, 32, edges - hidden_class
        extra = 3 if count_cycles else 0
        self.in_x = nn.Linear(nodes + edges + steps + extra, dx)
        self.in_e = nn.Linear(edges + steps + 2, de)
        self.in_y = nn.Sequential(
            nn.Linear(self.clock + 1 + edges + (4 if count_cycles else 0) + cond, dy),
            nn.SiLU(),
            nn.Linear(dy, dy),
        )
        self.layers = nn.ModuleList(
            _Layer(dx, de, dy, heads, triangles, ratio, mixing) for _ in range(layers)
        )
        self.out_norm_x, self.out_norm_e = _Norm(dx, dy), _Norm(de, dy)
        self.out_x = nn.Linear(dx, nodes) if nodes else None
        self.out_e = nn.Linear(de, edges)
        self.encoding = node_encoding(encoding, dx)

    def forward(
        self,
        values: Mapping[str, Tensor],
        label: Tensor,
        masks: Mapping[str, Tensor],
        cond: Any = None,
    ) -> dict[str, Tensor]:
        """Logits ``x [b, n, nodes]`` and ``adj [b, n, n, edges]``.

        Args:
            values: Classes ``x`` int64 ``[b, n]`` (if nodes have classes), ``adj`` ``[b, n, n]``;
                or their weights, with one axis more.
            label: Clock ``[b]``.
            masks: Node mask ``adj [b, n]``; none if nothing is padded.
            cond: Condition vectors ``[b, cond]``, or None.
        """
        adj = values["adj"]
        mask = masks.get("adj")
        if mask is None:
            mask = torch.ones(adj.shape[:2], dtype=torch.bool, device=adj.device)
        shape = _Shape.of(mask, label.dtype)
        x, e, y = self._inputs(values, label, shape, cond)
        for layer in self.layers:
            x, e, y = layer(x, e, y, shape)
        out = {"adj": to_full(self.out_e(self.out_norm_e(e, y)), shape.n)}
        if self.out_x is not None:
            out["x"] = self.out_x(self.out_norm_x(x, y))
        return out

    def _inputs(
        self, values: Mapping[str, Tensor], label: Tensor, shape: _Shape, cond: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The three streams from classes and structural features."""
        adj, n = values["adj"], shape.n
        kinds = class_weights(to_half(adj), self.edges, 2, label.dtype) * shape.pair
        degrees = incident(kinds, n)
        bonded = bond_weights(adj, self.bonds, label.dtype)
        returns, walks = rrwp_pairs(bonded, self.steps)
        nodes, graph = [degrees / 4, returns], [clock_features(label, self.clock)]
        graph += [shape.nodes / self.largest, kinds.sum(1) / shape.nodes]
        if self.nodes:
            nodes.append(class_weights(values["x"], self.nodes, 2, label.dtype))
        if self.count_cycles:
            own, whole = cycles(bonded)
            nodes.append(torch.log1p(own))
            graph.append(torch.log1p(whole))
        if cond is not None:
            graph.append(cond)
        size = (shape.nodes / self.largest).unsqueeze(-1)
        about = label[:, None, None].expand_as(walks[..., :1])
        e = self.in_e(torch.cat([kinds, walks, about, size.expand_as(about)], -1)) * shape.pair
        x = self.in_x(torch.cat(nodes, -1)) * shape.node
        if self.encoding is not None:
            x = x + self.encoding(bonded, shape.node.squeeze(-1) > 0)
        return x, e, self.in_y(torch.cat(graph, -1))
