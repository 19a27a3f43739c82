"""FASTA files and Biopython records, in and out.

A record is a line ``>name description`` and lines of letters until the next ``>``. Lines that
start with ``;`` are comments. Files that end in ``.gz`` are packed with gzip.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.packed import write_bytes
from graphdiff.data.sources import read_bytes
from graphdiff.sequence.alphabet import (
    DNA,
    PROTEIN,
    RNA,
    Alphabet,
    find_alphabet,
)
from graphdiff.sequence.sequences import Sequences

if TYPE_CHECKING:
    from Bio.SeqRecord import SeqRecord

__all__ = [
    "FASTA",
    "Ambiguous",
    "Records",
    "fasta_files",
    "from_records",
    "guess_alphabet",
    "is_fasta",
    "read_fasta",
    "to_records",
    "write_fasta",
]

FASTA = (".fa", ".fasta", ".fna", ".faa", ".ffn", ".frn")
"""Suffixes of FASTA files; each may be followed by ``.gz``."""

Ambiguous = Literal["error", "skip", "random"]
_TYPES = {"dna": "DNA", "rna": "RNA", "protein": "protein"}  # as Biopython writes them


@dataclass(frozen=True, eq=False)
class Records:
    """Sequences with their names.

    Attributes:
        sequences: The sequences.
        names: One each, no two the same.
        descriptions: What follows the name; "" where nothing does.
        skipped: Names of records left out for their ambiguity codes.
    """

    sequences: Sequences
    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


def is_fasta(path: str | Path) -> bool:
    """Whether a name ends like that of a FASTA file."""
    return str(path).lower().removesuffix(".gz").endswith(FASTA)


def fasta_files(path: str | Path) -> list[Path]:
    """The file itself, or the FASTA files of a folder, sorted; empty if there are none."""
    place = Path(path)
    found = sorted(place.iterdir()) if place.is_dir() else [place]
    return [p for p in found if p.is_file() and is_fasta(p)]


def guess_alphabet(texts: Iterable[str], where: str = "the sequences") -> Alphabet:
    """DNA if nothing but its letters and N occurs, RNA likewise if U does, else protein.

    Raises:
        DataError: If both T and U occur among nucleotides: the file mixes two kinds.
    """
    seen = set().union(*(set(t.upper()) for t in texts))
    if not seen <= set("ACGTUN"):
        return PROTEIN
    if {"T", "U"} <= seen:
        raise DataError(f"{where} hold both T and U: say alphabet='dna' or 'rna'")
    return RNA if "U" in seen else DNA


def read_fasta(
    path: str | Path,
    alphabet: Alphabet | str | None = None,
    *,
    ambiguous: Ambiguous = "error",
    lower_case: Literal["accept", "error"] = "accept",
    seed: int = 0,
) -> Records:
    """Reads a FASTA file.

    Args:
        path: The file, ``.gz`` or not.
        alphabet: An alphabet or its name; None guesses (:func:`guess_alphabet`).
        ambiguous: ``error``; ``skip`` leaves such records out and lists them in ``skipped``;
            ``random`` draws one of the letters that the code stands for.
        lower_case: ``accept`` reads lower case as upper case; ``error`` refuses it, for files
            whose soft-masked repeats must not be trained on.
        seed: Seed of the draw of ``random``.

    Raises:
        DataError: If the file is missing, damaged, empty or no FASTA, if a record has no name, no
            letters, a letter outside the alphabet or the name of another one, or if nothing is
            left; the message names file and record.
        ArgumentError: If an option is unknown.
    """
    file = Path(path)
    heads, texts = _parse(file)
    names = tuple(head.split(None, 1)[0] for head in heads)
    rest = tuple(head[len(name) :].strip() for head, name in zip(heads, names, strict=True))
    return _records(names, rest, texts, alphabet, ambiguous, lower_case, seed, str(file))


def _parse(file: Path) -> tuple[list[str], list[str]]:
    """Head lines without ``>``, and the letters of each record."""
    try:
        lines = read_bytes(file).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no text ({error}): give a FASTA file") from error
    heads: list[str] = []
    parts: list[list[str]] = []
    for number, line in enumerate(lines, 1):
        if line.startswith(">"):
            heads.append(line[1:].strip())
            parts.append([])
            if not heads[-1]:
                raise DataError(f"{file}, line {number}: the record has no name behind '>'")
        elif line.strip() and not line.startswith(";"):
            if not heads:
                raise DataError(
                    f"{file}, line {number} comes before any '>name' line: it is no FASTA file"
                )
            parts[-1].append("".join(line.split()))
    if not heads:
        raise DataError(f"{file} is empty: it holds no record; give a FASTA file")
    return heads, ["".join(p) for p in parts]


def _records(
    names: tuple[str, ...],
    descriptions: tuple[str, ...],
    texts: Sequence[str],
    alphabet: Alphabet | str | None,
    ambiguous: str,
    lower_case: str,
    seed: int,
    source: str,
) -> Records:
    if lower_case not in ("accept", "error"):
        raise ArgumentError(f"lower_case must be 'accept' or 'error', found {lower_case!r}")
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        if name in seen:
            raise DataError(
                f"{source}: records {seen[name] + 1} and {i + 1} are both called {name!r}: rename "
                "one, or remove the repeated record"
            )
        seen[name] = i
    if isinstance(alphabet, str):
        alphabet = find_alphabet(alphabet)
    letters = guess_alphabet(texts, f"the records of {source}") if alphabet is None else alphabet
    labels = [f"{name} of {source}" for name in names]
    if lower_case == "error":
        for label, text in zip(labels, texts, strict=True):
            if text != text.upper():
                raise DataError(
                    f"sequence {label!r} has lower-case letters: accept them "
                    "(lower_case='accept') or unmask the file"
                )
    keep = list(range(len(texts)))
    if ambiguous == "skip":
        unclear = [
            letters.is_ambiguous(t, where=f"sequence {w!r}")
            for t, w in zip(texts, labels, strict=True)
        ]
        keep = [i for i in keep if not unclear[i]]
        if not keep:
            raise DataError(
                f"every one of the {len(texts)} records of {source} has an ambiguity code: draw "
                f"letters (ambiguous='random'), or say which alphabet it is if not {letters.name}"
            )
    packed = Sequences.from_strings(
        [texts[i] for i in keep], letters, names=[labels[i] for i in keep],
        ambiguous=ambiguous, seed=seed,
    )  # fmt: skip
    kept = set(keep)
    return Records(
        packed,
        tuple(names[i] for i in keep),
        tuple(descriptions[i] for i in keep),
        tuple(n for i, n in enumerate(names) if i not in kept),
    )


def write_fasta(
    path: str | Path,
    sequences: Sequences | Sequence[str],
    names: Sequence[str] | None = None,
    *,
    descriptions: Sequence[str] | None = None,
    width: int = 60,
) -> Path:
    """Writes a FASTA file under a temporary name, then renames it; ``.gz`` is packed.

    Args:
        path: The file.
        sequences: Packed sequences, or texts.
        names: One each, without white space; None numbers them ``seq1``, ``seq2``, ...
        descriptions: Text behind each name.
        width: Letters in a line; 0 writes each sequence in one line.

    Raises:
        ArgumentError: If names are repeated, empty or hold white space, a count does not fit, or
            a description has several lines.
    """
    texts = sequences.strings() if isinstance(sequences, Sequences) else list(sequences)
    labels = [f"seq{i + 1}" for i in range(len(texts))] if names is None else list(names)
    more = [""] * len(texts) if descriptions is None else list(descriptions)
    if not len(labels) == len(more) == len(texts):
        raise ArgumentError(
            f"{len(texts)} sequences, but {len(labels)} names and {len(more)} descriptions"
        )
    if width < 0:
        raise ArgumentError(f"width must be 0 (no wrapping) or more, found {width}")
    seen: set[str] = set()
    lines = []
    for name, text, about in zip(labels, texts, more, strict=True):
        if not name or name.split() != [name] or name in seen:
            raise ArgumentError(
                f"{name!r} cannot name a record: names must differ and hold no white space"
            )
        if about != " ".join(about.splitlines()):
            raise ArgumentError(f"the description of {name!r} must be one line")
        seen.add(name)
        lines.append(f">{name} {about}".rstrip())
        step = width or max(len(text), 1)
        lines += [text[i : i + step] for i in range(0, len(text), step)]
    data = ("\n".join(lines) + "\n").encode("utf-8")
    file = Path(path)
    return write_bytes(file, gzip.compress(data, mtime=0) if file.suffix == ".gz" else data)


def from_records(
    records: Iterable[SeqRecord],
    alphabet: Alphabet | str | None = None,
    *,
    ambiguous: Ambiguous = "error",
    seed: int = 0,
) -> Records:
    """Sequences of Biopython ``SeqRecord`` objects.

    Args:
        records: The records; their ids must differ.
        alphabet: As in :func:`read_fasta`; None takes ``annotations["molecule_type"]`` where all
            records agree on a known one, else guesses.
        ambiguous: As in :func:`read_fasta`.
        seed: As in :func:`read_fasta`.

    Raises:
        DataError: As :func:`read_fasta`.
    """
    found = list(records)
    if not found:
        raise DataError("no records were given: there is nothing to read")
    if alphabet is None:
        kinds = {str(r.annotations.get("molecule_type", "")).lower() for r in found}
        known = [name for name in _TYPES if kinds == {name}]
        alphabet = known[0] if known else None
    names = tuple(str(r.id) for r in found)
    about = tuple(
        str(r.description).removeprefix(n).strip() if r.description != "<unknown description>"
        else "" for r, n in zip(found, names, strict=True)
    )  # fmt: skip
    texts = [str(r.seq) for r in found]
    return _records(names, about, texts, alphabet, ambiguous, "accept", seed, "the records")


def to_records(sequences: Sequences, names: Sequence[str] | None = None) -> list[SeqRecord]:
    """Biopython ``SeqRecord`` objects, their molecule type set.

    Raises:
        ArgumentError: If Biopython is not installed, or the names do not fit.
    """
    labels = [f"seq{i + 1}" for i in range(len(sequences))] if names is None else list(names)
    if len(labels) != len(sequences):
        raise ArgumentError(f"{len(sequences)} sequences but {len(labels)} names: give one each")
    try:
        from Bio.Seq import Seq
        from Bio.SeqRecord import SeqRecord as Record
    except ImportError as error:
        raise ArgumentError(
            'SeqRecord objects need Biopython: pip install "graphdiffusion[bio]"'
        ) from error
    kind: dict[str, Any] = {}
    if sequences.alphabet.name in _TYPES:
        kind["molecule_type"] = _TYPES[sequences.alphabet.name]
    return [
        Record(Seq(text), id=name, name=name, description="", annotations=dict(kind))
        for text, name in zip(sequences.strings(), labels, strict=True)
    ]
