"""One architecture, as a user holds it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from graphdiff.graph.nag.space import Architectures, SearchSpace

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Architecture"]


@dataclass(frozen=True, eq=False)
class Architecture:
    """A member of a search space, or a sample that failed to be one.

    Attributes:
        space: The space.
        packed: A batch of one.
    """

    space: SearchSpace
    packed: Architectures

    @cached_property
    def valid(self) -> bool:
        """Whether it satisfies the rules of the space."""
        return bool(self.space.valid(self.packed)[0])

    @property
    def types(self) -> tuple[str | None, ...]:
        """Type of each place; None where a sample decided on none."""
        return tuple(self.to_dict()["nodes"])

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Pairs of places that are wired."""
        return tuple((a, b) for a, b in self.to_dict()["edges"])

    def key(self) -> Hashable:
        """What isomorphic architectures share."""
        return self.space.key(self.packed)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; the space reads them again (:meth:`SearchSpace.read`)."""
        return self.space.describe(self.packed)

    def to_networkx(self) -> nx.DiGraph:
        """A directed graph whose nodes carry ``type``."""
        return self.space.network(self.packed)

    def module(self, **shape: Any) -> Any:
        """A :class:`torch.nn.Module` of it.

        Raises:
            ArgumentError: The space does not know how to build one.
        """
        return self.space.module(self.packed, **shape)

    def __eq__(self, other: object) -> bool:
        """The same space and the same key."""
        return (
            isinstance(other, Architecture)
            and self.space.name == other.space.name
            and self.key() == other.key()
        )

    def __hash__(self) -> int:
        return hash((self.space.name, self.key()))

    def __str__(self) -> str:
        text = getattr(self.space, "text", None)
        if text is not None and self.valid:
            return str(text(self.packed))
        return " ".join("?" if name is None else name for name in self.types)

    def __repr__(self) -> str:
        return f"Architecture({self.space.name!r}, {str(self)!r})"
