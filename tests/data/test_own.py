"""A user's own files as data sets."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data import Graphs, load

SMILES = [f"{'C' * k}({tail}){'C' * j}" for k in range(1, 8) for j in range(5) for tail in "NOF"]


@pytest.fixture
def smiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "mine.smi"
    path.write_text("\n".join(SMILES) + "\n", "utf-8")
    return path


def test_molecules_are_read_with_the_elements_that_occur(smiles: Path) -> None:
    data = load(str(smiles))
    assert data.name == "mine"
    assert data.atoms is not None
    assert data.atoms[0] == "C"
    assert set(data.atoms) == set("CNOF")
    assert len(data.graphs) == len(SMILES)
    assert sum(map(len, data.splits.values())) == len(SMILES)
    assert len(data.splits["train"]) > 0.5 * len(SMILES)


def test_the_split_of_a_molecule_is_its_own(smiles: Path) -> None:
    """Neither order, nor spelling, nor what else is in the file moves a molecule."""
    from rdkit import Chem

    def splits(path: Path) -> dict[str, str]:
        data = load(str(path))
        return {
            Chem.CanonSmiles(s): split for split in data.splits for s in data.split_smiles(split)
        }

    whole = splits(smiles)
    part = smiles.with_name("part.smi")
    reversed_ = [Chem.MolToSmiles(Chem.MolFromSmiles(s), rootedAtAtom=1) for s in SMILES[::-2]]
    part.write_text("\n".join(reversed_) + "\n", "utf-8")
    assert all(whole[s] == split for s, split in splits(part).items())


def test_lines_that_cannot_be_read_are_kept_as_failures(smiles: Path) -> None:
    smiles.write_text("CCO\nnot a molecule\nCCN\nCCC\nCCF\n", "utf-8")
    data = load(str(smiles))
    assert len(data.graphs) == 4
    assert len(data.card["failures"]) == 1


def test_graphs_of_a_file_and_of_a_folder(tmp_path: Path) -> None:
    rings = [nx.cycle_graph(4 + k) for k in range(12)]
    packed = Graphs.from_networkx(rings)
    packed.save(tmp_path / "rings.npz")
    folder = tmp_path / "rings"
    folder.mkdir()
    for k, ring in enumerate(rings):
        nx.write_edgelist(ring, folder / f"{k:02}.edges", data=False)
    file, many = load(str(tmp_path / "rings.npz")), load(str(folder))
    assert file.atoms is None
    assert np.array_equal(np.sort(many.graphs.num_nodes), np.arange(4, 16))
    assert file.graphs == packed


def test_what_is_no_file_and_no_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"'nowhere\.smi': it is no file or folder, and none"):
        load("nowhere.smi")
    empty = tmp_path / "empty.smi"
    empty.write_text("?\n??\n", "utf-8")
    with pytest.raises(DataError, match="no SMILES that RDKit can read"):
        load(str(empty))
