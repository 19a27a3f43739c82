r"""Whether a graph passes for a sample of the published stochastic block model.

Blocks are fitted by :func:`graphdiff.graph.metrics.block.fit_blocks`.
The criterion is that of SPECTRE (Martinkus et al. 2022, arXiv:2204.01613): 2 to 5
blocks of 20 to 40 nodes, and a mean above 0.9, over all ordered pairs of blocks, of
:math:`P(\chi^2_1 > |W_{rs}|)`. With densities :math:`D_{rs}`, :math:`p` = 0.3 inside and 0.005
between,

.. math:: W_{rs} = \frac{(D_{rs} - p)^2}{D_{rs} (1 - D_{rs}) + 10^{-6}}

was meant (``elementwise``). The published program keeps the densities between blocks in a NumPy
*matrix*, for which ``**`` and ``*`` are matrix products, so what tables were computed with is
(``matrix``), for :math:`r \ne s` and with :math:`M` the densities with a diagonal of zeros,

.. math:: W_{rs} = \frac{\big((M - p)(M - p)\big)_{rs}}{\big(M (1 - M)\big)_{rs} + 10^{-6}} .

The two differ much: a pair of blocks without any edge between them has p-value zero elementwise,
which one in ten true block models does not survive; the matrix form hardly looks at single pairs.
Neither has the factor of the number of node pairs that a Wald test has, so the p-values are near
one for every plausible graph: the criterion is a tolerance, not a test of level 10 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.metrics.block import adjacency, fit_blocks, tidy

if TYPE_CHECKING:
    from graphdiff.data.graphs import Graphs

__all__ = ["BlockTest", "Statistic", "block_test", "is_sbm", "sbm_verdicts"]

Statistic = Literal["matrix", "elementwise"]


@dataclass(frozen=True)
class BlockTest:
    """Result of :func:`block_test`.

    Attributes:
        sizes: Nodes of each block ``[B]``.
        density: Share of the node pairs that are joined, ``[B, B]``.
        p_value: Mean over all ordered pairs of blocks.
        valid: Whether number and sizes of blocks and the p-value are within the limits.
    """

    sizes: NDArray[np.int64]
    density: NDArray[np.float64]
    p_value: float
    valid: bool


def block_test(
    adj: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    inside: float = 0.3,
    between: float = 0.005,
    blocks: tuple[int, int] = (2, 5),
    sizes: tuple[int, int] = (20, 40),
    level: float = 0.9,
    statistic: Statistic = "matrix",
) -> BlockTest:
    """Whether a graph passes for a sample of the published block model.

    Args:
        adj: As in :func:`fit_blocks`.
        labels: Block of each node ``[n]``; None fits them.
        inside: Edge probability inside a block.
        between: Edge probability between two blocks.
        blocks: Fewest and most blocks.
        sizes: Smallest and largest block.
        level: What the mean p-value must exceed.
        statistic: ``matrix`` (as published tables) or ``elementwise`` (as meant).

    Raises:
        ArgumentError: If the matrix is not square and symmetric, or the statistic is unknown.
    """
    from scipy.special import erfc

    if statistic not in ("matrix", "elementwise"):
        raise ArgumentError(f"statistic must be 'matrix' or 'elementwise', found {statistic!r}")
    a = adjacency(adj)
    b = fit_blocks(a) if labels is None else tidy(np.asarray(labels))
    member = np.eye(b.max() + 1)[b]
    n = member.sum(0)
    pairs = np.outer(n, n) - np.diag(n)
    density = member.T @ a @ member / (pairs + 1e-6)
    off = density * (1 - np.eye(len(n)))
    if statistic == "matrix":
        wald = (off - between) @ (off - between) / (off @ (1 - off) + 1e-6)
    else:
        wald = np.square(off - between) / (off * (1 - off) + 1e-6)
    own = np.diagonal(density)
    np.fill_diagonal(wald, np.square(own - inside) / (own * (1 - own) + 1e-6))
    # the tail of chi-squared with one degree of freedom
    p = float(erfc(np.sqrt(np.abs(wald) / 2)).mean())
    fits = blocks[0] <= len(n) <= blocks[1] and sizes[0] <= n.min() and n.max() <= sizes[1]
    return BlockTest(n.astype(np.int64), density, p, bool(fits and p > level))


def sbm_verdicts(graphs: Graphs) -> dict[Statistic, NDArray[np.bool_]]:
    """Which graphs pass :func:`block_test` with its published limits, by statistic, ``[G]``."""
    out: dict[Statistic, NDArray[np.bool_]]
    out = {"matrix": np.zeros(len(graphs), bool), "elementwise": np.zeros(len(graphs), bool)}
    for i in range(len(graphs)):
        # Too small or too large for any partition within the limits, or without an edge.
        if graphs.num_edges[i] and 40 <= graphs.num_nodes[i] <= 200:
            adj = graphs.dense([i])[1][0]
            labels = fit_blocks(adj)
            for statistic, found in out.items():
                found[i] = block_test(adj, labels, statistic=statistic).valid
    return out


def is_sbm(graphs: Graphs, statistic: Statistic = "matrix") -> NDArray[np.bool_]:
    """One of :func:`sbm_verdicts`."""
    return sbm_verdicts(graphs)[statistic]
