"""``graphdiff finetune``: a model and a reward, and a model that is rewarded more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from graphdiff.cli.common import Json, Threads, note, pairs, pick_device
from graphdiff.cli.train import Fresh, Resume, prepare, run_to_the_end

__all__ = ["finetune"]

DEFAULTS: dict[str, Any] = {
    "steps": 200, "batch_size": 64, "lr": 1e-4, "optimizer": "adamw", "clip": 1.0, "ema": None,
    "warmup_steps": 5, "log_every": 5, "checkpoint_every": 50, "max_loss_factor": None,
}  # fmt: skip


def finetune(
    model: Annotated[str, typer.Argument(help="Name of a shipped model, or a model folder.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run: log and checkpoints.")],
    reward: Annotated[
        list[str],
        typer.Option(help="[WEIGHT*]NAME[:LOW..HIGH], or FILE.py:FUNCTION; repeatable (a sum)."),
    ],
    constraint: Annotated[
        list[str] | None,
        typer.Option(help="NAME>=BOUND or NAME<=BOUND on the mean of a score; repeatable."),
    ] = None,
    method: Annotated[
        str, typer.Option(help="wdce, ddpo, grpo, sepo, smc, replay, sdpo, vidd, rwr, drakes …")
    ] = "wdce",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting, e.g. tune.alpha=0.05 or train.steps=500; repeatable."),
    ] = None,
    cond: Annotated[
        list[str] | None,
        typer.Option("--cond", help="Condition of the samples, NAME=VALUE; repeatable."),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that score samples.")] = 0,
    resume: Resume = False,
    fresh: Fresh = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Tune a model towards a reward; killed at any moment, the same command goes on."""
    from graphdiff.config import apply_overrides, validate
    from graphdiff.core.errors import ConfigError
    from graphdiff.finetune.config import TuneConfig
    from graphdiff.finetune.task import tuning
    from graphdiff.model import load
    from graphdiff.train import TrainConfig, Trainer

    place = None if device == "auto" else pick_device(device)
    base = {"tune": {"method": method}, "train": dict(DEFAULTS)}
    changes = [*(settings or ()), *([f"train.threads={threads}"] if threads else ())]
    table = apply_overrides(base, changes)
    if unknown := sorted(set(table) - {"tune", "train"}):
        raise ConfigError(
            f"--set knows tune.… and train.…, found {', '.join(unknown)}; the model's own "
            "configuration stays as it is"
        )
    how = TrainConfig.from_config(table["train"])
    tune = validate(TuneConfig, table["tune"], where="tune")
    loaded = load(model)
    terms = loaded.reward(*reward, workers=workers)
    bounds = [loaded.constraint(spec, workers) for spec in constraint or ()]
    task, data = tuning(loaded, terms, tune, how, bounds, cond=pairs(cond, "--cond"))
    prepare(out, resume=resume, fresh=fresh)
    trainer = Trainer(task, how, out, data, device=place)
    if trainer.engine.main and not as_json:
        note(f"{trainer.trained:,} parameters are trained, {trainer.frozen:,} stay as they are")
    run_to_the_end(trainer, as_json=as_json)
