"""Configuration of reward fine-tuning: what ``graphdiff finetune --set tune.…`` changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graphdiff.core.errors import ConfigError

__all__ = ["DIRECT", "METHODS", "POLICY", "WEIGHTED", "TuneConfig"]

POLICY = ("ddpo", "grpo")
WEIGHTED = ("wdce", "rwr", "smc", "replay")
DIRECT = ("draft", "draft-lv", "alignprop", "refl", "drakes")
METHODS = (*POLICY, "sepo", *WEIGHTED, "sdpo", "vidd", *DIRECT, "adjoint")


@dataclass(frozen=True)
class TuneConfig:
    """How a model is tuned towards ``p(x) exp(reward(x) / alpha)``.

    Attributes:
        method: ``"ddpo"`` or ``"grpo"`` (:mod:`graphdiff.finetune.policy`), ``"sepo"``
            (:mod:`graphdiff.finetune.sepo`), ``"wdce"``, ``"rwr"`` or ``"smc"``
            (:mod:`graphdiff.finetune.weighted`), ``"replay"`` (:mod:`graphdiff.finetune.replay`),
            ``"sdpo"`` or ``"vidd"`` (:mod:`graphdiff.finetune.stepwise`); with a differentiable
            reward ``"draft"``, ``"draft-lv"``, ``"alignprop"``, ``"refl"`` or ``"drakes"``
            (:mod:`graphdiff.finetune.direct`), and ``"adjoint"``
            (:mod:`graphdiff.finetune.adjoint`) for models of continuous values.
        alpha: Temperature; the smaller, the further from the base model.
        steps: Steps of the sampler while tuning; ``None`` for those of the model.
        picked: Steps of each chain that a policy gradient is taken at, or that the divergence of
            steps without a gradient is estimated from (``"drakes"``, ``"sepo"``), or that
            the control is learnt at (``"adjoint"``); 0 for all.
        group: Samples that ``"grpo"``, ``"sepo"`` and ``"sdpo"`` compare with each other, and
            particles of a population of ``"smc"``; a divisor of the batch.
        repeats: Noise levels that a weighted sample is trained at in each iteration; draws of the
            last step for ``"draft-lv"``, and of a clean sample that judges a state for ``"vidd"``.
        baseline: What is taken from the weights of ``"wdce"``, whose mean is 1: less noise, the
            same optimum; 0 is the published method.
        memory: Different samples that ``"replay"`` keeps; the lowest rewards go first.
        refresh: One in so many samples of a batch is drawn anew by ``"replay"``, the whole batch
            is replayed.
        effective: Effective number of different samples that ``"replay"`` trains on at least;
            the temperature is raised above ``alpha`` until it has them. 0 keeps ``alpha``.
        truncate: Last steps that a direct method differentiates; 0 for all.
        temperature: Of the relaxed draws of classes in a direct method; 0 takes the gradient of the
            probabilities (:mod:`graphdiff.core.soft`), published values are 0.5 and 1.
        kl: Divergence that a direct method pays for: ``"path"`` (default of ``"drakes"``),
            ``"drakes-release"`` or ``"none"`` (default of the others).
        straight_through: Whether relaxed draws are one-hot with the gradient of soft ones, or soft.
        min_distinct: The tuning stops if fewer than this share of a batch's samples are different:
            it has collapsed. 0 never stops.
        min_entropy: The same if their tokens have less entropy than this within a batch, nats, on
            average (:mod:`graphdiff.finetune.watch`). 0 never stops.
        max_kl: The tuning stops if chains are further than this from the base model, nats, on
            average over a batch; for methods that draw the present model's chains, and direct ones
            with path divergence.
        novelty: Log the share of samples that are no training example of the base model. It reads
            and decodes the whole training set once.
        dual_lr: Step size of the multipliers of constraints
            (:mod:`graphdiff.finetune.constraint`).
        solver: Solver of the sampler while tuning; ``None`` for that of the model. One whose
            steps cannot be replayed, as ``"confident"``, needs another one here.
        checkpoint: Compute the activations of differentiated steps again in the backward pass
            instead of keeping them: a third more time, the memory of one step.
        lora: Rank of the change of each matrix that is trained while the base weights stay as they
            are (:mod:`graphdiff.train.lora`); ``None`` trains all weights.
    """

    method: Literal[
        "ddpo",
        "grpo",
        "sepo",
        "wdce",
        "rwr",
        "smc",
        "replay",
        "sdpo",
        "vidd",
        "draft",
        "draft-lv",
        "alignprop",
        "refl",
        "drakes",
        "adjoint",
    ] = "wdce"
    alpha: float = 0.1
    steps: int | None = None
    picked: int = 8
    group: int = 8
    repeats: int = 4
    baseline: float = 0.0
    memory: int = 50_000
    refresh: int = 4
    effective: int = 1000
    truncate: int = 8
    temperature: float = 0.0
    kl: Literal["path", "drakes-release", "none"] | None = None
    straight_through: bool = True
    checkpoint: bool = False
    min_distinct: float = 0.25
    min_entropy: float = 0.0
    max_kl: float | None = None
    novelty: bool = False
    dual_lr: float = 0.1
    lora: int | None = None
    solver: str | None = None

    def __post_init__(self) -> None:
        self._require("method", self.method in METHODS, f"one of {', '.join(METHODS)}")
        self._require("alpha", self.alpha > 0, "positive")
        self._require("steps", self.steps is None or self.steps >= 1, "at least 1")
        self._require("picked", self.picked >= 0 and self.picked != 1, "0 (all), or at least 2")
        self._require("group", self.group >= 2, "at least 2")
        self._require("repeats", self.repeats >= 1, "at least 1")
        self._require("baseline", 0 <= self.baseline <= 1, "between 0 and 1")
        only = self.baseline == 0 or self.method == "wdce"
        self._require("baseline", only, "0: only the weights of wdce are equal at its optimum")
        self._require("memory", self.memory >= 1, "at least 1")
        self._require("refresh", self.refresh >= 1, "at least 1")
        room = 0 <= self.effective <= self.memory
        self._require("effective", room, f"between 0 and tune.memory ({self.memory})")
        self._require("truncate", self.truncate >= 0, "0 (all), or at least 1")
        self._require("temperature", self.temperature >= 0, "at least 0")
        self._require("min_distinct", 0 <= self.min_distinct <= 1, "between 0 and 1")
        self._require("max_kl", self.max_kl is None or self.max_kl > 0, "positive")
        expected = (
            "None: smc, sdpo, adjoint and direct methods without tune.kl 'path' do not measure it"
        )
        self._require("max_kl", self.max_kl is None or self.measures_distance, expected)
        self._require("min_entropy", self.min_entropy >= 0, "at least 0")
        self._require("dual_lr", 0 < self.dual_lr < float("inf"), "positive")
        rank = "None (all weights), or a rank of at least 1"
        self._require("lora", self.lora is None or self.lora >= 1, rank)
        kinds = (None, "path", "drakes-release", "none")
        self._require("kl", self.kl in kinds, "path, drakes-release or none")

    @property
    def path_kl(self) -> bool:
        """Whether the loss holds the divergence of the whole chain, times ``alpha``."""
        direct = self.method in DIRECT
        return self.method in POLICY or (
            direct and (self.kl == "path" or (self.kl is None and self.method == "drakes"))
        )

    @property
    def measures_distance(self) -> bool:
        """Whether the divergence of the present model's chains from the base model's is known."""
        return self.path_kl or self.method in ("sepo", "wdce", "rwr", "replay", "vidd")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ConfigError(f"tune.{name}: found {getattr(self, name)!r}, expected {expected}")
