r"""Signed events in time (SEMBA): predict, then update; Bitcoin OTC and Alpha.

* ``sign``: the sign of an event, chronological 70/15/15, every answer given before it is known.
  ``auc`` is at one instant after the other (``auc at 1``), ``auc at B`` where answers become known
  after B events. Epochs, thresholds and the weight of the blend are chosen on validation. Intervals
  are over seeds; regression and constants have none to vary. Trees and regression see the same
  history as ``semba + history``.
* ``1,000 late``: training and test where answers come after 1,000 events, the published batch.
* ``signlink``: positive, negative or no event; macro F1 with random, historical and inductive
  negatives. ``weight``: the rating itself.
* ``-|w|, leaky``: what the published protocol tells by weights alone.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _kept import extras, kept, work_folder
from _semba import FRESH, METHODS, Lab, link_row, weight_row

TITLE = "Signed events in time (SEMBA): signs, links and weights, predicted before they are known"
SETS = ("bitcoin-otc", "bitcoin-alpha")
SEEDS, SHORT_SEEDS = 5, 3
EPOCHS = 5
SEEDLESS = ("constant", "-|w|, leaky", "logistic")
TASKS = {
    "signlink": ("EdgeBank", "boosted trees", "semba + history"),
    "weight": ("constant", "logistic", "boosted trees", "semba + history"),
}
LATE = ("trees, 1,000 late", "semba + history, 1,000 late")
EXTRA = (*LATE, *TASKS)
"""What no claim rests on."""
PUBLISHED = {
    "history trees, audit, OTC": 0.8235, "SEMBA, audit, OTC": 0.7505, "TGN, audit, OTC": 0.7257,
    "SEMBA, paper, OTC": 0.79, "TGN, paper, OTC": 0.82,
}  # fmt: skip


def run(quick: bool, out: Path) -> dict[str, Any]:
    """All rows; those that are in the work folder already are not measured again."""
    folder = out if quick else work_folder("semba")
    left_out = [] if extras() else list(EXTRA)
    signs, tasks = [], []
    for name in ("two-camps",) if quick else SETS:
        lab = _lab(name, quick)
        for method in (m for m in METHODS if m not in left_out):
            seeds = 1 if method in SEEDLESS else 2 if quick else SEEDS
            make = lambda m=method, s=seeds, d=lab: _rows(folder, d, METHODS[m], m, s)  # noqa: E731
            signs.append(kept(folder, f"{name}-{_file(method)}", make))
        for task, methods in TASKS.items():
            for method in methods if task not in left_out else ():
                make = lambda t=task, m=method, d=lab: _task(folder, d, t, m, quick)  # noqa: E731
                tasks.append(kept(folder, f"{name}-{task}-{_file(method)}", make))
    return {
        "table": [_short(row) for row in signs],
        "signs": signs,
        "tasks": tasks,
        "left_out": left_out,
        "checks": _checks(signs, quick),
        "published": PUBLISHED,
    }


def _file(method: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in method)


def _lab(name: str, quick: bool) -> Lab:
    if quick:
        from graphdiff.graph.semba.synthetic import two_camps

        events, _ = two_camps(nodes=30, events=700, seed=0)
        return Lab(name, events, events.split(), epochs=1, fresh=(20, 200))
    from graphdiff.data.signed_files import load_signed

    events = load_signed(name)
    return Lab(name, events, events.split(), EPOCHS)


def _one(
    folder: Path, lab: Lab, make: Any, method: str, seed: int, task: str = "sign"
) -> dict[str, Any]:
    """The scores of one seed, kept, with their CPU seconds."""

    def measured() -> dict[str, Any]:
        began = time.process_time()
        return {**make(lab, seed), "cpu_s": time.process_time() - began}

    return kept(folder, f"{lab.name}-{task}-{_file(method)}-seed{seed}", measured)


def _rows(
    folder: Path, lab: Lab, make: Any, method: str, seeds: int, task: str = "sign"
) -> dict[str, Any]:
    """Means and intervals over seeds."""
    each = [_one(folder, lab, make, method, seed, task) for seed in range(seeds)]
    each = [{k: v for k, v in row.items() if k != "commit"} for row in each]
    row: dict[str, Any] = {
        "dataset": lab.name, "method": method, "task": task, "seeds": seeds, "n": lab.n,
        "events": len(lab.events), "epochs": _epochs(lab, method, task),
    }  # fmt: skip
    row |= _summaries(each)
    print(f"{lab.name}, {method}: {row.get('auc')}", file=sys.stderr, flush=True)
    return row


def _epochs(lab: Lab, method: str, task: str) -> int:
    """Most epochs of a method, as ``_semba`` has them."""
    if "semba" not in method:
        return 0
    if task != "sign":
        return max(lab.epochs - 2, 1)
    return 2 * lab.epochs if "late" in method else lab.epochs


def _summaries(each: list[dict[str, float]]) -> dict[str, Any]:
    from graphdiff.graph.evaluate import summary

    row: dict[str, Any] = {}
    for key in each[0]:
        found = summary(e[key] for e in each)
        row[key] = found.mean
        if found.n > 1:
            row[f"{key} interval"] = [found.low, found.high]
            row[f"{key} each"] = [e[key] for e in each]
    return row


def _task(folder: Path, lab: Lab, task: str, method: str, quick: bool) -> dict[str, Any]:
    measure = link_row if task == "signlink" else weight_row
    seeds = 1 if method in ("EdgeBank", "constant", "logistic") else 2 if quick else SHORT_SEEDS
    return _rows(folder, lab, lambda d, seed: measure(d, seed, method), method, seeds, task)


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """One line of the table of signs."""
    low, high = row.get("auc interval", [None, None])
    names = ("dataset", "method", "n", "seeds", "epochs")
    shown = {name: row[name] for name in names}
    shown |= {"auc": row["auc"], "low": low, "high": high}
    shown |= {f"auc at {b}": row.get(f"auc at {b}") for b in FRESH}
    extra = ("blend auc", "f1_macro", "f1_negative", "train_s", "train events/s", "cpu_s")
    return shown | {name: row.get(name) for name in extra}


def _checks(signs: list[dict[str, Any]], quick: bool) -> list[dict[str, Any]]:
    checks = []
    for name in dict.fromkeys(row["dataset"] for row in signs):
        by = {row["method"]: row for row in signs if row["dataset"] == name}
        rest = by["semba + history"]
        checks += [
            (f"{name}: strict AUC of -|w|", by["-|w|, leaky"]["strict auc"], "0.5", 0.5, 0.5),
            (f"{name}: AUC, semba", by["semba"]["auc"], ">= 0.80", 0.8, 1),
            (f"{name}: AUC, semba + history", rest["auc"], ">= 0.80", 0.8, 1),
            (f"{name}: AUC, blend", rest["blend auc"], ">= 0.8235", 0.8235, 1),
            (f"{name}: AUC, blend less trees", rest["blend auc"] - by["boosted trees"]["auc"],
             ">= 0", 0, 1),
            (f"{name}: AUC, semba + history less trees", rest["auc"] - by["boosted trees"]["auc"],
             ">= 0", 0, 1),
        ]  # fmt: skip
        if late := by.get(LATE[-1]):
            checks.append(
                (f"{name}: AUC 1,000 late, semba + history", late["auc"], ">= 0.80", 0.8, 1)
            )
    return [
        {"name": what, "value": value, "wanted": wanted,
         "passed": quick or bool(low <= value <= high)}
        for what, value, wanted, low, high in checks
    ]  # fmt: skip


def draw(record: dict[str, Any], path: Path) -> Path:
    """The area under the curve against the delay of answers, a panel for each data set."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(row["dataset"] for row in record["signs"]))
    figure, axes = plt.subplots(1, len(names), figsize=(4.6 * len(names), 3.4), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        for row in record["signs"]:
            points = [(b, row[f"auc at {b}"]) for b in FRESH if row.get(f"auc at {b}")]
            if row["dataset"] != name or not points or row["method"] == "constant":
                continue
            mark = "o-" if len(points) > 1 else "s"
            axis.plot(*np.transpose(points), mark, label=row["method"], markersize=4)
        if name == "bitcoin-otc":
            axis.axhline(0.8235, color="grey", linewidth=0.8, linestyle=":", label="trees, audit")
        axis.set(xscale="log", title=name, xlabel="answers known after … events")
    axes[0][0].set_ylabel("AUC of the sign")
    axes[0][-1].legend(*axes[0][0].get_legend_handles_labels(), fontsize=7, loc="lower left")
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


if __name__ == "__main__":
    source, goal = sys.argv[1:3]
    draw(json.loads(Path(source).read_text("utf-8")), Path(goal))
