"""Compare two results of one suite: ``python benchmarks/compare.py OLD.json NEW.json``.

Prints every number that occurs in both, with the ratio new / old, those that changed most first.
Numbers of different machines are shown, too, with a warning: ratios of times then mean little.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONTEXT = ("date", "commit", "uncommitted_changes", "versions", "machine", "seconds", "checks")


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """All numbers of a result with their dotted paths; rows of a table by their text cells."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, (int, float)):
        yield path, float(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            if path or key not in CONTEXT:
                yield from numbers(item, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            label = str(index)
            if isinstance(item, dict):
                words = [v for v in item.values() if isinstance(v, str)]
                label = "/".join(words) + f"#{index}" if words else label
            yield from numbers(item, f"{path}[{label}]")


def compare(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, float, float, float]]:
    """Rows ``(path, old, new, ratio)`` of the shared numbers, largest change first."""
    before, after = dict(numbers(old)), dict(numbers(new))
    rows = []
    for path in before.keys() & after.keys():
        a, b = before[path], after[path]
        rows.append((path, a, b, b / a if a else math.inf if b else 1.0))

    def change(row: tuple[str, float, float, float]) -> float:
        ratio = abs(row[3])
        return -(math.inf if ratio in (0, math.inf) else abs(math.log(ratio)))

    return sorted(rows, key=lambda row: (change(row), row[0]))


def main() -> None:
    """Compare the two files named on the command line."""
    parser = argparse.ArgumentParser(description="Compare two results of one suite.")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    options = parser.parse_args()
    old, new = (json.loads(p.read_text("utf-8")) for p in (options.old, options.new))
    if old["suite"] != new["suite"]:
        parser.error(f"{options.old} is of {old['suite']}, {options.new} of {new['suite']}")
    for name in ("processor", "cores", "threads", "gpu"):
        a, b = old["machine"].get(name), new["machine"].get(name)
        if a != b:
            print(f"warning: {name} differs ({a} / {b}): ratios of times mean little")
    for path, a, b, ratio in compare(old, new):
        print(f"{ratio:8.3f}  {a:12.6g} -> {b:12.6g}  {path}")


if __name__ == "__main__":
    main()
