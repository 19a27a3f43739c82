"""Defence of node classification against a poisoned graph (STABLE), with what it is compared with.

* ``table``: test accuracy in % on the graphs that Metattack poisoned, ten runs of the classifier
  (for defences with an encoder four, three and three runs on three encoders), epochs and settings
  chosen on validation; the 95 % interval is Student's over the ten runs. ``p_gcn`` and
  ``p_jaccard`` are paired tests by run, corrected for their number (Holm). Published settings of
  the defence assume that the rate of the attack is known; nothing else is told anything. For
  ``stable, nothing told`` each encoder has settings of its own, chosen on validation.
* ``edge diffusion``: our discrete diffusion of edges on the same embeddings, with the same
  classifier; the time that the graph is taken to be at is chosen on validation.
* ``attacks``: the clean graph attacked by gradient with full knowledge of a plain network, and of
  the defence; both are then trained again on each attacked graph.
* ``scale``: the whole defence at 100,000 nodes and the published width, few epochs, in a process
  of its own whose largest memory is read at the end.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _kept import extras, kept, work_folder
from _stable import (
    RUNS,
    attack_part,
    baseline_part,
    diffusion_part,
    methods,
    retrained_part,
    scale_row,
    stable_part,
    stats,
    untold_part,
)

TITLE = "Poisoned graphs and defences (STABLE): Metattack, adaptive attacks, 100,000 nodes"
GRAPHS = (
    ("cora", 0.0), ("cora", 0.05), ("cora", 0.2),
    ("citeseer", 0.0), ("citeseer", 0.05), ("citeseer", 0.2),
    ("polblogs", 0.2),
)  # fmt: skip
ATTACKS = (("cora", 0.05), ("cora", 0.2))
EXTRA = ("cora at 0", "citeseer at 0", "polblogs at 0.2", "nothing told", "attack at 0.2")
SCALE = (100_000, 512)
UNTOLD = "stable, nothing told"
SEEDS = 2  # encoders, each with three classifiers, on each attacked graph
WANTED = {
    ("cora", 0.05): 81.0, ("cora", 0.2): 77.5, ("citeseer", 0.05): 73.5, ("citeseer", 0.2): 71.5,
}  # fmt: skip
# Li et al. (2022), table 2.
PUBLISHED = {
    ("cora", 0.0): 85.58, ("cora", 0.05): 81.40, ("cora", 0.2): 77.80,
    ("citeseer", 0.0): 75.82, ("citeseer", 0.05): 74.08, ("citeseer", 0.2): 72.76,
    ("polblogs", 0.2): 88.46,
}  # fmt: skip


def run(quick: bool, out: Path) -> dict[str, Any]:
    """All rows; those that are in the work folder already are not measured again."""
    folder = out if quick else work_folder("stable")
    rows: list[dict[str, Any]] = []
    attacks: list[dict[str, Any]] = []
    left_out = [] if extras() else list(EXTRA)
    for name, rate in GRAPHS[1:2] if quick else GRAPHS:
        if f"{name} at {rate:g}" in left_out:
            continue
        rows.append(_told(_defences(folder, name, rate, quick)))
    for name, rate in ATTACKS[:1] if quick else ATTACKS:
        if f"attack at {rate:g}" in left_out:
            continue
        attacks.append(_told(_attacks(folder, name, rate, quick)))
    size, width = (2000, 16) if quick else SCALE
    scale = [_told(kept(folder, f"scale-{size}", lambda: scale_row(size, width)))]
    return {
        "table": _table(rows),
        "attack_table": _attack_table(attacks),
        "scale": scale,
        "defences": rows,
        "attacks": attacks,
        "left_out": left_out,
        "checks": _checks(rows, attacks, scale, quick),
        "published": [{"name": n, "rate": r, "accuracy": a} for (n, r), a in PUBLISHED.items()],
        "seeds": {"classifier": 10, "encoder": 3},
        "epochs": {"classifier": 200, "encoder": "until 20 epochs without a lower loss"},
    }


def _defences(folder: Path, name: str, rate: float, quick: bool) -> dict[str, Any]:
    """Every method on one poisoned graph, each part kept as soon as it is measured."""
    at = f"{name}-{rate:g}"
    found: dict[str, Any] = {}
    for method in methods(name):
        make = lambda m=method: baseline_part(name, rate, m, quick)  # noqa: E731
        found[method] = kept(folder, f"{at}-{method}", make)
    seconds = sum(part["seconds"] for part in found.values())
    parts, diffused, untold, start = [], [], [], None
    for seed in range(1 if quick else len(RUNS)):
        make = lambda k=seed: stable_part(folder, name, rate, k, quick)  # noqa: E731
        parts.append(kept(folder, f"{at}-stable-{seed}", make))
        make = lambda k=seed, s=start: diffusion_part(folder, name, rate, k, s, quick)  # noqa: E731
        diffused.append(kept(folder, f"{at}-diffusion-{seed}", make))
        start = diffused[0]["chosen"]
        if (name, rate) in WANTED and extras():
            make = lambda k=seed: untold_part(name, rate, k, quick)  # noqa: E731
            untold.append(kept(folder, f"{at}-untold-{seed}", make))
    found["stable"] = _joined([part["stable"] for part in parts])
    found["stable"]["encoder_epochs"] = [part["encoder_epochs"] for part in parts]
    for way in ("stable, both ways", "embeddings only"):
        found[way] = parts[0][way]
    if untold:
        settings = [part["chosen"] for part in untold]
        found[UNTOLD] = {**_joined(untold), "chosen": None, "settings": settings}
    found["edge diffusion"] = _joined(diffused)
    seconds += sum(part["seconds"] for part in [*parts, *diffused, *untold])
    return {"name": name, "rate": rate, "methods": found, "seconds": seconds}


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Runs of several encoders together, and the mean of each encoder."""
    return {
        "runs": [run for part in parts for run in part["runs"]],
        "encoders": [float(np.mean(part["runs"])) for part in parts],
        "val": [part["val"] for part in parts],
        "chosen": parts[0].get("chosen"),
    }


