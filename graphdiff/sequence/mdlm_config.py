"""Configuration of diffusion on token strings: what ``mdlm-*.toml`` hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from graphdiff.core.errors import require

__all__ = [
    "DilatedConfig",
    "MdlmConfig",
    "SequenceData",
    "SequenceLoss",
    "SequenceNoise",
    "SequenceSampling",
    "TransformerConfig",
]

ABSORBING_ONLY = ("remdm", "first_hitting", "confident")


@dataclass(frozen=True)
class SequenceData:
    """What is trained on.

    Attributes:
        name: A data set of sequences of :mod:`graphdiff.data`, or a path to your own FASTA files.
        split: Its split that is trained on.
        alphabet: ``"dna"``, ``"rna"`` or ``"protein"``; empty for that of the data set (guessed
            for your own files).
        ambiguous: What is done with sequences of your own files that hold ambiguity codes:
            ``"error"``, ``"skip"`` (left out), or ``"random"`` (one of the letters meant).
        length: Longest sequence; 0 for that of the data set.
        longer: What is done with longer ones: ``"error"``, or ``"skip"`` (left out).
        label: Name of a measurement that the network is told in classes; empty for none.
        bins: Number of classes of the label, of equal size.
        thresholds: Where its classes begin: a value has the class of the number of thresholds at
            or below it. Filled in from ``bins``, or given instead.
        lengths: How many training sequences have 0, 1, 2 .. letters. This and the next are filled
            in by training; lengths of samples are drawn from it.
        letter_probs: Frequencies of the letters in the training set.
    """

    name: str
    split: str = "train"
    alphabet: Literal["", "dna", "rna", "protein"] = ""
    ambiguous: Literal["error", "skip", "random"] = "error"
    length: int = 0
    longer: Literal["error", "skip"] = "error"
    label: str = ""
    bins: int = 0
    thresholds: tuple[float, ...] = ()
    lengths: tuple[int, ...] = ()
    letter_probs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require("data.length", self.length >= 0, self.length, "at least 1, or 0")
        good = self.length > 0 or self.longer == "error"
        require("data.longer", good, self.longer, "'error' while data.length is 0")
        if self.label:
            good = self.bins >= 2 or len(self.thresholds) > 0
            require("data.bins", good, self.bins, "at least 2 classes, or data.thresholds")
            good = not self.bins or not self.thresholds or len(self.thresholds) == self.bins - 1
            require("data.thresholds", good, self.thresholds, f"{self.bins - 1} numbers, or none")
            good = all(a < b for a, b in pairwise(self.thresholds))
            require("data.thresholds", good, self.thresholds, "ascending numbers")
        else:
            good = not self.bins and not self.thresholds
            require("data.label", good, self.label, "a name, as bins or thresholds are given")
        if self.lengths:
            good = len(self.lengths) == self.length + 1 and self.lengths[0] == 0
            good = good and min(self.lengths) >= 0 and sum(self.lengths) > 0
            require("data.lengths", good, self.lengths, f"counts of lengths 0 .. {self.length}")
        if self.letter_probs:
            good = min(self.letter_probs) > 0 and abs(sum(self.letter_probs) - 1) < 1e-6
            require("data.letter_probs", good, self.letter_probs, "positive, with sum 1")

    @property
    def labels(self) -> int:
        """Number of classes that the network is told; 0 without a label."""
        return self.bins or (len(self.thresholds) + 1 if self.label else 0)

    @property
    def mean_length(self) -> float:
        """Mean length of the training sequences; 1 before it is known."""
        total = sum(self.lengths)
        return sum(n * k for k, n in enumerate(self.lengths)) / total if total else 1.0


@dataclass(frozen=True)
class SequenceNoise:
    """How letters are corrupted.

    Attributes:
        kind: Law of a letter after it is hit: a mask (``"absorbing"``, MDLM), ``"uniform"``, or
            ``"marginal"``, the frequencies of the training set.
        schedule: Probability that a letter survives: ``"loglinear"`` (``1 - 0.999 t``),
            ``"linear"`` (``1 - t``) or ``"cosine"``.
    """

    kind: Literal["absorbing", "uniform", "marginal"] = "absorbing"
    schedule: Literal["loglinear", "linear", "cosine"] = "loglinear"


@dataclass(frozen=True)
class DilatedConfig:
    """Shape of :class:`graphdiff.sequence.nets.dilated.DilatedCNN`; see there.

    ``time`` is whether the network is told the clock: needless with absorbing noise, where the
    number of masks tells it (Sahoo et al., 2024), useful otherwise.
    """

    kind: Literal["dilated"] = "dilated"
    width: int = 128
    stacks: int = 4
    kernel: int = 9
    dilations: tuple[int, ...] = (1, 1, 4, 16, 64)
    time: bool = False
    dropout: float = 0.0

    @property
    def depth(self) -> int:
        """Number of layers."""
        return self.stacks * len(self.dilations)

    def __post_init__(self) -> None:
        _check_shape(self, ("width", "stacks", "kernel"))
        require("model.kernel", self.kernel % 2 == 1, self.kernel, "an odd number")
        good = len(self.dilations) > 0 and min(self.dilations) >= 1
        require("model.dilations", good, self.dilations, "numbers of at least 1")
        require("model.width", self.width % 2 == 0, self.width, "an even number")


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of :class:`graphdiff.sequence.nets.transformer.SequenceTransformer`; see there."""

    kind: Literal["transformer"] = "transformer"
    width: int = 128
    layers: int = 4
    heads: int = 4
    ratio: int = 4
    time: bool = False
    dropout: float = 0.0

    @property
    def depth(self) -> int:
        """Number of layers."""
        return self.layers

    def __post_init__(self) -> None:
        _check_shape(self, ("width", "layers", "heads", "ratio"))
        good = self.width % (2 * self.heads) == 0
        require("model.width", good, self.width, f"a multiple of twice the {self.heads} heads")


