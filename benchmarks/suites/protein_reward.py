r"""Proteins by a limited predictor, judged by a held-out oracle: AAV capsids, the protocol of GGS.

A masked model is trained on a restricted set of capsid variants (``medium``: 20th to 40th
percentile of fitness, at least 6 mutations from all of the best 1 %; ``hard``: below the 30th, at
least 7). It is guided, or tuned, towards the published predictor that was trained on the same
restricted set; the published oracle, trained on everything, judges 128 different candidates:

* ``fitness``: median, normalised by the span of all measurements;
* ``diversity``: mean edit distance between candidates; ``novelty``: median edit distance to the
  nearest sequence of the restricted set.

``predicted`` is the median of the predictor, which is what was optimised. Candidates are the best
128 by the predictor among all that a method drew (``n``), as in GGS. Training and tuning are made
once, samples with three seeds; intervals are Student's t over these.
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
        return self.folder / f"tuned-{self.name}-{name}".replace(", ", "-")

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
    def reward(self) -> Any:
        """The predictor as a reward."""
        from graphdiff.sequence.alphabet import PROTEIN
        from graphdiff.sequence.oracles import OracleReward

        return OracleReward(self.judges[0], "normalised", alphabet=PROTEIN)

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

    def row(self, name: str, model: Any, guide: Any, n: int, tuned: float) -> dict[str, Any]:
        """Samples of all seeds, scored."""
        each, began, calls = [], time.process_time(), 0
        for seed in SEEDS[: 1 if self.quick else None]:
            options = {} if guide is None else {"guide": guide}
            samples = model.samples(n, seed=seed, batch_size=256, **options)
            calls = samples.info["network_calls_per_sample"]
            each.append(self.scores(samples.raw))
        row = {"level": self.name, "method": name, "n": n, **means(each, SHOWN)}
        seconds = (time.process_time() - began) / len(each)
        row |= {"calls": calls, "sample_cpu": round(seconds, 1), "tune_cpu": round(tuned, 1)}
        show_row(f"{self.name} {name}", row, SHOWN)
        return row

    def scores(self, found: Any) -> dict[str, float]:
        """The columns for one set of samples."""
        from graphdiff.sequence.oracles import predict_sequences
        from graphdiff.sequence.rewards import ggs_metrics

        predictor, oracle = self.judges
        report = ggs_metrics(found, oracle, self.given, predictor=predictor, top=TOP)
        values = {m.name: m.value for m in report.metrics}
        guess = predict_sequences(predictor, found)[:, predictor.targets.index("normalised")]
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
    from graphdiff.guide import Guide

    makers: dict[str, Any] = {
        "given": lambda: _given(level, n),
        "pretrained": lambda: level.row("pretrained", level.base, None, n, 0.0),
    }
    for name, settings in GUIDED.items():
        guide = Guide(level.reward, **settings)
        makers[name] = lambda name=name, guide=guide: level.row(name, level.base, guide, few, 0.0)
    for name, settings in TUNED.items():
        makers[name] = lambda name=name, s=settings: _tuned(level, name, s, n)
    makers["wdce, svdd x8"] = lambda: _both(level, "wdce", "svdd x8", few)
    return [kept(folder, f"{level.name}-{name}", make) for name, make in makers.items()]


def _given(level: Level, n: int) -> dict[str, Any]:
    """Sequences of the restricted set itself."""
    rows = np.random.default_rng(0).choice(len(level.given), min(n, len(level.given)), False)
    found = level.scores(level.given[np.sort(rows)])
    base = {"level": level.name, "method": "given", "n": len(rows), "seeds": 1}
    return {**base, **found, "calls": 0, "sample_cpu": 0.0, "tune_cpu": 0.0}


def _tuned(level: Level, name: str, settings: Mapping[str, Any], n: int) -> dict[str, Any]:
    how = {"iterations": 100, "lr": 5e-4}
    how |= {key: settings[key] for key in how if key in settings}
    own = {key: value for key, value in settings.items() if key not in how}
    train = {
        "steps": 2 if level.quick else how["iterations"], "batch_size": 64, "lr": how["lr"],
        "lr_schedule": "cosine", "lr_final": 0.05, "warmup_steps": 5, "clip": 1.0, "ema": 0.9,
        "checkpoint_every": 50,
    }  # fmt: skip
    config = {"alpha": ALPHA, "steps": STEPS, **own}
    model, spent = tuned(level.base, level.reward, config, train, level.place(name))
    return level.row(name, model, None, n, spent)


def _both(level: Level, name: str, guided: str, few: int) -> dict[str, Any]:
    """Guidance of a model that was tuned already: the two compose."""
    import graphdiff
    from graphdiff.guide import Guide

    guide = Guide(level.reward, **GUIDED[guided])
    return level.row(f"{name}, {guided}", graphdiff.load(level.place(name)), guide, few, 0.0)


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
