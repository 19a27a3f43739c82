r"""Solvers of Gaussian processes as one family: a plan of linear combinations.

Euler, Heun, DDIM, ancestral sampling, DPM-Solver++, DEIS and UniPC, with and without noise, all
advance by a linear combination of the state and of predictions, new and remembered:

.. math:: x_{i+1} = a_i x_i + b_i D_i + \sum_j c_{ij} F_{i-j} + n_i z .

They differ in the numbers only. A :class:`PlanSpec` states the choices (what is predicted, order,
nodes, coordinate of the polynomial, relaxation, corrector, noise; each for all steps or step by
step) and :meth:`PlanSpec.compile` turns them into a :class:`SolverPlan`, a table of float64
numbers. That both are plain data is what makes a solver searchable (Liu et al., 2024,
arXiv 2312.07243) and a found one a JSON file.

A corrector replaces the polynomial of a step by one that also passes through the prediction at
the step's end, keeping the noise of the step: ``x + sum (w' - w) F``. The pseudo corrector
(``"unic"``, Zhao et al., 2023, arXiv 2302.04867) waits for the evaluation that the next step pays
anyway and folds into its combination, so it costs neither a network call nor a tensor operation
of its own; the implicit one (``"heun"``) evaluates twice.

Ends are exact: a step to :math:`\sigma = 0` lands on :math:`\alpha D`, and a step from
:math:`\alpha = 0` is of first order, because there is nothing to extrapolate from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeVar, get_args

from graphdiff.core.coefficients import Coordinate, Grid, Prediction, Relaxation, make_grid
from graphdiff.core.errors import ArgumentError, ConfigError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.process import Process
from graphdiff.core.program import Solver
from graphdiff.core.tableau import Choice, Corrector, SolverPlan, tabulate

__all__ = [
    "DDIM",
    "DEIS",
    "Ancestral",
    "Corrector",
    "DPMSolverPP",
    "Euler",
    "Heun",
    "PlanSpec",
    "SolverPlan",
    "UniPC",
]

NoiseKind = Literal["tau", "eta"]
_T = TypeVar("_T")
_MAX_ORDER = 6


def _check(name: str, values: Sequence[object], allowed: Sequence[object]) -> None:
    for i, value in enumerate(values):
        if value not in allowed:
            raise ArgumentError(
                f"{name}[{i}] is {value!r}, expected one of {tuple(allowed)}; correct the plan"
            )


@dataclass(frozen=True)
class PlanSpec(Solver):
    """The choices that make a solver of a Gaussian process.

    A field given as a tuple has one entry for each step and fixes the number of steps.

    Attributes:
        name: label for tables.
        order: number of predictions that a step interpolates; the first steps have fewer.
        prediction: interpolate clean data (``"data"``) or noise (``"noise"``).
        coordinate: variable of the polynomial: ``"log_snr"``, ``"sigma"`` (``sigma / alpha``) or
            ``"t"``.
        lags: which past steps a step interpolates beside the current one (1 is the last), nearest
            first, ``order - 1`` of them; by default 1, 2, 3, ….
        relaxation: weight of a single difference, see
            :func:`graphdiff.core.coefficients.step_weights`.
        corrector: ``"none"``, ``"unic"`` (free, one order more) or ``"heun"`` (a second call).
        noise: intensity; 0 is the probability flow, 1 the reverse equation.
        noise_kind: ``"tau"``, the intensity of the stochastic equation, integrated exactly; or
            ``"eta"``, the fraction of the standard deviation of the bridge (DDIM). They agree at
            0 and 1.
        lower_order_final: lower the order towards the last step, which is then of first order.
        denoise: the last step returns the prediction itself (as if it ended at ``sigma = 0``).
        times: the grid the plan was made for; ``None`` fits any.
    """

    name: str = "plan"
    order: int | tuple[int, ...] = 1
    prediction: Prediction | tuple[Prediction, ...] = "data"
    coordinate: Coordinate = "log_snr"
    lags: tuple[tuple[int, ...], ...] | None = None
    relaxation: Relaxation = "none"
    corrector: Corrector | tuple[Corrector, ...] = "none"
    noise: float | tuple[float, ...] = 0.0
    noise_kind: NoiseKind = "tau"
    lower_order_final: bool = False
    denoise: bool = False
    times: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _check("order", _many(self.order), range(1, _MAX_ORDER + 1))
        _check("prediction", _many(self.prediction), get_args(Prediction))
        _check("corrector", _many(self.corrector), get_args(Corrector))
        _check("coordinate", [self.coordinate], get_args(Coordinate))
        _check("relaxation", [self.relaxation], get_args(Relaxation))
        _check("noise_kind", [self.noise_kind], get_args(NoiseKind))
        if any(not noise >= 0 for noise in _many(self.noise)):
            raise ArgumentError(f"noise is {self.noise!r}, expected numbers of zero or more")
        if self.noise_kind == "eta" and any(noise > 1 for noise in _many(self.noise)):
            raise ArgumentError(f"noise is {self.noise!r}, expected eta between 0 and 1")
        if any(_many(self.noise)) and set(_many(self.prediction)) != {"data"}:
            raise ArgumentError(
                "noise needs prediction='data': the linear part of the data form keeps the "
                "marginals exact; set prediction='data' or noise=0"
            )
        if self.relaxation != "none" and self.coordinate != "log_snr":
            raise ArgumentError(
                f"relaxation {self.relaxation!r} is defined for coordinate 'log_snr', found "
                f"{self.coordinate!r}; use relaxation='none'"
            )
        if self.times is not None and not isinstance(self.times, tuple):
            raise ArgumentError(f"times of a plan is {self.times!r}, expected a tuple of numbers")
        for i, lags in enumerate(self.lags or ()):
            if any(lag < 1 for lag in lags) or len(set(lags)) < len(lags):
                raise ArgumentError(f"lags[{i}] is {lags}, expected different positive integers")

    def compile(self, process: Process, times: Sequence[float] | None = None) -> SolverPlan:
        """The table of coefficients for ``process`` on the descending grid ``times``.

        Args:
            process: a Gaussian process.
            times: the grid, ``n + 1`` long; may be left out if the plan has its own.

        Raises:
            ArgumentError: the process is not Gaussian, the grid does not descend, or the plan was
                made for another grid.
        """
        if not isinstance(process, Gaussian):
            raise ArgumentError(
                f"{self.name} solves Gaussian processes, found {type(process).__name__}; use a "
                "solver of graphdiff.core.jump for discrete components"
            )
        if times is None:
            times = self.times
        if times is None:
            raise ArgumentError(f"{self.name} has no times of its own; pass a grid")
        if self.times is not None and tuple(map(float, times)) != self.times:
            raise ArgumentError(
                f"{self.name} was made for its own {len(self.times)} times and was given "
                f"{len(times)} others; sample on plan.times"
            )
        grid = make_grid(process.schedule, times)
        choices = [self._choice(grid, i, *row) for i, row in enumerate(self._by_step(grid.n))]
        return tabulate(
            grid, choices, self.coordinate, self.relaxation, self.denoise, process.space
        )

    def _by_step(self, n: int) -> Iterator[tuple[Any, ...]]:
        """The fields that may differ from step to step, one row for each step."""
        columns = []
        for name in ("order", "prediction", "corrector", "noise", "lags"):
            value = getattr(self, name)
            if not isinstance(value, tuple):
                value = (value,) * n
            if len(value) != n:
                raise ArgumentError(
                    f"{name} of {self.name} has {len(value)} entries, the grid {n} steps; give one "
                    "for each step, or one for all"
                )
            columns.append(value)
        return zip(*columns, strict=True)

    def _choice(
        self,
        grid: Grid,
        i: int,
        order: int,
        prediction: Prediction,
        corrector: Corrector,
        noise: float,
        lags: tuple[int, ...] | None,
    ) -> Choice:
        """What step ``i`` does, with noise as ``tau^2 h`` and nodes as indices of grid points."""
        if self.lower_order_final:
            order = min(order, grid.n - i)
        past = [i - lag for lag in (lags if lags is not None else range(1, order))]
        nodes = (i, *(j for j in past[: order - 1] if j >= 0))
        h = grid.h(i)
        loss = noise**2 * h if noise else 0.0
        if self.noise_kind == "eta" and 0 < noise < 1:
            loss = -0.5 * math.log1p(noise**2 * math.expm1(-2 * h))
        return Choice(nodes, prediction, corrector, loss)

    def to_dict(self) -> dict[str, Any]:
        """A plain mapping of numbers, strings and lists."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    def to_json(self) -> str:
        """The plan as JSON text; numbers survive exactly."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> PlanSpec:
        """Inverse of :meth:`to_dict`.

        Raises:
            ConfigError: a key is unknown, or a value has the wrong type or range.
        """
        known = {field.name for field in fields(cls)}
        for key in config:
            if key not in known:
                raise ConfigError(f"unknown key {key!r} in a plan; known are {sorted(known)}")
        try:
            return cls(**{key: _frozen(value) for key, value in config.items()})
        except (ArgumentError, TypeError) as error:
            raise ConfigError(f"a plan does not fit: {error}") from error

    @classmethod
    def from_json(cls, text: str) -> PlanSpec:
        """Inverse of :meth:`to_json`.

        Raises:
            ConfigError: the text is not JSON, or not a plan.
        """
        try:
            config = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"a plan must be JSON: {error}") from error
        if not isinstance(config, dict):
            raise ConfigError(f"a plan must be a JSON object, found {type(config).__name__}")
        return cls.from_dict(config)


def _many(value: _T | tuple[_T, ...]) -> tuple[_T, ...]:
    return value if isinstance(value, tuple) else (value,)


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def Euler() -> PlanSpec:
    """Euler's method for ``d(x/alpha) = eps d(sigma/alpha)``; the same numbers as ``DDIM(0)``."""
    return PlanSpec("Euler", prediction="noise", coordinate="sigma")


