"""Positional encodings: counting cycles, CSL, what separates which graphs, stability, a denoiser.

* ``counting``: mean absolute errors of the numbers of 3- to 6-cycles over their standard deviation
  in the training set, by one network for all four; 1,500 graphs to train, 300 to choose the epoch,
  500 to test. ``regular`` is the half whose degrees say nothing.
* ``csl``: ten classes of 15 copies each, five folds (three to train, one to choose the epoch).
* ``separation``: pairs of non-isomorphic graphs with one code under random weights, and graphs
  whose relabelled copy has another code (which makes their separations meaningless).
* ``stability``: an edge is weakened by a share; change of the encoding in units of its spread.
* ``ablation``: DeFoG on comm20 with the published network, small and without structural features,
  with an encoding and without, equal steps. It is made by
  ``python benchmarks/suites/spe.py ablation FIRST LAST`` (seeds) and only reported here.

Rows are kept in the work folder, so that an interrupted run goes on. ``GRAPHDIFF_BENCH_SECONDS``
stops new rows after so many seconds; ``missing`` says how many are left.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _kept import kept, work_folder
from _spe import COUNTED, counting, csl_accuracy, denoiser, separated, stability, trivial

TITLE = "Positional encodings (SPE): counting cycles, CSL, sr25, stability, inside a denoiser"
SEEDS, COUNT_SEEDS, ABLATION_SEEDS = 5, 3, 2
CSL = ("none", "rwpe", "spe")
SEPARATED = ("none", "laplacian", "rwpe", "signnet", "light-spe", "spe", "spe of neighbourhoods")
STABLE = ("laplacian", "rwpe", "signnet", "light-spe", "spe")
ABLATION, ABLATION_STEPS = ("none", "spe"), 500


class _Rows:
    """Rows from the work folder; new ones as long as there is time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.missing = folder, 0
        limit = os.environ.get("GRAPHDIFF_BENCH_SECONDS")
        self._end = time.monotonic() + float(limit) if limit else float("inf")

    def __call__(
        self, name: str, make: Callable[[], dict[str, Any]], *, late: bool = False
    ) -> dict[str, Any] | None:
        """A row, or None if it is not there and either ``late`` or out of time."""
        if not (self.folder / f"row-{name}.json").exists() and (
            late or time.monotonic() > self._end
        ):
            self.missing += 1
            return None
        row = kept(self.folder, name, make)
        print(f"{name}: {row.get('cpu', 0):.1f} s", file=sys.stderr, flush=True)
        return row


def run(quick: bool, out: Path) -> dict[str, Any]:
    """All tables; rows that are in the work folder already are not measured again."""
    rows = _Rows(out if quick else work_folder("spe"))
    seeds = 1 if quick else SEEDS
    each: dict[str, list[dict[str, Any]]] = {
        "counting": [], "csl": [], "separation": [], "stability": [], "ablation": [],
    }  # fmt: skip

    def add(kind: str, name: str, make: Callable[[], dict[str, Any]], **how: bool) -> None:
        row = rows(name.replace(" ", "-"), make, **how)
        if row is not None:
            each[kind].append(row)

    for name in SEPARATED:
        for source in ("sr25", "graph8c"):
            if source == "sr25" or name != SEPARATED[-1]:
                make = lambda n=name, s=source: separated(n, s, quick)  # noqa: E731
                add("separation", f"separation-{source}-{name}", make)
    for name in STABLE:
        for kind in ("random", "symmetric"):
            for seed in range(seeds):
                make = lambda n=name, k=kind, s=seed: stability(n, k, s, quick)  # noqa: E731
                add("stability", f"stability-{kind}-{name}-{seed}", make)
    for seed in range(seeds):
        for name in COUNTED if seed < COUNT_SEEDS else ():
            make = lambda n=name, s=seed: counting(n, s, quick)  # noqa: E731
            add("counting", f"counting-{name}-{seed}", make)
        for name in CSL[-1:] if quick else CSL:
            make = lambda n=name, s=seed: csl_accuracy(n, s, quick)  # noqa: E731
            add("csl", f"csl-{name}-{seed}", make)
    simple = rows("trivial", lambda: {"rows": trivial(quick)})
    for name in ABLATION:
        for seed in range(1 if quick else ABLATION_SEEDS):
            add("ablation", f"ablation-{name}-{seed}", dict, late=True)
    found = {
        "counting": _by_encoding(each["counting"], ("nmae", "nmae_regular", "nmae_irregular")),
        "counting_by_length": _by_encoding(
            each["counting"], [f"nmae_{k}{w}" for w in ("", "_regular") for k in (3, 4, 5, 6)]
        ),
        "trivial": [] if simple is None else simple["rows"],
        "csl": _by_encoding(each["csl"], ("accuracy",)),
        "separation": each["separation"],
        "stability": _stability(each["stability"]),
        "ablation": _by_encoding(each["ablation"], ("test_loss", "over_floor")),
        "compared": _compared(each),
        "each": {kind: part for kind, part in each.items() if kind != "separation"},
        "missing": rows.missing,
        "seeds": seeds,
    }
    return {"table": _table(found), **found, "checks": _checks(found, quick)}


