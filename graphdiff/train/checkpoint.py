"""Models on disk: a folder with weights and a card, written so that nothing is ever half there.

``weights.safetensors`` (and ``ema.safetensors``) hold tensors only; ``card.json`` says what they
are, with the size and sha256 of each. A checkpoint of a training also has ``resume.pt``, read with
``torch.load(weights_only=True)``. Loading a model never unpickles. A folder is built under a
temporary name, each file and the folder are synced, then it is renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor

from graphdiff.core.errors import CheckpointError

__all__ = [
    "Card",
    "WeightFile",
    "find_model",
    "list_checkpoints",
    "load_resume",
    "load_weights",
    "read_card",
    "save_model",
    "update_metrics",
]

FORMAT = "graphdiff-model"
VERSION = 1
RNG = "philox4x32-10"
CARD = "card.json"
RESUME = "resume.pt"
PICKLES = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"}

WeightName = Literal["weights.safetensors", "ema.safetensors"]
WEIGHTS: Final = "weights.safetensors"
EMA: Final = "ema.safetensors"


@dataclass(frozen=True)
class WeightFile:
    """Size in bytes, sha256 and number of tensors of one weight file."""

    bytes: int
    sha256: str
    tensors: int


@dataclass(frozen=True)
class Card:
    """What a model folder says about its weights.

    Attributes:
        kind: Kind of the task.
        task: Configuration from which the task is rebuilt.
        train: Training configuration, or ``None`` for weights trained elsewhere.
        seed: Seed of the training.
        step: Optimiser steps made.
        versions: Versions of graphdiff, torch and Python that wrote the weights.
        commit: Git commit of graphdiff, where it was run from a checkout.
        command: The command that trained the model.
        created: UTC time, ISO 8601.
        data: Fingerprint of the training set: name, split, number of examples, sha256.
        metrics: Measured quality, each with its sample size and interval.
        licence: Licence of the weights.
        citation: What to cite.
        files: Size and sha256 of each weight file; filled when the model is saved.
    """

    kind: str
    task: dict[str, Any]
    train: dict[str, Any] | None = None
    seed: int | None = None
    step: int = 0
    rng: str = RNG
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None
    command: str | None = None
    created: str | None = None
    data: dict[str, Any] | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    licence: str = "unspecified"
    citation: str = ""
    files: dict[WeightName, WeightFile] = field(default_factory=dict)
    format: str = FORMAT
    version: int = VERSION


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
    target = Path(directory)
    if target.exists() and not overwrite:
        raise CheckpointError(
            f"{target} exists already; choose another folder, or pass overwrite=True to replace it"
        )
    building = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        files: dict[WeightName, WeightFile] = {WEIGHTS: _write_tensors(building / WEIGHTS, weights)}
        if ema is not None:
            files[EMA] = _write_tensors(building / EMA, ema)
        if resume is not None:
            torch.save(dict(resume), building / RESUME)
            _sync(building / RESUME)
        card = replace(card, files=files)
        _write_text(building / CARD, _card_json(card))
        _sync(building)
        _put(building, target)
    except (OSError, RuntimeError, TypeError, _safetensor_error()) as error:
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
            if path.suffix in PICKLES or _is_pickle(path)
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

    Raises:
        CheckpointError: The card is missing, damaged, of another format or of another kind.
    """
    path = find_model(directory) / CARD
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"cannot read {path}: {error}; expected a JSON card, the file is damaged: "
            "copy the model folder again"
        ) from error
    found = raw.get("format") if isinstance(raw, dict) else type(raw).__name__
    if found != FORMAT:
        raise CheckpointError(f"{path}: found format {found!r}, expected {FORMAT!r}")
    if raw.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: found format version {raw.get('version')!r}, expected {VERSION}; "
            "read it with the version of graphdiff that wrote it"
            f" ({raw.get('versions', {}).get('graphdiff', 'unknown')})"
        )
    card = _parse_card(path, raw)
    if kind is not None and card.kind != kind:
        raise CheckpointError(
            f"{path.parent}: found a model of kind {card.kind!r}, "
            f"expected {kind!r}; give a folder of that kind"
        )
    if WEIGHTS not in card.files:
        raise CheckpointError(f"{path}: `files` lists no {WEIGHTS}; the card is incomplete")
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
        raise CheckpointError(f"cannot read {path}: the file is damaged ({error})") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: found a {type(state).__name__}, expected a dict")
    return state


def update_metrics(directory: str | Path, metrics: Mapping[str, Any]) -> Card:
    """Add measured metrics to the card of a model; entries of the same name are replaced.

    Raises:
        CheckpointError: The card cannot be read or written.
    """
    path = find_model(directory)
    card = read_card(path)
    card = replace(card, metrics={**card.metrics, **metrics})
    new = path / f".{CARD}.tmp-{os.getpid()}"
    try:
        _write_text(new, _card_json(card))
        new.replace(path / CARD)
        _sync(path)
    except (OSError, TypeError) as error:
        new.unlink(missing_ok=True)
        raise CheckpointError(f"cannot write the metrics into {path / CARD}: {error}") from error
    return card


def _card_json(card: Card) -> str:
    from dataclasses import asdict

    return json.dumps(asdict(card), indent=2, sort_keys=True) + "\n"


def _parse_card(path: Path, raw: dict[str, Any]) -> Card:
    from graphdiff.config import validate
    from graphdiff.core.errors import ConfigError

    try:
        return validate(Card, raw, where="card")
    except ConfigError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def _safetensor_error() -> type[Exception]:
    from safetensors import SafetensorError

    return SafetensorError


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> WeightFile:
    from safetensors.torch import save_file

    # Clones, since names may share memory (tied weights) and safetensors wants each on its own.
    plain = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
    save_file(plain, path)
    _sync(path)
    return WeightFile(path.stat().st_size, _sha256(path), len(plain))


def _read_tensors(path: Path, expected: WeightFile, verify: bool) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing, though the card lists it; copy the model folder again"
        )
    if _is_pickle(path):
        raise CheckpointError(
            f"{path} is a pickle, not a safetensors file; it could run code and is refused"
        )
    size = path.stat().st_size
    if size != expected.bytes:
        raise CheckpointError(
            f"{path} has {size} bytes, the card says {expected.bytes}: the file was cut off or "
            "changed; copy the model folder again"
        )
    if verify and (found := _sha256(path)) != expected.sha256:
        raise CheckpointError(
            f"{path}: found sha256 {found}, the card says {expected.sha256}: "
            "the file was changed or damaged; copy the model folder again"
        )
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (_safetensor_error(), OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    return tensors


def _is_pickle(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError:
        return False
    # A safetensors file starts with a header length below 2**32, so bytes 4 to 7 are zero; a zip
    # (torch.save) starts with PK and a bare pickle with the protocol opcode.
    return head == b"PK\x03\x04" or (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    _sync(path)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _put(building: Path, target: Path) -> None:
    """Give the finished folder its name; an older one of that name stays until then."""
    if not target.exists():
        building.rename(target)
        _sync(target.parent)
        return
    old = target.with_name(f".{target.name}.old-{os.getpid()}")
    target.rename(old)
    try:
        building.rename(target)
    except OSError:
        old.rename(target)
        raise
    _sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def prune(out: str | Path, keep: int) -> None:
    """Remove all but the ``keep`` newest checkpoints of a training."""
    for old in list_checkpoints(out)[:-keep]:
        # Renamed first: a removal that is interrupted must not leave half a checkpoint.
        gone = old.with_name(f".{old.name}.old-{os.getpid()}")
        old.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
