"""Arrays in one uncompressed ``.npz`` file that can be memory-mapped, written atomically.

NumPy maps ``.npy`` files only. The members of an uncompressed zip archive are ``.npy`` files at a
fixed offset, so each can be mapped in place; compressed members are read instead.
"""

from __future__ import annotations

import math
import os
import struct
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import DataError

__all__ = ["read_arrays", "write_arrays", "write_bytes"]


def write_bytes(path: Path, data: bytes) -> Path:
    """Writes a file under a temporary name in the same folder, syncs and renames it.

    Raises:
        DataError: If the folder cannot be written or the disk is full; no partial file stays.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".tmp-", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
            Path(file.name).chmod(0o644)  # temporary files are private by default
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise DataError(
            f"cannot write {path}: {error.strerror or error}; free space there or choose another "
            "folder"
        ) from error
    return path


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Path:
    """Writes arrays as an uncompressed npz, atomically."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=".tmp-", suffix=".npz", delete=False
        ) as file:
            temporary = Path(file.name)
            np.savez(file, allow_pickle=False, **dict(arrays))
            Path(file.name).chmod(0o644)  # temporary files are private by default
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise DataError(
            f"cannot write {path}: {error.strerror or error}; free space there or choose another "
            "folder"
        ) from error
    return path


def read_arrays(path: Path, *, mmap: bool = True) -> dict[str, NDArray[Any]]:
    """Reads all arrays of an npz file, mapping those that are not compressed.

    Raises:
        DataError: If the file is missing, truncated, or no npz.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            arrays = {}
            for member in members:
                name = member.filename.removesuffix(".npy")
                if mmap and member.compress_type == zipfile.ZIP_STORED:
                    arrays[name] = _map(path, member)
                else:
                    with archive.open(member) as file:
                        arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
            return arrays
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist: check the path") from error
    except (OSError, ValueError, zipfile.BadZipFile, struct.error, EOFError) as error:
        raise DataError(
            f"{path} is truncated or no npz file ({error}): delete it and make it again"
        ) from error


def _map(path: Path, member: zipfile.ZipInfo) -> NDArray[Any]:
    """Maps one stored member; its data starts behind a local header of variable length."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        header = file.read(30)
        name, extra = struct.unpack("<HH", header[26:30])
        file.seek(member.header_offset + 30 + name + extra)
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(file)
        offset = file.tell()
    if dtype.hasobject:
        raise ValueError(f"array {member.filename} holds Python objects")
    if 0 in shape:
        return np.zeros(shape, dtype)
    mapped = np.memmap(path, dtype=np.uint8, mode="r", offset=offset)
    flat = mapped[: dtype.itemsize * math.prod(shape)].view(dtype)
    return flat.reshape(shape, order="F" if fortran else "C")