def _check_shape(config: Any, names: tuple[str, ...]) -> None:
    for name in names:
        require(f"model.{name}", getattr(config, name) >= 1, getattr(config, name), "at least 1")
    require("model.dropout", 0 <= config.dropout < 1, config.dropout, "in [0, 1)")


@dataclass(frozen=True)
class SequenceLoss:
    """What training minimises.

    Attributes:
        kind: ``"elbo"``, the bound on the negative log-likelihood (MDLM; Campbell et al., 2022);
            ``"ce"``, the cross-entropy of the letters that are not known; ``"score_entropy"``
            (SEDD), whose network answers with ratios of probabilities.
        output: With uniform or marginal noise, what the network's output means: ``"bayes"``, what
            the *other* letters say, to which the known likelihood of the noisy letter is added, or
            ``"logits"`` of the clean letter.
        drop: Probability that the network is not told a label.
    """

    kind: Literal["elbo", "ce", "score_entropy"] = "elbo"
    output: Literal["bayes", "logits"] = "bayes"
    drop: float = 0.1

    def __post_init__(self) -> None:
        require("loss.drop", 0 <= self.drop <= 1, self.drop, "a probability")


@dataclass(frozen=True)
class SequenceSampling:
    """How samples are drawn.

    Attributes:
        solver: ``"ancestral"`` (bridge of the prediction), ``"flow"`` (discrete flow matching),
            ``"euler"`` or ``"tau"`` (frozen reverse rates), and for absorbing noise
            ``"first_hitting"`` (masks one after the other in random order, exact with as many
            steps as letters), ``"confident"`` (the surest first) or ``"remdm"`` (letters are
            masked again).
        steps: Network calls.
        distortion: How the uniform grid of times is bent, see :mod:`graphdiff.core.times`.
        eta: Stochasticity of ``"flow"`` and ``"remdm"``.
        temperature: Of the predicted letters: below 1 likelier ones are preferred, 0 takes the
            likeliest.
        jitter: Randomness of the order of ``"confident"``.
    """

    solver: Literal["ancestral", "flow", "first_hitting", "remdm", "confident", "euler", "tau"] = (
        "ancestral"
    )
    steps: int = 128
    distortion: Literal["identity", "polydec", "polyinc", "cos", "revcos"] = "identity"
    eta: float = 0.0
    temperature: float = 1.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        require("sample.steps", self.steps >= 1, self.steps, "at least 1")
        for name in ("eta", "temperature", "jitter"):
            value = getattr(self, name)
            require(f"sample.{name}", 0 <= value < float("inf"), value, "at least 0")
        possible = self.solver != "remdm" or self.eta <= 1
        require("sample.eta", possible, self.eta, "at most 1 with the solver 'remdm'")

    def with_overrides(self, overrides: dict[str, Any]) -> SequenceSampling:
        """A copy with some fields replaced.

        Raises:
            ConfigError: An override is unknown or out of range.
        """
        from graphdiff.config import with_settings

        return with_settings(self, overrides)


@dataclass(frozen=True)
class MdlmConfig:
    """Everything that builds and samples a model of token strings.

    Attributes:
        data: What is trained on.
        noise: How letters are corrupted.
        model: Network.
        loss: What training minimises.
        sample: Sampler.
        kind: Always ``"mdlm"``.
        seed: Seed of the initialisation.
    """

    data: SequenceData
    noise: SequenceNoise = field(default_factory=SequenceNoise)
    model: DilatedConfig | TransformerConfig = field(default_factory=DilatedConfig)
    loss: SequenceLoss = field(default_factory=SequenceLoss)
    sample: SequenceSampling = field(default_factory=SequenceSampling)
    kind: Literal["mdlm"] = "mdlm"
    seed: int = 0

    def __post_init__(self) -> None:
        check_solver(self.sample, self.noise)
        ratios = self.loss.kind == "score_entropy"
        told = not ratios or self.noise.kind == "absorbing" or self.model.time
        require("model.time", told, self.model.time, "true: ratios depend on the clock")


def check_solver(sample: SequenceSampling, noise: SequenceNoise) -> None:
    """Refuse a solver that needs other noise.

    Raises:
        ConfigError: The solver needs absorbing noise.
    """
    if sample.solver in ABSORBING_ONLY and noise.kind != "absorbing":
        expected = f"'absorbing' with the solver {sample.solver!r}"
        require("noise.kind", False, noise.kind, expected)
