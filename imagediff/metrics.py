r"""How good are conditional digits: instruments with their own floor.

* **Classifier accuracy**: the share of samples that a support vector machine, trained on the
  training split only, assigns to the class they were asked for. Its accuracy on the real test
  split is the floor: a perfect generator scores about that much, not 1.
* **Feature Fréchet distance** between Gaussians fitted to sample and test features,
  :math:`|m_1-m_2|^2 + \operatorname{tr}(C_1 + C_2 - 2 (C_1 C_2)^{1/2})`. The features are the nine
  linear discriminants of the training split, whitened so that the unit is the standard deviation
  within a class. It is not FID: that name belongs to Inception features and 50,000 images.
* **Nearest in train**: the share of samples that lie nearer to a random subset of the training
  split than to the test split, both of equal size. 1/2 says the model does not copy.

References:
    Wilson, *Probable inference*, 1927 (interval of a share). Dowson & Landau, *The Fréchet distance
    between multivariate normal distributions*, 1982. Meehan et al., *A non-parametric test to
    detect data-copying in generative models*, 2020.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from graphdiff.core.errors import ArgumentError, DataError
from imagediff.data.digits import CLASSES, Split, load_digits

__all__ = ["Metric", "evaluate", "frechet_distance", "load_samples", "wilson_interval"]


@dataclass(frozen=True)
class Metric:
    """One number and what is needed to judge it.

    Attributes:
        name: What was measured.
        value: The measurement.
        n: Number of samples.
        interval: 95 % Wilson interval of a share, else ``None``.
        floor: The same instrument on real images.
        note: Instrument, in words.
    """

    name: str
    value: float
    n: int
    interval: tuple[float, float] | None
    floor: float
    note: str

    def to_dict(self) -> dict[str, Any]:
        """Plain mapping for JSON."""
        return asdict(self)


def wilson_interval(hits: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson's interval of a share of ``hits`` in ``n`` trials, by default at 95 %.

    Raises:
        ArgumentError: ``n`` is not positive or ``hits`` is not between 0 and ``n``.
    """
    if not (n > 0 and 0 <= hits <= n):
        raise ArgumentError(f"wilson_interval: {hits} of {n} is no share; need 0 <= hits <= n, n>0")
    p = hits / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return centre - half, centre + half


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of Gaussians fitted to rows of ``a [n, d]`` and ``b [m, d]``.

    Raises:
        ArgumentError: A set has fewer than two rows, or the widths differ.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ArgumentError(
            f"frechet_distance: need [n, d] and [m, d] with n, m >= 2, found {list(a.shape)} and "
            f"{list(b.shape)}"
        )
    gap = a.mean(0) - b.mean(0)
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # tr (C1 C2)^(1/2) is the sum of roots of the eigenvalues of C1 C2, which are those of the
    # symmetric C1^(1/2) C2 C1^(1/2): real and non-negative up to rounding.
    eigenvalues, vectors = np.linalg.eigh(np.atleast_2d(first))
    root = (vectors * np.sqrt(np.clip(eigenvalues, 0, None))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ np.atleast_2d(second) @ root)
    trace = np.trace(np.atleast_2d(first)) + np.trace(np.atleast_2d(second))
    return float(gap @ gap + trace - 2 * np.sqrt(np.clip(cross, 0, None)).sum())


def _flat(ink: np.ndarray) -> np.ndarray:
    return ink.reshape(len(ink), -1).astype(np.float64) / 8 - 1


@lru_cache(maxsize=1)
def _instruments() -> tuple[Any, Any, Split, Split]:
    """Classifier and features fitted to the training split; then both splits."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.svm import SVC

    train, test = load_digits("train"), load_digits("test")
    x = _flat(train.ink)
    # Two pixels are constant in the data, so the plain covariance is singular: shrink it.
    features = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(x, train.labels)
    return SVC().fit(x, train.labels), features, train, test


def _nearest(x: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Squared distance of each row of ``x`` to its nearest row of ``to``."""
    square = (x * x).sum(1)[:, None] + (to * to).sum(1) - 2 * x @ to.T
    return square.min(1)


def _accuracy(ink: np.ndarray, labels: np.ndarray) -> Metric:
    classifier, _, _, test = _instruments()
    hits = int((classifier.predict(_flat(ink)) == labels).sum())
    floor = float(classifier.score(_flat(test.ink), test.labels))
    note = f"RBF support vector machine of the training split; floor: {len(test)} test digits"
    interval = wilson_interval(hits, len(ink))
    return Metric("classifier_accuracy", hits / len(ink), len(ink), interval, floor, note)


def _distance(ink: np.ndarray) -> Metric:
    _, features, train, test = _instruments()
    real = features.transform(_flat(test.ink))
    value = frechet_distance(features.transform(_flat(ink)), real)
    floor = frechet_distance(features.transform(_flat(train.ink)), real)
    note = f"9 linear discriminants against {len(test)} test digits; floor: training split; not FID"
    return Metric("feature_frechet_distance", value, len(ink), None, floor, note)


def _copying(ink: np.ndarray) -> Metric:
    _, _, train, test = _instruments()
    chosen = np.random.default_rng(0).permutation(len(train))
    x, real = _flat(ink), _flat(test.ink)
    size = len(test)
    seen, other = _flat(train.ink[chosen[:size]]), _flat(train.ink[chosen[size : 2 * size]])
    hits = int((_nearest(x, seen) < _nearest(x, real)).sum())
    rest = _flat(train.ink[chosen[2 * size :]])
    floor = float((_nearest(rest, other) < _nearest(rest, real)).mean())
    note = f"share nearer to {size} training than to {size} test digits; floor: training digits"
    return Metric(
        "nearest_in_train", hits / len(x), len(x), wilson_interval(hits, len(x)), floor, note
    )


def evaluate(ink: np.ndarray, labels: np.ndarray) -> list[Metric]:
    """Score generated digits.

    Args:
        ink: Ink counts 0 to 16 (any real dtype; compare like with like: the model's samples
            rounded as the data are), ``[n, 8, 8]``.
        labels: The classes that were asked for, int ``[n]``.

    Raises:
        ArgumentError: Wrong shapes, fewer than two samples, a value out of range or not finite.
    """
    ink, labels = np.asarray(ink), np.asarray(labels)
    if ink.ndim != 3 or ink.shape[1:] != (8, 8) or labels.shape != (len(ink),) or len(ink) < 2:
        raise ArgumentError(
            "evaluate: need at least two images [n, 8, 8] and labels [n], found "
            f"{list(ink.shape)} and {list(labels.shape)}"
        )
    if not (np.isfinite(ink).all() and ink.min() >= 0 and ink.max() <= 16):
        raise ArgumentError(
            f"evaluate: ink counts must be finite and in 0..16, found {ink.min()} to {ink.max()}; "
            "decode the samples first"
        )
    if not (labels.min() >= 0 and labels.max() < CLASSES):
        raise ArgumentError(f"evaluate: labels must be 0..9, found {labels.min()}..{labels.max()}")
    return [_accuracy(ink, labels), _distance(ink), _copying(ink)]


def load_samples(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Ink counts ``[n, 8, 8]`` and labels ``[n]`` of a ``samples.npz`` or of the folder with it.

    Raises:
        DataError: The file is missing, damaged or lacks an array.
    """
    file = path / "samples.npz" if path.is_dir() else path
    try:
        with np.load(file, allow_pickle=False) as archive:
            return archive["ink"], archive["label"]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise DataError(
            f"cannot read the images {file}: {error}; expected the samples.npz, with the arrays "
            "ink and label, that `imagediff sample` writes"
        ) from error
