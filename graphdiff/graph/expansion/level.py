r"""One level of expansion: a batch of coarse graphs, their children, and what is to be decided.

Every coarse node has one or two children. Inside a pair of children there is an edge; between the
children of adjacent coarse nodes ``p`` and ``q`` there are :math:`s_p s_q \le 4` candidate edges,
of which *at least one* exists, because a coarse edge comes from contracting fine ones. What exists
is therefore one *token* for each coarse edge with more than one candidate: a non-empty subset of
its candidates. Candidate ``2 i + j`` joins child ``i`` of ``p`` and child ``j`` of ``q``, where
``p < q``; class ``c`` is the subset whose members are the bits of ``c + 1``. So every graph that is
made is connected, a token never disagrees with itself, and a tree stays a tree whenever each token
is one of its single candidates. Where :math:`s_p s_q = 1` nothing is to be decided.

The batch is one packed disjoint union: nodes, pairs, tokens and triangles of all graphs are
concatenated, graph by graph, and memory is that of the edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor

from graphdiff.graph.expansion.features import edge_features, node_features
from graphdiff.graph.expansion.triangles import triangles
from graphdiff.graph.nets.segments import Segments

__all__ = ["CLASSES", "INNER", "OPEN", "SURE", "Level", "Packed", "subsets"]

CLASSES = 15
"""Non-empty subsets of four candidates."""
INNER, SURE, OPEN = 0, 1, 2
"""Kinds of a pair: two children of one node, a single candidate, one of several candidates."""


@dataclass(frozen=True)
class Packed:
    """A batch of graphs as one disjoint union.

    Attributes:
        counts: Nodes of each graph, int64 ``[b]``.
        owner: Graph of each edge, int64 ``[m]``, ascending.
        edges: Ends of each edge, numbered within its graph, ``u < v``, int64 ``[m, 2]``.
    """

    counts: Tensor
    owner: Tensor
    edges: Tensor

    @staticmethod
    def single(b: int, device: torch.device | str = "cpu") -> Packed:
        """``b`` graphs of one node."""
        empty = torch.zeros(0, 2, dtype=torch.int64, device=device)
        return Packed(torch.ones(b, dtype=torch.int64, device=device), empty[:, 0], empty)

    @cached_property
    def first(self) -> Tensor:
        """Number of the first node of each graph in the union, int64 ``[b]``."""
        return self.counts.cumsum(0) - self.counts

    def select(self, keep: Tensor) -> Packed:
        """The graphs where ``keep`` (bool ``[b]``) is True."""
        place = keep.cumsum(0) - 1
        mine = keep[self.owner]
        return Packed(self.counts[keep], place[self.owner[mine]], self.edges[mine])

    @staticmethod
    def join(parts: Sequence[Packed], place: Tensor, nodes: Tensor) -> tuple[Packed, Tensor]:
        """Several unions as one, with something about their nodes.

        Args:
            parts: The unions.
            place: Number in the result of each graph of their concatenation, int64 ``[b]``.
            nodes: A number for each node of the concatenation ``[n]``.

        Returns:
            The union, and ``nodes`` in its order.
        """
        counts = torch.cat([part.counts for part in parts])
        before = 0
        owners = []
        for part in parts:
            owners.append(part.owner + before)
            before += len(part.counts)
        owner = place[torch.cat(owners)]
        order = torch.argsort(owner, stable=True)
        home = place.repeat_interleave(counts)
        edges = torch.cat([part.edges for part in parts])[order]
        graphs = Packed(torch.empty_like(counts).scatter_(0, place, counts), owner[order], edges)
        return graphs, nodes[torch.argsort(home, stable=True)]

    def padded(self) -> tuple[Tensor, Tensor]:
        """Edges ``[b, largest, 2]`` and their mask ``[b, largest]``."""
        number = torch.bincount(self.owner, minlength=len(self.counts))
        mask = _ranks(number) < number.unsqueeze(1)
        edges = self.edges.new_zeros((*mask.shape, 2))
        edges[mask] = self.edges
        return edges, mask


@dataclass(frozen=True)
class Level:
    """A packed batch of expansions, without the decisions.

    Numbers of nodes are those of the union.

    Attributes:
        total: Nodes that each graph will have in the end, int64 ``[b]``.
        target: Nodes that each graph will have after the next level, int64 ``[b]``.
        counts: Children of each graph, int64 ``[b]``.
        graph: Graph of each child, int64 ``[n]``.
        parent: Coarse node of each child, int64 ``[n]``.
        twin: Whether a child has a sibling, bool ``[n]``.
        coarse: Edges of the coarse graphs, int64 ``[m, 2]``.
        owner: Graph of each coarse edge, int64 ``[m]``.
        coarse_counts: Coarse nodes of each graph, int64 ``[b]``.
        pairs: Candidate edges, ``u < v``, int64 ``[k, 2]``.
        kind: ``INNER``, ``SURE`` or ``OPEN``, int64 ``[k]``.
        origin: Coarse edge of each pair (0 if inner), int64 ``[k]``.
        token: Coarse edges that are tokens, int64 ``[e]``.
        slots: Pair of each of the four candidates of a token, -1 where there is none, ``[e, 4]``.
        modes: Low Laplacian eigenvectors at the coarse nodes, float ``[p, r]``; ``r`` may be 0.
    """

    total: Tensor
    target: Tensor
    counts: Tensor
    graph: Tensor
    parent: Tensor
    twin: Tensor
    coarse: Tensor
    owner: Tensor
    coarse_counts: Tensor
    pairs: Tensor
    kind: Tensor
    origin: Tensor
    token: Tensor
    slots: Tensor
    modes: Tensor

    @staticmethod
    def build(
        graphs: Packed,
        split: Tensor,
        total: Tensor,
        target: Tensor | None = None,
        modes: Tensor | None = None,
    ) -> Level:
        """Expand packed coarse graphs.

        Args:
            graphs: The coarse graphs.
            split: 1 where a node has two children, int64, one number for each node of the union.
            total: Final number of nodes of each graph.
            target: Number of nodes after the next level; by default no node is split again.
            modes: Eigenvectors at the coarse nodes of the union; none by default.
        """
        size = split + 1
        device, b = split.device, len(graphs.counts)
        nodes = torch.arange(len(split), device=device)
        home = torch.repeat_interleave(torch.arange(b, device=device), graphs.counts)
        first = size.cumsum(0) - size
        parent = torch.repeat_interleave(nodes, size)
        counts = torch.zeros_like(graphs.counts).index_add_(0, home, size)
        coarse = graphs.edges + graphs.first[graphs.owner].unsqueeze(1)
        p, q = coarse.unbind(1)
        slot = torch.arange(4, device=device)
        i, j = slot // 2, slot % 2
        there = (i < size[p].unsqueeze(1)) & (j < size[q].unsqueeze(1))
        origin, place = there.nonzero(as_tuple=True)
        outer = torch.stack([first[p[origin]] + place // 2, first[q[origin]] + place % 2], 1)
        mother = split.nonzero().squeeze(1)
        inner = torch.stack([first[mother], first[mother] + 1], 1)
        open_ = size[p] * size[q] > 1
        token = open_.nonzero().squeeze(1)
        index = torch.full((len(p), 4), -1, dtype=torch.int64, device=device)
        index[origin, place] = len(inner) + torch.arange(len(origin), device=device)
        kind = torch.cat([torch.full_like(mother, INNER), torch.where(open_[origin], OPEN, SURE)])
        return Level(
            total, counts if target is None else target, counts, home[parent], parent,
            split[parent] > 0, coarse, graphs.owner, graphs.counts,
            torch.cat([inner, outer]), kind, torch.cat([torch.zeros_like(mother), origin]),
            token, index[token], split.new_zeros(len(split), 0).float() if modes is None else modes,
        )  # fmt: skip

    def to(self, device: torch.device | str) -> Level:
        """The level on another device."""
        return Level(*(getattr(self, f.name).to(device) for f in fields(self)))

    # -- padded views --------------------------------------------------------------------------

    @cached_property
    def tokens(self) -> Tensor:
        """Tokens of each graph, int64 ``[b]``."""
        return torch.bincount(self.owner[self.token], minlength=len(self.counts))

    @cached_property
    def token_mask(self) -> Tensor:
        """Real places of the padded component of edges, bool ``[b, e]``."""
        return _ranks(self.tokens) < self.tokens.unsqueeze(1)

    @cached_property
    def node_mask(self) -> Tensor:
        """Real places of the padded component of nodes, bool ``[b, n]``."""
        return _ranks(self.counts) < self.counts.unsqueeze(1)

    # -- for the network -----------------------------------------------------------------------

    @cached_property
    def ends(self) -> tuple[Segments, Segments]:
        """Pairs gathered at their first and second node."""
        n = len(self.parent)
        return Segments(self.pairs[:, 0], n), Segments(self.pairs[:, 1], n)

    @cached_property
    def degree(self) -> Tensor:
        """Candidate edges at each child, int64 ``[n]``."""
        return torch.bincount(self.pairs.flatten(), minlength=len(self.parent))

    @cached_property
    def home(self) -> Segments:
        """Children gathered by graph."""
        return Segments(self.graph, len(self.counts))

    @cached_property
    def triangles(self) -> tuple[Segments, Segments, Segments]:
        """The three pairs of every triangle of candidates, each gathered by pair."""
        found = triangles(self.pairs, len(self.parent))
        return tuple(Segments(side, len(self.pairs)) for side in found.unbind(1))  # type: ignore[return-value]

    @cached_property
    def members(self) -> Tensor:
        """Token and slot of every open pair as ``4 * token + slot``, -1 elsewhere, ``[k]``."""
        flat = torch.full((len(self.pairs),), -1, dtype=torch.int64, device=self.pairs.device)
        held = self.slots.flatten()
        real = (held >= 0).nonzero().squeeze(1)
        flat[held[real]] = real
        return flat

    @cached_property
    def allowed(self) -> Tensor:
        """Whether a token can be of a class, bool ``[e, 15]``."""
        sets = subsets(self.slots.device)
        return ~(sets.unsqueeze(0) & (self.slots < 0).unsqueeze(1)).any(2)

    @cached_property
    def features(self) -> tuple[Tensor, Tensor]:
        """Features of coarse nodes ``[p, f]`` and coarse edges ``[m, g]``, float32."""
        found = triangles(self.coarse, len(self.modes))
        node = node_features(self.coarse, self.coarse_counts, self.modes, found)
        return node, edge_features(self.coarse, self.coarse_counts, self.modes, found)

    # -- decisions -----------------------------------------------------------------------------

    def kept(self, tokens: Tensor) -> Tensor:
        """Which pairs exist, bool ``[k]``, for packed tokens (classes) ``[e]``."""
        sets = subsets(tokens.device)[tokens].flatten()
        return torch.cat([sets, sets.new_ones(1)])[self.members]  # -1 is the last: it exists

    def refine(self, tokens: Tensor) -> Packed:
        """The fine graphs that packed tokens ``[e]`` stand for, edges sorted."""
        edges = self.pairs[self.kept(tokens)]
        n = max(len(self.parent), 1)
        edges = edges[torch.argsort(edges[:, 0] * n + edges[:, 1])]
        owner = self.graph[edges[:, 0]]
        first = self.counts.cumsum(0) - self.counts
        return Packed(self.counts, owner, edges - first[owner].unsqueeze(1))


def subsets(device: torch.device) -> Tensor:
    """Members of each class, bool ``[15, 4]``."""
    return (
        torch.arange(1, 16, device=device).unsqueeze(1) >> torch.arange(4, device=device)
    ) & 1 > 0


def _ranks(counts: Tensor) -> Tensor:
    width = int(counts.max()) if len(counts) else 0
    return torch.arange(width, device=counts.device).unsqueeze(0)
