r"""Infilling: tokens that are given, for any network, process and solver.

Given tokens are a *condition* of the network, not of the chain. :class:`Infilling` shows the
network the given class wherever there is one, whatever the noisy state holds there, and answers
with certainty there. The prediction of the other tokens is then
:math:`p(x_0^i \mid x_t^{free}, x_0^{given})`, and since a chain moves every token by itself, given
the prediction, the given tokens neither disturb the others nor end as anything else: a step to
:math:`t = 0` draws them from a certainty. Solvers, guidance, tilts and tuners need not know.

With absorbing noise the network was trained on exactly these inputs (visible tokens are clean), so
that a perfect network and an exact solver draw from the conditional law
:math:`p(x^{free} \mid x^{given})` of the data. With uniform or marginal noise the network cannot
tell a given token from one that is noisy by chance, and infilling is approximate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["FREE", "GIVEN", "Infilling"]

GIVEN = "given"
"""Name of the condition: classes int64 ``[b, L]``, :data:`FREE` where a token is generated."""
FREE = -1
SURE = 40.0


class Infilling(nn.Module):
    """A network that knows the tokens that are given; without the condition, the network itself.

    Args:
        net: Called as ``net(values, label, masks, cond)`` with ``tokens`` as classes ``[b, L]`` or
            class weights ``[b, L, K]``.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(
        self,
        values: Mapping[str, Tensor],
        label: Tensor,
        masks: Mapping[str, Tensor],
        cond: Any = None,
    ) -> dict[str, Tensor]:
        """Raw outputs ``{"tokens": [b, L, K]}``, certain at given tokens."""
        told = dict(cond or {})
        given = told.pop(GIVEN, None)
        if given is None:
            out: dict[str, Tensor] = self.net(values, label, masks, cond)
            return out
        fixed, tokens = given != FREE, values["tokens"]
        classes = given.clamp(min=0)
        if tokens.is_floating_point():
            certain = functional.one_hot(classes, tokens.shape[-1]).to(tokens)
            shown = torch.where(fixed.unsqueeze(-1), certain, tokens)
        else:
            shown = torch.where(fixed, classes, tokens)
        out = self.net({**values, "tokens": shown}, label, masks, told or None)
        raw = out["tokens"]
        # Finite, because -inf times the zero of a padding mask would be NaN; and far above zero,
        # because outputs may be log-ratios to the present class, which is zero.
        never = torch.finfo(raw.dtype).min / 4
        other = torch.arange(raw.shape[-1], device=raw.device) != classes.unsqueeze(-1)
        sure = torch.full_like(raw, SURE).masked_fill(other, never)
        return {**out, "tokens": torch.where(fixed.unsqueeze(-1), sure, raw)}
