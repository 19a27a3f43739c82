r"""Restriction maps :math:`F_{v \trianglelefteq e}`: learned from node features, or fixed.

A learner looks at both ends of an edge,
:math:`F_{v \trianglelefteq e} = \mathrm{act}(V [x_v \| x_u])`. Because
:math:`V [x_v \| x_u] = V_1 x_v + V_2 x_u`, two products over the nodes and two gathers of the few
numbers of a map replace a product over the edges.

Orthogonal maps of :math:`d (d - 1) / 2` numbers:

* ``cayley``: :math:`(I - A)^{-1} (I + A)` of a skew-symmetric :math:`A`: rotations; in closed form
  for :math:`d = 2, 3`, else one small solve for an edge;
* ``householder``: the product of the reflections :math:`I - 2 v_k v_k^\top / \|v_k\|^2`, the
  :math:`v_k` being the columns of a unit lower triangular matrix, :math:`k = 1 … d`.

Sources: Bodnar et al. (2022), arXiv 2202.04579, section 3 (learners); Barbero et al. (2022),
arXiv 2206.08702 (connection by local PCA and Procrustes alignment).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.sheaf.topology import Topology

__all__ = ["MapLearner", "cayley", "connection", "householder", "map_width", "tangent_bases"]


def map_width(maps: str, d: int) -> int:
    """Numbers that a learned map of ``d`` stalk coordinates has."""
    return {"diagonal": d, "bundle": d * (d - 1) // 2, "general": d * d}[maps]


class MapLearner(nn.Module):
    """Numbers of the maps of all entries, from the features of both ends.

    Args:
        features: Of a node.
        out: Numbers of a map.
        act: ``tanh``, ``elu`` or ``id``.
        start: Values ``[out]`` before ``act`` where features say nothing: a bias, and it is
            learned. Without it maps of small features are near zero, and with them the Laplacian.
    """

    def __init__(
        self, features: int, out: int, act: str = "tanh", start: Tensor | None = None
    ) -> None:
        super().__init__()
        self.start = None if start is None else nn.Parameter(start.clone())
        self.own = nn.Linear(features, out, bias=False)
        self.other = nn.Linear(features, out, bias=False)
        for part in (self.own, self.other):  # as one layer of twice the features
            bound = 1 / math.sqrt(2 * features)
            nn.init.uniform_(part.weight, -bound, bound)
        acts: dict[str, Callable[[Tensor], Tensor]] = {
            "tanh": torch.tanh, "elu": nn.functional.elu, "id": nn.Identity(),
        }  # fmt: skip
        self.act = acts[act]

    def forward(self, topology: Topology, x: Tensor) -> Tensor:
        """``[n, features]`` to ``[2m, out]``."""
        own, other = self.own(x), self.other(x)
        own = own if self.start is None else own + self.start
        return self.act(own.index_select(0, topology.v) + other.index_select(0, topology.u))


def cayley(angles: Tensor, d: int) -> Tensor:
    """Rotations ``[…, d, d]`` from ``[…, d (d - 1) / 2]`` numbers.

    Raises:
        ArgumentError: Another number of numbers.
    """
    _check(angles, d)
    if d == 1:
        return torch.ones(*angles.shape[:-1], 1, 1, dtype=angles.dtype, device=angles.device)
    if d == 2:
        a = angles[..., 0]
        scale = 1 / (1 + a * a)
        cos, sin = (1 - a * a) * scale, 2 * a * scale
        return torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)
    skew = _skew(angles, d)
    eye = torch.eye(d, dtype=angles.dtype, device=angles.device)
    if d == 3:
        # A^3 = -|a|^2 A, so (I - A)^{-1} (I + A) = I + 2 (A + A^2) / (1 + |a|^2).
        scale = 2 / (1 + angles.square().sum(-1))[..., None, None]
        return eye + scale * (skew + skew @ skew)
    return torch.linalg.solve(eye - skew, eye + skew)


def householder(numbers: Tensor, d: int) -> Tensor:
    """Orthogonal matrices ``[…, d, d]``, products of ``d`` reflections.

    Raises:
        ArgumentError: Another number of numbers.
    """
    _check(numbers, d)
    lower = torch.tril_indices(d, d, -1, device=numbers.device)
    made = torch.eye(d, dtype=numbers.dtype, device=numbers.device)
    made = made.expand(*numbers.shape[:-1], d, d)
    for k in range(d):
        below = (lower[1] == k).nonzero()[:, 0]
        one = numbers.new_ones(*numbers.shape[:-1], 1)
        zero = numbers.new_zeros(*numbers.shape[:-1], k)
        w = torch.cat([zero, one, numbers.index_select(-1, below)], -1)
        w = w / w.norm(dim=-1, keepdim=True)
        made = made - 2 * (made @ w[..., None]) * w[..., None, :]
    return made


def _check(numbers: Tensor, d: int) -> None:
    if numbers.shape[-1] != d * (d - 1) // 2:
        raise ArgumentError(
            f"an orthogonal map of {d} coordinates has {d * (d - 1) // 2} numbers, found "
            f"{numbers.shape[-1]}"
        )


def _skew(angles: Tensor, d: int) -> Tensor:
    """Skew-symmetric matrices with ``angles`` above the diagonal."""
    upper = torch.triu_indices(d, d, 1, device=angles.device)
    made = angles.new_zeros(*angles.shape[:-1], d, d)
    made[..., upper[0], upper[1]] = angles
    return made - made.transpose(-1, -2)


def tangent_bases(topology: Topology, features: Tensor, d: int) -> Tensor:
    """Orthonormal bases ``[n, f, d]`` of the features around each node: local PCA.

    The ``d`` leading left singular vectors of the centred features of a node and its neighbours;
    where these span less than ``d`` directions, the leading directions of the whole graph fill up.

    Raises:
        ArgumentError: More coordinates than features.
    """
    n, f = features.shape
    if d > f:
        raise ArgumentError(f"a connection of {d} coordinates needs {d} features, found {f}")
    x = features.double()
    whole = torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh.T
    if whole.shape[1] < d:
        whole = torch.cat([whole, torch.eye(f, dtype=x.dtype, device=x.device)], 1)
    ends = torch.cat([topology.degree.new_zeros(1), topology.degree.cumsum(0)]).tolist()
    bases = []
    for v in range(n):
        near = x[torch.cat([topology.u[ends[v] : ends[v + 1]], topology.u.new_tensor([v])])]
        left, size, _ = torch.linalg.svd((near - x[v]).T, full_matrices=False)
        kept = left[:, size > 1e-9 * max(float(size[0]), 1e-12)][:, :d]
        bases.append(torch.linalg.qr(torch.cat([kept, whole], 1)).Q[:, :d])
    return torch.stack(bases)


def connection(topology: Topology, features: Tensor, d: int) -> Tensor:
    r"""Transports ``[2m, d, d]`` between neighbours: Procrustes alignment of their bases.

    Entry :math:`(v, u)` is the orthogonal matrix nearest to :math:`O_v^\top O_u`; it takes the
    stalk of :math:`u` to that of :math:`v` and is the transpose of entry :math:`(u, v)`.
    """
    bases = tangent_bases(topology, features, d)
    some = [
        bases[v].transpose(1, 2) @ bases[u]
        for v, u in zip(topology.v.split(4096), topology.u.split(4096), strict=True)
    ]
    raw = torch.cat(some) if some else bases.new_zeros(0, d, d)
    first = topology.v < topology.u
    left, _, right = torch.linalg.svd(raw[first])
    made = torch.empty_like(raw)
    made[first] = left @ right
    made[~first] = made[topology.reverse[~first]].transpose(1, 2)
    return made.to(features.dtype)
