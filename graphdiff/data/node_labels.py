"""Labels of nodes as numbers of classes: what is unknown, which classes there are, in which order.

A label is not known where it is empty, ``?``, ``nan`` or ``NaN``, and where it is -1 among whole
numbers. Classes are those that occur; whole numbers are ordered as numbers, else all by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import DataError

__all__ = ["ABSENT", "UNKNOWN", "coded", "known_labels", "numbered", "text_of"]

UNKNOWN = -1
ABSENT = frozenset({"", "?", "nan", "NaN"})


def known_labels(labels: Sequence[str]) -> list[str | None]:
    """Labels as they are written, ``None`` where they are not known."""
    found = [None if label in ABSENT else label for label in labels]
    if all(_whole(label) for label in found if label is not None):
        return [None if label is not None and int(label) == UNKNOWN else label for label in found]
    return found


def numbered(labels: Iterable[str | None]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The number of each label's class, -1 where it is not known, and the names of the classes."""
    given = list(labels)
    found = {label for label in given if label is not None}
    whole = all(_whole(label) for label in found)
    key: Callable[[str], tuple[int, str]] = lambda c: (int(c) if whole else 0, c)  # noqa: E731
    classes = tuple(sorted(found, key=key))
    number = {c: k for k, c in enumerate(classes)}
    return np.array([UNKNOWN if c is None else number[c] for c in given], np.int64), classes


def coded(labels: NDArray[Any], where: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels of an array as numbers of classes, -1 where unknown, and the names of the classes.

    Args:
        labels: Whole numbers or text ``[n]``; numbers become names of classes as they are.
        where: What to call them in messages.

    Raises:
        DataError: It is no vector, or holds fractions, numbers below -1, or other things.
    """
    kind = labels.dtype.kind
    if labels.ndim != 1 or kind not in "iubfUS":
        raise DataError(
            f"{where}: found {labels.dtype} of shape {list(labels.shape)}, expected whole numbers "
            "or text, one for each node"
        )
    if kind in "US":
        return numbered(known_labels(text_of(labels, where)))
    known = labels != UNKNOWN
    if kind == "f":
        known &= ~np.isnan(labels)
    values, number = np.unique(labels[known], return_inverse=True)
    if not np.isfinite(values).all() or (kind == "f" and (values != np.round(values)).any()):
        raise DataError(f"{where}: found fractions, expected whole numbers or text as classes")
    if len(values) and values[0] < UNKNOWN:
        raise DataError(
            f"{where} lie between {int(values[0])} and {int(values[-1])}, expected -1 "
            "(unknown) or more"
        )
    made = np.full(len(labels), UNKNOWN, np.int64)
    made[known] = number
    return made, tuple(str(int(value)) for value in values)


def text_of(labels: NDArray[Any], where: str) -> list[str]:
    """Text of an array of text or of bytes.

    Raises:
        DataError: Bytes that are not UTF-8.
    """
    if labels.dtype.kind == "U":
        return [str(label) for label in labels]
    try:
        return [bytes(label).decode("utf-8") for label in labels]
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: text is not UTF-8 ({error}); save it as text") from error


def _whole(label: str) -> bool:
    return re.fullmatch(r"-?\d+", label) is not None
