r"""Graphs that tell apart what networks on graphs can and cannot see.

* :func:`csl`: circulant skip links (Murphy et al., 2019, arXiv 1903.02541): cycles of 41 nodes with
  chords of length :math:`R`; 4-regular, so colour refinement sees one class where there are ten.
* :func:`sr25`: the 15 strongly regular graphs with parameters (25, 12, 5, 6). One spectrum, one
  colouring even by 3-WL (that is, folklore 2-WL).
* :func:`graph8c`: all 11,117 connected graphs of eight nodes.
* :func:`cycle_set`: Erdős-Rényi and regular graphs with their numbers of 3- to 6-cycles. Both kinds
  are mixed by Chen et al. (2020, arXiv 2002.04025) as well; here number of edges and degrees are
  held fixed, because a network that only sees degrees does well where they vary.

Files are found as all data of the package is, see :mod:`graphdiff.data.sources`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.graphs import Graphs
from graphdiff.data.sources import card, checked

__all__ = [
    "CSL_SKIPS",
    "CycleSet",
    "cfi",
    "count_cycles",
    "csl",
    "cycle_set",
    "graph8c",
    "parse_graph6",
    "sr25",
    "switch_edges",
]

CSL_NODES = 41
CSL_SKIPS = (2, 3, 4, 5, 6, 9, 11, 12, 13, 16)
"""Chord lengths of the ten classes, no two of which give isomorphic graphs on 41 nodes."""


def csl(copies: int = 15, *, seed: int = 0) -> tuple[Graphs, NDArray[np.int64]]:
    """Circulant skip links, ``10 * copies`` graphs, and their classes.

    Args:
        copies: Graphs of each class, each with its nodes in another random order.
        seed: Of the orders.

    Returns:
        The graphs, class by class, and the class ``[10 * copies]`` of each.

    Raises:
        ArgumentError: ``copies`` is below 1.
    """
    if copies < 1:
        raise ArgumentError(f"copies must be at least 1, found {copies}")
    rng, edges = np.random.default_rng(seed), []
    ring = np.arange(CSL_NODES)
    for skip in CSL_SKIPS:
        base = np.concatenate(
            [np.stack([ring, (ring + step) % CSL_NODES], 1) for step in (1, skip)]
        )
        edges += [rng.permutation(CSL_NODES)[base] for _ in range(copies)]
    graphs = Graphs.from_lists(np.full(len(edges), CSL_NODES), edges)
    return graphs, np.repeat(np.arange(len(CSL_SKIPS)), copies)


def cfi(edges: NDArray[np.int64], nodes: int, *, twisted: bool) -> tuple[int, NDArray[np.int64]]:
    """The graph of Cai, Fuerer and Immerman (1992) over a base graph.

    A node of the base becomes one node for each even subset of its edges; each end of an edge has
    a node for the edge being in the subset and one for its not being in it, and the two ends are
    joined straight, those of the first edge crosswise if ``twisted``. Over a connected base the
    twisted graph is not isomorphic to the straight one, and colour refinement cannot tell.

    Args:
        edges: Of the base, each once, ``[m, 2]``.
        nodes: Of the base.
        twisted: Whether one edge is twisted.

    Returns:
        Number of nodes, and edges ``[k, 2]``.
    """
    number: dict[tuple[int, ...], int] = {}
    made = []
    name = lambda *what: number.setdefault(what, len(number))  # noqa: E731
    for x in range(nodes):
        around = [int(b if a == x else a) for a, b in edges if x in (a, b)]
        for bits in range(2 ** len(around)):
            if bits.bit_count() % 2 == 0:
                inner = name(x, bits)
                made += [(inner, name(x, y, bits >> k & 1)) for k, y in enumerate(around)]
    for k, (x, y) in enumerate(edges.tolist()):
        cross = int(twisted and k == 0)
        made += [(name(x, y, b), name(y, x, b ^ cross)) for b in (0, 1)]
    return len(number), np.array(made, np.int64).reshape(-1, 2)


# -- files in the format graph6 -------------------------------------------------------------------


def parse_graph6(data: bytes, where: str = "graph6 data") -> Graphs:
    """Graphs from lines in McKay's format graph6: a size, then the upper triangle by columns.

    Args:
        data: Lines; a header ``>>graph6<<`` is skipped.
        where: Name for messages.

    Raises:
        DataError: A line is no graph6; its number is named.
    """
    sizes, edges = [], []
    for number, line in enumerate(data.removeprefix(b">>graph6<<").split(), 1):
        codes = np.frombuffer(line, np.uint8).astype(np.int64) - 63
        if codes.min() < 0 or codes.max() > 63:
            raise DataError(f"{where}: line {number} has characters that graph6 does not use")
        n, start = int(codes[0]), 1
        if n == 63 and len(codes) > 3:
            if codes[1] == 63:
                raise DataError(f"{where}: line {number} has more than 258,047 nodes")
            n, start = int(codes[1] << 12 | codes[2] << 6 | codes[3]), 4
        bits = (codes[start:, None] >> np.arange(5, -1, -1) & 1).ravel()
        pairs = n * (n - 1) // 2
        if len(codes) - start != -(-pairs // 6) or bits[pairs:].any():
            raise DataError(
                f"{where}: line {number} says {n} nodes, which takes {-(-pairs // 6)} characters, "
                f"and has {len(codes) - start}; the file is damaged or in another format"
            )
        j, i = np.tril_indices(n, -1)  # column by column of the upper triangle
        there = bits[:pairs].astype(bool)
        sizes.append(n)
        edges.append(np.stack([i[there], j[there]], 1))
    return Graphs.from_lists(sizes, edges)


def _read(name: str, root: str | Path | None) -> Graphs:
    path, data = checked(name, card(name)["files"][0], root)
    return parse_graph6(data, str(path))


def sr25(root: str | Path | None = None) -> Graphs:
    """The 15 strongly regular graphs (25, 12, 5, 6).

    Raises:
        DataError: The file is missing or damaged.
    """
    return _read("sr25", root)


def graph8c(root: str | Path | None = None) -> Graphs:
    """All 11,117 connected graphs of eight nodes.

    Raises:
        DataError: The file is missing or damaged.
    """
    return _read("graph8c", root)


# -- cycle counts ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class CycleSet:
    """Generated graphs with their numbers of cycles.

    Attributes:
        graphs: The graphs.
        counts: Cycles of length 3, 4, 5 and 6 in each, ``[g, 4]``.
        regular: Which are 4-regular by construction, ``[g]``.
    """

    graphs: Graphs
    counts: NDArray[np.float64]
    regular: NDArray[np.bool_]


def count_cycles(graphs: Graphs, *, batch: int = 512) -> NDArray[np.float64]:
    """Exact numbers of 3- to 6-cycles ``[g, 4]``, from powers of the adjacency in float64.

    Args:
        graphs: Any graphs.
        batch: Graphs at a time.
    """
    from graphdiff.graph.nets.features import cycles

    found = []
    for start in range(0, len(graphs), batch):
        _, adj, _ = graphs.dense(slice(start, start + batch))
        found.append(cycles(torch.from_numpy((adj > 0).astype(np.float64)))[1].numpy())
    return np.round(np.concatenate(found)) if found else np.zeros((0, 4))


def switch_edges(
    edges: NDArray[np.int64], switches: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Edges ``[m, 2]`` after switches of two edges ``ab, cd`` to ``ad, cb``, which keep degrees.

    Args:
        edges: Of a simple graph, at least two.
        switches: Attempts; those that would make a loop or a double edge change nothing.
        rng: Which edges.
    """
    pairs = [(int(u), int(v)) for u, v in edges]
    there = {frozenset(pair) for pair in pairs}
    for x, y, flip in rng.integers((len(pairs), len(pairs), 2), size=(switches, 3)).tolist():
        (a, b), (c, d) = pairs[x], pairs[y][::-1] if flip else pairs[y]
        first, second = frozenset((a, d)), frozenset((c, b))
        if len(first) < 2 or len(second) < 2 or first in there or second in there:
            continue
        if first == second:
            continue
        there -= {frozenset((a, b)), frozenset((c, d))}
        there |= {first, second}
        pairs[x], pairs[y] = (a, d), (c, b)
    return np.array(pairs, np.int64)


