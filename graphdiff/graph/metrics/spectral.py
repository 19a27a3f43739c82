r"""The normalised Laplacian and the spectral filters of the wavelet statistic.

:math:`L = I - D^{-1/2} A D^{-1/2}` has eigenvalues :math:`\lambda` in [0, 2] and eigenvectors
:math:`U`; a node without edges has a zero row.

The wavelet statistic of SPECTRE (Martinkus et al. 2022, arXiv:2204.01613) looks at the graph
through twelve filters :math:`g_j`, a spline wavelet bank (Hammond et al. 2011, arXiv:0912.3848) on
[0, 2]. With

.. math:: h(x) = \begin{cases} x^2 & x \le 1 \\ -5 + 11x - 6x^2 + x^3 & 1 < x < 2 \\
                               4 / x^2 & x \ge 2 \end{cases}

(continuous with its slope), eleven band-pass filters are :math:`g_j(\lambda) = h(s_j \lambda)`
with scales :math:`s_j` spaced evenly in their logarithm from :math:`2 / \lambda_{\min}` down to
:math:`1 / \lambda_{\max}`, where :math:`\lambda_{\max} = 2` and
:math:`\lambda_{\min} = \lambda_{\max} / 20`; one low-pass filter closes the gap at zero,
:math:`g_0(\lambda) = \gamma \exp(-(\lambda / 0.6 \lambda_{\min})^4)`, as high as the others,
:math:`\gamma = \max h = 1 + \tfrac{2}{3 \sqrt 3}`. The signature of node i is the energy of its
localised filter,

.. math:: w_{ij} = \sum_k \big(U g_j(\Lambda) U^\top\big)_{ik}^2
                 = \sum_m U_{im}^2 \, g_j(\lambda_m)^2 ,

which does not depend on the basis chosen inside an eigenspace.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["NUM_FILTERS", "filter_bank", "normalised_laplacian", "wavelet_energy"]

Float = NDArray[np.float64]

NUM_FILTERS = 12
_HIGHEST, _LOWEST = 2.0, 2.0 / 20
_PEAK = 1 + 2 / (3 * np.sqrt(3))


def normalised_laplacian(adj: ArrayLike) -> Float:
    """Normalised Laplacians ``[b, n, n]`` of 0/1 matrices ``[b, n, n]`` with a zero diagonal."""
    a = np.asarray(adj, np.float64)
    degree = a.sum(-1)
    scale = np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1)), 0.0)
    laplacian = -a * scale[..., :, None] * scale[..., None, :]
    diagonal = np.arange(a.shape[-1])
    laplacian[..., diagonal, diagonal] = degree > 0
    return laplacian


def _band(x: Float) -> Float:
    """The wavelet h of the module docstring."""
    middle = -5 + x * (11 + x * (-6 + x))
    return np.where(x <= 1, x * x, np.where(x < 2, middle, 4 / np.maximum(x, 1) ** 2))


def filter_bank(values: ArrayLike) -> Float:
    """Values ``[12, ...]`` of the filters at eigenvalues ``[...]`` in [0, 2], low-pass first."""
    x = np.asarray(values, np.float64)
    scales = np.geomspace(2 / _LOWEST, 1 / _HIGHEST, NUM_FILTERS - 1)
    low = _PEAK * np.exp(-((x / (0.6 * _LOWEST)) ** 4))
    return np.stack([low, *(_band(s * x) for s in scales)])


def wavelet_energy(values: ArrayLike, vectors: ArrayLike) -> Float:
    """Signature of each node, ``[b, 12, n]``.

    Args:
        values: Eigenvalues ``[b, n]``.
        vectors: Eigenvectors in columns ``[b, n, n]``.
    """
    gains = np.moveaxis(filter_bank(values) ** 2, 0, 1)  # [b, 12, n]
    return gains @ np.square(np.asarray(vectors, np.float64)).swapaxes(-1, -2)
