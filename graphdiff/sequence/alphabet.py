"""Alphabets of biological sequences, with the ambiguity codes of IUPAC.

A token is the position of its letter in :attr:`Alphabet.letters`. Letters are read in upper and
lower case alike (lower case is the soft mask of repeats in genome files and carries no other
base); what is written is upper case. ``U`` in DNA is read as ``T`` and ``T`` in RNA as ``U``: the
same base in the other acid. A single ``*`` at the end of a protein is its stop, no residue, and is
dropped.

An ambiguity code stands for several letters (IUPAC-IUB 1984, Nucleic Acids Res. 13:3021): of DNA
``R Y S W K M B D H V N``, of proteins ``B`` (D or N), ``Z`` (E or Q), ``J`` (I or L), ``X`` (any).
The residues ``U`` (selenocysteine) and ``O`` (pyrrolysine) lie outside the twenty of the protein
alphabet; they stand for the residue whose modification they are, C and K, and are treated as
ambiguity codes, so that nobody loses them unknowingly.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphdiff.core.errors import ArgumentError, DataError

__all__ = ["DNA", "PROTEIN", "RNA", "Alphabet", "alphabets", "ambiguity_codes", "find_alphabet"]

_BAD, _AMBIGUOUS = 255, 254  # entries of the look-up table that are no token
_NUCLEIC = {
    "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC", "B": "CGT", "D": "AGT",
    "H": "ACT", "V": "ACG", "N": "ACGT",
}  # fmt: skip
_RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
_CODES: dict[str, dict[str, str]] = {
    "dna": _NUCLEIC,
    "rna": {code: letters.replace("T", "U") for code, letters in _NUCLEIC.items()},
    "protein": {"B": "DN", "Z": "EQ", "J": "IL", "X": _RESIDUES, "U": "C", "O": "K"},
}
_SAME = {"dna": ("U", "T"), "rna": ("T", "U")}  # the same base in the other acid


@dataclass(frozen=True)
class Alphabet:
    """The letters of a kind of sequence; a token is a letter's position.

    Attributes:
        name: ``dna``, ``rna``, ``protein``, or a name of your own (without ambiguity codes).
        letters: The letters, upper-case ASCII, each once; at most 64.

    Raises:
        ArgumentError: If the letters are not as above.
    """

    name: str
    letters: str

    def __post_init__(self) -> None:
        good = self.letters.isascii() and self.letters.isalpha() and self.letters.isupper()
        if not (good and len(set(self.letters)) == len(self.letters) <= 64):
            raise ArgumentError(
                f"the letters of an alphabet must be at most 64 different upper-case ASCII "
                f"letters, found {self.letters!r}"
            )

    def __len__(self) -> int:
        return len(self.letters)

    def encode(
        self, text: str, *, where: str = "sequence", ambiguous: str = "error", seed: int = 0
    ) -> NDArray[np.uint8]:
        """The tokens of a text.

        Args:
            text: Letters in either case.
            where: What the text is, for messages ("record 'chr1' of a.fa").
            ambiguous: ``error``, or ``random``: draw one of the letters that a code stands for.
            seed: Seed of that draw, which depends on (seed, text) only.

        Returns:
            Tokens ``uint8 [n]``.

        Raises:
            DataError: If the text is empty or holds a character that is no letter of the alphabet
                or (under ``error``) an ambiguity code; the message names the position from 1.
            ArgumentError: If ``ambiguous`` is neither.
        """
        if ambiguous not in ("error", "random"):
            raise ArgumentError(f"ambiguous must be 'error' or 'random', found {ambiguous!r}")
        tokens = self._look_up(text, where)
        unclear = np.flatnonzero(tokens == _AMBIGUOUS)
        if not len(unclear):
            return tokens
        codes = ambiguity_codes(self)
        if ambiguous == "error":
            k = int(unclear[0])
            code = text[k].upper()
            raise DataError(
                f"{where} has the ambiguity code {code!r} (any of {', '.join(codes[code])}) at "
                f"position {k + 1}, {len(unclear)} in all: leave such sequences out "
                "(ambiguous='skip' of the readers) or draw a letter (ambiguous='random')"
            )
        rng = np.random.default_rng([seed, zlib.crc32(text.upper().encode("ascii"))])
        for k, u in zip(unclear.tolist(), rng.random(len(unclear)).tolist(), strict=True):
            among = codes[text[k].upper()]
            tokens[k] = self.letters.index(among[int(u * len(among))])
        return tokens

    def is_ambiguous(self, text: str, *, where: str = "sequence") -> bool:
        """Whether the text holds an ambiguity code.

        Raises:
            DataError: If it is empty or holds a character that is neither letter nor code.
        """
        return bool((self._look_up(text, where) == _AMBIGUOUS).any())

    def _look_up(self, text: str, where: str) -> NDArray[np.uint8]:
        """Tokens, with 254 at ambiguity codes."""
        if self.name == "protein" and text.endswith("*"):
            text = text[:-1]
        if not text:
            raise DataError(f"{where} is empty: give it letters or leave it out")
        raw = np.frombuffer(text.encode("latin-1", "replace"), np.uint8)
        tokens = _table(self)[raw]
        bad = np.flatnonzero(tokens == _BAD)
        if len(bad):
            k = int(bad[0])
            gap = " (a gap: remove gaps of alignments first)" if text[k] in "-." else ""
            raise DataError(
                f"{where} has {text[k]!r}{gap} at position {k + 1}, which is no letter of the "
                f"{self.name} alphabet {self.letters}: mend it, or choose another alphabet of "
                f"{', '.join(alphabets())}"
            )
        return tokens

    def decode(self, tokens: ArrayLike) -> str:
        """The text of tokens ``[n]``.

        Raises:
            ArgumentError: If a token is no letter (a mask class, say).
        """
        array = np.asarray(tokens)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ArgumentError(
                f"tokens to decode must be whole numbers of shape [n], found {array.dtype} of "
                f"shape {list(array.shape)}"
            )
        if len(array) and (array.min() < 0 or array.max() >= len(self)):
            wrong = array[(array < 0) | (array >= len(self))][0]
            raise ArgumentError(
                f"token {int(wrong)} is no letter: the {self.name} alphabet has {len(self)}, "
                "tokens 0 and up; cut padding off and denoise masked positions first"
            )
        return np.frombuffer(self.letters.encode(), np.uint8)[array].tobytes().decode("ascii")


def ambiguity_codes(alphabet: Alphabet) -> Mapping[str, str]:
    """The letters that each ambiguity code stands for; empty for an alphabet of your own."""
    return _CODES[alphabet.name] if alphabet in _KNOWN.values() else {}


@cache
def _table(alphabet: Alphabet) -> NDArray[np.uint8]:
    """Token of each byte, 255 where there is none."""
    table = np.full(256, _BAD, np.uint8)

    def put(letter: str, value: int) -> None:
        table[ord(letter)] = table[ord(letter.lower())] = value

    for code in ambiguity_codes(alphabet):
        put(code, _AMBIGUOUS)
    for token, letter in enumerate(alphabet.letters):
        put(letter, token)
    if alphabet in _KNOWN.values() and alphabet.name in _SAME:
        other, own = _SAME[alphabet.name]
        put(other, alphabet.letters.index(own))
    return table


DNA = Alphabet("dna", "ACGT")
RNA = Alphabet("rna", "ACGU")
PROTEIN = Alphabet("protein", _RESIDUES)
_KNOWN = {a.name: a for a in (DNA, RNA, PROTEIN)}


def alphabets() -> tuple[str, ...]:
    """Names that :func:`find_alphabet` knows."""
    return tuple(_KNOWN)


def find_alphabet(name: str) -> Alphabet:
    """The alphabet of a name.

    Raises:
        ArgumentError: If there is none.
    """
    if name not in _KNOWN:
        raise ArgumentError(f"unknown alphabet {name!r}; there are {', '.join(_KNOWN)}")
    return _KNOWN[name]
