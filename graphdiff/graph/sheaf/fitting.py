r"""A classifier on the user's own graph, beside what it must beat, over several splits.

For each split the sheaf network and the baselines are trained on the same training nodes, selected
on the same validation nodes, and scored once on the same test nodes. With ``tune`` each split
chooses among settings drawn from :data:`SPACE` (and the given one) by *its own* validation nodes:
those of other splits hold its test nodes. The identity sheaf, whose maps are not learned, chooses
among the same settings.

Differences are tested in pairs: over splits by a t test corrected for their overlap
(:mod:`graphdiff.graph.evaluate.paired`); where there is one split only, over its test nodes by the
exact sign test of those that one method gets right and the other wrong (McNemar).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from graphdiff.data.nodes import NodeData, Split
from graphdiff.graph.evaluate.baselines import baseline
from graphdiff.graph.evaluate.paired import holm, paired, summary
from graphdiff.graph.evaluate.training import FitConfig, Fitted
from graphdiff.graph.sheaf.classifier import SheafClassifier
from graphdiff.graph.sheaf.network import SheafConfig
from graphdiff.graph.sheaf.presets import preset
from graphdiff.graph.sheaf.scaling import Scaling, choose_scaling, scale_of, scaled

__all__ = ["BESIDE", "SPACE", "Comparison", "Plan", "Run", "compare", "draw_plan"]

SHEAF, DEFAULT, IDENTITY = "sheaf", "sheaf, not tuned", "identity sheaf"
BESIDE = ("majority", "label-propagation", "mlp", "gcn")

SPACE: dict[str, dict[str, tuple[Any, ...]]] = {
    "network": {
        "filter": ("diffusion", "chebyshev"),
        "layers": (1, 2, 3, 4),
        "stalk": (1, 2, 3, 4),
        "hidden": (8, 16, 32),
        "lowpass": (False, True),
        "highpass": (False, True),
        "dropout": (0.0, 0.3, 0.5, 0.7),
        "input_dropout": (0.0, 0.2, 0.5, 0.7),
    },
    "fit": {
        "lr": (0.005, 0.01, 0.02),
        "weight_decay": (1e-4, 5e-4, 1e-3, 5e-3, 1e-2),
    },
}
"""What ``tune`` draws from, each setting on its own; everything else stays as given."""


@dataclass(frozen=True)
class Plan:
    """Settings of a fit.

    Attributes:
        network: Shape.
        fit: Training.
        scaling: Of features.
    """

    network: SheafConfig = field(default_factory=lambda: preset("").network)
    fit: FitConfig = field(default_factory=lambda: preset("").fit)
    scaling: Scaling | Literal["auto"] = "auto"


def draw_plan(plan: Plan, rng: np.random.Generator) -> Plan:
    """Settings of :data:`SPACE` at random, the rest from ``plan``."""
    drawn = {
        table: {key: values[int(rng.integers(len(values)))] for key, values in keys.items()}
        for table, keys in SPACE.items()
    }
    network = drawn["network"]
    if plan.network.maps == "connection":
        network = {k: v for k, v in network.items() if k not in ("lowpass", "highpass")}
    return replace(
        plan, network=replace(plan.network, **network), fit=replace(plan.fit, **drawn["fit"])
    )


@dataclass(frozen=True, eq=False)
class Run:
    """One method on one split.

    Attributes:
        method: Its name.
        split: Number of the split.
        val: Validation score.
        test: Test score; ``None`` where the split has no test nodes.
        right: Whether each test node is predicted correctly.
        epochs: Trained, up to the best one.
        seconds: CPU time, of all settings tried.
    """

    method: str
    split: int
    val: float
    test: float | None
    right: NDArray[np.bool_]
    epochs: int
    seconds: float


@dataclass(eq=False)
class Comparison:
    """All runs, and the classifier of the split with the best validation score.

    Attributes:
        runs: In the order they were made.
        classifier: The best one.
        split: Its split.
        plan: Its settings.
        score: ``accuracy`` or ``roc_auc``.
        overlap: Mean ratio of test to training nodes.
        stopped: Whether somebody asked to stop before all was done.
    """

    score: str
    overlap: float
    runs: list[Run] = field(default_factory=list)
    classifier: SheafClassifier | None = None
    split: int = -1
    plan: Plan = field(default_factory=Plan)
    stopped: bool = False

    def of(self, method: str) -> dict[int, Run]:
        """Runs of a method by split."""
        return {run.split: run for run in self.runs if run.method == method}

    def rows(self) -> list[dict[str, Any]]:
        """A row for each method: scores with intervals, and the sheaf against it in pairs."""
        names = list(dict.fromkeys(run.method for run in self.runs))
        rows = [self._row(name) for name in names]
        tested = [row for row in rows if row["p"] is not None]
        for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
            row["p_holm"] = p
        return rows

    def _row(self, name: str) -> dict[str, Any]:
        mine, runs = self.of(SHEAF), self.of(name)
        values = [run.test for run in runs.values() if run.test is not None]
        row: dict[str, Any] = {
            "method": name, "n": len(runs), "val": float(np.mean([r.val for r in runs.values()])),
            "test": None, "low": None, "high": None, "difference": None, "difference_low": None,
            "difference_high": None, "p": None, "p_holm": None,
            "epochs": float(np.mean([run.epochs for run in runs.values()])),
            "seconds": float(np.mean([run.seconds for run in runs.values()])),
        }  # fmt: skip
        if values:
            row["test"] = float(np.mean(values))
            row["low"], row["high"] = self._interval(values, next(iter(runs.values())).right)
        both = [k for k in mine if k in runs and mine[k].test is not None]
        if name != SHEAF and both:
            row |= self._paired([mine[k] for k in both], [runs[k] for k in both])
        return row

    def _interval(self, values: list[float], right: NDArray[np.bool_]) -> tuple[Any, Any]:
        if len(values) > 1:
            found = summary(values)
            return found.low, found.high
        if self.score != "accuracy":
            return None, None
        from scipy.stats import binomtest

        bounds = binomtest(int(right.sum()), len(right)).proportion_ci()
        return float(bounds.low), float(bounds.high)

    def _paired(self, mine: list[Run], other: list[Run]) -> dict[str, Any]:
        a, b = [float(r.test or 0) for r in mine], [float(r.test or 0) for r in other]
        if len(a) > 1:
            found = paired(a, b, self.overlap)
            return {
                "difference": found.difference, "difference_low": found.low,
                "difference_high": found.high, "p": found.p,
            }  # fmt: skip
        difference = {"difference": a[0] - b[0]}
        if self.score != "accuracy":
            return difference
        from scipy.stats import binomtest

        first, second = mine[0].right, other[0].right
        won, lost = int((first & ~second).sum()), int((second & ~first).sum())
        p = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
        return {**difference, "p": p}


Tell = Callable[[int, int], None]


def compare(
    data: NodeData,
    splits: Sequence[Split],
    plan: Plan,
    *,
    seed: int = 0,
    tune: int = 0,
    baselines: bool = True,
    device: str | torch.device = "cpu",
    progress: Tell | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Comparison:
    """Fit on each split, with the baselines beside.

    Args:
        data: The graph.
        splits: One or more.
        plan: Settings.
        seed: Of initialisation, dropout and drawn settings.
        tune: Settings that are drawn from :data:`SPACE`, beside the given one.
        baselines: Whether to fit :data:`BESIDE` and the identity sheaf as well.
        device: Where to train.
        progress: Called as ``progress(done, total)``, in thousandths of a training.
        stop: Asked after each epoch. A training that it cuts short counts only if no other is
            complete; its best weights so far are kept.
    """
    rng = np.random.default_rng((seed, 7))
    plans = [plan, *(draw_plan(plan, rng) for _ in range(tune))]
    score = "roc_auc" if plan.fit.select == "roc_auc" else "accuracy"
    found = Comparison(score, float(np.mean([s.overlap for s in splits])), plan=plan)
    identity = baselines and plan.network.maps != "identity"
    each = len(plans) * (1 + identity) + len(BESIDE) * baselines
    meter = _Meter(progress, each * len(splits))
    graph = _seen(data, plan.scaling, device) if baselines else data
    for k, split in enumerate(splits):
        job = _Job(data, split, k, seed, device, meter, stop, found)
        job.sheaf(SHEAF, plans)
        if identity and not stop():
            still = [replace(p, network=replace(p.network, maps="identity")) for p in plans]
            job.sheaf(IDENTITY, still)
        for name in BESIDE if baselines else ():
            if stop():
                break
            fitted = baseline(name, graph, split, seed, plan.fit, stop=stop)
            meter.next()
            if not stop():
                found.runs.append(job.run(name, [fitted], fitted))
        if stop():
            found.stopped = True
            break
    return found


@dataclass(eq=False)
class _Meter:
    """Progress in thousandths of a training."""

    progress: Tell | None
    fits: int
    done: int = 0

    def __call__(self, epoch: int, epochs: int) -> None:
        if self.progress is not None:
            self.progress(1000 * self.done + (1000 * epoch) // epochs, 1000 * self.fits)

    def next(self) -> None:
        self.done += 1
        self(0, 1)


@dataclass(eq=False)
class _Job:
    """What the trainings of one split share."""

    data: NodeData
    split: Split
    k: int
    seed: int
    device: str | torch.device
    meter: _Meter
    stop: Callable[[], bool]
    found: Comparison

    def sheaf(self, method: str, plans: Sequence[Plan]) -> None:
        """Fit all settings; the best on validation is a run, and a candidate to be kept."""
        done = list(self._fits(plans))
        if self.stop() and (self.found.runs or method != SHEAF):
            return
        fits = [self._fitted(model) for model, _ in done]
        best = max(range(len(done)), key=lambda i: self._rank(fits[i]))
        model, plan = done[best]
        self.found.runs.append(self.run(method, fits, fits[best]))
        if method != SHEAF:
            return
        if len(plans) > 1:
            self.found.runs.append(self.run(DEFAULT, fits[:1], fits[0]))
        found, score = self.found, self._score(fits[best], "val")
        if found.classifier is None or score > found.of(SHEAF)[found.split].val:
            found.classifier, found.split, found.plan = model, self.k, plan

    def run(self, method: str, fits: Sequence[Fitted], best: Fitted) -> Run:
        """The run of a method that tried ``fits`` and chose ``best``."""
        score, test = self.found.score, self.split.test
        right = best.logits[test].argmax(1).cpu() == self.data.labels[test].cpu()
        return Run(
            method, self.k, self._score(best, "val"),
            best.scores["test"].get(score) if len(test) else None,
            right.numpy(), best.epoch, sum(f.seconds for f in fits),
        )  # fmt: skip

    def _fits(self, plans: Sequence[Plan]) -> Iterator[tuple[SheafClassifier, Plan]]:
        for plan in plans:
            yield (
                SheafClassifier.fit(
                    self.data, self.split, plan.network, plan.fit, scaling=plan.scaling,
                    seed=self.seed + self.k, device=self.device, progress=self.meter,
                    stop=self.stop,
                ),
                plan,
            )  # fmt: skip
            self.meter.next()
            if self.stop():
                return

    def _fitted(self, model: SheafClassifier) -> Fitted:
        assert model.fitted is not None
        return model.fitted

    def _score(self, fitted: Fitted, part: str) -> float:
        scores = fitted.scores[part]
        return scores.get(self.found.score, scores["accuracy"])

    def _rank(self, fitted: Fitted) -> tuple[float, float]:
        part = self.split.val
        loss = torch.nn.functional.cross_entropy(
            fitted.logits[part].cpu(), self.data.labels[part].cpu()
        )
        return self._score(fitted, "val"), -float(loss)


def _seen(data: NodeData, scaling: Scaling | Literal["auto"], device: Any) -> NodeData:
    """The graph with the features as the sheaf network sees them, on the device of training."""
    chosen = choose_scaling(data.features) if scaling == "auto" else scaling
    x = scaled(data.features, chosen, scale_of(data.features, chosen))
    return replace(
        data, features=x.to(device), labels=data.labels.to(device), edges=data.edges.to(device),
        splits=(),
    )  # fmt: skip
