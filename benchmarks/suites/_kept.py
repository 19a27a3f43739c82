"""What suites of long rows share: rows that outlive an interruption, and means over seeds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "extras", "git", "kept", "means", "plain", "processes", "show_row", "tuned", "work_folder",
]  # fmt: skip

T = {2: 12.706, 3: 4.303}  # 97.5 % quantiles of Student's t for 2 and 3 seeds


def git(*words: str) -> str | None:
    """What git says about this checkout; None without git, or where it is none."""
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def work_folder(suite: str) -> Path:
    """Where a suite keeps trainings and rows, in ``GRAPHDIFF_BENCH_WORK`` or the user's cache.

    A folder for each suite: several have rows of the same name.
    """
    from graphdiff.data.sources import cache_folder

    folder = Path(os.environ.get("GRAPHDIFF_BENCH_WORK", cache_folder() / "bench")) / suite
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def processes() -> int:
    """Processes that a suite may use, ``GRAPHDIFF_BENCH_PROCESSES`` or 2."""
    return int(os.environ.get("GRAPHDIFF_BENCH_PROCESSES", "2"))


def extras() -> bool:
    """Whether rows beyond the claims of a suite are wanted, unless ``GRAPHDIFF_BENCH_EXTRAS=0``.

    ``graphdiff bench graph-learning`` sets that, so that all systems together end within the hour;
    ``left_out`` in the record of a suite says what is missing then.
    """
    return os.environ.get("GRAPHDIFF_BENCH_EXTRAS", "1") != "0"


def kept(folder: Path, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The row ``name`` from ``folder``, made and written if it is not there.

    ``commit`` of a row is that of the code that made it, which a record of several runs needs.
    """
    path = folder / f"row-{name}.json".replace(" ", "-")
    if not path.exists():
        changed = " with uncommitted changes" if git("status", "--porcelain", "-uno") else ""
        row = {**make(), "commit": f"{git('rev-parse', 'HEAD')}{changed}"}
        fresh = path.with_suffix(".part")
        fresh.write_text(json.dumps(row), "utf-8")
        fresh.replace(path)
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def tuned(
    model: Any, reward: Any, config: Mapping[str, Any], train: Mapping[str, Any], place: Path
) -> tuple[Any, float]:
    """A model tuned as ``graphdiff finetune`` does, and the CPU seconds of the tuning.

    Args:
        model: The base model.
        reward: What it is tuned towards.
        config: Fields of ``TuneConfig``.
        train: Fields of ``TrainConfig``.
        place: Where it is written; a tuning that is there already takes no time.
    """
    import graphdiff
    from graphdiff.finetune.config import TuneConfig
    from graphdiff.finetune.task import tuning
    from graphdiff.train import TrainConfig, Trainer

    how = TrainConfig(**{"max_loss_factor": None, "log_every": 10, **train})
    task, data = tuning(model, reward, TuneConfig(**config), how)
    trainer, began = Trainer(task, how, place, data), time.process_time()
    trainer.run()
    return graphdiff.load(place), time.process_time() - began


def means(each: Sequence[Mapping[str, float]], shown: Sequence[str]) -> dict[str, Any]:
    """Mean over seeds of each column, with Student's interval from two seeds on."""
    row: dict[str, Any] = {"seeds": len(each)}
    for key in shown:
        values = np.array([e[key] for e in each])
        row[key] = float(values.mean())
        if len(each) > 1:
            half = T[len(each)] * values.std(ddof=1) / len(each) ** 0.5
            row[f"{key}_interval"] = [row[key] - half, row[key] + half]
    return row


def show_row(name: str, row: Mapping[str, Any], shown: Sequence[str]) -> None:
    """Tell the reader of the terminal what a row says."""
    text = ", ".join(f"{key} {row[key]:.3g}" for key in shown)
    print(f"{name}: {text}", file=sys.stderr, flush=True)


def plain(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows as a table: without intervals, curves and commits."""
    return [
        {
            k: v
            for k, v in row.items()
            if not k.endswith("interval") and k not in ("curve", "commit")
        }
        for row in rows
    ]
