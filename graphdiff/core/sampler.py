r"""The one sampling loop of graphdiff.

A sampler joins a product process, a solver for each component and a grid of times. In step ``i`` it
asks the denoiser once in each stage for the clean data of *all* components, hands the answer to the
programs of the components, and draws the kernels :math:`q(x' \mid x, \hat x_0)` they return in one
call. It knows no modality: graphs, images, token strings and mixtures of them run through it.

Noise of sample ``b`` in stage ``j`` of step ``i`` is
``Key(seed, ids[b], step=1 + i * stages + j, stream=component)`` and the prior is step 0: batch,
order, padding, threads and resuming change nothing. Nothing inside a step waits for a device.

Two ports make guidance a setting of this loop instead of a loop of its own. A *tilt* maps the
prediction that the kernels are drawn from (:mod:`graphdiff.core.tilt`); the step then also holds
the kernels of the model itself, so that the ratio of both is known. And whoever iterates over
:meth:`Sampler.steps` may *send* a changed step back (resampled particles, say): the chain goes on
from there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from graphdiff.core.checks import check_answer, check_finite, check_template
from graphdiff.core.compiled import Compiled, Slot, slots_of
from graphdiff.core.errors import ArgumentError
from graphdiff.core.kernel import Delta, Kernel, sample_all
from graphdiff.core.process import Product
from graphdiff.core.program import Carry, Solver
from graphdiff.core.rng import Key, stream_id
from graphdiff.core.state import State
from graphdiff.core.step import Step, check_resume, derived, make_step
from graphdiff.core.times import Times

if TYPE_CHECKING:
    from graphdiff.core.denoiser import DenoiserFunction

__all__ = ["Compiled", "Sampler", "Slot", "Step", "Tilt", "Times"]

Tilt = Callable[[State, Tensor, Mapping[str, Tensor], Key], Mapping[str, Tensor]]
"""``(state, t [b], x0, key) -> x0'``: another prediction, for some components or for all. Noise
that it draws from ``key`` must not be on the stream of a component: the step is drawn from that."""


@dataclass(frozen=True)
class Sampler:
    """A product process, a solver for each component, and a grid of times.

    Attributes:
        process: the noise process of each component.
        solvers: the solver of each component, or one for all.
        times: the grid.

    Raises:
        ArgumentError: if the solvers do not match the components.
    """

    process: Product
    solvers: Mapping[str, Solver] | Solver
    times: Times = field(default_factory=lambda: Times(100))

    def __post_init__(self) -> None:
        if isinstance(self.solvers, Solver):
            return
        names, given = set(self.process.parts), set(self.solvers)
        if names != given:
            raise ArgumentError(
                f"solvers are given for {', '.join(sorted(given)) or 'nothing'}, but the process "
                "has "
                f"the components {', '.join(sorted(names))}; give one solver for each, or one for "
                "all"
            )

    @cached_property
    def _compiled(self) -> Compiled:
        # Two threads may both compute it; the results are equal and immutable.
        parts = self.process.parts
        times = self.times.grid(self.process)
        shared = self.solvers if isinstance(self.solvers, Solver) else None
        solvers = {} if isinstance(self.solvers, Solver) else self.solvers
        programs = {
            name: (shared or solvers[name]).compile(part, times) for name, part in parts.items()
        }
        streams = {name: stream_id(name) for name in parts}
        if len(set(streams.values())) < len(streams):
            raise ArgumentError(
                f"two of the component names {', '.join(parts)} share a noise stream; rename one"
            )
        stages = max(program.stages for program in programs.values())
        slots = tuple(slots_of(programs, i, stages) for i in range(len(times) - 1))
        return Compiled(times, programs, slots, streams)

    def compile(self) -> Compiled:
        """Grid, programs and evaluations; computed once and kept.

        Raises:
            ArgumentError: if a solver does not fit its process, or if two programs ask the network
                at different times in the same stage.
        """
        return self._compiled

    @property
    def network_calls(self) -> int:
        """Network evaluations of a whole chain."""
        return self._compiled.network_calls

    def steps(
        self,
        denoiser: DenoiserFunction,
        template: State,
        *,
        seed: int,
        cond: Any = None,
        resume: Step | None = None,
        grad: bool = False,
        tilt: Tilt | None = None,
    ) -> Generator[Step, Step | None, None]:
        """Yield the chain step by step; a step that is sent back replaces the one it answers.

        Args:
            denoiser: ``(state, t, cond) -> {component: clean data}``; ``t`` is ``[b]``, expanded
                from one number.
            template: a state that gives shapes, dtypes, device, masks and ids. Values that are no
                component of the process (a class label, the embedding of a prompt) are conditions:
                they stay with their sample, and the denoiser is handed them by name.
            seed: seed of all noise.
            cond: handed to the denoiser; a mapping is added to the conditions of the template.
            resume: continue after this step; the chain is then bit-equal to one never stopped.
            grad: record gradients through the steps.
            tilt: draws each step from the kernels of this map of the prediction; the kernels of
                the prediction itself are then in ``Step.base``.

        Raises:
            ArgumentError: if the template does not fit the process, the denoiser answers with wrong
                components, shapes or dtypes, or its answers are not finite (checked once, in the
                end, so that no step waits for the device).
        """
        plan = self._compiled
        check_template(self.process, template)
        cond = _conditions(self.process, template, cond)
        if resume is None:
            key = Key(seed, template.ids)
            with torch.set_grad_enabled(grad):
                state = self.process.prior(template, key)
                carry = {name: p.start(state[name]) for name, p in plan.programs.items()}
            return self._chain(denoiser, state, carry, 0, 0, seed, cond, grad, tilt)
        check_resume(resume, template, plan, seed)
        first, calls = resume.index + 1, resume.calls
        return self._chain(
            denoiser, resume.state, dict(resume.carry), first, calls, seed, cond, grad, tilt
        )

    def __call__(
        self,
        denoiser: DenoiserFunction,
        template: State,
        *,
        seed: int,
        cond: Any = None,
        on_step: Callable[[Step], None] | None = None,
        grad: bool = False,
        tilt: Tilt | None = None,
    ) -> State:
        """Run the whole chain and return its last state; see :meth:`steps`.

        ``on_step`` is called after every step.
        """
        state = template
        with torch.set_grad_enabled(grad):
            for step in self.steps(denoiser, template, seed=seed, cond=cond, grad=grad, tilt=tilt):
                state = step.state
                if on_step is not None:
                    on_step(step)
        return state

    def _chain(
        self,
        denoiser: DenoiserFunction,
        state: State,
        carry: dict[str, Carry],
        first: int,
        calls: int,
        seed: int,
        cond: Any,
        grad: bool,
        tilt: Tilt | None,
    ) -> Generator[Step, Step | None, None]:
        plan, key, total = self._compiled, Key(seed, state.ids), len(self._compiled.slots)
        clock = iter(_clock(plan, first, state))
        failed: dict[str, Tensor] = {}
        discrete = tuple(n for n in plan.programs if not state.values[n].is_floating_point())
        checked = False
        for i in range(first, total):
            x0: Mapping[str, Tensor] = {}
            kernels: dict[str, Kernel] = {}
            base: dict[str, Kernel] = {}
            carry = dict(carry)
            # Entering the guard costs as much as a tensor operation; the loop of __call__ is in it.
            guarded = torch.is_grad_enabled() != grad
            with torch.set_grad_enabled(grad) if guarded else _FREE:
                for slot in plan.slots[i]:
                    t_now = next(clock)
                    x0 = denoiser(state, t_now, cond)
                    if not checked:
                        check_answer(self.process, state, x0)
                        checked = True
                    calls += 1
                    if discrete:
                        _note_nan(failed, discrete, x0)
                    aim = None
                    if tilt is not None:
                        aim = {**x0, **tilt(state, t_now, x0, key.at(slot.noise))}
                    state, kernels, base = _move(plan, slot, i, state, x0, carry, key, aim)
            if i == total - 1:
                check_finite(self.process, state, failed)
            t, s = plan.times[i], plan.times[i + 1]
            back = yield make_step(i, t, s, state, x0, kernels, carry, calls, total, seed, base)
            if back is not None:
                state, carry = back.state, dict(back.carry)


_FREE: AbstractContextManager[None] = nullcontext()


def _move(
    plan: Compiled,
    slot: Slot,
    i: int,
    state: State,
    x0: Mapping[str, Tensor],
    carry: dict[str, Carry],
    key: Key,
    aim: Mapping[str, Tensor] | None,
) -> tuple[State, dict[str, Kernel], dict[str, Kernel]]:
    """Update the components of a slot and draw them; ``carry`` is changed in place.

    With another prediction to ``aim`` at, its kernels are drawn from and its past is remembered;
    the kernels of ``x0`` are returned as well.
    """
    values, kernels, base = state.values, {}, {}
    for name, stage in slot.parts:
        program = plan.programs[name]
        own = key.at(slot.noise, plan.streams[name]) if program.reads_key else key
        now, told = (i, stage, values[name]), (state.masks.get(name), carry[name], own)
        if aim is not None:
            base[name] = program.update(*now, x0[name], *told)[0]
        seen = x0[name] if aim is None else aim[name]
        kernels[name], carry[name] = program.update(*now, seen, *told)
    fixed = {name: k.value for name, k in kernels.items() if isinstance(k, Delta)}
    if len(fixed) == len(kernels):
        return derived(state, {**values, **fixed}), kernels, base
    free = {name: kernel for name, kernel in kernels.items() if name not in fixed}
    drawn = sample_all(free, key.at(step=slot.noise))
    return derived(state, {**values, **fixed, **drawn}), kernels, base


def _conditions(process: Product, template: State, cond: Any) -> Any:
    """What the denoiser is told beside the components.

    Raises:
        ArgumentError: the template carries conditions, and ``cond`` is no mapping to add to them.
    """
    given = {name: v for name, v in template.values.items() if name not in process.parts}
    if not given:
        return cond
    if cond is not None and not isinstance(cond, Mapping):
        raise ArgumentError(
            f"the template carries the conditions {', '.join(given)}, so cond must be a mapping "
            f"that adds to them, found {type(cond).__name__}; name what it is"
        )
    return {**given, **(cond or {})}


def _note_nan(
    failed: dict[str, Tensor], discrete: tuple[str, ...], x0: Mapping[str, Tensor]
) -> None:
    """Remember, on the device, which samples got NaN logits.

    A continuous value stays NaN once it is, so that only discrete components need a note.
    """
    for name in discrete:
        now = x0[name].detach().isnan().flatten(1).any(1)
        failed[name] = failed[name] | now if name in failed else now


def _clock(plan: Compiled, first: int, state: State) -> list[Tensor]:
    """Times of all evaluations from step ``first`` on, each ``[b]`` expanded from one number."""
    double = any(state.values[name].dtype == torch.float64 for name in plan.programs)
    dtype = torch.float64 if double else torch.float32
    times = [slot.time for slots in plan.slots[first:] for slot in slots]
    table = torch.tensor(times, dtype=dtype, device=state.device)
    return list(table[:, None].expand(-1, state.batch_size).unbind(0))
