"""Curves of searches as PNG: the best value against the number of evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["draw_curves"]

Curves = Mapping[str, Sequence[NDArray[np.float64]]]


def draw_curves(
    curves: Curves | Mapping[str, Curves],
    path: str | Path,
    *,
    goals: Mapping[str, float] | None = None,
    label: str = "best value",
) -> Path:
    """Median and quartiles over runs of the best value so far.

    Args:
        curves: Runs of each method; or that for each of several panels.
        path: PNG to write.
        goals: A value of each panel to mark, by the panel's name.
        label: Of the vertical axis.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    first = next(iter(curves.values()))
    panels = dict(curves) if isinstance(first, Mapping) else {"": curves}
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.8 * len(panels), 3.8), squeeze=False, constrained_layout=True
    )
    for axis, (title, methods) in zip(axes[0], panels.items(), strict=True):
        for name, runs in methods.items():  # type: ignore[union-attr]
            longest = max(len(run) for run in runs)
            table = np.stack([np.pad(run, (0, longest - len(run)), mode="edge") for run in runs])
            low, middle, high = np.quantile(table, (0.25, 0.5, 0.75), axis=0)
            asked = np.arange(1, longest + 1)
            line = axis.plot(asked, middle, label=name, linewidth=1.4)[0]
            if len(runs) > 1:
                axis.fill_between(asked, low, high, alpha=0.15, color=line.get_color(), linewidth=0)
        if goals and title in goals:
            axis.axhline(goals[title], color="0.6", linewidth=0.8, linestyle="--")
        axis.set(xlabel="architectures evaluated", ylabel=label, title=title)
        if max(len(run) for runs in methods.values() for run in runs) > 100:  # type: ignore[union-attr]
            axis.set_xscale("log")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(fontsize=8, frameon=False)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=130)
    plt.close(figure)
    return target
