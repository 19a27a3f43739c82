r"""Signed events in time: who rated whom, how, and when.

An event is :math:`(u, v, w, t)`: node ``u`` gives node ``v`` the weight ``w``, whose sign says
friend or foe, at time ``t``. Several events of one pair are several events, never summed. Nodes
are numbered in the order in which they first appear, so that what comes later cannot change the
numbers of what came before.

Files are read, and public sets loaded, by :mod:`graphdiff.data.signed_files`: ``bitcoin-otc`` and
``bitcoin-alpha`` are trust ratings from -10 to 10 among traders (Kumar et al., 2016). The
chronological split is the public protocol, 70, 15 and 15 % at quantiles of time, so that no instant
is cut in two.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphdiff.core.errors import ArgumentError, DataError

__all__ = ["SignedEvents", "Split"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Split:
    """Three consecutive parts: events ``[0, train)``, ``[train, valid)`` and ``[valid, end)``."""

    train: int
    valid: int
    end: int


@dataclass(frozen=True)
class SignedEvents:
    """``m`` signed events in the order of time; make them with :meth:`of`.

    Attributes:
        source: Numbers of the nodes that give, int64 ``[m]``.
        target: Numbers of the nodes that receive, int64 ``[m]``.
        weight: Signed weights, none of them 0, float64 ``[m]``.
        time: Times that never decrease, float64 ``[m]``, in a unit of the user's.
        nodes: What the user calls node ``k``, ``[n]``.
        about: Where they come from, and what was sorted or dropped.
    """

    source: Ints
    target: Ints
    weight: Floats
    time: Floats
    nodes: NDArray[Any]
    about: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        source: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike,
        time: ArrayLike,
        *,
        order: Literal["refuse", "sort"] = "refuse",
        loops: Literal["refuse", "drop"] = "refuse",
        about: dict[str, Any] | None = None,
    ) -> SignedEvents:
        """Events from four columns of equal length.

        Args:
            source: Names of nodes (numbers, with gaps or without, or text), ``[m]``.
            target: As ``source``.
            weight: Finite weights other than 0, ``[m]``.
            time: Finite times, ``[m]``.
            order: What to do with times out of order; ``"sort"`` keeps the given order of events
                of one instant.
            loops: What to do with events from a node to itself.
            about: Kept with the events.

        Raises:
            ArgumentError: ``order`` or ``loops`` is unknown.
            DataError: Columns of different lengths, nothing in them, a weight or time that is not
                finite, a weight 0, times out of order, or a self-loop.
        """
        if order not in ("refuse", "sort") or loops not in ("refuse", "drop"):
            raise ArgumentError(
                f"found order={order!r} and loops={loops!r}: expected order 'refuse' or 'sort', "
                "and loops 'refuse' or 'drop'"
            )
        u, v = np.asarray(source), np.asarray(target)
        w, t = _numbers(weight, "weights"), _numbers(time, "times")
        if not (u.shape == v.shape == w.shape == t.shape and u.ndim == 1):
            raise DataError(
                "source, target, weight and time must be columns of one length, found shapes "
                f"{u.shape}, {v.shape}, {w.shape} and {t.shape}"
            )
        told = dict(about or {})
        u, v, w, t = _without_loops(u, v, w, t, loops, told)
        _check(w, t)
        back = np.flatnonzero(np.diff(t) < 0)
        if len(back):
            if order == "refuse":
                k = int(back[0]) + 1
                raise DataError(
                    f"times are out of order at {len(back)} places, first at event {k} "
                    f"({t[k]:.15g} after {t[k - 1]:.15g}); check the column of times, or pass "
                    "order='sort' to sort the events"
                )
            place = np.argsort(t, kind="stable")
            u, v, w, t = u[place], v[place], w[place], t[place]
            told["sorted"] = len(back)
        nodes, number = _number(np.stack([u, v], 1).ravel())
        return cls(number[0::2].copy(), number[1::2].copy(), w, t, nodes, told)

    def __post_init__(self) -> None:
        for values in (self.source, self.target, self.weight, self.time):
            values.setflags(write=False)

    def __len__(self) -> int:
        return len(self.source)

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return len(self.nodes)

    @property
    def sign(self) -> Ints:
        """``1`` and ``-1``, ``[m]``."""
        return np.where(self.weight > 0, 1, -1).astype(np.int64)

    def split(self, valid: float = 0.15, test: float = 0.15) -> Split:
        """The chronological split at quantiles of time; events of one instant stay together.

        Args:
            valid: Share of the validation part.
            test: Share of the test part.

        Raises:
            ArgumentError: Shares out of range, or a part without events.
        """
        if not (0 < valid < 1 and 0 < test < 1 and valid + test < 1):
            raise ArgumentError(
                f"shares valid={valid} and test={test}: both must be positive and leave some "
                "events to train on"
            )
        cuts = np.quantile(self.time, [1 - valid - test, 1 - test])
        first, second = (int(np.searchsorted(self.time, cut, side="right")) for cut in cuts)
        if not 0 < first < second < len(self):
            raise ArgumentError(
                f"the split has {first}, {second - first} and {len(self) - second} events: too "
                "many share one instant; choose other shares"
            )
        return Split(first, second, len(self))

    def extended(self, *columns: ArrayLike) -> SignedEvents:
        """These events followed by later ones: columns as in :meth:`of`.

        Raises:
            DataError: As :meth:`of`, or the first of them is before the last of these.
        """
        old = (self.nodes[self.source], self.nodes[self.target], self.weight, self.time)
        parts = [np.concatenate([a, np.asarray(b)]) for a, b in zip(old, columns, strict=True)]
        return SignedEvents.of(*parts, about=self.about)

    def sha256(self) -> str:
        """Of numbers, weights and times, little-endian."""
        parts = (self.source, self.target, self.weight, self.time)
        data = b"".join(p.astype(p.dtype.newbyteorder("<")).tobytes() for p in parts)
        return hashlib.sha256(data).hexdigest()

    @classmethod
    def from_pyg(cls, data: Any, weight: str = "msg", **how: Any) -> SignedEvents:
        """Events of a ``torch_geometric.data.TemporalData``.

        Args:
            data: With ``src``, ``dst``, ``t`` and the weights.
            weight: Attribute of the weights; of a matrix its first column.
            **how: ``order`` and ``loops`` of :meth:`of`.

        Raises:
            DataError: An attribute is missing, or as :meth:`of`.
        """
        absent = [k for k in ("src", "dst", "t", weight) if getattr(data, k, None) is None]
        if absent:
            raise DataError(
                f"the TemporalData has no {', '.join(absent)}: expected src, dst, t and the "
                f"weights in {weight!r} (name another attribute with weight=...)"
            )
        values = np.asarray(getattr(data, weight).detach().cpu())
        values = values.reshape(len(values), -1)[:, 0]
        columns = (np.asarray(getattr(data, k).detach().cpu()) for k in ("src", "dst", "t"))
        u, v, t = columns
        return cls.of(u, v, values, t, **how)

    def to_pyg(self) -> Any:
        """As ``torch_geometric.data.TemporalData`` with weights in ``msg`` ``[m, 1]``."""
        import torch
        from torch_geometric.data import TemporalData

        return TemporalData(
            src=torch.tensor(self.source),
            dst=torch.tensor(self.target),
            t=torch.tensor(self.time),
            msg=torch.tensor(self.weight).unsqueeze(1),
        )


def _numbers(values: ArrayLike, what: str) -> Floats:
    try:
        return np.array(values, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} must be numbers: {error}") from error


def _without_loops(
    u: NDArray[Any], v: NDArray[Any], w: Floats, t: Floats, loops: str, told: dict[str, Any]
) -> tuple[NDArray[Any], NDArray[Any], Floats, Floats]:
    same = u == v
    if same.any():
        if loops == "refuse":
            k = int(same.argmax())
            raise DataError(
                f"{int(same.sum())} self-loops, first at event {k} (node {u[k]!s} rates itself): "
                "nobody's sign; remove them, or pass loops='drop'"
            )
        told["loops_dropped"] = int(same.sum())
    return u[~same], v[~same], w[~same], t[~same]


def _check(w: Floats, t: Floats) -> None:
    """Refuse what is empty, not finite or without a sign."""
    if not len(w):
        raise DataError("there are no events: expected at least one")
    for what, bad in (
        ("a weight that is not finite", ~np.isfinite(w)),
        ("a time that is not finite", ~np.isfinite(t)),
        ("weight 0, which has no sign", w == 0),
    ):
        if bad.any():
            raise DataError(
                f"{int(bad.sum())} events have {what}, first event {int(bad.argmax())}: correct or "
                "remove them"
            )


def _number(names: NDArray[Any]) -> tuple[NDArray[Any], Ints]:
    """Distinct names in the order of appearance, and the number of each."""
    values, first, inverse = np.unique(names, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return values[order], rank[inverse.ravel()]
