"""What came of fitting on several splits: scores of each method, and the sheaf against it.

Differences are tested in pairs: over splits by a t test corrected for their overlap
(:mod:`graphdiff.graph.evaluate.paired`); where there is one split only, over its test nodes by the
exact sign test of those that one method gets right and the other wrong (McNemar). The two are not
mixed: a method that a stop left with one split of several has no interval and no test.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.graph.evaluate.paired import holm, paired, summary
from graphdiff.graph.sheaf.classifier import SheafClassifier
from graphdiff.graph.sheaf.plan import Plan

__all__ = ["SHEAF", "Comparison", "Run"]

SHEAF = "sheaf"


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
        overlap: Mean ratio of test to training nodes, of splits with test nodes.
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

    @property
    def over(self) -> str:
        """What intervals and tests are over: ``splits`` if several have test nodes."""
        scored = [run for run in self.of(SHEAF).values() if run.test is not None]
        return "splits" if len(scored) > 1 else "test nodes"

    def rows(self) -> list[dict[str, Any]]:
        """A row for each method: scores with intervals, and the sheaf against it in pairs.

        Means are over all splits, of ``test`` over those with test nodes. What is not known is
        ``None``.
        """
        names = list(dict.fromkeys(run.method for run in self.runs))
        rows = [self._row(name) for name in names]
        tested = [row for row in rows if row["p"] is not None]
        for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
            row["p_holm"] = p
        return rows

    def _row(self, name: str) -> dict[str, Any]:
        mine, runs = self.of(SHEAF), self.of(name)
        scored = [(run.test, run.right) for run in runs.values() if run.test is not None]
        row: dict[str, Any] = {
            "method": name, "n": len(runs), "val": float(np.mean([r.val for r in runs.values()])),
            "test": None, "low": None, "high": None, "difference": None, "difference_low": None,
            "difference_high": None, "p": None, "p_holm": None,
            "epochs": float(np.mean([run.epochs for run in runs.values()])),
            "seconds": float(np.mean([run.seconds for run in runs.values()])),
        }  # fmt: skip
        if scored:
            values = [value for value, _ in scored]
            row["test"] = float(np.mean(values))
            row["low"], row["high"] = self._interval(values, scored[0][1])
        both = [k for k in mine if k in runs and mine[k].test is not None]
        if name != SHEAF and both:
            row |= self._paired([mine[k] for k in both], [runs[k] for k in both])
        return row

    def _interval(self, values: list[float], right: NDArray[np.bool_]) -> tuple[Any, Any]:
        if len(values) > 1:
            found = summary(values)
            return found.low, found.high
        if self.score != "accuracy" or self.over == "splits":
            return None, None
        from scipy.stats import binomtest

        bounds = binomtest(int(right.sum()), len(right)).proportion_ci()
        return float(bounds.low), float(bounds.high)

    def _paired(self, mine: list[Run], other: list[Run]) -> dict[str, Any]:
        a, b = [float(r.test or 0) for r in mine], [float(r.test or 0) for r in other]
        if len(a) > 1:
            found = paired(a, b, self.overlap)
            return {
                "difference": found.difference, "difference_low": _known(found.low),
                "difference_high": _known(found.high), "p": _known(found.p),
            }  # fmt: skip
        difference = {"difference": a[0] - b[0]}
        if self.score != "accuracy" or self.over == "splits":
            return difference
        from scipy.stats import binomtest

        first, second = mine[0].right, other[0].right
        won, lost = int((first & ~second).sum()), int((second & ~first).sum())
        p = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
        return {**difference, "p": p}


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
