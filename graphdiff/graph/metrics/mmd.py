r"""Maximum mean discrepancy (MMD) between two samples of vectors.

With a kernel :math:`k`, samples :math:`x_1..x_n` and :math:`y_1..y_m`, the squared discrepancy is
estimated by (Gretton et al. 2012, JMLR 13:723)

.. math:: \text{biased: } \frac1{n^2}\sum_{ij} k(x_i,x_j) + \frac1{m^2}\sum_{ij} k(y_i,y_j)
          - \frac2{nm}\sum_{ij} k(x_i,y_j),

and unbiased by leaving the terms :math:`i = j` out of the first two sums (with :math:`n(n-1)` and
:math:`m(m-1)` below). The literature on graph generation prints the biased *square* and calls it
"MMD"; it is non-negative for a positive definite kernel and positive on average even for two
samples of one distribution. The unbiased one averages to zero there and may be negative.

Kernels of the graph literature, on histograms :math:`p, q` with cumulative sums :math:`P, Q`:

* ``gaussian_emd`` :math:`\exp(-\tfrac{1}{2\sigma^2} \mathrm{EMD}^2)`; on a line the earth mover's
  distance is :math:`\sum_i |P_i - Q_i| / s` for bins :math:`1/s` apart (``scale`` = s);
* ``gaussian_tv`` :math:`\exp(-\tfrac{1}{2\sigma^2} \mathrm{TV}^2)`,
  :math:`\mathrm{TV} = \tfrac12 \sum_i |p_i - q_i|`;
* ``rbf`` :math:`\exp(-\tfrac{1}{2\sigma^2} \lVert p - q \rVert_2^2)`.

The first two are **not** positive definite, so their MMD is not a metric between distributions.

Resampling needs no new kernel values: every statistic here is a quadratic form in the numbers of
times that each distinct vector was drawn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphdiff.core.errors import ArgumentError

__all__ = [
    "PRESETS",
    "Estimator",
    "Kernel",
    "KernelMMD",
    "LinearMMD",
    "TwoSample",
    "compact",
    "mmd2",
    "permutation_test",
]

Float = NDArray[np.float64]
Estimator = Literal["biased", "unbiased"]
_KERNELS = ("gaussian_emd", "gaussian_tv", "rbf", "linear")


@dataclass(frozen=True)
class Kernel:
    """A kernel between rows of two arrays.

    Attributes:
        name: ``gaussian_emd``, ``gaussian_tv``, ``rbf`` or ``linear``.
        sigma: Bandwidth; None = the median distance between distinct rows of the reference,
            taken by :meth:`fit`.
        scale: Bins per unit of distance of ``gaussian_emd``.
    """

    name: str
    sigma: float | None = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in _KERNELS:
            raise ArgumentError(f"unknown kernel {self.name!r}; there are {', '.join(_KERNELS)}")
        if (self.sigma is not None and not self.sigma > 0) or not self.scale > 0:
            raise ArgumentError(
                f"kernel {self.name} needs sigma > 0 and scale > 0, found {self.sigma} and "
                f"{self.scale}"
            )

    @property
    def psd(self) -> bool:
        """Whether the kernel is positive definite on all inputs."""
        return self.name in ("rbf", "linear")

    def distance(self, x: ArrayLike, y: ArrayLike) -> Float:
        """Distances ``[n, m]`` under the kernel's exponential (not defined for ``linear``)."""
        from scipy.spatial.distance import cdist

        a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
        if self.name == "gaussian_emd":
            return cdist(a.cumsum(1), b.cumsum(1), "cityblock") / self.scale
        if self.name == "gaussian_tv":
            return cdist(a, b, "cityblock") / 2
        return cdist(a, b, "euclidean")

    def fit(self, reference: ArrayLike) -> Kernel:
        """The same kernel with a bandwidth: the median distance if none was given."""
        if self.sigma is not None or self.name == "linear":
            return self
        rows = np.unique(np.asarray(reference, np.float64), axis=0)[:2048]
        distance = self.distance(rows, rows)[np.triu_indices(len(rows), 1)]
        return replace(self, sigma=float(np.median(distance)) if len(distance) else 1.0)

    def __call__(self, x: ArrayLike, y: ArrayLike) -> Float:
        """Kernel values ``[n, m]`` between the rows of ``x`` and ``y``."""
        if self.name == "linear":
            return np.asarray(x, np.float64) @ np.asarray(y, np.float64).T
        if self.sigma is None:
            raise ArgumentError(f"kernel {self.name} has no bandwidth: call fit(reference) first")
        return np.exp(-(self.distance(x, y) ** 2) / (2 * self.sigma**2))

    def __str__(self) -> str:
        if self.name == "linear":
            return "linear"
        extra = f", scale={self.scale:g}" if self.name == "gaussian_emd" else ""
        sigma = "median" if self.sigma is None else f"{self.sigma:g}"
        return f"{self.name}(sigma={sigma}{extra})"


