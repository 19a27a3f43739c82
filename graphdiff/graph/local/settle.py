r"""Flow diffusion by growing its support: linear systems on the touched part instead of pushes.

If :math:`S` is the support of the optimum :math:`x^*`, then :math:`x_S` solves
:math:`L_{SS} x_S = (\Delta - T)_S`. For **any** set :math:`S` this solution is below the optimum:
:math:`L_{SS} (x_S - x^*_S) = (\Delta - T)_S - (L x^*)_S + L_{S \bar S}\, x^*_{\bar S} \le 0`, as
:math:`L x^* \ge \Delta - T` and :math:`L_{S \bar S} \le 0`, and :math:`L_{SS}^{-1} \ge 0`. Hence
whoever comes out positive belongs to the support, and the loop is

1. nodes that come out negative leave :math:`S`, and the rest is solved again;
2. when there are none, nodes with excess mass join; when there are none of these, ``x`` is optimal.

Without guesses this is Chandrasekaran's method (1970) for matrices without positive entries off the
diagonal, in which nobody ever leaves, but which takes a round for each step away from the seeds. In
a long cluster, from round :data:`PATIENCE` on, where the nodes with excess cannot hold it, layers
of their neighbours join at once, as long as what is opened stays within the source mass: the number
of further rounds is that of halvings of the excess. Guesses cost at most this mass, so **the volume
opened is at most twice the source mass**; after the next :data:`GUESSES` rounds there are none.

Systems are solved by conjugate gradients, preconditioned by the degrees and started from the
solution before: each step is one product with the rows opened so far. They reduce the error by a
factor in :math:`O(\sqrt\kappa)` steps where pushes need :math:`O(\kappa)`, and stop at residuals
:math:`|m_i - T_i| \le \tau T_i / 2`. The loop ends only when the conditions of
:mod:`graphdiff.graph.local.flow` hold, as they are checked on the masses themselves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.local.graph import Float, Int
from graphdiff.graph.local.room import check_room, open_with_sinks, unfinished
from graphdiff.graph.local.touched import Touched

__all__ = ["GUESSES", "PATIENCE", "settle"]

PATIENCE, GUESSES = 15, 60
"""Rounds before layers may join at once, and rounds in which they may."""


def settle(local: Touched, mass: float, tolerance: float, max_rounds: int) -> None:
    """Fills the fields ``x`` and ``m`` of a query; arguments are those of ``flow_diffusion``.

    Raises:
        ArgumentError: What is connected to the seeds cannot hold the mass, or too few rounds.
    """
    source, inside = local["m"].copy(), np.zeros(local.size, bool)
    for turn in range(max_rounds):
        drained = inside & (local["x"] <= 0)
        over = (local["m"] > (1 + tolerance) * local["T"]) & ~inside
        if not over.any() and not drained.any():
            return
        local.work.rounds += 1
        if drained.any():
            inside &= ~drained
        else:
            joining = _joining(
                local, inside, np.flatnonzero(over), mass, 0 <= turn - PATIENCE < GUESSES
            )
            check_room(local, mass)
            source = np.append(source, np.zeros(local.size - len(source)))
            inside = np.append(inside, np.zeros(local.size - len(inside), bool))
            inside[joining] = True
        _solve(local, source, inside, tolerance / 2)
    raise unfinished(max_rounds, "solve", local)


def _joining(local: Touched, inside: NDArray[np.bool_], over: Int, mass: float, guess: bool) -> Int:
    """Nodes with excess, opened, and if these cannot hold it layers of their neighbours."""
    open_with_sinks(local, over)
    excess = float(local["m"][over].sum())
    room = float(local["T"][over].sum())
    joined, layer = np.zeros(local.size, bool), over
    joined[: len(inside)] = inside
    joined[layer] = True
    found = [over]
    while guess and room < excess / 2:
        layer = local.neighbours(layer)
        layer = layer[~joined[layer]]
        more = float(local["T"][layer].sum())
        opened = float(local["T"][local.order].sum())
        if not len(layer) or room + more > excess or opened + more > mass:
            break
        open_with_sinks(local, layer)
        joined = np.append(joined, np.zeros(local.size - len(joined), bool))
        joined[layer] = True
        room += more
        found.append(layer)
    return np.concatenate(found)


def _solve(local: Touched, source: Float, inside: NDArray[np.bool_], tolerance: float) -> None:
    """Potentials with full sinks inside and none outside, and the masses that they leave."""
    rows, order = local.matrix(), local.order
    chosen = inside[order]
    place = order[chosen]
    degree, sink = local["degree"][place], local["T"][place]
    spread = np.zeros(local.size)

    def laplacian(v: Float) -> Float:
        spread[place] = v
        local.work.edges += rows.nnz
        found: Float = degree * v - (rows @ spread)[chosen]
        return found

    x = local["x"][place]
    right = source[place] - sink
    rest = right - laplacian(x)
    z = rest / degree
    way, size = z.copy(), float(rest @ z)
    for _ in range(20 * len(place) + 100):
        if (np.abs(rest) <= tolerance * sink).all():
            break
        image = laplacian(way)
        step = size / float(way @ image)
        x, rest = x + step * way, rest - step * image
        z = rest / degree
        size, before = float(rest @ z), size
        way = z + (size / before) * way
    else:
        raise ArgumentError(
            f"conjugate gradients stalled on {len(place)} nodes: weights span too many orders of "
            "magnitude; raise the tolerance or the weight of unlike ends"
        )
    local["x"][:] = 0
    local["x"][place] = np.maximum(x, 0)
    spread[:] = 0
    spread[place] = np.maximum(x, 0)
    local.work.edges += rows.nnz
    local["m"][:] = source - local["degree"] * spread + rows.T @ spread[order]
