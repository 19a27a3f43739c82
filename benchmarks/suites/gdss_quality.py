"""Quality of shipped ``gdss-qm9`` against network calls, for the published sampler and others.

Draws molecules with every sampler of :data:`RUNS`, scores them against the QM9 test split and draws
FCD over network calls. The published algorithm asks each network twice a step, 1,000 steps.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

TITLE = "GDSS QM9: FCD, NSPDK and validity against network calls"
SEED = 2

CONTINUOUS = {"published": False, "norm": "schedule"}
RUNS: list[tuple[str, dict[str, Any]]] = [
    *(("predictor-corrector", {**CONTINUOUS, "steps": k}) for k in (25, 50, 100, 200)),
    *(("S4", {**CONTINUOUS, "solver": "s4", "steps": k}) for k in (50, 100)),
    ("ancestral", {"solver": "ancestral", "steps": 100}),
    *(("DPM-Solver++ 2M", {"solver": "dpmpp", "steps": k}) for k in (20, 50)),
    ("DPM-Solver++ 2M SDE", {"solver": "dpmpp", "sde": True, "steps": 100}),
]
QUICK = [RUNS[0], RUNS[7]]
METRICS = ["validity_raw", "connected_raw", "uniqueness", "fcd", "nspdk"]


def run(quick: bool, out: Path) -> dict[str, Any]:
    """Draw, score and record; ``quick`` takes two runs of 256 molecules."""
    import graphdiff
    from graphdiff.data import load
    from graphdiff.graph.metrics import evaluate_molecules

    model, dataset = graphdiff.load("gdss-qm9"), load("qm9")
    n = 256 if quick else 1000
    table = []
    for name, overrides in QUICK if quick else RUNS:
        begin = time.process_time()
        samples = model.samples(n, seed=SEED, batch_size=1024, **overrides)
        seconds = time.process_time() - begin
        report = evaluate_molecules(
            samples.raw, dataset, metrics=METRICS, floor=False, n_boot=10 if quick else 40
        )
        row: dict[str, Any] = {
            "sampler": name,
            "calls": samples.info["network_calls_per_sample"],
            "n": n,
            "cpu_seconds": round(seconds, 2),
        }
        for metric in report.metrics:
            row[metric.name] = metric.value
        intervals = {m.name: m.to_dict().get("interval") for m in report.metrics}
        table.append({**row, "fcd_interval": intervals["fcd"]})
        print(row, file=sys.stderr, flush=True)
    return {"table": table, "seed": SEED, "metrics": METRICS, "n": n}


def draw(record: dict[str, Any], path: Path) -> Path:
    """FCD and raw validity over network calls, one line a sampler; ``path`` ends in .png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    names = list(dict.fromkeys(row["sampler"] for row in record["table"]))
    for name in names:
        rows = sorted(
            (r for r in record["table"] if r["sampler"] == name), key=lambda r: r["calls"]
        )
        calls = [r["calls"] for r in rows]
        axes[0].plot(calls, [r["fcd"] for r in rows], "o-", label=name)
        axes[1].plot(calls, [100 * r["validity_raw"] for r in rows], "o-", label=name)
    axes[0].set(ylabel=f"FCD (n = {record['n']:,})", ylim=(0, None))
    axes[1].set(ylabel="valid before correction, %", ylim=(None, 100))
    axes[0].legend(fontsize=8, frameon=False, loc="lower left")
    ticks = sorted({row["calls"] for row in record["table"]})
    for axis in axes:
        axis.set(xscale="log", xlabel="network calls", xticks=ticks, xticklabels=ticks)
        axis.minorticks_off()
        axis.grid(alpha=0.3, linewidth=0.5)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


if __name__ == "__main__":
    import json

    source, target = sys.argv[1:3]
    draw(json.loads(Path(source).read_text("utf-8")), Path(target))
