r"""Local graph clustering: F1 with and without noisy labels, and work against the size of graphs.

* ``photo``: four classes of Amazon photo, labels right with the chance .7 or .9, a mass of 1.5
  volumes, the support of the flow as the cluster (pushes: sweep); 20 seeds.
* ``sets``: all classes of three published graphs, default settings, 5 seeds for each class;
  intervals and paired tests are over classes, whose seeds are averaged first.
* ``attributes``: Cora, labels of a logistic regression that saw 25 nodes inside and 25 outside.
* ``model``: the random model of the theory, over the chances :math:`a_1, a_0` of labels.
* ``growth``: a planted cluster of 200 nodes in graphs of :math:`10^3` to :math:`10^6` nodes.

Seeds are numbered from 100: defaults were chosen on the seeds 0 to 4 of the same graphs. All
methods are told the volume of the class.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _kept import kept, work_folder
from _local_clustering import FIRST, attributed, growth, model, one_seed, read_set

TITLE = "Local clustering with noisy labels: F1 of three diffusions, and work in growing graphs"
ACCURACIES = (0.7, 0.9)
PHOTO = (1, 4, 6, 8)
# Earlier check of this library's research, 5 seeds: flow, flow with labels, labels alone.
EARLIER = {
    (1, 0.7): (0.720, 0.787, 0.183), (1, 0.9): (0.777, 0.871, 0.462),
    (4, 0.7): (0.292, 0.383, 0.353), (4, 0.9): (0.480, 0.758, 0.681),
    (6, 0.7): (0.737, 0.756, 0.336), (6, 0.9): (0.745, 0.771, 0.662),
    (8, 0.7): (0.336, 0.385, 0.166), (8, 0.9): (0.255, 0.699, 0.445),
}  # fmt: skip
SETS = ("amazon_photo", "coauthor_cs", "coauthor_phy")
GRID = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SIZES = (1_000, 10_000, 100_000, 1_000_000)
Rows = list[dict[str, Any]]


def run(quick: bool, out: Path) -> dict[str, Any]:
    """All parts; those that are in the work folder already are not measured again."""
    folder = out if quick else work_folder("local-clustering")
    parts: dict[str, Rows] = {}
    parts["model"] = kept(folder, "model", lambda: _model(2 if quick else 20, quick))["rows"]
    sizes = SIZES[:2] if quick else SIZES
    parts["growth"] = []
    for n in sizes:
        made = kept(folder, f"growth-{n}", lambda n=n: _growth(n, 2 if quick else 10))
        parts["growth"] += made["rows"]
    if not quick or _held():
        names = SETS[:1] if quick else SETS
        numbers, seeds = (PHOTO[:1], 2) if quick else (PHOTO, 20)
        parts["photo"] = kept(folder, "photo", lambda: _photo(numbers, seeds))["rows"]
        parts["sets"] = []
        for name in names:
            parts["sets"] += _set(folder, name, quick)
        if not quick:
            parts["attributes"] = _attributes(folder, 10)
    shown = (
        "part",
        "set",
        "labels_right",
        "method",
        "n",
        "seeds",
        "f1",
        "low",
        "high",
        "gain",
        "p",
    )
    table = [{key: row.get(key) for key in shown} for rows in parts.values() for row in rows]
    return {**parts, "table": table, "checks": _checks(parts), "first_seed": FIRST}


def _held() -> bool:
    from graphdiff.data.sources import card, find

    return all(find([entry["file"]]) for entry in card("amazon_photo")["files"])


def _row(
    part: str, name: str, right: Any, method: str, values: Any, plain: Any, seeds: int
) -> dict:
    """One row: mean and interval, and the paired gain over the same walk without labels."""
    from graphdiff.graph.evaluate import paired, summary

    found = summary(values)
    row = {
        "part": part, "set": name, "labels_right": right, "method": method, "n": found.n,
        "seeds": seeds, "f1": found.mean, "low": found.low, "high": found.high, "gain": None,
        "gain_interval": None, "p": None, "values": [round(float(v), 4) for v in values],
    }  # fmt: skip
    if plain is not None and len(values) > 1:
        test = paired(values, plain)
        row |= {"gain": test.difference, "gain_interval": [test.low, test.high], "p": test.p}
    return row


def _rows(part: str, name: str, right: Any, found: dict[str, Any], seeds: int) -> Rows:
    rows = []
    for method, values in found.items():
        walk = method.partition(",")[0]
        plain = found[walk] if walk != method else None
        rows.append(_row(part, name, right, method, values, plain, seeds))
    return rows


def _corrected(rows: Rows) -> Rows:
    """P-values of a family of tests after Holm's correction."""
    from graphdiff.graph.evaluate import holm

    tested = [row for row in rows if row["p"] is not None]
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p"] = p
    return rows


