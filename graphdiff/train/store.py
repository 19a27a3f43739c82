"""What a training writes and reads back: checkpoints, resuming, and the state of a failure."""

from __future__ import annotations

import fcntl
import json
import platform
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from functools import lru_cache
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

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
from graphdiff.train.config import TrainConfig
from graphdiff.train.lora import restore, split

if TYPE_CHECKING:
    from graphdiff.train.live import Live

__all__ = [
    "Described",
    "Output",
    "after_failure",
    "new_card",
    "resume",
    "save_checkpoint",
    "save_failure",
]

FAILED = "failed"
SLACK = 2**20  # bytes for cards and the log

# May change when a run is resumed: they do not alter what has been computed so far.
FREE = {
    "steps", "epochs", "log_every", "checkpoint_every", "keep", "accumulate", "max_loss_factor",
    "compile", "threads",
}  # fmt: skip


class Described(Protocol):
    """What a card needs to know about a task, or about a model that only predicts."""

    kind: ClassVar[str]
    citation: ClassVar[str]

    def to_config(self) -> dict[str, Any]:
        """The plain nested mapping from which it is built again."""


def new_card(task: Described, **fields: Any) -> Card:
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


class Output:
    """The folder of a run, held by one training at a time while it is entered.

    Raises:
        TrainingError: It cannot be written, or another training is running in it.
    """

    def __init__(self, out: Path, main: bool) -> None:
        self._out = out
        self._main = main
        self._lock: FileIO | None = None

    def __enter__(self) -> Output:
        if not self._main:
            return self
        try:
            (self._out / "checkpoints").mkdir(parents=True, exist_ok=True)
            self._lock = FileIO(self._out / ".lock", "a")
        except OSError as error:
            raise TrainingError(
                f"cannot write to the output folder {self._out}: {error}; choose a writable folder"
            ) from error
        try:
            # The system drops the lock with the process, even when that is killed.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise TrainingError(
                f"another training is running in {self._out}; wait for it, stop it, or give "
                "another output folder"
            ) from None
        except OSError:
            pass  # a file system without locks
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            self._lock.close()

    def check(self, live: Live) -> None:
        """Remove what a killed training left half done; check that the checkpoints will fit.

        Raises:
            TrainingError: Too little disk space is free.
        """
        if not self._main:
            return
        for rest in [*self._out.glob("checkpoints/.step-*"), *self._out.glob(f".{FAILED}.*")]:
            shutil.rmtree(rest, ignore_errors=True)
        weights = sum(p.numel() * p.element_size() for p in live.denoiser.state_dict().values())
        size = weights * (3 + bool(live.config.ema) + live.config.amsgrad)
        count = max(1, live.config.keep + 1 - len(list_checkpoints(self._out)))
        need = size * count + SLACK
        free = shutil.disk_usage(self._out).free
        if free < need:
            raise TrainingError(
                f"too little disk space for the checkpoints in {self._out}: found {free / 1e6:.1f} "
                f"MB free, expected at least {need / 1e6:.1f} MB ({count} checkpoints of "
                f"{size / 1e6:.1f} MB); free some, or lower train.keep"
            )


def save_checkpoint(live: Live, path: Path, log_position: int) -> None:
    """Write a checkpoint, then remove the oldest ones.

    Raises:
        TrainingError: It cannot be written; earlier checkpoints are untouched.
    """
    try:
        _write(live, path, log_position)
        prune(live.out, live.config.keep)
    except (CheckpointError, OSError) as error:
        found = list_checkpoints(live.out)
        left = f"the newest complete checkpoint is {found[-1]}" if found else "there is none yet"
        raise TrainingError(f"checkpoint at step {live.step}: {error}; {left}") from error


