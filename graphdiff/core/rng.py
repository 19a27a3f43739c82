r"""Counter-based random streams: a sample is a function of (seed, sample id), never of its batch.

A :class:`Key` holds no state. Element ``k`` of sample ``b`` is a pure function of
``(seed, ids[b], step, stream, k)``: word ``k mod 4`` of

.. math:: \mathrm{Philox4x32\text{-}10}\bigl(\text{counter}=(\lfloor k/4\rfloor,\ \text{step},\
    \text{id}_{lo},\ \text{id}_{hi}\,2^{16}+\text{stream}),\ \text{key}=\text{seed}\bigr)

(Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Hence batch
size, order, padding, the number of workers and resuming do not change the noise of a sample, and
the first ``m`` of ``n`` numbers do not depend on ``n``. The bits are the same on every device;
normals agree up to the rounding of the device's ``log``, ``sin`` and ``cos``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from zlib import crc32

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.core.tables import table

__all__ = ["Draw", "Key", "draw", "philox", "stream_id"]

Kind = Literal["uniform", "normal"]

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF
_ROUNDS = 10


def stream_id(name: str) -> int:
    """The 16-bit stream number of a component name."""
    return crc32(name.encode()) & 0xFFFF


@table
def _constants(seed: int, device: torch.device) -> tuple[list[Tensor], list[Tensor]]:
    """Round keys of ``seed`` (ten of ``[2, 1]``); multipliers, mask and shift (scalars)."""
    low, high = seed & _MASK, seed >> 32
    keys = [
        [[(low + r * _WEYL[0]) & _MASK], [(high + r * _WEYL[1]) & _MASK]] for r in range(_ROUNDS)
    ]
    scalars = torch.tensor([*_MULTIPLIERS, _MASK, 32], dtype=torch.int64, device=device)
    table = torch.tensor(keys, dtype=torch.int64, device=device)
    return list(table.unbind(0)), list(scalars.unbind(0))


def philox(even: Tensor, odd: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Philox4x32-10 of many counters; works in place on its arguments.

    Args:
        even: Counter words 0 and 2, int64 ``[2, m]`` in ``[0, 2**32)``, contiguous; overwritten.
        odd: Counter words 1 and 3, as ``even``; overwritten.
        seed: The 64-bit key.

    Returns:
        Output words 0 and 2, and output words 1 and 3, each int64 ``[2, m]`` in ``[0, 2**32)``.
    """
    keys, (first, second, mask, shift) = _constants(seed, even.device)
    spare, high = torch.empty_like(odd), torch.empty_like(odd)
    rows = even.unbind(0)
    products = ((spare, *spare.unbind(0)), (odd, *odd.unbind(0)))
    for r, key in enumerate(keys):
        # A 32 x 32 bit product may wrap int64 into the sign bit, but its 64 bits are right. Their
        # low half stays unmasked in `odd`, because the mask below also clears what it brings up.
        # Writing the products to swapped rows is the permutation of the words between rounds.
        product, upper, lower = products[r % 2]
        torch.mul(rows[0], first, out=lower)
        torch.mul(rows[1], second, out=upper)
        torch.bitwise_right_shift(product, shift, out=high)
        torch.bitwise_xor(high, products[1 - r % 2][0], out=even)
        even.bitwise_and_(mask).bitwise_xor_(key)
    return even, odd.bitwise_and_(mask)


