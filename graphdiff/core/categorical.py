r"""Noise on classes: :class:`Absorbing`, :class:`Uniform` and :class:`Marginal` chains.

The three differ in their stationary law :math:`\pi` (see :mod:`graphdiff.core.ctmc` for the
process). Where :math:`\pi` is positive everywhere, with :math:`p` the prediction and
:math:`\delta` the class of :math:`x_t`,

.. math::
    q(x_s \mid x_t) \propto q(x_t \mid x_s)
        \bigl[\alpha_s w(x_s) + (1-\alpha_s)\,\pi(x_s) \textstyle\sum w\bigr], \qquad
    w(x_0) = p(x_0) / q(x_t \mid x_0).

Absorbing noise has a simpler form: a visible token is known, and a mask is revealed with
probability :math:`(\alpha_s - \alpha_t)/(1 - \alpha_t)` to a class drawn from :math:`p`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from graphdiff.core.ctmc import (
    CTMC,
    Weighting,
    check_classes,
    check_logits,
    class_probs,
    cross_entropy,
    fit_to,
    free_part,
    is_class,
    log_of,
    one_hot,
)
from graphdiff.core.errors import ArgumentError
from graphdiff.core.kernel import Categorical
from graphdiff.core.schedule import Schedule
from graphdiff.core.softmax import log_probabilities, probabilities
from graphdiff.core.space import Dense, Space

__all__ = ["CTMC", "Absorbing", "Marginal", "Uniform"]


@final
@dataclass(frozen=True)
class Absorbing(CTMC):
    """Tokens turn into a mask token, which is the last class.

    Logits at visible tokens and of the mask class are ignored: a visible token is known, and
    clean data hold no masks.

    Attributes:
        schedule: ``alpha(t)`` is the probability that a token is still visible.
        classes: Number K of classes with the mask, whose class is ``classes - 1``.
        space: Where the free tokens sit.
        weighting: ``"elbo"`` or ``"ce"``, see :class:`CTMC`.
    """

    schedule: Schedule
    classes: int
    space: Space = Dense()  # noqa: RUF009  (immutable)
    weighting: Weighting = "elbo"

    def __post_init__(self) -> None:
        check_classes(self.classes, self.weighting)

    @property
    def stationary(self) -> tuple[float, ...]:
        """All mass on the mask."""
        return (*(0.0,) * (self.classes - 1), 1.0)

    def bridge_at(
        self,
        x_t: Tensor,
        x0: Tensor,
        alpha_t: float | Tensor,
        alpha_s: float | Tensor,
        mask: Tensor | None,
    ) -> Categorical:
        """A mask is revealed with probability ``(alpha_s - alpha_t) / (1 - alpha_t)``."""
        log_p = self._log_clean(x0)
        stay = (1 - alpha_s) / (1 - alpha_t)
        reveal = (alpha_s - alpha_t) / (1 - alpha_t)
        log_stay = fit_to(log_of(stay), log_p.dtype, log_p.ndim)
        log_reveal = fit_to(log_of(reveal), log_p.dtype, log_p.ndim)
        last = torch.arange(self.classes, device=x_t.device) == self.classes - 1
        hidden = torch.where(last, log_stay, log_p + log_reveal)
        known = torch.where(is_class(x_t, self.classes), 0.0, -torch.inf).to(log_p.dtype)
        return Categorical(
            torch.where(self._hidden(x_t).unsqueeze(-1), hidden, known), self.space, mask
        )

    def reverse_rate_at(
        self, x_t: Tensor, x0: Tensor, alpha: float | Tensor, slope: float | Tensor
    ) -> Tensor:
        """``-alpha' / (1 - alpha)`` times the prediction at masks, zero at visible tokens."""
        log_p = self._log_clean(x0)
        pace = fit_to(-slope / (1 - alpha), log_p.dtype, log_p.ndim)
        out = one_hot(x_t, self.classes, log_p.dtype)
        rates = pace * (log_p.exp() - out)
        return torch.where(self._hidden(x_t).unsqueeze(-1), rates, 0)

    def clean_law(self, x_t: Tensor, x0: Tensor) -> Tensor:
        """The prediction at masks, certainty at visible tokens."""
        law = self._log_clean(x0).exp()
        return torch.where(
            self._hidden(x_t).unsqueeze(-1), law, is_class(x_t, self.classes).to(law)
        )

    def _elbo(
        self, x0_pred: Tensor, x0: Tensor, x_t: Tensor, alpha: Tensor, slope: Tensor
    ) -> Tensor:
        # The total rates of masks agree, so that only the logarithm remains (MDLM, eq. 10).
        error, hidden = self._cross_entropy(x0_pred, x0, x_t)
        pace = fit_to(-slope / (1 - alpha), error.dtype, error.ndim)
        return torch.where(hidden, pace * error, 0)

    def _cross_entropy(self, x0_pred: Tensor, x0: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor]:
        return cross_entropy(self._without_mask(x0_pred), x0), self._hidden(x_t)

    def _hidden(self, x_t: Tensor) -> Tensor:
        return x_t == self.classes - 1

    def _log_clean(self, x0: Tensor) -> Tensor:
        """Log-probabilities without the mask class, which gets ``-inf``."""
        return log_probabilities(self._without_mask(x0))

    def _without_mask(self, x0: Tensor) -> Tensor:
        """Logits that exclude the mask class."""
        check_logits(x0, self.classes)
        never = torch.arange(self.classes, device=x0.device) == self.classes - 1
        return x0.masked_fill(never, -torch.inf)


