"""The table of graph generation: every row from shipped weights, drawn and scored here.

Each row names a shipped model, how many samples it draws with which seed and sampler, and what is
reached. Published figures stand beside ours as they were printed, with their own numbers of
samples and steps; they are not measured here.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TITLE = "Graph generation from shipped weights: QM9, comm20, ego_small, tree, planar"
SEED = 0
SHARES = ("validity_raw", "connected_raw", "vun")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        model: Shipped model.
        dataset: What it is scored against.
        n: Samples.
        quick: Samples in a quick run.
        wanted: Name of a metric, whether at least (+1) or at most (-1), and the bar.
        published: Figures of papers, as text.
        settings: Overrides of the sampler.
    """

    model: str
    dataset: str
    n: int
    quick: int
    wanted: tuple[tuple[str, int, float], ...] = ()
    published: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


ROWS = (
    Row(
        "defog-qm9", "qm9", 10_000, 256,
        (("validity_raw", 1, 0.99), ("fcd", -1, 0.35), ("uniqueness", 1, 0.96)),
        "GDSS .957/2.90, DiGress .990/.36, DeFoG .993/.12 (500 steps), .989/.26 (50)",
    ),
    Row("defog-comm20", "comm20", 1000, 40, (), "DualDiff average .006"),
    Row("defog-ego_small", "ego_small", 1000, 40, (), "DualDiff average .004"),
    Row("hspectre-tree", "tree", 256, 16, (("vun", 1, 0.90),), "DeFoG .965, HSpectre 1.00"),
    Row("hspectre-planar", "planar", 256, 16, (("vun", 1, 0.60),), "DiGress .775, DeFoG .995"),
)  # fmt: skip


def run(quick: bool, out: Path) -> dict[str, Any]:
    """Draw and score every row whose model ships; ``quick`` takes few samples.

    Rows without a model are listed under ``missing``.
    """
    from graphdiff.model import models

    shipped = models()
    table, checks, missing = [], [], []
    for row in ROWS:
        if row.model not in shipped:
            missing.append(row.model)
            continue
        record = _measure(row, row.quick if quick else row.n, out)
        table.append(record)
        print(_line(record), file=sys.stderr, flush=True)
        found = {m["name"]: m["value"] for m in record["metrics"]}
        for metric, sign, bar in row.wanted:
            value = found[metric]
            checks.append(
                {
                    "name": f"{row.model}: {metric}",
                    "value": value,
                    "wanted": f"{'>=' if sign > 0 else '<='} {bar}",
                    "passed": quick or (value is not None and sign * (value - bar) >= 0),
                }
            )
    return {
        "table": [_flat(record) for record in table],
        "rows": table,
        "checks": checks,
        "missing": missing,
        "seed": SEED,
    }


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """The columns that are printed."""
    values = {m["name"]: m["value"] for m in record["metrics"]}
    shown = ("validity_raw", "uniqueness", "fcd", "nspdk", "vun", "ratio", "average")
    keys = ("model", "n", "network_calls", "cpu_seconds")
    return {k: record[k] for k in keys} | {name: values.get(name) for name in shown}


def _measure(row: Row, n: int, out: Path) -> dict[str, Any]:
    """Samples, time and all metrics of one row."""
    import graphdiff
    from graphdiff.data import load
    from graphdiff.graph.metrics import evaluate_molecules
    from graphdiff.graph.metrics.profiles import evaluate_dataset

    model, dataset = graphdiff.load(row.model), load(row.dataset)
    begin, wall = time.process_time(), time.perf_counter()
    samples = model.samples(n, seed=SEED, batch_size=1024, **row.settings)
    cpu, wall = time.process_time() - begin, time.perf_counter() - wall
    score = evaluate_molecules if dataset.atoms else evaluate_dataset
    report = score(samples.raw, dataset)
    model.task.draw(samples, out / f"graph-generation-{row.model}.png", count=16)
    calls = samples.info["network_calls_per_sample"]
    return {
        "model": row.model,
        "dataset": row.dataset,
        "variant": dataset.card.get("variant"),
        "n": n,
        "seed": SEED,
        "network_calls": calls,
        "parameters": sum(p.numel() for p in model.denoiser.parameters()),
        "cpu_seconds": round(cpu, 1),
        "wall_seconds": round(wall, 1),
        "published": row.published,
        "metrics": [m.to_dict() for m in report.metrics],
        "warnings": list(report.warnings),
    }


def _line(record: dict[str, Any]) -> str:
    values = ", ".join(
        f"{m['name']} {m['value']:.4g}" for m in record["metrics"] if m["value"] is not None
    )
    return f"{record['model']} (n = {record['n']}, {record['network_calls']} calls): {values}"


def draw(record: dict[str, Any], path: Path) -> Path:
    """Each row's scores over their train-versus-test floors, and shares with their intervals."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    shares, ratios = [], []
    for row in record["rows"]:
        for m in row["metrics"]:
            if m["value"] is None:
                continue
            label = f"{row['model']}: {m['name']}"
            if m["name"].endswith("_unbiased") or m["name"] == "validity_corrected":
                continue  # ratios of numbers around zero, and 1 by construction
            if m["direction"] == "higher" and m["name"] in SHARES:
                shares.append((label, m["value"], m["interval"]))
            elif m["direction"] == "lower" and m["floor"]:
                ratios.append((label, m["value"] / m["floor"]))
    for axis, rows in ((axes[0], shares), (axes[1], ratios)):
        axis.set_yticks(range(len(rows)), [r[0] for r in rows], fontsize=7)
        axis.invert_yaxis()
        axis.grid(axis="x", alpha=0.3, linewidth=0.5)
    for place, (_, value, interval) in enumerate(shares):
        low, high = interval or (value, value)
        axes[0].errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color="C0")
    axes[0].set_xlabel("share, with 95 % interval")
    axes[1].plot([r[1] for r in ratios], range(len(ratios)), "o", color="C1")
    axes[1].axvline(1, color="0.4", linewidth=0.8)
    axes[1].set(xscale="log", xlabel="score over its train-versus-test floor")
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


if __name__ == "__main__":
    import json

    source, target = sys.argv[1:3]
    draw(json.loads(Path(source).read_text("utf-8")), Path(target))
