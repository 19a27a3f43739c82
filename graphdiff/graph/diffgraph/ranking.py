r"""Full ranking of all items for a user, in blocks of users.

With :math:`r` the number of items above a held-out item among those that are not masked, and
:math:`I_u` the held-out items of user :math:`u`,

.. math::
    \mathrm{Recall@}k(u) = \frac{1}{|I_u|} \sum_{i \in I_u} [r_i < k], \qquad
    \mathrm{NDCG@}k(u) = \frac{\sum_{i \in I_u} [r_i < k] / \log_2(r_i + 2)}
    {\sum_{j < \min(k, |I_u|)} 1 / \log_2(j + 2)},

averaged over the users that have held-out items. Items of equal score share the middle of their
places. A scorer answers for a block of users at a time, so that users times items is never in
memory at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from graphdiff.core.errors import ArgumentError

__all__ = ["LAST", "Ranks", "Scorer", "check_pairs", "rank", "top"]

Float = NDArray[np.float32]
Users = NDArray[np.int64]
Scorer = Callable[[Users], Float]
"""Scores ``[b, items]`` of all items for users ``[b]``."""

CELLS = 4_000_000
"""Scores in memory at once."""

LAST = 2**62
"""Place of an item that is not ranked at all: among the first ``k`` for no ``k``."""


@dataclass(frozen=True)
class Ranks:
    """Places of held-out items.

    Attributes:
        users: User of each pair, int64 ``[m]``.
        places: Number of unmasked items above the held-out one, :data:`LAST` where that is masked
            itself, int64 ``[m]``.
    """

    users: Users
    places: NDArray[np.int64]

    def recall(self, k: int = 20) -> NDArray[np.float64]:
        """Recall@k of each user with held-out items, in order of user number."""
        _, each, count = np.unique(self.users, return_inverse=True, return_counts=True)
        hits: NDArray[np.float64] = np.bincount(each, self.places < k) / count
        return hits

    def ndcg(self, k: int = 20) -> NDArray[np.float64]:
        """NDCG@k of each user with held-out items, in order of user number."""
        _, each, count = np.unique(self.users, return_inverse=True, return_counts=True)
        gain = np.where(self.places < k, 1 / np.log2(self.places + 2), 0.0)
        ideal = np.cumsum(1 / np.log2(np.arange(k) + 2))
        found: NDArray[np.float64] = np.bincount(each, gain) / ideal[np.minimum(count, k) - 1]
        return found


def check_pairs(given: Any, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Held-out pairs as an array, refused if they cannot be ranked.

    Args:
        given: Users and items ``[m, 2]``.
        shape: How many there are of each.

    Raises:
        ArgumentError: There is no pair, or one is of no user and item.
    """
    pairs = np.asarray(given)
    if not len(pairs):
        raise ArgumentError("there is nothing to rank: no held-out pair; hold some out first")
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise ArgumentError(
            f"pairs are {pairs.dtype} of shape {list(pairs.shape)}, expected integers [m, 2], a "
            "user and an item in each row"
        )
    if ((pairs < 0) | (pairs >= shape)).any():
        raise ArgumentError(
            f"a pair is outside of {shape[0]} users and {shape[1]} items; correct the numbers"
        )
    return pairs.astype(np.int64)


def rank(scorer: Scorer, pairs: NDArray[np.int64], mask: sparse.csr_matrix) -> Ranks:
    """Places of held-out pairs among all unmasked items.

    Args:
        scorer: Scores of users.
        pairs: Users and items ``[m, 2]``.
        mask: ``[users, items]``; what is not zero is taken out of the ranking. A held-out item that
            is masked itself is never among the first.

    Raises:
        ArgumentError: There is no pair, one is out of range, or scores have a wrong shape or are
            not finite.
    """
    pairs = check_pairs(pairs, mask.shape)
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    users, first = np.unique(pairs[:, 0], return_index=True)
    ends = np.append(first[1:], len(pairs))
    places = np.empty(len(pairs), np.int64)
    step = max(1, CELLS // mask.shape[1])
    for a in range(0, len(users), step):
        block = users[a : a + step]
        scores = _scores(scorer, block, mask)
        low, high = first[a], ends[a + len(block) - 1]
        own = np.searchsorted(block, pairs[low:high, 0])
        items = pairs[low:high, 1]
        for k, (row, item) in enumerate(zip(own, items, strict=True)):
            line, value = scores[row], scores[row, item]
            if value == -np.inf:
                places[low + k] = LAST
                continue
            above, equal = int((line > value).sum()), int((line == value).sum()) - 1
            places[low + k] = above + (equal + 1) // 2
    return Ranks(pairs[:, 0], places)


def top(
    scorer: Scorer, users: Any, mask: sparse.csr_matrix, k: int = 20
) -> tuple[NDArray[np.int64], Float]:
    """The ``k`` best unmasked items of each user, best first, and their scores.

    Where fewer than ``k`` items are left, ``-1`` and ``-inf`` fill the row.

    Raises:
        ArgumentError: ``k`` is below 1, a user does not exist, or scores are unusable.
    """
    who = np.asarray(users, np.int64).reshape(-1)
    if k < 1 or ((who < 0) | (who >= mask.shape[0])).any():
        raise ArgumentError(
            f"k is {k} and users are {who[:5].tolist()}...: expected 1 or more, and numbers below "
            f"{mask.shape[0]}"
        )
    items = np.full((len(who), k), -1, np.int64)
    values = np.full((len(who), k), -np.inf, np.float32)
    step, keep = max(1, CELLS // mask.shape[1]), min(k, mask.shape[1])
    for a in range(0, len(who), step):
        block = who[a : a + step]
        scores = _scores(scorer, block, mask)
        # Sorted by score, then by number: the same list on every machine.
        best = np.argpartition(-scores, keep - 1, axis=1)[:, :keep]
        value = np.take_along_axis(scores, best, 1)
        order = np.lexsort((best, -value), axis=1)
        best, value = np.take_along_axis(best, order, 1), np.take_along_axis(value, order, 1)
        items[a : a + step, :keep] = np.where(value > -np.inf, best, -1)
        values[a : a + step, :keep] = value
    return items, values


def _scores(scorer: Scorer, block: Users, mask: sparse.csr_matrix) -> Float:
    """Scores of a block of users, masked items at minus infinity."""
    scores = np.array(scorer(block), np.float32)
    if scores.shape != (len(block), mask.shape[1]) or not np.isfinite(scores).all():
        raise ArgumentError(
            f"a scorer answered with shape {list(scores.shape)}"
            f"{'' if np.isfinite(scores).all() else ' and values that are not finite'}; expected "
            f"finite scores of shape {[len(block), mask.shape[1]]}"
        )
    hidden = mask[block].tocoo()
    scores[hidden.row, hidden.col] = -np.inf
    return scores
