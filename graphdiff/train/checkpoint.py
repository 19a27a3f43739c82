"""Models on disk: a folder with weights and a card, written so that nothing is ever half there.

``weights.safetensors`` (and ``ema.safetensors``) hold tensors only; ``card.json`` says what they
are, with the size and sha256 of each. A checkpoint of a training also has ``resume.pt``, read with
``torch.load(weights_only=True)``. Loading a model never unpickles. A folder is built under a
temporary name, each file and the folder are synced, then it is renamed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graphdiff.core.errors import CheckpointError
from graphdiff.task import task_class
from graphdiff.train.card import CARD, EMA, WEIGHTS, Card, WeightFile, WeightName, parse_card
from graphdiff.train.files import is_pickle, put_folder, sha256, sync, write_text

__all__ = [
    "Card",
    "WeightFile",
    "find_model",
    "list_checkpoints",
    "load_resume",
    "load_weights",
    "prune",
    "read_card",
    "save_model",
    "update_card",
    "update_metrics",
]

RESUME = "resume.pt"
PICKLES = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"}


def save_model(
    directory: str | Path,
    weights: Mapping[str, Tensor],
    card: Card,
    ema: Mapping[str, Tensor] | None = None,
    *,
    resume: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Card:
    """Write a model folder; it appears complete or not at all.

    Args:
        directory: Folder to make. Its parent must exist or be creatable.
        weights: State dict of the denoiser.
        card: What they are; ``files`` is filled in.
        ema: State dict with averaged weights.
        resume: Tensors and plain values to go on training from.
        overwrite: Replace a folder of that name.

    Returns:
        The card as written.

    Raises:
        CheckpointError: The folder exists, or it cannot be written (then nothing is changed).
    """
    target = Path(directory).resolve()  # "." has no name, and a link is not the folder
    if target.exists() and not overwrite:
        raise CheckpointError(
            f"{target} exists already; choose another folder, or pass overwrite=True to replace it"
        )
    building = target.parent / f".{target.name}.tmp-{os.getpid()}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        files: dict[WeightName, WeightFile] = {WEIGHTS: _write_tensors(building / WEIGHTS, weights)}
        if ema is not None:
            files[EMA] = _write_tensors(building / EMA, ema)
        if resume is not None:
            torch.save(dict(resume), building / RESUME)
            sync(building / RESUME)
        card = replace(card, files=files)
        write_text(building / CARD, card.to_json())
        sync(building)
        put_folder(building, target)
    except (OSError, RuntimeError, TypeError, ValueError, _safetensor_error()) as error:
        shutil.rmtree(building, ignore_errors=True)
        raise CheckpointError(
            f"cannot write the model folder {target}: {error}; what was there before is unchanged. "
            "Free disk space or choose a writable folder, then run the command again"
        ) from error
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return card


def find_model(directory: str | Path) -> Path:
    """The model folder meant by ``directory``: itself, or the newest checkpoint of a training.

    Raises:
        CheckpointError: There is none, or a pickle file was given.
    """
    path = Path(directory)
    if path.is_file():
        hint = (
            "such files can run code when they are read, so they are refused; turn a published "
            "checkpoint into a model folder with `graphdiff convert`"
            if path.suffix in PICKLES or is_pickle(path)
            else f"expected a folder with {CARD} and {WEIGHTS}"
        )
        raise CheckpointError(f"{path} is a file, not a model folder: {hint}")
    if (path / CARD).is_file():
        return path
    checkpoints = list_checkpoints(path)
    if checkpoints:
        return checkpoints[-1]
    if not path.is_dir():
        raise CheckpointError(f"no model folder at {path}: it does not exist; check the path")
    found = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
    raise CheckpointError(
        f"{path} is not a model folder: found {found}; expected {CARD} and {WEIGHTS}, "
        "or a training folder with checkpoints"
    )


def list_checkpoints(out: str | Path) -> list[Path]:
    """Complete checkpoints of a training folder, oldest first."""
    folder = Path(out) / "checkpoints"
    found = [p for p in folder.glob("step-*") if (p / CARD).is_file()] if folder.is_dir() else []
    return sorted(found)


def read_card(directory: str | Path, *, kind: str | None = None) -> Card:
    """Read and check the card of a model folder (or of the newest checkpoint of a training).

    Args:
        directory: The folder.
        kind: Kind of task that is expected, if only one will do.

    Raises:
        CheckpointError: The card is missing, damaged, of another format or of another kind.
    """
    path = find_model(directory)
    card = parse_card(path / CARD)
    if kind is not None and card.kind != kind:
        raise CheckpointError(
            f"{path}: found a model of kind {card.kind!r}, expected {kind!r}; "
            "give a folder of that kind"
        )
    return card


def load_weights(
    directory: str | Path, which: str = "best", *, verify: bool = True
) -> dict[str, Tensor]:
    """The state dict of a model folder, on the CPU.

    Args:
        directory: Model folder, or a training folder (its newest checkpoint).
        which: ``"ema"``, ``"weights"``, or ``"best"``: the averaged weights where there are any.
        verify: Compare the sha256 with the card.

    Raises:
        CheckpointError: A file is missing, cut off, changed, a pickle, or ``which`` is not there.
    """
    path = find_model(directory)
    card = read_card(path)
    names: dict[str, WeightName] = {"ema": EMA, "weights": WEIGHTS}
    names["best"] = EMA if EMA in card.files else WEIGHTS
    if which not in names:
        raise CheckpointError(f"which={which!r}: expected 'ema', 'weights' or 'best'")
    name = names[which]
    if name not in card.files:
        raise CheckpointError(
            f"{path} holds no averaged weights ({EMA}); load them with which='weights'"
        )
    return _read_tensors(path / name, card.files[name], verify)


def load_resume(directory: str | Path) -> dict[str, Any]:
    """The training state of a checkpoint: tensors and plain values only.

    Raises:
        CheckpointError: The folder has none, or it is damaged.
    """
    path = Path(directory) / RESUME
    if not path.is_file():
        raise CheckpointError(f"{directory} has no {RESUME}: it can be sampled but not resumed")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"cannot read {path}: it is damaged, or not a training state ({error})"
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: found a {type(state).__name__}, expected a dict")
    return state


def update_metrics(directory: str | Path, metrics: Mapping[str, Any]) -> Card:
    """Add measured metrics to the card of a model; entries of the same name are replaced.

    Raises:
        CheckpointError: The card cannot be read or written.
    """
    return update_card(directory, metrics={**read_card(directory).metrics, **metrics})


def update_card(directory: str | Path, **fields: Any) -> Card:
    """Replace fields of the card of a model.

    ``metrics``, ``licence``, ``citation``, ``command`` and ``notes`` are replaced; the mapping
    ``sample`` changes single settings of the sampler, which does not touch the weights either.

    Raises:
        CheckpointError: The card cannot be read or written, or a field says what the weights are.
        ConfigError: A sampler setting is unknown to the task or out of range.
    """
    path = find_model(directory)
    fixed = sorted(set(fields) - {"metrics", "licence", "citation", "command", "notes", "sample"})
    if fixed:
        raise CheckpointError(
            f"{', '.join(fixed)} of a card cannot be changed, only metrics, licence, citation, "
            "command, notes and sample; save the model again"
        )
    card = parse_card(path / CARD)
    settings = fields.pop("sample", {})
    if settings:
        task = {**card.task, "sample": {**card.task.get("sample", {}), **settings}}
        task_class(card.kind).from_config(task, where="card")
        fields["task"] = task
    card = replace(card, **fields)
    new = path / f".{CARD}.tmp-{os.getpid()}"
    try:
        write_text(new, card.to_json())
        new.replace(path / CARD)
        sync(path)
    except (OSError, TypeError, ValueError) as error:
        new.unlink(missing_ok=True)
        raise CheckpointError(f"cannot write the card {path / CARD}: {error}") from error
    return card


def _safetensor_error() -> type[Exception]:
    from safetensors import SafetensorError

    return SafetensorError


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> WeightFile:
    from safetensors.torch import save_file

    # Clones, since names may share memory (tied weights) and safetensors wants each on its own.
    plain = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
    save_file(plain, path)
    sync(path)
    return WeightFile(path.stat().st_size, sha256(path), len(plain))


def _read_tensors(path: Path, expected: WeightFile, verify: bool) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing, though the card lists it; copy the model folder again"
        )
    if is_pickle(path):
        raise CheckpointError(
            f"{path} is a pickle, not a safetensors file; it could run code and is refused"
        )
    size = path.stat().st_size
    if size != expected.bytes:
        raise CheckpointError(
            f"{path} has {size} bytes, the card says {expected.bytes}: the file was cut off or "
            "changed; copy the model folder again"
        )
    if verify and (found := sha256(path)) != expected.sha256:
        raise CheckpointError(
            f"{path}: found sha256 {found}, the card says {expected.sha256}: "
            "the file was changed or damaged; copy the model folder again"
        )
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (_safetensor_error(), OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    return tensors


def prune(out: str | Path, keep: int) -> None:
    """Remove all but the ``keep`` newest checkpoints of a training."""
    for old in list_checkpoints(out)[:-keep]:
        # Renamed first: a removal that is interrupted must not leave half a checkpoint.
        gone = old.with_name(f".{old.name}.old-{os.getpid()}")
        old.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
