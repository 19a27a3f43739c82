"""Metrics of generated graphs and molecules, each with its interval and its floor.

:func:`evaluate_graphs` and :func:`evaluate_molecules` return a :class:`Report`; the parts they are
made of (descriptors, kernels, features) are public, too.
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
from graphdiff.graph.metrics.report import Metric, Report

__all__ = [
    "GRAPH_METRICS",
    "MOLECULE_METRICS",
    "PRESETS",
    "Kernel",
    "KernelMMD",
    "LinearMMD",
    "Metric",
    "Report",
    "describe",
    "evaluate_graphs",
    "evaluate_molecules",
    "mmd2",
    "nspdk_features",
    "orbit_counts",
    "permutation_test",
    "remove_isolated",
]
