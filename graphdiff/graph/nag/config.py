"""Configuration of architecture diffusion: what ``nag-*.toml`` hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from graphdiff.core.errors import require
from graphdiff.graph.discrete_config import JumpConfig
from graphdiff.graph.gdss_config import SampleConfig
from graphdiff.graph.nets.cate import AttentionMask

__all__ = [
    "ArchitectureData",
    "ArchitectureNoise",
    "CATEConfig",
    "DAGConfig",
    "DiffusionSampling",
    "JumpSampling",
    "NAGConfig",
]


@dataclass(frozen=True)
class ArchitectureData:
    """What is trained on: members of a search space, without any measurement.

    Attributes:
        space: A known space, or your own as ``FILE.py:CLASS``.
        name: Of the training set, for the card.
        split: ``"half"``: a random half of a space that can be listed, so that new architectures
            can be told from known ones; ``"all"`` of it; ``"drawn"``: random members.
        count: Number of random members.
        seed: Of the half, or of the members.
        probs: Frequencies of the types over all places. This and the next are filled in by
            training; marginal noise is made of them.
        wire_probs: Frequencies of no wire and of a wire, where wires are searched.
    """

    space: str
    name: str = "architectures"
    split: Literal["half", "all", "drawn"] = "half"
    count: int = 10_000
    seed: int = 0
    probs: tuple[float, ...] = ()
    wire_probs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require("data.count", self.count >= 1, self.count, "at least 1")
        require("data.seed", self.seed >= 0, self.seed, "at least 0")


@dataclass(frozen=True)
class ArchitectureNoise:
    """How types (and wires) are corrupted.

    Attributes:
        kind: ``"ve"``: normal noise of growing deviation on one-hot types scaled to [-1, 1], as
            published; ``"absorbing"``, ``"marginal"`` or ``"uniform"`` noise on classes.
        low: Deviation of ``"ve"`` at clock 0.
        high: The same at clock 1.
    """

    kind: Literal["ve", "absorbing", "marginal", "uniform"] = "absorbing"
    low: float = 0.1
    high: float = 5.0

    def __post_init__(self) -> None:
        good = 0 < self.low < self.high
        require("noise", good, (self.low, self.high), "0 < low < high")

    @property
    def continuous(self) -> bool:
        """Whether types are numbers."""
        return self.kind == "ve"


@dataclass(frozen=True)
class CATEConfig:
    """Shape of the published network, :class:`graphdiff.graph.nets.cate.CATE`."""

    kind: Literal["cate"] = "cate"
    layers: int = 12
    width: int = 64
    heads: int = 8
    ff: int = 128
    dropout: float = 0.1
    mask: AttentionMask = "closure"

    def __post_init__(self) -> None:
        _shape(self)
        require("model.ff", self.ff >= 1, self.ff, "at least 1")


@dataclass(frozen=True)
class DAGConfig:
    """Shape of :class:`graphdiff.graph.nets.dag.DAGTransformer`; see there."""

    kind: Literal["dag"] = "dag"
    layers: int = 4
    width: int = 64
    heads: int = 4
    ratio: int = 2
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _shape(self)
        require("model.ratio", self.ratio >= 1, self.ratio, "at least 1")


def _shape(model: CATEConfig | DAGConfig) -> None:
    for name in ("layers", "width", "heads"):
        value = getattr(model, name)
        require(f"model.{name}", value >= 1, value, "at least 1")
    require("model.width", model.width % 2 == 0, model.width, "an even number")
    good = model.width % model.heads == 0
    require("model.width", good, model.width, f"a multiple of the {model.heads} heads")
    require("model.dropout", 0 <= model.dropout < 1, model.dropout, "a number in [0, 1)")


@dataclass(frozen=True)
class JumpSampling(JumpConfig):
    """How samples are drawn from noise on classes; see the base class."""

    kind: Literal["jump"] = "jump"


@dataclass(frozen=True)
class DiffusionSampling(SampleConfig):
    """How samples are drawn from normal noise; see the base class."""

    kind: Literal["diffusion"] = "diffusion"


@dataclass(frozen=True)
class NAGConfig:
    """Everything that builds, trains and samples a generator of architectures.

    Attributes:
        data: What is trained on.
        noise: How types are corrupted.
        model: Network.
        sample: Sampler; of the kind that goes with the noise.
        kind: Always ``"nag"``.
        seed: Seed of the initialisation.
        t_min: Smallest training time of normal noise.
    """

    data: ArchitectureData
    noise: ArchitectureNoise = field(default_factory=ArchitectureNoise)
    model: DAGConfig | CATEConfig = field(default_factory=DAGConfig)
    sample: JumpSampling | DiffusionSampling = field(default_factory=JumpSampling)
    kind: Literal["nag"] = "nag"
    seed: int = 0
    t_min: float = 1e-5

    def __post_init__(self) -> None:
        wanted = "diffusion" if self.noise.continuous else "jump"
        found = self.sample.kind
        require("sample.kind", found == wanted, found, f"{wanted!r} with noise {self.noise.kind!r}")
        if isinstance(self.sample, JumpSampling) and self.noise.kind != "absorbing":
            solver = self.sample.solver
            good = solver not in ("remdm", "first_hitting")
            require("sample.solver", good, solver, "another one without absorbing noise")
        require("t_min", 0 < self.t_min < 1, self.t_min, "a time between 0 and 1")

    def sampling(self, overrides: dict[str, Any]) -> JumpSampling | DiffusionSampling:
        """The sampler with some fields replaced.

        Raises:
            ConfigError: An override is unknown or out of range.
        """
        found: Any = self.sample.with_overrides(overrides) if overrides else self.sample
        sampling: JumpSampling | DiffusionSampling = found
        return sampling
