r"""Reward guidance and fine-tuning of DNA, as DRAKES was measured, on yeast promoters.

A masked model of 80-bp promoters (``mdlm-yeast-promoter``) is guided or tuned towards the
expression in rich medium that one oracle predicts. Another oracle, trained on other families of
promoters, judges the result:

* ``activity``: median expression in rich medium (YPD) by the evaluation oracle;
* ``second``: share of samples whose predicted expression in the second medium (SD-Ura) is higher
  than that of 90 % of the test promoters;
* ``kmer3``, ``motif``: Pearson and Spearman correlations of 3-mer and motif counts with those of
  the most active 1 % of the measured promoters;
* ``loglik``: median bound on the log-likelihood under the base model, nats; natural is what is as
  likely as natural promoters, and repetitive sequences are likelier;
* ``entropy``: of the letters at each position, bits; ``unique``: share of different samples.

``reward`` is what was optimised: the median by the tuning oracle. All methods use the same sampler;
``calls`` are network calls of one sample. Samples of every seed are scored by themselves; intervals
are Student's t over seeds. A tuned row is tuned anew for every seed, and its samples drawn with it;
``tune_cpu`` is the mean.

``cfg`` is classifier-free guidance: a masked model that is told the expression, in the classes
between ``LEVELS``, of the promoters that the tuning oracle was trained on, asked for the highest.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _kept import kept, means, plain, show_row, tuned, work_folder

TITLE = "Guidance and fine-tuning of yeast promoters, judged by an oracle of other families"
MODEL, TUNING, JUDGE = "mdlm-yeast-promoter", "regressor-yeast-a", "regressor-yeast-b"
REWARD = f"oracle:{TUNING}@ypd"
STEPS, SEEDS = 40, (0, 1, 2)
ALPHA = 1.0
TUNE_ALPHA, TUNE_LR = 0.2, 5e-4
LEVELS = (5.0, 10.0, 13.9, 14.7)  # the last is the 90 % quantile of the tuning half
FOLLOW = {"cfg": 1.0, "cfg, weight 3": 3.0}
GUIDED = {
    "gradient": {"method": "gradient", "alpha": ALPHA},
    "best of 8": {"method": "best", "particles": 8},
    "smc x8": {"method": "smc", "particles": 8, "alpha": ALPHA},
    "twisted x8": {"method": "twisted", "particles": 8, "alpha": ALPHA},
    "svdd x8": {"method": "svdd", "particles": 8, "alpha": 0.0},
    "gilc": {"method": "gilc", "alpha": ALPHA, "draws": 4},
}
TUNED: Mapping[str, dict[str, Any]] = {
    "drakes": {"method": "drakes", "truncate": 10, "picked": 6},
    "drakes, lr 2e-3": {"method": "drakes", "truncate": 10, "picked": 6, "lr": 2e-3},
    "drakes without kl": {"method": "drakes", "truncate": 10, "kl": "none"},
    "ddpo": {"method": "ddpo", "picked": 8},
    "grpo": {"method": "grpo", "picked": 8, "group": 8},
    "wdce": {"method": "wdce", "repeats": 8, "baseline": 0.9},
    "smc": {"method": "smc", "group": 32, "repeats": 4, "alpha": 0.3, "lr": 2e-3},
    "sdpo": {"method": "sdpo", "group": 16},
}
SHOWN = ("reward", "activity", "second", "kmer3", "motif", "loglik", "entropy", "unique")


@dataclass
class Lab:
    """Models, oracles and the natural promoters that samples are compared with."""

    quick: bool
    folder: Path

    @cached_property
    def base(self) -> Any:
        """The base model."""
        import graphdiff

        return graphdiff.load(MODEL)

    @cached_property
    def told(self) -> Any:
        """A model of the same shape that is told the expression; trained if it is not there."""
        import graphdiff
        from graphdiff.config import resolve_config, split_config
        from graphdiff.sequence.mdlm import MdlmTask
        from graphdiff.train import TrainConfig, Trainer

        changes = (
            "data.split=oracle-a", "data.label=ypd", f"data.thresholds={list(LEVELS)}",
            "loss.drop=0.2", f"train.steps={20 if self.quick else 4000}",
        )  # fmt: skip
        task, how = split_config(resolve_config(MODEL, list(changes)))
        place = self.folder / "told"
        Trainer(MdlmTask.from_config(task), TrainConfig.from_config(how), place).run()
        return graphdiff.load(place)

    @cached_property
    def oracles(self) -> tuple[Any, Any]:
        """Tuning and evaluation oracle."""
        from graphdiff.sequence.oracles import load_oracle

        return load_oracle(TUNING), load_oracle(JUDGE)

    @cached_property
    def data(self) -> Any:
        """All promoters."""
        from graphdiff.data import load

        return load("yeast-promoter")

    @cached_property
    def best(self) -> Any:
        """The most active 1 % of the promoters that were measured in rich medium."""
        values = self.data.values["ypd"]
        known = np.flatnonzero(np.isfinite(values))
        count = math.ceil(0.01 * len(known))
        return self.data.sequences[np.sort(known[np.argsort(-values[known])[:count]])]

    @cached_property
    def bar(self) -> float:
        """Predicted expression in the second medium that 10 % of the test promoters exceed."""
        return float(np.quantile(self._predict(1, self.data.split("test"), "sd"), 0.9))

    @cached_property
    def scanner(self) -> Any:
        """Motifs of yeast's own kind where there are some, of JASPAR otherwise; None without."""
        from graphdiff.data.sources import find
        from graphdiff.sequence.metrics.motifs import read_motifs
        from graphdiff.sequence.metrics.scan import Scanner

        path = find(["sequence/jaspar/jaspar_2024_consensus.meme"])
        return None if path is None else Scanner.of(read_motifs(path))

    def _predict(self, which: int, sequences: Any, target: str) -> Any:
        from graphdiff.sequence.oracles import predict_sequences

        oracle = self.oracles[which]
        return predict_sequences(oracle, sequences)[:, oracle.targets.index(target)]

    def scores(self, found: Any, seed: int) -> dict[str, float]:
        """All columns for one set of samples."""
        import torch

        from graphdiff.core.rng import Key
        from graphdiff.sequence.likelihood import nelbo
        from graphdiff.sequence.metrics.entropy import position_entropy
        from graphdiff.sequence.metrics.kmers import kmer_correlation
        from graphdiff.sequence.metrics.scan import motif_correlation

        key = Key(seed, torch.arange(len(found)), step=1)
        cost = nelbo(self.base.denoiser, found, key, draws=4)
        motif = math.nan
        if self.scanner is not None:
            motif = motif_correlation(found, self.best, self.scanner)
        return {
            "reward": float(np.median(self._predict(0, found, "ypd"))),
            "activity": float(np.median(self._predict(1, found, "ypd"))),
            "second": float((self._predict(1, found, "sd") > self.bar).mean()),
            "kmer3": kmer_correlation(found, self.best, 3),
            "motif": motif,
            "loglik": -float(cost.median()),
            "entropy": float(position_entropy(found).mean()),
            "unique": len(set(found.strings())) / len(found),
        }

    def row(self, name: str, models: Sequence[Any], n: int, **options: Any) -> dict[str, Any]:
        """Samples of all seeds, scored; one model for all of them, or one each."""
        each, began, calls = [], time.process_time(), 0
        for k, seed in enumerate(self.seeds):
            model = models[min(k, len(models) - 1)]
            samples = model.samples(n, seed=seed, batch_size=128, steps=STEPS, **options)
            calls = samples.info["network_calls_per_sample"]
            each.append(self.scores(samples.raw, seed))
        return _summary(name, each, n, calls, time.process_time() - began)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of every row."""
        return SEEDS[: 1 if self.quick else None]


def _summary(
    name: str, each: list[dict[str, float]], n: int, calls: int, seconds: float
) -> dict[str, Any]:
    row: dict[str, Any] = {"method": name, "n": n, **means(each, SHOWN)}
    row |= {"calls": calls, "sample_cpu": round(seconds / len(each), 1), "tune_cpu": 0.0}
    show_row(name, row, SHOWN)
    return row


def run(quick: bool, out: Path) -> dict[str, Any]:
    """All methods; rows that are in the work folder already are not measured again."""
    folder = out if quick else work_folder("dna-reward")
    lab = Lab(quick, folder)
    n, few = (16, 8) if quick else (640, 48)
    makers: dict[str, Any] = {"pretrained": lambda: lab.row("pretrained", [lab.base], n)}
    for name in ("train", "top 1 %"):
        makers[f"natural: {name}"] = lambda name=name: _natural(lab, name, n)
    for name, settings in GUIDED.items():
        makers[name] = lambda name=name, s=settings: lab.row(
            name, [lab.base], few, guide=_guide(lab, s)
        )
    for name, weight in FOLLOW.items():
        makers[name] = lambda name=name, w=weight: lab.row(
            name, [lab.told], n, cond={"label": len(LEVELS), "guidance": w}
        )
    for name, settings in TUNED.items():
        makers[name] = lambda name=name, s=settings: _tuned(lab, name, s, n)
    rows = [kept(folder, name, make) for name, make in makers.items()]
    return {
        "table": plain(rows),
        "rows": rows,
        "checks": _checks(rows, quick),
        "model": MODEL,
        "reward": REWARD,
        "judge": JUDGE,
        "alpha": ALPHA,
        "tune_alpha": TUNE_ALPHA,
        "steps": STEPS,
        "levels": LEVELS,
        "told_seconds": _seconds(folder / "told"),
    }


def _seconds(place: Path) -> float:
    """How long a training took, by its log."""
    lines = (place / "log.jsonl").read_text("utf-8").splitlines()
    return float(json.loads(lines[-1])["seconds"])


def _natural(lab: Lab, name: str, n: int) -> dict[str, Any]:
    """Promoters of the data set, as a sample of a perfect model would score."""
    pool, each = (lab.data.split("train") if name == "train" else lab.best), []
    for seed in lab.seeds:
        rows = np.random.default_rng(seed).choice(len(pool), min(n, len(pool)), replace=False)
        each.append(lab.scores(pool[np.sort(rows)], seed))
    return _summary(f"natural: {name}", each, min(n, len(pool)), 0, 0.0)


def _guide(lab: Lab, settings: dict[str, Any]) -> Any:
    from graphdiff.guide import Guide

    return Guide(lab.base.reward(REWARD), **settings)


def _tuned(lab: Lab, name: str, settings: dict[str, Any], n: int) -> dict[str, Any]:
    """Tuned, then sampled; once for every seed."""
    own = {key: value for key, value in settings.items() if key != "lr"}
    config = {"alpha": TUNE_ALPHA, "steps": STEPS, **own}
    train = {
        "steps": 2 if lab.quick else 60, "batch_size": 32, "lr": settings.get("lr", TUNE_LR),
        "lr_schedule": "cosine", "lr_final": 0.05, "warmup_steps": 5, "clip": 1.0, "ema": 0.9,
        "checkpoint_every": 40,
    }  # fmt: skip
    models, spent = [], 0.0
    for seed in lab.seeds:
        place = lab.folder / f"tuned-{name.replace(' ', '-').replace(',', '')}-{seed}"
        found = tuned(lab.base, lab.base.reward(REWARD), config, {**train, "seed": seed}, place)
        models.append(found[0])
        spent += found[1]
    return {**lab.row(name, models, n), "tune_cpu": round(spent / len(models), 1)}


def _checks(rows: list[dict[str, Any]], quick: bool) -> list[dict[str, Any]]:
    """The published pattern, and whether one of ours dominates DRAKES."""
    by, checks = {row["method"]: row for row in rows}, []

    def check(name: str, value: float, wanted: str, passed: bool) -> None:
        checks.append({"name": name, "value": value, "wanted": wanted, "passed": quick or passed})

    drakes, free, base = by["drakes"], by["drakes without kl"], by["pretrained"]
    bar = max(by["smc x8"]["activity"], by["twisted x8"]["activity"])
    check(
        "DRAKES above SMC and TDS in activity",
        drakes["activity"],
        f"> {bar:.3f}",
        drakes["activity"] > bar,
    )
    check(
        "DRAKES keeps the 3-mer correlation", drakes["kmer3"], f">= {base['kmer3']:.3f} - 0.02",
        drakes["kmer3"] >= base["kmer3"] - 0.02,
    )  # fmt: skip
    check(
        "without KL: more reward",
        free["reward"],
        f"> {drakes['reward']:.3f}",
        free["reward"] > drakes["reward"],
    )
    # Repeats are likelier than any natural promoter, so likelihood alone does not tell: samples of
    # a good model are as likely as natural ones, neither less nor more.
    natural = by["natural: train"]["loglik"]
    off = abs(free["loglik"] - natural), abs(drakes["loglik"] - natural)
    check("without KL: further from natural likelihood", off[0], f"> {off[1]:.2f}", off[0] > off[1])
    # A model that is told labels costs what the base model costs: no oracle, no tuning.
    cost = {name: by[name]["tune_cpu"] for name in TUNED if not name.startswith("drakes")}
    cost |= dict.fromkeys(FOLLOW, 0.0)
    axes = ("activity", "second", "kmer3", "motif")
    for rival in ("drakes", "drakes, lr 2e-3"):
        better = [
            name
            for name, spent in cost.items()
            if all(by[name][k] >= by[rival][k] for k in axes) and spent <= by[rival]["tune_cpu"]
        ]
        check(
            f"at least as good as {rival} in all four: {', '.join(better) or 'none'}",
            len(better), ">= 1", bool(better),
        )  # fmt: skip
    return checks


def draw(record: dict[str, Any], path: Path) -> Path:
    """Activity against naturalness, and against the second medium."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(14, 4.4), constrained_layout=True)
    for axis, key in zip(axes, ("kmer3", "loglik", "second"), strict=True):
        for row in record["rows"]:
            natural = row["method"].startswith("natural")
            axis.plot(row["activity"], row[key], "k*" if natural else "o")
            axis.annotate(row["method"], (row["activity"], row[key]), fontsize=6)
        axis.margins(x=0.25)
        axis.set(xlabel="median activity, evaluation oracle", ylabel=key)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


if __name__ == "__main__":
    source, goal = sys.argv[1:3]
    draw(json.loads(Path(source).read_text("utf-8")), Path(goal))
