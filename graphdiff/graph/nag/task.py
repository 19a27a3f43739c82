r"""Diffusion of neural architectures (task kind ``nag``), after DiffusionNAG.

An et al. (ICLR 2024, arXiv 2305.16943) generate the operations of a fixed graph by a
variance-exploding SDE, :math:`\sigma_t = \sigma_0 (\sigma_1 / \sigma_0)^t`, and learn its score
without any measurement; a predictor steers the samples later (:mod:`graphdiff.graph.nag.guided`).
The same task takes noise on classes, and wires that are searched: a second component on
:class:`~graphdiff.core.space.Upper`, so that what is drawn is acyclic by construction. The loss is
the squared error of the clean data in the weighting of EDM, or the cross-entropy of the classes,
averaged over places (and pairs).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module, Parameter

from graphdiff.core.denoiser import Denoiser
from graphdiff.core.errors import ArgumentError, ConfigError, DataError
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler
from graphdiff.core.state import State
from graphdiff.graph.nag.architecture import Architecture
from graphdiff.graph.nag.build import (
    build_denoiser,
    build_network,
    build_process,
    build_sampler,
    channels,
    decode,
    encode,
)
from graphdiff.graph.nag.config import ArchitectureData, NAGConfig
from graphdiff.graph.nag.output import ArchitectureOutput
from graphdiff.graph.nag.space import Architectures, SearchSpace
from graphdiff.graph.nag.spaces import find_space
from graphdiff.task import Data, Samples, Task
from graphdiff.train.memory import per_example, state_bytes

__all__ = ["NAGTask", "TrainingArchitectures"]


class TrainingArchitectures(Data):
    """Members of a space, without measurements.

    Attributes:
        space: The space.
        archs: The members.
        facts: The data of the config, with the frequencies of types and wires.
    """

    def __init__(self, config: NAGConfig) -> None:
        """Choose the members.

        Raises:
            DataError: The space cannot be listed, but ``data.split`` needs that.
        """
        data = config.data
        self.space, self._continuous = find_space(data.space), config.noise.continuous
        rng = np.random.default_rng(data.seed)
        if data.split == "drawn":
            self.archs = self.space.draw(data.count, rng)
        else:
            whole = self.space.everything()
            if whole is None:
                raise DataError(
                    f"data.split is {data.split!r}, but {self.space.name!r} has too many "
                    "architectures to list them; set data.split = 'drawn' and data.count"
                )
            order = rng.permutation(len(whole))
            half = len(whole) // 2 if data.split == "half" else len(whole)
            self.archs = whole[np.sort(order[:half])]
        self.facts = _counted(data, self.space, self.archs)

    def __len__(self) -> int:
        return len(self.archs)

    def batch(self, index: Tensor) -> State:
        """Types ``ops`` (and wires ``adj``), see :func:`graphdiff.graph.nag.build.encode`."""
        chosen = self.archs[index.cpu().numpy()]
        return encode(self.space, chosen, index, continuous=self._continuous)

    def fingerprint(self) -> dict[str, Any]:
        """Space, split, number and sha256 of the members."""
        content = self.archs.ops.tobytes() + np.packbits(self.archs.wires).tobytes()
        return {
            "name": self.space.name,
            "split": self.facts.split,
            "n": len(self),
            "sha256": hashlib.sha256(content).hexdigest(),
        }


def _counted(data: ArchitectureData, space: SearchSpace, archs: Architectures) -> ArchitectureData:
    """The data with frequencies; a class that never occurs counts once."""
    counts = np.maximum(np.bincount(archs.ops.ravel(), minlength=len(space.types)), 1.0)
    found = replace(data, probs=tuple((counts / counts.sum()).tolist()))
    if space.wiring is not None:
        return found
    pairs = len(archs) * space.nodes * (space.nodes - 1) / 2
    there = float(archs.wires.sum()) / pairs
    return replace(found, wire_probs=(1 - there, there))


@dataclass(frozen=True)
class NAGTask(Task):
    """Diffusion of architectures; see the module docstring."""

    config: NAGConfig
    kind: ClassVar[str] = "nag"
    title: ClassVar[str] = "DiffusionNAG: diffusion of neural architectures"
    citation: ClassVar[str] = """@inproceedings{an2024diffusionnag,
  title     = {{DiffusionNAG}: Predictor-guided Neural Architecture Generation with Diffusion
               Models},
  author    = {An, Sohyun and Lee, Hayeon and Jo, Jaehyeong and Lee, Seanie and Hwang, Sung Ju},
  booktitle = {International Conference on Learning Representations},
  year      = {2024}
}"""

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, where: str = "config") -> NAGTask:
        """Validate a plain mapping; errors name the full path of the key."""
        from graphdiff.config import validate

        task = cls(validate(NAGConfig, config, where=where))
        task.space  # noqa: B018  (an unknown one is named now)
        return task

    def to_config(self) -> dict[str, Any]:
        """The plain mapping that :meth:`from_config` accepts."""
        return asdict(self.config)

    @cached_property
    def space(self) -> SearchSpace:
        """The search space."""
        return find_space(self.config.data.space)

    # -- training ---------------------------------------------------------------------------------

    def build(self) -> Denoiser:
        """A freshly initialised denoiser; the global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            return build_denoiser(self.config)

    def data(self, root: str | Path | None = None) -> TrainingArchitectures:
        """Members of the space; no file is read."""
        return TrainingArchitectures(self.config)

    def prepared(self, data: Data) -> NAGTask:
        """Carries the frequencies of types and wires into the card and the noise."""
        if not isinstance(data, TrainingArchitectures):
            return self
        return NAGTask(replace(self.config, data=data.facts))

    def groups(self, denoiser: Denoiser) -> dict[str, list[Parameter]]:
        """One group."""
        return {"net": list(denoiser.net.parameters())}

    def losses(self, denoiser: Denoiser, clean: State, key: Key) -> dict[str, Tensor]:
        """Loss ``[b]`` of the types, and of the wires."""
        low = self.config.t_min if self.config.noise.continuous else 0.0
        t = low + (1 - low) * key.at(stream="time").uniform(1).squeeze(1)
        process = denoiser.process
        noisy = process.corrupt(clean, t, key)
        return process.loss(denoiser(noisy, t), clean, noisy, t)

    def memory(self, batch: int, *, training: bool) -> int | None:
        """Bytes of a batch; half as much again for what works."""
        config, space = self.config, self.space
        net = build_network(config)
        wide = channels(space) if config.noise.continuous else None

        def call(net: Module, b: int) -> Any:
            n = space.nodes
            kind = torch.float32 if wide else torch.int64
            shape = (b, n, wide) if wide else (b, n)
            values = {"ops": torch.zeros(shape, dtype=kind, device="meta")}
            if space.wiring is None:
                values["adj"] = torch.zeros(b, n, n, dtype=kind, device="meta")
            return net(values, torch.zeros(b, device="meta"), {}, None)

        state, kept = state_bytes(net), per_example(net, call)
        if training:
            return state + int(1.5 * batch * kept)
        return state // 5 + int(1.5 * batch * kept / config.model.layers)

    # -- sampling ---------------------------------------------------------------------------------

    def sampler(self, **overrides: Any) -> Sampler:
        """The configured sampler; overrides are the fields of its config."""
        return build_sampler(self.config, overrides)

    def sizes(self, ids: Tensor, seed: int, **cond: Any) -> Tensor:
        """Number of places, the same for all."""
        return torch.full((len(ids),), self.space.nodes, dtype=torch.int64)

    def template(self, ids: Tensor, sizes: Tensor, *, pad: int, **cond: Any) -> State:
        """Zeros of the right shapes.

        Raises:
            ConfigError: There is a condition; samples are steered by rewards.
        """
        if cond:
            raise ConfigError(
                f"nag takes no condition, found {', '.join(sorted(cond))}; steer it by a reward"
            )
        archs = Architectures(
            np.zeros((len(ids), pad), np.int8), np.zeros((len(ids), pad, pad), bool)
        )
        return encode(self.space, archs, ids.cpu(), continuous=self.config.noise.continuous).to(
            ids.device
        )

    def process(self) -> Any:
        """Noise of each component."""
        return build_process(self.config)

    # -- finished samples -------------------------------------------------------------------------

    @property
    def _output(self) -> ArchitectureOutput:
        return ArchitectureOutput(self.space)

    def scores(self) -> Mapping[str, Callable[[Any], float]]:
        """Measurements and counts of an architecture by name."""
        return self._output.scores()

    def item_key(self, item: Any) -> Hashable | None:
        """What isomorphic architectures share; None for an invalid one."""
        return item.key() if item.valid else None

    def decode(self, state: State) -> tuple[list[Architecture], Architectures]:
        """Architectures, valid or not, and the packed batch."""
        raw = decode(self.space, state)
        return self._output.items(raw), raw

    def join(self, raws: Sequence[Architectures], order: Sequence[int]) -> Architectures:
        """Concatenate packed architectures and reorder them."""
        return self._output.join(raws, order)

    def write(self, samples: Samples, out: Path) -> list[Path]:
        """``architectures.json`` and the packed ``samples.npz``."""
        return self._output.write(samples, out)

    def formats(self) -> Mapping[str, str]:
        """Files of :meth:`write` that hold every sample, by suffix."""
        return self._output.formats()

    def convert(self, samples: Samples, kind: str) -> Sequence[Any]:
        """Samples as ``"dict"``, ``"networkx"``, ``"module"`` or ``"state"``."""
        if kind == "state":
            if not self.space.valid(samples.raw).all():
                raise ArgumentError("an invalid architecture has undecided places and no state")
            return [
                encode(self.space, one, torch.tensor([k]), continuous=self.config.noise.continuous)
                for k, one in zip(samples.ids, samples.raw, strict=True)
            ]
        return self._output.convert(samples, kind)

    def draw(self, samples: Samples, path: Path, *, count: int = 25) -> Path:
        """A grid of architectures as PNG."""
        return self._output.draw(samples, path, count=count)
