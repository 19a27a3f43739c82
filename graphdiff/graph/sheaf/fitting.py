"""A classifier on the user's own graph, beside what it must beat, over several splits.

For each split the sheaf network and the baselines are trained on the same training nodes, selected
on the same validation nodes, and scored once on the same test nodes. With ``tune`` each split
chooses among settings drawn from a space (:mod:`graphdiff.graph.sheaf.plan`) and the given one by
*its own* validation nodes: those of other splits hold its test nodes. The identity sheaf, whose
maps are not learned, chooses among the same settings.

How the differences are tested: :mod:`graphdiff.graph.sheaf.comparison`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from graphdiff.data.nodes import NodeData, Split
from graphdiff.graph.evaluate.baselines import baseline
from graphdiff.graph.evaluate.training import Fitted, check_splits
from graphdiff.graph.sheaf.classifier import SheafClassifier
from graphdiff.graph.sheaf.comparison import SHEAF, Comparison, Run
from graphdiff.graph.sheaf.plan import Plan, draw_plan
from graphdiff.graph.sheaf.scaling import Scaling, choose_scaling, scale_of, scaled

__all__ = ["BESIDE", "compare"]

DEFAULT, IDENTITY = "sheaf, not tuned", "identity sheaf"
BESIDE = ("majority", "label-propagation", "mlp", "gcn")

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
        tune: Settings that are drawn by :func:`~graphdiff.graph.sheaf.plan.draw_plan`, beside the
            given one.
        baselines: Whether to fit :data:`BESIDE` and the identity sheaf as well.
        device: Where to train.
        progress: Called as ``progress(done, total)``, in thousandths of a training.
        stop: Asked after each epoch. A training that it cuts short counts only if no other is
            complete; its best weights so far are kept.

    Raises:
        DataError: A split does not fit the graph.
    """
    check_splits(data, splits, plan.fit.select)
    rng = np.random.default_rng((seed, 7))
    plans = [plan, *(draw_plan(plan, rng) for _ in range(tune))]
    overlaps = [s.overlap for s in splits if len(s.test)]
    found = Comparison(plan.fit.score, float(np.mean(overlaps)) if overlaps else 0.0, plan=plan)
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
        return fitted.scores[part][self.found.score]

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
