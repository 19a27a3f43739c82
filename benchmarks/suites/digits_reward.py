r"""Digits tuned towards more ink: adjoint matching, DRaFT and DRAKES at equal network passes.

The reward is the mean ink of an image, 0 to 1, and the target
:math:`p^* \propto p_{ref}\, e^{r/\alpha}` is known: samples of the base model, weighted by
:math:`e^{r/\alpha}`, are samples of it (row ``target``; ``effective`` is how many they are worth).
Tuned models are drawn from by the model's own solver, not by the chain they were tuned on.

* ``reward``: mean over samples; ``gap`` its distance to the target's, in deviations of the base.
* ``distance``: Fréchet distance of nine discriminant features to the target's (row ``floor``: to
  other samples of the target).
* ``recognised``: share that a support vector machine assigns to the class that was asked for.
* ``spread``: mean distance of two images of one class, over that of the base model.
* ``nats``: divergence of memoryless chains of 40 steps from the base model's, whose least value is
  ``nats`` of the target (a divergence of laws).
* ``passes``: forward and backward passes through a network, of one batch, in the whole tuning.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

TITLE = "Digits tuned towards more ink: adjoint matching against DRaFT at equal network passes"
MODEL = "digits-vp"
ALPHA, STEPS, BATCH, PICKED = 0.02, 16, 64, 8
ROWS = (("adjoint", 1e-3), ("draft", 1e-3), ("draft", 3e-5), ("drakes", 1e-3))


@dataclass(frozen=True)
class Ink:
    """Mean ink of an image, 0 to 1."""

    name: str = "ink"
    differentiable: bool = True

    def __call__(self, state: Any) -> Tensor:
        """Reward ``[b]``."""
        return (state["pixels"].flatten(1).mean(1) + 1) / 2


@dataclass
class Passes:
    """Forward and backward passes through networks."""

    count: int = 0

    def watch(self, net: torch.nn.Module) -> None:
        """Count those of ``net`` as well."""

        def forward(module: Any, args: Any, out: Any) -> None:
            self.count += 1
            found = next(iter(out.values()))
            if found.requires_grad:
                found.register_hook(self._backward)

        net.register_forward_hook(forward)

    def _backward(self, grad: Tensor) -> None:
        self.count += 1


def sampled(model: Any, denoiser: Any, n: int) -> tuple[Tensor, Tensor]:
    """Pixels ``[n, 64]`` and classes of samples by the model's own solver."""
    ids = torch.arange(n)
    blank = model.task.template(ids, torch.ones(n), pad=1)
    with torch.no_grad():
        drawn = model.task.sampler()(denoiser.eval(), blank, seed=11)
    return drawn["pixels"].flatten(1).double(), drawn["label"]


def tuned(
    model: Any, method: str, rate: float, seed: int, budget: int
) -> tuple[Any, dict[str, Any]]:
    """A network that was tuned for ``budget`` passes, and what it took."""
    from graphdiff.core.rng import Key
    from graphdiff.finetune.adjoint import memoryless
    from graphdiff.finetune.config import TuneConfig
    from graphdiff.finetune.direct import direct_losses
    from graphdiff.finetune.rollout import Tuned
    from graphdiff.finetune.task import tuning
    from graphdiff.train import TrainConfig

    picked = PICKED if method == "adjoint" else 0
    config = TuneConfig(method, ALPHA, steps=STEPS, picked=picked, truncate=0)
    how = TrainConfig(steps=1, batch_size=BATCH, max_loss_factor=None)
    task, data = tuning(model, Ink(), config, how)
    denoiser, passes, began, k = task.build(), Passes(), time.process_time(), 0
    passes.watch(denoiser.net)
    passes.watch(task.reference.net)
    optimizer = torch.optim.Adam(denoiser.parameters(), rate)
    while passes.count < budget:
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (k + 1) / 5) * (1 - passes.count / budget)
        ids = torch.arange(k * BATCH, (k + 1) * BATCH)
        clean, key = data.batch(ids), Key(seed, ids, step=k)
        if method == "drakes":  # the model's own solver has no noise, hence no divergence
            chain = Tuned(
                config, memoryless(task.base.sampler(steps=STEPS)), denoiser, task.reference
            )
            found, _, _ = direct_losses(chain, clean, Ink(), seed * 100_003 + k, key)
        else:
            found = task.losses(denoiser, clean, key)
            del found["reward"]
        loss = sum(v.mean() for v in found.values())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimizer.step()
        k += 1
    took = time.process_time() - began
    return denoiser, {"passes": passes.count, "iterations": k, "cpu_s": round(took, 1)}


