r"""Predictors of a number of an architecture, noisy or clean, and what guidance makes of them.

A noise-aware predictor :math:`f(x_t, t)` is trained on corrupted architectures with the value of
the clean one (An et al., 2024, equation 6),

.. math:: \min_f E_{t, x_0, x_t}\bigl[(f(x_t, t) - y(x_0))^2\bigr] ,

so that it estimates :math:`E[y \mid x_t]`. Of continuous types the guided score is
:math:`\nabla \log p_t + \lambda \nabla f(x_t, t)`, hence, by Tweedie's formula, the guided clean
data :math:`\hat x_0 + \lambda \sigma_t^2 \alpha_t^{-1} \nabla f`. Of classes, the prediction of
place ``i`` is tilted by what each class would change to first order (as in TAG, Nisonoff et al.,
2024, arXiv 2406.01572),

.. math:: \log p(x_0^i = k \mid x_t) + \lambda \bigl(\partial_{ik} f - \partial_{i, x_t^i} f\bigr).

``f`` is standardised; the published scales of its continuous guidance are in the units of its
targets, see :func:`sweep`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import Parameter

from graphdiff.core.checks import classes_of
from graphdiff.core.denoiser import Denoiser
from graphdiff.core.errors import ArgumentError
from graphdiff.core.gaussian import Gaussian, like
from graphdiff.core.process import Product
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.graph.nag.build import build_process, channels, encode
from graphdiff.graph.nag.config import NAGConfig
from graphdiff.graph.nag.space import Architectures, SearchSpace
from graphdiff.graph.nag.spaces import find_space
from graphdiff.graph.nets.directed import DirectedGCN

__all__ = ["NoisyGuide", "Predictor", "PredictorReward", "fit_predictor", "minimise", "sweep"]


@dataclass(frozen=True)
class Predictor:
    """A trained predictor.

    Attributes:
        net: The network.
        space: Of its architectures.
        process: Noise that it knows.
        mean: Mean of the values it was trained on.
        std: Their standard deviation.
    """

    net: DirectedGCN
    space: SearchSpace
    process: Product
    mean: float
    std: float

    @property
    def continuous(self) -> bool:
        """Whether types are numbers."""
        return isinstance(self.process["ops"], Gaussian)

    def standard(self, values: Mapping[str, Tensor], t: Tensor, task: Tensor | None = None) -> Any:
        """Standardised predictions ``[b]``, differentiable in weights (or numbers) of the types.

        Args:
            values: ``ops`` as classes, class weights ``[b, n, K]`` or numbers, and ``adj``.
            t: Clock ``[b]``.
            task: Codes of tasks, if it was trained with some.
        """
        ops = values["ops"]
        if not ops.is_floating_point():
            ops = nn.functional.one_hot(ops, classes_of(self.process["ops"]) or 0).float()
        if self.space.wiring is not None:
            wires = torch.from_numpy(self.space.wiring).to(ops.device)
        else:
            adj = values["adj"]
            wires = (adj + 1).clamp(0, 2) / 2 if self.continuous else _there(adj)
            wires = wires.triu(1)
        return self.net(ops, wires, t.to(ops.dtype), task).squeeze(-1)

    def __call__(self, archs: Architectures, task: Tensor | None = None) -> NDArray[np.float64]:
        """Predicted values ``[m]`` of clean architectures, in the units of training."""
        device = next(self.net.parameters()).device
        found = []
        with torch.no_grad():
            for start in range(0, len(archs), 1024):
                part = archs[start : start + 1024]
                ids = torch.arange(len(part))
                clean = encode(self.space, part, ids, continuous=self.continuous).to(device)
                clock = torch.zeros(len(part), device=device)
                codes = None if task is None else task[start : start + 1024]
                found.append(self.standard(clean.values, clock, codes).double().cpu())
        values: NDArray[np.float64] = torch.cat(found).numpy() * self.std + self.mean
        return values


def _there(adj: Tensor) -> Tensor:
    return adj[..., 1] if adj.ndim == 4 else (adj == 1).float()


def fit_predictor(
    config: NAGConfig,
    archs: Architectures,
    values: NDArray[np.float64],
    *,
    noisy: bool = True,
    steps: int = 500,
    batch: int = 256,
    lr: float = 1e-3,
    task: Tensor | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int], None] | None = None,
    **shape: Any,
) -> Predictor:
    """Train a predictor.

    Args:
        config: Of the generator whose noise it is to know.
        archs: ``m`` architectures.
        values: Their values ``[m]``.
        noisy: Whether it sees noisy architectures; without, only clean ones.
        steps: Of Adam.
        batch: Architectures of a step, drawn with replacement.
        lr: Learning rate, cosine to zero.
        task: Codes of tasks ``[m, c]``.
        seed: Of initialisation, batches and noise.
        device: Where to train.
        progress: Called after every step with what is done and all.
        **shape: Of :class:`graphdiff.graph.nets.directed.DirectedGCN`.

    Raises:
        ArgumentError: Nothing to learn from, or values that are not finite.
    """
    if len(archs) < 2 or len(archs) != len(values) or not np.isfinite(values).all():
        raise ArgumentError(
            f"a predictor needs at least two architectures with finite values, found {len(archs)} "
            f"architectures and {len(values)} values ({int((~np.isfinite(values)).sum())} of them "
            "not finite)"
        )
    space, process = find_space(config.data.space), build_process(config)
    continuous = config.noise.continuous
    wide = channels(space) if continuous else len(space.types) + (config.noise.kind == "absorbing")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = DirectedGCN(wide, task=0 if task is None else task.shape[1], **shape).to(device)
        mean, std = float(values.mean()), float(values.std()) or 1.0
        made = Predictor(net, space, process, mean, std)
        goal = torch.from_numpy((values - mean) / std).float().to(device)
        clean = encode(space, archs, torch.arange(len(archs)), continuous=continuous).to(device)
        codes = None if task is None else task.to(device)

        def loss(key: Key, pick: Tensor) -> Tensor:
            some = clean.select(pick)
            t = key.at(stream="time").uniform(1)[:, 0] * float(noisy)
            seen = State(some.values, some.masks, key.ids)
            seen = process.corrupt(seen, t.clamp(min=1e-5), key) if noisy else seen
            told = None if codes is None else codes[pick]
            return (made.standard(seen.values, t, told) - goal[pick]).square().mean()

        ids = torch.arange(batch, device=device)
        minimise(loss, net.parameters(), len(archs), ids, steps, lr, seed, progress)
    net.eval().requires_grad_(False)
    return made


def minimise(
    loss: Callable[[Key, Tensor], Tensor],
    parameters: Iterable[Parameter],
    examples: int,
    ids: Tensor,
    steps: int,
    lr: float,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Adam with a cosine schedule on batches that are drawn with replacement.

    Args:
        loss: Of the noise of a step and the numbers of its examples ``[b]``.
        parameters: What is trained.
        examples: Number of examples.
        ids: ``0 .. b - 1``, on the device of the examples.
        steps: Updates.
        lr: Learning rate at the start; zero at the end.
        seed: Of batches and noise.
        progress: Called after every step with what is done and all.
    """
    optimizer = torch.optim.Adam(parameters, lr)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for k in range(steps):
        key = Key(seed, ids, step=k)
        pick = (key.at(stream="pick").uniform(1, torch.float64)[:, 0] * examples).long()
        optimizer.zero_grad()
        loss(key, pick).backward()
        optimizer.step()
        plan.step()
        if progress is not None:
            progress(k + 1, steps)


