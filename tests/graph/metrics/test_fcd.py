"""ChemNet and the Frechet distance against fcd_torch's own classes and closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.graph.metrics.fcd import ChemNet, Frechet, Statistics, chemnet, frechet_distance

# Short and long ones, rings, two-letter elements, charges, stereo, fragments, the length limit.
SMILES = [
    "C", "CCO", "C[SiH3]", "ClCCl", "BrC1CC1", "C[NH+](C)C", "C[C@H](N)C(=O)O", "C.C", "c1ccccc1",
    "CC(=O)Oc1ccccc1C(=O)O", "CN1C=NC2=C1C(=O)N(C(=O)N2C)C", "C" * 347, "C" * 400,
]  # fmt: skip


def test_features_equal_fcd_torch() -> None:
    pytest.importorskip("fcd_torch")
    import fcd_torch
    import torch
    from fcd_torch.utils import get_one_hot, load_imported_model

    weights = next(Path(fcd_torch.__file__).parent.glob("*.pt"))
    model = load_imported_model(torch.load(weights, weights_only=True)).eval()
    rows = np.stack([get_one_hot(s, 350) / 35 for s in SMILES])
    with torch.no_grad():
        want = model(torch.tensor(rows).transpose(1, 2).float()).numpy()
    found = chemnet()(SMILES, batch=5)
    np.testing.assert_allclose(found, want, atol=5e-5)
    # Neither the batch nor repetition matters.
    again = chemnet()([SMILES[9], SMILES[1], SMILES[9]])
    np.testing.assert_allclose(again, want[[9, 1, 9]], atol=5e-5)


def test_distance_equals_fcd_torch() -> None:
    utils = pytest.importorskip("fcd_torch.utils")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 12)), rng.normal(size=(90, 12)) @ rng.normal(size=(12, 12))
    want = utils.calculate_frechet_distance(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))
    assert frechet_distance(Statistics.of(x), Statistics.of(y)) == pytest.approx(want, rel=1e-6)
    assert Frechet(x, Statistics.of(y)).value == pytest.approx(want, rel=1e-5)


def test_closed_form_of_commuting_gaussians() -> None:
    a = Statistics(np.array([0.0, 1.0]), np.diag([4.0, 9.0]), 10)
    b = Statistics(np.array([3.0, 1.0]), np.diag([1.0, 16.0]), 10)
    assert frechet_distance(a, b) == pytest.approx(9 + 1 + 1)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-9)
    # Mutation: a covariance five percent off is seen.
    off = Statistics(a.mean, 1.05 * a.cov, 10)
    assert frechet_distance(off, a) > 1e-3


def test_resampling_by_counts_equals_resampling_rows() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 5)), Statistics.of(rng.normal(size=(80, 5)))
    x[7] = x[3]
    test = Frechet(x, y)
    pick = rng.integers(0, 60, 60)
    place = {tuple(r): i for i, r in enumerate(test.rows)}
    counts = np.bincount([place[tuple(x[i])] for i in pick], minlength=len(test.rows))
    want = frechet_distance(Statistics.of(x[pick]), y)
    assert test.statistic(counts[None])[0] == pytest.approx(want, rel=1e-4)


def test_messages() -> None:
    with pytest.raises(ArgumentError, match="at least 2 samples"):
        Statistics.of(np.zeros((1, 3)))
    with pytest.raises(DataError, match="expected two convolutions"):
        ChemNet([("Conv1d", ())])
    pytest.importorskip("fcd_torch")
    with pytest.raises(ArgumentError, match="empty SMILES"):
        chemnet()(["C", ""])