def _attacks(folder: Path, name: str, rate: float, quick: bool) -> dict[str, Any]:
    """Attacks on the plain network and on the defence, and both trained again on the outcome."""
    row: dict[str, Any] = {"name": name, "rate": rate, "attacks": {}, "seconds": 0.0}
    for victim in ("gcn", "stable"):
        at = f"attack-{name}-{rate:g}-{victim}"
        make = lambda v=victim: attack_part(folder, name, rate, v, quick)  # noqa: E731
        found = kept(folder, at, make)
        again = []
        for seed in range(1 if quick else SEEDS):
            make = lambda v=victim, k=seed: retrained_part(folder, name, rate, v, k, quick)  # noqa: E731
            again.append(kept(folder, f"{at}-{seed}", make))
        row["clean"] = found["clean"]
        trained = {w: [run for part in again for run in part[w]] for w in ("gcn", "stable")}
        row["attacks"][victim] = {**found, **trained}
        row["seconds"] += found["seconds"] + sum(part["seconds"] for part in again)
    return row


def _told(row: dict[str, Any]) -> dict[str, Any]:
    named = {key: row[key] for key in ("name", "rate", "nodes", "seconds") if key in row}
    print(f"stable: {named}", file=sys.stderr, flush=True)
    return row


def _table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from graphdiff.graph.evaluate import holm, paired

    table = []
    for row in rows:
        for method, found in row["methods"].items():
            line = {"graph": row["name"], "rate": row["rate"], "method": method}
            line |= stats(found["runs"])
            for against in ("gcn", "jaccard"):
                other = row["methods"].get(against, {"runs": []})["runs"]
                fits = method != against and len(other) == len(found["runs"]) > 1
                line[f"gain_{against}"] = None
                line[f"p_{against}"] = paired(found["runs"], other).p if fits else None
                if fits:
                    line[f"gain_{against}"] = 100 * float(np.mean(found["runs"]) - np.mean(other))
            line["chosen"] = found.get("chosen")
            table.append(line)
    for key in ("p_gcn", "p_jaccard"):
        lines = [line for line in table if line[key] is not None]
        for line, p in zip(lines, holm([line[key] for line in lines]), strict=True):
            line[key] = p
    return table


def _attack_table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    table = []
    for row in rows:
        for against, found in {"none": row["clean"], **row["attacks"]}.items():
            line = {"graph": row["name"], "rate": row["rate"], "attack_on": against}
            for trained in ("gcn", "stable"):
                line[trained] = stats(found[trained])["accuracy"]
                line[f"{trained}_low"] = stats(found[trained])["low"]
                line[f"{trained}_high"] = stats(found[trained])["high"]
                line[f"{trained}_n"] = len(found[trained])
                evasion = found.get("evasion", {}).get(trained)
                line[f"{trained}_not_retrained"] = None if evasion is None else 100 * evasion
            table.append(line)
    return table


