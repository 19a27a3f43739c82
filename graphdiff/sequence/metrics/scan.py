r"""Scanning sequences for many motifs at once.

The scores of all sites are one convolution of one-hot letters with the score matrices,

.. math:: S_{m,i} = \sum_{j < w_m} s^{(m)}_{j, x_{i + j}},

and on the other strand with the matrices reversed along both axes (reverse complement of a motif
over A, C, G, T). Scores are whole numbers of units, which float32 holds exactly, so thresholds of
:meth:`~graphdiff.sequence.metrics.motifs.ScoreMatrix.threshold` apply without rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from graphdiff.core.errors import ArgumentError
from graphdiff.sequence.metrics.motifs import UNIFORM, Motif, ScoreMatrix, score_matrix
from graphdiff.sequence.sequences import Sequences

__all__ = ["Scanner", "motif_correlation", "spearman"]

Float = NDArray[np.float64]

_CELLS = 8_000_000  # scores held at once


@dataclass(frozen=True, eq=False)
class Scanner:
    """Score matrices and thresholds of several motifs.

    Attributes:
        matrices: One per motif.
        thresholds: Smallest score that is a hit, in units, ``int64 [m]``.
        strands: ``both`` or ``forward``.
    """

    matrices: tuple[ScoreMatrix, ...]
    thresholds: NDArray[np.int64]
    strands: Literal["both", "forward"] = "both"

    @classmethod
    def of(
        cls,
        motifs: Sequence[Motif],
        *,
        p_value: float = 1e-4,
        background: Sequence[float] = UNIFORM,
        pseudocount: float | None = None,
        step: float = 0.01,
        strands: Literal["both", "forward"] = "both",
    ) -> Scanner:
        """A scanner whose hits have at most this p-value at one place of one strand.

        Args:
            motifs: The motifs.
            p_value: Largest p-value of a hit.
            background: Share of A, C, G, T.
            pseudocount: See :func:`~graphdiff.sequence.metrics.motifs.score_matrix`.
            step: Bits that scores are rounded to.
            strands: ``both`` or ``forward``.

        Raises:
            ArgumentError: If there is no motif or an option is out of range.
        """
        if not motifs:
            raise ArgumentError("no motif was given: read some with read_motifs")
        if strands not in ("both", "forward"):
            raise ArgumentError(f"strands must be 'both' or 'forward', found {strands!r}")
        options = {"background": background, "pseudocount": pseudocount, "step": step}
        matrices = tuple(score_matrix(m, **options) for m in motifs)  # type: ignore[arg-type]
        cut = np.asarray([m.threshold(p_value) for m in matrices], np.int64)
        return cls(matrices, cut, strands)

    def __len__(self) -> int:
        return len(self.matrices)

    @property
    def widths(self) -> NDArray[np.int64]:
        """Width of each motif, ``int64 [m]``."""
        return np.asarray([len(m.motif) for m in self.matrices], np.int64)

    def _weight(self, reverse: bool) -> Tensor:
        """Kernels ``[m, 4, W]``, left-aligned, zero behind each motif."""
        out = np.zeros((len(self), 4, int(self.widths.max())), np.float32)
        for k, matrix in enumerate(self.matrices):
            rows = matrix.scores[::-1, ::-1] if reverse else matrix.scores
            out[k, :, : len(rows)] = rows.T
        return torch.from_numpy(out)

    def scores(
        self, sequences: Sequences, index: slice | None = None
    ) -> tuple[Float, NDArray[np.bool_]]:
        """Scores of all sites in bits.

        Args:
            sequences: DNA or RNA.
            index: Which of them; None = all. The result is large: take some hundred at a time.

        Returns:
            Scores ``[strands, b, m, L]`` of the window that starts at each position, forward
            strand first, and where a window fits ``[b, m, L]``; elsewhere scores mean nothing. A
            site of the reverse strand is at the position where its window starts on the forward
            strand.

        Raises:
            ArgumentError: If the sequences have another alphabet.
        """
        units, fits = self._units(sequences if index is None else sequences[index])
        step = np.asarray([m.step for m in self.matrices])[:, None]
        return units.numpy().astype(np.float64) * step, fits.numpy()

    def _units(self, sequences: Sequences) -> tuple[Tensor, Tensor]:
        if len(sequences.alphabet) != 4:
            raise ArgumentError(
                f"motifs are over A, C, G, T, but these are {sequences.alphabet.name} sequences"
            )
        tokens, mask = (torch.from_numpy(a) for a in sequences.dense())
        x = functional.one_hot(tokens, 4).to(torch.float32) * mask[..., None]
        x = functional.pad(x.transpose(1, 2), (0, int(self.widths.max()) - 1))
        both = (False, True) if self.strands == "both" else (False,)
        found = torch.stack([functional.conv1d(x, self._weight(r)) for r in both])
        last = torch.from_numpy(sequences.lengths[:, None] - self.widths[None])
        fits = torch.arange(found.shape[-1])[None, None] <= last[..., None]
        return found, fits

    def counts(self, sequences: Sequences) -> NDArray[np.int64]:
        """Sites of each motif in each sequence, ``int64 [n, m]``.

        A place where both strands hit (a palindrome) is one site.
        """
        cut = torch.from_numpy(self.thresholds)[:, None]
        parts = [np.zeros((0, len(self)), np.int64)]
        step = max(_CELLS // (2 * len(self) * max(sequences.max_length, 1)), 1)
        for i in range(0, len(sequences), step):
            units, fits = self._units(sequences[i : i + step])
            hits = (units.amax(0) >= cut) & fits
            parts.append(hits.sum(-1).numpy())
        return np.concatenate(parts)


def spearman(rows: Float, other: Float) -> Float:
    """Spearman's rank correlation of each row ``[..., m]`` with a vector ``[m]``, ties averaged."""
    from scipy.stats import rankdata

    from graphdiff.sequence.metrics.kmers import pearson

    return pearson(rankdata(rows, axis=-1), rankdata(other))


def motif_correlation(samples: Sequences, reference: Sequences, scanner: Scanner) -> float:
    """Spearman's correlation, over motifs, of the mean number of sites per sequence."""
    ours, theirs = (scanner.counts(s).mean(0) for s in (samples, reference))
    return float(spearman(ours, theirs))
