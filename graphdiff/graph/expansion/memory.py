"""How much memory growing a batch takes, and refusing before it runs out.

At the last level a graph of ``n`` nodes and ``m`` edges has about ``n`` children, ``1.6 m``
candidate edges and their triangles. A layer holds a few rows of features for each of them, and
nothing is kept between layers, so the peak is a constant number of bytes for each node and edge.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphdiff.core.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["available_gib", "estimate_gib", "require_memory"]


def estimate_gib(
    nodes: int, *, hidden: int, pair: int, triangle: int, degree: float = 6.0
) -> float:
    """Peak of the tensors of one network call on ``nodes`` nodes in all, in GiB.

    Args:
        nodes: Final nodes of all graphs of the batch together.
        hidden: Node features of the network.
        pair: Features of candidate edges.
        triangle: Channels of the triangle products.
        degree: Mean degree; 6 is that of a triangulation.
    """
    pairs = 0.8 * degree * nodes
    triangles = 1.2 * degree * nodes
    rows = pairs * (5 * (2 * pair + hidden) + 4 * pair) + triangles * 5 * triangle
    heads = 0.6 * pairs * 15 * 32 * 3
    return 4.0 * (rows + heads + 12 * hidden * nodes) / 2**30


def available_gib() -> float:
    """Memory that this process may still take, in GiB; infinite where nobody says."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        kib = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
        return int(kib) / 2**20
    except (OSError, StopIteration):
        if "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", ()):
            return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return float("inf")


def require_memory(net: Any, sizes: Tensor, limit: float = 0.0) -> float:
    """The estimate for graphs of ``sizes`` ``[b]`` in GiB, if that much may be taken.

    Args:
        net: The :class:`graphdiff.graph.nets.expansion.ExpansionNetwork`.
        sizes: Final nodes of each graph of the batch.
        limit: GiB that may be taken; 0 asks the machine (on a GPU its free memory).

    Raises:
        ArgumentError: It needs more; says how much, and how many graphs would fit.
    """
    import torch

    need = estimate_gib(int(sizes.sum()), **net.shape)
    free = limit
    if not free and sizes.device.type == "cuda":
        free = torch.cuda.mem_get_info(sizes.device)[0] / 2**30
    free = free or available_gib()
    if need > free:
        fit = int(len(sizes) * free / need)
        cure = f"lower batch_size to {fit}" if fit else "ask for smaller graphs"
        raise ArgumentError(
            f"{len(sizes)} graphs of up to {int(sizes.max())} nodes need about {need:.1f} GiB and "
            f"{free:.1f} GiB are free; {cure}"
        )
    return need