def _by_encoding(rows: Sequence[dict[str, Any]], shown: Sequence[str]) -> list[dict[str, Any]]:
    """Mean and 95 % interval over seeds of some columns, for each encoding."""
    from graphdiff.graph.evaluate import summary

    found = []
    for name in dict.fromkeys(row["encoding"] for row in rows):
        mine = [row for row in rows if row["encoding"] == name]
        line: dict[str, Any] = {"encoding": name, "seeds": len(mine)}
        for key in shown:
            value = summary([row[key] for row in mine])
            line[key] = value.mean
            if value.n > 1:
                line[f"{key}_interval"] = [value.low, value.high]
        line["steps"] = int(np.mean([row["steps"] for row in mine]))
        line["cpu_each"] = float(np.mean([row["cpu"] for row in mine]))
        found.append(line)
    return found


def _compared(each: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Paired differences of SPE and every other encoding over seeds, p-values after Holm."""
    from graphdiff.graph.evaluate import holm, paired

    found: list[dict[str, Any]] = []
    for kind, key in (("counting", "nmae_regular"), ("ablation", "test_loss"),
                      ("ablation", "over_floor")):  # fmt: skip
        by: dict[str, dict[int, float]] = {}
        for row in each[kind]:
            by.setdefault(row["encoding"], {})[row["seed"]] = row[key]
        lines = []
        for other in by:
            both = sorted(set(by.get("spe", {})) & set(by[other]))
            if other != "spe" and len(both) > 1:
                test = paired([by["spe"][s] for s in both], [by[other][s] for s in both])
                line = {
                    name: getattr(test, name) for name in ("n", "difference", "low", "high", "p")
                }
                lines.append({"what": f"{kind}: {key}", "spe_minus": other, **line})
        for line, p in zip(lines, holm([line["p"] for line in lines]) if lines else [],
                           strict=True):  # fmt: skip
            line["p_holm"] = float(p)
        found += lines
    return found


def _stability(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over weights (seeds) of the curves and ratios."""
    from graphdiff.graph.evaluate import summary

    found = []
    for kind, name in dict.fromkeys((row["graphs"], row["encoding"]) for row in rows):
        mine = [r for r in rows if (r["graphs"], r["encoding"]) == (kind, name)]
        line: dict[str, Any] = {
            "graphs": kind, "encoding": name, "n": mine[0]["n"], "seeds": len(mine),
            "strengths": mine[0]["strengths"],
        }  # fmt: skip
        for key in ("distance", "change", "change_95"):
            line[key] = np.mean([row[key] for row in mine], 0).tolist()
        for key in ("ratio_removed", "ratio_removed_max", "ratio_small", "ratio_small_max"):
            value = summary([row[key] for row in mine])
            line[key] = value.mean
            if value.n > 1:
                line[f"{key}_interval"] = [value.low, value.high]
        found.append(line)
    return found


def _table(found: dict[str, Any]) -> list[dict[str, Any]]:
    """One line for each encoding."""
    columns = {
        "nmae": ("counting", "nmae"), "nmae_regular": ("counting", "nmae_regular"),
        "csl": ("csl", "accuracy"), "loss": ("ablation", "test_loss"),
        "over_floor": ("ablation", "over_floor"),
    }  # fmt: skip
    lines = []
    for name in (*COUNTED, *(row["encoding"] for row in found["trivial"])):
        line: dict[str, Any] = {"encoding": name}
        for column, (part, key) in columns.items():
            rows = [*found[part], *(found["trivial"] if part == "counting" else ())]
            line[column] = next((row[key] for row in rows if row["encoding"] == name), None)
        for row in found["separation"]:
            if row["encoding"] == name:
                line[f"{row['graphs']}_same"] = row["not_separated"]
                line[f"{row['graphs']}_torn"] = row["torn"]
        for row in found["stability"]:
            if row["encoding"] == name:
                line[f"ratio_{row['graphs']}"] = row["ratio_small_max"]
        lines.append(line)
    keys = dict.fromkeys(key for line in lines for key in line)
    return [{key: line.get(key) for key in keys} for line in lines]


def _checks(found: dict[str, Any], quick: bool) -> list[dict[str, Any]]:
    count = {row["encoding"]: row for row in found["counting"]}
    csl = {row["encoding"]: row["accuracy"] for row in found["csl"]}
    apart = {(row["graphs"], row["encoding"]): row for row in found["separation"]}
    ratio = {(r["graphs"], r["encoding"]): r["ratio_small_max"] for r in found["stability"]}
    checks: list[tuple[str, Any, str, bool]] = []
    if "spe" in csl:
        checks.append(("CSL accuracy of SPE", csl["spe"], "1.0", csl["spe"] == 1))
    if "spe" in count and "none" in count:
        for other in ("none", "signnet", "laplacian", "rwpe"):
            gain = count[other]["nmae_regular"] / count["spe"]["nmae_regular"]
            name = f"counting, regular graphs: error of {other} over that of SPE"
            checks.append((name, gain, "> 1", gain > 1))
    for name in ("rwpe", "light-spe", "spe"):
        row = apart.get(("graph8c", name))
        if row is not None:
            checks.append((f"graph8c: torn by {name}", row["torn"], "0", row["torn"] == 0))
    for name in ("rwpe", "spe"):
        row = apart.get(("sr25", name))
        if row is not None:
            value = row["not_separated"]
            checks.append(
                (f"sr25: pairs that {name} cannot separate, as theory has it", value, "105",
                 value == 105)
            )  # fmt: skip
    for other in ("signnet", "laplacian"):
        if ("symmetric", "spe") in ratio:
            times = ratio["symmetric", other] / ratio["symmetric", "spe"]
            name = f"symmetric graphs: largest ratio of {other} over that of SPE"
            checks.append((name, times, "> 10", times > 10))
    return [
        {"name": name, "value": value, "wanted": wanted, "passed": quick or bool(passed)}
        for name, value, wanted, passed in checks
    ]


COLOURS = {"none": "0.5", "laplacian": "C3", "rwpe": "C2", "signnet": "C1", "light-spe": "C9",
           "spe": "C0"}  # fmt: skip


def draw(record: dict[str, Any], path: Path) -> Path:
    """Lipschitz curves on random and symmetric graphs, and errors of cycle counts."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), constrained_layout=True)
    for axis, kind in zip(axes, ("random", "symmetric"), strict=False):
        for row in record["stability"]:
            if row["graphs"] == kind:
                colour = COLOURS[row["encoding"]]
                axis.plot(
                    row["distance"], row["change"], "o-", ms=3, color=colour, label=row["encoding"]
                )
                axis.plot(row["distance"], row["change_95"], ":", color=colour, lw=1)
                n = row["n"]
        axis.set(
            xscale="log", yscale="log", title=f"{kind} graphs (n = {n})",
            xlabel=r"$\Vert L - L' \Vert_F$", ylabel="change of the encoding over its spread",
        )  # fmt: skip
        axis.grid(alpha=0.3, linewidth=0.5)
    axes[1].legend(fontsize=7, title="median; dotted: 95 %", title_fontsize=7)
    for k, row in enumerate(record["counting_by_length"]):
        values = np.array([row[f"nmae_{n}_regular"] for n in (3, 4, 5, 6)])
        ends = [row.get(f"nmae_{n}_regular_interval") or [v, v]
                for n, v in zip((3, 4, 5, 6), values, strict=True)]  # fmt: skip
        error = np.abs(np.array(ends).T - values)
        place = np.arange(4) + 0.13 * k
        axes[2].bar(place, values, 0.12, yerr=error, color=COLOURS[row["encoding"]],
                    label=row["encoding"], error_kw={"lw": 0.8})  # fmt: skip
    axes[2].set_xticks(np.arange(4) + 0.3, [f"{n}-cycles" for n in (3, 4, 5, 6)])
    axes[2].set(ylabel="normalised error", title="4-regular graphs, test")
    axes[2].legend(fontsize=7)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


def _ablation(first: int, last: int) -> None:
    """Train and score the denoisers of some seeds; what is there already is left alone."""
    folder = work_folder("spe")
    for seed in range(first, last):
        for name in ABLATION:
            place = folder / f"train-{name}-{seed}"
            make = lambda n=name, s=seed, p=place: denoiser(n, s, ABLATION_STEPS, p)  # noqa: E731
            row = kept(folder, f"ablation-{name}-{seed}", make)
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "ablation":
        _ablation(int(sys.argv[2]), int(sys.argv[3]))
    else:
        draw(json.loads(Path(sys.argv[1]).read_text("utf-8")), Path(sys.argv[2]))
