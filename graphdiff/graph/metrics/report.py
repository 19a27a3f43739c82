"""Results of an evaluation: each number with what is needed to read it.

A :class:`Metric` holds the value with its interval, and beside it the *floor*: what the same
metric says of training examples in place of generated ones, at the same sample size. A score at
the floor cannot be told from the data; a score below it is noise, selection or copying.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.metrics.intervals import Interval

__all__ = ["Metric", "Report"]


@dataclass(frozen=True)
class Metric:
    """One number and its circumstances.

    Attributes:
        name: Field-standard name; ``validity_raw`` and ``validity_corrected``, ``fcd`` and
            ``fcd_score`` are different metrics and never share one.
        value: The value; NaN if it could not be computed (``note`` says why).
        direction: Whether ``lower`` or ``higher`` is better, or ``none``.
        n: Generated samples that entered.
        n_reference: Reference samples that entered.
        population: Which generated samples entered: ``raw``, ``valid``, ``corrected``, ``graphs``.
        kernel: Kernel with its settings, for kernel metrics.
        estimator: ``biased``, ``unbiased`` or how else the value is estimated.
        interval: 95 % interval over the generated sample.
        floor: The metric of training examples against the same reference.
        floor_interval: 95 % interval of the floor.
        split_hash: First 16 hex digits of the sha256 of the reference split.
        note: What a reader should know.
        resolution: Two samples of this size and one model differ by more in 5 % of cases.
    """

    name: str
    value: float
    direction: Literal["lower", "higher", "none"] = "lower"
    n: int = 0
    n_reference: int = 0
    population: str = ""
    kernel: str = ""
    estimator: str = ""
    interval: Interval | None = None
    floor: float | None = None
    floor_interval: Interval | None = None
    split_hash: str = ""
    note: str = ""
    resolution: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values; NaN becomes None so that the result is strict JSON."""
        out = dict(self.__dict__)
        out["value"] = _plain(self.value)
        out["floor"] = _plain(self.floor)
        out["resolution"] = _plain(self.resolution)
        for key in ("interval", "floor_interval"):
            out[key] = None if out[key] is None else [_plain(v) for v in out[key]]
        return out


def _plain(x: float | None) -> float | None:
    return None if x is None or x != x or abs(x) == float("inf") else float(x)


@dataclass(frozen=True)
class Report:
    """All metrics of one evaluation.

    Attributes:
        title: What was evaluated against what.
        metrics: The results, in the order they were asked for.
        warnings: Sentences on what limits the conclusions.
        info: Sizes, splits, settings and seconds.
    """

    title: str
    metrics: tuple[Metric, ...]
    warnings: tuple[str, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Metric]:
        return iter(self.metrics)

    def __len__(self) -> int:
        return len(self.metrics)

    def __contains__(self, name: object) -> bool:
        return any(m.name == name for m in self.metrics)

    def __getitem__(self, name: str) -> Metric:
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise ArgumentError(
            f"this report has no metric {name!r}; it has {', '.join(m.name for m in self.metrics)}"
        )

    def by_construction(self, names: Collection[str]) -> Report:
        """The report with ``_by_construction`` behind these names.

        For what a sampler made sure of: it says nothing about the network, and must not stand
        under the name of what another model earned.
        """
        metrics = [
            replace(m, name=f"{m.name}_by_construction") if m.name in names else m
            for m in self.metrics
        ]
        return replace(self, metrics=tuple(metrics))

    def to_dict(self) -> dict[str, Any]:
        """Plain values that serialise to strict JSON; metrics as a list in order."""
        return {
            "title": self.title,
            "metrics": [m.to_dict() for m in self.metrics],
            "warnings": list(self.warnings),
            "info": dict(self.info),
        }

    def to_json(self, indent: int | None = 2) -> str:
        """The report as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def rows(self) -> list[list[str]]:
        """Header and rows of the printed table, as text cells."""
        head = ["metric", "", "value", "95 % interval", "floor", "floor interval", "resolves"]
        head += ["n", "n ref", "population", "kernel, estimator"]
        arrow = {"lower": "-", "higher": "+", "none": " "}
        rows = [head]
        rows += [
            [
                m.name, arrow[m.direction], number(m.value), _span(m.interval), number(m.floor),
                _span(m.floor_interval), number(m.resolution), str(m.n or ""),
                str(m.n_reference or ""), m.population,
                ", ".join(x for x in (m.kernel, m.estimator) if x),
            ]
            for m in self.metrics
        ]  # fmt: skip
        return rows

    def table(self) -> str:
        """The report as plain text. ``+``: higher is better, ``-``: lower is better."""
        rows = self.rows()
        widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
        rows.insert(1, ["-" * w for w in widths])
        lines = [self.title, ""]
        for row in rows:
            cells = (c.ljust(w) for c, w in zip(row, widths, strict=True))
            lines.append("  ".join(cells).rstrip())
        notes: dict[str, list[str]] = {}
        for metric in self.metrics:
            if metric.note:
                notes.setdefault(metric.note, []).append(metric.name)
        lines += [f"  {', '.join(names)}: {note}" for note, names in notes.items()]
        lines += [f"warning: {w}" for w in self.warnings]
        return "\n".join(lines)

    __str__ = table


def number(x: float | None) -> str:
    """Text of a value: four decimals, or three significant digits if that is finer."""
    if x is None:
        return ""
    if x != x:
        return "n/a"
    return f"{x:.4f}" if abs(x) >= 0.01 or x == 0 else f"{x:.3g}"


def _span(x: Interval | None) -> str:
    return "" if x is None else f"{number(x[0])} .. {number(x[1])}"