def _settings(name: str) -> dict[str, Kernel]:
    """The published bandwidths with another distance."""
    return {
        "degree": Kernel(name, 1.0),
        "clustering": Kernel(name, 0.1, 100.0 if name == "gaussian_emd" else 1.0),
        "orbit": Kernel("rbf" if name == "gaussian_emd" else name, 30.0),
        "spectral": Kernel(name, 1.0),
        "wavelet": Kernel(name, 1.0),
    }


PRESETS: dict[str, dict[str, Kernel]] = {
    "gaussian_emd": _settings("gaussian_emd"),
    "gaussian_tv": _settings("gaussian_tv"),
    "rbf": dict.fromkeys(
        ("degree", "clustering", "orbit", "spectral", "wavelet"), Kernel("rbf", None)
    ),
}
"""Kernels by descriptor: ``gaussian_emd`` is GraphRNN and GDSS, ``gaussian_tv`` is SPECTRE and
DiGress, ``rbf`` is a positive definite choice with the median bandwidth."""


class TwoSample(ABC):
    """A statistic between a resampled sample x and a fixed sample y.

    Attributes:
        weights: Share of each distinct row of x, ``[u]``, summing to one.
        n: Size of x.
    """

    weights: Float
    n: int

    @abstractmethod
    def statistic(self, counts: NDArray[Any]) -> Float:
        """Values ``[B]`` for the numbers of times ``[B, u]`` that each distinct x is present."""

    @property
    def value(self) -> float:
        """The statistic of x itself."""
        return float(self.statistic(np.rint(self.weights * self.n)[None])[0])

    def bootstrap(self, draws: int, rng: np.random.Generator, n: int | None = None) -> Float:
        """Values ``[draws]`` for samples of ``n`` (default: the size of x) drawn from x."""
        counts = rng.multinomial(self.n if n is None else n, self.weights, size=draws)
        return self.statistic(counts)


def _check(n: int, m: int, estimator: str) -> None:
    if estimator not in ("biased", "unbiased"):
        raise ArgumentError(f"estimator must be 'biased' or 'unbiased', found {estimator!r}")
    least = 1 if estimator == "biased" else 2
    if min(n, m) < least:
        raise ArgumentError(
            f"the {estimator} MMD needs at least {least} samples on each side, found {n} and {m}"
        )


def _distinct(x: Float) -> tuple[Float, NDArray[np.int64], NDArray[np.int64]]:
    rows, where, counts = np.unique(x, axis=0, return_inverse=True, return_counts=True)
    return rows, where.ravel(), counts


class KernelMMD(TwoSample):
    """Squared MMD of two arrays of vectors.

    Args:
        x: Sample ``[n, k]``, the one that is resampled.
        y: Reference ``[m, k]``.
        kernel: The kernel, with a bandwidth.
        estimator: ``biased`` or ``unbiased``.
    """

    def __init__(
        self, x: ArrayLike, y: ArrayLike, kernel: Kernel, estimator: Estimator = "biased"
    ) -> None:
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        _check(len(x), len(y), estimator)
        self.estimator = estimator
        self.n, self.m = len(x), len(y)
        rows, self.where, counts = _distinct(x)
        refs, _, weights = _distinct(y)
        self.weights = counts / self.n
        self.kxx = kernel(rows, rows)
        self.kxy = kernel(rows, refs) @ (weights / self.m)
        self._between = (kernel(refs, refs), weights[None].astype(np.float64))
        self.kyy = float(self._within(*self._between)[0])

    def with_estimator(self, estimator: Estimator) -> KernelMMD:
        """The same samples under another estimator, without new kernel values."""
        _check(self.n, self.m, estimator)
        other = copy(self)
        other.estimator = estimator
        other.kyy = float(other._within(*other._between)[0])
        return other

    def of_rows(self, counts: NDArray[Any]) -> Float:
        """Values ``[B]`` for the numbers of times ``[B, n]`` that each row of x is present."""
        from scipy.sparse import csr_array

        ones = np.ones(self.n)
        member = csr_array((ones, (np.arange(self.n), self.where)), (self.n, len(self.weights)))
        return self.statistic(np.asarray(counts, np.float64) @ member)

    def _within(self, k: Float, counts: Float) -> Float:
        n = counts.sum(1)
        total = ((counts @ k) * counts).sum(1)
        if self.estimator == "biased":
            return total / n**2
        return (total - counts @ np.diagonal(k)) / (n * (n - 1))

    def statistic(self, counts: NDArray[Any]) -> Float:
        """See :meth:`TwoSample.statistic`."""
        c = np.asarray(counts, np.float64)
        value = self._within(self.kxx, c) + self.kyy - 2 * (c @ self.kxy) / c.sum(1)
        return np.where(np.abs(value) < 1e-14, 0.0, value)


