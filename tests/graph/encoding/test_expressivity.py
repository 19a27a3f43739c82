"""Graph sets: CSL, graph6 files, cycle counts by brute force; what separates which graphs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data import expressivity, sources
from graphdiff.data.expressivity import (
    CSL_SKIPS,
    count_cycles,
    csl,
    cycle_set,
    graph8c,
    parse_graph6,
    sr25,
    switch_edges,
)
from graphdiff.data.graphs import Graphs
from graphdiff.graph.encoding.network import ENCODERS, build
from graphdiff.graph.encoding.separation import (
    code_classes,
    graph_codes,
    neighbourhood_codes,
    relabelled,
    separation,
)
from graphdiff.graph.encoding.spectrum import decompose


def held(name: str) -> bool:
    return all(sources.find([entry["file"]]) for entry in sources.card(name)["files"])


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not held(name), reason=f"GRAPHDIFF_DATA holds no {name}")


def test_cycles_are_counted_as_by_enumeration() -> None:
    import networkx as nx

    made = cycle_set(40, nodes=(8, 12), seed=5)
    for graph, counts in zip(made.graphs.to_networkx(), made.counts, strict=True):
        lengths = np.array([len(c) for c in nx.simple_cycles(graph, length_bound=6)], np.int64)
        assert np.bincount(lengths, minlength=7)[3:7].tolist() == counts.tolist()
    assert np.array_equal(count_cycles(made.graphs, batch=7), made.counts)
    assert count_cycles(Graphs.empty()).shape == (0, 4)


def test_cycle_sets_are_half_regular_and_repeat() -> None:
    made = cycle_set(40, seed=1)
    assert made.graphs == cycle_set(40, seed=1).graphs
    assert made.graphs != cycle_set(40, seed=2).graphs
    assert (made.graphs.num_edges == 2 * made.graphs.num_nodes).all()
    assert made.regular.sum() == 20
    for k, graph in enumerate(made.graphs):
        degree = np.bincount(graph.edges.ravel(), minlength=int(graph.num_nodes[0]))
        assert (set(degree) == {4}) == bool(made.regular[k])
    spread = made.counts[made.regular, 0] / made.graphs.num_nodes[made.regular]
    assert spread.max() > 0.8  # near lattices: a triangle for each node
    assert spread.min() < 0.4


def test_switches_keep_degrees_and_reach_every_graph() -> None:
    """All fifteen perfect matchings of six nodes from one, about equally often."""
    start = np.array([(0, 1), (2, 3), (4, 5)])
    rng = np.random.default_rng(0)
    seen: dict[str, int] = {}
    for _ in range(600):
        edges = switch_edges(start, 12, rng)
        graph = Graphs.from_lists([6], [edges])
        assert np.bincount(graph.edges.ravel(), minlength=6).tolist() == [1] * 6
        seen[graph.sha256()] = seen.get(graph.sha256(), 0) + 1
    assert len(seen) == 15
    assert min(seen.values()) > 15
    assert np.array_equal(switch_edges(start, 0, rng), start)


def test_csl_has_ten_classes() -> None:
    """Copies share a spectrum; classes differ in it, or in nothing that is asked here."""
    graphs, label = csl(3, seed=0)
    assert len(graphs) == 30
    assert set(graphs.num_nodes) == {41}
    assert set(graphs.num_edges) == {82}
    assert label.tolist() == [k for k in range(10) for _ in range(3)]
    _, adj, mask = graphs.dense()
    values = decompose(
        torch.from_numpy((adj > 0).astype(np.float64)), torch.from_numpy(mask)
    ).values
    found = code_classes(values.numpy(), 1e-9)
    assert len(set(zip(found.tolist(), label.tolist(), strict=True))) == 10 == len(CSL_SKIPS)
    assert (adj.sum(2) == 4).all()
    assert len({g.sha256() for g in graphs}) == 30  # copies are really relabelled


def test_graph6_is_read_as_networkx_reads_it() -> None:
    import networkx as nx

    made = [nx.gnp_random_graph(n, 0.4, seed=n) for n in (1, 2, 5, 13, 62, 63, 100)]
    lines = b"".join(nx.to_graph6_bytes(g, header=k == 0) for k, g in enumerate(made))
    read = parse_graph6(lines)
    assert read == Graphs.from_networkx(made)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"D?{\nD?", "line 2 says 5 nodes, which takes 2 characters, and has 1"),
        (b"D?{{", "damaged"),
        (b"A`", "damaged"),
        (b"D?{\n\x01", "line 2 has characters that graph6 does not use"),
        (b"~~?????@", "more than 258,047 nodes"),
    ],
)
def test_damaged_graph6_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        parse_graph6(data, "here")


def test_missing_and_damaged_files(tmp_path) -> None:
    with pytest.raises(DataError, match="graphdiff data fetch sr25"):
        sr25(tmp_path)
    path = tmp_path / sources.card("graph8c")["files"][0]["file"]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"D?{\n")
    with pytest.raises(DataError, match="wrong checksum"):
        graph8c(tmp_path)


@pytest.mark.parametrize("name", ["sr25", "graph8c"])
def test_cards_fetch_what_they_load(name: str) -> None:
    about = sources.card(name)
    (entry,), (fetched,) = about["files"], about["fetch"]
    assert (entry["file"], entry["sha256"]) == (fetched["file"], fetched["sha256"])
    assert len(fetched["url"].split("/")[5]) == 40


@needs("graph8c")
def test_all_connected_graphs_of_eight_nodes() -> None:
    """Number, connectedness and number of edges as known; no two with one canonical key."""
    from scipy.sparse.csgraph import connected_components

    graphs = graph8c()
    assert len(graphs) == 11117
    assert set(graphs.num_nodes) == {8}
    assert graphs.num_edges.min() == 7
    assert graphs.num_edges.max() == 28
    assert (graphs.num_edges == 7).sum() == 23  # trees of eight nodes
    for graph in graphs[::400]:
        assert connected_components(graph.dense()[1][0])[0] == 1


@needs("sr25")
def test_strongly_regular_graphs() -> None:
    """A^2 = 12 I + 5 A + 6 (J - I - A), and so one projector algebra for all fifteen."""
    graphs = sr25()
    _, adj, _ = graphs.dense()
    assert len(adj) == 15
    eye, ones = np.eye(25), np.ones((25, 25))
    for a in adj:
        np.testing.assert_array_equal(a @ a, 12 * eye + 5 * a + 6 * (ones - eye - a))


# -- separation -----------------------------------------------------------------------------------


def test_equal_codes_are_found_on_every_axis() -> None:
    codes = np.array([[0, 1.0], [0, 2], [1, 2], [0, 1 + 1e-12], [1, 2.0]])
    assert len(set(code_classes(codes).tolist())) == 3
    label = code_classes(codes)
    assert label[0] == label[3]
    assert label[2] == label[4]
    found = separation(codes[:3], codes[[3, 1, 1]])
    assert (found.pairs, found.apart, found.torn) == (3, 3, 1)
    assert separation(codes[[0, 3]], codes[[0, 3]]).apart == 0
    with pytest.raises(ArgumentError, match="not finite"):
        code_classes(np.array([[np.nan]]))


HEXAGON = [(k, (k + 1) % 6) for k in range(6)]
TRIANGLES = [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5)]


@pytest.mark.parametrize("name", ENCODERS)
def test_a_hexagon_and_two_triangles(name: str) -> None:
    """Colour refinement cannot, every encoding can; only bare vectors tear a graph from itself."""
    graphs = Graphs.from_lists([6, 6], [HEXAGON, TRIANGLES])
    net = build(name, 8, seed=1)
    copies = [graph_codes(net, relabelled(graphs, seed)) for seed in range(4)]
    found = [separation(graph_codes(net, graphs), c) for c in copies]
    assert all(f.apart == (name != "none") for f in found)
    assert any(f.torn for f in found) == (name in ("laplacian", "signnet"))


@needs("sr25")
def test_strongly_regular_graphs_are_beyond_every_invariant_encoding() -> None:
    graphs = sr25()
    for name in ("none", "rwpe", "spe", "light-spe"):
        net = build(name, 8, seed=1)
        found = separation(graph_codes(net, graphs), graph_codes(net, relabelled(graphs)), 1e-7)
        assert (found.pairs, found.apart, found.torn) == (105, 0, 0)
    net = build("spe", 8, seed=1)
    first, second = (neighbourhood_codes(net, g) for g in (graphs, relabelled(graphs)))
    found = separation(first, second, 1e-7)
    assert found.torn == 0
    assert found.apart > 90


def test_codes_of_neighbourhoods_are_functions_of_the_graph() -> None:
    """The same in every company; zeros without edges."""
    graphs, net = cycle_set(6).graphs, build("spe", 4, seed=1)
    whole = neighbourhood_codes(net, graphs)
    assert whole.std(0).min() > 1e-6
    for k in range(6):
        alone = neighbourhood_codes(net, graphs[k : k + 1])
        np.testing.assert_allclose(alone, whole[k : k + 1], rtol=1e-9)
    bare = np.zeros((0, 2), np.int64)
    mixed = neighbourhood_codes(net, Graphs.from_lists([3, 2], [bare, [(0, 1)]]))
    assert (mixed[0] == 0).all()
    assert (mixed[1] != 0).all()
    assert neighbourhood_codes(net, Graphs.from_lists([3], [bare])).tolist() == [[0.0] * 4]
    assert neighbourhood_codes(net, Graphs.empty()).shape == (0, 4)
    assert graph_codes(net, Graphs.empty()).shape == (0, 4)


def test_codes_of_large_neighbourhoods_do_not_saturate() -> None:
    """Of dense graphs codes are large; what bounds them would lose the graphs."""
    rng = np.random.default_rng(0)
    pairs = np.stack(np.triu_indices(50, 1), 1)
    graphs = Graphs.from_lists([50] * 3, [pairs[rng.random(len(pairs)) < 0.8] for _ in range(3)])
    net = build("spe", 4, seed=2)
    with torch.no_grad():
        net.out[-1].bias.add_(50.0)
    copies = neighbourhood_codes(net, relabelled(graphs))
    found = separation(neighbourhood_codes(net, graphs), copies)
    assert (found.apart, found.torn) == (3, 0)


def test_a_pair_with_one_spectrum() -> None:
    """A star and a square with a lone node have one spectrum of the adjacency.

    What SPE knows of nodes differs.
    """
    star, square = [(0, k) for k in range(1, 5)], [*HEXAGON[:3], (3, 0)]
    graphs = Graphs.from_lists([5, 5], [star, square])
    net = build("spe", 8, seed=0)
    codes = graph_codes(net, graphs)
    assert separation(codes, graph_codes(net, relabelled(graphs))).apart == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: csl(0), "copies must be at least 1"),
        (lambda: cycle_set(0), "at least one graph"),
        (lambda: cycle_set(2, nodes=(4, 9)), "sizes from 8"),
    ],
)
def test_bad_input(call, words) -> None:
    with pytest.raises(ArgumentError, match=words):
        call()


def test_the_module_names_what_it_exports() -> None:
    assert all(hasattr(expressivity, name) for name in expressivity.__all__)
