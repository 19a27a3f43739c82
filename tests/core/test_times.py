"""Distortions of the clock: their published form, and grids bent by them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphdiff.core.categorical import Uniform
from graphdiff.core.errors import ArgumentError
from graphdiff.core.process import Product
from graphdiff.core.schedule import FlowMatching
from graphdiff.core.times import Distortion, Times, distort_time

KINDS = get_args(Distortion)
PROCESS = Product({"x": Uniform(FlowMatching(), 2)})

# As published, on the clock tau = 1 - t that runs towards the data.
PUBLISHED = {
    "identity": lambda u: u,
    "polydec": lambda u: 2 * u - u**2,
    "polyinc": lambda u: u**2,
    "cos": lambda u: (1 - math.cos(math.pi * u)) / 2,
    "revcos": lambda u: 2 * u - (1 - math.cos(math.pi * u)) / 2,
}


@pytest.mark.parametrize("kind", KINDS)
@given(t=st.floats(0, 1))
def test_published_form(kind, t):
    found = distort_time(t, kind)
    assert isinstance(found, float)
    assert math.isclose(found, 1 - PUBLISHED[kind](1 - t), abs_tol=1e-15, rel_tol=1e-12)
    tensor = distort_time(torch.tensor([[t]], dtype=torch.float64), kind)
    assert tensor.shape == (1, 1)
    assert math.isclose(tensor.item(), found, rel_tol=1e-12, abs_tol=1e-300)


@pytest.mark.parametrize("kind", KINDS)
def test_increasing_map_of_the_clock(kind):
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    bent = distort_time(t, kind)
    assert (bent.diff() > 0).all()
    assert bent[0] == 0
    assert abs(bent[-1] - 1) < 1e-15
    assert distort_time(t.float(), kind).dtype == torch.float32
    assert distort_time(torch.ones(3), kind).max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_grids(kind):
    steps = Times(10, start=0.9, end=0.1, distortion=kind).grid(PROCESS)
    assert (len(steps), steps[0], steps[-1]) == (11, 0.9, 0.1)
    for i, t in enumerate(steps):
        assert math.isclose(t, 0.1 + 0.8 * distort_time(1 - i / 10, kind), rel_tol=1e-12)
    closed = Times(10, end=0.1, to_zero=True, distortion=kind).grid(PROCESS)
    assert (len(closed), closed[-2], closed[-1]) == (11, 0.1, 0.0)


def test_where_the_steps_go():
    def sizes(kind: Distortion) -> list[float]:
        return [t - s for t, s in pairwise(Times(20, end=0.0, distortion=kind).grid(PROCESS))]

    first, middle, last = 0, 10, -1
    assert sizes("polydec")[last] < 0.1 * sizes("polydec")[first]
    assert sizes("polyinc")[first] < 0.1 * sizes("polyinc")[last]
    assert max(sizes("cos")[first], sizes("cos")[last]) < 0.1 * sizes("cos")[middle]
    assert sizes("revcos")[middle] < 0.5 * min(sizes("revcos")[first], sizes("revcos")[last])


def test_plain_grids_stay_bit_equal():
    line = torch.linspace(1.0, 1e-3, 8, dtype=torch.float64).tolist()
    assert Times(7).grid(PROCESS)[1:-1] == tuple(line[1:-1])


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: distort_time(0.5, "sine"), "polydec"),
        (lambda: Times(5, distortion="sine"), "polydec"),
        (lambda: Times(5, "log_snr", distortion="cos"), "uniform"),
    ],
)
def test_errors(call, word):
    with pytest.raises(ArgumentError, match=word):
        call()
