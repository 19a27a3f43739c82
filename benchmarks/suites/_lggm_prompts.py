"""Whether samples of a prompted model have what was asked for: levels of degree and clustering."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

STATISTICS = ("degree", "clustering")


@dataclass(frozen=True)
class PromptPlan:
    """What is asked, and how often.

    Attributes:
        samples: Samples of each level.
        steps: Network calls of a sample.
        guidance: Weights of guidance.
        domains: Domains that are named beside the level, with the training wordings and
            guidance 1.
        boot: Bootstrap draws of the correlation.
        seed: Seed of the samples.
    """

    samples: int = 64
    steps: int = 50
    guidance: tuple[float, ...] = (1.0, 2.0, 3.0)
    domains: tuple[str, ...] = ("soc", "web", "bio")
    boot: int = 1000
    seed: int = 0


def sentences(statistic: str, level: int, domain: str | None, held_out: bool, n: int) -> list[str]:
    """``n`` prompts spread evenly over all wordings of a level."""
    from graphdiff.graph.prompts import Meaning, variants

    which = {statistic: level}
    texts = variants(Meaning(domain, **which), held_out=held_out)
    return [texts[k * len(texts) // n % len(texts)] for k in range(n)]


def ask(
    model: Any, plan: PromptPlan, statistic: str, *, domain: str | None, held_out: bool, w: float
) -> list[list[float]]:
    """The statistic of samples for the prompts low, medium and high, ``[3][samples]``."""
    from graphdiff.data.corpus.statistics import average_degree, clustering

    texts = [
        text
        for level in range(3)
        for text in sentences(statistic, level, domain, held_out, plan.samples)
    ]
    drawn = model.samples(
        len(texts), seed=plan.seed, steps=plan.steps, cond={"prompt": texts, "guidance": w}
    )
    got = (average_degree if statistic == "degree" else clustering)(drawn.raw)
    return [part.tolist() for part in np.split(got, 3)]


def judge(values: list[list[float]], cuts: tuple[float, float], boot: int) -> dict[str, Any]:
    """Rank correlation of asked level and value with its bootstrap interval, means, hits.

    Args:
        values: The statistic of samples by level asked for.
        cuts: Where low ends and high begins.
        boot: Bootstrap draws, of each level apart.
    """
    rows = [np.asarray(v) for v in values]
    rng = np.random.default_rng(0)
    draws = [
        spearman([row[rng.integers(len(row), size=len(row))] for row in rows]) for _ in range(boot)
    ]
    means = [float(row.mean()) for row in rows]
    hits = [np.searchsorted(cuts, row, side="left") == level for level, row in enumerate(rows)]
    return {
        "spearman": spearman(rows),
        "interval": [float(q) for q in np.quantile(draws, [0.025, 0.975])],
        "means": means,
        "errors": [float(row.std(ddof=1) / len(row) ** 0.5) for row in rows],
        "monotone": means[0] < means[1] < means[2],
        "hits": float(np.concatenate(hits).mean()),
        "n": sum(map(len, rows)),
    }


def spearman(rows: list[NDArray[np.float64]]) -> float:
    """Rank correlation, ties at mean ranks, of the number of a row and its values."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate(rows))
    asked = rankdata(np.repeat(np.arange(len(rows)), [len(row) for row in rows]))
    if np.ptp(ranks) == 0:
        return 0.0
    return float(np.corrcoef(asked, ranks)[0, 1])
