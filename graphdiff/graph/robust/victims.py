r"""Trained classifiers as differentiable functions of edge weights: what an attack pushes against.

A victim answers with logits of the nodes for any weights in [0, 1] of any pairs. Its parameters are
those it has; only the graph changes. :class:`PlainVictim` is a graph convolution.
:class:`StableVictim` is the whole defence, :mod:`~graphdiff.graph.robust.stable`: the weights go
through the encoder (embeddings change), the refined graph, and the degrees of the classifier. Hard
decisions inside (which edges are alike enough, who the most similar nodes are) are made as the
defence makes them and held fixed for the gradient; the most similar nodes are looked up again every
few calls. So the attacker sees everything but the retraining.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import prelu

from graphdiff.data.nodes import NodeData
from graphdiff.graph.adjacency import SparseOperator
from graphdiff.graph.robust.gcn import Stack
from graphdiff.graph.robust.similarity import edge_cosine, edge_jaccard, top_k
from graphdiff.graph.robust.stable import StableClassifier, sparse_features
from graphdiff.graph.sparse import Pattern

__all__ = ["Answer", "PlainVictim", "StableVictim", "Victim"]

Answer = Callable[[Tensor], Tensor]
"""Weights ``[m]`` of fixed pairs to logits ``[n, classes]``."""
REFRESH = 10


class Victim(Protocol):
    """What can be attacked."""

    def allowed(self, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which pairs ``[2, m]`` an attacker who knows the victim would bother to join."""

    def on(self, pairs: NDArray[np.int64]) -> Answer:
        """Logits as a function of the weights of these pairs ``u < v``, each once."""


