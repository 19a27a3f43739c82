r"""Scores of descriptors with their resampled values, and the ratio that tables average them to.

All descriptors and both estimators of one evaluation see the *same* resampled graphs, so that
anything made of several of them, such as the ratio, has an interval of its own.

The floor is the score of :math:`n` training graphs in place of the :math:`n` generated ones. Draws
with replacement from :math:`N` training graphs meet some graph twice, which real samples would not:
with :math:`U` and :math:`V` the mean kernel value over pairs of different and over all pairs of
training graphs, a biased score of such a draw lies :math:`(1 - 1/n)(V - U)` too high on average and
an unbiased one :math:`V - U`; this is taken off.

The **ratio** (Bergmeister et al. 2024, arXiv:2312.11529; Qin et al. 2025, arXiv:2410.04263) is the
mean over descriptors of biased scores divided by the score of the *whole* training set:

.. math:: \frac1{|\mathcal D|} \sum_{d \in \mathcal D}
          \frac{\mathrm{MMD}^2_d(\text{generated}, \text{test})}
               {\mathrm{MMD}^2_d(\text{train}, \text{test})} .

Tables round the denominator to four decimals and leave out descriptors where that is zero
(clustering and orbits of trees). A perfect model does not get one: the biased score of 40 graphs
lies above that of 128. The floor of the ratio says what it gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from graphdiff.graph.metrics.intervals import centred, percentile
from graphdiff.graph.metrics.mmd import Estimator, Kernel, KernelMMD
from graphdiff.graph.metrics.power import resolution
from graphdiff.graph.metrics.report import Metric

__all__ = ["Resamples", "Score", "descriptor_scores", "ratio_score"]

Float = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Resamples:
    """How often each graph is drawn, for bootstrap and floor.

    Attributes:
        generated: Counts over the generated graphs ``[B, n]``.
        train: Counts over the training graphs ``[F, N]``, or None without any.
        matched: Whether the rows of ``train`` sum to n (and not to N).
    """

    generated: Counts
    train: Counts | None = None
    matched: bool = True

    @classmethod
    def draw(
        cls, n: int, train: int | None, draws: int, rng: np.random.Generator, matched: bool
    ) -> Resamples:
        """Random counts: ``draws`` of the generated graphs, at least 200 of a matched floor."""
        ours = rng.multinomial(n, np.full(n, 1 / n), size=draws)
        if train is None:
            return cls(ours)
        size, repeats = (n, max(draws, 200)) if matched else (train, draws)
        theirs = rng.multinomial(size, np.full(train, 1 / train), size=repeats)
        return cls(ours, theirs, matched)


@dataclass(frozen=True)
class Score:
    """One score of the generated graphs.

    Attributes:
        name: Name of the metric.
        estimator: ``biased`` or ``unbiased``.
        about: Kernel, or what else there is to say.
        value: The score.
        draws: Its values for resampled generated graphs ``[B]``.
        low: Smallest possible value.
        whole: The score of all training graphs, or None.
        floor: Scores of resampled training graphs ``[F]``, or None.
        note: What a reader should know.
    """

    name: str
    estimator: str
    about: str
    value: float
    draws: Float
    low: float = -np.inf
    whole: float | None = None
    floor: Float | None = None
    note: str = ""

    def metric(self, n: int, n_reference: int, sha: str, *, matched: bool) -> Metric:
        """The score as a row of a report."""
        least, span = None, None
        if self.floor is not None and self.whole is not None:
            if matched:
                least, span = float(self.floor.mean()), percentile(self.floor)
            else:
                least, span = self.whole, centred(self.whole, self.floor, self.low)
        return Metric(
            name=self.name, value=self.value, n=n, n_reference=n_reference, population="graphs",
            kernel=self.about, estimator=self.estimator, floor=least, floor_interval=span,
            interval=centred(self.value, self.draws, self.low), split_hash=sha[:16],
            note=self.note, resolution=resolution(self.draws),
        )  # fmt: skip


def descriptor_scores(
    name: str,
    rows: Sequence[Float],
    kernel: Kernel,
    estimators: Sequence[Estimator],
    resamples: Resamples,
) -> list[Score]:
    """Scores of one descriptor.

    Args:
        name: The descriptor; with two estimators the unbiased one is called ``NAME_unbiased``.
        rows: Descriptor of generated, reference and (optionally) training graphs.
        kernel: Kernel; a missing bandwidth is fitted to the reference.
        estimators: ``biased``, ``unbiased`` or both.
        resamples: Common draws.
    """
    kernel = kernel.fit(rows[1])
    note = "" if kernel.psd else "this kernel is not positive definite"
    out = []
    found = [KernelMMD(x, rows[1], kernel) for x in (rows[0], *rows[2:])]
    for estimator in estimators:
        ours = found[0].with_estimator(estimator)
        whole, floor = None, None
        if len(found) > 1 and resamples.train is not None:
            base = found[1].with_estimator(estimator)
            whole, floor = base.value, base.of_rows(resamples.train)
            if resamples.matched:
                floor = floor - _excess(base, int(resamples.train[0].sum()))
        biased = estimator == "biased"
        low = 0.0 if kernel.psd and biased else -np.inf
        full = name if biased or len(estimators) == 1 else f"{name}_unbiased"
        draws = ours.of_rows(resamples.generated)
        held = Score(full, estimator, str(kernel), ours.value, draws, low, whole, floor)
        out.append(replace(held, note=note) if biased else held)
    return out


def _excess(base: KernelMMD, n: int) -> float:
    """How much higher samples of n score for meeting graphs twice; see the module docstring."""
    if base.n < 2:
        return 0.0
    share = base.weights
    every = float(share @ base.kxx @ share)
    same = float(share @ np.diagonal(base.kxx))
    different = (every - same / base.n) * base.n / (base.n - 1)
    return (every - different) * (1 - 1 / n if base.estimator == "biased" else 1.0)


def ratio_score(scores: Sequence[Score], digits: int | None = 4) -> Score | None:
    """Mean ratio of biased scores to those of the training set; None if there is none to take.

    Args:
        scores: Scores of descriptors; unbiased ones are not used.
        digits: Decimals the training scores are rounded to, as tables do; None takes them exactly.
    """
    used, base = [], []
    for score in scores:
        if score.estimator != "biased" or score.whole is None or score.floor is None:
            continue
        least = score.whole if digits is None else round(score.whole, digits)
        if least > 0:
            used.append(score)
            base.append(least)
    if not used:
        return None
    left_out = [s.name for s in scores if s.estimator == "biased" and s not in used]
    note = "1 is the whole training set; compare with the floor, a perfect model at this n"
    if left_out:
        note += f"; without {', '.join(left_out)}, whose training score is 0 to {digits} decimals"

    def mean(parts: Sequence[Float]) -> Float:
        return np.mean([p / b for p, b in zip(parts, base, strict=True)], axis=0)

    return Score(
        "ratio", "biased", f"mean over {', '.join(s.name for s in used)}",
        float(mean([np.asarray(s.value) for s in used])), mean([s.draws for s in used]),
        -np.inf, float(mean([np.asarray(s.whole) for s in used])),
        mean([s.floor for s in used if s.floor is not None]), note,
    )  # fmt: skip
