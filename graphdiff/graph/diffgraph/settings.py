"""What a latent diffusion between two views is: schedule, chain and network, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from graphdiff.core.errors import ArgumentError
from graphdiff.core.plan import DDIM
from graphdiff.core.process import Product
from graphdiff.core.program import Solver
from graphdiff.core.sampler import Sampler
from graphdiff.core.schedule import Cosine, Schedule
from graphdiff.core.times import Times
from graphdiff.graph.diffgraph.process import LinearVariance, PosteriorMean, Start, ViewProcess

__all__ = ["VIEW", "Corrupts", "DenoiserConfig"]

Corrupts = Literal["target", "source"]
VIEW = "z"
"""Name of the component that is diffused."""


@dataclass(frozen=True)
class DenoiserConfig:
    """What a latent diffusion between two views is.

    Attributes:
        schedule: ``"cosine"``, or ``"linear-variance"`` as published.
        steps: Network calls of the sampler.
        start: Where the reverse chain begins, see :class:`ViewProcess`.
        begin: Clock at which it begins.
        corrupts: What is noised in training, see the module docstring.
        told: Whether the network is shown the source beside its noisy input.
        published_steps: Steps of the published schedule, ``T``.
        noise_scale: ``s`` of the published schedule.
        hidden: Width of the hidden layers.
        layers: Number of hidden layers.
        time_dim: Width of the sinusoidal embedding of time, even.
        dropout: On the noisy input, in training.
        normalise: Whether the noisy input is divided by its length first, as published.
        residual: Whether the answer is the source, each coordinate times a learnt factor (1 at the
            start), plus the perceptron (0 at the start).
    """

    schedule: Literal["cosine", "linear-variance"] = "cosine"
    steps: int = 8
    start: Start = "noise"
    begin: float = 1.0
    corrupts: Corrupts = "target"
    told: bool = True
    published_steps: int = 200
    noise_scale: float = 1e-4
    hidden: int = 128
    layers: int = 1
    time_dim: int = 16
    dropout: float = 0.0
    normalise: bool = False
    residual: bool = False

    def __post_init__(self) -> None:
        if self.schedule not in ("cosine", "linear-variance"):
            raise ArgumentError(
                f"schedule is {self.schedule!r}, expected 'cosine' or 'linear-variance'"
            )
        if self.corrupts not in get_args(Corrupts):
            raise ArgumentError(f"corrupts is {self.corrupts!r}, expected 'target' or 'source'")
        if self.steps < 1 or self.layers < 1 or self.hidden < 1:
            raise ArgumentError(
                f"steps is {self.steps}, layers {self.layers}, hidden {self.hidden}; expected 1 or "
                "more"
            )
        if self.time_dim < 2 or self.time_dim % 2:
            raise ArgumentError(f"time_dim is {self.time_dim}, expected an even number from 2 on")
        if not 0 <= self.dropout < 1:
            raise ArgumentError(f"dropout is {self.dropout}, expected a number in [0, 1)")
        if self.residual and not self.told:
            raise ArgumentError("residual adds the source, which told=False hides; set told=True")
        if self.corrupts == "target" and not self.told and self.start == "noise":
            raise ArgumentError(
                "the source is neither noised nor shown nor started from, so nothing of it is "
                "used; set told=True, or corrupts='source'"
            )

    @classmethod
    def plain(cls, **shape: Any) -> DenoiserConfig:
        """One call on the source itself, the ablation of diffusion.

        The clock is all but zero (noise of 0.5 %), in training and in use.

        Args:
            shape: ``hidden``, ``layers``, ``dropout``, ... of the network.
        """
        return cls(steps=1, start="source", begin=1e-3, corrupts="source", **shape)

    @classmethod
    def published(cls, steps: int | None = None, *, T: int = 200, noise_scale: float = 1e-4,
                  dim: int = 64) -> DenoiserConfig:  # fmt: skip
        """The settings of the released code; ``steps=1`` gives the same answers in one call.

        Args:
            steps: ``None`` for all ``T`` calls of the published chain, or 1.
            T: 200; 150 for Retail Rocket.
            noise_scale: 1e-4, or 1e-5 for node classification.
            dim: Width of the embeddings, which is that of the hidden layer.
        """
        return cls(
            "linear-variance", T if steps is None else steps, "source", corrupts="source",
            told=False, published_steps=T, noise_scale=noise_scale, hidden=dim, time_dim=8,
            dropout=0.5, normalise=True,
        )  # fmt: skip

    @property
    def noise(self) -> Schedule:
        """The schedule."""
        if self.schedule == "cosine":
            return Cosine()
        return LinearVariance(self.published_steps, self.noise_scale)

    def sampler(self) -> Sampler:
        """Process, solver and grid.

        Raises:
            ArgumentError: Steps do not fit the published schedule (1 or all).
        """
        process = ViewProcess(self.noise, weighting="x0", start=self.start, begin=self.begin)
        return Sampler(Product({VIEW: process}), self._solver(), self._times())

    def _solver(self) -> Solver:
        return PosteriorMean() if self.schedule == "linear-variance" else DDIM()

    def _times(self) -> Times:
        if self.schedule == "cosine":
            return Times.at([self.begin * (1 - i / self.steps) for i in range(self.steps + 1)])
        T = self.published_steps
        if self.steps == 1:  # the call at t = 0, which all the others wait for
            return Times.at([1 / T, 0.0])
        if self.steps != T or self.begin != 1:
            raise ArgumentError(
                f"the published schedule has {T} steps from clock 1, found steps={self.steps} and "
                f"begin={self.begin}; set steps={T} or 1"
            )
        return Times.at([i / T for i in range(T, -1, -1)])
