"""A real and quick evaluator of NAS-Bench-201 cells: the handwritten digits of scikit-learn.

1,797 images of 8 x 8 pixels (Alpaydin and Kaynak, 1998, UCI repository, CC BY 4.0). There is no
published split; as in the package ``imagediff``, image ``i`` is a test image if the first byte of
``sha256(str(i))`` is a multiple of 5. Of the others, those whose byte is 1 more than a multiple of
5 are for validation: a search looks at ``valid``, and what it found is reported on ``test``.

By default the network is one cell of eight channels and no reduction block, so that nothing but
the cell sees more than a 3 x 3 patch: cells then differ by tens of points, where with reduction
blocks even an identity reaches 99 %. It trains in about half a second on one core.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.nag.architecture import Architecture
from graphdiff.graph.nag.cell import CellNetwork, accuracy, train_cell
from graphdiff.graph.nag.space import Architectures
from graphdiff.graph.nag.spaces import NASBench201

__all__ = ["digits", "digits_accuracy", "score"]

PARTS = ("train", "valid", "test")


@lru_cache(maxsize=1)
def _everything() -> tuple[Tensor, Tensor, tuple[str, ...]]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    bytes_ = (hashlib.sha256(str(i).encode()).digest()[0] for i in range(len(bunch.target)))
    parts = tuple({0: "test", 1: "valid"}.get(byte % 5, "train") for byte in bytes_)
    pixels = torch.from_numpy(bunch.images.astype(np.float32) / 8 - 1)[:, None]
    return pixels, torch.from_numpy(bunch.target.astype(np.int64)), parts


def digits(part: str) -> tuple[Tensor, Tensor]:
    """Images float32 ``[n, 1, 8, 8]`` in ``[-1, 1]`` and classes int64 ``[n]`` of a part.

    Raises:
        ArgumentError: ``part`` is not ``train``, ``valid`` or ``test``.
    """
    if part not in PARTS:
        raise ArgumentError(f"unknown part {part!r} of the digits: use {', '.join(PARTS)}")
    pixels, labels, parts = _everything()
    chosen = torch.tensor([name == part for name in parts])
    return pixels[chosen], labels[chosen]


def digits_accuracy(
    space: NASBench201,
    arch: Architectures,
    seed: int = 0,
    epochs: int = 8,
    *,
    channels: int = 8,
    cells: Sequence[int] = (1,),
    part: str = "valid",
) -> float:
    """Trains the network of a cell on the digits; its accuracy in % on another part of them.

    A function of its arguments: torch's global generator is left as it was.

    Args:
        space: NAS-Bench-201.
        arch: One cell.
        seed: Of weights and order.
        epochs: Passes over the 1,000-odd training images.
        channels: Channels of the first stage.
        cells: Cells of each stage.
        part: ``valid``, or ``test`` for what is reported in the end.

    Raises:
        ArgumentError: ``arch`` is not one cell, or an argument is out of range.
    """
    held_images, held_labels = digits(part)
    images, labels = digits("train")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = CellNetwork(space, arch, channels=channels, cells=cells)
    train_cell(network, images, labels, epochs=epochs, seed=seed)
    return accuracy(network, held_images, held_labels)


def score(cell: Architecture) -> float:
    """Mean validation accuracy in % over two seeds: an objective for ``graphdiff nag search``.

    Raises:
        ArgumentError: The architecture is no cell of NAS-Bench-201.
    """
    if not isinstance(cell.space, NASBench201):
        raise ArgumentError(
            f"the digits train cells of nasbench201, found an architecture of {cell.space.name!r}"
        )
    return float(np.mean([digits_accuracy(cell.space, cell.packed, seed) for seed in (0, 1)]))
