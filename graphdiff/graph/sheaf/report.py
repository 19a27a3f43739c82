"""What a fit leaves beside its model: ``report.json``, ``report.md`` and ``report.png``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from graphdiff.data.nodes import UNKNOWN, NodeData
from graphdiff.graph.sheaf.classifier import SheafClassifier
from graphdiff.graph.sheaf.comparison import SHEAF, Comparison

__all__ = ["draw_report", "facts", "markdown", "principal", "table_rows"]

HEADER = ("method", "n", "val", "test", "95 %", "sheaf minus it", "95 %", "p", "p (Holm)")
MOST_CLASSES = 10
STOPPED = (
    "The run was stopped before it was complete; a method with one split of several has neither "
    "interval nor test."
)


def facts(
    data: NodeData, found: Comparison, findings: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Everything that was measured, for ``report.json``."""
    return {
        "data": data.fingerprint(),
        "homophily": data.homophily,
        "notes": dict(data.notes),
        "score": found.score,
        "interval_over": found.over,
        "overlap": found.overlap,
        "rows": found.rows(),
        "runs": [{k: v for k, v in vars(run).items() if k != "right"} for run in found.runs],
        "model": {"split": found.split, "plan": _plan(found)},
        "probes": list(findings),
        "stopped": found.stopped,
    }


def _plan(found: Comparison) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(found.plan)


def table_rows(found: Comparison) -> list[tuple[str, ...]]:
    """The table as text, a cell for each of :data:`HEADER`."""
    rows: list[tuple[str, ...]] = []
    for row in found.rows():
        gap = row["difference"]
        rows.append(
            (
                row["method"], str(row["n"]), _share(row["val"]), _share(row["test"]),
                _range(row["low"], row["high"]), "" if gap is None else f"{100 * gap:+.1f}",
                _range(row["difference_low"], row["difference_high"], "+"),
                _p(row["p"]), _p(row["p_holm"]),
            )
        )  # fmt: skip
    return rows


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _range(low: float | None, high: float | None, sign: str = "") -> str:
    if low is None or high is None:
        return ""
    return f"{100 * low:{sign}.1f} to {100 * high:{sign}.1f}"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def markdown(
    data: NodeData, found: Comparison, findings: Sequence[Mapping[str, Any]], command: str
) -> str:
    """The report as text with a table."""
    about = data.fingerprint()
    lines = [
        f"# Sheaf classifier on {data.name}",
        "",
        f"{about['nodes']} nodes, {about['edges']} edges, {about['features']} features, "
        f"{about['classes']} classes; {data.homophily:.0%} of edges join equal classes.",
        *(f"* {key.replace('_', ' ')}: {value}" for key, value in data.notes.items()),
        "",
        f"{found.score.replace('_', ' ')}, %. Weights and settings were chosen on validation "
        f"nodes; test nodes were scored once. {_how(found)}",
        "",
        "| " + " | ".join(HEADER) + " |",
        "|" + " --- |" * len(HEADER),
        *("| " + " | ".join(row) + " |" for row in table_rows(found)),
        "",
        f"The model in this folder is that of split {found.split}, the best on validation.",
        *(["", STOPPED] if found.stopped else []),
        "",
        "Probes for leaks:",
        "",
        *(f"* {'LEAK: ' if f['leak'] else ''}{f['probe']}: {f['message']}" for f in findings),
        "",
        "![Validation, methods and embedding](report.png)",
        "",
        f"Command: `{command}`",
        "",
    ]
    return "\n".join(lines)


def _how(found: Comparison) -> str:
    """What intervals and tests of the table are."""
    if found.over == "splits":
        return (
            "Intervals are Student's over splits; differences are paired by split, their test is "
            f"corrected for overlapping splits (n_test / n_train = {found.overlap:.2f}), and is "
            "not made where all differences are equal."
        )
    if found.score != "accuracy":
        return "One split has test nodes, so that neither intervals nor tests are known."
    return (
        "One split has test nodes: intervals are exact binomial ones over these, and "
        "differences are tested by the exact sign test of nodes that one method gets right only."
    )


def principal(x: torch.Tensor) -> NDArray[np.float64]:
    """The two principal components ``[n, 2]`` of the rows of ``x``."""
    centred = (x - x.mean(0)).double()
    if centred.shape[1] == 1:
        centred = torch.cat([centred, torch.zeros_like(centred)], 1)
    u, s, _ = torch.linalg.svd(centred, full_matrices=False)
    made: NDArray[np.float64] = (u[:, :2] * s[:2]).numpy()
    return made


def draw_report(data: NodeData, found: Comparison, path: Path) -> Path:
    """Validation curve, methods with intervals, and the nodes as the last layer sees them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    assert found.classifier is not None
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3)
    _curve(axes[0], found.classifier, found)
    _bars(axes[1], found)
    _points(axes[2], data, found.classifier)
    figure.savefig(path, dpi=110)
    return path


def _curve(axis: Any, model: SheafClassifier, found: Comparison) -> None:
    assert model.fitted is not None
    curve, select = model.fitted.curve, found.plan.fit.select
    sign = -1 if select == "loss" else 1
    axis.plot(range(1, len(curve) + 1), [sign * v for v in curve], linewidth=1)
    axis.axvline(model.fitted.epoch, color="grey", linestyle=":", label="kept")
    axis.set(
        title=f"validation, split {found.split}", xlabel="epoch", ylabel=select.replace("_", " ")
    )
    axis.legend(frameon=False)


def _bars(axis: Any, found: Comparison) -> None:
    rows = found.rows()
    part = "test" if rows[0]["test"] is not None else "val"
    for k, row in enumerate(reversed(rows)):
        value = row[part]
        if value is None:
            continue
        axis.barh(k, 100 * value, color="C0" if row["method"] == SHEAF else "C7", height=0.7)
        if part == "test" and row["low"] is not None:
            gaps = [[100 * (value - row["low"])], [100 * (row["high"] - value)]]
            axis.errorbar(100 * value, k, xerr=gaps, color="black", capsize=3)
    axis.set_yticks(range(len(rows)), [row["method"] for row in reversed(rows)])
    axis.set(
        title=f"{part}, n = {rows[0]['n']} split" + "s" * (rows[0]["n"] > 1),
        xlabel=f"{found.score.replace('_', ' ')}, % (95 % over {found.over})",
        xlim=(0, 100),
    )


def _points(axis: Any, data: NodeData, model: SheafClassifier) -> None:
    place, y = principal(model.embed(data)), data.labels.numpy()
    many = len(data.classes)
    for c in range(many if many <= MOST_CLASSES else 0):
        axis.scatter(*place[y == c].T, s=9, color=f"C{c}", label=data.classes[c])
    if many > MOST_CLASSES:
        axis.scatter(*place[y != UNKNOWN].T, s=9, c=y[y != UNKNOWN], cmap="turbo")
    else:
        axis.legend(frameon=False, fontsize="small")
    axis.scatter(*place[y == UNKNOWN].T, s=9, color="lightgrey", zorder=0)
    axis.set(title="last layer, two principal components", xticks=[], yticks=[])
