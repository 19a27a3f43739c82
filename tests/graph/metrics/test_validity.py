"""Valid, unique, novel: rules and isomorphism against networkx, fractions by hand."""

from __future__ import annotations

import os
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from graphdiff.core.errors import ArgumentError
from graphdiff.data.graphs import Graphs
from graphdiff.data.synthetic import planar, tree
from graphdiff.graph.metrics import validity
from graphdiff.graph.metrics.validity import (
    is_connected,
    is_lobster,
    is_planar,
    is_tree,
    isomorphism_classes,
    judge,
    vun_metrics,
)

DATA = os.environ.get("GRAPHDIFF_DATA")


def pack(graphs: list[nx.Graph]) -> Graphs:
    named = [nx.convert_node_labels_to_integers(g) for g in graphs]
    return Graphs.from_lists([len(g) for g in named], [list(g.edges) for g in named])


def shuffled(graph: nx.Graph, seed: int) -> nx.Graph:
    names = np.random.default_rng(seed).permutation(len(graph))
    out = nx.Graph()
    out.add_nodes_from(range(len(graph)))
    number = dict(zip(graph.nodes, names.tolist(), strict=True))
    out.add_edges_from((number[u], number[v]) for u, v in graph.edges)
    return out


@pytest.fixture(scope="module")
def atlas() -> list[nx.Graph]:
    """All graphs with one to seven nodes, one of each isomorphism class."""
    return [g for g in nx.graph_atlas_g() if len(g)]


def is_lobster_plain(graph: nx.Graph) -> bool:
    if not nx.is_tree(graph):
        return False
    left = graph.copy()
    for _ in range(2):
        left.remove_nodes_from([v for v, d in list(left.degree) if d == 1])
    return all(d <= 2 for _, d in left.degree)


def draw_lobster(seed: int) -> nx.Graph:
    """A path with random legs of one or two edges."""
    rng = np.random.default_rng(seed)
    graph = nx.path_graph(8)
    for hip in rng.integers(0, 8, 6).tolist():
        knee = len(graph)
        graph.add_edge(hip, knee)
        graph.add_edges_from((knee, knee + 1 + k) for k in range(int(rng.integers(0, 3))))
    return graph


def test_rules_equal_networkx_on_all_small_graphs(atlas: list[nx.Graph]) -> None:
    graphs = pack(atlas)
    connected = [nx.is_connected(g) for g in atlas]
    assert is_connected(graphs).tolist() == connected
    flat = [nx.check_planarity(g)[0] and c for g, c in zip(atlas, connected, strict=True)]
    assert is_planar(graphs).tolist() == flat
    assert is_tree(graphs).tolist() == [nx.is_tree(g) for g in atlas]
    assert is_lobster(graphs).tolist() == [is_lobster_plain(g) for g in atlas]


def test_rules_on_larger_graphs() -> None:
    trees = [nx.from_prufer_sequence(np.random.default_rng(i).integers(0, 20, 18).tolist())
             for i in range(60)]  # fmt: skip
    lobsters = [draw_lobster(i) for i in range(60)]
    both = trees + lobsters
    want = [is_lobster_plain(g) for g in both]
    assert is_lobster(pack(both)).tolist() == want
    assert 0 < sum(want[:60]) < 60
    assert all(want[60:])
    assert is_planar(planar(5, (40, 64), seed=1)).all()
    assert is_tree(tree(5, seed=1)).all()
    bent = pack([nx.complete_bipartite_graph(3, 3), nx.petersen_graph(), nx.complete_graph(4)])
    assert is_planar(bent).tolist() == [False, False, True]


def test_graphs_without_nodes_are_invalid() -> None:
    graphs = Graphs(np.asarray([0, 1]), np.zeros(3, np.int64), np.zeros((0, 2), np.int32))
    for rule in validity.RULES.values():
        assert not rule(graphs)[0]
    assert judge(graphs).unique.tolist() == [True, True]


def test_all_small_graphs_are_told_apart_and_their_copies_found(atlas: list[nx.Graph]) -> None:
    copies = [shuffled(g, i) for i, g in enumerate(atlas)]
    first, second = isomorphism_classes(pack(atlas), pack(copies))
    assert first.tolist() == list(range(1252))  # no two graphs of the atlas are isomorphic
    assert second.tolist() == first.tolist()


