r"""The cluster of a seed: one diffusion, or several of growing reach, and the best cut of them.

Each method is given a *volume*, about the sum of the degrees of the cluster that is looked for, and
a list of scales. Flow pours the mass ``scale * volume``. A walk that has mixed within such a volume
has the value :math:`d_i / (\text{scale} \cdot \text{volume})` on each node, so heat stops at the
error :math:`\varepsilon = 1 / (\text{scale} \cdot \text{volume})` and PageRank, which decays with
the distance from the seeds, at a tenth of it. Of the clusters that they give, the one of lowest
conductance is returned. Without a volume, the first one tried is four times that of the seeds; it
is doubled as long as ``scale * volume`` stays within ``reach`` and half the volume of the graph.
Where four times is too much, it is half the volume of the graph or what ``reach`` allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.local.attributes import local_gamma, with_attributes
from graphdiff.graph.local.diffusion import Diffusion, seeds_of
from graphdiff.graph.local.flow import flow_diffusion
from graphdiff.graph.local.graph import Float, Graph, Int, LocalGraph
from graphdiff.graph.local.heat import heat_kernel
from graphdiff.graph.local.inputs import local_graph
from graphdiff.graph.local.labels import with_labels
from graphdiff.graph.local.pagerank import pagerank
from graphdiff.graph.local.room import RoomError
from graphdiff.graph.local.sweep import conductance, sweep
from graphdiff.graph.local.touched import Work

__all__ = ["METHODS", "SCALES", "LocalCluster", "f1_score", "local_cluster"]

METHODS = ("flow", "pagerank", "heat")
SCALES = {"flow": (1.5, 2.0, 3.0, 4.0, 5.0), "pagerank": (1.5, 5.0), "heat": (1.5, 5.0)}
"""Multiples of a given volume that are tried."""


@dataclass(frozen=True, eq=False)
class LocalCluster:
    """A cluster around seeds.

    Attributes:
        nodes: Names of its nodes, best score first.
        conductance: Of it, in the graph before labels or attributes reweighted it.
        score: Scores of its nodes, float64 ``[k]``.
        work: All that was done, the diffusions that were not chosen included, those that were
            refused for too much mass not.
        method: ``flow``, ``pagerank`` or ``heat``.
        seeds: Numbers of the seeds.
        rows: Numbers of its nodes, int64 ``[k]``.
        reach: ``scale * volume`` of the diffusion that was chosen.
        diffusion: That diffusion.
        notes: What was mended in the graph, and what was left out.
    """

    nodes: list[Any]
    conductance: float
    score: Float
    work: Work
    method: str
    seeds: Int
    rows: Int
    reach: float
    diffusion: Diffusion
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.nodes)

    def f1(self, truth: Iterable[Any]) -> float:
        """F1 against the names of the nodes of a known cluster."""
        return f1_score(self.nodes, truth)

    def draw(self, path: str | Path, *, most: int = 250, title: str | None = None) -> Path:
        """Writes a picture of the touched part of the graph with the cluster in it, as PNG."""
        from graphdiff.graph.local.draw import draw_cluster

        return draw_cluster(self, path, most=most, title=title)


def f1_score(found: Iterable[Any], truth: Iterable[Any]) -> float:
    """``2 |A and B| / (|A| + |B|)`` of two sets; 0 if both are empty."""
    a, b = set(found), set(truth)
    return 2 * len(a & b) / max(1, len(a) + len(b))


def local_cluster(
    graph: Any,
    seed: Any,
    method: Literal["flow", "pagerank", "heat"] = "flow",
    *,
    labels: Any = None,
    unlike: float = 0.05,
    known: Mapping[Any, Any] | None = None,
    attributes: Any = None,
    gamma: float | None = None,
    volume: float | None = None,
    scales: Sequence[float] | None = None,
    reach: float = 50_000.0,
    output: Literal["sweep", "support"] = "sweep",
    measure: Literal["reweighted", "original"] = "reweighted",
    teleport: float = 0.15,
    time: float = 15.0,
    tolerance: float = 1e-4,
) -> LocalCluster:
    """The cluster around a seed.

    Args:
        graph: All that :func:`~graphdiff.graph.local.local_graph` reads.
        seed: A node or several, by name.
        method: ``flow``, ``pagerank`` or ``heat``.
        labels: Noisy labels of nodes (:func:`~graphdiff.graph.local.labels.with_labels`).
        unlike: Factor of edges between unlike labels.
        known: Labels that are certain, by name, such as those of the seeds.
        attributes: ``[n, f]``: weights fall with their distance.
        gamma: How fast; None = :func:`~graphdiff.graph.local.attributes.local_gamma`.
        volume: About the sum of degrees of the cluster; None = volumes that double up to ``reach``.
        scales: Multiples of the volume to try; None = :data:`SCALES`, or 1.5 without a volume.
        reach: Without a volume, the most mass to pour, so the most volume to open.
        output: ``sweep`` (the prefix of lowest conductance) or, for flow, ``support``.
        measure: Conductance of the reweighted or of the original graph, for the sweep and for the
            choice among scales. Without labels and attributes they are the same.
        teleport: Of ``pagerank``.
        time: Of ``heat``.
        tolerance: Of ``flow``.

    Raises:
        ArgumentError: A seed is unknown or isolated, no source mass fits into the graph or what is
            connected to the seeds, none that fits leaves them, labels and attributes are both
            given, or an option is wrong.
        DataError: The graph cannot be read.
    """
    _check(method, output, measure, labels, attributes)
    base = local_graph(graph)
    numbers = seeds_of(base, seed)
    seen = _weighted(base, seed, labels, unlike, known, attributes, gamma)
    where: Graph = base if measure == "original" else seen
    tried = scales if scales is not None else SCALES[method] if volume is not None else (1.5,)
    reaches, notes = _reaches(base, numbers, volume, tried, reach), list(base.notes)
    best: tuple[float, Int, Diffusion, float] | None = None
    work, refused, stuck = Work(), None, list[float]()
    for amount in reaches:
        try:
            found = _diffuse(seen, seed, method, amount, teleport, time, tolerance)
        except RoomError as error:
            refused = refused or error
            notes.append(f"a source mass of {amount:.6g} does not fit and was left out")
            continue
        work = work + found.work
        if not len(found.support):
            stuck.append(amount)
            notes.append(f"a reach of {amount:.6g} does not leave the seeds and was left out")
            continue
        rows, value, more = _cut(found, where, output)
        work = work + more
        if best is None or value < best[0]:
            best = (value, rows, found, amount)
    if best is None:
        raise refused if refused is not None and not stuck else _stuck(base, numbers, stuck)
    _, rows, chosen, amount = best
    score = chosen.scores[np.searchsorted(chosen.rows, rows)]
    return LocalCluster(
        base.name(rows), conductance(base, rows), score, work, method, numbers, rows,
        amount, chosen, tuple(notes),
    )  # fmt: skip


def _check(method: str, output: str, measure: str, labels: Any, attributes: Any) -> None:
    for name, value, known in (
        ("method", method, METHODS),
        ("output", output, ("sweep", "support")),
        ("measure", measure, ("reweighted", "original")),
    ):
        if value not in known:
            raise ArgumentError(f"{name} is one of {', '.join(known)}; found {value!r}")
    if output == "support" and method != "flow":
        raise ArgumentError(
            f"output='support' is for flow, whose support is a cluster; {method} reaches all that "
            "is above its error: use output='sweep'"
        )
    if labels is not None and attributes is not None:
        raise ArgumentError("give labels or attributes, not both: each reweights the edges")


def _weighted(
    base: LocalGraph,
    seed: Any,
    labels: Any,
    unlike: float,
    known: Mapping[Any, Any] | None,
    attributes: Any,
    gamma: float | None,
) -> Graph:
    if labels is not None:
        return with_labels(base, labels, unlike, known)
    if attributes is not None:
        chosen = local_gamma(base, attributes, seed) if gamma is None else gamma
        return with_attributes(base, attributes, chosen)
    return base


def _reaches(
    base: LocalGraph,
    seeds: Int,
    volume: float | None,
    multiples: Sequence[float],
    reach: float,
) -> list[float]:
    """Source masses, or volumes that errors are for, rising."""
    if volume is not None and not 0 < volume < np.inf:
        raise ArgumentError(f"volume must be above 0 and finite, found {volume}")
    if not 0 < reach < np.inf:
        raise ArgumentError(f"reach must be above 0 and finite, found {reach}")
    if not len(multiples) or not all(0 < s < np.inf for s in multiples):
        raise ArgumentError(f"scales must be above 0 and finite, found {list(multiples)}")
    if volume is not None:
        return sorted(s * volume for s in multiples)
    half = base.volume / 2
    first = min(4 * float(base.degree[seeds].sum()), half, min(reach, 1.5 * half) / max(multiples))
    top = min(reach, half) / max(multiples)
    steps = int(np.log2(max(top / first, 1)))
    return sorted(s * first * 2.0**k for k in range(steps + 1) for s in multiples)


def _stuck(base: LocalGraph, seeds: Int, amounts: Sequence[float]) -> ArgumentError:
    """The error where no reach that fits leaves the seeds."""
    return ArgumentError(
        f"no reach (scale * volume) that fits, up to {max(amounts):.6g}, leaves the seeds, whose "
        f"degrees sum to {float(base.degree[seeds].sum()):.6g}; give a larger volume"
    )


def _diffuse(
    graph: Graph,
    seed: Any,
    method: str,
    amount: float,
    teleport: float,
    time: float,
    tolerance: float,
) -> Diffusion:
    if method == "flow":
        return flow_diffusion(graph, seed, amount, tolerance=tolerance)
    if method == "pagerank":
        return pagerank(graph, seed, teleport=teleport, epsilon=1 / (10 * amount))
    return heat_kernel(graph, seed, time=time, epsilon=1 / amount)


def _cut(found: Diffusion, where: Graph, output: str) -> tuple[Int, float, Work]:
    """The cluster of a diffusion, its conductance and the work."""
    if output == "support":
        order = np.argsort(-found.scores, kind="stable")
        rows = found.rows[order[found.values[order] > 0]]
        return rows, conductance(where, rows), Work(edges=len(where.rows(rows)[1]))
    rows, values, work = sweep(found, where)
    return rows, float(values.min()), work
