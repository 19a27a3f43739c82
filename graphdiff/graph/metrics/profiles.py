"""How each data set of graphs is evaluated in the literature, by name.

A profile fixes what published tables of one data set have in common, so that two numbers for it
mean the same. Everything else is evaluated like the sets of GDSS: the four descriptors of
GraphRNN under the Gaussian kernel of the earth mover's distance, isolated nodes left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphdiff.graph.metrics.generic import GRAPH_METRICS, Progress, evaluate_graphs
from graphdiff.graph.metrics.report import Report

if TYPE_CHECKING:
    from graphdiff.data import Dataset, Graphs

__all__ = ["PROFILES", "Profile", "evaluate_dataset", "profile"]

SPECTRE_METRICS = (*GRAPH_METRICS, "wavelet")


@dataclass(frozen=True)
class Profile:
    """Settings of one evaluation.

    Attributes:
        metrics: Descriptors, see :func:`~graphdiff.graph.metrics.evaluate_graphs`.
        kernel: Kernel preset.
        isolated: Whether isolated nodes of generated graphs count.
        rule: Validity rule, or None if the set has none.
        ratio: Whether tables average the ratios to the training set.
        n: Size of the sample that published tables use.
    """

    metrics: tuple[str, ...] = GRAPH_METRICS
    kernel: str = "gaussian_emd"
    isolated: bool = False
    rule: str | None = None
    ratio: bool = False
    n: int | None = None


def _spectre(rule: str) -> Profile:
    return Profile(SPECTRE_METRICS, "gaussian_tv", True, rule, True, 40)


PROFILES: Mapping[str, Profile] = {
    "planar": _spectre("planar"),
    "tree": _spectre("tree"),
    "sbm": _spectre("sbm"),
    "lobster": _spectre("lobster"),
    "comm20": Profile(isolated=True, n=20),
    "community_small": Profile(n=20),
    "ego_small": Profile(n=40),
    "enzymes": Profile(n=117),
    "grid": Profile(n=20),
}
"""Profiles by data set: planar, tree and sbm as in SPECTRE, HSpectre and DeFoG; comm20 as in
DiGress; the others as in GDSS."""


def profile(name: str) -> Profile:
    """The profile of a data set; the one of GDSS for a name without its own."""
    return PROFILES.get(name, Profile())


def evaluate_dataset(
    generated: Graphs,
    dataset: Dataset,
    *,
    reference: str = "test",
    train: str = "train",
    progress: Progress | None = None,
    **options: Any,
) -> Report:
    """Evaluates generated graphs as published tables of the data set do, and more.

    The report holds validity (if the set has a rule), uniqueness, novelty and their conjunction;
    each descriptor by the published biased estimator and by the unbiased one; the ratio where
    tables have it. Every row has its interval, its floor at this sample size, and the difference
    it can resolve.

    Args:
        generated: Generated graphs.
        dataset: Data set of graphs with the splits named below.
        reference: Split to compare with.
        train: Split for novelty, ratio and floors.
        progress: Called with the name of each stage and the share that is done.
        options: Replace arguments of :func:`~graphdiff.graph.metrics.evaluate_graphs`.

    Raises:
        ArgumentError: The data set lacks a split, an option is unknown, or a set is empty.
    """
    use = profile(dataset.name)
    settings: dict[str, Any] = {
        "metrics": use.metrics, "kernel": use.kernel, "isolated": use.isolated, "rule": use.rule,
        "ratio": use.ratio, "estimator": "both", "vun": True, **options,
    }  # fmt: skip
    report = evaluate_graphs(
        generated, dataset.split(reference), dataset.split(train), progress=progress, **settings
    )
    info = {**report.info, "dataset": dataset.name, "reference": reference, "train": train}
    info |= {"rule": settings["rule"], "published_n": use.n}
    title = (
        f"{len(generated)} generated graphs against {report.info['n_reference']} of {dataset.name} "
        f"({reference}; squared MMD)"
    )
    return Report(title, report.metrics, report.warnings, info)
