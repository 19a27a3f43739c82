r"""Stable and expressive positional encodings (SPE; Huang et al., ICLR 2024, arXiv 2310.02579).

Eigenvectors are no functions of a graph; projections onto eigenspaces are, and smooth functions of
the Laplacian even depend on it continuously. With :math:`L = V \Lambda V^\top`,

.. math::
    \mathrm{SPE}(L) = \rho\bigl(V \mathrm{diag}(\psi_1(\lambda)) V^\top, \dots,
        V \mathrm{diag}(\psi_m(\lambda)) V^\top\bigr),

:math:`\psi_l: R^d \to R^d` equivariant under permutations of the eigenvalues, :math:`\rho:
R^{n \times n \times m} \to R^{n \times p}` equivariant under those of the nodes. Each matrix is the
same for every choice of signs and bases, hence so is the encoding. If :math:`\psi` and :math:`\rho`
are Lipschitz, then (theorem 3.1) with the permutation :math:`P` that aligns two graphs best

.. math::
    \lVert \mathrm{SPE}(L) - P\,\mathrm{SPE}(L') \rVert_F \le
    (\alpha_1 + \alpha_2)\, d^{5/4} \sqrt{\lVert L - P L' P^\top \rVert_F}
    + (\alpha_2 d / \gamma + \alpha_3) \lVert L - P L' P^\top \rVert_F ,

where :math:`\gamma = \lambda_{d+1} - \lambda_d` is the one gap at which the spectrum is cut; with
all of it there is none.

:math:`\psi` is an MLP on each eigenvalue, or DeepSets over them, beside a linear map. It is told
Chebyshev polynomials :math:`T_1 \dots T_K(\lambda - 1)`, of which :math:`K = 1` is the eigenvalue
itself, as published; with more of them powers of the random walk are linear in what it sees.
:math:`\rho` reads the matrices as ``n`` marked-node views: in view ``j`` node ``i`` has the
features :math:`W_{ij}`; a GIN runs in every view, and node ``i`` takes the mean over the views (the
published ones are summed), its own view, and :math:`W_{ii}`. :class:`LightSPE` has no
message passing,

.. math:: p_i = U\bigl[W_{ii}, \textstyle\sum_j \mathrm{MLP}(W_{ij}) - \mathrm{MLP}(0)\bigr],

and serves inside denoisers, which do their own.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.encoding.gin import GINStack
from graphdiff.graph.encoding.spectrum import Spectrum

__all__ = ["SPE", "EigenvalueMaps", "LightSPE", "chebyshev"]

Psi = Literal["mlp", "deepsets"]


def chebyshev(values: Tensor, degree: int) -> Tensor:
    """``T_1 .. T_degree`` of ``values - 1`` (in [-1, 1] for a normalised Laplacian), last axis."""
    x = values - 1
    terms = [torch.ones_like(x), x]
    for _ in range(degree - 1):
        terms.append(2 * x * terms[-1] - terms[-2])
    return torch.stack(terms[1:], -1)


class EigenvalueMaps(nn.Module):
    """The maps ``psi``.

    Args:
        maps: How many, ``m``.
        kind: ``"mlp"``: each eigenvalue alone; ``"deepsets"``: it is also told the mean over all.
        hidden: Width inside.
        degree: Chebyshev polynomials that are told.

    Raises:
        ArgumentError: A number is below 1, or the kind is unknown.
    """

    def __init__(self, maps: int, *, kind: Psi = "mlp", hidden: int = 32, degree: int = 8) -> None:
        super().__init__()
        if min(maps, hidden, degree) < 1 or kind not in ("mlp", "deepsets"):
            raise ArgumentError(
                "expected maps, hidden and degree of at least 1 and kind 'mlp' or 'deepsets', "
                f"found maps={maps}, hidden={hidden}, degree={degree}, kind={kind!r}"
            )
        self.degree = degree
        self.straight = nn.Linear(degree, maps, bias=False)
        nn.init.orthogonal_(self.straight.weight)
        self.first = nn.Sequential(nn.Linear(degree, hidden), nn.SiLU())
        self.pooled = nn.Linear(hidden, hidden) if kind == "deepsets" else None
        self.last = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, maps))

    def forward(self, spectrum: Spectrum) -> Tensor:
        """``psi(lambda)`` ``[b, d, m]``, zero where there is no eigenvalue."""
        real = spectrum.kept.unsqueeze(-1).to(spectrum.values.dtype)
        terms = chebyshev(spectrum.values, self.degree)
        h = self.first(terms)
        if self.pooled is not None:
            mean = (h * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp(min=1)
            h = h + self.pooled(mean)
        out: Tensor = (self.straight(terms) + self.last(h)) * real
        return out

    def matrices(self, spectrum: Spectrum) -> Tensor:
        """``V diag(psi(lambda)) V^T`` ``[b, n, n, m]``, zero at padding."""
        v, weight = spectrum.vectors, self(spectrum)
        right = v.transpose(1, 2).unsqueeze(-1) * weight.unsqueeze(2)  # [b, d, n, m]
        return torch.matmul(v, right.flatten(2)).unflatten(2, right.shape[2:])


class SPE(nn.Module):
    """SPE with a GIN over marked-node views.

    Args:
        width: Width of the encoding.
        maps: How many maps ``psi``.
        psi: ``"mlp"`` or ``"deepsets"``.
        degree: Chebyshev polynomials of the eigenvalues that ``psi`` is told; 1 as published.
        psi_hidden: Width inside ``psi``.
        hidden: Channels of the views.
        layers: Layers of the GIN.

    Raises:
        ArgumentError: As :class:`EigenvalueMaps`.
    """

    def __init__(
        self,
        width: int = 16,
        *,
        maps: int = 8,
        psi: Psi = "mlp",
        degree: int = 8,
        psi_hidden: int = 32,
        hidden: int = 16,
        layers: int = 2,
    ) -> None:
        super().__init__()
        self.width = width
        self.psi = EigenvalueMaps(maps, kind=psi, hidden=psi_hidden, degree=degree)
        self.views = GINStack(maps, hidden, layers, norm=True)
        self.out = nn.Linear(maps + 2 * hidden, width)

    def forward(self, adj: Tensor, mask: Tensor, spectrum: Spectrum) -> Tensor:
        """The encoding ``[b, n, width]``, zero at padding.

        Args:
            adj: Adjacency ``[b, n, n]``.
            mask: Real nodes, bool ``[b, n]``.
            spectrum: Of the same batch.
        """
        real = mask.to(spectrum.vectors.dtype)
        pairs = (real.unsqueeze(2) * real.unsqueeze(1)).unsqueeze(3)
        matrices = self.psi.matrices(spectrum)
        views = torch.relu(self.views(matrices, adj, pairs))
        mean = torch.einsum("bnjc,bj->bnc", views, real) / real.sum(1)[:, None, None].clamp(min=1)
        own = torch.cat([matrices, views], 3).diagonal(dim1=1, dim2=2).transpose(1, 2)
        out: Tensor = self.out(torch.cat([own, mean], 2)) * real.unsqueeze(2)
        return out


class LightSPE(nn.Module):
    """SPE whose ``rho`` looks at each row of the matrices as a set; see the module docstring.

    Args:
        width: Width of the encoding.
        maps: How many maps ``psi``.
        psi: ``"mlp"`` or ``"deepsets"``.
        degree: Chebyshev polynomials of the eigenvalues that ``psi`` is told.
        hidden: Width of the MLPs.

    Raises:
        ArgumentError: As :class:`EigenvalueMaps`.
    """

    def __init__(
        self,
        width: int = 16,
        *,
        maps: int = 8,
        psi: Psi = "mlp",
        degree: int = 8,
        hidden: int = 32,
    ) -> None:
        super().__init__()
        self.width = width
        self.psi = EigenvalueMaps(maps, kind=psi, hidden=hidden, degree=degree)
        self.row = nn.Sequential(
            nn.Linear(maps, hidden), nn.SiLU(), nn.Linear(hidden, hidden, bias=False)
        )
        self.out = nn.Linear(maps + hidden, width)

    def forward(self, adj: Tensor, mask: Tensor, spectrum: Spectrum) -> Tensor:
        """The encoding ``[b, n, width]``, zero at padding; the adjacency is not read."""
        matrices = self.psi.matrices(spectrum)
        own = matrices.diagonal(dim1=1, dim2=2).transpose(1, 2)
        # Entries of padding are zero, so each adds MLP(0) - MLP(0) to its row.
        rows = (self.row(matrices) - self.row(torch.zeros_like(matrices[:1, :1, :1]))).sum(2)
        out: Tensor = self.out(torch.cat([own, rows], -1)) * mask.unsqueeze(2)
        return out
