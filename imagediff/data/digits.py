"""The 1,797 handwritten digits of 8 x 8 pixels that ship inside scikit-learn.

Pixels count ink from 0 to 16; here they are scaled to ``[-1, 1]`` as ``count / 8 - 1``. The data
set has no published split, so this one is fixed by a rule that depends on the image number alone:
image ``i`` is in the test split when the first byte of ``sha256(str(i))`` is a multiple of 5.

References:
    Alpaydin & Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998
    (CC BY 4.0). scikit-learn ships its test part as ``sklearn.datasets.load_digits``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.core.state import State
from graphdiff.task import Data

__all__ = ["CLASSES", "LEVELS", "SHA256", "SHAPE", "Digits", "Split", "load_digits", "split_index"]

CLASSES = 10
LEVELS = 16
SHAPE = (1, 8, 8)
SHA256 = "65e5b4619795efb40c1082f4c350c049e4ad552200d369b6ae99e21eef5e72c5"


def _in_test(index: int) -> bool:
    return hashlib.sha256(str(index).encode()).digest()[0] % 5 == 0


def split_index(split: Literal["train", "test"], total: int = 1797) -> np.ndarray:
    """Image numbers of a split, ascending int64.

    Raises:
        ArgumentError: ``split`` is neither ``train`` nor ``test``.
    """
    if split not in ("train", "test"):
        raise ArgumentError(f"unknown split {split!r} of digits: use 'train' or 'test'")
    chosen = [i for i in range(total) if _in_test(i) == (split == "test")]
    return np.asarray(chosen, dtype=np.int64)


@lru_cache(maxsize=1)
def _everything() -> tuple[np.ndarray, np.ndarray]:
    """Ink counts uint8 ``[1797, 8, 8]`` and classes int64 ``[1797]``, checked by checksum."""
    from sklearn.datasets import load_digits as load

    bunch = load()
    ink = bunch.images.astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    found = hashlib.sha256(ink.tobytes() + labels.astype("<i8").tobytes()).hexdigest()
    if found != SHA256:
        raise DataError(
            f"digits of scikit-learn have sha256 {found}, expected {SHA256}: this version ships "
            "other images; install scikit-learn 1.3 or later from its official release"
        )
    ink.setflags(write=False)
    labels.setflags(write=False)
    return ink, labels


@dataclass(frozen=True)
class Split:
    """One split in memory.

    Attributes:
        name: ``train`` or ``test``.
        index: Image numbers in scikit-learn's order, int64 ``[n]``.
        ink: Ink counts 0 to 16, uint8 ``[n, 8, 8]``.
        labels: Classes 0 to 9, int64 ``[n]``.
    """

    name: str
    index: np.ndarray
    ink: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        """Number of images."""
        return len(self.index)

    def fingerprint(self) -> dict[str, Any]:
        """Name, split, size, licence, and sha256 over ink counts and classes, in order."""
        digest = hashlib.sha256(self.ink.tobytes() + self.labels.astype("<i8").tobytes())
        return {
            "name": "digits",
            "split": self.name,
            "n": len(self),
            "sha256": digest.hexdigest(),
            "licence": "CC BY 4.0",
        }


def load_digits(split: Literal["train", "test"] = "train") -> Split:
    """Load a split.

    Raises:
        ArgumentError: ``split`` is unknown.
        DataError: The installed scikit-learn ships other images.
    """
    index = split_index(split)
    ink, labels = _everything()
    return Split(split, index, ink[index], labels[index])


class Digits(Data):
    """A split as a training set: pixels float32 ``[b, 1, 8, 8]`` in ``[-1, 1]`` and classes.

    The classes travel in the state under ``label``: a value that no process corrupts.
    """

    def __init__(self, split: Literal["train", "test"] = "train") -> None:
        self.split = load_digits(split)
        self._pixels = torch.from_numpy(self.split.ink.astype(np.float32) / 8 - 1)[:, None]
        self._labels = torch.from_numpy(self.split.labels.copy())

    def __len__(self) -> int:
        """Number of images."""
        return len(self.split)

    def batch(self, index: Tensor) -> State:
        """The images ``index`` (positions in the split, int64 ``[b]``).

        Raises:
            ArgumentError: A position is outside the split.
        """
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(self):
            raise ArgumentError(
                f"digits {self.split.name}: positions {int(index.min())} to {int(index.max())} "
                f"asked for, but the split has {len(self)} images; use 0 to {len(self) - 1}"
            )
        values = {"pixels": self._pixels[index], "label": self._labels[index]}
        return State(values=values, masks={}, ids=index)

    def fingerprint(self) -> dict[str, Any]:
        """Name, split, number of images and sha256 of the split."""
        return self.split.fingerprint()
