r"""Networks on whole graphs with an encoding at their nodes.

.. math:: h^0_i = U x_i + R\,p_i, \qquad h^{l+1} = \mathrm{GIN}_l(h^l + R_l\,p), \qquad
    y = \mathrm{MLP}\bigl[\textstyle\sum_i h_i / \bar n,\; \max_i h_i\bigr],

the encoding :math:`p` being added at the input and again before every layer, as published for SPE.
Without an encoder this is a GIN, no stronger than colour refinement (1-WL).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.encoding.gin import FirstBatchNorm, GINLayer
from graphdiff.graph.encoding.laplacian import Eigenvectors
from graphdiff.graph.encoding.signnet import SignNet
from graphdiff.graph.encoding.spe import SPE, LightSPE
from graphdiff.graph.encoding.spectrum import Spectrum
from graphdiff.graph.encoding.walks import RandomWalks

__all__ = ["ENCODERS", "GraphNetwork", "build", "encoder"]

ENCODERS = ("none", "laplacian", "rwpe", "signnet", "spe", "light-spe")


def encoder(name: str) -> nn.Module | None:
    """An encoder with its default shape, initialised from torch's global generator.

    Raises:
        ArgumentError: There is none of this name.
    """
    makers: dict[str, Callable[[], nn.Module]] = {
        "laplacian": Eigenvectors, "rwpe": RandomWalks, "signnet": SignNet, "spe": SPE,
        "light-spe": LightSPE,
    }  # fmt: skip
    if name not in ENCODERS:
        raise ArgumentError(f"no encoder {name!r}; there are {', '.join(ENCODERS)}")
    return makers[name]() if name in makers else None


class GraphNetwork(nn.Module):
    """Outputs for each graph (see the module docstring).

    Args:
        encode: An encoder with the attribute ``width``, or None.
        outputs: Outputs of a graph.
        inputs: Features of a node; 0 for graphs without.
        kinds: Classes of edges; 0 for plain ones.
        hidden: Channels.
        layers: Layers.
        scale: Mean number of nodes, by which sums over them are divided.
    """

    def __init__(
        self,
        encode: nn.Module | None,
        outputs: int,
        *,
        inputs: int = 0,
        kinds: int = 0,
        hidden: int = 48,
        layers: int = 4,
        scale: float = 20.0,
    ) -> None:
        super().__init__()
        self.encode, self.scale, self.outputs = encode, scale, outputs
        self.first = nn.Linear(inputs + 1, hidden)
        self.norm = FirstBatchNorm(int(encode.width)) if encode is not None else None  # type: ignore[arg-type]
        width = int(encode.width) if encode is not None else 0  # type: ignore[arg-type]
        self.reads = nn.ModuleList(
            nn.Linear(width, hidden, bias=False) for _ in range(layers if encode else 0)
        )
        self.layers = nn.ModuleList(
            GINLayer(hidden, hidden, kinds=kinds, norm=True) for _ in range(layers)
        )
        self.out = nn.Sequential(
            nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
        )

    def nodes(
        self, adj: Tensor, mask: Tensor, spectrum: Spectrum, x: Tensor | None = None
    ) -> Tensor:
        """Features of nodes after the last layer ``[b, n, hidden]``, zero at padding."""
        real = mask.unsqueeze(2).to(spectrum.vectors.dtype)
        given = [real] if x is None else [real, x]
        h = self.first(torch.cat(given, 2))
        plain = adj if adj.ndim == 3 else adj.sum(1)
        p = None
        if self.encode is not None and self.norm is not None:
            p = self.norm(self.encode(plain, mask, spectrum), real)
        for k, layer in enumerate(self.layers):
            told = h if p is None else h + self.reads[k](p)
            h = layer(torch.relu(told) * real, adj, real)
        return h * real

    def forward(
        self, adj: Tensor, mask: Tensor, spectrum: Spectrum, x: Tensor | None = None
    ) -> Tensor:
        """Outputs ``[b, outputs]``.

        Args:
            adj: ``[b, n, n]``, or ``[b, kinds, n, n]`` with classes of edges.
            mask: Real nodes, bool ``[b, n]``.
            spectrum: Of the batch.
            x: Features of nodes ``[b, n, inputs]``, zero at padding.
        """
        h = self.nodes(adj, mask, spectrum, x)
        low = torch.finfo(h.dtype).min
        top = h.masked_fill(~mask.unsqueeze(2), low).amax(1)
        out: Tensor = self.out(torch.cat([h.sum(1) / self.scale, top], 1))
        return out


def build(name: str, outputs: int, *, seed: int = 0, **shape: int | float) -> GraphNetwork:
    """A network with a named encoder; the global generator is left as it was.

    Args:
        name: One of :data:`ENCODERS`.
        outputs: Outputs of a graph.
        seed: Of the initialisation.
        **shape: Of :class:`GraphNetwork`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GraphNetwork(encoder(name), outputs, **shape)  # type: ignore[arg-type]
