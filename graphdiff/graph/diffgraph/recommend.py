r"""A recommender of two parts: walks through other users, and a latent diffusion told of them.

The source view (:mod:`~graphdiff.graph.diffgraph.views`) proposes ``candidates`` items to a user
:math:`u`. A diffusion with a cosine schedule, told the same view in a latent space of ``width``
coordinates, draws the vector :math:`\hat z_u` of what the user lacks in ``steps`` DDIM steps
(:mod:`~graphdiff.graph.diffgraph.latent`). Both are joined,

.. math:: \text{score}_{ui} = (1 - \mu)\, \frac{s_{ui}}{\mathrm{std}_j\, s_{uj}}
          + \mu\, \frac{\hat z_u E_i}{\mathrm{std}_j\, \hat z_u E_j} ,

standard deviations over the candidates. What is left to choose, :math:`\mu` and the number of
training steps, is chosen by NDCG@20 on one held-out edge of each user
(:meth:`~graphdiff.data.behaviours.Behaviours.hold_out`); the model is then trained again on all
edges. :math:`\mu = 0` is the source alone, :math:`\mu = 1` the diffusion among the candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from graphdiff.config import validate
from graphdiff.core.errors import ArgumentError, CheckpointError
from graphdiff.data.behaviours import Behaviours
from graphdiff.graph.diffgraph.denoiser import DenoiserConfig, HeteroDenoiser
from graphdiff.graph.diffgraph.latent import Latents, Profiles, train
from graphdiff.graph.diffgraph.ranking import Ranks, rank
from graphdiff.graph.diffgraph.views import Others
from graphdiff.train.card import Card
from graphdiff.train.checkpoint import load_weights, read_card, save_model

__all__ = ["Recommender", "RecommenderConfig", "Trial"]

Users = NDArray[np.int64]
KIND = "diffgraph-recommender"


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
        seed: Of everything that is drawn.
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


@dataclass(frozen=True)
class Trial:
    """What validation says of one choice: NDCG@20 and recall@20, means over ``n`` users."""

    ridge: float
    steps: int
    mix: float
    ndcg: float
    recall: float
    n: int


class Recommender:
    """A fitted recommender; make one with :meth:`fit` or :meth:`load`.

    Attributes:
        config: Settings; after :meth:`fit`, those chosen are the only ones left.
        data: Training edges, all of them.
        space: Source and latent space.
        net: The denoiser.
        trials: What validation said, best first.
    """

    def __init__(
        self, config: RecommenderConfig, data: Behaviours, space: Latents, net: HeteroDenoiser,
        trials: Sequence[Trial] = (),
    ) -> None:  # fmt: skip
        self.config, self.data, self.space, self.net = config, data, space, net
        self.trials = tuple(trials)

    # -- fitting ----------------------------------------------------------------------------------

    @classmethod
    def fit(cls, data: Behaviours, config: RecommenderConfig | None = None) -> Recommender:
        """Chooses settings on validation, then trains on all edges.

        Args:
            data: Training edges. Pairs that it holds out already are used for validation and are
                *not* trained on; without any, one target edge of each user is held out, and the
                final model is trained on it again.
            config: Settings, with several choices of ridge, updates and weight.

        Raises:
            DataError: No user has two target edges, so nothing can be held out; pass one choice of
                ``ridges``, ``train_steps`` and ``mix`` to train without validation.
        """
        config = config or RecommenderConfig()
        chosen, trials = config, list[Trial]()
        if max(len(config.ridges), len(config.train_steps), len(config.mix)) > 1:
            held = data if len(data.valid) else data.hold_out(seed=None)
            trials = select(held, config)
            best = trials[0]
            chosen = replace(
                config, ridges=(best.ridge,), train_steps=(best.steps,), mix=(best.mix,)
            )
        return cls.trained(data, chosen, trials=trials)

    @classmethod
    def trained(
        cls, data: Behaviours, config: RecommenderConfig, *, space: Latents | None = None,
        of: Profiles | None = None, trials: Sequence[Trial] = (),
    ) -> Recommender:  # fmt: skip
        """Trains with the first choice of every setting; ``space`` and ``of`` save work."""
        space = space or latents(data, config, config.ridges[0])
        of = of or profile(data, space, config)
        net = HeteroDenoiser(space.width, space.width, config.denoiser, config.seed)
        _train(net, space, of, data, config, config.train_steps[0], 0)
        return cls(config, data, space, net.eval(), trials)

    # -- using ------------------------------------------------------------------------------------

    @property
    def network_calls(self) -> int:
        """Network calls for a user."""
        return self.net.network_calls if self.config.mix[0] > 0 else 0

    def profile(self, users: Users) -> Profiles:
        """Source scores and candidates of users; bought items are none."""
        mask = self.data.edges[self.data.target]
        return self.space.profile(users, mask, self.config.candidates)

    def drawn(self, of: Profiles) -> Tensor:
        """Vectors ``[b, d]`` of what users lack, by the reverse chain."""
        with torch.no_grad():
            return self.net.sample(
                self.space.source(of), seed=self.config.seed, ids=torch.from_numpy(of.users)
            )

    def scores(self, of: Profiles, mix: float | None = None) -> NDArray[np.float32]:
        """Scores ``[b, candidates]`` of the candidates of users."""
        return joined(self.space, of, self.drawn(of), self.config.mix[0] if mix is None else mix)

    def recommend(self, user: int | str, k: int = 20) -> list[tuple[str, float]]:
        """The ``k`` best items that a user has not bought, best first, with their scores.

        Args:
            user: Number, or name where the data have names.
            k: At most the number of candidates.

        Raises:
            ArgumentError: The user is unknown, or ``k`` is out of range.
        """
        names = list(self.data.users)
        number = names.index(user) if user in names else user
        if not isinstance(number, int) or not 0 <= number < self.data.n_users:
            raise ArgumentError(
                f"no user {user!r}; give a number below {self.data.n_users} or a name"
            )
        if not 1 <= k <= self.config.candidates:
            raise ArgumentError(f"k is {k}, expected 1 to {self.config.candidates}, the candidates")
        of = self.profile(np.array([number]))
        scores = self.scores(of)[0]
        order = [j for j in np.argsort(-scores, kind="stable")[:k] if np.isfinite(scores[j])]
        items = [int(of.items[0, j]) for j in order]
        called = [self.data.items[i] if len(self.data.items) else str(i) for i in items]
        return [(name, float(scores[j])) for name, j in zip(called, order, strict=True)]

    def rank(self, pairs: NDArray[np.int64], *, unseen: bool = False) -> Ranks:
        """Places of held-out pairs; with ``unseen``, all seen items are masked, not only bought."""
        users = np.unique(pairs[:, 0])
        of = self.profile(users)
        return rank_joined(self.data, of, self.scores(of), pairs, unseen)

    # -- keeping ----------------------------------------------------------------------------------

    def save(self, directory: str | Path, *, overwrite: bool = False) -> Card:
        """Writes ``weights.safetensors`` (network, basis, edges) and ``card.json``."""
        tensors: dict[str, Tensor] = {"basis": self.space.basis}
        tensors |= {f"net.{name}": value for name, value in self.net.state_dict().items()}
        for name, matrix in self.data.edges.items():
            for part in ("indptr", "indices"):
                array = np.asarray(getattr(matrix, part), np.int64)
                tensors[f"edges.{name}.{part}"] = torch.from_numpy(array)
        names = {"users": list(self.data.users), "items": list(self.data.items)}
        card = Card(
            KIND,
            {"config": _plain(self.config), "target": self.data.target,
             "shape": list(self.data.shape), "relations": list(self.data.edges), **names},
            seed=self.config.seed, step=self.config.train_steps[0],
            data={"sha256": dict(self.data.sha256)},
            metrics={"validation": [asdict(trial) for trial in self.trials[:1]]},
            citation="Li et al., 2025, arXiv 2501.02313 (the idea); graphdiff (the method)",
        )  # fmt: skip
        return save_model(directory, tensors, card, overwrite=overwrite)

    @classmethod
    def load(cls, directory: str | Path) -> Recommender:
        """Reads what :meth:`save` wrote; nothing is unpickled.

        Raises:
            CheckpointError: It is no recommender, or it is damaged.
        """
        task = read_card(directory, kind=KIND).task
        tensors = load_weights(directory)
        try:
            config = validate(RecommenderConfig, task["config"], where="card.task.config")
            n, m = task["shape"]
            edges = {name: _matrix(tensors, name, (n, m)) for name in task["relations"]}
            data = Behaviours(edges, task["target"], users=task["users"], items=task["items"])
            space = latents(data, config, config.ridges[0], tensors["basis"].numpy())
            net = HeteroDenoiser(space.width, space.width, config.denoiser, config.seed)
            prefix = "net."
            state = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
            net.load_state_dict(state)
        except (KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{directory}: no complete recommender: {error}") from error
        return cls(config, data, space, net.eval())


def latents(
    data: Behaviours, config: RecommenderConfig, ridge: float,
    basis: NDArray[np.float32] | None = None,
) -> Latents:  # fmt: skip
    """The latent space of the union of all relations."""
    others = Others(data.seen, ridge, config.iterations)
    return Latents(others, min(config.width, *data.shape), basis=basis)


def profile(data: Behaviours, space: Latents, config: RecommenderConfig) -> Profiles:
    """Users to train on: all, or a random part."""
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
        _train(net, space, of, data, config, steps - made, made)
        made = steps
        with torch.no_grad():
            z = net.sample(space.source(shown), seed=config.seed, ids=torch.from_numpy(users))
        for mix in config.mix:
            found = rank_joined(data, shown, joined(space, shown, z, mix), pairs)
            ndcg, recall = found.ndcg(), found.recall()
            trials.append(
                Trial(ridge, steps, mix, float(ndcg.mean()), float(recall.mean()), len(ndcg))
            )
    return sorted(trials, key=lambda trial: (-trial.ndcg, trial.steps, trial.mix))


def _train(net: HeteroDenoiser, space: Latents, of: Profiles, data: Behaviours,
           config: RecommenderConfig, steps: int, first: int) -> None:  # fmt: skip
    bought = data.edges[data.target][of.users]
    weights = of.edges + (config.target_weight - 1) * bought.multiply(of.edges)
    weights = sparse.csr_matrix(weights)
    weights.sort_indices()
    if steps:
        train(
            net, space, of, np.asarray(weights.data, np.float32), steps=steps, lr=config.lr,
            decay=config.decay, ranking=config.ranking, seed=config.seed, first=first,
        )  # fmt: skip


def joined(space: Latents, of: Profiles, z: Tensor, mix: float) -> NDArray[np.float32]:
    """Scores ``[b, candidates]``: the formula of the module docstring."""
    likeness = np.empty_like(of.scores)
    for a in range(0, len(of.users), 512):
        items = torch.from_numpy(of.items[a : a + 512])
        part = torch.einsum("bd,bnd->bn", z[a : a + 512].float(), space.basis[items])
        likeness[a : a + 512] = part.numpy()
    there = np.isfinite(of.scores)
    source = _standard(of.scores, there)
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
    """Places among candidates; what is no candidate comes after all of them."""
    row = {int(user): k for k, user in enumerate(of.users)}

    def scorer(users: Users) -> NDArray[np.float32]:
        block = np.full((len(users), data.n_items), -1e9, np.float32)
        for j, user in enumerate(users):
            k = row[int(user)]
            there = np.isfinite(scores[k])
            block[j, of.items[k, there]] = scores[k, there]
        return block

    return rank(scorer, pairs, data.seen if unseen else data.edges[data.target])


def _matrix(tensors: Mapping[str, Tensor], name: str, shape: Any) -> sparse.csr_matrix:
    start, col = (tensors[f"edges.{name}.{part}"].numpy() for part in ("indptr", "indices"))
    return sparse.csr_matrix((np.ones(len(col), np.float32), col, start), shape)


def _plain(config: RecommenderConfig) -> dict[str, Any]:
    found = asdict(config)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()}
