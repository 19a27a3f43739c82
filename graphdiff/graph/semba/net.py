r"""Embedding of a node at a time, and scores of pairs.

The embedding of ``u`` at ``t`` attends over its last ``k`` events. With
:math:`h = [m^+ \| m^-]`, event ``e`` with node ``j`` of sign :math:`s_e`, and
:math:`a_e = [\cos(\omega (t - t_e) + b) \| \operatorname{sgn}(w_e) \log(1 + |w_e|), s_e, r_e]`,

.. math::

    z_u = W_0 h_u + \sum_e \alpha_e (V P_{s_e} h_j + E a_e), \qquad
    \alpha = \operatorname{softmax}_e \frac{(Q h_u)^\top (K P_{s_e} h_j + E a_e)}{\sqrt{d/H}}

in each of ``H`` heads (the transformer convolution of Shi et al., 2021, which the paper uses, over
the last events instead of all). The neighbour is seen through the sign of the event, as in the
memory. A pair is scored by a perceptron on :math:`[z_u \| z_v \| x_{uv}]` where :math:`x_{uv}` is
its causal history (:mod:`graphdiff.graph.semba.history`), if that is asked for; where memories have
identities, on :math:`z_u \odot z_v` as well.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from graphdiff.graph.semba.config import SembaConfig
from graphdiff.graph.semba.history import FEATURES
from graphdiff.graph.semba.memory import Fresh, SignedTemporalMemory, State, routed
from graphdiff.graph.semba.stream import TASKS, Queries, Recent

__all__ = ["RecentAttention", "SembaNet"]


class RecentAttention(nn.Module):
    """Attention over the last events of each node; see the module docstring.

    Args:
        memory: Numbers of one memory.
        edge: Numbers of :math:`a_e`.
        out: Numbers of an embedding.
        heads: Must divide ``out``.
        dropout: Of attention weights.
    """

    def __init__(self, memory: int, edge: int, out: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.out = heads, out
        self.own = nn.Linear(2 * memory, 2 * out)
        self.other = nn.Linear(2 * memory, 2 * out)
        self.edge = nn.Linear(edge, out, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, h: Tensor, near: Tensor, place: Tensor, edge: Tensor, there: Tensor
    ) -> Tensor:
        """Embeddings ``[r, out]``.

        Args:
            h: Memories of the nodes ``[r, 2 d]``.
            near: Routed memories of all their neighbours, each once, ``[u, 2 d]``.
            place: Which of them each event leads to, ``[r, k]``.
            edge: What is known of the events ``[r, k, edge]``.
            there: Which events there are ``[r, k]``; a node may have none.
        """
        skip, query = self.own(h).chunk(2, -1)
        key, value = self.other(near)[place].chunk(2, -1)
        about = self.edge(edge)
        q, key, value = (self._split(x) for x in (query.unsqueeze(1), key + about, value + about))
        logits = (q * key).sum(-1) / math.sqrt(self.out // self.heads)  # [r, k, heads]
        logits = logits.masked_fill(~there.unsqueeze(-1), -1e9)
        weight = torch.softmax(logits, 1) * there.unsqueeze(-1)
        mixed = (self.dropout(weight).unsqueeze(-1) * value).sum(1)
        return skip + mixed.flatten(1)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))


class SembaNet(nn.Module):
    """Memory, attention and head.

    Args:
        config: Sizes and what is fed.
        scale: A typical time between two events of a node.
    """

    def __init__(self, config: SembaConfig, scale: float = 1.0) -> None:
        super().__init__()
        self.config = config
        self.memory = SignedTemporalMemory(config.memory, config.time, scale)
        self.attention = RecentAttention(
            config.memory, config.time + 3, config.out, config.heads, config.dropout
        )
        wide = (3 if config.identity else 2) * config.out
        wide += len(FEATURES) if config.history else 0
        self.last = nn.Linear(config.hidden, TASKS[config.task])
        self.head = nn.Sequential(
            nn.Linear(wide, config.hidden), nn.ReLU(), nn.Dropout(config.dropout), self.last
        )

    def start_from(self, share: float) -> None:
        """Begin training from the prior odds of a positive sign."""
        bounded = min(max(share, 0.01), 0.99)
        with torch.no_grad():
            self.last.bias.fill_(math.log(bounded / (1 - bounded)))

    def forward(self, state: State, fresh: Fresh, queries: Queries) -> Tensor:
        """Scores ``[q]`` or ``[q, 3]``."""
        device = state.memory.device
        nodes = torch.cat([torch.tensor(queries.source), torch.tensor(queries.target)])
        time = torch.tensor(queries.time, device=device).repeat(2)
        z = self.embed(state, fresh, nodes.to(device), time, queries.recent(self.config.neighbours))
        parts = list(z.chunk(2))
        if self.config.identity:
            parts.append(parts[0] * parts[1])
        if self.config.history:
            parts.append(torch.tensor(queries.history, device=device))
        scores: Tensor = self.head(torch.cat(parts, -1))
        return scores.squeeze(-1) if scores.shape[-1] == 1 else scores

    def embed(
        self, state: State, fresh: Fresh, nodes: Tensor, time: Tensor, recent: Recent
    ) -> Tensor:
        """Embeddings ``[r, out]`` of nodes ``[r]`` at times ``[r]`` from their last events."""
        device = state.memory.device
        other = torch.tensor(recent.other, device=device)
        weight, when = (torch.tensor(x, device=device) for x in (recent.weight, recent.time))
        there = torch.tensor(recent.there, device=device)
        role = torch.tensor(recent.received, device=device).double() * 2 - 1
        sign = torch.where(weight >= 0, 1.0, -1.0)
        # A neighbour is read and projected once for each sign, however many events lead to it.
        code, place = (2 * other + (sign < 0)).unique(return_inverse=True)
        h = self.memory.gather(state, fresh, torch.cat([nodes, code // 2]))
        own, near = h[: len(nodes)], routed(h[len(nodes) :], 1 - 2 * (code % 2))
        size = torch.sign(weight) * torch.log1p(weight.abs())
        clock = self.memory.clock(torch.where(there, time.unsqueeze(1) - when, 0.0))
        plain = torch.stack([size, sign.to(size), role], -1).to(clock.dtype)
        edge = torch.cat([clock, plain], -1)
        return self.attention(own.flatten(1), near.flatten(1), place, edge, there)
