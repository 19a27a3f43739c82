"""Rewards of finished samples: scores of items, sums and windows of them, a user's own function.

A reward maps a batch of clean states to one number for each, higher is better. It is all that
guidance (:mod:`graphdiff.guide`) and tuners know about a modality. What a user writes is a score of
one *item* (an RDKit molecule, a networkx graph, a sequence); :class:`ItemReward` decodes states,
remembers what it has scored, can score in several processes, and drops what cannot be scored:
a score that raises or is not finite counts as minus infinity, a sample that must not be, and is
counted. If too many of a batch fail, it stops, because the function is then wrong, not the samples.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import get_context
from typing import Any, Protocol

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError, RewardError
from graphdiff.core.state import State

__all__ = ["ItemReward", "Reward", "Sum", "Window"]

Score = Callable[[Any], float]
LEAST = 8
"""So many samples of a call must fail, at least, before it stops."""


class Reward(Protocol):
    """Reward of finished samples; higher is better."""

    @property
    def name(self) -> str:
        """For tables and errors."""

    @property
    def differentiable(self) -> bool:
        """Whether gradients flow from it into a state of class weights."""

    def __call__(self, state: State) -> Tensor:
        """Reward ``[b]``, float64."""


@dataclass
class ItemReward:
    """The score of each decoded item.

    Attributes:
        decode: Finished states to items, ``None`` for one that cannot be decoded.
        score: Of one item; must be importable by name (or an ``OwnScore``) with ``workers``.
        name: For tables and errors.
        key: What equal items share, ``None`` for an item that is not remembered.
        workers: Processes that score; 0 scores in this one.
        max_failures: Share of a call's items that may fail.
        remember: Scores that are kept.
        computed: Scores that were computed so far.
        failed: Scores that raised or were not finite so far.
    """

    decode: Callable[[State], Sequence[Any]]
    score: Score
    name: str = "reward"
    key: Callable[[Any], Hashable | None] | None = None
    workers: int = 0
    max_failures: float = 0.5
    remember: int = 100_000
    computed: int = field(default=0, init=False)
    failed: int = field(default=0, init=False)
    differentiable: bool = field(default=False, init=False)
    _known: OrderedDict[Hashable, float] = field(default_factory=OrderedDict, init=False)

    def __post_init__(self) -> None:
        if self.workers < 0 or not 0 <= self.max_failures <= 1:
            raise ArgumentError(
                f"reward {self.name!r}: workers must not be negative and max_failures lie between "
                f"0 and 1, found {self.workers} and {self.max_failures}"
            )

    def __call__(self, state: State) -> Tensor:
        """Scores ``[b]``, float64; minus infinity where there is none.

        Raises:
            RewardError: More than ``max_failures`` of the items fail; with the first error.
        """
        items = list(self.decode(state))
        if len(items) != state.batch_size:
            raise RewardError(
                f"reward {self.name!r}: {len(items)} items were decoded from {state.batch_size} "
                "samples, expected one for each (None where a sample cannot be decoded)"
            )
        keys = [None if item is None or self.key is None else self.key(item) for item in items]
        fresh: dict[Hashable, int] = {}
        alone: list[int] = []
        for i, (item, key) in enumerate(zip(items, keys, strict=True)):
            if item is None or key in self._known:
                continue
            if key is None:
                alone.append(i)
            else:
                fresh.setdefault(key, i)
        todo = [*fresh.values(), *alone]
        found = dict(zip(todo, self._score([items[i] for i in todo]), strict=True))
        for key, i in fresh.items():
            self._known[key] = found[i][0]
        scores = [
            -math.inf if items[i] is None
            else found[i][0] if key is None
            else self._known[key]
            for i, key in enumerate(keys)
        ]  # fmt: skip
        while len(self._known) > self.remember:
            self._known.popitem(last=False)
        self._check(scores, [error for _, error in found.values() if error])
        return torch.tensor(scores, dtype=torch.float64, device=state.device)

    def _score(self, items: list[Any]) -> list[tuple[float, str]]:
        """Score and error of each item."""
        self.computed += len(items)
        if not self.workers or len(items) < 2:
            return [_attempt(self.score, item) for item in items]
        size = -(-len(items) // (4 * self.workers))
        tries = self._pool.map(_attempt, [self.score] * len(items), items, chunksize=size)
        return list(tries)

    @cached_property
    def _pool(self) -> ProcessPoolExecutor:
        # Spawned: a fork would copy the threads of torch in whatever state they are.
        return ProcessPoolExecutor(self.workers, mp_context=get_context("spawn"))

    def close(self) -> None:
        """End the processes, if there are any."""
        if "_pool" in self.__dict__:
            self._pool.shutdown(cancel_futures=True)
            del self.__dict__["_pool"]

    def _check(self, scores: list[float], errors: list[str]) -> None:
        bad = sum(not math.isfinite(s) for s in scores)
        self.failed += bad
        if bad >= LEAST and bad > self.max_failures * len(scores):
            first = errors[0] if errors else "no score, or items that could not be decoded"
            raise RewardError(
                f"reward {self.name!r} failed for {bad} of {len(scores)} samples ({first}); mend "
                "the function, or raise max_failures if so many samples have no score"
            )


def _attempt(score: Score, item: Any) -> tuple[float, str]:
    """Score of one item and what went wrong; minus infinity where something did."""
    try:
        value = float(score(item))
    except Exception as error:  # whatever a user's function raises
        return -math.inf, f"{type(error).__name__}: {error}"
    if math.isnan(value) or value == math.inf:
        return -math.inf, f"the score is {value}"
    return value, ""


@dataclass(frozen=True)
class Sum:
    """A weighted sum of rewards; minus infinity wherever one of them is.

    Attributes:
        parts: Weight and reward of each term.
    """

    parts: tuple[tuple[float, Reward], ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ArgumentError("a sum of rewards needs at least one, found none")

    @property
    def name(self) -> str:
        """The terms."""
        return " + ".join(f"{w:g}*{r.name}" for w, r in self.parts)

    @property
    def differentiable(self) -> bool:
        """Whether every term is."""
        return all(r.differentiable for _, r in self.parts)

    def __call__(self, state: State) -> Tensor:
        """The sum ``[b]``."""
        total = None
        for weight, reward in self.parts:
            value = reward(state)
            never = torch.isneginf(value)
            term = torch.where(never, -torch.inf, weight * torch.where(never, 0.0, value))
            total = term if total is None else total + term
        assert total is not None
        return total


@dataclass(frozen=True)
class Window:
    """Zero inside a window of another reward's values, minus the distance outside of it.

    Attributes:
        reward: Whose values are meant.
        low: Lower end.
        high: Upper end.
    """

    reward: Reward
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ArgumentError(
                f"a window must not end ({self.high}) before it begins ({self.low})"
            )

    @property
    def name(self) -> str:
        """The reward and its window."""
        return f"{self.reward.name}:{self.low:g}..{self.high:g}"

    @property
    def differentiable(self) -> bool:
        """As the reward."""
        return self.reward.differentiable

    def __call__(self, state: State) -> Tensor:
        """Minus the distance to the window ``[b]``."""
        value = self.reward(state)
        return -((self.low - value).clamp(min=0) + (value - self.high).clamp(min=0))
