r"""Attacks by gradient on a few pairs at a time: what a defence must stand, not only Metattack.

A defence that was tested on graphs poisoned against *another* network is not tested (Mujkanovic et
al., 2022, "Are defenses for graph neural networks robust?"). Here the attacker knows the victim.

Flips :math:`p \in [0, 1]^b` of a random block of pairs are raised along the gradient of

.. math:: -\frac{1}{|V|} \sum_{v \in V} \tanh\bigl(z_{v y_v} - \max_{c \ne y_v} z_{vc}\bigr)

and projected on :math:`\sum p \le \Delta`, the budget; pairs that stay near zero are exchanged for
fresh ones (projected randomised block coordinate descent, Geisler et al., 2021). At the end the
:math:`\Delta` largest flips and several random roundings are tried, and the best is taken.

The attacker knows the labels of the nodes it attacks, which makes it stronger than a real one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.data.nodes import NodeData
from graphdiff.graph.robust.victims import Answer, PlainVictim, StableVictim, Victim

__all__ = [
    "AttackConfig",
    "Attacked",
    "PlainVictim",
    "StableVictim",
    "attack",
    "flip",
    "margin_loss",
    "project",
]


@dataclass(frozen=True)
class AttackConfig:
    """How the search goes.

    Attributes:
        block: Pairs that are looked at together.
        steps: Gradient steps.
        exchange: Every so many steps pairs without effect are exchanged, in the first three
            quarters.
        lr: Length of a step, of the largest coordinate; falls to a tenth.
        roundings: Random roundings that are tried at the end.
    """

    block: int = 20_000
    steps: int = 80
    exchange: int = 10
    lr: float = 0.3
    roundings: int = 5

    def __post_init__(self) -> None:
        if min(self.block, self.steps, self.exchange) < 1 or not self.lr > 0 or self.roundings < 0:
            raise ArgumentError(f"an attack needs positive numbers, found {self}")


@dataclass(frozen=True, eq=False)
class Attacked:
    """The outcome of an attack.

    Attributes:
        flips: Pairs ``u < v`` whose edges were added or removed, int64 ``[2, k]``.
        data: The graph with them.
        before: Loss before, in [-1, 1]; higher is worse for the victim.
        after: Loss with the flips, the victim not retrained.
        added: How many flips add an edge.
    """

    flips: NDArray[np.int64]
    data: NodeData
    before: float
    after: float
    added: int


def margin_loss(logits: Tensor, labels: Tensor, nodes: Tensor) -> Tensor:
    """The loss of the module docstring, a number.

    A class that the victim does not know (no node it was trained or selected on has it) is never
    its answer: such nodes count as lost, whatever the attack does.

    Args:
        logits: ``[n, classes]``.
        labels: ``[n]``.
        nodes: Attacked nodes.
    """
    z, y = logits[nodes], labels[nodes, None]
    unknown = max(int(y.max()) + 1 - z.shape[1], 0)
    z = torch.nn.functional.pad(z, (0, unknown), value=-torch.inf)
    own = z.gather(1, y)[:, 0]
    other = z.scatter(1, y, -torch.inf).amax(1)
    return -torch.tanh(own - other).mean()


def project(p: Tensor, budget: float) -> Tensor:
    """The nearest point with ``0 <= p <= 1`` and a sum of at most ``budget``."""
    if float(p.clamp(0, 1).sum()) <= budget:
        return p.clamp(0, 1)
    low, high = float(p.min()) - 1, float(p.max())
    for _ in range(50):
        middle = (low + high) / 2
        if float((p - middle).clamp(0, 1).sum()) > budget:
            low = middle
        else:
            high = middle
    return (p - high).clamp(0, 1)


def flip(data: NodeData, pairs: NDArray[np.int64]) -> NodeData:
    """The graph with these pairs ``u < v`` flipped: edges removed, others added."""
    n = data.n
    code = np.setxor1d(_codes(data), pairs[0] * n + pairs[1])
    edges = torch.from_numpy(np.stack([code // n, code % n])).to(data.edges.device)
    return replace(data, name=f"{data.name}-attacked", edges=edges)


def _codes(data: NodeData) -> NDArray[np.int64]:
    """Edges ``u < v`` as numbers ``u n + v``."""
    u, v = data.edges.cpu().numpy()
    found: NDArray[np.int64] = u * data.n + v
    return found


class _Block:
    """Pairs under attack, and the weights of the whole graph as a function of their flips."""

    def __init__(self, data: NodeData, victim: Victim, size: int, seed: int) -> None:
        self.n, self.victim, self.size = data.n, victim, size
        self.have, self.device = _codes(data), data.labels.device
        self.rng = np.random.default_rng(seed)
        self.code = np.zeros(0, np.int64)

    def fill(self, keep: NDArray[np.bool_]) -> None:
        """Keep some of the pairs and draw others, as many as there are allowed ones."""
        code = self.code[keep]
        for _ in range(50):
            lacking = self.size - len(code)
            if lacking <= 0:
                break
            u, v = self.rng.integers(0, self.n, (2, 2 * lacking))
            low, high = np.minimum(u, v), np.maximum(u, v)
            drawn = np.setdiff1d((low * self.n + high)[low != high], code)
            # Removing an edge is always possible; joining must be worth while.
            fresh = drawn[self._worth(drawn)]
            code = np.concatenate([code, self.rng.permutation(fresh)[:lacking]])
        self.code = code

    def _worth(self, code: NDArray[np.int64]) -> NDArray[np.bool_]:
        allowed = self.victim.allowed(np.stack([code // self.n, code % self.n]))
        return allowed | np.isin(code, self.have)

    def answer(self) -> Answer:
        """Logits as a function of the flips of the block."""
        rest = np.setdiff1d(self.have, self.code)
        code = np.concatenate([rest, self.code])
        there = torch.from_numpy(np.isin(self.code, self.have)).to(self.device)
        told = self.victim.on(np.stack([code // self.n, code % self.n]))
        ones = torch.ones(len(rest), device=self.device)
        return lambda p: told(torch.cat([ones, torch.where(there, 1 - p, p)]))


def attack(
    data: NodeData,
    victim: Victim,
    nodes: Tensor,
    budget: int,
    config: AttackConfig | None = None,
    *,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> Attacked:
    """Flip up to ``budget`` edges so that the victim errs on ``nodes``.

    Args:
        data: The graph the victim was fitted to, with the labels of ``nodes``.
        victim: Trained; it is not retrained while it is attacked.
        nodes: Nodes whose classes are to come out wrong.
        budget: Number of edges added and removed.
        config: How.
        seed: Of blocks and roundings.
        progress: Called after every step with what is done and the loss.

    Raises:
        ArgumentError: The budget is not positive, there is no node to attack or one has no label,
            no pair may be flipped, or the victim's loss is not finite.
    """
    config = config or AttackConfig()
    block = _begin(data, victim, nodes, budget, config, seed)
    loss_of = lambda answer, p: _checked(margin_loss(answer(p), data.labels, nodes))  # noqa: E731
    start = min(1e-3, budget / len(block.code))
    p = torch.full((len(block.code),), start, device=block.device)
    answer = block.answer()
    with torch.no_grad():
        before = float(loss_of(answer, torch.zeros_like(p)))
    for step in range(config.steps):
        p.requires_grad_(True)
        loss = loss_of(answer, p)
        (slope,) = torch.autograd.grad(loss, p)
        with torch.no_grad():
            length = config.lr * 0.1 ** (step / config.steps) / slope.abs().max().clamp(min=1e-12)
            p = project(p + length * _checked(slope), budget)
        if progress is not None:
            progress(step + 1, float(loss.detach()))
        if (step + 1) % config.exchange == 0 and step < 0.75 * config.steps:
            useful = p > 1e-3
            held = p[useful]
            block.fill(useful.cpu().numpy())
            p = torch.cat([held, held.new_full((len(block.code) - len(held),), 1e-3)])
            answer = block.answer()
    # A fresh answer each time: a victim may remember decisions of the calls before.
    asked = lambda flips: loss_of(block.answer(), flips.to(block.device))  # noqa: E731
    chosen, after = _round(p.detach().cpu(), asked, budget, config.roundings, block.rng)
    code = np.sort(block.code[chosen.numpy()])
    flips = np.stack([code // data.n, code % data.n])
    added = int((~np.isin(code, block.have)).sum())
    return Attacked(flips, flip(data, flips), before, after, added)


def _begin(
    data: NodeData, victim: Victim, nodes: Tensor, budget: int, config: AttackConfig, seed: int
) -> _Block:
    """The first block of pairs; what makes no attack is refused (see :func:`attack`)."""
    if budget < 1:
        raise ArgumentError(f"an attack needs a budget of one edge or more, found {budget}")
    labels = data.labels[nodes]
    unlabelled = int((labels < 0).sum())
    if not len(labels) or unlabelled:
        raise ArgumentError(
            f"{data.name}: expected nodes with labels to attack, found {len(labels)} nodes, "
            f"{unlabelled} of them without a label; leave those out"
        )
    block = _Block(data, victim, config.block, seed)
    block.fill(np.zeros(0, bool))
    if not len(block.code):
        raise ArgumentError(
            f"{data.name}: there is no pair of nodes to flip: the graph has {data.n} nodes and "
            f"{len(block.have)} edges, and the victim would let no other pair in"
        )
    return block


def _checked(value: Tensor) -> Tensor:
    """A loss or its gradient, which must be finite: flips chosen by NaN would be anybody's.

    Raises:
        ArgumentError: It is not.
    """
    if not bool(value.isfinite().all()):
        raise ArgumentError(
            "the loss of the victim or its gradient is not finite; look at its weights and "
            "at the features of the graph"
        )
    return value


@torch.no_grad()
def _round(
    p: Tensor,
    loss_of: Callable[[Tensor], Tensor],
    budget: int,
    roundings: int,
    rng: np.random.Generator,
) -> tuple[Tensor, float]:
    """Which flips to make, bool, and the loss then."""
    best = torch.zeros(len(p), dtype=torch.bool)
    best[p.topk(min(budget, len(p))).indices] = True
    most = float(loss_of(best.float()))
    for _ in range(roundings):
        drawn = torch.from_numpy(rng.random(len(p))).float() < p
        excess = torch.where(drawn, p, -1.0).topk(min(budget, len(p))).indices
        kept = torch.zeros_like(drawn)
        kept[excess] = True
        kept &= drawn
        value = float(loss_of(kept.float()))
        if value > most:
            best, most = kept, value
    return best, most
