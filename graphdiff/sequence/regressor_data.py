"""Sequences with measured properties: what a property head is trained on.

Besides the data sets of :mod:`graphdiff.data`, a table of your own is read: a ``.csv`` (commas) or
``.tsv`` (tabs) file with a header line, a column ``sequence``, a column for each target and, if
you like, a column ``split``. A cell that is empty or ``nan`` was not measured. FASTA files give
values as ``key=number`` in the header line of each record: ``>promoter1 ypd=11.2 sd=9.7``.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.core.errors import ArgumentError, ConfigError, DataError
from graphdiff.core.state import State
from graphdiff.sequence.alphabet import find_alphabet
from graphdiff.sequence.dataset import SequenceDataset
from graphdiff.sequence.fasta import is_fasta, read_fasta
from graphdiff.sequence.regressor_config import TargetData
from graphdiff.sequence.sequences import Sequences
from graphdiff.task import Data

__all__ = ["RegressorData", "find_dataset", "read_table"]

Float = NDArray[np.float64]
TABLES = {".csv": ",", ".tsv": "\t"}
UNKNOWN = ("", "nan", "na")


def find_dataset(data: TargetData, root: str | Path | None = None) -> SequenceDataset:
    """The data set that a config names: a known one, or your own table.

    Raises:
        DataError: It cannot be read, or holds no sequences.
        ArgumentError: There is no such data set.
        ConfigError: Your own table needs ``data.alphabet``.
    """
    path = Path(data.name).expanduser()
    if _suffix(path) in TABLES or is_fasta(path):
        if not data.alphabet:
            raise ConfigError(
                f"data.alphabet is not given, but {data.name} is your own table, which does not "
                "say it; expected 'dna', 'rna' or 'protein'"
            )
        return read_table(path, data.targets, data.alphabet)
    from graphdiff.data import load

    found: Any = load(data.name, root)
    if not isinstance(found, SequenceDataset):
        raise DataError(
            f"data set {data.name!r} holds no sequences; a regressor reads sequences with measured "
            "values, for example 'yeast-promoter', or your own .csv, .tsv or FASTA file"
        )
    if data.alphabet and data.alphabet != found.sequences.alphabet.name:
        raise DataError(
            f"data set {data.name!r} holds {found.sequences.alphabet.name} sequences, but "
            f"data.alphabet is {data.alphabet!r}; leave it out"
        )
    return found


def read_table(path: str | Path, targets: Sequence[str], alphabet: str) -> SequenceDataset:
    """Sequences with values from a ``.csv``, ``.tsv`` or FASTA file, plain or ``.gz``.

    Args:
        path: The file; see the module docstring.
        targets: Names of the values to read; NaN where a sequence has none.
        alphabet: Name of the alphabet.

    Returns:
        The set, with the splits of its column ``split`` (all sequences are ``train`` without one).

    Raises:
        DataError: The file is missing, lacks a column, or a line is wrong; the line is named.
    """
    file = Path(path).expanduser()
    rows = list(_rows(file, alphabet, targets))
    if not rows:
        raise DataError(f"{file} holds no sequences; expected one a line below the header")
    names = [where for where, _, _, _ in rows]
    sequences = Sequences.from_strings(
        [text for _, text, _, _ in rows], find_alphabet(alphabet), names=names
    )
    values = {
        name: np.asarray([numbers[k] for _, _, numbers, _ in rows], np.float64)
        for k, name in enumerate(targets)
    }
    splits: dict[str, list[int]] = {}
    for i, (_, _, _, split) in enumerate(rows):
        splits.setdefault(split, []).append(i)
    index = {name: np.asarray(rows_, np.int64) for name, rows_ in splits.items()}
    return SequenceDataset(str(path), sequences, index, values, {})


Row = tuple[str, str, list[float], str]
"""Where it stands, sequence, value of each target, split."""


def _rows(path: Path, alphabet: str, targets: Sequence[str]) -> Iterator[Row]:
    if is_fasta(path):
        yield from _fasta_rows(path, alphabet, targets)
        return
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise DataError(f"cannot read the table {path}: {error}") from error
    yield from _table_rows(path, lines, TABLES[_suffix(path)], targets)


def _table_rows(path: Path, lines: list[str], comma: str, targets: Sequence[str]) -> Iterator[Row]:
    reader = csv.DictReader(lines, delimiter=comma)
    header = reader.fieldnames or []
    if lacking := [name for name in ("sequence", *targets) if name not in header]:
        raise DataError(
            f"{path} has no column {', '.join(map(repr, lacking))}: its header has "
            f"{', '.join(map(repr, header)) or 'nothing'}; correct data.targets or the header"
        )
    for row in reader:
        where = f"line {reader.line_num} of {path}"
        text = (row["sequence"] or "").strip()
        if not text:
            raise DataError(f"{where} has no sequence; remove the line or fill it in")
        numbers = [_number(row[name], name, where) for name in targets]
        split = "train" if "split" not in header else (row["split"] or "").strip()
        if not split:
            raise DataError(f"{where} has an empty split; name one, or drop the column")
        yield where, text, numbers, split


def _fasta_rows(path: Path, alphabet: str, targets: Sequence[str]) -> Iterator[Row]:
    records = read_fasta(path, alphabet)
    texts = records.sequences.strings()
    for name, about, text in zip(records.names, records.descriptions, texts, strict=True):
        where = f"record {name!r} of {path}"
        words = dict(w.split("=", 1) for w in about.split() if "=" in w)
        yield where, text, [_number(words.get(t), t, where) for t in targets], "train"


def _number(text: str | None, name: str, where: str) -> float:
    word = (text or "").strip()
    if word.lower() in UNKNOWN:
        return math.nan
    try:
        value = float(word)
    except ValueError:
        value = math.inf
    if math.isinf(value):
        raise DataError(
            f"{where}: {name} is {word!r}, expected a finite number, or nothing if it was not "
            "measured"
        )
    return value


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


class RegressorData(Data):
    """Training sequences that have at least one of the targets.

    Attributes:
        sequences: The sequences.
        values: Targets ``float64 [n, targets]``, NaN where one was not measured.
        facts: The data of the config with all that the set says about it.
    """

    def __init__(self, dataset: SequenceDataset, data: TargetData) -> None:
        """Take the split and the targets of ``data`` from ``dataset``.

        Raises:
            DataError: A split or target is unknown, nothing was measured, a target is constant,
                or a sequence is longer than ``data.length``.
        """
        try:
            table = np.stack([dataset.split_values(data.split, t) for t in data.targets], axis=1)
        except ArgumentError as error:
            raise DataError(f"{error}; correct data.split or data.targets") from error
        measured = np.isfinite(table).any(1)
        self.sequences: Sequences = dataset.split(data.split)[np.flatnonzero(measured)]
        self.values: Float = table[measured]
        for k, target in enumerate(data.targets):
            column = self.values[:, k]
            column = column[np.isfinite(column)]
            if len(column) < 2 or column.std() == 0:
                found = f"{len(column)} values" + (", all equal" if len(column) > 1 else "")
                raise DataError(
                    f"target {target!r} of split {data.split!r} of {data.name!r} has {found}: "
                    "there is nothing to learn; correct data.targets or data.split"
                )
        longest = self.sequences.max_length
        if data.length and longest > data.length:
            raise DataError(
                f"data set {data.name!r} has a sequence of {longest} letters, but data.length is "
                f"{data.length}; raise it, or leave it out"
            )
        letters: Any = self.sequences.alphabet.name
        self.facts = replace(
            data,
            alphabet=letters,
            length=data.length or longest,
            mean=data.mean or tuple(np.nanmean(self.values, 0).tolist()),
            std=data.std or tuple(np.nanstd(self.values, 0).tolist()),
        )
        self._y = torch.from_numpy(self.values.astype(np.float32))

    def __len__(self) -> int:
        return len(self.sequences)

    def batch(self, index: Tensor) -> State:
        """Tokens int64 ``[b, L]`` with their mask, and ``y`` ``[b, targets]`` with NaN."""
        tokens, mask = self.sequences.dense(index.numpy())
        values = {"tokens": torch.from_numpy(tokens), "y": self._y[index]}
        return State(values, {"tokens": torch.from_numpy(mask)}, index)

    def fingerprint(self) -> dict[str, Any]:
        """Name, split, targets, n and sha256 of the sequences and their values."""
        content = self.sequences.sha256().encode() + self.values.astype("<f8").tobytes()
        return {
            "name": self.facts.name,
            "split": self.facts.split,
            "targets": list(self.facts.targets),
            "n": len(self),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
