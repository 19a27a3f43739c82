"""Your own graphs or molecules as a data set: ``load("folder/my.smi")``.

What a file or folder may hold is what :func:`graphdiff.graph.read_samples.read_samples` reads:
SMILES (``.smi``, ``.txt``, ``.csv``), packed or dense graphs (``.npz``, ``.npy``), GraphML, or a
folder of edge lists. Splits are 80/10/10 by a hash of each graph's own content, so the same
molecule is never in two splits, order does not matter, and a set that grows keeps the splits of
the old part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import DataError
from graphdiff.data.dataset import Dataset
from graphdiff.data.graphs import Graphs

__all__ = ["load_own"]

SPLITS = (("train", 0.8), ("val", 0.9), ("test", 1.0))


def load_own(
    name: str,
    root: str | Path | None = None,
    *,
    atoms: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Loads a file or folder of graphs or SMILES.

    Args:
        name: Path of the file or folder.
        root: Unused; a path needs no search.
        atoms: Elements of the node classes of molecules; None = those that occur, most frequent
            first.
        progress: Called with (done, total) while molecules are read.

    Raises:
        DataError: If nothing can be read, or nothing is left to train on.
    """
    from graphdiff.graph.read_samples import read_samples

    path = Path(name).expanduser()
    found = read_samples(path)
    if isinstance(found, Graphs):
        about = {"name": path.stem, "source": path.name, "licence": "your own", "failures": []}
        keys = [hashlib.sha256(g.sha256().encode()).digest() for g in found]
        return Dataset(path.stem, found, _splits(keys, path), card=about)
    return _molecules(path, found, atoms, progress)


def _molecules(
    path: Path,
    smiles: Sequence[str],
    atoms: Sequence[str] | None,
    progress: Callable[[int, int], None] | None,
) -> Dataset:
    from graphdiff.data.preprocess import molecules

    elements = tuple(atoms) if atoms is not None else _elements(smiles, path)
    graphs, text, _, failures = molecules(path.stem, smiles, elements, progress=progress)
    if not len(graphs):
        raise DataError(
            f"no molecule of {path} could be read; the first reason is: {failures[0][1]}"
            if failures
            else f"{path} holds no molecule"
        )
    about: dict[str, Any] = {
        "name": path.stem,
        "source": path.name,
        "licence": "your own",
        "failures": failures,
    }
    keys = [hashlib.sha256(s.encode()).digest() for s in _canonical(text)]
    return Dataset(path.stem, graphs, _splits(keys, path), elements, text, about)


def _canonical(smiles: Sequence[str]) -> list[str]:
    """One spelling for each molecule, so that its spelling does not choose its split."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        return [Chem.MolToSmiles(Chem.MolFromSmiles(s)) for s in smiles]


def _elements(smiles: Sequence[str], path: Path) -> tuple[str, ...]:
    """Elements that occur, most frequent first.

    Raises:
        DataError: Nothing is a molecule.
    """
    from collections import Counter

    from rdkit import Chem, rdBase

    counts: Counter[str] = Counter()
    with rdBase.BlockLogs():
        for text in smiles:
            mol = Chem.MolFromSmiles(text)
            if mol is not None:
                counts.update(a.GetSymbol() for a in mol.GetAtoms())
    if not counts:
        raise DataError(f"{path} holds no SMILES that RDKit can read; give one in each line")
    return tuple(symbol for symbol, _ in counts.most_common())


def _splits(keys: Sequence[bytes], path: Path) -> dict[str, NDArray[np.int64]]:
    """Indices of the splits by the first bytes of each key."""
    place = np.asarray([int.from_bytes(k[:4], "big") / 2**32 for k in keys])
    splits, low = {}, 0.0
    for split, high in SPLITS:
        splits[split] = np.flatnonzero((place >= low) & (place < high))
        low = high
    if not len(splits["train"]):
        raise DataError(f"{path} holds {len(keys)} graphs, too few to train on; give more")
    return splits
