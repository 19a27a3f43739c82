r"""Search spaces of neural architectures: directed acyclic graphs whose nodes have types.

An architecture is a topologically ordered graph of ``n`` places; place ``i`` has a type
:math:`v_i` and an edge :math:`a_{ij}`, :math:`i < j`, says that ``j`` reads what ``i`` makes. In
most spaces the wiring is fixed and only the types are searched (An et al., 2024, arXiv 2305.16943);
where it is not, it is a component on :class:`graphdiff.core.space.Upper`.

A space says which types each place may take (``choices``), how places are wired, and what else an
architecture must satisfy (:meth:`SearchSpace.rules`). Everything else follows and may be replaced:
random architectures, all of them, neighbours for local search and mutation, a canonical key that
isomorphic architectures share. Your own space is a subclass of a few lines, see ``docs/nag.md``.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Architectures", "SearchSpace", "chain"]

MOST = 1_000_000
"""Spaces up to this size are listed."""

Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class Architectures:
    """A batch of architectures of one space.

    Attributes:
        ops: Types of the places, int8 ``[m, n]``; -1 where a sample decided on none.
        wires: Edges ``i -> j`` of each, bool ``[m, n, n]``, strictly upper triangular.
    """

    ops: NDArray[np.int8]
    wires: Bool

    def __len__(self) -> int:
        return len(self.ops)

    def __getitem__(self, index: Any) -> Architectures:
        """Some of them: a slice or an array of numbers; one number gives a batch of one."""
        if isinstance(index, int | np.integer):
            index = [int(index)]
        return Architectures(self.ops[index], self.wires[index])

    def __iter__(self) -> Iterator[Architectures]:
        return (self[i] for i in range(len(self)))

    @staticmethod
    def join(parts: Sequence[Architectures]) -> Architectures:
        """One batch of several."""
        return Architectures(
            np.concatenate([part.ops for part in parts]),
            np.concatenate([part.wires for part in parts]),
        )


def chain(n: int) -> Bool:
    """Wires of ``n`` places in a row, ``[n, n]``."""
    return np.eye(n, k=1, dtype=bool)


class SearchSpace:
    """A space of architectures; subclasses set the attributes and override what they must.

    Attributes:
        name: For configs, cards and tables.
        types: Names of the node types.
        choices: Types, as numbers, that each place may take.
        wiring: Fixed wires ``[n, n]``, or None where edges are searched as well.
        blank: Type that means "no node here", if there is one; a continuous encoding shows it as
            zeros.
    """

    name: ClassVar[str]
    types: ClassVar[tuple[str, ...]]
    choices: ClassVar[tuple[tuple[int, ...], ...]]
    wiring: ClassVar[Bool | None] = None
    blank: ClassVar[int | None] = None

    @property
    def nodes(self) -> int:
        """Number of places ``n``."""
        return len(self.choices)

    # -- rules ------------------------------------------------------------------------------------

    def valid(self, archs: Architectures) -> Bool:
        """Which are members of the space, ``[m]``."""
        allowed = self._allowed[np.arange(self.nodes), np.maximum(archs.ops, 0)]
        good: Bool = np.all(allowed & (archs.ops >= 0), axis=1)
        upper = np.triu(np.ones((self.nodes, self.nodes), bool), 1)
        good &= ~np.any(archs.wires & ~upper, axis=(1, 2))
        if self.wiring is not None:
            good &= np.all(archs.wires == self.wiring, axis=(1, 2))
        good[good] &= self.rules(archs[good])
        return good

    def rules(self, archs: Architectures) -> Bool:
        """What members satisfy beyond ``choices`` and ``wiring``, ``[m]``; nothing by default."""
        return np.ones(len(archs), bool)

    @cached_property
    def _allowed(self) -> Bool:
        allowed = np.zeros((self.nodes, len(self.types)), bool)
        for place, kinds in enumerate(self.choices):
            allowed[place, list(kinds)] = True
        return allowed

    # -- members ----------------------------------------------------------------------------------

    def wired(self, ops: NDArray[Any], wires: Bool | None = None) -> Architectures:
        """Types ``[m, n]`` with the fixed wiring, or with ``wires`` ``[m, n, n]``.

        Raises:
            ArgumentError: The space has no fixed wiring and none is given.
        """
        ops = np.asarray(ops, np.int8)
        if wires is None:
            if self.wiring is None:
                raise ArgumentError(f"edges of {self.name!r} are searched as well; give wires")
            wires = np.broadcast_to(self.wiring, (len(ops), self.nodes, self.nodes))
        return Architectures(ops, np.asarray(wires, bool))

    @property
    def size(self) -> int | None:
        """Number of members, if they can be listed."""
        found = self.everything()
        return None if found is None else len(found)

    def everything(self) -> Architectures | None:
        """All members in a fixed order; None if there are too many, or edges are searched."""
        return self._everything

    @cached_property
    def _everything(self) -> Architectures | None:
        if self.wiring is None or prod(len(kinds) for kinds in self.choices) > MOST:
            return None
        grid = np.meshgrid(*(np.array(kinds, np.int8) for kinds in self.choices), indexing="ij")
        found = self.wired(np.stack([axis.ravel() for axis in grid], 1))
        return found[self.valid(found)]

    def draw(self, n: int, rng: np.random.Generator) -> Architectures:
        """``n`` members, independent and uniform over what ``choices`` and the rules allow.

        Raises:
            ArgumentError: Hardly any random choice satisfies the rules.
        """
        parts: list[Architectures] = []
        missing, tried = n, 0
        while missing > 0:
            batch = self._guess(max(64, 2 * missing), rng)
            kept = batch[self.valid(batch)][:missing]
            parts.append(kept)
            missing, tried = missing - len(kept), tried + len(batch)
            if tried > 1000 * (n - missing + 1):
                raise ArgumentError(
                    f"fewer than one in a thousand random choices is a member of {self.name!r}; "
                    "override draw() of the space"
                )
        return Architectures.join(parts) if parts else self._guess(0, rng)

    def _guess(self, n: int, rng: np.random.Generator) -> Architectures:
        ops = np.stack([rng.choice(kinds, n) for kinds in self.choices], 1).astype(np.int8)
        if self.wiring is not None:
            return self.wired(ops)
        wires = rng.random((n, self.nodes, self.nodes)) < 0.5
        return Architectures(ops, np.triu(wires, 1))

    def neighbours(self, arch: Architectures) -> Architectures:
        """All members that differ from ``arch`` in one type (or one edge, where it is free)."""
        base, batch = arch.ops[0], []
        for place, kinds in enumerate(self.choices):
            for kind in kinds:
                if kind != base[place]:
                    ops = base.copy()
                    ops[place] = kind
                    batch.append((ops, arch.wires[0]))
        if self.wiring is None:
            for i, j in zip(*np.triu_indices(self.nodes, 1), strict=True):
                wires = arch.wires[0].copy()
                wires[i, j] ^= True
                batch.append((base, wires))
        found = Architectures(
            np.stack([ops for ops, _ in batch]), np.stack([wires for _, wires in batch])
        )
        return found[self.valid(found)]

    def mutate(self, arch: Architectures, rng: np.random.Generator) -> Architectures:
        """A random neighbour; ``arch`` itself if it has none."""
        near = self.neighbours(arch)
        return near[int(rng.integers(len(near)))] if len(near) else arch

    # -- what an architecture is ------------------------------------------------------------------

    def key(self, arch: Architectures) -> Hashable:
        """What equal architectures share; by default types and wires as they stand."""
        edges = () if self.wiring is not None else arch.wires[0].tobytes()
        return (arch.ops[0].tobytes(), edges)

    def features(self, archs: Architectures) -> list[NDArray[np.float64]]:
        """What kernels compare architectures by: views, each ``[m, f]``; one-hot types and edges.

        A space that knows better ones (what runs to the output, say) adds them as further views.
        """
        hot = np.eye(len(self.types))[np.maximum(archs.ops, 0)]
        hot = hot * (archs.ops >= 0)[..., None]
        parts = [hot.reshape(len(archs), -1)]
        if self.wiring is None:
            i, j = np.triu_indices(self.nodes, 1)
            parts.append(archs.wires[:, i, j].astype(float))
        return [np.concatenate(parts, 1)]

    def describe(self, arch: Architectures) -> dict[str, Any]:
        """An architecture as plain values."""
        i, j = np.nonzero(arch.wires[0])
        return {
            "space": self.name,
            "nodes": [self.types[t] if t >= 0 else None for t in arch.ops[0]],
            "edges": [[int(a), int(b)] for a, b in zip(i, j, strict=True)],
        }

    def read(self, value: Mapping[str, Any]) -> Architectures:
        """The inverse of :meth:`describe`.

        Raises:
            ArgumentError: It is of another space, or has unknown types.
        """
        number = {name: k for k, name in enumerate(self.types)} | {None: -1}
        nodes = value.get("nodes", [])
        if value.get("space") != self.name or len(nodes) != self.nodes or set(nodes) - set(number):
            raise ArgumentError(
                f"expected an architecture of {self.name!r} with {self.nodes} nodes of the types "
                f"{', '.join(self.types)}, found space {value.get('space')!r} and nodes {nodes}"
            )
        wires = np.zeros((1, self.nodes, self.nodes), bool)
        for a, b in value.get("edges", []):
            wires[0, a, b] = True
        return Architectures(np.array([[number[name] for name in nodes]], np.int8), wires)

    def network(self, arch: Architectures) -> nx.DiGraph:
        """A networkx graph; nodes carry ``type``, blank ones are left out."""
        import networkx as nx

        graph = nx.DiGraph(space=self.name)
        for place, kind in enumerate(arch.ops[0].tolist()):
            if kind != self.blank:
                graph.add_node(place, type=self.types[kind] if kind >= 0 else "undecided")
        for a, b in np.argwhere(arch.wires[0]).tolist():
            if a in graph and b in graph:
                graph.add_edge(a, b)
        return graph

    def module(self, arch: Architectures, **shape: Any) -> Any:
        """A :class:`torch.nn.Module` of the architecture.

        Raises:
            ArgumentError: The space does not know how to build one.
        """
        raise ArgumentError(
            f"the space {self.name!r} builds no torch module; spaces that do: nasbench201, or your "
            "own with a method module()"
        )
