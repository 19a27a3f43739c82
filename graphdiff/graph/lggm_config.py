"""Configuration of LGGM: what ``lggm*.toml`` hold."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from graphdiff.core.errors import ConfigError
from graphdiff.graph.discrete_config import (
    DigressNetConfig,
    DiscreteConfig,
    DiscreteData,
    JumpConfig,
    LossConfig,
    NoiseConfig,
    PairNetConfig,
)

__all__ = ["CorpusData", "LggmConfig", "TextConfig"]


@dataclass(frozen=True)
class CorpusData:
    """Which graphs of the corpus are trained on, and what is known about them.

    Attributes:
        smallest: Smallest number of nodes.
        nodes: Largest number of nodes.
        counts: Graphs of each domain in train, val and test, at most.
        domains: Domains to train on; empty for all.
        holdout: Domains that are left out (their graphs are in the ``holdout_`` splits).
        split: Split that is trained on.
        limit: Train on this many graphs of each domain only; 0 for all.
        folder: Your own networks, ``folder/DOMAIN/FILE``, instead of the corpus.
        name: Always ``"lggm"``.
        present: Domains that were trained on. This and the next are filled in by training.
        sizes: For each of them, how many graphs have 0, 1, 2 … nodes; prompts that name a domain
            draw node counts from its row.
        edge_probs: Frequencies of no edge and edge, each domain counting as much as any other.
        terciles: Where low ends and high begins, of average degree and of clustering.
    """

    smallest: int = 8
    nodes: int = 32
    counts: tuple[int, int, int] = (800, 100, 200)
    domains: tuple[str, ...] = ()
    holdout: tuple[str, ...] = ()
    split: str = "train"
    limit: int = 0
    folder: str = ""
    name: Literal["lggm"] = "lggm"
    present: tuple[str, ...] = ()
    sizes: tuple[tuple[int, ...], ...] = ()
    edge_probs: tuple[float, ...] = ()
    terciles: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if not 2 <= self.smallest <= self.nodes:
            raise ConfigError(
                f"data.smallest: found {self.smallest} with data.nodes = {self.nodes}, expected "
                "2 <= smallest <= nodes"
            )
        if self.limit < 0:
            raise ConfigError(f"data.limit: found {self.limit}, expected 0 (all) or more")
        if len(self.sizes) != len(self.present):
            raise ConfigError(
                f"data.sizes has {len(self.sizes)} rows for {len(self.present)} domains in "
                "data.present; expected one each"
            )


@dataclass(frozen=True)
class TextConfig:
    """How prompts become vectors.

    Attributes:
        encoder: Name of a text encoder, see :mod:`graphdiff.graph.text`; ``"none"`` trains a model
            without prompts.
        kinds: What prompts tell, some of ``"domain"``, ``"statistics"``, ``"both"``.
        drop: Share of examples whose prompt is hidden in training, for guidance.
        variants: Wordings of each meaning that training uses.
        guidance: Weight of classifier-free guidance in sampling; 1 for none.
    """

    encoder: str = "none"
    kinds: tuple[Literal["domain", "statistics", "both"], ...] = ("domain", "statistics", "both")
    drop: float = 0.1
    variants: int = 24
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.drop < 1:
            raise ConfigError(f"text.drop: found {self.drop}, expected a number in [0, 1)")
        if self.variants < 1 or not self.kinds:
            raise ConfigError(
                f"text: found variants = {self.variants} and kinds = {self.kinds}, expected at "
                "least one of each"
            )


@dataclass(frozen=True)
class LggmConfig:
    """Everything that builds and samples an LGGM model.

    Attributes:
        data: What is trained on.
        noise: How edges are corrupted.
        model: Network.
        loss: What training minimises.
        sample: Sampler.
        text: Prompts.
        kind: Always ``"lggm"``.
        seed: Seed of the initialisation.
    """

    data: CorpusData = field(default_factory=CorpusData)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    model: PairNetConfig | DigressNetConfig = field(default_factory=PairNetConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    sample: JumpConfig = field(default_factory=JumpConfig)
    text: TextConfig = field(default_factory=TextConfig)
    kind: Literal["lggm"] = "lggm"
    seed: int = 0

    def discrete(self) -> DiscreteConfig:
        """The same without corpus and prompts."""
        pooled = tuple(sum(row) for row in zip(*self.data.sizes, strict=True))
        probs = self.data.edge_probs
        data = DiscreteData("lggm", self.data.nodes, bonds=1, sizes=pooled, edge_probs=probs)
        return DiscreteConfig(
            data, self.noise, self.model, self.loss, self.sample, "defog", self.seed
        )

    def with_facts(
        self,
        present: tuple[str, ...],
        sizes: tuple[tuple[int, ...], ...],
        edge_probs: tuple[float, ...],
        terciles: tuple[tuple[float, float], ...],
    ) -> LggmConfig:
        """A copy that knows domains, node counts, edge frequencies and terciles."""
        data = replace(
            self.data, present=present, sizes=sizes, edge_probs=edge_probs, terciles=terciles
        )
        return replace(self, data=data)
