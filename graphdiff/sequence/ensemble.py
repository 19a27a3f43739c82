r"""The mean of several predictors, as one.

Predictors that err independently err less together, and an optimiser finds fewer places where all
are wrong: on the AAV set ``hard`` the mean of a predictor and of its smoothed copy
(:mod:`graphdiff.sequence.smoothing`) is a better guide than either, see the benchmarks. As a
reward on the command line the same is a sum, ``0.5*oracle:A.ckpt@normalised`` and
``0.5*oracle:B.ckpt@normalised``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.sequence.alphabet import Alphabet
from graphdiff.sequence.oracles import Predictor

__all__ = ["Ensemble"]


@dataclass(frozen=True)
class Ensemble:
    r"""The mean :math:`\frac1m \sum_j f_j(x)` of predictors.

    Attributes:
        members: At least one; all of one alphabet.
        name: For tables and errors; the names of the members by default.

    Raises:
        ArgumentError: There are no members, their alphabets differ, or no property is predicted by
            all.
    """

    members: tuple[Predictor, ...]
    name: str = ""

    def __post_init__(self) -> None:
        if not self.members:
            raise ArgumentError("an ensemble has no members; give at least one predictor")
        if not self.name:
            object.__setattr__(self, "name", "+".join(m.name for m in self.members))
        kinds = sorted({m.alphabet.name for m in self.members})
        if any(m.alphabet != self.alphabet for m in self.members):
            raise ArgumentError(
                f"members of {self.name} read {' and '.join(kinds)}; choose predictors of one "
                "alphabet"
            )
        if not self.targets:
            each = "; ".join(", ".join(m.targets) for m in self.members)
            raise ArgumentError(f"members of {self.name} predict nothing in common: {each}")

    @property
    def alphabet(self) -> Alphabet:
        """Of the sequences that all members read."""
        return self.members[0].alphabet

    @property
    def targets(self) -> tuple[str, ...]:
        """What all members predict, in the order of the first."""
        return tuple(
            t for t in self.members[0].targets if all(t in m.targets for m in self.members)
        )

    def __call__(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mean properties ``[b, targets]`` of classes ``[b, L]`` or class weights ``[b, L, K]``.

        Raises:
            ArgumentError: As the members do.
        """
        found = [
            member(tokens, mask)[:, [member.targets.index(t) for t in self.targets]]
            for member in self.members
        ]
        return torch.stack(found).mean(0)
