r"""Return probabilities of random walks (RWPE; Dwivedi et al., 2022, arXiv 2110.07875).

.. math:: p_i = \bigl[(M)_{ii}, (M^2)_{ii}, \dots, (M^K)_{ii}\bigr], \qquad M = D^{-1} A.

The diagonal of a power is the same for the symmetric :math:`\hat A = D^{-1/2} A D^{-1/2}`, and
:math:`(\hat A^{s + t})_{ii} = \sum_j (\hat A^s)_{ij} (\hat A^t)_{ij}`: half of the products do. At
a node with edges it equals :math:`\sum_k (1 - \lambda_k)^t V_{ik}^2`, one map of
:class:`~graphdiff.graph.encoding.spe` on the diagonal, so SPE with polynomials of degree ``K``
knows all of it. (A walk has no step to make from an isolated node, whose probabilities are 0; the
sum is 1 there, since :math:`\lambda = 0`.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.encoding.spectrum import Spectrum

__all__ = ["RandomWalks", "return_probabilities"]


def return_probabilities(adj: Tensor, steps: int, *, least: float = 1e-12) -> Tensor:
    """Probabilities to be back after 1 to ``steps`` steps, ``[b, n, steps]``.

    Args:
        adj: Symmetric weights ``[b, n, n]``, zero at padding. Walks with negative weights carry
            their sign.
        steps: Longest walk.
        least: Smallest degree that is divided by.

    Raises:
        ArgumentError: ``steps`` is below 1.
    """
    if steps < 1:
        raise ArgumentError(f"steps must be at least 1, found {steps}")
    scale = adj.abs().sum(-1).clamp(min=least).rsqrt()
    walk = adj * scale.unsqueeze(-1) * scale.unsqueeze(-2)
    lower, found = walk, [walk.diagonal(dim1=1, dim2=2)]
    while len(found) < steps:
        found.append((lower * lower).sum(-1))
        upper = lower @ walk
        found.append((lower * upper).sum(-1))
        lower = upper
    return torch.stack(found[:steps], -1)


class RandomWalks(nn.Module):
    """Return probabilities as an encoder.

    Args:
        steps: Longest walk.
    """

    def __init__(self, steps: int = 16) -> None:
        super().__init__()
        self.steps = self.width = steps

    def forward(self, adj: Tensor, mask: Tensor, spectrum: Spectrum) -> Tensor:
        """``[b, n, steps]``; the spectrum is not read."""
        return return_probabilities(adj, self.steps)
