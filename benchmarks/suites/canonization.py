r"""Graph canonization: keys against pairwise isomorphism, stability, what labels let networks see.

* ``complete``: known numbers of classes (11,117 connected graphs of eight nodes, 15 strongly
  regular graphs, 10 circulants) by both backends, with renumbered copies.
* ``speed``: classes of 10,000 small graphs, the canonical way of the library's uniqueness and
  novelty against comparing pairs (as it did before, within buckets of equal refined colours) and
  against pairs without buckets of colours. CPU seconds, least of two, for five random sets.
* ``stability``: share of nodes whose label moves when one random pair of nodes is joined or
  parted.
* ``apart``: pairs of graphs that networks with random weights give different outputs, and
  renumbered copies that they wrongly tell apart.
* ``csl``: ten classes of circulants, five folds (3 to train, 1 to validate, 1 to test).
* ``twisted``: is a Cai-Fuerer-Immerman graph twisted? Tested on renumbered copies of graphs over
  the base graphs of the training, and on graphs over base graphs that training has not seen.
* ``genes``: a *simulated* network over the same genes in all graphs whose class depends on certain
  pairs of genes. Published gene networks are not public.

Epochs and settings are chosen on validation in each run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _canonization import METHODS, of, published, row_of, shuffled
from _canonization_networks import apart, csl, genes, twisted
from _kept import extras, kept, work_folder

from graphdiff.data.graphs import Graphs
from graphdiff.graph.canonical import Canonizer, ColouredGraph
from graphdiff.graph.canonical.nauty import available
from graphdiff.graph.canonical.universal import UniversalIds, hamming

TITLE = "Graph canonization (UGC): keys, stability, separation, universal ids"
PUBLISHED_CSL = 0.9667  # GC-GNN of Dong et al. (2024); their GIN has .1157
EXTRA = ("genes",)
"""What no claim rests on."""
BACKENDS = ("nauty", "search") if available() else ("search",)


def run(quick: bool, out: Path) -> dict[str, Any]:
    """All tables; rows that are in the work folder already are not measured again."""
    folder = out if quick else work_folder("canonization")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        parts: dict[str, Callable[[bool], list[dict[str, Any]]]] = {
            "complete": _complete, "speed": _speed, "stability": _stability, "apart": apart,
            "csl": csl, "twisted": twisted, "genes": genes,
        }  # fmt: skip
        left_out = [] if extras() else list(EXTRA)
        found: dict[str, Any] = {name: [] for name in left_out}
        for name, make in parts.items():
            if name in left_out:
                continue
            began = time.process_time()
            row = kept(folder, name, lambda make=make: {"rows": make(quick)})
            spent = time.process_time() - began
            print(f"{name}: {spent:.0f} CPU seconds", file=sys.stderr, flush=True)
            found[name] = row["rows"]
            found.setdefault("commits", {})[name] = row["commit"]
    finally:
        torch.set_num_threads(threads)
    table = [
        {"part": part, "what": r["what"], "method": r["method"], "measure": r["measure"],
         "value": r["value"], "low": r["low"], "high": r["high"], "n": r["n"], "seeds": r["seeds"],
         "epochs": r.get("epochs", "")}
        for part in parts for r in found[part]
    ]  # fmt: skip
    return {
        "table": table, **found, "left_out": left_out, "checks": _checks(found),
        "published_csl": PUBLISHED_CSL,
    }  # fmt: skip


# -- forms ------------------------------------------------------------------------------------


def _complete(quick: bool) -> list[dict[str, Any]]:
    rng, rows = np.random.default_rng(0), []
    for name, (graphs, classes) in published().items():
        used = graphs[: 60 if quick else None]
        for backend in BACKENDS:
            canonizer = Canonizer(backend, cache=0)
            forms = [canonizer.form(g) for g in used]
            copies = [canonizer.form(shuffled(g, rng)) for g in used]
            same = float(np.mean([a == b for a, b in zip(forms, copies, strict=True)]))
            more = {"wanted": None if quick else classes, "copies_equal": same}
            count = [float(len(set(forms)))]
            rows.append(row_of(name, backend, "classes", count, len(used), **more))
    return rows


def _sets(count: int, seed: int) -> dict[str, Graphs]:
    """Small graphs in which much, some or little repeats."""
    import networkx as nx

    from graphdiff.data import load

    rng = np.random.default_rng(seed)
    sets = {}
    data = load("qm9")
    pick = rng.choice(data.splits["train"], count, replace=False)
    sets["QM9 skeletons"] = data.graphs[np.sort(pick)]
    for name, low, high in (("sparse, 4-9 nodes", 4, 9), ("sparse, 8-12 nodes", 8, 12)):
        sizes = rng.integers(low, high + 1, count)
        adj = np.triu(rng.random((count, high, high)) < (2.1 / (sizes - 1))[:, None, None], 1)
        mask = np.arange(high) < sizes[:, None]
        adj &= mask[:, :, None] & mask[:, None, :]
        sets[name] = Graphs.from_dense((adj | adj.transpose(0, 2, 1)).astype(np.int64), mask)
    # Colours tell no two of these apart: comparing pairs takes half a minute for 10,000 of them.
    few = rng.integers(0, 1 << 30, count // 10).tolist()
    cubic = [of(nx.random_regular_graph(3, 12, s)) for s in few]
    sets["cubic, 12 nodes"] = Graphs.from_lists([12] * len(few), [g.edges for g in cubic])
    return sets


def _without_colours(graphs: Graphs) -> int:
    """Classes by VF2 on every pair with equally many nodes and edges; returns their number."""
    import rustworkx as rx

    known: dict[tuple[int, int], list[Any]] = {}
    for graph in graphs:
        made = rx.PyGraph(multigraph=False)
        made.add_nodes_from(range(int(graph.num_nodes[0])))
        made.add_edges_from_no_data([tuple(e) for e in graph.edges.tolist()])
        like = known.setdefault((made.num_nodes(), made.num_edges()), [])
        if not any(rx.is_isomorphic(made, other) for other in like):
            like.append(made)
    return sum(map(len, known.values()))


def _speed(quick: bool) -> list[dict[str, Any]]:
    from graphdiff.graph.metrics.validity import isomorphism_classes

    if not available():
        return []
    count, seeds, repeats = (300, 2, 1) if quick else (10_000, 5, 2)
    spent: dict[tuple[str, str], list[float]] = {}
    classes: dict[str, list[int]] = {}
    sizes: dict[str, int] = {}
    same: dict[str, bool] = {}
    for seed in range(seeds):
        for name, graphs in _sets(count, seed).items():
            ways: dict[str, Callable[[], Any]] = {
                m: lambda m=m, g=graphs: isomorphism_classes(g, method=m)[0]  # type: ignore[misc]
                for m in ("canonical", "pairwise")
            }
            best, sizes[name] = dict.fromkeys(ways, np.inf), len(graphs)
            answers = {}
            for _ in range(repeats):
                for way, work in ways.items():
                    began = time.process_time()
                    answers[way] = work()
                    best[way] = min(best[way], time.process_time() - began)
            for way, took in best.items():
                spent.setdefault((name, way), []).append(took)
            same[name] = same.get(name, True) and bool(
                (answers["canonical"] == answers["pairwise"]).all()
            )
            classes.setdefault(name, []).append(int(answers["canonical"].max()) + 1)
            if seed == 0 and name.startswith("sparse, 4"):  # a minute with more
                few = graphs[: count // 10]
                began = time.process_time()
                found = _without_colours(few)
                plain = time.process_time() - began
                began = time.process_time()
                again = isomorphism_classes(few, method="canonical")[0]
                spent[f"{name}, first {len(few)}", "ratio without colours"] = [
                    plain / (time.process_time() - began)
                ]
                assert found == int(again.max()) + 1
    rows = []
    for (name, way), values in spent.items():
        if way == "ratio without colours":
            rows.append(
                row_of(name, "pairs without colours / canonical", "ratio", values, count // 10)
            )
            continue
        rows.append(row_of(name, way, "CPU seconds", values, sizes[name], classes=classes[name]))
        if way == "pairwise":
            ratios = np.array(values) / np.array(spent[name, "canonical"])
            more = {"same_classes": same[name], "classes": classes[name]}
            rows.append(
                row_of(name, "pairwise / canonical", "ratio", ratios.tolist(), count, **more)
            )
    return rows


def _stability(quick: bool) -> list[dict[str, Any]]:
    """One random pair of nodes joined or parted, in random graphs of mean degree six."""
    graphs, rows = 10 if quick else 200, []
    for n in (10, 40) if quick else (10, 20, 40, 80, 160):
        rng = np.random.default_rng(n)
        moved: dict[str, list[float]] = {}
        pairs = np.stack(np.triu_indices(n, 1), 1)
        names = [f"node {v}" for v in range(n)]
        for _ in range(graphs):
            there = rng.random(len(pairs)) < 6 / (n - 1)
            after = there.copy()
            after[rng.integers(len(pairs))] ^= True
            both = [ColouredGraph(n, pairs[x]) for x in (there, after)]
            for backend in BACKENDS:
                canonizer = Canonizer(backend, cache=0)
                labels = [canonizer.labels(g) for g in both]
                moved.setdefault(f"canonical, {backend}", []).append(hamming(*labels))
            ids = UniversalIds.of([names, names])
            order = rng.permutation(n)  # the second graph may come in any order
            again = np.empty(n, np.int64)
            again[order] = ids([names[v] for v in order])
            moved.setdefault("universal ids", []).append(hamming(ids(names), again))
            moved.setdefault("random numbering", []).append(
                hamming(rng.permutation(n), rng.permutation(n))
            )
        for method, values in moved.items():
            rows.append(row_of(f"{n} nodes", method, "labels moved", values, graphs, nodes=n))
    return rows


# -- record -----------------------------------------------------------------------------------


def _checks(found: dict[str, Any]) -> list[dict[str, Any]]:
    checks: list[dict[str, Any]] = []

    def check(name: str, value: Any, wanted: str, passed: bool) -> None:
        checks.append({"name": name, "value": value, "wanted": wanted, "passed": bool(passed)})

    def value(part: str, **which: Any) -> float:
        rows = [r for r in found[part] if all(r[k] == v for k, v in which.items())]
        return float(rows[0]["value"]) if rows else float("nan")

    for row in found["complete"]:
        name = f"{row['what']}, {row['method']}"
        if row["wanted"] is not None:
            good = row["value"] == row["wanted"]
            check(f"{name}: classes", row["value"], str(row["wanted"]), good)
        copies = row["copies_equal"]
        check(f"{name}: copies with equal forms", copies, "1", copies == 1)
    for row in found["speed"]:
        if row["method"] == "pairwise / canonical":
            check(f"{row['what']}: same classes", row["same_classes"], "True", row["same_classes"])
            check(f"{row['what']}: CPU ratio", row["value"], "> 1", row["low"] > 1)
    for row in found["stability"]:
        if row["method"].startswith("universal"):
            check(f"{row['what']}: universal ids moved", row["value"], "0", row["value"] == 0)
        elif row["method"].startswith("canonical"):
            name, ends = f"{row['what']}, {row['method']}: labels moved", 2 / row["nodes"]
            check(name, row["value"], f"> {ends:g}, the two ends", row["low"] > ends)
    for name in {r["what"]: 0 for r in found["apart"]}:
        for measure, wanted in (("pairs told apart", 1.0), ("copies told apart", 0.0)):
            share = value("apart", what=name, method="GC-GNN", measure=measure)
            check(f"{name}: GC-GNN, {measure}", share, f"{wanted:g}", share == wanted)
    score = value("csl", method="GC-GNN")
    check("CSL: GC-GNN", score, f">= {PUBLISHED_CSL} (published)", score >= PUBLISHED_CSL)
    score = value("twisted", what="known bases", method="GC-GNN")
    check("twisted, known bases: GC-GNN", score, ">= 0.95", score >= 0.95)
    for row in found["genes"]:
        if row["method"] in METHODS:
            gain, p = row["ugc_minus"], row["p_holm"]
            check(f"genes: UGC-GNN - {row['method']}", gain, "> 0, p < .05", gain > 0 and p < 0.05)
        elif row["method"].startswith("logistic"):
            check(
                f"genes: UGC-GNN - {row['method']}", row["ugc_minus"], "> 0", row["ugc_minus"] > 0
            )
    return checks


def draw(record: dict[str, Any], path: Path) -> Path:
    """Labels moved against nodes; CPU ratio; accuracies of the simulated genes."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    panels = 3 if record["genes"] else 2
    figure, (left, middle, *rest) = plt.subplots(1, panels, figsize=(5 * panels, 4.2))
    lines: dict[str, list[dict[str, Any]]] = {}
    for row in record["stability"]:
        lines.setdefault(row["method"], []).append(row)
    for (method, rows), marker in zip(lines.items(), "osxv", strict=False):
        y = np.array([r["value"] for r in rows])
        error = np.abs(np.array([[r["low"], r["high"]] for r in rows]).T - y)
        left.errorbar([r["nodes"] for r in rows], y, error, label=method, marker=marker, capsize=2)
    left.set(xscale="log", xlabel="nodes", ylabel="share of labels moved by one edge")
    left.legend()
    _bars(middle, [r for r in record["speed"] if r["method"] == "pairwise / canonical"], "what")
    middle.set(xlabel="CPU of pairs / CPU of canonical forms", xscale="log")
    middle.set_title("classes of 10,000 graphs (cubic: 1,000)")
    middle.axvline(1, color="black", lw=0.8)
    for right in rest:
        _bars(right, record["genes"], "method")
        right.set(xlabel="test accuracy", title="simulated gene networks", xlim=(0.4, 1))
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


def _bars(axis: Any, rows: list[dict[str, Any]], name: str) -> None:
    y = np.array([r["value"] for r in rows])
    error = np.abs(np.array([[r["low"], r["high"]] for r in rows]).reshape(-1, 2).T - y)
    axis.barh([r[name] for r in rows], y, xerr=error if len(rows) else None, capsize=3)
    axis.invert_yaxis()
