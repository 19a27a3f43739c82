r"""What every solver is: a recipe, and the program compiled from it.

A *solver* is a frozen recipe of plain numbers. Compiled against one process and one grid of
times :math:`t_0 > t_1 > \dots > t_n` it becomes a *program*: an immutable table of
coefficients, computed once in float64, whose ``update`` is a pure function

.. math:: (i, \text{stage}, x, \hat x_0, \text{carry}, \text{key})
          \mapsto (q(x' \mid x, \hat x_0), \text{carry}').

The kernel ``q`` is returned rather than sampled: the sampler draws the noise of all components
in one call, policy gradients read ``q.log_prob`` and a tuner reads ``q.kl``. What a method
remembers between steps (past predictions) travels in ``carry``, a tuple of tensors, and never
in an attribute, so threads and interleaved requests cannot disturb each other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from graphdiff.core.kernel import Kernel
    from graphdiff.core.process import Process
    from graphdiff.core.rng import Key

Carry = tuple[Tensor, ...]


class Program(ABC):
    """The steps of one component on one grid of times: immutable, hence safe to share by threads.

    Attributes:
        stages: network evaluations in one step, at most.
        reads_key: whether ``update`` draws noise itself, before the kernel exists. Only then does
            the sampler make the key of the component; noise of the kernel needs none.
    """

    stages: int
    reads_key: bool = False

    @property
    def replays(self) -> bool:
        """Whether what a step was drawn from can be computed again, with gradients.

        A step asks the network once, and noise that ``update`` draws itself, from the same key
        again, does not depend on the answer.
        """
        return self.stages == 1 and not self.reads_key

    def settled(self, i: int, x: Tensor, mask: Tensor | None, key: Key) -> Program:
        """The program of step ``i`` from ``x`` with its own noise drawn.

        It may be asked about other states with the same noise; itself, if it has none.
        """
        return self

    @abstractmethod
    def evaluate_at(self, i: int, stage: int) -> float | None:
        """Clock time at which the network is asked in ``stage`` of step ``i``.

        ``None`` means that this stage is skipped in step ``i``.
        """

    @abstractmethod
    def start(self, x: Tensor) -> Carry:
        """What the program remembers before its first step; ``x`` is the state at ``times[0]``."""

    @abstractmethod
    def update(
        self,
        i: int,
        stage: int,
        x: Tensor,
        x0: Tensor,
        mask: Tensor | None,
        carry: Carry,
        key: Key,
    ) -> tuple[Kernel, Carry]:
        """Advance one stage; after the last stage of step ``i`` the state is at ``times[i + 1]``.

        Args:
            i: step, ``0 <= i < n``.
            stage: stage of the step, ``0 <= stage < stages``.
            x: current value of the component.
            x0: prediction of the clean data at ``evaluate_at(i, stage)``: the mean of a continuous
                component, logits of a discrete one.
            mask: padding mask of the component, or ``None``.
            carry: what :meth:`start` or the previous ``update`` returned.
            key: noise of this stage and component, if ``reads_key``. The sampler draws the noise of
                the kernel from the same key, so a kernel that is not certain must not be returned
                for noise drawn here; draw that in the unused upper half of the step range.

        Returns:
            The distribution of the next value, and the next carry.
        """


class Solver(ABC):
    """A recipe for one component: a frozen dataclass of plain numbers."""

    @abstractmethod
    def compile(self, process: Process, times: Sequence[float]) -> Program:
        """Compute the coefficients for ``process`` on the descending grid ``times`` (n + 1 long).

        Raises:
            ArgumentError: if the recipe does not fit the process or the grid.
        """
