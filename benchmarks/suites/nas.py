r"""Neural architectures: generation, search, latency, predictors; NAS-Bench-201 and its tables.

* ``generation``: 1,024 samples of each generator; validity, uniqueness, share outside of the
  training half. ``unique`` is counted by encodings, as the paper does: 1,024 independent uniform
  draws of 15,625 cells hold 96.8 % different ones, and no sampler of independent cells exceeds it.
* ``search``: evaluations until the optimum of the table is found, 30 seeds (those on which
  settings were chosen are not among them), median and quartiles;
  runs that spend their budget count as the budget. ``nag`` starts from nothing; ``nag, meta`` from
  the published 4,630 (task, architecture, accuracy) triples, which no baseline sees, so both are
  compared with the baselines, and the checks name which one is meant.
* ``latency``: hypervolume of accuracy and latency after 100 evaluations, reference the worst
  accuracy and the highest latency of the table, in units of the box that they and the best values
  span.
* ``predictors``: rank correlation on architectures that were not asked for, clean and at five noise
  levels, after 50, 100 and 400 answers, five seeds.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _kept import kept, work_folder
from _nas import MODEL, front, one, tools

TITLE = "Neural architectures under a predictor's guidance (DiffusionNAG): NAS-Bench-201"
DATASETS = ("cifar10", "cifar100", "imagenet16_120")
BUDGETS = {
    "nag, meta": 300, "nag": 300, "bananas": 1000, "local": 4000, "evolution": 4000,
    "random": 15_625,
}  # fmt: skip
DEVICES = ("fpga", "pixel3", "raspi4", "gold_6226", "1080ti_1")
SEEDS, FRONT_SEEDS, FRONT_BUDGET = 30, 5, 100
FIRST = 100  # settings of the surrogate were chosen with seeds 0 to 9
SAMPLES = 1024
# An et al. (2024), as counted by its successors: validity, uniqueness, novelty in %.
PUBLISHED = {"valid": 0.9897, "unique": 0.9870, "novel": 0.4920}


def run(quick: bool, out: Path) -> dict[str, Any]:
    """All tables; rows that are in the work folder already are not measured again."""
    folder = out if quick else work_folder("nas")
    seeds = 1 if quick else SEEDS
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for dataset in DATASETS[: 1 if quick else None]:
            for method in BUDGETS:
                make = lambda d=dataset, m=method: _search_row(pool, d, m, seeds, quick)  # noqa: E731
                rows.append(kept(folder, f"search-{dataset}-{method}", make))
        fronts = []
        for device in DEVICES[: 1 if quick else None]:
            make = lambda d=device: _front_row(pool, d, quick)  # noqa: E731
            fronts.append(kept(folder, f"front-{device}", make))
    generation = [kept(folder, "generation", lambda: _generation(64 if quick else SAMPLES))]
    predictors = [kept(folder, "predictors", lambda: _predictors(quick))]
    return {
        "table": _short(rows),
        "search": [{**row, "curves": [_steps(curve) for curve in row["curves"]]} for row in rows],
        "fronts": fronts,
        "generation": generation,
        "predictors": predictors,
        "checks": _checks(rows, fronts, generation, quick),
        "published": PUBLISHED,
        "seeds": seeds,
    }


def _steps(curve: list[float]) -> str:
    """A curve of best values as text, ``evaluation:value`` where it rises and at its end."""
    last = len(curve)
    rises = [k for k in range(last) if k in (0, last - 1) or curve[k] > curve[k - 1]]
    return " ".join(f"{k + 1}:{curve[k]:g}" for k in rises)


def _curve(text: str) -> NDArray[np.float64]:
    """The inverse of :func:`_steps`."""
    pairs = [(int(k), float(v)) for k, _, v in (word.partition(":") for word in text.split())]
    found = np.zeros(pairs[-1][0])
    for k, value in pairs:
        found[k - 1 :] = value
    return found


def _short(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    shown = ("dataset", "method", "seeds", "budget", "median", "low", "high", "found", "first")
    return [{name: row[name] for name in (*shown, "cpu_each")} for row in rows]


# -- search -----------------------------------------------------------------------------------


def _search_row(
    pool: ProcessPoolExecutor, dataset: str, method: str, seeds: int, quick: bool
) -> dict[str, Any]:
    budget = 14 if quick else BUDGETS[method]
    jobs = [pool.submit(one, dataset, method, seed, budget) for seed in range(FIRST, FIRST + seeds)]
    each = [job.result() for job in jobs]
    asked = np.array([run["asked"] for run in each])
    low, middle, high = np.quantile(asked, (0.25, 0.5, 0.75))
    row = {
        "dataset": dataset, "method": method, "seeds": seeds, "budget": budget,
        "median": float(middle), "low": float(low), "high": float(high),
        "found": float(np.mean([run["found"] for run in each])),
        "first": float(np.median([run["first"] for run in each])),
        "ms_per_sample": float(np.median([run["ms"] for run in each])),
        "cpu_each": float(np.mean([run["cpu"] for run in each])),
        "asked": asked.tolist(), "curves": [run["curve"] for run in each],
    }  # fmt: skip
    print(
        f"{dataset} {method}: {middle:.0f} ({low:.0f} to {high:.0f})", file=sys.stderr, flush=True
    )
    return row


# -- latency ----------------------------------------------------------------------------------


def _front_row(pool: ProcessPoolExecutor, device: str, quick: bool) -> dict[str, Any]:
    from graphdiff.graph.nag.pareto import hypervolume

    budget, seeds = (14, 1) if quick else (FRONT_BUDGET, FRONT_SEEDS)
    methods = ("nag", "nsga2", "random")
    jobs = {m: [pool.submit(front, device, m, s, budget) for s in range(seeds)] for m in methods}
    row: dict[str, Any] = {"device": device, "budget": budget, "seeds": seeds}
    for method, runs in jobs.items():
        found = [run.result() for run in runs]
        row[method] = float(np.mean(found))
        row[f"{method}_range"] = [min(found), max(found)]
    table = tools()[0]
    value, late = table.metrics["cifar100"], table.metrics[f"latency:{device}"]
    whole = np.stack([-value, late], 1)
    box = float((value.max() - value.min()) * (late.max() - late.min()))
    row["table"] = hypervolume(whole, (-float(value.min()), float(late.max()))) / box
    print(f"{device}: {row}", file=sys.stderr, flush=True)
    return row


# -- generation and predictors ----------------------------------------------------------------


def _generation(n: int) -> dict[str, Any]:
    """Validity, uniqueness, novelty and time of the generator, free and guided."""
    import graphdiff
    from graphdiff.graph.nag.problem import Problem, names
    from graphdiff.graph.nag.search import Acquisition, Generator

    model = graphdiff.load(MODEL)
    space, training = model.task.space, model.task.data()  # type: ignore[attr-defined]
    known = set(names(training.archs))
    generator = Generator(model)
    generator(64, 1)
    generator.made, generator.seconds = 0, 0.0
    raw = generator(n, 0)
    valid = space.valid(raw)
    made = names(raw[valid])
    row: dict[str, Any] = {
        "model": MODEL, "n": n, "valid": float(valid.mean()),
        "unique": len(set(made)) / len(made),
        "novel": float(np.mean([name not in known for name in made])),
        "uniform_unique": 15625 * (1 - (1 - 1 / 15625) ** n) / n,
        "ms_free": 1000 * generator.seconds / generator.made,
    }  # fmt: skip
    table, _, told = tools()
    problem = Problem(space, lambda archs: table.value("cifar10", archs))
    generator.made, generator.seconds = 0, 0.0
    generator(n // 4, 0, Acquisition(problem, lambda views, archs: told(views)))
    row["ms_guided"] = 1000 * generator.seconds / generator.made
    return row


def _predictors(quick: bool) -> dict[str, Any]:
    """Rank correlations of the process and of the noise-aware network."""
    from scipy.stats import spearmanr

    import graphdiff
    from graphdiff.graph.nag.predictor import fit_predictor
    from graphdiff.graph.nag.surrogate import GaussianProcess

    table, _, told = tools()
    config = graphdiff.load(MODEL).task.config
    found: dict[str, Any] = {"noise_levels": [0.1, 0.3, 0.5, 0.7, 0.9]}
    sizes, seeds = ((50,), 1) if quick else ((50, 100, 400), 5)
    for dataset in DATASETS[: 1 if quick else None]:
        value = table.metrics[dataset]
        prior = told(table.space.features(table.archs))
        found[f"{dataset} experience"] = float(spearmanr(prior, value).statistic)
        for q in sizes:
            lines: dict[str, list[float]] = {}
            for seed in range(seeds):
                rng = np.random.default_rng(seed)
                order = rng.permutation(len(value))
                known, held = order[:q], order[q : q + 3000]
                rest, asked = table.archs[held], table.archs[known]
                process = GaussianProcess(table.space.features(asked), value[known], lift=False)
                mean = process.predict(table.space.features(rest))[0]
                lines.setdefault("process", []).append(spearmanr(mean, value[held]).statistic)
                net = fit_predictor(
                    config, asked, value[known], steps=60 if quick else 400, seed=seed
                )
                lines.setdefault("network", []).append(spearmanr(net(rest), value[held]).statistic)
                for t in found["noise_levels"]:
                    noisy = _noisy(net, rest, t, seed)
                    lines.setdefault(f"network at {t}", []).append(
                        spearmanr(noisy, value[held]).statistic
                    )
            for name, values in lines.items():
                found[f"{dataset} {q} {name}"] = [float(np.mean(values)), float(np.std(values))]
    return found


def _noisy(predictor: Any, archs: Any, t: float, seed: int) -> Any:
    """Predictions of corrupted architectures."""
    import torch

    from graphdiff.core.rng import Key
    from graphdiff.graph.nag.build import encode

    ids = torch.arange(len(archs))
    clean = encode(predictor.space, archs, ids, continuous=predictor.continuous)
    clock = torch.full((len(archs),), t)
    noisy = predictor.process.corrupt(clean, clock, Key(seed, ids))
    with torch.no_grad():
        return predictor.standard(noisy.values, clock).numpy()


def _checks(
    rows: list[dict[str, Any]],
    fronts: list[dict[str, Any]],
    generation: list[dict[str, Any]],
    quick: bool,
) -> list[dict[str, Any]]:
    made = generation[0]
    checks = [
        ("valid", made["valid"], ">= 0.999", made["valid"] >= 0.999),
        ("unique", made["unique"], f">= {PUBLISHED['unique']}", made["unique"] >= 0.987),
        ("novel", made["novel"], f">= {PUBLISHED['novel']}", made["novel"] >= 0.492),
        ("ms per guided architecture", made["ms_guided"], "<= 10", made["ms_guided"] <= 10),
    ]
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        by = {row["method"]: row for row in rows if row["dataset"] == dataset}
        best = min((m for m in by if not m.startswith("nag")), key=lambda m: by[m]["median"])
        for method in ("nag, meta", "nag"):
            gain = by[best]["median"] / by[method]["median"]
            name = f"{dataset}: evaluations of {best} over those of {method}"
            checks.append((name, gain, ">= 2", gain >= 2))
    won = sum(row["nag"] > row["nsga2"] for row in fronts)
    checks.append(("devices with more hypervolume than NSGA-II", won, ">= 4 of 5", won >= 4))
    return [
        {"name": name, "value": value, "wanted": wanted, "passed": quick or bool(passed)}
        for name, value, wanted, passed in checks
    ]


def draw(record: dict[str, Any], path: Path) -> Path:
    """The best accuracy against evaluations, a panel for each data set."""
    from graphdiff.graph.nag.curves import draw_curves

    panels: dict[str, dict[str, list[Any]]] = {}
    goals = {}
    for row in record["search"]:
        runs = [_curve(text) for text in row["curves"]]
        panels.setdefault(row["dataset"], {})[row["method"]] = runs
        goals[row["dataset"]] = max(
            goals.get(row["dataset"], 0.0), max(float(run[-1]) for run in runs)
        )
    return draw_curves(panels, path, goals=goals, label="best test accuracy, %")


if __name__ == "__main__":
    source, goal = sys.argv[1:3]
    draw(json.loads(Path(source).read_text("utf-8")), Path(goal))
