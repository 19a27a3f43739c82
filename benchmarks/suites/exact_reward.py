r"""Guidance and tuners against the enumerated optimum, on measured binding landscapes.

TFBind8 holds the binding of transcription factors to all 65,536 DNA words of eight letters. A small
masked model is fitted to a known law; the law of its chain, of every tuned model and of the target
:math:`p^* \propto p_{ref}\, e^{r/\alpha}` is summed over all words (:mod:`_landscape`), so that
distances have no sampling error. Guided samples have no such law: the share of their rewards in
bins of equal mass under :math:`p^*` is compared, beside that of as many draws of :math:`p^*` itself
(the floor).

``chain`` has the exact conditionals of :math:`p^*`: what it misses is due to the steps, in which
letters are drawn independently. ``network`` is the same network trained on words drawn from
:math:`p^*`: what a tuner of such a network can hope for. Two mutations of published code run beside
the tuners and must fail: a divergence that is zero at hard states, and particles whose tilted steps
are not normalised.
"""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent))

TITLE = "Guidance and tuners against the enumerated optimum on TFBind8"
FACTORS = ("SIX6", "CRX", "GFI1B", "ISX")
ALPHA, STEPS, BATCH = 0.1, 64, 512
EVERYWHERE = ("ddpo", "wdce", "drakes")
ONCE = ("smc", "vidd", "sdpo", "grpo", "rwr", "drakes-release", "drakes-no-kl")
GUIDES = ("best", "smc", "twisted", "svdd", "gilc")


@dataclass
class Landscape:
    """A factor: rewards of all words, the base model and its target.

    Attributes:
        name: Of the factor.
        words: The words.
        reward: Reward of each.
        net: The base network.
        base: Law of its chain.
    """

    name: str
    words: Any
    reward: Tensor
    net: Any
    base: Tensor

    @property
    def target(self) -> Tensor:
        """The optimum."""
        weight = self.base * (self.reward / ALPHA).exp()
        return weight / weight.sum()

    @property
    def best(self) -> float:
        """The greatest ``E[r] - alpha KL``: ``alpha`` times the log of the normaliser."""
        return ALPHA * float((self.base * (self.reward / ALPHA).exp()).sum().log())

    def black(self, state: Any) -> Tensor:
        """Reward of finished words."""
        return self.reward[self.words.number(state["tokens"])]

    def scores(self, law: Tensor) -> dict[str, float]:
        """Distances of a law from the target, and what it earns."""
        target, gain = self.target, float(law @ self.reward)
        kept = law > 0
        kl = float((law[kept] * (law[kept] / self.base[kept]).log()).sum())
        off = float((target * (target / law.clamp(min=1e-300)).log()).sum())
        start = float(self.base @ self.reward)
        return {
            "tv": float((law - target).abs().sum() / 2),
            "kl_to_target": off,
            "reward": gain,
            "kl_to_base": kl,
            "regret": (self.best - (gain - ALPHA * kl)) / (self.best - start),
        }


@dataclass(frozen=True)
class Smooth:
    """The reward of one-hot words, whose derivative is the reward of each other letter."""

    land: Landscape
    differentiable: bool = True

    def __call__(self, state: Any) -> Tensor:
        """Reward ``[b]``; the derivative is that of the multilinear function of the weights."""
        weights = state["tokens"][..., :-1].double()
        words, word = self.land.words, weights.detach().argmax(-1)
        power = words.letters ** torch.arange(words.length - 1, -1, -1)
        other = torch.arange(words.letters) - word.unsqueeze(-1)
        near = words.number(word)[:, None, None] + other * power[:, None]
        return (self.land.reward[near] * (weights - weights.detach())).sum((1, 2)) + (
            self.land.reward[words.number(word)]
        )


def run(quick: bool, out: Path) -> dict[str, Any]:
    """All of it; ``quick`` takes one factor and few iterations."""
    lands = _landscapes(quick)
    rows: list[dict[str, Any]] = []
    for number, land in enumerate(lands):
        rows.append(_row(land, "base", land.base, 0, 0.0))
        rows.append(_chain(land))
        rows.append(_network(land, quick))
        methods = (*EVERYWHERE, *(ONCE if number == 0 else ()))
        rows += [_tuned(land, method, quick) for method in methods[: 3 if quick else None]]
    guided = _guided(lands[0], quick)
    errors = _particles(lands[0], quick)
    return {
        "table": [{k: v for k, v in row.items() if k != "curve"} for row in rows],
        "curves": [row for row in rows if row.get("curve")],
        "guided": guided,
        "normaliser": errors,
        "checks": _checks(rows, errors, quick),
        "alpha": ALPHA,
        "steps": STEPS,
        "batch": BATCH,
        "seed": 0,
    }


