r"""Binding motifs: count matrices, files of JASPAR and MEME, log-odds scores and exact p-values.

With counts :math:`n_{jv}` of letter :math:`v` at position :math:`j`, background :math:`b_v`, and a
pseudocount :math:`a` for a whole column,

.. math:: p_{jv} = \frac{n_{jv} + a\,b_v}{\sum_u n_{ju} + a}, \qquad
          s_{jv} = \log_2 \frac{p_{jv}}{b_v},

and a site scores :math:`S = \sum_j s_{j, x_j}` bits (Staden 1984; Wasserman and Sandelin 2004).
The default :math:`a = \sqrt{n}` is JASPAR's, :math:`n` the number of sites.

Scores are rounded to multiples of ``step``, so that under the background (independent letters) the
distribution of :math:`S` is a finite sum that dynamic programming gives exactly (Staden 1989): the
p-value of a score is the exact one of the score that is used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.sources import read_bytes

__all__ = ["Motif", "ScoreMatrix", "read_motifs", "score_matrix"]

Float = NDArray[np.float64]

_LETTERS = "ACGT"
UNIFORM = (0.25, 0.25, 0.25, 0.25)


@dataclass(frozen=True, eq=False)
class Motif:
    """A DNA motif.

    Attributes:
        id: Its id in the file, ``MA0004.1``.
        name: Its name, ``Arnt``; "" if the file has none.
        counts: Letters A, C, G, T at each position, ``float64 [w, 4]``.
    """

    id: str
    name: str
    counts: Float

    def __post_init__(self) -> None:
        counts = self.counts
        fine = counts.ndim == 2 and counts.shape[1] == 4 and len(counts) > 0
        if not fine or not np.isfinite(counts).all() or (counts < 0).any():
            raise DataError(
                f"motif {self.id!r} needs counts of shape [width, 4], finite and not negative, "
                f"found shape {list(counts.shape)}"
            )
        if (counts.sum(1) <= 0).any():
            raise DataError(f"motif {self.id!r} has a position without any count")

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def consensus(self) -> str:
        """The most frequent letter of each position."""
        return "".join(_LETTERS[k] for k in self.counts.argmax(1))


@dataclass(frozen=True, eq=False)
class ScoreMatrix:
    """Rounded log-odds of a motif.

    Attributes:
        motif: The motif.
        scores: Scores in units of ``step``, ``int64 [w, 4]``.
        background: Share of A, C, G, T, ``float64 [4]``.
        step: Bits of one unit.
    """

    motif: Motif
    scores: NDArray[np.int64]
    background: Float
    step: float

    @cached_property
    def distribution(self) -> Float:
        """Exact probability of each score under the background, from the lowest possible one."""
        law = np.ones(1)
        for column in self.scores:
            low = int(column.min())
            wide = np.zeros(len(law) + int(column.max()) - low)
            for letter in range(4):
                shift = int(column[letter]) - low
                wide[shift : shift + len(law)] += self.background[letter] * law
            law = wide
        return law

    @cached_property
    def _tail(self) -> Float:
        """P(score >= lowest + i), one longer than the distribution; summed from the small end."""
        tail = np.cumsum(self.distribution[::-1])[::-1]
        return np.append(np.minimum(tail, 1.0), 0.0)

    @property
    def lowest(self) -> int:
        """The lowest possible score, in units."""
        return int(self.scores.min(1).sum())

    def p_value(self, bits: ArrayLike) -> Float:
        """Probability of a score of at least ``bits`` at one place of a random sequence."""
        units = np.ceil(np.asarray(bits, np.float64) / self.step - 1e-6)
        at = np.clip(units - self.lowest, 0, len(self._tail) - 1).astype(np.int64)
        return np.asarray(self._tail[at])

    def threshold(self, p_value: float) -> int:
        """The smallest possible score, in units, whose p-value is at most ``p_value``.

        A motif too weak for it gets one unit above its best score: nothing is a hit.

        Raises:
            ArgumentError: If the p-value is not between 0 and 1.
        """
        if not 0 < p_value < 1:
            raise ArgumentError(f"p_value must lie between 0 and 1, found {p_value}")
        return self.lowest + int(np.flatnonzero(self._tail <= p_value)[0])


def score_matrix(
    motif: Motif,
    *,
    background: Sequence[float] = UNIFORM,
    pseudocount: float | None = None,
    step: float = 0.01,
) -> ScoreMatrix:
    """Log-odds of a motif.

    Args:
        motif: The motif.
        background: Share of A, C, G, T.
        pseudocount: Total added to each column, spread as the background; None = square root of
            the mean column sum.
        step: Bits that scores are rounded to.

    Raises:
        ArgumentError: If the background is no distribution of four positive numbers, the step is
            not positive, or a letter has no count and no pseudocount.
    """
    b = np.asarray(background, np.float64)
    if b.shape != (4,) or (b <= 0).any() or abs(b.sum() - 1) > 1e-6:
        raise ArgumentError(
            f"background must be four positive shares of A, C, G, T that sum to 1, found "
            f"{list(background)}"
        )
    if step <= 0:
        raise ArgumentError(f"step must be positive, found {step}")
    total = motif.counts.sum(1, keepdims=True)
    more = float(np.sqrt(total.mean())) if pseudocount is None else float(pseudocount)
    if more < 0 or (more == 0 and (motif.counts == 0).any()):
        raise ArgumentError(
            f"pseudocount {more} leaves motif {motif.id!r} letters of probability 0, which score "
            "minus infinity: give a positive pseudocount"
        )
    p = (motif.counts + more * b) / (total + more)
    units = np.rint(np.log2(p / b) / step).astype(np.int64)
    return ScoreMatrix(motif, units, b / b.sum(), step)


# -- files ----------------------------------------------------------------------------------------


def read_motifs(path: str | Path) -> list[Motif]:
    """Motifs of a file: MEME (minimal or full), JASPAR text (``>id name``, ``A [ 1 2 ]``), or JSON.

    JSON is a list (or one) of JASPAR records: ``{"id" or "matrix_id", "name", "pfm": {"A": [...],
    ...}}``, where the four rows may also stand beside the id. MEME files hold probabilities; they
    are multiplied by ``nsites`` (20 where it is missing, MEME's own default).

    Raises:
        DataError: If the file is missing, damaged, holds no motif, or motifs over other letters.
    """
    file = Path(path)
    try:
        text = read_bytes(file).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no text ({error}): give a MEME or JASPAR file") from error
    start = text.lstrip()[:1]
    if start in ("[", "{"):
        motifs = _json(text, file)
    elif start == ">":
        motifs = _jaspar(text, file)
    elif re.search(r"^MEME version", text, re.MULTILINE):
        motifs = _meme(text, file)
    else:
        raise DataError(f"{file} is neither MEME, JASPAR text nor JSON: give a motif file")
    if not motifs:
        raise DataError(f"{file} holds no motif")
    return motifs


def _counts(rows: Mapping[str, Any], name: str, file: Path) -> Float:
    """The four rows A, C, G, T as ``[w, 4]``."""
    try:
        columns = [np.asarray(rows[letter], np.float64) for letter in _LETTERS]
        return np.stack(columns, 1)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{file}: motif {name!r} needs rows A, C, G, T of numbers of one length ({error})"
        ) from error


def _json(text: str, file: Path) -> list[Motif]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DataError(f"{file} is damaged JSON ({error})") from error
    motifs = []
    for record in found if isinstance(found, list) else [found]:
        label = record.get("matrix_id", record.get("id")) if isinstance(record, dict) else None
        if label is None:
            raise DataError(f"{file}: a record has no id: give JASPAR records")
        rows = record.get("pfm", record)
        motifs.append(Motif(str(label), str(record.get("name", "")), _counts(rows, label, file)))
    return motifs


def _jaspar(text: str, file: Path) -> list[Motif]:
    motifs = []
    for block in text.split(">")[1:]:
        head, *lines = block.splitlines()
        label, _, name = head.strip().partition("\t" if "\t" in head else " ")
        rows = {}
        for line in lines:
            words = line.replace("[", " ").replace("]", " ").split()
            if words:
                rows[words[0]] = words[1:]
        motifs.append(Motif(label, name.strip(), _counts(rows, label, file)))
    return motifs


def _meme(text: str, file: Path) -> list[Motif]:
    letters = re.search(r"^ALPHABET\s*=\s*(\S+)", text, re.MULTILINE)
    if letters and letters.group(1) != _LETTERS:
        raise DataError(f"{file} has motifs over {letters.group(1)}: only {_LETTERS} is read")
    motifs = []
    blocks = re.split(r"^MOTIF\s+", text, flags=re.MULTILINE)[1:]
    for block in blocks:
        head, _, body = block.partition("\n")
        label, _, name = head.strip().partition(" ")
        found = re.search(r"letter-probability matrix:([^\n]*)\n", body)
        width = re.search(r"w=\s*(\d+)", found.group(1)) if found else None
        if not found or not width:
            raise DataError(f"{file}: motif {label!r} has no letter-probability matrix with w=")
        sites = re.search(r"nsites=\s*([\d.eE+]+)", found.group(1))
        lines = [x for x in body[found.end() :].splitlines() if x.strip()][: int(width.group(1))]
        try:
            table = np.asarray([line.split() for line in lines], np.float64)
        except ValueError as error:
            raise DataError(f"{file}: motif {label!r} is damaged ({error})") from error
        if table.shape != (int(width.group(1)), 4):
            raise DataError(
                f"{file}: motif {label!r} should have {width.group(1)} rows of 4, found "
                f"{list(table.shape)}"
            )
        motifs.append(Motif(label, name.strip(), table * (float(sites.group(1)) if sites else 20)))
    return motifs