def cycle_set(count: int, *, nodes: tuple[int, int] = (10, 22), seed: int = 0) -> CycleSet:
    r"""Random graphs of mean degree 4 with their numbers of cycles.

    Half are :math:`G(n, 2n)`, uniform among the graphs with ``n`` nodes and ``2 n`` edges. Half are
    4-regular: rings with chords of length 2, whose edges are switched 0 to ``2 n`` times, so that
    there are all shades between a lattice and a random regular graph. Number of nodes, number of
    edges and, in the second half, all degrees say nothing about the number of cycles.

    Args:
        count: How many graphs.
        nodes: Smallest and largest number of nodes; at least 8.
        seed: Of everything.

    Raises:
        ArgumentError: No graphs are asked for, or sizes are too small.
    """
    if count < 1 or not 8 <= nodes[0] <= nodes[1]:
        raise ArgumentError(
            f"expected at least one graph and sizes from 8 on, found {count} and {nodes}"
        )
    rng = np.random.default_rng(seed)
    sizes, edges = [], []
    for k in range(count):
        n = int(rng.integers(nodes[0], nodes[1], endpoint=True))
        if k % 2:
            ring = np.arange(n)
            lattice = np.concatenate([np.stack([ring, (ring + s) % n], 1) for s in (1, 2)])
            edges.append(switch_edges(lattice, int(rng.integers(2 * n, endpoint=True)), rng))
        else:
            u, v = np.triu_indices(n, 1)
            hit = rng.choice(len(u), 2 * n, replace=False)
            edges.append(np.stack([u[hit], v[hit]], 1))
        sizes.append(n)
    graphs = Graphs.from_lists(sizes, edges)
    return CycleSet(graphs, count_cycles(graphs), np.arange(count) % 2 > 0)