def _landscapes(quick: bool) -> list[Landscape]:
    from _landscape import WordNet, Words, markov_law

    from graphdiff.data import load

    words = Words()
    torch.manual_seed(0)
    net, law = WordNet(words), markov_law(words)
    net.fit(law, 100 if quick else 1000)
    base = words.law(net, STEPS)
    _say(f"base model: TV {float((base - law).abs().sum() / 2):.3f} from the law it was fitted to")
    found = []
    for name in FACTORS[: 1 if quick else None]:
        values = load("tfbind8", factor=name).values["binding"]
        found.append(Landscape(name, words, torch.from_numpy(values.copy()), net, base))
    return found


def _row(
    land: Landscape, method: str, law: Tensor, iterations: int, seconds: float, **more: Any
) -> dict[str, Any]:
    row = {"factor": land.name, "method": method, "iterations": iterations, **land.scores(law)}
    row["cpu_seconds"] = round(seconds, 1)
    _say(f"{land.name} {method}: TV {row['tv']:.3f}, reward {row['reward']:.3f} ({seconds:.0f} s)")
    return {**row, **more}


def _chain(land: Landscape) -> dict[str, Any]:
    """The chain with the exact conditionals of the target."""
    from _landscape import Conditionals

    net, began = Conditionals(land.words, land.target), time.process_time()
    return _row(land, "chain", land.words.law(net, STEPS), 0, time.process_time() - began)


def _network(land: Landscape, quick: bool) -> dict[str, Any]:
    """The base network trained on the target itself."""
    net, began = copy.deepcopy(land.net), time.process_time()
    net.fit(land.target, 20 if quick else 600)
    law = land.words.law(net, STEPS)
    return _row(land, "network", law, 600, time.process_time() - began)


def _settings(method: str) -> tuple[Any, int, float]:
    """Configuration, iterations and learning rate."""
    from graphdiff.finetune.config import TuneConfig

    made: Mapping[str, tuple[Any, int, float]] = {
        "ddpo": (TuneConfig("ddpo", ALPHA, picked=8), 150, 2e-3),
        "wdce": (TuneConfig("wdce", ALPHA, repeats=4), 150, 2e-3),
        "drakes": (TuneConfig("drakes", ALPHA, truncate=0, picked=0), 80, 2e-3),
        "drakes-release": (
            TuneConfig(
                "drakes", ALPHA, temperature=1.0, kl="drakes-release", truncate=0, picked=0
            ),
            80, 2e-3,
        ),
        "drakes-no-kl": (TuneConfig("drakes", ALPHA, kl="none", truncate=0, picked=0), 80, 2e-3),
        "smc": (TuneConfig("smc", ALPHA, group=32, repeats=4), 100, 2e-3),
        "vidd": (TuneConfig("vidd", ALPHA, repeats=4, picked=8), 60, 2e-3),
        "sdpo": (TuneConfig("sdpo", ALPHA, group=32), 100, 2e-3),
        "grpo": (TuneConfig("grpo", 0.5, group=32, picked=8), 100, 2e-3),
        "rwr": (TuneConfig("rwr", ALPHA, repeats=4), 50, 2e-3),
    }  # fmt: skip
    return made[method]