def test_graphs_that_refinement_cannot_tell_apart() -> None:
    rook = nx.line_graph(nx.complete_bipartite_graph(4, 4))
    shift = [(0, 1), (0, 3), (1, 0), (3, 0), (1, 1), (3, 3)]
    cells = [(i, j) for i in range(4) for j in range(4)]
    shrikhande = nx.Graph(((i, j), ((i + a) % 4, (j + b) % 4)) for i, j in cells for a, b in shift)
    six, two = nx.cycle_graph(6), nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3))
    graphs = pack([rook, shrikhande, six, two, shuffled(rook, 1), shuffled(shrikhande, 2)])
    colour = validity._colours(graphs)
    assert len(np.unique(colour[:32])) == 1  # both are strongly regular with equal parameters
    assert isomorphism_classes(graphs)[0].tolist() == [0, 1, 2, 3, 0, 1]


def test_the_colours_alone_decide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a hash that always collides the answers stay exact, so no collision can do harm."""
    graphs = pack([g for g in nx.graph_atlas_g() if len(g) == 5])
    monkeypatch.setattr(validity, "_mix", np.zeros_like)
    assert isomorphism_classes(graphs)[0].tolist() == list(range(34))


def test_fractions_of_a_known_sample() -> None:
    path, star, ring = nx.path_graph(5), nx.star_graph(4), nx.cycle_graph(5)
    other = nx.Graph([(0, 1), (1, 2), (2, 3), (2, 4)])
    sample = pack([path, shuffled(path, 1), ring, star, other, shuffled(other, 2)])
    train = pack([shuffled(star, 3), nx.complete_graph(5)])
    found = judge(sample, train, "tree")
    assert found.valid.tolist() == [True, True, False, True, True, True]
    assert found.unique.tolist() == [True, False, True, True, True, False]
    assert found.novel.tolist() == [True, True, True, False, True, True]
    assert found.all.tolist() == [True, False, False, False, True, False]
    rows = {m.name: m for m in vun_metrics(sample, train, train, "tree")}
    assert list(rows) == ["validity", "uniqueness", "novelty", "vun"]
    assert [m.value for m in rows.values()] == pytest.approx([5 / 6, 4 / 6, 5 / 6, 2 / 6])
    assert rows["validity"].floor == 0.5
    assert rows["novelty"].floor == 0.0
    for metric in rows.values():
        low, high = metric.interval
        assert low < metric.value < high
    without = vun_metrics(sample, train, train)
    assert [m.name for m in without] == ["uniqueness", "novelty", "unique_novel"]
    with pytest.raises(ArgumentError, match="unknown validity rule 'round'"):
        judge(sample, train, "round")


def test_classes_of_nodes_and_edges_are_not_looked_at() -> None:
    plain = Graphs.from_lists([3], [[(0, 1), (1, 2)]])
    coloured = Graphs.from_lists([3], [[(0, 1), (0, 2)]], [[1, 2, 3]], [[1, 2]])
    assert not judge(coloured, plain).novel[0]


def published(name: str) -> Graphs:
    found = sorted(Path(str(DATA)).rglob(f"{name}.npz"))
    if not found:
        pytest.skip(f"{name}.npz is not under GRAPHDIFF_DATA")
    return Graphs.load(found[0])


@pytest.mark.skipif(not DATA, reason="GRAPHDIFF_DATA is not set")
@pytest.mark.parametrize(
    ("name", "classes", "seen"),
    [("gdss_community_small", 52, 10), ("gdss_ego_small", 82, 28), ("gdss_ENZYMES", 582, 0),
     ("spectre_community_12_21_100", 62, 5)],
)  # fmt: skip
def test_known_repetitions_of_the_published_sets(name: str, classes: int, seen: int) -> None:
    graphs = published(name)
    cut = len(graphs) // 5
    found = judge(graphs[:cut], graphs[cut:])
    assert len(np.unique(isomorphism_classes(graphs)[0])) == classes
    assert int((~found.novel).sum()) == seen


@pytest.mark.skipif(not DATA, reason="GRAPHDIFF_DATA is not set")
def test_published_sets_are_valid() -> None:
    assert is_planar(published("planar_test")).all()
    assert is_tree(published("tree_test")).all()
