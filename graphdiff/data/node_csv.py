"""Tables of a user's graph: lines with their numbers, headers found, cells checked.

Every refusal names the file and the line, as an editor counts them (from 1). A table is comma,
semicolon or tab separated, UTF-8, plain or ``.gz``; empty lines are skipped.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import DataError
from graphdiff.data.sources import read_bytes

__all__ = ["Table", "find_table", "read_edges", "read_features", "read_labels", "read_table"]

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
ID_WORDS = frozenset({"id", "ids", "node", "node_id", "nodeid", "name", "index"})
END_WORDS = frozenset({
    "source", "target", "src", "dst", "from", "to", "u", "v", "head", "tail", "node1", "node2",
    "node_1", "node_2", "id1", "id2", "id_1", "id_2", "source_id", "target_id", "sourceid",
    "targetid",
})  # fmt: skip
LABEL_WORDS = frozenset({"label", "labels", "class", "classes", "y", "target", "category"})
ABSENT = frozenset({"", "?", "nan", "NaN", "NA"})


@dataclass(frozen=True)
class Table:
    """Rows of a file, each with the number of its line.

    Attributes:
        path: The file.
        rows: ``(line, cells)``; cells are stripped of blanks.
    """

    path: Path
    rows: list[tuple[int, list[str]]]

    def error(self, line: int, what: str) -> DataError:
        """An error of one line."""
        return DataError(f"{self.path}, line {line}: {what}")

    def body(self, header: bool) -> list[tuple[int, list[str]]]:
        """The rows without the header."""
        return self.rows[1:] if header else self.rows

    def width(self, wanted: int, what: str) -> None:
        """Every row has ``wanted`` cells or more.

        Raises:
            DataError: One has fewer.
        """
        for line, cells in self.rows:
            if len(cells) < wanted:
                raise self.error(line, f"found {len(cells)} columns, expected {what}")

    def ids(self, rows: Sequence[tuple[int, list[str]]]) -> dict[str, int]:
        """Ids of the first column and their lines.

        Raises:
            DataError: One is empty or there twice.
        """
        found: dict[str, int] = {}
        for line, cells in rows:
            name = cells[0]
            if not name:
                raise self.error(line, "the id is empty; give every node an id")
            if name in found:
                raise self.error(
                    line, f"node {name!r} is listed twice, first in line {found[name]}; keep one"
                )
            found[name] = line
        return found


def find_table(folder: Path, stem: str) -> Path | None:
    """``stem.csv`` (or ``.tsv``, or one of them as ``.gz``) of a folder."""
    return next((p for s in SUFFIXES if (p := folder / f"{stem}{s}").is_file()), None)


def read_table(path: Path) -> Table:
    """The rows of a file.

    Raises:
        DataError: It cannot be read, is not UTF-8, has a broken quotation, or holds nothing.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error
    first = text.lstrip().partition("\n")[0]
    mark = next((m for m in (",", "\t", ";") if m in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    rows = []
    try:
        for cells in reader:
            clean = [cell.strip() for cell in cells]
            if any(clean):
                rows.append((reader.line_num, clean))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}; mend the quotation") from error
    if not rows:
        raise DataError(f"{path} is empty; remove it, or fill it")
    return Table(path, rows)


def read_edges(path: Path) -> tuple[Table, list[tuple[int, str, str]], bool]:
    """Lines of an edge list ``source,target``; whether further columns were ignored."""
    table = read_table(path)
    table.width(2, "source,target")
    first = table.rows[0][1][:2]
    later = {cell for _, cells in table.rows[1:] for cell in cells[:2]}
    named = {cell.lower() for cell in first} <= END_WORDS and not later & set(first)
    header = named or (_texts(first) and _numbers(table.rows[1:], 2))
    rows = table.body(header)
    for line, cells in rows:
        if not (cells[0] and cells[1]):
            raise table.error(line, "an end of the edge is empty; give both ids")
    more = any(len(cells) > 2 for _, cells in rows)
    return table, [(line, cells[0], cells[1]) for line, cells in rows], more


def read_features(path: Path) -> tuple[dict[str, int], NDArray[np.float32]]:
    """Ids with their lines, and features ``[n, f]``.

    Raises:
        DataError: Rows of several lengths, text, or values that are not finite.
    """
    table = read_table(path)
    table.width(2, "an id and one or more numbers")
    cells = table.rows[0][1]
    header = cells[0].lower() in ID_WORDS or _texts(cells[1:])
    rows = table.body(header)
    ids, wide = table.ids(rows), len(rows[0][1]) if rows else 0
    if not rows:
        raise DataError(f"{path} has a header and no node; give one line for each node")
    features = np.empty((len(rows), wide - 1), np.float32)
    for k, (line, cells) in enumerate(rows):
        if len(cells) != wide:
            raise table.error(
                line, f"found {len(cells) - 1} features, the lines before have {wide - 1}"
            )
        try:
            features[k] = [float(cell) for cell in cells[1:]]
        except ValueError:
            column = next(i for i, cell in enumerate(cells[1:], 2) if not _number(cell))
            what = "is empty" if not cells[column - 1] else f"holds {cells[column - 1]!r}"
            raise table.error(
                line, f"column {column} {what}, expected a number; encode text and fill gaps first"
            ) from None
        if not np.isfinite(features[k]).all():
            column = int(np.flatnonzero(~np.isfinite(features[k]))[0]) + 2
            raise table.error(
                line, f"column {column} holds {cells[column - 1]}, expected a finite number"
            )
    return ids, features


def read_labels(path: Path) -> tuple[Table, dict[str, int], dict[str, str | None]]:
    """The table, ids with their lines, and the class of each id, ``None`` where it is not known."""
    table = read_table(path)
    rows = table.rows
    first = [cell.lower() for cell in rows[0][1]]
    header = first[0] in ID_WORDS or (len(first) > 1 and first[1] in LABEL_WORDS)
    rows = table.body(header)
    ids = table.ids(rows)
    found: dict[str, str | None] = {}
    for line, cells in rows:
        if len(cells) > 2:
            raise table.error(line, f"found {len(cells)} columns, expected id,label")
        label = cells[1] if len(cells) > 1 else ""
        found[cells[0]] = None if label in ABSENT else label
    known = [label for label in found.values() if label is not None]
    if all(_whole(label) for label in known):  # a common way to write that it is not known
        found = {k: None if v is not None and int(v) == -1 else v for k, v in found.items()}
    return table, ids, found


def class_order(labels: Mapping[str, str | None]) -> tuple[str, ...]:
    """Classes that occur, by number where all are whole numbers, else by name."""
    found = {label for label in labels.values() if label is not None}
    whole = all(_whole(label) for label in found)
    key: Callable[[str], tuple[int, str]] = lambda c: (int(c) if whole else 0, c)  # noqa: E731
    return tuple(sorted(found, key=key))


def split_rows(path: Path, known: frozenset[str]) -> Iterator[tuple[Table, int, str, list[str]]]:
    """Lines ``id,part…`` of a file of splits, without its header.

    Args:
        path: The file.
        known: Names of parts, in lower case; a first line without any is the header.
    """
    table = read_table(path)
    table.width(2, "an id and its part in one or more splits")
    header = not any(cell.lower() in known for cell in table.rows[0][1][1:])
    rows = table.body(header)
    table.ids(rows)
    wide = len(rows[0][1]) if rows else 0
    for line, cells in rows:
        if len(cells) != wide:
            raise table.error(line, f"found {len(cells) - 1} splits, the lines before {wide - 1}")
        yield table, line, cells[0], [cell.lower() for cell in cells[1:]]


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _whole(cell: str) -> bool:
    return cell.lstrip("-").isdecimal()


def _texts(cells: Sequence[str]) -> bool:
    """Whether none is a number, as in a header."""
    return bool(cells) and not any(_number(cell) for cell in cells)


def _numbers(rows: Sequence[tuple[int, list[str]]], columns: int) -> bool:
    """Whether all cells of the first columns are numbers, and there are some."""
    return bool(rows) and all(_number(cell) for _, cells in rows for cell in cells[:columns])
