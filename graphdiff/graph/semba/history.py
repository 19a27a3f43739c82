r"""What the past of two nodes says about the next event between them.

For a query :math:`(u, v, t)` only the first ``visible`` events are looked at. Four histories are
summed up, of ``u`` and of ``v``, each as the one that gives and as the one that receives: with
:math:`n` events of signs :math:`s_e`, weights :math:`w_e`, other nodes :math:`o_e`,

.. math:: \log(1 + n), \quad \frac{\sum_e s_e + a \bar s}{n + a}, \quad
          \frac{\sum_e \operatorname{sgn}(w_e) \log(1 + |w_e|)}{n + 1}, \quad
          \frac{\sum_e \bigl(s_e - m_{o_e}\bigr)}{n + 1},

the shares of negative signs among the last 5 and the last 20, the sum of signs weighted by the
standing of the other node, and the time since the last event. :math:`\bar s` is the mean sign of
all visible events, :math:`a = 2`, and :math:`m_o` the mean sign of node ``o`` before event ``e`` in
its own role: who is praised by one who praises everybody has learnt little (compare fairness and
goodness, Kumar et al., 2016). Of the pair: the last event each way. Of triads
:math:`u - k - v`: how many there are and the mean of the product of signs, in four directions,
which structural balance (Heider, 1946) holds to be the sign of the third edge.

Sums are of whole numbers (weights and residuals in units of :math:`2^{-20}`), hence independent of
order: events that are not visible cannot change a bit of what is found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.data.signed import SignedEvents

__all__ = ["FEATURES", "History", "strict_past"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
UNIT = 2.0**20
PRIOR = 2.0
RECENT = (5, 20)
TRIADS = 64
"""Most neighbours of an endpoint, the latest ones, among which common ones are looked for."""

_ROLE = ("count", "mean sign", "mean weight", "residual", "last 5", "last 20", "trusted", "age")
FEATURES = (
    *(f"{node} {role}: {name}" for node in ("source", "target") for role in ("gave", "received")
      for name in _ROLE),
    *(f"{way}: {name}" for way in ("same pair", "reverse") for name in ("count", "weight", "age")),
    *(f"triads {a}{b}: {name}" for a in "><" for b in "><" for name in ("count", "balance")),
    "recent negative share",
)  # fmt: skip
"""Names of the columns; in triads ``>`` runs from source towards target."""


def strict_past(time: Floats) -> Ints:
    """For each of ``m`` sorted times the number of events strictly before it, ``[m]``."""
    return np.searchsorted(time, time, side="left")


def _fixed(values: NDArray[Any]) -> Ints:
    return np.rint(values * UNIT).astype(np.int64)


@dataclass(frozen=True)
class _Lists:
    """Events grouped by a key, each group in the order of time, with sums of columns up to each."""

    keys: Ints
    order: Ints
    sums: dict[str, Ints]
    wide: int

    @classmethod
    def of(cls, groups: Ints, place: Ints, wide: int) -> _Lists:
        """``groups`` and ``place`` (number of the event), both ``[r]``."""
        keys = groups * wide + place
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], order, {}, wide)

    def add(self, name: str, column: Ints) -> None:
        """Sums of a column ``[r]`` given in the order of the events."""
        self.sums[name] = np.concatenate([[0], np.cumsum(column[self.order])])

    def span(self, groups: Ints, visible: Ints) -> tuple[Ints, Ints]:
        """Where the visible events of each group begin and end."""
        low = np.searchsorted(self.keys, groups * self.wide)
        return low, np.searchsorted(self.keys, groups * self.wide + visible)

    def total(self, name: str, low: Ints, high: Ints) -> Floats:
        found = self.sums[name]
        return (found[high] - found[low]).astype(np.float64)


class History:
    """Sums over the past of nodes and pairs, ready to be asked; see the module docstring.

    Args:
        events: ``m`` events. Those that a query must not see may be among them.
    """

    def __init__(self, events: SignedEvents) -> None:
        self.events = events
        m, self._n = len(events), events.num_nodes
        self._wide = m + 1
        self._sign, place = events.sign, np.arange(m)
        self._negative = np.concatenate([[0], np.cumsum(self._sign < 0)])
        self._log = np.sign(events.weight) * np.log1p(np.abs(events.weight))
        ends = {"gave": events.source, "received": events.target}
        self._roles = {role: _Lists.of(node, place, self._wide) for role, node in ends.items()}
        for lists in self._roles.values():
            lists.add("sign", self._sign)
            lists.add("weight", _fixed(self._log))
        self._pairs, pair = np.unique(events.source * self._n + events.target, return_inverse=True)
        self._pair = _Lists.of(pair.ravel(), place, self._wide)
        both = np.concatenate([events.source, events.target])
        self._near = _Lists.of(both, np.concatenate([place, place]), self._wide)
        before = strict_past(events.time)
        praise = self._mean("gave", events.source, before)
        esteem = self._mean("received", events.target, before)
        standing = self._mean("received", events.source, before)
        self._roles["gave"].add("residual", _fixed(self._sign - esteem))
        self._roles["received"].add("residual", _fixed(self._sign - praise))
        self._roles["gave"].add("trusted", _fixed(self._sign * np.maximum(esteem, 0)))
        self._roles["received"].add("trusted", _fixed(self._sign * np.maximum(standing, 0)))

    def _base(self, visible: Ints) -> Floats:
        """Mean sign of all visible events."""
        mean: Floats = 1 - 2 * (self._negative[visible] + 1) / (visible + 2.0)
        return mean

    def _mean(self, role: str, nodes: Ints, visible: Ints) -> Floats:
        lists = self._roles[role]
        low, high = lists.span(nodes, visible)
        found: Floats = (lists.total("sign", low, high) + PRIOR * self._base(visible)) / (
            high - low + PRIOR
        )
        return found

    def features(
        self, source: Ints, target: Ints, time: Floats, visible: int | Ints
    ) -> NDArray[np.float32]:
        """Numbers of :data:`FEATURES` of queries, ``[q, len(FEATURES)]``, all of order one.

        Args:
            source: Numbers of nodes ``[q]``.
            target: As ``source``.
            time: Times of the queries ``[q]``.
            visible: How many events each query may see, one number or ``[q]``; all of them must be
                before the query.

        Raises:
            ArgumentError: A query would see an event of its own time or later.
        """
        seen = np.broadcast_to(np.asarray(visible, np.int64), source.shape)
        last = self.events.time[np.maximum(seen - 1, 0)]
        if ((seen > 0) & (last >= time)).any():
            k = int(((seen > 0) & (last >= time)).argmax())
            raise ArgumentError(
                f"query {k} of time {time[k]:.15g} would see {int(seen[k])} events up to time "
                f"{last[k]:.15g}: only those strictly before may be visible"
            )
        columns: list[Floats] = []
        for node in (source, target):
            for role in ("gave", "received"):
                columns += self._role(role, node, time, seen)
        columns += self._pair_of(source, target, time, seen)
        columns += self._pair_of(target, source, time, seen)
        columns += self._triads(source, target, seen)
        start = np.maximum(seen - 200, 0)
        columns.append((self._negative[seen] - self._negative[start]) / (seen - start + 1.0))
        return np.stack(columns, 1).astype(np.float32)

    def recent(self, nodes: Ints, visible: Ints, k: int) -> tuple[NDArray[Any], ...]:
        """The last ``k`` visible events at each node, latest first, each array ``[r, k]``.

        Returns:
            The other node, the weight, the time, whether the node received, and whether there is
            such an event.
        """
        m = len(self.events)
        low, high = self._near.span(nodes, visible)
        place = high[:, None] - 1 - np.arange(k)
        there = place >= low[:, None]
        row = self._near.order[np.maximum(place, 0)]
        event, received = row % m, (row >= m) & there
        other = np.where(received, self.events.source[event], self.events.target[event])
        columns = (other, self.events.weight[event], self.events.time[event])
        return (*(np.where(there, column, 0) for column in columns), received, there)

    def _role(self, role: str, nodes: Ints, time: Floats, visible: Ints) -> list[Floats]:
        lists = self._roles[role]
        low, high = lists.span(nodes, visible)
        count = (high - low).astype(np.float64)
        recent = []
        for size in RECENT:
            start = np.maximum(low, high - size)
            signs = lists.total("sign", start, high)
            recent.append((high - start - signs) / 2 / (high - start + 1.0))
        return [
            np.log1p(count),
            (lists.total("sign", low, high) + PRIOR * self._base(visible)) / (count + PRIOR),
            lists.total("weight", low, high) / UNIT / (count + 1),
            lists.total("residual", low, high) / UNIT / (count + 1),
            *recent,
            lists.total("trusted", low, high) / UNIT / (count + 1),
            self._age(lists, low, high, time),
        ]

    def _age(self, lists: _Lists, low: Ints, high: Ints, time: Floats) -> Floats:
        """A tenth of the logarithm of the time since the last event; 3 where there is none."""
        index = lists.order[np.maximum(high - 1, 0)] % len(self.events)
        age = np.log1p(np.maximum(time - self.events.time[index], 0)) / 10
        return np.where(high > low, age, 3.0)

    def _last(self, first: Ints, second: Ints, visible: Ints) -> tuple[Ints, Ints]:
        """Number of visible events from ``first`` to ``second``, and which is the last of them."""
        code = first * self._n + second
        group = np.minimum(np.searchsorted(self._pairs, code), len(self._pairs) - 1)
        low, high = self._pair.span(group, visible)
        known = (self._pairs[group] == code) & (first < self._n) & (second < self._n)
        return np.where(known, high - low, 0), self._pair.order[np.maximum(high - 1, 0)]

    def _pair_of(self, first: Ints, second: Ints, time: Floats, visible: Ints) -> list[Floats]:
        count, last = self._last(first, second, visible)
        age = np.log1p(np.maximum(time - self.events.time[last], 0)) / 10
        there = count > 0
        return [
            np.log1p(count.astype(np.float64)),
            np.where(there, self._log[last], 0.0),
            np.where(there, age, 3.0),
        ]

    def _triads(self, source: Ints, target: Ints, visible: Ints) -> list[Floats]:
        """Number of paths over a common neighbour, and the mean product of their signs."""
        found = np.zeros((4, 2, len(source)))
        for start in range(0, len(source), 4096):
            part = slice(start, start + 4096)
            self._walk(source[part], target[part], visible[part], found[:, :, part])
        columns = []
        for count, balance in found:
            columns += [np.log1p(count), balance / (count + 1)]
        return columns

    def _walk(self, source: Ints, target: Ints, visible: Ints, found: Floats) -> None:
        """Add the triads of some queries to ``found [4, 2, q]``."""
        m = len(self.events)
        spans = [self._near.span(node, visible) for node in (source, target)]
        turned = (spans[1][1] - spans[1][0]) < (spans[0][1] - spans[0][0])
        low, high = (np.where(turned, spans[1][k], spans[0][k]) for k in (0, 1))
        low = np.maximum(low, high - TRIADS)
        size = high - low
        query = np.repeat(np.arange(len(source)), size)
        within = np.arange(len(query)) - np.repeat(np.cumsum(size) - size, size)
        row = self._near.order[low[query] + within]
        event, received = row % m, row >= m
        middle = np.where(received, self.events.source[event], self.events.target[event])
        other = np.where(turned, source, target)[query]
        for back in (False, True):  # the edge between the middle and the other end
            ends = (other, middle) if back else (middle, other)
            count, last = self._last(ends[0], ends[1], visible[query])
            keep = count > 0
            sign = self._sign[event[keep]] * self._sign[last[keep]]
            # Direction as seen on the way from source to target.
            near, far = received[keep], np.full(int(keep.sum()), back)
            flip = turned[query[keep]]
            first, second = np.where(flip, ~far, near), np.where(flip, ~near, far)
            kind = 2 * first.astype(np.int64) + second
            np.add.at(found[:, 0], (kind, query[keep]), 1.0)
            np.add.at(found[:, 1], (kind, query[keep]), sign)
