r"""The graph transformer of DiGress (Vignac et al., 2023, arXiv 2209.14734, appendix B).

Streams of nodes :math:`X`, ordered pairs :math:`E` and the graph :math:`y`. One layer: attention
scores for every feature, modulated by the edges,

.. math:: Y_{ij} = \frac{q_i \odot k_j}{\sqrt{d}} \odot (1 + W_1 E_{ij}) + W_2 E_{ij},

give the new edges, and, after a softmax over :math:`j`, the new nodes; both are modulated by
:math:`y` (FiLM, Perez et al., 2018), which itself is updated from pooled nodes and edges (mean,
minimum, maximum, standard deviation). Each stream has residual connections, layer norms behind the
sum and a feed-forward block. :class:`~graphdiff.graph.nets.pair_transformer.PairTransformer` does
the same work in less than half of the memory; this network is here for comparison and for weights
that were trained with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from graphdiff.graph.nets.encoded import Encoding, node_encoding
from graphdiff.graph.nets.features import cycles, rrwp, spectrum
from graphdiff.graph.nets.weights import bond_weights, class_weights

__all__ = ["DigressNetwork"]

NEVER = -1e9


def _mlp(inside: int, hidden: int, outside: int, *, last: bool) -> nn.Sequential:
    parts = [nn.Linear(inside, hidden), nn.ReLU(), nn.Linear(hidden, outside)]
    return nn.Sequential(*parts, nn.ReLU()) if last else nn.Sequential(*parts)


class _Film(nn.Module):
    """``add(y) + (mul(y) + 1) * v``."""

    def __init__(self, y: int, width: int) -> None:
        super().__init__()
        self.add, self.mul = nn.Linear(y, width), nn.Linear(y, width)

    def forward(self, v: Tensor, y: Tensor) -> Tensor:
        shape = (len(y), *(1,) * (v.ndim - 2), -1)
        return torch.addcmul(self.add(y).view(shape), self.mul(y).view(shape) + 1, v)


class _Pool(nn.Module):
    """A linear map of mean, minimum, maximum and standard deviation over the real entries."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.lin = nn.Linear(4 * inside, outside)

    def forward(self, v: Tensor, real: Tensor) -> Tensor:
        flat, keep = v.flatten(1, -2), real.flatten(1, -2)
        count = keep.sum(1).clamp(min=1)
        mean = (flat * keep).sum(1) / count
        low = torch.where(keep > 0, flat, -NEVER).amin(1)
        high = torch.where(keep > 0, flat, NEVER).amax(1)
        square = ((flat - mean.unsqueeze(1)).square() * keep).sum(1) / count
        return self.lin(torch.cat([mean, low, high, (square + 1e-12).sqrt()], -1))


