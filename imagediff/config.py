"""What a configuration of an image task may say, as frozen dataclasses of plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from graphdiff.core.denoiser import EDM as EDMPreconditioning
from graphdiff.core.denoiser import Eps, Parametrization, V
from graphdiff.core.errors import ConfigError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.program import Solver
from graphdiff.core.rng import Key
from graphdiff.core.schedule import EDM, VP
from graphdiff.core.times import Times

__all__ = ["EDMConfig", "ImageConfig", "SampleConfig", "UNetConfig", "VPConfig"]


def _require(good: bool, where: str, found: object, expected: str) -> None:
    if not good:
        raise ConfigError(f"config.{where}: found {found!r}, expected {expected}")


@dataclass(frozen=True)
class DataConfig:
    """What is trained on: always the training split, because the test split judges.

    Attributes:
        name: The data set.
    """

    name: Literal["digits"] = "digits"


@dataclass(frozen=True)
class UNetConfig:
    """Size of the network.

    Attributes:
        width: Channels at full resolution.
        embed: Size of the embedding of noise level and class.
        groups: Groups of the normalisations.
        class_dropout: Share of training examples whose class is hidden, so that one network also
            answers unconditionally (classifier-free guidance).
    """

    width: int = 16
    embed: int = 64
    groups: int = 4
    class_dropout: float = 0.1

    def __post_init__(self) -> None:
        _require(self.groups >= 1, "model.groups", self.groups, "at least 1")
        good = self.width >= 1 and self.width % self.groups == 0
        _require(good, "model.width", self.width, f"a positive multiple of groups={self.groups}")
        good = self.embed >= 2 and self.embed % 2 == 0
        _require(good, "model.embed", self.embed, "a positive even number")
        good = 0 <= self.class_dropout < 1
        _require(good, "model.class_dropout", self.class_dropout, "a share in [0, 1)")


@dataclass(frozen=True)
class EDMConfig:
    """Noise levels, preconditioning and loss of Karras et al., 2022 (table 1).

    Attributes:
        sigma_min: Lowest noise level.
        sigma_max: Highest noise level.
        rho: Bend of the grid of noise levels.
        data_std: Standard deviation of the pixels.
        log_sigma_mean: Mean of the log noise level in training.
        log_sigma_std: Its standard deviation.
    """

    kind: Literal["edm"] = "edm"
    sigma_min: float = 0.02
    sigma_max: float = 20.0
    rho: float = 7.0
    data_std: float = 0.75
    log_sigma_mean: float = -0.8
    log_sigma_std: float = 1.4

    def __post_init__(self) -> None:
        good = 0 < self.sigma_min < self.sigma_max
        _require(good, "process", (self.sigma_min, self.sigma_max), "0 < sigma_min < sigma_max")
        _require(self.rho >= 1, "process.rho", self.rho, "at least 1")
        _require(self.data_std > 0, "process.data_std", self.data_std, "a positive number")
        good = self.log_sigma_std > 0
        _require(good, "process.log_sigma_std", self.log_sigma_std, "a positive number")

    def process(self) -> Gaussian:
        """The noise process of the pixels."""
        schedule = EDM(sigma_min=self.sigma_min, sigma_max=self.sigma_max, rho=self.rho)
        return Gaussian(schedule, data_std=self.data_std, weighting="edm")

    def clock(self, key: Key) -> Tensor:
        """Clock of each training example, float64 ``[b]``: log-normal noise levels, clamped."""
        noise = key.normal(1, torch.float64)[:, 0]
        sigma = torch.exp(self.log_sigma_mean + self.log_sigma_std * noise)
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return ((sigma ** (1 / self.rho) - low) / (high - low)).clamp(0, 1)

    def parametrization(self) -> Parametrization:
        """What the network's output means."""
        return EDMPreconditioning()

    def times(self, steps: int) -> Times:
        """The published grid, which is uniform on this schedule's clock."""
        return Times(n=steps, kind="uniform", start=1.0, end=0.0)


@dataclass(frozen=True)
class VPConfig:
    """Variance preserving noise with a linear rate (Song et al., 2021).

    Attributes:
        beta_min: Rate at clock 0.
        beta_max: Rate at clock 1.
        prediction: ``v`` (Salimans & Ho, 2022) or ``eps`` (Ho et al., 2020).
        data_std: Standard deviation of the pixels.
        time_min: Clock where training and sampling stop; the rest is below the grey levels.
    """

    kind: Literal["vp"] = "vp"
    beta_min: float = 0.1
    beta_max: float = 20.0
    prediction: Literal["eps", "v"] = "v"
    data_std: float = 0.85
    time_min: float = 1e-3

    def __post_init__(self) -> None:
        good = 0 < self.beta_min <= self.beta_max
        _require(good, "process", (self.beta_min, self.beta_max), "0 < beta_min <= beta_max")
        _require(self.data_std > 0, "process.data_std", self.data_std, "a positive number")
        _require(0 < self.time_min < 1, "process.time_min", self.time_min, "a clock in (0, 1)")

    def process(self) -> Gaussian:
        """The noise process of the pixels."""
        schedule = VP(beta_min=self.beta_min, beta_max=self.beta_max)
        return Gaussian(schedule, data_std=self.data_std, weighting=self.prediction)

    def clock(self, key: Key) -> Tensor:
        """Clock of each training example, float64 ``[b]``: uniform from ``time_min`` to 1."""
        return self.time_min + (1 - self.time_min) * key.uniform(1, torch.float64)[:, 0]

    def parametrization(self) -> Parametrization:
        """What the network's output means."""
        return V() if self.prediction == "v" else Eps()

    def times(self, steps: int) -> Times:
        """Equal steps of the log signal-to-noise ratio."""
        return Times(n=steps, kind="log_snr", start=1.0, end=self.time_min)


@dataclass(frozen=True)
class SampleConfig:
    """How samples are drawn unless asked otherwise.

    Attributes:
        steps: Steps of the solver; all solvers but ``heun`` call the network once a step.
        solver: ``dpm-solver++`` (second order, multistep), ``unipc``, ``heun`` or ``ddim``.
        guidance: Weight of classifier-free guidance; 1 is the plain conditional model.
    """

    steps: int = 20
    solver: Literal["dpm-solver++", "unipc", "heun", "ddim"] = "dpm-solver++"
    guidance: float = 1.0

    def __post_init__(self) -> None:
        _require(self.steps >= 1, "sample.steps", self.steps, "at least 1")
        _require(self.guidance >= 0, "sample.guidance", self.guidance, "0 or more")

    def build(self) -> Solver:
        """The solver of that name."""
        from graphdiff.core.plan import DDIM, DPMSolverPP, Heun, UniPC

        if self.solver == "dpm-solver++":
            return DPMSolverPP(order=2)
        if self.solver == "unipc":
            return UniPC(order=2)
        return Heun() if self.solver == "heun" else DDIM()


@dataclass(frozen=True)
class ImageConfig:
    """Everything that rebuilds an image task.

    Attributes:
        kind: Names the task.
        seed: Seed of the initial weights.
        data: What is trained on.
        model: Size of the network.
        process: Noise process, by its ``kind``.
        sample: Defaults of sampling.
    """

    kind: Literal["image"] = "image"
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: UNetConfig = field(default_factory=UNetConfig)
    process: Annotated[EDMConfig | VPConfig, Field(discriminator="kind")] = field(
        default_factory=EDMConfig
    )
    sample: SampleConfig = field(default_factory=SampleConfig)
