r"""Structural features of noisy graphs, for whole batches at once.

* Random walks (RRWP; Ma et al., 2023, arXiv 2305.17589; DeFoG): :math:`M^k_{ij}`,
  :math:`k = 0 \dots K-1`, with :math:`M = D^{-1}A`, or the symmetric
  :math:`D^{-1/2} A D^{-1/2}`, which differs by the factor :math:`\sqrt{d_i/d_j}` only and can be
  stored once for each pair.
* Cycle counts (DiGress, Vignac et al., 2023, arXiv 2209.14734, appendix B): the numbers of 3-, 4-
  and 5-cycles through each node and of 3- to 6-cycles of the graph, in closed form from powers of
  the adjacency (Harary & Manvel, 1971).
* Spectrum of the Laplacian (DiGress, same place): number of components, first eigenvalues, first
  eigenvectors, and which nodes lie outside the largest component. One batched eigendecomposition;
  padding is pushed to the end of the spectrum.

All take a binary adjacency ``[b, n, n]`` in floats, zero at padding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.graph.nets.half import pair_ends

__all__ = ["cycles", "rrwp", "rrwp_pairs", "spectrum"]


def rrwp(adj: Tensor, steps: int) -> Tensor:
    """Powers 0 to ``steps - 1`` of the random-walk matrix ``D^-1 A``, ``[b, n, n, steps]``."""
    walk = adj / adj.sum(-1, keepdim=True).clamp(min=1)
    power = torch.eye(adj.shape[1], dtype=adj.dtype, device=adj.device).expand_as(adj)
    out = [power]
    for _ in range(steps - 1):
        power = power @ walk
        out.append(power)
    return torch.stack(out, -1)


def rrwp_pairs(adj: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Powers 1 to ``steps`` of ``D^-1/2 A D^-1/2``.

    Returns:
        The diagonals ``[b, n, steps]`` (return probabilities of the walk) and the entries of the
        pairs ``[b, p, steps]``. Odd and even powers come from products of lower ones, so about
        ``steps / 2`` products of matrices are made in full.
    """
    n = adj.shape[1]
    scale = adj.sum(-1).clamp(min=1).rsqrt()
    walk = adj * scale[:, :, None] * scale[:, None, :]
    power, powers = walk, [walk]
    for _ in range(steps - 1):
        power = power @ walk
        powers.append(power)
    stacked = torch.stack(powers, 1).flatten(2)
    i, j = pair_ends(n, adj.device)
    node = torch.arange(n, device=adj.device)
    nodes = stacked.index_select(2, node * (n + 1)).transpose(1, 2)
    return nodes, stacked.index_select(2, i * n + j).transpose(1, 2)


def cycles(adj: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of cycles of a simple graph.

    Returns:
        3-, 4- and 5-cycles through each node ``[b, n, 3]``, and 3- to 6-cycles of each graph
        ``[b, 4]``. Exact while the counts stay below 2^24 in float32.
    """
    a2 = adj @ adj
    a3 = a2 @ adj
    degree = adj.sum(-1)
    closed3 = a3.diagonal(dim1=1, dim2=2)
    closed4 = a2.square().sum(-1)
    closed5 = (a2 * a3).sum(-1)
    reach = (adj @ degree.unsqueeze(-1)).squeeze(-1)
    around = (adj @ closed3.unsqueeze(-1)).squeeze(-1)
    spiked = ((adj * a2) @ degree.unsqueeze(-1)).squeeze(-1)
    c3 = closed3 / 2
    c4 = (closed4 - degree * (degree - 1) - reach) / 2
    c5 = (closed5 - 2 * degree * closed3 - around - 2 * spiked + 5 * closed3) / 2
    whole = torch.stack([c3.sum(1) / 3, c4.sum(1) / 4, c5.sum(1) / 5, _hexagons(adj, a2, a3)], -1)
    return torch.stack([c3, c4, c5], -1), whole


def _hexagons(adj: Tensor, a2: Tensor, a3: Tensor) -> Tensor:
    """6-cycles of each graph, ``[b]`` (Harary & Manvel, 1971)."""
    degree = adj.sum(-1)
    closed3, closed4 = a3.diagonal(dim1=1, dim2=2), a2.square().sum(-1)
    total = (
        a3.square().sum((1, 2))
        - 3 * closed3.square().sum(1)
        + 9 * (adj * a2.square()).sum((1, 2))
        - 6 * (degree * closed4).sum(1)
        + 6 * closed4.sum(1)
        - 4 * closed3.sum(1)
        + 4 * degree.pow(3).sum(1)
        + 3 * a3.sum((1, 2))
        - 12 * degree.square().sum(1)
        + 4 * degree.sum(1)
    )
    return total / 12


def spectrum(
    adj: Tensor, mask: Tensor, *, values: int = 5, vectors: int = 2
) -> tuple[Tensor, Tensor]:
    """Laplacian features of DiGress.

    Args:
        adj: Binary adjacency ``[b, n, n]``.
        mask: Real nodes ``[b, n]``.
        values: Number of eigenvalues after the zeros.
        vectors: Number of eigenvectors after the kernel.

    Returns:
        Node features ``[b, n, 1 + vectors]`` (1 outside the largest component; eigenvectors), and
        graph features ``[b, 1 + values]`` (number of components over 10; eigenvalues). Missing
        eigenvalues of small graphs are 2, missing vectors 0. The sign of an eigenvector is fixed
        by its entry of largest modulus, which is positive.
    """
    b, n = mask.shape
    lost = (~mask).to(adj.dtype)
    # Padded nodes get the eigenvalue 2n, above every eigenvalue of a graph of n nodes.
    laplacian = torch.diag_embed(adj.sum(-1) + 2 * n * lost) - adj
    level, vector = torch.linalg.eigh(laplacian)
    kernel = (level < 1e-4).sum(-1)
    first = kernel[:, None] + torch.arange(values, device=adj.device)
    exists = first < mask.sum(1, keepdim=True)
    top = torch.where(exists, level.gather(1, first.clamp(max=n - 1)), 2.0)
    first = kernel[:, None] + torch.arange(vectors, device=adj.device)
    exists = first < mask.sum(1, keepdim=True)
    place = first.clamp(max=n - 1)[:, None, :].expand(b, n, vectors)
    chosen = vector.gather(2, place) * exists[:, None, :]
    peak = chosen.gather(1, chosen.abs().argmax(1, keepdim=True))
    chosen = chosen * torch.where(peak < 0, -1.0, 1.0).to(chosen.dtype)
    outside = (~_largest(adj, mask)).to(adj.dtype) * mask
    nodes = torch.cat([outside.unsqueeze(-1), chosen * mask.unsqueeze(-1)], -1)
    return nodes, torch.cat([kernel[:, None].to(adj.dtype) / 10, top], -1)


def _largest(adj: Tensor, mask: Tensor) -> Tensor:
    """Members of the largest component, bool ``[b, n]``; the first one of several."""
    n = adj.shape[1]
    reach = adj + torch.eye(n, dtype=adj.dtype, device=adj.device)
    span = 1
    while span < n:  # each squaring doubles the length of the paths
        reach = ((reach @ reach) > 0).to(adj.dtype)
        span *= 2
    reach = (reach > 0) & mask[:, :, None] & mask[:, None, :]
    best = reach.sum(-1).argmax(1)
    return reach[torch.arange(len(adj), device=adj.device), best]
