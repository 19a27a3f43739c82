r"""Eigenvectors of the Laplacian as they are (LapPE; Dwivedi & Bresson, 2021, arXiv 2012.09699).

The ``k`` eigenvectors after the first, side by side with their eigenvalues. They are no function of
the graph: signs are random, and within an eigenspace so is the basis. Training draws new signs for
each batch (:meth:`graphdiff.graph.encoding.spectrum.Spectrum.flipped`), which teaches a network
to ignore signs, and can do nothing about bases.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.encoding.spectrum import Spectrum

__all__ = ["Eigenvectors", "laplacian_encoding", "with_fixed_signs"]


def laplacian_encoding(spectrum: Spectrum, k: int) -> Tensor:
    """Eigenvectors 2 to ``k + 1`` ``[b, n, k]``, zero where a graph has fewer.

    Args:
        spectrum: Of a batch.
        k: How many.

    Raises:
        ArgumentError: ``k`` is below 1.
    """
    if k < 1:
        raise ArgumentError(f"k must be at least 1, found {k}")
    found = spectrum.vectors[:, :, 1 : k + 1]
    return torch.nn.functional.pad(found, (0, k - found.shape[2]))


def with_fixed_signs(vectors: Tensor) -> Tensor:
    """Columns of ``[b, n, d]`` with their entry of largest modulus positive.

    A convention, not an invariance: it jumps where two entries have the same modulus.
    """
    peak = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    return vectors * torch.where(peak < 0, -1.0, 1.0).to(vectors.dtype)


class Eigenvectors(nn.Module):
    """LapPE as an encoder: eigenvectors, and the eigenvalues at every node.

    Args:
        k: How many eigenvectors after the first.
    """

    def __init__(self, k: int = 8) -> None:
        super().__init__()
        self.k, self.width = k, 2 * k

    def forward(self, adj: Tensor, mask: Tensor, spectrum: Spectrum) -> Tensor:
        """``[b, n, 2 k]``, zero at padding."""
        vectors = laplacian_encoding(spectrum, self.k)
        values = spectrum.values[:, 1 : self.k + 1]
        values = torch.nn.functional.pad(values, (0, self.k - values.shape[1]))
        at_nodes = values.unsqueeze(1).expand_as(vectors) * mask.unsqueeze(2)
        return torch.cat([vectors, at_nodes], 2)
