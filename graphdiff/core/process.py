r"""Noise processes: what one component of a state is corrupted by, and products of them.

A process is known by four things: its prior (the law at :math:`t = 1`), its marginal
:math:`q(x_t \mid x_0)`, its bridge :math:`q(x_s \mid x_t, x_0)` for :math:`s < t`, and the loss
that trains a prediction of the clean data. Samplers, likelihoods and tuners know processes only
through these, so they know no modality.

A :class:`Product` joins named components that are corrupted independently on one clock. The
network that denoises them sees all of them at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from graphdiff.core.errors import ArgumentError

if TYPE_CHECKING:
    from graphdiff.core.kernel import Kernel
    from graphdiff.core.rng import Key
    from graphdiff.core.schedule import Schedule
    from graphdiff.core.space import Space
    from graphdiff.core.state import State

__all__ = ["Process", "Product"]


class Process(ABC):
    """How one component is corrupted: a frozen dataclass of plain numbers.

    Attributes:
        space: where the free coordinates of the component sit in its tensor.
        schedule: how much signal is left at clock ``t``.
    """

    space: Space
    schedule: Schedule

    @abstractmethod
    def prior(self, like: Tensor, mask: Tensor | None, key: Key) -> Tensor:
        """A draw at ``t = 1``; ``like`` ``[b, ...]`` gives shape, dtype and device only."""

    @abstractmethod
    def corrupt(self, x0: Tensor, t: Tensor, mask: Tensor | None, key: Key) -> Tensor:
        """A draw of ``x_t`` given clean data ``x0`` ``[b, ...]`` at clock ``t`` ``[b]``."""

    @abstractmethod
    def bridge(
        self,
        x_t: Tensor,
        x0: Tensor,
        t: Tensor | float,
        s: Tensor | float,
        mask: Tensor | None,
    ) -> Kernel:
        """``q(x_s | x_t, x_0)`` for ``s < t`` (floats or ``[b]``).

        ``x0`` is a prediction of the clean data: the mean of a continuous component, logits of a
        discrete one (the bridge is then averaged over them).
        """

    @abstractmethod
    def loss(
        self, x0_pred: Tensor, x0: Tensor, x_t: Tensor, t: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Training loss ``[b]`` of ``x0_pred``, predicted from ``x_t`` at clock ``t`` ``[b]``."""


@dataclass(frozen=True)
class Product:
    """Named components with independent noise on one clock.

    Attributes:
        parts: process of each component; sorted by name, so the order in which a caller lists them
            changes nothing. Each component draws from the stream of its own name.
    """

    parts: Mapping[str, Process]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ArgumentError("a Product needs at least one component, found none; name one")
        for name, part in self.parts.items():
            if not isinstance(part, Process):
                raise ArgumentError(
                    f"component {name!r} of a Product is {type(part).__name__}, expected a Process"
                )
        object.__setattr__(self, "parts", {name: self.parts[name] for name in sorted(self.parts)})

    def __hash__(self) -> int:
        return hash(tuple(self.parts.items()))

    def __getitem__(self, name: str) -> Process:
        if name not in self.parts:
            raise ArgumentError(
                f"no component {name!r}: this process has {', '.join(self.parts)}; correct the name"
            )
        return self.parts[name]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the components, sorted."""
        return tuple(self.parts)

    def prior(self, template: State, key: Key) -> State:
        """A draw of every component at ``t = 1``; ``template`` gives shapes, masks and ids."""
        return template.replace(
            **{
                name: part.prior(template[name], template.mask(name), key.at(stream=name))
                for name, part in self.parts.items()
            }
        )

    def corrupt(self, state: State, t: Tensor, key: Key) -> State:
        """A draw of every component at clock ``t`` ``[b]``, given the clean ``state``."""
        return state.replace(
            **{
                name: part.corrupt(state[name], t, state.mask(name), key.at(stream=name))
                for name, part in self.parts.items()
            }
        )

    def bridge(
        self, x_t: State, x0: Mapping[str, Tensor], t: Tensor | float, s: Tensor | float
    ) -> dict[str, Kernel]:
        """The bridge ``q(x_s | x_t, x0)`` of every component."""
        return {
            name: part.bridge(x_t[name], x0[name], t, s, x_t.mask(name))
            for name, part in self.parts.items()
        }

    def loss(
        self, x0_pred: Mapping[str, Tensor], x0: State, x_t: State, t: Tensor
    ) -> dict[str, Tensor]:
        """Training loss ``[b]`` of every component."""
        return {
            name: part.loss(x0_pred[name], x0[name], x_t[name], t, x_t.mask(name))
            for name, part in self.parts.items()
        }
