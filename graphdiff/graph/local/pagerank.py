r"""Approximate personalised PageRank by pushes (Andersen, Chung and Lang, FOCS 2006).

The walk :math:`P = W D^{-1}` restarts at the seeds with the chance :math:`\alpha`:

.. math:: \mathrm{pr}(s) = \alpha s + (1 - \alpha) P\, \mathrm{pr}(s)
          = \alpha \sum_{k \ge 0} (1 - \alpha)^k P^k s.

Starting with ``p = 0`` and the residual ``r = s``, a push of a set :math:`F` of nodes moves a share
of their residual into ``p`` and the rest to their neighbours:

.. math:: p \leftarrow p + \alpha r_F, \qquad r \leftarrow r - r_F + (1 - \alpha) P r_F.

Every round pushes all nodes with :math:`r_i \ge \varepsilon d_i` at once, since

1. ``p + pr(r) = pr(s)`` holds after a push of any set, because :math:`\mathrm{pr}` is linear and
   :math:`\mathrm{pr}(r_F) = \alpha r_F + \mathrm{pr}((1 - \alpha) P r_F)`;
2. at the end :math:`0 \le r \le \varepsilon d`, and :math:`\mathrm{pr}(d) = d` (edges are
   undirected), so

   .. math:: 0 \le \mathrm{pr}(s) - p = \mathrm{pr}(r) \le \varepsilon d
             \quad\text{on every node;}

3. a push of a node takes :math:`\alpha r_i \ge \alpha \varepsilon d_i` out of :math:`|r|_1`, which
   is 1 at first and never negative, so :math:`\sum d_i` over all pushes is at most
   :math:`1 / (\alpha \varepsilon)`, **whatever the size of the graph**.

On a reweighted graph degrees are known only once a row is read; there a touched node costs its row.
The paper's walk is lazy: its :math:`\alpha'` gives the same vector for
:math:`\alpha = 2\alpha' / (1 + \alpha')`, and a lazy push does half the way.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.local.diffusion import Diffusion, seeds_of
from graphdiff.graph.local.graph import Graph
from graphdiff.graph.local.touched import Touched

__all__ = ["pagerank"]


def pagerank(
    graph: Graph, seeds: Any, *, teleport: float = 0.15, epsilon: float = 1e-5
) -> Diffusion:
    r"""Approximate personalised PageRank from seeds; see the module docstring.

    Args:
        graph: From :func:`~graphdiff.graph.local.local_graph`, reweighted or not.
        seeds: A node or several, by name; the walk restarts at each equally often.
        teleport: :math:`\alpha`, in (0, 1).
        epsilon: :math:`\varepsilon`, the largest error of a value over its degree.

    Returns:
        Values ``p``, scores ``p / d``, rest ``r``.

    Raises:
        ArgumentError: A seed is unknown or isolated, or a number is out of range.
    """
    if not 0 < teleport < 1:
        raise ArgumentError(f"teleport is a chance between 0 and 1, found {teleport}")
    if not 0 < epsilon < np.inf:
        raise ArgumentError(f"epsilon must be above 0 and finite, found {epsilon}")
    numbers = seeds_of(graph, seeds)
    with Touched(graph, ("p", "r")) as local:
        look = local.touch(numbers)
        local["r"][look] = 1 / len(look)
        while True:
            look = look[local["r"][look] > 0]
            local.know(look)
            front = look[local["r"][look] >= epsilon * local["degree"][look]]
            if not len(front):
                break
            local.work.rounds += 1
            local.open(front)
            moved = local["r"][front].copy()
            local["p"][front] += teleport * moved
            local["r"][front] = 0
            look = local.spread(front, (1 - teleport) * moved / local["degree"][front], "r")
        p = local["p"].copy()
        scores = np.divide(p, local["degree"], out=np.zeros_like(p), where=p > 0)
        return Diffusion.of(local, p, scores, local["r"].copy())
