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

import operator
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
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
from graphdiff.graph.diffgraph.choice import (
    RecommenderConfig,
    Trial,
    joined,
    latents,
    profile,
    rank_joined,
    select,
    trained,
)
from graphdiff.graph.diffgraph.denoiser import HeteroDenoiser
from graphdiff.graph.diffgraph.latent import Latents, Profiles
from graphdiff.graph.diffgraph.ranking import Ranks, check_pairs
from graphdiff.train.card import Card
from graphdiff.train.checkpoint import load_weights, read_card, save_model

__all__ = ["Recommender", "RecommenderConfig", "Trial"]

Users = NDArray[np.int64]
KIND = "diffgraph-recommender"


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
        trained(net, space, of, data, config, config.train_steps[0], 0)
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
        """Scores ``[b, candidates]`` of the candidates of users; ``mix`` 0 asks no network."""
        mix = self.config.mix[0] if mix is None else mix
        return joined(self.space, of, self.drawn(of) if mix > 0 else None, mix)

    def recommend(self, user: int | str, k: int = 20) -> list[tuple[str, float]]:
        """The ``k`` best items that a user has not bought, best first, with their scores.

        Args:
            user: Number, or name; without names of users the number may be text.
            k: At most the number of candidates.

        Raises:
            ArgumentError: The user is unknown, or ``k`` is out of range.
        """
        number = self._number(user)
        if not 1 <= k <= self.config.candidates:
            raise ArgumentError(f"k is {k}, expected 1 to {self.config.candidates}, the candidates")
        of = self.profile(np.array([number]))
        scores = self.scores(of)[0]
        order = [j for j in np.argsort(-scores, kind="stable")[:k] if np.isfinite(scores[j])]
        items = [int(of.items[0, j]) for j in order]
        called = [self.data.items[i] if len(self.data.items) else str(i) for i in items]
        return [(name, float(scores[j])) for name, j in zip(called, order, strict=True)]

    def _number(self, user: int | str) -> int:
        names = list(self.data.users)
        try:
            if user in names:
                number = names.index(user)
            elif isinstance(user, str):
                number = -1 if names else int(user)
            else:
                number = operator.index(user)
        except (TypeError, ValueError):
            number = -1
        if not 0 <= number < self.data.n_users:
            raise ArgumentError(
                f"no user {user!r}; give a number below {self.data.n_users}"
                f"{' or a name' if names else ''}"
            )
        return number

    def rank(self, pairs: NDArray[np.int64], *, unseen: bool = False) -> Ranks:
        """Places of held-out pairs ``[m, 2]`` of users and items.

        Args:
            pairs: The pairs.
            unseen: Mask all seen items, not only those that were bought.

        Raises:
            ArgumentError: There is no pair, or one is out of range.
        """
        pairs = check_pairs(pairs, self.data.shape)
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


def _matrix(tensors: Mapping[str, Tensor], name: str, shape: Any) -> sparse.csr_matrix:
    start, col = (tensors[f"edges.{name}.{part}"].numpy() for part in ("indptr", "indices"))
    return sparse.csr_matrix((np.ones(len(col), np.float32), col, start), shape)


def _plain(config: RecommenderConfig) -> dict[str, Any]:
    found = asdict(config)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()}
