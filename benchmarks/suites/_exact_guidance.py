"""Guided samples and particles against an enumerated optimum."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["guided", "normaliser", "say"]

GUIDES = ("best", "smc", "twisted", "svdd", "gilc")


def say(text: str) -> None:
    """Tell the reader of the terminal how far it is."""
    print(text, file=sys.stderr, flush=True)


def guided(land: Any, quick: bool) -> list[dict[str, Any]]:
    """Samples of every guidance: mean reward, and how their rewards are spread."""
    from graphdiff.guide import Guide

    n = 64 if quick else 4096
    ids, denoiser = torch.arange(n), land.words.denoiser(land.net)
    target, rows = land.target, []
    order = torch.argsort(land.reward)
    edge = torch.searchsorted(target[order].cumsum(0), torch.linspace(0, 1, 33)[1:-1].double())
    edges = land.reward[order][edge.clamp(max=len(order) - 1)]
    wanted = _shares(land.reward, edges, target)

    def add(method: str, particles: int, number: Tensor, seconds: float) -> None:
        found = torch.bincount(number, minlength=len(target)).double() / n
        spread = float((_shares(land.reward, edges, found) - wanted).abs().sum() / 2)
        each = land.reward[number]
        rows.append({
            "factor": land.name, "method": method, "particles": particles, "n": n,
            "reward": float(each.mean()), "error": float(each.std() / n**0.5),
            "reward_tv": spread, "distinct": len(number.unique()) / n,
            "cpu_seconds": round(seconds, 1),
        })  # fmt: skip
        say(f"{method} x{particles}: reward {float(each.mean()):.3f}, bins TV {spread:.3f}")

    generator = torch.Generator().manual_seed(1)
    add("p*", 1, torch.multinomial(target, n, True, generator=generator), 0.0)
    for method in GUIDES:
        for particles in (1,) if method == "gilc" else (4, 16):
            guide = Guide(land.black, method, particles, land.alpha)  # type: ignore[arg-type]
            chain, began = guide.chain(land.words.sampler), time.process_time()
            with torch.no_grad():
                parts = [chain(denoiser, land.words.template(i), seed=0) for i in ids.split(512)]
            number = torch.cat([land.words.number(p["tokens"]) for p in parts])
            add(method, particles, number, time.process_time() - began)
    return rows


def _shares(reward: Tensor, edges: Tensor, law: Tensor) -> Tensor:
    """Mass of a law in each bin of rewards."""
    place = torch.bucketize(reward, edges)
    return torch.zeros(len(edges) + 1, dtype=torch.float64).index_add_(0, place, law)


def normaliser(land: Any, quick: bool) -> list[dict[str, Any]]:
    """Relative error of the normaliser against the number of particles, and of the mutation."""
    from graphdiff.core import steer, walk
    from graphdiff.core.steer import SMC
    from graphdiff.core.tilt import PolicyTilt

    truth, alpha = math.exp(land.best / land.alpha), land.alpha
    denoiser, rows = land.words.denoiser(land.net), []
    sampler = land.words.sampler
    tilt = PolicyTilt(sampler.process, land.black, 1 / alpha, 8)
    kinds: dict[str, Callable[[int], SMC]] = {
        "smc": lambda k: SMC(sampler, land.black, k, alpha),
        "twisted": lambda k: SMC(sampler, land.black, k, alpha, None, tilt),
    }
    populations = 8 if quick else 384
    sizes = (2, 4) if quick else (4, 16, 64)

    def measure(name: str, kind: str) -> None:
        for k in sizes:
            with torch.no_grad():
                found = kinds[kind](k).run(
                    denoiser, land.words.template(torch.arange(populations)), seed=2
                )
            ratio = found.log_normaliser.exp() / truth
            rows.append({
                "method": name, "particles": k, "populations": populations,
                "rmse": float((ratio - 1).square().mean().sqrt()),
                "mean": float(ratio.mean()), "error": float(ratio.std() / populations**0.5),
            })  # fmt: skip
            say(f"{name} x{k}: normaliser {float(ratio.mean()):.3f} of the truth")

    for kind in kinds:
        measure(kind, kind)
    kept = walk.log_ratio
    try:  # the weight that published code leaves out
        vars(steer)["log_ratio"] = lambda step: torch.zeros_like(kept(step))
        measure("twisted without its ratio", "twisted")
    finally:
        vars(steer)["log_ratio"] = kept
    return rows
