r"""The source view of a user: what the walks through *other* users say.

With the union :math:`X` of all behaviours and :math:`K = (X X^\top + \lambda)^{-1}`, ridge
regression of every item on all others (EASE, Steck, 2019, arXiv 1905.03375) predicts from
:math:`P = (X^\top X + \lambda)^{-1}`. Since :math:`a_u P = (K X)_u` for a user whose row
:math:`a_u` is in :math:`X`, and

.. math:: K X = \tfrac1\lambda \Bigl(X - \tfrac1\lambda X X^\top X
          + \tfrac1{\lambda^2} X X^\top X X^\top X - \dots\Bigr),

it is a signed sum of walks of 1, 3, 5, ... steps from the user, and a solver stopped after ``m``
steps is a polynomial of walks up to length :math:`2 m + 1`.

Such a walk may return to its user, who then recommends to himself what he has seen, and a model
trained on such views knows what it will be asked. Both end when the user's own row is left out of
:math:`X`. By the formula of Sherman and Morrison, with :math:`\tau_u = a_u P a_u^\top =
\sum_i a_{ui} (K X)_{ui}` and the rule of EASE that an item does not predict itself,

.. math::
    s_{ui} = a_{ui} - \frac{(K X)_{ui}}{(1 - \tau_u) P_{ii} + (K X)_{ui}^2} ,

for all items from one row of :math:`K X`. The latent view of any part :math:`a'` of the row (some
items hidden), in a basis ``E`` ``[items, d]``, is the ridge estimate of the other users

.. math:: c(a') = a' E - \lambda \Bigl(a' P E
          + \frac{\langle a', (K X)_u \rangle}{1 - \tau_u}\, a_u P E\Bigr).

``K`` is applied by a Cholesky factor for up to 4,000 users, by conjugate gradients for more;
:math:`P_{ii}` is taken as :math:`1 / (\lambda + \lVert X_{\cdot i} \rVert^2)`, its value where
items have no common user.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from graphdiff.core.errors import ArgumentError

__all__ = ["Others", "conjugate_gradients", "item_basis"]

Float = NDArray[np.float32]
Users = NDArray[np.int64]
DIRECT = 4000
"""Users up to which the kernel is factored."""


class Others:
    r"""Leave-one-user-out ridge regression of items on items.

    Args:
        edges: ``[users, items]``, the union of relations as ones.
        ridge: :math:`\lambda`, positive.
        iterations: Of conjugate gradients, for more than 4,000 users.

    Raises:
        ArgumentError: ``ridge`` is not positive, or ``iterations`` below 1.
    """

    def __init__(self, edges: sparse.csr_matrix, ridge: float, iterations: int = 4) -> None:
        if not ridge > 0 or iterations < 1:
            raise ArgumentError(
                f"ridge is {ridge} and iterations {iterations}; expected a positive number and 1 "
                "or more"
            )
        self.edges = sparse.csr_matrix(edges, dtype=np.float32)
        self.edges.sort_indices()
        self.turned = sparse.csr_matrix(self.edges.T)
        self.ridge, self.iterations = float(ridge), iterations
        squares = np.asarray(self.edges.multiply(self.edges).sum(0)).ravel()
        self.diagonal = np.asarray(1 / (ridge + squares), np.float32)
        self.popularity = np.asarray(self.edges.sum(0), np.float32).ravel()

    @cached_property
    def _factor(self) -> Any:
        kernel = (self.edges @ self.turned).toarray().astype(np.float64)
        kernel[np.diag_indices(len(kernel))] += self.ridge
        return linalg.cho_factor(kernel, overwrite_a=True)

    def solve(self, right: NDArray[Any]) -> Float:
        """``K @ right`` for ``[users, b]``."""
        if self.edges.shape[0] <= DIRECT:
            return np.asarray(linalg.cho_solve(self._factor, right), np.float32)
        return conjugate_gradients(
            lambda v: self.edges @ (self.turned @ v) + np.float32(self.ridge) * v,
            np.asarray(right, np.float32), self.iterations,
        )  # fmt: skip

    def rows(self, users: Users) -> Float:
        """Rows of ``K X``, ``[b, items]``."""
        one = np.zeros((self.edges.shape[0], len(users)), np.float32)
        one[users, np.arange(len(users))] = 1
        return np.ascontiguousarray((self.turned @ self.solve(one)).T)

    def __call__(self, users: Users) -> Float:
        """Scores ``[b, items]``; where the walks say nothing, popularity decides."""
        return self.scores(users, self.rows(users))

    def scores(self, users: Users, rows: Float) -> Float:
        """Scores ``[b, items]`` from rows of ``K X``."""
        own = self.edges[users].toarray()
        tau = (own * rows).sum(1, keepdims=True)
        found = own - rows / ((1 - tau) * self.diagonal + rows * rows)
        quiet = np.float32(1e-6 / max(float(self.popularity.max()), 1.0))
        return np.asarray(found + quiet * self.popularity, np.float32)

    def own(self, users: Users, rows: Float) -> Float:
        """``(K X)_ui`` at the edges of these users, in the order of ``edges[users]``."""
        c = self.edges[users].tocoo()
        return np.asarray(rows[c.row, c.col], np.float32)

    def project(self, basis: Float) -> Float:
        """``P @ basis``, ``[items, d]``."""
        inner = self.turned @ self.solve(self.edges @ basis)
        return np.asarray((basis - inner) / np.float32(self.ridge), np.float32)


def conjugate_gradients(apply: Any, right: Float, iterations: int) -> Float:
    """Solves positive definite systems, one for each column of ``right`` ``[n, b]``."""
    x = np.zeros_like(right)
    rest, step = right.copy(), right.copy()
    size = (rest * rest).sum(0)
    for _ in range(iterations):
        pushed = apply(step)
        length = size / np.maximum((step * pushed).sum(0), 1e-30)
        x += length * step
        rest -= length * pushed
        new = (rest * rest).sum(0)
        step = rest + (new / np.maximum(size, 1e-30)) * step
        size = new
    return x


def item_basis(edges: sparse.csr_matrix, width: int, seed: int = 0) -> Float:
    """The ``width`` leading right singular vectors of the edges, ``[items, width]``.

    By subspace iteration with oversampling (Halko et al., 2011); scaled so that an average item has
    length 1.

    Raises:
        ArgumentError: ``width`` exceeds the number of users or items.
    """
    if not 1 <= width <= min(edges.shape):
        raise ArgumentError(
            f"a basis of width {width} of a matrix of shape {edges.shape}: expected at most "
            f"{min(edges.shape)}"
        )
    draws = np.random.default_rng(seed)
    extra = min(width + 16, min(edges.shape))
    turned = sparse.csr_matrix(edges.T)
    block = turned @ draws.standard_normal((edges.shape[0], extra)).astype(np.float32)
    for _ in range(3):
        block, _ = np.linalg.qr(block)
        block = turned @ (edges @ block)
    block, _ = np.linalg.qr(block)
    image = (edges @ block).astype(np.float64)
    _, rotation = np.linalg.eigh(image.T @ image)  # ascending
    basis = block @ rotation[:, ::-1][:, :width].astype(np.float32)
    # The sign of a singular vector is free: its largest entry is made positive.
    top = basis[np.abs(basis).argmax(0), np.arange(width)]
    basis = basis * np.where(top < 0, -1, 1) * np.sqrt(len(basis) / width)
    return np.asarray(basis, np.float32)
