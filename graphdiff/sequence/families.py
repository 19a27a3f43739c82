r"""Families of sequences with a common origin, so that no split is crossed by relatives.

Mutation trajectories, aligned homologues and overlapping tiles of a genome repeat each other
almost letter by letter; a random split of them tests memory. Here two sequences are linked if they
share

* :math:`s` consecutive letters at the same positions (variants of one ancestor), or
* :math:`a` consecutive letters anywhere, for nucleotides on either strand (tiles, inversions),

and a family is a connected component of these links. By the pigeonhole principle two sequences of
equal length :math:`L` from different families differ in at least
:math:`\lfloor L / s \rfloor` positions: fewer differences would leave one of that many blocks of
:math:`s` letters untouched.

Which split a family goes to depends on a hash of its smallest member only, so the order of a file
does not matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from graphdiff.core.errors import ArgumentError
from graphdiff.data.packing import ranges
from graphdiff.sequence.sequences import Sequences

__all__ = ["draw_splits", "families", "identical", "shares"]

Int = NDArray[np.int64]
Codes = NDArray[np.uint64]


def families(sequences: Sequences, *, same: int | None = 16, anywhere: int | None = 20) -> Int:
    """The family of each sequence.

    Args:
        sequences: Sequences of any lengths.
        same: Letters in a row at the same positions that make relatives; None: not looked at.
        anywhere: Letters in a row anywhere that make relatives (of either strand, if the letters
            are ``ACGT`` or ``ACGU``); None: not looked at.

    Returns:
        Family numbers ``int64 [n]``, from 0 in order of first appearance. Equal sequences are of
        one family.

    Raises:
        ArgumentError: If words of that length do not fit 64 bits (DNA: 32, proteins: 14).
    """
    size = len(sequences.alphabet)
    longest = int(64 / np.log2(size))
    for name, length in (("same", same), ("anywhere", anywhere)):
        if length is not None and not 1 <= length <= longest:
            raise ArgumentError(
                f"{name} must be 1 to {longest} letters for the {sequences.alphabet.name} "
                f"alphabet, found {length}"
            )
    pairs = [_pairs(_texts(sequences), np.arange(len(sequences)))]
    if same is not None:
        codes, owner, at = _words(sequences.tokens, sequences, same)
        pairs.append(_pairs(codes, owner, at))
    if anywhere is not None:
        codes, owner, _ = _words(sequences.tokens, sequences, anywhere)
        if sequences.alphabet.letters in ("ACGT", "ACGU"):
            codes = np.minimum(codes, _reverse_words(sequences, anywhere))
        pairs.append(_pairs(codes, owner))
    u, v = np.concatenate(pairs, 1)
    n = len(sequences)
    links = coo_matrix((np.ones(len(u), np.int8), (u, v)), shape=(n, n))
    label = connected_components(links, directed=False)[1]
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    out: Int = rank[inverse].astype(np.int64)
    return out


def identical(sequences: Sequences) -> Int:
    """Number of each sequence among the different ones, ``int64 [n]``; equal ones share it."""
    return np.unique(_texts(sequences), return_inverse=True)[1].reshape(-1).astype(np.int64)


def shares(sequences: Sequences, family: Int, salt: str = "") -> NDArray[np.float64]:
    """A number in [0, 1) for each sequence, the same within a family.

    It is a hash of ``salt`` and the alphabetically first member of the family.

    Args:
        sequences: The sequences.
        family: Their families ``int64 [n]``.
        salt: Different salts give independent numbers.
    """
    first: dict[int, str] = {}
    for label, text in zip(family.tolist(), sequences.strings(), strict=True):
        if label not in first or text < first[label]:
            first[label] = text
    place = {
        label: int.from_bytes(hashlib.sha256(f"{salt}:{text}".encode()).digest()[:6], "big") / 2**48
        for label, text in first.items()
    }
    return np.asarray([place[label] for label in family.tolist()], np.float64)


def draw_splits(
    sequences: Sequences, family: Int, parts: Mapping[str, float], salt: str = ""
) -> dict[str, Int]:
    """Splits by family.

    Args:
        sequences: The sequences.
        family: Their families ``int64 [n]``.
        parts: Share of the families for each split; they must sum to 1.
        salt: Different salts give independent splits.
    """
    if abs(sum(parts.values()) - 1) > 1e-9:
        raise ArgumentError(f"the shares of the splits must sum to 1, found {dict(parts)}")
    place = shares(sequences, family, salt)
    ends = np.cumsum(list(parts.values()))
    which = np.minimum(np.searchsorted(ends, place, side="right"), len(ends) - 1)
    return {name: np.flatnonzero(which == k) for k, name in enumerate(parts)}


# -- words ----------------------------------------------------------------------------------------


def _texts(sequences: Sequences) -> NDArray[np.bytes_]:
    """Each sequence as fixed-width bytes; tokens are shifted by one, as NumPy cuts zeros off."""
    tokens, mask = sequences.dense()
    raw = np.where(mask, tokens + 1, 0).astype(np.uint8)
    width = max(raw.shape[1], 1)
    return np.ascontiguousarray(raw).view(f"S{width}").reshape(-1)


def _words(tokens: NDArray[np.uint8], sequences: Sequences, k: int) -> tuple[Codes, Int, Int]:
    """Code, sequence and position of every word of ``k`` letters."""
    counts = np.maximum(sequences.lengths - k + 1, 0)
    start = ranges(sequences.ptr[:-1], counts)
    owner = np.repeat(np.arange(len(sequences)), counts)
    codes = np.zeros(len(start), np.uint64)
    size = np.uint64(len(sequences.alphabet))
    for j in range(k):
        codes = codes * size + tokens[start + j].astype(np.uint64)
    return codes, owner, start - sequences.ptr[owner]


def _reverse_words(sequences: Sequences, k: int) -> Codes:
    """Code of the reverse complement of every word, in the order of :func:`_words`."""
    counts = np.maximum(sequences.lengths - k + 1, 0)
    start = ranges(sequences.ptr[:-1], counts)
    codes = np.zeros(len(start), np.uint64)
    for j in reversed(range(k)):
        codes = codes * np.uint64(4) + (3 - sequences.tokens[start + j]).astype(np.uint64)
    return codes


def _pairs(codes: NDArray[np.generic], owner: Int, at: Int | None = None) -> NDArray[np.int64]:
    """Links ``[2, m]`` that chain all sequences that hold a word (at a position)."""
    order = np.lexsort((owner, codes) if at is None else (owner, at, codes))
    equal = codes[order][1:] == codes[order][:-1]
    if at is not None:
        equal &= at[order][1:] == at[order][:-1]
    rows = owner[order]
    return np.stack([rows[:-1][equal], rows[1:][equal]])
