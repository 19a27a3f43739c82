"""Configuration of GDSS: what the ``.toml`` files of ``graphdiff/configs/gdss-*.toml`` hold.

The defaults of the samplers are those of the paper's repository where it publishes one; what
graphdiff does differently by default (a Langevin step size that is a function of the sample
alone) is a field here, so that every run says which it used.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from graphdiff.core.errors import require

__all__ = ["DataConfig", "GDSSConfig", "NetworkConfig", "SDEConfig", "SampleConfig"]

MOLECULES = {
    "qm9": ("C", "N", "O", "F"),
    "zinc250k": ("C", "N", "O", "F", "P", "S", "Cl", "Br", "I"),
    "moses": ("C", "N", "S", "O", "F", "Cl", "Br"),
}
"""Elements of the node classes of the molecule data sets, in order."""


@dataclass(frozen=True)
class DataConfig:
    """What is trained on.

    Attributes:
        name: A data set of :mod:`graphdiff.data`.
        split: Its split that is trained on.
        nodes: Largest number of nodes.
        features: Node features: element classes of molecules, else one-hot degree (clipped).
        atoms: Element symbols of the features; empty for graphs without elements.
        sizes: How many training graphs have 0, 1, 2 .. nodes. Filled in by training, and read by
            sampling: node counts are drawn from it.
    """

    name: str
    nodes: int
    features: int
    split: str = "train"
    atoms: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require("data.nodes", self.nodes >= 1, self.nodes, "at least 1")
        require("data.features", self.features >= 1, self.features, "at least 1")
        if self.atoms:
            require(
                "data.features",
                self.features == len(self.atoms),
                self.features,
                f"one for each of the {len(self.atoms)} elements in data.atoms",
            )
        if self.sizes:
            require(
                "data.sizes",
                len(self.sizes) <= self.nodes + 1 and sum(self.sizes) > 0 and min(self.sizes) >= 0,
                self.sizes,
                f"counts of graphs with 0 .. {self.nodes} nodes",
            )


@dataclass(frozen=True)
class SDEConfig:
    """One stochastic differential equation (Song et al., 2021).

    Attributes:
        kind: ``"VP"`` or ``"SubVP"`` (``low``, ``high`` are beta at t = 0 and 1), or ``"VE"``
            (``low``, ``high`` are sigma at t = 0 and 1).
        low: See ``kind``.
        high: See ``kind``.
    """

    kind: Literal["VP", "SubVP", "VE"]
    low: float
    high: float

    def __post_init__(self) -> None:
        require("sde", 0 < self.low < self.high, (self.low, self.high), "0 < low < high")


@dataclass(frozen=True)
class NetworkConfig:
    """Shapes of the two score networks (:mod:`graphdiff.graph.nets.gdss`).

    Attributes:
        node: Layers of the node network: ``"gcn"`` or ``"gmh"`` (attention).
        depth: Layers of the node network.
        hidden: Hidden node features of both networks.
        layers: Layers of the edge network.
        linears: Linear layers of every edge MLP.
        channels: Edge channels at the start (powers of the adjacency), inside and at the end.
        attention: Width of queries and keys.
        heads: Attention heads.
        encoding: Positional encoding of the noisy graph that both networks read beside the node
            features: ``"none"``, ``"rwpe"``, ``"laplacian"`` or ``"spe"``
            (:mod:`graphdiff.graph.nets.encoded`).
    """

    node: Literal["gcn", "gmh"] = "gcn"
    depth: int = 2
    hidden: int = 16
    layers: int = 3
    linears: int = 3
    channels: tuple[int, int, int] = (2, 8, 4)
    attention: int = 16
    heads: int = 4
    encoding: Literal["none", "rwpe", "laplacian", "spe"] = "none"

    def __post_init__(self) -> None:
        for name in ("depth", "hidden", "layers", "linears", "attention", "heads"):
            value = getattr(self, name)
            require(f"model.{name}", value >= 1, value, "at least 1")
        require("model.channels", min(self.channels) >= 1, self.channels, "positive numbers")
        if self.layers == 1:  # the published first layer always ends in the inner channels
            equal = self.channels[1] == self.channels[2]
            require("model.channels", equal, self.channels, "equal last two with one layer")
        for name in ("attention", "hidden"):  # the first layer's queries are `hidden` wide
            value = getattr(self, name)
            require(
                f"model.{name}", value % self.heads == 0, value, f"a multiple of {self.heads} heads"
            )


@dataclass(frozen=True)
class SampleConfig:
    """How samples are drawn.

    Attributes:
        solver: ``"pc"`` (predictor and corrector), ``"s4"``, or a member of the plan family:
            ``"euler"``, ``"heun"``, ``"ddim"``, ``"ancestral"``, ``"dpmpp"``, ``"deis"``,
            ``"unipc"``.
        steps: Steps of the time grid.
        end: Last time at which the networks are asked.
        grid: Placement of the times: ``"published"`` (linspace from 1 to ``end``, one more step
            from there), ``"uniform"``, ``"log_snr"`` (of ``adj``) or ``"karras"``.
        predictor: ``"euler"`` or ``"reverse"`` (solver ``"pc"``).
        corrector: ``"langevin"`` or ``"none"`` (solver ``"pc"``).
        snr: Signal-to-noise ratio of the Langevin step size.
        scale: Factor on the Langevin noise (``scale_eps``).
        norm: Langevin step size. ``"sample"``: from the score of the sample alone; ``"schedule"``:
            from the noise level alone (unbiased); ``"batch"``: from means over the batch, as
            published, for parity. See :class:`graphdiff.core.solver.Langevin`.
        published: Use the published discretisation tables instead of exact coefficients between
            the times of the grid.
        order: Order of a ``"dpmpp"``, ``"deis"`` or ``"unipc"`` solver.
        eta: Stochasticity of ``"ddim"``.
        sde: Use the stochastic form of ``"dpmpp"``.
    """

    solver: Literal["pc", "s4", "euler", "heun", "ddim", "ancestral", "dpmpp", "deis", "unipc"] = (
        "pc"
    )
    steps: int = 1000
    end: float = 1e-4
    grid: Literal["published", "uniform", "log_snr", "karras"] = "published"
    predictor: Literal["euler", "reverse"] = "reverse"
    corrector: Literal["langevin", "none"] = "langevin"
    snr: float = 0.2
    scale: float = 0.7
    norm: Literal["sample", "schedule", "batch"] = "sample"
    published: bool = True
    order: int = 2
    eta: float = 0.0
    sde: bool = False

    def __post_init__(self) -> None:
        require("sample.steps", self.steps >= 1, self.steps, "at least 1")
        require("sample.end", 0 < self.end < 1, self.end, "a time between 0 and 1")
        require("sample.snr", self.snr > 0, self.snr, "a positive number")
        require("sample.scale", self.scale >= 0, self.scale, "at least 0")
        require("sample.order", 1 <= self.order <= 3, self.order, "1, 2 or 3")
        require("sample.eta", 0 <= self.eta <= 1, self.eta, "a number from 0 to 1")
        if self.published and self.solver in ("pc", "s4"):
            require(
                "sample.grid", self.grid == "published", self.grid,
                "'published' with published = true (set published = false to use another grid)",
            )  # fmt: skip

    def with_overrides(self, overrides: dict[str, Any]) -> SampleConfig:
        """A copy with some fields replaced.

        A plan solver that is chosen without a grid takes ``"uniform"``: the published tables
        belong to the published solvers.

        Raises:
            ConfigError: An override is unknown or out of range.
        """
        if overrides.get("solver", "pc") not in ("pc", "s4"):
            overrides = {"grid": "uniform", "published": False, **overrides}
        elif overrides.get("grid", "published") != "published":
            overrides = {"published": False, **overrides}
        from graphdiff.config import with_settings

        return with_settings(self, overrides)


@dataclass(frozen=True)
class GDSSConfig:
    """Everything that builds and samples a GDSS model.

    Attributes:
        kind: Always ``"gdss"``.
        data: What is trained on.
        x: SDE of the node features.
        adj: SDE of the adjacency.
        model: Network shapes.
        sample: Sampler.
        seed: Seed of the initialisation.
        t_min: Smallest training time.
    """

    data: DataConfig
    x: SDEConfig
    adj: SDEConfig
    model: NetworkConfig = field(default_factory=NetworkConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    kind: Literal["gdss"] = "gdss"
    seed: int = 42
    t_min: float = 1e-5

    def __post_init__(self) -> None:
        require("t_min", 0 < self.t_min < 1, self.t_min, "a time between 0 and 1")

    def with_sizes(self, sizes: tuple[int, ...]) -> GDSSConfig:
        """A copy that knows the node counts of the training set."""
        return replace(self, data=replace(self.data, sizes=sizes))
