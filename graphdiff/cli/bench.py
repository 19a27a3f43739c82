"""``graphdiff bench``: run suites of the checkout's ``benchmarks/`` folder."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from graphdiff.cli.common import Json, Threads, emit, set_threads, table

__all__ = ["bench"]


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(help="Suites; lists them if none is given.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small sizes: does it run at all?")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the results; benchmarks/results if absent."),
    ] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Run benchmark suites and record the results with the facts of this machine."""
    runner = _runner()
    if not names:
        rows = sorted(runner.titles().items())
        emit(dict(rows)) if as_json else table(rows, ("suite", "what it measures"))
        return
    set_threads(threads)
    results = {name: runner.run_suite(name, quick=quick, out=out, quiet=as_json) for name in names}
    if as_json:
        emit(results)


def _runner() -> ModuleType:
    """``benchmarks/run.py`` of this checkout: beside the package, or under the working folder."""
    from graphdiff.core.errors import DataError

    for base in (Path(__file__).resolve().parents[2], Path.cwd()):
        path = base / "benchmarks" / "run.py"
        if path.is_file() and (base / "graphdiff").is_dir():
            break
    else:
        raise DataError(
            "the benchmark suites are not part of the installed package; clone the repository and "
            "run `graphdiff bench` in it"
        )
    spec = importlib.util.spec_from_file_location("graphdiff_benchmarks_run", path)
    if spec is None or spec.loader is None:
        raise DataError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
