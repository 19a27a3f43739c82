r"""Pictures of sequences as PNG: a sequence logo above a coloured alignment.

At a position with letter frequencies :math:`f` among :math:`n` sequences a logo stacks the letters
to the height of the information content (Schneider and Stephens, 1990, Nucleic Acids Res. 18:6097),

.. math:: R = \max\Bigl(0,\ \log_2 K + \sum_k f_k \log_2 f_k - \frac{K - 1}{2 n \ln 2}\Bigr)
    \text{ bits},

each letter with its share :math:`f_k R`; the last term corrects the bias of few sequences. Letters
are drawn as outlines, in memory, without a display.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.data.packed import write_bytes
from graphdiff.sequence.sequences import Sequences

__all__ = ["draw_sequences", "information", "sequences_png"]

Float = NDArray[np.float64]

COLUMNS, BLOCKS = 80, 5
GREY = "#6b7280"
NUCLEIC = {"A": "#2f9e44", "C": "#1c7ed6", "G": "#f08c00", "T": "#e03131", "U": "#e03131"}
# By chemistry: acidic, basic, polar, aromatic, aliphatic, glycine and proline, cysteine.
RESIDUES = {
    **dict.fromkeys("DE", "#e03131"), **dict.fromkeys("KRH", "#1c7ed6"),
    **dict.fromkeys("NQST", "#0c8599"), **dict.fromkeys("FWY", "#862e9c"),
    **dict.fromkeys("AILMV", "#2b8a3e"), **dict.fromkeys("GP", "#f08c00"), "C": "#a67c00",
}  # fmt: skip


def information(sequences: Sequences) -> Float:
    """Heights of the letters of a logo in bits, ``[L, K]``; see the module docstring.

    Positions count from the start; one beyond the end of a sequence does not count for it.
    """
    letters, (tokens, mask) = len(sequences.alphabet), sequences.dense()
    counts = np.stack([((tokens == k) & mask).sum(0) for k in range(letters)], 1).astype(float)
    n = counts.sum(1, keepdims=True)
    f = counts / n
    entropy = -np.where(f > 0, f * np.log2(np.where(f > 0, f, 1)), 0).sum(1, keepdims=True)
    bias = (letters - 1) / (2 * math.log(2) * n)
    return np.asarray(f * np.maximum(0, math.log2(letters) - entropy - bias), dtype=np.float64)


def sequences_png(sequences: Sequences, *, count: int = 25) -> bytes:
    """A logo of all sequences above the first ``count``, in blocks of 80 positions.

    Positions behind the fifth block are left out, which the title says.

    Args:
        sequences: The sequences.
        count: How many are shown below the logo.

    Raises:
        ArgumentError: There is nothing to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not len(sequences) or count < 1:
        raise ArgumentError("there are no sequences to draw")
    heights = information(sequences)
    tokens, mask = sequences[: min(count, len(sequences))].dense(to=sequences.max_length)
    longest, rows = tokens.shape[1], len(tokens)
    blocks = min(BLOCKS, -(-longest // COLUMNS))
    wide = min(COLUMNS, longest)
    ratio = [1.6, 0.19 * rows]
    figure = Figure(
        figsize=(max(4.0, 0.16 * wide + 1.0), blocks * (sum(ratio) + 0.55) + 0.4), dpi=110
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        2 * blocks, 1, squeeze=False, gridspec_kw={"height_ratios": ratio * blocks}
    )[:, 0]
    shown = min(longest, COLUMNS * blocks)
    more = f", positions 1 to {shown} of {longest}" if shown < longest else ""
    axes[0].set_title(f"{len(sequences)} sequences{more}", fontsize=10, loc="left")
    top = math.log2(len(sequences.alphabet))
    for block in range(blocks):
        part = slice(block * COLUMNS, min((block + 1) * COLUMNS, longest))
        logo, rest = axes[2 * block], axes[2 * block + 1]
        _logo(logo, heights[part], sequences.alphabet.letters, top)
        _alignment(rest, tokens[:, part], mask[:, part], sequences.alphabet.letters)
        for axis in (logo, rest):
            axis.set_xlim(0, wide)
        places = [i for i in range(part.start, part.stop) if i % 10 == 9 or i == 0]
        rest.set_xticks([i - part.start + 0.5 for i in places], [str(i + 1) for i in places])
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def draw_sequences(sequences: Sequences, path: str | Path, *, count: int = 25) -> Path:
    """Writes :func:`sequences_png` to a file."""
    return write_bytes(Path(path), sequences_png(sequences, count=count))


def _logo(axis: Any, heights: Float, letters: str, top: float) -> None:
    """Stacks of letters, the most frequent on top."""
    boxes: dict[str, list[tuple[float, float, float, float]]] = {}
    for place, column in enumerate(heights):
        floor = 0.0
        for k in np.argsort(column, kind="stable"):
            if column[k] > 0.005 * top:
                boxes.setdefault(letters[k], []).append((place + 0.04, floor, 0.92, column[k]))
            floor += float(column[k])
    _stamp(axis, boxes, letters)
    axis.set_ylim(0, top)
    axis.set_ylabel("bits", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.set_xticks([])
    axis.spines[["top", "right"]].set_visible(False)


def _alignment(axis: Any, tokens: Any, mask: Any, letters: str) -> None:
    """One row for each sequence, letters on a pale ground of their colour."""
    from matplotlib.colors import to_rgb

    picture = np.ones((*tokens.shape, 3))
    boxes: dict[str, list[tuple[float, float, float, float]]] = {}
    for k, letter in enumerate(letters):
        here = (tokens == k) & mask
        picture[here] = 1 - 0.25 * (1 - np.asarray(to_rgb(_colour(letter, letters))))
        places = np.argwhere(here)
        if len(places):
            boxes[letter] = [(x + 0.22, y + 0.82, 0.56, -0.64) for y, x in places.tolist()]
    rows, columns = tokens.shape
    axis.imshow(picture, extent=(0, columns, rows, 0), aspect="auto", interpolation="nearest")
    _stamp(axis, boxes, letters)
    axis.set_ylim(rows, 0)
    axis.set_yticks([])
    axis.tick_params(labelsize=7, length=2)
    axis.spines[:].set_visible(False)


def _stamp(
    axis: Any, boxes: dict[str, list[tuple[float, float, float, float]]], letters: str
) -> None:
    """Fill boxes ``(x, y, width, height)`` with the outline of their letter: one path a letter."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    for letter, places in boxes.items():
        glyph = _glyph(letter)
        size, corner = np.asarray(places)[:, None, 2:], np.asarray(places)[:, None, :2]
        vertices = (glyph.vertices[None] * size + corner).reshape(-1, 2)
        codes = np.tile(glyph.codes, len(places))
        colour = _colour(letter, letters)
        axis.add_patch(PathPatch(Outline(vertices, codes), facecolor=colour, linewidth=0))


def _glyph(letter: str) -> Any:
    """The outline of a letter, scaled to the unit square."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path as Outline
    from matplotlib.textpath import TextPath

    path = TextPath(
        (0, 0), letter, size=1, prop=FontProperties(family="DejaVu Sans", weight="bold")
    )
    low, high = path.vertices.min(0), path.vertices.max(0)
    return Outline((path.vertices - low) / (high - low), path.codes)


def _colour(letter: str, letters: str) -> str:
    """By base for nucleic acids, by chemistry for proteins."""
    table = NUCLEIC if set(letters) <= set(NUCLEIC) else RESIDUES
    return table.get(letter, GREY)
