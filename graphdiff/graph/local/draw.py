"""A picture of a local cluster: the part of the graph that was touched, the cluster coloured.

The cluster is drawn by rising score in deepening colour, the seeds as diamonds, what else was
touched in grey; edges inside the cluster are dark, edges that leave it dashed. Of a large part the
seeds and the nodes of highest score are drawn, and the title says how many of how many.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.data.packed import write_bytes
from graphdiff.graph.local.graph import Int

if TYPE_CHECKING:
    from graphdiff.graph.local.cluster import LocalCluster

__all__ = ["cluster_png", "draw_cluster"]

INK, PALE, LEAVING = "#2b3340", "#cfd5de", "#d08a5b"


def draw_cluster(
    cluster: LocalCluster, path: str | Path, *, most: int = 250, title: str | None = None
) -> Path:
    """Writes :func:`cluster_png` to a file."""
    return write_bytes(Path(path), cluster_png(cluster, most=most, title=title))


def cluster_png(cluster: LocalCluster, *, most: int = 250, title: str | None = None) -> bytes:
    """The touched part with the cluster in it, as PNG; the same bytes for the same cluster.

    Args:
        cluster: What ``local_cluster`` returned.
        most: Nodes to draw at most.
        title: Instead of the size and the conductance.

    Raises:
        ArgumentError: ``most`` is below 2.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if most < 2:
        raise ArgumentError(f"a picture needs 2 nodes or more, found most={most}")
    shown = _shown(cluster, most)
    edges = _edges(cluster, shown)
    where = _layout(len(shown), edges)
    figure = Figure(figsize=(6.4, 5.4), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.93)
    axis.set_axis_off()
    _draw(axis, cluster, shown, edges, where)
    touched = len(cluster.diffusion.rows)
    text = title or (
        f"{cluster.method}: {len(cluster)} nodes, conductance {cluster.conductance:.3g}"
    )
    part = "" if len(shown) == touched else f" ({len(shown)} of {touched:,} touched nodes)"
    axis.set_title(text + part, fontsize=9, color=INK)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _shown(cluster: LocalCluster, most: int) -> Int:
    """Numbers of the nodes to draw: seeds, then the cluster, then the rest, each by score."""
    rows, scores = cluster.diffusion.rows, cluster.diffusion.scores
    rank = 2 * np.isin(rows, cluster.seeds) + np.isin(rows, cluster.rows).astype(int)
    found: Int = rows[np.lexsort((rows, -scores, -rank))][:most]
    return found


def _edges(cluster: LocalCluster, shown: Int) -> NDArray[np.int64]:
    """Edges among them, as positions ``[m, 2]``."""
    order = np.argsort(shown)
    counts, ends, _ = cluster.diffusion.graph.base.rows(shown)
    owner = np.repeat(np.arange(len(shown)), counts)
    place = np.clip(np.searchsorted(shown[order], ends), 0, len(shown) - 1)
    held = shown[order[place]] == ends
    other = order[place]
    keep = held & (owner < other)
    return np.stack([owner[keep], other[keep]], 1)


def _layout(n: int, edges: NDArray[np.int64]) -> NDArray[np.float64]:
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from(edges.tolist())
    places = nx.spring_layout(graph, seed=0, iterations=60, k=1.6 / max(n, 1) ** 0.5)
    return np.array([places[k] for k in range(n)])


def _draw(
    axis: Any,
    cluster: LocalCluster,
    shown: Int,
    edges: NDArray[np.int64],
    where: NDArray[np.float64],
) -> None:
    from matplotlib.collections import LineCollection

    member = np.isin(shown, cluster.rows)
    seed = np.isin(shown, cluster.seeds)
    ends = member[edges]
    for kind, colour, width, style in (
        (~ends.any(1), PALE, 0.4, "-"),
        (ends.any(1) & ~ends.all(1), LEAVING, 0.5, "--"),
        (ends.all(1), INK, 0.6, "-"),
    ):
        lines = LineCollection(list(where[edges[kind]]), colors=colour, linewidths=width,
                               linestyles=style, alpha=0.6, zorder=1)  # fmt: skip
        axis.add_collection(lines)
    place = np.searchsorted(cluster.diffusion.rows, shown)
    score = cluster.diffusion.scores[place]
    top = float(score.max()) or 1.0
    size = 46 if len(shown) <= 120 else 26
    for mask, marker, scale in ((~member & ~seed, "o", 0.6), (member & ~seed, "o", 1.0),
                                (seed, "D", 1.7)):  # fmt: skip
        if not mask.any():
            continue
        depth = 0.35 + 0.65 * np.sqrt(score[mask] / top)
        fill: dict[str, Any] = {"c": PALE} if not member[mask].any() else {
            "c": depth, "cmap": "YlGnBu", "vmin": 0.0, "vmax": 1.15,
        }  # fmt: skip
        axis.scatter(where[mask, 0], where[mask, 1], s=size * scale, marker=marker,
                     edgecolors=INK, linewidths=0.5, zorder=2, **fill)  # fmt: skip
    axis.margins(0.03)
