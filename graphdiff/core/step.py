"""One step of a chain: what a sampler yields, and what a chain resumes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from graphdiff.core.compiled import Compiled
from graphdiff.core.errors import ArgumentError
from graphdiff.core.kernel import Kernel
from graphdiff.core.program import Carry
from graphdiff.core.state import State

__all__ = ["Step", "check_resume", "derived", "make_step"]


@dataclass(frozen=True)
class Step:
    """The chain after step ``index``, from which it can be resumed.

    Attributes:
        index: number of the step, from 0.
        t: time at which the step began.
        s: time at which ``state`` is.
        state: the batch at time ``s``.
        x0: last prediction of the clean data in this step.
        kernels: distributions that the components which moved in the last stage were drawn from.
        carry: what the programs remember.
        calls: network evaluations so far.
        total: number of steps of the chain.
        seed: seed of the chain.
        base: the same distributions without the tilt of the sampler; empty if there was none.
    """

    index: int
    t: float
    s: float
    state: State
    x0: Mapping[str, Tensor]
    kernels: Mapping[str, Kernel]
    carry: Mapping[str, Carry]
    calls: int
    total: int
    seed: int
    base: Mapping[str, Kernel] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Tensors and numbers only: what ``torch.save`` writes and ``weights_only=True`` reads.

        The kernels are left out, because nothing that follows depends on them.
        """
        return {
            "index": self.index,
            "t": self.t,
            "s": self.s,
            "values": dict(self.state.values),
            "masks": dict(self.state.masks),
            "ids": self.state.ids,
            "x0": dict(self.x0),
            "carry": {name: list(carry) for name, carry in self.carry.items()},
            "calls": self.calls,
            "total": self.total,
            "seed": self.seed,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Step:
        """The step that :meth:`to_dict` wrote, without its kernels.

        Raises:
            ArgumentError: if an entry is missing.
        """
        entries = "index t s values masks ids x0 carry calls total seed"
        missing = [name for name in entries.split() if name not in data]
        if missing:
            raise ArgumentError(
                f"a saved step lacks {', '.join(missing)}; found {', '.join(sorted(data))}; pass "
                "what "
                "Step.to_dict returned"
            )
        return Step(
            index=int(data["index"]),
            t=float(data["t"]),
            s=float(data["s"]),
            state=State(dict(data["values"]), dict(data["masks"]), data["ids"]),
            x0=dict(data["x0"]),
            kernels={},
            carry={name: tuple(carry) for name, carry in data["carry"].items()},
            calls=int(data["calls"]),
            total=int(data["total"]),
            seed=int(data["seed"]),
        )


def check_resume(step: Step, template: State, plan: Compiled, seed: int) -> None:
    """Refuse to resume a chain from a step of another one.

    Raises:
        ArgumentError: seed, number of steps, components or sample ids differ.
    """
    if step.seed != seed or step.total != len(plan.slots) or set(step.carry) != set(plan.programs):
        raise ArgumentError(
            f"the step to resume from belongs to a chain of seed {step.seed}, {step.total} steps "
            "and "
            f"components {', '.join(sorted(step.carry))}; this one has seed {seed}, "
            f"{len(plan.slots)} steps and components {', '.join(sorted(plan.programs))}; use the "
            "sampler and seed that made it"
        )
    if not torch.equal(step.state.ids.cpu(), template.ids.cpu()):
        raise ArgumentError(
            "the step to resume from has other sample ids than the template; use the same template"
        )


def derived(state: State, values: dict[str, Tensor]) -> State:
    """The samples of ``state`` with new values, which are known to be valid.

    The checks of ``State`` and the field-by-field assignment of a frozen dataclass cost more than a
    step of a small state, and a program cannot change batch size or ids.
    """
    new = object.__new__(State)
    new.__dict__.update(values=values, masks=state.masks, ids=state.ids)
    return new


def make_step(
    index: int,
    t: float,
    s: float,
    state: State,
    x0: Mapping[str, Tensor],
    kernels: Mapping[str, Kernel],
    carry: Mapping[str, Carry],
    calls: int,
    total: int,
    seed: int,
    base: Mapping[str, Kernel],
) -> Step:
    """``Step(...)`` in a third of the time, see :func:`derived`."""
    step = object.__new__(Step)
    step.__dict__.update(
        index=index,
        t=t,
        s=s,
        state=state,
        x0=x0,
        kernels=kernels,
        carry=carry,
        calls=calls,
        total=total,
        seed=seed,
        base=base,
    )
    return step