class _Mixing(CTMC):
    """Chains whose stationary law gives every class positive probability."""

    @final
    def bridge_at(
        self,
        x_t: Tensor,
        x0: Tensor,
        alpha_t: float | Tensor,
        alpha_s: float | Tensor,
        mask: Tensor | None,
    ) -> Categorical:
        """Bayes' rule, averaged over the prediction; logits are up to a constant."""
        pi = class_probs(self.stationary, x0.device).to(x0.dtype)
        here, logits = free_part(self.space, x_t, x0)
        at = is_class(here, len(pi))
        mixture = self._mixture(at, probabilities(logits), pi, here, alpha_t, alpha_s)
        keep = alpha_t / alpha_s
        redraw = fit_to((alpha_s - alpha_t) / alpha_s, x0.dtype, 3) * pi[here].unsqueeze(-1)
        step = torch.where(at, redraw + fit_to(keep, x0.dtype, 3), redraw)
        return Categorical.of_weights(step * mixture, x_t.shape, self.space, mask)

    @final
    def clean_law(self, x_t: Tensor, x0: Tensor) -> Tensor:
        """The prediction."""
        check_logits(x0, len(self.stationary))
        return probabilities(x0)

    @final
    def reverse_rate_at(
        self, x_t: Tensor, x0: Tensor, alpha: float | Tensor, slope: float | Tensor
    ) -> Tensor:
        """The rate of hits times the ratio of the marginals, row sum zero."""
        pi = class_probs(self.stationary, x0.device).to(x0.dtype)
        at = is_class(x_t, len(pi))
        mixture = self._mixture(at, probabilities(x0), pi, x_t, alpha, alpha)
        pace = fit_to(-slope / alpha / (1 - alpha), x0.dtype, x0.ndim)
        away = torch.where(at, 0, pace * mixture)
        return torch.where(at, -away.sum(-1, keepdim=True), away)

    def _elbo(
        self, x0_pred: Tensor, x0: Tensor, x_t: Tensor, alpha: Tensor, slope: Tensor
    ) -> Tensor:
        pi = class_probs(self.stationary, x0_pred.device).to(x0_pred.dtype)
        at = is_class(x_t, len(pi))
        clean = one_hot(x0, len(pi), x0_pred.dtype)
        check_logits(x0_pred, len(pi))
        true = self._mixture(at, clean, pi, x_t, alpha, alpha)
        guess = self._mixture(at, probabilities(x0_pred), pi, x_t, alpha, alpha)
        # r^ - r + r log(r / r^) = r (z - log(1 + z)), which does not cancel where r^ is near r:
        # near t = 1 the rate of hits grows as 1 / alpha and z falls as alpha.
        z = (guess - true) / true
        excess = torch.where(at, 0, true * (z - torch.log1p(z))).sum(-1)
        pace = -slope / alpha.clamp(min=1e-6) / (1 - alpha)
        return fit_to(pace, excess.dtype, excess.ndim) * excess

    def _cross_entropy(self, x0_pred: Tensor, x0: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor]:
        check_logits(x0_pred, len(self.stationary))
        return cross_entropy(x0_pred, x0), torch.ones_like(x0, dtype=torch.bool)

    def _mixture(
        self,
        at: Tensor,
        p: Tensor,
        pi: Tensor,
        x_t: Tensor,
        alpha_t: float | Tensor,
        alpha_s: float | Tensor,
    ) -> Tensor:
        """``(1 - alpha_t) pi(x_t) sum_x0 p(x0) q(x_s | x0) / q(x_t | x0)`` for every ``x_s``."""
        check_logits(p, len(pi))
        alpha, weight = fit_to(alpha_t, p.dtype, p.ndim), fit_to(alpha_s, p.dtype, p.ndim)
        miss = fit_to(1 - alpha_t, p.dtype, p.ndim) * pi[x_t].unsqueeze(-1)
        ratio = torch.where(at, p * (miss / (miss + alpha)), p)
        fresh = fit_to(1 - alpha_s, p.dtype, p.ndim) * pi
        return weight * ratio + fresh * ratio.sum(-1, keepdim=True)


