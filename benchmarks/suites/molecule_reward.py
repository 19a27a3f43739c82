r"""Molecules and graphs tuned towards a reward: QED and logP on QM9, clustering on ego graphs.

Each row is a shipped generator or one that was tuned from it, sampled with the settings of its
card. ``reward`` is the mean of the reward over all samples; ``valid_raw`` the share that is valid
before any correction (molecules); ``unique`` the share of different samples; ``similarity`` the
mean Tanimoto similarity of fingerprints between samples, which rises as a tuning collapses.
Guided rows draw from the base model with eight particles: eight times the network calls.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _kept import kept, plain, tuned, work_folder

TITLE = "Molecules and graphs tuned towards a reward: QED, a window of logP, clustering"
SEED = 1


@dataclass(frozen=True)
class Goal:
    """A reward and how a model is tuned towards it.

    Attributes:
        name: For the table.
        model: Shipped generator.
        reward: As ``--reward`` takes it.
        tune: Settings of the tuning.
        train: Settings of the training.
        guide: Temperature of the guided row.
        wanted: Lowest mean reward, or None.
        n: Samples of a row.
        more: What else must hold.
        beside: Terms that tuning adds to the reward, and the table does not.
    """

    name: str
    model: str
    reward: str
    tune: Mapping[str, Any]
    train: Mapping[str, Any]
    guide: float
    wanted: float | None = None
    n: int = 1000
    more: Mapping[str, float] = field(default_factory=dict)
    beside: tuple[str, ...] = ()


GOALS = (
    Goal(
        "QED", "defog-qm9", "qed",
        {"method": "replay", "alpha": 0.0135, "steps": 20, "refresh": 2, "repeats": 1,
         "memory": 100_000, "effective": 1500},
        {"steps": 2200, "batch_size": 256, "lr": 8e-4, "ema": 0.98, "warmup_steps": 20,
         "lr_schedule": "cosine", "lr_final": 0.02, "clip": 1.0},
        0.02, 0.60, more={"valid_raw": 0.97, "unique": 0.90}, beside=("0.2*valid",),
    ),
    Goal(
        "logP in 1..2", "defog-qm9", "logp:1..2",
        {"method": "ddpo", "alpha": 0.1, "steps": 20, "picked": 6},
        {"steps": 60, "batch_size": 128, "lr": 2e-4, "ema": 0.9},
        0.1,
    ),
    Goal(
        "clustering", "defog-ego_small", "clustering",
        {"method": "ddpo", "alpha": 0.05, "steps": 30, "picked": 6},
        {"steps": 60, "batch_size": 64, "lr": 2e-4, "ema": 0.9},
        0.05,
    ),
)  # fmt: skip


def run(quick: bool, out: Path) -> dict[str, Any]:
    """All goals; rows that are in the work folder already are not measured again."""
    folder = out if quick else work_folder("molecule-reward")
    rows = []
    for goal in GOALS[: 1 if quick else None]:
        for kind in ("base", "svdd x8", "tuned"):
            make = lambda g=goal, k=kind: _row(g, k, quick, folder)  # noqa: E731
            rows.append(kept(folder, f"{goal.name}-{kind}", make))
    return {
        "table": plain(rows),
        "rows": rows,
        "checks": _checks(rows, quick),
        "tilts": _tilts(200 if quick else 8000),
        "seed": SEED,
    }


def _tilts(n: int) -> list[dict[str, float]]:
    """QM9 itself, weighted by ``exp(qed / alpha)``: how varied a law of a given mean can be.

    Of all laws with that mean it is the nearest to QM9. Repeats among 1,000 draws are counted for
    the whole set, of which ``n`` test molecules are a part.
    """
    from graphdiff.data import load
    from graphdiff.graph.molecules import to_molecules
    from graphdiff.graph.rewards import MOLECULE_SCORES

    data = load("qm9")
    test = data.split("test")
    mols = to_molecules(test[np.arange(min(n, len(test)))], data.atoms)
    qed = np.array([MOLECULE_SCORES["qed"](mol) for mol in mols])
    whole = len(test) + len(data.split("train"))
    rows = []
    for alpha in (0.03, 0.025, 0.02):
        w = np.exp((qed - qed.max()) / alpha)
        w /= w.sum()
        same = float((w**2).sum()) * len(w) / whole
        rows.append({
            "alpha": alpha, "n": len(w), "qed": float(w @ qed),
            "kl": float(np.log(len(w)) + w @ np.log(w)),
            "unique_1000": float(1 - 999 / 2 * same),
        })  # fmt: skip
    return rows


def _row(goal: Goal, kind: str, quick: bool, folder: Path) -> dict[str, Any]:
    import graphdiff
    from graphdiff.guide import Guide

    model, spent = graphdiff.load(goal.model), 0.0
    options: dict[str, Any] = {}
    reward = model.reward(goal.reward)
    if kind == "tuned":
        model, spent = _tuned(goal, model, quick, folder)
    elif kind != "base":
        options["guide"] = Guide(reward, "svdd", 8, 0.0)
    n = 12 if quick else goal.n if kind != "svdd x8" else goal.n // 4
    began = time.process_time()
    samples = model.samples(n, seed=SEED, batch_size=64, **options)
    seconds = time.process_time() - began
    row = {"goal": goal.name, "model": kind, "n": n, **_scores(goal, model, samples)}
    calls = samples.info["network_calls_per_sample"]
    row |= {"calls": calls, "sample_cpu": round(seconds, 1), "tune_cpu": round(spent, 1)}
    print(row, file=sys.stderr, flush=True)
    return row


def _scores(goal: Goal, model: Any, samples: Any) -> dict[str, Any]:
    """Reward, validity, uniqueness and similarity of a set of samples."""
    scored = model.reward(goal.reward)
    states = model.task.convert(samples, "state")
    values = np.array([float(scored(state)[0]) for state in states])
    keys = [model.task.item_key(item) for item in samples.items]
    row: dict[str, Any] = {
        "reward": float(values[np.isfinite(values)].mean()),
        "error": float(values[np.isfinite(values)].std() / len(values) ** 0.5),
        "unique": len(set(keys)) / len(keys),
        "valid_raw": None,
        "similarity": None,
    }
    if model.task.discrete.data.atoms:
        from graphdiff.graph.metrics.molecular import fingerprints, mean_similarity
        from graphdiff.graph.molecules import is_valid, to_molecules

        raw = to_molecules(samples.raw, model.task.discrete.data.atoms)
        row["valid_raw"] = float(np.mean([is_valid(mol) for mol in raw]))
        row["similarity"] = float(np.mean(mean_similarity(fingerprints(list(samples.items)))))
    return row


def _tuned(goal: Goal, model: Any, quick: bool, folder: Path) -> tuple[Any, float]:
    """The tuned model, and the CPU seconds of the tuning (zero if it was there)."""
    place = folder / f"tuned-{goal.name}".replace(" ", "-")
    train = {**goal.train, "checkpoint_every": 100}
    train |= {"steps": 2, "batch_size": 8, "warmup_steps": 0} if quick else {}
    config = {**goal.tune, **({"effective": 0} if quick and "effective" in goal.tune else {})}
    return tuned(model, model.reward(goal.reward, *goal.beside), config, train, place)


def _checks(rows: list[dict[str, Any]], quick: bool) -> list[dict[str, Any]]:
    checks, by = [], {(row["goal"], row["model"]): row for row in rows}
    for goal in GOALS[: 1 if quick else None]:
        base, after = by[goal.name, "base"], by[goal.name, "tuned"]
        bars = {"reward": base["reward"] if goal.wanted is None else goal.wanted, **goal.more}
        for name, bar in bars.items():
            checks.append(
                {
                    "name": f"{goal.name}: {name}",
                    "value": after[name],
                    "wanted": f">= {bar:.3g}",
                    "passed": quick or after[name] >= bar,
                }
            )
    return checks


def draw(record: dict[str, Any], path: Path) -> Path:
    """Reward against variety, a panel for each goal; for QED, what exact tilts of QM9 reach."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    goals = list(dict.fromkeys(row["goal"] for row in record["table"]))
    figure, axes = plt.subplots(
        1, len(goals), figsize=(4.6 * len(goals), 4), squeeze=False, constrained_layout=True
    )
    for axis, goal in zip(axes[0], goals, strict=True):
        for row in (r for r in record["table"] if r["goal"] == goal):
            name = f"{row['model']}, n = {row['n']}"
            axis.errorbar(row["unique"], row["reward"], 1.96 * row["error"], fmt="o", label=name)
        axis.set(xlabel="share of different samples", ylabel="mean reward", title=goal)
        axis.margins(0.2)
    axes[0][0].plot(
        [t["unique_1000"] for t in record["tilts"]], [t["qed"] for t in record["tilts"]],
        "k.--", linewidth=0.8, label="exact tilts of QM9, of 1,000",
    )  # fmt: skip
    for axis in axes[0]:
        axis.legend(fontsize=7)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


if __name__ == "__main__":
    source, goal_path = sys.argv[1:3]
    draw(json.loads(Path(source).read_text("utf-8")), Path(goal_path))
