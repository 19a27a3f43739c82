r"""Meta-paths as products of relations that are applied factor by factor, never multiplied out.

A meta-path such as author-paper-conference-paper-author joins two authors by every walk along it.
With the relations :math:`B_1, \dots, B_k` along the path the number of walks is the entry of

.. math:: M = B_1 B_2 \cdots B_k, \qquad M x = B_1 (B_2 (\cdots (B_k x))).

:math:`M` is close to dense (DBLP: 5.0 million entries for the path above, 7.0 million through
terms), its factors are not (68 thousand): one application costs :math:`\sum_i \mathrm{nnz}(B_i)`
multiplications per column instead of :math:`\mathrm{nnz}(M)`, and stores nothing larger than
:math:`\max_i n_i` rows. Degrees are an application as well, :math:`d = M \mathbf 1`, so that every
normalisation is factored:

=============  ==============================================  ==================================
``norm``       operator                                        what it is
=============  ==============================================  ==================================
``walk``       :math:`\prod_i D_i^{-1} B_i`                    a random walk, each step uniform
``row``        :math:`D^{-1} M`                                mean over walks
``symmetric``  :math:`D^{-1/2} M D^{-1/2}` (palindromes only)  as in graph convolutions
``count``      :math:`M`                                       number of walks
=============  ==============================================  ==================================

Nodes of no walk have :math:`d = 0` and get zero; a ``walk`` that comes to a node without a next
step ends there, so that its rows may sum to less than one. ``walk`` gives a paper of two authors as
much to say as one of ten, ``row`` and ``symmetric`` favour hubs.

The matrices that HeCo and DiffGraph use are binary, :math:`[M_{ij} > 0]`: two authors who met once
at a large conference count as much as two who always publish there. That operator is no product of
sparse matrices and cannot be factored; :func:`materialise` makes it for comparison. Counting is the
choice of this library (``docs/diffgraph-nodes.md`` has the measurement).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.data.hetero import HeteroGraph
from graphdiff.graph.diffgraph.steps import Step, check, palindrome, parse_path
from graphdiff.graph.sparse import Pattern

__all__ = ["MetaPath", "Norm", "materialise"]

Norm = Literal["walk", "row", "symmetric", "count"]


@dataclass(frozen=True, eq=False)
class MetaPath:
    """A meta-path of a graph as a linear operator ``[n_first, n_last]``; see the module docstring.

    Attributes:
        types: Those of the nodes that it passes, from first to last.
        norm: The normalisation.
        factors: Pattern and values of each factor, from left to right.
        left: Factors of rows ``[n_first]``, or None.
        right: Factors of columns ``[n_last]``, or None.
    """

    types: tuple[str, ...]
    norm: Norm
    factors: tuple[tuple[Pattern, Tensor], ...]
    left: Tensor | None = None
    right: Tensor | None = None

    @classmethod
    def of(
        cls,
        graph: HeteroGraph,
        path: str | Sequence[Step],
        norm: Norm = "walk",
        dtype: torch.dtype = torch.float32,
    ) -> MetaPath:
        """The operator of a path.

        Args:
            graph: Has the relations.
            path: Steps, or text for
                :func:`~graphdiff.graph.diffgraph.steps.parse_path`.
            norm: The normalisation.
            dtype: Of the values.

        Raises:
            ArgumentError: The path does not exist, or ``symmetric`` is asked of a path that does
                not read the same backwards.
        """
        if norm not in get_args(Norm):
            raise ArgumentError(f"norm is {norm!r}, expected one of {', '.join(get_args(Norm))}")
        steps = parse_path(graph, path) if isinstance(path, str) else tuple(path)
        check(graph, steps)
        types = (steps[0].ends[0], *(step.ends[1] for step in steps))
        if norm == "symmetric" and not palindrome(steps):
            raise ArgumentError(
                f"{'-'.join(types)} does not read the same backwards, so its matrix is not "
                "symmetric; use norm='walk' or 'row'"
            )
        # float64 until everything is normalised: counts of long paths exceed float32's integers
        factors = [Pattern.from_scipy(step.matrix(graph), torch.float64) for step in steps]
        if norm == "walk":
            ones = [values.new_ones(pattern.shape[1]) for pattern, values in factors]
            factors = [
                (pattern, values * _inverse(pattern.matmul(values, one))[pattern.row])
                for (pattern, values), one in zip(factors, ones, strict=True)
            ]
        made = cls(types, norm, tuple(factors))
        if norm in ("row", "symmetric"):
            degree = made.product(torch.ones(made.shape[1], dtype=torch.float64))
            if norm == "row":
                made = replace(made, left=_inverse(degree))
            else:
                root = _inverse(degree).sqrt()
                made = replace(made, left=root, right=root)
        return made._cast(dtype)

    @property
    def name(self) -> str:
        """Such as ``author-paper-author``."""
        return "-".join(self.types)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of nodes of the first and of the last type."""
        return self.factors[0][0].shape[0], self.factors[-1][0].shape[1]

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return self.factors[0][1].device

    @property
    def transposed(self) -> MetaPath:
        """The transposed operator, factored as well."""
        return replace(
            self,
            types=self.types[::-1],
            factors=tuple((p.transposed, v[p.turn]) for p, v in reversed(self.factors)),
            left=self.right,
            right=self.left,
        )

    @property
    def nnz(self) -> int:
        """Stored entries, those of all factors: multiplications per column of an application."""
        return sum(pattern.nnz for pattern, _ in self.factors)

    def peak(self, columns: int) -> int:
        """Elements of the largest tensor that an application to ``columns`` columns makes."""
        return max(pattern.shape[0] for pattern, _ in self.factors) * columns

    def product(self, x: Tensor) -> Tensor:
        """``B_1 (… (B_k x))``, ``[n_first, f]``, of ``x`` ``[n_last, f]``: no outer factors."""
        for pattern, values in reversed(self.factors):
            x = pattern.matmul(values, x)
        return x

    def __call__(self, x: Tensor) -> Tensor:
        """The normalised operator applied to ``x`` ``[n_last, f]`` or ``[n_last]``.

        Gradients go to ``x``. The dtype of ``x`` is that of the operator.

        Raises:
            ArgumentError: Shapes do not fit.
        """
        if self.right is not None:
            x = _scale(self.right, x)
        x = self.product(x)
        return x if self.left is None else _scale(self.left, x)

    def to(self, device: torch.device | str) -> MetaPath:
        """The same operator on another device."""
        return replace(
            self,
            factors=tuple((p.to(device), v.to(device)) for p, v in self.factors),
            left=None if self.left is None else self.left.to(device),
            right=None if self.right is None else self.right.to(device),
        )

    def _cast(self, dtype: torch.dtype) -> MetaPath:
        return replace(
            self,
            factors=tuple((p, v.to(dtype)) for p, v in self.factors),
            left=None if self.left is None else self.left.to(dtype),
            right=None if self.right is None else self.right.to(dtype),
        )


