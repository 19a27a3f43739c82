r"""Universal ids: node labels that mean the same in every graph.

Where nodes carry names that are unique within a graph and shared between graphs (genes, brain
regions, users), the map :math:`\ell(v \mid G) = \mathrm{index}(\mathrm{name}(v))` is injective on
each graph and does not depend on its edges. Dong et al. (2024, arXiv 2309.00738, section 4) call
this a universal graph canonization: it keeps the expressivity that canonical labels give and,
unlike them, is stable, since for two graphs on the same nodes

.. math:: \ell(v \mid G) = \ell(v \mid G') \quad \text{whatever edges } G \text{ and } G'
          \text{ differ in},

while one edge may move every canonical label. :func:`hamming` is the share of nodes whose label
moves.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphdiff.core.errors import ArgumentError

__all__ = ["UniversalIds", "hamming"]

Int = NDArray[np.int64]


class UniversalIds:
    """Numbers of node names, the same in every graph.

    Args:
        names: All names there are, each once, in the order of their numbers. They are numbers,
            strings, or whatever can be a key.

    Raises:
        ArgumentError: If a name is there twice, is missing (None or nan), or there is none.
    """

    def __init__(self, names: Iterable[Hashable]) -> None:
        self.names = [_plain(name) for name in names]
        if not self.names:
            raise ArgumentError("there are no names: give those of all nodes of all graphs")
        _refuse_missing(self.names, "names")
        self._number = {name: i for i, name in enumerate(self.names)}
        if len(self._number) < len(self.names):
            raise ArgumentError(f"names must be unique, found {_twice(self.names)!r} twice")

    @classmethod
    def of(cls, graphs: Iterable[Iterable[Hashable]]) -> UniversalIds:
        """The ids of all names in the node lists of some graphs, in the order they are met.

        Raises:
            ArgumentError: If a name is missing or there twice in one graph.
        """
        seen: dict[Hashable, None] = {}
        for k, names in enumerate(graphs):
            held = [_plain(name) for name in names]
            _refuse_missing(held, f"the names of graph {k}")
            if len(set(held)) < len(held):
                raise ArgumentError(
                    f"names of graph {k} must be unique, found {_twice(held)!r} twice"
                )
            seen.update(dict.fromkeys(held))
        return cls(seen)

    def __len__(self) -> int:
        return len(self.names)

    def __call__(self, names: Sequence[Hashable]) -> Int:
        """Numbers of the nodes of one graph, ``int64 [n]``.

        Args:
            names: The name of each node.

        Raises:
            ArgumentError: If a name is missing, unknown, or there twice; the message tells which.
        """
        held = [_plain(name) for name in names]
        _refuse_missing(held, "the names of this graph")
        unknown = [name for name in held if name not in self._number]
        if unknown:
            raise ArgumentError(
                f"{len(unknown)} of {len(held)} nodes have a name that has no universal id, first "
                f"{unknown[0]!r}: make the ids with the names of all graphs, or leave these out"
            )
        if len(set(held)) < len(held):
            raise ArgumentError(
                f"two nodes of one graph have the name {_twice(held)!r}: universal ids must be "
                "unique within a graph; use canonical labels where nodes have no names"
            )
        return np.array([self._number[name] for name in held], np.int64)


def _plain(name: Any) -> Hashable:
    """Scalars of numpy as Python has them, so that both find the same number."""
    found: Hashable = name.item() if isinstance(name, np.generic) else name
    return found


def _twice(names: Sequence[Hashable]) -> Hashable:
    seen: set[Hashable] = set()
    return next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]


def _refuse_missing(names: Sequence[Hashable], what: str) -> None:
    bad = [i for i, name in enumerate(names) if name is None or name != name]
    if bad:
        raise ArgumentError(
            f"{what} are incomplete, entry {bad[0]} is {names[bad[0]]!r}: name every node, or use "
            "canonical labels"
        )


def hamming(first: ArrayLike, second: ArrayLike) -> float:
    """Share of nodes whose labels differ between two labellings ``[n]`` of the same nodes.

    Raises:
        ArgumentError: If lengths differ or there is no node.
    """
    a, b = np.asarray(first), np.asarray(second)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ArgumentError(
            f"expected labels [n] of the same nodes, found shapes {list(a.shape)} and "
            f"{list(b.shape)}"
        )
    return float((a != b).mean())
