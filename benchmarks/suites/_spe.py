"""The jobs of the suite ``spe``: counting, CSL, separation, stability, a denoiser ablation."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _denoisers import small_defog

COUNTED = ("none", "laplacian", "rwpe", "signnet", "light-spe", "spe")
LENGTHS = (3, 4, 5, 6)
SIZES = {"train": 1500, "valid": 300, "test": 500}
EPOCHS, BATCH = 30, 64
CSL_EPOCHS, CSL_BATCH = 40, 30
FOLDS = 5


# -- cycle counts ---------------------------------------------------------------------------------


def cycle_sets(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Generated sets with targets standardised by the training set, and the raw sets."""
    from graphdiff.data.expressivity import cycle_set
    from graphdiff.graph.encoding.fit import GraphSet

    sizes = {"train": 48, "valid": 24, "test": 24} if quick else SIZES
    raw = {name: cycle_set(n, seed=seed) for seed, (name, n) in enumerate(sizes.items())}
    mean, std = raw["train"].counts.mean(0), raw["train"].counts.std(0)
    packed = {
        name: GraphSet.of(made.graphs, (made.counts - mean) / std) for name, made in raw.items()
    }
    return packed, raw


def normalised(errors: np.ndarray[Any, Any], raw: dict[str, Any]) -> dict[str, float]:
    """Mean absolute errors over standard deviations of the training set, and their means.

    Of all graphs, of the regular half and of the other; the halves by their own deviations.
    """
    counts, regular = raw["train"].counts, raw["train"].regular
    row = {}
    for part, known, asked in (
        ("", slice(None), slice(None)),
        ("_regular", regular, raw["test"].regular),
        ("_irregular", ~regular, ~raw["test"].regular),
    ):
        scale = counts.std(0) / counts[known].std(0)
        each = np.abs(errors[asked]).mean(0) * scale
        row |= {f"nmae_{n}{part}": float(e) for n, e in zip(LENGTHS, each, strict=True)}
        row[f"nmae{part}"] = float(each.mean())
    return row


def counting(name: str, seed: int, quick: bool) -> dict[str, Any]:
    """One network that predicts all four counts, chosen by validation, scored on test."""
    from graphdiff.graph.encoding.fit import fit, predict
    from graphdiff.graph.encoding.network import build

    data, raw = cycle_sets(quick)
    began = time.process_time()
    net = build(name, len(LENGTHS), seed=seed)
    done = fit(
        net, data["train"], data["valid"], epochs=1 if quick else EPOCHS, batch=BATCH, seed=seed
    )
    errors = (predict(done.net, data["test"]) - data["test"].target).numpy()
    return {
        "encoding": name, "seed": seed, **normalised(errors, raw),
        "valid": done.curve[done.best], "epoch": done.best, "steps": done.steps,
        "parameters": sum(p.numel() for p in net.parameters()),
        "cpu": time.process_time() - began,
    }  # fmt: skip


def degree_features(graphs: Any) -> np.ndarray[Any, Any]:
    """What degrees alone say: sizes, moments, and the mean product of degrees over edges."""
    rows = []
    for graph in graphs:
        n = int(graph.num_nodes[0])
        degree = np.bincount(graph.edges.ravel(), minlength=n).astype(float)
        along = (degree[graph.edges[:, 0]] * degree[graph.edges[:, 1]]).sum()
        rows.append([n, *((degree**k).sum() for k in (1, 2, 3, 4)), along])
    return np.array(rows)


