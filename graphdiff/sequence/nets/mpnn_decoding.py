r"""Autoregressive decoding with :class:`graphdiff.sequence.nets.mpnn.MPNN`.

Residues are drawn in an order :math:`\pi`, each given the letters of those before it,

.. math:: p(s \mid X) = \prod_k p\bigl(s_{\pi(k)} \mid s_{\pi(1)}, \dots, s_{\pi(k-1)}, X\bigr),

and the network was trained on random orders, so any order is a factorisation of the same law, as
far as it has learnt it. A *site* is a set of residues that take one letter (one residue, unless
chains are tied): their logits are averaged, and none of them sees another.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.core.rng import Key
from graphdiff.sequence.nets.mpnn import MPNN, Encoding, gather

__all__ = ["draw_classes", "random_rank", "sample_in_order", "seen_before", "teacher_forced"]


def random_rank(key: Key, free: Tensor) -> Tensor:
    """Rank of each site in a random order that begins with the sites that are given.

    Args:
        key: Stream of the order.
        free: Whether a site is drawn, bool ``[b, G]``.

    Returns:
        Float64 ``[b, G]``; sites of lower rank come first.
    """
    return key.uniform(free.shape[1], torch.float64) + free.to(torch.float64)


def seen_before(rank: Tensor, neighbours: Tensor) -> Tensor:
    """Whether a neighbour comes before a residue, bool ``[b, L, K]``, from ranks ``[b, L]``."""
    return gather(rank.unsqueeze(-1), neighbours).squeeze(-1) < rank.unsqueeze(-1)


def teacher_forced(net: MPNN, encoding: Encoding, letters: Tensor, rank: Tensor) -> Tensor:
    """Log-probabilities ``[b, L, vocab]`` of each residue given those of lower rank.

    Args:
        net: The network.
        encoding: Of the structures.
        letters: Classes, int64 ``[b, L]``.
        rank: Order of the residues ``[b, L]``; equal ranks do not see each other.
    """
    embedded = net.letters(letters)
    logits = net.decode(encoding, embedded, seen_before(rank, encoding.neighbours))
    return torch.log_softmax(logits, -1)


def draw_classes(logits: Tensor, temperature: Tensor, uniform: Tensor) -> Tensor:
    """Classes ``[b]`` of logits ``[b, K]``, in float64.

    Args:
        logits: Unnormalised log-probabilities; ``-inf`` excludes a class.
        temperature: ``[b]``; at 0 the likeliest class is taken.
        uniform: A number in (0, 1) for each, float64 ``[b]``.
    """
    scaled = logits.double() / temperature.double().clamp(min=1e-30).unsqueeze(-1)
    cdf = (scaled - scaled.amax(-1, keepdim=True)).exp().cumsum(-1)
    drawn = (cdf <= uniform.unsqueeze(-1) * cdf[..., -1:]).sum(-1)
    return torch.where(temperature > 0, drawn, logits.argmax(-1))


def sample_in_order(
    net: MPNN,
    encoding: Encoding,
    members: Tensor,
    given: Tensor,
    rank: Tensor,
    allowed: Tensor,
    temperature: Tensor,
    uniform: Tensor,
) -> Tensor:
    """Draw the letters of all sites, one site after the other.

    A step costs the neighbours of one residue, not of all.

    Args:
        net: The network.
        encoding: Of the structures.
        members: Residues of each site, int64 ``[b, G, M]``; -1 where there are fewer than ``M``.
        given: Class of a site that is not drawn, -1 for one that is, int64 ``[b, G]``.
        rank: Order of the sites, ``[b, G]``.
        allowed: Classes that may be drawn, bool ``[b, vocab]``.
        temperature: ``[b]``; 0 takes the likeliest letter.
        uniform: Noise of each site, float64 ``[b, G]``.

    Returns:
        Classes of the sites, int64 ``[b, G]``; 0 for sites without residues.

    Raises:
        ArgumentError: A sample allows no class.
    """
    if not bool(allowed.any(1).all()):
        raise ArgumentError("no letter is allowed at all; omit fewer of them")
    batch = torch.arange(len(members), device=members.device)
    tables = [layer.blind(encoding.nodes) for layer in net.layers]
    letters = torch.zeros_like(given)
    # Sites without residues (padding) last, whatever their rank.
    empty = (members < 0).all(-1)
    order = torch.argsort(rank.masked_fill(empty, torch.inf), dim=1, stable=True)
    for step in range(int((~empty).sum(1).max())):
        site = order[:, step]
        here = members[batch, site]
        live = here >= 0
        # Spare places repeat the first residue, so that what they compute and write is the same.
        place = torch.where(live, here, here[:, :1].clamp(min=0))
        logits, inputs = _logits_at(net, encoding, tables, place)
        share = live.unsqueeze(-1) / live.sum(1, keepdim=True).clamp(min=1).unsqueeze(-1)
        mean = (logits * share).sum(1).masked_fill(~allowed, -torch.inf)
        drawn = draw_classes(mean, temperature, uniform[batch, site])
        fixed = given[batch, site]
        letter = torch.where(fixed >= 0, fixed, drawn)
        active = live.any(1)
        letters[batch, site] = torch.where(active, letter, 0)
        embedded = net.letters(letter).unsqueeze(1).expand_as(inputs[0])
        rows = batch[:, None].expand_as(place)
        for table, layer, nodes in zip(tables, net.layers, inputs, strict=True):
            new = layer.known(embedded, nodes)
            table[rows, place] = torch.where(active[:, None, None], new, table[rows, place])
    return letters


def _logits_at(
    net: MPNN, encoding: Encoding, tables: list[Tensor], place: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Logits ``[b, M, vocab]`` at residues ``place`` ``[b, M]``, and what each layer was given."""
    rows = torch.arange(len(place), device=place.device)[:, None]
    index, real = encoding.neighbours[rows, place], encoding.real[rows, place]
    resolved = encoding.resolved[rows, place]
    nodes, inputs = encoding.nodes[rows, place], []
    for layer, table, edges in zip(net.layers, tables, encoding.edges, strict=True):
        inputs.append(nodes)
        own = layer.message.part(0, nodes).unsqueeze(2)
        total = own + edges[rows, place] + gather(table, index)
        nodes = layer.update(nodes, total, real, resolved)
    return net.out(nodes), inputs
