"""Evaluation of graphs without labels: MMD of degree, clustering, orbit and spectral statistics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.metrics.descriptors import DESCRIPTORS, describe, remove_isolated
from graphdiff.graph.metrics.intervals import centred, percentile
from graphdiff.graph.metrics.mmd import PRESETS, Estimator, Kernel, KernelMMD
from graphdiff.graph.metrics.report import Metric, Report

if TYPE_CHECKING:
    from graphdiff.data.graphs import Graphs

__all__ = ["GRAPH_METRICS", "Progress", "evaluate_graphs"]

GRAPH_METRICS = tuple(DESCRIPTORS)
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


def _warnings(n: int, reference: int, train: int | None) -> list[str]:
    out = []
    if n < 100:
        out.append(
            f"only {n} generated graphs: the same model can score several times better or worse "
            "in another draw; generate 1,000 and compare intervals"
        )
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
    estimator: Estimator = "biased",
    floor: Literal["matched", "full"] = "matched",
    isolated: bool = False,
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
        metrics: Some of ``degree``, ``clustering``, ``orbit``, ``spectral``.
        kernel: Preset (``gaussian_emd``, ``gaussian_tv``, ``rbf``), one kernel for all metrics, or
            a kernel per metric.
        estimator: ``biased`` (published) or ``unbiased``.
        floor: ``matched`` draws as many training graphs as there are generated ones, many times,
            and reports the mean score with its 95 % range: what a perfect model would get at this
            sample size. ``full`` scores all training graphs at once, as papers do.
        isolated: Keep isolated nodes of generated (and training) graphs; published code drops
            them.
        n_boot: Bootstrap draws.
        max_graphs: Larger sets are cut to a random subset of this size.
        seed: Seed of bootstrap and subsets.
        progress: See :data:`Progress`.

    Returns:
        One metric per name, each with kernel, estimator, sizes, floor and split hash.

    Raises:
        ArgumentError: For an unknown metric, kernel or estimator, or an empty set.
    """
    begin = time.perf_counter()
    kernels = choose(kernel, metrics)
    if floor not in ("matched", "full"):
        raise ArgumentError(f"floor must be 'matched' or 'full', found {floor!r}")
    for name, graphs in (("generated", generated), ("reference", reference), ("train", train)):
        if graphs is not None and not len(graphs):
            raise ArgumentError(f"the set of {name} graphs is empty: nothing to evaluate")
    rng = np.random.default_rng(seed)
    sha = reference.sha256()
    empty = int((generated.num_nodes == 0).sum())
    sets = [_subset(generated[generated.num_nodes > 0], max_graphs, rng)]
    if not len(sets[0]):
        raise ArgumentError("every generated graph is without nodes: nothing to evaluate")
    sets.append(_subset(reference, max_graphs, rng))
    if train is not None:
        sets.append(_subset(train, max_graphs, rng))
    if not isolated:
        sets = [g if i == 1 else remove_isolated(g) for i, g in enumerate(sets)]
    results = []
    for i, name in enumerate(metrics):
        if progress is not None:
            progress(name, i / len(metrics))
        rows = describe(name, *sets)
        results.append(_metric(name, rows, kernels[name], estimator, floor, n_boot, rng, sha))
    warnings = _warnings(len(sets[0]), len(sets[1]), None if train is None else len(train))
    if empty:
        warnings.append(f"{empty} generated graphs without nodes were left out, as published")
    if progress is not None:
        progress("done", 1.0)
    info: dict[str, Any] = {
        "n": len(sets[0]), "n_reference": len(sets[1]), "reference_sha256": sha, "seed": seed,
        "n_train": None if train is None else len(sets[2]), "isolated_nodes_kept": isolated,
        "floor": floor, "n_boot": n_boot, "seconds": round(time.perf_counter() - begin, 3),
    }  # fmt: skip
    title = f"{len(sets[0])} generated graphs against {len(sets[1])} reference graphs (squared MMD)"
    return Report(title, tuple(results), tuple(warnings), info)


def _metric(
    name: str,
    rows: Sequence[Any],
    kernel: Kernel,
    estimator: Estimator,
    floor: str,
    n_boot: int,
    rng: np.random.Generator,
    sha: str,
) -> Metric:
    kernel = kernel.fit(rows[1])
    low = 0.0 if kernel.psd and estimator == "biased" else -np.inf
    test = KernelMMD(rows[0], rows[1], kernel, estimator)
    least, span = None, None
    if len(rows) > 2:
        base = KernelMMD(rows[2], rows[1], kernel, estimator)
        if floor == "full":
            least = base.value
            span = centred(least, base.bootstrap(n_boot, rng), low)
        else:
            draws = base.bootstrap(max(n_boot, 200), rng, n=test.n)
            least, span = float(draws.mean()), percentile(draws)
    return Metric(
        name=name, value=test.value, n=test.n, n_reference=test.m, population="graphs",
        kernel=str(kernel), estimator=estimator, floor=least, floor_interval=span,
        interval=centred(test.value, test.bootstrap(n_boot, rng), low), split_hash=sha[:16],
        note="" if kernel.psd else "this kernel is not positive definite",
    )  # fmt: skip