def _photo(numbers: tuple[int, ...], seeds: int) -> dict[str, Rows]:
    graph, classes = read_set("amazon_photo")
    options = {"flow": {"scales": [1.5], "output": "support"}, "pagerank": {"scales": [1.5]},
               "heat": {"scales": [1.5]}}  # fmt: skip
    rows: Rows = []
    for number in numbers:
        truth = classes == number
        each = [
            one_seed(graph, truth, ACCURACIES, np.random.default_rng([number, FIRST + s]), options)
            for s in range(seeds)
        ]
        for k, right in enumerate(ACCURACIES):
            found = {method: [run[method][k] for run in each] for method in each[0]}
            made = _rows("photo", f"class {number}", right, found, seeds)
            for row in made:
                place = {"flow": 0, "flow, labels": 1, "labels alone": 2}.get(row["method"])
                row["earlier"] = None if place is None else EARLIER[number, right][place]
            rows += made
    return {"rows": _corrected(rows)}


def _set(folder: Path, name: str, quick: bool) -> Rows:
    """Rows of a set; each class is kept by itself, so that a long run can be taken up again."""
    graph, classes = read_set(name)
    numbers, seeds = ((1, 8), 1) if quick else (np.unique(classes).tolist(), 5)

    def make(number: int) -> dict[str, list[float]]:
        truth = classes == number
        each = [
            one_seed(graph, truth, ACCURACIES, np.random.default_rng([number, FIRST + s]), {})
            for s in range(seeds)
        ]
        return {m: np.mean([run[m] for run in each], 0).tolist() for m in each[0]}

    means = [
        kept(folder, f"set-{name}-{number}", lambda k=number: {"means": make(k)})["means"]
        for number in numbers
    ]
    rows: Rows = []
    for k, right in enumerate(ACCURACIES):
        found = {method: [mean[method][k] for mean in means] for method in means[0]}
        rows += _rows("sets", name, right, found, seeds)
    return _corrected(rows)


def _attributes(folder: Path, seeds: int) -> Rows:
    """Rows of Cora, labels learnt; each class is kept by itself."""
    from graphdiff.data.node_sets import load_nodes
    from graphdiff.graph.local import local_graph

    data = load_nodes("cora")
    graph = local_graph(data.edges, nodes=data.n)
    classes, features = data.labels.numpy(), data.features.numpy()

    def make(number: int) -> dict[str, float]:
        truth = classes == number
        each = [
            attributed(graph, features, truth, np.random.default_rng([number, FIRST + s]), 25)
            for s in range(seeds)
        ]
        return {m: float(np.mean([run[m] for run in each])) for m in each[0]}

    means = [
        kept(folder, f"attributes-{number}", lambda k=number: {"means": make(k)})["means"]
        for number in np.unique(classes).tolist()
    ]
    found = {method: [mean[method] for mean in means] for method in means[0]}
    return _corrected(_rows("attributes", "cora", "learnt", found, seeds))


def _model(seeds: int, quick: bool) -> dict[str, Rows]:
    n, k = (2000, 100) if quick else (10_000, 500)
    grid = GRID[::2] if quick else GRID
    chances = [(a1, a0) for a1 in grid for a0 in grid]
    each = [model(n, k, 20.0, chances, s) for s in range(seeds)]
    rows: Rows = []
    for place, (a1, a0) in enumerate(chances):
        found = {method: [run[method][place] for run in each] for method in each[0]}
        for row in _rows("model", f"n={n}, k={k}", f"{a1}/{a0}", found, seeds):
            rows.append({**row, "a1": a1, "a0": a0})
    return {"rows": _corrected(rows)}


def _growth(n: int, queries: int) -> dict[str, Rows]:
    rows: Rows = []
    for method, found in growth(n, queries).items():
        row = _row("growth", f"n={n}", None, method, found["f1"], None, queries)
        row |= {"nodes": n, "graph_edges": found["graph_edges"], "ms": found["ms"],
                "build_s": found["build_s"]}  # fmt: skip
        for key in ("edges", "touched", "read"):
            row[key] = float(np.mean(found[key]))
        rows.append(row)
    return {"rows": rows}


