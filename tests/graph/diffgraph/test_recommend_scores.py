"""Ranking measures, walks and the view through other users, against dense formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from graphdiff.core.errors import ArgumentError
from graphdiff.data.behaviours import Behaviours
from graphdiff.graph.diffgraph import ranking, views
from graphdiff.graph.diffgraph.latent import Latents
from graphdiff.graph.diffgraph.ranking import LAST, rank, top
from graphdiff.graph.diffgraph.views import Others, conjugate_gradients, item_basis
from graphdiff.graph.diffgraph.walks import ItemKNN, Popularity, Walk

DRAWS = np.random.default_rng(5)
VIEW = (DRAWS.random((14, 11)) < 0.3).astype(float)
BUY = (DRAWS.random((14, 11)) < 0.2).astype(float)
VIEW[3] = BUY[3] = 0  # a user without edges
VIEW[:, 6] = BUY[:, 6] = 0  # an item that nobody touched
DATA = Behaviours.of({"view": sparse.csr_matrix(VIEW), "buy": sparse.csr_matrix(BUY)}, "buy")
UNION = ((VIEW + BUY) > 0).astype(float)
ALL = np.arange(14)


# -- ranking ------------------------------------------------------------------------------------


def test_measures_by_hand() -> None:
    scores = np.array([[9, 8, 7, 6, 5], [1, 2, 3, 4, 5.0]])
    mask = sparse.csr_matrix([[1, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    found = rank(lambda u: scores[u], np.array([[1, 2], [0, 1], [0, 4]]), mask)
    assert found.users.tolist() == [0, 0, 1]
    assert found.places.tolist() == [0, 3, 2]
    assert found.recall(2).tolist() == [0.5, 0.0]
    assert found.recall(4).tolist() == [1.0, 1.0]
    assert found.ndcg(2) == pytest.approx([1 / (1 + 1 / np.log2(3)), 0])
    assert found.ndcg(3)[1] == pytest.approx(1 / np.log2(4))


def test_measures_agree_with_sklearn() -> None:
    from sklearn.metrics import ndcg_score

    scores = DRAWS.random((20, 30)).astype(np.float32)
    items = np.array([DRAWS.choice(30, 4, replace=False) for _ in range(20)])
    pairs = np.stack([np.repeat(np.arange(20), 4), items.ravel()], 1)
    found = rank(lambda u: scores[u], pairs, sparse.csr_matrix((20, 30)))
    truth = np.zeros((20, 30))
    np.put_along_axis(truth, items, 1, 1)
    assert found.ndcg(7).mean() == pytest.approx(ndcg_score(truth, scores, k=7))


def test_what_is_masked_is_a_hit_for_no_k() -> None:
    """Even where there are fewer items than ``k``."""
    mask = sparse.csr_matrix([[0, 1, 0]])
    found = rank(lambda u: np.ones((1, 3)), np.array([[0, 1], [0, 2]]), mask)
    assert found.places.tolist() == [LAST, 1]
    for k in (3, 4, 20, 10**6):
        assert found.recall(k).tolist() == [0.5]
        best = 1 / np.log2(2) + 1 / np.log2(3)
        assert found.ndcg(k) == pytest.approx([1 / np.log2(3) / best])


def test_ties_share_the_middle_and_a_constant_scorer_gains_nothing() -> None:
    flat = lambda u: np.zeros((len(u), 41), np.float32)  # noqa: E731
    found = rank(flat, np.array([[0, 0], [1, 40]]), sparse.csr_matrix((2, 41)))
    assert found.places.tolist() == [20, 20]
    assert found.recall(20).sum() == 0


def test_blocks_change_nothing(monkeypatch) -> None:
    scores = DRAWS.random((14, 11)).astype(np.float32)
    pairs = np.array([[u, int(i)] for u in range(14) for i in np.flatnonzero(BUY[u])][::-1])
    mask = sparse.csr_matrix(VIEW * (1 - BUY))
    whole = rank(lambda u: scores[u], pairs, mask)
    best = top(lambda u: scores[u], ALL, mask, 4)
    sizes: list[int] = []
    monkeypatch.setattr(ranking, "CELLS", 33)
    part = rank(lambda u: sizes.append(len(u)) or scores[u], pairs, mask)
    assert max(sizes) == 3
    assert np.array_equal(whole.places, part.places)
    again = top(lambda u: scores[u], ALL, mask, 4)
    assert np.array_equal(best[0], again[0])


def test_top_is_sorted_masked_and_filled() -> None:
    scores = np.array([[1, 5, 3, 5]], np.float32)
    items, values = top(lambda u: scores, [0], sparse.csr_matrix([[0, 0, 1, 0]]), 6)
    assert items.tolist() == [[1, 3, 0, -1, -1, -1]]
    assert values[0, :3].tolist() == [5, 5, 1]
    assert np.isneginf(values[0, 3:]).all()


def test_ranking_refuses() -> None:
    mask = sparse.csr_matrix((2, 3))
    with pytest.raises(ArgumentError, match="nothing to rank"):
        rank(lambda u: np.zeros((len(u), 3)), np.zeros((0, 2), int), mask)
    with pytest.raises(ArgumentError, match="shape"):
        rank(lambda u: np.zeros((len(u), 2)), np.array([[0, 1]]), mask)
    with pytest.raises(ArgumentError, match="not finite"):
        rank(lambda u: np.full((len(u), 3), np.nan), np.array([[0, 1]]), mask)
    for wrong in ([[0, 3]], [[2, 0]], [[0, -1]]):
        with pytest.raises(ArgumentError, match="outside of 2 users and 3 items"):
            rank(lambda u: np.zeros((len(u), 3)), np.array(wrong), mask)
    for wrong in ([[0.0, 1.0]], [0, 1], [[0, 1, 2]]):
        with pytest.raises(ArgumentError, match="expected integers"):
            rank(lambda u: np.zeros((len(u), 3)), np.array(wrong), mask)
    with pytest.raises(ArgumentError, match="numbers below 2"):
        top(lambda u: np.zeros((len(u), 3)), [2], mask)


# -- walks --------------------------------------------------------------------------------------


def dense_step(a: np.ndarray) -> np.ndarray:
    sums = a.sum(1, keepdims=True)
    return np.divide(a, sums, out=np.zeros_like(a), where=sums > 0)


@pytest.mark.parametrize("steps", [3, 5, 7])
@pytest.mark.parametrize("weights", [None, {"view": 1.0, "buy": 4.0}])
def test_walks_are_powers_of_the_transition_matrix(steps: int, weights) -> None:
    a = UNION if weights is None else VIEW + 4 * BUY
    n, m = a.shape
    whole = np.zeros((n + m, n + m))
    whole[:n, n:], whole[n:, :n] = dense_step(a), dense_step(a.T)
    expected = np.linalg.matrix_power(whole, steps)[:n, n:]
    assert Walk(DATA, steps, weights)(ALL) == pytest.approx(expected, abs=1e-6)


def test_a_walk_is_a_distribution_and_beta_divides_by_degrees() -> None:
    found = Walk(DATA)(ALL)
    assert found.sum(1) == pytest.approx(UNION.any(1).astype(float), abs=1e-5)
    degrees = UNION.sum(0)
    there = degrees > 0
    lowered = Walk(DATA, beta=0.5)(ALL)
    assert lowered[:, there] == pytest.approx(found[:, there] / degrees[there] ** 0.5, abs=1e-6)
    with pytest.raises(ArgumentError, match="3, 5"):
        Walk(DATA, 4)


def test_item_knn_agrees_with_sklearn() -> None:
    from sklearn.metrics.pairwise import cosine_similarity

    expected = UNION @ cosine_similarity(UNION.T)
    assert ItemKNN(DATA)(ALL) == pytest.approx(expected, abs=1e-5)
    assert Popularity(DATA)(ALL[:2]) == pytest.approx(np.tile(UNION.sum(0), (2, 1)))


# -- the view through other users -----------------------------------------------------------------


def others_by_hand(ridge: float, user: int, row: np.ndarray) -> np.ndarray:
    """``P`` trained without the user, applied to ``row`` (EASE, with the approximate diagonal)."""
    rest = np.delete(UNION, user, 0)
    p = np.linalg.inv(rest.T @ rest + ridge * np.eye(11))
    return row @ p


@pytest.mark.parametrize("direct", [True, False])
def test_scores_are_those_of_a_ridge_that_never_saw_the_user(monkeypatch, direct: bool) -> None:
    if not direct:
        monkeypatch.setattr(views, "DIRECT", 0)
    ridge = 3.0
    made = Others(sparse.csr_matrix(UNION), ridge, iterations=40)
    p_all = np.linalg.inv(UNION.T @ UNION + ridge * np.eye(11))
    rows = made.rows(ALL)
    assert rows == pytest.approx(UNION @ p_all, abs=1e-5)
    for user in range(14):
        a = UNION[user]
        tau = a @ p_all @ a
        pulled = others_by_hand(ridge, user, a)
        # the diagonal of P without the user, from the approximate one of P by Sherman-Morrison
        diagonal = made.diagonal + (a @ p_all) ** 2 / (1 - tau)
        expected = a - pulled / diagonal
        quiet = 1e-6 * UNION.sum(0) / UNION.sum(0).max()
        assert made(np.array([user]))[0] == pytest.approx(expected + quiet, abs=2e-4)


def test_latent_source_is_the_estimate_of_the_other_users() -> None:
    ridge = 3.0
    space = Latents(Others(sparse.csr_matrix(UNION), ridge), 5)
    users = np.flatnonzero(UNION.sum(1) > 2)
    of = space.profile(users, sparse.csr_matrix((14, 11)), 11)
    keep = torch.ones(of.edges.nnz)
    first = np.concatenate([[0], np.cumsum(np.diff(of.edges.indptr))[:-1]])
    keep[first] = 0  # each user loses an item
    found = space.source(of, keep).numpy()
    for k, user in enumerate(users):
        part = UNION[user].copy()
        part[of.edges[k].indices[0]] = 0
        expected = part - ridge * others_by_hand(ridge, user, part)
        expected = expected @ space.basis.numpy()
        expected *= 5**0.5 / np.linalg.norm(expected)
        assert found[k] == pytest.approx(expected, abs=2e-4)


def test_a_hidden_item_leaves_no_trace_in_the_source() -> None:
    """Changing the user's own hidden edge changes nothing: training sees what use will see."""
    user, item = 0, int(np.flatnonzero(UNION[0])[0])
    without = UNION.copy()
    without[user, item] = 0
    basis = item_basis(sparse.csr_matrix(UNION), 5)
    views_of = []
    for edges in (UNION, without):
        space = Latents(Others(sparse.csr_matrix(edges), 2.0), 5, basis=basis)
        of = space.profile(np.array([user]), sparse.csr_matrix((14, 11)), 3)
        keep = torch.tensor([0.0 if j == item else 1.0 for j in of.edges.indices])
        views_of.append(space.source(of, keep))
    assert torch.allclose(*views_of, atol=1e-4)


def test_conjugate_gradients_and_basis() -> None:
    a = UNION @ UNION.T + np.eye(14)
    right = DRAWS.standard_normal((14, 3)).astype(np.float32)
    found = conjugate_gradients(lambda v: a.astype(np.float32) @ v, right, 30)
    assert found == pytest.approx(np.linalg.solve(a, right), abs=1e-3)
    basis = item_basis(sparse.csr_matrix(UNION, dtype=np.float32), 4)
    _, _, right = np.linalg.svd(UNION)
    projector = basis @ np.linalg.pinv(basis)
    assert projector == pytest.approx(right[:4].T @ right[:4], abs=1e-2)
    assert (basis**2).sum(1).mean() == pytest.approx(1, rel=1e-4)
    with pytest.raises(ArgumentError, match="at most 11"):
        item_basis(sparse.csr_matrix(UNION), 12)
    with pytest.raises(ArgumentError, match="positive"):
        Others(sparse.csr_matrix(UNION), 0.0)
