r"""Message passing on the nearest residues of a backbone: the network of ProteinMPNN.

Dauparas et al., Science 378:49 (2022). Every residue exchanges messages with the :math:`k` residues
whose CA is nearest, itself among them. An edge is described by the distances of the five atoms N,
CA, C, O and a virtual CB of both ends, each in 16 radial basis functions between 2 and 22 Å, and by
the difference of their places along the chain, clipped to 32, with one more class for residues of
different chains. Encoder layers update residues :math:`v` and edges :math:`e`,

.. math::
    v_i \leftarrow \mathrm{FF}\Bigl(v_i + \tfrac1{30} \sum_{j \in N(i)} f(v_i, e_{ij}, v_j)\Bigr),
    \qquad e_{ij} \leftarrow e_{ij} + g(v_i, e_{ij}, v_j)

(normalised after each sum); decoder layers also read letters :math:`s`. A neighbour that is *seen*
sends :math:`f(v_i, e_{ij}, s_j, v_j)`, one that is not sends :math:`f(v_i, e_{ij}, 0, v^{enc}_j)`,
what the encoder knows of it.

:math:`f` is three linear maps with GELUs between. The first is applied to its arguments one by one,
to residues before they are gathered, and the last after the sum over neighbours: both are linear,
so that only the middle one is paid for every edge. Neighbours without coordinates, padding among
them, send nothing, so padding changes nothing; the published code lets padding speak where a chain
is shorter than :math:`k`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["MPNN", "Encoding", "gather"]

SCALE = 30.0
REACH = 32
RADII = (2.0, 22.0, 16)
N, CA, C, O, CB = range(5)  # noqa: E741  (the name of the atom)
PAIRS = (
    (CA, CA), (N, N), (C, C), (O, O), (CB, CB), (CA, N), (CA, C), (CA, O), (CA, CB), (N, C),
    (N, O), (N, CB), (CB, C), (CB, O), (O, C), (N, CA), (C, CA), (O, CA), (CB, CA), (C, N),
    (O, N), (CB, N), (C, CB), (O, CB), (C, O),
)  # fmt: skip
"""Atom of the residue and atom of its neighbour, in the order of the published weights."""


def gather(x: Tensor, index: Tensor) -> Tensor:
    """Rows ``index`` ``[b, ...]`` of ``x`` ``[b, L, H]``: ``[b, ..., H]``."""
    flat = index.flatten(1).unsqueeze(-1).expand(-1, -1, x.shape[-1])
    return x.gather(1, flat).reshape(*index.shape, x.shape[-1])


@dataclass(frozen=True)
class Encoding:
    """What the decoder reads of a structure; letters change nothing of it.

    Attributes:
        nodes: Residues, ``[b, L, H]``.
        neighbours: Nearest residues, int64 ``[b, L, K]``.
        real: Whether both ends of an edge have coordinates, bool ``[b, L, K]``.
        resolved: Whether a residue has coordinates, bool ``[b, L]``.
        edges: Share of the edges in the first linear map of each decoder layer, ``[b, L, K, H]``.
    """

    nodes: Tensor
    neighbours: Tensor
    real: Tensor
    resolved: Tensor
    edges: tuple[Tensor, ...]

    def map(self, change: Any) -> Encoding:
        """``change`` applied to every tensor."""
        return Encoding(
            change(self.nodes), change(self.neighbours), change(self.real), change(self.resolved),
            tuple(change(edge) for edge in self.edges),
        )  # fmt: skip

    def repeated(self, times: int) -> Encoding:
        """One structure as a batch of equal ones, without copying it."""
        return self.map(lambda x: x.expand(times, *x.shape[1:]))


class EdgeFeatures(nn.Module):
    """Neighbours and edges of a backbone."""

    def __init__(self, hidden: int, neighbours: int) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.relative = nn.Linear(2 * REACH + 2, 16)
        self.edge = nn.Linear(16 + RADII[2] * len(PAIRS), hidden, bias=False)
        self.norm = nn.LayerNorm(hidden)

    def forward(
        self, coords: Tensor, resolved: Tensor, position: Tensor, chain: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Edges ``[b, L, K, H]`` and neighbours ``[b, L, K]``, nearest first."""
        alpha = coords[:, :, CA]
        far = torch.cdist(alpha, alpha, compute_mode="donot_use_mm_for_euclid_dist")
        far = far.masked_fill(~resolved.unsqueeze(1), torch.inf)
        index = far.topk(min(self.neighbours, far.shape[-1]), largest=False).indices
        atoms = torch.cat((coords, virtual_cb(coords).unsqueeze(2)), 2)
        others = gather(atoms.flatten(2), index).unflatten(-1, (5, 3))
        own, its = (list(side) for side in zip(*PAIRS, strict=True))
        gap = atoms[:, :, own].unsqueeze(2) - others[:, :, :, its]
        distance = (gap.square().sum(-1) + 1e-6).sqrt()
        low, high, count = RADII
        centre = torch.linspace(low, high, int(count), device=coords.device, dtype=coords.dtype)
        wave = torch.exp(-(((distance.unsqueeze(-1) - centre) / ((high - low) / count)) ** 2))
        there = gather(torch.stack((position, chain), -1), index)
        offset = (position.unsqueeze(-1) - there[..., 0]).clamp(-REACH, REACH) + REACH
        offset = torch.where(chain.unsqueeze(-1) == there[..., 1], offset, 2 * REACH + 1)
        # A linear map of a one-hot vector is a row of its matrix.
        place = functional.embedding(offset, self.relative.weight.t()) + self.relative.bias
        edges = self.edge(torch.cat((place, wave.flatten(-2)), -1))
        return self.norm(edges), index


