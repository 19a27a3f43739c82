r"""Heat-kernel diffusion by pushes, level by level (after Kloster and Gleich, KDD 2014).

With the walk :math:`P = W D^{-1}` and the time ``t``

.. math:: h = e^{-t(I - P)} s = \sum_{k \ge 0} \pi_k P^k s, \qquad \pi_k = e^{-t} t^k / k!.

Level ``k`` holds an approximation :math:`u_k` of :math:`P^k s`. All of it is added to ``h``; of it
the entries :math:`u_i \ge \delta_k d_i` are pushed to the next level,
:math:`u_{k+1} = P\,[u_k]_{\ge \delta_k d}`, and the rest :math:`0 \le e_k < \delta_k d` goes no
further. Levels feed only the next one, so all nodes of a level are pushed at once and nothing is
pushed twice in a level. With :math:`Q_k = \Pr[\mathrm{Poisson}(t) > k]`:

1. :math:`P d = d` (edges are undirected), so what :math:`e_k` would have added later is
   :math:`\sum_{l > k} \pi_l P^{l-k} e_k \le \delta_k Q_k d`;
2. levels above ``N`` would have added at most :math:`Q_N \max_i (s_i / d_i)\, d`.

``N`` is the first level for which the second is at most :math:`\varepsilon d / 2`, and
:math:`\delta_k = \varepsilon / (2 \sqrt{Q_k} R)` with :math:`R = \sum_{k < N} \sqrt{Q_k}`, so that
:math:`\sum_k \delta_k Q_k = \varepsilon / 2` and

.. math:: 0 \le h - \hat h \le \varepsilon d \quad\text{on every node.}

A node pushed at level ``k`` has :math:`u_i \ge \delta_k d_i` and levels sum to at most 1, so the
degrees of all pushes sum to at most :math:`\sum_k 1/\delta_k = 2 R^2 / \varepsilon`, **whatever the
size of the graph**. These :math:`\delta_k` make that sum least; Kloster and Gleich's, which give
every level the same share of the error, make it :math:`2 N \sum_k Q_k / \varepsilon`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import pdtrc

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.local.diffusion import Diffusion, seeds_of
from graphdiff.graph.local.graph import Float, Graph
from graphdiff.graph.local.touched import Touched

__all__ = ["heat_kernel"]


def heat_kernel(graph: Graph, seeds: Any, *, time: float = 5.0, epsilon: float = 1e-5) -> Diffusion:
    r"""Approximate heat kernel from seeds; see the module docstring.

    Args:
        graph: From :func:`~graphdiff.graph.local.local_graph`, reweighted or not.
        seeds: A node or several, by name; heat starts on each equally.
        time: ``t``, the mean number of steps of the walk; up to 500.
        epsilon: :math:`\varepsilon`, the largest error of a value over its degree.

    Returns:
        Values ``h``, scores ``h / d``, rest zeros.

    Raises:
        ArgumentError: A seed is unknown or isolated, or a number is out of range.
    """
    if not 0 < time <= 500:
        raise ArgumentError(f"time must be above 0 and at most 500, found {time}")
    if not 0 < epsilon < np.inf:
        raise ArgumentError(f"epsilon must be above 0 and finite, found {epsilon}")
    numbers = seeds_of(graph, seeds)
    with Touched(graph, ("h", "even", "odd")) as local:
        held = local.touch(numbers)
        local["even"][held] = 1 / len(held)
        local.know(held)
        cut, share = _levels(time, epsilon, float((1 / local["degree"][held]).max()) / len(held))
        for level, (least, part) in enumerate(zip(cut, share, strict=True)):
            now, following = ("even", "odd") if level % 2 == 0 else ("odd", "even")
            held = held[local[now][held] > 0]
            amount = local[now][held].copy()
            local["h"][held] += part * amount
            local[now][held] = 0
            if level == len(cut) - 1:
                break
            local.know(held)
            keep = amount >= least * local["degree"][held]
            if not keep.any():
                break
            local.work.rounds += 1
            front = held[keep]
            local.open(front)
            held = local.spread(front, amount[keep] / local["degree"][front], following)
        h = local["h"].copy()
        local.know(np.flatnonzero(h))
        h = np.append(h, np.zeros(local.size - len(h)))
        scores = np.divide(h, local["degree"], out=np.zeros_like(h), where=h > 0)
        return Diffusion.of(local, h, scores, np.zeros_like(h))


def _levels(time: float, epsilon: float, start: float) -> tuple[Float, Float]:
    r"""Thresholds :math:`\delta_k` and shares :math:`\pi_k` of the levels ``0..N``.

    Args:
        time: ``t``.
        epsilon: The promised error.
        start: :math:`\max_i s_i / d_i`.
    """
    k = np.arange(int(time + 40 * np.sqrt(time + 1)) + 60)
    later = pdtrc(k, time)
    last = max(1, int(np.argmax(later * start <= epsilon / 2)))
    share = np.concatenate([[1.0], later[:last]]) - later[: last + 1]
    root = np.sqrt(later[: last + 1])
    return epsilon / (2 * np.maximum(root, 1e-150) * root[:last].sum()), share
