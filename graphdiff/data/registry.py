"""Names of data sets and the loaders behind them; loaders are imported when first used."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from graphdiff.core.errors import ArgumentError
from graphdiff.data.graphs import Dataset

__all__ = ["load", "names"]

_LOADERS = {
    "qm9": "graphdiff.data.qm9:load_qm9",
}


def names() -> tuple[str, ...]:
    """All names that :func:`load` knows."""
    return tuple(_LOADERS)


def load(name: str, root: str | Path | None = None, **options: Any) -> Dataset:
    """Loads a data set by name.

    Files are searched in ``root``, else in ``$GRAPHDIFF_DATA``, the checkout's ``datasets/`` and
    the user cache. Nothing is downloaded; ``graphdiff data fetch NAME`` does that.

    Args:
        name: One of :func:`names`.
        root: Folder to look into instead of the search path.
        **options: Options of the loader, see its docstring.

    Returns:
        The graphs, their published splits, and the data card.

    Raises:
        ArgumentError: If the name is unknown.
        DataError: If files are missing, damaged, or have a wrong checksum.
    """
    if name not in _LOADERS:
        raise ArgumentError(f"unknown data set {name!r}: choose one of {', '.join(_LOADERS)}")
    module, function = _LOADERS[name].split(":")
    result: Dataset = getattr(import_module(module), function)(root, **options)
    return result
