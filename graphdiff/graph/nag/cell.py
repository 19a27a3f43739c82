r"""Trainable networks of NAS-Bench-201 cells, and their training.

The network of Dong and Yang (2020, arXiv 2001.00326): a 3 x 3 convolution with batch
normalisation; stages of equal cells; between stages a residual block that halves the image and
doubles the channels; batch normalisation, ReLU, the mean over pixels, a linear layer. A cell has
four tensors,

.. math:: f_0 = x, \qquad f_k = \sum_{j < k} o_{jk}(f_j), \qquad \text{output } f_3,

whose operations keep channels and size: zero, the identity, ReLU - convolution - batch
normalisation with a kernel of 1 or 3, and the 3 x 3 mean over the pixels that are there. An
operation that no path from input to output uses computes nothing, holds no weights, and is left
out. The published networks have 16 channels and five cells in each of three stages; one cell with
few channels trains in seconds on small images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from graphdiff.core.errors import ArgumentError, TrainingError
from graphdiff.core.rng import Key
from graphdiff.graph.nag.space import Architectures
from graphdiff.graph.nag.spaces import EDGES, PATHS, NASBench201

__all__ = ["Cell", "CellNetwork", "accuracy", "train_cell"]


def _conv(c_in: int, c_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """ReLU, convolution without bias, batch normalisation."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(c_out),
    )


_OPERATIONS: dict[str, Callable[[int], nn.Module]] = {
    "skip_connect": lambda c: nn.Identity(),
    "nor_conv_1x1": lambda c: _conv(c, c, 1),
    "nor_conv_3x3": lambda c: _conv(c, c, 3),
    "avg_pool_3x3": lambda c: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
}


class Cell(nn.Module):
    """One cell: ``[b, c, h, w]`` to the same shape.

    Args:
        operations: Names of the operations on the edges 0-1, 0-2, 1-2, 0-3, 1-3, 2-3.
        channels: ``c``.
    """

    def __init__(self, operations: Sequence[str], channels: int) -> None:
        super().__init__()
        paths = [path for path in PATHS if all(operations[e] != "none" for e in path)]
        used = sorted({edge for path in paths for edge in path})
        self.edges = nn.ModuleDict(
            {f"{EDGES[e][0]}-{EDGES[e][1]}": _OPERATIONS[operations[e]](channels) for e in used}
        )

    def forward(self, x: Tensor) -> Tensor:
        """The output; zeros where no path leads to it."""
        made = {0: x}
        for a, b in sorted(EDGES, key=lambda edge: edge[1]):
            if f"{a}-{b}" in self.edges:
                value = self.edges[f"{a}-{b}"](made[a])
                made[b] = made[b] + value if b in made else value
        return made[3] if 3 in made else torch.zeros_like(x)


