r"""Edit distances (Levenshtein 1966): within a set, and to the nearest of another set.

The diversity of :math:`n` sequences is the mean over pairs of *different* samples,
:math:`\frac{2}{n (n-1)} \sum_{i < j} d(x_i, x_j)`; repeated sequences count as 0, so it falls when
a sampler repeats itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.sequence.sequences import Sequences

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["diversity", "edit_distances", "nearest"]

_CHUNK = 20_000_000  # distances held at once


def _rapidfuzz() -> tuple[ModuleType, Any]:
    try:
        from rapidfuzz import process
        from rapidfuzz.distance import Levenshtein
    except ImportError as error:
        raise ArgumentError(
            'edit distances need rapidfuzz: pip install "graphdiffusion[bio]"'
        ) from error
    return process, Levenshtein.distance


def edit_distances(a: Sequences, b: Sequences) -> NDArray[np.int32]:
    """Levenshtein distance of every pair, ``int32 [n_a, n_b]``.

    Raises:
        ArgumentError: If rapidfuzz is not installed.
    """
    import torch  # its number of threads is what --threads sets

    process, distance = _rapidfuzz()
    found: NDArray[np.int32] = process.cdist(
        a.strings(), b.strings(), scorer=distance, dtype=np.int32, workers=torch.get_num_threads()
    )
    return found


def nearest(
    sequences: Sequences, reference: Sequences
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The nearest sequence of a reference set.

    Returns:
        The smallest distance and the position of the (first) sequence that has it, both
        ``int64 [n]``.

    Raises:
        ArgumentError: If the reference is empty or rapidfuzz is not installed.
    """
    if not len(reference):
        raise ArgumentError("the reference set is empty: nothing is nearest")
    distance = np.zeros(len(sequences), np.int64)
    where = np.zeros(len(sequences), np.int64)
    step = max(_CHUNK // len(reference), 1)
    for i in range(0, len(sequences), step):
        found = edit_distances(sequences[i : i + step], reference)
        where[i : i + step] = found.argmin(1)
        distance[i : i + step] = found.min(1)
    return distance, where


def diversity(sequences: Sequences) -> float:
    """Mean edit distance of pairs of different samples, in letters; needs two.

    The cost grows with the square of the number; take a random subset of some hundred.

    Raises:
        ArgumentError: If there are fewer than two, or rapidfuzz is not installed.
    """
    n = len(sequences)
    if n < 2:
        raise ArgumentError(f"diversity needs at least two sequences, found {n}")
    return float(edit_distances(sequences, sequences).sum() / (n * (n - 1)))
