r"""Masked sequences of a backbone: :class:`MPNN` as the network of a denoiser.

Tokens are the 20 amino acids and, last, the mask; a token belongs to one residue, or to several
that are tied. Two decoders read them:

``"full"``
    Every residue sees the letters of all its neighbours, the mask being one of them (the masked
    flow of Wang et al., 2025, arXiv 2410.13643, section 6.2).

``"causal"``
    A masked residue sees its visible neighbours, as if it came next in the order of an
    autoregressive model; a visible one sees those visible ones that come before it in a fixed
    scrambled order. The published ProteinMPNN was trained on random orders to do just that, so it
    predicts masked residues without any training on masks.

Conditions of a state, all by residue ``[b, L]`` unless said otherwise: ``coords`` ``[b, L, 4, 3]``,
``resolved``, ``position`` and ``chain`` (:class:`graphdiff.sequence.structure.Batch`); ``given``,
the class of a residue that is not designed (20 for X) and -1 for one that is; and, where needed,
``site``, the token of each residue (its own number if absent), ``temperature`` ``[b]`` and
``allowed`` ``[b, 20]``. Given residues are visible from the start, whatever their tokens say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from graphdiff.core.errors import ArgumentError
from graphdiff.sequence.nets.mpnn import MPNN, Encoding, gather

__all__ = ["AMINO", "FoldingNet", "member_table", "site_given"]

AMINO = 20
"""Amino acids; as a class of a residue it is X, as a class of a token the mask."""
NEVER = -1e9
EDGES = 1 << 17
"""Edges that are worked on at once where no gradient is wanted: 64 MiB at width 128."""
NEEDED = ("coords", "resolved", "position", "chain", "given")


class FoldingNet(nn.Module):
    """Logits of the clean amino acid of each token, from tokens and structure.

    Args:
        decoder: ``"full"`` or ``"causal"``, see the module docstring.
        **shape: Of :class:`MPNN`.
    """

    def __init__(self, decoder: Literal["full", "causal"] = "full", **shape: Any) -> None:
        super().__init__()
        self.causal = decoder == "causal"
        self.mpnn = MPNN(AMINO + 1 if self.causal else AMINO + 2, **shape)

    def encode(self, cond: Mapping[str, Any]) -> Encoding:
        """What the decoder reads of the structures; equal structures are encoded once.

        Raises:
            ArgumentError: A condition is missing.
        """
        _check(cond)
        inputs = [cond[name] for name in NEEDED[:4]]
        batch = len(inputs[0])
        # Not in training: its structures differ, and looking would wait for the device. A frozen
        # network is asked with gradients on, too: by guidance, and as the reference of a tuning.
        learns = any(x.requires_grad for x in (*self.mpnn.parameters(), *inputs))
        if (learns and torch.is_grad_enabled()) or batch == 1:
            return self.mpnn.encode(*inputs)
        if all(bool((x == x[:1]).all()) for x in inputs):
            return self.mpnn.encode(*(x[:1] for x in inputs)).repeated(batch)
        rows = torch.cat([x.reshape(batch, -1).double() for x in inputs], 1)
        kinds, kind = torch.unique(rows, dim=0, return_inverse=True)
        if len(kinds) < batch:
            place = torch.arange(batch, device=kind.device)
            first = place.new_full((len(kinds),), batch).scatter_reduce(0, kind, place, "amin")
            return self.mpnn.encode(*(x[first] for x in inputs)).map(lambda x: x[kind])
        return self.mpnn.encode(*inputs)

    def forward(
        self,
        values: Mapping[str, Tensor],
        label: Tensor,
        masks: Mapping[str, Tensor],
        cond: Mapping[str, Any] | None,
    ) -> dict[str, Tensor]:
        """Logits ``[b, G, 21]``; the last is 0, :class:`graphdiff.core.denoiser.Subs` excludes it.

        Args:
            values: ``tokens``: classes int64 ``[b, G]`` or class weights ``[b, G, 21]``.
            label: Time; not read, since masks tell it.
            masks: Not read: padding has no coordinates.
            cond: Conditions, see the module docstring, and perhaps their ``encoding``.

        Raises:
            ArgumentError: A condition is missing.
        """
        told = dict(cond or {})
        _check(told)
        tokens = values["tokens"]
        length = told["coords"].shape[1]
        each = length * min(self.mpnn.features.neighbours, length)
        chunk = max(1, EDGES // max(each, 1))
        if torch.is_grad_enabled() or len(tokens) <= chunk:
            return {"tokens": self._logits(tokens, told)}
        parts = []
        for start in range(0, len(tokens), chunk):
            here = slice(start, start + chunk)
            some = {
                k: v.map(lambda x, here=here: x[here]) if isinstance(v, Encoding) else v[here]
                for k, v in told.items()
            }
            parts.append(self._logits(tokens[here], some))
        return {"tokens": torch.cat(parts)}

    def _logits(self, tokens: Tensor, cond: Mapping[str, Any]) -> Tensor:
        encoding = cond.get("encoding")
        if encoding is None:
            encoding = self.encode(cond)
        given, site = cond["given"], cond.get("site")
        if not tokens.is_floating_point():
            tokens = functional.one_hot(tokens, AMINO + 1).to(encoding.nodes.dtype)
        sites = tokens.shape[1]
        weights = tokens if site is None else gather(tokens, site)
        if weights.shape[1] != given.shape[1]:
            raise ArgumentError(
                f"{sites} tokens and {given.shape[1]} residues need the condition 'site', the "
                "token of each residue"
            )
        letters, hidden = self._letters(weights, given)
        seen = self._seen(encoding, hidden, given) if self.causal else None
        logits = self.mpnn.decode(encoding, letters, seen)[..., :AMINO]
        resolved = encoding.resolved
        if site is not None:
            logits = _site_mean(logits, site, resolved, sites)
            given = site_given(given, site, resolved, sites)
        logits = _constrain(logits, given, cond.get("allowed"), cond.get("temperature"))
        return functional.pad(logits, (0, 1))

    def _letters(self, weights: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Embedded letters ``[b, L, H]``, and how much a residue is masked ``[b, L]``."""
        fixed = given >= 0
        kept = functional.one_hot(given.clamp(min=0), AMINO + 1).to(weights.dtype)
        amino = torch.where(fixed.unsqueeze(-1), kept[..., :AMINO], weights[..., :AMINO])
        unknown = torch.where(fixed, kept[..., AMINO], 0.0)
        hidden = torch.where(fixed, 0.0, weights[..., AMINO])
        parts = [amino, unknown.unsqueeze(-1)]
        if not self.causal:
            parts.append(hidden.unsqueeze(-1))
        return torch.cat(parts, -1) @ self.mpnn.letters.weight, hidden

    def _seen(self, encoding: Encoding, hidden: Tensor, given: Tensor) -> Tensor:
        """How much each residue sees of its neighbours, ``[b, L, K]``."""
        index = encoding.neighbours
        visible = 1 - hidden
        length = hidden.shape[1]
        # Multiplicative hashing: an order that does not depend on the length. Given ones first.
        place = torch.arange(length, device=hidden.device)
        rank = place * 2654435761 % (1 << 32) + (given < 0).to(torch.int64) * (1 << 32)
        before = gather(rank.unsqueeze(-1), index).squeeze(-1) < rank.unsqueeze(-1)
        other = gather(visible.unsqueeze(-1), index).squeeze(-1)
        itself = index == place[:, None]
        own = visible.unsqueeze(-1)
        return torch.where(itself, 0.0, other * ((1 - own) + own * before.to(own.dtype)))