def Heun() -> PlanSpec:
    """Heun's method of Karras et al., 2022 (algorithm 1 without churn): order 2, two calls."""
    return PlanSpec("Heun", prediction="noise", coordinate="sigma", corrector="heun")


def DDIM(eta: float = 0.0) -> PlanSpec:
    """DDIM (Song et al., 2021, arXiv 2010.02502, eq. 12); ``eta = 1`` is ancestral sampling."""
    return PlanSpec(f"DDIM({eta:g})", noise=eta, noise_kind="eta")


def Ancestral() -> PlanSpec:
    """Ancestral sampling (Ho et al., 2020): each step is the exact bridge given the prediction."""
    return PlanSpec("Ancestral", noise=1.0)


def DPMSolverPP(order: int = 2, sde: bool = False) -> PlanSpec:
    """DPM-Solver++ multistep of order 1, 2 or 3 (Lu et al., 2022, arXiv 2211.01095).

    Order 2 is the published 2M. Order 3 integrates the interpolating parabola exactly; published
    code halves its second-order term, which makes it a method of order 2.
    """
    _orders("DPMSolverPP", order)
    name = f"DPM++{order}M" + (" SDE" if sde else "")
    return PlanSpec(name, order, relaxation="bh2", noise=float(sde))


def DEIS(order: int = 3, sde: bool = False) -> PlanSpec:
    """DEIS-tAB of order 1, 2 or 3 (Zhang & Chen, 2023, arXiv 2204.13902): polynomials in ``t``.

    The form with noise interpolates clean data, so that it keeps exact marginals.
    """
    _orders("DEIS", order)
    name = f"DEIS{order}" + (" SDE" if sde else "")
    prediction: Prediction = "data" if sde else "noise"
    return PlanSpec(name, order, prediction, coordinate="t", noise=float(sde))


def UniPC(order: int = 2, variant: Relaxation = "bh2", sde: bool = False) -> PlanSpec:
    """UniPC of order 1, 2 or 3 (Zhao et al., 2023, arXiv 2302.04867), data prediction.

    A predictor of order ``order`` and the free corrector, which adds one.

    Args:
        order: number of predictions that the predictor interpolates.
        variant: ``B(h)`` of the paper, ``"bh1"`` or ``"bh2"``; ``"none"`` solves for all weights.
        sde: with the noise of the reverse equation (SA-Solver, arXiv 2309.05019).
    """
    _orders("UniPC", order)
    name = f"UniPC{order}" + ("" if variant == "bh2" else f" {variant}") + (" SDE" if sde else "")
    return PlanSpec(name, order, relaxation=variant, corrector="unic", noise=float(sde))


def _orders(name: str, order: int) -> None:
    if order not in (1, 2, 3):
        raise ArgumentError(
            f"order of {name} is {order!r}, expected 1, 2 or 3; higher orders are unstable on "
            "learned predictions, PlanSpec(order=...) allows them"
        )
