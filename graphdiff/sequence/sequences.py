r"""Packed sets of sequences.

:math:`n` sequences of lengths :math:`l_i` are stored as one array of
:math:`\sum_i l_i` tokens; sequence :math:`i` is ``tokens[ptr[i]:ptr[i + 1]]``. Nothing is padded,
and the arrays may live in a file that is memory-mapped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.packed import read_arrays, write_arrays
from graphdiff.data.packing import pointer, ranges
from graphdiff.sequence.alphabet import Alphabet

__all__ = ["Sequences", "concat"]

Int = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sequences:
    """An immutable list of sequences over one alphabet, in packed form.

    Attributes:
        tokens: All tokens, ``uint8 [total]``.
        ptr: Where each sequence starts, ``int64 [n + 1]``; no sequence is empty.
        alphabet: The letters.

    Raises:
        ArgumentError: If a shape, dtype or token is not as above.
    """

    tokens: NDArray[np.uint8]
    ptr: Int
    alphabet: Alphabet

    def __post_init__(self) -> None:
        for name, dtype in (("tokens", np.uint8), ("ptr", np.int64)):
            array = getattr(self, name)
            if getattr(array, "dtype", None) != dtype or np.ndim(array) != 1:
                raise ArgumentError(
                    f"Sequences.{name} must be {np.dtype(dtype)} of one dimension, found "
                    f"{getattr(array, 'dtype', type(array))} of shape {list(np.shape(array))}: "
                    "build the set with Sequences.from_strings or from_dense"
                )
        if not len(self.ptr) or self.ptr[0] != 0 or self.ptr[-1] != len(self.tokens):
            raise ArgumentError(
                f"Sequences.ptr must run from 0 to the number of tokens {len(self.tokens)}, found "
                f"{self.ptr[:1].tolist()} to {self.ptr[-1:].tolist()}"
            )
        if (np.diff(self.ptr) < 1).any():
            k = int(np.flatnonzero(np.diff(self.ptr) < 1)[0])
            raise ArgumentError(f"sequence {k} is empty: leave empty sequences out")
        if len(self.tokens) and int(self.tokens.max()) >= len(self.alphabet):
            raise ArgumentError(
                f"Sequences.tokens holds {int(self.tokens.max())}, but the {self.alphabet.name} "
                f"alphabet has {len(self.alphabet)} letters: denoise masked positions first"
            )

    # -- building ---------------------------------------------------------------------------

    @classmethod
    def empty(cls, alphabet: Alphabet) -> Sequences:
        """The set without sequences."""
        return cls(np.zeros(0, np.uint8), np.zeros(1, np.int64), alphabet)

    @classmethod
    def from_strings(
        cls,
        strings: Iterable[str],
        alphabet: Alphabet,
        *,
        names: Sequence[str] | None = None,
        ambiguous: str = "error",
        seed: int = 0,
    ) -> Sequences:
        """Packs texts.

        Args:
            strings: One text per sequence, in upper or lower case.
            alphabet: Its letters.
            names: A name per text, for messages.
            ambiguous: What to do with ambiguity codes: ``error``; ``skip`` leaves the sequence
                out; ``random`` draws a letter, see :meth:`Alphabet.encode`.
            seed: Seed of that draw.

        Raises:
            DataError: If a text is empty or has a letter that the alphabet lacks; the message
                names the sequence and the position.
            ArgumentError: If ``ambiguous`` is unknown or the names do not fit.
        """
        texts = list(strings)
        if names is not None and len(names) != len(texts):
            raise ArgumentError(f"{len(texts)} sequences but {len(names)} names: give one each")
        if ambiguous not in ("error", "skip", "random"):
            raise ArgumentError(
                f"ambiguous must be 'error', 'skip' or 'random', found {ambiguous!r}"
            )
        policy = "error" if ambiguous == "skip" else ambiguous
        parts: list[NDArray[np.uint8]] = []
        for i, text in enumerate(texts):
            where = f"sequence {i}" if names is None else f"sequence {names[i]!r}"
            if ambiguous == "skip" and alphabet.is_ambiguous(text, where=where):
                continue
            parts.append(alphabet.encode(text, where=where, ambiguous=policy, seed=seed))
        lengths = np.asarray([len(p) for p in parts], np.int64)
        return cls(np.concatenate([*parts, np.zeros(0, np.uint8)]), pointer(lengths), alphabet)

    @classmethod
    def from_dense(
        cls, tokens: ArrayLike, alphabet: Alphabet, mask: ArrayLike | None = None
    ) -> Sequences:
        """Packs padded tokens.

        Args:
            tokens: Whole numbers ``[b, L]``; what lies on padding is ignored.
            alphabet: Its letters.
            mask: True where a position is real, ``[b, L]``; None = all. Real positions need not
                come first; their order is kept.

        Raises:
            ArgumentError: If a shape is wrong, a row is empty, or a token is no letter.
        """
        array = np.asarray(tokens)
        keep = np.ones(array.shape, bool) if mask is None else np.asarray(mask, dtype=bool)
        if array.ndim != 2 or array.dtype.kind not in "iu" or keep.shape != array.shape:
            raise ArgumentError(
                f"tokens must be whole numbers of shape [b, L] and the mask of the same shape, "
                f"found {array.dtype} {list(array.shape)} and {list(keep.shape)}"
            )
        flat = array[keep]
        if len(flat) and (flat.min() < 0 or flat.max() >= len(alphabet)):
            row = int(np.flatnonzero((keep & ((array < 0) | (array >= len(alphabet)))).any(1))[0])
            raise ArgumentError(
                f"sequence {row} holds a token that is no letter of the {alphabet.name} alphabet "
                f"(0 to {len(alphabet) - 1}): denoise masked positions first"
            )
        return cls(flat.astype(np.uint8), pointer(keep.sum(1)), alphabet)

    # -- reading ----------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.ptr) - 1

    def __iter__(self) -> Iterator[Sequences]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequences):
            return NotImplemented
        return (
            self.alphabet == other.alphabet
            and np.array_equal(self.ptr, other.ptr)
            and np.array_equal(self.tokens, other.tokens)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def lengths(self) -> Int:
        """Length of each sequence, ``int64 [n]``."""
        return np.diff(self.ptr)

    @property
    def max_length(self) -> int:
        """Length of the longest sequence; 0 for an empty set."""
        return int(self.lengths.max()) if len(self) else 0

    def __getitem__(self, index: int | slice | ArrayLike) -> Sequences:
        """The sequences at an index, slice, index array or boolean mask, as a new set."""
        rows = np.atleast_1d(np.arange(len(self))[index])  # type: ignore[index]
        counts = self.lengths[rows]
        return Sequences(
            np.asarray(self.tokens)[ranges(self.ptr[rows], counts)], pointer(counts), self.alphabet
        )

    def strings(self) -> list[str]:
        """The texts, in upper case."""
        whole = self.alphabet.decode(self.tokens)
        bounds = self.ptr.tolist()
        return [whole[a:b] for a, b in pairwise(bounds)]

    def dense(
        self, index: int | slice | ArrayLike | None = None, to: int | None = None
    ) -> tuple[Int, NDArray[np.bool_]]:
        """Padded tokens of some sequences.

        Args:
            index: Which, as in ``sequences[index]``; None = all.
            to: Width of the padding; None = the longest of the chosen.

        Returns:
            Tokens ``int64 [b, L]`` (0 on padding) and the mask ``bool [b, L]``.

        Raises:
            DataError: If a sequence is longer than ``to``; the message names it.
        """
        s = self if index is None else self[index]
        width = s.max_length if to is None else to
        long = np.flatnonzero(s.lengths > width)
        if len(long):
            raise DataError(
                f"sequence {int(long[0])} of the {len(s)} chosen has {int(s.lengths[long[0]])} "
                f"letters, more than the maximum of {width} ({len(long)} such): raise the maximum "
                "of the model, or leave them out with sequences[sequences.lengths <= maximum]"
            )
        mask = np.arange(width)[None] < s.lengths[:, None]
        out = np.zeros((len(s), width), np.int64)
        out[mask] = s.tokens
        return out, mask

    # -- storage ----------------------------------------------------------------------------

    def _arrays(self) -> dict[str, NDArray[Any]]:
        text = f"{self.alphabet.name}:{self.alphabet.letters}"
        named = np.frombuffer(text.encode("utf-8"), np.uint8)
        return {"tokens": self.tokens, "ptr": self.ptr, "alphabet": named}

    def sha256(self) -> str:
        """Hash of the content, equal on every machine."""
        digest = hashlib.sha256()
        for name, array in sorted(self._arrays().items()):
            digest.update(f"{name}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> Path:
        """Writes an uncompressed ``.npz`` under a temporary name, then renames it."""
        return write_arrays(Path(path), self._arrays())

    @classmethod
    def load(cls, path: str | Path, *, mmap: bool = True) -> Sequences:
        """Reads what :meth:`save` wrote.

        Args:
            path: The file.
            mmap: Map the arrays instead of reading them.

        Raises:
            DataError: If the file is missing, truncated, lacks an array or contradicts itself.
        """
        arrays = read_arrays(Path(path), mmap=mmap)
        lacking = {"tokens", "ptr", "alphabet"} - set(arrays)
        if lacking:
            raise DataError(
                f"{path} holds no array {', '.join(sorted(lacking))} (found: "
                f"{', '.join(sorted(arrays))}): it is not a packed set of sequences; write one "
                "with Sequences.save"
            )
        try:
            name, _, letters = bytes(np.asarray(arrays["alphabet"])).decode("utf-8").partition(":")
            return cls(arrays["tokens"], arrays["ptr"], Alphabet(name, letters))
        except ValueError as error:  # of the alphabet, of the arrays, of the decoding
            raise DataError(f"{path} is no packed set of sequences: {error}") from error


def concat(parts: Sequence[Sequences]) -> Sequences:
    """Joins sets of sequences, in order.

    Raises:
        ArgumentError: If there are none, or their alphabets differ.
    """
    if not parts:
        raise ArgumentError("no sets of sequences to join: use Sequences.empty(alphabet)")
    letters = {p.alphabet for p in parts}
    if len(letters) > 1:
        raise ArgumentError(
            f"cannot join sequences over {' and '.join(sorted(a.name for a in letters))}: read "
            "them all with one alphabet"
        )
    return Sequences(
        np.concatenate([p.tokens for p in parts]),
        pointer(np.concatenate([p.lengths for p in parts])),
        parts[0].alphabet,
    )
