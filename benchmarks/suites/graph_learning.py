"""All systems of graph learning: every suite in a process of its own, two at a time.

Each suite measures what its claims rest on; further rows (``left_out`` in its record) are measured
by the suite alone, or here with ``GRAPHDIFF_BENCH_EXTRAS=1``: ``graphdiff bench sheaf``,
``diffgraph``, ``stable``, ``spe``, ``semba``, ``local-clustering``, ``canonization``. Rows that are
in the work folder are not measured again. Records and pictures of the suites are left in the work
folder of this one; here are their tables and checks. A suite that fails is a missed check with the
last line of its error, and the others go on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _kept import work_folder

HERE = Path(__file__).resolve().parent

TITLE = "Graph learning: sheaves, DiffGraph, STABLE, SPE, SEMBA, local clustering, canonization"
SYSTEMS = (  # longest first: two lanes end at about the same time
    "sheaf", "diffgraph", "stable", "semba", "spe", "local-clustering", "canonization",
)  # fmt: skip
LANES = 2
MINUTES = 60


def run(quick: bool, out: Path) -> dict[str, Any]:
    """Every suite, one thread each."""
    part = "quick" if quick else "full"
    folder = work_folder("graph-learning") / part
    began = time.perf_counter()
    with ThreadPoolExecutor(LANES) as pool:
        done = list(pool.map(lambda name: _suite(name, quick, folder), SYSTEMS))
    minutes = (time.perf_counter() - began) / 60
    checks = [
        {**check, "name": f"{found['suite']}: {check['name']}"}
        for found in done
        for check in found["checks"]
    ]
    checks.append({
        "name": "minutes, two processes", "value": round(minutes, 1),
        "wanted": f"<= {MINUTES}", "passed": minutes <= MINUTES,
    })  # fmt: skip
    rows = [
        {
            "system": found["suite"], "seconds": found["seconds"],
            "checks_met": sum(bool(check["passed"]) for check in found["checks"]),
            "checks": len(found["checks"]),
        }
        for found in done
    ]  # fmt: skip
    shown = ("table", "checks", "commit", "seconds", "left_out")
    systems = {f["suite"]: {key: f.get(key) for key in shown} for f in done}
    pictures = {name: f"{part}/{name}.png" for name in SYSTEMS}  # in the work folder
    return {"table": rows, "checks": checks, "systems": systems, "pictures": pictures}


def _suite(name: str, quick: bool, folder: Path) -> dict[str, Any]:
    """The record of one suite, or a missed check that says why there is none."""
    command = [sys.executable, str(HERE.parent / "run.py"), name, "--out", str(folder)]
    env = {
        **os.environ, "OMP_NUM_THREADS": "1", "GRAPHDIFF_BENCH_PROCESSES": "1",
        "GRAPHDIFF_BENCH_EXTRAS": os.environ.get("GRAPHDIFF_BENCH_EXTRAS", "0"),
    }  # fmt: skip
    began = time.perf_counter()
    _tell(name, "begins")
    child = subprocess.Popen(
        [*command, *(["--quick"] if quick else [])], env=env, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    last = "no message"
    assert child.stderr is not None
    for line in filter(None, map(str.strip, child.stderr)):
        last = line
        _tell(name, line)
    failed = child.wait() != 0
    seconds = round(time.perf_counter() - began, 1)
    _tell(name, f"ended after {seconds:.0f} s")
    if not failed:
        found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text("utf-8"))
        return {**found, "seconds": seconds}
    missed = {"name": "runs", "value": last, "wanted": "no error", "passed": False}
    return {"suite": name, "seconds": seconds, "table": [], "checks": [missed]}


def _tell(name: str, text: str) -> None:
    """A line of one suite, as soon as it is there."""
    print(f"{name}: {text}", file=sys.stderr, flush=True)


def draw(record: dict[str, Any], path: Path) -> Path:
    """The pictures of the suites side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.image import imread

    folder = work_folder("graph-learning")
    files = {name: folder / file for name, file in record["pictures"].items()}
    made = {name: file for name, file in files.items() if file.is_file()}
    figure = Figure(figsize=(16, 4.5 * ((len(made) + 1) // 2)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots((len(made) + 1) // 2, 2, squeeze=False).flat
    for axis, (name, file) in zip(axes, made.items(), strict=False):
        axis.imshow(imread(file))
        axis.set_title(name)
    for axis in figure.axes:
        axis.axis("off")
    figure.savefig(path, dpi=110)
    return path
