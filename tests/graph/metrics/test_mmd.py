"""The MMD as an instrument: its definition, its null distribution, its resampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.metrics.mmd import (
    PRESETS,
    Kernel,
    KernelMMD,
    LinearMMD,
    mmd2,
    permutation_test,
)

KERNELS = [
    Kernel("gaussian_emd", 0.3, 4.0),
    Kernel("gaussian_tv", 0.3),
    Kernel("rbf", 0.4),
    Kernel("linear"),
]


def histograms(seed: int, n: int, k: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(k), n)


def plain(x: np.ndarray, y: np.ndarray, kernel: Kernel, estimator: str) -> float:
    """The definition, in loops."""
    from scipy.stats import wasserstein_distance

    def k(p: np.ndarray, q: np.ndarray) -> float:
        grid = np.arange(len(p))
        if kernel.name == "linear":
            return float(p @ q)
        d = {
            "gaussian_emd": lambda: wasserstein_distance(grid, grid, p, q) / kernel.scale,
            "gaussian_tv": lambda: 0.5 * np.abs(p - q).sum(),
            "rbf": lambda: np.sqrt(np.square(p - q).sum()),
        }[kernel.name]()
        return float(np.exp(-(d**2) / (2 * kernel.sigma**2)))

    def mean(a: np.ndarray, b: np.ndarray, skip: bool) -> float:
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (skip and i == j)]
        return sum(k(a[i], b[j]) for i, j in pairs) / len(pairs)

    skip = estimator == "unbiased"
    return mean(x, x, skip) + mean(y, y, skip) - 2 * mean(x, y, False)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_equals_its_definition(kernel: Kernel, estimator: str) -> None:
    x, y = histograms(0, 7), histograms(1, 9)
    x[3] = x[0]  # repeated rows are merged inside
    want = plain(x, y, kernel, estimator)
    assert mmd2(x, y, kernel, estimator) == pytest.approx(want, abs=1e-12)
    if kernel.name == "linear":
        from scipy.sparse import csr_matrix

        assert LinearMMD(x, y, estimator).value == pytest.approx(want, abs=1e-12)
        assert LinearMMD(csr_matrix(x), csr_matrix(y), estimator).value == pytest.approx(want)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_a_sample_against_itself_is_zero(kernel: Kernel) -> None:
    x = histograms(0, 30)
    assert mmd2(x, x[::-1], kernel) == pytest.approx(0.0, abs=1e-14)


def test_a_wrong_bandwidth_is_noticed() -> None:
    x, y = histograms(0, 7), histograms(1, 9)
    right = plain(x, y, Kernel("gaussian_emd", 0.3, 4.0), "biased")
    assert abs(mmd2(x, y, Kernel("gaussian_emd", 0.315, 4.0)) - right) > 1e-4


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.integers(2, 30), st.floats(0.05, 3.0))
def test_claimed_positive_definite_kernels_are(seed: int, n: int, sigma: float) -> None:
    for kernel in (Kernel("rbf", sigma), Kernel("linear")):
        assert kernel.psd
        x = histograms(seed, n)
        assert np.linalg.eigvalsh(kernel(x, x)).min() > -1e-9


def test_the_published_kernels_are_not_positive_definite() -> None:
    # On the corners of a simplex all distances agree, so mix corners and edge middles.
    corners = np.eye(12)
    mids = np.asarray([(a + b) / 2 for i, a in enumerate(corners) for b in corners[:i]])
    x = np.concatenate([corners, mids])
    assert not Kernel("gaussian_tv").psd
    assert min(
        np.linalg.eigvalsh(Kernel("gaussian_tv", s)(x, x)).min() for s in (0.3, 1.0, 3.0)
    ) < -1e-6  # fmt: skip


def _null(estimator: str, kernel: Kernel, n: int = 12, repeats: int = 400) -> np.ndarray:
    pairs = ((histograms(2 * i, n), histograms(2 * i + 1, n)) for i in range(repeats))
    return np.asarray([mmd2(x, y, kernel, estimator) for x, y in pairs])


def test_unbiased_estimator_averages_to_zero_and_the_biased_one_does_not() -> None:
    values = _null("unbiased", Kernel("rbf", 0.4))
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean()) < 4 * error
    biased = _null("biased", Kernel("rbf", 0.4))
    assert biased.mean() > 20 * error


def test_p_values_are_uniform_under_the_null() -> None:
    from scipy.stats import kstest

    kernel = Kernel("gaussian_emd", 0.3, 4.0)
    values, levels = [], []
    for i in range(200):
        x, y = histograms(1000 + 2 * i, 15), histograms(1001 + 2 * i, 10)
        values.append(permutation_test(x, y, kernel, permutations=99, seed=i)[1])
        # Mutation: y is not from the same distribution.
        y = np.random.default_rng(i).dirichlet([1, 1, 1, 1, 1, 3], 10)
        levels.append(permutation_test(x, y, kernel, permutations=99, seed=i)[1])
    jitter = np.random.default_rng(0).random(200) / 100  # the grid is 1/100 wide
    assert kstest(np.asarray(values) - jitter, "uniform").pvalue > 1e-3
    assert kstest(np.asarray(levels) - jitter, "uniform").pvalue < 1e-6


def test_permutation_statistic_is_the_mmd() -> None:
    x, y = histograms(0, 12), histograms(1, 9)
    for estimator in ("biased", "unbiased"):
        value, p = permutation_test(x, y, KERNELS[2], permutations=19, estimator=estimator)
        assert value == pytest.approx(mmd2(x, y, KERNELS[2], estimator))
        assert 0 < p <= 1


def test_the_estimator_can_be_changed() -> None:
    x, y = histograms(0, 10), histograms(1, 8)
    test = KernelMMD(x, y, KERNELS[2])
    for estimator in ("unbiased", "biased"):
        other = test.with_estimator(estimator)
        assert other.value == pytest.approx(mmd2(x, y, KERNELS[2], estimator), abs=1e-14)
        assert test.estimator == "biased"
    with pytest.raises(ArgumentError, match="at least 2 samples"):
        KernelMMD(x[:1], y, KERNELS[2]).with_estimator("unbiased")


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_resampling_by_counts_equals_resampling_rows(estimator: str) -> None:
    x, y = histograms(0, 10), histograms(1, 8)
    x[4] = x[5] = x[0]
    rows, where, counts = np.unique(x, axis=0, return_inverse=True, return_counts=True)
    test = KernelMMD(x, y, KERNELS[0], estimator)
    np.testing.assert_allclose(test.weights, counts / 10)
    pick = np.random.default_rng(0).integers(0, 10, 13)
    drawn = np.bincount(where.ravel()[pick], minlength=len(rows))
    want = plain(x[pick], y, KERNELS[0], estimator)
    assert test.statistic(drawn[None])[0] == pytest.approx(want, abs=1e-12)
    linear = LinearMMD(x, y, estimator)
    want = plain(x[pick], y, Kernel("linear"), estimator)
    assert linear.statistic(np.bincount(pick, minlength=10)[None])[0] == pytest.approx(want)


def test_bootstrap_spread_is_the_spread_over_samples() -> None:
    kernel, y = Kernel("rbf", 0.4), np.random.default_rng(9).dirichlet([4, 1, 1, 1, 1, 1], 60)
    fresh = [mmd2(histograms(i, 40), y, kernel) for i in range(150)]
    rng = np.random.default_rng(0)
    boot = [KernelMMD(histograms(i, 40), y, kernel).bootstrap(100, rng).std() for i in range(10)]
    assert np.mean(boot) == pytest.approx(np.std(fresh), rel=0.25)


def test_presets_and_messages() -> None:
    emd = PRESETS["gaussian_emd"]
    assert (emd["clustering"].sigma, emd["clustering"].scale) == (0.1, 100.0)
    assert (emd["orbit"].name, emd["orbit"].sigma) == ("rbf", 30.0)
    fitted = PRESETS["rbf"]["degree"].fit(histograms(0, 20))
    assert fitted.sigma == pytest.approx(
        np.median(fitted.distance(histograms(0, 20), histograms(0, 20))[np.triu_indices(20, 1)])
    )
    with pytest.raises(ArgumentError, match="unknown kernel 'cosine'"):
        Kernel("cosine")
    with pytest.raises(ArgumentError, match="no bandwidth"):
        Kernel("rbf", None)(np.eye(2), np.eye(2))
    with pytest.raises(ArgumentError, match="at least 2 samples"):
        mmd2(np.eye(2)[:1], np.eye(2), Kernel("rbf"), "unbiased")