def divergence(model: Any, denoiser: Any, n: int = 512) -> float:
    """Of chains of 40 steps, nats."""
    from graphdiff.finetune.adjoint import memoryless
    from graphdiff.finetune.rollout import kernels_at

    chain = memoryless(model.task.sampler(steps=40))
    state = model.task.template(torch.arange(n), torch.ones(n), pad=1)
    total = torch.zeros(n)
    with torch.no_grad():
        before = None
        for step in chain.steps(denoiser, state, seed=12):
            if before is not None:
                mine, theirs = (
                    kernels_at(chain, d, before, step.index)["pixels"]
                    for d in (denoiser, model.denoiser)
                )
                total = total + mine.kl(theirs)
            before = step.state
    return float(total.mean())


def described(
    pixels: Tensor, labels: Tensor, weights: Tensor | None, base: Mapping[str, Any]
) -> dict[str, Any]:
    """What is told of samples; ``weights`` are those of the target."""
    from imagediff.metrics import _instruments, frechet_distance

    classifier, features, _, _ = _instruments()
    n = len(pixels)
    w = torch.full((n,), 1 / n, dtype=torch.float64) if weights is None else weights
    ink = np.rint((pixels.clamp(-1, 1).numpy() + 1) * 8)
    seen = features.transform(ink / 8 - 1)
    chosen = np.random.default_rng(0).choice(n, n, p=w.numpy() / w.numpy().sum())
    reward = (pixels.mean(1) + 1) / 2
    right = torch.from_numpy(classifier.predict(ink / 8 - 1) == labels.numpy()).double()
    row = {
        "reward": float(w @ reward),
        "recognised": float(w @ right),
        "spread": _spread(pixels[chosen], labels[chosen]),
        "features": seen[chosen],
    }
    if base:
        row["distance"] = frechet_distance(row["features"], base["features"])
        row["gap"] = (row["reward"] - base["reward"]) / base["deviation"]
    return row


def _spread(pixels: Tensor, labels: Tensor) -> float:
    """Mean distance of two images of one class."""
    found = []
    for k in range(10):
        x = pixels[labels == k][:200]
        found.append(torch.pdist(x).mean())
    return float(torch.stack(found).mean())


def target_weights(reward: Tensor, labels: Tensor) -> tuple[Tensor, float]:
    """Weights of base samples, which sum to one, and the divergence of the target, nats.

    The class is asked for, not drawn: each class has a target of its own.
    """
    weights, nats = torch.zeros_like(reward), []
    for k in range(10):
        mine = labels == k
        log_w = torch.log_softmax(reward[mine] / ALPHA, 0)
        weights[mine] = log_w.exp() / 10
        nats.append(float((log_w.exp() * (log_w + math.log(int(mine.sum())))).sum()))
    return weights, sum(nats) / 10


def run(quick: bool, out: Path) -> dict[str, Any]:
    """Base, target and tuned models."""
    import graphdiff

    n, budget, seeds = (400, 150, (0,)) if quick else (2000, 1500, (0, 1))
    model, rows = graphdiff.load(MODEL), []
    pixels, labels = sampled(model, model.denoiser, 6 * n)
    reward = (pixels.mean(1) + 1) / 2
    half = 3 * n
    weights, nats = target_weights(reward[:half], labels[:half])
    target = described(pixels[:half], labels[:half], weights, {})
    target["deviation"] = float(reward.std())
    base = described(pixels[half : half + n], labels[half : half + n], None, target)

    def add(label: str, row: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        told = {key: round(row[key], 4) for key in ("reward", "recognised")}
        told["spread"] = round(row["spread"] / base["spread"], 3)
        told |= {key: round(row.get(key, 0.0), 3) for key in ("distance", "gap")}
        rows.append({"row": label, **told, **more})
        print(rows[-1], file=sys.stderr, flush=True)
        return rows[-1]

    add("base", base, nats=0.0)
    add("target", target, nats=round(nats, 3), effective=round(float(1 / weights.square().sum())))
    again, _ = target_weights(reward[half:], labels[half:])
    add("floor", described(pixels[half:], labels[half:], again, target), nats=round(nats, 3))
    for seed in seeds:
        for method, rate in ROWS:
            denoiser, took = tuned(model, method, rate, seed, budget)
            row = described(*sampled(model, denoiser, n), None, target)
            far = round(divergence(model, denoiser), 3)
            add(method, row, rate=rate, seed=seed, nats=far, **took)
    return {"table": rows, "n": n, "alpha": ALPHA, "steps": STEPS, "batch": BATCH}
