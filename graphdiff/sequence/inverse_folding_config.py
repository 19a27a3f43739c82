"""Configuration of inverse folding: what ``inverse-folding.toml`` holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from graphdiff.core.errors import ConfigError, require

__all__ = ["BackboneData", "DesignConfig", "FoldingConfig", "FoldingLoss", "MPNNConfig"]


@dataclass(frozen=True)
class BackboneData:
    """What is trained on.

    Attributes:
        name: A folder of structure files, one such file, a ``.json`` list or a ``.npz`` of
            backbones; ``"ts50"`` for the list of that name in the data folder.
        longest: Backbones with more residues are left out; 0 leaves none out.
        missing: Residues with missing atoms are dropped, or kept without coordinates (``"mask"``).
        noise: Å, standard deviation of noise on training coordinates.
        largest: Residues of the largest backbone; filled in by training.
    """

    name: str
    longest: int = 0
    missing: Literal["drop", "mask"] = "drop"
    noise: float = 0.1
    largest: int = 0

    def __post_init__(self) -> None:
        require("data.longest", self.longest >= 0, self.longest, "at least 0")
        require("data.largest", self.largest >= 0, self.largest, "at least 0")
        require("data.noise", self.noise >= 0, self.noise, "at least 0")


@dataclass(frozen=True)
class MPNNConfig:
    """Shape of :class:`graphdiff.sequence.nets.folding.FoldingNet`; see there.

    Attributes:
        decoder: ``"full"`` sees masks as letters, ``"causal"`` is that of ProteinMPNN.
        hidden: Width.
        encoder_layers: Layers that read the structure.
        decoder_layers: Layers that read letters too.
        neighbours: Residues that a residue hears.
        dropout: In training.
    """

    decoder: Literal["full", "causal"] = "full"
    hidden: int = 128
    encoder_layers: int = 3
    decoder_layers: int = 3
    neighbours: int = 48
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("hidden", "encoder_layers", "decoder_layers", "neighbours"):
            value = getattr(self, name)
            require(f"model.{name}", value >= 1, value, "at least 1")
        require("model.dropout", 0 <= self.dropout < 1, self.dropout, "in [0, 1)")


@dataclass(frozen=True)
class FoldingLoss:
    """What training minimises.

    Attributes:
        weighting: ``"ce"``, the mean cross-entropy of the masked residues, or ``"elbo"``, the
            bound on the negative log-likelihood of a sequence.
    """

    weighting: Literal["ce", "elbo"] = "ce"


@dataclass(frozen=True)
class DesignConfig:
    """How sequences are designed.

    Attributes:
        solver: ``"first_hitting"`` (random order, equally many residues in each step),
            ``"confident"`` (surest residues first), ``"ancestral"``, ``"remdm"`` (masks again), or
            ``"autoregressive"`` (one residue at a time; a causal decoder only).
        steps: Network calls; not read by ``"autoregressive"``.
        temperature: Divides the logits; 0 takes the likeliest letter. The condition of that name
            goes before.
        eta: Strength of ``"remdm"``.
        score: Network calls that score finished sequences; 0 leaves them without a score.
        backbone: Structures that are designed where no condition ``backbone`` is given: sample
            ``k`` takes number ``k`` modulo their count.
    """

    solver: Literal["first_hitting", "confident", "ancestral", "remdm", "autoregressive"] = (
        "first_hitting"
    )
    steps: int = 50
    temperature: float = 0.1
    eta: float = 0.02
    score: int = 4
    backbone: str = ""

    def __post_init__(self) -> None:
        require("sample.steps", self.steps >= 1, self.steps, "at least 1")
        require("sample.score", self.score >= 0, self.score, "at least 0")
        warm = self.temperature == 0 or self.temperature >= 1e-4
        require("sample.temperature", warm, self.temperature, "0, or at least 0.0001")
        require("sample.eta", 0 <= self.eta <= 1, self.eta, "in [0, 1]")

    def with_overrides(self, overrides: dict[str, Any]) -> DesignConfig:
        """A copy with some fields replaced.

        Raises:
            ConfigError: An override is unknown or out of range.
        """
        known = {"solver", "steps", "eta", "score"}
        if unknown := sorted(set(overrides) - known):
            hint = (
                f"; {' and '.join(elsewhere)} belongs to a sample: give it as a condition"
                if (elsewhere := [k for k in unknown if k in self.__dataclass_fields__])
                else ""
            )
            raise ConfigError(
                f"unknown sampler setting {', '.join(map(repr, unknown))}: inverse folding knows "
                f"{', '.join(sorted(known))}{hint}"
            )
        from graphdiff.config import validate

        return validate(DesignConfig, {**self.__dict__, **overrides}, where="sample")


@dataclass(frozen=True)
class FoldingConfig:
    """Everything that builds and samples a model of inverse folding.

    Attributes:
        data: What is trained on.
        model: Network.
        loss: What training minimises.
        sample: Sampler.
        kind: Always ``"inverse-folding"``.
        seed: Seed of the initialisation.
    """

    data: BackboneData
    model: MPNNConfig = field(default_factory=MPNNConfig)
    loss: FoldingLoss = field(default_factory=FoldingLoss)
    sample: DesignConfig = field(default_factory=DesignConfig)
    kind: Literal["inverse-folding"] = "inverse-folding"
    seed: int = 0

    def __post_init__(self) -> None:
        causal = self.model.decoder == "causal" or self.sample.solver != "autoregressive"
        expected = "'causal' with the solver 'autoregressive'"
        require("model.decoder", causal, self.model.decoder, expected)
