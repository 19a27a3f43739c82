"""ZINC250k and MOSES: drug-like molecules with their published splits.

ZINC250k (Gómez-Bombarelli et al. 2018): 249,455 molecules in the order of the original table; the
test set is the published list of positions (from 0) of GDSS and MoFlow, 24,887 molecules.
MOSES (Polykovskiy et al. 2020): train, test and scaffold test come as three files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.dataset import Dataset
from graphdiff.data.preprocess import Progress, molecules
from graphdiff.data.sources import card, check_sha256, find, missing, read_bytes, test_ids

__all__ = ["load_file", "load_moses", "load_zinc250k"]


def load_zinc250k(
    name: str = "zinc250k",
    root: str | Path | None = None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Loads ZINC250k with the published test positions.

    Args:
        name: The registered name.
        root: Folder that holds ``zinc250k/zinc250k.smi.gz``; None = the search path.
        workers: Processes of the first preprocessing.
        progress: Called with (done, total) during it.
    """
    about = card(name)
    smiles = _lines(name, about["file"], about["sha256"], root)
    atoms = tuple(about["atoms"])
    graphs, text, kept, failures = molecules(
        name, smiles, atoms, workers=workers, progress=progress
    )
    listed = test_ids(name)
    test = np.isin(kept, np.asarray(listed))
    about |= {
        "failures": failures,
        "test_ids_listed": len(listed),
        "test_ids_found": int(test.sum()),
    }
    splits = {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}
    return Dataset(name, graphs, splits, atoms, text, about)


def load_moses(
    name: str = "moses",
    root: str | Path | None = None,
    *,
    splits: Sequence[str] = ("train", "test", "test_scaffolds"),
    workers: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Loads MOSES.

    Args:
        name: The registered name.
        root: Folder that holds ``moses/train.csv.gz`` and so on; None = the search path.
        splits: Which files to read; the training file has 1.58 million molecules.
        workers: Processes of the first preprocessing.
        progress: Called with (done, total) during it.
    """
    about = card(name)
    smiles: list[str] = []
    bounds = [0]
    for split in splits:
        if split not in about["files"]:
            raise ArgumentError(
                f"MOSES has no split {split!r}: choose among {', '.join(about['files'])}"
            )
        rows = _lines(name, about["files"][split]["file"], about["files"][split]["sha256"], root)
        smiles += [row.split(",")[0] for row in rows[1:]]
        bounds.append(len(smiles))
    atoms = tuple(about["atoms"])
    graphs, text, kept, failures = molecules(
        name, smiles, atoms, workers=workers, progress=progress
    )
    about["failures"] = failures
    cuts = np.searchsorted(kept, bounds)
    index = {s: np.arange(a, b) for s, a, b in zip(splits, cuts[:-1], cuts[1:], strict=True)}
    return Dataset(name, graphs, index, atoms, text, about)


def _lines(name: str, file: str, sha256: str, root: str | Path | None) -> list[str]:
    path = find([file], root)
    if path is None:
        raise missing(name, [file], root)
    data = read_bytes(path)
    check_sha256(path, data, sha256)
    return data.decode("ascii").splitlines()


def load_file(
    path: str | Path,
    atoms: Sequence[str],
    *,
    test: float = 0.0,
    strict: bool = True,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Reads a user's SMILES file, one a line (text behind the first blank is a name).

    Args:
        path: A plain, ``.gz`` or ``.xz`` file.
        atoms: Elements that may occur, in the order of the node classes.
        test: Share of the molecules, from the front, that form the split "test".
        strict: Refuse the file if a line cannot be read; else list it in ``card["failures"]``.
        workers: Processes of the preprocessing.
        progress: Called with (done, total) during it.

    Raises:
        DataError: If a line does not parse, with file, line number and text; or the file is empty.
    """
    path = Path(path)
    if not 0 <= test < 1:
        raise ArgumentError(f"test must be a share in [0, 1), found {test}")
    try:
        text = read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text file ({error}): give one SMILES a line") from error
    rows = [(k, row.split()[0]) for k, row in enumerate(text.splitlines(), 1) if row.strip()]
    if not rows:
        raise DataError(f"{path} holds no SMILES: give one a line")
    smiles = [s for _, s in rows]
    graphs, kept_text, _, failures = molecules(
        "file", smiles, atoms, workers=workers, progress=progress
    )
    where: list[tuple[int, str]] = [(rows[i][0], reason) for i, reason in failures]
    if where and strict:
        line, reason = where[0]
        more = f" ({len(where)} lines cannot be read)" if len(where) > 1 else ""
        raise DataError(f"{path}, line {line}: {reason}{more}; strict=False leaves such lines out")
    cut = int(test * len(graphs))
    splits = {"train": np.arange(cut, len(graphs)), "test": np.arange(cut)}
    about: dict[str, Any] = {"name": path.stem, "source": str(path), "failures": where}
    return Dataset(path.stem, graphs, splits, tuple(atoms), kept_text, about)