def materialise(path: MetaPath, *, binary: bool = False, limit: int = 50_000_000) -> sp.csr_array:
    """The product as one sparse matrix, for comparison: what :class:`MetaPath` avoids.

    Args:
        path: The operator.
        binary: Every entry that is there counts 1, and ``norm`` is applied to that matrix (``row``
            or ``symmetric``; of ``walk``, rows).
        limit: Largest number of entries that may arise.

    Raises:
        ArgumentError: More entries would arise than ``limit``.
    """
    made: sp.csr_array | None = None
    for pattern, values in path.factors:
        row, col = pattern.row.cpu().numpy(), pattern.col.cpu().numpy()
        factor = sp.csr_array((values.double().cpu().numpy(), (row, col)), shape=pattern.shape)
        if made is not None:
            bound = int(
                np.minimum(made.astype(bool) @ np.diff(factor.indptr), factor.shape[1]).sum()
            )
            if bound > limit:
                raise ArgumentError(
                    f"{path.name}: the product may have {bound:,} entries, more than the limit of "
                    f"{limit:,}; apply the path factored"
                )
        made = factor if made is None else sp.csr_array(made @ factor)
    assert made is not None
    if not binary:
        left = 1.0 if path.left is None else path.left.double().cpu().numpy()[:, None]
        right = 1.0 if path.right is None else path.right.double().cpu().numpy()
        return sp.csr_array(sp.csr_array(made * left) * right)
    made.data[:] = 1.0
    if path.norm == "count":
        return made
    degree = np.maximum(np.asarray(made.sum(1)).ravel(), 1.0)
    if path.norm == "symmetric":
        made = sp.csr_array(made * (degree**-0.5)[:, None])
        return sp.csr_array(made * degree**-0.5)
    return sp.csr_array(made * (1 / degree)[:, None])


# -- parts ----------------------------------------------------------------------------------------


def _inverse(degree: Tensor) -> Tensor:
    """``1 / d``, zero where ``d`` is zero."""
    return torch.where(degree > 0, 1 / degree.clamp(min=math.ulp(0.0)), 0.0)


def _scale(factor: Tensor, x: Tensor) -> Tensor:
    return factor * x if x.dim() == 1 else factor[:, None] * x