class _Block(nn.Module):
    """Attention with features of the edges, and the three updates."""

    def __init__(self, dx: int, de: int, dy: int, heads: int) -> None:
        super().__init__()
        self.width = dx // heads
        self.q, self.k, self.v = (nn.Linear(dx, dx) for _ in range(3))
        self.e_mul, self.e_add = nn.Linear(de, dx), nn.Linear(de, dx)
        self.film_e, self.film_x = _Film(dy, dx), _Film(dy, dx)
        self.pool_x, self.pool_e, self.y_y = _Pool(dx, dy), _Pool(de, dy), nn.Linear(dy, dy)
        self.x_out, self.e_out = nn.Linear(dx, dx), nn.Linear(dx, de)
        self.y_out = nn.Sequential(nn.Linear(dy, dy), nn.ReLU(), nn.Linear(dy, dy))

    def forward(
        self, x: Tensor, e: Tensor, y: Tensor, node: Tensor, pair: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.q(x) * node, self.k(x) * node, self.v(x) * node
        scores = q.unsqueeze(2) * k.unsqueeze(1) * self.width**-0.5
        scores = torch.addcmul(self.e_add(e) * pair, scores, self.e_mul(e) * pair + 1)
        new_e = self.e_out(self.film_e(scores, y)) * pair
        seen = scores.masked_fill(node.unsqueeze(1) == 0, NEVER)
        gathered = (torch.softmax(seen, 2) * v.unsqueeze(1)).sum(2)
        new_x = self.x_out(self.film_x(gathered, y)) * node
        pooled = self.y_y(y) + self.pool_x(x, node) + self.pool_e(e, pair)
        return new_x, new_e, self.y_out(pooled)


class _Layer(nn.Module):
    def __init__(
        self, dx: int, de: int, dy: int, heads: int, ff_x: int, ff_e: int, ff_y: int
    ) -> None:
        super().__init__()
        self.block = _Block(dx, de, dy, heads)
        widths = ((dx, ff_x), (de, ff_e), (dy, ff_y))
        self.first = nn.ModuleList(nn.LayerNorm(width) for width, _ in widths)
        self.second = nn.ModuleList(nn.LayerNorm(width) for width, _ in widths)
        self.ff = nn.ModuleList(_mlp(width, ff, width, last=False) for width, ff in widths)

    def forward(
        self, x: Tensor, e: Tensor, y: Tensor, node: Tensor, pair: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        streams = (x, e, y)
        out = []
        for i, change in enumerate(self.block(x, e, y, node, pair)):
            held = self.first[i](streams[i] + change)
            out.append(self.second[i](held + self.ff[i](held)))
        return out[0] * node, out[1] * pair, out[2]


class DigressNetwork(nn.Module):
    """Logits of the clean classes of nodes and pairs, with the published architecture.

    Args:
        nodes: Node classes; 0 for graphs whose nodes have no class.
        edges: Edge classes, 0 of which means no edge.
        layers: Number of layers.
        mlp_x: Hidden width of the first and last MLP of the nodes; ``mlp_e``, ``mlp_y`` alike.
        mlp_e: See ``mlp_x``.
        mlp_y: See ``mlp_x``.
        dx: Width of the node stream, a multiple of ``heads``.
        de: Width of the edge stream.
        dy: Width of the graph stream.
        heads: Attention heads.
        ff_x: Hidden width of the feed-forward blocks; ``ff_e``, ``ff_y`` alike.
        ff_e: See ``ff_x``.
        ff_y: See ``ff_x``.
        features: ``"none"``, ``"cycles"``, ``"all"`` (cycles and spectrum) or ``"rrwp"``.
        steps: Steps of the random walks.
        largest: Largest number of nodes.
        cond: Width of a condition vector for each graph.
        hidden_class: Whether the last class is a mask, which is no edge for the features.
        encoding: Positional encoding that is added to the nodes, see
            :mod:`graphdiff.graph.nets.encoded`.
    """

    def __init__(
        self,
        nodes: int,
        edges: int,
        *,
        layers: int = 5,
        mlp_x: int = 256,
        mlp_e: int = 128,
        mlp_y: int = 128,
        dx: int = 256,
        de: int = 64,
        dy: int = 64,
        heads: int = 8,
        ff_x: int = 256,
        ff_e: int = 128,
        ff_y: int = 128,
        features: Literal["none", "cycles", "all", "rrwp"] = "all",
        steps: int = 12,
        largest: int = 1,
        cond: int = 0,
        hidden_class: bool = False,
        encoding: Encoding = "none",
    ) -> None:
        super().__init__()
        self.nodes, self.edges, self.bonds = max(nodes, 1), edges, edges - hidden_class
        self.classes, self.features, self.steps, self.largest = nodes, features, steps, largest
        wide = {"none": (0, 0, 0), "cycles": (3, 0, 5), "all": (6, 0, 11)}
        more_x, more_e, more_y = wide.get(features, (steps, steps, 1))
        self.in_x = _mlp(self.nodes + edges + more_x, mlp_x, dx, last=True)
        self.in_e = _mlp(edges + more_e, mlp_e, de, last=True)
        self.in_y = _mlp(1 + more_y + cond, mlp_y, dy, last=True)
        self.layers = nn.ModuleList(
            _Layer(dx, de, dy, heads, ff_x, ff_e, ff_y) for _ in range(layers)
        )
        self.out_x = _mlp(dx, mlp_x, nodes, last=False) if nodes else None
        self.out_e = _mlp(de, mlp_e, edges, last=False)
        self.encoding = node_encoding(encoding, dx)

    def forward(
        self,
        values: Mapping[str, Tensor],
        label: Tensor,
        masks: Mapping[str, Tensor],
        cond: Any = None,
    ) -> dict[str, Tensor]:
        """Logits ``x [b, n, nodes]`` and ``adj [b, n, n, edges]``, see ``PairTransformer``."""
        adj, dtype = values["adj"], label.dtype
        mask = masks.get("adj")
        if mask is None:
            mask = torch.ones(adj.shape[:2], dtype=torch.bool, device=adj.device)
        node = mask.unsqueeze(-1).to(dtype)
        away = ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        pair = (mask[:, :, None] & mask[:, None, :] & away).unsqueeze(-1).to(dtype)
        kinds = class_weights(adj, self.edges, 3, dtype) * pair
        atoms = class_weights(values["x"], self.nodes, 2, dtype) if self.classes else node
        more_x, more_e, more_y = self._features(adj, mask, dtype)
        x = self.in_x(torch.cat([atoms, kinds.sum(2), *more_x], -1)) * node
        if self.encoding is not None:
            x = x + self.encoding(bond_weights(adj, self.bonds, dtype), mask)
        e = self.in_e(torch.cat([kinds, *more_e], -1))
        e = (e + e.transpose(1, 2)) * 0.5 * pair
        y = self.in_y(torch.cat([label[:, None], *more_y, *([] if cond is None else [cond])], -1))
        for layer in self.layers:
            x, e, y = layer(x, e, y, node, pair)
        edge = (self.out_e(e) + kinds) * pair
        out = {"adj": (edge + edge.transpose(1, 2)) * 0.5}
        if self.out_x is not None:
            out["x"] = (self.out_x(x) + atoms) * node
        return out

    def _features(
        self, adj: Tensor, mask: Tensor, dtype: torch.dtype
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Structural features of nodes, pairs and the graph."""
        if self.features == "none":
            return [], [], []
        bonded = bond_weights(adj, self.bonds, dtype)
        size = mask.sum(1, keepdim=True).to(dtype) / self.largest
        if self.features == "rrwp":
            walks = rrwp(bonded, self.steps) * mask[:, :, None, None]
            return [walks.diagonal(dim1=1, dim2=2).transpose(1, 2)], [walks], [size]
        # Counts are scaled and cut off as published, so that dense noise does not swamp the rest.
        own, whole = (v.div(10).clamp(max=1) for v in cycles(bonded))
        if self.features == "cycles":
            return [own], [], [size, whole]
        near, far = spectrum(bonded.detach(), mask)  # eigenvectors have no usable derivative
        return [own, near], [], [size, whole, far]
