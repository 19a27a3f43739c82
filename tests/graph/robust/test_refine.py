"""Mending a graph: small cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.adjacency import both_ways
from graphdiff.graph.robust.refine import likely, put_back, refine

# Directions of nodes 0 .. 5 in the plane, in degrees: cosines follow by subtraction.
ANGLES = torch.tensor([0.0, 10.0, 20.0, 100.0, 110.0, 15.0])
PLANE = torch.stack([torch.cos(torch.deg2rad(ANGLES)), torch.sin(torch.deg2rad(ANGLES))], 1)
EDGES = np.array([[0, 0, 1, 1, 3, 3], [1, 2, 2, 3, 4, 5]])


def pairs(found) -> set[tuple[int, int]]:
    return set(zip(*(part.tolist() for part in found), strict=True))


def test_unlike_ends_lose_their_edge() -> None:
    found = pairs(refine(EDGES, PLANE, cosine=0.1, k=0))
    undirected = {(0, 1), (0, 2), (1, 2), (3, 4)}  # 1-3 are 90 degrees apart, 3-5 are 85
    assert found == undirected | {(v, u) for u, v in undirected}
    assert found == pairs(refine(EDGES, PLANE, cosine=0.1, k=1))  # oneself is the one
    assert (3, 5) in pairs(refine(EDGES, PLANE, cosine=0.08, k=0))


def test_a_cosine_equal_to_the_threshold_does_not_stay() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert pairs(refine(np.array([[0, 0], [1, 2]]), x, cosine=0.0, k=0)) == {(0, 2), (2, 0)}


def test_a_threshold_that_drops_every_edge_is_refused() -> None:
    words = r"no edge has a cosine of embeddings above 0\.1 \(the largest is 0\.0872\)"
    with pytest.raises(ArgumentError, match=words):
        refine(np.array([[1, 3], [3, 5]]), PLANE, cosine=0.1, k=3)  # 90 and 85 degrees apart
    without = refine(np.zeros((2, 0), np.int64), PLANE, cosine=0.1, k=3)
    assert not pairs(without)  # there was nothing to drop


def test_new_neighbours_are_the_most_similar_of_degree_two() -> None:
    found = pairs(refine(EDGES, PLANE, cosine=0.1, k=2))
    # Of degree two or more in what is left: 0, 1, 2. Those have themselves among the two.
    assert {(3, 2), (3, 1), (4, 2), (4, 1), (5, 1), (5, 2)} <= found
    assert (5, 0) not in found  # 15 degrees away, 1 and 2 are 5 away
    assert (2, 5) not in found  # node 5 has no edge left: not listened to
    assert (1, 3) not in found
    both = pairs(refine(EDGES, PLANE, cosine=0.1, k=2, symmetric=True))
    assert both == found | {(v, u) for u, v in found}


def test_k_is_cut_to_who_can_be_found() -> None:
    found = pairs(refine(EDGES, PLANE, cosine=0.1, k=50))
    assert {(u, v) for u, v in found if u == 5} == {(5, 0), (5, 1), (5, 2)}
    nobody = refine(np.array([[0], [1]]), PLANE, cosine=0.1, k=3)
    assert pairs(nobody) == {(0, 1), (1, 0)}  # of degree one: not to be found


def test_edges_with_few_common_words_go() -> None:
    words = sp.csr_matrix(np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1]]))
    edges = np.array([[0, 0], [1, 2]])
    assert likely(edges, words, 0.5).tolist() == [True, False]  # 1/2 is not below
    assert likely(edges, words, 0.51).tolist() == [False, False]
    assert likely(edges, words, 0.0).all()


def test_a_share_comes_back() -> None:
    keep = np.arange(100) < 50
    view = put_back(keep, 0.2, np.random.default_rng(0))
    assert view[:50].all()
    assert view[50:].sum() == 10
    other = put_back(keep, 0.2, np.random.default_rng(1))
    assert (view != other).any()
    assert keep.sum() == 50


def test_both_ways_are_both_ways() -> None:
    row, col = both_ways(np.array([[0, 1], [2, 3]]))
    assert set(zip(row.tolist(), col.tolist(), strict=True)) == {(0, 2), (1, 3), (2, 0), (3, 1)}
