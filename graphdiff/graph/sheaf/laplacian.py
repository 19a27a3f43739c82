r"""Sheaf Laplacians of restriction maps, and what they measure.

A cellular sheaf on a graph puts a space :math:`\mathbb R^d` on each node and edge, and a linear map
:math:`F_{v \trianglelefteq e}` on each pair of an edge and its end. With the coboundary
:math:`(\delta x)_e = F_{v \trianglelefteq e} x_v - F_{u \trianglelefteq e} x_u`, the sheaf
Laplacian :math:`L = \delta^\top \delta` has the blocks

.. math:: L_{vv} = \sum_{e \ni v} F_{v \trianglelefteq e}^\top F_{v \trianglelefteq e} = D_v, \qquad
          L_{vu} = -F_{v \trianglelefteq e}^\top F_{u \trianglelefteq e},

and :math:`\Delta = (D + I)^{-1/2} L (D + I)^{-1/2}` (``augmented``; without it
:math:`D^{-1/2} L D^{-1/2}`) is symmetric, positive semi-definite, with spectrum in :math:`[0, 2]`.
Its kernel are the global sections. :math:`E(x) = x^\top \Delta x` is the Dirichlet energy, which
diffusion :math:`\dot x = -\Delta x` lowers. With all maps the identity it is the graph Laplacian,
once for each coordinate.

The inverse root of a block :math:`D_v + I` differentiates by divided differences,
:math:`f[\lambda, \mu] = -1 / (\sqrt{\lambda \mu} (\sqrt\lambda + \sqrt\mu))`, which equal
eigenvalues do not disturb: no jitter is needed.

Source: Hansen and Ghrist (2019), arXiv 1808.01513; Bodnar et al. (2022), arXiv 2202.04579.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.sheaf.topology import Topology
from graphdiff.graph.sparse import Pattern

__all__ = ["SheafLaplacian", "inverse_root"]


@dataclass(frozen=True, eq=False)
class SheafLaplacian:
    """A sheaf Laplacian as a sparse matrix on node features ``[n, d, h]``.

    Attributes:
        topology: The graph.
        d: Coordinates of a stalk.
        pattern: Of the ``[nd, nd]`` matrix, in one of the two orders of ``topology``.
        values: Of its entries.
        stacked: Whether coordinates are ordered (stalk, node); else (node, stalk).
    """

    topology: Topology
    d: int
    pattern: Pattern
    values: Tensor
    stacked: bool

    @classmethod
    def diagonal(
        cls,
        topology: Topology,
        maps: Tensor,
        *,
        augmented: bool = True,
        fixed: Tensor | None = None,
    ) -> SheafLaplacian:
        """Of diagonal maps ``[2m, d]``; ``fixed`` appends stalks ``[k]`` of unit maps.

        A fixed stalk of sign +1 is the graph Laplacian; of sign -1 the signless :math:`D + A`.
        """
        d = maps.shape[1] + (0 if fixed is None else len(fixed))
        product = maps * maps.index_select(0, topology.reverse)
        total = topology.sum(maps.square())
        if fixed is not None:
            product = torch.cat([product, fixed.expand(topology.entries, -1)], 1)
            degree = topology.degree.to(total.dtype)[:, None].expand(-1, len(fixed))
            total = torch.cat([total, degree], 1)
        c = _root(total, augmented)
        off = -product * c.index_select(0, topology.v) * c.index_select(0, topology.u)
        values = topology.in_order(off, c.square() * total).t().contiguous().flatten()
        return cls(topology, d, topology.stacked(d), values, True)

    @classmethod
    def bundle(
        cls,
        topology: Topology,
        maps: Tensor,
        weights: Tensor | None = None,
        *,
        augmented: bool = True,
    ) -> SheafLaplacian:
        """Of orthogonal maps ``[2m, d, d]``, weighted by ``weights`` ``[2m]`` (symmetric)."""
        transport = maps.transpose(1, 2) @ maps.index_select(0, topology.reverse)
        return cls.transported(topology, transport, weights, augmented=augmented)

    @classmethod
    def transported(
        cls,
        topology: Topology,
        transport: Tensor,
        weights: Tensor | None = None,
        *,
        augmented: bool = True,
    ) -> SheafLaplacian:
        r"""Of :math:`F_v^\top F_u` itself, orthogonal ``[2m, d, d]``, with squared edge weights."""
        d = transport.shape[-1]
        square = transport.new_ones(topology.entries) if weights is None else weights.square()
        total = topology.sum(square)
        c = _root(total, augmented)
        scale = -square * c.index_select(0, topology.v) * c.index_select(0, topology.u)
        eye = torch.eye(d, dtype=transport.dtype, device=transport.device)
        return cls._of_blocks(
            topology, scale[:, None, None] * transport, (c.square() * total)[:, None, None] * eye
        )

    @classmethod
    def general(cls, topology: Topology, maps: Tensor, *, augmented: bool = True) -> SheafLaplacian:
        """Of any maps ``[2m, d, d]``."""
        d = maps.shape[-1]
        turned = maps.transpose(1, 2)
        total = topology.sum(turned @ maps)
        eye = torch.eye(d, dtype=maps.dtype, device=maps.device)
        root = inverse_root(total + eye if augmented else total)
        off = -turned @ maps.index_select(0, topology.reverse)
        off = root.index_select(0, topology.v) @ off @ root.index_select(0, topology.u)
        return cls._of_blocks(topology, off, root @ total @ root)

    @classmethod
    def _of_blocks(cls, topology: Topology, off: Tensor, diagonal: Tensor) -> SheafLaplacian:
        d = off.shape[-1]
        pattern, order = topology.blocks(d)
        values = topology.in_order(off, diagonal).flatten().index_select(0, order)
        return cls(topology, d, pattern, values, False)

    def __call__(self, x: Tensor) -> Tensor:
        """The Laplacian of features ``[n, d, h]``.

        Raises:
            ArgumentError: Of another shape.
        """
        n, d = self.topology.n, self.d
        if x.dim() != 3 or x.shape[:2] != (n, d):
            raise ArgumentError(f"expected features [{n}, {d}, h], found {list(x.shape)}")
        h = x.shape[2]
        if not self.stacked:
            return self.pattern.matmul(self.values, x.reshape(n * d, h)).view(n, d, h)
        turned = x.transpose(0, 1).reshape(d * n, h)
        return self.pattern.matmul(self.values, turned).view(d, n, h).transpose(0, 1)

    def dense(self) -> Tensor:
        """The matrix ``[nd, nd]``, coordinates ordered (node, stalk)."""
        n, d = self.topology.n, self.d
        matrix = self.pattern.dense(self.values)
        if not self.stacked:
            return matrix
        return matrix.view(d, n, d, n).permute(1, 0, 3, 2).reshape(n * d, n * d)

    def energy(self, x: Tensor) -> Tensor:
        r"""Dirichlet energy :math:`\mathrm{tr}\, x^\top \Delta x` of features ``[n, d, h]``."""
        return (x * self(x)).sum()

    def spectrum(self, k: int | None = None) -> Tensor:
        """The ``k`` smallest eigenvalues, ascending (all if absent or ``k`` is too large).

        Dense below 2,000 coordinates; Lanczos on the shifted matrix above.
        """
        return self._eigen(k)[0]

    def kernel(self, tolerance: float = 1e-6, k: int = 64) -> Tensor:
        """Orthonormal global sections ``[s, n, d]``: eigenvectors of eigenvalue zero.

        Above 2,000 coordinates at most ``k`` are looked for.
        """
        values, vectors = self._eigen(k if self.pattern.shape[0] >= DENSE else None)
        kept = vectors[:, values.abs() < tolerance].T
        return kept.reshape(-1, self.topology.n, self.d)

    def _eigen(self, k: int | None) -> tuple[Tensor, Tensor]:
        size = self.pattern.shape[0]
        if size < DENSE or k is None or k >= size - 1:
            values, vectors = torch.linalg.eigh(self.dense().detach().double())
            return values[:k], vectors[:, :k]
        import numpy as np
        import scipy.sparse as sp
        from scipy.sparse.linalg import eigsh

        row, col = self.pattern.row.cpu().numpy(), self.pattern.col.cpu().numpy()
        entries = self.values.detach().double().cpu().numpy()
        flipped = sp.csr_matrix((-entries, (row, col)), (size, size)) + 2 * sp.eye(size)
        start = np.ones(size) + np.linspace(0, 1, size)  # fixed, so that calls agree
        values, vectors = eigsh(flipped.tocsr(), k=k, which="LA", v0=start)
        order = np.argsort(-values)
        made = torch.from_numpy(np.ascontiguousarray(vectors[:, order]))
        if self.stacked:
            made = made.view(self.d, self.topology.n, -1).transpose(0, 1).reshape(size, -1)
        return torch.from_numpy(2 - values[order]), made


DENSE = 2000


def _root(total: Tensor, augmented: bool) -> Tensor:
    """Inverse root of a positive diagonal; zero where it is zero (isolated nodes)."""
    if augmented:
        return (total + 1).rsqrt()
    return torch.where(total > 0, total.clamp(min=1e-12).rsqrt(), torch.zeros_like(total))


def inverse_root(matrix: Tensor) -> Tensor:
    """:math:`A^{-1/2}` of symmetric positive semi-definite ``[…, d, d]``; zero where A is zero."""
    return _InverseRoot.apply(matrix)


class _InverseRoot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        tiny = torch.finfo(values.dtype).eps * values.amax(-1, keepdim=True).clamp(min=0)
        size = torch.where(values > 8 * tiny, values.clamp(min=1e-30).rsqrt(), 0.0)
        root = (vectors * size[..., None, :]) @ vectors.transpose(-1, -2)
        ctx.save_for_backward(root, size, vectors)
        return root

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # With R R = A^-1: dR R + R dR = -R^2 dA R^2, all that is used being differentiable.
        root, size, vectors = ctx.saved_tensors
        inner = (grads[0] + grads[0].transpose(-1, -2)) / 2
        square = root @ root
        made: Tensor = _Sylvester.apply(root, square @ inner @ square, size, vectors)
        return -made


class _Sylvester(torch.autograd.Function):
    """X with X R + R X = C, for R of eigenvalues ``size`` >= 0; zero where R is zero."""

    @staticmethod
    def forward(ctx: Any, root: Tensor, c: Tensor, size: Tensor, vectors: Tensor) -> Tensor:
        turned, total = vectors.transpose(-1, -2), size[..., :, None] + size[..., None, :]
        inner = turned @ c @ vectors
        made = vectors @ torch.where(total > 0, inner / total, 0.0) @ turned
        ctx.save_for_backward(root, size, vectors, made)
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        root, size, vectors, made = ctx.saved_tensors
        y: Tensor = _Sylvester.apply(root, grads[0], size, vectors)
        return -(made.mT @ y + y @ made.mT), y, None, None
