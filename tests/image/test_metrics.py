"""The metrics as instruments: known answers, calibration, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from graphdiff.core.errors import ArgumentError, DataError
from imagediff.data.digits import load_digits
from imagediff.metrics import evaluate, frechet_distance, load_samples, wilson_interval


def by_name(ink, labels):
    return {metric.name: metric for metric in evaluate(ink, labels)}


def test_wilson_interval_solves_its_equation():
    # The ends are the shares p at which the observed share is exactly z standard errors away.
    z = 1.959963984540054
    for hits, n in [(0, 20), (7, 20), (490, 500), (500, 500)]:
        for p in wilson_interval(hits, n):
            assert abs(hits / n - p) == pytest.approx(
                z * np.sqrt(max(p * (1 - p), 0) / n), abs=1e-9
            )


@pytest.mark.parametrize(("hits", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_interval_refuses_what_is_no_share(hits, n):
    with pytest.raises(ArgumentError, match="is no share"):
        wilson_interval(hits, n)


def test_frechet_distance_of_gaussians_is_the_closed_form():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 4))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    scale, shift = np.array([1.0, 2.0, 0.5, 3.0]), np.array([1.0, 0.0, -2.0, 0.0])
    # Commuting covariances 1 and scale^2: sum of (1 - scale)^2, plus the squared shift.
    assert frechet_distance(x, x * scale + shift) == pytest.approx(((1 - scale) ** 2).sum() + 5.0)
    assert frechet_distance(x, x) == pytest.approx(0.0, abs=1e-10)


def test_frechet_distance_agrees_with_the_matrix_square_root():
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(1)
    a = rng.standard_normal((60, 5)) @ rng.standard_normal((5, 5))
    b = rng.standard_normal((80, 5)) @ rng.standard_normal((5, 5)) + 1
    c1, c2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    gap = a.mean(0) - b.mean(0)
    expected = gap @ gap + np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_real_digits_score_as_the_floor_says():
    test = load_digits("test")
    found = by_name(test.ink, test.labels)
    accuracy = found["classifier_accuracy"]
    assert accuracy.value == accuracy.floor > 0.97
    assert accuracy.interval is not None
    assert accuracy.interval[0] < accuracy.value < accuracy.interval[1]
    assert found["feature_frechet_distance"].value == pytest.approx(0.0, abs=1e-9)


def test_wrong_labels_score_zero_and_shuffled_ones_a_tenth():
    test = load_digits("test")
    assert by_name(test.ink, (test.labels + 1) % 10)["classifier_accuracy"].value < 0.03
    shuffled = np.random.default_rng(0).permutation(test.labels)
    assert by_name(test.ink, shuffled)["classifier_accuracy"].value == pytest.approx(0.1, abs=0.06)


def test_copies_of_the_training_split_are_seen():
    train = load_digits("train")
    copied = by_name(train.ink, train.labels)["nearest_in_train"]
    assert copied.interval is not None
    assert copied.floor == pytest.approx(0.5, abs=0.05)  # unseen digits: neither side is favoured
    assert copied.interval[0] > copied.floor + 0.04


def test_noise_is_far_from_digits():
    rng = np.random.default_rng(0)
    found = by_name(rng.integers(0, 17, (200, 8, 8)), np.arange(200) % 10)
    distance = found["feature_frechet_distance"]
    assert distance.value > 20 * distance.floor
    assert found["classifier_accuracy"].value < 0.3


@pytest.mark.parametrize(
    ("ink", "labels", "match"),
    [
        (np.zeros((3, 7, 8)), np.zeros(3, int), "need at least two images"),
        (np.zeros((3, 8, 8)), np.zeros(2, int), "need at least two images"),
        (np.zeros((1, 8, 8)), np.zeros(1, int), "need at least two images"),
        (np.full((3, 8, 8), np.nan), np.zeros(3, int), "finite and in 0..16"),
        (np.full((3, 8, 8), 255), np.zeros(3, int), "decode the samples first"),
        (np.zeros((3, 8, 8)), np.full(3, 10), "labels must be 0..9"),
    ],
)
def test_bad_input_is_refused(ink, labels, match):
    with pytest.raises(ArgumentError, match=match):
        evaluate(ink, labels)


def test_a_missing_damaged_or_foreign_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"samples\.npz"):
        load_samples(tmp_path)
    (tmp_path / "samples.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DataError, match=r"samples\.npz"):
        load_samples(tmp_path)
    np.savez(tmp_path / "samples.npz", other=np.zeros(3))
    with pytest.raises(DataError, match="arrays ink and label"):
        load_samples(tmp_path)
