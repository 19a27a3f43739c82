r"""Sheaf diffusion in continuous time.

The linear equation :math:`\dot X = -\Delta X` is solved at once, :math:`X(t) = e^{-t \Delta} X(0)`.
The spectrum of :math:`\Delta` lies in :math:`[0, 2]`, so with :math:`\Delta = I + Y`

.. math:: e^{-t \Delta} = e^{-t} \Big( I_0(t) + 2 \sum_{k \ge 1} (-1)^k I_k(t) T_k(Y) \Big),

:math:`I_k` the modified Bessel functions: the terms fall faster than any power once :math:`k > t`,
and :func:`heat` sums them until the rest is below a tolerance. No step size, no solver,
differentiable.

The nonlinear equation of Bodnar et al. (2022), arXiv 2202.04579, equation 4,

.. math:: \dot X = -\mathrm{ELU}(\Delta_{F(X)} (I \otimes W_1) X W_2),

is integrated by ``torchdiffeq`` (``pip install 'graphdiffusion[interop]'``): ``dopri5`` or, with
fixed steps, ``rk4``, ``midpoint``, ``euler``. Gradients go through the solver; one unit step of
``euler`` is a layer of :class:`~graphdiff.graph.sheaf.network.SheafNetwork` without its gate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.sheaf.network import SheafConfig, SheafLayer, SheafNetwork
from graphdiff.graph.sheaf.topology import Topology

__all__ = ["SheafODE", "heat", "heat_terms"]

Method = Literal["heat", "dopri5", "rk4", "midpoint", "euler"]


def heat_terms(t: float, tolerance: float = 1e-6) -> list[float]:
    """Chebyshev coefficients of :math:`e^{-t (1 + y)}` on [-1, 1], up to an error ``tolerance``.

    Raises:
        ArgumentError: A time below 0 or a tolerance that is not positive.
    """
    from scipy.special import ive

    if not (t >= 0 and tolerance > 0):
        raise ArgumentError(f"expected time >= 0 and tolerance > 0, found {t} and {tolerance}")
    found = [float(ive(0, t))]
    while True:
        k = len(found)
        term = 2 * float(ive(k, t))
        # I_{k+1} / I_k < t / (2k + 1): past k = t, all that is left is less than twice this term.
        if k > t and 2 * term < tolerance:
            return found
        found.append(-term if k % 2 else term)


def heat(
    laplacian: Callable[[Tensor], Tensor], x: Tensor, t: float, tolerance: float = 1e-6
) -> Tensor:
    r"""Features :math:`e^{-t \Delta} x` at time ``t``.

    Args:
        laplacian: Applies an operator with spectrum in [0, 2], as a
            :class:`~graphdiff.graph.sheaf.laplacian.SheafLaplacian` does.
        x: Whatever it takes, ``[n, d, h]``.
        t: Time, 0 or more.
        tolerance: Largest error of the exponential on the spectrum.
    """
    terms = heat_terms(t, tolerance)
    total = terms[0] * x
    if len(terms) == 1:
        return total
    before, now = x, laplacian(x) - x
    total = total + terms[1] * now
    for term in terms[2:]:
        before, now = now, 2 * (laplacian(now) - now) - before
        total = total + term * now
    return total


class SheafODE(nn.Module):
    """Encoder, sheaf diffusion for a time, decoder.

    Args:
        config: Shape; ``layers`` and ``filter`` are not used.
        features: Of a node.
        outputs: Classes.
        time: End of the diffusion.
        method: ``heat`` solves the linear equation on the sheaf of the encoded features; the others
            integrate the nonlinear one.
        steps: Of the methods with fixed steps.
        tolerance: Of ``heat`` and ``dopri5``.

    Raises:
        ArgumentError: An unknown method, or a time that is not positive.
    """

    def __init__(
        self,
        config: SheafConfig,
        features: int,
        outputs: int,
        *,
        time: float = 1.0,
        method: Method = "heat",
        steps: int = 8,
        tolerance: float = 1e-5,
    ) -> None:
        super().__init__()
        known = ("heat", "dopri5", "rk4", "midpoint", "euler")
        if method not in known or not time > 0 or steps < 1:
            raise ArgumentError(
                f"expected a method of {', '.join(known)}, a positive time and 1 step or more; "
                f"found {method!r}, {time} and {steps}"
            )
        single = replace(config, layers=1, filter="diffusion", per_layer=True, norm=False)
        self.network = SheafNetwork(single, features, outputs)
        self.time, self.method, self.steps, self.tolerance = time, method, steps, tolerance
        self.evaluations = 0

    def map_parameters(self) -> list[nn.Parameter]:
        """Parameters of the restriction maps."""
        return self.network.map_parameters()

    def forward(self, x: Tensor, topology: Topology) -> Tensor:
        """Logits ``[n, outputs]`` of features ``[n, f]``."""
        start = self.network.encode(x, topology)
        return self.network.decoder(self.flow(start, x, topology).flatten(1))

    def flow(self, start: Tensor, x: Tensor, topology: Topology) -> Tensor:
        """The section ``[n, d, h]`` at the end of the time."""
        fixed = self.network.fixed(x, topology)
        if self.method == "heat":
            laplacian = fixed or self.network.laplacian(start, topology)
            self.evaluations = len(heat_terms(self.time, self.tolerance)) - 1
            return heat(laplacian, start, self.time, self.tolerance)
        layer = self.network.layers[0]
        assert isinstance(layer, SheafLayer)
        self.evaluations = 0

        def slope(_: Tensor, section: Tensor) -> Tensor:
            self.evaluations += 1
            laplacian = fixed or self.network.laplacian(section, topology)
            y = laplacian(layer.mix(section))
            return -nn.functional.elu(y) if self.network.config.activation else -y

        return _integrate(slope, start, self.time, self.method, self.steps, self.tolerance)


def _integrate(
    slope: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    time: float,
    method: str,
    steps: int,
    tolerance: float,
) -> Tensor:
    try:
        from torchdiffeq import odeint
    except ImportError as error:
        raise ArgumentError(
            f"the method {method!r} needs torchdiffeq: pip install 'graphdiffusion[interop]', or "
            "use method='heat'"
        ) from error
    span = torch.tensor([0.0, time], dtype=start.dtype, device=start.device)
    if method == "dopri5":
        return odeint(slope, start, span, method=method, rtol=tolerance, atol=tolerance)[-1]
    return odeint(slope, start, span, method=method, options={"step_size": time / steps})[-1]
