r"""The evaluation of sequences as one HTML page, in the manner of the page of graphs.

The logo of sequences of one length shows, at each position, the letters with heights
:math:`p_{jv} R_j`, where

.. math:: R_j = \log_2 V - H_j - e, \qquad e = \frac{V - 1}{2 n \ln 2}

is the information of the position with the correction for :math:`n` samples of Schneider and
Stephens 1990 (Nucleic Acids Res. 18:6097), cut at 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.data.packed import write_bytes
from graphdiff.graph.metrics import page as base
from graphdiff.graph.metrics.histograms import Panel
from graphdiff.graph.metrics.report import Report
from graphdiff.sequence.alphabet import Alphabet
from graphdiff.sequence.dataset import SequenceDataset
from graphdiff.sequence.metrics.entropy import bits, letter_frequencies
from graphdiff.sequence.metrics.kmers import kmer_frequencies, kmers
from graphdiff.sequence.sequences import Sequences

__all__ = ["information", "logo_svg", "write_sequence_page"]

_COLOURS = {"A": "#2c7a4b", "C": "#2b5fa8", "G": "#b37a00", "T": "#b3261e", "U": "#b3261e"}
# Residues by side chain: acidic, basic, polar, other.
_SIDE = {"DE": "#b3261e", "KRH": "#2b5fa8", "GSTYCNQ": "#2c7a4b"}
_MOST = 200  # positions of a logo
_STEP, _HIGH = 14, 90  # width of a position, height of the whole


def _colour(letter: str, alphabet: Alphabet) -> str:
    if len(alphabet) == 4:
        return _COLOURS.get(letter, "#5a6577")
    return next((c for group, c in _SIDE.items() if letter in group), "#5a6577")


def information(sequences: Sequences) -> NDArray[np.float64]:
    """Height of each letter of the logo in bits, ``float64 [L, V]``; see the module docstring."""
    p = letter_frequencies(sequences)
    reach = (sequences.lengths[:, None] > np.arange(len(p))[None]).sum(0)
    most = math.log2(len(sequences.alphabet))
    correction = (len(sequences.alphabet) - 1) / (2 * reach * math.log(2))
    out: NDArray[np.float64] = p * np.maximum(most - bits(p) - correction, 0.0)[:, None]
    return out


def logo_svg(sequences: Sequences) -> str:
    """The sequence logo as SVG; of the first 200 positions."""
    alphabet = sequences.alphabet
    heights = information(sequences)[:_MOST]
    most = math.log2(len(alphabet))
    parts = []
    for j, row in enumerate(heights):
        floor = float(_HIGH)
        for v in np.argsort(row, kind="stable"):
            high = float(row[v]) / most * (_HIGH - 6)
            if high < 0.5:
                continue
            # capitals of a font of size 10 are about 7.2 high and 7.5 wide
            parts.append(
                f'<text transform="translate({j * _STEP + 30 + _STEP / 2:.1f},{floor:.2f}) '
                f'scale({_STEP / 8:.2f},{high / 7.2:.3f})" text-anchor="middle" '
                f'style="font:bold 10px sans-serif;fill:{_colour(alphabet.letters[v], alphabet)}">'
                f"{alphabet.letters[v]}</text>"
            )
            floor -= high
        if j % 10 == 9:
            parts.append(
                f'<text x="{j * _STEP + 30 + _STEP / 2:.1f}" y="{_HIGH + 14}" '
                f'text-anchor="middle">{j + 1}</text>'
            )
    width = len(heights) * _STEP + 40
    total = float(heights.sum())
    label = f"sequence logo of {len(sequences)} sequences, {total:.1f} bits of information in all"
    return (
        f'<svg viewBox="0 0 {width} {_HIGH + 20}" role="img" aria-label="{label}">'
        f'<line class="axis" x1="28" x2="28" y1="6" y2="{_HIGH}"/>'
        f'<text x="24" y="12" text-anchor="end">{most:.1f}</text>'
        f'<text x="24" y="{_HIGH}" text-anchor="end">0</text>{"".join(parts)}</svg>'
    )


def _panels(sets: Mapping[str, Sequences]) -> list[Panel]:
    """Length, letters (or words of two nucleotides) and GC share of each set."""
    alphabet = next(iter(sets.values())).alphabet
    k = 2 if len(alphabet) == 4 else 1
    shares = {name: kmer_frequencies(s, k) for name, s in sets.items() if s.max_length >= k}
    names = kmers(next(iter(sets.values())), k)
    panels = [Panel(f"{'words of two' if k == 2 else 'letters'}", names, shares, {})]
    if len({int(x) for s in sets.values() for x in s.lengths}) > 1:
        panels.append(Panel.of_values("length", {n: s.lengths for n, s in sets.items()}))
    if alphabet.letters in ("ACGT", "ACGU"):
        gc = {
            name: np.add.reduceat((s.tokens == 1) | (s.tokens == 2), s.ptr[:-1], dtype=np.float64)
            / s.lengths
            for name, s in sets.items()
        }
        panels.append(Panel.of_values("share of G and C", gc))
    return panels


def write_sequence_page(
    path: str | Path,
    raw: Sequences,
    dataset: SequenceDataset,
    result: Report,
    facts: Mapping[str, Any] | None = None,
    *,
    count: int = 25,
) -> Path:
    """Writes the page; folders are made.

    Args:
        path: The file.
        raw: The samples that were scored; the first ``count`` are listed.
        dataset: What they were scored against.
        result: The scores.
        facts: What else is known of the samples, as in ``metrics.json``.
        count: Number of samples listed.
    """
    known = {k: v for k, v in (facts or {}).items() if k not in ("metrics", "warnings")}
    known["evaluation"] = dict(result.info)
    sets = {"generated": raw}
    sets |= {k: dataset.split(k) for k in ("test", "train") if k in dataset.splits}
    title = base._text(result.title)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    page = "".join([
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{base._STYLE}</style></head>\n<body><main><h1>{title}</h1>",
        base._origin(known), base._warnings(result), base._table(result), _samples(sets, count),
        base._histograms(_panels(sets)), base._provenance(known), "</main></body></html>\n",
    ])  # fmt: skip
    return write_bytes(Path(path), page.encode("utf-8"))


def _samples(sets: Mapping[str, Sequences], count: int) -> str:
    logos = "".join(
        f"<figure><h3>{name}</h3>{logo_svg(s)}</figure>"
        for name, s in sets.items()
        if len(s) and name != "train" and (s.lengths == s.lengths[0]).all()
    )
    shown = sets["generated"][:count].strings()
    items = "".join(f"<li><code>{base._text(s[:300])}</code></li>" for s in shown)
    return (
        f"<section><h2>Samples</h2>{logos}<p>The first {len(shown)}, not selected.</p>"
        f'<div class="wide"><ol>{items}</ol></div></section>\n'
    )
