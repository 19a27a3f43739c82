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
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from graphdiff.core.errors import DataError, TrainingError

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
    """Appends records to a file; made by :meth:`open`. Without a file it drops them."""

    def __init__(self, file: FileIO | None) -> None:
        self._file = file

    @classmethod
    @contextmanager
    def open(cls, path: Path, position: int = 0, active: bool = True) -> Iterator[Log]:
        """The log at ``path``, cut to ``position`` bytes.

        Args:
            path: The file; it is made if it does not exist.
            position: Length of what is kept.
            active: False in processes that leave the log to another one.

        Raises:
            TrainingError: The file cannot be written.
        """
        if not active:
            yield cls(None)
            return
        try:
            file = FileIO(path, "a")
            if os.fstat(file.fileno()).st_size > position:
                os.truncate(path, position)
        except OSError as error:
            raise TrainingError(f"cannot write the log {path}: {error}") from error
        with file:
            yield cls(file)

    @property
    def position(self) -> int:
        """Length of the log in bytes."""
        return os.fstat(self._file.fileno()).st_size if self._file is not None else 0

    def write(self, event: str, step: int, **fields: Any) -> None:
        """Append one record and hand it to the operating system.

        Raises:
            TrainingError: The file cannot be written.
        """
        if self._file is None:
            return
        record = _plain({"event": event, "step": step, **fields})
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            raise TrainingError(
                f"cannot write the log {self._file.name} at step {step}: {error}; free disk "
                "space and run the same command again, it goes on from the newest checkpoint"
            ) from error

    def sync(self) -> None:
        """Force the records to the disk."""
        if self._file is not None:
            os.fsync(self._file.fileno())


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
