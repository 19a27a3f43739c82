r"""Protein backbones: the coordinates of N, CA, C and O of every residue, and what they belong to.

A backbone keeps chains, residue numbers and insertion codes of its file. Its *positions* say how
far apart two residues of a chain are along the sequence: they advance by the difference of the
residue numbers, so that a loop that is missing in the file leaves a gap, and by one where numbers
do not advance (insertion codes). Networks read positions, users read residue numbers.

Sets of backbones are stored packed, without padding: residue ``l`` of backbone ``i`` is row
``ptr[i] + l`` of every array.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.packed import read_arrays, write_arrays
from graphdiff.sequence.alphabet import PROTEIN

__all__ = [
    "ATOMS",
    "UNKNOWN",
    "Backbone",
    "Batch",
    "collate",
    "letters_of",
    "load_backbones",
    "save_backbones",
    "sha256",
]

ATOMS = ("N", "CA", "C", "O")
UNKNOWN = len(PROTEIN.letters)
"""Class of a residue whose amino acid is unknown, ``X``."""
_LETTERS = PROTEIN.letters + "X"
_CLASSES = {letter: k for k, letter in enumerate(_LETTERS)}
_PLACE = re.compile(r"(-?\d+)([A-Za-z]?)")


@dataclass(frozen=True, eq=False)
class Backbone:
    """One or several protein chains; immutable.

    Attributes:
        name: What users call it, usually the name of its file.
        coords: Å, ``float32 [L, 4, 3]``, atoms in the order of ``ATOMS``; zeros where ``mask`` is
            False.
        sequence: One letter for each residue, ``X`` where it is unknown.
        chain: Index of the chain of each residue, ``int64 [L]``; residues of a chain are adjacent.
        chain_ids: Identifier of each chain.
        numbers: Residue numbers, ``int64 [L]``.
        insertions: Insertion codes, one character each (a blank for none), ``L`` characters.
        mask: Whether all four atoms of a residue are known, ``bool [L]``.
        dropped: Residues of the file that were left out because atoms of theirs are missing.

    Raises:
        ArgumentError: A shape or dtype is not the one above, or a coordinate is not finite.
    """

    name: str
    coords: NDArray[np.float32]
    sequence: str
    chain: NDArray[np.int64]
    chain_ids: tuple[str, ...]
    numbers: NDArray[np.int64]
    insertions: str
    mask: NDArray[np.bool_]
    dropped: int = 0

    def __post_init__(self) -> None:
        length = len(self.sequence)
        wanted = (
            ("coords", np.float32, (length, 4, 3)),
            ("chain", np.int64, (length,)),
            ("numbers", np.int64, (length,)),
            ("mask", np.bool_, (length,)),
        )
        for field, dtype, shape in wanted:
            array = getattr(self, field)
            if array.dtype != dtype or array.shape != shape:
                raise ArgumentError(
                    f"Backbone.{field} of {self.name!r} must be {np.dtype(dtype)} {list(shape)}, "
                    f"found {array.dtype} {list(array.shape)}; read structures with "
                    "graphdiff.sequence.structure_io, or convert the array"
                )
        if len(self.insertions) != length or set(self.sequence) - set(_LETTERS):
            raise ArgumentError(
                f"Backbone {self.name!r}: expected {length} insertion codes and letters of "
                f"{_LETTERS}, found {len(self.insertions)} codes and the sequence {self.sequence!r}"
            )
        steps = np.diff(self.chain)
        if length == 0 or self.chain[0] != 0 or not np.isin(steps, (0, 1)).all():
            raise ArgumentError(
                f"Backbone {self.name!r} must have residues, and its chains must be numbered "
                "0, 1, 2 .. in the order of the residues"
            )
        if int(self.chain[-1]) + 1 != len(self.chain_ids):
            raise ArgumentError(
                f"Backbone {self.name!r} has {int(self.chain[-1]) + 1} chains and "
                f"{len(self.chain_ids)} chain_ids; name each chain"
            )
        if not np.isfinite(self.coords).all():
            raise ArgumentError(
                f"Backbone {self.name!r} has coordinates that are not finite; set them to zero and "
                "`mask` to False there"
            )

    def __len__(self) -> int:
        return len(self.sequence)

    def __repr__(self) -> str:
        sizes = np.bincount(self.chain).tolist()
        chains = ", ".join(f"{c or '-'}: {n}" for c, n in zip(self.chain_ids, sizes, strict=True))
        return f"Backbone({self.name!r}, {chains})"

    @cached_property
    def tokens(self) -> NDArray[np.int64]:
        """Class of each residue in the alphabet of the networks, ``int64 [L]``; X is 20."""
        return np.array([_CLASSES[letter] for letter in self.sequence], dtype=np.int64)

    @cached_property
    def position(self) -> NDArray[np.int64]:
        """Place of each residue along its chain, with gaps where residues are missing, ``[L]``."""
        step = np.diff(self.numbers, prepend=self.numbers[:1])
        step = np.maximum(step, 1)
        total = np.cumsum(step)
        first = np.searchsorted(self.chain, np.arange(len(self.chain_ids)))
        return total - total[first][self.chain]

    @property
    def breaks(self) -> int:
        """Places inside a chain where residue numbers skip or C and N are over 2.5 Å apart."""
        same = np.diff(self.chain) == 0
        gap = np.linalg.norm(self.coords[1:, 0] - self.coords[:-1, 2], axis=-1)
        known = self.mask[1:] & self.mask[:-1]
        apart = (np.diff(self.position) > 1) | (known & (gap > 2.5))
        return int((same & apart).sum())

    def chains(self, text: str) -> list[str]:
        """The sequence ``text`` of this backbone cut into its chains."""
        ends = np.cumsum(np.bincount(self.chain)).tolist()
        return [text[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]

    def encode(self, sequence: str) -> NDArray[np.int64]:
        """Classes ``int64 [L]`` of a sequence of this backbone; ``/`` between chains may be there.

        Raises:
            ArgumentError: Another length, or a letter that is no amino acid (or X).
        """
        parts = sequence.upper().split("/")
        sizes = np.bincount(self.chain).tolist()
        text = "".join(parts)
        right = len(text) == len(self) and (len(parts) == 1 or [len(p) for p in parts] == sizes)
        if not right or set(text) - set(_LETTERS):
            raise ArgumentError(
                f"a sequence of {self.name!r} needs {'/'.join(map(str, sizes))} letters of "
                f"{_LETTERS}, found {'/'.join(str(len(p)) for p in parts)}: {sequence[:60]!r}"
            )
        return np.array([_CLASSES[letter] for letter in text], dtype=np.int64)

    def select(self, selection: str, *, what: str = "selection") -> NDArray[np.int64]:
        """Residues that a text names, ``int64``, in the order of the text.

        Args:
            selection: Comma-separated: a chain (``A``), a residue (``A12``, ``A52B`` with an
                insertion code) or a range (``A12-30``) in residue numbers of the file. A backbone
                whose only chain has no name takes numbers alone.
            what: Name of the argument, for the error.

        Raises:
            ArgumentError: A chain or residue is not there; says which.
        """
        parts = filter(None, (p.strip() for p in selection.split(",")))
        found = [self._select_one(part, what) for part in parts]
        if not found:
            raise ArgumentError(f"{what} {selection!r} names no residues; write, say, A12-30")
        return np.concatenate(found)

    def _select_one(self, part: str, what: str) -> NDArray[np.int64]:
        # Identifiers of several letters exist in mmCIF files, so the longest that fits is meant.
        names = sorted(self.chain_ids, key=len, reverse=True)
        name = next((c for c in names if c and part.startswith(c)), "" if "" in names else None)
        if name is None:
            raise ArgumentError(
                f"{what} {part!r}: {self.name!r} has the chains {', '.join(self.chain_ids)}; "
                "begin with one of them, as in A12-30"
            )
        here = self.chain == self.chain_ids.index(name)
        rest = part[len(name) :]
        if not rest:
            return np.flatnonzero(here)
        ends = re.fullmatch(rf"({_PLACE.pattern})(?:-({_PLACE.pattern}))?", rest)
        if ends is None:
            raise ArgumentError(f"{what} {part!r}: expected a residue (A12) or a range (A12-30)")
        first = self._find(name, here, ends[2], ends[3], part, what)
        last = first if ends[4] is None else self._find(name, here, ends[5], ends[6], part, what)
        if last < first:
            raise ArgumentError(f"{what} {part!r}: the range ends before it begins")
        return np.arange(first, last + 1)

    def _find(
        self, name: str, here: NDArray[np.bool_], number: str, code: str, part: str, what: str
    ) -> int:
        codes = np.array(list(self.insertions))
        match = np.flatnonzero(here & (self.numbers == int(number)) & (codes == (code or " ")))
        if not len(match):
            numbers = self.numbers[here]
            raise ArgumentError(
                f"{what} {part!r}: chain {name or '(unnamed)'} of {self.name!r} has no residue "
                f"{number}{code}; it has numbers {numbers.min()} to {numbers.max()}"
            )
        return int(match[0])


@dataclass(frozen=True)
class Batch:
    """Backbones as padded tensors.

    Attributes:
        coords: Å, float32 ``[b, L, 4, 3]``.
        resolved: Whether the backbone of a residue is known, bool ``[b, L]``; False at padding.
        position: Place along the chain, int64 ``[b, L]``.
        chain: Index of the chain, int64 ``[b, L]``; -1 at padding.
        native: Class of the residue in the file, int64 ``[b, L]``; 20 where unknown.
    """

    coords: Tensor
    resolved: Tensor
    position: Tensor
    chain: Tensor
    native: Tensor


def collate(backbones: Sequence[Backbone], to: int | None = None) -> Batch:
    """Pad backbones to one length.

    Raises:
        ArgumentError: No backbones, or one longer than ``to``.
    """
    longest = max((len(b) for b in backbones), default=0)
    length = longest if to is None else to
    if not backbones or longest > length:
        raise ArgumentError(
            f"collate got {len(backbones)} backbones of up to {longest} residues to pad to "
            f"{length}; give at least one and raise `to`"
        )
    shape = (len(backbones), length)
    coords = torch.zeros(*shape, 4, 3)
    resolved = torch.zeros(shape, dtype=torch.bool)
    position, native = (torch.zeros(shape, dtype=torch.int64) for _ in range(2))
    chain = torch.full(shape, -1)
    for i, b in enumerate(backbones):
        n = len(b)
        coords[i, :n] = torch.from_numpy(b.coords)
        resolved[i, :n] = torch.from_numpy(b.mask)
        position[i, :n] = torch.from_numpy(b.position)
        chain[i, :n] = torch.from_numpy(b.chain)
        native[i, :n] = torch.from_numpy(b.tokens)
    return Batch(coords, resolved, position, chain, native)


def letters_of(tokens: NDArray[np.integer], chain: NDArray[np.integer]) -> str:
    """Classes as letters, chains separated by ``/``; classes beyond X become X."""
    text = "".join(_LETTERS[min(int(k), UNKNOWN)] for k in tokens)
    cuts = (np.flatnonzero(np.diff(chain)) + 1).tolist()
    return "/".join(text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True))


def sha256(backbones: Sequence[Backbone]) -> str:
    """Hash of names, coordinates, chains, numbers and sequences."""
    digest = hashlib.sha256()
    for b in backbones:
        head = "\0".join((b.name, b.sequence, b.insertions, *b.chain_ids))
        digest.update(head.encode())
        for array in (b.coords, b.chain, b.numbers, b.mask):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


_FIELDS = ("coords", "chain", "numbers", "mask", "letters", "insertions", "ptr")


def save_backbones(path: str | Path, backbones: Sequence[Backbone]) -> Path:
    """Write a set of backbones to a ``.npz`` without pickles; returns the path."""
    ptr = np.cumsum([0, *(len(b) for b in backbones)], dtype=np.int64)
    text = {
        "letters": "".join(b.sequence for b in backbones),
        "insertions": "".join(b.insertions for b in backbones),
    }
    arrays = {
        **{f: np.concatenate([getattr(b, f) for b in backbones]) for f in _FIELDS[:4]},
        **{k: np.frombuffer(v.encode("ascii"), np.uint8) for k, v in text.items()},
        "ptr": ptr,
        "names": np.array([b.name for b in backbones]),
        "chain_ids": np.array(["\n".join(b.chain_ids) for b in backbones]),
        "dropped": np.array([b.dropped for b in backbones], dtype=np.int64),
    }
    return write_arrays(Path(path), arrays)


def load_backbones(path: str | Path) -> list[Backbone]:
    """Read what :func:`save_backbones` wrote.

    Raises:
        DataError: The file is missing, damaged or of something else.
    """
    arrays = read_arrays(Path(path), mmap=False)
    lacking = {*_FIELDS, "names", "chain_ids", "dropped"} - set(arrays)
    if lacking:
        raise DataError(
            f"{path} holds no backbones: it lacks {', '.join(sorted(lacking))}; write it with "
            "save_backbones"
        )
    ptr = arrays["ptr"].tolist()
    text = {k: arrays[k].tobytes().decode("ascii") for k in ("letters", "insertions")}
    found = []
    try:
        for i, (a, b) in enumerate(pairwise(ptr)):
            coords, chain, numbers, mask = (arrays[f][a:b] for f in _FIELDS[:4])
            ids = tuple(str(arrays["chain_ids"][i]).split("\n"))
            found.append(
                Backbone(
                    str(arrays["names"][i]), coords, text["letters"][a:b], chain, ids, numbers,
                    text["insertions"][a:b], mask, int(arrays["dropped"][i]),
                )
            )  # fmt: skip
    except (ArgumentError, IndexError) as error:
        raise DataError(f"{path} is damaged: {error}; write it again") from error
    return found
