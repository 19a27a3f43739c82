r"""Flow diffusion: mass poured on the seeds runs along edges until every node can hold its own.

Sources :math:`\Delta_i` with :math:`|\Delta| = \sum_i \Delta_i` are put on the seeds; node ``i``
holds up to :math:`T_i`, its degree in the graph before labels reweighted it. With the Laplacian
:math:`L = D - W` of the (reweighted) graph the flow of least energy along edges is
:math:`w_{ij}(x_i - x_j)`, where the potentials solve

.. math:: \min_{x \ge 0}\ \tfrac12 x^\top L x + x^\top (T - \Delta)

(Fountoulakis, Wang and Yang, 2020, arXiv 2004.09608; weighted: Yang and Fountoulakis, 2023, arXiv
2303.11187; labels: Back de Luca, Fountoulakis and Yang, 2024, arXiv 2310.08031). The mass on a node
is :math:`m = \Delta - L x`, and ``x`` is optimal if and only if

.. math:: x \ge 0, \qquad m \le T, \qquad m_i = T_i \text{ wherever } x_i > 0.

**Pushes** (``solver="push"``). Every node whose mass is above its limit sends the excess away,
:math:`x_i \leftarrow x_i + (m_i - T_i)/d_i`, all such nodes of a round at once. Order and number at
once do not matter, and no push is ever wrong:

1. :math:`L` has no positive entry off its diagonal, so among the ``x >= 0`` with ``m <= T`` there
   is a least one, :math:`x^*`, which is the optimum.
2. If :math:`x \le x^*`, then after a push of any set of nodes still
   :math:`x_i + (m_i - T_i)/d_i = (\Delta_i - T_i + \sum_j w_{ij} x_j)/d_i
   \le (\Delta_i - T_i + \sum_j w_{ij} x^*_j)/d_i \le x^*_i`.
3. ``x`` only rises, so it converges; in the limit nobody has excess, so it is at least
   :math:`x^*`, hence equal to it.

Therefore a node is pushed only if :math:`x^*_i > 0`. Such a node is full, so these hold
:math:`\sum T_i \le |\Delta|`: with :math:`T` the degrees, **the volume of all that is opened is at
most the source mass, whatever the size of the graph**.

**Solves** (``solver="solve"``) reach the same optimum in far fewer passes; see
:mod:`graphdiff.graph.local.settle`.

Either stops with :math:`m_i \le (1 + \tau) T_i` everywhere and
:math:`|m_i - T_i| \le \tau T_i` where :math:`x_i > 0`: ``x`` is then the exact optimum for sinks
that differ from :math:`T` by a share of :math:`\tau` at most.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.local.diffusion import Diffusion, seeds_of
from graphdiff.graph.local.graph import Graph
from graphdiff.graph.local.room import check_room, full, open_with_sinks, unfinished
from graphdiff.graph.local.settle import settle
from graphdiff.graph.local.touched import Touched

__all__ = ["flow_diffusion"]


def flow_diffusion(
    graph: Graph,
    seeds: Any,
    mass: float,
    *,
    tolerance: float = 1e-4,
    solver: Literal["solve", "push"] = "solve",
    max_rounds: int = 100_000,
) -> Diffusion:
    r"""Potentials :math:`x^*` of the flow diffusion from seeds; see the module docstring.

    Args:
        graph: From :func:`~graphdiff.graph.local.local_graph`, reweighted or not.
        seeds: A node or several, by name; they share the mass equally.
        mass: Source mass :math:`|\Delta|`, in the unit of degrees. Volume of the cluster that is
            looked for times 1.5 or more is usual.
        tolerance: :math:`\tau`, relative.
        solver: ``"solve"`` or ``"push"``.
        max_rounds: Rounds of pushes, or of growing the support, after which it gives up.

    Returns:
        Values and scores ``x``, rest ``m``.

    Raises:
        ArgumentError: A seed is unknown or isolated, the mass is not above 0, the graph (or what
            is connected to the seeds) cannot hold it, or the rounds did not suffice.
    """
    if solver not in ("solve", "push"):
        raise ArgumentError(f"solver is 'solve' or 'push', found {solver!r}")
    if not 0 < tolerance < 1:
        raise ArgumentError(f"tolerance is a share between 0 and 1, found {tolerance}")
    if not 0 < mass < np.inf:
        raise ArgumentError(f"the source mass must be above 0 and finite, found {mass}")
    if mass >= graph.base.volume:
        raise full(mass, graph.base.volume, "graph")
    numbers = seeds_of(graph, seeds)
    with Touched(graph, ("x", "m", "T")) as local:
        first = local.touch(numbers)
        local["T"][:] = graph.base.degree[local.nodes]
        local["m"][first] = mass / len(first)
        run = settle if solver == "solve" else _push
        run(local, mass, tolerance, max_rounds)
        x = local["x"].copy()
        return Diffusion.of(local, x, x, local["m"].copy())


def _push(local: Touched, mass: float, tolerance: float, max_rounds: int) -> None:
    """Rounds of pushes until no node has excess."""
    look = np.arange(local.size)
    for _ in range(max_rounds):
        m, sink = local["m"], local["T"]
        front = look[m[look] > (1 + tolerance) * sink[look]]
        if not len(front):
            return
        local.work.rounds += 1
        open_with_sinks(local, front)
        check_room(local, mass)
        excess = local["m"][front] - local["T"][front]
        rise = excess / local["degree"][front]
        local["x"][front] += rise
        local["m"][front] = local["T"][front]
        look = local.spread(front, rise, "m")
    raise unfinished(max_rounds, "push", local)
