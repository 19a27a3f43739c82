"""Diffusion models for graphs, molecules and sequences on one small, modality-free core.

``import graphdiff`` costs next to nothing: everything below is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphdiff.core.errors import (
        ArgumentError,
        CheckpointError,
        ConfigError,
        DataError,
        GraphdiffError,
        TrainingError,
    )
    from graphdiff.model import Model, citation, load, models
    from graphdiff.task import Samples, Task

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "GraphdiffError",
    "Model",
    "Samples",
    "Task",
    "TrainingError",
    "__version__",
    "citation",
    "load",
    "models",
]

__version__ = "0.1.0"

_ERRORS = "graphdiff.core.errors"
_HOMES = {
    "ArgumentError": _ERRORS,
    "CheckpointError": _ERRORS,
    "ConfigError": _ERRORS,
    "DataError": _ERRORS,
    "GraphdiffError": _ERRORS,
    "TrainingError": _ERRORS,
    "Model": "graphdiff.model",
    "citation": "graphdiff.model",
    "load": "graphdiff.model",
    "models": "graphdiff.model",
    "Samples": "graphdiff.task",
    "Task": "graphdiff.task",
}
_MODULES = ("core", "data", "graph", "train")


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return import_module(f"graphdiff.{name}")
    raise AttributeError(f"module 'graphdiff' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
