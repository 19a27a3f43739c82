r"""A denoiser of node embeddings that is told another view of the node.

One sample of the process is one node, its state a vector :math:`x \in \mathbb R^d`. The network
answers in clean data, :math:`\hat z = D_\theta(x_u, u, c)`, where :math:`z` is the target embedding
and :math:`c` the source view. Two trainings are offered:

* ``corrupts="target"``: diffusion of the target given the source,
  :math:`x_u = \alpha_u z + \sigma_u \varepsilon`, the source a condition. The chain samples from
  the noise of the process. This is the real one.
* ``corrupts="source"``: as published (Li et al., 2025, arXiv 2501.02313), the *source* is noised
  and mapped to the target, :math:`x_u = \alpha_u c + \sigma_u \varepsilon`, and the chain begins
  at the source. With the published schedule this is a residual perceptron on the source, see
  :mod:`graphdiff.graph.diffgraph.process`.

Both are the same few objects of the core: a process, a denoiser in the :math:`x_0` parametrisation
and a :class:`~graphdiff.core.sampler.Sampler`, which owns the loop.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from graphdiff.core.denoiser import X0, Denoiser
from graphdiff.core.errors import ArgumentError
from graphdiff.core.plan import DDIM
from graphdiff.core.process import Product
from graphdiff.core.program import Solver
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler
from graphdiff.core.schedule import Cosine, Schedule
from graphdiff.core.state import State
from graphdiff.core.times import Times
from graphdiff.graph.diffgraph.process import (
    LinearVariance,
    PosteriorMean,
    Start,
    ViewProcess,
    published_weights,
)

__all__ = ["DenoiserConfig", "Estimate", "HeteroDenoiser", "LatentMLP"]

Corrupts = Literal["target", "source"]
VIEW = "z"
SOURCE = "source"


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


class LatentMLP(nn.Module):
    r"""A perceptron on the noisy vector, the sinusoids of time and, if told, the source view.

    Published form (one hidden layer, not told): :math:`W_2 \tanh(W_1 [x / \lVert x \rVert; e(t)])`
    with :math:`e(t)` a linear map of ``[cos, sin]`` of :math:`t\,10^{-4k/m}`.

    Args:
        dim: Width ``d`` of the embedding.
        source: Width of the source view, 0 if it is not shown.
        config: Shape.
        steps: Factor of the clock; the embedded number is ``steps * u - 1``, which is the published
            step number.
    """

    rates: Tensor

    def __init__(self, dim: int, source: int, config: DenoiserConfig, steps: float) -> None:
        super().__init__()
        self.steps, self.normalise, self.source = float(steps), config.normalise, source
        half = config.time_dim // 2
        rates = torch.exp(-math.log(10_000) * torch.arange(half) / half)
        self.register_buffer("rates", rates, persistent=False)
        self.time = nn.Linear(config.time_dim, config.time_dim)
        self.drop = nn.Dropout(config.dropout)
        widths = [dim + source + config.time_dim] + [config.hidden] * config.layers
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.out = nn.Linear(config.hidden, dim)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0, math.sqrt(2 / sum(layer.weight.shape)))
                nn.init.normal_(layer.bias, 0, 1e-3)
        self.gain = nn.Parameter(torch.ones(dim)) if config.residual else None
        if config.residual:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(
        self, values: Mapping[str, Tensor], label: Tensor, masks: Mapping[str, Tensor],
        cond: Any = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Clean data ``[b, d]`` of :data:`VIEW`, from ``values`` ``[b, d]`` and clock ``[b]``."""
        x = values[VIEW]
        if self.normalise:
            x = nn.functional.normalize(x, dim=-1)
        angle = (self.steps * label - 1)[:, None] * self.rates
        parts = [self.drop(x), self.time(torch.cat([angle.cos(), angle.sin()], -1))]
        if self.source:
            parts.append(cond[SOURCE])
        h = torch.cat(parts, -1)
        for layer in self.hidden:
            h = torch.tanh(layer(h))
        made = self.out(h)
        return {VIEW: made if self.gain is None else made + self.gain * cond[SOURCE]}


class Estimate(NamedTuple):
    """A training draw: predicted targets ``[n, d]`` and the loss of each node ``[n]``."""

    target: Tensor
    loss: Tensor