@final
@dataclass(frozen=True)
class Uniform(_Mixing):
    """Tokens are redrawn uniformly.

    Attributes:
        schedule: ``alpha(t)`` is the probability that a token is kept.
        classes: Number K of classes.
        space: Where the free tokens sit.
        weighting: ``"elbo"`` or ``"ce"``, see :class:`CTMC`.
    """

    schedule: Schedule
    classes: int
    space: Space = Dense()  # noqa: RUF009  (immutable)
    weighting: Weighting = "elbo"

    def __post_init__(self) -> None:
        check_classes(self.classes, self.weighting)

    @property
    def stationary(self) -> tuple[float, ...]:
        """``1 / K`` each."""
        return (1 / self.classes,) * self.classes


@final
@dataclass(frozen=True)
class Marginal(_Mixing):
    """Tokens are redrawn from given class frequencies, usually those of the data.

    Attributes:
        schedule: ``alpha(t)`` is the probability that a token is kept.
        probs: Probability of each of the K classes, all positive, summing to one.
        space: Where the free tokens sit.
        weighting: ``"elbo"`` or ``"ce"``, see :class:`CTMC`.
    """

    schedule: Schedule
    probs: tuple[float, ...]
    space: Space = Dense()  # noqa: RUF009  (immutable)
    weighting: Weighting = "elbo"

    def __post_init__(self) -> None:
        check_classes(len(self.probs), self.weighting)
        if min(self.probs) <= 0 or abs(sum(self.probs) - 1) > 1e-6:
            raise ArgumentError(
                f"probs must be positive and sum to 1, found {self.probs}; drop classes that "
                "never occur or give them a small share, then divide by the sum"
            )

    @property
    def classes(self) -> int:  # type: ignore[override]
        """Number K of classes."""
        return len(self.probs)

    @property
    def stationary(self) -> tuple[float, ...]:
        """``probs``, normalised."""
        total = math.fsum(self.probs)
        return tuple(p / total for p in self.probs)
