r"""The table that a plan compiles to, and how it is filled.

A step is ``x' = a x + sum_j w_j F_j + n z`` with predictions ``F`` (clean data ``D``, or noise
``(x - alpha D) / sigma``) at the current and at past grid points. Three facts keep a step to a
handful of tensor operations with Python numbers:

* the noise prediction of the current point is a combination of ``x`` and ``D``, so it is folded
  into their coefficients;
* a free corrector changes ``x`` by ``sum (w' - w) F`` over the same predictions, so it is folded
  into the step that follows it;
* what later steps need is known beforehand, so nothing else is remembered.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

from graphdiff.core.coefficients import (
    Coordinate,
    Grid,
    Prediction,
    Relaxation,
    inner_times,
    step_weights,
)
from graphdiff.core.errors import ArgumentError
from graphdiff.core.kernel import Delta, Kernel, Normal
from graphdiff.core.program import Carry, Program
from graphdiff.core.rng import Key
from graphdiff.core.space import Space

__all__ = ["Choice", "Corrector", "Row", "SolverPlan", "tabulate"]

Corrector = Literal["none", "unic", "heun"]
_Terms = dict[tuple[int, Prediction], float]


class Choice(NamedTuple):
    """What one step does.

    Attributes:
        nodes: grid points whose predictions it interpolates, the current one first.
        prediction: what is interpolated.
        corrector: what follows the step.
        loss: ``tau^2 h``; the step keeps ``exp(-loss)`` of the old noise.
    """

    nodes: tuple[int, ...]
    prediction: Prediction
    corrector: Corrector
    loss: float


class Row(NamedTuple):
    """One stage of one step: ``scale x + data D + sum past F + std z``.

    ``store`` turns ``(x, D)`` into what is remembered: ``None`` for ``D`` itself, ``(a, b)`` for
    ``a x + b D``; ``depth`` is how much is remembered afterwards.
    """

    time: float
    scale: float
    data: float
    past: tuple[tuple[int, float], ...]
    std: float
    store: tuple[tuple[float, float] | None, ...]
    depth: int


@dataclass(frozen=True)
class SolverPlan(Program):
    """A compiled :class:`PlanSpec`: numbers only, safe to share by threads.

    Attributes:
        rows: the table, ``rows[stage][i]``; ``None`` where a stage is skipped.
        space: where the free coordinates sit.
        stages: network evaluations in one step.
    """

    rows: tuple[tuple[Row | None, ...], ...]
    space: Space
    stages: int

    def evaluate_at(self, i: int, stage: int) -> float | None:
        """Clock of the evaluation; ``None`` where an implicit corrector has nothing to correct."""
        row = self.rows[stage][i]
        return None if row is None else row.time

    def start(self, x: Tensor) -> Carry:
        """Nothing is remembered before the first step."""
        return ()

    def update(
        self,
        i: int,
        stage: int,
        x: Tensor,
        x0: Tensor,
        mask: Tensor | None,
        carry: Carry,
        key: Key,
    ) -> tuple[Kernel, Carry]:
        """Advance one stage; see :meth:`graphdiff.core.program.Program.update`."""
        row = self.rows[stage][i]
        if row is None:
            raise ArgumentError(f"stage {stage} of step {i} is skipped; do not call update for it")
        if row.scale:
            mean = x * row.scale
            if row.data:
                mean.add_(x0, alpha=row.data)
        else:
            mean = x0 * row.data
        for index, weight in row.past:
            mean.add_(carry[index], alpha=weight)
        if row.store:
            new = tuple(
                x0 if pair is None else (x * pair[0]).add_(x0, alpha=pair[1]) for pair in row.store
            )
            carry = (*new, *carry)
        if len(carry) > row.depth:
            carry = carry[: row.depth]
        if row.std:
            return Normal(mean, row.std, self.space, mask), carry
        return Delta(mean), carry


def tabulate(
    grid: Grid,
    choices: Sequence[Choice],
    coordinate: Coordinate,
    relaxation: Relaxation,
    denoise: bool,
    space: Space,
) -> SolverPlan:
    """Fill the table of ``choices``, one for each step of ``grid``."""
    table = _Table(grid, choices, coordinate, relaxation, denoise)
    stages = 2 if any(choice.corrector == "heun" for choice in choices) else 1
    rows = tuple(tuple(table.row(i, stage) for i in range(grid.n)) for stage in range(stages))
    return SolverPlan(rows, space, stages)


class _Table:
    """Weights of every step, and of every correction, as sums over ``(grid point, prediction)``."""

    def __init__(
        self,
        grid: Grid,
        choices: Sequence[Choice],
        coordinate: Coordinate,
        relaxation: Relaxation,
        denoise: bool,
    ) -> None:
        self.grid, self.coordinate, self.relaxation = grid, coordinate, relaxation
        self.lands = [s == 0 for s in grid.sigma[1:]]
        self.lands[-1] = self.lands[-1] or denoise
        self.end_alpha = [1.0 if denoise and i == grid.n - 1 else grid.alpha[i + 1]
                          for i in range(grid.n)]  # fmt: skip
        self.choices = [self._feasible(i, choice) for i, choice in enumerate(choices)]
        self.inner: list[list[float]] | None = None
        if coordinate == "t" and any(len(c.nodes) > 1 or c.corrector != "none" for c in choices):
            self.inner = inner_times(
                grid,
                [choice.prediction for choice in self.choices],
                [self._tau2(i) for i in range(grid.n)],
            )
        self.steps = [self._step(i) for i in range(grid.n)]
        self.corrections = [self._correction(i) for i in range(grid.n)]
        self.kinds: tuple[Prediction, ...] = tuple(sorted({kind for _, _, kind in self._asked()}))
        self.depths = self._depths()

    def _feasible(self, i: int, choice: Choice) -> Choice:
        """The choice without nodes at infinity, and of first order at the ends."""
        where = self.grid.coordinate(self.coordinate)
        from_nothing = self.grid.alpha[i] == 0
        if self.lands[i] or from_nothing:
            return Choice((i,), "data", "none", choice.loss)
        nodes = tuple(j for j in choice.nodes if math.isfinite(where[j]))
        return choice._replace(nodes=nodes)

    def _tau2(self, i: int) -> float:
        """Squared noise intensity of step ``i``; of no meaning, hence 0, if it is infinite."""
        h = self.grid.h(i)
        return self.choices[i].loss / h if math.isfinite(h) else 0.0

    def _weights(self, i: int, nodes: Sequence[int]) -> _Terms:
        choice = self.choices[i]
        weights = step_weights(
            self.grid,
            i,
            nodes,
            choice.prediction,
            self._tau2(i),
            self.coordinate,
            self.relaxation,
            self.inner[i] if self.inner is not None else None,
        )
        return {(j, choice.prediction): w for j, w in zip(nodes, weights, strict=True)}

    def _step(self, i: int) -> tuple[float, _Terms, float]:
        """Factor of ``x``, weights of the predictions and standard deviation of step ``i``."""
        grid, choice = self.grid, self.choices[i]
        if self.lands[i]:
            return 0.0, {(i, "data"): self.end_alpha[i]}, 0.0
        if choice.prediction == "noise":
            factor = grid.alpha[i + 1] / grid.alpha[i]
        else:
            factor = grid.sigma[i + 1] / grid.sigma[i] * math.exp(-choice.loss)
        std = grid.sigma[i + 1] * math.sqrt(-math.expm1(-2 * choice.loss))
        return factor, self._weights(i, choice.nodes), std

    def _correction(self, i: int) -> _Terms:
        """What the corrector of step ``i`` adds to the state at its end."""
        choice = self.choices[i]
        if choice.corrector == "none" or (choice.corrector == "unic" and i == self.grid.n - 1):
            return {}
        terms = self._weights(i, (*choice.nodes, i + 1))
        for key, weight in self.steps[i][1].items():
            terms[key] -= weight
        return terms

    def _asked(self) -> Iterator[tuple[int, int, Prediction]]:
        """What is remembered: (step after which it is still needed, grid point, prediction)."""
        for i in range(self.grid.n):
            terms = list(self.steps[i][1])
            if i and self.choices[i - 1].corrector == "unic":
                terms += self.corrections[i - 1]
            yield from ((i - 1, j, kind) for j, kind in terms if j < i)
            if self.choices[i].corrector == "heun":
                yield from ((i, j, kind) for j, kind in self.corrections[i] if j <= i)

    def _depths(self) -> list[int]:
        """Number of grid points remembered after each step."""
        depths = [0] * self.grid.n
        for last, j, _ in self._asked():
            for m in range(j, last + 1):
                depths[m] = max(depths[m], m - j + 1)
        return depths

    def row(self, i: int, stage: int) -> Row | None:
        """The row of step ``i`` in ``stage``; ``None`` if there is nothing to do."""
        if stage == 1:
            if self.choices[i].corrector != "heun":
                return None
            return self._fold(i + 1, 1.0, dict(self.corrections[i]), 0.0, i)
        factor, weights, std = self.steps[i]
        terms = dict(weights)
        if i and self.choices[i - 1].corrector == "unic":
            for key, weight in self.corrections[i - 1].items():
                terms[key] = terms.get(key, 0.0) + factor * weight
        return self._fold(i, factor, terms, std, None)

    def _fold(self, now: int, factor: float, terms: _Terms, std: float, step: int | None) -> Row:
        """Express the prediction at grid point ``now`` by ``x`` and ``D``, the others by place."""
        grid = self.grid
        corrects = step is not None
        data = terms.pop((now, "data"), 0.0)
        noise = terms.pop((now, "noise"), 0.0)
        if noise:
            factor += noise / grid.sigma[now]
            data -= noise * grid.alpha[now] / grid.sigma[now]
        past = tuple(
            ((now - 1 - j) * len(self.kinds) + self.kinds.index(kind), weight)
            for (j, kind), weight in sorted(terms.items(), reverse=True)
            if weight
        )
        depth = self.depths[step if step is not None else now]
        store: tuple[tuple[float, float] | None, ...] = ()
        if depth and not corrects:
            store = tuple(
                None
                if kind == "data"
                else (1 / grid.sigma[now], -grid.alpha[now] / grid.sigma[now])
                for kind in self.kinds
            )
        return Row(grid.times[now], factor, data, past, std, store, depth * len(self.kinds))
