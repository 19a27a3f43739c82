"""Public graphs: published sizes, splits that are disjoint, checksums, names."""

from __future__ import annotations

import os

import pytest
import torch

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.node_sets import load_nodes, node_set_names, read_geom
from graphdiff.data.nodes import UNKNOWN
from graphdiff.data.synthetic_nodes import contextual_blocks

needs_data = pytest.mark.skipif(
    not os.environ.get("GRAPHDIFF_DATA"), reason="GRAPHDIFF_DATA names no folder of data sets"
)
# Nodes, undirected edges, features, classes (Platonov et al., 2023; Pei et al., 2020, without
# directions, repetitions and self-loops).
SIZES = {
    "texas": (183, 279, 1703, 5), "wisconsin": (251, 450, 1703, 5),
    "film": (7600, 26659, 932, 5), "chameleon": (2277, 31371, 2325, 5),
    "squirrel": (5201, 198353, 2089, 5), "chameleon_filtered": (890, 8854, 2325, 5),
    "squirrel_filtered": (2223, 46998, 2089, 5), "minesweeper": (10000, 39402, 7, 2),
    "tolokers": (11758, 519000, 10, 2), "cora": (2708, 5278, 1433, 7),
    "citeseer": (3327, 4552, 3703, 6),
}  # fmt: skip


@needs_data
@pytest.mark.parametrize("name", node_set_names())
def test_sizes_and_splits(name):
    data = load_nodes(name)
    found = (data.n, data.edges.shape[1], data.features.shape[1], len(data.classes))
    assert found == SIZES[name]
    assert len(data.splits) == 10
    shares = (0.5, 0.25) if name in ("minesweeper", "tolokers") else (0.48, 0.32)
    for split in data.splits:
        parts = torch.cat([split.train, split.val, split.test])
        assert len(torch.unique(parts)) == len(parts)
        assert (data.labels[parts] != UNKNOWN).all()
        if name not in ("cora", "citeseer"):  # per class there, with another rounding
            assert abs(len(split.train) / data.n - shares[0]) < 0.06


@needs_data
def test_geom_and_reissued_files_agree():
    """Texas is published twice; the graphs are the same."""
    from graphdiff.data.sources import find

    path = find(["heterophilous/texas.npz"])
    assert path is not None
    other, ours = load_nodes(path), load_nodes("texas")
    assert torch.equal(other.edges, ours.edges)
    assert torch.equal(other.labels, ours.labels)


def test_unknown_names_list_the_known(tmp_path):
    with pytest.raises(ArgumentError, match="texas"):
        load_nodes("texsa")
    with pytest.raises(DataError, match="node-sets"):
        load_nodes("texas", root=tmp_path)


def test_a_changed_file_is_refused(tmp_path):
    place = tmp_path / "heterophilous"
    place.mkdir()
    (place / "minesweeper.npz").write_bytes(b"something else")
    with pytest.raises(DataError, match="checksum"):
        load_nodes("minesweeper", root=tmp_path)


def test_geom_files_by_vectors_and_by_words():
    edges = b"node_id\tnode_id\n0\t1\n2\t0\n"
    vectors = b"node_id\tfeature\tlabel\n1\t0,1\t0\n0\t1,0\t1\n2\t1,1\t1\n"
    pairs, features, labels = read_geom(edges, vectors, "mine")
    assert pairs.tolist() == [[0, 2], [1, 0]]
    assert features.tolist() == [[1, 0], [0, 1], [1, 1]]
    assert labels.tolist() == [1, 0, 1]
    words = b"node_id\tfeature(feature_amount:4)\tlabel\n0\t3\t0\n1\t0,2\t1\n2\t1\t0\n"
    assert read_geom(edges, words, "mine")[1].tolist() == [[0, 0, 0, 1], [1, 0, 1, 0], [0, 1, 0, 0]]
    with pytest.raises(DataError, match="cannot read"):
        read_geom(edges, b"node_id\tfeature\tlabel\n0\tx\t0\n", "mine")
    with pytest.raises(DataError, match="numbered"):
        read_geom(edges, b"node_id\tfeature\tlabel\n5\t1\t0\n", "mine")


@pytest.mark.parametrize("homophily", [0.0, 0.3, 1.0])
def test_contextual_blocks_have_the_homophily_that_was_asked_for(homophily):
    data = contextual_blocks(2000, 4, homophily=homophily, degree=10, signal=2.0)
    # Edges are merged and self-loops dropped: few of 10,000.
    assert abs(data.homophily - homophily) < 0.02
    a, b = data.labels[data.edges]
    other = a != b
    assert ((a - b)[other].abs() % 2 == 1).all()  # neighbours of another class are next to it
    means = torch.stack([data.features[data.labels == c].mean(0) for c in range(4)])
    assert (means.norm(dim=1) - 2.0).abs().max() < 0.5


def test_contextual_blocks_refuse_nonsense():
    with pytest.raises(ArgumentError, match="homophily"):
        contextual_blocks(homophily=1.5)
    with pytest.raises(ArgumentError, match="2 classes"):
        contextual_blocks(classes=1)


def test_cards_of_graphs_to_learn_on_are_complete_and_name_their_reader():
    from importlib import import_module

    from graphdiff.data import load
    from graphdiff.data.registry import learning_names, reader
    from graphdiff.data.sources import card

    for name in learning_names():
        about = card(name)
        assert about["name"] == name
        assert {"title", "licence", "source", "obtain", "files", "citation"} <= about.keys()
        assert ("fetch" in about) == about["obtain"].startswith("run: graphdiff data fetch")
        module, function = reader(name).split("(")[0].rsplit(".", 1)
        assert callable(getattr(import_module(module), function))
        with pytest.raises(ArgumentError, match="read it by graphdiff"):
            load(name)


def test_commands_list_and_describe_them():
    from typer.testing import CliRunner

    from graphdiff.cli.data import app

    listed = CliRunner().invoke(app, ["list"])
    assert "node-sets" in listed.output
    shown = CliRunner().invoke(app, ["info", "node-sets"])
    assert shown.exit_code == 0
    assert "load_nodes" in shown.output