def _checks(parts: dict[str, Rows]) -> list[dict[str, Any]]:
    checks = []

    def check(name: str, value: float, wanted: str, passed: bool) -> None:
        checks.append({"name": name, "value": value, "wanted": wanted, "passed": bool(passed)})

    for walk in ("flow", "pagerank", "heat"):
        rows = {row["nodes"]: row for row in parts["growth"] if row["method"] == walk}
        # The smallest graph is smaller than what a query would touch in a large one.
        ratio = rows[max(rows)]["edges"] / rows[sorted(rows)[-2]]["edges"]
        check(f"{walk}: edges gone through, largest graph over the one before", ratio, "<= 1.5",
              ratio <= 1.5)  # fmt: skip
    for row in parts.get("sets", []):
        if row["method"] == "flow, labels" and row["p"] is not None:
            better = row["gain"] > 0 and row["p"] < 0.05
            check(f"{row['set']}, labels {row['labels_right']}: gain of labels in flow",
                  row["gain"], "> 0 with p < .05", better)  # fmt: skip
    photo = [row for row in parts.get("photo", []) if row["method"] == "flow, labels"]
    if photo:
        won = sum(row["gain"] > 0 and row["p"] < 0.05 for row in photo)
        check("photo: cases in which labels help flow with p < .05", won,
              f"{len(photo)} of {len(photo)}", won == len(photo))  # fmt: skip
    for row in parts.get("attributes", []):
        if row["method"] == "flow, labels":
            check("cora, learnt labels: gain of labels in flow", row["gain"], "> 0 with p < .05",
                  row["gain"] > 0 and row["p"] < 0.05)  # fmt: skip
    return checks


def draw(record: dict[str, Any], path: Path) -> Path:
    """Work against the size of the graph, F1 against the chances, F1 on published graphs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(14, 3.9), constrained_layout=True)
    for walk in ("flow", "pagerank", "heat"):
        rows = [row for row in record["growth"] if row["method"] == walk]
        axes[0].loglog([r["nodes"] for r in rows], [r["edges"] for r in rows], "o-", label=walk)
    axes[0].loglog([r["nodes"] for r in rows], [2 * r["graph_edges"] for r in rows], ":",
                   color="0.5", label="all edges, once")  # fmt: skip
    axes[0].set(xlabel="nodes of the graph", ylabel="edges gone through",
                title="a cluster of 200 nodes")  # fmt: skip
    for method, style in (("flow, labels", "o-"), ("labels alone", "s--"), ("flow", ":")):
        for a0 in (0.7, 0.9) if method != "flow" else (0.9,):
            rows = [r for r in record["model"] if r["method"] == method and r["a0"] == a0]
            if not rows:
                continue
            name = f"{method}, a0 = {a0}" if method != "flow" else "flow"
            line = axes[1].plot([r["a1"] for r in rows], [r["f1"] for r in rows], style, label=name)
            if rows[0]["low"] is not None:
                axes[1].fill_between([r["a1"] for r in rows], [r["low"] for r in rows],
                                     [r["high"] for r in rows], alpha=0.15, linewidth=0,
                                     color=line[0].get_color())  # fmt: skip
    axes[1].set(xlabel="$a_1$", ylabel="F1", title=record["model"][0]["set"], ylim=(0, 1))
    _bars(axes[2], record.get("sets") or [])
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=7, frameon=False, ncols=2)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=120)
    plt.close(figure)
    return target


def _bars(axis: Any, rows: Rows) -> None:
    chosen = [row for row in rows if row["labels_right"] == 0.9]
    names = list(dict.fromkeys(row["set"] for row in chosen))
    methods = list(dict.fromkeys(row["method"] for row in chosen))
    for k, method in enumerate(methods):
        mine = [row for row in chosen if row["method"] == method]
        place = np.arange(len(names)) + (k - (len(methods) - 1) / 2) * 0.12
        error = [row["high"] - row["f1"] if row["high"] is not None else 0 for row in mine]
        axis.bar(place, [row["f1"] for row in mine], 0.11, yerr=error, label=method,
                 error_kw={"linewidth": 0.7})  # fmt: skip
    axis.set_xticks(np.arange(len(names)), names)
    axis.set(ylabel="F1, mean over classes", title="labels right with .9", ylim=(0, 1.4))


if __name__ == "__main__":
    source, goal = sys.argv[1:3]
    draw(json.loads(Path(source).read_text("utf-8")), Path(goal))
