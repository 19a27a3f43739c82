"""Evaluation of graphs without labels: valid, unique, novel; MMD of statistics; their ratio."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.metrics.descriptors import DESCRIPTORS, describe, remove_isolated
from graphdiff.graph.metrics.mmd import PRESETS, Estimator, Kernel
from graphdiff.graph.metrics.pgd import discrepancy_metric
from graphdiff.graph.metrics.power import too_small
from graphdiff.graph.metrics.report import Metric, Report
from graphdiff.graph.metrics.scores import Resamples, descriptor_scores, ratio_score
from graphdiff.graph.metrics.validity import vun_metrics

if TYPE_CHECKING:
    from graphdiff.data.graphs import Graphs

__all__ = ["GRAPH_METRICS", "Progress", "evaluate_graphs"]

GRAPH_METRICS = ("degree", "clustering", "orbit", "spectral")
Progress = Callable[[str, float], None]
"""Called with the name of the stage and the share of the whole that is done (0..1)."""


def choose(
    kernel: str | Kernel | Mapping[str, Kernel], metrics: Sequence[str]
) -> dict[str, Kernel]:
    """The kernel of each metric.

    Raises:
        ArgumentError: For an unknown preset or metric, or a metric without kernel.
    """
    for name in metrics:
        if name not in DESCRIPTORS:
            raise ArgumentError(
                f"unknown graph metric {name!r}; there are {', '.join(DESCRIPTORS)}"
            )
    if isinstance(kernel, Kernel):
        return dict.fromkeys(metrics, kernel)
    if isinstance(kernel, str):
        if kernel not in PRESETS:
            raise ArgumentError(f"unknown kernel preset {kernel!r}; there are {', '.join(PRESETS)}")
        kernel = PRESETS[kernel]
    missing = [m for m in metrics if m not in kernel]
    if missing:
        raise ArgumentError(f"no kernel given for {', '.join(missing)}")
    return {m: kernel[m] for m in metrics}


def _subset(graphs: Graphs, most: int, rng: np.random.Generator) -> Graphs:
    if len(graphs) <= most:
        return graphs
    return graphs[np.sort(rng.choice(len(graphs), most, replace=False))]


def _warnings(reference: int, train: int | None) -> list[str]:
    out = []
    if reference < 100:
        out.append(
            f"only {reference} reference graphs: the reference itself is uncertain, and no "
            "interval here shows that; differences near the floor mean nothing"
        )
    if train is None:
        out.append("no training graphs were given, so there is no floor to compare with")
    return out


def evaluate_graphs(
    generated: Graphs,
    reference: Graphs,
    train: Graphs | None = None,
    *,
    metrics: Sequence[str] = GRAPH_METRICS,
    kernel: str | Kernel | Mapping[str, Kernel] = "gaussian_emd",
    estimator: Estimator | Literal["both"] = "biased",
    floor: Literal["matched", "full"] = "matched",
    isolated: bool = False,
    vun: bool = False,
    rule: str | None = None,
    ratio: bool = False,
    n_boot: int = 200,
    max_graphs: int = 4096,
    seed: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Compares generated graphs with a test set by the squared MMD of graph statistics.

    The defaults are the published settings of GraphRNN and GDSS (``kernel="gaussian_tv"``: of
    SPECTRE and DiGress). The interval is a bootstrap over the generated graphs.

    Args:
        generated: Generated graphs; labels are not looked at.
        reference: Test graphs.
        train: Training graphs, for the floor.
        metrics: Some of ``degree``, ``clustering``, ``orbit``, ``spectral``, ``wavelet``, ``pgd``
            (:mod:`graphdiff.graph.metrics.classifier`; always on all five descriptors).
        kernel: Preset (``gaussian_emd``, ``gaussian_tv``, ``rbf``), one kernel for all metrics, or
            a kernel per metric.
        estimator: ``biased`` (published), ``unbiased``, or ``both``, one row each.
        floor: ``matched`` draws as many training graphs as there are generated ones, many times,
            and reports the mean score with its 95 % range: what a perfect model would get at this
            sample size. ``full`` scores all training graphs at once, as papers do.
        isolated: Keep isolated nodes of generated (and training) graphs; published code drops
            them.
        vun: Add rows for validity, uniqueness, novelty and their conjunction, of *all* generated
            graphs as they are.
        rule: Validity rule of the data set (``planar``, ``tree``, ``lobster``, ``sbm``), for
            ``vun``.
        ratio: Add the mean ratio to the scores of the training set (needs ``train``).
        n_boot: Bootstrap draws.
        max_graphs: Larger sets are cut to a random subset of this size.
        seed: Seed of bootstrap and subsets.
        progress: See :data:`Progress`.

    Returns:
        One metric per name, each with kernel, estimator, sizes, floor, resolution and split hash.

    Raises:
        ArgumentError: For an unknown metric, kernel, estimator or rule, or an empty set.
    """
    begin = time.perf_counter()
    distances = [m for m in metrics if m != "pgd"]
    kernels = choose(kernel, distances)
    if floor not in ("matched", "full"):
        raise ArgumentError(f"floor must be 'matched' or 'full', found {floor!r}")
    for name, graphs in (("generated", generated), ("reference", reference), ("train", train)):
        if graphs is not None and not len(graphs):
            raise ArgumentError(f"the set of {name} graphs is empty: nothing to evaluate")
    if estimator not in ("biased", "unbiased", "both"):
        raise ArgumentError(
            f"estimator must be 'biased', 'unbiased' or 'both', found {estimator!r}"
        )
    rng = np.random.default_rng(seed)
    sha = reference.sha256()
    tell = progress or (lambda stage, share: None)
    results: list[Metric] = []
    if vun:
        tell("valid, unique, novel", 0.0)
        results += vun_metrics(generated, reference, train, rule, sha)
    sets = _prepare(generated, reference, train, max_graphs, isolated, rng)
    draws = Resamples.draw(
        len(sets[0]), len(sets[2]) if train is not None else None, n_boot, rng, floor == "matched"
    )
    both: Sequence[Estimator] = ("biased", "unbiased") if estimator == "both" else (estimator,)
    scores = []
    rows = {}
    for i, name in enumerate(distances):
        tell(name, (i + vun) / (len(metrics) + vun))
        rows[name] = describe(name, *sets)
        scores += descriptor_scores(name, rows[name], kernels[name], both, draws)
    mean = ratio_score(scores) if ratio else None
    scores += [] if mean is None else [mean]
    sizes = (len(sets[0]), len(sets[1]))
    results += [score.metric(*sizes, sha, matched=floor == "matched") for score in scores]
    if "pgd" in metrics:
        tell("pgd", len(distances) / len(metrics))
        rows = {k: rows.get(k) or describe(k, *sets) for k in DESCRIPTORS}
        results.append(discrepancy_metric(rows, n_boot=n_boot, seed=seed, sha=sha))
    warnings = [*_warnings(sizes[1], None if train is None else len(train)), *too_small(results)]
    empty = int((generated.num_nodes == 0).sum())
    if empty:
        warnings.append(f"{empty} generated graphs without nodes were left out, as published")
    tell("done", 1.0)
    info: dict[str, Any] = {
        "n": len(sets[0]), "n_reference": len(sets[1]), "reference_sha256": sha, "seed": seed,
        "n_train": None if train is None else len(sets[2]), "isolated_nodes_kept": isolated,
        "floor": floor, "n_boot": n_boot, "seconds": round(time.perf_counter() - begin, 3),
    }  # fmt: skip
    title = f"{len(sets[0])} generated graphs against {len(sets[1])} reference graphs (squared MMD)"
    return Report(title, tuple(results), tuple(warnings), info)


def _prepare(
    generated: Graphs,
    reference: Graphs,
    train: Graphs | None,
    most: int,
    isolated: bool,
    rng: np.random.Generator,
) -> list[Graphs]:
    """The sets as the descriptors see them: generated, reference and (if given) training."""
    sets = [_subset(generated[generated.num_nodes > 0], most, rng)]
    if not len(sets[0]):
        raise ArgumentError("every generated graph is without nodes: nothing to evaluate")
    sets.append(_subset(reference, most, rng))
    if train is not None:
        sets.append(_subset(train, most, rng))
    if isolated:
        return sets
    return [g if i == 1 else remove_isolated(g) for i, g in enumerate(sets)]
