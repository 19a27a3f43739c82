"""A data set: packed graphs, splits, SMILES of molecules, and the card that describes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.graphs import Graphs

__all__ = ["Dataset", "Strings"]

Int = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Strings(Sequence[str]):
    """A read-only list of ASCII strings in two arrays, memory-mappable.

    Attributes:
        text: All characters, ``uint8 [total]``.
        ptr: Where each string starts, ``int64 [count + 1]``.
    """

    text: NDArray[np.uint8]
    ptr: Int

    @classmethod
    def pack(cls, items: Iterable[str]) -> Strings:
        """Packs ASCII strings."""
        raw = [s.encode("ascii") for s in items]
        lengths = np.asarray([len(r) for r in raw], dtype=np.int64)
        return cls(
            np.frombuffer(b"".join(raw), np.uint8),
            np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        )

    def __len__(self) -> int:
        return len(self.ptr) - 1

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        k = range(len(self))[int(i)]
        return self.text[int(self.ptr[k]) : int(self.ptr[k + 1])].tobytes().decode("ascii")

    def __iter__(self) -> Iterator[str]:
        whole = self.text.tobytes().decode("ascii")
        bounds = self.ptr.tolist()
        return (whole[a:b] for a, b in pairwise(bounds))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named set of graphs with its splits and the card that describes it.

    Attributes:
        name: Name under which :func:`graphdiff.data.load` finds it.
        graphs: All graphs that could be read.
        splits: Index arrays ``int64`` into ``graphs``, by name ("train", "test", ...).
        atoms: Element of each node class for molecules, else None.
        smiles: SMILES of each graph for molecules, else None.
        card: Source, licence, citation, counts, checksums; ``card["failures"]`` lists every
            molecule that could not be read as (index in the file, reason).
    """

    name: str
    graphs: Graphs
    splits: Mapping[str, Int]
    atoms: tuple[str, ...] | None = None
    smiles: Sequence[str] | None = None
    card: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.graphs):
            raise DataError(
                f"data set {self.name!r} is empty: no graph was read; check the file it was "
                "built from"
            )
        for split, index in self.splits.items():
            if len(index) and (index.min() < 0 or index.max() >= len(self.graphs)):
                raise DataError(
                    f"split {split!r} of {self.name!r} points at graph {int(index.max())}, but the "
                    f"set has {len(self.graphs)}: the split belongs to another version of the set"
                )

    def _index(self, split: str) -> Int:
        if split not in self.splits:
            raise ArgumentError(
                f"data set {self.name!r} has no split {split!r}; it has {', '.join(self.splits)}"
            )
        return self.splits[split]

    def split(self, name: str) -> Graphs:
        """The graphs of one split."""
        return self.graphs[self._index(name)]

    def split_smiles(self, name: str) -> list[str]:
        """The SMILES of one split, in its order.

        Raises:
            ArgumentError: If the set has no SMILES.
        """
        if self.smiles is None:
            raise ArgumentError(f"data set {self.name!r} holds no molecules, hence no SMILES")
        return [self.smiles[int(i)] for i in self._index(name)]

    def fingerprint(self, split: str) -> dict[str, Any]:
        """What identifies a split: name, split, number of graphs, sha256 of their content."""
        graphs = self.split(split)
        return {"name": self.name, "split": split, "n": len(graphs), "sha256": graphs.sha256()}
