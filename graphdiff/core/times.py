r"""Grids of clock times for samplers.

All grids descend in float64 from ``start`` to ``end`` in ``n`` steps:

* ``uniform``: equal steps of the clock;
* ``log_snr``: equal steps of :math:`\log(\alpha^2/\sigma^2)` (Lu et al., 2206.00927);
* ``karras``: equal steps of :math:`(\sigma/\alpha)^{1/\rho}` (Karras et al., 2206.00364, eq. 5);
* ``published``: the loop of the score-SDE family and GDSS, which takes a step at *every* one of
  the ``n`` times ``linspace(start, end, n)``, the last one included. The grid is these n times
  and a final 0, so n evaluations belong to n times;
* ``explicit``: the numbers in ``values``.

A *distortion* bends the clock, of a uniform grid or of training times. The names are those of DeFoG
(Qin et al., 2024, arXiv 2410.04263), whose clock :math:`\tau = 1 - t` runs towards the data:

=========== ============================================== ==========================
name        :math:`f(\tau)`                                 on the clock :math:`t` here
=========== ============================================== ==========================
identity    :math:`\tau`                                    :math:`t`
polydec     :math:`2\tau - \tau^2`                          :math:`t^2`
polyinc     :math:`\tau^2`                                  :math:`2t - t^2`
cos         :math:`(1 - \cos\pi\tau)/2`                     :math:`(1 - \cos\pi t)/2`
revcos      :math:`2\tau - (1 - \cos\pi\tau)/2`             :math:`2t - (1 - \cos\pi t)/2`
=========== ============================================== ==========================

``polydec`` spends steps (and training times) near the data, ``polyinc`` near the noise, ``cos`` at
both ends and ``revcos`` in the middle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeVar, get_args

import torch

from graphdiff.core.errors import ArgumentError
from graphdiff.core.process import Process, Product
from graphdiff.core.schedule import Schedule

__all__ = ["Distortion", "Times", "distort_time"]

TimesKind = Literal["uniform", "log_snr", "karras", "published", "explicit"]
Distortion = Literal["identity", "polydec", "polyinc", "cos", "revcos"]
Clock = TypeVar("Clock", float, torch.Tensor)


def distort_time(t: Clock, kind: Distortion) -> Clock:
    """Bend clock times: an increasing map of [0, 1] onto itself, see the module's text.

    Uniform ``t`` become training times of the density that the distortion stands for.

    Args:
        t: Times on the clock of this library (0 data, 1 noise): a float, or a floating tensor of
            any shape.
        kind: Name of the distortion.

    Returns:
        Times on the same clock, of the type, shape and dtype of ``t``.

    Raises:
        ArgumentError: if ``kind`` is unknown.
    """
    if kind == "identity":
        return t
    if kind == "polydec":
        return t * t
    if kind == "polyinc":
        return t * (2 - t)
    if kind not in ("cos", "revcos"):
        raise ArgumentError(
            f"distortion must be one of {', '.join(get_args(Distortion))}; found {kind!r}"
        )
    half = math.pi / 2 * t
    bend = half.sin().square() if isinstance(half, torch.Tensor) else math.sin(half) ** 2
    return bend if kind == "cos" else 2 * t - bend


@dataclass(frozen=True)
class Times:
    """A recipe for ``n + 1`` descending clock times, hence ``n`` steps.

    Attributes:
        n: number of steps.
        kind: spacing, see the module's text.
        start: first time, at most 1.
        end: last time (``published``: last time at which the network is asked).
        to_zero: add one more time, 0, as the end of the n-th step; the spacing then covers
            ``n - 1`` steps. Discrete components need it to be clean in the end, and a Gaussian one
            lands on its last prediction.
        rho: exponent of ``karras``.
        values: the times of ``explicit``; give ``n = len(values) - 1``.
        component: whose schedule ``log_snr`` and ``karras`` read, if a product has several.
        distortion: bends the steps of ``uniform``; ``start`` and ``end`` stay where they are.

    Raises:
        ArgumentError: if the numbers make no descending grid in [0, 1].
    """

    n: int
    kind: TimesKind = "uniform"
    start: float = 1.0
    end: float = 1e-3
    to_zero: bool = False
    rho: float = 7.0
    values: tuple[float, ...] = ()
    component: str | None = None
    distortion: Distortion = "identity"

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(float(v) for v in self.values))
        if self.n < 1:
            raise ArgumentError(f"Times needs n >= 1 steps, found {self.n}")
        if self.kind not in get_args(TimesKind):
            raise ArgumentError(
                f"Times knows the kinds {', '.join(get_args(TimesKind))}; found {self.kind!r}"
            )
        if self.distortion not in get_args(Distortion):
            raise ArgumentError(
                f"distortion must be one of {', '.join(get_args(Distortion))}; found "
                f"{self.distortion!r}"
            )
        if self.distortion != "identity" and self.kind != "uniform":
            raise ArgumentError(
                f"distortion={self.distortion!r} bends a uniform grid, found kind={self.kind!r}; "
                'set kind="uniform"'
            )
        if self.kind == "explicit":
            if len(self.values) != self.n + 1:
                raise ArgumentError(
                    f"Times(kind='explicit') needs n + 1 = {self.n + 1} values, found "
                    f"{len(self.values)}; set n to the number of values less one"
                )
            if self.to_zero:
                raise ArgumentError("to_zero adds nothing to explicit times; put 0 into values")
            descending(self.values)
        elif self.values:
            raise ArgumentError(f"values belong to kind='explicit', found kind={self.kind!r}")
        elif not 0.0 <= self.end < self.start <= 1.0:
            raise ArgumentError(
                f"Times needs 0 <= end < start <= 1, found start={self.start}, end={self.end}"
            )

    @staticmethod
    def at(values: Sequence[float]) -> Times:
        """The explicit grid ``values``."""
        return Times(len(values) - 1, "explicit", values=tuple(values))

    def grid(self, process: Process | Product) -> tuple[float, ...]:
        """The ``n + 1`` times for a process; descending, float64.

        Raises:
            ArgumentError: if the kind reads a schedule and none, or more than one, qualifies, or if
                the schedule is not finite at an end of the grid.
        """
        if self.kind == "explicit":
            return self.values
        append = self.to_zero or self.kind == "published"
        steps = self.n - 1 if append else self.n
        if steps == 0:
            return (self.start, 0.0)
        if self.distortion != "identity":
            unit = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
            grid = self.end + (self.start - self.end) * distort_time(unit, self.distortion)
        elif self.kind in ("uniform", "published"):
            grid = torch.linspace(self.start, self.end, steps + 1, dtype=torch.float64)
        else:
            grid = self._by_schedule(_schedule(process, self.component, self.kind), steps)
        points = grid.tolist()
        points[0], points[-1] = self.start, self.end
        if append and self.end > 0.0:
            points.append(0.0)
        elif append:
            raise ArgumentError(
                f"Times adds a last step to 0, but end is already {self.end}; give end > 0 or "
                "leave to_zero out"
            )
        return descending(points)

    def _by_schedule(self, schedule: Schedule, steps: int) -> torch.Tensor:
        ends = schedule.log_snr(torch.tensor([self.start, self.end], dtype=torch.float64)).tolist()
        if not all(math.isfinite(e) for e in ends):
            raise ArgumentError(
                f"Times(kind={self.kind!r}) needs a finite log-SNR at both ends, found {ends[0]:g} "
                f"at {self.start:g} and {ends[1]:g} at {self.end:g}; move the end that is "
                "infinite, "
                "or keep it and set to_zero=True"
            )
        if self.kind == "log_snr":
            return schedule.inverse(
                torch.linspace(ends[0], ends[1], steps + 1, dtype=torch.float64)
            )
        if not self.rho > 0.0:
            raise ArgumentError(f"Times(kind='karras') needs rho > 0, found {self.rho}")
        roots = [math.exp(-0.5 * e / self.rho) for e in ends]
        sigma = torch.linspace(roots[0], roots[1], steps + 1, dtype=torch.float64) ** self.rho
        return schedule.inverse(-2.0 * sigma.log())


def descending(times: Sequence[float]) -> tuple[float, ...]:
    """``times`` as a tuple, checked to descend strictly within [0, 1]."""
    points = tuple(times)
    if len(points) < 2:
        raise ArgumentError(f"a grid of times needs at least two entries, found {len(points)}")
    for i, (t, s) in enumerate(pairwise(points)):
        if not t > s:
            raise ArgumentError(
                f"times must descend strictly; entries {i} and {i + 1} are {t}, {s}"
            )
    if points[0] > 1.0 or points[-1] < 0.0:
        raise ArgumentError(
            f"times must lie in [0, 1], found {points[0]:g} at the start and {points[-1]:g} at the "
            "end"
        )
    return points


def _schedule(process: Process | Product, component: str | None, kind: str) -> Schedule:
    parts = process.parts if isinstance(process, Product) else {"": process}
    found: dict[str, Schedule] = {}
    for name, part in parts.items():
        schedule = getattr(part, "schedule", None)
        if isinstance(schedule, Schedule):
            found[name] = schedule
    if component is not None:
        if component not in found:
            raise ArgumentError(
                f"Times(component={component!r}) names no component with a schedule; found "
                f"{', '.join(sorted(found)) or 'none'}"
            )
        return found[component]
    distinct = set(found.values())
    if len(distinct) != 1:
        raise ArgumentError(
            f"Times(kind={kind!r}) reads one schedule, found {len(distinct)} different ones "
            f"(components {', '.join(sorted(found)) or 'none'}); name one with component=..."
        )
    return distinct.pop()
