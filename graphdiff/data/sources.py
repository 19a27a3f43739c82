"""Where data files are: search path, checksums, user cache.

A file is searched for in this order: an explicit root; ``$GRAPHDIFF_DATA`` (one folder, or
several separated by the path separator of the system); the folder ``datasets/`` of a source
checkout; the user cache (``$GRAPHDIFF_CACHE``, else ``$XDG_CACHE_HOME/graphdiff``, else
``~/.cache/graphdiff``), where ``graphdiff data fetch`` puts what it obtains. Nothing is
downloaded here.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import tempfile
import tomllib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from gzip import BadGzipFile
from gzip import decompress as gunzip
from importlib import resources
from pathlib import Path
from typing import Any

from graphdiff.core.errors import DataError

__all__ = [
    "cache_folder",
    "card",
    "check_sha256",
    "checked",
    "find",
    "read_bytes",
    "roots",
    "test_ids",
    "writable_cache",
]


def cache_folder() -> Path:
    """The user cache folder (not created)."""
    if own := os.environ.get("GRAPHDIFF_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "graphdiff"


@cache
def _temporary_cache() -> Path:
    return Path(tempfile.mkdtemp(prefix="graphdiff-cache-"))


def writable_cache() -> Path:
    """The user cache if a file can be made in it, else a temporary folder of this process."""
    folder = cache_folder() / "preprocessed"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return _temporary_cache()


def roots(root: str | Path | None = None) -> list[Path]:
    """The folders searched, in order."""
    if root is not None:
        return [Path(root)]
    found = [Path(p) for p in os.environ.get("GRAPHDIFF_DATA", "").split(os.pathsep) if p]
    checkout = Path(__file__).resolve().parents[2] / "datasets"
    if checkout.is_dir():
        found.append(checkout)
    return [*found, cache_folder() / "data"]


def find(names: Sequence[str], root: str | Path | None = None) -> Path | None:
    """The first existing file of some relative names, over the search path.

    In each folder a subfolder ``graphgen`` is looked into as well.
    """
    for folder in roots(root):
        for name in names:
            for path in (folder / name, folder / "graphgen" / name, folder / "graphlearn" / name):
                if path.is_file():
                    return path
    return None


def missing(name: str, files: Iterable[str], root: str | Path | None = None) -> DataError:
    """The error of a data set whose files are nowhere, with the cure."""
    places = ", ".join(str(p) for p in roots(root))
    how = card(name).get("obtain", f"run: graphdiff data fetch {name}")
    return DataError(
        f"data set {name!r}: found none of {', '.join(files)} in {places}. To obtain it, {how}; or "
        "set GRAPHDIFF_DATA to the folder that holds it"
    )


def check_sha256(path: str | Path, data: bytes, expected: str) -> None:
    """Compares the hash of a file's (unpacked) content.

    Raises:
        DataError: If it differs.
    """
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise DataError(
            f"{path} has a wrong checksum: sha256 {found}, expected {expected}; the file is "
            "damaged or of another version: delete it and fetch or build it again"
        )


def read_bytes(path: Path) -> bytes:
    """Content of a plain, ``.gz`` or ``.xz`` file.

    Raises:
        DataError: If it cannot be read or its compression is damaged or cut short.
    """
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            return gunzip(data)
        if path.suffix == ".xz":
            return lzma.decompress(data)
        return data
    except (BadGzipFile, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(
            f"{path} is truncated or damaged ({error}): delete it and fetch or build it again"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; check the file") from error


def checked(
    name: str, entry: Mapping[str, Any], root: str | Path | None = None
) -> tuple[Path, bytes]:
    """Path and content of one file of a data set, found and compared with its checksum.

    Args:
        name: Of the set, for messages.
        entry: ``file`` and ``sha256``, as a card lists them.
        root: Folder to look into instead of the search path.

    Raises:
        DataError: It is nowhere, cannot be read, or has another checksum.
    """
    path = find([entry["file"]], root)
    if path is None:
        raise missing(name, [entry["file"]], root)
    data = read_bytes(path)
    check_sha256(path, data, entry["sha256"])
    return path, data


def card(name: str) -> dict[str, Any]:
    """The data card of a set, as read from ``graphdiff/data/cards``."""
    text = resources.files("graphdiff.data").joinpath("cards", f"{name}.toml").read_text("utf-8")
    return tomllib.loads(text)


def test_ids(name: str) -> list[int]:
    """A published list of test ids that ships with the package, sorted."""
    file = resources.files("graphdiff.data").joinpath("splits", f"{name}_test.txt.xz")
    return [int(line) for line in lzma.decompress(file.read_bytes()).split()]


test_ids.__test__ = False  # type: ignore[attr-defined]
