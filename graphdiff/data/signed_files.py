"""Signed events from a file of the user's: one line for each, four columns."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.signed import SignedEvents
from graphdiff.data.sources import card, checked, read_bytes

__all__ = ["load_signed", "parse_events", "read_events", "signed_names"]

COLUMNS = ("source", "target", "weight", "time")
SETS = ("bitcoin-otc", "bitcoin-alpha")


def read_events(
    path: str | Path,
    columns: Sequence[str] = COLUMNS,
    *,
    order: Literal["refuse", "sort"] = "refuse",
    loops: Literal["refuse", "drop"] = "refuse",
) -> SignedEvents:
    """Events of a text file (``.csv``, ``.tsv``, also ``.gz`` and ``.xz``).

    With a header, columns are found by name (``sign`` is taken where there is no ``weight``);
    without one, the first four are source, target, weight and time. Times are numbers, or dates as
    ``2024-01-31T12:00:00`` (then in seconds, UTC where no zone is given). Columns are separated as
    the first line says, by tab, semicolon, comma or blanks; lines that start with # or % are
    comments. Nodes are numbers where all are written as whole numbers, else text as it is.

    Args:
        path: The file.
        columns: Names of the four columns in a header.
        order: As in :meth:`SignedEvents.of`.
        loops: As in :meth:`SignedEvents.of`.

    Raises:
        DataError: The file cannot be read, lacks a column or holds an unreadable line; as
            :meth:`SignedEvents.of`.
    """
    data = read_bytes(Path(path))
    about = {"name": Path(path).stem}
    return parse_events(data, str(path), columns, order=order, loops=loops, about=about)


def parse_events(
    data: bytes,
    path: str,
    columns: Sequence[str] = COLUMNS,
    *,
    order: Literal["refuse", "sort"] = "refuse",
    loops: Literal["refuse", "drop"] = "refuse",
    about: dict[str, Any] | None = None,
) -> SignedEvents:
    """As :func:`read_events`, of the content of a file called ``path``."""
    if len(columns) != 4:
        raise ArgumentError(f"columns={columns!r}: expected four names")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}); save it as csv in UTF-8") from error
    rows = list(_rows(text, path))
    place = [0, 1, 2, 3]
    if rows and _is_header(rows[0][1]):
        place = _places(rows[0][1], columns, path)
        rows = rows[1:]
    names, numbers = list[tuple[str, str]](), list[tuple[float, float]]()
    for k, row in rows:
        try:
            u, v, w, t = (row[c] for c in place)
            number, moment = float(w), _moment(t)
        except (IndexError, ValueError) as error:
            raise DataError(
                f"{path}, line {k}: found {row}, expected source, target, a signed weight and a "
                f"time ({error})"
            ) from error
        if not (u and v):
            raise DataError(f"{path}, line {k}: found {row}, a node without a name; give both")
        names.append((u, v))
        numbers.append((number, moment))
    if not numbers:
        raise DataError(f"{path} holds no events: expected one line for each")
    ends, values = _names(names), np.array(numbers)
    told = {**(about or {}), "sha256": hashlib.sha256(data).hexdigest()}
    return SignedEvents.of(
        ends[:, 0], ends[:, 1], values[:, 0], values[:, 1], order=order, loops=loops, about=told
    )


def _rows(text: str, path: str) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line but comments and empty ones.

    Raises:
        DataError: A quotation is broken or goes over several lines, or a cell is too long.
    """
    # Comments are emptied before the quotations are read, since a quote in one means nothing.
    lines = [
        "" if line.startswith(("#", "%")) else line.strip(" \r\n")
        for line in io.StringIO(text, newline="")
    ]
    head = next((line for line in lines if line), "")
    mark = next((c for c in "\t;," if c in head), " ")
    reader = csv.reader(lines, delimiter=mark, strict=True, skipinitialspace=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}, line {line}: {error}; mend the quotation") from error
        if row is None:
            return
        if reader.line_num > line:
            raise DataError(f"{path}, line {line}: a quotation goes on in the next line; close it")
        if row:
            yield line, [cell.strip() for cell in row]


def _is_header(row: Sequence[str]) -> bool:
    try:
        float(row[2])
    except (ValueError, IndexError):
        return True
    return False


def _places(header: Sequence[str], columns: Sequence[str], path: str) -> list[int]:
    known = [name.strip().lower() for name in header]
    wanted = [name.lower() for name in columns]
    if wanted[2] == "weight" and "weight" not in known and "sign" in known:
        wanted[2] = "sign"
    absent = [name for name in wanted if name not in known]
    if absent:
        raise DataError(
            f"{path} has the columns {', '.join(header)}: found no {', '.join(absent)}; name the "
            "four columns (source, target, weight, time) with columns=..."
        )
    return [known.index(name) for name in wanted]


def _moment(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        day = datetime.fromisoformat(text)
        return (day if day.tzinfo else day.replace(tzinfo=UTC)).timestamp()


def _names(values: list[tuple[str, str]]) -> NDArray[Any]:
    """Names ``[m, 2]``, whole numbers where all are written as such, else text.

    ``01`` and ``1`` are two nodes, so that either makes all names text.
    """
    found = np.array(values)
    try:
        whole = found.astype(np.int64)
    except (ValueError, OverflowError):
        return found
    return whole if (whole.astype(str) == found).all() else found


def signed_names() -> tuple[str, ...]:
    """Public sets of :func:`load_signed`."""
    return SETS


def load_signed(name: str, root: str | Path | None = None) -> SignedEvents:
    """A public set of signed events; see the module docstring.

    Args:
        name: ``bitcoin-otc`` or ``bitcoin-alpha``.
        root: Folder of the files; None = the search path of :mod:`graphdiff.data.sources`.

    Raises:
        ArgumentError: There is no such set.
        DataError: The file is missing or damaged.
    """
    if name not in SETS:
        raise ArgumentError(f"there is no signed set {name!r}: known are {', '.join(SETS)}")
    path, data = checked(name, card(name)["files"][0], root)
    return parse_events(data, str(path), order="sort", about={"name": name})
