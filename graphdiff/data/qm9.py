"""QM9 (Ramakrishnan et al. 2014): small organic molecules of up to nine heavy atoms C, N, O, F.

The file ``qm9.smi.xz`` has one line for each of the 133,885 entries of the GDB-9 list: line
``k`` (from 1) is the SMILES of entry ``k``, or empty if the entry is one of the 3,054
uncharacterised ones that the authors of QM9 advise to leave out. So a published list of GDB-9 ids
applies without any search. The test ids are those of CGVAE (Liu et al. 2018), 13,082 ids from 1,
all of them characterised; every other molecule is for training.
"""

from __future__ import annotations

import csv
import io
import lzma
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.dataset import Dataset
from graphdiff.data.preprocess import Progress, molecules
from graphdiff.data.sources import card, check_sha256, find, missing, read_bytes, test_ids

__all__ = ["from_package", "load_qm9"]

ENTRIES = 133_885
_FULL = "qm9/qm9_smiles_133885.csv"


def load_qm9(
    name: str = "qm9",
    root: str | Path | None = None,
    *,
    variant: str = "characterised",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Loads QM9 with the published test ids.

    Args:
        name: The registered name.
        root: Folder that holds ``qm9/qm9.smi.xz``; None = the search path.
        variant: "characterised" (130,831 molecules, embedded in the checkout) or "full" (all
            133,885, from a csv file ``qm9/qm9_smiles_133885.csv`` on the search path). Both have
            the same test molecules.
        workers: Processes of the first preprocessing.
        progress: Called with (done, total) during it.
    """
    about = card(name)
    if variant == "characterised":
        file, expected = about["file"], about["sha256"]
    elif variant == "full":
        file, expected = _FULL, about["full_sha256"]
    else:
        raise ArgumentError(f"variant must be 'characterised' or 'full', found {variant!r}")
    path = find([file], root)
    if path is None:
        raise missing(name, [file], root)
    data = read_bytes(path)
    check_sha256(path, data, expected)
    lines = data.decode("ascii").split("\n")[variant == "full" : ENTRIES + (variant == "full")]
    ids = np.asarray([k for k, s in enumerate(lines, 1) if s], dtype=np.int64)
    return _dataset(about, variant, [lines[k - 1].strip() for k in ids], ids, workers, progress)


def _dataset(
    about: dict[str, Any],
    variant: str,
    smiles: list[str],
    ids: np.ndarray[Any, np.dtype[np.int64]],
    workers: int | None,
    progress: Progress | None,
) -> Dataset:
    atoms = tuple(about["atoms"])
    graphs, text, kept, failures = molecules(
        "qm9" if variant == "characterised" else "qm9-full",
        smiles,
        atoms,
        workers=workers,
        progress=progress,
    )
    test = np.isin(ids[kept], np.asarray(test_ids("qm9")))
    about |= {
        "variant": variant,
        "failures": [(int(ids[i]), reason) for i, reason in failures],
        "test_ids_listed": len(test_ids("qm9")),
        "test_ids_found": int(test.sum()),
    }
    splits = {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}
    return Dataset("qm9", graphs, splits, atoms, text, about)


def from_package(wheel: str | Path) -> bytes:
    """Builds the content of ``qm9.smi.xz`` (not compressed) from the wheel of ``qm9pack``.

    Raises:
        DataError: If the file is no such wheel.
    """
    lines = [""] * ENTRIES
    try:
        with zipfile.ZipFile(wheel) as archive:
            parts = sorted(n for n in archive.namelist() if "/data/qm9_part" in n)
            for part in parts:
                with archive.open(part) as raw:
                    for row in csv.DictReader(io.TextIOWrapper(raw, "utf-8")):
                        lines[int(row["Index"]) - 1] = row["SMILES"]
    except (OSError, zipfile.BadZipFile, KeyError, IndexError, ValueError) as error:
        raise DataError(
            f"{wheel} is not the wheel of qm9pack 1.0.3 or is truncated ({error}): "
            "download it again"
        ) from error
    if not parts:
        raise DataError(f"{wheel} holds no qm9_part*.csv: expected the wheel of qm9pack 1.0.3")
    return ("\n".join(lines) + "\n").encode("ascii")


def compress(data: bytes) -> bytes:
    """The xz file of some content, strongest setting."""
    return lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)
