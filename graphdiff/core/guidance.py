r"""Classifier-free guidance (Ho & Salimans, 2022, arXiv 2207.12598) of any network.

With outputs :math:`o(c)` under a condition and :math:`o(\varnothing)` without,

.. math:: o_w = o(\varnothing) + w\,\bigl(o(c) - o(\varnothing)\bigr).

For a score, a noise or clean data this is the guidance of the paper; for logits it is the
normalised product :math:`p(x_0 \mid c)^w\, p(x_0)^{1-w}` (Nisonoff et al., 2024, arXiv 2406.01572,
treat the guidance of rates). Parametrisations that add a term that the condition does not touch
(:class:`~graphdiff.core.denoiser.Bayes`) commute with it, so it acts on raw outputs.

:math:`w = 1` is the conditional model itself, and bit-equal to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["ClassifierFree", "combine"]


def combine(
    told: Mapping[str, Tensor], untold: Mapping[str, Tensor], weight: Tensor
) -> dict[str, Tensor]:
    """``untold + weight (told - untold)`` for each component; ``weight`` is ``[b]``."""
    return {
        name: torch.lerp(o, told[name], weight.to(o.dtype).reshape(-1, *(1,) * (o.ndim - 1)))
        for name, o in untold.items()
    }


class ClassifierFree(nn.Module):
    """A conditional network whose condition can be followed more, or less, than it says.

    The condition is a mapping of tensors ``[b, ...]``. ``told`` (bool ``[b]``) says which samples
    show it to the network; ``guidance`` ``[b]``, if there, is the weight :math:`w`, and both
    evaluations are then made in one call of twice the batch.

    Args:
        net: Called as ``net(values, label, masks, cond)``; ignores what ``told`` hides.
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
        """Guided raw outputs; one evaluation where no weight is given."""
        given = dict(cond or {})
        weight = given.pop("guidance", None)
        if weight is None:
            out: dict[str, Tensor] = self.net(values, label, masks, given)
            return out
        told = given.pop("told", None)
        shown = torch.ones_like(label, dtype=torch.bool) if told is None else told
        twice = {name: torch.cat([v, v]) for name, v in given.items()}
        twice["told"] = torch.cat([shown, torch.zeros_like(shown)])
        both = self.net(
            {name: torch.cat([v, v]) for name, v in values.items()},
            torch.cat([label, label]),
            {name: torch.cat([m, m]) for name, m in masks.items()},
            twice,
        )
        halves = {name: o.chunk(2) for name, o in both.items()}
        return combine(
            {name: h[0] for name, h in halves.items()},
            {name: h[1] for name, h in halves.items()},
            weight,
        )
