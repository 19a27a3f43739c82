"""Metrics of generated graphs and molecules, each with its interval and its floor.

:func:`evaluate_dataset` (graphs, as tables of a data set do), :func:`evaluate_graphs` and
:func:`evaluate_molecules` return a :class:`Report`; the parts they are made of (validity rules,
descriptors, kernels, features) are public, too.
"""

from __future__ import annotations

from graphdiff.graph.metrics.descriptors import describe, remove_isolated
from graphdiff.graph.metrics.evaluate import MOLECULE_METRICS, evaluate_molecules
from graphdiff.graph.metrics.generic import GRAPH_METRICS, evaluate_graphs
from graphdiff.graph.metrics.mmd import (
    PRESETS,
    Kernel,
    KernelMMD,
    LinearMMD,
    mmd2,
    permutation_test,
)
from graphdiff.graph.metrics.nspdk import nspdk_features
from graphdiff.graph.metrics.orbits import orbit_counts
from graphdiff.graph.metrics.profiles import PROFILES, Profile, evaluate_dataset
from graphdiff.graph.metrics.report import Metric, Report
from graphdiff.graph.metrics.sbm import block_test
from graphdiff.graph.metrics.validity import RULES, judge

__all__ = [
    "GRAPH_METRICS",
    "MOLECULE_METRICS",
    "PRESETS",
    "PROFILES",
    "RULES",
    "Kernel",
    "KernelMMD",
    "LinearMMD",
    "Metric",
    "Profile",
    "Report",
    "block_test",
    "describe",
    "evaluate_dataset",
    "evaluate_graphs",
    "evaluate_molecules",
    "judge",
    "mmd2",
    "nspdk_features",
    "orbit_counts",
    "permutation_test",
    "remove_isolated",
]
