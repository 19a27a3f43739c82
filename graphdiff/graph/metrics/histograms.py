"""What the page of an evaluation draws: distributions of samples, test and training set as SVG.

A :class:`Panel` holds the shares of up to three sets in common bins. Its drawing uses the style
sheet of the page for colours, so that it suits light, dark and paper alike; its text alternative
says the means, so that nothing is told by the picture alone.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from graphdiff.data.dataset import Dataset
    from graphdiff.data.graphs import Graphs

__all__ = ["SETS", "Panel", "graph_panels", "molecule_panels"]

Float = NDArray[np.float64]

SETS = ("generated", "test", "train")
MOST = 1000  # samples of one set that enter a histogram
WORK = 2e10  # sum of n^3 over the graphs of one set: the spectrum costs that much

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 340, 190, 40, 34, 10


@dataclass(frozen=True)
class Panel:
    """Distributions of one quantity.

    Attributes:
        title: The quantity, with its unit.
        edges: Bin edges ``[k + 1]``, or the names of k categories.
        shares: By set, its share in each bin ``[k]`` (or a mean per category).
        means: By set, the mean of the quantity; empty for categories.
        unit: What the vertical axis says.
    """

    title: str
    edges: Sequence[float] | Sequence[str]
    shares: Mapping[str, Float]
    means: Mapping[str, float]
    unit: str = "share"

    @classmethod
    def of_values(cls, title: str, values: Mapping[str, Any], bins: int = 30) -> Panel:
        """Histograms of numbers; whole numbers of a small range get a bin each."""
        sets = {k: np.asarray(v, np.float64) for k, v in values.items()}
        sets = {k: v[np.isfinite(v)] for k, v in sets.items()}
        sets = {k: v for k, v in sets.items() if len(v)}
        every = np.concatenate(list(sets.values()) or [np.zeros(1)])
        low, high = float(every.min()), float(every.max())
        least = min((len(v) for v in sets.values()), default=1)
        bins = min(bins, max(8, round(2 * least**0.5)))  # few samples would only show their noise
        if (every == np.round(every)).all():
            step = max(1, int(np.ceil((high - low + 1) / bins)))
            edges = np.arange(low, high + step + 1, step) - 0.5
        else:
            edges = np.linspace(low, high if high > low else low + 1, bins + 1)
        shares = {k: np.histogram(v, edges)[0] / len(v) for k, v in sets.items()}
        means = {k: float(v.mean()) for k, v in sets.items()}
        return cls(title, edges.tolist(), shares, means)

    @classmethod
    def of_rows(cls, title: str, rows: Mapping[str, Float], low: float, width: float,
                bins: int = 40) -> Panel:  # fmt: skip
        """Means of histograms ``[G, k]`` of bins of one width, merged to at most ``bins``."""
        size = next(iter(rows.values())).shape[1]
        merge = max(1, int(np.ceil(size / bins)))
        full = -(-size // merge) * merge
        shares, means = {}, {}
        centres = low + width * (np.arange(size) + 0.5)
        for name, x in rows.items():
            mean = x.mean(0)
            means[name] = float(mean @ centres / max(mean.sum(), 1e-12))
            shares[name] = np.pad(mean, (0, full - size)).reshape(-1, merge).sum(1)
        edges = low + width * merge * np.arange(full // merge + 1)
        return cls(title, edges.tolist(), shares, means)

    @property
    def categorical(self) -> bool:
        """Whether the bins are categories with names."""
        return bool(len(self.edges)) and isinstance(self.edges[0], str)

    def summary(self) -> str:
        """The panel in words: means, or the categories of each set."""
        if not self.categorical:
            parts = [f"{k} {_short(v)}" for k, v in self.means.items()]
            return f"mean: {', '.join(parts)}"
        lines = [
            f"{k}: " + ", ".join(f"{n} {_short(x)}" for n, x in zip(self.edges, v, strict=True))
            for k, v in self.shares.items()
        ]
        return "; ".join(lines)

    def svg(self) -> str:
        """The drawing: bars for the samples, a line for the test and a dashed one for training."""
        right, floor = _WIDTH - 8, _HEIGHT - _BOTTOM
        count = len(self.edges) - (0 if self.categorical else 1)
        top = max((float(s.max()) for s in self.shares.values()), default=0.0) or 1.0
        x = _LEFT + (right - _LEFT) * np.arange(count + 1) / max(count, 1)

        def y(share: float) -> float:
            return floor - (floor - _TOP) * float(share) / top

        parts = [f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{floor}" y2="{floor}"/>']
        for part in (0.5, 1.0):
            at = y(part * top)
            parts.append(f'<line class="rule" x1="{_LEFT}" x2="{right}" y1="{at:g}" y2="{at:g}"/>')
            label = f'<text x="{_LEFT - 5}" y="{at + 4:.1f}" text-anchor="end">'
            parts.append(f"{label}{_short(part * top)}</text>")
        for name in SETS:
            if name not in self.shares:
                continue
            heights = [y(s) for s in self.shares[name]]
            if name == "generated":
                gap = 1.0 if count < 60 else 0.0
                parts += [
                    f'<rect class="generated" x="{a + gap / 2:.1f}" y="{h:.1f}" '
                    f'width="{max(b - a - gap, 0.5):.1f}" height="{floor - h:.1f}"/>'
                    for a, b, h in zip(x, x[1:], heights, strict=False)
                    if floor - h > 0.04
                ]
                continue
            steps = "".join(
                f"H{b:.1f}" if i and h == heights[i - 1] else f"V{h:.1f}H{b:.1f}"
                for i, (b, h) in enumerate(zip(x[1:], heights, strict=True))
            )
            parts.append(f'<path class="{name}" d="M{_LEFT},{floor}{steps}V{floor}"/>')
        parts += self._labels(x, floor)
        text = html.escape(f"{self.title}; {self.summary()}")
        return (
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{text}">'
            f"{''.join(parts)}</svg>"
        )

    def _labels(self, x: Float, floor: float) -> list[str]:
        if self.categorical:
            middle = (x[:-1] + x[1:]) / 2
            marks = list(zip(middle, map(str, self.edges), strict=True))
        else:
            ends = [float(e) for e in self.edges]
            whole = len(ends) > 1 and ends[0] % 1 == 0.5
            at = np.unique(np.linspace(0, len(ends) - 1 - whole, 5).round().astype(int))
            shift = (x[1] - x[0]) / 2 if whole and ends[1] - ends[0] == 1 else 0.0
            marks = [(x[i] + shift, _short(ends[i] + 0.5 * whole)) for i in at]
        line = '<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>'
        return [line.format(at, floor + 16, html.escape(text)) for at, text in marks]


def _short(x: float) -> str:
    """Three significant digits without an exponent where that is readable."""
    if x == 0 or not np.isfinite(x):
        return "0" if x == 0 else "n/a"
    return f"{x:.3g}" if 1e-3 <= abs(x) < 1e3 else f"{x:.0f}" if abs(x) >= 1e3 else f"{x:.1e}"


def _part(graphs: Graphs, seed: int) -> Graphs:
    """A random part of a set, small enough for spectra and orbit counts."""
    order = np.random.default_rng(seed).permutation(len(graphs))[:MOST]
    cost = np.cumsum(graphs.num_nodes[order].astype(np.float64) ** 3)
    keep = np.sort(order[cost <= WORK])
    return graphs[keep if len(keep) else order[:1]]


def graph_panels(raw: Graphs, dataset: Dataset) -> list[Panel]:
    """Nodes, edges, degree, clustering, orbits and spectrum of samples, test and training set."""
    from graphdiff.graph.metrics.descriptors import describe

    sets = {"generated": raw[raw.num_nodes > 0]}
    sets |= {k: dataset.split(k) for k in ("test", "train") if k in dataset.splits}
    panels = [
        Panel.of_values("nodes of a graph", {k: g.num_nodes for k, g in sets.items()}),
        Panel.of_values("edges of a graph", {k: g.num_edges for k, g in sets.items()}),
    ]
    sets = {k: _part(g, 0) for k, g in sets.items()}
    if any(int(g.num_nodes.max()) ** 3 > WORK for g in sets.values()):
        return panels  # a single graph would take minutes

    def rows(name: str) -> dict[str, Float]:
        return dict(zip(sets, describe(name, *sets.values()), strict=True))

    panels.append(Panel.of_rows("degree of a node", rows("degree"), -0.5, 1.0))
    panels.append(Panel.of_rows("clustering coefficient of a node", rows("clustering"), 0, 0.01))
    panels.append(
        Panel.of_rows("eigenvalue of the normalised Laplacian", rows("spectral"), 0, 0.01)
    )
    orbits = rows("orbit")
    names = [str(i) for i in range(next(iter(orbits.values())).shape[1])]
    means = {k: np.log10(1 + x.mean(0)) for k, x in orbits.items()}
    panels.append(Panel("orbit counts of a node", names, means, {}, "log10(1 + mean)"))
    totals = {
        k: x.sum(1) * g.num_nodes for (k, x), g in zip(orbits.items(), sets.values(), strict=True)
    }
    logs = {k: np.log10(1 + v) for k, v in totals.items()}
    panels.append(Panel.of_values("orbit counts of a graph, log10(1 + sum)", logs))
    return panels


def molecule_panels(raw: Graphs | Sequence[str], dataset: Dataset) -> list[Panel]:
    """Sizes, weight, logP, QED, rings, elements and bonds of corrected samples, test, training."""
    from graphdiff.data.graphs import Graphs
    from graphdiff.graph.metrics.molecular import Molecules
    from graphdiff.graph.molecules import parse_smiles

    order = np.sort(np.random.default_rng(0).permutation(len(raw))[:MOST])
    part = raw[order] if isinstance(raw, Graphs) else [raw[int(i)] for i in order]
    texts = {"generated": Molecules.read(part, dataset.atoms).population("corrected")}
    for name in ("test", "train"):
        if name in dataset.splits and dataset.smiles is not None:
            index = dataset.splits[name]
            pick = np.sort(np.random.default_rng(0).permutation(len(index))[:MOST])
            texts[name] = [dataset.smiles[int(index[int(i)])] for i in pick]
    mols = {k: [parse_smiles(s) for s in v] for k, v in texts.items() if v}
    found = {k: [_properties(m) for m in v] for k, v in mols.items()}
    titles = ("heavy atoms", "bonds", "molecular weight, g/mol", "logP (Crippen)", "QED", "rings")
    panels = [
        Panel.of_values(title, {k: [row[i] for row in v] for k, v in found.items()})
        for i, title in enumerate(titles)
    ]
    sizes = {k: [len(r) for m in v for r in m.GetRingInfo().AtomRings()] for k, v in mols.items()}
    if any(sizes.values()):
        panels.append(Panel.of_values("size of a ring", {k: v for k, v in sizes.items() if v}))
    panels.append(
        _categories(
            "element",
            {k: [a.GetSymbol() for m in v for a in m.GetAtoms()] for k, v in mols.items()},
        )
    )
    bonds = {
        k: [str(b.GetBondType()).lower() for m in v for b in m.GetBonds()] for k, v in mols.items()
    }
    panels.append(_categories("bond", bonds))
    return panels


def _properties(mol: Any) -> tuple[float, ...]:
    from rdkit.Chem import QED, rdMolDescriptors

    made: Any = rdMolDescriptors
    return (
        mol.GetNumHeavyAtoms(), mol.GetNumBonds(), made._CalcMolWt(mol),
        made.CalcCrippenDescriptors(mol)[0], QED.qed(mol), made.CalcNumRings(mol),
    )  # fmt: skip


def _categories(title: str, values: Mapping[str, Sequence[str]]) -> Panel:
    names = sorted({v for s in values.values() for v in s})
    shares = {
        k: np.asarray([s.count(n) / len(s) for n in names])
        for k, v in values.items()
        if (s := list(v))
    }
    return Panel(title, names, shares, {})
