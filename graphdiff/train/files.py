"""Files that are whole or absent: synced writes, checksums, and telling pickles by their bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

__all__ = ["is_pickle", "put_folder", "sha256", "sync", "write_text"]

PROTOCOLS = (b"\x02", b"\x03", b"\x04", b"\x05")


def is_pickle(path: Path) -> bool:
    """Whether the file starts like a pickle or like what ``torch.save`` writes."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError:
        return False
    # The length of a safetensors header can look like the first bytes of a pickle.
    if head[4:8] == b"\0\0\0\0" and head[8:] == b"{":
        return False
    return head[:4] == b"PK\x03\x04" or (head[:1] == b"\x80" and head[1:2] in PROTOCOLS)


def sha256(path: Path) -> str:
    """Checksum of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a text and force it to the disk."""
    path.write_text(text, encoding="utf-8")
    sync(path)


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put_folder(building: Path, target: Path) -> None:
    """Give the finished folder its name; an older one of that name stays until then."""
    if not target.exists():
        building.rename(target)
        sync(target.parent)
        return
    old = target.with_name(f".{target.name}.old-{os.getpid()}")
    target.rename(old)
    try:
        building.rename(target)
    except OSError:
        old.rename(target)
        raise
    sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)
