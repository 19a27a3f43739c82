r"""The network of the expansion model: message passing on nodes, candidate edges and triangles.

A layer moves along three relations of the packed union, all of them linear in the number of
candidate edges: a pair hears its two ends and the products of the other two sides of each of its
triangles (as in local PPGN, Bergmeister et al., 2024, section 4), a node hears the nodes at the
other ends of its pairs through gates that the pairs set, and a graph hears the mean of its nodes.

The logit of a token's class, a subset :math:`S` of candidates with features :math:`z`, is
:math:`f(\sum_{s \in S} A z_s + \sum_{s \notin S} B z_s + b_S)`, where :math:`b_S` depends on the
shape of :math:`S` only. Exchanging the two children of a node therefore permutes the logits, and
nothing tells children apart but what has been decided about them already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from graphdiff.graph.expansion.features import edge_width, node_width
from graphdiff.graph.expansion.level import CLASSES, OPEN, Level, subsets

__all__ = ["ExpansionNetwork"]

FAR = 2.0
"""``log(N / n)`` is told up to this: larger graphs start like all others."""
NEVER = -1e4


class _Layer(nn.Module):
    """One round of pairs, triangles and nodes, each a residual."""

    def __init__(self, hidden: int, pair: int, triangle: int, dropout: float) -> None:
        super().__init__()
        self.widths = (pair, pair, hidden)
        self.node_norm, self.pair_norm = nn.LayerNorm(hidden), nn.LayerNorm(pair)
        self.from_node = nn.Linear(hidden, sum(self.widths))
        self.from_pair = nn.Linear(pair, pair + triangle)
        self.from_triangle = nn.Linear(triangle, pair, bias=False)
        self.gate = nn.Linear(pair, hidden)
        self.to_pair = nn.Linear(pair, pair)
        self.from_graph = nn.Linear(hidden, hidden)
        self.node = nn.Linear(2 * hidden, hidden)
        self.to_node = nn.Linear(hidden, hidden)
        self.drop = nn.Dropout(dropout)

    def forward(
        self, h: Tensor, e: Tensor, level: Level, scale: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Nodes ``h`` ``[n, hidden]`` and pairs ``e`` ``[k, pair]`` after the round."""
        node_scale, triangle_scale, graph_scale = scale
        hn, en = self.node_norm(h), self.pair_norm(e)
        first, second = level.ends
        table = self.from_node(hn)
        here, there = first.spread(table), second.spread(table)
        (a, b, u), (c, d, w) = here.split(self.widths, 1), there.split(self.widths, 1)
        own, x = self.from_pair(en).split((e.shape[1], self.from_triangle.in_features), 1)
        z = own + a + c + b * d
        sides = level.triangles
        if len(sides[0].index):
            p, q, r = (side.spread(x) for side in sides)
            closed = sides[0].sum(q * r) + sides[1].sum(p * r) + sides[2].sum(p * q)
            z = z + self.from_triangle(closed * triangle_scale)
        z = functional.silu(z)
        gate = self.gate(z)
        heard = (first.sum(gate * w) + second.sum(gate * u)) * node_scale
        graph = self.from_graph(level.home.sum(hn) * graph_scale)
        z_node = self.node(torch.cat([hn, heard], 1)) + level.home.spread(graph)
        h = h + self.drop(self.to_node(functional.silu(z_node)))
        return h, e + self.drop(self.to_pair(z))


class _TokenHead(nn.Module):
    """Logits of the 15 subsets of a token's candidates."""

    def __init__(self, pair: int, width: int) -> None:
        super().__init__()
        self.inside = nn.Linear(pair, width, bias=False)
        self.outside = nn.Linear(pair, width, bias=False)
        self.shape = nn.Embedding(5, width)
        self.out = nn.Linear(width, 1)

    def forward(self, pairs: Tensor, level: Level) -> Tensor:
        """``[e, 15]`` from the features of the pairs ``[k, d]``."""
        table = torch.cat([pairs, pairs.new_zeros(1, pairs.shape[1])])
        z = table[level.slots.flatten()].unflatten(0, (-1, 4))  # slot -1 is the row of zeros
        sets = subsets(z.device)
        inside = torch.einsum("cs,esd->ecd", sets.to(z), self.inside(z))
        outside = torch.einsum("cs,esd->ecd", (~sets).to(z), self.outside(z))
        hidden = functional.silu(inside + outside + self.shape(_shapes(sets)))
        return self.out(hidden).squeeze(2).masked_fill(~level.allowed, NEVER)


def _shapes(sets: Tensor) -> Tensor:
    """Shape of each subset, ``[15]``: one edge, two that meet, two that do not, three, four."""
    size = sets.sum(1)
    apart = (size == 2) & (sets[:, 0] == sets[:, 3])
    return torch.where(size == 1, 0, torch.where(size == 2, 1 + apart.long(), size))


