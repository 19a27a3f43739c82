"""Metrics of sets of sequences; each is imported from the module that defines it.

:mod:`~graphdiff.sequence.metrics.evaluate` puts them together into one report.
"""

from __future__ import annotations

from graphdiff.sequence.metrics.evaluate import evaluate_sequences

__all__ = ["evaluate_sequences"]
