"""A data set of sequences: packed sequences, splits, measured values, and the data card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.sequence.sequences import Sequences

__all__ = ["SequenceDataset"]

Int = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SequenceDataset:
    """A named set of sequences with its splits, measurements and card.

    Attributes:
        name: Name under which :func:`graphdiff.data.load` finds it.
        sequences: All sequences.
        splits: Index arrays ``int64`` into ``sequences``, by name ("train", "test", ...).
        values: Measurements ``float64 [n]`` by name; NaN where a sequence was not measured.
        card: Source, licence, citation, counts, checksums.
        names: A name per sequence, where the file had them.

    Raises:
        DataError: If the set is empty, a split points outside it, or values have another length.
    """

    name: str
    sequences: Sequences
    splits: Mapping[str, Int]
    values: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        n = len(self.sequences)
        if not n:
            raise DataError(
                f"data set {self.name!r} is empty: no sequence was read; check the file it was "
                "built from"
            )
        for split, index in self.splits.items():
            if len(index) and (index.min() < 0 or index.max() >= n):
                raise DataError(
                    f"split {split!r} of {self.name!r} points at sequence {int(index.max())}, but "
                    f"the set has {n}: the split belongs to another version of the set"
                )
        for key, array in self.values.items():
            if array.shape != (n,) or array.dtype != np.float64:
                raise DataError(
                    f"values {key!r} of {self.name!r} must be float64 of shape [{n}], found "
                    f"{array.dtype} of shape {list(array.shape)}"
                )

    @property
    def graphs(self) -> NoReturn:
        """There are none; the error says so to tasks that were given the wrong kind of data."""
        raise ArgumentError(
            f"data set {self.name!r} holds sequences, not graphs: choose a data set of graphs, or "
            "a task for sequences (mdlm, regressor)"
        )

    atoms = smiles = graphs

    def index(self, split: str) -> Int:
        """Positions of the sequences of a split, ``int64 [n]``.

        Raises:
            ArgumentError: If there is no such split.
        """
        if split not in self.splits:
            raise ArgumentError(
                f"data set {self.name!r} has no split {split!r}; it has {', '.join(self.splits)}"
            )
        return self.splits[split]

    def split(self, name: str) -> Sequences:
        """The sequences of one split."""
        return self.sequences[self.index(name)]

    def split_values(self, name: str, key: str) -> NDArray[np.float64]:
        """One measurement of a split, ``float64 [n]``, NaN where there is none.

        Raises:
            ArgumentError: If there is no such split or measurement.
        """
        if key not in self.values:
            known = ", ".join(self.values) or "none"
            raise ArgumentError(f"data set {self.name!r} has no values {key!r}; it has {known}")
        return self.values[key][self.index(name)]

    def fingerprint(self, split: str) -> dict[str, Any]:
        """What identifies a split: name, split, number of sequences, sha256 of their content."""
        chosen = self.split(split)
        return {"name": self.name, "split": split, "n": len(chosen), "sha256": chosen.sha256()}
