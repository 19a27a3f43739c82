"""A graph network that is told the embedding of a prompt, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Prompted"]


class Prompted(nn.Module):
    """Adds the embedding of a prompt to the graph stream of a network.

    Args:
        net: A network that takes a condition vector ``[b, width]``.
        dim: Length of an embedding; 0 for a network that is never told anything.
        width: Length of the condition vector.
    """

    def __init__(self, net: nn.Module, dim: int, width: int) -> None:
        super().__init__()
        self.net = net
        self.text = nn.Sequential(nn.Linear(dim, width), nn.SiLU(), nn.Linear(width, width))
        self.silence = nn.Parameter(torch.zeros(width))

    def forward(
        self,
        values: Mapping[str, Tensor],
        label: Tensor,
        masks: Mapping[str, Tensor],
        cond: Any = None,
    ) -> dict[str, Tensor]:
        """Raw outputs of the network; ``cond["text"]`` is ``[b, dim]``, ``cond["told"]`` ``[b]``.

        Without an embedding, or where ``told`` is False, the network is told nothing.
        """
        given = cond or {}
        vector = self.silence.expand(len(label), -1)
        if "text" in given:
            said = self.text(given["text"].to(label.dtype))
            told = given.get("told")
            vector = said if told is None else torch.where(told.unsqueeze(-1), said, vector)
        out: dict[str, Tensor] = self.net(values, label, masks, vector)
        return out
