"""What a sampler computes once: grid, programs, and the network evaluations of every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphdiff.core.errors import ArgumentError
from graphdiff.core.program import Program

__all__ = ["Compiled", "Slot", "slots_of"]


@dataclass(frozen=True)
class Slot:
    """One network evaluation of a step.

    Attributes:
        time: clock time at which the denoiser is asked.
        noise: step number of the noise key.
        parts: component, and the stage of its program, of those that move; the others rest.
    """

    time: float
    noise: int
    parts: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Compiled:
    """What a sampler computes once: grid, programs and the evaluations of every step."""

    times: tuple[float, ...]
    programs: dict[str, Program]
    slots: tuple[tuple[Slot, ...], ...]
    streams: dict[str, int]

    @property
    def network_calls(self) -> int:
        """Network evaluations of a whole chain."""
        return sum(len(slots) for slots in self.slots)


def slots_of(programs: Mapping[str, Program], i: int, stages: int) -> tuple[Slot, ...]:
    """Lay the evaluations of all programs in step ``i`` over each other.

    The program with the most evaluations sets the times; every other takes the latest slots that
    have its times, so that a one-stage component moves together with the predictor of a
    predictor-corrector, and with the first stage of Heun's method.
    """
    wanted: dict[str, list[tuple[int, float]]] = {}
    for name, program in programs.items():
        asked = [(stage, program.evaluate_at(i, stage)) for stage in range(program.stages)]
        wanted[name] = [(stage, t) for stage, t in asked if t is not None]
    lead = max(wanted, key=lambda name: len(wanted[name]))
    clock = [t for _, t in wanted[lead]]
    parts: list[list[tuple[str, int]]] = [[] for _ in clock]
    for name, own in wanted.items():
        below = len(clock)
        for stage, t in reversed(own):
            fits = [j for j in range(below) if clock[j] == t]
            if not fits:
                raise ArgumentError(
                    f"in step {i} component {name!r} asks the network at {[u for _, u in own]} and "
                    f"component {lead!r} at {clock}; these do not fit into common evaluations: "
                    "give "
                    "both components solvers of one family"
                )
            below = fits[-1]
            parts[below].append((name, stage))
    base = 1 + i * stages
    return tuple(
        Slot(t, base + j, tuple(sorted(own)))
        for j, (t, own) in enumerate(zip(clock, parts, strict=True))
    )
