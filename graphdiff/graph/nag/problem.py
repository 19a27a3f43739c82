"""What is searched for: an objective that costs, limits that do not, and what was asked so far."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.nag.space import Architectures, SearchSpace

__all__ = ["History", "Limit", "Measure", "Problem", "parse_limit"]

Measure = Callable[[Architectures], NDArray[np.float64]]
FORM = re.compile(r"\s*(?P<name>[^<>=]+?)\s*(?P<sense><=?|>=?)\s*(?P<bound>[^<>=]+?)\s*")
UNITS = {"ms": 1.0, "%": 1.0, "": 1.0, "s": 1000.0}


@dataclass(frozen=True)
class Limit:
    """A bound on a number that is known of any architecture without asking for it.

    Attributes:
        name: Of the number.
        measure: Numbers ``[m]`` of architectures.
        sense: Whether it must stay below or above the bound.
        bound: The bound.
    """

    name: str
    measure: Measure
    sense: Literal["<", ">"]
    bound: float

    def holds(self, archs: Architectures) -> NDArray[np.bool_]:
        """Which architectures keep it, ``[m]``."""
        found = self.measure(archs)
        return found < self.bound if self.sense == "<" else found > self.bound


def parse_limit(text: str, measure: Callable[[str], Measure]) -> Limit:
    """``NAME<BOUND`` or ``NAME>BOUND``; the bound may end in ``ms``, ``s`` or ``%``.

    Args:
        text: The limit, as ``latency:fpga<5ms``.
        measure: Makes the measure of a name; raises :class:`ArgumentError` for an unknown one.

    Raises:
        ArgumentError: It is malformed, or its name unknown.
    """
    found = FORM.fullmatch(text)
    number = re.fullmatch(r"([-+0-9.eE]+)\s*(ms|s|%|)", found["bound"]) if found else None
    if found is None or number is None:
        raise ArgumentError(
            f"cannot read the limit {text!r}: expected NAME<BOUND or NAME>BOUND, as "
            "latency:fpga<5ms"
        )
    try:
        bound = float(number[1]) * UNITS[number[2]]
    except ValueError as error:
        raise ArgumentError(f"{number[1]!r} in the limit {text!r} is no number") from error
    sense: Literal["<", ">"] = "<" if found["sense"].startswith("<") else ">"
    return Limit(found["name"], measure(found["name"]), sense, bound)


@dataclass(frozen=True)
class Problem:
    """A search.

    Attributes:
        space: Where.
        objective: What each architecture is worth, higher is better; every call costs.
        limits: What must hold, known without asking.
        second: A number to be kept low beside the objective, known without asking; None if only
            the objective counts.
    """

    space: SearchSpace
    objective: Measure
    limits: tuple[Limit, ...] = ()
    second: Measure | None = None

    def allowed(self, archs: Architectures) -> NDArray[np.bool_]:
        """Which are members of the space and keep all limits, ``[m]``."""
        good = self.space.valid(archs)
        for limit in self.limits:
            good[good] &= limit.holds(archs[good])
        return good

    def draw(self, n: int, rng: np.random.Generator, *, most: int = 200_000) -> Architectures:
        """``n`` random members that keep all limits.

        Raises:
            ArgumentError: There are hardly any.
        """
        parts: list[Architectures] = []
        missing, tried = n, 0
        while missing > 0:
            batch = self.space.draw(max(64, 2 * missing), rng)
            kept = batch[self.allowed(batch)][:missing]
            parts.append(kept)
            missing, tried = missing - len(kept), tried + len(batch)
            if tried > most:
                raise ArgumentError(
                    f"of {tried} random architectures {n - missing} keep the limits "
                    f"{', '.join(limit.name for limit in self.limits)}; loosen them"
                )
        return Architectures.join(parts)


@dataclass
class History:
    """What was asked, in order.

    Attributes:
        problem: The search.
        budget: Most questions.
        report: Called after every answer with the history.
        goal: The search ends when a value is at least this.
        ops: Types of what was asked.
        wires: Wires of it.
        values: Answers.
        second: The second number of each, if the problem has one.
    """

    problem: Problem
    budget: int
    report: Callable[[History], None] | None = None
    goal: float = np.inf
    ops: list[NDArray[np.int8]] = field(default_factory=list)
    wires: list[NDArray[np.bool_]] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    second: list[float] = field(default_factory=list)
    _known: dict[bytes, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise ArgumentError(f"budget must be at least 1, found {self.budget}")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def over(self) -> bool:
        """Whether nothing may be asked any more, or nothing better is wanted."""
        return len(self) >= self.budget or (bool(self.values) and self.values[-1] >= self.goal)

    @property
    def archs(self) -> Architectures:
        """What was asked."""
        return Architectures(np.stack(self.ops), np.stack(self.wires))

    def asked(self, archs: Architectures) -> NDArray[np.bool_]:
        """Which were asked before, ``[m]``."""
        return np.array([name in self._known for name in names(archs)], bool)

    def ask(self, archs: Architectures) -> list[float]:
        """Values of architectures, in order; what was asked before costs nothing.

        Stops at the budget: the answer is then shorter than the question.
        """
        answers: list[float] = []
        for name, one in zip(names(archs), archs, strict=True):
            if name not in self._known:
                if self.over:
                    break
                value = float(self.problem.objective(one)[0])
                self._known[name] = value
                self.ops.append(one.ops[0])
                self.wires.append(one.wires[0])
                self.values.append(value)
                if self.problem.second is not None:
                    self.second.append(float(self.problem.second(one)[0]))
                if self.report is not None:
                    self.report(self)
            answers.append(self._known[name])
        return answers

    def best(self) -> NDArray[np.float64]:
        """The best value after each question, ``[q]``."""
        found: NDArray[np.float64] = np.maximum.accumulate(np.array(self.values))
        return found

    def reached(self, value: float) -> int | None:
        """Questions until a value of at least ``value``; None if there was none."""
        there = np.flatnonzero(np.array(self.values) >= value)
        return int(there[0]) + 1 if len(there) else None


def names(archs: Architectures) -> Sequence[bytes]:
    """What equal encodings share."""
    packed = np.packbits(archs.wires.reshape(len(archs), -1), axis=1)
    return [a.tobytes() + b.tobytes() for a, b in zip(archs.ops, packed, strict=True)]
