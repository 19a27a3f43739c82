"""What a network needs in memory, found without using any: a forward pass on the meta device.

Autograd reports every tensor that it keeps for the backward pass. On the meta device tensors have
shapes and no content, so the sum of their sizes costs milliseconds and no memory, whatever the
network. Two batches tell the share of one example from what does not grow with the batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from graphdiff.core.errors import ConfigError

__all__ = ["available_bytes", "kept_bytes", "per_example", "refuse_if_too_large", "state_bytes"]

RESERVE = 0.9
"""Share of the free memory that a run may take; the rest is for data and the allocator."""


def kept_bytes(net: nn.Module, call: Callable[[nn.Module], Any]) -> int:
    """Bytes that autograd keeps in ``call(net)``, parameters aside; ``net`` is on ``meta``."""
    own = {p.untyped_storage()._cdata for p in net.parameters()}
    found: dict[int, int] = {}
    held = []  # a storage that is freed could give its address to the next

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            found[storage._cdata] = storage.nbytes()
            held.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        call(net)
    return sum(found.values())


def per_example(net: nn.Module, call: Callable[[nn.Module, int], Any]) -> int:
    """Bytes that one more example in the batch keeps.

    Args:
        net: The network; a copy of its shapes is made on the meta device.
        call: Evaluates a network on a batch of so many examples on the meta device.
    """
    shadow = net.to("meta")
    two, one = (kept_bytes(shadow, lambda n, b=b: call(n, b)) for b in (2, 1))  # type: ignore[misc]
    return two - one


def state_bytes(net: nn.Module) -> int:
    """Weights, gradients, both moments of Adam and averaged weights."""
    return 5 * sum(p.numel() * p.element_size() for p in net.parameters())


def available_bytes(device: torch.device) -> int:
    """Free memory of a device now."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            rows = dict(line.split(":", 1) for line in file)
        return int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux: all there is, at least
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def refuse_if_too_large(need: int | None, device: torch.device, what: str, cure: str) -> None:
    """Refuse work that would run out of memory before it begins.

    Args:
        need: Bytes; None if nobody knows.
        device: Where.
        what: The work, for the message.
        cure: What to do about it.

    Raises:
        ConfigError: There is less free memory than that.
    """
    free = available_bytes(device)
    if need is not None and need > RESERVE * free:
        raise ConfigError(
            f"{what} needs about {need / 2**30:.1f} GiB and {device} has {free / 2**30:.1f} GiB "
            f"free: {cure}"
        )