@dataclass(frozen=True)
class Draw:
    """One request of :func:`draw`.

    Attributes:
        n: Numbers for each sample.
        kind: ``"uniform"`` on (0, 1), or ``"normal"``.
        dtype: ``torch.float32`` or ``torch.float64``; other floating types are rounded from
            float32.
        stream: Stream number or component name; None takes the key's.
        step: Step number; None takes the key's.
    """

    n: int
    kind: Kind = "normal"
    dtype: torch.dtype = torch.float32
    stream: int | str | None = None
    step: int | None = None

    @property
    def blocks(self) -> int:
        """Philox counters for each sample."""
        return -(-self.n // (2 if self.dtype == torch.float64 else 4))


@dataclass(frozen=True)
class Key:
    """A family of random streams, one for each sample of a batch.

    Attributes:
        seed: The seed of the run, ``0 <= seed < 2**64``.
        ids: Global sample numbers, int64 ``[b]``, ``0 <= id < 2**48``.
        step: Which step of a chain, ``0 <= step < 2**32``.
        stream: Which component, ``0 <= stream < 2**16``.

    Raises:
        ArgumentError: A number is out of range, or ``ids`` is not int64 ``[b]``.
    """

    seed: int
    ids: Tensor
    step: int = 0
    stream: int = 0

    def __post_init__(self) -> None:
        _in_range("seed", self.seed, 64)
        _in_range("step", self.step, 32)
        _in_range("stream", self.stream, 16)
        if self.ids.dtype != torch.int64 or self.ids.ndim != 1:
            raise ArgumentError(
                f"ids must be an int64 tensor [b], found {self.ids.dtype} "
                f"{list(self.ids.shape)}; number the samples, for example torch.arange(b)"
            )
        # Only where looking costs no device synchronisation and breaks no traced graph.
        if self.ids.device.type == "cpu" and not torch.compiler.is_compiling():
            bad = (self.ids < 0) | (self.ids >= 1 << 48)
            if bool(bad.any()):
                raise ArgumentError(
                    f"ids must lie in [0, 2**48), found {int(self.ids[bad][0])}; "
                    "use the global number of the sample"
                )

    def at(self, step: int | None = None, stream: int | str | None = None) -> Key:
        """The key of another step or stream (a component name means :func:`stream_id`)."""
        if step is None:
            step = self.step
        else:
            _in_range("step", step, 32)
        if stream is None:
            stream = self.stream
        elif isinstance(stream, str):
            stream = stream_id(stream)
        else:
            _in_range("stream", stream, 16)
        return _unchecked(self.seed, self.ids, step, stream)

    def select(self, index: Tensor | slice | Sequence[int]) -> Key:
        """The key of the samples ``index``."""
        if not isinstance(index, Tensor | slice):
            index = torch.tensor(list(index), dtype=torch.int64, device=self.ids.device)
        return _unchecked(self.seed, self.ids[index], self.step, self.stream)

    def bits(self, n: int) -> Tensor:
        """``n`` words of 32 random bits for each sample, int64 ``[b, n]`` in ``[0, 2**32)``."""
        even, odd = _words(self, [Draw(n)])
        words = torch.stack((even, odd), -1).permute(1, 2, 0, 3)
        return words.reshape(len(self.ids), 4 * Draw(n).blocks)[:, :n]

    def uniform(self, n: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """``n`` numbers in the open interval (0, 1) for each sample, ``[b, n]``.

        Midpoints of ``2**23`` (float32) or ``2**52`` (float64) equal cells, so that neither 0 nor
        1 is possible and the mean is exactly one half.
        """
        return draw(self, [Draw(n, "uniform", dtype)])[0]

    def normal(self, n: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """``n`` standard normals for each sample, ``[b, n]`` (Box-Muller, prefix-stable)."""
        return draw(self, [Draw(n, "normal", dtype)])[0]


def draw(key: Key, draws: Sequence[Draw]) -> list[Tensor]:
    """Answer several requests with one Philox call.

    Equal to asking ``key.at(d.step, d.stream)`` for each of them, but the fixed cost of a call is
    paid once: components of a step, or the next hundred steps of a small state, belong together.

    Returns:
        One tensor ``[b, d.n]`` for each request.
    """
    if not draws:
        return []
    even, odd = _words(key, draws)
    first = draws[0]
    if all(d.kind == first.kind and d.dtype == first.dtype for d in draws):
        flat = _convert(even, odd, first.kind, first.dtype)
        per = flat.shape[1] // max(even.shape[2], 1)
        parts = flat.split([per * d.blocks for d in draws], 1)
        return [part[:, : d.n] for part, d in zip(parts, draws, strict=True)]
    blocks = [d.blocks for d in draws]
    slices = zip(even.split(blocks, 2), odd.split(blocks, 2), draws, strict=True)
    return [_convert(a, b, d.kind, d.dtype)[:, : d.n] for a, b, d in slices]


def _words(key: Key, draws: Sequence[Draw]) -> tuple[Tensor, Tensor]:
    """Random words 0 and 2, and 1 and 3, of every block: each int64 ``[2, b, blocks]``."""
    total = sum(d.blocks for d in draws)
    ids = key.ids
    shape = (2, len(ids), total)
    even = torch.empty(shape, dtype=torch.int64, device=ids.device)
    odd = torch.empty(shape, dtype=torch.int64, device=ids.device)
    even[1] = (ids & _MASK)[:, None]
    odd[1] = ((ids >> 32 & 0xFFFF) << 16)[:, None]
    start = 0
    for d in draws:
        k = key if d.step is None and d.stream is None else key.at(d.step, d.stream)
        stop = start + d.blocks
        even[0, :, start:stop] = torch.arange(d.blocks, device=ids.device)
        odd[0, :, start:stop] = k.step
        odd[1, :, start:stop] |= k.stream
        start = stop
    even, odd = philox(even.view(2, -1), odd.view(2, -1), key.seed)
    return even.view(shape), odd.view(shape)


def _convert(even: Tensor, odd: Tensor, kind: Kind, dtype: torch.dtype) -> Tensor:
    """Words ``[2, b, blocks]`` to numbers ``[b, 4 * blocks]``, float64 ``[b, 2 * blocks]``."""
    batch = even.shape[1]
    if dtype == torch.float64:
        joined = ((even >> 6) << 26 | odd >> 6).to(torch.float64).add_(0.5).mul_(2.0**-52)
        if kind == "uniform":
            return joined.permute(1, 2, 0).reshape(batch, 2 * even.shape[2])
        first, second = _box_muller(joined[0], joined[1])
        return torch.stack((first, second), -1).flatten(1)
    if kind == "uniform":
        pair = torch.stack((even, odd), -1).bitwise_right_shift_(9).to(torch.float32)
        numbers = pair.add_(0.5).mul_(2.0**-23)
    else:
        # All 32 bits for the radius: near zero float32 resolves them, and that is the tail.
        radius = even.to(torch.float32).add_(0.5).mul_(2.0**-32)
        angle = odd.to(torch.float32).mul_(2.0**-32)
        numbers = torch.stack(_box_muller(radius, angle), -1)
    flat = numbers.permute(1, 2, 0, 3).reshape(batch, 4 * even.shape[2])
    return flat if dtype == torch.float32 else flat.to(dtype)


def _box_muller(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Two independent normals from two uniforms, which are overwritten."""
    radius = u.log_().mul_(-2.0).sqrt_()
    angle = v.mul_(2.0 * math.pi)
    return torch.cos(angle).mul_(radius), angle.sin_().mul_(radius)


def _in_range(name: str, value: int, bits: int) -> None:
    if not 0 <= value < 1 << bits:
        raise ArgumentError(f"{name} must lie in [0, 2**{bits}), found {value}")


def _unchecked(seed: int, ids: Tensor, step: int, stream: int) -> Key:
    """A key whose parts are known to be valid (keys are made in the inner loop)."""
    key = object.__new__(Key)
    for name, value in (("seed", seed), ("ids", ids), ("step", step), ("stream", stream)):
        object.__setattr__(key, name, value)
    return key
