"""Your own users, items and behaviours, from csv tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from graphdiff.core.errors import DataError
from graphdiff.data.behaviours import Behaviours, ones
from graphdiff.data.sources import read_bytes

__all__ = ["read_edges"]


def read_edges(
    path: str | Path,
    target: str,
    *,
    test: str | Path | None = None,
    users: Sequence[str] = (),
    items: Sequence[str] = (),
) -> Behaviours:
    """Edges from a csv table with the columns ``user, item, behaviour`` and, if known, ``time``.

    Ids are any text and are mapped to ``0 .. n - 1`` in order of appearance. Repeated edges are
    joined (the last time counts), in whatever order they come.

    Args:
        path: Edges of training.
        target: The behaviour that is predicted.
        test: Table with the columns ``user, item`` (further ones are not read) of test pairs.
        users: Names of users to keep even if they have no edge; they come first.
        items: The same of items.

    Raises:
        DataError: A table is not UTF-8 or has a broken quotation, a column is absent, a time is no
            number, there is no edge, or splits overlap.
    """
    rows = _table(Path(path), ("user", "item", "behaviour"))
    if not rows:
        raise DataError(f"{path} holds no edge; expected rows of user, item, behaviour")
    held = _table(Path(test), ("user", "item")) if test is not None else []
    who = _numbers(users, (row["user"] for row in [*rows, *held]))
    what = _numbers(items, (row["item"] for row in [*rows, *held]))
    shape = len(who), len(what)
    timed = "time" in rows[0]
    edges, times = {}, {}
    for kind in dict.fromkeys(row["behaviour"] for row in rows):
        own = [row for row in rows if row["behaviour"] == kind]
        seconds = np.array([_seconds(row["time"], path) for row in own]) if timed else None
        row = np.array([who[r["user"]] for r in own])
        edges[kind], known = ones(row, np.array([what[r["item"]] for r in own]), seconds, shape)
        if known is not None:
            times[kind] = known
    pairs = np.array([[who[r["user"]], what[r["item"]]] for r in held], np.int64).reshape(-1, 2)
    return Behaviours(edges, target, pairs, times=times, users=list(who), items=list(what))


def _numbers(first: Sequence[str], then: Iterable[str]) -> dict[str, int]:
    """Numbers of names in the order in which they occur."""
    return {name: k for k, name in enumerate(dict.fromkeys([*map(str, first), *then]))}


def _seconds(text: str, path: str | Path) -> int:
    try:
        return int(float(text))
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{path}: time {text!r} is no number; give seconds") from None


def _table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    if not path.is_file():
        raise DataError(f"no file {path}; give a csv table with the columns {', '.join(columns)}")
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        absent = [name for name in columns if name not in (reader.fieldnames or ())]
        if absent:
            raise DataError(
                f"{path} lacks the columns {', '.join(absent)}: found "
                f"{', '.join(reader.fieldnames or ()) or 'none'}; the first line names them"
            )
        for row in reader:
            empty = [name for name in columns if not row[name]]
            if empty:
                raise DataError(
                    f"{path}, line {reader.line_num}: {', '.join(empty)} is empty; complete it"
                )
            rows.append(row)
    except csv.Error as error:
        line = reader.reader.line_num
        raise DataError(f"{path}, line {line}: {error}; mend the quotation") from error
    return rows
