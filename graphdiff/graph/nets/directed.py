r"""A directed graph network that predicts a number of an architecture, noisy or clean.

One layer passes messages along the wires and against them, each with weights of its own,

.. math:: h \leftarrow \mathrm{ReLU}\Bigl(\tfrac12\bigl(\hat A\, h\, W_\to
        + \hat A^\top h\, W_\leftarrow\bigr)\Bigr),

with wires and self-loops divided by the number of what is read. The mean over the places, the
clock and, if there is one, a code of the task go through an MLP (An et al., 2024, arXiv
2305.16943, appendix C; the directed network is that of Wen et al., 2020, arXiv 1912.00848).
Types come as weights, so that the answer can be differentiated by a noisy architecture.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from graphdiff.graph.nets.pair_transformer import clock_features

__all__ = ["DirectedGCN"]


class DirectedGCN(nn.Module):
    """The predictor; see the module docstring.

    Args:
        types: Classes (or channels) of a place.
        layers: Number of layers.
        width: Of the places.
        hidden: Of the MLP.
        dropout: In training.
        task: Width of the code of a task; 0 for none.
        outputs: Numbers that are predicted.
    """

    def __init__(
        self,
        types: int,
        *,
        layers: int = 4,
        width: int = 144,
        hidden: int = 128,
        dropout: float = 0.1,
        task: int = 0,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        sizes = [types, *(width,) * layers]
        pairs = list(pairwise(sizes))
        self.along = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
        self.against = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
        self.dropout = nn.Dropout(dropout)
        self.clock = nn.Linear(32, width)
        self.head = nn.Sequential(
            nn.Linear(2 * width + task, hidden), nn.SiLU(), nn.Linear(hidden, outputs)
        )

    def forward(self, ops: Tensor, wires: Tensor, t: Tensor, task: Tensor | None = None) -> Tensor:
        """Predictions ``[b, outputs]``.

        Args:
            ops: Weights (or values) of the places ``[b, n, types]``.
            wires: Weights of the wires ``[n, n]`` or ``[b, n, n]``.
            t: Clock ``[b]``; 0 for clean architectures.
            task: Codes ``[b, task]``.
        """
        wires = wires.to(ops.dtype)
        loops = wires + torch.eye(wires.shape[-1], dtype=ops.dtype, device=ops.device)
        into = loops.transpose(-1, -2)
        into = into / into.sum(-1, keepdim=True).clamp(min=1e-6)
        back = loops / loops.sum(-1, keepdim=True).clamp(min=1e-6)
        h = ops
        for along, against in zip(self.along, self.against, strict=True):
            h = torch.relu(0.5 * (into @ along(h) + back @ against(h)))
            h = self.dropout(h)
        parts = [h.mean(1), self.clock(clock_features(t.to(ops.dtype), 32))]
        if task is not None:
            parts.append(task)
        found: Tensor = self.head(torch.cat(parts, -1))
        return found
