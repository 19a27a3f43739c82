"""Checks of what a sampler is given: templates, answers of denoisers, finished samples, devices.

They run before the first step, at the first evaluation and after the last step. None of them runs
in between, because looking at a value would make the host wait for the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.core.process import Process, Product
from graphdiff.core.state import State

__all__ = ["check_answer", "check_finite", "check_template", "classes_of", "moving_to"]


@contextmanager
def moving_to(device: str | torch.device) -> Iterator[None]:
    """While it is entered, what torch says of a device that is not there is an ArgumentError.

    Raises:
        ArgumentError: This machine has no such device, or it is full.
    """
    try:
        yield
    except (RuntimeError, AssertionError) as error:  # torch raises either, by device type
        raise ArgumentError(
            f"cannot move to device {str(device)!r}: {error}; take cpu, or a GPU of this machine"
        ) from error


def classes_of(part: Process) -> int | None:
    """Number of classes of a discrete process; ``None`` for a continuous one."""
    stationary = getattr(part, "stationary", None)
    return None if stationary is None else len(stationary)


def check_template(process: Product, template: State) -> None:
    """Refuse a template whose components, sizes, dtypes or devices do not fit the process.

    Values that the process does not know are conditions, see :meth:`Sampler.steps`.

    Raises:
        ArgumentError: what does not fit, and what would.
    """
    wanted, found = set(process.parts), set(template.values)
    if not wanted <= found:
        raise ArgumentError(
            f"the template has the components {', '.join(sorted(found)) or 'none'}, but the "
            f"process has {', '.join(sorted(wanted))}; give all of these"
        )
    if template.batch_size == 0:
        raise ArgumentError("the template is an empty batch; give at least one sample id")
    for name, part in process.parts.items():
        value = template[name]
        _check_component(name, value, template.mask(name), template)
        # The space knows which shapes it can hold.
        part.space.size(tuple(value.shape))
        if classes_of(part) is None and not value.is_floating_point():
            raise ArgumentError(
                f"component {name!r} is continuous and needs a floating dtype, found "
                f"{value.dtype}; "
                "make the template with dtype=torch.float32"
            )
        if classes_of(part) is not None and value.dtype != torch.int64:
            raise ArgumentError(
                f"component {name!r} is discrete and needs torch.int64, found {value.dtype}; make "
                "the "
                "template with dtype=torch.int64"
            )


def _check_component(name: str, value: Tensor, mask: Tensor | None, template: State) -> None:
    if value.device != template.device or (mask is not None and mask.device != template.device):
        raise ArgumentError(
            f"component {name!r} or its mask is not on {template.device}, where the sample ids "
            "are; "
            "move the template with State.to(device)"
        )
    if mask is not None and mask.shape != value.shape[: mask.dim()]:
        raise ArgumentError(
            f"the mask of component {name!r} has shape {tuple(mask.shape)}, which are not the "
            "leading "
            f"axes of the component's {tuple(value.shape)}"
        )


def check_answer(process: Product, state: State, x0: Mapping[str, Tensor]) -> None:
    """Refuse an answer of a denoiser with wrong components, shapes, dtypes or devices.

    On a CPU, where looking is free, values that should be zero at padding are refused, too.

    Raises:
        ArgumentError: what is wrong, and what was expected.
    """
    if not isinstance(x0, Mapping):
        raise ArgumentError(
            f"the denoiser returned {type(x0).__name__}, expected a mapping from component to "
            "clean "
            "data; a bare network must be wrapped in graphdiff.core.denoiser.Denoiser"
        )
    missing = sorted(set(process.parts) - set(x0))
    if missing:
        raise ArgumentError(
            f"the denoiser answered for {', '.join(sorted(x0)) or 'nothing'} and not for "
            f"{', '.join(missing)}; it must answer for every component"
        )
    for name, part in process.parts.items():
        value, answer, mask = state[name], x0[name], state.mask(name)
        classes = classes_of(part)
        shape = tuple(value.shape) if classes is None else (*value.shape, classes)
        if tuple(answer.shape) != shape or not answer.is_floating_point():
            kind = "clean data" if classes is None else "logits"
            raise ArgumentError(
                f"the denoiser answered {answer.dtype} of shape {tuple(answer.shape)} for "
                "component "
                f"{name!r}, expected floating {kind} of shape {shape}"
            )
        if answer.device != value.device:
            raise ArgumentError(
                f"the denoiser answered on {answer.device} for component {name!r}, which is on "
                f"{value.device}; move the network or the template"
            )
        if mask is not None and classes is None and answer.device.type == "cpu":
            kept = part.space.apply_mask(answer, mask)
            if bool(((kept == 0) & (answer.detach() != 0)).any()):
                raise ArgumentError(
                    f"the denoiser answered values at padding of component {name!r}, which must be "
                    "zero; wrap the network in graphdiff.core.denoiser.Denoiser, which masks"
                )


def check_finite(process: Product, state: State, failed: Mapping[str, Tensor]) -> None:
    """Refuse finished samples that are not finite or had NaN logits on the way.

    Args:
        process: whose components are looked at.
        state: the last state of a chain.
        failed: samples ``[b]`` of each discrete component that got NaN logits.

    Raises:
        ArgumentError: the component and the id of the first bad sample.
    """
    for name in process.parts:
        value = state.values[name]
        if value.is_floating_point():
            bad = ~value.detach().isfinite().flatten(1).all(1)
        elif name in failed:
            bad = failed[name]
        else:
            continue
        if bool(bad.any()):
            first = int(state.ids[bad][0])
            raise ArgumentError(
                f"component {name!r} of sample {first} is not finite ({int(bad.sum())} of "
                f"{state.batch_size} samples): the denoiser answered NaN or infinity, or the chain "
                "diverged; check the weights, or take more steps"
            )
