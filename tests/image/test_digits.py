"""The data: split, checksum, scaling, labels, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphdiff.core.errors import ArgumentError, DataError
from imagediff.data import digits
from imagediff.data.digits import Digits, load_digits, split_index


def test_the_splits_partition_the_data():
    train, test = split_index("train"), split_index("test")
    assert (len(train), len(test)) == (1449, 348)
    assert np.array_equal(np.sort(np.concatenate((train, test))), np.arange(1797))


def test_a_longer_data_set_keeps_the_split_of_each_image():
    assert np.array_equal(split_index("test", 3000)[:348], split_index("test"))


def test_every_class_is_in_both_splits():
    for split in ("train", "test"):
        counts = np.bincount(load_digits(split).labels, minlength=10)
        assert counts.min() > 0.07 * counts.sum()


def test_images_and_labels_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits as original

    bunch, test = original(), load_digits("test")
    assert np.array_equal(test.ink, bunch.images[test.index])
    assert np.array_equal(test.labels, bunch.target[test.index])


def test_batches_hold_scaled_pixels_labels_and_ids():
    data = Digits("train")
    index = torch.tensor([7, 0, 1448])
    state = data.batch(index)
    ink = (state["pixels"][:, 0] + 1) * 8
    assert state["pixels"].shape == (3, 1, 8, 8)
    assert state["pixels"].dtype == torch.float32
    assert torch.equal(state.ids, index)
    assert np.array_equal(ink.numpy(), data.split.ink[index.numpy()])
    assert np.array_equal(state["label"].numpy(), data.split.labels[index.numpy()])


def test_the_fingerprint_tells_the_splits_apart_and_is_stable():
    train, test = load_digits("train").fingerprint(), load_digits("test").fingerprint()
    assert train["sha256"] != test["sha256"]
    assert train == Digits("train").fingerprint()
    assert (train["name"], train["split"], train["n"]) == ("digits", "train", 1449)


def test_other_images_are_refused(monkeypatch):
    digits._everything.cache_clear()
    monkeypatch.setattr(digits, "SHA256", "0" * 64)
    try:
        with pytest.raises(DataError, match="expected 0000"):
            load_digits("train")
    finally:
        digits._everything.cache_clear()


def test_an_unknown_split_is_refused():
    with pytest.raises(ArgumentError, match="'validation'"):
        load_digits("validation")  # type: ignore[arg-type]


@pytest.mark.parametrize("index", [[-1], [0, 1449]])
def test_positions_outside_the_split_are_refused(index):
    with pytest.raises(ArgumentError, match="use 0 to 1448"):
        Digits("train").batch(torch.tensor(index))
