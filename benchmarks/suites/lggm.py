"""LGGM: zero-shot generation, fine-tuning on few graphs, and prompts that are followed.

Zero-shot: for each held-out domain a model is trained on all others (configuration ``lggm-plain``)
and one of the same size and steps on the topologies of QM9 molecules; samples of both have the node
counts of the domain's test graphs. Fine-tuning: the first model and a fresh one are trained for the
same steps on 10, 50 and 200 graphs of the held-out domain, other graphs for each seed. Scores are
unbiased squared MMDs (``gaussian_tv``) against the domain's test split; intervals are Student's t
over seeds, each of which trains, chooses graphs and samples anew.

Prompts: the shipped model ``lggm`` is asked for low, medium and high average degree and clustering,
in wordings of its training and in others, with and without naming a domain. Levels are terciles
over *all* domains. A perfect model has a rank correlation of sqrt(8/9) = .943 between three levels
asked for and values got.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

TITLE = "LGGM: zero-shot, fine-tuning and prompts"
MODEL = "lggm"
WANTED = 0.8

Row = dict[str, Any]


def run(quick: bool, out: Path) -> dict[str, Any]:
    """Everything, or as much as ``GRAPHDIFF_BENCH_SECONDS`` allow, from the work folder on.

    The work folder is ``GRAPHDIFF_BENCH_WORK``, or a folder of the user cache; ``quick`` trains for
    four steps in ``out``.
    """
    from _kept import work_folder
    from _lggm_lab import Lab, Plan
    from _lggm_prompts import PromptPlan

    work = work_folder("lggm")
    plan, prompts = Plan(), PromptPlan()
    if quick:
        changes = ("train.steps=4", "sample.steps=2")
        plan = Plan(("road",), (0,), changes, ("road",), 2, few=(10,), samples=8, boot=5)
        prompts = PromptPlan(samples=4, steps=2, guidance=(1.0, 2.0), domains=("soc",), boot=10)
        work = out
    lab = Lab(plan, work)
    asked = prompt_rows(lab, prompts)
    shot, few = zero_shot(lab), fine_tuning(lab)
    extra = transitions(lab)
    return {
        "table": [*shot, *few, *extra, *asked],
        "checks": [*_claims(shot, few), *_prompt_checks(asked)],
        "floors": {domain: lab.floor(domain) for domain in plan.domains},
        "computations_left_out": lab.missing,
        "results_of_earlier_runs": lab.kept,
        "plan": vars(plan), "prompt_plan": vars(prompts),
        "configuration": lab.config(plan.seeds[0]),
        "corpus": {"graphs": lab.corpus.card["graphs"], "sha256": lab.corpus.card["graphs_sha256"]},
    }  # fmt: skip


# --- models without prompts -----------------------------------------------------------------------


def zero_shot(lab: Any) -> list[Row]:
    """All domains but one against QM9 topologies, by domain and metric."""
    from _lggm_lab import METRICS, compare

    ours: dict[str, list[Any]] = {d: [] for d in lab.plan.domains}
    other: dict[str, list[Any]] = {d: [] for d in lab.plan.domains}
    for seed in lab.plan.seeds:
        for domain in lab.plan.domains:
            ours[domain].append(lab.score(lab.pretrained(seed, domain), domain, seed))
            other[domain].append(lab.score(lab.pretrained(seed, None), domain, seed))
    rows = []
    for domain in lab.plan.domains:
        floor = lab.floor(domain)
        for metric in (*METRICS, "mean"):
            found = compare(ours[domain], other[domain], metric)
            least = floor.get(metric, {}).get("value")
            rows.append({"part": "zero-shot", "case": domain, "metric": metric, **found,
                         "floor": least})  # fmt: skip
    return [row for row in rows if row["seeds"]]


def fine_tuning(lab: Any) -> list[Row]:
    """Fine-tuned against trained from scratch, by domain and number of graphs."""
    from _lggm_lab import METRICS, compare

    cells = [(domain, limit) for limit in lab.plan.few for domain in lab.plan.tune_domains]
    scores: dict[tuple[str, int], tuple[list[Any], list[Any]]] = {c: ([], []) for c in cells}
    for seed in lab.plan.seeds:
        for domain, limit in cells:
            init = lab.pretrained(seed, domain)
            for init_from, into in zip((init, None), scores[domain, limit], strict=True):
                left_out = init is None
                model = None if left_out else lab.tuned(seed, domain, limit, init_from)
                into.append(lab.score(model, domain, seed))
    rows = []
    for domain, limit in cells:
        for metric in (*METRICS, "mean"):
            found = compare(*scores[domain, limit], metric)
            least = lab.floor(domain).get(metric, {}).get("value")
            rows.append({"part": "fine-tuning", "case": f"{domain}, {limit} graphs",
                         "metric": metric, **found, "floor": least})  # fmt: skip
    return [row for row in rows if row["seeds"]]


def transitions(lab: Any) -> list[Row]:
    """Marginal against uniform noise, zero-shot, on the first domain."""
    from _lggm_lab import compare

    domain = lab.plan.domains[0]
    scores: list[list[Any]] = [[], []]
    for seed in lab.plan.seeds:
        for noise, into in zip(("marginal", "uniform"), scores, strict=True):
            into.append(lab.score(lab.pretrained(seed, domain, noise), domain, seed))
    found = compare(scores[0], scores[1], "mean")
    least = lab.floor(domain).get("mean", {}).get("value")
    row = {"part": "marginal against uniform", "case": domain, "metric": "mean", **found,
           "floor": least}  # fmt: skip
    return [row] if row["seeds"] else []


def _claims(shot: list[Row], few: list[Row]) -> Iterator[Row]:
    means = [row for row in shot if row["metric"] == "mean"]
    won = sum(row["gain"] > 0 for row in means)
    yield {
        "name": "pre-trained beats QM9 topologies zero-shot (domains, mean MMD)",
        "value": f"{won} of {len(means)}",
        "wanted": "most",
        "passed": 2 * won > len(means),
    }
    single = [row for row in shot if row["metric"] != "mean"]
    for metric in dict.fromkeys(row["metric"] for row in single):
        mine = [row for row in single if row["metric"] == metric]
        won = sum(row["gain"] > 0 for row in mine)
        yield {"name": f"the same by {metric}", "value": f"{won} of {len(mine)}",
               "wanted": "most", "passed": 2 * won > len(mine)}  # fmt: skip
    cells = [row for row in few if row["metric"] == "mean"]
    won = sum(row["gain"] > 0 for row in cells)
    yield {
        "name": "fine-tuned beats scratch (domain and number of graphs, mean MMD)",
        "value": f"{won} of {len(cells)}",
        "wanted": "most",
        "passed": 2 * won > len(cells),
    }
    gains = gain_by_number(few)
    ordered = [gains[k] for k in sorted(gains)]
    yield {"name": "most at few graphs (mean gain by number of graphs)",
           "value": {k: round(gains[k], 4) for k in sorted(gains)}, "wanted": "largest at fewest",
           "passed": len(ordered) > 1 and ordered[0] == max(ordered)}  # fmt: skip


def gain_by_number(few: list[Row]) -> dict[int, float]:
    """Mean over domains of how much lower fine-tuned models score, by number of graphs."""
    found: dict[int, list[float]] = {}
    for row in few:
        if row["metric"] == "mean":
            found.setdefault(int(row["case"].split()[1]), []).append(row["gain"])
    return {limit: float(np.mean(gains)) for limit, gains in found.items()}


# --- prompts --------------------------------------------------------------------------------------


def prompt_rows(lab: Any, plan: Any) -> list[Row]:
    """Correlations of asked and got; none while no model is shipped."""
    from _lggm_prompts import STATISTICS, ask, judge

    import graphdiff
    from graphdiff.core.errors import CheckpointError

    try:
        model = graphdiff.load(os.environ.get("GRAPHDIFF_BENCH_MODEL", MODEL))
    except CheckpointError as error:
        print(f"prompts are left out: {error}", file=sys.stderr)
        return []
    cases = [(None, held_out, w) for w in plan.guidance for held_out in (False, True)]
    known = [d for d in plan.domains if d in model.task.config.data.present]
    cases += [(domain, False, 1.0) for domain in known]
    cuts = dict(zip(STATISTICS, model.task.config.data.terciles, strict=True))
    facts = {**vars(plan), "weights": _weights(model)}
    rows = []
    for domain, held_out, w in cases:
        for statistic in STATISTICS:
            where = f"{domain or 'any'}-{'held-out' if held_out else 'training'}-{w:g}"

            def make(s: str = statistic, d: Any = domain, h: bool = held_out, g: float = w) -> Any:
                return ask(model, plan, s, domain=d, held_out=h, w=g)

            name = f"prompt-{statistic}-{where}"
            values = lab.cached(name, facts | {"domain": domain, "w": w}, make)
            if values is None:
                continue
            found = judge(values, cuts[statistic], plan.boot)
            rows.append({"part": "prompts", "case": where, "metric": statistic, "seeds": 1,
                         "ours": found.pop("spearman"), "ours_interval": found.pop("interval"),
                         **found})  # fmt: skip
    return rows


def _weights(model: Any) -> str:
    """Hash of the weights."""
    parts = model.denoiser.state_dict().items()
    content = b"".join(name.encode() + part.numpy().tobytes() for name, part in sorted(parts))
    return hashlib.sha256(content).hexdigest()[:16]


def _prompt_checks(rows: list[Row]) -> Iterator[Row]:
    for row in rows:
        if not row["case"].startswith("any"):
            continue
        name = f"{row['metric']}, {row['case'].removeprefix('any-')}"
        yield {
            "name": f"rank correlation of asked and got: {name}",
            "value": row["ours"],
            "wanted": f">= {WANTED}",
            "passed": row["ours"] >= WANTED,
        }
        yield {"name": f"means rise from low to high: {name}",
               "value": [round(m, 3) for m in row["means"]], "wanted": "rising",
               "passed": row["monotone"]}  # fmt: skip


# --- picture --------------------------------------------------------------------------------------


def draw(record: dict[str, Any], path: Path) -> Path:
    """Zero-shot by domain, gain of fine-tuning by number of graphs, prompts; ``path`` is a .png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), constrained_layout=True)
    rows = record["table"]
    _draw_shots(axes[0], [r for r in rows if r["part"] == "zero-shot" and r["metric"] == "mean"])
    _draw_tuning(axes[1], [r for r in rows if r["part"] == "fine-tuning" and r["metric"] == "mean"])
    _draw_prompts(axes[2], [r for r in rows if r["part"] == "prompts"])
    for axis in axes:
        axis.grid(alpha=0.3, linewidth=0.5)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


