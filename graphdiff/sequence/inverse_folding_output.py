"""What becomes of designs: strings, FASTA ranked by score, arrays, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.core.state import State
from graphdiff.data.packed import read_arrays, write_arrays, write_bytes
from graphdiff.sequence.structure import UNKNOWN, letters_of

if TYPE_CHECKING:
    from graphdiff.task import Samples

__all__ = ["KINDS", "Designs", "convert_designs", "draw_designs", "join_designs", "write_designs"]

KINDS = ("sequences", "designs", "seqrecord")
GROUPS = ("AVILMFWC", "GP", "STNQYH", "KR", "DE")
"""Amino acids of like nature, for pictures: hydrophobic, bent, polar, positive, negative."""


@dataclass(frozen=True, eq=False)
class Designs:
    """Designed sequences with what they were designed for, packed.

    Residue ``l`` of design ``i`` is row ``ptr[i] + l``.

    Attributes:
        ptr: Where each design begins, ``int64 [n + 1]``.
        tokens: Class of each residue, 20 for X, ``uint8 [total]``.
        native: Class in the structure file, ``uint8 [total]``.
        designed: Whether a residue was designed, ``bool [total]``.
        chain: Index of its chain, ``int16 [total]``.
        score: Mean log-likelihood of the designed residues, nats, ``float64 [n]``; NaN if there is
            none.
        names: Backbone of each design, ``[n]``.
    """

    ptr: NDArray[np.int64]
    tokens: NDArray[np.uint8]
    native: NDArray[np.uint8]
    designed: NDArray[np.bool_]
    chain: NDArray[np.int16]
    score: NDArray[np.float64]
    names: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.score)

    def rows(self, i: int) -> slice:
        """Rows of design ``i``."""
        return slice(int(self.ptr[i]), int(self.ptr[i + 1]))

    def strings(self) -> list[str]:
        """Letters, chains separated by ``/``."""
        return [
            letters_of(self.tokens[self.rows(i)], self.chain[self.rows(i)])
            for i in range(len(self))
        ]

    @property
    def recovery(self) -> NDArray[np.float64]:
        """Share of designed residues with the native letter ``[n]``; unknown ones do not count."""
        found = np.full(len(self), np.nan)
        for i in range(len(self)):
            rows = self.rows(i)
            counts = self.designed[rows] & (self.native[rows] < UNKNOWN)
            if counts.any():
                found[i] = (self.tokens[rows] == self.native[rows])[counts].mean()
        return found

    def ranks(self) -> NDArray[np.int64]:
        """Rank of each design by score among those of its backbone, best 1 ``[n]``."""
        ranks = np.zeros(len(self), np.int64)
        for name in np.unique(self.names):
            here = np.flatnonzero(self.names == name)
            order = here[np.argsort(-self.score[here], kind="stable")]
            ranks[order] = np.arange(1, len(here) + 1)
        return ranks

    @classmethod
    def from_state(cls, state: State) -> Designs:
        """Finished states; a residue without coordinates keeps its letter."""
        from graphdiff.sequence.inverse_folding_chain import residues_of

        host = state.to("cpu")
        real = host["chain"] >= 0
        sizes = real.sum(1).numpy()
        if "score" in host.values:
            score = host["score"].double().numpy()
        else:
            score = np.full(len(sizes), np.nan)
        residues = residues_of(host)[real].clamp(max=UNKNOWN)
        names = [bytes(row).rstrip(b"\0").decode("utf-8", "replace") for row in _names(host)]
        return cls(
            np.cumsum([0, *sizes], dtype=np.int64),
            residues.numpy().astype(np.uint8),
            host["native"][real].numpy().astype(np.uint8),
            ((host["given"] < 0) & host["resolved"])[real].numpy(),
            host["chain"][real].numpy().astype(np.int16),
            score,
            np.array(names, dtype=np.str_),
        )

    def save(self, path: Path) -> Path:
        """Write a ``.npz`` without pickles; returns the path."""
        return write_arrays(path, {name: getattr(self, name) for name in self.__annotations__})

    @classmethod
    def load(cls, path: str | Path) -> Designs:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file is missing, damaged or of something else.
        """
        arrays = read_arrays(Path(path), mmap=False)
        if lacking := sorted(set(cls.__annotations__) - set(arrays)):
            raise DataError(f"{path} holds no designs: it lacks {', '.join(lacking)}")
        return cls(**{name: arrays[name] for name in cls.__annotations__})


def _names(host: State) -> list[list[int]]:
    if "name" not in host.values:
        return [[] for _ in range(host.batch_size)]
    rows: list[list[int]] = host["name"].tolist()
    return rows


def join_designs(parts: Sequence[Designs], order: Sequence[int]) -> Designs:
    """Concatenate designs and reorder them."""
    single = [(part, i) for part in parts for i in range(len(part))]
    chosen = [single[k] for k in order]
    sizes = [int(part.ptr[i + 1] - part.ptr[i]) for part, i in chosen]
    packed: dict[str, Any] = {}
    like = parts[0] if parts else Designs.from_state(_nothing())
    for name in ("tokens", "native", "designed", "chain"):
        rows = [getattr(part, name)[part.rows(i)] for part, i in chosen]
        packed[name] = np.concatenate(rows) if rows else getattr(like, name)[:0]
    return Designs(
        np.cumsum([0, *sizes], dtype=np.int64),
        score=np.array([part.score[i] for part, i in chosen], dtype=np.float64),
        names=np.array([part.names[i] for part, i in chosen], dtype=np.str_),
        **packed,
    )


