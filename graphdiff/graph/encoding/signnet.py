r"""SignNet (Lim et al., ICLR 2023, arXiv 2202.13013): blind to the signs of eigenvectors.

.. math:: p = \rho\Bigl(\frac{1}{2 d} \textstyle\sum_{k=1}^d
    \phi(v_k, \lambda_k) + \phi(-v_k, \lambda_k)\Bigr)

with a GIN for :math:`\phi`, which sees one eigenvector at a time (of norm :math:`\sqrt n`) as a
feature of the nodes, and an MLP for :math:`\rho`. The mean over the ``d`` eigenvectors of a graph,
in place of the sum, takes any number of them and stays of one size. Rotations within an eigenspace
still change it, and near such a choice it is unstable.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphdiff.graph.encoding.gin import GINStack
from graphdiff.graph.encoding.spectrum import Spectrum

__all__ = ["SignNet"]


class SignNet(nn.Module):
    """SignNet as an encoder.

    Args:
        width: Width of the encoding.
        hidden: Channels inside.
        layers: Layers of the GIN.
    """

    def __init__(self, width: int = 16, *, hidden: int = 24, layers: int = 3) -> None:
        super().__init__()
        self.width = width
        self.phi = GINStack(2, hidden, layers, norm=True)
        self.rho = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(self, adj: Tensor, mask: Tensor, spectrum: Spectrum) -> Tensor:
        """The encoding ``[b, n, width]``, zero at padding.

        Args:
            adj: Adjacency ``[b, n, n]``.
            mask: Real nodes, bool ``[b, n]``.
            spectrum: Of the same batch.
        """
        # Entries of order one in graphs of any size.
        v = spectrum.vectors * mask.sum(1).to(spectrum.vectors.dtype).sqrt()[:, None, None]
        level = spectrum.values.unsqueeze(1) * mask.unsqueeze(2)
        # Both signs at once, so that a batch norm sees them alike.
        told = torch.stack([torch.cat([v, -v], 2), torch.cat([level, level], 2)], -1)
        real = torch.cat([spectrum.kept] * 2, 1).to(v.dtype)
        pairs = (mask.to(v.dtype).unsqueeze(2) * real.unsqueeze(1)).unsqueeze(3)
        both = torch.relu(self.phi(told, adj, pairs))
        count = real.sum(1)[:, None, None].clamp(min=1)
        pooled = torch.einsum("bnkc,bk->bnc", both, real) / count
        out: Tensor = self.rho(pooled) * mask.unsqueeze(2)
        return out
