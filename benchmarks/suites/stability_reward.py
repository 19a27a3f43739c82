r"""Inverse folding towards predicted stability, judged by a head of other proteins.

The published ProteinMPNN, read as a masked model, is guided or tuned towards ``stability-a`` on two
given backbones. No structure is predicted here: that a design still folds is not known. What stands
in for it is the likelihood of the design under the unmodified network.

* ``reward``: mean of ``stability-a``, kcal/mol per residue against the native sequence;
* ``judge``: the same by ``stability-b``, which was trained on other proteins;
* ``loglik``: mean log-likelihood of a residue under the unmodified network, nats, two orders;
* ``recovery``: share of native letters; ``diversity``: mean share of different letters between two
  designs of a backbone; ``unique``: share of different designs.

Both heads read features of that same network, so the judge is independent in its measurements and
proteins, not in its features. ``n`` designs of each seed are scored together; intervals are
Student's t over seeds of sampling. A model is tuned once. ``calls`` are network calls of a design.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _kept import kept, means, plain, show_row, work_folder

TITLE = "Inverse folding towards predicted stability, judged by a head of other proteins"
REWARD, JUDGE = "stability-a", "stability-b"
WEIGHTS = "v_48_020.pt"
PLACES = ("sequence/stability_ddg/ssym_pdbs/5PTI.pdb.gz", "sequence/inverse_folding/ts50.json")
SEEDS, STEPS, N, TEMPERATURE, ALPHA = (0, 1, 2), 12, 8, 0.3, 0.01
GUIDED: Mapping[str, dict[str, Any]] = {
    "best of 4": {"method": "best", "particles": 4},
    "smc x4": {"method": "smc", "particles": 4, "alpha": ALPHA},
}
TUNED: Mapping[str, dict[str, Any]] = {
    "drakes": {"method": "drakes", "truncate": 3, "picked": 3},
    "wdce": {"method": "wdce", "repeats": 2},
}
SHOWN = ("reward", "judge", "loglik", "recovery", "diversity", "unique")


@dataclass
class Lab:
    """Model, heads and backbones.

    Attributes:
        quick: Little of everything.
        folder: Of trainings and rows.
    """

    quick: bool
    folder: Path

    @cached_property
    def backbones(self) -> list[Any]:
        """Trypsin inhibitor (58 residues) and the shortest chain of TS50 (79)."""
        from graphdiff.core.errors import DataError
        from graphdiff.data.sources import find
        from graphdiff.sequence.structure_io import read_json, read_structure

        paths = [find([place]) for place in PLACES]
        if None in paths:
            raise DataError(
                f"the suite needs {' and '.join(PLACES)}; set GRAPHDIFF_DATA to the folder that "
                "holds them"
            )
        first, second = (Path(str(path)) for path in paths)
        found = [read_structure(first, chains=["A"]), min(read_json(second), key=len)]
        return found[:1] if self.quick else found

    @cached_property
    def cond(self) -> dict[str, Any]:
        """Condition of every chain; backbones take turns."""
        from graphdiff.sequence.structure import save_backbones

        path = save_backbones(self.folder / "backbones.npz", self.backbones)
        return {"backbone": str(path), "temperature": TEMPERATURE}

    @cached_property
    def base(self) -> Any:
        """The published model."""
        import graphdiff
        from graphdiff.sequence.convert_mpnn import convert, find_published

        return graphdiff.load(convert(find_published(WEIGHTS), self.folder / "mpnn"))

    @cached_property
    def heads(self) -> tuple[Any, Any]:
        """Reward and judge."""
        from graphdiff.sequence.stability_reward import StabilityReward

        return StabilityReward(REWARD), StabilityReward(JUDGE)

    def row(self, name: str, model: Any, guide: Any = None, tuned: float = 0.0) -> dict[str, Any]:
        """Designs of all seeds, scored."""
        each, calls, began = [], 0, time.process_time()
        n = N * len(self.backbones)
        for seed in SEEDS[: 1 if self.quick else None]:
            options = {} if guide is None else {"guide": guide}
            states, calls = [], 0
            for batch in model.sample_states(
                n,
                seed=seed,
                cond=self.cond,
                solver="ancestral",
                steps=self.steps,
                score=0,
                **options,
            ):
                states.append(batch.state)
                calls = max(calls, batch.network_calls)
            each.append(self.scores(states))
        row = {"method": name, "n": n, **means(each, SHOWN)}
        seconds = (time.process_time() - began) / len(each)
        row |= {"calls": calls, "sample_cpu": round(seconds, 1), "tune_cpu": round(tuned, 1)}
        show_row(name, row, SHOWN)
        return row

    @property
    def steps(self) -> int:
        """Of a chain."""
        return 4 if self.quick else STEPS

    def scores(self, states: list[Any]) -> dict[str, float]:
        """The columns for the designs of one seed."""
        import torch

        from graphdiff.sequence.convert_mpnn import find_published, load_mpnn
        from graphdiff.sequence.inverse_folding_chain import structure_likelihood
        from graphdiff.sequence.inverse_folding_output import Designs, join_designs

        found = [Designs.from_state(state) for state in states]
        raw = join_designs(found, range(sum(map(len, found))))
        text, judge = raw.strings(), load_mpnn(find_published(WEIGHTS))
        fits, apart = [], []
        for backbone in self.backbones:
            mine = [text[i] for i in np.flatnonzero(raw.names == backbone.name)]
            fits += structure_likelihood(backbone, mine, judge, orders=2).tolist()
            for a, b in combinations(mine, 2):
                apart.append(np.mean([x != y for x, y in zip(a, b, strict=True)]))
        reward, other = (torch.cat([head(s) for s in states]) for head in self.heads)
        return {
            "reward": float(reward.mean()),
            "judge": float(other.mean()),
            "loglik": float(np.mean(fits)),
            "recovery": float(raw.recovery.mean()),
            "diversity": float(np.mean(apart)),
            "unique": len(set(text)) / len(text),
        }

    def tuned(self, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """A model that was tuned, and its designs."""
        import graphdiff
        from graphdiff.finetune.config import TuneConfig
        from graphdiff.finetune.task import tuning
        from graphdiff.train import TrainConfig, Trainer

        config = TuneConfig(alpha=ALPHA, steps=self.steps, solver="ancestral", **settings)
        train = TrainConfig(
            steps=1 if self.quick else 10, batch_size=4 if self.quick else 8, lr=3e-4,
            warmup_steps=2, clip=1.0, ema=None, max_loss_factor=None, log_every=1,
            checkpoint_every=10,
        )  # fmt: skip
        task, data = tuning(self.base, self.heads[0], config, train, cond=self.cond)
        place, began = self.folder / f"tuned-{name}", time.process_time()
        Trainer(task, train, place, data).run()
        return self.row(name, graphdiff.load(place), tuned=time.process_time() - began)


def run(quick: bool, out: Path) -> dict[str, Any]:
    """All methods; rows that are in the work folder already are not measured again."""
    from graphdiff.guide import Guide

    lab = Lab(quick, out if quick else work_folder("stability-reward"))
    makers: dict[str, Any] = {"pretrained": lambda: lab.row("pretrained", lab.base)}
    for name, settings in GUIDED.items():
        makers[name] = lambda name=name, s=settings: lab.row(
            name, lab.base, Guide(lab.heads[0], **s)
        )
    for name, settings in TUNED.items():
        makers[name] = lambda name=name, s=settings: lab.tuned(name, s)
    rows = [kept(lab.folder, name, make) for name, make in makers.items()]
    return {
        "table": plain(rows),
        "rows": rows,
        "checks": _checks(rows, quick),
        "backbones": {b.name: len(b) for b in lab.backbones},
        "alpha": ALPHA,
        "temperature": TEMPERATURE,
        "steps": lab.steps,
    }


def _checks(rows: list[dict[str, Any]], quick: bool) -> list[dict[str, Any]]:
    """Every method must beat the pretrained model in its reward, and by the judge."""
    plain = rows[0]
    return [
        {
            "name": f"{row['method']}: {key}",
            "value": row[key],
            "wanted": f"> {plain[key]:.3g}, the pretrained model",
            "passed": quick or row[key] > plain[key],
        }
        for row in rows[1:]
        for key in ("reward", "judge")
    ]


def draw(record: dict[str, Any], path: Path) -> Path:
    """Reward, judge and likelihood of every method."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = record["rows"]
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), sharey=True, constrained_layout=True)
    labels = ("reward, kcal/mol a residue", "judge, kcal/mol a residue", "log-likelihood, nats")
    for axis, key, label in zip(axes, ("reward", "judge", "loglik"), labels, strict=True):
        for place, row in enumerate(rows):
            low, high = row.get(f"{key}_interval", (row[key], row[key]))
            axis.plot([low, high], [place, place], color="0.6")
            axis.plot(row[key], place, "o", color="tab:blue")
        axis.set(xlabel=label, yticks=range(len(rows)), yticklabels=[r["method"] for r in rows])
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


if __name__ == "__main__":
    source, goal = sys.argv[1:3]
    draw(json.loads(Path(source).read_text("utf-8")), Path(goal))
