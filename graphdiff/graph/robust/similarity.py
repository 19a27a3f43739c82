r"""How alike nodes are: Jaccard and cosine on edges, and the most similar nodes of every node.

With the words of node :math:`u` as a set :math:`x_u`, and embeddings :math:`e_u`,

.. math:: J_{uv} = \frac{|x_u \cap x_v|}{|x_u \cup x_v|}, \qquad
          C_{uv} = \frac{\langle e_u, e_v \rangle}{\lVert e_u \rVert \lVert e_v \rVert} .

All pairs of :math:`n` nodes are :math:`n^2` numbers, 40 GB at 100,000 nodes. :func:`top_k` goes
through tiles of :math:`b \times b` pairs instead and keeps the best :math:`k` of each row; a tile
off the diagonal serves its rows and, transposed, its columns, so that every product is made once.
What is held at a time is :math:`O(b^2 + nk)` numbers beside the embeddings.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.core.errors import ArgumentError

__all__ = ["BLOCK", "edge_cosine", "edge_jaccard", "top_k", "unit_rows"]

BLOCK = 2048
"""Side of a tile of pairs; 16 MiB of float32."""


def edge_jaccard(
    features: Any, left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Jaccard similarity of the non-zero features of pairs of nodes, ``[m]``.

    Args:
        features: Any scipy sparse matrix ``[n, f]``; only where it is not zero counts.
        left: First nodes ``[m]``.
        right: Second nodes ``[m]``.

    Returns:
        In [0, 1]; 0 for two nodes without a feature.
    """
    sets = features.tocsr().astype(bool).astype(np.float64)
    sets.eliminate_zeros()
    size = np.diff(sets.indptr)
    both = np.zeros(len(left))
    for start in range(0, len(left), 1 << 16):
        part = slice(start, start + (1 << 16))
        both[part] = np.asarray(sets[left[part]].multiply(sets[right[part]]).sum(1)).ravel()
    either = size[left] + size[right] - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def unit_rows(x: Tensor) -> Tensor:
    """Rows divided by their norm, ``[n, d]``; a zero row stays zero."""
    return torch.nn.functional.normalize(x, dim=1)


def edge_cosine(embedding: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Cosine similarity of pairs of nodes, ``[m]``.

    Args:
        embedding: ``[n, d]``.
        left: First nodes ``[m]``.
        right: Second nodes ``[m]``.
    """
    unit = unit_rows(embedding)
    found = unit.new_empty(len(left))
    for start in range(0, len(left), BLOCK):
        part = slice(start, start + BLOCK)
        found[part] = (unit[left[part]] * unit[right[part]]).sum(1)
    return found


def top_k(
    embedding: Tensor, k: int, allowed: Tensor | None = None, block: int = BLOCK
) -> tuple[Tensor, Tensor]:
    """The ``k`` most similar nodes of every node by cosine, itself among them.

    Args:
        embedding: ``[n, d]``.
        k: How many.
        allowed: Which nodes may be found, bool ``[n]``; all by default.
        block: Side of a tile of pairs.

    Returns:
        Similarities and nodes, each ``[n, k]``, the most similar first. Among exactly equal
        similarities the choice is arbitrary.

    Raises:
        ArgumentError: Fewer than ``k`` nodes may be found, or ``k`` or ``block`` is not positive.
    """
    n = len(embedding)
    unit = unit_rows(embedding)
    able = n if allowed is None else int(allowed.sum())
    if not 1 <= k <= able or block < 1:
        raise ArgumentError(
            f"top_k needs 1 <= k <= {able} (the nodes that may be found) and block >= 1, found "
            f"k={k} and block={block}; lower k"
        )
    best = unit.new_full((n, k), -torch.inf)
    node = torch.full((n, k), -1, dtype=torch.int64, device=unit.device)
    banned = None if allowed is None else torch.where(allowed, 0.0, -torch.inf).to(unit)
    for i in range(0, n, block):
        rows = slice(i, min(i + block, n))
        for j in range(i, n, block):
            columns = slice(j, min(j + block, n))
            tile = unit[rows] @ unit[columns].T
            _merge(best, node, tile, rows, columns, banned)
            if j > i:
                _merge(best, node, tile.T, columns, rows, banned)
    return best, node


def _merge(
    best: Tensor, node: Tensor, tile: Tensor, rows: slice, columns: slice, banned: Tensor | None
) -> None:
    """Put the best of a tile into the best so far, in place."""
    if banned is not None:
        tile = tile + banned[columns]
    value, place = tile.topk(min(best.shape[1], tile.shape[1]), dim=1)
    value = torch.cat([best[rows], value], 1)
    place = torch.cat([node[rows], place + columns.start], 1)
    best[rows], order = value.topk(best.shape[1], dim=1)
    node[rows] = place.gather(1, order)
