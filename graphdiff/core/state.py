"""States: batches of graphs, strings or images as named tensors with masks and sample ids.

Samples of different size share a tensor by padding. :func:`bucket_by_size` groups samples of
similar size, :func:`collate` pads a group, :func:`unpad` undoes it. Padding never changes the
noise of a sample (see :mod:`graphdiff.core.space`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.core.space import Space

__all__ = ["MAX_WASTE", "Bucket", "State", "bucket_by_size", "collate", "concat", "pad", "unpad"]


MAX_WASTE = 0.08
"""Largest share of padded nodes in a bucket: a fifth of the nodes would be half of the pairs."""


@dataclass(frozen=True)
class State:
    """A batch of samples.

    Attributes:
        values: Named components, each ``[b, ...]``.
        masks: Boolean mask of a component, True where real (a node mask ``[b, n]`` for graphs);
            components that lack one have no padding.
        ids: Global sample numbers, int64 ``[b]``; they choose the noise of each sample.

    Raises:
        ArgumentError: Batch sizes disagree, or a mask is not boolean or names no component.
    """

    values: Mapping[str, Tensor]
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    ids: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    def __post_init__(self) -> None:
        if self.ids.ndim != 1 or self.ids.dtype != torch.int64:
            raise ArgumentError(
                f"ids must be int64 [b], found {self.ids.dtype} {list(self.ids.shape)}; "
                "number the samples, for example torch.arange(b)"
            )
        for kind, tensors in (("component", self.values), ("mask", self.masks)):
            for name, x in tensors.items():
                if x.ndim == 0 or x.shape[0] != self.batch_size:
                    raise ArgumentError(
                        f"{kind} {name!r} has shape {list(x.shape)}, expected a first axis of "
                        f"{self.batch_size}, the number of ids"
                    )
        for name, mask in self.masks.items():
            if name not in self.values:
                raise ArgumentError(
                    f"a mask names {name!r}, which is no component of this state; "
                    f"components are {', '.join(self.values)}"
                )
            if mask.dtype != torch.bool:
                raise ArgumentError(
                    f"mask {name!r} is {mask.dtype}, expected torch.bool; convert with .bool()"
                )

    @property
    def batch_size(self) -> int:
        """Number of samples."""
        return self.ids.shape[0]

    @property
    def device(self) -> torch.device:
        """Device of the ids, which all tensors share."""
        return self.ids.device

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.values:
            raise ArgumentError(
                f"no component {name!r}: this state has {', '.join(self.values)}; correct the name"
            )
        return self.values[name]

    def mask(self, name: str) -> Tensor | None:
        """The mask of a component, or None when nothing of it is padded."""
        return self.masks.get(name)

    def replace(self, **values: Tensor) -> State:
        """The same samples with other values of some components (or with new components)."""
        return State({**self.values, **values}, self.masks, self.ids)

    def to(self, device: torch.device | str) -> State:
        """The state on another device."""
        return State(
            {name: x.to(device) for name, x in self.values.items()},
            {name: x.to(device) for name, x in self.masks.items()},
            self.ids.to(device),
        )

    def select(self, index: Tensor | slice | Sequence[int]) -> State:
        """The samples ``index``."""
        if not isinstance(index, Tensor | slice):
            index = torch.tensor(list(index), dtype=torch.int64, device=self.device)
        return State(
            {name: x[index] for name, x in self.values.items()},
            {name: x[index] for name, x in self.masks.items()},
            self.ids[index],
        )


@dataclass(frozen=True)
class Bucket:
    """Samples that are padded to one size.

    Attributes:
        size: Number of nodes to pad to.
        index: Positions in the list of sizes, int64.
    """

    size: int
    index: Tensor


def bucket_by_size(
    sizes: Sequence[int] | Tensor, *, batch: int, max_waste: float = MAX_WASTE
) -> list[Bucket]:
    """Group samples of similar size, largest first; equal sizes keep their order.

    Args:
        sizes: Number of nodes of each sample.
        batch: Largest number of samples in a bucket.
        max_waste: Largest share of padded nodes in a bucket, in ``[0, 1)``.

    Raises:
        ArgumentError: ``batch`` is not positive or ``max_waste`` is out of range.
    """
    if batch < 1 or not 0 <= max_waste < 1:
        raise ArgumentError(
            f"expected batch >= 1 and 0 <= max_waste < 1, found batch={batch}, "
            f"max_waste={max_waste}; correct them"
        )
    counts = torch.as_tensor(sizes, dtype=torch.int64)
    order = torch.argsort(counts, descending=True, stable=True)
    buckets: list[Bucket] = []
    members: list[int] = []
    nodes = largest = 0
    for place, size in zip(order.tolist(), counts[order].tolist(), strict=True):
        padded = largest * (len(members) + 1)
        waste = 1 - (nodes + size) / padded if padded else 0.0
        if members and (len(members) == batch or waste > max_waste):
            buckets.append(Bucket(largest, torch.tensor(members)))
            members = []
        if not members:
            nodes, largest = 0, size
        members.append(place)
        nodes += size
    if members:
        buckets.append(Bucket(largest, torch.tensor(members)))
    return buckets


def collate(
    items: Sequence[Mapping[str, Tensor]],
    spaces: Mapping[str, Space],
    ids: Tensor | Sequence[int],
    *,
    nodes: Sequence[str] | None = None,
    to: int | None = None,
) -> State:
    """Stack samples of different size into one padded state.

    Args:
        items: Samples: named tensors without a batch axis, all with the same names.
        spaces: Space of each component; says which axes are node axes.
        ids: Global number of each sample.
        nodes: Components that have node axes; all of them by default. The others must have equal
            shapes. Components with node axes share one node mask.
        to: Number of nodes to pad to; the largest of the samples by default.

    Raises:
        ArgumentError: No samples, unequal names or shapes, or a sample larger than ``to``.
    """
    if not items:
        raise ArgumentError("collate got an empty list of samples; give at least one")
    padded = set(spaces if nodes is None else nodes)
    sizes = [_item_size(i, item, spaces, padded) for i, item in enumerate(items)]
    target = max(sizes) if to is None else to
    if max(sizes) > target:
        raise ArgumentError(
            f"sample {sizes.index(max(sizes))} has {max(sizes)} nodes, more than the {target} "
            "to pad to; raise `to` or leave the sample out"
        )
    values: dict[str, Tensor] = {}
    for name, space in spaces.items():
        parts = [item[name] for item in items]
        if name in padded:
            parts = [_pad(x, [a - 1 for a in space.node_axes], target) for x in parts]
        shapes = {tuple(x.shape) for x in parts}
        if len(shapes) > 1:
            raise ArgumentError(
                f"component {name!r} has samples of shapes {sorted(shapes)}, expected equal ones "
                "outside the node axes; correct the data, or list it in `nodes`"
            )
        values[name] = torch.stack(parts)
    device = next(iter(values.values())).device
    counts = torch.tensor(sizes, device=device)
    mask = torch.arange(target, device=device) < counts[:, None]
    numbers = torch.as_tensor(ids, dtype=torch.int64, device=device)
    return State(values, {name: mask for name in spaces if name in padded}, numbers)


def pad(state: State, spaces: Mapping[str, Space], to: int) -> State:
    """Lengthen the node axes of the components that have a mask to ``to`` nodes.

    Raises:
        ArgumentError: A component has more than ``to`` nodes already.
    """
    values, masks = dict(state.values), dict(state.masks)
    for name, mask in state.masks.items():
        if mask.shape[1] > to:
            raise ArgumentError(
                f"component {name!r} has {mask.shape[1]} nodes, more than the {to} to pad to; "
                "raise `to`"
            )
        values[name] = _pad(values[name], spaces[name].node_axes, to)
        masks[name] = _pad(mask, (1,), to)
    return State(values, masks, state.ids)


def unpad(state: State, spaces: Mapping[str, Space]) -> list[dict[str, Tensor]]:
    """The samples without padding: the inverse of :func:`collate`."""
    items = []
    for b in range(state.batch_size):
        item = {}
        for name, x in state.values.items():
            value, mask = x[b], state.mask(name)
            if mask is not None:
                real = mask[b].nonzero().squeeze(1)
                for axis in spaces[name].node_axes:
                    value = value.index_select(axis - 1, real)
            item[name] = value
        items.append(item)
    return items


def concat(states: Sequence[State]) -> State:
    """Join batches of equal shapes; :func:`pad` them to one size first.

    Raises:
        ArgumentError: No states, unequal component names, or unequal shapes.
    """
    if not states:
        raise ArgumentError("concat got an empty list of states; give at least one")
    first = states[0]
    for i, state in enumerate(states):
        for name in {*first.values, *state.values}:
            found = tuple(state[name].shape[1:])
            if found != tuple(first[name].shape[1:]):
                raise ArgumentError(
                    f"component {name!r} of state {i} has shape {list(found)} after the batch, "
                    f"state 0 has {list(first[name].shape[1:])}; pad them to one size"
                )
    masked = {name: mask for state in states for name, mask in state.masks.items()}
    masks = {}
    for name, like in masked.items():
        parts = [
            like.new_ones((state.batch_size, *like.shape[1:]))
            if (own := state.mask(name)) is None
            else own
            for state in states
        ]
        masks[name] = torch.cat(parts)
    return State(
        {name: torch.cat([state[name] for state in states]) for name in first.values},
        masks,
        torch.cat([state.ids for state in states]),
    )


def _item_size(
    i: int, item: Mapping[str, Tensor], spaces: Mapping[str, Space], padded: set[str]
) -> int:
    """Number of nodes of a sample, checked to be one number."""
    if missing := set(spaces) - set(item):
        raise ArgumentError(
            f"sample {i} lacks the components {sorted(missing)}; it has {sorted(item)}"
        )
    sizes = {
        name: {item[name].shape[a - 1] for a in space.node_axes}
        for name, space in spaces.items()
        if name in padded
    }
    if len(set().union(*sizes.values())) > 1:
        found = {name: sorted(size) for name, size in sizes.items()}
        raise ArgumentError(
            f"sample {i} has different numbers of nodes in its components: {found}; correct the "
            "data, or leave components without node axes out of `nodes`"
        )
    return next(iter(set().union(*sizes.values())), 0)


def _pad(x: Tensor, axes: Sequence[int], to: int) -> Tensor:
    """``x`` with zeros appended along ``axes`` up to length ``to``."""
    shape = [to if axis in axes else n for axis, n in enumerate(x.shape)]
    if list(x.shape) == shape:
        return x
    out = x.new_zeros(shape)
    out[tuple(slice(n) for n in x.shape)] = x
    return out
