"""Pictures of architectures as PNG: cells of NAS-Bench-201, rows of blocks, layered graphs.

A cell shows its four tensors on a line and an arc for each operation; ``none`` is dashed. A space
whose places are one chain shows blocks, a row for each stage: the attribute ``stages`` of your own
space, if it has one, says how many blocks each row has. Every other graph is drawn in layers: a
node stands one layer after the last that it reads. Everything is drawn in memory by matplotlib's
Agg canvas.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphdiff.core.errors import ArgumentError
from graphdiff.data.packed import write_bytes
from graphdiff.graph.nag.space import Architectures, SearchSpace, chain
from graphdiff.graph.nag.spaces import EDGES, NASBench201

__all__ = ["architectures_png", "draw_architectures"]

INK, PALE, BAD = "#2b3340", "#c3c9d3", "#c0392b"
_OPERATIONS = {
    "none": PALE, "skip_connect": "#7b8794", "nor_conv_1x1": "#3d8fd1", "nor_conv_3x3": "#d1495b",
    "avg_pool_3x3": "#e3a42b",
}  # fmt: skip
_LABELS = {
    "none": "none", "skip_connect": "skip", "nor_conv_1x1": "conv 1×1",
    "nor_conv_3x3": "conv 3×3", "avg_pool_3x3": "pool 3×3",
}  # fmt: skip
# Kernel by hue, expansion by depth.
_MOBILE = ("#b9d7f0", "#6fb0e0", "#2a6fb0", "#f6d9a6", "#eeb04b", "#c67f12",
           "#f2b8c0", "#dd6f80", "#a82f45")  # fmt: skip
_OTHERS = ("#3d8fd1", "#d1495b", "#e3a42b", "#4f9d69", "#8e6bb8", "#d9799b", "#5fb3b3", "#a9744f",
           "#7b8794", "#b5bd3c")  # fmt: skip
_STAGES = {"mobilenetv3": (4,) * 5, "macro": (2, 3, 3)}
"""Blocks at one resolution, the first of which halves it."""


def draw_architectures(
    space: SearchSpace,
    archs: Architectures,
    path: str | Path,
    *,
    count: int = 25,
    values: Sequence[float] | None = None,
) -> Path:
    """Writes :func:`architectures_png` to a file."""
    return write_bytes(Path(path), architectures_png(space, archs, count=count, values=values))


def architectures_png(
    space: SearchSpace,
    archs: Architectures,
    *,
    count: int = 25,
    values: Sequence[float] | None = None,
) -> bytes:
    """A grid of architectures with a legend, as PNG; what is no member of the space is marked.

    Args:
        space: Where they are from.
        archs: The architectures ``[m]``.
        count: The first so many are drawn.
        values: A number ``[m]`` to write over each, in any unit.

    Raises:
        ArgumentError: There is nothing to draw, or not one value for each architecture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not len(archs) or count < 1:
        raise ArgumentError(
            f"there are no architectures to draw: {len(archs)} are given, count is {count}"
        )
    if values is not None and len(values) != len(archs):
        raise ArgumentError(
            f"found {len(values)} values for {len(archs)} architectures; give one for each"
        )
    archs = archs[: min(count, len(archs))]
    columns = math.ceil(math.sqrt(len(archs)))
    rows = math.ceil(len(archs) / columns)
    width, height = columns * 2.1, rows * 1.9 + 0.1
    lines = 0.28 * math.ceil(len(_legend(space)) / _per_line(width)) + 0.12
    figure = Figure(figsize=(width, height + lines), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(0.01, lines / (height + lines), 0.99, 1 - 0.28 / height, 0.06, 0.2)
    for axis in grid.ravel():
        axis.set_axis_off()
    valid = space.valid(archs)
    for i, (axis, arch) in enumerate(zip(grid.ravel(), archs, strict=False)):
        _picture(axis, space, arch)
        words = [] if values is None else [f"{values[i]:.4g}"]
        words += [] if valid[i] else ["not a member"]
        axis.set_title(", ".join(words), fontsize=8, color=INK if valid[i] else BAD, pad=3)
        if not valid[i]:
            _frame(axis)
    figure.legend(
        handles=_by_rows(_legend(space), _per_line(width)), loc="lower center",
        ncols=min(_per_line(width), len(_legend(space))), frameon=False,
        fontsize=8, handlelength=1.5, columnspacing=1.3, labelcolor=INK,
    )  # fmt: skip
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _per_line(width: float) -> int:
    """Entries of the legend that a line of so many inches has."""
    most = max(2, int(width / 1.05))
    return 5 if most > 5 else most  # two lines of the ten types of MobileNetV3


def _by_rows(handles: list[Any], columns: int) -> list[Any]:
    """The order in which a legend, which fills its columns first, reads along its lines."""
    columns = min(columns, len(handles))
    return [handle for column in range(columns) for handle in handles[column::columns]]


def _frame(axis: Any) -> None:
    from matplotlib.patches import Rectangle

    axis.add_patch(Rectangle((0, 0), 1, 1, transform=axis.transAxes, fill=False, edgecolor=BAD,
                             linewidth=1.2, linestyle=(0, (4, 3)), clip_on=False))  # fmt: skip


def _picture(axis: Any, space: SearchSpace, arch: Architectures) -> None:
    if isinstance(space, NASBench201):
        _cell(axis, space, arch)
    elif space.wiring is not None and bool((space.wiring == chain(space.nodes)).all()):
        _blocks(axis, space, arch)
    else:
        _layers(axis, space, arch)


# -- colours and legend ---------------------------------------------------------------------------


def _colour(space: SearchSpace, kind: int) -> str:
    """Colour of a type; what is undecided or means "nothing here" is white."""
    if kind < 0 or kind == space.blank:
        return "white"
    if isinstance(space, NASBench201):
        return _OPERATIONS.get(space.types[kind], INK)
    if space.name == "mobilenetv3":
        return _MOBILE[kind]
    if space.types[kind] == "identity":
        return "#e4e8ee"
    return _OTHERS[kind % len(_OTHERS)]


def _legend(space: SearchSpace) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if isinstance(space, NASBench201):
        return [
            Line2D([], [], color=_OPERATIONS[name], linewidth=1.4 if name == "none" else 3,
                   linestyle=(0, (3, 2)) if name == "none" else "-", label=label)
            for name, label in _LABELS.items()
        ]  # fmt: skip
    return [
        Patch(facecolor=_colour(space, kind), edgecolor=INK, linewidth=0.5,
              label=f"{kind}  {name}" if _short(space, kind) == str(kind) != name else name,
              linestyle=":" if kind == space.blank else "-")
        for kind, name in enumerate(space.types)
    ]  # fmt: skip


# -- kinds of picture -----------------------------------------------------------------------------

# Height of the arc of each edge between tensors on a line; none of them cross.
_BEND = {(0, 1): 0.0, (1, 2): 0.0, (2, 3): 0.0, (0, 2): 0.62, (1, 3): -0.62, (0, 3): 1.2}


def _cell(axis: Any, space: SearchSpace, arch: Architectures) -> None:
    kinds = arch.ops[0]
    for place, (a, b) in enumerate(EDGES, 1):
        kind = int(kinds[place])
        name = space.types[kind] if kind >= 0 else "undecided"
        t = np.linspace(0, 1, 40)
        x, y = a + (b - a) * t, 4 * _BEND[a, b] * t * (1 - t)
        if name == "none":
            axis.plot(x, y, color=PALE, linewidth=1.1, linestyle=(0, (3, 2.5)), zorder=1)
            continue
        colour = _OPERATIONS.get(name, INK)
        if colour == INK:  # undecided, or input or output in the wrong place
            axis.plot(x, y, color=INK, linewidth=1.4, linestyle=":", zorder=2)
            axis.text((a + b) / 2, _BEND[a, b], "?", color=INK, fontsize=9, zorder=3,
                      ha="center", va="center", backgroundcolor="white")  # fmt: skip
            continue
        axis.plot(x, y, color=colour, linewidth=2.6, solid_capstyle="butt", zorder=2)
        tip, tail = (0.56, 0.5) if b - a == 1 else (0.53, 0.5)
        axis.annotate(
            "", (a + (b - a) * tip, 4 * _BEND[a, b] * tip * (1 - tip)),
            (a + (b - a) * tail, 4 * _BEND[a, b] * tail * (1 - tail)), zorder=3,
            arrowprops={"arrowstyle": "-|>,head_width=0.28,head_length=0.42", "color": colour,
                        "linewidth": 0, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
    for number, text in enumerate(("in", "1", "2", "out")):
        end = text in ("in", "out")
        axis.scatter([number], [0], s=230, c=INK if end else "white", edgecolors=INK, zorder=4)
        axis.text(number, -0.01, text, ha="center", va="center", fontsize=7, zorder=5,
                  color="white" if end else INK)  # fmt: skip
    axis.set_xlim(-0.32, 3.32)
    axis.set_ylim(-0.85, 1.35)


def _blocks(axis: Any, space: SearchSpace, arch: Architectures) -> None:
    from matplotlib.patches import FancyBboxPatch

    rows = getattr(space, "stages", None) or _STAGES.get(space.name)
    if rows is None or sum(rows) != space.nodes:
        full, rest = divmod(space.nodes, 5)
        rows = (5,) * full + ((rest,) if rest else ())
    place = 0
    for row, blocks in enumerate(rows):
        for column in range(blocks):
            kind = int(arch.ops[0, place])
            empty = kind == space.blank
            axis.add_patch(FancyBboxPatch(
                (column + 0.07, -row - 0.82), 0.86, 0.64, facecolor=_colour(space, kind),
                edgecolor=PALE if empty else INK, linewidth=0.7,
                linestyle=":" if empty else "-", boxstyle="round,pad=0,rounding_size=0.12",
            ))  # fmt: skip
            if not empty:
                text = _short(space, kind, 8 if max(rows) < 4 else 4)
                axis.text(column + 0.5, -row - 0.5, text, ha="center", va="center",
                          fontsize=6, color=_contrast(_colour(space, kind)))  # fmt: skip
            place += 1
    axis.set_xlim(0, max(rows))
    axis.set_ylim(-len(rows), 0)


def _layers(axis: Any, space: SearchSpace, arch: Architectures) -> None:
    kinds, wires = arch.ops[0], arch.wires[0]
    shown = [i for i in range(len(kinds)) if kinds[i] != space.blank]
    depth = dict.fromkeys(shown, 0)
    for j in shown:  # an edge back is no member's, and does not move its end
        depth[j] = max((depth[i] + 1 for i in shown if i < j and wires[i, j]), default=0)
    where: dict[int, tuple[float, float]] = {}
    for layer in range(max(depth.values(), default=0) + 1):
        inside = [i for i in shown if depth[i] == layer]
        middle = {j: np.mean([where[i][1] for i in where if wires[i, j]] or [0.0]) for j in inside}
        inside.sort(key=lambda j: (-middle[j], j))
        # Shifted every other layer, so that an edge does not run through a node between its ends.
        shift = 0.4 * (-1) ** layer
        for k, j in enumerate(inside):
            where[j] = (float(layer), (len(inside) - 1) / 2 - k + shift)
    for a, b in np.argwhere(wires).tolist():
        if a in where and b in where:
            span = abs(depth[b] - depth[a])
            side = -1 if where[a][1] + where[b][1] > 0 else 1  # away from the middle
            bend = 0.0 if span == 1 else side * (0.2 + 0.05 * span)
            axis.annotate(
                "", where[b], where[a], zorder=1,
                arrowprops={"arrowstyle": "-|>,head_width=0.16,head_length=0.3",
                            "color": "#8a94a6" if a < b else BAD, "linewidth": 0.9,
                            "shrinkA": 6.5, "shrinkB": 6.5,
                            "connectionstyle": f"arc3,rad={bend}"},
            )  # fmt: skip
    for i, (x, y) in where.items():
        colour = _colour(space, int(kinds[i]))
        axis.scatter([x], [y], s=125, c=colour, edgecolors=INK, linewidths=0.7, zorder=2)
        axis.text(x, y, _short(space, int(kinds[i])), ha="center", va="center", fontsize=6,
                  zorder=3, color=_contrast(colour))  # fmt: skip
    reach = max([abs(y) for _, y in where.values()] or [0.0])
    axis.set_xlim(-0.6, max(depth.values(), default=0) + 0.6)
    axis.set_ylim(-max(1.3, reach + 0.6), max(1.3, reach + 0.6))


def _short(space: SearchSpace, kind: int, letters: int = 4) -> str:
    """A few letters for a type, or its number; the legend has it in full."""
    if kind < 0:
        return "?"
    name = space.types[kind].replace("_", " ")
    if len(name) <= letters or space.name == "mobilenetv3":
        return name
    return "id" if name == "identity" else str(kind)


def _contrast(colour: str) -> str:
    """Ink or white, whichever is read better on a colour."""
    if colour == "white":
        return INK
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"
