r"""Guidance and tuners against the enumerated optimum, on measured binding landscapes.

TFBind8 holds the binding of transcription factors to all 65,536 DNA words of eight letters. The
base model has the exact conditionals of a known law, and reveals one letter a step, so that its
chain has that law; what is tuned is a table of values, which can hold any law
(:mod:`_landscape`). So nothing but a method, its budget and its bias keeps it from the target
:math:`p^* \propto p_{ref}\, e^{r/\alpha}`. Laws are summed over all words: distances have no
sampling error. At ``alpha`` 0.5 every factor is a target; at 0.1, where the target is far and
narrow, the first one, for all methods. Guided samples have no law: the share of their rewards in
bins of equal mass under :math:`p^*` is compared, beside that of as many draws of :math:`p^*` itself
(the floor).

``mlp`` is a multilayer perceptron that is trained on words drawn from :math:`p^*`: what a network
of that kind costs, however it is tuned. Two mutations of published code run beside the tuners and
must fail: a divergence that is zero at hard states, and particles whose tilted steps are not
normalised.
"""

from __future__ import annotations

import copy
import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _exact_guidance import guided, normaliser, say
from _exact_target import Landscape, Smooth
from _kept import kept, plain, work_folder

TITLE = "Guidance and tuners against the enumerated optimum on TFBind8"
FACTORS = ("SIX6", "CRX", "GFI1B", "ISX")
WIDE, NARROW, BATCH = 0.5, 0.1, 2048
DIRECT_BATCH = 512  # a differentiated chain costs about ten plain ones
EVERYWHERE = ("ddpo", "wdce", "drakes")
ALSO = ("wdce-plain",)  # as published: beside the same with a baseline
ONCE = ("smc", "vidd", "sdpo", "grpo", "rwr", "drakes-release", "drakes-no-kl")


def run(quick: bool, out: Path) -> dict[str, Any]:
    """All of it; rows that are in the work folder already are not computed again."""
    lands = _landscapes(quick)
    rows: list[dict[str, Any]] = []
    folder = out if quick else work_folder("exact-reward")
    for land in lands:
        rows.append(_row(land, "base", land.base, 0, 0.0))
        methods = ("mlp", *EVERYWHERE, *ALSO, *(ONCE if land.alpha == NARROW else ()))
        for method in methods[: 4 if quick else None]:
            name = f"{land.name}-{land.alpha:g}-{method}"
            rows.append(kept(folder, name, lambda m=method, at=land: _trained(at, m, quick)))
    # Where the weights are heavy the rate is not yet that of many particles: the wide target.
    errors = normaliser(lands[-1 if quick else 1], quick)
    return {
        "table": plain(rows),
        "rows": [{k: v for k, v in row.items() if k != "curve"} for row in rows],
        "curves": [row for row in rows if row.get("curve")],
        "guided": guided(lands[0], quick),
        "normaliser": errors,
        "checks": _checks(rows, errors, quick),
        "steps": lands[0].words.length,
        "batch": BATCH,
        "direct_batch": DIRECT_BATCH,
        "seed": 0,
    }


def _landscapes(quick: bool) -> list[Landscape]:
    """The narrow target of the first factor, then the wide ones of all."""
    from _landscape import Conditionals, ValueTable, Words, markov_law

    from graphdiff.data import load

    words = Words()
    law = markov_law(words)
    net = ValueTable(Conditionals(words, law))
    base = words.law(net)
    say(f"base model: TV {float((base - law).abs().sum() / 2):.1e} from its law")
    found = []
    for alpha, names in ((NARROW, FACTORS[:1]), (WIDE, FACTORS[: 0 if quick else None])):
        for name in names:
            values = torch.from_numpy(load("tfbind8", factor=name).values["binding"].copy())
            found.append(Landscape(name, words, values.double(), net, base, alpha))
    return found


def _row(
    land: Landscape, method: str, law: Tensor, iterations: int, seconds: float, **more: Any
) -> dict[str, Any]:
    row = {"factor": land.name, "alpha": land.alpha, "method": method, "iterations": iterations}
    row |= land.scores(law)
    row["cpu_seconds"] = round(seconds, 1)
    say(
        f"{land.name} at {land.alpha:g}, {method}: TV {row['tv']:.3f}, reward {row['reward']:.3f} "
        f"({seconds:.0f} s)"
    )
    return {**row, **more}


def _trained(land: Landscape, method: str, quick: bool) -> dict[str, Any]:
    return _mlp(land, quick) if method == "mlp" else _tuned(land, method, quick)


def _mlp(land: Landscape, quick: bool) -> dict[str, Any]:
    """A perceptron trained on the target itself."""
    from _landscape import WordNet

    torch.manual_seed(0)
    net, began, steps = WordNet(land.words), time.process_time(), 20 if quick else 2000
    net.fit(land.target, steps)
    return _row(land, "mlp", land.words.law(net), steps, time.process_time() - began)


