"""Intervals and paired tests: against scipy, and calibrated under the null."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.evaluate import holm, paired, summary


def test_summary_is_scipys_interval():
    values = np.random.default_rng(0).normal(3, 2, 11)
    found = summary(values)
    low, high = stats.t.interval(0.95, 10, values.mean(), stats.sem(values))
    assert (found.mean, found.std, found.n) == pytest.approx(
        (values.mean(), values.std(ddof=1), 11)
    )
    assert (found.low, found.high) == pytest.approx((low, high))


def test_summary_of_one_knows_no_interval():
    found = summary([0.5])
    assert found.mean == 0.5
    assert math.isnan(found.low)
    assert math.isnan(found.std)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_summary_refuses(values):
    with pytest.raises(ArgumentError, match="finite"):
        summary(values)


def test_paired_is_scipys_test():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.2, 1, 9), rng.normal(0, 1, 9)
    found, theirs = paired(a, b), stats.ttest_rel(a, b)
    assert found.p == pytest.approx(theirs.pvalue)
    interval = theirs.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert paired(b, a).difference == pytest.approx(-found.difference)


def test_the_correction_widens_by_the_formula():
    a, b = np.random.default_rng(2).normal(size=(2, 10))
    plain, wide = paired(a, b), paired(a, b, overlap=20 / 48)
    ratio = (wide.high - wide.low) / (plain.high - plain.low)
    assert ratio == pytest.approx(math.sqrt(1 + 10 * 20 / 48))
    assert wide.p > plain.p


def test_p_values_are_uniform_under_the_null():
    rng = np.random.default_rng(3)
    p = [paired(*rng.normal(size=(2, 10))).p for _ in range(400)]
    assert stats.kstest(p, "uniform").pvalue > 0.001
    covered = np.mean([x > 0.05 for x in p])
    assert abs(covered - 0.95) < 0.04


def test_overlapping_splits_need_the_correction():
    """Two learners of equal quality, ten random splits of one sample: both tests, many samples.

    Each predicts the mean of the training half of its own noisy column; their true errors are
    equal. Without the correction far more than 5 % are significant; with it, not.
    """
    rng = np.random.default_rng(4)
    plain, corrected = [], []
    for _ in range(300):
        columns = rng.normal(size=(2, 50))
        scores = np.empty((2, 10))
        for k in range(10):
            order = rng.permutation(50)
            train, test = order[:40], order[40:]
            mean = columns[:, train].mean(1, keepdims=True)
            scores[:, k] = -((columns[:, test] - mean) ** 2).mean(1)
        plain.append(paired(*scores).p < 0.05)
        corrected.append(paired(*scores, overlap=10 / 40).p < 0.05)
    assert np.mean(plain) > 0.15
    assert np.mean(corrected) < 0.1


def test_equal_differences_are_no_evidence():
    """Two splits that differ alike say nothing of a third; only equal scores are no difference."""
    found = paired([0.5, 0.6, 0.7], [0.4, 0.5, 0.6], overlap=0.4)
    assert found.difference == pytest.approx(0.1)
    assert all(math.isnan(x) for x in (found.low, found.high, found.p))
    assert "nan" not in str(found)
    same = paired([0.5, 0.6], [0.5, 0.6])
    assert (same.difference, same.p) == (0.0, 1.0)
    assert math.isnan(same.low)


@pytest.mark.parametrize(
    ("a", "b", "overlap"), [([1], [2], 0), ([1, 2], [1, 2, 3], 0), ([1, 2], [2, 3], -0.1)]
)
def test_paired_refuses(a, b, overlap):
    with pytest.raises(ArgumentError):
        paired(a, b, overlap)


def test_holm_by_hand():
    # sorted .01 .02 .03 .04 times 4 3 2 1 is .04 .06 .06 .04, made monotone .04 .06 .06 .06
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(ArgumentError, match="between 0 and 1"):
        holm([1.2])


def test_holm_does_not_count_tests_that_were_not_made():
    first, none, last = holm([0.04, math.nan, 0.01])
    assert (first, last) == pytest.approx((0.04, 0.02))
    assert math.isnan(none)


def test_holm_keeps_the_error_rate_of_the_family():
    p = np.random.default_rng(5).random((2000, 5))
    share = np.mean([min(holm(row)) < 0.05 for row in p])
    assert abs(share - (1 - 0.99**5)) < 0.015
