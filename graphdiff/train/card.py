"""The card of a model: what its weights are, checked field by field when it is read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from graphdiff.core.errors import CheckpointError, ConfigError

__all__ = ["CARD", "EMA", "WEIGHTS", "Card", "WeightFile", "WeightName", "parse_card"]

FORMAT = "graphdiff-model"
VERSION = 1
RNG = "philox4x32-10"
CARD = "card.json"
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
        notes: What a reader must know: departures from a published recipe, choices made.
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
    notes: str = ""
    files: dict[WeightName, WeightFile] = field(default_factory=dict)
    format: str = FORMAT
    version: int = VERSION

    def to_json(self) -> str:
        """The text of ``card.json``."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, allow_nan=False) + "\n"


def parse_card(path: Path) -> Card:
    """Read and check a card.

    Raises:
        CheckpointError: It is damaged, or of another format.
    """
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
    from graphdiff.config import validate

    try:
        card = validate(Card, raw, where="card")
    except ConfigError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if WEIGHTS not in card.files:
        raise CheckpointError(f"{path}: `files` lists no {WEIGHTS}; the card is incomplete")
    return card
