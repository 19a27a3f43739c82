"""Training sequences of :class:`graphdiff.sequence.mdlm.MdlmTask`, and what they say about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.core.errors import DataError
from graphdiff.core.state import State
from graphdiff.sequence.mdlm_config import SequenceData
from graphdiff.sequence.sequences import Sequences
from graphdiff.task import Data

__all__ = ["TrainingSequences", "as_state"]


def as_state(sequences: Sequences, ids: Tensor | None = None, **values: Tensor) -> State:
    """Clean sequences as a state: ``tokens`` int64 ``[b, L]`` with their mask.

    Args:
        sequences: The sequences.
        ids: Sample ids int64 ``[b]``; numbered from 0 by default.
        **values: Conditions of the network, ``[b, ...]``.
    """
    tokens, mask = sequences.dense()
    index = torch.arange(len(sequences)) if ids is None else ids
    return State(
        {"tokens": torch.from_numpy(tokens), **values}, {"tokens": torch.from_numpy(mask)}, index
    )


class TrainingSequences(Data):
    """Sequences to train on, packed; a batch is padded to its longest.

    Attributes:
        sequences: The sequences.
        facts: The data of the config with all that the sequences say about it: alphabet, lengths,
            letter frequencies, thresholds of the label.
    """

    def __init__(
        self,
        sequences: Sequences,
        config: SequenceData,
        fingerprint: Mapping[str, Any] | None = None,
        label: NDArray[np.float64] | None = None,
    ) -> None:
        """Check ``sequences`` and count what is in them.

        Args:
            sequences: The sequences.
            config: What it leaves open is read from the sequences.
            fingerprint: What identifies them.
            label: The measurement of each that the network is told, NaN where there is none.

        Raises:
            DataError: There is nothing to train on, a sequence is too long, the alphabet is
                another, or the label cannot be cut into classes.
        """
        self._fingerprint = dict(fingerprint or {})
        if config.longer == "skip":
            fits = sequences.lengths <= config.length
            left_out = int((~fits).sum())
            if left_out:
                self._fingerprint["left_out"] = left_out
                sequences, label = sequences[fits], None if label is None else label[fits]
        if not len(sequences):
            raise DataError(
                f"data set {config.name!r} has no sequences to train on; check data.split "
                f"({config.split!r}) and data.length ({config.length})"
            )
        if config.length and sequences.max_length > config.length:
            long = int((sequences.lengths > config.length).sum())
            raise DataError(
                f"{long} of {len(sequences)} sequences of {config.name!r} are longer than "
                f"data.length ({config.length}), the longest has {sequences.max_length} letters; "
                "raise it, or leave them out with data.longer = 'skip'"
            )
        name = sequences.alphabet.name
        if config.alphabet and config.alphabet != name:
            raise DataError(
                f"data set {config.name!r} holds {name} sequences, but data.alphabet is "
                f"{config.alphabet!r}; correct one of them"
            )
        self.sequences = sequences
        thresholds, self._labels = _classes(config, label)
        length = config.length or sequences.max_length
        # A letter that never occurs counts once, so that it stays possible.
        counts = np.bincount(sequences.tokens, minlength=len(sequences.alphabet))
        counts = np.maximum(counts.astype(np.float64), 1.0)
        self.facts = replace(
            config,
            alphabet=name,  # type: ignore[arg-type]
            length=length,
            thresholds=thresholds,
            lengths=tuple(np.bincount(sequences.lengths, minlength=length + 1).tolist()),
            letter_probs=tuple((counts / counts.sum()).tolist()),
        )

    @classmethod
    def load(cls, config: SequenceData, root: str | Path | None = None) -> TrainingSequences:
        """The split of the config.

        Raises:
            ArgumentError: The data set, its split or its measurement is unknown.
            DataError: It cannot be read.
        """
        from graphdiff.data.registry import load_sequences, sequence_names

        own: dict[str, Any] = {}
        if config.name not in sequence_names():
            own = {"ambiguous": config.ambiguous, "alphabet": config.alphabet or None}
        dataset = load_sequences(config.name, root, **own)
        label = dataset.split_values(config.split, config.label) if config.label else None
        return cls(dataset.split(config.split), config, dataset.fingerprint(config.split), label)

    def __len__(self) -> int:
        return len(self.sequences)

    def batch(self, index: Tensor) -> State:
        """Tokens int64 ``[b, L]`` with their mask, and ``label`` and ``told`` where asked for."""
        rows, told = index.numpy(), {}
        if self._labels is not None:
            label = torch.from_numpy(self._labels[rows])
            told = {"label": label.clamp(min=0), "told": label >= 0}
        return as_state(self.sequences[rows], index, **told)

    def fingerprint(self) -> dict[str, Any]:
        """Name, split, n and sha256 of the training split."""
        return self._fingerprint


def _classes(
    config: SequenceData, label: NDArray[np.float64] | None
) -> tuple[tuple[float, ...], NDArray[np.int64] | None]:
    """Thresholds, and the class of each sequence (-1 where it was not measured).

    Raises:
        DataError: Too few values, or they cannot be cut into classes of equal size.
    """
    if label is None:
        return config.thresholds, None
    known = label[np.isfinite(label)]
    thresholds = config.thresholds
    if not thresholds:
        if len(known) < config.bins:
            raise DataError(
                f"{len(known)} sequences of {config.name!r} have a value of {config.label!r}, too "
                f"few for data.bins = {config.bins}"
            )
        levels = np.arange(1, config.bins) / config.bins
        thresholds = tuple(np.quantile(known, levels).tolist())
        if len(set(thresholds)) < len(thresholds):
            raise DataError(
                f"values of {config.label!r} repeat, so that {config.bins} classes of equal size "
                "do not exist; give data.thresholds"
            )
    found = np.searchsorted(np.asarray(thresholds), label, side="right").astype(np.int64)
    return thresholds, np.where(np.isfinite(label), found, -1)