def _settings(method: str, alpha: float) -> tuple[Any, int, float]:
    """Configuration, iterations and learning rate."""
    from graphdiff.finetune.config import TuneConfig

    whole: dict[str, Any] = {"truncate": 0, "picked": 0}
    made: Mapping[str, tuple[dict[str, Any], int, float]] = {
        "ddpo": ({"picked": 0}, 500, 0.1),
        "wdce": ({"repeats": 16, "baseline": 0.9}, 500, 0.02 if alpha == WIDE else 0.05),
        "wdce-plain": ({"repeats": 4}, 800, 0.02),
        "drakes": (whole, 250, 0.1),
        "drakes-release": ({**whole, "temperature": 1.0, "kl": "drakes-release"}, 250, 0.1),
        "drakes-no-kl": ({**whole, "kl": "none"}, 250, 0.1),
        "smc": ({"group": 32, "repeats": 4}, 200, 0.03),
        "vidd": ({"repeats": 4, "picked": 0}, 100, 0.1),
        "sdpo": ({"group": 32}, 200, 0.1),
        "grpo": ({"group": 32, "picked": 0}, 200, 0.1),
        "rwr": ({"repeats": 4}, 100, 0.03),
    }
    settings, iterations, lr = made[method]
    name, temperature = method.split("-")[0], 0.5 if method == "grpo" else alpha
    return TuneConfig(name, temperature, **settings), iterations, lr  # type: ignore[arg-type]


def _tuned(land: Landscape, method: str, quick: bool) -> dict[str, Any]:
    """Tune, and the law along the way."""
    from graphdiff.finetune.rollout import Tuned

    config, iterations, lr = _settings(method, land.alpha)
    iterations = 4 if quick else iterations
    words, net = land.words, copy.deepcopy(land.net)
    tuned = Tuned(config, words.sampler, words.denoiser(net), words.denoiser(land.net))
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
        optimizer.step()
        seconds += time.process_time() - began
        if k in marks and not quick:
            curve.append([k, land.scores(words.law(net))["tv"]])
    tuned.reference.requires_grad_(True)
    law = words.law(net)
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

    ids = torch.arange(DIRECT_BATCH if tuned.config.method in DIRECT else BATCH)
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
        """Bound of the negative log-likelihood."""
        from _landscape import any_order_loss

        letters, own = self.land.words.letters, key.at(stream="order")
        return {"tokens": any_order_loss(denoiser.net, letters, clean["tokens"], own)}


def _checks(
    rows: list[dict[str, Any]], errors: list[dict[str, Any]], quick: bool
) -> list[dict[str, Any]]:
    """What the suite must show."""
    checks = []

    def check(name: str, value: float, wanted: str, passed: bool) -> None:
        checks.append({"name": name, "value": value, "wanted": wanted, "passed": quick or passed})

    for row in rows:
        if row["method"] in EVERYWHERE:
            name = f"{row['factor']}, alpha {row['alpha']:g}: {row['method']}: TV to the optimum"
            check(name, row["tv"], "<= 0.05", row["tv"] <= 0.05)
    first = rows[0]["factor"]
    by = {(row["factor"], row["method"]): row for row in rows if row["alpha"] == NARROW}
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


def draw(record: dict[str, Any], path: Path) -> Path:
    """Distance to the optimum over iterations, and what each method earns for its divergence."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(16, 4), constrained_layout=True)
    for axis, alpha in zip(axes, (WIDE, NARROW), strict=False):
        rows = [row for row in record["table"] if row["alpha"] == alpha]
        start = {row["factor"]: row["tv"] for row in rows if row["method"] == "base"}
        mine = [row for row in record["curves"] if row["alpha"] == alpha]
        colour = {m: f"C{k}" for k, m in enumerate(dict.fromkeys(row["method"] for row in mine))}
        named = set()
        for row in mine:
            points = [[0, start[row["factor"]]], *row["curve"], [row["iterations"], row["tv"]]]
            method = row["method"]
            label = None if method in named else method
            named.add(method)
            axis.plot(
                *zip(*points, strict=True), "o-", markersize=3, color=colour[method], label=label
            )
        for row in rows:
            if row["method"] == "mlp" and row["factor"] == FACTORS[0]:
                axis.axhline(row["tv"], color="0.4", linewidth=0.8, label="perceptron on p*")
        axis.axhline(0.05, color="0.7", linewidth=0.8)
        axis.set(
            xlabel="iterations",
            yscale="log",
            title=f"alpha {alpha:g}, {len(start)} factor{'s' * (len(start) > 1)}",
        )
        axis.legend(fontsize=6)
    axes[0].set(ylabel="total variation to p*")
    for row in rows:
        axes[2].plot(row["kl_to_base"], row["reward"], "o")
        axes[2].annotate(row["method"], (row["kl_to_base"], row["reward"]), fontsize=7)
    axes[2].set(xlabel=f"KL to the base model, nats (alpha {NARROW:g})", ylabel="mean reward")
    for method in dict.fromkeys(e["method"] for e in record["normaliser"]):
        mine = [e for e in record["normaliser"] if e["method"] == method]
        axes[3].plot([e["particles"] for e in mine], [e["rmse"] for e in mine], "o-", label=method)
    axes[3].set(xscale="log", yscale="log", xlabel="particles", ylabel="error of the normaliser")
    counts = sorted({e["particles"] for e in record["normaliser"]})
    axes[3].set_xticks(counts, [str(n) for n in counts])
    axes[3].set_xticks([], minor=True)
    axes[3].legend(fontsize=7)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


if __name__ == "__main__":
    source, goal = sys.argv[1:3]
    draw(json.loads(Path(source).read_text("utf-8")), Path(goal))
