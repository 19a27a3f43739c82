"""The counts of the suite ``tuning-cost``: what differentiated chains hold. Times are its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from suites import load_suite

import graphdiff


@pytest.fixture(scope="module")
def suite() -> Any:
    return load_suite("tuning_cost")


def test_counters_count(suite: Any) -> None:
    """Two products of known sizes: what is held, what is alive at most, and nothing twice."""
    weight = torch.nn.Linear(10, 10, bias=False)
    x = torch.randn(7, 10)
    count = suite.Held(weight)
    with count:
        weight(x).tanh()
    assert count.numbers == 70 + 70  # the input of the product, the output of the tanh
    count = suite.Peak(weight)
    with count:
        for _ in range(3):
            (x + 1) * 2
    # The sum and the product, four bytes each; the sum before is gone.
    assert count.most == 2 * 70 * 4
    assert count.live == 0


@pytest.mark.parametrize("method", ["draft", "drakes"])
def test_a_tuning_holds_the_steps_it_differentiates(suite: Any, method: str) -> None:
    """The same for T = 8 and T = 16, linear in K; with checkpoints the peak does not grow with K.

    It grows by the states, less than a tenth of what activations take. A reference outside of the
    checkpoint, the mutation, grows by half.
    """
    model = graphdiff.load("mdlm-yeast-promoter")
    held = {
        (t, k): suite.held(model, suite.direct(method, t, k), 2)
        for t, k in ((16, 2), (16, 3), (16, 5), (8, 5))
    }
    assert held[8, 5] == held[16, 5]
    # The first differentiated step starts from a state without a gradient, and the last one leaves
    # no choice to stay: only the steps between are alike.
    one, two = held[16, 3] - held[16, 2], held[16, 5] - held[16, 3]
    assert two == 2 * one
    assert one > 0.25 * held[16, 2]
    grown = {
        again: suite.peak(model, suite.direct(method, 8, 4, again), 2)
        - suite.peak(model, suite.direct(method, 8, 2, again), 2)
        for again in (False, True)
    }
    assert grown[True] < 0.1 * grown[False]