def compact(*matrices: Any) -> list[Any]:
    """Sparse matrices with the columns that are empty in all of them left out."""
    from scipy.sparse import csr_matrix

    rows = [m.tocsr() for m in matrices]
    columns, where = np.unique(np.concatenate([m.indices for m in rows]), return_inverse=True)
    ends = np.cumsum([m.nnz for m in rows])[:-1]
    return [
        csr_matrix((m.data, index, m.indptr), shape=(m.shape[0], len(columns)))
        for m, index in zip(rows, np.split(where.ravel(), ends), strict=True)
    ]


class LinearMMD(TwoSample):
    """Squared MMD with the linear kernel on sparse or dense features: distance of mean vectors.

    Args:
        x: Features ``[n, k]`` (array or scipy sparse matrix), the sample that is resampled.
        y: Features of the reference ``[m, k]``.
        estimator: ``biased`` or ``unbiased``.
    """

    def __init__(self, x: Any, y: Any, estimator: Estimator = "biased") -> None:
        _check(x.shape[0], y.shape[0], estimator)
        self.estimator = estimator
        if hasattr(x, "tocsr"):
            x, y = compact(x, y)
        self.x, self.n, self.m = x, x.shape[0], y.shape[0]
        self.weights = np.full(self.n, 1 / self.n)
        self.mean = np.asarray(y.mean(0), np.float64).ravel()
        self.square = self._norms(x)
        self.square_y = float(self._norms(y).mean())

    @staticmethod
    def _norms(x: Any) -> Float:
        product = x.multiply(x) if hasattr(x, "multiply") else np.square(x)
        return np.asarray(product.sum(1), np.float64).ravel()

    @cached_property
    def _transposed(self) -> Any:
        return self.x.T.tocsr() if hasattr(self.x, "tocsr") else np.asarray(self.x).T

    def statistic(self, counts: NDArray[Any]) -> Float:
        """See :meth:`TwoSample.statistic`."""
        c = np.asarray(counts, np.float64)
        n = c.sum(1)
        step = max(1, (1 << 22) // max(1, len(self.mean)))  # 32 MB of mean vectors at a time
        biased, squares = np.zeros(len(c)), np.zeros(len(c))
        for i in range(0, len(c), step):
            means = np.asarray(self._transposed @ c[i : i + step].T).T / n[i : i + step, None]
            biased[i : i + step] = np.square(means - self.mean).sum(1)
            squares[i : i + step] = np.square(means).sum(1)
        if self.estimator == "biased":
            return biased
        # (sum - diagonal) / (n (n - 1)) = mean square + (mean square - mean norm) / (n - 1)
        within = (squares - (c @ self.square) / n) / (n - 1)
        other = (np.square(self.mean).sum() - self.square_y) / (self.m - 1)
        return biased + within + other


def mmd2(x: ArrayLike, y: ArrayLike, kernel: Kernel, estimator: Estimator = "biased") -> float:
    """Squared MMD between the rows of ``x [n, k]`` and ``y [m, k]``."""
    return KernelMMD(x, y, kernel.fit(y), estimator).value


def permutation_test(
    x: ArrayLike,
    y: ArrayLike,
    kernel: Kernel,
    *,
    permutations: int = 999,
    estimator: Estimator = "unbiased",
    seed: int = 0,
) -> tuple[float, float]:
    """Tests whether two samples have one distribution.

    Args:
        x: Sample ``[n, k]``.
        y: Sample ``[m, k]``.
        kernel: The kernel; a missing bandwidth is fitted to the pooled sample.
        permutations: Number of random relabelings.
        estimator: Which MMD is compared.
        seed: Seed of the relabelings.

    Returns:
        The squared MMD and the p-value ``(1 + #{permuted >= observed}) / (1 + permutations)``,
        which under the null is uniform on its grid (never below its nominal level).
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    _check(len(x), len(y), estimator)
    pool = np.concatenate([x, y])
    rows, where = np.unique(pool, axis=0, return_inverse=True)
    where = where.ravel()
    total = np.bincount(where, minlength=len(rows))
    k = kernel.fit(pool)(rows, rows)
    first = np.bincount(where[: len(x)], minlength=len(rows))
    rng = np.random.default_rng(seed)
    counts = rng.multivariate_hypergeometric(total, len(x), size=permutations, method="count")
    a = np.concatenate([first[None], counts]).astype(np.float64)
    b = total[None] - a
    n, m = len(x), len(y)
    ka, kb = a @ k, b @ k
    xx, yy, xy = (ka * a).sum(1), (kb * b).sum(1), (ka * b).sum(1)
    if estimator == "biased":
        values = xx / n**2 + yy / m**2 - 2 * xy / (n * m)
    else:
        d = np.diagonal(k)
        values = (xx - a @ d) / (n * (n - 1)) + (yy - b @ d) / (m * (m - 1)) - 2 * xy / (n * m)
    hits = int((values[1:] >= values[0] - 1e-12).sum())
    return float(values[0]), (1 + hits) / (1 + permutations)