class ExpansionNetwork(nn.Module):
    """Predicts tokens and splits of a level from a partly masked state.

    Args:
        hidden: Node features.
        pair: Features of candidate edges.
        triangle: Channels of the triangle products.
        layers: Rounds of message passing.
        modes: Laplacian eigenvectors that levels carry.
        dropout: Of every residual.
    """

    def __init__(
        self,
        hidden: int = 64,
        pair: int = 48,
        triangle: int = 16,
        layers: int = 5,
        modes: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.modes = modes
        self.node_in = nn.Linear(node_width(modes) + 1, hidden)
        self.split_in = nn.Embedding(3, hidden)
        self.pair_in = nn.Linear(edge_width(modes), pair)
        self.state_in = nn.Embedding(5, pair)
        self.graph_in = nn.Sequential(
            nn.Linear(7, hidden), nn.SiLU(), nn.Linear(hidden, hidden + pair)
        )
        self.layers = nn.ModuleList(_Layer(hidden, pair, triangle, dropout) for _ in range(layers))
        self.node_norm, self.pair_norm = nn.LayerNorm(hidden), nn.LayerNorm(pair)
        self.split = nn.Linear(hidden, 2)
        self.token = _TokenHead(pair, 32)

    def forward(
        self, values: Mapping[str, Tensor], label: Tensor, masks: Mapping[str, Tensor], cond: Any
    ) -> dict[str, Tensor]:
        """Raw logits ``e`` ``[b, e, 16]`` and ``v`` ``[b, n, 3]``.

        Args:
            values: Classes ``e`` ``[b, e]`` (15 is the mask) and ``v`` ``[b, n]`` (2 is the mask).
            label: Clock ``[b]``.
            masks: Not read; the level knows its own.
            cond: The :class:`Level`.
        """
        level: Level = cond
        tokens, splits = values["e"][level.token_mask], values["v"][level.node_mask]
        h, e = self._inputs(level, tokens, splits, label)
        scale = _scales(level, h)
        for layer in self.layers:
            h, e = layer(h, e, level, scale)
        raw = self.split(self.node_norm(h))
        v = raw.new_zeros(*values["v"].shape, 3)
        v[level.node_mask] = functional.pad(raw, (0, 1))
        raw = self.token(self.pair_norm(e), level)
        out = raw.new_zeros(*values["e"].shape, CLASSES + 1)
        out[level.token_mask] = functional.pad(raw, (0, 1))
        return {"e": out, "v": v}

    def _inputs(
        self, level: Level, tokens: Tensor, splits: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor]:
        node, edge = level.features
        graph = self.graph_in(_graph_facts(level, splits, t))
        of_node, of_pair = graph.split(
            (self.split_in.embedding_dim, self.state_in.embedding_dim), 1
        )
        known = torch.cat([node[level.parent], level.twin.float().unsqueeze(1)], 1)
        h = self.node_in(known) + self.split_in(splits) + level.home.spread(of_node)
        place = level.members
        hidden = torch.cat([tokens == CLASSES, tokens.new_zeros(1, dtype=torch.bool)])
        token = torch.where(place >= 0, place // 4, -1)
        there = level.kept(tokens.clamp(max=CLASSES - 1))
        decided = torch.where(there, OPEN + 1, OPEN + 2)
        state = torch.where(
            level.kind < OPEN, level.kind, torch.where(hidden[token], OPEN, decided)
        )
        told = edge[level.origin] if len(edge) else edge.new_zeros(len(place), edge.shape[1])
        told = torch.where((level.kind > 0).unsqueeze(1), told, 0)
        home = level.graph[level.pairs[:, 0]]
        return h, self.pair_in(told) + self.state_in(state) + of_pair[home]


def _graph_facts(level: Level, splits: Tensor, t: Tensor) -> Tensor:
    """Clock, distance to the final size, share of nodes to be split, and what is left of it."""
    n, total, target = level.counts.float(), level.total.float(), level.target.float()
    hidden = level.home.add((splits == 2).float().unsqueeze(1)).squeeze(1)
    done = level.home.add((splits == 1).float().unsqueeze(1)).squeeze(1)
    left = (target - n - done) / hidden.clamp(min=1)
    far = torch.log(total / n).clamp(max=FAR)
    end = (level.total == level.counts).float()
    grown = n / level.coarse_counts - 1
    columns = [t, torch.cos(3.1416 * t), far, end, (target - n) / n, left, grown]
    return torch.stack([c.to(t.dtype) for c in columns], 1)


def _scales(level: Level, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One over the roots of degrees and of triangle counts, and over the number of nodes."""
    closed = sum(torch.bincount(s.index, minlength=s.count) for s in level.triangles)
    return (
        (1 + level.degree).to(like).rsqrt().unsqueeze(1),
        (1 + torch.as_tensor(closed)).to(like).rsqrt().unsqueeze(1),
        level.counts.to(like).reciprocal().unsqueeze(1),
    )
