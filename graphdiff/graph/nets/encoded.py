r"""Positional encodings of noisy graphs, for the node inputs of any graph denoiser.

:class:`NodeEncoding` turns the noisy adjacency into node features :math:`p [b, n, w]`:

* ``"rwpe"``: return probabilities of walks of 1 to 16 steps;
* ``"laplacian"``: eigenvectors 2 to 9 of the normalised Laplacian with their eigenvalues. Signs are
  fixed by the entry of largest modulus; bases of eigenspaces are what the decomposition gives;
* ``"spe"``: :class:`graphdiff.graph.encoding.spe.LightSPE` on the whole spectrum, the same for
  every sign and basis and continuous in the graph.

A linear map of :math:`p`, zero at first, is added to the node stream of a network, so that a fresh
network with an encoding computes what it computes without. Where inputs are numbers themselves
(GDSS) the map makes channels of its own beside them.

Continuous adjacencies may be negative: degrees are sums of moduli (:mod:`~graphdiff.graph.encoding
.spectrum`), and those below one are not divided by, so that small noise stays small. No gradient
goes through a decomposition.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.encoding.laplacian import Eigenvectors, with_fixed_signs
from graphdiff.graph.encoding.spe import LightSPE
from graphdiff.graph.encoding.spectrum import Spectrum, decompose
from graphdiff.graph.encoding.walks import return_probabilities

__all__ = ["Encoding", "NodeEncoding", "node_encoding"]

Encoding = Literal["none", "rwpe", "laplacian", "spe"]

STEPS, MODES, WIDTH = 16, 8, 16


class NodeEncoding(nn.Module):
    """An encoding and the linear map that adds it; see the module docstring.

    Args:
        kind: Which encoding.
        width: Width of what it is added to.

    Raises:
        ArgumentError: There is no such encoding.
    """

    def __init__(self, kind: Encoding, width: int) -> None:
        super().__init__()
        if kind not in ("rwpe", "laplacian", "spe"):
            known = ", ".join(get_args(Encoding))
            raise ArgumentError(f"no encoding {kind!r}; there are {known}")
        self.kind = kind
        self.spe = LightSPE(WIDTH) if kind == "spe" else None
        inside = {"rwpe": STEPS, "laplacian": 2 * MODES, "spe": WIDTH}[kind]
        self.out = nn.Linear(inside, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, adj: Tensor, mask: Tensor) -> Tensor:
        """What is added to the nodes, ``[b, n, width]``, zero at padding.

        Args:
            adj: Symmetric weights of edges ``[b, n, n]``, zero at padding.
            mask: Real nodes, bool ``[b, n]``.
        """
        found: Tensor = self.out(self.features(adj, mask)) * mask.unsqueeze(2)
        return found

    def features(self, adj: Tensor, mask: Tensor) -> Tensor:
        """The encoding itself, before the linear map."""
        if self.kind == "rwpe":
            return return_probabilities(adj, STEPS, least=1.0)
        if self.spe is not None:
            spectrum = decompose(adj, mask, least=1.0)
            found: Tensor = self.spe(adj, mask, spectrum)
            return found
        spectrum = decompose(adj, mask, MODES + 1, least=1.0)
        signed = Spectrum(spectrum.values, with_fixed_signs(spectrum.vectors), spectrum.kept)
        told: Tensor = Eigenvectors(MODES)(adj, mask, signed)
        return told


def node_encoding(kind: Encoding, width: int) -> NodeEncoding | None:
    """The encoding of a configuration; None for ``"none"``.

    Weights are drawn from a copy of torch's global generator, which stays where it was: the rest
    of a network starts from the same weights with an encoding and without.
    """
    if kind == "none":
        return None
    with torch.random.fork_rng(devices=[]):
        return NodeEncoding(kind, width)