class HeteroDenoiser(nn.Module):
    """Maps source views of nodes to target embeddings, by diffusion.

    Args:
        dim: Width of the target embedding.
        source: Width of the source view; equal to ``dim`` where the chain begins at it or the
            source is corrupted.
        config: What the diffusion is.
        seed: Of the initial weights.

    Raises:
        ArgumentError: Widths do not fit, or the steps do not fit the schedule.
    """

    def __init__(self, dim: int, source: int, config: DenoiserConfig, seed: int = 0) -> None:
        super().__init__()
        same = config.corrupts == "source" or config.start != "noise" or config.residual
        if same and source != dim:
            raise ArgumentError(
                "the source view is noised, started from or added, so its width must be that of "
                f"the target; found {source} and {dim}"
            )
        self.config, self.dim, self.source = config, dim, source
        self.sampler = config.sampler()
        self.sampler.compile()
        published = isinstance(config.noise, LinearVariance)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            scale = config.published_steps if published else 1000.0
            net = LatentMLP(dim, source if config.told else 0, config, scale)
        self.denoiser = Denoiser(net, self.sampler.process, {VIEW: X0()})
        weights = (
            published_weights(config.noise) if isinstance(config.noise, LinearVariance) else None
        )
        self.register_buffer("weights", weights, persistent=False)

    @property
    def network_calls(self) -> int:
        """Network calls of :meth:`sample`."""
        return self.sampler.network_calls

    def estimate(self, target: Tensor, source: Tensor, key: Key) -> Estimate:
        """One training draw: noise a view at a random time, predict the target from it.

        Gradients flow to both views, as published; detach what must not learn.

        Args:
            target: ``[n, d]``.
            source: ``[n, c]``.
            key: Noise; one id for each node, another ``step`` for every draw.

        Raises:
            ArgumentError: Shapes do not fit.
        """
        self._check(source)
        if target.shape != (len(source), self.dim):
            raise ArgumentError(
                f"target has shape {list(target.shape)}, expected {[len(source), self.dim]}"
            )
        t, weight = self._times(key, target)
        dirty = source if self.config.corrupts == "source" else target
        clean = State({VIEW: dirty}, ids=key.ids)
        noisy = self.sampler.process.corrupt(clean, t, key)
        x0 = self.denoiser(noisy, t, self._cond(source))[VIEW]
        error = self.sampler.process[VIEW].loss(x0, target, noisy[VIEW], t, None)
        return Estimate(x0, weight * error)

    def sample(self, source: Tensor, *, seed: int = 0, ids: Tensor | None = None,
               grad: bool = False) -> Tensor:  # fmt: skip
        """Targets ``[n, d]`` by the reverse chain, :attr:`network_calls` calls of the network.

        Args:
            source: ``[n, c]``.
            seed: Of all noise.
            ids: Numbers of the nodes, int64 ``[n]``, that choose the noise; by default in order.
            grad: Record gradients.

        Raises:
            ArgumentError: Shapes do not fit, or the network answers with numbers that are not
                finite.
        """
        self._check(source)
        if ids is None:
            ids = torch.arange(len(source), device=source.device)
        begin = source if source.shape[1] == self.dim else source.new_zeros(len(source), self.dim)
        template = State({VIEW: begin}, ids=ids)
        made: Tensor = self.sampler(
            self.denoiser, template, seed=seed, cond=self._cond(source), grad=grad
        )[VIEW]
        return made

    def _times(self, key: Key, like: Tensor) -> tuple[Tensor, Tensor]:
        """Clock and loss weight ``[n]`` of a training draw."""
        unit = key.at(stream="time").uniform(1)[:, 0]
        if isinstance(self.weights, Tensor):
            index = (unit * len(self.weights)).long()
            clock = (index + 1) / len(self.weights)
            return clock.to(like), self.weights.to(like.dtype)[index]
        if self.config.steps == 1:  # asked at one time only
            unit = torch.ones_like(unit)
        return (self.config.begin * unit).to(like), torch.ones_like(unit, dtype=like.dtype)

    def _cond(self, source: Tensor) -> dict[str, Tensor] | None:
        return {SOURCE: source} if self.config.told else None

    def _check(self, source: Tensor) -> None:
        if source.dim() != 2 or source.shape[1] != self.source:
            raise ArgumentError(
                f"source has shape {list(source.shape)}, expected [n, {self.source}]"
            )
