"""What a training writes and reads back: checkpoints, resuming, and the state of a failure."""

from __future__ import annotations

import json
import platform
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from graphdiff import __version__
from graphdiff.core.errors import CheckpointError, ConfigError, TrainingError
from graphdiff.train.checkpoint import (
    Card,
    list_checkpoints,
    load_resume,
    load_weights,
    prune,
    read_card,
    save_model,
)

if TYPE_CHECKING:
    from graphdiff.task import Task
    from graphdiff.train.trainer import Trainer

__all__ = ["check_output", "new_card", "resume", "save_checkpoint", "save_failure"]

# May change when a run is resumed: they do not alter what has been computed so far.
FREE = {
    "steps", "epochs", "log_every", "checkpoint_every", "keep", "accumulate", "max_loss_factor",
    "compile", "threads",
}  # fmt: skip


def new_card(task: Task, **fields: Any) -> Card:
    """A card of ``task`` with the versions, the commit, the command and the time of now.

    ``fields`` set the other entries of :class:`Card` (``train``, ``seed``, ``step``, ``data`` …).
    """
    facts: dict[str, Any] = {
        "versions": {
            "graphdiff": __version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
        "commit": _commit(),
        "command": _command(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "citation": task.citation,
    }
    return Card(kind=task.kind, task=task.to_config(), **{**facts, **fields})


def check_output(trainer: Trainer) -> None:
    """Make the output folder; check that it can be written and that checkpoints fit.

    Raises:
        TrainingError: It cannot be written, or too little disk space is free.
    """
    out = trainer.out
    try:
        (out / "checkpoints").mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise TrainingError(
            f"cannot write to the output folder {out}: {error}; choose a writable folder"
        ) from error
    for rest in (out / "checkpoints").glob(".step-*"):
        shutil.rmtree(rest, ignore_errors=True)
    live, config = trainer._live, trainer.config
    weights = sum(p.numel() * p.element_size() for p in live.denoiser.state_dict().values())
    copies = 3 + bool(config.ema) + config.amsgrad
    missing = max(1, config.keep + 1 - len(list_checkpoints(out)))
    need = weights * copies * missing + 2**20
    free = shutil.disk_usage(out).free
    if free < need:
        raise TrainingError(
            f"too little disk space for the checkpoints in {out}: found {free / 1e6:.0f} MB free, "
            f"expected at least {need / 1e6:.0f} MB ({missing} checkpoints of "
            f"{weights * copies / 1e6:.0f} MB); free some, or lower train.keep"
        )


def save_checkpoint(trainer: Trainer, path: Path, log_position: int) -> None:
    """Write a checkpoint, then remove the oldest ones.

    Raises:
        TrainingError: It cannot be written; earlier checkpoints are untouched.
    """
    try:
        _write(trainer, path, log_position)
        for _ in prune(trainer.out, trainer.config.keep):
            pass
    except (CheckpointError, OSError) as error:
        found = list_checkpoints(trainer.out)
        left = f"the newest complete checkpoint is {found[-1]}" if found else "there is none yet"
        raise TrainingError(f"checkpoint at step {trainer._live.step}: {error}; {left}") from error


def save_failure(trainer: Trainer, folder: Path, batches: list[dict[str, Any]]) -> None:
    """Write the weights and the batches since the last check for a post-mortem."""
    try:
        _write(trainer, folder, 0, overwrite=True)
        lines = (json.dumps(_text(batch)) for batch in batches)
        (folder / "batches.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    except (CheckpointError, OSError) as error:
        raise TrainingError(
            f"the training failed, and its state cannot be saved in {folder}: {error}"
        ) from error


def resume(trainer: Trainer) -> int:
    """Go on from the newest checkpoint, if there is one; returns the length of its log.

    Raises:
        ConfigError: The folder holds a run of another configuration or of other data.
        CheckpointError: The checkpoint is damaged.
    """
    found = list_checkpoints(trainer.out)
    if not found:
        return 0
    path, live = found[-1], trainer._live
    card = read_card(path, kind=trainer.task.kind)
    _check_same(trainer, path, card)
    state = load_resume(path)
    weights = load_weights(path, "weights")
    try:
        live.denoiser.load_state_dict(weights)
        live.optimizer.load_state_dict(state["optimizer"])
        if live.ema is not None:
            live.ema.load(load_weights(path, "ema"), state["ema_updates"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} does not fit the network: {error}") from error
    live.step = state["step"]
    live.averages = dict(state["averages"])
    live.seconds = state["seconds"]
    position: int = state["log_position"]
    return position


def _write(trainer: Trainer, path: Path, log_position: int, overwrite: bool = False) -> None:
    live, config = trainer._live, trainer.config
    card = new_card(
        trainer.task,
        train=config.to_config(),
        seed=config.seed,
        step=live.step,
        data=trainer._fingerprint,
        licence=str(trainer._fingerprint.get("licence", "unspecified")),
    )
    state = {
        "step": live.step,
        "optimizer": live.optimizer.state_dict(),
        "ema_updates": live.ema.updates if live.ema is not None else 0,
        "averages": live.averages,
        "seconds": live.seconds,
        "log_position": log_position,
    }
    ema = live.ema.state() if live.ema is not None else None
    save_model(path, live.denoiser.state_dict(), card, ema, resume=state, overwrite=overwrite)


def _check_same(trainer: Trainer, path: Path, card: Card) -> None:
    """Refuse to go on with a run that was another one."""
    new = json.loads(json.dumps(trainer.config.to_config()))
    old = card.train or {}
    changes = _changes(
        {k: v for k, v in old.items() if k not in FREE},
        {k: v for k, v in new.items() if k not in FREE},
        "train",
    )
    changes += _changes(card.task, json.loads(json.dumps(trainer.task.to_config())), "task")
    data = json.loads(json.dumps(trainer._fingerprint))
    changes += _changes(card.data or {}, data, "data")
    if changes:
        shown = "; ".join(changes[:6]) + (" …" if len(changes) > 6 else "")
        raise ConfigError(
            f"{trainer.out} holds another run ({path.name}): {shown}. Give another output folder, "
            "or the settings of that run to go on with it"
        )
    if card.step > trainer.total:
        raise ConfigError(
            f"{path} has made {card.step} steps already, the training asks for {trainer.total}; "
            "raise train.steps or train.epochs, or give another output folder"
        )


def _changes(old: Any, new: Any, where: str) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [
            change
            for key in keys
            for change in _changes(old.get(key), new.get(key), f"{where}.{key}")
        ]
    return [] if old == new else [f"{where} was {old!r}, is {new!r}"]


def _text(batch: dict[str, Any]) -> dict[str, Any]:
    """Losses as text where JSON has no number for them."""
    return json.loads(json.dumps(batch), parse_constant=str)  # type: ignore[no-any-return]


def _commit() -> str | None:
    """Commit of the checkout that graphdiff runs from, ``None`` for an installed package."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *arguments],
                capture_output=True, text=True, timeout=10, check=True,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    top = git("rev-parse", "--show-toplevel")
    # A site-packages folder may lie inside somebody else's repository.
    if top is None or Path(top) != root:
        return None
    commit = git("rev-parse", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no")
    return f"{commit} with uncommitted changes" if commit and changed else commit


def _command() -> str:
    """The command line, without the folder of the interpreter or the script."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        return shlex.join(["python", "-m", program.parent.name, *sys.argv[1:]])
    return shlex.join([program.name, *sys.argv[1:]])
