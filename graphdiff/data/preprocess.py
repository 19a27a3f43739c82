"""SMILES to packed graphs, once: parallel, cached, memory-mapped, with every failure kept.

The cache file is named by the data set, the sha256 of what was read (SMILES and atom list) and
the version of this preprocessing, so a changed input or rule never meets an old file. Workers are
separate interpreters fed through a pipe, which needs neither ``fork`` nor a guarded main module.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import DataError
from graphdiff.data.dataset import Strings
from graphdiff.data.graphs import Graphs, concat
from graphdiff.data.packed import read_arrays, write_arrays
from graphdiff.data.sources import writable_cache

__all__ = ["VERSION", "Progress", "molecules"]

VERSION = 1
Progress = Callable[[int, int], None]
_PER_WORKER = 10_000


def molecules(
    name: str,
    smiles: Sequence[str],
    atoms: Sequence[str],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[Graphs, Strings, NDArray[np.int64], list[tuple[int, str]]]:
    """Graphs of many SMILES, from the cache if they were made before.

    Args:
        name: Data set, names the cache file.
        smiles: One SMILES per molecule.
        atoms: Elements of the node classes.
        workers: Processes; None = one per available core, fewer for small sets.
        progress: Called with (done, total).

    Returns:
        The graphs, their SMILES, the position of each in ``smiles``, and the failures as
        (position, reason).
    """
    whole = "\n".join(smiles).encode()
    key = hashlib.sha256(whole + b"\n\n" + " ".join(atoms).encode()).hexdigest()
    path = writable_cache() / f"{name}-{key[:20]}-v{VERSION}.npz"
    if path.exists():
        try:
            return _unpack(read_arrays(path))
        except (DataError, KeyError):
            path.unlink(missing_ok=True)  # an interrupted copy of the cache: make it again
    arrays, failures = _convert(smiles, atoms, workers, progress)
    text = Strings.pack(smiles[int(i)] for i in arrays["kept"])
    note = json.dumps(failures).encode()
    arrays |= {"text": text.text, "text_ptr": text.ptr, "failures": np.frombuffer(note, np.uint8)}
    write_arrays(path, arrays)
    return _unpack(read_arrays(path))


def _unpack(
    arrays: dict[str, NDArray[Any]],
) -> tuple[Graphs, Strings, NDArray[np.int64], list[tuple[int, str]]]:
    graphs = Graphs(
        *(arrays[k] for k in ("num_nodes", "edge_ptr", "edges", "node_type", "edge_type"))
    )
    failures = [(int(i), str(r)) for i, r in json.loads(arrays["failures"].tobytes())]
    return graphs, Strings(arrays["text"], arrays["text_ptr"]), arrays["kept"], failures


def _convert(
    smiles: Sequence[str], atoms: Sequence[str], workers: int | None, progress: Progress | None
) -> tuple[dict[str, NDArray[Any]], list[tuple[int, str]]]:
    from graphdiff.graph.molecules import pack_smiles

    total = len(smiles)
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        workers = max(1, min(cores or 1, total // _PER_WORKER))
    if workers == 1:
        report = None if progress is None else (lambda done: progress(done, total))
        return pack_smiles(smiles, atoms, report)
    bounds = np.linspace(0, total, workers + 1).astype(int).tolist()
    done = [0] * workers

    def report_part(worker: int, count: int) -> None:
        done[worker] = count
        if progress is not None:
            progress(sum(done), total)

    with tempfile.TemporaryDirectory(prefix="graphdiff-") as folder:
        parts = [
            _Worker(smiles[a:b], atoms, Path(folder) / f"{k}.npz", partial(report_part, k))
            for k, (a, b) in enumerate(pairwise(bounds))
        ]
        results = [part.result() for part in parts]
    return _join(results, bounds)


def _join(
    results: list[tuple[dict[str, NDArray[Any]], list[tuple[int, str]]]], bounds: list[int]
) -> tuple[dict[str, NDArray[Any]], list[tuple[int, str]]]:
    names = ("num_nodes", "edge_ptr", "edges", "node_type", "edge_type")
    graphs = concat([Graphs(*(arrays[k] for k in names)) for arrays, _ in results])
    out: dict[str, NDArray[Any]] = {k: getattr(graphs, k) for k in names}
    out["kept"] = np.concatenate(
        [arrays["kept"] + start for (arrays, _), start in zip(results, bounds, strict=False)]
    )
    failures = [
        (i + start, reason)
        for (_, bad), start in zip(results, bounds, strict=False)
        for i, reason in bad
    ]
    return out, failures


class _Worker:
    """One interpreter that converts one part; a thread feeds it and hears its progress."""

    def __init__(
        self, smiles: Sequence[str], atoms: Sequence[str], out: Path, report: Callable[[int], None]
    ) -> None:
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(p for p in (package, os.environ.get("PYTHONPATH")) if p)
        self.out = out
        self.process = subprocess.Popen(
            [sys.executable, "-m", "graphdiff.data.worker", str(out), *atoms],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        self.report = report
        self.error = ""
        self.threads = [
            threading.Thread(target=self._feed, args=("\n".join(smiles),), daemon=True),
            threading.Thread(target=self._listen, daemon=True),
            threading.Thread(target=self._gather_errors, daemon=True),
        ]
        for thread in self.threads:
            thread.start()

    def _feed(self, text: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(text)
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # the worker died; its exit status is reported by result()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.report(int(line))

    def _gather_errors(self) -> None:
        assert self.process.stderr is not None
        self.error = self.process.stderr.read()

    def result(self) -> tuple[dict[str, NDArray[Any]], list[tuple[int, str]]]:
        for thread in self.threads:
            thread.join()
        if self.process.wait() != 0:
            raise DataError(
                f"a preprocessing process ended with status {self.process.returncode}: "
                f"{self.error.strip()[-400:]}; retry with workers=1"
            )
        arrays = read_arrays(self.out, mmap=False)
        failures = json.loads(arrays.pop("failures").tobytes())
        return arrays, [(int(i), str(r)) for i, r in failures]
