r"""A discrete diffusion of edges as a defence: the poisoned graph is a noisy state of a chain.

The state is one bit :math:`x^{uv}` for each candidate pair: the edges of the graph, the most
similar nodes of every node, and some random pairs. (Without these every unlike pair among the
candidates would be an edge, since it is there for no other reason, and the network would learn that
unlike nodes are joined.) Bits are redrawn independently from the frequency :math:`\pi` of edges
among the candidates (:class:`graphdiff.core.categorical.Marginal`, :math:`\alpha(t) = 1 - t`). A
network on pairs learns to undo this on the given graph itself, by cross-entropy. As all bits are
corrupted independently, it need only say what the *other* bits tell, and Bayes' rule adds the rest
(:class:`graphdiff.core.denoiser.Bayes`):

.. math:: \log\frac{p(x_0^{uv} = 1 \mid x_t)}{p(x_0^{uv} = 0 \mid x_t)}
    = f_\theta(u, v, x_t^{-uv}, t) \pm \log\Bigl(1 + \frac{\alpha_t}{(1 - \alpha_t)\,
    \pi(x_t^{uv})}\Bigr),

plus where the pair is an edge. Every input of :math:`f_\theta` leaves the pair's own bit out:
similarity of embeddings and words, degrees, common neighbours, and how alike :math:`v` is to the
other neighbours of :math:`u`.

The defence then declares the poisoned graph to be :math:`x_t` at a small :math:`t = \tau` and
runs the reverse chain to :math:`t = 0` with the sampler of the core. :math:`\tau` is how far the
graph is distrusted: an edge goes where the evidence against it outweighs
:math:`\log(1 + (1-\tau) / (\tau \pi))`. Several chains are run, and the share of them that ends
with an edge is its weight.

That an attacker's edges are undone is not what the network is trained for; it is trained *with*
them. It rests on their being few, and unlike the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from graphdiff.core.categorical import Marginal
from graphdiff.core.denoiser import Bayes, Denoiser
from graphdiff.core.errors import ArgumentError
from graphdiff.core.jump import AncestralJump
from graphdiff.core.process import Product
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler, Times
from graphdiff.core.schedule import FlowMatching
from graphdiff.core.state import State
from graphdiff.core.step import Step
from graphdiff.data.nodes import NodeData
from graphdiff.graph.robust.similarity import edge_cosine, edge_jaccard, top_k, unit_rows
from graphdiff.graph.sparse import Pattern

__all__ = ["DenoiseConfig", "EdgeDenoiser", "EdgeNet", "PairInputs", "fit_edge_denoiser"]

EDGE = "edge"


@dataclass(frozen=True)
class DenoiseConfig:
    """Candidates, network, training and chain.

    Attributes:
        neighbours: Most similar nodes of each node that are candidates beside the edges.
        strangers: Random nodes for each node that are candidates as well.
        hidden: Width of the network.
        steps: Updates of Adam.
        lr: Learning rate, cosine to zero.
        chain: Steps of the reverse chain.
        chains: Chains whose ends are averaged.
    """

    neighbours: int = 8
    strangers: int = 10
    hidden: int = 64
    steps: int = 100
    lr: float = 1e-2
    chain: int = 8
    chains: int = 4

    def __post_init__(self) -> None:
        counts = (self.neighbours, self.strangers, self.hidden, self.steps, self.chain, self.chains)
        if min(counts) < 1 or not self.lr > 0:
            raise ArgumentError(f"all numbers of a denoiser are positive, found {self}")


class PairInputs:
    """What the network is told of every candidate pair, without the pair's own bit.

    Args:
        pairs: Candidates ``u < v``, sorted, int64 ``[2, m]``.
        embedding: Of the nodes ``[n, d]``.
        features: Scipy sparse ``[n, f]``.
    """

    size = 8

    def __init__(self, pairs: NDArray[np.int64], embedding: Tensor, features: Any) -> None:
        self.n = len(embedding)
        self.left, self.right = torch.from_numpy(pairs).to(embedding.device)
        self.unit = unit_rows(embedding)
        self.cosine = edge_cosine(embedding, self.left, self.right)
        words = edge_jaccard(features, pairs[0], pairs[1])
        self.jaccard = torch.from_numpy(words).to(self.cosine)
        self._pairs = pairs
        rows = torch.cat([self.left, self.right])
        columns = torch.cat([self.right, self.left])
        order = torch.argsort(rows * self.n + columns)
        self._order = order % pairs.shape[1]
        self._place = torch.argsort(order).view(2, -1)  # of (u, v) and of (v, u) in the pattern
        self._pattern = Pattern.of(rows[order], columns[order], (self.n, self.n))
        self._square = self.unit.square().sum(1)  # 1, and 0 for a zero row

    def __call__(self, x: Tensor) -> Tensor:
        """Inputs ``[b, m, 8]`` of bits ``x`` ``[b, m]``."""
        return torch.stack([self._of(bits) for bits in x.to(self.cosine.dtype)])

    def _of(self, bits: Tensor) -> Tensor:
        left, right = self.left, self.right
        degree = bits.new_zeros(self.n).index_add(0, left, bits).index_add(0, right, bits)
        others = torch.stack([degree[left], degree[right]]) - bits
        near = self._pattern.matmul(bits[self._order], self.unit)
        # <sum of u's neighbours, v> holds <v, v> where the pair itself is an edge.
        fit = self._pattern.sample(near, self.unit)[self._place]
        own = bits * torch.stack([self._square[right], self._square[left]])
        fit = (fit - own) / others.clamp(min=1)
        columns = [
            self.cosine,
            self.jaccard,
            others.amin(0).log1p(),
            others.amax(0).log1p(),
            self._common(bits).log1p(),
            fit.amin(0),
            fit.amax(0),
            (others == 0).any(0).to(bits),
        ]
        return torch.stack(columns, 1)

    def _common(self, bits: Tensor) -> Tensor:
        """Common neighbours of each pair; its own bit cannot be among them."""
        there = bits.cpu().numpy() > 0
        u, v = self._pairs[:, there]
        half = sp.coo_matrix((np.ones(len(u), np.float32), (u, v)), shape=(self.n, self.n))
        graph = (half + half.T).tocsr()
        both = graph[self._pairs[0]].multiply(graph[self._pairs[1]]).sum(1)
        return torch.from_numpy(np.asarray(both).ravel()).to(bits)


class EdgeNet(nn.Module):
    """A perceptron on the inputs of each pair and the clock; answers logits of the two classes.

    Args:
        inputs: What it is told.
        hidden: Width.
        bits: A state ``[m]`` by which the inputs are standardised.
    """

    def __init__(self, inputs: PairInputs, hidden: int, bits: Tensor) -> None:
        super().__init__()
        self.inputs = inputs
        usual = inputs(bits[None])[0]
        self.mean, self.scale = usual.mean(0), usual.std(0).clamp(min=1e-3)
        self.layers = nn.Sequential(
            nn.Linear(inputs.size + 1, hidden), nn.SiLU(),
            nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1),
        )  # fmt: skip

    def forward(
        self, values: Mapping[str, Tensor], label: Tensor, masks: Any = None, cond: Any = None
    ) -> dict[str, Tensor]:
        """Logits ``[b, m, 2]`` from bits ``[b, m]`` and the clock ``[b]``."""
        told = (self.inputs(values[EDGE]) - self.mean) / self.scale
        clock = label.to(told)[:, None, None].expand(-1, told.shape[1], 1)
        logit = self.layers(torch.cat([told, clock], 2))
        return {EDGE: torch.cat([torch.zeros_like(logit), logit], 2)}


@dataclass(frozen=True, eq=False)
class EdgeDenoiser:
    """A trained denoiser of one graph.

    Attributes:
        pairs: Candidates, int64 ``[2, m]``.
        edges: Bits of the given graph, int64 ``[m]``.
        denoiser: The network with its process.
        config: Its settings.
        losses: Cross-entropy of each update.
    """

    pairs: NDArray[np.int64]
    edges: Tensor
    denoiser: Denoiser
    config: DenoiseConfig
    losses: list[float]

    def weights(self, start: float, seed: int = 0) -> Tensor:
        """Share of reverse chains that end with each pair as an edge, ``[m]``.

        Args:
            start: The time that the given graph is taken to be at, in (0, 1).
            seed: Of the chains.

        Raises:
            ArgumentError: ``start`` is out of range.
        """
        if not 0 < start < 1:
            raise ArgumentError(f"the graph is taken to be at a time in (0, 1), found {start}")
        ids = torch.arange(self.config.chains, device=self.edges.device)
        template = State({EDGE: self.edges.expand(len(ids), -1).clone()}, {}, ids)
        times = Times(self.config.chain, start=start, end=0.0)
        sampler = Sampler(self.denoiser.process, AncestralJump(), times)
        plan = sampler.compile()
        carry = {name: p.start(template[name]) for name, p in plan.programs.items()}
        # Step -1 ends at `start` in the given graph, so that the chain goes on from there.
        given = Step(-1, 1.0, start, template, {}, {}, carry, 0, len(plan.slots), seed)
        state = template
        for step in sampler.steps(self.denoiser, template, seed=seed, resume=given):
            state = step.state
        return state[EDGE].double().mean(0)

    def graph(
        self, weights: Tensor, least: float = 0.0
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Rows, columns and weights of the adjacency of pairs with a weight above ``least``."""
        weight = weights.cpu().numpy()
        kept = weight > least
        u, v = self.pairs[:, kept]
        both = np.concatenate([weight[kept], weight[kept]])
        return np.concatenate([u, v]), np.concatenate([v, u]), both


