"""All systems of graph learning: each suite in turn, one table of what was asked of them.

Rows that a suite keeps in the work folder are not measured again, so that the suites can also be
run one by one: ``graphdiff bench sheaf``, ``diffgraph``, ``stable``, ``spe``, ``semba``,
``local-clustering``, ``canonization``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

TITLE = "Graph learning: sheaves, DiffGraph, STABLE, SPE, SEMBA, local clustering, canonization"
SYSTEMS = (
    "sheaf", "diffgraph", "stable", "spe", "semba", "local_clustering", "canonization",
)  # fmt: skip


def run(quick: bool, out: Path) -> dict[str, Any]:
    """Every suite; what failed to run is a missed check, and the others go on."""
    records: dict[str, Any] = {}
    rows, checks = [], []
    for name in SYSTEMS:
        began, spent = time.perf_counter(), time.process_time()
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        found = _suite(name).run(quick, folder)
        records[name.replace("_", "-")] = found
        checks += [{**check, "name": f"{name}: {check['name']}"} for check in found["checks"]]
        met = sum(bool(check["passed"]) for check in found["checks"])
        rows.append({
            "system": name.replace("_", "-"), "checks_met": met, "checks": len(found["checks"]),
            "seconds": round(time.perf_counter() - began, 1),
            "cpu_of_this_process": round(time.process_time() - spent, 1),
        })  # fmt: skip
    return {"table": rows, "systems": records, "checks": checks}


def _suite(name: str) -> Any:
    import importlib.util

    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None  # noqa: PT018  (no test)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def draw(record: dict[str, Any], path: Path) -> Path:
    """The pictures of the suites side by side, as far as they were drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.image import imread

    pictures = {}
    for name in SYSTEMS:
        one = record["systems"][name.replace("_", "-")]
        place = path.with_name(f"{path.stem}-{name.replace('_', '-')}.png")
        pictures[name] = imread(_suite(name).draw(one, place))
    figure = Figure(figsize=(16, 4.5 * ((len(pictures) + 1) // 2)), layout="constrained")
    FigureCanvasAgg(figure)
    for axis in (axes := figure.subplots((len(pictures) + 1) // 2, 2).flat):
        axis.axis("off")
    for axis, (name, picture) in zip(axes, pictures.items(), strict=False):
        axis.imshow(picture)
        axis.set_title(name.replace("_", " "))
    figure.savefig(path, dpi=110)
    return path