def trivial(quick: bool) -> list[dict[str, Any]]:
    """The training median, and gradient boosting on degrees (depth chosen on validation)."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    data, raw = cycle_sets(quick)
    target = {name: part.target.numpy() for name, part in data.items()}
    median = np.median(target["train"], 0)
    rows = [{"encoding": "median of training", **normalised(median - target["test"], raw)}]
    x = {name: degree_features(made.graphs) for name, made in raw.items()}
    best: tuple[float, np.ndarray[Any, Any]] | None = None
    for leaves in (4, 8, 16):
        models = [
            HistGradientBoostingRegressor(
                loss="absolute_error", max_leaf_nodes=leaves, max_iter=20 if quick else 200,
                learning_rate=0.1, random_state=0,
            ).fit(x["train"], target["train"][:, k])
            for k in range(len(LENGTHS))
        ]  # fmt: skip
        out = {s: np.stack([m.predict(x[s]) for m in models], 1) for s in ("valid", "test")}
        score = float(np.abs(out["valid"] - target["valid"]).mean())
        if best is None or score < best[0]:
            best = (score, out["test"] - target["test"])
    assert best is not None
    rows.append({"encoding": "boosting on degrees", **normalised(best[1], raw)})
    return rows


# -- CSL ------------------------------------------------------------------------------------------


def csl_accuracy(name: str, seed: int, quick: bool) -> dict[str, Any]:
    """Five folds (three to train, one to select the epoch, one to test), accuracy over all."""
    from graphdiff.data.expressivity import csl
    from graphdiff.graph.encoding.fit import GraphSet, fit, predict
    from graphdiff.graph.encoding.network import GraphNetwork, encoder

    graphs, label = csl(seed=seed)
    data = GraphSet.of(graphs, torch.from_numpy(label))
    rng = np.random.default_rng(seed)
    fold = np.concatenate([rng.permutation(np.arange(15) % FOLDS) for _ in range(10)])
    began, right, steps = time.process_time(), 0, 0
    for k in range(1 if quick else FOLDS):
        parts = [
            data.select(np.flatnonzero(np.isin(fold, [(k + s) % FOLDS for s in chosen])))
            for chosen in ((2, 3, 4), (1,), (0,))
        ]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = GraphNetwork(encoder(name), 10, hidden=32, layers=2, scale=41.0)
        epochs = 1 if quick else CSL_EPOCHS
        done = fit(
            net, parts[0], parts[1], loss="ce", epochs=epochs, batch=CSL_BATCH, lr=5e-3, seed=seed
        )
        steps += done.steps
        right += int((predict(done.net, parts[2]).argmax(1) == parts[2].target).sum())
    return {
        "encoding": name, "seed": seed, "accuracy": right / (30 if quick else 150),
        "steps": steps, "cpu": time.process_time() - began,
    }  # fmt: skip


# -- separation and stability ---------------------------------------------------------------------


def separated(name: str, source: str, quick: bool) -> dict[str, Any]:
    """Pairs of non-isomorphic graphs with different codes, and graphs torn from their copies."""
    from graphdiff.data.expressivity import graph8c, sr25
    from graphdiff.graph.encoding.network import build
    from graphdiff.graph.encoding.separation import (
        graph_codes,
        neighbourhood_codes,
        relabelled,
        separation,
    )

    graphs = sr25() if source == "sr25" else graph8c()
    if quick:
        graphs = graphs[:4]
    began = time.process_time()
    near = name == "spe of neighbourhoods"
    net = build("spe" if near else name, 8, seed=1)
    code = neighbourhood_codes if near else graph_codes
    found = separation(code(net, graphs), code(net, relabelled(graphs, 1)), 1e-7)
    return {
        "graphs": source, "encoding": name, "n": len(graphs), "pairs": found.pairs,
        "not_separated": found.pairs - found.apart, "torn": found.torn,
        "cpu": time.process_time() - began,
    }  # fmt: skip


def stability_graphs(kind: str, quick: bool) -> Any:
    """Random graphs; or cycles, grids on tori and hypercubes with one pendant node each."""
    from graphdiff.data.expressivity import cycle_set
    from graphdiff.data.graphs import Graphs

    if kind == "random":
        return cycle_set(20 if quick else 200, seed=9).graphs
    sizes, lists = [], []
    for n in range(8, 12 if quick else 40):
        lists.append([(k, (k + 1) % n) for k in range(n)])
        sizes.append(n)
    for side in () if quick else range(3, 7):
        cells = [(i, j) for i in range(side) for j in range(side)]
        at = {cell: k for k, cell in enumerate(cells)}
        steps = [
            (at[i, j], at[(i + a) % side, (j + 1 - a) % side]) for i, j in cells for a in (0, 1)
        ]
        lists.append(steps)
        sizes.append(side * side)
    for d in (3,) if quick else (3, 4, 5):
        lists.append([(a, a ^ 1 << k) for a in range(2**d) for k in range(d) if a < a ^ 1 << k])
        sizes.append(2**d)
    hung = [[*edges, (0, n)] for n, edges in zip(sizes, lists, strict=True)]
    return Graphs.from_lists([n + 1 for n in sizes], hung)


def stability(name: str, kind: str, seed: int, quick: bool) -> dict[str, Any]:
    """Changes of an encoder with random weights; medians over graphs for each strength."""
    from graphdiff.graph.encoding.network import encoder
    from graphdiff.graph.encoding.stability import edit_changes

    graphs = stability_graphs(kind, quick)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encode = encoder(name)
    assert encode is not None
    # The first batch sets the norms inside, as in training; edits are encoded with the same ones.
    found = edit_changes(encode.double(), graphs, seed=seed)
    ratio = found.ratio
    return {
        "graphs": kind, "encoding": name, "seed": seed, "n": len(graphs),
        "strengths": found.strengths.tolist(),
        "distance": np.median(found.distance, 0).tolist(),
        "change": np.median(found.change, 0).tolist(),
        "change_95": np.quantile(found.change, 0.95, 0).tolist(),
        "ratio_removed": float(ratio[:, -1].mean()), "ratio_removed_max": float(ratio[:, -1].max()),
        "ratio_small": float(ratio[:, 0].mean()), "ratio_small_max": float(ratio[:, 0].max()),
    }  # fmt: skip


# -- a denoiser with and without -------------------------------------------------------------------

SMALL = (
    "model.layers=3", "model.mlp_x=64", "model.mlp_e=32", "model.mlp_y=32", "model.dx=64",
    "model.de=24", "model.dy=32", "model.heads=4", "model.ff_x=64", "model.ff_e=32",
    "model.ff_y=32", 'model.features="none"', "train.batch_size=32", "train.lr=1e-3",
)  # fmt: skip


def denoiser(encoding: str, seed: int, steps: int, place: Path) -> dict[str, Any]:
    """DeFoG on comm20 with the published network, small and without structural features."""
    changes = [*SMALL, f'model.encoding="{encoding}"', f"train.epochs={steps // 2}"]
    found = small_defog("defog-comm20-published", changes, seed, place)
    return {"encoding": encoding, "steps": steps, **found}