def candidates(
    edges: NDArray[np.int64], embedding: Tensor, config: DenoiseConfig, seed: int = 0
) -> NDArray[np.int64]:
    """Edges, similar and random pairs, as ``u < v``, sorted, each once, ``[2, m]``."""
    n = len(embedding)
    found = top_k(embedding, min(config.neighbours + 1, n))[1].cpu().numpy()
    drawn = np.random.default_rng(seed).integers(0, n, (2, config.strangers * n))
    u = np.concatenate([edges[0], np.repeat(np.arange(n), found.shape[1]), drawn[0]])
    v = np.concatenate([edges[1], found.ravel(), drawn[1]])
    low, high = np.minimum(u, v), np.maximum(u, v)
    code = np.unique((low * n + high)[low != high])
    return np.stack([code // n, code % n])


def fit_edge_denoiser(
    data: NodeData,
    embedding: Tensor,
    config: DenoiseConfig | None = None,
    *,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> EdgeDenoiser:
    """Train a denoiser on the edges of one graph, poisoned as they are; labels are not read.

    Args:
        data: The graph.
        embedding: Of its nodes ``[n, d]``, for candidates and inputs.
        config: Settings.
        seed: Of the network and of all noise.
        progress: Called after every update with what is done and the loss.
    """
    config = config or DenoiseConfig()
    edges, device = data.edges.cpu().numpy(), embedding.device
    pairs = candidates(edges, embedding, config, seed)
    clean = torch.from_numpy(
        np.isin(pairs[0] * data.n + pairs[1], edges[0] * data.n + edges[1]).astype(np.int64)
    ).to(device)
    share = float(clean.double().mean())
    if not 0 < share < 1:
        raise ArgumentError(
            f"{data.name}: {share:.0%} of the candidates are edges; a denoiser needs pairs of both "
            "kinds: give a graph with edges"
        )
    process = Product({EDGE: Marginal(FlowMatching(), (1 - share, share), weighting="ce")})
    inputs = PairInputs(pairs, embedding, sp.csr_matrix(data.features.cpu().numpy()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = EdgeNet(inputs, config.hidden, clean).to(device)
    denoiser = Denoiser(net, process, {EDGE: Bayes()})
    state = State({EDGE: clean[None]}, {}, torch.zeros(1, dtype=torch.int64, device=device))
    adam = torch.optim.Adam(net.parameters(), config.lr)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(adam, config.steps)
    losses = []
    for step in range(config.steps):
        key = Key(seed, state.ids, step=step)
        t = key.at(stream="time").uniform(1, torch.float64)[:, 0]
        noisy = process.corrupt(state, t, key)
        adam.zero_grad()
        loss = process.loss(denoiser(noisy, t), state, noisy, t)[EDGE].mean()
        loss.backward()
        adam.step()
        plan.step()
        losses.append(float(loss.detach()))
        if progress is not None:
            progress(step + 1, losses[-1])
    denoiser.eval().requires_grad_(False)
    return EdgeDenoiser(pairs, clean, denoiser, config, losses)
