r"""What the network is told about the coarse graphs besides their edges; linear in the edges.

With :math:`P = D^{-1} A` the random walk: return probabilities after two and three steps,
:math:`(P^2)_{ii} = \sum_{j \sim i} 1/(d_i d_j)` and :math:`(P^3)_{ii} = \sum 2/(d_i d_j d_k)` over
the triangles at ``i``, and for an edge :math:`1/\sqrt{d_i d_j}` and
:math:`\sum_k 1/\sqrt{d_i d_j}d_k` over its triangles. Longer walks fill in, so the global place of
a node is told by low Laplacian eigenvectors :math:`u`, only in forms that a change of sign leaves
alone: :math:`n u_i^2` at nodes, :math:`n u_i u_j` and :math:`n (u_i - u_j)^2` at edges.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.graph.expansion.triangles import corners

__all__ = ["edge_features", "edge_width", "node_features", "node_width"]


def node_width(modes: int) -> int:
    """Number of features of a node with ``modes`` eigenvectors."""
    return 3 + modes


def edge_width(modes: int) -> int:
    """Number of features of an edge with ``modes`` eigenvectors."""
    return 2 + 2 * modes


def node_features(edges: Tensor, counts: Tensor, modes: Tensor, found: Tensor) -> Tensor:
    """Features ``[p, 3 + r]`` of the nodes of packed graphs, float32.

    Args:
        edges: Edges of the union ``[m, 2]``.
        counts: Nodes of each graph ``[b]``.
        modes: Eigenvectors ``[p, r]``.
        found: Its triangles as edge numbers ``[t, 3]``.
    """
    inverse, (i, j) = _inverse(edges, len(modes)), edges.unbind(1)
    zero, both = torch.zeros_like(inverse), inverse[i] * inverse[j]
    two = zero.index_add(0, i, both).index_add(0, j, both)
    nodes = corners(edges, found)
    weight = 2 * inverse[nodes].prod(1)
    three = zero.index_add(0, nodes.flatten(), weight.repeat_interleave(3))
    degree = torch.bincount(edges.flatten(), minlength=len(modes)).float()
    scaled = modes.square() * _size(counts).unsqueeze(1)
    return torch.cat([torch.stack([torch.log1p(degree), two, three], 1), scaled], 1)


def edge_features(edges: Tensor, counts: Tensor, modes: Tensor, found: Tensor) -> Tensor:
    """Features ``[m, 2 + 2 r]`` of the edges; arguments as of :func:`node_features`."""
    inverse, (i, j) = _inverse(edges, len(modes)), edges.unbind(1)
    root = (inverse[i] * inverse[j]).sqrt()
    nodes = corners(edges, found)
    common = torch.zeros_like(root)
    for side in found.unbind(1):
        # The third corner is the one that is no end of this side.
        weight = inverse[nodes].prod(1) / root[side].square()
        common = common.index_add(0, side, weight)
    u, v, size = modes[i], modes[j], _size(counts)[i].unsqueeze(1)
    plain = torch.stack([root, root * common], 1)
    return torch.cat([plain, size * u * v, size * (u - v).square()], 1)


def _inverse(edges: Tensor, p: int) -> Tensor:
    return 1 / torch.bincount(edges.flatten(), minlength=p).clamp(min=1).float()


def _size(counts: Tensor) -> Tensor:
    """Number of nodes of the graph of each node, float ``[p]``."""
    return torch.repeat_interleave(counts, counts).float()