def _nothing() -> State:
    empty = torch.zeros(0, 0, dtype=torch.int64)
    names = ("tokens", "native", "given", "chain")
    return State({**dict.fromkeys(names, empty), "resolved": empty.bool()})


def write_designs(samples: Samples, out: Path) -> list[Path]:
    """``samples.fasta``, ranked by score for each backbone, and ``samples.npz`` in order of ids.

    The header of a record gives the id, the backbone, the rank, the score (mean log-likelihood of
    a designed residue, nats) and the native sequence recovery over the designed residues.
    """
    out.mkdir(parents=True, exist_ok=True)
    raw: Designs = samples.raw
    recovery, ranks, text = raw.recovery, raw.ranks(), raw.strings()
    records = []
    for i in np.lexsort((ranks, raw.names)).tolist():
        facts = [f"backbone={'_'.join(str(raw.names[i]).split())}", f"rank={ranks[i]}"]
        if np.isfinite(raw.score[i]):
            facts.append(f"score={raw.score[i]:.4f}")
        if np.isfinite(recovery[i]):
            facts.append(f"recovery={recovery[i]:.4f}")
        records.append(f">{samples.ids[i]} {' '.join(facts)}\n{text[i]}\n")
    fasta = write_bytes(out / "samples.fasta", "".join(records).encode("utf-8"))
    return [raw.save(out / "samples.npz"), fasta]


def convert_designs(samples: Samples, kind: str) -> Sequence[Any]:
    """Samples as ``"sequences"`` (strings), ``"designs"`` (packed, one each) or ``"seqrecord"``.

    Raises:
        ArgumentError: ``kind`` is unknown, or Biopython is not installed.
    """
    if kind not in KINDS:
        raise ArgumentError(f"cannot convert designs to {kind!r}; choose {', '.join(KINDS)}")
    raw: Designs = samples.raw
    if kind == "sequences":
        return raw.strings()
    if kind == "designs":
        return [join_designs([raw], [i]) for i in range(len(raw))]
    try:
        from Bio.Seq import Seq
        from Bio.SeqRecord import SeqRecord
    except ImportError:
        raise ArgumentError(
            'SeqRecord needs Biopython: pip install "graphdiffusion[bio]"'
        ) from None
    recovery = raw.recovery
    facts: list[dict[str, Any]] = [
        {
            "molecule_type": "protein",
            "chains": text.split("/"),
            "score": float(raw.score[i]),
            "recovery": float(recovery[i]),
        }
        for i, text in enumerate(raw.strings())
    ]
    return [
        SeqRecord(
            Seq(text.replace("/", "")),
            id=str(k),
            name=str(raw.names[i]),
            description=f"backbone={raw.names[i]}",
            annotations=facts[i],
        )
        for i, (k, text) in enumerate(zip(samples.ids, raw.strings(), strict=True))
    ]


def draw_designs(samples: Samples, path: Path, *, count: int = 25) -> Path:
    """The best ``count`` designs below their native sequence, letters coloured by their nature."""
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    raw: Designs = samples.raw
    chosen = np.lexsort((raw.ranks(), raw.names))[:count].tolist()
    colours = np.full(UNKNOWN + 2, len(GROUPS))
    for group, letters in enumerate(GROUPS):
        for letter in letters:
            colours["ACDEFGHIKLMNPQRSTVWY".index(letter)] = group
    longest = max(int(raw.ptr[i + 1] - raw.ptr[i]) for i in chosen)
    picture = np.full((len(chosen) + 1, longest), len(GROUPS))
    first = raw.rows(chosen[0])
    rows = [(raw.native[first], raw.chain[first])]
    rows += [(raw.tokens[raw.rows(i)], raw.chain[raw.rows(i)]) for i in chosen]
    width = min(40.0, 2 + 0.13 * longest)
    figure = Figure(figsize=(width, 1 + 0.22 * len(rows)), dpi=100)
    axes = figure.add_subplot()
    for line, (tokens, _) in enumerate(rows):
        picture[line, : len(tokens)] = colours[tokens]
        for place, letter in enumerate(letters_of(tokens, np.zeros_like(tokens))):
            axes.text(place, line, letter, ha="center", va="center", fontsize=6)
    palette = ListedColormap(["#f6d186", "#d9d9d9", "#b7e4c7", "#a9c9ff", "#ffb3b3", "#ffffff"])
    axes.imshow(picture, cmap=palette, vmin=0, vmax=len(GROUPS), aspect="auto")
    labels = ["native"] + [f"{samples.ids[i]}: {raw.score[i]:.2f}" for i in chosen]
    axes.set_yticks(range(len(rows)), labels, fontsize=6)
    axes.set_xlabel("residue")
    figure.tight_layout()
    figure.savefig(path)
    return path
