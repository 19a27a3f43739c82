r"""Sheaf diffusion between the nodes of a dense graph, in place of attention.

A denoiser sees every pair of nodes, an edge or not, through its pair stream :math:`e`. Here each
pair gets, for every head, maps of its ends and a weight,

.. math:: F_{v \trianglelefteq vu} = \tanh(P x_v + Q x_u + R e_{vu}), \qquad
          w_{vu} = \sigma(G e_{vu}),

and the nodes move by one step of diffusion over the normalised Laplacian of this weighted sheaf,

.. math:: x_v \mathrel{-}= W_o\, \mathrm{ELU}\Big( \tfrac{D_v}{D_v + 1} z_v
          - \sum_u \frac{w_{vu}^2 F_{v \trianglelefteq vu} F_{u \trianglelefteq vu}}
                        {\sqrt{(D_v + 1)(D_u + 1)}}\, z_u \Big), \qquad z = W x,

:math:`D_v = \sum_u w_{vu}^2 F_{v \trianglelefteq vu}^2`: heads are the coordinates of a diagonal
sheaf (Bodnar et al., 2022, arXiv 2202.04579), :mod:`graphdiff.graph.sheaf` on all pairs at once.
Unlike attention, whose weights are positive averages, a map may change a sign, so that ends of an
edge are pushed apart. Equivariant under permutations of the nodes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphdiff.graph.nets.half import between, pair_ends, to_full

__all__ = ["SheafMixing"]


class SheafMixing(nn.Module):
    """What a node hears from all others through a learned sheaf.

    Args:
        dx: Width of the nodes, a multiple of ``heads``.
        de: Width of the pairs.
        heads: Coordinates of a stalk.
    """

    def __init__(self, dx: int, de: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ends = nn.Linear(dx, 2 * heads, bias=False)
        self.edge = nn.Linear(de, 2 * heads)
        self.inner = nn.Linear(dx, dx, bias=False)
        self.outer = nn.Linear(dx, dx)

    def forward(self, x: Tensor, e: Tensor, pair: Tensor) -> Tensor:
        """The change of the nodes ``[b, n, dx]``.

        Args:
            x: Nodes ``[b, n, dx]``.
            e: Pairs ``[b, p, de]``.
            pair: 1 where both ends exist, ``[b, p, 1]``.
        """
        off, diagonal = self.laplacian(x, e, pair)
        z = self.inner(x).unflatten(-1, (self.heads, -1))
        moved = torch.einsum("bvuk,bukc->bvkc", to_full(off, x.shape[1]), z)
        moved = moved + diagonal[..., None] * z
        return -self.outer(nn.functional.elu(moved).flatten(2))

    def laplacian(self, x: Tensor, e: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
        """Entries of the pairs ``[b, p, heads]`` and of the diagonal ``[b, n, heads]``."""
        own, other = self.ends(x).chunk(2, -1)
        about, gate = self.edge(e).chunk(2, -1)
        (own_i, own_j), (other_i, other_j) = between(own), between(other)
        first, second = torch.tanh(own_i + other_j + about), torch.tanh(own_j + other_i + about)
        square = torch.sigmoid(gate).square() * pair
        total = _at_ends(square * first.square(), square * second.square(), x.shape[1])
        c = (total + 1).rsqrt()
        at_i, at_j = between(c)
        return -square * first * second * at_i * at_j, total * c.square()


def _at_ends(first: Tensor, second: Tensor, n: int) -> Tensor:
    """Sum of what each pair gives to its first and to its second end, ``[b, n, c]``."""
    i, j = pair_ends(n, first.device)
    zero = first.new_zeros(first.shape[0], n, first.shape[2])
    return zero.index_add(1, i, first).index_add(1, j, second)
