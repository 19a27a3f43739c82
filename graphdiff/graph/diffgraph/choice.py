r"""Settings of a recommender, and their choice on held-out edges.

The ridge is chosen first, by the source alone; then the number of updates and the weight of the
diffusion together, by NDCG@20. Test pairs are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.data.behaviours import Behaviours
from graphdiff.graph.diffgraph.denoiser import DenoiserConfig, HeteroDenoiser
from graphdiff.graph.diffgraph.latent import Latents, Profiles, train
from graphdiff.graph.diffgraph.ranking import LAST, Ranks, rank
from graphdiff.graph.diffgraph.views import Others

__all__ = [
    "RecommenderConfig",
    "Trial",
    "joined",
    "latents",
    "profile",
    "rank_joined",
    "select",
    "trained",
]

Users = NDArray[np.int64]
CELLS = 16_000_000
"""Numbers in memory at once."""


def _denoiser() -> DenoiserConfig:
    return DenoiserConfig(steps=8, hidden=64, residual=True)


@dataclass(frozen=True)
class RecommenderConfig:
    """Settings of a recommender.

    Attributes:
        ridges: Ridges of the source that validation chooses from.
        iterations: Of conjugate gradients, for more than 4,000 users.
        width: Coordinates of the latent space.
        denoiser: The diffusion; ``residual`` and told by default.
        train_steps: Numbers of updates that validation chooses from, ascending; 0 is untrained.
        mix: Weights of the diffusion that validation chooses from.
        lr: Learning rate.
        decay: Weight decay.
        ranking: Weight of the ranking loss.
        target_weight: Weight of edges of the target relation as targets; others have 1.
        candidates: Items of a user that are ranked by both parts.
        users: At most so many users, drawn at random, are trained on.
        validated: At most so many held-out pairs, drawn at random, are validated.
        seed: Of everything that is drawn but the basis of items, which is the same for every seed.
    """

    ridges: tuple[float, ...] = (50.0, 100.0, 200.0, 400.0)
    iterations: int = 4
    width: int = 256
    denoiser: DenoiserConfig = field(default_factory=_denoiser)
    train_steps: tuple[int, ...] = (0, 20, 40, 80)
    mix: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)
    lr: float = 1e-3
    decay: float = 0.1
    ranking: float = 1.0
    target_weight: float = 3.0
    candidates: int = 500
    users: int = 6000
    validated: int = 3000
    seed: int = 0

    def __post_init__(self) -> None:
        steps = self.train_steps
        if not steps or list(steps) != sorted(set(steps)) or steps[0] < 0:
            raise ArgumentError(f"train_steps is {steps}, expected ascending numbers from 0 on")
        if not self.ridges or not all(r > 0 for r in self.ridges):
            raise ArgumentError(f"ridges is {self.ridges}, expected positive numbers")
        if not self.mix or not all(0 <= m <= 1 for m in self.mix):
            raise ArgumentError(f"mix is {self.mix}, expected numbers between 0 and 1")
        if min(self.width, self.candidates, self.users, self.validated) < 1:
            raise ArgumentError("width, candidates, users and validated must be 1 or more")
        weights = self.decay, self.ranking, self.target_weight
        if not 0 < self.lr < np.inf or not all(0 <= w < np.inf for w in weights):
            raise ArgumentError(
                f"lr is {self.lr}, decay {self.decay}, ranking {self.ranking}, target_weight "
                f"{self.target_weight}; expected lr above 0 and the others 0 or more"
            )


@dataclass(frozen=True)
class Trial:
    """What validation says of one choice: NDCG@20 and recall@20, means over ``n`` users."""

    ridge: float
    steps: int
    mix: float
    ndcg: float
    recall: float
    n: int


def latents(
    data: Behaviours, config: RecommenderConfig, ridge: float,
    basis: NDArray[np.float32] | None = None,
) -> Latents:  # fmt: skip
    """The latent space of the union of all relations."""
    others = Others(data.seen, ridge, config.iterations)
    return Latents(others, min(config.width, *data.shape), basis=basis)


def profile(data: Behaviours, space: Latents, config: RecommenderConfig) -> Profiles:
    """Users to train on: all who have seen two items or more, or a random part of them."""
    there = np.flatnonzero(np.diff(data.seen.indptr) > 1)
    draws = np.random.default_rng(config.seed)
    if len(there) > config.users:
        there = np.sort(draws.choice(there, config.users, replace=False))
    return space.profile(there.astype(np.int64), data.edges[data.target], 1)


def select(data: Behaviours, config: RecommenderConfig) -> list[Trial]:
    """Every choice on the held-out pairs of ``data``, best NDCG@20 first.

    The ridge is chosen first, by the source alone; then updates and weight together.
    """
    draws = np.random.default_rng(config.seed)
    pairs = data.valid
    if len(pairs) > config.validated:
        pairs = pairs[np.sort(draws.choice(len(pairs), config.validated, replace=False))]
    mask, users = data.edges[data.target], np.unique(pairs[:, 0])
    sources = []
    for ridge in config.ridges:
        found = rank(Others(data.seen, ridge, config.iterations), pairs, mask)
        sources.append((float(found.ndcg().mean()), ridge))
    ridge = max(sources)[1]
    space = latents(data, config, ridge)
    shown, of = space.profile(users, mask, config.candidates), profile(data, space, config)
    net = HeteroDenoiser(space.width, space.width, config.denoiser, config.seed)
    trials, made = [], 0
    for steps in config.train_steps:
        trained(net, space, of, data, config, steps - made, made)
        made = steps
        z = None
        if max(config.mix) > 0:
            with torch.no_grad():
                z = net.sample(space.source(shown), seed=config.seed, ids=torch.from_numpy(users))
        for mix in config.mix:
            found = rank_joined(data, shown, joined(space, shown, z, mix), pairs)
            ndcg, recall = found.ndcg(), found.recall()
            trials.append(
                Trial(ridge, steps, mix, float(ndcg.mean()), float(recall.mean()), len(ndcg))
            )
    return sorted(trials, key=lambda trial: (-trial.ndcg, trial.steps, trial.mix))


def trained(net: HeteroDenoiser, space: Latents, of: Profiles, data: Behaviours,
            config: RecommenderConfig, steps: int, first: int) -> None:  # fmt: skip
    """Trains ``net`` in place for ``steps`` updates, the first of which has number ``first``.

    Without users to train on it stays as it is.
    """
    if not steps or not len(of.users):
        return
    edges = of.edges.tocoo()
    bought = np.asarray(data.edges[data.target][of.users][edges.row, edges.col]).ravel()
    weights = 1 + np.float32(config.target_weight - 1) * bought.astype(np.float32)
    train(
        net, space, of, weights, steps=steps, lr=config.lr, decay=config.decay,
        ranking=config.ranking, seed=config.seed, first=first,
    )  # fmt: skip


def joined(space: Latents, of: Profiles, z: Tensor | None, mix: float) -> NDArray[np.float32]:
    """Scores ``[b, candidates]``, see :mod:`.recommend`; without ``z`` those of the source."""
    there = np.isfinite(of.scores)
    source = _standard(of.scores, there)
    if z is None:
        return np.where(there, source, -np.inf)
    likeness = np.empty_like(of.scores)
    step = max(1, CELLS // (of.items.shape[1] * space.width))
    for a in range(0, len(of.users), step):
        items = torch.from_numpy(of.items[a : a + step])
        part = torch.bmm(space.basis[items], z[a : a + step, :, None].float())[..., 0]
        likeness[a : a + step] = part.numpy()
    found: NDArray[np.float32] = (1 - mix) * source + mix * _standard(likeness, there)
    return np.where(there, found, -np.inf)


def _standard(x: NDArray[np.float32], there: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Rows divided by their standard deviations over what is there."""
    known = np.where(there, x, 0.0)
    count = np.maximum(there.sum(1, keepdims=True), 1)
    mean = known.sum(1, keepdims=True) / count
    std = np.sqrt((np.where(there, known - mean, 0.0) ** 2).sum(1, keepdims=True) / count)
    return np.asarray(known / np.maximum(std, 1e-12), np.float32)


