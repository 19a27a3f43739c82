r"""Canonical labelling by individualisation and refinement, in numpy.

A node of the search tree is a sequence of individualised nodes :math:`\nu = (v_1, \dots, v_k)`; its
colouring :math:`R(G, \nu)` comes from giving each :math:`v_i` a colour of its own and refining
(Weisfeiler and Leman 1968): with :math:`h` a 64-bit mixing function, colours are replaced by the
rank of

.. math:: \Bigl(c(v),\ \sum_{(v, u, \lambda)} h\bigl(h(c(u)) + h(\lambda)\bigr) \bmod 2^{64}\Bigr)

until no cell splits. A collision of hashes makes cells larger, never wrong: everything used is a
function of the isomorphism class. If all colours differ, the colouring is a numbering, the node is
a leaf and gives a candidate :math:`G^\nu`; otherwise the children individualise each member of the
first smallest cell with more than one. With :math:`T(\nu)` the hashes of the colourings along the
path, the canonical form is that of the leaf (McKay 1981; McKay and Piperno 2014, section 2)

.. math:: \nu^* = \arg\min_{\nu}\ \bigl(T(\nu),\ G^{\nu}\bigr),

which no renumbering changes. Three prunings leave the minimum as it is: subtrees whose
:math:`T` is already larger; children that an automorphism found so far, fixing :math:`\nu`, maps to
one done before; and the rest of a subtree that turned out to be the image of a completed one.
Automorphisms are found whenever a leaf has the form of the first or of the best one.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.canonical.graph import ColouredGraph

__all__ = ["LARGEST", "LIMIT", "search"]

Int = NDArray[np.int64]
Hash = NDArray[np.uint64]

LIMIT = 20_000
"""Colourings that one graph may take: one or two seconds."""

LARGEST = 400
"""Nodes of the largest graph: the search is as deep as that."""


def _mix(x: Hash) -> Hash:
    """The finaliser of SplitMix64 (Steele et al. 2014): a bijection that scatters all bits."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class _Leaf(NamedTuple):
    """A numbering: hashes along its path, the graph written by it, nodes in order, choices made."""

    path: list[bytes]
    form: bytes
    order: Int
    fixed: list[int]