def save_failure(live: Live, batches: list[dict[str, Any]]) -> None:
    """Write the weights, and the batches since the last check, for a post-mortem.

    Raises:
        TrainingError: They cannot be written.
    """
    folder = live.out / FAILED
    try:
        _write(live, folder, 0, overwrite=True)
        lines = (json.dumps(_text(batch)) for batch in batches)
        (folder / "batches.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    except (CheckpointError, OSError) as error:
        raise TrainingError(
            f"the training failed, and its state cannot be saved in {folder}: {error}"
        ) from error


def after_failure(live: Live) -> str:
    """What to tell the user about a training that failed."""
    found = list_checkpoints(live.out)
    earlier = f"the last good checkpoint is {found[-1]}" if found else "no checkpoint was made yet"
    return (
        f"The weights and the batches since the last check are in {live.out / FAILED}; {earlier}. "
        "Lower train.lr, set train.clip, or check those examples"
    )


def resume(live: Live) -> int:
    """Go on from the newest checkpoint, if there is one; returns the length of its log.

    Raises:
        ConfigError: The folder holds a run of another configuration or of other data.
        CheckpointError: The checkpoint is damaged.
    """
    found = list_checkpoints(live.out)
    if not found:
        live.task.load_training_state({})
        return 0
    path = found[-1]
    try:
        card = read_card(path)
        state, weights = load_resume(path), load_weights(path, "weights")
        average = load_weights(path, "ema") if "ema.safetensors" in card.files else None
    except CheckpointError as error:
        raise CheckpointError(
            f"cannot go on from {path}: {error}. Remove that folder to go on from the checkpoint "
            "before it"
        ) from error
    _check_same(live, path, card)
    try:
        factors = state.get("factors", {})
        restore(live.denoiser, weights, factors.get("weights", {}))
        live.optimizer.load_state_dict(state["optimizer"])
        if live.ema is not None and average is not None:
            live.ema.load(factors.get("ema", average), state["ema_updates"])
        live.step = state["step"]
        live.averages = dict(state["averages"])
        live.seconds = state["seconds"]
        live.task.load_training_state(state.get("task", {}))
        position: int = state["log_position"]
    except (KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"{path} does not fit the network: {error}; it was written by another version, "
            "give another output folder"
        ) from error
    return position


def _write(live: Live, path: Path, log_position: int, overwrite: bool = False) -> None:
    card = new_card(
        live.task,
        train=live.config.to_config(),
        seed=live.config.seed,
        step=live.step,
        data=dict(live.fingerprint),
    )
    state = {
        "step": live.step,
        "optimizer": live.optimizer.state_dict(),
        "ema_updates": live.ema.updates if live.ema is not None else 0,
        "averages": live.averages,
        "seconds": live.seconds,
        "task": live.task.training_state(),
        "log_position": log_position,
    }
    weights, factors = split(live.denoiser.state_dict())
    ema, means = split(live.ema.state()) if live.ema is not None else (None, {})
    if factors:  # a model holds sums; to go on, their terms are needed
        state["factors"] = {"weights": factors, "ema": means}
    save_model(path, weights, card, ema, resume=state, overwrite=overwrite)


def _check_same(live: Live, path: Path, card: Card) -> None:
    """Refuse to go on with a run that was another one."""
    old = TrainConfig.from_config(card.train or {}, where=f"{path}: train").to_config()
    new = live.config.to_config()
    changes = _changes(
        {key: value for key, value in old.items() if key not in FREE},
        {key: value for key, value in new.items() if key not in FREE},
        "train",
    )
    changes += _changes(card.kind, live.task.kind, "kind")
    changes += _changes(card.task, _json(live.task.to_config()), "task")
    changes += _changes(card.data or {}, _json(dict(live.fingerprint)), "data")
    if changes:
        shown = "; ".join(changes[:6]) + (" …" if len(changes) > 6 else "")
        raise ConfigError(
            f"{live.out} holds another run ({path.name}): {shown}. Give another output folder, "
            "or the settings of that run to go on with it"
        )
    if card.step > live.total:
        raise ConfigError(
            f"{path} has made {card.step} steps already, the training asks for {live.total}; "
            "raise train.steps or train.epochs, or give another output folder"
        )


def _json(value: Any) -> Any:
    """A value as it comes back from a card: tuples are lists there."""
    return json.loads(json.dumps(value))


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


@lru_cache(maxsize=1)
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
