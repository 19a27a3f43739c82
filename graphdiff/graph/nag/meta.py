r"""A surrogate of many tasks: what an architecture is worth on data that nobody tried it on.

:math:`f(x_t, t, c)` is a noise-aware predictor that is told a code ``c`` of the task (An et al.,
2024, section 3.2). Where the data of the tasks can be shown, the code is computed from them: images
of each class are pooled within the class, and classes over the task, by two networks on means
(Zaheer et al., 2017, arXiv 1703.06114; Lee et al., 2021, arXiv 2107.00860), so that neither the
order of the images nor that of the classes counts. Where they cannot, every task has a free vector,
and a share of the examples is shown the vector of the *unknown* task in its place; a new task
begins there, and its vector can be fitted to a few measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from graphdiff.core.errors import ArgumentError
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.graph.nag.build import build_process, channels, encode
from graphdiff.graph.nag.config import NAGConfig
from graphdiff.graph.nag.predictor import Predictor, minimise
from graphdiff.graph.nag.space import Architectures
from graphdiff.graph.nag.spaces import find_space
from graphdiff.graph.nets.directed import DirectedGCN

__all__ = ["FreeCodes", "MetaSurrogate", "SetEncoder", "fit_meta"]

UNKNOWN_SHARE = 0.3


class SetEncoder(nn.Module):
    """The code of a data set from images of its classes.

    Args:
        pixels: Numbers of an image (or of its features).
        code: Width of the code.
        hidden: Width of the networks.
    """

    def __init__(self, pixels: int, code: int = 56, hidden: int = 128) -> None:
        super().__init__()
        self.code = code
        self.each = nn.Sequential(nn.Linear(pixels, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.group = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.whole = nn.Linear(hidden, code)

    def forward(self, images: Tensor) -> Tensor:
        """Codes ``[b, code]`` of tasks ``[b, classes, shots, ...]``."""
        flat = self.each(images.flatten(3))
        classes = self.group(flat.mean(2))
        found: Tensor = self.whole(classes.mean(1))
        return found


class FreeCodes(nn.Module):
    """A vector for each known task, and one, the last, for all others.

    Args:
        tasks: Number of known tasks.
        code: Width of a vector.
    """

    def __init__(self, tasks: int, code: int = 16) -> None:
        super().__init__()
        self.code = code
        self.table = nn.Embedding(tasks + 1, code)
        nn.init.normal_(self.table.weight, std=0.1)

    def forward(self, task: Tensor) -> Tensor:
        """Vectors ``[b, code]`` of task numbers ``[b]``; -1 is an unknown one."""
        last = self.table.num_embeddings - 1
        found: Tensor = self.table(torch.where(task < 0, last, task))
        return found


@dataclass(frozen=True)
class MetaSurrogate:
    """A predictor and what makes the codes of its tasks.

    Attributes:
        predictor: Told a code.
        codes: Makes it: of task numbers, or of images.
    """

    predictor: Predictor
    codes: FreeCodes | SetEncoder

    def code(self, images: Tensor | None = None) -> Tensor:
        """The code ``[code]`` of a new task.

        Args:
            images: Its images ``[classes, shots, ...]``, if the codes are made of images.

        Raises:
            ArgumentError: Images are missing, or given where codes are free.
        """
        shown = isinstance(self.codes, SetEncoder)
        if shown != (images is not None):
            raise ArgumentError(
                "this surrogate reads the images of a task; give them"
                if shown
                else "this surrogate was trained without images of its tasks; give none"
            )
        with torch.no_grad():
            if images is not None:
                found: Tensor = self.codes(images.unsqueeze(0))[0]
            else:
                found = self.codes(torch.tensor([-1]))[0]
        return found

    def __call__(self, archs: Architectures, code: Tensor | None = None) -> NDArray[np.float64]:
        """Predicted values ``[m]`` on the task of a code; on an unknown one by default."""
        told = self.code() if code is None else code
        return self.predictor(archs, told.expand(len(archs), -1))


def fit_meta(
    config: NAGConfig,
    archs: Architectures,
    values: NDArray[np.float64],
    task: Sequence[int] | NDArray[np.integer],
    *,
    images: Tensor | None = None,
    steps: int = 1500,
    batch: int = 256,
    lr: float = 1e-3,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> MetaSurrogate:
    """Train a surrogate of many tasks on noisy and clean architectures.

    Args:
        config: Of the generator whose noise it is to know.
        archs: ``m`` architectures.
        values: Their values ``[m]``, each on its task.
        task: Number of the task of each.
        images: Images of each task ``[tasks, classes, shots, ...]`` in the order of the numbers;
            without them every task has a free vector.
        steps: Of Adam.
        batch: Examples of a step.
        lr: Learning rate, cosine to zero.
        seed: Of everything.
        progress: Called after every step.

    Raises:
        ArgumentError: Sizes differ, values are not finite, or a task has no images.
    """
    numbers = np.asarray(task, np.int64)
    tasks = int(numbers.max()) + 1 if len(numbers) else 0
    if not len(archs) == len(values) == len(numbers) or not np.isfinite(values).all():
        raise ArgumentError(
            f"found {len(archs)} architectures, {len(values)} values and {len(numbers)} tasks; "
            "expected as many of each, and finite values"
        )
    if images is not None and len(images) < tasks:
        raise ArgumentError(f"images of {len(images)} tasks are given, but there are {tasks}")
    space, process = find_space(config.data.space), build_process(config)
    continuous = config.noise.continuous
    wide = channels(space) if continuous else len(space.types) + (config.noise.kind == "absorbing")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pixels = 0 if images is None else images[0, 0, 0].numel()
        codes = FreeCodes(tasks) if images is None else SetEncoder(pixels)
        net = DirectedGCN(wide, task=codes.code)
        made = Predictor(net, space, process, float(values.mean()), float(values.std()) or 1.0)
        goal = torch.from_numpy((values - made.mean) / made.std).float()
        clean = encode(space, archs, torch.arange(len(archs)), continuous=continuous)
        known = torch.from_numpy(numbers)

        def loss(key: Key, pick: Tensor) -> Tensor:
            some = clean.select(pick)
            # Half of a batch is clean: that is what architectures are ranked by.
            t = (2 * key.at(stream="time").uniform(1)[:, 0] - 1).clamp(min=1e-5)
            seen = process.corrupt(State(some.values, some.masks, key.ids), t, key)
            if images is None:
                hide = key.at(stream="told").uniform(1)[:, 0] < UNKNOWN_SHARE
                code = codes(torch.where(hide, -1, known[pick]))
            else:
                code = codes(images[known[pick]])
            return (made.standard(seen.values, t, code) - goal[pick]).square().mean()

        every = [*net.parameters(), *codes.parameters()]
        minimise(loss, every, len(archs), torch.arange(batch), steps, lr, seed, progress)
    net.eval().requires_grad_(False)
    codes.eval().requires_grad_(False)
    return MetaSurrogate(made, codes)