def _tuned(land: Landscape, method: str, quick: bool) -> dict[str, Any]:
    """Tune, and the law along the way."""
    from graphdiff.finetune.rollout import Tuned

    config, iterations, lr = _settings(method)
    iterations = 4 if quick else iterations
    words, net = land.words, copy.deepcopy(land.net)
    tuned = Tuned(config, words.sampler(STEPS), words.denoiser(net), words.denoiser(land.net))
    tuned.reference.requires_grad_(False)
    optimizer = torch.optim.Adam(net.parameters(), lr)
    curve, seconds = [], 0.0
    marks = {iterations // 8, iterations // 4, iterations // 2}
    for k in range(iterations):
        began = time.process_time()
        optimizer.param_groups[0]["lr"] = lr * (1 - k / iterations)
        losses = _losses(land, tuned, k)
        optimizer.zero_grad()
        sum(v.mean() for v in losses.values()).backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        seconds += time.process_time() - began
        if k in marks and not quick and land.name == FACTORS[0]:
            curve.append([k, land.scores(words.law(net, STEPS))["tv"]])
    tuned.reference.requires_grad_(True)
    law = words.law(net, STEPS)
    return _row(land, method, law, iterations, seconds, curve=curve)


def _losses(land: Landscape, tuned: Any, k: int) -> dict[str, Tensor]:
    """One iteration of a method, with fresh chains."""
    from graphdiff.core.rng import Key
    from graphdiff.finetune.config import DIRECT, POLICY
    from graphdiff.finetune.direct import direct_losses
    from graphdiff.finetune.policy import policy_losses
    from graphdiff.finetune.rollout import roll
    from graphdiff.finetune.stepwise import sdpo_losses, vidd_losses
    from graphdiff.finetune.weighted import smc_losses, weighted_losses

    ids = torch.arange(BATCH)
    template, key = land.words.template(ids), Key(1, ids, step=k)
    method, task = tuned.config.method, _Losses(land)
    if method in DIRECT:
        return direct_losses(tuned, template, Smooth(land), k, key)[0]
    if method == "smc":
        return smc_losses(task, tuned, template, land.black, k, key)[0]  # type: ignore[arg-type]
    if method == "sdpo":
        return sdpo_losses(tuned, template, land.black, k, key)[0]
    rollout = roll(tuned.sampler, tuned.denoiser, template, land.black, k, paths=method == "wdce")
    if method in POLICY:
        return policy_losses(tuned, rollout, key)
    if method == "vidd":
        return vidd_losses(tuned, rollout, land.black, key)
    return weighted_losses(task, tuned, rollout, key)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Losses:
    """What the base model was trained by."""

    land: Landscape

    def losses(self, denoiser: Any, clean: Any, key: Any) -> dict[str, Tensor]:
        """Continuous-time bound of the negative log-likelihood."""
        product = self.land.words.product
        t = key.at(stream="time").uniform(1).squeeze(1).clamp(min=1e-3)
        noisy = product.corrupt(clean, t, key)
        return product.loss(denoiser(noisy, t), clean, noisy, t)


# -- guidance -------------------------------------------------------------------------------------


def _guided(land: Landscape, quick: bool) -> list[dict[str, Any]]:
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
        _say(f"{method} x{particles}: reward {float(each.mean()):.3f}, bins TV {spread:.3f}")

    generator = torch.Generator().manual_seed(1)
    add("p*", 1, torch.multinomial(target, n, True, generator=generator), 0.0)
    for method in GUIDES:
        for particles in (1,) if method == "gilc" else (4, 16):
            guide = Guide(land.black, method, particles, ALPHA)  # type: ignore[arg-type]
            chain, began = guide.chain(land.words.sampler(STEPS)), time.process_time()
            with torch.no_grad():
                parts = [chain(denoiser, land.words.template(i), seed=0) for i in ids.split(512)]
            number = torch.cat([land.words.number(p["tokens"]) for p in parts])
            add(method, particles, number, time.process_time() - began)
    return rows


def _shares(reward: Tensor, edges: Tensor, law: Tensor) -> Tensor:
    """Mass of a law in each bin of rewards."""
    place = torch.bucketize(reward, edges)
    return torch.zeros(len(edges) + 1, dtype=torch.float64).index_add_(0, place, law)


def _particles(land: Landscape, quick: bool) -> list[dict[str, Any]]:
    """Relative error of the normaliser against the number of particles, and of the mutation."""
    from graphdiff.core import steer, walk
    from graphdiff.core.steer import SMC
    from graphdiff.core.tilt import PolicyTilt

    truth = math.exp(land.best / ALPHA)
    denoiser, rows = land.words.denoiser(land.net), []
    sampler = land.words.sampler(STEPS)
    tilt = PolicyTilt(sampler.process, land.black, 1 / ALPHA, 8)
    kinds: dict[str, Callable[[int], SMC]] = {
        "smc": lambda k: SMC(sampler, land.black, k, ALPHA),
        "twisted": lambda k: SMC(sampler, land.black, k, ALPHA, None, tilt),
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
            _say(f"{name} x{k}: normaliser {float(ratio.mean()):.3f} of the truth")

    for kind in kinds:
        measure(kind, kind)
    kept = walk.log_ratio
    try:  # the weight that published code leaves out
        vars(steer)["log_ratio"] = lambda step: torch.zeros_like(kept(step))
        measure("twisted without its ratio", "twisted")
    finally:
        vars(steer)["log_ratio"] = kept
    return rows


def _checks(
    rows: list[dict[str, Any]], errors: list[dict[str, Any]], quick: bool
) -> list[dict[str, Any]]:
    """What the suite must show."""
    checks = []

    def check(name: str, value: float, wanted: str, passed: bool) -> None:
        checks.append({"name": name, "value": value, "wanted": wanted, "passed": quick or passed})

    for row in rows:
        if row["method"] in EVERYWHERE:
            name = f"{row['factor']}: {row['method']}: TV to the optimum"
            check(name, row["tv"], "<= 0.05", row["tv"] <= 0.05)
    by = {(row["factor"], row["method"]): row for row in rows}
    first = rows[0]["factor"]
    right = by[first, "drakes"]["kl_to_target"] if (first, "drakes") in by else math.nan
    for wrong in ("drakes-release", "drakes-no-kl"):
        if (first, wrong) in by:  # it may stay at the base model or run away: both are far
            found = by[first, wrong]["kl_to_target"]
            wanted = f"> {2 * right:.2f}"
            check(f"{first}: {wrong} misses the optimum (KL)", found, wanted, found > 2 * right)
    for method in ("smc", "twisted"):
        mine = [e for e in errors if e["method"] == method]
        ends = mine[0], mine[-1]
        slope = math.log(ends[1]["rmse"] / ends[0]["rmse"]) / math.log(
            ends[1]["particles"] / ends[0]["particles"]
        )
        check(
            f"{method}: slope of the error in particles",
            slope,
            "-0.5 +- 0.15",
            abs(slope + 0.5) < 0.15,
        )
    wrong_rows = [e for e in errors if e["method"].startswith("twisted without")]
    z = max(abs(e["mean"] - 1) / max(e["error"], 1e-9) for e in wrong_rows)
    check("twisted without its ratio is rejected (z)", z, "> 4", z > 4)
    return checks


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def draw(record: dict[str, Any], path: Path) -> Path:
    """Distance to the optimum over iterations, and what each method earns for its divergence."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4), constrained_layout=True)
    first = record["table"][0]["factor"]
    rows = [row for row in record["table"] if row["factor"] == first]
    start = rows[0]["tv"]
    for row in record["curves"]:
        if row["factor"] == first:
            points = [[0, start], *row["curve"], [row["iterations"], row["tv"]]]
            axes[0].plot(*zip(*points, strict=True), "o-", markersize=3, label=row["method"])
    floor = next(row["tv"] for row in rows if row["method"] == "network")
    axes[0].axhline(floor, color="0.4", linewidth=0.8, label="network trained on p*")
    limit = next(row["tv"] for row in rows if row["method"] == "chain")
    axes[0].axhline(limit, color="0.7", linewidth=0.8, label="exact conditionals")
    axes[0].set(xlabel="iterations", ylabel=f"total variation to p*, {first}", yscale="log")
    axes[0].legend(fontsize=7)
    for row in rows:
        axes[1].plot(row["kl_to_base"], row["reward"], "o")
        axes[1].annotate(row["method"], (row["kl_to_base"], row["reward"]), fontsize=7)
    axes[1].set(xlabel="KL to the base model, nats", ylabel="mean reward")
    for method in dict.fromkeys(e["method"] for e in record["normaliser"]):
        mine = [e for e in record["normaliser"] if e["method"] == method]
        axes[2].plot([e["particles"] for e in mine], [e["rmse"] for e in mine], "o-", label=method)
    axes[2].set(xscale="log", yscale="log", xlabel="particles", ylabel="error of the normaliser")
    axes[2].legend(fontsize=7)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


if __name__ == "__main__":
    import json

    source, goal = sys.argv[1:3]
    draw(json.loads(Path(source).read_text("utf-8")), Path(goal))
