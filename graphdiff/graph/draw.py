"""Pictures of graphs and molecules as PNG.

Everything is drawn in memory without a display: molecules by RDKit's Cairo canvas, graphs by
matplotlib's Agg canvas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphdiff.core.errors import ArgumentError
from graphdiff.data.packed import write_bytes

if TYPE_CHECKING:
    import networkx as nx
    from rdkit import Chem


__all__ = ["draw_graphs", "draw_molecules", "graphs_png", "molecules_png"]


def molecules_png(mols: Sequence[Chem.Mol], *, columns: int = 5, size: int = 200) -> bytes:
    """A grid of molecules as PNG.

    A molecule that RDKit cannot sanitise is drawn as it is and marked "not valid".

    Args:
        mols: RDKit molecules; they are not changed.
        columns: Pictures in a row.
        size: Width and height of one picture in pixels.

    Raises:
        ArgumentError: If there is nothing to draw.
    """
    from rdkit.Chem.Draw import rdMolDraw2D

    if not len(mols):
        raise ArgumentError("there are no molecules to draw")
    columns = min(columns, len(mols))
    rows = math.ceil(len(mols) / columns)
    canvas = rdMolDraw2D.MolDraw2DCairo(columns * size, rows * size, size, size)
    options: Any = canvas.drawOptions()
    options.prepareMolsBeforeDrawing = False
    options.padding, options.legendFontSize = 0.08, 14
    ready = [_ready(m) for m in mols]
    canvas.DrawMolecules([m for m, _ in ready], legends=[text for _, text in ready])
    canvas.FinishDrawing()
    return bytes(canvas.GetDrawingText())


def _ready(mol: Chem.Mol) -> tuple[Chem.Mol, str]:
    """A drawable copy with coordinates, and its caption."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDepictor
    from rdkit.Chem.Draw import rdMolDraw2D

    copy, text = Chem.Mol(mol), ""
    with rdBase.BlockLogs():
        try:
            Chem.SanitizeMol(copy)
            copy = rdMolDraw2D.PrepareMolForDrawing(copy)
        except Exception:  # RDKit raises several unrelated classes
            copy, text = Chem.Mol(mol), "not valid"
            copy.UpdatePropertyCache(strict=False)
            Chem.FastFindRings(copy)
            rdDepictor.Compute2DCoords(copy)
    return copy, text


def draw_molecules(
    mols: Sequence[Chem.Mol], path: str | Path, *, columns: int = 5, size: int = 200
) -> Path:
    """Writes :func:`molecules_png` to a file."""
    return write_bytes(Path(path), molecules_png(mols, columns=columns, size=size))


def graphs_png(graphs: Sequence[nx.Graph], *, columns: int = 5, size: int = 200) -> bytes:
    """A grid of networkx graphs as PNG; positions by a spring layout with a fixed start.

    Args:
        graphs: The graphs.
        columns: Pictures in a row.
        size: Width and height of one picture in pixels.

    Raises:
        ArgumentError: If there is nothing to draw.
    """
    import io

    import networkx as nx
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    if not len(graphs):
        raise ArgumentError("there are no graphs to draw")
    columns = min(columns, len(graphs))
    rows = math.ceil(len(graphs) / columns)
    figure = Figure(figsize=(columns * size / 100, rows * size / 100), dpi=100)
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.99, 0.05, 0.05)
    for axis in grid.ravel():
        axis.set_axis_off()
    for axis, graph in zip(grid.ravel(), graphs, strict=False):
        if not graph.number_of_nodes():
            continue
        plain = nx.Graph(graph.edges())
        plain.add_nodes_from(graph.nodes())
        places = nx.spring_layout(plain, seed=0)
        lines = [(places[u], places[v]) for u, v in plain.edges()]
        axis.add_collection(LineCollection(lines, colors="#8a94a6", linewidths=0.7, zorder=1))
        points = np.asarray([places[v] for v in plain.nodes()])
        dots = max(3.0, min(40.0, 600.0 / len(points)))
        axis.scatter(points[:, 0], points[:, 1], s=dots, c="#2a6fb0", zorder=2)
        axis.margins(0.08)
        axis.set_aspect("equal")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def draw_graphs(
    graphs: Sequence[nx.Graph], path: str | Path, *, columns: int = 5, size: int = 200
) -> Path:
    """Writes :func:`graphs_png` to a file."""
    return write_bytes(Path(path), graphs_png(graphs, columns=columns, size=size))
