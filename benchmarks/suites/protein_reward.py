r"""Proteins by a limited predictor, judged by a held-out oracle: AAV capsids, the protocol of GGS.

A masked model is trained on a restricted set of capsid variants (``medium``: 20th to 40th
percentile of fitness, at least 6 mutations from all of the best 1 %; ``hard``: below the 30th, at
least 7). It is guided, or tuned, towards the published predictor that was trained on the same
restricted set; the published oracle, trained on everything, judges 128 different candidates:

* ``fitness``: median, normalised by the span of all measurements;
* ``diversity``: mean edit distance between candidates; ``novelty``: median edit distance to the
  nearest sequence of the restricted set.

``optimised`` says towards what: the published predictor as it is (``rough``); that predictor after
smoothing over a graph of sequences (``smooth``), which is the other half of GGS and is made here
from the published one and the restricted set alone (:mod:`graphdiff.sequence.smoothing`); or the
mean of the two (``mean``). ``predicted`` is the median of what was optimised, and candidates are
the best 128 by it among all that a method drew (``n``), as in GGS. Smoothing, training and tuning
are made once, samples with three seeds; intervals are Student's t over these.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _kept import kept, means, plain, show_row, tuned, work_folder

TITLE = "AAV capsids by a limited predictor, judged by a held-out oracle (GGS)"
LEVELS = ("medium", "hard")
# Kirjner et al. (2024, arXiv 2307.00494), table 2: GGS.
PUBLISHED = {
    "medium": {"fitness": 0.51, "diversity": 4.0, "novelty": 5.4},
    "hard": {"fitness": 0.60, "diversity": 4.5, "novelty": 7.0},
}
SEEDS, STEPS, TOP = (0, 1, 2), 28, 128
ALPHA = 0.005
GUIDED: Mapping[str, dict[str, Any]] = {
    "best of 8": {"method": "best", "particles": 8},
    "smc x8": {"method": "smc", "particles": 8, "alpha": ALPHA},
    "twisted x8": {"method": "twisted", "particles": 8, "alpha": ALPHA},
    "svdd x8": {"method": "svdd", "particles": 8, "alpha": 0.0},
    "gilc": {"method": "gilc", "alpha": ALPHA, "draws": 4},
}
TUNED: Mapping[str, dict[str, Any]] = {
    "drakes": {"method": "drakes", "truncate": 8, "picked": 6},
    "ddpo": {"method": "ddpo", "picked": 8},
    "wdce": {"method": "wdce", "repeats": 8, "baseline": 0.9},
    "wdce, longer": {
        "method": "wdce",
        "repeats": 8,
        "baseline": 0.9,
        "iterations": 300,
        "lr": 1e-3,
    },
    "smc": {"method": "smc", "group": 32, "repeats": 4},
}
# What is optimised besides the rough predictor, and how; chosen on `hard` with seed 0.
SMOOTHED: Mapping[str, tuple[str, ...]] = {
    "smooth": ("svdd x8",),
    "mean": ("svdd x8", "wdce", "wdce, svdd x8"),
}
SHOWN = ("predicted", "fitness", "diversity", "novelty", "unique")


@dataclass
class Level:
    """One restricted set: its model, predictor and oracle.

    Attributes:
        name: ``"medium"`` or ``"hard"``.
        quick: Little of everything.
        folder: Of trainings and rows.
    """

    name: str
    quick: bool
    folder: Path

    def place(self, name: str) -> Path:
        """Folder of a tuning."""
        return self.folder / f"tuned-{self.name}-{name}".replace(", ", "-").replace(": ", "-")

    @cached_property
    def given(self) -> Any:
        """The restricted set."""
        from graphdiff.data import load

        return load("aav").split(self.name)

    @cached_property
    def judges(self) -> tuple[Any, Any]:
        """Predictor and oracle."""
        from graphdiff.data.sources import find, missing
        from graphdiff.sequence.oracles import ggs_oracle

        found = []
        for stem in (f"aav_{self.name}_unsmoothed_predictor", "aav_cnn_oracle"):
            name = f"sequence/aav_ggs/{stem}.ckpt"
            path = find([name])
            if path is None:
                raise missing("aav", [name], None)
            found.append(ggs_oracle(path))
        return found[0], found[1]

    @cached_property
    def smooth(self) -> Any:
        """The predictor, smoothed; written beside the models."""
        from graphdiff.sequence.oracles import load_oracle
        from graphdiff.sequence.smoothing import save_oracle, smoothed

        path = self.folder / f"smoothed-{self.name}.ckpt"
        if not path.exists():
            how: dict[str, Any] = {}
            if self.quick:
                how = {"nodes": len(self.given) + 200, "neighbours": 8, "epochs": 1}
            save_oracle(smoothed(self.judges[0], self.given, **how), path)
        return load_oracle(path)

    def predictor(self, kind: str) -> Any:
        """What is optimised: ``rough``, ``smooth`` or the ``mean`` of both."""
        from graphdiff.sequence.ensemble import Ensemble

        if kind == "mean":
            return Ensemble((self.judges[0], self.smooth), "mean")
        return self.smooth if kind == "smooth" else self.judges[0]

    def reward(self, kind: str) -> Any:
        """A predictor as a reward."""
        from graphdiff.sequence.alphabet import PROTEIN
        from graphdiff.sequence.oracles import OracleReward

        return OracleReward(self.predictor(kind), "normalised", alphabet=PROTEIN)

    @cached_property
    def base(self) -> Any:
        """The masked model, trained if it is not there."""
        import graphdiff
        from graphdiff.config import resolve_config, split_config
        from graphdiff.sequence.mdlm import MdlmTask
        from graphdiff.train import TrainConfig, Trainer

        place, steps = self.folder / f"model-{self.name}", 20 if self.quick else 1500
        changes = (
            "data.name=aav", f"data.split={self.name}", "data.alphabet=protein",
            "data.ambiguous=error", "data.length=0", "data.longer=error", "model.width=64",
            "model.layers=3", f"train.steps={steps}", "train.batch_size=128", "train.lr=1e-3",
            "train.warmup_steps=50", f"sample.steps={STEPS}",
        )  # fmt: skip
        task, how = split_config(resolve_config("mdlm-protein", list(changes)))
        Trainer(MdlmTask.from_config(task), TrainConfig.from_config(how), place).run()
        return graphdiff.load(place)

    def row(
        self, name: str, model: Any, guide: Any, n: int, tuned: float, kind: str = "rough"
    ) -> dict[str, Any]:
        """Samples of all seeds, scored."""
        each, began, calls = [], time.process_time(), 0
        for seed in SEEDS[: 1 if self.quick else None]:
            options = {} if guide is None else {"guide": guide}
            samples = model.samples(n, seed=seed, batch_size=256, **options)
            calls = samples.info["network_calls_per_sample"]
            each.append(self.scores(samples.raw, kind))
        row = {"level": self.name, "method": name, "n": n, **means(each, SHOWN)}
        seconds = (time.process_time() - began) / len(each)
        row |= {"calls": calls, "sample_cpu": round(seconds, 1), "tune_cpu": round(tuned, 1)}
        show_row(f"{self.name} {name}", row, SHOWN)
        return row

    def scores(self, found: Any, kind: str = "rough") -> dict[str, float]:
        """The columns for one set of samples."""
        from graphdiff.sequence.oracles import predict_sequences
        from graphdiff.sequence.rewards import ggs_metrics

        liked, oracle = self.predictor(kind), self.judges[1]
        report = ggs_metrics(found, oracle, self.given, predictor=liked, top=TOP)
        values = {m.name: m.value for m in report.metrics}
        guess = predict_sequences(liked, found)[:, liked.targets.index("normalised")]
        return {"predicted": float(np.median(guess)), **{k: values[k] for k in SHOWN[1:]}}


def run(quick: bool, out: Path) -> dict[str, Any]:
    """Both levels; rows that are in the work folder already are not measured again."""
    folder = out if quick else work_folder("protein-reward")
    rows: list[dict[str, Any]] = []
    for name in LEVELS[: 1 if quick else None]:
        level = Level(name, quick, folder)
        rows += _rows(level, folder, 32 if quick else 512, 16 if quick else 256)
    return {
        "table": plain(rows),
        "rows": rows,
        "checks": _checks(rows, quick),
        "published": PUBLISHED,
        "alpha": ALPHA,
        "steps": STEPS,
    }


def _rows(level: Level, folder: Path, n: int, few: int) -> list[dict[str, Any]]:
    makers: dict[str, Any] = {
        "given": lambda: _given(level, n),
        "pretrained": lambda: level.row("pretrained", level.base, None, n, 0.0),
    }
    for kind, names in {"rough": (*GUIDED, *TUNED, "wdce, svdd x8"), **SMOOTHED}.items():
        for name in names:
            whole = name if kind == "rough" else f"{kind}: {name}"
            makers[whole] = lambda *a, k=kind, m=name, w=whole: _row(level, m, k, w, n, few)
    rows = []
    for name, make in makers.items():
        row = kept(folder, f"{level.name}-{name}".replace(": ", "-"), make)
        kind = name.partition(": ")[0] if ": " in name else "rough"
        rows.append({"level": row["level"], "optimised": kind, **row})
    return rows


def _given(level: Level, n: int) -> dict[str, Any]:
    """Sequences of the restricted set itself."""
    rows = np.random.default_rng(0).choice(len(level.given), min(n, len(level.given)), False)
    found = level.scores(level.given[np.sort(rows)])
    base = {"level": level.name, "method": "given", "n": len(rows), "seeds": 1}
    return {**base, **found, "calls": 0, "sample_cpu": 0.0, "tune_cpu": 0.0}


def _row(level: Level, name: str, kind: str, whole: str, n: int, few: int) -> dict[str, Any]:
    """Guidance of the base model, a tuning, or guidance of a tuning (``TUNING, GUIDANCE``)."""
    from graphdiff.guide import Guide

    if name in TUNED:
        model, spent = _tuned(level, name, kind)
        return level.row(whole, model, None, n, spent, kind)
    first, _, second = name.rpartition(", ")
    model = _tuned(level, first, kind)[0] if first else level.base
    guide = Guide(level.reward(kind), **GUIDED[second])
    return level.row(whole, model, guide, few, 0.0, kind)


def _tuned(level: Level, name: str, kind: str) -> tuple[Any, float]:
    """A tuning and its CPU seconds; none if it is there already."""
    settings = TUNED[name]
    how = {"iterations": 100, "lr": 5e-4}
    how |= {key: settings[key] for key in how if key in settings}
    own = {key: value for key, value in settings.items() if key not in how}
    train = {
        "steps": 2 if level.quick else how["iterations"], "batch_size": 64, "lr": how["lr"],
        "lr_schedule": "cosine", "lr_final": 0.05, "warmup_steps": 5, "clip": 1.0, "ema": 0.9,
        "checkpoint_every": 50,
    }  # fmt: skip
    config = {"alpha": ALPHA, "steps": STEPS, **own}
    place = level.place(name if kind == "rough" else f"{kind}: {name}")
    return tuned(level.base, level.reward(kind), config, train, place)


def _checks(rows: list[dict[str, Any]], quick: bool) -> list[dict[str, Any]]:
    """The best method that is as diverse and as new as what GGS published, against its fitness."""
    checks = []
    for level in dict.fromkeys(row["level"] for row in rows):
        bar = PUBLISHED[level]
        mine = [
            row
            for row in rows
            if row["level"] == level
            and row["method"] != "given"
            and all(row[key] >= bar[key] for key in ("diversity", "novelty"))
        ]
        best = max(mine, key=lambda row: row["fitness"], default=None)
        value = math.nan if best is None else best["fitness"]
        checks.append(
            {
                "name": f"{level}: fitness of {best and best['method']}, as diverse and new as GGS",
                "value": value,
                "wanted": f"> {bar['fitness']}",
                "passed": quick or value > bar["fitness"],
            }
        )
    return checks


def draw(record: dict[str, Any], path: Path) -> Path:
    """Fitness against diversity, one panel for each level."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    levels = list(dict.fromkeys(row["level"] for row in record["rows"]))
    figure, axes = plt.subplots(
        1, len(levels), figsize=(5.5 * len(levels), 4.2), squeeze=False, constrained_layout=True
    )
    for axis, level in zip(axes[0], levels, strict=True):
        for row in (r for r in record["rows"] if r["level"] == level):
            axis.plot(row["diversity"], row["fitness"], "k*" if row["method"] == "given" else "o")
            axis.annotate(row["method"], (row["diversity"], row["fitness"]), fontsize=7)
        goal = record["published"][level]
        axis.plot(goal["diversity"], goal["fitness"], "rx")
        axis.annotate("GGS, published", (goal["diversity"], goal["fitness"]), fontsize=7)
        axis.set(xlabel="diversity, mean edit distance", ylabel="fitness, held-out oracle")
        axis.set_title(f"AAV {level}", fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


if __name__ == "__main__":
    source, goal = sys.argv[1:3]
    draw(json.loads(Path(source).read_text("utf-8")), Path(goal))
