r"""Everything about a graph that a sheaf on it needs and that never changes: :class:`Topology`.

Entries are the ordered pairs :math:`(v, u)` of neighbours, sorted; entry :math:`e = (v, u)` carries
the map of the stalk of :math:`v` into the stalk of the edge, and ``reverse[e]`` is :math:`(u, v)`.
Block matrices add the diagonal. Two orders of the coordinates (node, stalk) are used:

* maps that are diagonal never mix stalks, so the matrix is block diagonal with one graph for each
  stalk: coordinate :math:`k n + v`, values ``[d, entries]`` as they are;
* otherwise coordinate :math:`v d + k` and a full block for each pair.

All index work is done once, vectorised; a layer only fills in values.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.sparse import Pattern

__all__ = ["Topology"]


@dataclass(frozen=True, eq=False)
class Topology:
    """Index structures of one simple undirected graph.

    Attributes:
        n: Number of nodes.
        v: The node whose map an entry is, int64 ``[2m]``, ascending.
        u: Its neighbour, int64 ``[2m]``.
        reverse: Where ``(u, v)`` stands, ``[2m]``.
        degree: Number of neighbours, int64 ``[n]``.
        place: Where off-diagonal entries, then the diagonal, stand in ``pattern``, ``[2m + n]``.
        pattern: Of the ``[n, n]`` matrix with its diagonal.
        remembered: What is costly and depends on features, with the features it was made of.
    """

    n: int
    v: Tensor
    u: Tensor
    reverse: Tensor
    degree: Tensor
    place: Tensor
    pattern: Pattern
    remembered: dict[tuple[str, int], tuple[Tensor, Tensor]] = field(default_factory=dict)
    _made: dict[tuple[str, int], tuple[Pattern, Tensor]] = field(default_factory=dict)

    @classmethod
    def of(cls, edges: Tensor, n: int) -> Topology:
        """Of edges ``[2, m]``, each once as ``u < v``, as a ``NodeData`` holds them.

        Raises:
            ArgumentError: There are self-loops, repetitions or nodes outside of the graph.
        """
        low, high = edges.long()
        if edges.numel() and (int(low.min()) < 0 or int(high.max()) >= n):
            raise ArgumentError(f"edges name nodes outside of 0 … {n - 1}")
        if not bool((low < high).all()) or len(torch.unique(low * n + high)) != len(low):
            raise ArgumentError(
                "a sheaf needs a simple graph with each edge once as u < v; make it so by "
                "graphdiff.data.nodes.simple_edges"
            )
        code = torch.cat([low * n + high, high * n + low]).sort().values
        v, u = code // max(n, 1), code % max(n, 1)
        reverse = torch.searchsorted(code, u * n + v)
        loop = torch.arange(n, device=code.device)
        whole = torch.cat([code, loop * n + loop])
        order = whole.argsort()
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=code.device)
        row, col = whole[order] // max(n, 1), whole[order] % max(n, 1)
        degree = torch.bincount(v, minlength=n)
        return cls(n, v, u, reverse, degree, place, Pattern.of(row, col, (n, n)))

    @property
    def entries(self) -> int:
        """Number of ordered pairs of neighbours, ``2m``."""
        return len(self.v)

    def to(self, device: torch.device | str) -> Topology:
        """The same structures on another device."""
        names = ("v", "u", "reverse", "degree", "place")
        moved = {name: getattr(self, name).to(device) for name in names}
        return replace(self, **moved, pattern=self.pattern.to(device), remembered={}, _made={})

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the entries of each node: ``[2m, …]`` to ``[n, …]``."""
        return values.new_zeros(self.n, *values.shape[1:]).index_add(0, self.v, values)

    def in_order(self, off: Tensor, diagonal: Tensor) -> Tensor:
        """Off-diagonal ``[2m, …]`` and diagonal ``[n, …]`` values in the order of ``pattern``."""
        order = self._once("order", 0)[1]
        return torch.cat([off, diagonal]).index_select(0, order)

    def stacked(self, d: int) -> Pattern:
        """Pattern ``[dn, dn]`` of ``d`` copies of the graph; values ``[d, entries + n]``."""
        return self._once("stacked", d)[0]

    def blocks(self, d: int) -> tuple[Pattern, Tensor]:
        """Pattern ``[nd, nd]`` of full blocks, and where its values are in ``[…, d, d]``."""
        return self._once("blocks", d)

    def _once(self, kind: str, d: int) -> tuple[Pattern, Tensor]:
        if (kind, d) not in self._made:
            self._made[kind, d] = getattr(self, f"_{kind}")(d)
        return self._made[kind, d]

    def _order(self, d: int) -> tuple[Pattern, Tensor]:
        return self.pattern, self.place.argsort()

    def _stacked(self, d: int) -> tuple[Pattern, Tensor]:
        shift = torch.arange(d, device=self.v.device)[:, None] * self.n
        row, col = self.pattern.row + shift, self.pattern.col + shift
        size = self.n * d
        return Pattern.of(row.flatten(), col.flatten(), (size, size)), self.place

    def _blocks(self, d: int) -> tuple[Pattern, Tensor]:
        k = torch.arange(d, device=self.v.device)
        row = (self.pattern.row[:, None, None] * d + k[:, None]).expand(-1, d, d).flatten()
        col = (self.pattern.col[:, None, None] * d + k).expand(-1, d, d).flatten()
        size = self.n * d
        order = (row * size + col).argsort()
        return Pattern.of(row[order], col[order], (size, size)), order
