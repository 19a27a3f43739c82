"""Tables of a user's graph: lines with their numbers, cells checked.

Every refusal names the file and the line, as an editor counts them (from 1). A table is comma,
semicolon or tab separated, UTF-8, plain or ``.gz``; empty lines are skipped. Whether the first line
is a header is for :mod:`graphdiff.data.node_headers` to say.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import DataError
from graphdiff.data.node_labels import known_labels
from graphdiff.data.sources import read_bytes

__all__ = [
    "Table", "edge_rows", "feature_rows", "find_table", "is_number", "label_rows", "read_table",
    "split_rows",
]  # fmt: skip

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
Row = tuple[int, list[str]]


@dataclass(frozen=True)
class Table:
    """Rows of a file, each with the number of its line.

    Attributes:
        path: The file.
        rows: ``(line, cells)``; cells are stripped of blanks.
    """

    path: Path
    rows: list[Row]

    def error(self, line: int, what: str) -> DataError:
        """An error of one line."""
        return DataError(f"{self.path}, line {line}: {what}")

    def body(self, header: bool) -> list[Row]:
        """The rows without the header."""
        return self.rows[1:] if header else self.rows

    def below(self) -> set[str]:
        """Ids of all rows but the first, which may be a header."""
        return {cells[0] for _, cells in self.rows[1:]}

    def width(self, wanted: int, what: str) -> None:
        """Every row has ``wanted`` cells or more.

        Raises:
            DataError: One has fewer.
        """
        for line, cells in self.rows:
            if len(cells) < wanted:
                raise self.error(line, f"found {len(cells)} columns, expected {what}")

    def ids(self, rows: Sequence[Row]) -> dict[str, int]:
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


def read_table(path: Path, wanted: int = 1, what: str = "") -> Table:
    """The rows of a file.

    Args:
        path: The file.
        wanted: Cells that each row has at least.
        what: These cells, for messages.

    Raises:
        DataError: It cannot be read, is not UTF-8, has a broken quotation, holds nothing, or a row
            has too few cells.
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
    table = Table(path, rows)
    table.width(wanted, what)
    return table


def edge_rows(table: Table, header: bool) -> tuple[list[tuple[int, str, str]], bool]:
    """Lines and ends of an edge list ``source,target``; whether further columns were ignored."""
    line, cells = table.rows[0]
    if header and not (cells[0] and cells[1]):
        raise table.error(
            line, "one of the first two columns has no name; give source,target alone (pandas: "
            "index=False)"
        )  # fmt: skip
    rows = table.body(header)
    for line, cells in rows:
        if not (cells[0] and cells[1]):
            raise table.error(line, "an end of the edge is empty; give both ids")
    more = any(len(cells) > 2 for _, cells in rows)
    return [(line, cells[0], cells[1]) for line, cells in rows], more


def feature_rows(
    table: Table, header: bool
) -> tuple[dict[str, int], NDArray[np.float32], tuple[str, ...]]:
    """Ids with their lines, features ``[n, f]``, and the names of the columns.

    There are no names without a header, or where it does not fit the lines below.

    Raises:
        DataError: Rows of several lengths, text, or values that are not finite.
    """
    rows = table.body(header)
    if not rows:
        raise DataError(f"{table.path} has a header and no node; give one line for each node")
    ids, wide = table.ids(rows), len(rows[0][1])
    features = np.empty((len(rows), wide - 1), np.float32)
    for k, (line, cells) in enumerate(rows):
        if len(cells) != wide:
            raise table.error(
                line, f"found {len(cells) - 1} features, the lines before have {wide - 1}"
            )
        try:
            features[k] = [float(cell) for cell in cells[1:]]
        except ValueError:
            column = next(i for i, cell in enumerate(cells[1:], 2) if not is_number(cell))
            what = "is empty" if not cells[column - 1] else f"holds {cells[column - 1]!r}"
            raise table.error(
                line, f"column {column} {what}, expected a number; encode text and fill gaps first"
            ) from None
        if not np.isfinite(features[k]).all():
            column = int(np.flatnonzero(~np.isfinite(features[k]))[0]) + 2
            raise table.error(
                line, f"column {column} holds {cells[column - 1]}, expected a finite number"
            )
    names = table.rows[0][1][1:] if header else []
    return ids, features, tuple(names) if len(names) == wide - 1 else ()


def label_rows(table: Table, header: bool) -> tuple[dict[str, int], dict[str, str | None]]:
    """Ids with their lines, and the class of each id, ``None`` where it is not known."""
    rows = table.body(header)
    ids = table.ids(rows)
    for line, cells in rows:
        if len(cells) > 2:
            raise table.error(line, f"found {len(cells)} columns, expected id,label")
    labels = known_labels([cells[1] if len(cells) > 1 else "" for _, cells in rows])
    return ids, dict(zip(ids, labels, strict=True))


def split_rows(table: Table, header: bool) -> Iterator[tuple[int, str, list[str]]]:
    """Lines ``id,part…`` of a file of splits: the line, the id, and the parts in lower case."""
    rows = table.body(header)
    table.ids(rows)
    wide = len(rows[0][1]) if rows else 0
    for line, cells in rows:
        if len(cells) != wide:
            raise table.error(line, f"found {len(cells) - 1} splits, the lines before {wide - 1}")
        yield line, cells[0], [cell.lower() for cell in cells[1:]]


def is_number(cell: str) -> bool:
    """Whether a cell reads as a number, ``nan`` and ``inf`` among them."""
    try:
        float(cell)
    except ValueError:
        return False
    return True
