r"""Denoisers: networks that always answer in clean data, whatever they were trained to output.

A *denoiser* is any callable ``(state, t, cond) -> {name: x0}`` that answers with the mean
:math:`E[x_0 \mid x_t]` of a continuous component and with logits of :math:`p(x_0 \mid x_t)` of a
discrete one. :class:`Denoiser` makes one from a network; its *parametrisations* say, component by
component, what the raw output of the network means (:math:`D` is the clean data):

====== ==================================== ==================================================
name   output :math:`o`                     clean data
====== ==================================== ==================================================
Eps    :math:`\varepsilon`                  :math:`(x - \sigma o) / \alpha`
X0     :math:`D`                            :math:`o`
V      :math:`\alpha\varepsilon - \sigma D` :math:`(\alpha x - \sigma o)/(\alpha^2 + \sigma^2)`
Score  :math:`\nabla \log p_t`              :math:`(x + \sigma^2 o) / \alpha`
EDM    :math:`F` of Karras et al.           :math:`c_{skip} x + c_{out} o`
Logits logits of the clean class            :math:`o`
Subs   the same, mask excluded              :math:`o` where masked, else the visible token
Bayes  logits given all *other* tokens      :math:`o + \log q(x_t \mid x_0)`
====== ==================================== ==================================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from graphdiff.core.ctmc import CTMC, class_probs
from graphdiff.core.errors import ArgumentError
from graphdiff.core.gaussian import Gaussian, collapse
from graphdiff.core.process import Process, Product
from graphdiff.core.softmax import log_probabilities
from graphdiff.core.state import State

__all__ = [
    "EDM",
    "X0",
    "Bayes",
    "Denoiser",
    "DenoiserFunction",
    "Eps",
    "Logits",
    "Parametrization",
    "Score",
    "Subs",
    "TimeInput",
    "V",
]

DenoiserFunction = Callable[[State, Tensor, Any], Mapping[str, Tensor]]
TimeInput = Literal["t", "sigma", "log_snr"]


class Parametrization(ABC):
    """What the raw output of a network means for one component; a frozen dataclass."""

    continuous: ClassVar[bool] = True

    @abstractmethod
    def inputs(self, process: Process, x_t: Tensor, t: Tensor) -> Tensor:
        """What the network is shown: ``x_t`` ``[b, ...]``, scaled."""

    @abstractmethod
    def to_x0(self, process: Process, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Clean data from the raw output ``out``; ``t`` is 0-dim, ``[1]`` or ``[b]``."""

    @abstractmethod
    def target(self, process: Process, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The output that a perfect network gives when the clean data are ``x0``."""


def _gaussian(process: Process, who: str) -> Gaussian:
    if not isinstance(process, Gaussian):
        raise ArgumentError(
            f"{who} needs a Gaussian process, found {type(process).__name__}; "
            "use Logits() or Subs() for a discrete component"
        )
    return process


@dataclass(frozen=True)
class X0(Parametrization):
    """The network outputs clean data."""

    def inputs(self, process: Process, x_t: Tensor, t: Tensor) -> Tensor:
        """``x_t`` itself."""
        return x_t

    def to_x0(self, process: Process, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """``out`` itself."""
        return out

    def target(self, process: Process, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """``x0`` itself."""
        return x0


@dataclass(frozen=True)
class Eps(Parametrization):
    """The network outputs the noise (Ho et al., 2020); undefined where ``alpha = 0``."""

    def inputs(self, process: Process, x_t: Tensor, t: Tensor) -> Tensor:
        """``x_t`` itself."""
        return x_t

    def to_x0(self, process: Process, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """``(x_t - sigma out) / alpha``."""
        alpha, sigma = _gaussian(process, "Eps").coefficients(t, x_t)
        return torch.addcmul(x_t, sigma, out, value=-1) / alpha

    def target(self, process: Process, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """``(x_t - alpha x0) / sigma``."""
        alpha, sigma = _gaussian(process, "Eps").coefficients(t, x_t)
        return (x_t - alpha * x0) / sigma


@dataclass(frozen=True)
class V(Parametrization):
    """The network outputs ``alpha eps - sigma x0`` (Salimans & Ho, 2022, arXiv 2202.00512)."""

    def inputs(self, process: Process, x_t: Tensor, t: Tensor) -> Tensor:
        """``x_t`` itself."""
        return x_t

    def to_x0(self, process: Process, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """``(alpha x_t - sigma out) / (alpha^2 + sigma^2)``."""
        alpha, sigma = _gaussian(process, "V").coefficients(t, x_t)
        return (alpha * x_t - sigma * out) / (alpha.square() + sigma.square())

    def target(self, process: Process, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """``(alpha x_t - (alpha^2 + sigma^2) x0) / sigma``."""
        alpha, sigma = _gaussian(process, "V").coefficients(t, x_t)
        return (alpha * x_t - (alpha.square() + sigma.square()) * x0) / sigma


@dataclass(frozen=True)
class Score(Parametrization):
    """The network outputs the score ``grad log p_t`` (Song et al., 2021)."""

    def inputs(self, process: Process, x_t: Tensor, t: Tensor) -> Tensor:
        """``x_t`` itself."""
        return x_t

    def to_x0(self, process: Process, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """``(x_t + sigma^2 out) / alpha`` (Tweedie)."""
        alpha, sigma = _gaussian(process, "Score").coefficients(t, x_t)
        return torch.addcmul(x_t, sigma.square(), out) / alpha

    def target(self, process: Process, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """``(alpha x0 - x_t) / sigma^2``."""
        alpha, sigma = _gaussian(process, "Score").coefficients(t, x_t)
        return (alpha * x0 - x_t) / sigma.square()


@dataclass(frozen=True)
class EDM(Parametrization):
    """Preconditioning of Karras et al., 2022 (arXiv 2206.00364, table 1) for any schedule.

    With ``k^2 = sigma^2 + alpha^2 data_std^2``: the input is ``x_t / k``, ``c_skip = alpha
    data_std^2 / k^2``, ``c_out = sigma data_std / k``; defined at ``alpha = 0`` and ``sigma = 0``.

    Attributes:
        data_std: standard deviation of the data; by default that of the process.
    """

    data_std: float | None = None

    def _terms(self, process: Process, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gaussian = _gaussian(process, "EDM")
        std = gaussian.data_std if self.data_std is None else self.data_std
        alpha, sigma = gaussian.coefficients(t, x_t)
        scale = (sigma.square() + (alpha * std).square()).sqrt()
        return scale, alpha * std**2 / scale.square(), sigma * std / scale

    def inputs(self, process: Process, x_t: Tensor, t: Tensor) -> Tensor:
        """``x_t`` at unit variance."""
        return x_t / self._terms(process, x_t, t)[0]

    def to_x0(self, process: Process, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """``c_skip x_t + c_out out``."""
        _, skip, gain = self._terms(process, x_t, t)
        return torch.addcmul(skip * x_t, gain, out)

    def target(self, process: Process, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """``(x0 - c_skip x_t) / c_out``."""
        _, skip, gain = self._terms(process, x_t, t)
        return (x0 - skip * x_t) / gain


@dataclass(frozen=True)
class Logits(Parametrization):
    """The network outputs logits ``[b, ..., K]`` of the clean class."""

    continuous: ClassVar[bool] = False

    def inputs(self, process: Process, x_t: Tensor, t: Tensor) -> Tensor:
        """``x_t`` itself (int64 classes)."""
        return x_t

    def to_x0(self, process: Process, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """``out`` itself."""
        return out

    def target(self, process: Process, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The clean classes ``x0``."""
        return x0


@dataclass(frozen=True)
class Bayes(Parametrization):
    r"""The network outputs logits of :math:`p(x_0^i \mid x_t^{-i})`, what the others say.

    Tokens are corrupted independently, so that Bayes' rule gives the rest exactly:

    .. math:: p(x_0^i \mid x_t) \propto p(x_0^i \mid x_t^{-i})\, q(x_t^i \mid x_0^i), \qquad
        q(x \mid x_0) = \alpha_t \mathbf 1[x = x_0] + (1 - \alpha_t)\, \pi(x).

    How far a token can be trusted at time ``t`` is then known and need not be learnt; as
    ``t`` goes to 0 every token is certain, whatever the network says. For absorbing noise a
    visible token is certain at any time, which is :class:`Subs`.
    """

    continuous: ClassVar[bool] = False

    def inputs(self, process: Process, x_t: Tensor, t: Tensor) -> Tensor:
        """``x_t`` itself (int64 classes)."""
        return x_t

    def to_x0(self, process: Process, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """``out`` with ``log(1 + alpha / ((1 - alpha) pi(x_t)))`` added to the class of ``x_t``.

        Raises:
            ArgumentError: ``process`` is not a chain whose classes all have positive probability.
        """
        if not isinstance(process, CTMC) or min(process.stationary) <= 0:
            raise ArgumentError(
                f"Bayes needs Uniform or Marginal noise, found {type(process).__name__}; use "
                "Subs() for absorbing noise"
            )
        alpha = process.schedule.alpha(t).to(out.device)
        # Certainty stays finite: 1e-6 is a millionth of a chance that a clean token is not.
        odds = (alpha / (1 - alpha).clamp(min=1e-6)).to(out.dtype)
        odds = odds.reshape(-1, *(1,) * (x_t.ndim - 1))
        pi = class_probs(process.stationary, out.device).to(out.dtype)
        gain = torch.log1p(odds / pi[x_t])
        return out.scatter_add(-1, x_t.unsqueeze(-1), gain.unsqueeze(-1))

    def target(self, process: Process, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The clean classes ``x0``."""
        return x0


@dataclass(frozen=True)
class Subs(Parametrization):
    """Substitution parametrisation of MDLM (Sahoo et al., 2024, arXiv 2406.07524, sec. 3.2.3).

    For an absorbing process, whose last class is the mask: the mask has probability zero in the
    clean data, and a token that is already visible is carried over.
    """

    continuous: ClassVar[bool] = False

    def inputs(self, process: Process, x_t: Tensor, t: Tensor) -> Tensor:
        """``x_t`` itself (int64 classes)."""
        return x_t

    def to_x0(self, process: Process, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Normalised logits ``[b, ..., K]``; impossible classes get a huge negative finite one.

        Finite, because ``-inf`` times the zero of a padding mask would be NaN.
        """
        hidden = out.shape[-1] - 1
        never = torch.finfo(out.dtype).min / 4
        classes = torch.arange(hidden + 1, device=out.device)
        logits = log_probabilities(out.masked_fill(classes == hidden, never))
        return torch.where(x_t.unsqueeze(-1) == hidden, logits, self.carried(out, x_t))

    def carried(self, out: Tensor, x_t: Tensor) -> Tensor:
        """The answer where every token is visible: ``x_t``, whatever the network says."""
        classes = torch.arange(out.shape[-1], device=out.device)
        never = torch.full_like(out, torch.finfo(out.dtype).min / 4)
        return never.masked_fill(classes == x_t.unsqueeze(-1), 0.0)

    def target(self, process: Process, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The clean classes ``x0``."""
        return x0


class Denoiser(nn.Module):
    """A network together with what its inputs and outputs mean.

    Args:
        net: called as ``net(values, label, masks, cond)`` with ``values`` and ``masks`` mappings
            of tensors by component and ``label`` ``[b]``; returns a mapping of raw outputs.
        process: the noise process of every component.
        parametrizations: parametrisation of every component.
        time_input: what ``label`` is: the clock, or the noise level or log-SNR of one component.
        time_of: the component meant by ``time_input``; by default the first in order of name.

    Raises:
        ArgumentError: the components of ``process`` and ``parametrizations`` differ, or
            ``time_input`` or ``time_of`` is unknown.
    """

    def __init__(
        self,
        net: nn.Module,
        process: Product,
        parametrizations: Mapping[str, Parametrization],
        time_input: TimeInput = "t",
        time_of: str | None = None,
    ) -> None:
        super().__init__()
        if set(parametrizations) != set(process.names):
            raise ArgumentError(
                f"parametrizations name {sorted(parametrizations)}, the process has "
                f"{list(process.names)}; give one for each component"
            )
        if time_input not in get_args(TimeInput):
            raise ArgumentError(
                f"time_input is {time_input!r}, expected one of {get_args(TimeInput)}"
            )
        clock = process[time_of if time_of is not None else process.names[0]]
        self.net = net
        self.process = process
        self.parametrizations = {name: parametrizations[name] for name in process.names}
        self.time_input = time_input
        self._clock = clock

    def label(self, t: Tensor, batch: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """What the network is told about the clock ``t``, ``[b]``."""
        if self.time_input != "t":
            schedule = self._clock.schedule
            t = schedule.sigma(t) if self.time_input == "sigma" else schedule.log_snr(t)
        return t.to(dtype).reshape(-1).expand(batch)

    def forward(self, state: State, t: Tensor, cond: Any = None) -> dict[str, Tensor]:
        """Clean data of every component, zero where padded.

        Args:
            state: the noisy batch.
            t: clock, ``[b]``; 0-dim or ``[1]`` if all samples share it.
            cond: passed to the network.
        """
        clock = torch.as_tensor(collapse(t))
        values = {
            name: part.inputs(self.process.parts[name], state[name], clock)
            for name, part in self.parametrizations.items()
        }
        floating = [v.dtype for v in values.values() if v.is_floating_point()]
        label = self.label(clock, state.batch_size, floating[0] if floating else torch.float32)
        out = self.net(values, label, state.masks, cond)
        answer = {}
        for name, part in self.parametrizations.items():
            process, x_t = self.process.parts[name], state[name]
            raw = out[name]
            if part.continuous or raw.dtype not in (torch.float32, torch.float64):
                raw = raw.to(x_t.dtype if part.continuous else torch.float32)
            x0 = part.to_x0(process, raw, x_t, clock)
            answer[name] = process.space.project(x0, state.mask(name))
        return answer
