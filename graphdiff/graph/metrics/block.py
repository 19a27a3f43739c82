r"""Blocks of a graph by minimum description length.

A partition :math:`b` of the nodes is good if it describes the graph in few nats. With
:math:`n_r` nodes in block :math:`r`, :math:`e_{rs}` edges between two blocks (twice the edges for
:math:`r = s`), :math:`e_r = \sum_s e_{rs}`, :math:`N` nodes and :math:`B` blocks, two lengths are
offered; both end with that of the partition itself,

.. math:: \ln \tbinom{N-1}{B-1} + \ln N! - \sum_r \ln n_r! + \ln N.

* ``degree_corrected`` is the microcanonical model of Peixoto (2017, arXiv:1705.10225) for the
  directed graph that has each edge in both directions, which is what SPECTRE and its successors
  hand to graph-tool. With :math:`E = \sum_{rs} e_{rs}`, node degrees :math:`k_i`, the number
  :math:`q(m, n)` of partitions of :math:`m` into at most :math:`n` parts and :math:`h^r_k` nodes
  of degree :math:`k` in block :math:`r`:

  .. math:: 2 \sum_r \ln e_r! - \sum_{rs} \ln e_{rs}! - 2 \sum_i \ln k_i!
            + \ln \tbinom{B^2 + E - 1}{E}
            + \sum_r \Big(2 \ln q(e_r, n_r) + \ln n_r! - \sum_k \ln h^r_k!\Big);

* ``bernoulli`` gives each pair of blocks its own edge probability with a uniform prior
  (:math:`m_{rs}` node pairs, :math:`a_{rs}` of them joined):
  :math:`\sum_{r \le s} \ln \tbinom{m_{rs}}{a_{rs}} + \ln (m_{rs} + 1)`.

The search starts from spectral clusterings, moves single nodes downhill, splits and merges blocks
until nothing shortens the description. It draws no random number.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphdiff.core.errors import ArgumentError

__all__ = ["Model", "description_length", "fit_blocks"]

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Model = Literal["degree_corrected", "bernoulli"]

STARTS = 8  # largest number of blocks of a spectral start; splits may exceed it
_GAIN = 1e-9  # a shorter description by less than this is rounding


@lru_cache(maxsize=8)
def _log_factorial(most: int) -> Float:
    from scipy.special import gammaln

    return gammaln(np.arange(most + 1) + 1.0)


@lru_cache(maxsize=4)
def _log_partitions(most: int, parts: int) -> Float:
    """Log of the number of partitions of m into at most n parts, ``[n, m]``."""
    # One part more: partitions with fewer parts, or with n taken off the largest column.
    table = np.zeros((parts + 1, most + 1))
    table[0, 0] = 1.0
    for n in range(1, parts + 1):
        row = table[n - 1].copy()
        for at in range(n, most + 1, n):
            row[at : at + n] += row[at - n : at][: len(row[at : at + n])]
        table[n] = row
    with np.errstate(divide="ignore"):
        return np.log(table)


def _rounded(x: float) -> int:
    """The next power of two, so that tables are shared between graphs of similar size."""
    return 1 << int(np.ceil(np.log2(max(x, 2))))


def adjacency(adj: ArrayLike) -> Float:
    """The matrix of one graph as 0 and 1, checked."""
    a = np.asarray(adj)
    if a.ndim != 2 or a.shape[0] != a.shape[1] or not len(a):
        raise ArgumentError(
            f"adj must be one square matrix [n, n] with n > 0, found shape {list(a.shape)}"
        )
    a = (a != 0).astype(np.float64)
    if np.trace(a) or (a != a.T).any():
        raise ArgumentError("adj must be symmetric with a zero diagonal: remove self-loops")
    return a


class _Description:
    """Description lengths of one graph, for a partition and for all moves of one node."""

    def __init__(self, adj: Float, model: Model) -> None:
        self.adj, self.model = adj, model
        self.degree = adj.sum(1).astype(np.int64)
        self.n, self.edges = len(adj), int(self.degree.sum())
        most = (self.n + 1) ** 2 + self.edges  # the largest argument of any binomial
        self.log_f = _log_factorial(_rounded(most))
        if model == "degree_corrected":
            self.log_q = _log_partitions(_rounded(self.edges), _rounded(self.n))
            self.kinds = np.eye(self.degree.max() + 1)[self.degree]

    def choose(self, n: Float, k: Float) -> Float:
        """Log binomial coefficients of whole numbers."""
        i, j = n.astype(np.int64), k.astype(np.int64)
        return self.log_f[i] - self.log_f[j] - self.log_f[i - j]

    def blocks(self, sizes: Float, e: Float) -> Float:
        """Length without the degree histograms, over leading batch dimensions.

        Args:
            sizes: Nodes of each block ``[..., B]``; empty blocks are allowed and cost nothing.
            e: Edges between blocks ``[..., B, B]``, twice the edges on the diagonal.
        """
        f, used = self.log_f, (sizes > 0).sum(-1)
        n = sizes.astype(np.int64)
        length = self.choose(np.float64(self.n - 1) + 0 * used, used - 1.0)
        length = length + f[self.n] - f[n].sum(-1) + np.log(self.n)
        if self.model == "bernoulli":
            u, v = np.triu_indices(sizes.shape[-1])
            pairs = sizes[..., u] * (sizes[..., v] - (u == v)) / np.where(u == v, 2, 1)
            joined = e[..., u, v] / np.where(u == v, 2, 1)
            return length + (self.choose(pairs, joined) + np.log(pairs + 1)).sum(-1)
        ends = e.sum(-1).astype(np.int64)
        prior = self.choose(used * used + self.edges - 1.0, self.edges + 0.0 * used)
        within = 2 * f[ends] + 2 * self.log_q[n, ends] + f[n]
        return length + prior + within.sum(-1) - f[e.astype(np.int64)].sum((-2, -1))

    def length(self, labels: Int) -> float:
        """Description length in nats."""
        member = np.eye(labels.max() + 1)[labels]
        total = float(self.blocks(member.sum(0), member.T @ self.adj @ member))
        if self.model == "degree_corrected":
            histograms = (member.T @ self.kinds).astype(np.int64)
            total -= self.log_f[histograms].sum() + 2 * self.log_f[self.degree].sum()
        return total

    def moves(self, labels: Int) -> Float:
        """Change of length when node i joins block t, ``[n, B + 1]``; the last one is new."""
        width = int(labels.max()) + 2
        member = np.eye(width)[labels]
        links = self.adj @ member
        sizes, e = member.sum(0), member.T @ links
        shift = np.eye(width)[None] - member[:, None]
        outer = shift[..., :, None] * links[:, None, None, :]
        change = self.blocks(sizes + shift, e + outer + outer.swapaxes(-1, -2))
        change = change - self.blocks(sizes, e)
        if self.model == "degree_corrected":
            same = (member.T @ self.kinds)[:, self.degree].T  # nodes of this degree in each block
            here = (same * member).sum(1)
            change += np.log(here)[:, None] - np.log(same + 1)
        change[member > 0] = 0.0
        return change


def tidy(labels: Int) -> Int:
    """Labels numbered from 0 without gaps."""
    return np.unique(labels, return_inverse=True)[1].ravel()


def _descend(model: _Description, labels: Int) -> tuple[float, Int]:
    """Moves nodes while that shortens the description: all that gain at once, or the best one."""
    length = model.length(labels)
    while True:
        gain = model.moves(labels)
        best = gain.min(1)
        if best.min() > -_GAIN:
            return length, labels
        for chosen in (best < -_GAIN, np.arange(len(best)) == best.argmin()):
            moved = tidy(np.where(chosen, gain.argmin(1), labels))
            found = model.length(moved)
            if found < length - _GAIN:
                break
        else:
            return length, labels  # the best gain was rounding
        length, labels = found, moved


def _means(x: Float, k: int) -> Int:
    """k-means from the farthest-first centres, without a random number."""
    centres = [x[np.square(x - x.mean(0)).sum(1).argmax()]]
    for _ in range(k - 1):
        near = np.square(x[:, None] - np.asarray(centres)).sum(2).min(1)
        centres.append(x[near.argmax()])
    middle = np.asarray(centres)
    labels = np.zeros(len(x), np.int64)
    for _ in range(20):
        new = np.square(x[:, None] - middle).sum(2).argmin(1)
        if (new == labels).all():
            break
        labels = new
        held = np.bincount(labels, minlength=k) > 0
        middle[held] = np.asarray([x[labels == j].mean(0) for j in np.flatnonzero(held)])
    return tidy(labels)


def _embedding(adj: Float) -> Float:
    """Eigenvectors of the regularised normalised adjacency matrix, largest first."""
    degree = adj.sum(1) + max(float(adj.sum()) / len(adj), 1.0)
    scale = 1 / np.sqrt(degree)
    return np.linalg.eigh(adj * scale[:, None] * scale)[1][:, ::-1]


def _starts(adj: Float) -> Iterator[Int]:
    yield np.zeros(len(adj), np.int64)
    vectors = _embedding(adj)
    for k in range(2, min(STARTS, len(adj)) + 1):
        rows = vectors[:, :k]
        yield _means(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), k)


def _variants(adj: Float, labels: Int) -> Iterator[Int]:
    """Each block cut in two, each pair of blocks joined."""
    count = int(labels.max()) + 1
    for r in range(count):
        inside = np.flatnonzero(labels == r)
        if len(inside) > 3:
            second = _embedding(adj[np.ix_(inside, inside)])[:, 1]
            out = labels.copy()
            out[inside[second > np.median(second)]] = count
            yield out
    for r in range(count):
        for s in range(r):
            yield tidy(np.where(labels == r, s, labels))


def fit_blocks(adj: ArrayLike, model: Model = "degree_corrected") -> Int:
    """Partition of shortest description.

    Args:
        adj: Symmetric matrix with a zero diagonal ``[n, n]``; any non-zero entry is an edge.
        model: ``degree_corrected`` (as published) or ``bernoulli``; see the module docstring.

    Returns:
        Block of each node, ``int64 [n]``, blocks numbered from 0 by their first node.

    Raises:
        ArgumentError: If the matrix is not square and symmetric, or the model is unknown.
    """
    a = adjacency(adj)
    description = _describe(a, model)
    found = [_descend(description, labels) for labels in _starts(a)]
    length, labels = min(found, key=lambda x: x[0])
    improved = True
    while improved:
        improved = False
        for variant in _variants(a, labels):
            other, moved = _descend(description, variant)
            if other < length - _GAIN:
                length, labels, improved = other, moved, True
                break
    order = np.unique(labels, return_index=True)[1].argsort().argsort()
    return order[labels]


def _describe(a: Float, model: Model) -> _Description:
    if model not in ("degree_corrected", "bernoulli"):
        raise ArgumentError(f"model must be 'degree_corrected' or 'bernoulli', found {model!r}")
    return _Description(a, model)


def description_length(
    adj: ArrayLike, labels: ArrayLike, model: Model = "degree_corrected"
) -> float:
    """Length in nats of a graph under a partition.

    Args:
        adj: As in :func:`fit_blocks`.
        labels: Block of each node ``[n]``.
        model: As in :func:`fit_blocks`.
    """
    return _describe(adjacency(adj), model).length(tidy(np.asarray(labels)))
