"""What a user may ask of samples: their length, letters that are given, a motif, a class.

A *pattern* such as ``"....TATAAA...."`` gives letters and leaves ``.`` or ``_`` to the model. A
*motif* is present in every sample, at one place or, without one, at a place that is drawn from the
seed and the id of the sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError, ConfigError, DataError
from graphdiff.core.rng import Key
from graphdiff.sequence.alphabet import Alphabet
from graphdiff.sequence.infill import FREE

__all__ = ["KNOWN", "given_tokens", "lengths_of", "place_motifs"]

KNOWN = ("length", "fixed", "motif", "at", "label", "guidance")
OPEN = "._"


def each(value: Any, n: int) -> list[Any]:
    """One value for each of ``n`` samples."""
    if isinstance(value, Tensor):
        value = value.tolist()
    many = isinstance(value, Sequence) and not isinstance(value, str)
    return list(value) if many else [value] * n


def pattern(text: Any, alphabet: Alphabet) -> list[int]:
    """Tokens of a pattern, :data:`FREE` where it is open.

    Raises:
        ArgumentError: It is no text, empty, or holds a character that is no letter.
    """
    if not isinstance(text, str) or not text:
        raise ArgumentError(
            f"fixed must be a pattern such as 'AC..GT', letters and '.' or '_' where letters are "
            f"generated, found {text!r}"
        )
    try:
        return [FREE if c in OPEN else int(alphabet.encode(c)[0]) for c in text]
    except DataError as error:
        raise ArgumentError(
            f"the pattern {text!r} holds more than letters of {alphabet.letters} and '.' or '_': "
            f"{error}"
        ) from error


def motif_tokens(text: Any, alphabet: Alphabet) -> list[int]:
    """Tokens of a motif, whose gaps may be open; see :func:`pattern`."""
    try:
        return pattern(text, alphabet)
    except ArgumentError as error:
        raise ArgumentError(f"motif: {error}") from error


def lengths_of(
    counts: Sequence[int],
    longest: int,
    alphabet: Alphabet,
    ids: Tensor,
    seed: int,
    cond: Mapping[str, Any],
) -> Tensor:
    """Length of each sample, int64 ``[b]``.

    Given by ``fixed``, else by ``length``, else drawn from the lengths of the training set that
    hold the motif.

    Args:
        counts: How many training sequences have 0, 1, 2 .. letters.
        longest: Longest length of the model.
        alphabet: Letters of patterns and motifs.
        ids: Sample ids.
        seed: Seed of the draw.
        cond: Conditions.

    Raises:
        ArgumentError: A length is out of range, a pattern has another length than asked for, or
            nothing holds the motif.
        ConfigError: Lengths must be drawn, and those of the training set are unknown.
    """
    n, asked, fixed = len(ids), cond.get("length"), cond.get("fixed")
    least = torch.ones(n, dtype=torch.int64)
    if cond.get("motif") is not None:
        ends = [
            len(motif_tokens(text, alphabet)) + (int(at) if at is not None else 0)
            for text, at in zip(each(cond["motif"], n), each(cond.get("at"), n), strict=True)
        ]
        least = torch.tensor(ends, dtype=torch.int64)
    if asked is None and fixed is None:
        return _draw(counts, ids, seed, least)
    found = [len(pattern(text, alphabet)) for text in each(fixed, n)] if fixed is not None else None
    wanted = each(asked, n) if asked is not None else found
    assert wanted is not None
    if found is not None and list(wanted) != found:
        raise ArgumentError(
            f"length {asked} and the pattern of {found[0]} letters in fixed disagree; leave length "
            "out"
        )
    for value, low in zip(wanted, least.tolist(), strict=True):
        whole = not isinstance(value, bool) and hasattr(value, "__index__")
        if not whole or not max(low, 1) <= int(value) <= longest:
            motif = f" (the motif ends at {low})" if low > 1 else ""
            raise ArgumentError(
                f"length must be a whole number from {max(low, 1)}{motif} to {longest}, the "
                f"longest of the training set, found {value!r}"
            )
    return torch.tensor([int(v) for v in wanted], dtype=torch.int64)


def _draw(counts: Sequence[int], ids: Tensor, seed: int, least: Tensor) -> Tensor:
    """Lengths from a histogram, each at least ``least`` ``[b]``."""
    table = torch.tensor(counts, dtype=torch.float64)
    if not len(table):
        raise ConfigError(
            "data.lengths is empty, so the length of a sample is unknown; train the model first, "
            "which fills it in, or give the condition length"
        )
    below = torch.cat([table.new_zeros(1), table.cumsum(0)])
    low, top = below[least.clamp(max=len(table))], below[-1]
    if bool((low >= top).any()):
        raise ArgumentError(
            f"no training sequence has {int(least.max())} letters, so none can hold the motif "
            f"there; the longest has {len(table) - 1}"
        )
    u = Key(seed, ids).at(stream="length").uniform(1, torch.float64).squeeze(1).cpu()
    # Between the mass below the least length and the whole.
    level = low + u * (top - low)
    return torch.searchsorted(below[1:], level, right=True).clamp(max=len(table) - 1)


def place_motifs(
    alphabet: Alphabet, ids: Tensor, sizes: Tensor, seed: int, cond: Mapping[str, Any]
) -> dict[str, Any]:
    """The conditions with a place for every motif: as given, or drawn uniformly from (seed, id).

    Raises:
        ArgumentError: ``at`` without a motif, or a motif does not fit.
    """
    out = dict(cond)
    if cond.get("motif") is None:
        if cond.get("at") is not None:
            raise ArgumentError("the condition at says where a motif is; give motif, too")
        return out
    n = len(ids)
    u = Key(seed, ids).at(stream="motif").uniform(1, torch.float64).squeeze(1).tolist()
    places = []
    motifs = each(cond["motif"], n)
    for text, at, size, level in zip(
        motifs, each(cond.get("at"), n), sizes.tolist(), u, strict=True
    ):
        room = int(size) - len(motif_tokens(text, alphabet))
        whole = at is None or (not isinstance(at, bool) and hasattr(at, "__index__"))
        if room < 0 or not whole or (at is not None and not 0 <= int(at) <= room):
            raise ArgumentError(
                f"the motif {text!r} does not fit into {int(size)} letters at {at!r}; at counts "
                f"from 0 and may be at most {max(room, 0)}"
            )
        places.append(min(int(level * (room + 1)), room) if at is None else int(at))
    return {**out, "at": places}


def given_tokens(
    alphabet: Alphabet, sizes: Tensor, pad: int, cond: Mapping[str, Any]
) -> Tensor | None:
    """Given classes int64 ``[b, pad]``, :data:`FREE` elsewhere; None if nothing is given.

    ``cond`` must have a place for each motif, see :func:`place_motifs`.

    Raises:
        ArgumentError: A pattern has another length than its sample, or contradicts a motif.
    """
    fixed, motif = cond.get("fixed"), cond.get("motif")
    if fixed is None and motif is None:
        return None
    n = len(sizes)
    out = torch.full((n, pad), FREE, dtype=torch.int64)
    if fixed is not None:
        for row, (text, size) in enumerate(zip(each(fixed, n), sizes.tolist(), strict=True)):
            tokens = pattern(text, alphabet)
            if len(tokens) != size:
                raise ArgumentError(
                    f"the pattern {text!r} has {len(tokens)} letters, but the sample has {size}; "
                    "leave the condition length out"
                )
            out[row, :size] = torch.tensor(tokens)
    if motif is not None:
        for row, (text, at) in enumerate(zip(each(motif, n), each(cond["at"], n), strict=True)):
            word = torch.tensor(motif_tokens(text, alphabet))
            held = out[row, at : at + len(word)]
            clash = (held != FREE) & (word != FREE) & (held != word)
            if bool(clash.any()):
                raise ArgumentError(
                    f"the motif {text!r} at {at} contradicts the pattern in fixed; move it"
                )
            out[row, at : at + len(word)] = torch.where(word == FREE, held, word)
    return out
