"""One protocol for every method that predicts on graphs: splits, selection, tests, probes.

A figure of this library for a prediction task is made in one way: the public splits, settings and
epochs chosen on validation only, a trivial baseline measured in the same run, an interval over
splits or seeds, and a paired test that knows that splits overlap.

* :mod:`~graphdiff.graph.evaluate.paired`: intervals, paired tests, corrections for many tests;
* :mod:`~graphdiff.graph.evaluate.scores`: accuracy, F1, areas under curves;
* :mod:`~graphdiff.graph.evaluate.training`: training of a network on the nodes of one graph;
* :mod:`~graphdiff.graph.evaluate.baselines`: what every result is compared with;
* :mod:`~graphdiff.graph.evaluate.probes`: does a data set, or a pipeline, tell what it must not?
"""

from __future__ import annotations

from graphdiff.graph.evaluate.paired import Paired, Summary, holm, paired, summary

__all__ = ["Paired", "Summary", "holm", "paired", "summary"]
