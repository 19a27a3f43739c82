"""A real task, small enough for tests: diffusion of points of the plane and their radius.

Two components, so that losses, groups and clipping have more than one; the training set is a ring.
Run as a script it trains, for tests that kill, interrupt or distribute a training.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from graphdiff.config import validate
from graphdiff.core.denoiser import Denoiser, Eps
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.process import Product
from graphdiff.core.rng import Key
from graphdiff.core.schedule import VP
from graphdiff.core.state import State
from graphdiff.task import Data, Samples, Task


@dataclass(frozen=True)
class PointsConfig:
    seed: int = 0
    examples: int = 50
    width: int = 16
    dropout: float = 0.0
    poison: int = -1  # number of an example that is not finite
    frozen: bool = False


class Points(Data):
    def __init__(self, config: PointsConfig) -> None:
        angle = torch.linspace(0, 6, config.examples, dtype=torch.float64)
        self.place = torch.stack([angle.cos(), angle.sin()], dim=1).float()
        self.radius = torch.linspace(-1, 1, config.examples)[:, None].clone()
        if config.poison >= 0:
            self.radius[config.poison] = float("nan")

    def __len__(self) -> int:
        return len(self.place)

    def batch(self, index: Tensor) -> State:
        return State({"place": self.place[index], "radius": self.radius[index]}, {}, index)

    def fingerprint(self) -> dict[str, Any]:
        sha = hashlib.sha256(self.place.numpy().tobytes() + self.radius.numpy().tobytes())
        return {"name": "ring", "split": "train", "n": len(self), "sha256": sha.hexdigest()}


class Net(nn.Module):
    def __init__(self, config: PointsConfig) -> None:
        super().__init__()

        def branch(out: int) -> nn.Module:
            return nn.Sequential(
                nn.Linear(4, config.width), nn.SiLU(), nn.Dropout(config.dropout),
                nn.Linear(config.width, out),
            )  # fmt: skip

        self.place, self.radius = branch(2), branch(1)
        self.register_buffer("scale", torch.ones(()))

    def forward(
        self, values: Mapping[str, Tensor], label: Tensor, masks: Any, cond: Any
    ) -> dict[str, Tensor]:
        x = torch.cat([values["place"], values["radius"], label[:, None]], dim=1) * self.scale
        return {"place": self.place(x), "radius": self.radius(x)}


@dataclass(frozen=True)
class PointsTask(Task):
    kind: ClassVar[str] = "points"
    title: ClassVar[str] = "Points of a ring"
    citation: ClassVar[str] = "nobody, 2024"
    config: PointsConfig = PointsConfig()

    @property
    def process(self) -> Product:
        return Product({"place": Gaussian(VP()), "radius": Gaussian(VP(0.2, 10.0))})

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, where: str = "config") -> PointsTask:
        plain = {key: value for key, value in config.items() if key != "kind"}
        return cls(validate(PointsConfig, plain, where=where))

    def to_config(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self.config)}

    def build(self) -> Denoiser:
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            net = Net(self.config)
        if self.config.frozen:
            net.radius.requires_grad_(False)
        return Denoiser(net, self.process, {"place": Eps(), "radius": Eps()})

    def data(self, root: str | Path | None = None) -> Data:
        return Points(self.config)

    def losses(self, denoiser: Denoiser, clean: State, key: Key) -> dict[str, Tensor]:
        t = 1e-2 + 0.99 * key.at(stream="t").uniform(1)[:, 0]
        noisy = self.process.corrupt(clean, t, key)
        return self.process.loss(denoiser(noisy, t), clean, noisy, t)

    def groups(self, denoiser: Denoiser) -> dict[str, list[nn.Parameter]]:
        groups = {n: list(getattr(denoiser.net, n).parameters()) for n in ("place", "radius")}
        return {n: [p for p in g if p.requires_grad] for n, g in groups.items() if g}

    def sampler(self, **overrides: Any) -> Any:
        raise NotImplementedError

    def sizes(self, ids: Tensor, seed: int, **cond: object) -> Tensor:
        return torch.ones_like(ids)

    def template(self, ids: Tensor, sizes: Tensor, *, pad: int, **cond: Any) -> State:
        raise NotImplementedError

    def decode(self, state: State) -> tuple[list[Any], Any]:
        raise NotImplementedError

    def join(self, raws: Sequence[Any], order: Sequence[int]) -> Any:
        raise NotImplementedError

    def write(self, samples: Samples, out: Path) -> list[Path]:
        raise NotImplementedError

    def convert(self, samples: Samples, kind: str) -> Sequence[Any]:
        raise NotImplementedError

    def draw(self, samples: Samples, path: Path, *, count: int = 25) -> Path:
        raise NotImplementedError


def main() -> None:
    from graphdiff.train import TrainConfig, Trainer

    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds to sleep at a record")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = TrainConfig(
        steps=arguments.steps, batch_size=arguments.batch, lr=1e-2, lr_schedule="cosine",
        warmup_steps=4, clip=1.0, log_every=1, checkpoint_every=arguments.every, threads=1,
    )  # fmt: skip
    trainer = Trainer(PointsTask(PointsConfig(dropout=0.0)), config, arguments.out, device="cpu")
    rank = os.environ.get("RANK", "0")
    for progress in trainer.events():
        print(f"{rank}: step {progress.step}", flush=True)
        time.sleep(arguments.pause)
    assert trainer.outcome is not None
    print(f"{rank}: {trainer.outcome.message}", flush=True)


if __name__ == "__main__":
    main()
