r"""Score entropy: networks that answer with ratios of probabilities (SEDD).

The concrete score of a token is :math:`s(y) = p_t(x \text{ with } x^i = y) / p_t(x)`, which turns
forward rates into reverse ones, :math:`\hat R(x \to y) = R(y \to x)\, s(y)`. It is linear in the
law of the clean class, with :math:`w(x_0) = p(x_0 \mid x_t) / q(x_t \mid x_0)`,

.. math:: s(y) = \alpha\, w(y) + (1 - \alpha)\,\pi(y) \sum w, \qquad
    \alpha\, w(y) = s(y) - (1 - \alpha)\,\pi(y) \sum_z s(z),

so that scores become a prediction of the clean class, from which every solver of the core steps
(the bridge of that prediction is the Tweedie step of the paper; negative :math:`w`, which no law
has, count as zero). At a mask this is

.. math:: \log s(v) = \log p(v) - \log(e^{\bar\sigma} - 1), \qquad e^{-\bar\sigma} = \alpha .

A network with output :math:`o` means :math:`\log s = o - \log(e^{\bar\sigma} - 1)` at masks, so
that :math:`o` need not change with the clock, and :math:`\log s(y) = o_y` with ratio 1 at the
present class otherwise. It is trained by the denoising score entropy (Lou et al., 2024, arXiv
2310.16834, eq. 8), with :math:`r(y) = q(y \mid x_0) / q(x_t \mid x_0)` and the rate of hits
:math:`\beta`,

.. math:: \mathrm{DSE} = \beta\,\pi(x_t) \sum_{y \ne x_t}
    s(y) - r(y) \log s(y) + r(y) (\log r(y) - 1),

which is zero only at :math:`s = r`, whose mean over :math:`x_0` is smallest at the true score, and
which is the integrand of the likelihood bound in :mod:`graphdiff.core.ctmc` where :math:`s` comes
from a law.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from graphdiff.core.categorical import Absorbing
from graphdiff.core.ctmc import CTMC, alpha_slope, class_probs, fit_to, is_class, one_hot
from graphdiff.core.denoiser import Parametrization, Subs
from graphdiff.core.errors import ArgumentError
from graphdiff.core.process import Process

__all__ = ["LogScore", "log_ratios", "log_scores", "score_entropy"]


def _chain(process: Process) -> CTMC:
    if not isinstance(process, CTMC):
        raise ArgumentError(
            f"scores of classes need Absorbing, Uniform or Marginal noise, found "
            f"{type(process).__name__}"
        )
    return process


def log_scores(process: Process, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """``log s`` ``[b, L, K]`` that the raw output of a network means.

    At visible tokens of absorbing noise, where no reverse jump exists, it means nothing.

    Args:
        process: The chain.
        out: Raw output ``[b, L, K]``.
        x_t: Noisy classes int64 ``[b, L]``.
        t: Clock, 0-dim, ``[1]`` or ``[b]``.
    """
    process = _chain(process)
    if isinstance(process, Absorbing):
        alpha = process.schedule.alpha(t).to(out.device)
        shift = fit_to((alpha / (1 - alpha)).log(), out.dtype, out.ndim)
        return out + shift
    return torch.where(is_class(x_t, out.shape[-1]), 0.0, out)


def log_ratios(process: Process, p: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """``log s`` of a law of the clean class, minus infinity where a jump is impossible.

    Args:
        process: The chain.
        p: ``p(x_0 | x_t)``, probabilities ``[b, L, K]``; one-hot for the ratios given ``x_0``.
        x_t: Noisy classes int64 ``[b, L]``, none of them impossible under ``p``.
        t: Clock.
    """
    process = _chain(process)
    pi = class_probs(process.stationary, p.device).to(p.dtype)
    alpha = fit_to(process.schedule.alpha(t).to(p.device), p.dtype, p.ndim)
    at = is_class(x_t, len(pi))
    # q(x_t | x_0) for every x_0; where it vanishes, so does p.
    likelihood = torch.where(at, alpha, 0.0) + (1 - alpha) * pi[x_t].unsqueeze(-1)
    w = torch.where(p > 0, p / likelihood.clamp(min=torch.finfo(p.dtype).tiny), 0.0)
    return (alpha * w + (1 - alpha) * pi * w.sum(-1, keepdim=True)).log()


def score_entropy(
    process: Process, log_s: Tensor, x0: Tensor, x_t: Tensor, t: Tensor, mask: Tensor | None
) -> Tensor:
    """The denoising score entropy ``[b]``, summed over tokens, nats.

    Args:
        process: The chain.
        log_s: From :func:`log_scores` ``[b, L, K]``.
        x0: Clean classes int64 ``[b, L]``.
        x_t: Noisy classes.
        t: Clock ``[b]``.
        mask: Real positions, or None.
    """
    process = _chain(process)
    classes = log_s.shape[-1]
    alpha, slope = (v.to(log_s.device) for v in alpha_slope(process.schedule, t))
    log_r = log_ratios(process, one_hot(x0, classes, log_s.dtype), x_t, t)
    possible = torch.isfinite(log_r)
    gap = torch.where(possible, log_s - log_r.masked_fill(~possible, 0), 0.0)
    # r (e^gap - 1 - gap) does not cancel where s is near r; where r = 0 only s is left.
    excess = torch.where(possible, log_r.exp() * (torch.expm1(gap) - gap), log_s.exp())
    excess = torch.where(is_class(x_t, classes), 0.0, excess).sum(-1)
    pi = class_probs(process.stationary, log_s.device).to(log_s.dtype)
    pace = fit_to(-slope / alpha, log_s.dtype, x_t.ndim)
    return process.space.sum(pace * pi[x_t] * excess, mask)


@dataclass(frozen=True)
class LogScore(Parametrization):
    """The network outputs log-scores, see the module docstring."""

    continuous: ClassVar[bool] = False

    def inputs(self, process: Process, x_t: Tensor, t: Tensor) -> Tensor:
        """``x_t`` itself (int64 classes)."""
        return x_t

    def to_x0(self, process: Process, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Logits ``[b, L, K]`` of the law whose score it is, or the nearest one."""
        process = _chain(process)
        if isinstance(process, Absorbing):
            return Subs().to_x0(process, out, x_t, t)  # scores at a mask are p up to a factor
        log_s = log_scores(process, out, x_t, t)
        s = (log_s - log_s.amax(-1, keepdim=True)).exp()  # the factor drops out below
        pi = class_probs(process.stationary, out.device).to(out.dtype)
        alpha = fit_to(process.schedule.alpha(t).to(out.device), out.dtype, out.ndim)
        w = s - (1 - alpha) * pi * s.sum(-1, keepdim=True)
        at = is_class(x_t, len(pi))
        likelihood = torch.where(at, alpha, 0.0) + (1 - alpha) * pi[x_t].unsqueeze(-1)
        p = w.clamp(min=0) * likelihood
        return p.clamp(min=torch.finfo(p.dtype).tiny).log()

    def target(self, process: Process, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The clean classes ``x0``."""
        return x0