def _mean(row: dict[str, Any], method: str) -> float:
    return 100 * float(np.mean(row["methods"][method]["runs"]))


def survival(row: dict[str, Any]) -> dict[str, float]:
    """What the defence gains over a plain network: against its attack, and against its own.

    A plain network suffers the attack made for it. The defence suffers that attack (transferred)
    or the one made for the defence, whichever hurts it more.
    """
    plain = 100 * float(np.mean(row["attacks"]["gcn"]["gcn"]))
    transferred = 100 * float(np.mean(row["attacks"]["gcn"]["stable"]))
    adaptive = 100 * float(np.mean(row["attacks"]["stable"]["stable"]))
    gain, left = transferred - plain, min(transferred, adaptive) - plain
    return {"gain": gain, "left": left, "share": left / gain if gain else float("nan")}


def _checks(
    rows: list[dict[str, Any]], attacks: list[dict[str, Any]], scale: list[dict[str, Any]],
    quick: bool,
) -> list[dict[str, Any]]:  # fmt: skip
    checks: list[tuple[str, float, str, bool]] = []
    for row in rows:
        least = WANTED.get((row["name"], row["rate"]))
        if least is not None:
            value, name = _mean(row, "stable"), f"{row['name']} {row['rate']:.0%}"
            checks.append((f"{name}: accuracy of stable", value, f">= {least}", value >= least))
            gain = value - _mean(row, "edge diffusion")
            text = f"{name}: stable less edge diffusion, points"
            checks.append((text, gain, "reported", True))
    for row in attacks:
        found = survival(row)
        text = f"{row['name']} {row['rate']:.0%}: share of the gain left by an adaptive attack"
        checks.append((text, found["share"], "reported", True))
    for row in scale:
        text = f"the whole defence at {row['nodes']:,} nodes: GiB"
        checks.append((text, row["peak_gib"], "< 4", row["peak_gib"] < 4))
    return [
        {"name": name, "value": value, "wanted": wanted, "passed": quick or bool(passed)}
        for name, value, wanted, passed in checks
    ]


def draw(record: dict[str, Any], path: Path) -> Path:
    """Accuracies of the methods on each graph, with intervals; and under the attacks."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    graphs = list(dict.fromkeys((line["graph"], line["rate"]) for line in record["table"]))
    methods = list(dict.fromkeys(line["method"] for line in record["table"]))
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), width_ratios=(3, 1.2))
    colours = plt.get_cmap("tab20")
    for k, method in enumerate(methods):
        lines = [line for line in record["table"] if line["method"] == method]
        x = [graphs.index((line["graph"], line["rate"])) + 0.07 * k - 0.35 for line in lines]
        y = [line["accuracy"] for line in lines]
        low = [line["accuracy"] - (line["low"] or line["accuracy"]) for line in lines]
        high = [(line["high"] or line["accuracy"]) - line["accuracy"] for line in lines]
        left.errorbar(x, y, (low, high), fmt="o", ms=4, color=colours(k), label=method)
    left.set_xticks(range(len(graphs)), [f"{g}\n{r:.0%}" for g, r in graphs])
    left.set(ylabel="test accuracy, %", title="Metattack")
    left.legend(fontsize=7, ncol=2)
    names = ("none", "gcn", "stable")
    for k, row in enumerate(record["attacks"]):
        lines = [
            next(
                line for line in record["attack_table"]
                if (line["graph"], line["rate"], line["attack_on"])
                == (row["name"], row["rate"], name)
            )
            for name in names
        ]  # fmt: skip
        for trained, style in (("gcn", "o--"), ("stable", "s-")):
            label = f"{trained}, {row['name']} {row['rate']:.0%}"
            y = [line[trained] for line in lines]
            right.plot(range(3), y, style, color=colours(2 * k), label=label, ms=4)
    right.set_xticks(range(3), ["no attack", "on gcn", "on stable"])
    right.set_title("attacks by gradient, retrained")
    right.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


if __name__ == "__main__":
    source, goal = sys.argv[1:3]
    draw(json.loads(Path(source).read_text("utf-8")), Path(goal))
