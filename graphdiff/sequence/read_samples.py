"""Sequences that somebody sampled: FASTA files, folders of them, or packed files of ours."""

from __future__ import annotations

import zipfile
from pathlib import Path

from graphdiff.sequence.fasta import fasta_files, guess_alphabet, read_fasta
from graphdiff.sequence.sequences import Sequences, concat

__all__ = ["holds_sequences", "read_sequences"]


def holds_sequences(path: str | Path) -> bool:
    """Whether a file or folder is one that :func:`read_sequences` reads."""
    place = Path(path)
    if place.suffix == ".npz" and place.is_file():
        try:
            with zipfile.ZipFile(place) as archive:
                return "alphabet.npy" in archive.namelist()
        except (OSError, zipfile.BadZipFile):
            return False  # who reads it will say what is wrong
    return bool(fasta_files(place))


def read_sequences(path: str | Path) -> Sequences:
    """Reads generated sequences.

    Args:
        path: A FASTA file, a folder of FASTA files, or what :meth:`Sequences.save` wrote.

    Raises:
        DataError: If a file is damaged, empty, or holds letters of no alphabet.
    """
    place = Path(path)
    if place.suffix == ".npz":
        return Sequences.load(place)
    parts = [read_fasta(file).sequences for file in fasta_files(place)]
    if len({p.alphabet for p in parts}) > 1:
        letters = guess_alphabet((s for p in parts for s in p.strings()), str(place))
        parts = [Sequences.from_strings(p.strings(), letters) for p in parts]
    return concat(parts)
