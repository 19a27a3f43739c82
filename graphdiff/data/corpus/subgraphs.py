r"""Subgraphs of a network: 2-hop neighbourhoods and random walks with restart, all induced.

* neighbourhood (LGGM): the ball of radius 2 around a node with the edges among its nodes. A ball
  with more than the largest size is thinned by a walk that restarts at the centre every second
  step, so that it never leaves the ball, until it has met as many nodes as were asked for;
* walk: from a random node a simple random walk goes on, with probability :math:`c` back to its
  start, until it has met as many nodes as were asked for.

The size asked for is uniform between the bounds. A walk that meets fewer nodes within its number
of steps is kept if it met enough for the lower bound. Every node that a walk meets neighbours one
that was met before, so each subgraph is connected. All walks of a network advance together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.data.corpus.network import Network, ranges
from graphdiff.data.graphs import Graphs

__all__ = ["RESTART", "balls", "induced", "neighbourhoods", "walks"]

Int = NDArray[np.int64]

RESTART = 0.1
"""Probability of going back to the start."""
_STEPS = 16  # steps for each node asked for: enough where degrees are 2 to 3, as on roads
_HOPS = 2
_CHUNK = 256


def check_bounds(nodes: tuple[int, int]) -> tuple[int, int]:
    """The bounds of the number of nodes, if they make sense.

    Raises:
        ArgumentError: If not ``2 <= smallest <= largest``.
    """
    low, high = int(nodes[0]), int(nodes[1])
    if not 2 <= low <= high:
        raise ArgumentError(f"nodes must be (smallest, largest) with 2 <= smallest, found {nodes}")
    return low, high


def _met(
    network: Network,
    starts: Int,
    sizes: Int,
    rng: np.random.Generator,
    *,
    restart: float,
    hops: int | None = None,
) -> list[Int]:
    """The first ``sizes[k]`` different nodes on a walk from ``starts[k]``.

    Args:
        network: Where to walk; no start may be isolated.
        starts: First nodes, ``[w]``.
        sizes: Different nodes asked for, ``[w]``.
        rng: Source of the steps.
        restart: Probability of going back before a step.
        hops: Go back after this many steps, too.
    """
    steps = _STEPS * int(sizes.max())
    trail = np.empty((len(starts), steps + 1), np.int64)
    trail[:, 0] = here = starts
    pointer, degrees = network.pointer, network.degrees
    for k in range(1, steps + 1):
        if hops is not None and (k - 1) % hops == 0:
            here = starts
        draw = rng.random((2, len(starts)))
        here = np.where(draw[0] < restart, starts, here)
        here = network.neighbours[pointer[here] + (draw[1] * degrees[here]).astype(np.int64)]
        trail[:, k] = here
    out = []
    for row, size in zip(trail, sizes.tolist(), strict=True):
        nodes, first = np.unique(row, return_index=True)
        out.append(np.sort(nodes[np.argsort(first)[:size]]))
    return out


def walks(
    network: Network,
    starts: Int,
    nodes: tuple[int, int],
    rng: np.random.Generator,
    *,
    restart: float = RESTART,
) -> list[Int]:
    """Node sets of random walks with restart.

    Args:
        network: The network.
        starts: Where walks begin, ``[w]``.
        nodes: Smallest and largest number of nodes.
        rng: Source of everything random.
        restart: Probability of going back to the start before a step.

    Returns:
        For each start with a neighbour that met enough nodes, its nodes, ascending.
    """
    low, high = check_bounds(nodes)
    starts = starts[network.degrees[starts] > 0]
    sizes = rng.integers(low, high, size=len(starts), endpoint=True)
    out: list[Int] = []
    for at in range(0, len(starts), _CHUNK):
        part = slice(at, at + _CHUNK)
        out += _met(network, starts[part], sizes[part], rng, restart=restart)
    return [met for met in out if len(met) >= low]


def balls(network: Network, centres: Int, largest: int) -> list[Int | None]:
    """Nodes within two hops of each centre, ascending; None if they exceed ``largest``."""
    out: list[Int | None] = []
    pointer, degrees = network.pointer, network.degrees
    for centre in centres.tolist():
        near = network.neighbours[pointer[centre] : pointer[centre + 1]]
        if len(near) >= largest:
            out.append(None)
            continue
        far = network.neighbours[ranges(pointer[near], degrees[near])]
        ball = np.unique(np.concatenate([near, far, [centre]]))
        out.append(ball if len(ball) <= largest else None)
    return out


def neighbourhoods(
    network: Network, centres: Int, nodes: tuple[int, int], rng: np.random.Generator
) -> list[Int]:
    """Node sets of 2-hop neighbourhoods.

    Args:
        network: The network.
        centres: Centres, ``[w]``.
        nodes: Smallest and largest number of nodes; larger balls are thinned, smaller left out.
        rng: Source of the sizes and walks of thinned balls.

    Returns:
        For each centre whose ball is large enough, its nodes, ascending.
    """
    low, high = check_bounds(nodes)
    found = balls(network, centres, high)
    large = np.flatnonzero([ball is None for ball in found])
    sizes = rng.integers(low, high, size=len(large), endpoint=True)
    for at in range(0, len(large), _CHUNK):
        part = slice(at, at + _CHUNK)
        met = _met(network, centres[large[part]], sizes[part], rng, restart=0.0, hops=_HOPS)
        for k, ball in zip(large[part].tolist(), met, strict=True):
            found[k] = ball
    return [ball for ball in found if ball is not None and len(ball) >= low]


def induced(network: Network, sets: list[Int]) -> Graphs:
    """The graphs on some node sets with all edges among their nodes.

    Args:
        network: The network.
        sets: Different nodes, ascending, for each graph.

    Returns:
        Graphs whose node k is the k-th of its set.
    """
    counts: list[int] = []
    edges: list[Int] = []
    for at in range(0, len(sets), _CHUNK):
        part = sets[at : at + _CHUNK]
        sizes = np.asarray([len(s) for s in part], dtype=np.int64)
        nodes = np.concatenate(part)
        owner = np.repeat(np.arange(len(part)), sizes)
        first = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)[:-1]])
        # Sets are ascending and owners, too: one sorted key finds a node in its set.
        key = owner * network.num_nodes + nodes
        degrees = network.degrees[nodes]
        source = np.repeat(np.arange(len(nodes)), degrees)
        target = network.neighbours[ranges(network.pointer[nodes], degrees)]
        forward = target > nodes[source]
        source, target = source[forward], target[forward]
        wanted = owner[source] * network.num_nodes + target
        place = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        hit = key[place] == wanted
        source, place = source[hit], place[hit]
        pairs = np.stack([source, place], 1) - first[owner[source]][:, None]
        cuts = np.searchsorted(owner[source], np.arange(1, len(part)))
        counts += sizes.tolist()
        edges += np.split(pairs, cuts)
    return Graphs.from_lists(counts, edges)
