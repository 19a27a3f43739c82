r"""Spaces: where the free coordinates of a component sit in its tensor.

A symmetric adjacency ``[b, n, n]`` with zero diagonal has :math:`n(n-1)/2` free coordinates, not
:math:`n^2`; noise, log-densities and divergences must count each of them once. A space numbers
them so that padding never enters: node pair :math:`i < j` is coordinate
:math:`k = j(j-1)/2 + i`, row ``i`` of a dense component starts at ``i`` times its width. A graph
therefore meets the same noise whatever it is padded to.

Masks are boolean, True for real entries; None means that nothing is padded. A dense component
takes a mask of its leading axes (``[b, n]`` for ``[b, n, f]``), a component of node pairs takes
the node mask ``[b, n]``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar, final

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.core.rng import Key
from graphdiff.core.tables import table

__all__ = ["Dense", "Space", "Symmetric", "Upper", "ZeroMean"]


class Space(ABC):
    """Where the free coordinates of a component sit; subclasses are frozen dataclasses.

    Attributes:
        node_axes: Axes of a batched tensor that padding lengthens.
    """

    node_axes: ClassVar[tuple[int, ...]]

    @abstractmethod
    def size(self, shape: Sequence[int]) -> int:
        """Length of the flat vector of one sample, for a batch of shape ``[b, ...]``."""

    @abstractmethod
    def scatter(self, flat: Tensor, shape: Sequence[int]) -> Tensor:
        """Put flat coordinates ``[b, size]`` where they belong in a tensor of ``shape``."""

    @abstractmethod
    def gather(self, x: Tensor) -> Tensor:
        """Flat coordinates ``[b, size]`` of ``x``: the inverse of :meth:`scatter`."""

    @abstractmethod
    def project(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """The nearest member of the space: zero padding, symmetric, zero mean, as it applies."""

    @abstractmethod
    def apply_mask(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``x`` with zeros at padding and at places without a coordinate (the diagonal)."""

    @abstractmethod
    def sum(self, v: Tensor, mask: Tensor | None) -> Tensor:
        """Sum ``[b]`` of ``v`` over the real free coordinates, each counted once."""

    @abstractmethod
    def dimension(self, shape: Sequence[int]) -> int:
        """Degrees of freedom of a sample without padding, for a batch of shape ``[b, ...]``."""

    @abstractmethod
    def count(self, shape: Sequence[int], mask: Tensor | None) -> Tensor:
        """Degrees of freedom of each sample, int64 ``[b]`` (on the CPU if ``mask`` is None)."""

    @abstractmethod
    def noise(self, flat: Tensor, shape: Sequence[int], mask: Tensor | None) -> Tensor:
        """Independent standard normals ``[b, size]`` as noise on this space, zero at padding."""

    @final
    def normal(
        self,
        key: Key,
        shape: Sequence[int],
        mask: Tensor | None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Standard normal noise of ``shape`` ``[b, ...]`` on this space, zero at padding."""
        return self.noise(key.normal(self.size(shape), dtype), shape, mask)


class _Rows(Space):
    """Every entry is a coordinate, numbered row by row along axis 1."""

    node_axes: ClassVar[tuple[int, ...]] = (1,)

    def size(self, shape: Sequence[int]) -> int:
        """Product of all sizes but the batch."""
        return prod(shape[1:])

    def scatter(self, flat: Tensor, shape: Sequence[int]) -> Tensor:
        """A reshape."""
        return flat.reshape(tuple(shape))

    def gather(self, x: Tensor) -> Tensor:
        """A reshape."""
        return x.flatten(1) if x.ndim > 1 else x[:, None]

    def apply_mask(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``x`` with zeros at padding."""
        return x if mask is None else torch.where(_lead(mask, x.ndim), x, 0)

    def sum(self, v: Tensor, mask: Tensor | None) -> Tensor:
        """Sum ``[b]`` over the real entries."""
        return self.gather(self.apply_mask(v, mask)).sum(1)


@final
@dataclass(frozen=True)
class Dense(_Rows):
    """Every entry is free: node features ``[b, n, f]``, tokens ``[b, n]``, images."""

    def project(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``x`` with zeros at padding."""
        return self.apply_mask(x, mask)

    def dimension(self, shape: Sequence[int]) -> int:
        """Number of entries."""
        return prod(shape[1:])

    def count(self, shape: Sequence[int], mask: Tensor | None) -> Tensor:
        """Number of real entries, int64 ``[b]``."""
        if mask is None:
            return _full(shape, self.dimension(shape))
        return mask.flatten(1).sum(1) * prod(shape[mask.ndim :])

    def noise(self, flat: Tensor, shape: Sequence[int], mask: Tensor | None) -> Tensor:
        """Independent noise in every entry."""
        return self.apply_mask(self.scatter(flat, shape), mask)


@final
@dataclass(frozen=True)
class ZeroMean(_Rows):
    """Points ``[b, n, d]`` with centre of mass zero; ``(n - 1) d`` degrees of freedom.

    Noise is drawn for all ``n d`` entries and centred, which is a standard normal on the subspace
    (Hoogeboom et al., 2022, arXiv 2203.17003, section 3.1). Sums run over all entries.
    """

    def project(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``x`` minus the mean of its real points, zero at padding."""
        x = self.apply_mask(x, mask)
        if mask is None:
            return x - x.mean(1, keepdim=True)
        points = mask.sum(1).clamp(min=1).to(x.dtype)
        return self.apply_mask(x - x.sum(1, keepdim=True) / _lead(points, x.ndim), mask)

    def dimension(self, shape: Sequence[int]) -> int:
        """``(n - 1) d``."""
        return (shape[1] - 1) * prod(shape[2:])

    def count(self, shape: Sequence[int], mask: Tensor | None) -> Tensor:
        """``(n - 1) d`` with ``n`` real points, int64 ``[b]``."""
        if mask is None:
            return _full(shape, self.dimension(shape))
        return (mask.sum(1) - 1).clamp(min=0) * prod(shape[2:])

    def noise(self, flat: Tensor, shape: Sequence[int], mask: Tensor | None) -> Tensor:
        """Independent noise minus its mean over the real points."""
        return self.project(self.scatter(flat, shape), mask)


class _Pairs(Space):
    """One coordinate for each unordered pair of nodes (and channel, last)."""

    node_axes: ClassVar[tuple[int, ...]] = (1, 2)

    def size(self, shape: Sequence[int]) -> int:
        """``n (n - 1) / 2`` times the number of channels."""
        return _nodes(shape) * (shape[1] - 1) // 2 * prod(shape[3:])

    def gather(self, x: Tensor) -> Tensor:
        """Entries ``i < j``, ``[b, size]``."""
        _nodes(x.shape)
        return x.flatten(1, 2).index_select(1, _pair_places(x.shape[1], x.device)).flatten(1)

    def dimension(self, shape: Sequence[int]) -> int:
        """Number of pairs times channels."""
        return self.size(shape)

    def count(self, shape: Sequence[int], mask: Tensor | None) -> Tensor:
        """Pairs of real nodes times channels, int64 ``[b]``."""
        if mask is None:
            return _full(shape, self.size(shape))
        nodes = mask.sum(1)
        return nodes * (nodes - 1) // 2 * prod(shape[3:])

    def noise(self, flat: Tensor, shape: Sequence[int], mask: Tensor | None) -> Tensor:
        """Independent noise for each pair; a symmetric matrix holds it twice."""
        x = self.scatter(flat, shape)
        return x if mask is None else self.apply_mask(x, mask)

    def sum(self, v: Tensor, mask: Tensor | None) -> Tensor:
        """Sum ``[b]`` over the pairs ``i < j`` of real nodes."""
        keep = _upper(v.shape[1], v.device) if mask is None else _upper_mask(mask)
        return torch.where(_channels(keep, v.ndim), v, 0).flatten(1).sum(1)


@final
@dataclass(frozen=True)
class Symmetric(_Pairs):
    """Symmetric matrices with zero diagonal: undirected graphs ``[b, n, n]``, ``[b, n, n, c]``."""

    def scatter(self, flat: Tensor, shape: Sequence[int]) -> Tensor:
        """Each coordinate at ``(i, j)`` and ``(j, i)``; a zero diagonal."""
        x = _spread(flat, shape)
        if shape[1] > 1:
            x.diagonal(dim1=1, dim2=2).zero_()
        return x

    def project(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """The mean of ``x`` and its transpose; categories take the entry ``i < j``."""
        if x.is_floating_point():
            return self.apply_mask((x + x.transpose(1, 2)) * 0.5, mask)
        return self.apply_mask(self.scatter(self.gather(x), x.shape), mask)

    def apply_mask(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``x`` with zeros at padded rows and columns and on the diagonal."""
        away = _off_diagonal(x.shape[1], x.device)
        keep = away if mask is None else mask[:, :, None] & mask[:, None, :] & away
        return torch.where(_channels(keep, x.ndim), x, 0)


@final
@dataclass(frozen=True)
class Upper(_Pairs):
    """Strictly upper triangular matrices: directed acyclic graphs in topological order."""

    def scatter(self, flat: Tensor, shape: Sequence[int]) -> Tensor:
        """Each coordinate at ``(i, j)``, ``i < j``; zeros elsewhere."""
        keep = _channels(_upper(shape[1], flat.device), len(shape))
        return torch.where(keep, _spread(flat, shape), 0)

    def project(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """The strict upper triangle of ``x``, zero at padding."""
        return self.apply_mask(x, mask)

    def apply_mask(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``x`` with zeros at padding, on the diagonal and below."""
        keep = _upper(x.shape[1], x.device) if mask is None else _upper_mask(mask)
        return torch.where(_channels(keep, x.ndim), x, 0)


def _lead(mask: Tensor, ndim: int) -> Tensor:
    """``mask`` of leading axes with ones appended, to broadcast against ``ndim`` axes."""
    return mask.reshape(mask.shape + (1,) * (ndim - mask.ndim))


def _channels(keep: Tensor, ndim: int) -> Tensor:
    """``[..., n, n]`` with a channel axis when the tensor has one (``ndim`` counts the batch)."""
    return keep if ndim == 3 else keep.unsqueeze(-1)


def _full(shape: Sequence[int], number: int) -> Tensor:
    return torch.full((shape[0],), number, dtype=torch.int64)


def _nodes(shape: Sequence[int]) -> int:
    if len(shape) not in (3, 4) or shape[1] != shape[2]:
        raise ArgumentError(
            f"node pairs need a tensor [b, n, n] or [b, n, n, c], found shape {list(shape)}; "
            "use Dense for a component that is not a matrix over nodes"
        )
    return shape[1]


def _spread(flat: Tensor, shape: Sequence[int]) -> Tensor:
    """A fresh tensor of ``shape`` with coordinate ``(i, j)`` at both places."""
    n = _nodes(shape)
    if n < 2:
        return flat.new_zeros(tuple(shape))
    index = _pair_index(n, flat.device)
    flat = flat.unflatten(1, (n * (n - 1) // 2, *shape[3:]))
    return flat.index_select(1, index).view(tuple(shape))


@table
def _pair_index(n: int, device: torch.device) -> Tensor:
    """Coordinate of each entry of an ``n`` by ``n`` matrix, int64 ``[n * n]``; 0 if on no pair."""
    node = torch.arange(n, device=device)
    low, high = torch.minimum(node[:, None], node), torch.maximum(node[:, None], node)
    return torch.where(low == high, 0, high * (high - 1) // 2 + low).flatten()


@table
def _pair_places(n: int, device: torch.device) -> Tensor:
    """Place ``i * n + j`` of each coordinate, int64 ``[n (n - 1) / 2]``."""
    high, low = torch.tril_indices(n, n, -1, device=device).unbind(0)
    return low * n + high


@table
def _upper(n: int, device: torch.device) -> Tensor:
    node = torch.arange(n, device=device)
    return node[:, None] < node


@table
def _off_diagonal(n: int, device: torch.device) -> Tensor:
    node = torch.arange(n, device=device)
    return node[:, None] != node


def _upper_mask(mask: Tensor) -> Tensor:
    return mask[:, :, None] & mask[:, None, :] & _upper(mask.shape[1], mask.device)
