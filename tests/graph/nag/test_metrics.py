"""Shares of architectures: by hand, and at the floor of uniform draws."""

from __future__ import annotations

import numpy as np
import pytest

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.nag.metrics import architecture_metrics
from graphdiff.graph.nag.spaces import NASBench201, NASBenchMacro


def test_shares_by_hand() -> None:
    space = NASBench201()
    cells = space.cells(
        np.array([
            [0, 0, 0, 3, 0, 0],  # a convolution
            [0, 0, 0, 3, 0, 0],  # the same
            [1, 0, 0, 0, 3, 0],  # isomorphic to it, but written otherwise
            [2, 2, 2, 2, 2, 2],
        ])
    )  # fmt: skip
    ops = np.concatenate([cells.ops, cells.ops[:1]])
    ops[4, 2] = -1
    report = architecture_metrics(space, space.wired(ops), cells[3])
    assert {m.name: m.value for m in report} == pytest.approx(
        {"valid": 0.8, "unique": 0.75, "unique_cells": 0.5, "novel": 0.75}
    )
    assert report["novel"].floor == 1 - 1 / 15_625


def test_uniform_draws_are_at_the_floor() -> None:
    space = NASBenchMacro()
    report = architecture_metrics(space, space.draw(1000, np.random.default_rng(0)))
    unique = report["unique"]
    assert unique.interval is not None
    assert unique.interval[0] < unique.floor < unique.interval[1]  # type: ignore[operator]
    with pytest.raises(ArgumentError, match="no architectures to evaluate"):
        architecture_metrics(space, space.draw(0, np.random.default_rng(0)))
