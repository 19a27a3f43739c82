"""Your own FASTA file, or a folder of them, as a data set: ``load("promoters.fa.gz")``.

Splits are 80/10/10 by a hash, so order does not matter. ``split="sequence"`` hashes each sequence
(equal ones stay together); ``split="family"`` keeps relatives together, see
:mod:`graphdiff.sequence.families`: use it for mutants, homologues and overlapping tiles.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.sequence.alphabet import Alphabet
from graphdiff.sequence.dataset import SequenceDataset
from graphdiff.sequence.families import draw_splits, families, identical
from graphdiff.sequence.fasta import Ambiguous, Records, fasta_files, read_fasta
from graphdiff.sequence.sequences import concat

__all__ = ["PARTS", "load_own_sequences"]

PARTS = {"train": 0.8, "valid": 0.1, "test": 0.1}
_RUNS = {True: (16, 20), False: (6, 8)}  # letters in a row that make relatives: DNA/RNA, others


def load_own_sequences(
    name: str,
    root: str | Path | None = None,
    *,
    alphabet: str | None = None,
    ambiguous: Ambiguous = "error",
    lower_case: Literal["accept", "error"] = "accept",
    seed: int = 0,
    split: Literal["sequence", "family"] = "sequence",
) -> SequenceDataset:
    """Loads a FASTA file or folder.

    Args:
        name: Path of the file or folder.
        root: Unused; a path needs no search.
        alphabet: ``dna``, ``rna`` or ``protein``; None guesses.
        ambiguous: See :func:`graphdiff.sequence.fasta.read_fasta`; what is skipped is listed in
            ``card["failures"]``.
        lower_case: See :func:`graphdiff.sequence.fasta.read_fasta`.
        seed: Seed of ``ambiguous="random"``.
        split: ``sequence`` or ``family``.

    Raises:
        DataError: If nothing can be read, or nothing is left to train on.
    """
    if split not in ("sequence", "family"):
        raise ArgumentError(f"split must be 'sequence' or 'family', found {split!r}")
    path = Path(name).expanduser()
    files = fasta_files(path)
    if not files:
        raise DataError(f"{path} holds no FASTA file: give files that end in .fa, .fasta, ...")
    options: dict[str, Any] = {"ambiguous": ambiguous, "lower_case": lower_case, "seed": seed}
    first = read_fasta(files[0], alphabet, **options)
    letters: Alphabet = first.sequences.alphabet
    parts: list[Records] = [first, *(read_fasta(f, letters, **options) for f in files[1:])]
    sequences = concat([p.sequences for p in parts])
    if split == "family":
        same, anywhere = _RUNS[letters.name in ("dna", "rna")]
        groups = families(sequences, same=same, anywhere=anywhere)
    else:
        groups = identical(sequences)
    splits = draw_splits(sequences, groups, PARTS)
    if not len(splits["train"]):
        raise DataError(f"{path} holds {len(sequences)} sequences, too few to train on; give more")
    stem = path.name.split(".")[0] or path.name
    about = {
        "name": stem, "source": path.name, "licence": "your own", "alphabet": letters.name,
        "split": split, "families": int(groups.max()) + 1,
        "failures": [(n, "ambiguity code") for p in parts for n in p.skipped],
    }  # fmt: skip
    names = tuple(n for p in parts for n in p.names)
    return SequenceDataset(stem, sequences, splits, card=about, names=names)