def rank_joined(
    data: Behaviours, of: Profiles, scores: NDArray[np.float32], pairs: NDArray[np.int64],
    unseen: bool = False,
) -> Ranks:  # fmt: skip
    """Places among candidates; ``LAST`` for an item that is none, or is masked.

    Args:
        data: Whose bought items are masked.
        of: Users, all of those in ``pairs``.
        scores: ``[b, n]`` of their candidates, ``-inf`` for none.
        pairs: Users and items ``[m, 2]``.
        unseen: Mask every item that a user has seen.
    """
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    row = np.searchsorted(of.users, pairs[:, 0])
    places = np.full(len(pairs), LAST)
    mask = data.seen if unseen else data.edges[data.target]
    step = max(1, CELLS // data.n_items)
    for a in range(0, len(pairs), step):
        own = row[a : a + step]
        items, values = of.items[own], scores[own]
        hidden = mask[of.users[own]].toarray()
        values = np.where(np.take_along_axis(hidden, items, 1) > 0, -np.inf, values)
        at = items == pairs[a : a + step, 1:]
        value = np.where(at, values, -np.inf).max(1, keepdims=True)
        above, equal = (values > value).sum(1), (values == value).sum(1) - 1
        found = np.isfinite(value[:, 0])
        places[a : a + step][found] = (above + (equal + 1) // 2)[found]
    return Ranks(pairs[:, 0], places.astype(np.int64))
