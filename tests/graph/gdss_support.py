"""Small GDSS models and random noisy graphs for the tests of this folder."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from graphdiff.core.rng import Key
from graphdiff.graph.gdss import GDSSTask

SUITES = Path(__file__).parents[2] / "benchmarks" / "suites"


def plain() -> ModuleType:
    """The plain implementation of the published algorithm."""
    spec = importlib.util.spec_from_file_location("_gdss_plain", SUITES / "_gdss_plain.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config(**changes: Any) -> dict[str, Any]:
    """A small valid configuration; keyword tables are merged into it."""
    base: dict[str, Any] = {
        "kind": "gdss",
        "seed": 3,
        "data": {
            "name": "qm9", "nodes": 7, "features": 4, "atoms": ["C", "N", "O", "F"],
            "sizes": [0, 0, 1, 2, 4, 8, 4, 2],
        },
        "x": {"kind": "VE", "low": 0.1, "high": 1.0},
        "adj": {"kind": "VE", "low": 0.1, "high": 1.0},
        "model": {"depth": 2, "hidden": 8, "layers": 3, "attention": 8, "channels": [2, 4, 3]},
        "sample": {"steps": 4},
    }  # fmt: skip
    for name, value in changes.items():
        base[name] = {**base[name], **value} if isinstance(value, dict) else value
    return base


def task(**changes: Any) -> GDSSTask:
    """The task of :func:`config`."""
    return GDSSTask.from_config(config(**changes))


def noisy(b: int, n: int, f: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Random ``x``, symmetric ``adj`` and node mask with every size from 1 to ``n``."""
    key = Key(seed, torch.arange(b))
    mask = torch.arange(n) < (1 + torch.arange(b) % n).unsqueeze(1)
    x = key.at(stream=1).normal(n * f).view(b, n, f) * mask.unsqueeze(-1)
    upper = key.at(stream=2).normal(n * n).view(b, n, n).triu(1)
    adj = (upper + upper.mT) * mask.unsqueeze(1) * mask.unsqueeze(2)
    return x, adj, mask