def virtual_cb(coords: Tensor) -> Tensor:
    """Where CB would be at ideal geometry, ``[b, L, 3]``, from N, CA, C ``[b, L, 4, 3]``."""
    b = coords[:, :, CA] - coords[:, :, N]
    c = coords[:, :, C] - coords[:, :, CA]
    a = torch.linalg.cross(b, c)
    return -0.58273431 * a + 0.56802827 * b - 0.54067466 * c + coords[:, :, CA]


class Message(nn.Module):
    """Three linear maps; the first takes ``parts`` vectors, see the module docstring."""

    def __init__(self, hidden: int, parts: int) -> None:
        super().__init__()
        self.first = nn.Linear(parts * hidden, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.third = nn.Linear(hidden, hidden)
        self.hidden = hidden

    def part(self, k: int, x: Tensor) -> Tensor:
        """Share of argument ``k`` in the first map; the first argument brings the bias."""
        block = self.first.weight[:, k * self.hidden : (k + 1) * self.hidden]
        return functional.linear(x, block, self.first.bias if k == 0 else None)

    def inner(self, total: Tensor) -> Tensor:
        """From the sum of all parts ``[..., H]`` to what the last map takes."""
        return functional.gelu(self.second(functional.gelu(total)))

    def pooled(self, total: Tensor, real: Tensor) -> Tensor:
        """Sum over real neighbours ``[..., K]`` of the messages ``[..., K, H]``."""
        inside = (self.inner(total) * real.unsqueeze(-1)).sum(-2)
        bias = real.sum(-1, keepdim=True) * self.third.bias
        return functional.linear(inside, self.third.weight) + bias


class Layer(nn.Module):
    """What encoder and decoder layers do to residues."""

    def __init__(self, hidden: int, parts: int, dropout: float) -> None:
        super().__init__()
        self.message = Message(hidden, parts)
        self.norm_message = nn.LayerNorm(hidden)
        self.norm_feed = nn.LayerNorm(hidden)
        self.feed_in = nn.Linear(hidden, 4 * hidden)
        self.feed_out = nn.Linear(4 * hidden, hidden)
        self.dropout = nn.Dropout(dropout)

    def update(self, nodes: Tensor, total: Tensor, real: Tensor, resolved: Tensor) -> Tensor:
        """New residues ``[..., H]`` from the sum of all parts ``[..., K, H]`` of the messages."""
        change = self.message.pooled(total, real.to(nodes.dtype)) / SCALE
        nodes = self.norm_message(nodes + self.dropout(change))
        change = self.feed_out(functional.gelu(self.feed_in(nodes)))
        return self.norm_feed(nodes + self.dropout(change)) * resolved.unsqueeze(-1)


class EncoderLayer(Layer):
    """Updates residues and edges."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__(hidden, 3, dropout)
        self.edge_message = Message(hidden, 3)
        self.norm_edge = nn.LayerNorm(hidden)

    def forward(
        self, nodes: Tensor, edges: Tensor, index: Tensor, real: Tensor, resolved: Tensor
    ) -> tuple[Tensor, Tensor]:
        """New residues ``[b, L, H]`` and edges ``[b, L, K, H]``."""
        nodes = self.update(nodes, _total(self.message, nodes, edges, index), real, resolved)
        inside = self.edge_message.inner(_total(self.edge_message, nodes, edges, index))
        change = self.edge_message.third(inside)
        return nodes, self.norm_edge(edges + self.dropout(change))


def _total(message: Message, nodes: Tensor, edges: Tensor, index: Tensor) -> Tensor:
    own, other = message.part(0, nodes), message.part(2, nodes)
    return own.unsqueeze(2) + message.part(1, edges) + gather(other, index)


class DecoderLayer(Layer):
    """Updates residues from letters and structure."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__(hidden, 4, dropout)

    def known(self, letters: Tensor, nodes: Tensor) -> Tensor:
        """Share of seen residues ``[..., H]`` in the first map."""
        return self.message.part(2, letters) + self.message.part(3, nodes)

    def blind(self, nodes: Tensor) -> Tensor:
        """Share of unseen residues, of which the encoder's ``nodes`` are known."""
        return self.message.part(3, nodes)


class MPNN(nn.Module):
    """The network of ProteinMPNN.

    Args:
        vocab: Letters that it embeds: 21 (20 amino acids and X) or 22 with a mask.
        hidden: Width of residues and edges.
        encoder_layers: Encoder layers.
        decoder_layers: Decoder layers.
        neighbours: Nearest residues that a residue hears.
        dropout: In training.
    """

    def __init__(
        self,
        vocab: int = 21,
        *,
        hidden: int = 128,
        encoder_layers: int = 3,
        decoder_layers: int = 3,
        neighbours: int = 48,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.features = EdgeFeatures(hidden, neighbours)
        self.edge_in = nn.Linear(hidden, hidden)
        self.letters = nn.Embedding(vocab, hidden)
        encoder = [EncoderLayer(hidden, dropout) for _ in range(encoder_layers)]
        decoder = [DecoderLayer(hidden, dropout) for _ in range(decoder_layers)]
        self.encoder = nn.ModuleList(encoder)
        self.decoder = nn.ModuleList(decoder)
        self.out = nn.Linear(hidden, vocab)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    @property
    def layers(self) -> list[DecoderLayer]:
        """The decoder layers."""
        return [cast(DecoderLayer, layer) for layer in self.decoder]

    def encode(self, coords: Tensor, resolved: Tensor, position: Tensor, chain: Tensor) -> Encoding:
        """What the decoder reads of structures.

        Args:
            coords: Å, ``[b, L, 4, 3]``.
            resolved: Whether a residue has coordinates, bool ``[b, L]``.
            position: Place along the chain, int64 ``[b, L]``.
            chain: Index of the chain, int64 ``[b, L]``.
        """
        edges, index = self.features(coords, resolved, position, chain)
        edges = self.edge_in(edges)
        nodes = torch.zeros_like(edges[:, :, 0])
        real = gather(resolved.unsqueeze(-1), index).squeeze(-1) & resolved.unsqueeze(-1)
        for layer in self.encoder:
            nodes, edges = layer(nodes, edges, index, real, resolved)
        shares = tuple(layer.message.part(1, edges) for layer in self.layers)
        return Encoding(nodes, index, real, resolved, shares)

    def decode(self, encoding: Encoding, letters: Tensor, seen: Tensor | None) -> Tensor:
        """Logits ``[b, L, vocab]`` of every residue.

        Args:
            encoding: Of the structures.
            letters: Embedded letters ``[b, L, H]``.
            seen: Whether residue ``i`` sees the letter of its ``k``-th neighbour, ``[b, L, K]``
                between 0 and 1; all of them if None.
        """
        nodes, index = encoding.nodes, encoding.neighbours
        weight = None if seen is None else seen.unsqueeze(-1).to(nodes.dtype)
        for layer, edges in zip(self.layers, encoding.edges, strict=True):
            other = gather(layer.known(letters, nodes), index)
            if weight is not None:
                blind = gather(layer.blind(encoding.nodes), index)
                other = torch.lerp(blind, other, weight)
            total = layer.message.part(0, nodes).unsqueeze(2) + edges + other
            nodes = layer.update(nodes, total, encoding.real, encoding.resolved)
        return self.out(nodes)
