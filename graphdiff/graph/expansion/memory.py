"""How much memory a batch of growing graphs takes, and refusing before it runs out.

A level of graphs with ``n`` nodes in all and mean degree ``d`` has about ``n`` children,
``.72 d n`` candidate edges, ``.75 d n`` triangles and ``.18 d n`` tokens (counted on trees,
``d = 2``, and triangulations, ``d = 5.6``). Sampling holds the rows of one layer, training those
that the backward pass needs of every layer; both are a number of bytes for each node. The last
level is the largest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphdiff.core.errors import ArgumentError
from graphdiff.train.memory import available_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from graphdiff.graph.expansion.config import NetworkConfig

__all__ = ["batch_bytes", "require_memory"]


def batch_bytes(
    nodes: int, degree: float, shape: NetworkConfig, *, training: bool = False
) -> float:
    """Bytes of the tensors of a batch at its last level.

    Args:
        nodes: Final nodes of all graphs of the batch together.
        degree: Their mean degree.
        shape: Of the network.
        training: Count what the backward pass needs.
    """
    pairs, triangles, tokens = 0.72 * degree, 0.75 * degree, 0.18 * degree
    h, p, t = shape.hidden, shape.pair, shape.triangle
    head = tokens * (15 * 32 * 3 + 4 * p)
    if training:
        layer = 8 * h + pairs * (7 * p + 3 * h + 2 * t) + triangles * 6 * t
        return 4.0 * nodes * (shape.layers * layer + head)
    layer = 8 * h + pairs * (8 * p + 4 * h) + triangles * 6 * t
    lists = 8 * (6 + 12 * pairs + 6 * triangles)  # node, pair and triangle numbers, int64
    # Twice: results beside their arguments, and eigenvectors; 1.7 was measured at 5,000 nodes.
    return 2 * nodes * (4.0 * (layer + head) + lists)


def require_memory(sizes: Tensor, degree: float, shape: NetworkConfig, limit: float = 0.0) -> float:
    """The estimate in bytes for growing graphs of ``sizes`` ``[b]``, if that much may be taken.

    Args:
        sizes: Final nodes of each graph of the batch; its device is asked what is free.
        degree: Mean degree of the graphs.
        shape: Of the network.
        limit: GiB that may be taken; 0 asks the device.

    Raises:
        ArgumentError: It needs more; says how much, and how many graphs would fit.
    """
    need = batch_bytes(int(sizes.sum()), degree, shape)
    free = limit * 2**30 or available_bytes(sizes.device)
    if need > free:
        fit = int(len(sizes) * free / need)
        cure = f"lower batch_size to {fit}" if fit else "ask for smaller graphs"
        raise ArgumentError(
            f"{len(sizes)} graphs of up to {int(sizes.max())} nodes need about "
            f"{need / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free; {cure}"
        )
    return need
