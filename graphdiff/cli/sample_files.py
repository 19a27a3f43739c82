"""Where ``graphdiff sample`` puts its results: a folder, one file, a picture."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphdiff.model import Model

__all__ = ["SAMPLES", "keep_file", "keep_picture", "places", "single_file"]

SAMPLES = "samples.json"
"""What says where samples come from."""
FILES = (".smi", ".sdf", ".fasta", ".fa", ".fna", ".faa", ".graphml", ".npz", ".png", ".csv")


def single_file(model: Model, out: Path, force: bool) -> str | None:
    """Name of the file that ``out`` asks for; None if it is a folder.

    Raises:
        ArgumentError: The model writes no such file.
        DataError: It is there already.
    """
    from graphdiff.core.errors import ArgumentError, DataError

    formats = model.task.formats()
    if out.is_dir() or out.suffix not in (*FILES, *formats):
        return None
    if out.suffix not in formats:
        known = ", ".join(formats) or "none"
        raise ArgumentError(
            f"--out {out}: a model of kind {model.task.kind!r} writes no {out.suffix} file, but "
            f"{known}; or give a folder"
        )
    if out.exists() and not force:
        raise DataError(f"{out} exists already; choose another --out, or replace it with --force")
    return formats[out.suffix]


def keep_file(summary: dict[str, Any], out: Path, name: str) -> dict[str, Any]:
    """Move the file and ``samples.json`` (as ``OUT.json``) out of the folder of the run."""
    folder = out.with_name(f".{out.name}.run")
    about = out.with_name(f"{out.name}.json")
    (folder / name).replace(out)
    (folder / SAMPLES).replace(about)
    pictures = [Path(f) for f in summary["files"] if f.endswith(".png")]
    kept = [path.replace(out.with_name(path.name)) for path in pictures]
    shutil.rmtree(folder, ignore_errors=True)
    return {**summary, "files": [str(out), str(about), *map(str, kept)]}


def places(out: Path | None, picture: str | None, draw: Path | None) -> tuple[Path, str | None]:
    """Where samples go, and the name that their picture has there.

    Raises:
        ArgumentError: Nothing says where, or a picture is asked for twice.
    """
    from graphdiff.core.errors import ArgumentError

    if draw is None:
        if out is None:
            raise ArgumentError("where to? give --out FOLDER (or FILE), or --draw PICTURE.png")
        return out, picture
    if picture is not None:
        raise ArgumentError("--picture and --draw are two ways to ask for one picture; give one")
    if draw.suffix.lower() != ".png":
        raise ArgumentError(f"--draw {draw}: pictures are PNG, give a name that ends in .png")
    return out if out is not None else draw.with_suffix(""), draw.name


def keep_picture(summary: dict[str, Any], draw: Path) -> dict[str, Any]:
    """Move the picture out of the folder of the samples; there is none of no samples."""
    draw.parent.mkdir(parents=True, exist_ok=True)
    files = []
    for name in summary["files"]:
        path = Path(name)
        if path.name == draw.name and path.resolve() != draw.resolve():
            path = path.replace(draw)
        files.append(str(path))
    return {**summary, "files": files}