def _check(cond: Mapping[str, Any]) -> None:
    if missing := [name for name in NEEDED if name not in cond]:
        raise ArgumentError(
            f"the network of inverse folding needs the conditions {', '.join(missing)}: the state "
            "must carry a backbone; make it with InverseFoldingTask.template"
        )


def _site_mean(logits: Tensor, site: Tensor, resolved: Tensor, sites: int) -> Tensor:
    """Mean logits ``[b, G, 20]`` of the residues of each token."""
    share = resolved.to(logits.dtype).unsqueeze(-1)
    place = site.unsqueeze(-1)
    total = logits.new_zeros(len(site), sites, logits.shape[-1])
    total = total.scatter_add(1, place.expand_as(logits), logits * share)
    count = logits.new_zeros(len(site), sites, 1).scatter_add(1, place, share)
    return total / count.clamp(min=1)


def site_given(given: Tensor, site: Tensor, resolved: Tensor, sites: int) -> Tensor:
    """Class of each token that is not designed, ``[b, G]``; -1 for one that is.

    Args:
        given: The same of each residue ``[b, L]``; those of one token agree where resolved.
        site: Token of each residue ``[b, L]``.
        resolved: Whether a residue has coordinates, bool ``[b, L]``.
        sites: Number of tokens ``G``.
    """
    start = given.new_full((len(given), sites), -1)
    return start.scatter_reduce(1, site, torch.where(resolved, given, -1), "amax")


def _constrain(
    logits: Tensor, given: Tensor, allowed: Tensor | None, temperature: Tensor | None
) -> Tensor:
    if allowed is not None:
        logits = logits.masked_fill(~allowed.unsqueeze(1), NEVER)
    if temperature is not None:
        degrees = temperature.to(logits.dtype).reshape(-1, 1, 1)
        best = torch.where(logits == logits.amax(-1, keepdim=True), 0.0, NEVER)
        logits = torch.where(degrees > 0, logits / degrees.clamp(min=1e-4), best)
    forced = (given >= 0) & (given < AMINO)
    kept = functional.one_hot(given.clamp(0, AMINO - 1), AMINO).to(torch.bool)
    only = torch.where(kept, 0.0, NEVER).to(logits.dtype)
    return torch.where(forced.unsqueeze(-1), only, logits)


def member_table(site: Tensor, real: Tensor, sites: int) -> Tensor:
    """Residues of each token, int64 ``[b, G, M]``, -1 where there are fewer than ``M``.

    Args:
        site: Token of each residue ``[b, L]``.
        real: Whether a residue counts, bool ``[b, L]``.
        sites: Number of tokens ``G``.
    """
    count = site.new_zeros(len(site), sites).scatter_add(1, site, real.to(torch.int64))
    most = max(1, int(count.max()))
    # Residues sorted by token; the rank within the token is the place minus that of the first.
    key = torch.where(real, site, sites)
    order = torch.argsort(key, dim=1, stable=True)
    owner = key.gather(1, order)
    first = functional.pad(count.cumsum(1), (1, 0))
    within = torch.arange(site.shape[1], device=site.device) - first.gather(1, owner)
    table = site.new_full((len(site), sites + 1, most), -1)
    rows = torch.arange(len(site), device=site.device)[:, None].expand_as(owner)
    keep = owner < sites
    table[rows[keep], owner[keep], within[keep]] = order[keep]
    return table[:, :sites]
