"""Pairs without an event, for tasks that ask whether there is one.

Random pairs are easy: most of them have never met. Poursafaei et al. (NeurIPS 2022, "Towards
better evaluation for dynamic link prediction") draw negatives also from pairs that did meet:

* ``random``: the source of the event, and any node that has appeared;
* ``historical``: a pair that met before, not now;
* ``inductive``: a pair that met before, but not yet in training.

Only events before the batch are drawn from (the paper's inductive pairs are of the whole test
part), so that no later event decides what is asked. Where there is no such pair, a random one is
taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.data.signed import SignedEvents

__all__ = ["Negatives"]

Ints = NDArray[np.int64]
Kind = Literal["random", "historical", "inductive"]


@dataclass(frozen=True)
class Negatives:
    """How pairs without an event are drawn.

    Attributes:
        kind: See the module docstring.
        train: Where training ends, for ``inductive``: a number of events, 1 or more.

    Raises:
        ArgumentError: The kind is unknown, or ``inductive`` is not told where training ends.
    """

    kind: Kind = "random"
    train: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ArgumentError(
                f"negatives of kind {self.kind!r}: known are {', '.join(get_args(Kind))}"
            )
        if self.kind == "inductive" and self.train < 1:
            raise ArgumentError(
                "inductive negatives are pairs that have not met in training, found "
                f"train={self.train}: give train, the number of events of training"
            )

    def draw(
        self, events: SignedEvents, begin: int, end: int, rng: np.random.Generator
    ) -> tuple[Ints, Ints]:
        """Sources and targets of one pair beside each of the events ``[begin, end)``.

        None is a loop or one of these events, unless fifty draws found no other pair.
        """
        n, size = events.num_nodes, end - begin
        here = events.source[begin:end] * n + events.target[begin:end]
        source, target = self._random(events, begin, end, rng)
        pool = self._pool(events, begin)
        pool = pool[~np.isin(pool, here)]
        if len(pool):
            pair = pool[rng.integers(len(pool), size=size)]
            source, target = pair // n, pair % n
        for _ in range(50):
            bad = (source == target) | np.isin(source * n + target, here)
            if not bad.any():
                break
            fresh = self._random(events, begin, end, rng)
            source, target = (np.where(bad, *p) for p in zip(fresh, (source, target), strict=True))
        return source, target

    def _random(
        self, events: SignedEvents, begin: int, end: int, rng: np.random.Generator
    ) -> tuple[Ints, Ints]:
        # Numbers are in the order of appearance: the largest one tells who has appeared.
        known = 1 + max(int(events.source[:end].max()), int(events.target[:end].max()))
        return events.source[begin:end].copy(), rng.integers(known, size=end - begin)

    def _pool(self, events: SignedEvents, begin: int) -> Ints:
        if self.kind == "random":
            return np.zeros(0, np.int64)
        pairs = events.source[:begin] * events.num_nodes + events.target[:begin]
        if self.kind == "historical":
            return np.unique(pairs)
        return np.setdiff1d(pairs[self.train :], pairs[: self.train])
