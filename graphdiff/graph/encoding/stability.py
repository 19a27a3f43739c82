r"""How much an encoding changes when a graph changes a little.

One edge of a graph is weakened from weight 1 to :math:`1 - s` (:math:`s = 1` removes it). Nodes
keep their numbers, so the identity aligns both graphs (a better permutation would only bring the
encodings closer). With :math:`\Delta L = \lVert L - L' \rVert_F` and the encoding :math:`p`,

.. math:: \text{change} = \lVert p - p' \rVert_F \,/\, \sigma_p, \qquad
          \text{ratio} = \text{change} / \Delta L ,

:math:`\sigma_p` the root mean square over the graphs of :math:`\lVert p - \bar p \rVert_F`, which
makes encodings of any scale comparable. A Lipschitz encoding has a bounded ratio and a change that
vanishes with :math:`s`; one that has to choose a basis jumps however small :math:`s` is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.data.graphs import Graphs
from graphdiff.graph.encoding.laplacian import with_fixed_signs
from graphdiff.graph.encoding.spectrum import Spectrum, decompose, laplacian

__all__ = ["STRENGTHS", "Changes", "edit_changes"]

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 3e-1, 1.0)
Encode = Callable[[Tensor, Tensor, Spectrum], Tensor]
Float = NDArray[np.float64]


@dataclass(frozen=True)
class Changes:
    """What edits of single edges did.

    Attributes:
        strengths: By how much the edge was weakened ``[s]``.
        distance: ``||L - L'||_F`` of each edit ``[g, s]``.
        change: Change of the encoding in units of its spread ``[g, s]``.
    """

    strengths: Float
    distance: Float
    change: Float

    @property
    def ratio(self) -> Float:
        """Change over distance ``[g, s]``."""
        return self.change / self.distance


def _encoded(encode: Encode, adj: Tensor, mask: Tensor) -> Tensor:
    spectrum = decompose(adj, mask)
    signed = Spectrum(spectrum.values, with_fixed_signs(spectrum.vectors), spectrum.kept)
    with torch.no_grad():
        return encode(adj, mask, signed)


def edit_changes(
    encode: Encode,
    graphs: Graphs,
    *,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> Changes:
    """Weaken one random edge of each graph, step by step.

    Eigenvectors are handed over with their entry of largest modulus positive: the convention that
    serves encodings best that depend on signs.

    Args:
        encode: An encoder in float64, as those of :mod:`graphdiff.graph.encoding.network`.
        graphs: Each with an edge.
        strengths: By how much, each above 0 and at most 1.
        seed: Of the edges.

    Raises:
        ArgumentError: A graph has no edge, a strength is out of range, or the encoding is constant.
    """
    if not strengths or min(strengths) <= 0 or max(strengths) > 1:
        raise ArgumentError(f"strengths must be above 0 and at most 1, found {list(strengths)}")
    if len(graphs) == 0 or graphs.num_edges.min() < 1:
        raise ArgumentError("every graph needs an edge to be weakened; leave out those without")
    _, dense, real = graphs.dense()
    adj, mask = torch.from_numpy((dense > 0).astype(np.float64)), torch.from_numpy(real)
    rng = np.random.default_rng(seed)
    chosen = graphs.edge_ptr[:-1] + rng.integers(graphs.num_edges)
    i, j = torch.from_numpy(graphs.edges[chosen].astype(np.int64)).unbind(1)
    g = torch.arange(len(graphs))
    before = _encoded(encode, adj, mask)
    spread = _spread(before, mask)
    distance, change = [], []
    for strength in strengths:
        other = adj.clone()
        other[g, i, j] = other[g, j, i] = 1 - strength
        moved = laplacian(other) - laplacian(adj)
        distance.append(moved.flatten(1).norm(dim=1).numpy())
        after = _encoded(encode, other, mask)
        change.append(((after - before).flatten(1).norm(dim=1) / spread).numpy())
    return Changes(np.array(strengths), np.stack(distance, 1), np.stack(change, 1))


def _spread(p: Tensor, mask: Tensor) -> float:
    """Root mean square over the graphs of the norm of centred encodings."""
    mean = p[mask].mean(0)
    centred = (p - mean) * mask.unsqueeze(2)
    found = float(centred.square().sum((1, 2)).mean().sqrt())
    if not found > 1e-9:
        raise ArgumentError(
            "the encoding is the same at every node, so changes of it have no scale; take other "
            "graphs or another encoding"
        )
    return found
