r"""DiffGraph for recommendation as published, to compare with (Li et al., 2025, arXiv 2501.02313).

With one free vector for each user and item, :math:`\phi` the leaky rectifier of slope one half and
:math:`\hat A_r` a relation as a symmetric bipartite graph, :math:`D^{-1/2} A D^{-1/2}`,

.. math:: h_0 = E, \quad h_l = \phi(\hat A_r h_{l-1}), \qquad
          E_r = E + \sum_{l=1}^{2} h_l / \lVert h_l \rVert .

The target view is that of the target relation, the source the sum of those of the others. A
denoiser for users and one for items map the source to the target, with the published schedule;
what is scored is :math:`e = E_{target} + \hat z`, and the loss of a batch of edges, each with one
item that the user has not bought, is

.. math:: -\log\sigma(e_u e_p - e_u e_n) + \rho\,(\lVert e_u \rVert^2 + \lVert e_p \rVert^2
          + \lVert e_n \rVert^2) + \mathrm{mean}_i\, w_{t_i} \lVert z_i - \hat z_i \rVert^2 / d .

Inference is one network call instead of ``T``: with this schedule they agree, see
:mod:`graphdiff.graph.diffgraph.process`. Variants leave parts out: ``"no-loss"`` the diffusion
loss, ``"sum"`` the denoiser (target plus source), ``"target"`` the other relations; ``"union"`` is
one graph of all relations (as LightGCN, with this layer).

As run and as here, dropout of the denoiser acts in the first epoch only: the released code switches
to evaluation after it and never back. Changed: the diffusion loss is that of the nodes of a batch
instead of all (the same in expectation). Not copied: the choice of the best epoch by the *test*
score; :meth:`Published.fit` shows every epoch, and the caller says which one it quotes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from graphdiff.core.errors import ArgumentError
from graphdiff.core.rng import Key
from graphdiff.data.behaviours import Behaviours
from graphdiff.graph.diffgraph.denoiser import DenoiserConfig, HeteroDenoiser
from graphdiff.graph.sparse import Pattern

__all__ = ["Published", "PublishedConfig", "Variant"]

Variant = Literal["full", "no-loss", "sum", "target", "union"]


@dataclass(frozen=True)
class PublishedConfig:
    r"""Settings of the released code.

    Attributes:
        variant: What is left out, see the module docstring.
        dim: Width of the vectors.
        layers: Propagations.
        T: Steps of the schedule; 150 for Retail Rocket.
        lr: Learning rate of Adam.
        penalty: :math:`\rho`.
        batch: Edges in a batch; 4096 for Tmall.
        epochs: Passes over the target edges.
        seed: Of everything that is drawn.
    """

    variant: Variant = "full"
    dim: int = 64
    layers: int = 2
    T: int = 150
    lr: float = 1e-3
    penalty: float = 3e-2
    batch: int = 2048
    epochs: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.variant not in get_args(Variant):
            raise ArgumentError(f"variant is {self.variant!r}, expected one of {get_args(Variant)}")
        least = {"dim": 1, "layers": 1, "T": 2, "batch": 1, "epochs": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ArgumentError(f"{name} is {getattr(self, name)}, expected {low} or more")
        if not self.lr > 0 or not self.penalty >= 0:
            raise ArgumentError(
                f"lr is {self.lr} and penalty {self.penalty}; expected lr above 0 and penalty 0 or "
                "more"
            )

    @property
    def denoises(self) -> bool:
        """Whether there is a denoiser."""
        return self.variant in ("full", "no-loss")


class Published(nn.Module):
    """The published model of one data set.

    Args:
        data: Training edges.
        config: Settings.

    Raises:
        ArgumentError: There is no other relation that the target could be made from.
    """

    def __init__(self, data: Behaviours, config: PublishedConfig) -> None:
        super().__init__()
        if config.denoises and not data.auxiliary:
            raise ArgumentError(
                f"variant {config.variant!r} makes {data.target!r} from other relations, and these "
                "data have none; use variant 'target', or give another relation"
            )
        self.data, self.config = data, config
        if config.variant == "union":
            groups = [data.seen]
        elif config.variant == "target":
            groups = [data.edges[data.target]]
        else:
            groups = [data.edges[name] for name in (data.target, *data.auxiliary)]
        self.graphs = [_graph(matrix) for matrix in groups]
        n, m = data.shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            vectors = [nn.init.xavier_uniform_(torch.empty(k, config.dim)) for k in (n, m)]
        self.vectors = nn.Parameter(torch.cat(vectors))
        how = DenoiserConfig.published(1, T=config.T, dim=config.dim)
        self.denoisers = nn.ModuleList(
            HeteroDenoiser(config.dim, config.dim, how, config.seed + 1 + k)
            for k in range(2 if config.denoises else 0)
        )

    def views(self) -> tuple[Tensor, Tensor]:
        """Target and source views of users and items, ``[users + items, d]`` each."""
        device = self.vectors.device
        if self.graphs[0][1].device != device:  # the model was moved, its graphs follow
            self.graphs = [(pattern.to(device), x.to(device)) for pattern, x in self.graphs]
        found = [self._spread(*graph) for graph in self.graphs]
        rest = found[1:] or [torch.zeros_like(found[0])]
        return found[0], torch.stack(rest).sum(0)

    def _spread(self, pattern: Pattern, values: Tensor) -> Tensor:
        total: Tensor = self.vectors
        h = total
        for _ in range(self.config.layers):
            h = nn.functional.leaky_relu(pattern.matmul(values, h), 0.5)
            total = total + nn.functional.normalize(h, dim=-1)
        return total

    def final(self, nodes: Tensor, key: Key) -> tuple[Tensor, Tensor]:
        """Scored vectors of ``nodes`` and the diffusion loss, in training."""
        target, source = self.views()
        if not self.config.denoises:
            return (target + source if len(self.graphs) > 1 else target)[nodes], target.new_zeros(
                ()
            )
        users, made = nodes < self.data.n_users, target.new_zeros(len(nodes), self.config.dim)
        loss = target.new_zeros(())
        for k, part in enumerate((users, ~users)):
            own = nodes[part]
            denoiser = self.denoisers[k]
            assert isinstance(denoiser, HeteroDenoiser)
            found = denoiser.estimate(target[own], source[own], key.select(part))
            made = made.masked_scatter(part[:, None], found.target)
            loss = loss + found.loss.mean()
        return target[nodes] + made, loss if self.config.variant == "full" else loss * 0

    @torch.no_grad()
    def embed(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scored vectors of users and of items, by one network call each."""
        training = self.training
        self.eval()
        target, source = self.views()
        n = self.data.n_users
        if self.config.denoises:
            made = []
            for denoiser, part in zip(self.denoisers, (source[:n], source[n:]), strict=True):
                assert isinstance(denoiser, HeteroDenoiser)
                made.append(denoiser.sample(part))
            target = target + torch.cat(made)
        elif len(self.graphs) > 1:
            target = target + source
        self.train(training)
        return target[:n].cpu().numpy(), target[n:].cpu().numpy()

    def scorer(self) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
        """Scores of users for :func:`graphdiff.graph.diffgraph.ranking.rank`."""
        users, items = self.embed()
        return lambda who: users[who] @ items.T

    def fit(self, after: Callable[[int, Published], None] | None = None) -> Published:
        """Trains; ``after`` is called with the number of each epoch, from 1, and the model."""
        c, n = self.config, self.data.n_users
        draws = np.random.default_rng(c.seed)
        edges = self.data.edges[self.data.target].tocoo()
        user, item = edges.row.astype(np.int64), edges.col.astype(np.int64)
        tuner, step = torch.optim.Adam(self.parameters(), c.lr), 0
        device = self.vectors.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(c.seed)  # dropout
            for epoch in range(1, c.epochs + 1):
                self.train(epoch == 1)
                other = _not_bought(self.data, user, draws)
                order = draws.permutation(len(user))
                for a in range(0, len(order), c.batch):
                    b = order[a : a + c.batch]
                    triple = torch.from_numpy(np.concatenate([user[b], n + item[b], n + other[b]]))
                    tuner.zero_grad()
                    self._loss(triple.to(device), step).backward()
                    tuner.step()
                    step += 1
                if after is not None:
                    after(epoch, self)
        return self.eval()

    def _loss(self, triple: Tensor, step: int) -> Tensor:
        """Of edges: their users, items and items not bought, one after the other."""
        nodes, back = torch.unique(triple, return_inverse=True)
        e, diffusion = self.final(nodes, Key(self.config.seed, nodes, step=step))
        n = len(triple) // 3
        u, p, q = e[back].split(n)
        fit = -nn.functional.logsigmoid((u * (p - q)).sum(1)).mean()
        size = (u.square().sum() + p.square().sum() + q.square().sum()) / n
        return fit + self.config.penalty * size + diffusion


def _graph(matrix: sparse.csr_matrix) -> tuple[Pattern, Tensor]:
    """A relation as a normalised symmetric graph; degrees are at least one."""
    whole = sparse.bmat([[None, matrix], [matrix.T, None]], format="csr")
    root = np.maximum(np.asarray(whole.sum(1)).ravel(), 1) ** -0.5
    scaled = sparse.csr_matrix(sparse.diags(root) @ whole @ sparse.diags(root))
    pattern, values = Pattern.from_scipy(scaled)
    return pattern, values.float()


def _not_bought(
    data: Behaviours, user: NDArray[np.int64], draws: np.random.Generator
) -> NDArray[np.int64]:
    """One item for each edge that its user has not bought, uniform."""
    bought = data.edges[data.target].tocoo()
    keys = np.sort(bought.row.astype(np.int64) * data.n_items + bought.col)
    other = draws.integers(0, data.n_items, len(user))
    full = np.diff(data.edges[data.target].indptr)[user] >= data.n_items
    for _ in range(64):
        wrong = np.isin(user * data.n_items + other, keys) & ~full
        if not wrong.any():
            break
        other[wrong] = draws.integers(0, data.n_items, int(wrong.sum()))
    return np.asarray(other, np.int64)
