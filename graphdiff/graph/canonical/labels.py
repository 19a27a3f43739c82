r"""Canonical labels: a numbering of the nodes that isomorphic graphs share.

A canonical labelling gives each graph a numbering :math:`\rho_G : V \to \{0, \dots, n - 1\}` with

.. math:: G \cong H \iff \rho_G\, G = \rho_H\, H ,

so the bytes of :math:`\rho_G G`, the *canonical form*, decide isomorphism. Where a graph has
automorphisms several numberings give the same form, and which of them is returned may depend on the
given order: :math:`\rho_{\pi G} \circ \pi` is :math:`\rho_G` up to an automorphism of :math:`G`.

Two backends: ``nauty`` (:mod:`graphdiff.graph.canonical.nauty`, the optional package pynauty) and
``search`` (:mod:`graphdiff.graph.canonical.search`, here, for graphs up to some hundred nodes with
bounded work). Both are complete; their forms differ, so compare forms of one backend only.

Source: Dong et al. (2024, arXiv 2309.00738), section 3, use such labels as node features.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.canonical.graph import ColouredGraph
from graphdiff.graph.canonical.nauty import available, nauty_labels, version
from graphdiff.graph.canonical.search import LIMIT, search

__all__ = ["Backend", "Canonizer", "canonical_form", "canonical_labels"]

Int = NDArray[np.int64]
Backend = Literal["auto", "nauty", "search"]


class Canonizer:
    """Canonical labels and forms, kept for graphs that come again.

    A graph is looked up by a hash of its edges and colours *as numbered*; labels of a renumbered
    copy are computed anew, as they are others. Colours that are all the default, nodes 0 or edges
    1, count as none (:meth:`ColouredGraph.without_defaults`).

    Args:
        backend: ``nauty`` (needs pynauty), ``search`` (bounded, no extra), or ``auto``: nauty if it
            is installed.
        limit: Colourings that ``search`` may take for one graph.
        cache: How many graphs are kept, the latest used; 0 keeps none.

    Attributes:
        backend: ``nauty`` or ``search``.
        computed: How many labellings were computed and not found in the cache.

    Raises:
        ArgumentError: For an unknown backend, ``nauty`` without pynauty, or numbers out of range.
    """

    def __init__(self, backend: Backend = "auto", limit: int = LIMIT, cache: int = 4096) -> None:
        if backend not in ("auto", "nauty", "search"):
            raise ArgumentError(f"backend must be 'auto', 'nauty' or 'search', found {backend!r}")
        if limit < 1 or cache < 0:
            raise ArgumentError(f"limit must be >= 1 and cache >= 0, found {limit} and {cache}")
        if backend == "auto":
            backend = "nauty" if available() else "search"
        self.name = f"nauty-{version()}" if backend == "nauty" else "search-1"
        self.backend, self.limit, self.cache = backend, limit, cache
        self.computed = 0
        self._kept: OrderedDict[bytes, Int] = OrderedDict()

    def labels(self, graph: ColouredGraph) -> Int:
        """The canonical place of each node, ``int64 [n]``, a permutation of 0 to n - 1.

        Raises:
            ArgumentError: If ``search`` would exceed its bounds.
        """
        graph = graph.without_defaults()
        name = graph.digest() if self.cache else b""
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name].copy()
        self.computed += 1
        found = nauty_labels(graph) if self.backend == "nauty" else search(graph, self.limit)[0]
        if self.cache:
            self._kept[name] = found
            if len(self._kept) > self.cache:
                self._kept.popitem(last=False)
        return found.copy()

    def form(self, graph: ColouredGraph) -> bytes:
        """The canonical form: equal for two graphs exactly if they are isomorphic.

        Raises:
            ArgumentError: As :meth:`labels`.
        """
        graph = graph.without_defaults()
        return graph.written(self.labels(graph))


def canonical_labels(graph: ColouredGraph, *, backend: Backend = "auto", limit: int = LIMIT) -> Int:
    """The canonical place of each node, ``int64 [n]``; see :class:`Canonizer` for many graphs."""
    return Canonizer(backend, limit, 0).labels(graph)


def canonical_form(graph: ColouredGraph, *, backend: Backend = "auto", limit: int = LIMIT) -> bytes:
    """Bytes that exactly the isomorphic graphs share; see :class:`Canonizer` for many graphs."""
    return Canonizer(backend, limit, 0).form(graph)
