r"""Mending the edges of a graph: drop what joins unlike nodes, add what joins like ones.

* :func:`likely`: which edges have a Jaccard similarity of at least ``jaccard`` (rough, by words);
* :func:`put_back`: a view, the graph with some of the dropped edges back;
* :func:`refine`: of the edges left, those with a cosine of embeddings above ``cosine`` stay, and
  every node listens to its ``k`` most similar nodes, itself among the ``k``, so :math:`k - 1` new
  ones. Nodes of degree one or less are not among those found: their embedding rests on one edge,
  which may be the attacker's. With ``symmetric`` whoever is found listens back, so that such nodes
  are heard as well, by those that they found.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.adjacency import Pairs, both_ways
from graphdiff.graph.robust.similarity import BLOCK, edge_cosine, edge_jaccard, top_k

__all__ = ["likely", "put_back", "refine"]


def likely(edges: NDArray[np.int64], features: Any, jaccard: float) -> NDArray[np.bool_]:
    """Which edges ``[2, m]`` join nodes with a Jaccard similarity of at least ``jaccard``."""
    if jaccard <= 0:
        return np.ones(edges.shape[1], bool)
    return edge_jaccard(features, edges[0], edges[1]) >= jaccard


def put_back(keep: NDArray[np.bool_], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """``keep`` with a random ``share`` of what was not kept, ``[m]``."""
    gone = np.flatnonzero(~keep)
    view = keep.copy()
    view[rng.choice(gone, int(share * len(gone)), replace=False)] = True
    return view


def refine(
    edges: NDArray[np.int64],
    embedding: Tensor,
    *,
    cosine: float,
    k: int,
    symmetric: bool = False,
    block: int = BLOCK,
) -> Pairs:
    """Rows and columns of the refined adjacency; row ``i`` lists whom node ``i`` listens to.

    Args:
        edges: What is left of the graph, each edge once, ``[2, m]``.
        embedding: Of the nodes ``[n, d]``.
        cosine: Edges whose cosine is not above this are dropped.
        k: Most similar nodes of each node, itself included; 0 or 1 adds none.
        symmetric: Whether the new neighbours listen back; as published they do not.
        block: Side of a tile of :func:`~graphdiff.graph.robust.similarity.top_k`.

    Raises:
        ArgumentError: There are edges, and ``cosine`` would drop all of them.
    """
    n = len(embedding)
    left, right = torch.from_numpy(edges).to(embedding.device)
    value = edge_cosine(embedding, left, right)
    alike = (value > cosine).cpu().numpy()
    if len(alike) and not alike.any():
        raise ArgumentError(
            f"no edge has a cosine of embeddings above {cosine} (the largest is "
            f"{float(value.max()):.3g}), so none would be left; lower cosine"
        )
    row, col = both_ways(edges[:, alike])
    trusted = np.bincount(row, minlength=n) > 1
    if k > 1 and trusted.any():
        allowed = torch.from_numpy(trusted).to(embedding.device)
        found = top_k(embedding, min(k, int(trusted.sum())), allowed, block)[1].cpu().numpy()
        row = np.concatenate([row, np.repeat(np.arange(n), found.shape[1])])
        col = np.concatenate([col, found.ravel()])
        if symmetric:
            row, col = np.concatenate([row, col]), np.concatenate([col, row])
    code = np.unique(row[row != col] * n + col[row != col])
    return code // n, code % n
