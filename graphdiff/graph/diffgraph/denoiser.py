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
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from graphdiff.core.denoiser import X0, Denoiser
from graphdiff.core.errors import ArgumentError
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.graph.diffgraph.process import LinearVariance, published_weights
from graphdiff.graph.diffgraph.settings import VIEW, DenoiserConfig

__all__ = ["DenoiserConfig", "Estimate", "HeteroDenoiser", "LatentMLP"]

SOURCE = "source"


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