def entries(
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
    n: int,
    device: torch.device,
) -> tuple[Pattern, list[Tensor]]:
    """The joint pattern of several lists of entries, and the place of each entry in it."""
    codes = [row * n + col for row, col in parts]
    every, place = np.unique(np.concatenate(codes), return_inverse=True)
    pattern = Pattern.of(torch.from_numpy(every // n), torch.from_numpy(every % n), (n, n))
    cuts = np.cumsum([len(code) for code in codes])[:-1]
    places = [torch.from_numpy(part).to(device) for part in np.split(place, cuts)]
    return pattern.to(device), places


def mirrored(pairs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both directions of each pair, side by side."""
    return pairs.T.reshape(-1), pairs[::-1].T.reshape(-1)


def scaled(pattern: Pattern, values: Tensor, alpha: float) -> SparseOperator:
    """Weights normalised as :func:`graphdiff.graph.adjacency.adjacency` does, differentiably."""

    def sums(values: Tensor) -> Tensor:
        total = values.new_zeros(pattern.shape[0]).index_add(0, pattern.row, values)
        return torch.where(total > 0, total, 1.0)  # rows of zeros stay zeros

    power = sums(values) ** alpha
    values = values * power[pattern.row] * power[pattern.col]
    if alpha != -0.5:
        values = values / sums(values)[pattern.row]
    return SparseOperator(pattern, values)


class PlainVictim:
    """A graph convolution on the graph as it is.

    Args:
        data: The graph it was trained on.
        stack: Trained networks; logits are averaged over its runs.
    """

    def __init__(self, data: NodeData, stack: Stack) -> None:
        self.n, self.stack = data.n, stack.eval()
        self.features = sparse_features(data.features)[0]

    def allowed(self, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
        """All of them."""
        return np.ones(pairs.shape[1], bool)

    def on(self, pairs: NDArray[np.int64]) -> Answer:
        """Logits as a function of weights; see :class:`Victim`."""
        every = np.arange(self.n)
        pattern, (at, loops) = entries(
            [mirrored(pairs), (every, every)], self.n, self.features.device
        )

        def answer(weight: Tensor) -> Tensor:
            values = weight.new_zeros(pattern.nnz).index_add(0, at, weight.repeat_interleave(2))
            values = values.index_fill(0, loops, 1.0)
            out: Tensor = self.stack(scaled(pattern, values, -0.5), self.features)
            return out.mean(1)

        return answer


class StableVictim:
    """The whole defence; see the module docstring.

    Args:
        data: The graph it was fitted to.
        model: The fitted defence; logits are averaged over its runs.
        margin: How far above the threshold of the cosine an attacker keeps a new pair, since its
            edges change the embeddings.
    """

    def __init__(self, data: NodeData, model: StableClassifier, margin: float = 0.1) -> None:
        self.n, self.model, self.margin = data.n, model, margin
        self.words = sp.csr_matrix(data.features.cpu().numpy())
        self.seen = sparse_features(data.features)[0] @ model.encoder.weight
        self.device = self.seen.device
        model.stack.eval()

    def allowed(self, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Pairs that survive both prunings, by the embeddings of the fitted graph."""
        config, (u, v) = self.model.config, pairs
        left, right = torch.from_numpy(pairs).to(self.device)
        alike = edge_cosine(self.model.embedding, left, right).cpu().numpy()
        close = alike > config.cosine + self.margin
        close[close] = edge_jaccard(self.words, u[close], v[close]) >= config.jaccard
        found: NDArray[np.bool_] = close
        return found

    def on(self, pairs: NDArray[np.int64]) -> Answer:
        """Logits as a function of weights; see :class:`Victim`."""
        config, n, every = self.model.config, self.n, np.arange(self.n)
        likely = np.ones(pairs.shape[1], bool)
        if config.jaccard > 0:
            likely = edge_jaccard(self.words, *pairs) >= config.jaccard
        pairs, kept = pairs[:, likely], torch.from_numpy(likely).to(self.device)
        left, right = torch.from_numpy(pairs).to(self.device)
        own = every if config.beta else every[:0]  # as adjacency() does: no loops without weight
        pattern, (at, loops) = entries([mirrored(pairs), (own, own)], n, self.device)
        held: list[tuple[Pattern, Tensor, Tensor, Tensor]] = []
        calls = 0

        def answer(weight: Tensor) -> Tensor:
            nonlocal calls
            weight = weight[kept]
            both = weight.repeat_interleave(2)
            values = weight.new_zeros(pattern.nnz).index_add(0, at, both)
            values = values.index_fill(0, loops, config.beta)
            moved = scaled(pattern, values, -0.5).matmul(self.seen)
            embedding = prelu(moved + self.model.encoder.bias, self.model.encoder.slope)
            fixed = embedding.detach()
            alike = (edge_cosine(fixed, left, right) > config.cosine).repeat_interleave(2)
            if calls % REFRESH == 0:
                held[:] = [self._graph(pairs, fixed, weight.detach(), alike[::2])]
            calls += 1
            joint, edges, near, self_loops = held[0]
            values = both.new_zeros(joint.nnz).index_add(0, edges, both * alike)
            values = values.index_fill(0, near, 1.0).index_fill(0, self_loops, 1.0)
            out: Tensor = self.model.stack(scaled(joint, values, config.alpha), embedding)
            return out.mean(1)

        return answer

    def _graph(
        self, pairs: NDArray[np.int64], embedding: Tensor, weight: Tensor, alike: Tensor
    ) -> tuple[Pattern, Tensor, Tensor, Tensor]:
        """The joint pattern of pairs, similar nodes and self-loops, with the place of each."""
        config, n, every = self.model.config, self.n, np.arange(self.n)
        there = ((weight >= 0.5) & alike).cpu().numpy()
        trusted = np.bincount(pairs[:, there].ravel(), minlength=n) > 1
        near = (every[:0], every[:0])
        if config.k > 1 and trusted.any():
            k = min(config.k, int(trusted.sum()))
            allowed = torch.from_numpy(trusted).to(self.device)
            found = top_k(embedding, k, allowed)[1].cpu().numpy()
            row, col = np.repeat(every, k), found.ravel()
            near = (row[row != col], col[row != col])
            if config.symmetric:
                near = (np.concatenate(near), np.concatenate(near[::-1]))
        pattern, (edges, similar, loops) = entries(
            [mirrored(pairs), near, (every, every)], n, self.device
        )
        return pattern, edges, similar, loops
