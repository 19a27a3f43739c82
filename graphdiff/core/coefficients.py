r"""Coefficients of exponential integrators, in float64 and without cancellation.

One step from :math:`s` to :math:`t` of a Gaussian process, in :math:`\lambda = \log(\alpha/\sigma)`
and with :math:`h = \lambda_t - \lambda_s`, is the exact linear equation

.. math::
    \text{data:}\quad x_t &= \tfrac{\sigma_t}{\sigma_s} e^{-\tau^2 h} x_s
        + \alpha_t \int_{\lambda_s}^{\lambda_t} r e^{-r(\lambda_t - \lambda)} D \, d\lambda
        + \sigma_t \sqrt{1 - e^{-2\tau^2 h}}\, z, \qquad r = 1 + \tau^2, \\
    \text{noise:}\quad x_t &= \tfrac{\alpha_t}{\alpha_s} x_s
        - \alpha_t \int_{\rho_t}^{\rho_s} \varepsilon \, d\rho, \qquad
        \rho = \sigma / \alpha = e^{-\lambda}

(Lu et al., 2022, arXiv 2211.01095; Xue et al., 2023, arXiv 2309.05019). A solver replaces the
prediction under the integral by the polynomial through its values at some nodes; the weights of
those values are integrals of Lagrange polynomials, which this module computes. The polynomial may
be in :math:`\lambda` (closed form, by the functions :math:`\varphi_k`), in :math:`\rho`, or in the
clock (by Gauss-Legendre quadrature in the variable in which the weight is constant).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from graphdiff.core.errors import ArgumentError
from graphdiff.core.schedule import Schedule

__all__ = [
    "Coordinate",
    "Grid",
    "Prediction",
    "Relaxation",
    "gauss_legendre",
    "lagrange_weights",
    "make_grid",
    "phi",
    "step_weights",
]

Prediction = Literal["data", "noise"]
Coordinate = Literal["log_snr", "sigma", "t"]
Relaxation = Literal["none", "bh1", "bh2"]

_POINTS = 24


def phi(k: int, z: float) -> float:
    r"""The function :math:`\varphi_k(z) = \int_0^1 e^{(1-u) z} u^{k-1} / (k-1)!\,du`.

    ``phi_0`` is the exponential. Near zero by a series of positive terms (for ``z < 0`` after
    Kummer's transformation), else by the recurrence ``phi_k = (phi_{k-1} - 1/(k-1)!) / z``, which
    is stable for large ``|z|``.
    """
    if k == 0:
        return math.exp(z)
    if abs(z) > 8:
        value = math.expm1(z) / z
        for j in range(1, k):
            value = (value - 1 / math.factorial(j)) / z
        return value
    total, j = 0.0, 0
    power = 1.0 / math.factorial(k) if z >= 0 else 1.0
    while True:
        term = power if z >= 0 else power / (k + j)
        total += term
        if term <= 1e-18 * total:
            break
        j += 1
        power *= z / (k + j) if z >= 0 else -z / j
    return total if z >= 0 else math.exp(z) * total / math.factorial(k - 1)


@functools.cache
def gauss_legendre(points: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Nodes and weights of Gauss-Legendre quadrature on ``[0, 1]`` (Golub & Welsch, 1969)."""
    k = torch.arange(1, points, dtype=torch.float64)
    beta = k / (4 * k.square() - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(beta, 1) + torch.diag(beta, -1))
    return tuple(((nodes + 1) / 2).tolist()), tuple(vectors[0].square().tolist())


@dataclass(frozen=True)
class Grid:
    """A descending grid of times with everything the coefficients need, as float64 numbers.

    Attributes:
        times: clock, ``n + 1`` values.
        alpha: signal coefficients.
        sigma: noise levels.
        lam: ``log(alpha / sigma)``; infinite at the ends of some schedules.
        rho: ``sigma / alpha``.
        schedule: where they come from.
    """

    times: tuple[float, ...]
    alpha: tuple[float, ...]
    sigma: tuple[float, ...]
    lam: tuple[float, ...]
    rho: tuple[float, ...]
    schedule: Schedule

    @property
    def n(self) -> int:
        """Number of steps."""
        return len(self.times) - 1

    def h(self, i: int) -> float:
        """Length of step ``i`` in ``lam``."""
        return self.lam[i + 1] - self.lam[i]

    def coordinate(self, name: Coordinate) -> tuple[float, ...]:
        """The grid in one of the coordinates in which polynomials are made."""
        return {"log_snr": self.lam, "sigma": self.rho, "t": self.times}[name]


def make_grid(schedule: Schedule, times: Sequence[float]) -> Grid:
    """Evaluate ``schedule`` on ``times``.

    Raises:
        ArgumentError: fewer than two times, not strictly descending, outside ``[0, 1]``, or so
            close that the signal-to-noise ratio does not grow.
    """
    clock = [float(t) for t in times]
    if len(clock) < 2:
        raise ArgumentError(f"a grid needs at least two times, found {clock}; add an end")
    if not (clock[0] <= 1 and clock[-1] >= 0):
        raise ArgumentError(f"times run from {clock[0]} to {clock[-1]}, expected within [1, 0]")
    for i, (t, s) in enumerate(itertools.pairwise(clock)):
        if not t > s:
            raise ArgumentError(
                f"times[{i}] = {t} and times[{i + 1}] = {s}: the grid must strictly descend"
            )
    tensor = torch.tensor(clock, dtype=torch.float64)
    alpha, sigma = schedule.alpha(tensor), schedule.sigma(tensor)
    grid = Grid(
        tuple(clock),
        tuple(alpha.tolist()),
        tuple(sigma.tolist()),
        tuple((schedule.log_snr(tensor) / 2).tolist()),
        tuple((sigma / alpha).tolist()),
        schedule,
    )
    for i in range(len(clock) - 1):
        if not grid.h(i) > 0:
            raise ArgumentError(
                f"times[{i}] = {clock[i]} and times[{i + 1}] = {clock[i + 1]} have log-SNR "
                f"{2 * grid.lam[i]} and {2 * grid.lam[i + 1]}: it must grow; use fewer steps"
            )
    return grid


def lagrange_weights(nodes: Sequence[float], moments: Sequence[float]) -> list[float]:
    """Weights ``w`` with ``sum_j w_j nodes_j^k = moments_k``, ``k < len(nodes)``.

    They integrate the interpolating polynomial against the measure with those moments.
    """
    weights = []
    for j, node in enumerate(nodes):
        polynomial = [1.0]
        scale = 1.0
        for i, other in enumerate(nodes):
            if i != j:
                shifted = [0.0, *polynomial]
                for k, c in enumerate(polynomial):
                    shifted[k] -= other * c
                polynomial = shifted
                scale *= node - other
        products = (c * m for c, m in zip(polynomial, moments, strict=False))
        weights.append(math.fsum(products) / scale)
    return weights


def step_weights(
    grid: Grid,
    i: int,
    nodes: Sequence[int],
    prediction: Prediction,
    tau2: float,
    coordinate: Coordinate,
    relaxation: Relaxation,
    inner: Sequence[float] | None = None,
) -> list[float]:
    """Weights of the predictions at the grid points ``nodes`` in step ``i``.

    Args:
        grid: the grid.
        i: the step, from ``times[i]`` to ``times[i + 1]``.
        nodes: indices of grid points; the first is ``i``, a corrector adds ``i + 1``.
        prediction: what is interpolated, clean data or noise.
        tau2: squared noise intensity, 0 for the ordinary differential equation.
        coordinate: in which the polynomial is made.
        relaxation: replacement of the weight of a single difference: ``bh2`` is half the
            first-order weight (DPM-Solver++ 2M, UniPC-bh2), ``bh1`` half its limit for small steps
            (UniPC-bh1); of no effect with more than two nodes.
        inner: clock at the quadrature points of the step (:func:`inner_times`), for ``"t"``.
    """
    h, r = grid.h(i), 1 + tau2
    alpha, sigma = grid.alpha[i + 1], grid.sigma[i + 1]
    if prediction == "data":
        whole = -alpha * math.expm1(-r * h)
    else:
        whole = alpha * (grid.rho[i + 1] - grid.rho[i])
    if len(nodes) == 1:
        return [whole]
    where = grid.coordinate(coordinate)
    origin, scale = where[i], where[i + 1] - where[i]
    v = [(where[j] - origin) / scale for j in nodes]
    if coordinate == "log_snr":
        if relaxation != "none" and len(nodes) == 2:
            limit = alpha * r * h if prediction == "data" else -sigma * h
            slope = 0.5 * (whole if relaxation == "bh2" else limit) / v[1]
            return [whole - slope, slope]
        z, front = (-r * h, alpha * r * h) if prediction == "data" else (h, -sigma * h)
        orders = range(len(nodes))
        return lagrange_weights(v, [front * math.factorial(k) * phi(k + 1, z) for k in orders])
    if coordinate == "sigma" and prediction == "noise":
        return lagrange_weights(v, [whole / (k + 1) for k in range(len(nodes))])
    points = inner if coordinate == "t" else _inner_rho(grid, i, r)
    if points is None:
        raise ArgumentError("polynomials in t need the clock at the quadrature points")
    weights = [0.0] * len(nodes)
    for point, mass in zip(points, gauss_legendre(_POINTS)[1], strict=True):
        u = (point - origin) / scale
        for j, node in enumerate(v):
            others = (o for m, o in enumerate(v) if m != j)
            weights[j] += whole * mass * math.prod((u - o) / (node - o) for o in others)
    return weights


def _inner_rho(grid: Grid, i: int, r: float) -> list[float]:
    """``rho`` at the quadrature points of a data step: equal weight in ``e^{-r(lam_t - lam)}``."""
    low = math.exp(-r * grid.h(i))
    return [grid.rho[i + 1] * (low + (1 - low) * q) ** (-1 / r) for q in gauss_legendre(_POINTS)[0]]


def inner_times(
    grid: Grid, predictions: Sequence[Prediction], tau2: Sequence[float]
) -> list[list[float]]:
    """The clock at the quadrature points of every step, one list of points for each step.

    Steps that start or end at infinite ``lam`` get meaningless points where their weight needs a
    logarithm; those steps are of first order and never look.
    """
    q = torch.tensor(gauss_legendre(_POINTS)[0], dtype=torch.float64)
    rho = torch.tensor(grid.rho, dtype=torch.float64)
    lam = torch.tensor(grid.lam, dtype=torch.float64)
    r = 1 + torch.tensor(tau2, dtype=torch.float64).unsqueeze(1)
    low = torch.exp(-r * (lam[1:] - lam[:-1]).unsqueeze(1))
    data = lam[1:].unsqueeze(1) + torch.log(low + (1 - low) * q) / r
    noise = -torch.log(rho[:-1].unsqueeze(1) * (1 - q) + rho[1:].unsqueeze(1) * q)
    is_data = torch.tensor([p == "data" for p in predictions]).unsqueeze(1)
    clock = grid.schedule.inverse(2 * torch.where(is_data, data, noise))
    points: list[list[float]] = clock.tolist()
    return points
