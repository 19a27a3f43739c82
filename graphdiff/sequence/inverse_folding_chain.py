r"""Chains that design sequences, and the scores of what they made.

A score is the mean log-likelihood of a designed residue, in nats, at temperature 1. Under a causal
decoder it is the autoregressive likelihood of ProteinMPNN, averaged over random orders. Under a
full decoder a random order is cut into ``M`` blocks, and the letters of a block are predicted
together from those of the blocks before,

.. math:: \frac1n \sum_{m=1}^{M} \sum_{i \in B_m} \log p(s_i \mid s_{B_1}, \dots, s_{B_{m-1}}, X),

which is the log-probability that ``M`` steps make this sequence in this order. Fixed residues are
known from the start and do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.core.denoiser import Denoiser
from graphdiff.core.errors import ArgumentError
from graphdiff.core.process import Product
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler
from graphdiff.core.state import State
from graphdiff.core.step import Step
from graphdiff.sequence.nets.folding import AMINO, FoldingNet, member_table, site_given
from graphdiff.sequence.nets.mpnn import MPNN, Encoding
from graphdiff.sequence.nets.mpnn_decoding import random_rank, sample_in_order, teacher_forced
from graphdiff.sequence.structure import Backbone, collate

__all__ = ["Autoregressive", "DesignSampler", "score_designs", "structure_likelihood"]


@dataclass(frozen=True)
class DesignSampler(Sampler):
    """The core's sampler; a whole chain encodes its structures once and is scored in the end.

    Attributes:
        score: Network calls of the score; 0 for none.
    """

    score: int = 0

    def __call__(
        self,
        denoiser: Any,
        template: State,
        *,
        seed: int,
        cond: Any = None,
        on_step: Callable[[Step], None] | None = None,
        **options: Any,
    ) -> State:
        """As :meth:`Sampler.__call__`; the state gains the value ``score`` ``[b]``."""
        net = getattr(denoiser, "net", None)
        if not isinstance(net, FoldingNet):  # a wrapped denoiser: nothing to prepare
            return super().__call__(
                denoiser, template, seed=seed, cond=cond, on_step=on_step, **options
            )
        last: list[Step] = []

        def report(step: Step) -> None:
            last[:] = [step]
            if on_step is not None:
                on_step(step)

        # Gradients of a chain must reach the encoder in every step, so it is not shared then.
        told = dict(cond or {})
        if not options.get("grad", False):
            with torch.no_grad():
                told["encoding"] = net.encode(template.values)
        state = super().__call__(
            denoiser, template, seed=seed, cond=told, on_step=report, **options
        )
        if not self.score:
            return state
        with torch.no_grad():
            encoding = told.get("encoding")
            found = score_designs(denoiser, state, self.score, seed=seed, encoding=encoding)
        if on_step is not None and last:
            on_step(replace(last[0], calls=last[0].calls + self.score))
        return state.replace(score=found)


@dataclass(frozen=True)
class Autoregressive:
    """One residue after the other, in random order, with a causal decoder (ProteinMPNN).

    Attributes:
        process: Names the component.
        score: Orders that a finished sequence is scored with; 0 for none.
    """

    process: Product
    score: int = 0

    @property
    def network_calls(self) -> int:
        """Passes over all residues: their structure, their letters, and the scores."""
        return 2 + self.score

    def __call__(
        self,
        denoiser: Denoiser,
        template: State,
        *,
        seed: int,
        on_step: Callable[[Step], None] | None = None,
    ) -> State:
        """Draw a batch.

        Raises:
            ArgumentError: The decoder of the model is not causal.
        """
        net = denoiser.net
        if not isinstance(net, FoldingNet) or not net.causal:
            raise ArgumentError(
                "the solver 'autoregressive' needs a model with a causal decoder; take another one"
            )
        values, key = template.values, Key(seed, template.ids)
        sites = values["tokens"].shape[1]
        with torch.no_grad():
            encoding = net.encode(values)
            resolved, site = values["resolved"], values["site"]
            given = site_given(values["given"], site, resolved, sites)
            allowed = torch.nn.functional.pad(values["allowed"], (0, 1))
            drawn = sample_in_order(
                net.mpnn,
                encoding.map(lambda x: x.contiguous()),
                member_table(site, resolved, sites),
                given,
                random_rank(key.at(stream="order"), given < 0),
                allowed,
                values["temperature"],
                key.at(stream="tokens").uniform(sites, torch.float64),
            )
            state = template.replace(tokens=torch.where(template.masks["tokens"], drawn, 0))
            if self.score:
                found = score_designs(denoiser, state, self.score, seed=seed, encoding=encoding)
                state = state.replace(score=found)
        if on_step is not None:
            calls = self.network_calls
            on_step(Step(0, 1.0, 0.0, state, {}, {}, {}, calls, 1, seed))
        return state


def residues_of(state: State) -> Tensor:
    """Class of each residue, int64 ``[b, L]``: as given, or that of its token."""
    given, tokens = state["given"], state["tokens"]
    drawn = tokens if "site" not in state.values else tokens.gather(1, state["site"])
    return torch.where(given >= 0, given, drawn)


def score_designs(
    denoiser: Denoiser, state: State, calls: int, *, seed: int, encoding: Encoding | None = None
) -> Tensor:
    """Mean log-likelihood of a designed residue, nats, float64 ``[b]``; see the module docstring.

    Args:
        denoiser: Of inverse folding.
        state: Finished sequences with their conditions.
        calls: Orders (causal decoder) or blocks (full decoder).
        seed: Of the orders.
        encoding: Of the structures, if it is known already.
    """
    net, key = denoiser.net, Key(seed, state.ids).at(stream="score")
    assert isinstance(net, FoldingNet)
    if encoding is None:
        encoding = net.encode(state.values)
    given, resolved = state["given"], state["resolved"]
    designed = (given < 0) & resolved
    if net.causal:
        residues = torch.where(resolved, residues_of(state), AMINO)
        total: Tensor | float = 0.0
        for order in range(calls):
            rank = random_rank(key.at(step=order), designed)
            rank = _by_site(rank, state)
            log_p = teacher_forced(net.mpnn, encoding, residues, rank)
            total = total + _mean(log_p, residues, designed)
        assert isinstance(total, Tensor)
        return total / calls
    return _block_score(net, state, calls, key, encoding)


def _by_site(rank: Tensor, state: State) -> Tensor:
    """The rank of the first residue of each token, for all residues of it."""
    if "site" not in state.values:
        return rank
    sites = state["tokens"].shape[1]
    first = rank.new_full((len(rank), sites), torch.inf)
    return first.scatter_reduce(1, state["site"], rank, "amin").gather(1, state["site"])


def _mean(log_p: Tensor, residues: Tensor, count: Tensor) -> Tensor:
    """Mean ``[b]`` of the log-probabilities ``[b, L, K]`` of ``residues`` where ``count``."""
    own = log_p.double().gather(-1, residues.unsqueeze(-1)).squeeze(-1)
    return torch.where(count, own, 0).sum(1) / count.sum(1).clamp(min=1)


def _block_score(
    net: FoldingNet, state: State, blocks: int, key: Key, encoding: Encoding
) -> Tensor:
    tokens, sites = state["tokens"], state["tokens"].shape[1]
    site = state.values.get("site")
    if site is None:
        site = torch.arange(sites, device=tokens.device).expand_as(tokens)
    known = site_given(state["given"], site, state["resolved"], sites) >= 0
    mask = state.mask("tokens")
    free = ~known if mask is None else ~known & mask
    rank = key.uniform(sites, torch.float64).masked_fill(~free, torch.inf)
    place = torch.argsort(torch.argsort(rank, dim=1, stable=True), dim=1)
    count = free.sum(1, keepdim=True).clamp(min=1)
    block = torch.where(free, place * blocks // count, -1)
    aside = ("temperature", "allowed", "tokens")
    cond: dict[str, Any] = {k: v for k, v in state.values.items() if k not in aside}
    cond["encoding"] = encoding
    total = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
    for m in range(blocks):
        shown = torch.where(block >= m, AMINO, tokens)
        label = torch.zeros(len(tokens), device=tokens.device)
        logits = net({"tokens": shown}, label, state.masks, cond)["tokens"][..., :AMINO]
        log_p = torch.log_softmax(logits.double(), -1)
        own = log_p.gather(-1, tokens.clamp(max=AMINO - 1).unsqueeze(-1)).squeeze(-1)
        total = total + torch.where(block == m, own, 0).sum(1)
    return total / count.squeeze(1)


def structure_likelihood(
    backbone: Backbone,
    sequences: Sequence[str],
    net: MPNN,
    *,
    orders: int = 4,
    seed: int = 0,
    designed: NDArray[np.bool_] | None = None,
    batch_size: int = 16,
) -> NDArray[np.float64]:
    """How well sequences fit a backbone: mean log-likelihood of a residue under ProteinMPNN.

    The published network serves as a judge that no tuner of another model has seen; with the
    weights that a model was trained from it is not independent of that model.

    Args:
        backbone: The structure.
        sequences: Of the backbone's length; ``/`` between chains may be there.
        net: The autoregressive network, from :func:`graphdiff.sequence.convert_mpnn.load_mpnn`.
        orders: Random orders that are averaged; they are the same for all sequences.
        seed: Of the orders.
        designed: Residues that count, bool ``[L]``; the others come first in every order. All of
            those with coordinates by default.
        batch_size: Sequences that are computed at once.

    Returns:
        Nats, ``[n]``; ``exp`` of its negative is the perplexity.

    Raises:
        ArgumentError: A sequence has another length or unknown letters, or a count is not
            positive.
    """
    if orders < 1 or batch_size < 1:
        raise ArgumentError(f"orders and batch_size must be positive: {orders}, {batch_size}")
    rows = [backbone.encode(sequence) for sequence in sequences]
    if not rows:
        return np.zeros(0)
    device = next(net.parameters()).device
    batch = collate([backbone])
    parts = (batch.coords, batch.resolved, batch.position, batch.chain)
    counts = torch.from_numpy(backbone.mask if designed is None else designed & backbone.mask)
    counts = counts[None].to(device)
    key = Key(seed, torch.zeros(1, dtype=torch.int64, device=device)).at(stream="score")
    found: list[NDArray[np.float64]] = []
    with torch.no_grad():
        encoding = net.encode(*(x.to(device) for x in parts))
        ranks = [random_rank(key.at(step=k), counts) for k in range(orders)]
        for start in range(0, len(rows), batch_size):
            some = torch.from_numpy(np.stack(rows[start : start + batch_size])).to(device)
            shared = encoding.repeated(len(some))
            total = torch.zeros(len(some), dtype=torch.float64, device=device)
            for rank in ranks:
                log_p = teacher_forced(net, shared, some, rank.expand(len(some), -1))
                total += _mean(log_p, some, counts.expand_as(some))
            found.append((total / orders).cpu().numpy())
    return np.concatenate(found)
