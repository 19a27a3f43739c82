r"""Continuous-time Markov chains on classes: what all noise on tokens has in common.

A token keeps its class until it is hit, and a hit redraws it from the stationary law
:math:`\pi`. With :math:`\alpha(t)` the probability of no hit and
:math:`\beta = -\alpha'/\alpha` the rate of hits,

.. math::
    R_t = \beta(t)\,(\mathbf 1\pi^\top - I), \qquad
    q(x_t \mid x_s) = a\,\delta_{x_s} + (1-a)\,\pi, \quad a = \alpha_t/\alpha_s .

Absorbing noise has :math:`\pi = \delta_{mask}` (Austin et al., 2021, arXiv 2107.03006), uniform
noise :math:`\pi = 1/K`, marginal noise the class frequencies of the data (Vignac et al., 2022,
arXiv 2209.14734). A prediction is the law :math:`p(x_0 \mid x_t)` of each token; bridge and
reverse rates are averaged over it:

.. math::
    q(x_s \mid x_t) &= q(x_t \mid x_s) \sum_{x_0} p(x_0)
        \frac{q(x_s \mid x_0)}{q(x_t \mid x_0)}, \\
    \hat R_t(x_t \to y) &= R_t(y \to x_t) \sum_{x_0} p(x_0)
        \frac{q(y \mid x_0)}{q(x_t \mid x_0)} .

The negative evidence bound is the time integral of the divergence of the path laws (Campbell et
al., 2022, arXiv 2205.14987, prop. 2), with :math:`r, \hat r` the reverse rates given :math:`x_0`
and given the prediction: :math:`\sum_{y \ne x_t} \hat r(y) - r(y) + r(y)\log(r(y)/\hat r(y))`.
All of this costs :math:`O(K)` for each token, because :math:`R` has rank one off the diagonal.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Literal, final

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.core.kernel import Categorical
from graphdiff.core.process import Process
from graphdiff.core.rng import Key
from graphdiff.core.schedule import Schedule
from graphdiff.core.space import Space
from graphdiff.core.tables import table

__all__ = ["CTMC", "Weighting", "alpha_slope"]

Weighting = Literal["elbo", "ce"]


class CTMC(Process):
    """A chain that redraws tokens from a stationary law; subclasses are frozen dataclasses.

    Values are int64 ``[b, ...]``; a prediction of clean data is logits ``[b, ..., K]``.

    Attributes:
        classes: Number K of classes.
        schedule: ``alpha(t)`` is the probability that a token is kept until ``t``.
        space: Where the free tokens sit; on ``Symmetric`` a pair is one token.
        weighting: What :meth:`loss` is. ``"elbo"``: the integrand of the negative evidence bound
            in nats, summed over tokens, whose mean over uniform ``t`` bounds the negative
            log-likelihood (up to the prior term); ``"ce"``: the cross-entropy of the clean
            class, averaged over the tokens that are not known already.
    """

    classes: int
    schedule: Schedule
    space: Space
    weighting: Weighting

    @property
    @abstractmethod
    def stationary(self) -> tuple[float, ...]:
        """The law of a token after a hit, one probability for each of the K classes."""

    @abstractmethod
    def bridge_at(
        self,
        x_t: Tensor,
        x0: Tensor,
        alpha_t: float | Tensor,
        alpha_s: float | Tensor,
        mask: Tensor | None,
    ) -> Categorical:
        """:meth:`bridge` between times with ``alpha_t < alpha_s`` (floats, 0-dim or ``[b]``)."""

    @abstractmethod
    def reverse_rate_at(
        self, x_t: Tensor, x0: Tensor, alpha: float | Tensor, slope: float | Tensor
    ) -> Tensor:
        """:meth:`reverse_rate` where ``alpha`` and its slope ``d alpha / dt`` are these."""

    @abstractmethod
    def clean_law(self, x_t: Tensor, x0: Tensor) -> Tensor:
        """``p(x_0 | x_t)`` as probabilities ``[..., K]`` of the logits ``x0``.

        What ``x_t`` int64 ``[...]`` says for certain overrules the logits.
        """

    @abstractmethod
    def _elbo(
        self, x0_pred: Tensor, x0: Tensor, x_t: Tensor, alpha: Tensor, slope: Tensor
    ) -> Tensor:
        """Integrand of the bound for each token ``[b, size]``, from logits ``[b, size, K]``."""

    @abstractmethod
    def _cross_entropy(self, x0_pred: Tensor, x0: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of each token ``[b, size]``, and whether it counts."""

    @final
    def marginal(self, x0: Tensor, t: float | Tensor, mask: Tensor | None) -> Categorical:
        """``q(x_t | x_0)`` for ``x0`` int64 ``[b, ...]`` and ``t`` float or ``[b]``."""
        pi = class_probs(self.stationary, x0.device)
        alpha = fit_to(self.schedule.alpha(t), pi.dtype, x0.ndim + 1)
        probs = alpha * one_hot(x0, len(pi)) + (1 - alpha) * pi
        return Categorical(probs.log(), self.space, mask)

    @final
    def prior(self, like: Tensor, mask: Tensor | None, key: Key) -> Tensor:
        """Independent draws from the stationary law; ``like`` gives shape and device only."""
        uniform = key.uniform(self.space.size(like.shape), torch.float64)
        return self._place(invert_cdf(uniform, class_cdf(self.stationary, like.device)), like, mask)

    @final
    def corrupt(self, x0: Tensor, t: Tensor, mask: Tensor | None, key: Key) -> Tensor:
        """A draw of ``x_t`` given clean ``x0`` int64 ``[b, ...]`` at clock ``t`` ``[b]``."""
        flat = self.space.gather(integer_classes(x0))
        uniform = key.uniform(flat.shape[1], torch.float64)
        alpha = self.schedule.alpha(t).to(flat.device).reshape(-1, 1)
        # One number decides both: below alpha the token is kept, the rest is uniform again.
        rest = (uniform - alpha) / (1 - alpha)
        drawn = invert_cdf(rest, class_cdf(self.stationary, flat.device))
        return self._place(torch.where(uniform < alpha, flat, drawn), x0, mask)

    @final
    def bridge(
        self,
        x_t: Tensor,
        x0: Tensor,
        t: Tensor | float,
        s: Tensor | float,
        mask: Tensor | None,
    ) -> Categorical:
        """``q(x_s | x_t)`` for ``s < t``, averaged over the law with logits ``x0``."""
        return self.bridge_at(x_t, x0, self.schedule.alpha(t), self.schedule.alpha(s), mask)

    @final
    def loss(
        self, x0_pred: Tensor, x0: Tensor, x_t: Tensor, t: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Loss ``[b]`` of logits ``x0_pred`` ``[b, ..., K]``, as ``weighting`` says."""
        # Only the free coordinates: half of a symmetric matrix.
        clean, logits = free_part(self.space, x0, x0_pred)
        noisy = self.space.gather(x_t)
        if self.weighting == "ce":
            error, counts = self._cross_entropy(logits, clean, noisy)
            tokens = self._sum(counts.to(error.dtype), x0, mask).clamp(min=1)
            return self._sum(torch.where(counts, error, 0), x0, mask) / tokens
        alpha, slope = alpha_slope(self.schedule, t)
        return self._sum(self._elbo(logits, clean, noisy, alpha, slope), x0, mask)

    @final
    def transition(self, t: float | Tensor, s: float | Tensor) -> Tensor:
        """``q(x_t = j | x_s = i)`` at ``[i, j]``, float64 ``[K, K]`` (``[b, K, K]``), ``s < t``."""
        keep = self.schedule.alpha(t) / self.schedule.alpha(s)
        pi = class_probs(self.stationary, keep.device)
        keep = keep[..., None, None]
        return keep * torch.eye(len(pi), dtype=pi.dtype, device=pi.device) + (1 - keep) * pi

    @final
    def rate(self, t: float | Tensor) -> Tensor:
        """Forward rates from ``i`` to ``j`` at ``[i, j]``, float64 ``[K, K]`` or ``[b, K, K]``."""
        alpha, slope = alpha_slope(self.schedule, t)
        pi = class_probs(self.stationary, alpha.device)
        hits = (-slope / alpha)[..., None, None]
        return hits * (pi - torch.eye(len(pi), dtype=pi.dtype, device=pi.device))

    @final
    def reverse_rate(self, x_t: Tensor, x0: Tensor, t: float | Tensor) -> Tensor:
        """Rates ``[b, ..., K]`` of the reverse chain out of ``x_t``; each row sums to zero."""
        return self.reverse_rate_at(x_t, x0, *alpha_slope(self.schedule, t))

    def _sum(self, flat: Tensor, like: Tensor, mask: Tensor | None) -> Tensor:
        """Sum ``[b]`` of numbers ``[b, size]`` at the free coordinates that are real."""
        return self.space.sum(self.space.scatter(flat, like.shape), mask)

    def _place(self, flat: Tensor, like: Tensor, mask: Tensor | None) -> Tensor:
        x = self.space.scatter(flat, like.shape)
        return x if mask is None else self.space.apply_mask(x, mask)


@table
def class_probs(probs: tuple[float, ...], device: torch.device) -> Tensor:
    """Probabilities as float64 ``[K]``."""
    return torch.tensor(probs, dtype=torch.float64, device=device)


@table
def class_cdf(probs: tuple[float, ...], device: torch.device) -> Tensor:
    """Cumulative probabilities, float64 ``[K]``, ending in exactly 1."""
    cdf = class_probs(probs, device).cumsum(0)
    return cdf / cdf[-1]


def invert_cdf(uniform: Tensor, cdf: Tensor) -> Tensor:
    """The class in whose cell each number of (0, 1) falls, int64."""
    return torch.searchsorted(cdf, uniform.contiguous(), right=True).clamp(max=len(cdf) - 1)


def alpha_slope(schedule: Schedule, t: float | Tensor) -> tuple[Tensor, Tensor]:
    """``alpha(t)`` and ``d alpha / dt``, float64; finite also where ``alpha`` vanishes."""
    # Reverse mode: the first use of torch's forward mode loads its decompositions, seconds long.
    with torch.inference_mode(False), torch.enable_grad():
        clock = torch.as_tensor(t, dtype=torch.float64).detach().clone().requires_grad_()
        alpha = schedule.alpha(clock)
        if not alpha.requires_grad:  # a constant
            return alpha, torch.zeros_like(alpha)
        (slope,) = torch.autograd.grad(alpha.sum(), clock)
    return alpha.detach(), slope


def fit_to(v: float | Tensor, dtype: torch.dtype, ndim: int) -> Tensor | float:
    """A float64 coefficient, ready for ``ndim`` axes: ``[b]`` becomes ``[b, 1, ...]``."""
    if not isinstance(v, Tensor):
        return v
    return v.to(dtype).reshape(-1, *(1,) * (ndim - 1)) if v.ndim else v.to(dtype)


def log_of(v: float | Tensor) -> float | Tensor:
    """Logarithm; minus infinity at zero."""
    if isinstance(v, Tensor):
        return v.log()
    return math.log(v) if v > 0 else -math.inf


def free_part(space: Space, x: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
    """Classes ``[b, size]`` and logits ``[b, size, K]`` of the free coordinates."""
    flat = space.gather(integer_classes(x))
    return flat, space.gather(x0).reshape(*flat.shape, x0.shape[-1])


def safe_log(p: Tensor) -> Tensor:
    """Logarithm whose gradient is finite where ``p`` underflows."""
    return p.clamp(min=torch.finfo(p.dtype).tiny).log()


def is_class(x: Tensor, classes: int) -> Tensor:
    """Whether class ``k`` is that of ``x``, bool ``[..., K]``."""
    return integer_classes(x).unsqueeze(-1) == torch.arange(classes, device=x.device)


def one_hot(x: Tensor, classes: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """One-hot vectors ``[..., K]``."""
    return is_class(x, classes).to(dtype)


def pick(v: Tensor, x: Tensor) -> Tensor:
    """``v[..., x]``."""
    return v.gather(-1, integer_classes(x).unsqueeze(-1)).squeeze(-1)


def cross_entropy(logits: Tensor, x: Tensor) -> Tensor:
    """``-log softmax(logits)[..., x]``; for few classes far faster than the whole softmax."""
    return torch.logsumexp(logits, -1) - pick(logits, x)


def integer_classes(x: Tensor) -> Tensor:
    """``x``, checked to hold class numbers."""
    if x.dtype != torch.int64:
        raise ArgumentError(
            f"discrete values must be int64 class numbers, found {x.dtype}; "
            "convert one-hot vectors with argmax(-1)"
        )
    return x


def check_classes(classes: int, weighting: str) -> None:
    """Check the number of classes and the name of the weighting."""
    if classes < 2:
        raise ArgumentError(f"a discrete process needs at least 2 classes, found {classes}")
    if weighting not in ("elbo", "ce"):
        raise ArgumentError(f'weighting must be "elbo" or "ce", found {weighting!r}')


def check_logits(x0: Tensor, classes: int) -> None:
    """Check the width of a prediction."""
    if x0.shape[-1] != classes:
        raise ArgumentError(
            f"a prediction for {classes} classes must be logits [b, ..., {classes}], found shape "
            f"{list(x0.shape)}; correct the width of the network's output"
        )
