r"""Message passing on padded batches: GIN, and GINE for graphs whose edges have classes.

.. math::
    \text{GIN (Xu et al., 2019):}\quad h_i' = \mathrm{MLP}\bigl((1 + \epsilon) h_i +
        \textstyle\sum_j A_{ij} h_j\bigr), \qquad
    \text{GINE (Hu et al., 2020):}\quad \textstyle\sum_j A_{ij}\,\mathrm{ReLU}(h_j + e_{ij}).

With classes of edges :math:`\sum_j A_{ij}\,\mathrm{ReLU}(h_j + e_{ij}) = \sum_c A_c\,
\mathrm{ReLU}(h + e_c)`: one product of matrices for each class, and nothing on pairs. Features may
have axes between nodes and channels (views, eigenvectors), which are carried along.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["GINLayer", "GINStack", "FirstBatchNorm", "aggregate"]

LEAST_VARIANCE = 1e-7
"""Channels that vary less are as good as constant, and rounding is not to be blown up."""


def aggregate(adj: Tensor, h: Tensor) -> Tensor:
    """``sum_j A_ij h_j`` for ``adj [b, n, n]`` and ``h [b, n, ..., c]``."""
    return torch.matmul(adj, h.flatten(2)).view_as(h)


class FirstBatchNorm(nn.Module):
    """An affine map that makes the first training batch standard, and is learnt from there on.

    Data-dependent initialisation (Salimans & Kingma, 2016, arXiv 1602.07868) in place of batch
    normalisation: every entry is mapped on its own, in training as afterwards, so that neither
    padding nor batch mates matter and a Lipschitz network stays one.

    Args:
        width: Channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))

    def forward(self, h: Tensor, real: Tensor) -> Tensor:
        """``h [b, ..., width]`` with weights ``real [b, ..., 1]``, 1 where an entry is real."""
        mean, scale = self.get_buffer("mean"), self.get_buffer("scale")
        if self.training and not bool(self.get_buffer("ready")):
            with torch.no_grad():
                axes = tuple(range(h.ndim - 1))
                share = real / real.sum().clamp(min=1)
                mean.copy_((h * share).sum(axes))
                scale.copy_((((h - mean).square() * share).sum(axes) + LEAST_VARIANCE).rsqrt())
                self.get_buffer("ready").fill_(True)
        return torch.addcmul(self.bias, h - mean, self.weight * scale)


class GINLayer(nn.Module):
    """One layer with two linear maps.

    Args:
        inputs: Channels in.
        outputs: Channels out and between.
        kinds: Classes of edges (GINE); 0 for plain edges (GIN).
        norm: Whether a :class:`FirstBatchNorm` follows the first map.
    """

    def __init__(self, inputs: int, outputs: int, *, kinds: int = 0, norm: bool = False) -> None:
        super().__init__()
        self.epsilon = nn.Parameter(torch.zeros(()))
        self.kinds = nn.Parameter(torch.zeros(kinds, inputs)) if kinds else None
        if self.kinds is not None:
            nn.init.normal_(self.kinds, std=0.1)
        self.first, self.last = nn.Linear(inputs, outputs), nn.Linear(outputs, outputs)
        self.norm = FirstBatchNorm(outputs) if norm else None
        self.residual = inputs == outputs

    def forward(self, h: Tensor, adj: Tensor, real: Tensor) -> Tensor:
        """``h [b, n, ..., inputs]`` to ``[b, n, ..., outputs]``.

        Args:
            h: Features.
            adj: ``[b, n, n]``, or ``[b, kinds, n, n]`` with classes of edges.
            real: 1 where an entry is real, else 0, ``[b, n, ..., 1]``.
        """
        if self.kinds is None:
            heard = aggregate(adj, h)
        else:
            told = [torch.relu(h + self.kinds[c]) for c in range(len(self.kinds))]
            heard = torch.stack([aggregate(adj[:, c], x) for c, x in enumerate(told)]).sum(0)
        inside: Tensor = self.first((1 + self.epsilon) * h + heard)
        if self.norm is not None:
            inside = self.norm(inside, real)
        out: Tensor = self.last(torch.relu(inside))
        return h + out if self.residual else out


class GINStack(nn.Module):
    """Layers with a ReLU between them.

    Args:
        inputs: Channels in.
        hidden: Channels out.
        layers: Number of layers.
        kinds: Classes of edges; 0 for plain ones.
        norm: Whether layers are normalised.
    """

    def __init__(
        self, inputs: int, hidden: int, layers: int, *, kinds: int = 0, norm: bool = False
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            GINLayer(inputs if k == 0 else hidden, hidden, kinds=kinds, norm=norm)
            for k in range(layers)
        )

    def forward(self, h: Tensor, adj: Tensor, real: Tensor) -> Tensor:
        """``h [b, n, ..., inputs]`` to ``[b, n, ..., hidden]``; see :class:`GINLayer`."""
        for k, layer in enumerate(self.layers):
            h = layer(torch.relu(h) if k else h, adj, real)
        return h
