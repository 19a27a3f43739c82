"""Configuration of discrete graph diffusion: what ``digress-*.toml`` and ``defog-*.toml`` hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from graphdiff.core.errors import require

__all__ = [
    "DigressNetConfig",
    "DiscreteConfig",
    "DiscreteData",
    "JumpConfig",
    "LossConfig",
    "NoiseConfig",
    "PairNetConfig",
]

Distortion = Literal["identity", "polydec", "polyinc", "cos", "revcos"]
Encoding = Literal["none", "rwpe", "laplacian", "spe"]


@dataclass(frozen=True)
class DiscreteData:
    """What is trained on.

    Attributes:
        name: A data set of :mod:`graphdiff.data`, or a path to your own SMILES or graphs.
        nodes: Largest number of nodes; 0 for that of the data set.
        split: Its split that is trained on.
        atoms: Element symbols of the node classes; empty for those of the data set (none, for
            graphs whose nodes have no class).
        bonds: Number of edge classes that are an edge (3 for molecules: the bond orders); 0 for
            that of the data set.
        sizes: How many training graphs have 0, 1, 2 .. nodes. This and the two next are filled in
            by training; node counts of samples are drawn from it.
        node_probs: Frequencies of the node classes in the training set.
        edge_probs: Frequencies of the edge classes over all pairs of nodes, no edge first.
    """

    name: str
    nodes: int = 0
    split: str = "train"
    atoms: tuple[str, ...] = ()
    bonds: int = 0
    sizes: tuple[int, ...] = ()
    node_probs: tuple[float, ...] = ()
    edge_probs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require("data.nodes", self.nodes >= 0, self.nodes, "at least 1, or 0")
        require("data.bonds", self.bonds >= 0, self.bonds, "at least 1, or 0")
        require("data.atoms", len(self.atoms) != 1, self.atoms, "none, or at least two elements")
        if self.sizes:
            good = len(self.sizes) <= self.nodes + 1 and sum(self.sizes) > 0
            expected = f"counts of graphs with 0 .. {self.nodes} nodes"
            require("data.sizes", good and min(self.sizes) >= 0, self.sizes, expected)
        for name, probs, count in (
            ("node_probs", self.node_probs, len(self.atoms)),
            ("edge_probs", self.edge_probs, self.bonds + 1),
        ):
            if probs:
                expected = f"{count} probabilities, one for each class"
                require(f"data.{name}", len(probs) == count, probs, expected)


@dataclass(frozen=True)
class NoiseConfig:
    """How classes are corrupted.

    Attributes:
        kind: Law of a class after it is hit: ``"marginal"`` (frequencies of the training set),
            ``"uniform"`` or ``"absorbing"`` (a mask).
        schedule: Probability that a class survives: ``"cosine"`` (DiGress) or ``"linear"``
            (discrete flow matching: ``1 - t``).
    """

    kind: Literal["marginal", "uniform", "absorbing"] = "marginal"
    schedule: Literal["cosine", "linear"] = "linear"


@dataclass(frozen=True)
class PairNetConfig:
    """Shape of :class:`graphdiff.graph.nets.pair_transformer.PairTransformer`; see there.

    ``encoding`` is ``"none"``, ``"rwpe"``, ``"laplacian"`` or ``"spe"``
    (:mod:`graphdiff.graph.nets.encoded`); ``mixing`` is ``"attention"`` or ``"sheaf"``
    (:mod:`graphdiff.graph.nets.sheaf_mixing`).
    """

    kind: Literal["pair"] = "pair"
    layers: int = 5
    dx: int = 64
    de: int = 32
    dy: int = 64
    heads: int = 4
    triangles: int = 0
    ratio: int = 2
    steps: int = 12
    count_cycles: bool = False
    encoding: Encoding = "none"
    mixing: Literal["attention", "sheaf"] = "attention"

    def __post_init__(self) -> None:
        for name in ("layers", "dx", "de", "dy", "heads", "ratio", "steps"):
            value = getattr(self, name)
            require(f"model.{name}", value >= 1, value, "at least 1")
        require("model.triangles", self.triangles >= 0, self.triangles, "at least 0")
        good = self.dx % self.heads == 0
        require("model.dx", good, self.dx, f"a multiple of the {self.heads} heads")


@dataclass(frozen=True)
class DigressNetConfig:
    """Shape of :class:`graphdiff.graph.nets.digress.DigressNetwork`, the published transformer.

    Attributes:
        kind: Always ``"digress"``.
        layers: Number of layers.
        mlp_x: Hidden width of the first and last MLP of the nodes.
        mlp_e: The same of the edges.
        mlp_y: The same of the graph.
        dx: Width of the node stream.
        de: Width of the edge stream.
        dy: Width of the graph stream.
        heads: Attention heads (``dx`` is split over them).
        ff_x: Hidden width of the feed-forward block of the nodes.
        ff_e: The same of the edges.
        ff_y: The same of the graph.
        features: Structural input features: ``"cycles"``, ``"all"`` (cycles and spectrum, as
            published), ``"rrwp"`` (as in DeFoG) or ``"none"``.
        steps: Steps of the random walks of ``"rrwp"``.
        encoding: Positional encoding that is added to the nodes: ``"none"``, ``"rwpe"``,
            ``"laplacian"`` or ``"spe"`` (:mod:`graphdiff.graph.nets.encoded`).
    """

    kind: Literal["digress"] = "digress"
    layers: int = 5
    mlp_x: int = 256
    mlp_e: int = 128
    mlp_y: int = 128
    dx: int = 256
    de: int = 64
    dy: int = 64
    heads: int = 8
    ff_x: int = 256
    ff_e: int = 128
    ff_y: int = 128
    features: Literal["none", "cycles", "all", "rrwp"] = "all"
    steps: int = 12
    encoding: Encoding = "none"

    def __post_init__(self) -> None:
        for name in ("layers", "mlp_x", "mlp_e", "mlp_y", "dx", "de", "dy", "heads", "steps"):
            value = getattr(self, name)
            require(f"model.{name}", value >= 1, value, "at least 1")
        good = self.dx % self.heads == 0
        require("model.dx", good, self.dx, f"a multiple of the {self.heads} heads")


@dataclass(frozen=True)
class LossConfig:
    """What training minimises.

    Attributes:
        edge: Weight of the mean cross-entropy of the edges beside that of the nodes.
        distortion: Law of the training times: how uniform times are bent, see
            :mod:`graphdiff.core.times`.
        output: What the network's output means: ``"logits"`` of the clean class (published), or
            ``"bayes"``, to which the known likelihood of the noisy class is added.
    """

    edge: float = 5.0
    distortion: Distortion = "identity"
    output: Literal["logits", "bayes"] = "logits"

    def __post_init__(self) -> None:
        require("loss.edge", self.edge > 0, self.edge, "a positive number")


@dataclass(frozen=True)
class JumpConfig:
    """How samples are drawn.

    Attributes:
        solver: ``"flow"`` (discrete flow matching), ``"ancestral"`` (bridge of the prediction),
            ``"euler"`` or ``"tau"`` (frozen reverse rates), and for absorbing noise ``"remdm"`` or
            ``"first_hitting"``.
        steps: Network calls.
        distortion: How the uniform grid of times is bent.
        eta: Stochasticity of ``"flow"`` and ``"remdm"``.
        omega: Target guidance of ``"flow"``.
        exact: Whether a step of ``"flow"`` solves its conditional equation instead of freezing
            its rates.
    """

    solver: Literal["flow", "ancestral", "euler", "tau", "remdm", "first_hitting"] = "flow"
    steps: int = 500
    distortion: Distortion = "identity"
    eta: float = 0.0
    omega: float = 0.0
    exact: bool = True

    def __post_init__(self) -> None:
        require("sample.steps", self.steps >= 1, self.steps, "at least 1")
        require("sample.eta", self.eta >= 0, self.eta, "at least 0")
        require("sample.omega", self.omega >= 0, self.omega, "at least 0")
        possible = self.solver != "remdm" or self.eta <= 1
        require("sample.eta", possible, self.eta, "at most 1 with the solver 'remdm'")

    def with_overrides(self, overrides: dict[str, Any]) -> JumpConfig:
        """A copy with some fields replaced.

        Raises:
            ConfigError: An override is unknown or out of range.
        """
        from graphdiff.config import with_settings

        return with_settings(self, overrides)


@dataclass(frozen=True)
class DiscreteConfig:
    """Everything that builds and samples a DiGress or DeFoG model.

    Attributes:
        data: What is trained on.
        noise: How classes are corrupted.
        model: Network.
        loss: What training minimises.
        sample: Sampler.
        kind: ``"digress"`` or ``"defog"``.
        seed: Seed of the initialisation.
    """

    data: DiscreteData
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    model: PairNetConfig | DigressNetConfig = field(default_factory=PairNetConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    sample: JumpConfig = field(default_factory=JumpConfig)
    kind: Literal["digress", "defog"] = "defog"
    seed: int = 0

    def __post_init__(self) -> None:
        absorbing = self.noise.kind == "absorbing"
        if self.sample.solver in ("remdm", "first_hitting"):
            expected = f"absorbing noise with the solver {self.sample.solver!r}"
            require("noise.kind", absorbing, self.noise.kind, expected)