class _Search:
    """The state of one search; :meth:`visit` walks the tree depth first."""

    def __init__(self, graph: ColouredGraph, limit: int) -> None:
        self.graph, self.limit, self.spent = graph, limit, 0
        n, (first, second) = graph.nodes, graph.edges.T
        kind = np.zeros(len(first), np.int64) if graph.edge_colour is None else graph.edge_colour
        source, target = np.concatenate([first, second]), np.concatenate([second, first])
        back = 1 if graph.directed else 0  # an arc looks different from its two ends
        code = np.concatenate([2 * kind, 2 * kind + back])
        order = np.argsort(source, kind="stable")
        self.target = target[order]
        self.code = _mix(code[order].astype(np.uint64))
        self.start = np.searchsorted(source[order], np.arange(n + 1))
        self.first: _Leaf | None = None
        self.best: _Leaf | None = None
        self.symmetries: list[Int] = []

    def refine(self, colour: Int) -> tuple[Int, bytes]:
        """Ranks of the coarsest stable colouring found, and a hash of it that names are not in."""
        if self.spent >= self.limit:
            raise ArgumentError(
                f"this graph of {self.graph.nodes} nodes is too symmetric for the search in Python "
                f"(more than {self.limit} colourings): install pynauty, pip install "
                "'graphdiffusion[canon]', or raise limit"
            )
        self.spent += 1
        cells = int(colour.max()) + 1
        while True:
            mixed = _mix(_mix(colour.astype(np.uint64))[self.target] + self.code)
            # Sums wrap around, and differences of running sums stay exact.
            running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed)])
            sums = running[self.start[1:]] - running[self.start[:-1]]
            order = np.lexsort((sums, colour))
            c, s = colour[order], sums[order]
            rank = np.concatenate([[0], np.cumsum((c[1:] != c[:-1]) | (s[1:] != s[:-1]))])
            colour = np.empty_like(colour)
            colour[order] = rank
            if int(rank[-1]) + 1 == cells:
                seen = rank.tobytes() + s.tobytes()
                return colour, hashlib.blake2b(seen, digest_size=8).digest()
            cells = int(rank[-1]) + 1

    def promising(self, path: list[bytes]) -> bool:
        """Whether a leaf below may be the best or have the form of the first."""
        if self.best is None or self.first is None:
            return True
        return path <= self.best.path[: len(path)] or path == self.first.path[: len(path)]

    def visit(self, colour: Int, fixed: list[int], path: list[bytes]) -> int:
        """Searches below a node; returns the depth at which to go on."""
        depth = len(fixed)
        if not self.promising(path):
            return depth
        sizes = np.bincount(colour)
        if len(sizes) == len(colour):
            return self.leaf(colour, fixed, path)
        cell = int(np.argmin(np.where(sizes > 1, sizes, len(colour) + 1)))
        done: list[int] = []
        for v in np.flatnonzero(colour == cell).tolist():
            if done and self.mirrored(v, done, fixed):
                continue
            child = colour + (colour >= cell)
            child[v] = cell
            refined, seen = self.refine(child)
            back = self.visit(refined, [*fixed, v], [*path, seen])
            if back < depth:
                return back
            done.append(v)
        return depth

    def leaf(self, colour: Int, fixed: list[int], path: list[bytes]) -> int:
        """Compares a leaf with the first and the best."""
        found = _Leaf(path, self.graph.written(colour), np.argsort(colour), fixed)
        if self.first is None or self.best is None:
            self.first = self.best = found
            return len(fixed)
        for known in (self.first, self.best):
            if found.path == known.path and found.form == known.form:
                symmetry = np.empty_like(found.order)
                symmetry[known.order] = found.order
                self.symmetries.append(symmetry)
                # Everything below where the paths part is an image of what was searched there.
                pairs = zip(fixed, known.fixed, strict=True)
                return next(i for i, (a, b) in enumerate(pairs) if a != b)
        if found[:2] < self.best[:2]:
            self.best = found
        return len(fixed)

    def mirrored(self, v: int, done: list[int], fixed: list[int]) -> bool:
        """Whether known automorphisms that fix ``fixed`` take ``v`` to one of ``done``."""
        held = np.asarray(fixed, np.int64)
        moves = [s for s in self.symmetries if np.array_equal(s[held], held)]
        orbit = np.zeros(self.graph.nodes, bool)
        orbit[v] = True
        while True:
            size = int(orbit.sum())
            for move in moves:
                orbit[move[orbit]] = True
            if orbit[done].any():
                return True
            if int(orbit.sum()) == size:
                return False


def search(graph: ColouredGraph, limit: int = LIMIT) -> tuple[Int, int]:
    """The place of each node in the canonical order, ``int64 [n]``, and the colourings it took.

    Args:
        graph: The graph.
        limit: How many colourings the search may take.

    Raises:
        ArgumentError: If the graph has more than :data:`LARGEST` nodes, or the limit is exceeded;
            the message names the extra to install.
    """
    if graph.nodes > LARGEST:
        raise ArgumentError(
            f"the search in Python takes graphs of up to {LARGEST} nodes, found {graph.nodes}: "
            "install pynauty, pip install 'graphdiffusion[canon]'"
        )
    if graph.nodes < 2:
        return np.zeros(graph.nodes, np.int64), 0
    tree = _Search(graph, limit)
    colour = np.zeros(graph.nodes, np.int64)
    if graph.node_colour is not None:
        colour = np.unique(graph.node_colour, return_inverse=True)[1].reshape(-1)
    refined, seen = tree.refine(colour.astype(np.int64))
    tree.visit(refined, [], [seen])
    assert tree.best is not None
    return np.argsort(tree.best.order), tree.spent
