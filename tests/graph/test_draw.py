"""Pictures are PNG files of the asked size."""

from __future__ import annotations

import struct
from pathlib import Path

import networkx as nx
import pytest

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.draw import draw_graphs, draw_molecules, graphs_png, molecules_png


def size(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


def test_molecules_valid_or_not(tmp_path: Path) -> None:
    from rdkit import Chem

    bad = Chem.MolFromSmiles("C(C)(C)(C)(C)C", sanitize=False)
    mols = [Chem.MolFromSmiles("c1ccccc1O"), bad, Chem.Mol(), Chem.MolFromSmiles("CC.O")]
    path = draw_molecules(mols, tmp_path / "deep" / "m.png", columns=3, size=120)
    assert size(path.read_bytes()) == (360, 240)
    assert bad.GetNumConformers() == 0  # the caller's molecule is untouched
    with pytest.raises(ArgumentError, match="no molecules"):
        molecules_png([])


def test_graphs(tmp_path: Path) -> None:
    graphs = [nx.path_graph(4), nx.empty_graph(1), nx.Graph(), nx.complete_graph(6)]
    path = draw_graphs(graphs, tmp_path / "g.png", columns=2, size=100)
    assert size(path.read_bytes()) == (200, 200)
    assert graphs_png(graphs[:1]) == graphs_png(graphs[:1])
    with pytest.raises(ArgumentError, match="no graphs"):
        graphs_png([])
