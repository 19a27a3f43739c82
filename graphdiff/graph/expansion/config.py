"""Configuration of the expansion model: what ``graphdiff/configs/hspectre-*.toml`` hold."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from graphdiff.core.errors import require

__all__ = ["CoarseningConfig", "DataConfig", "HSpectreConfig", "NetworkConfig", "SampleConfig"]


@dataclass(frozen=True)
class DataConfig:
    """What is trained on.

    Attributes:
        name: A data set of :mod:`graphdiff.data` whose graphs are connected.
        split: Its split that is trained on.
        sizes: How many training graphs have 0, 1, 2 .. nodes. Filled in by training, and read by
            sampling: node counts are drawn from it.
        degree: Mean degree of the training graphs, filled in by training; memory is estimated by
            it. The default is that of a triangulation.
    """

    name: str
    split: str = "train"
    sizes: tuple[int, ...] = ()
    degree: float = 6.0

    def __post_init__(self) -> None:
        require("data.degree", self.degree >= 0, self.degree, "at least 0")
        if self.sizes:
            holds = min(self.sizes) >= 0 and sum(self.sizes[1:]) > 0 and self.sizes[0] == 0
            require("data.sizes", holds, self.sizes, "counts of graphs with 0, 1, 2 .. nodes")


@dataclass(frozen=True)
class CoarseningConfig:
    """How training graphs are taken apart (Bergmeister et al., 2024, appendix).

    Attributes:
        low: Smallest share of nodes that a level removes.
        high: Largest share; each level draws its share uniformly.
        skip: Probability of passing over a cheap edge.
        rank: Eigenpairs whose span the contractions should keep.
        sequences: Coarsening sequences of each training graph.
        pieces: What becomes of a training graph that is not connected: ``"refuse"`` the data, or
            train on its ``"largest"`` piece.
    """

    low: float = 0.1
    high: float = 0.3
    skip: float = 0.3
    rank: int = 8
    sequences: int = 32
    pieces: Literal["refuse", "largest"] = "refuse"

    def __post_init__(self) -> None:
        shares = (self.low, self.high)
        require("coarsening", 0 < self.low <= self.high <= 0.5, shares, "0 < low <= high <= 0.5")
        require("coarsening.skip", 0 <= self.skip < 1, self.skip, "a probability below 1")
        require("coarsening.rank", self.rank >= 1, self.rank, "at least 1")
        require("coarsening.sequences", self.sequences >= 1, self.sequences, "at least 1")


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the network (:mod:`graphdiff.graph.nets.expansion`).

    Attributes:
        hidden: Node features.
        pair: Features of candidate edges.
        triangle: Channels of the triangle products.
        layers: Rounds of message passing.
        modes: Laplacian eigenvectors of the coarse graph that the network is told.
        dropout: Of every residual.
    """

    hidden: int = 64
    pair: int = 48
    triangle: int = 16
    layers: int = 5
    modes: int = 0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("hidden", "pair", "triangle", "layers"):
            value = getattr(self, name)
            require(f"model.{name}", value >= 1, value, "at least 1")
        require("model.modes", self.modes >= 0, self.modes, "at least 0")
        require("model.dropout", 0 <= self.dropout < 1, self.dropout, "a probability below 1")


@dataclass(frozen=True)
class SampleConfig:
    """How samples are drawn.

    Attributes:
        steps: Most diffusion steps of a level; level ``l`` (from 0) takes at most ``4 * 2**l``,
            about as many as it has tokens.
        memory: GiB that a batch may take by the estimate; 0 asks the machine what is free.
        order: In which order edges are decided: ``"random"``, or ``"confident"``, the surest first
            (:class:`graphdiff.core.reveal.ConfidentJump`).
        jitter: Noise on the order of confidence.
        keep: A property that no level may lose: ``"planar"``, ``"tree"``, or ``"any"``. It then
            holds by construction, see :mod:`graphdiff.graph.expansion.keep`.
        tries: How often a level is drawn at most, with a property to keep; after that, a graph
            goes on without it.
    """

    steps: int = 64
    memory: float = 0.0
    order: Literal["random", "confident"] = "random"
    jitter: float = 0.5
    keep: Literal["any", "planar", "tree"] = "any"
    tries: int = 50

    def __post_init__(self) -> None:
        require("sample.tries", self.tries >= 1, self.tries, "at least 1")
        require("sample.steps", self.steps >= 1, self.steps, "at least 1")
        require("sample.jitter", self.jitter >= 0, self.jitter, "at least 0")
        require("sample.memory", self.memory >= 0, self.memory, "at least 0")

    def with_overrides(self, overrides: dict[str, Any]) -> SampleConfig:
        """A copy with some fields replaced.

        Raises:
            ConfigError: An override is unknown or out of range.
        """
        from graphdiff.config import with_settings

        return with_settings(self, overrides)


@dataclass(frozen=True)
class HSpectreConfig:
    """Everything that builds and samples an expansion model.

    Attributes:
        data: What is trained on.
        coarsening: How training graphs are taken apart, and in which steps samples grow.
        model: Network shape.
        sample: Sampler.
        kind: Always ``"hspectre"``.
        seed: Seed of the initialisation and of the coarsening sequences.
    """

    data: DataConfig
    coarsening: CoarseningConfig = field(default_factory=CoarseningConfig)
    model: NetworkConfig = field(default_factory=NetworkConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    kind: Literal["hspectre"] = "hspectre"
    seed: int = 0

    def with_facts(self, sizes: tuple[int, ...], degree: float) -> HSpectreConfig:
        """A copy that knows the node counts and the mean degree of the training set."""
        return replace(self, data=replace(self.data, sizes=sizes, degree=degree))
