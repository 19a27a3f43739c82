"""``graphdiff train``: a configuration and a folder; everything else is in the configuration."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphdiff.cli.common import Json, Threads, emit, note, pick_device, progress_bar

if TYPE_CHECKING:
    from graphdiff.train import Outcome, Progress, Trainer

__all__ = ["Fresh", "Resume", "find_config", "prepare", "run_to_the_end", "train"]

Resume = Annotated[bool, typer.Option("--resume", help="Insist that there is a run to go on with.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Drop the run that is in the folder.")]


def train(
    config: Annotated[str, typer.Argument(help="A .toml file, or the name of a shipped config.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run: log and checkpoints.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting, e.g. train.lr=1e-4; repeatable."),
    ] = None,
    resume: Resume = False,
    fresh: Fresh = False,
    init: Annotated[
        str | None,
        typer.Option("--init", help="Start from the weights of this model (fine-tuning)."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of the data sets, before all others.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Train a model; killed at any moment, it goes on when the same command is run again."""
    from graphdiff.config import resolve_config, split_config
    from graphdiff.task import task_class
    from graphdiff.train import TrainConfig, Trainer

    place = None if device == "auto" else pick_device(device)
    changes = [*(settings or ()), *([f"train.threads={threads}"] if threads else ())]
    task_config, train_config = split_config(resolve_config(find_config(config), changes))
    task = task_class(str(task_config["kind"])).from_config(task_config)
    how = TrainConfig.from_config(train_config)
    prepare(out, resume=resume, fresh=fresh)
    trainer = Trainer(task, how, out, root=data, device=place, init=init)
    run_to_the_end(trainer, as_json=as_json)


def run_to_the_end(trainer: Trainer, *, as_json: bool) -> None:
    """Train, say how it ended, and exit as a program does that a signal stopped."""
    outcome = _run(trainer, quiet=as_json)
    if trainer.engine.main:
        report: dict[str, Any] = {**vars(outcome), "model": str(outcome.model)}
        emit(report) if as_json else print(outcome.message)
    if outcome.signal is not None:
        raise typer.Exit(128 + outcome.signal)


def find_config(name: str) -> str | Path:
    """A config of any installed package that ships models, by name; else ``name`` itself."""
    from importlib.metadata import entry_points
    from importlib.resources import as_file, files

    if name.endswith(".toml"):
        return name
    for point in entry_points(group="graphdiff.models"):
        entry = files(point.value) / "configs" / f"{name}.toml"
        if entry.is_file():
            with as_file(entry) as path:
                return path
    return name  # whoever reads it lists the names that exist


def prepare(out: Path, *, resume: bool, fresh: bool) -> None:
    """Obey ``--resume`` and ``--fresh`` before anything is loaded."""
    from graphdiff.core.errors import ArgumentError, CheckpointError
    from graphdiff.train.checkpoint import list_checkpoints

    if resume and fresh:
        raise ArgumentError("--resume and --fresh exclude each other; give one of them")
    if resume and not list_checkpoints(out):
        raise CheckpointError(
            f"--resume: {out} holds no checkpoint to go on from; check --out, or leave --resume "
            "away to start a training there"
        )
    if fresh:
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
        (out / "log.jsonl").unlink(missing_ok=True)


def _run(trainer: Trainer, *, quiet: bool) -> Outcome:
    """Train with a bar on a terminal, or with one line per log record elsewhere."""
    if not trainer.engine.main:
        return trainer.run()
    bar = sys.stderr.isatty()
    with progress_bar("training", quiet=quiet) as update:

        def show(progress: Progress) -> None:
            update(progress.step, progress.total)
            if not (quiet or bar):
                losses = "  ".join(f"{k} {v:.4g}" for k, v in progress.losses.items())
                speed = f"{progress.examples_per_second:.0f}/s"
                note(
                    f"step {progress.step}/{progress.total}  {losses}  {speed}  "
                    f"{progress.eta:.0f} s left"
                )

        return trainer.run(show)
