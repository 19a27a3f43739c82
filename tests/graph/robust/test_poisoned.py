"""Poisoned graphs of the literature: sizes, the clean graphs, and files that are not right."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data import poisoned, sources
from graphdiff.data.nodes import Split
from graphdiff.data.poisoned import graph_of, load_poisoned

HELD = all(sources.find([entry["file"]]) for entry in sources.card("poisoned-graphs")["files"])
PLANETOID = sources.find(["planetoid/ind.cora.graph"]) is not None
needs = pytest.mark.skipif(not HELD, reason="GRAPHDIFF_DATA holds no poisoned-graphs")
clean = pytest.mark.skipif(
    not (HELD and PLANETOID), reason="GRAPHDIFF_DATA holds no poisoned-graphs or no planetoid"
)


def codes(data) -> set[int]:
    return set((data.edges[0] * data.n + data.edges[1]).tolist())


@needs
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("cora", (2485, 1433, 247, 249, 1988, 7)),
        ("citeseer", (2110, 3703, 210, 211, 1688, 6)),
        ("polblogs", (1222, 1490, 121, 123, 978, 2)),
    ],
)
def test_sizes_are_the_published_ones(name, sizes) -> None:
    data = load_poisoned(name, 0.05)
    split = data.splits[0]
    parts = (len(split.train), len(split.val), len(split.test))
    assert (data.n, data.features.shape[1], *parts, len(data.classes)) == sizes
    assert data.notes == {}  # simple already


@clean
@pytest.mark.parametrize(("name", "edges"), [("cora", 5069), ("citeseer", 3668)])
def test_the_graph_before_the_attack(name, edges) -> None:
    before, after = load_poisoned(name, 0.0), load_poisoned(name, 0.05)
    assert before.edges.shape[1] == edges
    assert codes(before) < codes(after)
    assert after.edges.shape[1] - edges == int(0.05 * edges)
    assert torch.equal(before.features, after.features)
    assert len(before.isolated) == 0
    graph = sp.coo_matrix((np.ones(edges), before.edges.numpy()), shape=(before.n, before.n))
    assert sp.csgraph.connected_components(graph, directed=False)[0] == 1
    # What the attacker adds joins different classes.
    new = torch.tensor(sorted(codes(after) - codes(before)))
    u, v = new // after.n, new % after.n
    assert float((after.labels[u] != after.labels[v]).float().mean()) > 0.8


@needs
def test_damaged_and_overlapping_files_are_refused(tmp_path) -> None:
    for entry in sources.card("poisoned-graphs")["files"]:
        source = sources.find([entry["file"]])
        place = tmp_path / entry["file"]
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
    file = tmp_path / "stable_features/cora_labels.npy"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"cora_labels\.npy has a wrong checksum"):
        load_poisoned("cora", 0.1, tmp_path)
    (tmp_path / "prognn_attacked/meta/citeseer_meta_adj_0.2.npz").unlink()
    with pytest.raises(DataError, match="fetch poisoned-graphs"):
        load_poisoned("citeseer", 0.2, tmp_path)


def test_a_split_that_overlaps_is_refused() -> None:
    parts = {"idx_train": [0, 1], "idx_val": [1], "idx_test": [2]}
    with pytest.raises(DataError, match=r"both train and val \(node 1"):
        poisoned._split(json.dumps(parts).encode())


def test_what_there_is_not_is_named() -> None:
    with pytest.raises(ArgumentError, match=r"'pubmed' at rate 0\.05; there are cora"):
        load_poisoned("pubmed", 0.05)
    with pytest.raises(ArgumentError, match=r"0\.3"):
        load_poisoned("cora", 0.3)
    with pytest.raises(ArgumentError, match="clean graph of polblogs"):
        load_poisoned("polblogs", 0.0)


def test_nodes_with_equal_features_are_told_by_their_neighbours() -> None:
    """The match on a graph of nine nodes, three of them with equal words."""
    rng = np.random.default_rng(0)
    words = np.concatenate([np.eye(6), np.ones((3, 6))])[:, :6]
    edges = np.array([[6, 7, 8, 7, 0], [0, 1, 2, 3, 4]])
    order = rng.permutation(9)  # node order[k] of the source is node k here
    source = graph_of("source", _square(edges, 9), words, np.zeros(9, int))
    mine = np.empty(9, int)
    mine[order] = np.arange(9)
    moved = np.concatenate([mine[edges], mine[np.array([[5], [8]])]], 1)  # one edge more
    place = poisoned._match(_square(moved, 9), words[order] != 0, source)
    assert place.tolist() == order.tolist()


def test_an_adjacency_is_read_in_either_direction() -> None:
    upper = sp.coo_matrix(([1.0, 0.0], ([0, 1], [2, 2])), shape=(4, 4))
    y = np.array([0, 1, 0, -1])
    for matrix in (upper, upper.T, upper + upper.T):
        data = graph_of("g", matrix, None, y)
        assert data.edges.tolist() == [[0], [2]]  # an explicit zero is no edge
        assert "merged" not in data.notes
        assert data.notes["isolated"] == 2
    with pytest.raises(DataError, match=r"\(4, 4\) does not fit 3 labels"):
        graph_of("g", upper, None, y[:3])
    split = Split(torch.tensor([0]), torch.tensor([1]), torch.tensor([3]))
    with pytest.raises(DataError, match="no label"):
        graph_of("g", upper, None, y, (split,))


def test_the_card_is_complete() -> None:
    card = sources.card("poisoned-graphs")
    held = {entry["file"]: entry["sha256"] for entry in card["files"]}
    assert {e["file"]: e["sha256"] for e in card["fetch"]} == held
    assert all(Path(e["url"]).name == Path(e["file"]).name for e in card["fetch"])
    assert len(held) == 24


def _square(edges, n):
    half = sp.coo_matrix((np.ones(edges.shape[1]), edges), shape=(n, n))
    return (half + half.T).tocsr()
