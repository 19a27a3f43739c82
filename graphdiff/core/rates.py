r"""Discrete flow matching: a family of rates that all generate the same marginals.

Discrete flow matching (Campbell et al., 2024, arXiv 2402.04997; Gat et al., 2024, arXiv 2407.15595)
starts from the path :math:`p_t(x \mid x_1) = \alpha\,\delta_{x_1} + (1 - \alpha)\,\pi` instead of a
noising chain. The path is the marginal of a :class:`~graphdiff.core.ctmc.CTMC`, so a process, a
network and its cross-entropy loss are the same; what is new is the freedom of the rates. With
:math:`\tau = 1 - t`, dots for :math:`d/d\tau`, :math:`Z` the number of classes that are possible
given :math:`x_1`, and :math:`x \ne y` both possible (DeFoG, Qin et al., 2024, arXiv 2410.04263),

.. math::
    R(x \to y \mid x_1) = \underbrace{\frac{[\dot p(y) - \dot p(x)]_+}{Z\,p(x)}}_{R^*}
        + \eta\,p(y) + \omega\,\frac{[y = x_1]}{Z\,p(x)}, \qquad
    \hat R(x \to y) = \sum_{x_1} p(x_1 \mid x_t = x)\,R(x \to y \mid x_1).

:math:`R^*` alone moves least; the term with :math:`\eta` is in detailed balance with
:math:`p_t(\cdot \mid x_1)` and lets a token correct itself; the one with :math:`\omega` pulls to
the prediction and changes the marginals. Since
:math:`\dot p(y) = \dot\alpha\,([y = x_1] - \pi(y))`, the first is a *constant* generator in the
clock :math:`u = -\log(1 - \alpha)`,

.. math::
    G(x \to y \mid x_1) = \frac{[[y = x_1] - \pi(y) + \pi(x)]_+}{Z\,\pi(x)} \quad (x \ne x_1),

and a step of any length is :math:`\exp(G\,\Delta u)`. For absorbing and uniform noise that is: jump
to :math:`x_1` with probability :math:`1 - e^{-\Delta u} = (\alpha_s - \alpha_t)/(1 - \alpha_t)`.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from graphdiff.core.ctmc import CTMC, alpha_slope, class_probs, is_class

__all__ = ["flow_generator", "flow_rate"]


def flow_generator(process: CTMC, t: float, eta: float = 0.0, omega: float = 0.0) -> Tensor:
    """Rates ``R(x -> y | x1)`` per unit of ``tau`` at ``[x1, x, y]``, float64 ``[K, K, K]``.

    Rows sum to zero. A class that is impossible given ``x1`` has a row of zeros. ``alpha(t)`` must
    lie below 1.
    """
    alpha, slope = (float(v) for v in alpha_slope(process.schedule, t))
    pi = class_probs(process.stationary, torch.device("cpu"))
    eye = torch.eye(len(pi), dtype=pi.dtype)
    rates = _generator(process.stationary, omega / -slope) * (-slope / (1 - alpha))
    law = alpha * eye + (1 - alpha) * pi  # [x1, y]
    redraws = eta * (law > 0)[:, :, None] * law[:, None, :]
    return rates + redraws - torch.diag_embed(redraws.sum(-1))


def flow_rate(
    process: CTMC, x_t: Tensor, x0: Tensor, t: float, eta: float = 0.0, omega: float = 0.0
) -> Tensor:
    """Rates out of ``x_t`` per unit of ``tau``, averaged over a prediction.

    Args:
        process: The discrete process.
        x_t: Classes, int64 ``[b, ...]``.
        x0: Logits of the clean classes, ``[b, ..., K]``.
        t: Clock, with ``alpha(t) < 1``.
        eta: Stochasticity.
        omega: Target guidance.

    Returns:
        Rates ``[b, ..., K]``; each row sums to zero.
    """
    alpha, slope = (float(v) for v in alpha_slope(process.schedule, t))
    law = process.clean_law(x_t, x0)
    away = rates_away(process.stationary, x_t, law, alpha, slope, eta, omega)
    here = is_class(x_t, law.shape[-1])
    return torch.where(here, -away.sum(-1, keepdim=True), away)


def rates_away(
    pi: tuple[float, ...],
    x: Tensor,
    law: Tensor,
    alpha: float,
    slope: float,
    eta: float,
    omega: float,
) -> Tensor:
    """Averaged rates ``[..., K]``, zero at the class of ``x``; ``law`` is ``p(x_1 | x_t)``.

    The average over x1 is a sum over x1 = y, x1 = x (from where only redraws leave) and the rest,
    for which the rate does not depend on x1: O(K) for each token.
    """
    probs = class_probs(pi, law.device).to(law.dtype)
    here = is_class(x, len(pi))
    pace = -slope / (1 - alpha)
    if 0.0 in pi:  # absorbing noise: only the mask is left, and only for x1
        masked = (x == len(pi) - 1).unsqueeze(-1)
        rates = torch.where(masked, law * (pace + omega / (2 * (1 - alpha))), 0)
    else:
        own = probs[x].unsqueeze(-1)
        hit = pace * (1 - probs + own) + omega / (1 - alpha)
        stays = law.gather(-1, x.unsqueeze(-1))
        drift = pace * (1 - stays - law).clamp(min=0) * (own - probs).clamp(min=0)
        rates = (law * hit + drift) / (len(pi) * own)
    if eta:
        rates = rates + eta * (alpha * law + (1 - alpha) * probs)
    return torch.where(here, 0, rates)


def _generator(pi: tuple[float, ...], pull: float) -> Tensor:
    """Rates in the clock ``u`` at ``[x1, x, y]``, float64, from the definition."""
    probs = class_probs(pi, torch.device("cpu"))
    eye = torch.eye(len(pi), dtype=probs.dtype)
    possible = (probs > 0) | eye.bool()  # [x1, x]
    count = possible.sum(1)[:, None, None]
    target, starts = eye[:, None, :], (probs > 0) & ~eye.bool()
    flow = (target - probs + probs[:, None]).clamp(min=0) + pull * target
    flow = flow * starts[:, :, None] * possible[:, None, :] * (1 - eye)
    rates = flow / (count * probs.clamp(min=1e-300)[:, None])
    return rates - torch.diag_embed(rates.sum(-1))


def step_table(
    pi: tuple[float, ...],
    spans: tuple[float, ...],
    pulls: tuple[float, ...],
    i: int,
    like: Tensor,
) -> Tensor:
    """``p(x_s = y | x_t = x, x_1)`` of step ``i`` at ``[x1, x, y]``."""
    size = max(1, 2**18 // len(pi) ** 3)
    first = i - i % size
    block = _block(
        pi, spans[first : first + size], pulls[first : first + size], like.device, like.dtype
    )
    return block[i - first]


@lru_cache(maxsize=16)
def _block(
    pi: tuple[float, ...],
    spans: tuple[float, ...],
    pulls: tuple[float, ...],
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """Tables of neighbouring steps: at most 2 MiB, so that many classes do not fill the memory."""
    with torch.inference_mode(False):
        # A span that is not finite ends in clean data and is never looked up.
        rates = [
            _generator(pi, c) * (u if math.isfinite(u) else 0)
            for u, c in zip(spans, pulls, strict=True)
        ]
        tables: Tensor = torch.linalg.matrix_exp(torch.stack(rates)).clamp(min=0)
        tables = tables / tables.sum(-1, keepdim=True)
        return tables.to(device=device, dtype=dtype)
