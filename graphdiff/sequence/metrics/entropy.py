r"""Entropies of a set of sequences, in bits.

Per position: :math:`H_j = -\sum_v p_{jv} \log_2 p_{jv}` with :math:`p_{jv}` the share of letter
:math:`v` among the sequences that reach position :math:`j`. Of the set: the entropy of the
empirical distribution over whole sequences, :math:`\log_2 n` if all differ; it falls when a sampler
repeats itself. Both are plug-in estimates, which lie too low for few samples (Miller 1955: by about
:math:`(V - 1) / (2 n \ln 2)` for :math:`V` letters).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.sequence.families import identical
from graphdiff.sequence.sequences import Sequences

__all__ = ["letter_frequencies", "position_entropy", "set_entropy"]

Float = NDArray[np.float64]


def letter_frequencies(sequences: Sequences) -> Float:
    """Share of each letter at each position, ``float64 [L, V]``, over those that reach it.

    Raises:
        ArgumentError: If the set is empty.
    """
    if not len(sequences):
        raise ArgumentError("there are no sequences: their frequencies are not defined")
    size = len(sequences.alphabet)
    at = np.arange(len(sequences.tokens)) - np.repeat(sequences.ptr[:-1], sequences.lengths)
    counts = np.bincount(at * size + sequences.tokens, minlength=sequences.max_length * size)
    table = counts.reshape(-1, size).astype(np.float64)
    return table / table.sum(1, keepdims=True)


def bits(p: Float) -> Float:
    """Entropy in bits over the last axis; 0 log 0 = 0."""
    out: Float = -np.where(p > 0, p * np.log2(np.where(p > 0, p, 1.0)), 0.0).sum(-1)
    return out


def position_entropy(sequences: Sequences) -> Float:
    """Entropy of each position in bits, ``float64 [L]``."""
    return bits(letter_frequencies(sequences))


def set_entropy(sequences: Sequences) -> float:
    """Entropy of the empirical distribution over whole sequences, in bits."""
    if not len(sequences):
        raise ArgumentError("there are no sequences: their entropy is not defined")
    return float(bits(np.bincount(identical(sequences)) / len(sequences)))
