"""Run benchmark suites and record the results with the facts of the machine.

A suite is a file ``benchmarks/suites/<name>.py`` with a string ``TITLE`` and a function
``run(quick: bool, out: Path) -> dict``; ``out`` is a scratch folder for what it must write. The
dict is the result; these keys are understood, all others are kept as they are:

* ``checks``: a list of ``{"name", "value", "wanted", "passed"}``, one per requirement;
* ``table``: a list of flat dicts with the same keys, printed as a table.

Results go to ``benchmarks/results/<name>.json``. Times are recorded, never asserted: compare two
files with ``compare.py``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from graphdiff.core.errors import ArgumentError, DataError

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "suites"))

from _kept import git  # noqa: E402

PACKAGES = ("graphdiffusion", "torch", "numpy", "scipy", "rdkit", "networkx")


def suites() -> dict[str, Path]:
    """Files of the suites by name (``solver-accuracy`` for ``solver_accuracy.py``)."""
    files = sorted((HERE / "suites").glob("[!_]*.py"))
    return {path.stem.replace("_", "-"): path for path in files}


def titles() -> dict[str, str]:
    """What each suite measures; read from the source, so that listing imports nothing heavy."""
    import ast

    found = {}
    for name, path in suites().items():
        found[name] = ""
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "TITLE":
                found[name] = str(ast.literal_eval(node.value))
    return found


def run_suite(
    name: str, *, quick: bool = False, out: Path | None = None, quiet: bool = False
) -> dict[str, Any]:
    """Run one suite, print its table and checks, write ``<name>.json`` into ``out``.

    A suite with a ``draw`` makes a picture as well, ``<name>.png``.

    A quick run never replaces a full result: without ``out`` it is only printed.

    Raises:
        ArgumentError: There is no such suite.
        DataError: The results cannot be written.
    """
    known = suites()
    key = name.replace("_", "-")
    if key not in known:
        raise ArgumentError(f"no benchmark is called {name!r}; there are {', '.join(known)}")
    suite = _module(known[key])
    print(f"{key}: {suite.TITLE}", file=sys.stderr, flush=True)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix=f"graphdiff-{key}-") as scratch:
        result = suite.run(quick, Path(scratch))
    record = {
        "suite": key,
        "title": suite.TITLE,
        "quick": quick,
        "seconds": round(time.perf_counter() - began, 2),
        **facts(),
        **result,
    }
    if not quiet:
        show(record)
    folder = out if out is not None else None if quick else HERE / "results"
    if folder is not None:
        path = folder / f"{key}.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(_plain(record), indent=1) + "\n", "utf-8")
            made = [path]
            if hasattr(suite, "draw"):
                made.append(suite.draw(_plain(record), path.with_suffix(".png")))
        except OSError as error:
            raise DataError(
                f"cannot write {path}: {error.strerror}; choose another --out"
            ) from error
        print(f"wrote {', '.join(map(str, made))}", file=sys.stderr)
    return record


def facts() -> dict[str, Any]:
    """Date, commit, versions and machine: what a time means nothing without."""
    import torch

    machine = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(git("status", "--porcelain", "--untracked-files=no")),
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": machine,
    }


def show(record: Mapping[str, Any]) -> None:
    """Print the table and the checks of a result."""
    rows = record.get("table") or []
    if rows:
        header = list(rows[0])
        _columns([header, *([_short(row.get(k)) for k in header] for row in rows)])
    for check in record.get("checks") or []:
        mark = "ok  " if check["passed"] else "MISS"
        print(
            f"{mark} {check['name']}: {_short(check['value'])} (wanted {_short(check['wanted'])})"
        )


def _columns(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def _plain(value: Any) -> Any:
    """JSON has neither NaN nor infinity nor numpy numbers."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"graphdiff_suite_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise DataError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def main() -> None:
    """Run the suites named on the command line, or list them."""
    parser = argparse.ArgumentParser(
        description="Run benchmark suites; lists them if none is named."
    )
    parser.add_argument("names", nargs="*")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all?")
    parser.add_argument("--out", type=Path, help="folder of the results")
    options = parser.parse_args()
    for name in options.names:
        run_suite(name, quick=options.quick, out=options.out)
    if not options.names:
        for name, title in titles().items():
            print(f"{name}: {title}")


if __name__ == "__main__":
    main()
