"""Unfinished requests of ``graphdiff sample``: what was asked, and one file for each batch."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphdiff.cli.common import write_json
from graphdiff.cli.sample_files import SAMPLES

if TYPE_CHECKING:
    from graphdiff.core.state import State

__all__ = ["PARTS", "REQUEST", "open_request", "part_ids", "read_part", "write_part"]

PARTS = "parts"
REQUEST = "request.json"


def open_request(out: Path, request: Mapping[str, Any], *, force: bool) -> Path:
    """The folder of the parts of this request; parts of another request are refused."""
    from graphdiff.core.errors import DataError

    parts, path = out / PARTS, out / REQUEST
    if force and (out / SAMPLES).exists():
        (out / SAMPLES).unlink()
    elif path.exists():
        try:
            found = json.loads(path.read_text("utf-8"))
        except ValueError:
            found = {}
        wrong = [k for k in request if found.get(k) != json.loads(json.dumps(request[k]))]
        if not wrong:
            parts.mkdir(exist_ok=True)
            return parts
        if not force:
            raise DataError(
                f"{out} holds an unfinished request that differs in {', '.join(wrong)}; run that "
                "command again to finish it, choose another --out, or drop it with --force"
            )
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True)
    write_json(path, request)
    return parts


def write_part(parts: Path, state: State, extra: Mapping[str, float]) -> Path:
    """Store finished states; the name is a hash of the ids, so no two batches collide."""
    import numpy as np

    arrays: dict[str, Any] = {f"values.{k}": v.cpu().numpy() for k, v in state.values.items()}
    arrays |= {f"masks.{k}": v.cpu().numpy() for k, v in state.masks.items()}
    arrays |= {f"info.{k}": np.float64(v) for k, v in extra.items()}
    ids = state.ids.cpu().numpy()
    name = f"{int(ids.min()):015d}-{hashlib.sha256(ids.tobytes()).hexdigest()[:12]}.npz"
    temporary = parts / f".{name}.tmp"
    with temporary.open("wb") as file:
        np.savez(file, ids=ids, **arrays)
    return temporary.replace(parts / name)


def part_ids(path: Path) -> list[int]:
    """Ids of the samples of a part."""
    import numpy as np

    with np.load(path, allow_pickle=False) as archive:
        ids: list[int] = archive["ids"].tolist()
    return ids


def read_part(path: Path) -> tuple[State, dict[str, float]]:
    """Finished states of a part, and what it took."""
    import numpy as np
    import torch

    from graphdiff.core.state import State

    with np.load(path, allow_pickle=False) as archive:
        groups: dict[str, dict[str, Any]] = {"values": {}, "masks": {}, "info": {}}
        for key in archive.files:
            group, _, name = key.partition(".")
            if name:
                groups[group][name] = archive[key]
        ids = torch.from_numpy(archive["ids"])
    values = {k: torch.from_numpy(v) for k, v in groups["values"].items()}
    masks = {k: torch.from_numpy(v) for k, v in groups["masks"].items()}
    return State(values, masks, ids), {k: float(v) for k, v in groups["info"].items()}