def _error(row: Row, key: str) -> list[list[float]] | None:
    span = row.get(f"{key}_interval")
    return None if span is None else [[row[key] - span[0]], [span[1] - row[key]]]


def _draw_shots(axis: Any, rows: list[Row]) -> None:
    groups = ((-0.12, "ours", "all other domains"), (0.12, "other", "QM9 topologies"))
    for color, (shift, key, label) in enumerate(groups):
        for k, row in enumerate(rows):
            style = {"fmt": "o", "capsize": 3, "ms": 5, "color": f"C{color}"}
            axis.errorbar(
                k + shift, row[key], _error(row, key), label=None if k else label, **style
            )
    axis.plot(range(len(rows)), [r["floor"] for r in rows], "k_", ms=14, label="floor")
    axis.set(title="zero-shot", ylabel="mean unbiased MMD$^2$", xticks=range(len(rows)),
             xticklabels=[r["case"] for r in rows])  # fmt: skip
    axis.legend(fontsize=8, frameon=False)


def _draw_tuning(axis: Any, rows: list[Row]) -> None:
    domains = list(dict.fromkeys(row["case"].split(",")[0] for row in rows))
    for color, domain in enumerate(domains):
        mine = [r for r in rows if r["case"].startswith(f"{domain},")]
        limits = [int(r["case"].split()[1]) for r in mine]
        for key, style in (("ours", "o-"), ("other", "s--")):
            label = domain if key == "ours" else None
            axis.plot(limits, [r[key] for r in mine], style, color=f"C{color}", ms=4, label=label)
    axis.set(title="fine-tuned (solid), from scratch (dashed)", xscale="log", xlabel="graphs",
             ylabel="mean unbiased MMD$^2$")  # fmt: skip
    ticks = sorted({int(r["case"].split()[1]) for r in rows})
    axis.set_xticks(ticks, [str(k) for k in ticks])
    axis.minorticks_off()
    axis.set_yscale("symlog", linthresh=0.01)
    axis.legend(fontsize=8, frameon=False)


def _draw_prompts(axis: Any, rows: list[Row]) -> None:
    plain = [r for r in rows if r["case"].startswith("any")]
    for metric, color in (("degree", "C0"), ("clustering", "C1")):
        for side, style in (("training", "o-"), ("held-out", "s--")):
            mine = [r for r in plain if r["metric"] == metric and f"-{side}-" in r["case"]]
            weights = [float(r["case"].rsplit("-", 1)[1]) for r in mine]
            axis.plot(weights, [r["ours"] for r in mine], style, color=color,
                      label=f"{metric}, {side} wordings")  # fmt: skip
            for w, row in zip(weights, mine, strict=True):
                axis.plot([w, w], row["ours_interval"], color=color, linewidth=0.8)
    axis.axhline(WANTED, color="k", linewidth=0.8)
    axis.set(title="prompts", xlabel="weight of guidance", ylabel="rank correlation, asked and got",
             xticks=sorted({float(r["case"].rsplit("-", 1)[1]) for r in plain}))  # fmt: skip
    axis.legend(fontsize=8, frameon=False)


if __name__ == "__main__":
    source, target = sys.argv[1:3]
    draw(json.loads(Path(source).read_text("utf-8")), Path(target))
