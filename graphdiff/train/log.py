"""The training log: one JSON object a line, in ``log.jsonl`` of the run.

Every record has ``event`` (``"start"``, ``"train"``, ``"checkpoint"``, ``"stop"``, ``"failure"``,
``"end"``) and ``step``. A run that is killed may have logged steps which its last checkpoint does
not hold; the checkpoint stores the length of the log, and resuming cuts the log there, so that no
step is logged twice.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graphdiff.core.errors import DataError

__all__ = ["Log", "read_log"]


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity; they are written as strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


class Log:
    """Appends records to a file; ``position`` is its length in bytes after the last record."""

    def __init__(self, path: Path, position: int = 0) -> None:
        path.touch()
        if path.stat().st_size > position:
            os.truncate(path, position)
        self._file = path.open("ab")

    @property
    def position(self) -> int:
        """Length of the log in bytes."""
        return self._file.tell()

    def write(self, event: str, step: int, **fields: Any) -> None:
        """Append one record and hand it to the operating system."""
        record = {"event": event, "step": step, **fields}
        self._file.write(json.dumps(_plain(record), allow_nan=False).encode() + b"\n")
        self._file.flush()

    def sync(self) -> None:
        """Force the records to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_log(path: str | Path, event: str | None = None) -> Iterator[dict[str, Any]]:
    """The records of a log, in order; a last line that was cut off is left out.

    Raises:
        DataError: The file does not exist, or a line before the last is not JSON.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no training log at {path}; expected the log.jsonl of a training run")
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                return
            raise DataError(f"{path}, line {number}: not a JSON record ({error})") from error
        if event is None or record.get("event") == event:
            yield record
