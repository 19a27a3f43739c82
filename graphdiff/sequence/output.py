"""What every task on sequences does with finished samples: texts, files, conversions, pictures.

``raw`` is always :class:`graphdiff.sequence.sequences.Sequences`; ``samples.npz`` holds it, and
evaluation reads that. ``samples.fasta`` has one record for each sample, named by its id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from graphdiff.core.errors import ArgumentError
from graphdiff.core.state import State
from graphdiff.sequence.alphabet import Alphabet
from graphdiff.sequence.sequences import Sequences, concat

if TYPE_CHECKING:
    from graphdiff.task import Samples

__all__ = ["SequenceOutput", "record_name"]

KINDS = ("str", "sequences", "seqrecord", "state")


def record_name(k: int) -> str:
    """Name of sample ``k`` in FASTA files."""
    return f"sample-{k}"


@dataclass(frozen=True)
class SequenceOutput:
    """Results of a task on sequences over ``alphabet``."""

    alphabet: Alphabet

    def sequences(self, state: State) -> Sequences:
        """Finished states as packed sequences.

        Args:
            state: ``tokens`` as classes int64 ``[b, L]``, or as class weights ``[b, L, K]``, of
                which the likeliest letter counts.

        Raises:
            ArgumentError: A token is still masked; the message names the sample.
        """
        tokens, mask = state["tokens"].detach().cpu(), state.mask("tokens")
        letters = len(self.alphabet)
        if tokens.is_floating_point():
            tokens = tokens[..., :letters].argmax(-1)
        real = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask.cpu()
        hidden = ((tokens >= letters) & real).any(1)
        if bool(hidden.any()):
            first = int(state.ids[hidden.to(state.ids.device)][0])
            raise ArgumentError(
                f"sample {first} still has masked tokens, so it is not finished; let the sampler "
                "run to clock 0"
            )
        return Sequences.from_dense(tokens.numpy(), self.alphabet, real.numpy())

    def scores(self) -> Mapping[str, Callable[[Any], float]]:
        """Scores of a sequence by name, for ``--reward``."""
        from graphdiff.sequence.rewards import SequenceScores

        return SequenceScores(self.alphabet)

    def join(self, raws: Sequence[Sequences], order: Sequence[int]) -> Sequences:
        """Concatenate packed sequences and reorder them."""
        if not len(raws):
            return Sequences.empty(self.alphabet)
        return concat(list(raws))[np.asarray(order, dtype=np.int64)]

    def write(self, samples: Samples, out: Path) -> list[Path]:
        """Write ``samples.npz`` (packed) and ``samples.fasta`` under ``out``; return the files."""
        from graphdiff.sequence.fasta import write_fasta

        out.mkdir(parents=True, exist_ok=True)
        names = [record_name(k) for k in samples.ids]
        return [
            samples.raw.save(out / "samples.npz"),
            write_fasta(out / "samples.fasta", samples.raw, names),
        ]

    def formats(self) -> Mapping[str, str]:
        """Files that hold every sample, by suffix."""
        fasta = dict.fromkeys((".fasta", ".fa", ".fna", ".faa"), "samples.fasta")
        return {**fasta, ".npz": "samples.npz"}

    def convert(self, samples: Samples, kind: str) -> Sequence[Any]:
        """Samples as another type.

        ``"str"``; ``"sequences"`` (packed, one each); ``"seqrecord"`` (Biopython); ``"state"``
        (one-sample states).

        Raises:
            ArgumentError: ``kind`` is unknown, or needs a package that is not installed.
        """
        if kind not in KINDS:
            raise ArgumentError(f"cannot convert samples to {kind!r}; choose {', '.join(KINDS)}")
        if kind == "str":
            found: list[str] = samples.raw.strings()
            return found
        if kind == "sequences":
            return list(samples.raw)
        if kind == "seqrecord":
            from graphdiff.sequence.fasta import to_records

            return to_records(samples.raw, [record_name(k) for k in samples.ids])
        from graphdiff.sequence.mdlm_data import as_state

        return [
            as_state(one, torch.tensor([k]))
            for k, one in zip(samples.ids, samples.raw, strict=True)
        ]

    def draw(self, samples: Samples, path: Path, *, count: int = 25) -> Path:
        """A sequence logo of all samples above an alignment of the first ``count``, as PNG."""
        from graphdiff.sequence.draw import draw_sequences

        return draw_sequences(samples.raw, path, count=count)
