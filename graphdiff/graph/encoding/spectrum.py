r"""Eigenvalues and eigenvectors of graph Laplacians, for whole batches and for one large graph.

With :math:`D = \mathrm{diag}(\sum_j |A_{ij}|)` and :math:`S = \max(D, \epsilon)^{-1/2}`,

.. math:: L = S (D - A) S = V \Lambda V^\top, \qquad 0 \le \lambda_1 \le \dots \le \lambda_n \le 2,

the symmetric normalised Laplacian (of Kunegis et al., 2010, where weights may be negative); its
kernel has one vector for each connected component, and an isolated node is one, with
:math:`L_{ii} = 0` as in Chung (1997). ``kind="plain"`` is :math:`D - A`.

Eigenvectors are a choice: any sign, and any rotation within an eigenspace. Keeping the ``k`` lowest
is another one where the cut goes through an eigenspace; ``whole=True`` leaves that eigenspace out,
so that what is kept depends on the graph alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.core.errors import ArgumentError

__all__ = ["DENSE_NODES", "Kind", "Spectrum", "decompose", "laplacian", "lowest"]

Kind = Literal["normalised", "plain"]

DENSE_NODES = 1500
"""From here on a dense decomposition (cubic time) is refused; :func:`lowest` has no limit."""
TIE = 1e-5
"""Eigenvalues closer than this belong to one eigenspace where ``whole`` asks for it."""


@dataclass(frozen=True)
class Spectrum:
    """The lowest part of the spectra of a batch, zero wherever there is nothing.

    Attributes:
        values: Eigenvalues, ascending, ``[b, d]``.
        vectors: Orthonormal eigenvectors as columns, ``[b, n, d]``.
        kept: Which of the ``d`` exist, bool ``[b, d]``.
    """

    values: Tensor
    vectors: Tensor
    kept: Tensor

    def __getitem__(self, index: Tensor | slice) -> Spectrum:
        """The spectra of some graphs of the batch."""
        return Spectrum(self.values[index], self.vectors[index], self.kept[index])

    def trimmed(self, nodes: int) -> Spectrum:
        """Without padding beyond ``nodes``, and without pairs that such graphs do not have."""
        d = min(nodes, self.values.shape[1])
        return Spectrum(self.values[:, :d], self.vectors[:, :nodes, :d], self.kept[:, :d])

    def flipped(self, rng: np.random.Generator) -> Spectrum:
        """With a random sign for each eigenvector, as training with bare eigenvectors needs."""
        signs = torch.from_numpy(rng.integers(0, 2, self.values.shape) * 2 - 1)
        signs = signs.to(self.vectors)
        return Spectrum(self.values, self.vectors * signs.unsqueeze(1), self.kept)

    def to(self, like: torch.dtype | torch.device | str) -> Spectrum:
        """On another device or in another dtype; ``kept`` stays bool."""
        kept = self.kept if isinstance(like, torch.dtype) else self.kept.to(like)
        return Spectrum(self.values.to(like), self.vectors.to(like), kept)


def _known(kind: str) -> None:
    if kind not in ("normalised", "plain"):
        raise ArgumentError(f"kind of Laplacian {kind!r}: expected 'normalised' or 'plain'")


def laplacian(adj: Tensor, kind: Kind = "normalised", *, least: float = 1e-12) -> Tensor:
    """The Laplacian of the module docstring.

    Args:
        adj: Symmetric weights ``[..., n, n]``; the diagonal is ignored.
        kind: ``"normalised"`` or ``"plain"``.
        least: Smallest degree that is divided by. With 1, degrees below it are left as they are
            and the Laplacian is a Lipschitz function of the weights even where they vanish.

    Raises:
        ArgumentError: Matrices are not square, or the kind is unknown.
    """
    if adj.ndim < 2 or adj.shape[-1] != adj.shape[-2]:
        raise ArgumentError(f"adj must be square matrices [..., n, n], found {list(adj.shape)}")
    _known(kind)
    n = adj.shape[-1]
    off = adj * (1 - torch.eye(n, dtype=adj.dtype, device=adj.device))
    degree = off.abs().sum(-1)
    plain = torch.diag_embed(degree) - off
    if kind == "plain":
        return plain
    scale = degree.clamp(min=least).rsqrt()
    return plain * scale.unsqueeze(-1) * scale.unsqueeze(-2)


def decompose(
    adj: Tensor,
    mask: Tensor | None = None,
    k: int | None = None,
    *,
    kind: Kind = "normalised",
    whole: bool = False,
    least: float = 1e-12,
) -> Spectrum:
    """Spectra of a batch, with one batched dense decomposition; no gradient goes through it.

    A graph whose weights are not finite has a spectrum of NaN; the others are not touched by it.

    Args:
        adj: Symmetric weights ``[b, n, n]``, zero at padding.
        mask: Real nodes, bool ``[b, n]``; None = all.
        k: How many of the lowest pairs; None = all. More than there are is no error: what does not
            exist is zero and not ``kept``.
        kind: Which Laplacian.
        whole: Whether an eigenspace that the cut after ``k`` goes through is left out.
        least: See :func:`laplacian`.

    Raises:
        ArgumentError: Shapes do not fit, ``k`` is below 1, or graphs are too large for this.
    """
    if adj.ndim != 3:
        raise ArgumentError(f"adj must be [b, n, n], found {list(adj.shape)}; add a batch axis")
    if k is not None and k < 1:
        raise ArgumentError(f"k must be at least 1, found {k}; None keeps every eigenvector")
    b, n, _ = adj.shape
    if n >= DENSE_NODES:
        raise ArgumentError(
            f"graphs of {n} nodes are too large for a dense decomposition (below {DENSE_NODES}); "
            "call lowest(matrix, k) with a scipy.sparse matrix"
        )
    if mask is None:
        mask = torch.ones(b, n, dtype=torch.bool, device=adj.device)
    if mask.shape != adj.shape[:2]:
        raise ArgumentError(f"mask must be [{b}, {n}] as adj says, found {list(mask.shape)}")
    d = n if k is None else k
    matrix = laplacian(adj.detach(), kind, least=least)
    # One bad graph must not end the decomposition of all: its spectrum is NaN, which the checks of
    # whoever reads it report with the component and the sample.
    bad = ~matrix.isfinite().flatten(1).all(1)
    matrix = matrix.masked_fill(bad[:, None, None], 0.0)
    # Padding gets an eigenvalue above all others: none exceeds twice the largest diagonal entry.
    top = 2 * matrix.diagonal(dim1=1, dim2=2).amax(1, keepdim=True) + 1
    level, vector = torch.linalg.eigh(matrix + torch.diag_embed(top * (~mask).to(adj.dtype)))
    level = level.masked_fill(bad[:, None], torch.nan)
    vector = vector.masked_fill(bad[:, None, None], torch.nan)
    return _selected(level, vector, mask, d, whole)


def _selected(level: Tensor, vector: Tensor, mask: Tensor, d: int, whole: bool) -> Spectrum:
    """The first ``d`` pairs, padded or cut; those of padding are dropped."""
    n, count = mask.shape[1], mask.sum(1, keepdim=True)
    kept = torch.arange(d, device=mask.device) < count
    more = max(d - n, 0)
    values = torch.nn.functional.pad(level, (0, more))[:, :d]
    vectors = torch.nn.functional.pad(vector, (0, more))[:, :, :d]
    if whole and d < n:
        apart = level[:, d : d + 1] - values > TIE
        kept = kept & (apart | (count <= d))
    both = mask.unsqueeze(2) & kept.unsqueeze(1)
    return Spectrum(values * kept, vectors * both, kept)


def lowest(matrix: Any, k: int, *, kind: Kind = "normalised", seed: int = 0) -> Spectrum:
    """The lowest eigenpairs of one sparse graph of any size, as a batch of one in float64.

    Connected components are decomposed one by one, small ones densely and large ones by Lanczos
    iterations on a shifted matrix, and merged: eigenvalues that several components share, zero
    above all, are found as often as they occur. A component of at most ``k`` nodes is decomposed
    densely whatever its size, in cubic time.

    Args:
        matrix: Symmetric weights, ``scipy.sparse`` ``[n, n]``; the diagonal is ignored.
        k: How many pairs; fewer come back if the graph has fewer.
        kind: Which Laplacian.
        seed: Of the starting vectors of the iterations.

    Returns:
        Eigenvalues ascending ``[1, d]`` and eigenvectors ``[1, n, d]``, ``d = min(k, n)``, all of
        them kept.

    Raises:
        ArgumentError: The matrix is not square, symmetric and finite, ``k`` is below 1, or the kind
            is unknown.
    """
    import scipy.sparse as sp
    from scipy.sparse.csgraph import connected_components

    _known(kind)
    weights = sp.csr_matrix(matrix, dtype=np.float64, copy=True)
    if weights.shape[0] != weights.shape[1] or k < 1:
        raise ArgumentError(f"expected a square matrix and k >= 1, found {weights.shape}, k = {k}")
    if not np.isfinite(weights.data).all():
        raise ArgumentError("the matrix has weights that are not finite; drop or mend them first")
    if abs(weights - weights.T).max() > 1e-9:
        raise ArgumentError("the matrix is not symmetric; give (matrix + matrix.T) / 2")
    weights.setdiag(0)
    weights.eliminate_zeros()
    parts, label = connected_components(weights, directed=False)
    order, rng = np.argsort(label, kind="stable"), np.random.default_rng(seed)
    values, vectors, places = [], [], []
    for members in np.split(order, np.cumsum(np.bincount(label, minlength=parts))[:-1]):
        level, vector = _component(weights[members][:, members], k, kind, rng)
        values.append(level)
        vectors += list(vector.T)
        places += [members] * len(level)
    joined = np.concatenate(values)
    first = np.argsort(joined, kind="stable")[:k]
    dense = np.zeros((weights.shape[0], len(first)))
    for column, pick in enumerate(first):
        dense[places[pick], column] = vectors[pick]
    pair = torch.from_numpy(joined[first])[None], torch.from_numpy(dense)[None]
    return Spectrum(*pair, torch.ones(1, len(first), dtype=torch.bool))


def _component(
    weights: Any, k: int, kind: Kind, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest pairs of a connected graph."""
    import scipy.sparse as sp
    from scipy.sparse.linalg import eigsh

    n = weights.shape[0]
    degree = np.asarray(abs(weights).sum(1)).ravel()
    scale = np.ones(n) if kind == "plain" else 1 / np.sqrt(np.maximum(degree, 1e-12))
    matrix = sp.diags(scale) @ (sp.diags(degree) - weights) @ sp.diags(scale)
    if k >= n or (n < DENSE_NODES and (n < 200 or k > n // 4)):
        level, vector = np.linalg.eigh(matrix.toarray())
        return level[:k], vector[:, :k]
    top = 2 * float(matrix.diagonal().max())  # the largest eigenvalue of the shifted matrix
    shifted = top * sp.identity(n, format="csr") - matrix
    level, vector = eigsh(shifted, k, which="LA", v0=rng.random(n), tol=1e-10)
    order = np.argsort(-level)
    return top - level[order], vector[:, order]
