"""The table of graph generation: every row from shipped weights, drawn and scored here.

Each row names a shipped model, how many samples it draws with which seed and sampler, and what is
reached. Published figures stand beside ours as they were printed, with their own numbers of
samples and steps; they are not measured here.

Samples and scores are kept in a work folder (``GRAPHDIFF_BENCH_WORK``, or one in the user cache)
under a hash of the weights and of all that they depend on, so an interrupted run goes on, and what
has not changed is not drawn again; ``results_of_earlier_runs`` counts those rows.
``python benchmarks/suites/graph_generation.py draw MODEL FIRST LAST`` draws a part of a row beside
a run.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _kept import work_folder

TITLE = "Graph generation from shipped weights: QM9, ZINC250k, comm20, ego_small, tree, planar"
SEED = 0
CHUNK = 1000
SHARES = ("validity_raw", "connected_raw", "vun", "vun_by_construction")


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
        batch: Samples in a batch, which changes no sample: what a CPU's caches like.
        note: What must be known to read the row.
    """

    model: str
    dataset: str
    n: int
    quick: int
    wanted: tuple[tuple[str, int, float], ...] = ()
    published: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    batch: int = 1024


ROWS = (
    Row(
        "defog-qm9", "qm9", 10_000, 256,
        (("validity_raw", 1, 0.99), ("fcd", -1, 0.35), ("uniqueness", 1, 0.96)),
        "GDSS .957/2.90, DiGress .990/.36, DeFoG .993/.12 (500 steps), .989/.26 (50)",
    ),
    Row(
        "defog-zinc250k", "zinc250k", 10_000, 128,
        (("validity_raw", 1, 0.95), ("fcd", -1, 4.0)),
        "GDSS .970/14.7, DiGress .950/3.48, DeFoG .992/1.43 (500 steps), .967/2.12 (50)",
        batch=24,
    ),
    Row("defog-comm20", "comm20", 1000, 40, (), "DualDiff average .006"),
    Row("defog-ego_small", "ego_small", 1000, 40, (), "DualDiff average .004"),
    Row("hspectre-tree", "tree", 256, 16, (("vun", 1, 0.90),), "DeFoG .965, HSpectre 1.00"),
    Row("hspectre-planar", "planar", 256, 16, (("vun", 1, 0.60),), "DiGress .775, DeFoG .995"),
    Row(
        "hspectre-planar", "planar", 256, 16, (), "ConStruct keeps planarity as well: 1.00",
        {"keep": "planar"},
        "planarity holds by construction: levels that lose it are drawn again",
    ),
)  # fmt: skip


def run(quick: bool, out: Path) -> dict[str, Any]:
    """Draw and score every row whose model ships; ``quick`` takes few samples.

    Rows without a model are listed under ``missing``.
    """
    from graphdiff.model import models

    shipped = models()
    table, checks, missing, kept = [], [], [], 0
    for row in ROWS:
        if row.model not in shipped:
            missing.append(row.model)
            continue
        record, known = _kept(row, quick, out)
        kept += known
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
        "results_of_earlier_runs": kept,
        "seed": SEED,
    }


def _kept(row: Row, quick: bool, out: Path) -> tuple[dict[str, Any], bool]:
    """The record of a row, and whether it was there already; quick rows are not kept."""
    import graphdiff

    model, n = graphdiff.load(row.model), row.quick if quick else row.n
    folder = out if quick else work_folder("graph-generation")
    path = folder / f"{_name(row, model)}-{n}.json"
    if path.exists():
        return json.loads(path.read_text("utf-8")), True
    record = _measure(row, model, n, folder)
    fresh = path.with_suffix(".part")
    fresh.write_text(json.dumps(record), "utf-8")
    fresh.replace(path)
    return record, False


def _name(row: Row, model: Any) -> str:
    """What the samples of a row depend on, hashed."""
    from graphdiff import __version__

    digest = hashlib.sha256()
    for name, tensor in sorted(model.denoiser.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    facts = [model.task.to_config(), row.settings, row.dataset, SEED, __version__]
    digest.update(json.dumps(facts, sort_keys=True).encode())
    return f"{row.model}-{digest.hexdigest()[:12]}"


def _draw(row: Row, model: Any, start: int, count: int, folder: Path) -> tuple[Any, dict[str, Any]]:
    """Raw graphs of the ids from ``start`` on, and what they took; from disk if they are there."""
    from graphdiff.data.graphs import Graphs

    stem = f"{_name(row, model)}-from-{start}-{count}"
    path, facts = folder / f"{stem}.npz", folder / f"{stem}.json"
    if not facts.exists():
        begin, wall = time.process_time(), time.perf_counter()
        samples = model.samples(count, start=start, seed=SEED, batch_size=row.batch, **row.settings)
        took = {
            "cpu_seconds": time.process_time() - begin,
            "wall_seconds": time.perf_counter() - wall,
            "network_calls": samples.info["network_calls_per_sample"],
        }
        if start == 0:
            model.task.draw(samples, folder / f"graph-generation-{_label(row)}.png", count=16)
        samples.raw.save(path)
        facts.write_text(json.dumps(took), "utf-8")
    return Graphs.load(path), json.loads(facts.read_text("utf-8"))


def _label(row: Row) -> str:
    """Model and what differs from its card."""
    return " ".join([row.model, *(f"{k}={v}" for k, v in row.settings.items())])


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """The columns that are printed."""
    values = {m["name"]: m["value"] for m in record["metrics"]}
    shown = ("validity_raw", "uniqueness", "fcd", "nspdk", "vun", "ratio", "average")
    keys = ("model", "n", "network_calls", "cpu_seconds")
    return {k: record[k] for k in keys} | {name: values.get(name) for name in shown}


def _measure(row: Row, model: Any, n: int, folder: Path) -> dict[str, Any]:
    """Samples, time and all metrics of one row."""
    from graphdiff.data import load
    from graphdiff.data.graphs import concat
    from graphdiff.graph.metrics import evaluate_molecules
    from graphdiff.graph.metrics.profiles import evaluate_dataset

    dataset = load(row.dataset)
    parts = [_draw(row, model, k, min(CHUNK, n - k), folder) for k in range(0, n, CHUNK)]
    score = evaluate_molecules if dataset.atoms else evaluate_dataset
    report = score(concat([graphs for graphs, _ in parts]), dataset)
    if "keep" in row.settings:
        report = report.by_construction(("validity", "vun"))
    return {
        "model": _label(row),
        "dataset": row.dataset,
        "variant": dataset.card.get("variant"),
        "n": n,
        "seed": SEED,
        "network_calls": max(facts["network_calls"] for _, facts in parts),
        "parameters": sum(p.numel() for p in model.denoiser.parameters()),
        "cpu_seconds": round(sum(facts["cpu_seconds"] for _, facts in parts), 1),
        "wall_seconds": round(sum(facts["wall_seconds"] for _, facts in parts), 1),
        "published": row.published,
        "note": row.note,
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


def _main() -> None:
    if sys.argv[1] == "draw":
        import graphdiff

        name, first, last = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
        row = next(row for row in ROWS if row.model == name)
        for start in range(first, last, CHUNK):
            _draw(
                row,
                graphdiff.load(name),
                start,
                min(CHUNK, last - start),
                work_folder("graph-generation"),
            )
    else:
        source, target = sys.argv[1:3]
        draw(json.loads(Path(source).read_text("utf-8")), Path(target))


if __name__ == "__main__":
    _main()