class NoisyGuide(nn.Module):
    """A denoiser steered by the gradient of a noise-aware predictor; see the module docstring.

    Args:
        denoiser: Whose predictions are tilted.
        predictor: Trained for the same noise.
        scale: The factor of the gradient; 0 is the denoiser itself.
        sign: 1 to raise the value, -1 to lower it.
    """

    def __init__(
        self, denoiser: Denoiser, predictor: Predictor, scale: float, sign: int = 1
    ) -> None:
        super().__init__()
        if predictor.continuous != isinstance(denoiser.process["ops"], Gaussian):
            raise ArgumentError(
                "the predictor was trained for another noise than the generator's; fit it with the "
                "generator's config"
            )
        self.denoiser, self.predictor = denoiser, predictor.net
        self._told, self.scale = predictor, float(scale) * sign

    @property
    def process(self) -> Product:
        """Noise of the components."""
        return self.denoiser.process

    def forward(self, state: State, t: Tensor, cond: Any = None) -> dict[str, Tensor]:
        """Tilted clean data of every component."""
        answer: dict[str, Tensor] = self.denoiser(state, t, cond)
        if not self.scale:
            return answer
        clock = torch.as_tensor(t).reshape(-1).expand(state.batch_size).float()
        gradients = self._gradients(state, clock)
        found = dict(answer)
        for name, slope in gradients.items():
            part = self.process[name]
            if isinstance(part, Gaussian):
                alpha, sigma = part.schedule.alpha(clock), part.schedule.sigma(clock)
                gain = like(sigma**2 / alpha, slope)
                found[name] = answer[name] + self.scale * gain * slope
            else:
                here = state[name]
                if not here.is_floating_point():
                    slope = slope - slope.gather(-1, here.unsqueeze(-1))
                found[name] = answer[name] + self.scale * slope.to(answer[name])
        return found

    def _gradients(self, state: State, t: Tensor) -> dict[str, Tensor]:
        """Derivatives of the standardised prediction by each component."""
        values = {}
        for name in self.process.names:
            x = state[name]
            if not x.is_floating_point():
                x = nn.functional.one_hot(x, classes_of(self.process[name]) or 0).float()
            values[name] = x.detach().requires_grad_()
        with torch.enable_grad():
            total = self._told.standard(values, t).sum()
            slopes = torch.autograd.grad(total, list(values.values()), allow_unused=True)
        return {
            name: torch.zeros_like(x) if slope is None else slope
            for (name, x), slope in zip(values.items(), slopes, strict=True)
        }


@dataclass(frozen=True)
class PredictorReward:
    """Predicted values of finished samples, differentiable in class weights.

    Attributes:
        predictor: The predictor.
        name: For tables.
    """

    predictor: Predictor
    name: str = "predicted"
    differentiable: bool = True

    def __call__(self, state: State) -> Tensor:
        """Standardised predictions ``[b]``, float64."""
        clock = torch.zeros(state.batch_size, device=state.device)
        found: Tensor = self.predictor.standard(state.values, clock)
        return found.double()


def sweep(start: float = 10_000.0, step: float = 300.0, rounds: int = 20) -> Iterator[float]:
    """Scales of continuous guidance as published: large ones first, lowered round by round.

    They are meant for predictions in units of a hundred standard deviations, as the published
    targets are: a standardised predictor takes a hundredth of them.
    """
    for k in range(rounds):
        yield max(start - k * step, 0.0)
