r"""Two memories of each node, moved by events along the rule of balance.

Node ``i`` has :math:`m_i^+, m_i^- \in \mathbb R^d`, zero at first. An event of sign
:math:`s \in \{+1, -1\}` between ``i`` and ``j`` tells the memory of polarity :math:`p` of ``i``
what ``j`` holds with polarity :math:`p s`: a friend's friends are friends, an enemy's friends are
enemies (Heider, 1946). On the polarity axis that is the permutation
:math:`P_s = \begin{pmatrix} 0 & 1 \\ 1 & 0 \end{pmatrix}^{[s < 0]}`, applied to the other node:

.. math::

    x_i^p = [\, m_i^p \,\|\, m_j^{p s} \,\|\, \log(1 + |w|),\ p s,\ p,\ r \,\|\,
             \cos(\omega \Delta t_i^s + b) \,], \qquad
    m_i^p \leftarrow \mathrm{GRU}(\bar x_i^p, m_i^p),

with :math:`r = \pm 1` for the one that receives or gives, :math:`\Delta t_i^s` the time since the
last event of that sign at ``i``, and :math:`\bar x` the mean over the messages of a batch; one GRU
serves both polarities, which :math:`p` tells apart. Both ends are updated (Sharma et al., CIKM
2023, arXiv 2207.03408). The paper has no :math:`ps, p, r`: its memories start equal, so the first
event of a node would leave them the same whatever its sign.

Memories that start equal tell nodes apart by the times and numbers of their events alone, and which
side somebody is on is hardly found. With ``identity`` they start at :math:`\pm \epsilon_u`, noise
of the node's own. Swapping the two is then a change of sign, a sum of what neighbours hold is
:math:`\sum_k s_{uk} \epsilon_k`, and the product of two such sums estimates
:math:`\sum_k s_{uk} s_{vk}`, the balance of the common neighbours.

Events are kept as they are and turned into memories by the *next* batch, within its graph of
gradients, so that the loss reaches messages, clock and GRU. Only nodes that a batch touches are
computed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from graphdiff.core.rng import Key
from graphdiff.graph.semba.stream import Revealed

__all__ = ["Clock", "Fresh", "SignedTemporalMemory", "State", "first_memories", "routed"]


class Clock(nn.Module):
    r"""``cos(ω Δt + b)`` of time differences, with trained :math:`\omega, b`.

    Args:
        dim: Number of frequencies; at first geometric from ``1 / scale`` down to ``1e-6 / scale``.
        scale: A typical time difference.
    """

    scale: Tensor

    def __init__(self, dim: int, scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))
        self.rate = nn.Parameter(10.0 ** -torch.linspace(0, 6, dim))
        self.phase = nn.Parameter(torch.zeros(dim))

    def forward(self, gap: Tensor) -> Tensor:
        """``[..., dim]`` of time differences ``[...]`` (float64, unit of the stream)."""
        x = (gap / self.scale).to(self.rate.dtype)
        return torch.cos(x.unsqueeze(-1) * self.rate + self.phase)


def routed(memory: Tensor, sign: Tensor) -> Tensor:
    """Both memories ``[r, 2, d]`` as seen over edges of signs ``[r]``: swapped where negative."""
    return torch.where((sign > 0)[:, None, None], memory, memory.flip(1))


def first_memories(begin: int, end: int, dim: int, identity: int | None) -> Tensor:
    """Memories ``[end - begin, 2, dim]`` of nodes before their first event; see :class:`State`."""
    if identity is None:
        return torch.zeros(end - begin, 2, dim)
    noise = Key(identity, torch.arange(begin, end)).at(stream="identity").normal(dim)
    return torch.stack([noise, -noise], 1)


@dataclass
class State:
    """What is known at a position of a stream.

    Attributes:
        memory: ``[n, 2, d]``, positive first.
        last: Time of the last event of each sign at each node, float64 ``[n, 2]``.
        pending: Events that are not in ``memory`` yet: source, target, weight, time.
        position: Number of events seen.
    """

    memory: Tensor
    last: Tensor
    pending: tuple[Tensor, Tensor, Tensor, Tensor]
    position: int = 0

    @classmethod
    def empty(
        cls, nodes: int, dim: int, start: float, device: Any = "cpu", identity: int | None = None
    ) -> State:
        """Before the first event, which is at ``start``.

        Args:
            nodes: Number of nodes.
            dim: Numbers of one memory.
            start: Time of the first event.
            device: Where.
            identity: Seed of the nodes' identities; None = all memories are zero.
        """
        double = {"dtype": torch.float64, "device": device}
        ids = torch.zeros(0, dtype=torch.int64, device=device)
        return cls(
            first_memories(0, nodes, dim, identity).to(device),
            torch.full((nodes, 2), start, **double),
            (ids, ids, torch.zeros(0, **double), torch.zeros(0, **double)),
        )

    def grown(self, nodes: int, start: float, identity: int | None = None) -> State:
        """With rows for new nodes; arguments as in :meth:`empty`."""
        more = nodes - len(self.memory)
        if more <= 0:
            return self
        fresh = first_memories(len(self.memory), nodes, self.memory.shape[2], identity)
        memory = torch.cat([self.memory, fresh.to(self.memory)])
        last = torch.cat([self.last, self.last.new_full((more, 2), start)])
        return replace(self, memory=memory, last=last)

    def clone(self) -> State:
        """A copy with tensors of its own."""
        return State(
            self.memory.clone(), self.last.clone(), tuple(x.clone() for x in self.pending),  # type: ignore[arg-type]
            self.position,
        )  # fmt: skip


@dataclass
class Fresh:
    """Memories of the nodes with pending events, up to date and with gradients.

    Attributes:
        nodes: Sorted numbers ``[f]``.
        rows: ``[f, 2, d]``.
    """

    nodes: Tensor
    rows: Tensor


class SignedTemporalMemory(nn.Module):
    """Message, clock and GRU of the module docstring.

    Args:
        dim: Numbers of one memory.
        time: Frequencies of the clock.
        scale: A typical time between two events of a node.
    """

    def __init__(self, dim: int = 64, time: int = 32, scale: float = 1.0) -> None:
        super().__init__()
        self.dim, self.clock = dim, Clock(time, scale)
        self.cell = nn.GRUCell(2 * dim + 4 + time, dim)

    def messages(self, state: State) -> tuple[Tensor, Tensor]:
        """Owners ``[2 p]`` and messages ``[2 p, 2, 2 d + 4 + time]`` of the pending events."""
        source, target, weight, time = state.pending
        owner, other = torch.cat([source, target]), torch.cat([target, source])
        sign = torch.where(weight > 0, 1.0, -1.0).repeat(2)
        own, theirs = state.memory[owner], routed(state.memory[other], sign)
        kind = (sign < 0).long()
        # The gap is the same for both polarities: since the last event of the sign of this one.
        gap = time.repeat(2) - state.last[owner, kind]
        role = torch.cat([torch.full_like(weight, -1.0), torch.full_like(weight, 1.0)])
        size = torch.log1p(weight.abs()).repeat(2)
        pole = torch.tensor([1.0, -1.0], device=weight.device)
        plain = torch.stack(
            [
                size.unsqueeze(1).expand(-1, 2), sign.unsqueeze(1) * pole,
                pole.expand(len(owner), 2), role.unsqueeze(1).expand(-1, 2),
            ],
            -1,
        )  # fmt: skip
        clock = self.clock(gap).unsqueeze(1).expand(-1, 2, -1)
        return owner, torch.cat([own, theirs, plain.to(own.dtype), clock], -1)

    def apply_pending(self, state: State) -> Fresh:
        """The memories that pending events change."""
        owner, message = self.messages(state)
        nodes, inverse = owner.unique(return_inverse=True)
        count = torch.bincount(inverse, minlength=len(nodes)).to(message.dtype)
        total = message.new_zeros(len(nodes), *message.shape[1:]).index_add(0, inverse, message)
        mean = total / count[:, None, None]
        rows = self.cell(mean.flatten(0, 1), state.memory[nodes].flatten(0, 1))
        return Fresh(nodes, rows.view(len(nodes), 2, self.dim))

    @staticmethod
    def gather(state: State, fresh: Fresh, nodes: Tensor) -> Tensor:
        """Up-to-date memories ``[r, 2, d]`` of nodes ``[r]``."""
        old = state.memory[nodes]
        if not len(fresh.nodes):
            return old
        place = torch.searchsorted(fresh.nodes, nodes).clamp(max=len(fresh.nodes) - 1)
        hit = fresh.nodes[place] == nodes
        return torch.where(hit[:, None, None], fresh.rows[place], old)

    @staticmethod
    def commit(state: State, fresh: Fresh, seen: Revealed) -> State:
        """The state after a batch: pending events are in the memory, revealed ones pending.

        The memory of ``state`` is changed in place.
        """
        source, target, weight, time = state.pending
        if len(fresh.nodes):
            state.memory[fresh.nodes] = fresh.rows.detach()
            flat = torch.cat([source, target]) * 2 + (weight < 0).long().repeat(2)
            state.last.view(-1).scatter_reduce_(0, flat, time.repeat(2), "amax")
        columns = (seen.source, seen.target, seen.weight, seen.time)
        pending = tuple(torch.tensor(c, device=state.memory.device) for c in columns)
        return State(state.memory, state.last, pending, state.position + len(seen))  # type: ignore[arg-type]
