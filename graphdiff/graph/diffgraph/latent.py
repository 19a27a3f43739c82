r"""Training examples of a latent diffusion of users: a part of what a user did, and the rest.

The target :math:`z` of a user is the sum of the item vectors :math:`E_i` that were hidden from him,
the source :math:`c` the view of what is left through all other users
(:class:`~graphdiff.graph.diffgraph.views.Others`); both are scaled to length :math:`\sqrt d`, so
that a coordinate has variance one, which the noise of the cosine schedule expects. Hidden are 10
to 60 % of the edges of a user, in all relations at once. The loss is that of the diffusion, plus a
softmax over items that makes its estimate rank the hidden ones high, as DiffGraph joins a ranking
loss to its diffusion loss:

.. math:: \lVert z - \hat z \rVert^2 / d
          - \rho \log \frac{e^{\hat z E_i / 10}}{\sum_{j \in \{i\} \cup N} e^{\hat z E_j / 10}},

with the other hidden items of the batch and as many uniform ones as :math:`N`, without those that
the user has.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from graphdiff.core.rng import Key
from graphdiff.graph.diffgraph.denoiser import HeteroDenoiser
from graphdiff.graph.diffgraph.views import Others, item_basis
from graphdiff.graph.sparse import Pattern

__all__ = ["Latents", "Profiles", "train"]

Users = NDArray[np.int64]
CELLS = 8_000_000


@dataclass(frozen=True)
class Profiles:
    """What was computed of some users, in their order.

    Attributes:
        users: Numbers, int64 ``[b]``.
        edges: Their rows of the union, ``[b, items]``.
        pull: ``(K X)_ui`` at these edges, ``[nnz]``.
        tau: Leverage of each user, ``[b]``.
        items: Best items by the source, best first, ``[b, n]``.
        scores: Their scores, ``[b, n]``.
    """

    users: Users
    edges: sparse.csr_matrix
    pull: NDArray[np.float32]
    tau: NDArray[np.float32]
    items: NDArray[np.int64]
    scores: NDArray[np.float32]

    @cached_property
    def pattern(self) -> Pattern:
        """Where the edges are."""
        return Pattern.from_scipy(self.edges)[0]

    def spread(self, values: Tensor, x: Tensor) -> Tensor:
        """Sums ``[b, d]`` of the rows of ``x`` ``[items, d]`` at the edges of each user."""
        return self.pattern.matmul(values, x)

    def sums(self, values: Tensor) -> Tensor:
        """Sums ``[b]`` of values ``[nnz]`` of the edges."""
        return torch.zeros(len(self.users)).index_add(0, self.pattern.row, values)


class Latents:
    """The latent space of a data set: a basis of items and the source views in it.

    Args:
        others: The source.
        width: Coordinates ``d``.
        seed: Of the subspace iteration.
        basis: ``[items, d]``, if it is known.
    """

    def __init__(
        self, others: Others, width: int, seed: int = 0, basis: NDArray[np.float32] | None = None
    ) -> None:
        self.others = others
        found = item_basis(others.edges, width, seed) if basis is None else basis
        self.basis = torch.from_numpy(found)
        self.projected = torch.from_numpy(others.project(found))

    @property
    def width(self) -> int:
        """Coordinates ``d``."""
        return int(self.basis.shape[1])

    def profile(self, users: Users, mask: sparse.csr_matrix, candidates: int) -> Profiles:
        """Source scores of users, in blocks.

        Args:
            users: Numbers ``[b]``.
            mask: ``[users, items]``: what is no candidate.
            candidates: Number of best items that are kept of each user.
        """
        n = self.others.edges.shape[1]
        keep, step = min(candidates, n), max(1, CELLS // n)
        if not len(users):
            none = np.zeros((0, keep), np.float32)
            pull = np.zeros(0, np.float32)
            return Profiles(users, self.others.edges[:0], pull, pull, none.astype(np.int64), none)
        pulls, taus, items, scores = [], [], [], []
        for a in range(0, len(users), step):
            block = users[a : a + step]
            rows = self.others.rows(block)
            own = self.others.own(block, rows)
            found = self.others.scores(block, rows)
            hidden = mask[block].tocoo()
            found[hidden.row, hidden.col] = -np.inf
            best = np.argpartition(-found, keep - 1, axis=1)[:, :keep]
            value = np.take_along_axis(found, best, 1)
            order = np.lexsort((best, -value), axis=1)
            pulls.append(own)
            counts = np.diff(self.others.edges[block].indptr)
            taus.append(np.bincount(np.repeat(np.arange(len(block)), counts), own, len(block)))
            items.append(np.take_along_axis(best, order, 1))
            scores.append(np.take_along_axis(value, order, 1))
        return Profiles(
            users, self.others.edges[users], np.concatenate(pulls),
            np.concatenate(taus).astype(np.float32), np.concatenate(items), np.concatenate(scores),
        )  # fmt: skip

    def source(self, of: Profiles, keep: Tensor | None = None) -> Tensor:
        """Source views ``[b, d]`` of what is kept of each user.

        Args:
            of: The users.
            keep: Ones and zeros ``[nnz]`` for the edges of ``of``; all by default.
        """
        pull, whole = torch.from_numpy(of.pull), torch.ones(of.edges.nnz)
        kept = whole if keep is None else keep
        ridge = self.others.ridge
        inside = of.sums(kept * pull) / (1 - torch.from_numpy(of.tau))
        seen = of.spread(kept, self.projected)
        own = of.spread(whole, self.projected)
        found = of.spread(kept, self.basis) - ridge * (seen + inside[:, None] * own)
        return unit(found)

    def target(self, of: Profiles, weights: Tensor) -> Tensor:
        """Sums of item vectors ``[b, d]`` with weights ``[nnz]`` of the edges."""
        return unit(of.spread(weights, self.basis))


def unit(x: Tensor) -> Tensor:
    """Rows at length ``sqrt(d)``; rows of zeros stay."""
    return x / x.norm(dim=1, keepdim=True).clamp(min=1e-6) * x.shape[1] ** 0.5


def train(
    net: HeteroDenoiser, space: Latents, of: Profiles, weights: NDArray[np.float32], *,
    steps: int, lr: float, decay: float, ranking: float, seed: int, first: int = 0,
    draws: int = 1024,
) -> HeteroDenoiser:  # fmt: skip
    r"""Trains a denoiser on all users of ``of`` at once, ``steps`` times.

    An update in which no user has both a hidden and a shown edge teaches nothing and is left out.

    Args:
        net: Changed in place.
        space: The latent space.
        of: Users to train on.
        weights: Of the edges of ``of`` as targets, ``[nnz]``.
        steps: Updates.
        lr: Learning rate of AdamW.
        decay: Its weight decay.
        ranking: :math:`\rho`.
        seed: Of what is hidden, of the noise and of dropout.
        first: Number of the first update, to go on with other draws.
        draws: Hidden edges in the softmax of an update.
    """
    edges = torch.arange(of.edges.nnz)
    row = of.pattern.row
    users, heavy = torch.from_numpy(of.users), torch.from_numpy(weights)
    tuner = torch.optim.AdamW(net.parameters(), lr, weight_decay=decay)
    net.train()
    with torch.random.fork_rng(devices=[]):
        # dropout, where the network has some: it goes on with other draws as well
        torch.manual_seed(int(np.random.SeedSequence((seed, first)).generate_state(1)[0]))
        for k in range(first, first + steps):
            rate = 0.1 + 0.5 * Key(seed, users, step=k).at(stream="rate").uniform(1)[:, 0]
            hidden = Key(seed, edges, step=k).at(stream="hide").uniform(1)[:, 0] < rate[row]
            source = space.source(of, (~hidden).float())
            target = space.target(of, hidden * heavy)
            usable = (target.abs().sum(1) > 0) & (source.abs().sum(1) > 0)
            if not usable.any():
                continue  # few edges: none is hidden, or all of a user's are
            made = net.estimate(target, source, Key(seed, users, step=k))
            loss = made.loss[usable].mean()
            if ranking:
                loss = loss + ranking * _softmax(
                    made.target, space, of, hidden, heavy, row, seed, k, draws
                )
            tuner.zero_grad()
            loss.backward()
            tuner.step()
    return net.eval()


def _softmax(
    made: Tensor, space: Latents, of: Profiles, hidden: Tensor, heavy: Tensor, row: Tensor,
    seed: int, step: int, draws: int,
) -> Tensor:  # fmt: skip
    """The ranking loss of the module docstring, on ``draws`` hidden edges."""
    places = hidden.nonzero()[:, 0]
    key = Key(seed, torch.arange(draws), step=step)
    pick = places[(key.at(stream="pick").uniform(1, torch.float64)[:, 0] * len(places)).long()]
    n = of.edges.shape[1]
    other = (key.at(stream="other").uniform(1, torch.float64)[:, 0] * n).long()
    item = torch.from_numpy(of.edges.indices).long()[pick]
    pool, inverse = torch.unique(torch.cat([item, other]), return_inverse=True)
    who, goal = row[pick], inverse[:draws]
    logits = made[who] @ space.basis[pool].T / 10
    known = torch.from_numpy(of.edges[who.numpy()][:, pool.numpy()].toarray() > 0)
    known[torch.arange(draws), goal] = False
    lost = nn.functional.cross_entropy(
        logits.masked_fill(known, -torch.inf), goal, reduction="none"
    )
    return (lost * heavy[pick]).mean()
