"""Data sets of sequences with measurements: yeast promoters, TF binding of 8-mers, AAV capsids.

``yeast-promoter``
    80-bp promoters with the expression they drive (Vaishnav et al. 2022), each with its constant
    flanks of 17 and 13 nt cut off. Random, native, drifted and designed ones mix; trajectories
    share ancestors, so all splits are by family (:mod:`graphdiff.sequence.families`).
``tfbind8``
    All 65,536 DNA words of eight letters with the binding score of one transcription factor
    (Barrera et al. 2016). Small enough to enumerate every distribution over it.
``aav``
    44,128 variants of 28 residues of the AAV capsid with their packaging fitness (Bryant et al.
    2021), with the two restricted splits of GGS (Kirjner et al. 2024): a range of percentiles of
    fitness, and a smallest edit distance (the gap) to all of the best 1 %.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.sources import card, checked
from graphdiff.sequence.alphabet import DNA, PROTEIN
from graphdiff.sequence.dataset import SequenceDataset
from graphdiff.sequence.families import draw_splits, families, identical
from graphdiff.sequence.own import PARTS
from graphdiff.sequence.sequences import Sequences

__all__ = ["all_words", "load_aav", "load_tfbind8", "load_yeast_promoter"]

Float = NDArray[np.float64]

_HALVES = {"oracle-a": 0.5, "oracle-b": 0.5}


def _text(name: str, entry: dict[str, Any], root: str | Path | None) -> str:
    """Content of one file of a card, its checksum compared."""
    return checked(name, entry, root)[1].decode("utf-8")


def _rows(text: str, *columns: str) -> Iterator[tuple[str, ...]]:
    """The named columns of a table with a header; ``a|b`` takes whichever there is."""
    reader = csv.DictReader(io.StringIO(text))
    found = reader.fieldnames or ()
    chosen = [next(c for c in name.split("|") if c in found) for name in columns]
    return (tuple(row[c] for c in chosen) for row in reader)


# -- yeast promoters ------------------------------------------------------------------------------


def load_yeast_promoter(
    name: str = "yeast-promoter", root: str | Path | None = None
) -> SequenceDataset:
    """Loads the yeast promoters.

    Values: ``ypd`` (complex medium), ``sd`` (defined medium), both of one study and on one scale;
    ``dream`` (another study, bins 0 to 17; never mixed with the others). Splits: ``train``,
    ``valid``, ``test`` over everything; ``oracle-a`` and ``oracle-b``, two halves of what has a
    ``ypd`` or ``sd`` value. No family is on both sides of either.

    Args:
        name: The registered name.
        root: Folder of the files; None = the search path.

    Raises:
        DataError: If files are missing or damaged.
    """
    about = card(name)
    number: dict[str, int] = {}
    origin: list[set[str]] = []
    sums: dict[str, dict[int, list[float]]] = {"ypd": {}, "sd": {}, "dream": {}}
    dropped = 0
    for entry in about["files"]:
        text = _text(name, entry, root)
        rows = (
            (line.split("\t") for line in text.splitlines())
            if entry["origin"] == "dream2022"
            else _rows(text, "sequence|seq110", "Measured Expression")
        )
        for full, value in rows:
            core = _core(full, about["flank_left"], about["flank_right"])
            if core is None:
                dropped += 1
                continue
            i = number.setdefault(core, len(number))
            if i == len(origin):
                origin.append(set())
            origin[i].add(entry["origin"])
            sums[entry["value"]].setdefault(i, []).append(float(value))
    sequences = Sequences.from_strings(number, DNA)
    values = {key: np.full(len(number), np.nan) for key in sums}
    for key, found in sums.items():
        for i, several in found.items():
            values[key][i] = np.mean(several)
    group = families(sequences, same=about["family_same"], anywhere=about["family_anywhere"])
    splits = draw_splits(sequences, group, PARTS, name)
    known = ~(np.isnan(values["ypd"]) & np.isnan(values["sd"]))
    halves = draw_splits(sequences, group, _HALVES, f"{name}:oracle")
    splits |= {half: index[known[index]] for half, index in halves.items()}
    kinds = dict.fromkeys(entry["origin"] for entry in about["files"])
    about |= {
        "failures": [], "dropped": dropped, "families": int(group.max()) + 1,
        "origins": {kind: sum(kind in found for found in origin) for kind in kinds},
    }  # fmt: skip
    return SequenceDataset(name, sequences, splits, values, about)


def _core(full: str, left: str, right: str) -> str | None:
    """The 80 letters between the flanks; None if a flank is mutated or the length is another."""
    text = full.lstrip("N")  # files pad short constructs to 110 letters
    inner = text[len(left) : len(text) - len(right)]
    whole = text.startswith(left) and text.endswith(right) and len(inner) == 80
    return inner if whole and "N" not in inner else None


# -- TF binding -----------------------------------------------------------------------------------


def all_words(length: int) -> Sequences:
    """Every DNA word of a length, in alphabetical order; ``4 ** length`` of them."""
    codes = np.arange(4**length)[:, None]
    tokens = codes // 4 ** np.arange(length - 1, -1, -1)[None] % 4
    return Sequences.from_dense(tokens, DNA)


def load_tfbind8(
    name: str = "tfbind8", root: str | Path | None = None, *, factor: str = "SIX6"
) -> SequenceDataset:
    """Loads the binding scores of one transcription factor.

    Values: ``escore``, the enrichment score of the protein binding microarray in [-0.5, 0.5], and
    ``binding``, the same moved and scaled to [0, 1]. Sequence number = alphabetical rank. Splits:
    ``train``, ``valid``, ``test`` (a word and its reverse complement stay together) and ``low``,
    the words whose score is at or below the median.

    Args:
        name: The registered name.
        root: Folder of the files; None = the search path.
        factor: ``SIX6``, ``CRX``, ``PAX4``, ``GFI1B``, ``VENTX`` or ``ISX``.

    Raises:
        ArgumentError: For another factor.
        DataError: If the file is missing or damaged.
    """
    about = card(name)
    if factor not in about["factors"]:
        raise ArgumentError(
            f"{name} has no factor {factor!r}; it has {', '.join(about['factors'])}"
        )
    lines = _text(name, about["factors"][factor], root).splitlines()[1:]
    table = [line.split("\t") for line in lines if line.strip()]
    words = all_words(8)
    tokens = words.tokens.reshape(-1, 8)
    base = 4 ** np.arange(7, -1, -1)
    score = np.full(4**8, np.nan)
    for column in (0, 1):  # the word and its reverse complement
        read = Sequences.from_strings([row[column] for row in table], DNA)
        score[read.tokens.reshape(-1, 8) @ base] = [float(row[2]) for row in table]
    if np.isnan(score).any():
        lost = words[int(np.flatnonzero(np.isnan(score))[0])].strings()[0]
        raise DataError(f"the file of {factor} has no score for {lost}: fetch it again")
    mirror = (3 - tokens[:, ::-1].astype(np.int64)) @ base
    splits = draw_splits(words, np.minimum(np.arange(4**8), mirror), PARTS, name)
    splits["low"] = np.flatnonzero(score <= np.median(score))
    about |= {"failures": [], "factor": factor}
    scaled = (score - score.min()) / (score.max() - score.min())
    return SequenceDataset(name, words, splits, {"escore": score, "binding": scaled}, about)


# -- AAV ------------------------------------------------------------------------------------------


def load_aav(name: str = "aav", root: str | Path | None = None) -> SequenceDataset:
    """Loads the AAV capsid variants.

    Values: ``fitness``, 0 to 19.54. Splits: ``train``, ``valid``, ``test`` by a hash of the
    sequence (some occur twice), ``medium`` and ``hard`` as GGS defines them.

    Args:
        name: The registered name.
        root: Folder of the files; None = the search path.

    Raises:
        DataError: If the file is missing or damaged.
        ArgumentError: If rapidfuzz, which finds the edit distances, is not installed.
    """
    about = card(name)
    rows = list(_rows(_text(name, about["files"][0], root), "sequence", "score"))
    sequences = Sequences.from_strings([text for text, _ in rows], PROTEIN)
    fitness = np.asarray([float(value) for _, value in rows])
    splits = draw_splits(sequences, identical(sequences), PARTS, name)
    gap = _gap(sequences, fitness, about["top_percentile"])
    for level, rule in about["levels"].items():
        low, high = np.quantile(fitness, [rule["low"], rule["high"]])
        inside = (fitness >= low) & (fitness <= high) & (gap >= rule["gap"])
        splits[level] = np.flatnonzero(inside)
    about["failures"] = []
    return SequenceDataset(name, sequences, splits, {"fitness": fitness}, about)


def _gap(sequences: Sequences, fitness: Float, top: float) -> Float:
    """Smallest edit distance of each sequence to those above a quantile of fitness."""
    from graphdiff.sequence.metrics.distance import nearest

    best = fitness >= np.quantile(fitness, top)
    return nearest(sequences, sequences[best])[0].astype(np.float64)
