r"""Signed events of two camps: what structural balance says, made to order.

Each node belongs to a camp :math:`c_u = \pm 1` that nobody sees; active nodes are drawn more
often. An event of ``u`` and ``v`` has the sign :math:`c_u c_v`, turned over with probability
``noise``. The sign of a pair that never met follows from common neighbours alone: how many events a
node was part of, and how many of them were negative, say next to nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.data.signed import SignedEvents

__all__ = ["two_camps"]


def two_camps(
    nodes: int = 60, events: int = 3000, noise: float = 0.1, seed: int = 0
) -> tuple[SignedEvents, NDArray[np.int64]]:
    """Events of the module docstring, and the camp of each node in the numbering of the events.

    Args:
        nodes: Number of nodes, 2 or more; those without an event are not in the result.
        events: Number of events; time runs in steps of random length, 1 in the mean.
        noise: Share of signs that are turned over.
        seed: Of everything.

    Raises:
        ArgumentError: Sizes or noise out of range.
    """
    if nodes < 2 or events < 1 or not 0 <= noise <= 1:
        raise ArgumentError(
            f"nodes={nodes}, events={events}, noise={noise}: expected 2 nodes or more, 1 event or "
            "more, and noise between 0 and 1"
        )
    rng = np.random.default_rng(seed)
    camp = np.where(np.arange(nodes) % 2, 1, -1)
    active = rng.pareto(2.0, nodes) + 0.2
    source = rng.choice(nodes, events, p=active / active.sum())
    target = (source + rng.integers(1, nodes, events)) % nodes
    sign = camp[source] * camp[target] * np.where(rng.random(events) < noise, -1, 1)
    weight = sign * rng.integers(1, 4, events)
    time = np.cumsum(rng.exponential(1.0, events))
    made = SignedEvents.of(source, target, weight, time, about={"name": "two camps"})
    return made, camp[made.nodes]
