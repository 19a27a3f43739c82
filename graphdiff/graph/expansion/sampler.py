r"""Growing graphs from single nodes: one discrete diffusion for each level.

All graphs of a batch start as one node and are expanded together; the sizes
:math:`1 = n_0 < n_1 < \dots < n_L = N` of each follow from its own random numbers, by the rule that
coarsening uses in reverse, so that the last size is the one asked for. Level ``l`` decides which
candidate edges exist and which of the :math:`n_{l+1}` new nodes will be split next, two components
of one chain that the sampler of the core runs.

Exactly :math:`k = n_{l+2} - n_{l+1}` nodes must be split. The network's log-odds of the nodes that
are undecided are shifted by one constant for each graph, so that the expected number of splits is
what is left of ``k`` (independent draws that are conditioned on their sum have shifted log-odds to
first order); the last step draws exactly what is left.

Where every graph must have a property that contracting edges keeps (:mod:`.keep`: planar, a tree),
each level must have it, and a graph that loses it draws that level again, with noise of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphdiff.core.categorical import Absorbing
from graphdiff.core.denoiser import Denoiser, Subs
from graphdiff.core.jump import AncestralJump
from graphdiff.core.process import Product
from graphdiff.core.reveal import ConfidentJump
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler, Step, Times
from graphdiff.core.schedule import FlowMatching
from graphdiff.core.state import State
from graphdiff.graph.expansion.coarsen import low_spectrum
from graphdiff.graph.expansion.config import NetworkConfig
from graphdiff.graph.expansion.keep import holds
from graphdiff.graph.expansion.level import CLASSES, Level, Packed
from graphdiff.graph.expansion.memory import require_memory

__all__ = ["ExpansionSampler", "build_process", "growth", "parametrizations"]

SURE = 1e4


def build_process() -> Product:
    """Tokens ``e`` and splits ``v``, hidden one after the other as the clock runs to 1."""
    return Product({
        "e": Absorbing(FlowMatching(), CLASSES + 1, weighting="ce"),
        "v": Absorbing(FlowMatching(), 3, weighting="ce"),
    })  # fmt: skip


def parametrizations() -> dict[str, Any]:
    """Both components are carried over once they are decided."""
    return {"e": Subs(), "v": Subs()}


def growth(sizes: Tensor, key: Key, low: float, high: float) -> Tensor:
    """Ascending sizes ``[b, levels + 1]`` from 1 to ``sizes``; a row repeats its last size.

    Coarsening in reverse: from ``n`` nodes to ``n - max(1, round(r n))`` with ``r`` uniform in
    ``[low, high]``, never below ``n / 2``.
    """
    columns, n, block = [sizes], sizes, 64
    while bool((n > 1).any()):
        if len(columns) - 1 == block or len(columns) == 1:
            block *= 1 if len(columns) == 1 else 2
            u = key.at(stream="growth").uniform(block, torch.float64)
        share = low + (high - low) * u[:, len(columns) - 1]
        less = torch.minimum((share * n).round().long().clamp(min=1), n // 2)
        n = n - less
        columns.append(n)
    falling = torch.stack(columns, 1)
    # Each row reaches 1 at its own level: shift it so that all start together.
    levels = (falling > 1).sum(1, keepdim=True)
    place = (levels - torch.arange(falling.shape[1], device=sizes.device)).clamp(min=0)
    return falling.gather(1, place)


@dataclass(frozen=True)
class ExpansionSampler:
    """Draws graphs level by level; takes the place of :class:`graphdiff.core.sampler.Sampler`.

    Attributes:
        steps: Most diffusion steps of a level; level ``l`` takes at most ``4 * 2**l``.
        low: Smallest share of nodes that a level adds, relative to its result.
        high: Largest share.
        shape: Of the network: its eigenvectors, and what memory is estimated by.
        largest: Largest size of the training set, for :attr:`network_calls`.
        degree: Mean degree of the training set.
        memory: GiB that a batch may take; 0 asks the machine.
        confident: Reveal edges in the order of confidence, see :class:`ConfidentJump`.
        jitter: Noise on that order.
        keep: Property that no level may lose, see :mod:`graphdiff.graph.expansion.keep`.
        tries: How often a level is drawn at most before a graph keeps what it got.
    """

    steps: int = 64
    low: float = 0.1
    high: float = 0.3
    shape: NetworkConfig = NetworkConfig()  # noqa: RUF009  (immutable)
    largest: int = 64
    degree: float = 6.0
    memory: float = 0.0
    confident: bool = False
    jitter: float = 0.5
    keep: str = "any"
    tries: int = 1

    @property
    def network_calls(self) -> int:
        """Network calls of the largest graph at the mean rate of growth; a forecast.

        Levels that are drawn again come on top.
        """
        n, levels = self.largest, 0
        while n > 1:
            n -= max(1, round(0.5 * (self.low + self.high) * n))
            levels += 1
        return max(1, sum(self.steps_of(level) for level in range(levels)))

    def steps_of(self, level: int) -> int:
        """Diffusion steps of a level, which do not depend on the batch."""
        return min(self.steps, 4 * 2 ** min(level, 30))

    def __call__(
        self,
        denoiser: Denoiser,
        template: State,
        *,
        seed: int,
        on_step: Callable[[Step], None] | None = None,
    ) -> State:
        """Grow the graphs of ``template["size"]``, int64 ``[b]``.

        Returns:
            ``size`` ``[b]`` and ``edges`` ``[b, most, 2]`` with their mask.

        Raises:
            ArgumentError: The batch needs more memory than there is.
        """
        sizes = template["size"]
        require_memory(sizes, self.degree, self.shape, self.memory)
        plan = growth(sizes, Key(seed, template.ids), self.low, self.high)
        graphs = Packed.single(len(sizes), sizes.device)
        done: list[tuple[Tensor, Packed]] = []
        place, split, calls = torch.arange(len(sizes), device=sizes.device), graphs.counts, 0
        with torch.no_grad():
            for level in range(plan.shape[1]):
                grown = plan[place, level] == sizes[place]
                if bool(grown.any()):
                    done.append((place[grown], graphs.select(grown)))
                    split = split[(~grown).repeat_interleave(graphs.counts)]
                    graphs, place = graphs.select(~grown), place[~grown]
                if not len(place):
                    break
                after = plan[place, min(level + 2, plan.shape[1] - 1)]
                coarse = _Coarse(graphs, split, sizes[place], after, template.ids[place])
                graphs, split, calls = self._grow(denoiser, coarse, seed, level, calls, on_step)
        return _collect(done, sizes, template.ids)

    def _grow(
        self,
        denoiser: Denoiser,
        coarse: _Coarse,
        seed: int,
        level: int,
        calls: int,
        on_step: Callable[[Step], None] | None,
    ) -> tuple[Packed, Tensor, int]:
        """The graphs of the next level, their splits, and the network calls made so far."""
        place, found = torch.arange(len(coarse.total), device=coarse.total.device), []
        for attempt in range(self.tries):
            expansion, base = self._expansion(coarse), calls
            for step in self._level(denoiser, expansion, coarse.ids, seed, level, attempt):
                calls = base + step.calls
                if on_step is not None:
                    on_step(replace(step, calls=calls))
            graphs = expansion.refine(step.state["e"][expansion.token_mask])
            split = step.state["v"][expansion.node_mask]
            good = holds(self.keep, graphs)
            if attempt == self.tries - 1:
                good = torch.ones_like(good)
            kept = graphs.select(good)
            found.append((place[good], kept, split[good.repeat_interleave(graphs.counts)]))
            if bool(good.all()):
                break
            coarse, place = coarse.select(~good), place[~good]
        places, parts, splits = zip(*found, strict=True)
        return *Packed.join(parts, torch.cat(places), torch.cat(splits)), calls

    def _expansion(self, coarse: _Coarse) -> Level:
        graphs, facts = coarse.graphs, (coarse.graphs, coarse.split, coarse.total, coarse.after)
        if not self.shape.modes:
            return Level.build(*facts)
        edges = graphs.edges.cpu().numpy()
        ends = np.cumsum(torch.bincount(graphs.owner, minlength=len(coarse.total)).cpu().numpy())
        parts = [
            low_spectrum(n, own, self.shape.modes)[1]
            for n, own in zip(graphs.counts.tolist(), np.split(edges, ends[:-1]), strict=True)
        ]
        modes = torch.from_numpy(np.concatenate(parts)).to(coarse.split.device, torch.float32)
        return Level.build(*facts, modes)

    def _level(
        self,
        denoiser: Denoiser,
        expansion: Level,
        ids: Tensor,
        seed: int,
        level: int,
        attempt: int = 0,
    ) -> Iterator[Step]:
        """The chain of one level; its last state has exactly the splits that were asked for."""
        steps = self.steps_of(level)
        own = _level_seed(seed, level, attempt)
        masks = {"e": expansion.token_mask, "v": expansion.node_mask}
        values = {name: torch.zeros_like(mask, dtype=torch.int64) for name, mask in masks.items()}
        template = State(values, masks, ids)
        wanted = expansion.target - expansion.counts
        noise = Key(own, ids).at(stream="choice").uniform(masks["v"].shape[1], torch.float64)
        choose = _Counted(denoiser, masks["v"], wanted, noise, last=1.5 / steps)
        solver = ConfidentJump(self.jitter) if self.confident else AncestralJump()
        sampler = Sampler(
            denoiser.process, {"e": solver, "v": AncestralJump()}, Times(steps, end=0.0)
        )
        for step in sampler.steps(choose, template, seed=own, cond=expansion):
            if step.index < step.total - 1:
                yield step
        drawn = torch.where(masks["v"], step.state["v"].double() * 2 + noise, -1)
        exact = _top(drawn, wanted).long()
        yield replace(step, state=step.state.replace(v=exact))


@dataclass(frozen=True)
class _Coarse:
    """Graphs that are about to be expanded."""

    graphs: Packed
    split: Tensor  # of every node
    total: Tensor  # [b] nodes in the end
    after: Tensor  # [b] nodes after the next level
    ids: Tensor  # [b]

    def select(self, keep: Tensor) -> _Coarse:
        """The graphs where ``keep`` (bool ``[b]``) is True."""
        nodes = keep.repeat_interleave(self.graphs.counts)
        return _Coarse(
            self.graphs.select(keep), self.split[nodes], self.total[keep], self.after[keep],
            self.ids[keep],
        )  # fmt: skip


@dataclass(frozen=True)
class _Counted:
    """A denoiser whose splits add up to ``wanted``."""

    denoiser: Denoiser
    mask: Tensor
    wanted: Tensor
    noise: Tensor
    last: float

    def __call__(self, state: State, t: Tensor, cond: Any) -> Mapping[str, Tensor]:
        answer = self.denoiser(state, t, cond)
        hidden = (state["v"] == 2) & self.mask
        left = self.wanted - ((state["v"] == 1) & self.mask).sum(1)
        odds = (answer["v"][..., 1] - answer["v"][..., 0]).double()
        soft = odds + _shift(odds, hidden, left).unsqueeze(1)
        score = torch.where(hidden, odds + torch.logit(self.noise), -torch.inf)
        hard = torch.where(_top(score, left), SURE, -SURE)
        new = torch.where((t < self.last).unsqueeze(1), hard, soft).clamp(-SURE, SURE)
        v = torch.stack([torch.zeros_like(new), new, torch.full_like(new, -SURE)], -1)
        v = torch.where(hidden.unsqueeze(-1), v.to(answer["v"].dtype), answer["v"])
        return {**answer, "v": v}


def _shift(odds: Tensor, hidden: Tensor, left: Tensor) -> Tensor:
    """Constant ``[b]`` that makes the expected number of successes among ``hidden`` ``left``."""
    low = torch.full_like(left, -1, dtype=torch.float64) * 2 * SURE
    high = -low
    want = left.to(low)
    for _ in range(48):
        middle = (low + high) / 2
        got = torch.where(hidden, torch.sigmoid(odds + middle.unsqueeze(1)), 0).sum(1)
        low, high = torch.where(got < want, middle, low), torch.where(got < want, high, middle)
    return (low + high) / 2


def _top(score: Tensor, count: Tensor) -> Tensor:
    """Whether an entry is among the ``count`` ``[b]`` largest of its row, bool ``[b, n]``."""
    order = torch.argsort(score, dim=1, descending=True, stable=True)
    rank = torch.argsort(order, dim=1)
    return rank < count.unsqueeze(1)


def _level_seed(seed: int, level: int, attempt: int) -> int:
    """Seed of a level's chain: each level, and each attempt at it, meets noise of its own."""
    key = Key(seed, torch.tensor([level]), step=attempt)
    low, high = key.at(stream="level").bits(2)[0].tolist()
    return int(high >> 1 << 32 | low)


def _collect(done: list[tuple[Tensor, Packed]], sizes: Tensor, ids: Tensor) -> State:
    """Finished graphs in the order of the batch."""
    parts = [graphs.padded() for _, graphs in done]
    most = max(edges.shape[1] for edges, _ in parts)
    out = sizes.new_zeros(len(sizes), most, 2)
    mask = torch.zeros(len(sizes), most, dtype=torch.bool, device=sizes.device)
    for (place, _), (edges, real) in zip(done, parts, strict=True):
        out[place, : edges.shape[1]] = edges
        mask[place, : edges.shape[1]] = real
    return State({"size": sizes, "edges": out}, {"edges": mask}, ids)
