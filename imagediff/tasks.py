"""Class-conditional image diffusion as a task of graphdiff.

The pixels are one dense Gaussian component; the class travels in the state as a value that no
process corrupts, so it follows its image through batching, selection and sampling. Everything else
(trainer, checkpoints, seeds, sampler, command line) is graphdiff's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from graphdiff.config import validate
from graphdiff.core.denoiser import Denoiser
from graphdiff.core.errors import ArgumentError, ConfigError
from graphdiff.core.process import Product
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler
from graphdiff.core.state import State
from graphdiff.task import Data, Samples, Task
from imagediff.config import ImageConfig
from imagediff.data.digits import CLASSES, LEVELS, SHAPE, Digits
from imagediff.nets.unet import UNet

__all__ = ["ImageTask", "Images"]


@dataclass(frozen=True)
class Images:
    """Raw samples: pixels float32 ``[n, c, h, w]`` as sampled, classes int64 ``[n]``."""

    pixels: np.ndarray
    labels: np.ndarray

    def ink(self) -> np.ndarray:
        """Ink counts uint8 ``[n, h, w]``: clipped to the range of the data and rounded."""
        counts = (np.clip(self.pixels[:, 0], -1, 1) + 1) * (LEVELS / 2)
        return np.rint(counts).astype(np.uint8)


@dataclass(frozen=True)
class ImageTask(Task):
    """Train and sample class-conditional digits.

    Attributes:
        config: Everything that rebuilds the task.
    """

    config: ImageConfig = field(default_factory=ImageConfig)

    kind: ClassVar[str] = "image"
    title: ClassVar[str] = "class-conditional image diffusion"
    citation: ClassVar[str] = """@inproceedings{karras2022edm,
  title     = {Elucidating the Design Space of Diffusion-Based Generative Models},
  author    = {Karras, Tero and Aittala, Miika and Aila, Timo and Laine, Samuli},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2022}
}"""

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, where: str = "config") -> ImageTask:
        """Validate ``config`` (a plain nested mapping).

        Raises:
            ConfigError: With the full path of the key that is unknown or wrong.
        """
        return cls(validate(ImageConfig, config, where=where))

    def to_config(self) -> dict[str, Any]:
        """The plain nested mapping that :meth:`from_config` accepts."""
        return asdict(self.config)

    def process(self) -> Product:
        """The noise process: one dense Gaussian component."""
        return Product({"pixels": self.config.process.process()})

    def build(self) -> Denoiser:
        """A freshly initialised denoiser, deterministic in ``config.seed``."""
        model = self.config.model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            net = UNet(
                name="pixels",
                channels=SHAPE[0],
                classes=CLASSES,
                width=model.width,
                embed=model.embed,
                groups=model.groups,
            )
        parametrization = self.config.process.parametrization()
        return Denoiser(net, self.process(), {"pixels": parametrization}, "log_snr")

    def data(self, root: str | Path | None = None) -> Data:
        """The training split; ``root`` is not needed, the images ship inside scikit-learn."""
        return Digits("train")

    def losses(self, denoiser: Denoiser, clean: State, key: Key) -> dict[str, Tensor]:
        """Per-example weighted squared error ``[b]`` at random noise levels.

        The class of a share ``class_dropout`` of the examples is hidden.
        """
        hide = key.at(stream="class").uniform(1)[:, 0] < self.config.model.class_dropout
        label = torch.where(hide, CLASSES, clean["label"])
        t = self.config.process.clock(key.at(stream="clock"))
        process = denoiser.process
        noisy = process.corrupt(clean, t, key)
        return process.loss(denoiser(noisy, t, {"label": label}), clean, noisy, t)

    def groups(self, denoiser: Denoiser) -> dict[str, list[Parameter]]:
        """One group: the network."""
        return {"net": list(denoiser.parameters())}

    def sampler(self, **overrides: Any) -> Sampler:
        """The sampler of the config, with ``steps`` and ``solver`` replaced.

        Raises:
            ConfigError: An override is unknown or out of range.
        """
        unknown = sorted(set(overrides) - {"steps", "solver"})
        if unknown:
            raise ConfigError(
                f"unknown sampler option {', '.join(unknown)}: an image task takes steps and solver"
            )
        plain = {**asdict(self.config.sample), **overrides}
        sample = validate(type(self.config.sample), plain, where="sample")
        times = self.config.process.times(sample.steps)
        return Sampler(self.process(), {"pixels": sample.build()}, times)

    def sizes(self, ids: Tensor, seed: int, **cond: Any) -> Tensor:
        """All images have one shape: ones, int64 ``[b]``."""
        return torch.ones_like(ids)

    def template(self, ids: Tensor, sizes: Tensor, *, pad: int, **cond: Any) -> State:
        """A state of the right shapes.

        Args:
            ids: Sample ids, int64 ``[b]``.
            sizes: Unused; see :meth:`sizes`.
            pad: Unused; images are not padded.
            **cond: ``label``: one class, or one for each sample; by default ``id % 10``.
                ``guidance``: weight of classifier-free guidance, likewise.

        Raises:
            ArgumentError: The condition is unknown, of the wrong length or out of range.
        """
        unknown = sorted(set(cond) - {"label", "guidance"})
        if unknown:
            raise ArgumentError(
                f"unknown condition {', '.join(unknown)}: an image task takes label and guidance"
            )
        label = cond.get("label")
        values = {
            "pixels": torch.zeros(len(ids), *SHAPE),
            "label": ids % CLASSES if label is None else _labels(label, len(ids)),
        }
        guidance = cond.get("guidance")
        guidance = _weights(self.config.sample.guidance if guidance is None else guidance, len(ids))
        if bool((guidance != 1).any()):  # 1 is the plain model: no second evaluation
            values["guidance"] = guidance
        return State(values=values, masks={}, ids=ids)

    def decode(self, state: State) -> tuple[list[Any], Images]:
        """Grey images uint8 ``[h, w]`` (0 to 255, ink is bright), and the raw samples."""
        pixels = state["pixels"].detach().to("cpu", torch.float32).numpy()
        raw = Images(pixels, state["label"].to("cpu").numpy())
        return list(_grey(raw.ink())), raw

    def join(self, raws: Sequence[Images], order: Sequence[int]) -> Images:
        """Concatenate the raw samples of several batches and reorder them."""
        if not raws:
            return Images(np.zeros((0, *SHAPE), np.float32), np.zeros(0, np.int64))
        index = np.asarray(order, dtype=np.int64)
        pixels = np.concatenate([raw.pixels for raw in raws])
        return Images(pixels[index], np.concatenate([raw.labels for raw in raws])[index])

    def write(self, samples: Samples, out: Path) -> list[Path]:
        """Write ``samples.npz`` and ``grid.png``.

        The archive holds ``id``, ``label``, ``ink`` (uint8 0 to 16) and the raw ``pixels``.
        """
        out.mkdir(parents=True, exist_ok=True)
        archive, raw = out / "samples.npz", samples.raw
        ids = np.asarray(samples.ids, dtype=np.int64)
        arrays = {"id": ids, "label": raw.labels, "ink": raw.ink(), "pixels": raw.pixels}
        np.savez_compressed(archive, **arrays)
        written = [archive]
        if samples.items:
            written.append(self.draw(samples, out / "grid.png", count=100))
        return written

    def convert(self, samples: Samples, kind: str) -> Sequence[Any]:
        """Samples as ``"array"`` (uint8 grey), ``"pil"``, ``"torch"`` (raw pixels) or ``"state"``.

        Raises:
            ArgumentError: ``kind`` is none of these.
        """
        raw: Images = samples.raw
        if kind == "array":
            return samples.items
        if kind == "pil":
            from PIL import Image

            return [Image.fromarray(item) for item in samples.items]
        if kind == "torch":
            return list(torch.from_numpy(raw.pixels))
        if kind == "state":
            pixels, labels = torch.from_numpy(raw.pixels), torch.from_numpy(raw.labels)
            ids = torch.as_tensor(samples.ids, dtype=torch.int64)
            whole = State(values={"pixels": pixels, "label": labels}, masks={}, ids=ids)
            return [whole.select(torch.tensor([i])) for i in range(len(ids))]
        raise ArgumentError(
            f"an image cannot become {kind!r}; use 'array', 'pil', 'torch' or 'state'"
        )

    def draw(self, samples: Samples, path: Path, *, count: int = 25) -> Path:
        """Draw the first ``count`` samples, ten in a row, each pixel as a square of six (PNG).

        Raises:
            ArgumentError: There is nothing to draw.
        """
        from PIL import Image

        items = [np.asarray(item) for item in samples.items[:count]]
        if not items:
            raise ArgumentError("nothing to draw: there are no samples; ask for at least one")
        columns, (height, width) = min(10, len(items)), items[0].shape
        rows = -(-len(items) // columns)
        gap, zoom = 1, 6
        sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap), 96, np.uint8)
        for place, item in enumerate(items):
            top = gap + place // columns * (height + gap)
            left = gap + place % columns * (width + gap)
            sheet[top : top + height, left : left + width] = item
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sheet.repeat(zoom, 0).repeat(zoom, 1)).save(path)
        return path


def _grey(ink: np.ndarray) -> np.ndarray:
    """Ink counts 0 to 16 as grey 0 to 255, uint8."""
    return np.rint(ink * (255 / LEVELS)).astype(np.uint8)


def _column(name: str, value: Any, n: int, dtype: torch.dtype) -> Tensor:
    """A condition as a tensor of one value per sample."""
    try:
        given = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise ArgumentError(
            f"{name} is {value!r}, expected a number, or one number for each sample"
        ) from None
    if given.shape not in ((), (n,)) or given.dtype == torch.bool:
        raise ArgumentError(
            f"{name} has shape {tuple(given.shape)} and type {given.dtype}; give one number, or "
            f"one for each of the {n} samples"
        )
    if not dtype.is_floating_point and given.is_floating_point():
        raise ArgumentError(f"{name} is {value!r}, expected whole numbers")
    return given.to("cpu", dtype).expand(n).clone()


def _labels(value: Any, n: int) -> Tensor:
    label = _column("label", value, n, torch.int64)
    if n and not 0 <= int(label.min()) <= int(label.max()) < CLASSES:
        raise ArgumentError(
            f"label {int(label.min())} to {int(label.max())} is unknown: the classes are 0 to "
            f"{CLASSES - 1}"
        )
    return label


def _weights(value: Any, n: int) -> Tensor:
    weight = _column("guidance", value, n, torch.float32)
    if n and not bool((weight.isfinite() & (weight >= 0)).all()):
        raise ArgumentError(f"guidance is {value!r}, expected finite weights of 0 or more")
    return weight
