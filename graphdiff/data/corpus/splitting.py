r"""Who trains and who tests: whole networks, or regions of one network without a common node.

Networks of one group (snapshots of one grid, the two hemispheres of one brain) stay together. A
domain with three groups or more is split by group, 80/10/10; groups of small networks, which could
give only few different subgraphs, train. In a smaller domain each network is cut into regions: the
test region grows breadth-first from random nodes to a tenth of the nodes, then the validation
region to another tenth, the rest trains, and edges between regions are dropped. Of a group, the
largest network is cut and the others are left out, because their regions would overlap. A network
with too few nodes for that trains; if that holds for all networks of a domain and there are two,
one trains and one tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import DataError
from graphdiff.data.corpus.network import Network, ranges

__all__ = ["SHARES", "SPLITS", "assign", "cut", "stream"]

Int = NDArray[np.int64]

SPLITS = ("train", "val", "test")
SHARES = (0.8, 0.1, 0.1)
# A region is worth having if it has this many times the nodes of the smallest subgraph, a network
# worth testing on if it has this many times those of the largest.
_LEAST = 4
_PATCHES = 8


def stream(seed: int, *names: str) -> np.random.Generator:
    """A random generator of its own for some names: adding a network changes no other."""
    return np.random.default_rng([seed, *(crc32(name.encode()) for name in names)])


def assign(
    groups: Sequence[str],
    sizes: Sequence[int],
    nodes: tuple[int, int],
    rng: np.random.Generator,
    how: str = "network",
) -> tuple[str, list[tuple[str, ...]]]:
    """Decides how a domain is split.

    Args:
        groups: Group of each network.
        sizes: Nodes of each network.
        nodes: Smallest and largest number of nodes of a subgraph.
        rng: Order of the groups.
        how: "network", or "regions" to cut every domain into regions.

    Returns:
        How the domain is split ("network", "regions", "two networks", "train only"), and for each
        network the splits that it gives subgraphs to, none if it is left out.
    """
    names = [str(g) for g in rng.permutation(sorted(set(groups)))]
    ten = max(1, round(SHARES[2] * len(names)))
    if how == "network" and len(names) >= 3:
        rich = {g for g, n in zip(groups, sizes, strict=True) if n >= _LEAST * nodes[1]}
        testable = [g for g in names if g in rich]
        if len(testable) < 2 * ten + 1:
            testable = names
        part = dict.fromkeys(names, "train")
        part |= dict.fromkeys(testable[:ten], "test")
        part |= dict.fromkeys(testable[ten : 2 * ten], "val")
        return "network", [(part[g],) for g in groups]
    large = [SHARES[2] * n >= _LEAST * nodes[0] for n in sizes]
    if any(large):
        return "regions", _sides(groups, sizes, large)
    if len(names) >= 2:
        return "two networks", [("test",) if g == names[0] else ("train",) for g in groups]
    return "train only", [("train",)] * len(groups)


def _sides(
    groups: Sequence[str], sizes: Sequence[int], large: Sequence[bool]
) -> list[tuple[str, ...]]:
    """Of a group that is cut, only the largest network: regions of two snapshots would overlap."""
    best: dict[str, int] = {}
    for k, group in enumerate(groups):
        if group not in best or sizes[k] > sizes[best[group]]:
            best[group] = k
    sides: list[tuple[str, ...]] = []
    for k, group in enumerate(groups):
        if large[best[group]]:
            sides.append(SPLITS if k == best[group] else ())
        else:
            sides.append(("train",))
    return sides


def cut(network: Network, largest: int, rng: np.random.Generator) -> dict[str, Network]:
    """Cuts a network into regions without a common node.

    Args:
        network: The network.
        largest: Most nodes of a subgraph; a region is made of patches well above that.
        rng: Where patches begin.

    Returns:
        The network that each split sees.
    """
    free = np.ones(network.num_nodes, bool)
    nodes: dict[str, Int] = {}
    for split, share in (("test", SHARES[2]), ("val", SHARES[1])):
        wanted = round(share * network.num_nodes)
        patches = int(np.clip(wanted // (4 * largest), 1, _PATCHES))
        grown = [_grow(network, free, size, rng) for size in _evenly(wanted, patches)]
        nodes[split] = np.concatenate(grown)
    nodes["train"] = np.flatnonzero(free)
    out = {}
    for split in SPLITS:
        try:
            out[split] = network.induced(nodes[split])
        except DataError:  # a region without an edge gives no subgraph
            continue
    return out


def _evenly(total: int, parts: int) -> list[int]:
    return [total * (k + 1) // parts - total * k // parts for k in range(parts)]


def _grow(network: Network, free: NDArray[np.bool_], size: int, rng: np.random.Generator) -> Int:
    """``size`` free nodes, breadth-first from random ones; they are free no more."""
    taken: list[Int] = []
    frontier = np.zeros(0, np.int64)
    while size > 0:
        reach = network.neighbours[ranges(network.pointer[frontier], network.degrees[frontier])]
        frontier = np.unique(reach[free[reach]])
        if not len(frontier):
            frontier = rng.choice(np.flatnonzero(free), 1)
        frontier = rng.permutation(frontier)[:size]
        free[frontier] = False
        size -= len(frontier)
        taken.append(frontier)
    return np.concatenate([*taken, np.zeros(0, np.int64)])