class _Reduction(nn.Module):
    """Residual block: ``[b, c, h, w]`` to ``[b, 2 c, ceil(h / 2), ceil(w / 2)]``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(channels, 2 * channels, 3, 2), _conv(2 * channels, 2 * channels, 3)
        )
        self.short = nn.Sequential(
            nn.AvgPool2d(2, 2, ceil_mode=True),
            nn.Conv2d(channels, 2 * channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.short(x) + self.body(x)
        return out


class CellNetwork(nn.Module):
    """The network of one cell of NAS-Bench-201; see the module docstring.

    Weights are drawn by torch's global generator: seed it, in ``torch.random.fork_rng()`` if
    nothing else may notice.

    Args:
        space: NAS-Bench-201.
        arch: One cell.
        channels: Channels of the first stage; each further stage has twice as many.
        cells: Cells of each stage.
        classes: Outputs.
        in_channels: Channels of an image.

    Raises:
        ArgumentError: ``arch`` is not one member of the space, or a number is below one.
    """

    def __init__(
        self,
        space: NASBench201,
        arch: Architectures,
        *,
        channels: int = 16,
        cells: Sequence[int] = (1, 1, 1),
        classes: int = 10,
        in_channels: int = 1,
    ) -> None:
        super().__init__()
        if not isinstance(space, NASBench201):
            raise ArgumentError(
                f"expected the space nasbench201, found {getattr(space, 'name', space)!r}: its "
                "cells are what this network is made of"
            )
        if len(arch) != 1 or not bool(space.valid(arch)[0]):
            nodes = space.describe(arch)["nodes"] if len(arch) else []
            raise ArgumentError(
                f"expected one cell of {space.name!r}, found {len(arch)}, the first with the nodes "
                f"{nodes}; keep valid ones and pass them one by one, as archs[3]"
            )
        sizes = {"channels": channels, "classes": classes, "in_channels": in_channels}
        wrong = [f"{k} = {v}" for k, v in sizes.items() if v < 1]
        if wrong or not cells or min(cells) < 0:
            raise ArgumentError(
                f"found {', '.join([*wrong, f'cells = {tuple(cells)}'])}; expected positive "
                "numbers, and in cells the number of cells of each stage"
            )
        operations = [space.types[kind] for kind in arch.ops[0, 1:7].tolist()]
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )
        body: list[nn.Module] = []
        width = channels
        for stage, count in enumerate(cells):
            if stage:
                body.append(_Reduction(width))
                width *= 2
            body += [Cell(operations, width) for _ in range(count)]
        self.body = nn.Sequential(*body)
        self.last = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Scores of the classes, ``[b, classes]``, of images ``[b, in_channels, h, w]``."""
        scores: Tensor = self.head(self.last(self.body(self.stem(images))).mean((2, 3)))
        return scores

    def parameters_count(self) -> int:
        """Number of trainable weights."""
        return sum(weight.numel() for weight in self.parameters() if weight.requires_grad)


def _check(images: Tensor, labels: Tensor) -> None:
    if images.ndim != 4 or labels.shape != images.shape[:1] or not len(images):
        raise ArgumentError(
            f"expected images [n, channels, h, w] and labels [n] with n > 0, found "
            f"{list(images.shape)} and {list(labels.shape)}"
        )


def train_cell(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int = 8,
    lr: float = 0.1,
    batch_size: int = 64,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Trains a classifier as NAS-Bench-201 does, and leaves it in evaluation mode.

    Stochastic gradient descent with Nesterov momentum 0.9 and weight decay 5e-4; the rate falls
    from ``lr`` to zero along half a cosine.

    Args:
        module: Images to scores; it is changed.
        images: ``[n, channels, h, w]``.
        labels: Classes, int64 ``[n]``.
        epochs: Passes over the images.
        lr: First learning rate.
        batch_size: Images of a step.
        seed: Of the order of the images.
        progress: Called with (epochs done, epochs in all).

    Raises:
        ArgumentError: Images and labels do not fit, or a number is not positive.
        TrainingError: The loss is not finite.
    """
    _check(images, labels)
    if min(epochs, batch_size) < 1 or not lr > 0:
        raise ArgumentError(
            f"found epochs {epochs}, batch_size {batch_size}, lr {lr}; expected positive numbers"
        )
    steps = epochs * math.ceil(len(images) / batch_size)
    optimizer = torch.optim.SGD(
        module.parameters(), lr, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    key = Key(seed, torch.arange(len(images)))
    module.train()
    for epoch in range(epochs):
        order = key.at(step=epoch, stream="order").uniform(1)[:, 0].argsort().to(images.device)
        for index in order.split(batch_size):
            loss = nn.functional.cross_entropy(module(images[index]), labels[index])
            if not bool(torch.isfinite(loss)):
                raise TrainingError(
                    f"the loss is {loss.item()} in epoch {epoch + 1}; take a smaller lr than {lr}, "
                    "and check the images"
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if progress is not None:
            progress(epoch + 1, epochs)
    module.eval()


@torch.no_grad()
def accuracy(module: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 512) -> float:
    """Images whose highest score is that of their class, in %, as tables have it.

    Args:
        module: Images to scores; evaluated, and left in the mode it was in.
        images: ``[n, channels, h, w]``.
        labels: Classes, int64 ``[n]``.
        batch_size: Images at a time.

    Raises:
        ArgumentError: Images and labels do not fit.
    """
    _check(images, labels)
    mode = module.training
    module.eval()
    right = sum(
        int((module(part).argmax(1) == label).sum())
        for part, label in zip(images.split(batch_size), labels.split(batch_size), strict=True)
    )
    module.train(mode)
    return 100.0 * right / len(images)
