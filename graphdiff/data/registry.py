"""Names of data sets and the loaders behind them; loaders are imported when first used."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from graphdiff.core.errors import ArgumentError
from graphdiff.data.dataset import Dataset

__all__ = ["load", "names"]

_GENERIC = "graphdiff.data.generic:load_generic"
_OWN = "graphdiff.data.own:load_own"
_LOADERS = {
    "qm9": "graphdiff.data.qm9:load_qm9",
    "zinc250k": "graphdiff.data.molecular:load_zinc250k",
    "moses": "graphdiff.data.molecular:load_moses",
    "community_small": _GENERIC,
    "ego_small": _GENERIC,
    "enzymes": _GENERIC,
    "grid": _GENERIC,
    "planar": _GENERIC,
    "tree": _GENERIC,
    "sbm": _GENERIC,
    "comm20": _GENERIC,
    "lggm": "graphdiff.data.corpus.loader:load_lggm",
}


def names() -> tuple[str, ...]:
    """All names that :func:`load` knows."""
    return tuple(_LOADERS)


def load(name: str, root: str | Path | None = None, **options: Any) -> Dataset:
    """Loads a data set by name.

    Files are searched in ``root``, else in ``$GRAPHDIFF_DATA``, the checkout's ``datasets/`` and
    the user cache. Nothing is downloaded; ``graphdiff data fetch NAME`` does that.

    Args:
        name: One of :func:`names`, or the path of your own file or folder, see
            :mod:`graphdiff.data.own`.
        root: Folder to look into instead of the search path.
        **options: Options of the loader, see its docstring.

    Returns:
        The graphs, their published splits, and the data card.

    Raises:
        ArgumentError: If the name is unknown.
        DataError: If files are missing, damaged, or have a wrong checksum.
    """
    if name not in _LOADERS and not Path(name).expanduser().exists():
        raise ArgumentError(
            f"unknown data set {name!r}: it is no file or folder, and none of {', '.join(_LOADERS)}"
        )
    module, function = _LOADERS.get(name, _OWN).split(":")
    loader = getattr(import_module(module), function)
    known = [p for p in signature(loader).parameters if p not in ("name", "root")]
    for option in options:
        if option not in known:
            raise ArgumentError(f"{name} has no option {option!r}: it takes {', '.join(known)}")
    result: Dataset = loader(name, root, **options)
    return result
