"""Rows of node classification on heterogeneous graphs, for the suite ``diffgraph``.

Two protocols. ``public``: the published split of each set, ten seeds where a bar is
set and three elsewhere; methods are compared node by
node on the 1,000 test nodes (a node counts by the share of seeds that have it right). ``random``:
ten random splits of the same sizes, each with its own seed; methods are compared split by split,
with and without the correction for overlapping splits. Every method chooses on validation only.

A row has means over seeds (``micro``, ``macro``, ``auc``) with Student's interval over seeds
(``low`` to ``high``), the interval that 1,000 test nodes allow (``test_low`` to ``test_high``), the
difference in micro F1 to SGC, to label propagation and to the ablation, with intervals and p-values
(those to SGC also corrected by Holm over all rows that are compared with it).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _kept import extras, kept

Json = dict[str, Any]

SEEDS = 10
FEW = 3
"""Seeds of the settings that no bar is set for, and of the published method."""
PUBLIC = (("dblp", 20), ("aminer", 40))
OTHER = (("dblp", 40), ("dblp", 60), ("aminer", 20), ("aminer", 60), ("acm", 20))
EXTRA = ("other label rates", "random splits", "as published")
RANDOM = (("dblp", 20), ("aminer", 40))
AS_PUBLISHED = {
    ("dblp", 20): (
        "author-paper-author", "author-paper-conference-paper-author",
        "author-paper-term-paper-author",
    ),
    ("aminer", 40): ("paper-author-paper", "paper-reference-paper", "paper-[pos]-paper"),
}  # fmt: skip
REPORTED = {
    ("dblp", 20): (0.9330, 0.9303, 0.9920), ("dblp", 40): (0.9305, 0.9281, 0.9884),
    ("dblp", 60): (0.9381, 0.9316, 0.9921), ("aminer", 20): (0.8055, 0.7198, 0.9019),
    ("aminer", 40): (0.8329, 0.7557, 0.9441), ("aminer", 60): (0.8210, 0.7457, 0.9425),
}  # fmt: skip
"""Micro F1, macro F1 and AUC of DiffGraph in its paper: the best test score over epochs."""


def rows(quick: bool, folder: Path) -> list[Json]:
    """All rows; those of one set and protocol are made together and kept in ``folder``.

    Args:
        quick: One small setting with one seed and few steps.
        folder: Where rows that are done are kept.
    """
    found: list[Json] = []
    more = extras() and not quick
    public = (*PUBLIC, *OTHER) if more else PUBLIC
    for name, size in (("aminer", 20),) if quick else public:
        make = lambda n=name, k=size: {"rows": _public(n, k, quick)}  # noqa: E731
        found += _kept_rows(folder, f"nodes-public-{name}-{size}", make)
    for name, size in RANDOM if more else ():
        make = lambda n=name, k=size: {"rows": _random(n, k)}  # noqa: E731
        found += _kept_rows(folder, f"nodes-random-{name}-{size}", make)
    for (name, size), paths in AS_PUBLISHED.items() if more else ():
        make = lambda n=name, k=size, p=paths: {"rows": [_published(n, k, p)]}  # noqa: E731
        found += _kept_rows(folder, f"nodes-published-{name}-{size}", make)
    return _holm(found)


def checks(rows: list[Json], quick: bool) -> list[Json]:
    """Requirements: the published figures with selection on validation, and a gain over SGC."""
    made = []

    def add(name: str, value: float, wanted: str, passed: bool) -> None:
        made.append({"name": name, "value": value, "wanted": wanted, "passed": quick or passed})

    for name, size, bar in (("dblp", 20, 0.93), ("aminer", 40, 0.82)):
        for row in rows:
            same = (row["set"], row["labels"], row["method"]) == (name, size, "diffusion")
            if same:
                label = f"{name}-{size} micro F1, {row['protocol']}"
                add(label, row["micro"], f">= {bar}", row["micro"] >= bar)
                for key, other in (("sgc", "SGC"), ("plain", "no diffusion")):
                    gain, corrected = row[f"over_{key}"], row[f"p_{key}_overlap"]
                    p = row[f"p_{key}"] if corrected is None else corrected
                    label = f"{name}-{size} micro F1 over {other}, {row['protocol']}, p {p:.2g}"
                    add(label, gain, "> 0, p < .05", gain > 0 and p < 0.05)
    return made


# -- runs -----------------------------------------------------------------------------------------


def _kept_rows(folder: Path, name: str, make: Callable[[], Json]) -> list[Json]:
    record = kept(folder, name, make)
    return [{**row, "commit": record["commit"]} for row in record["rows"]]


def _config(quick: bool, mode: str) -> Any:
    from graphdiff.graph.diffgraph.nodes import NodeConfig

    return (
        NodeConfig(mode=mode, steps=20, decays=(1.0,), draws=1) if quick else NodeConfig(mode=mode)
    )


def _answer(graph: Any, split: Any, method: str, seed: int, quick: bool) -> Json:
    """One fit: hits on the test nodes, scores, what was chosen, CPU seconds."""
    from graphdiff.graph.diffgraph.node_baselines import baseline
    from graphdiff.graph.diffgraph.nodes import HeteroClassifier
    from graphdiff.graph.evaluate.scores import node_scores

    began = time.process_time()
    if method in ("diffusion", "plain"):
        config = _config(quick, method)
        made = HeteroClassifier.fit(graph, config, split=split, seed=seed)
        logs, chosen = made.log_probs(graph), dict(made.choice)
        tried = len(config.decays) * len(config.heads) * len(config.inputs)
        steps = config.steps if method == "diffusion" else 0
    else:
        fitted = baseline(method, graph, split, seed=seed)
        logs, chosen, tried, steps = fitted.log_probs, fitted.setting, fitted.tried, 0
    y = graph.labels[split.test]
    some = logs[split.test].numpy()
    return {
        "hits": (some.argmax(1) == y).astype(float), **node_scores(some, y), "tried": tried,
        "steps": steps, "chosen": str(chosen), "cpu": time.process_time() - began,
    }  # fmt: skip


def _methods(graph: Any) -> tuple[str, ...]:
    features = () if graph.identity else ("mlp",)
    return ("majority", *features, "label propagation", "sgc", "plain", "diffusion")


def _seeds(setting: tuple[str, int], method: str, quick: bool) -> int:
    """Baselines but the perceptron have nothing random in them."""
    if quick or method in ("majority", "label propagation", "sgc"):
        return 1
    return SEEDS if setting in RANDOM else FEW


def _public(name: str, size: int, quick: bool) -> list[Json]:
    from graphdiff.data.heco import load_heco

    graph = load_heco(name)
    split = graph.split(size)
    hits, made = {}, []
    for method in _methods(graph):
        runs = [
            _answer(graph, split, method, s, quick)
            for s in range(_seeds((name, size), method, quick))
        ]
        hits[method] = np.mean([run["hits"] for run in runs], 0)
        made.append(_row(name, size, "public", method, runs, len(split.test)))
    for row in made:
        _compare(row, hits, 0.0)
    if (name, size) in REPORTED:
        made.append(_reported(name, size))
    return made


def _random(name: str, size: int) -> list[Json]:
    from graphdiff.data.heco import load_heco

    graph = load_heco(name)
    scores: dict[str, Any] = {}
    made = []
    parts = [graph.resplit(size, 100 + seed) for seed in range(SEEDS)]
    for method in ("label propagation", "sgc", "plain", "diffusion"):
        runs = [_answer(g, g.split(), method, s, False) for s, g in enumerate(parts)]
        scores[method] = [run["accuracy"] for run in runs]
        made.append(_row(name, size, "random", method, runs, 1000))
    for row in made:
        _compare(row, scores, 1000 / (size * len(graph.classes)))
    return made


def _published(name: str, size: int, paths: tuple[str, ...]) -> Json:
    """DiffGraph as published, selected on validation."""
    from graphdiff.data.heco import load_heco
    from graphdiff.graph.diffgraph.nodes import HeteroClassifier, NodeConfig
    from graphdiff.graph.evaluate.scores import node_scores

    graph = load_heco(name, positives=name == "aminer")
    split, runs = graph.split(size), []
    config = NodeConfig.published(paths, steps=200, lr=1e-2, every=5)
    for seed in range(FEW):
        began = time.process_time()
        made = HeteroClassifier.fit(graph, config, split=split, seed=seed)
        some = made.log_probs(graph)[split.test].numpy()
        y = graph.labels[split.test]
        runs.append({
            "hits": (some.argmax(1) == y).astype(float), **node_scores(some, y),
            "tried": config.steps // config.every, "steps": config.steps,
            "chosen": str(dict(made.choice)), "cpu": time.process_time() - began,
        })  # fmt: skip
    row = _row(name, size, "public", "as published", runs, len(split.test))
    _compare(row, {}, 0.0)
    return row


# -- rows -----------------------------------------------------------------------------------------


def _row(name: str, size: int, protocol: str, method: str, runs: list[Json], n: int) -> Json:
    from graphdiff.graph.evaluate import summary

    micro = summary(run["accuracy"] for run in runs)
    half = 1.96 * (micro.mean * (1 - micro.mean) / n) ** 0.5
    row = {
        "set": name, "labels": size, "protocol": protocol, "method": method, "seeds": len(runs),
        "n": n, "micro": micro.mean,
        "low": micro.low if len(runs) > 1 else None, "high": micro.high if len(runs) > 1 else None,
        "test_low": micro.mean - half, "test_high": micro.mean + half,
        "macro": float(np.mean([run["macro_f1"] for run in runs])),
        "auc": float(np.mean([run["roc_auc"] for run in runs])),
        "steps": runs[0]["steps"], "tried": runs[0]["tried"], "chosen": runs[0]["chosen"],
        "cpu_each": float(np.mean([run["cpu"] for run in runs])),
    }  # fmt: skip
    print(f"{name}-{size} {protocol} {method}: {micro}", file=sys.stderr, flush=True)
    return row


OTHERS = {"sgc": "sgc", "label propagation": "lp", "plain": "plain"}


def _compare(row: Json, scores: dict[str, Any], overlap: float) -> None:
    """Differences of ``row`` to other methods, over test nodes or splits."""
    from graphdiff.graph.evaluate import paired

    for other, short in OTHERS.items():
        empty = {f"over_{short}": None, f"{short}_low": None, f"{short}_high": None}
        row.update({**empty, f"p_{short}": None, f"p_{short}_overlap": None})
        if other in scores and row["method"] in scores and other != row["method"]:
            test = paired(scores[row["method"]], scores[other])
            row.update({
                f"over_{short}": test.difference, f"{short}_low": test.low,
                f"{short}_high": test.high, f"p_{short}": test.p,
            })  # fmt: skip
            if overlap:
                wide = paired(scores[row["method"]], scores[other], overlap)
                row[f"p_{short}_overlap"] = wide.p


def _reported(name: str, size: int) -> Json:
    micro, macro, auc = REPORTED[name, size]
    row: Json = {
        "set": name, "labels": size, "protocol": "public", "method": "DiffGraph, its paper",
        "seeds": 10, "n": 1000, "micro": micro, "low": None, "high": None, "test_low": None,
        "test_high": None, "macro": macro, "auc": auc, "steps": None, "tried": None,
        "chosen": "best test score over epochs", "cpu_each": None,
    }  # fmt: skip
    _compare(row, {}, 0.0)
    return row


def _holm(found: list[Json]) -> list[Json]:
    """``p_holm``: p-values to SGC of the diffusion, corrected for their number."""
    from graphdiff.graph.evaluate import holm

    of = [row for row in found if row["method"] == "diffusion" and row["p_sgc"] is not None]
    for row, p in zip(of, holm([row["p_sgc"] for row in of]), strict=True):
        row["p_holm"] = p
    return [{**row, "p_holm": row.get("p_holm")} for row in found]
