"""Keys and classes of the forms graphs come in, and the metrics that use them."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
import rustworkx
from canonical_support import cfi, of, shuffled

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.graphs import Graphs, concat
from graphdiff.graph.canonical import Canonizer, ColouredGraph, canonical_keys, partition
from graphdiff.graph.canonical import nauty as backend
from graphdiff.graph.convert import to_state
from graphdiff.graph.metrics import validity
from graphdiff.graph.metrics.validity import isomorphism_classes, judge

NAUTY = pytest.mark.skipif(not backend.available(), reason="needs the extra canon (pynauty)")


def pack(graphs: list[ColouredGraph]) -> Graphs:
    return Graphs.from_lists([g.nodes for g in graphs], [g.edges for g in graphs])


def mixed(count: int, seed: int) -> Graphs:
    """Sparse random graphs of 1 to 8 nodes, and copies of pairs that refinement cannot tell."""
    rng = np.random.default_rng(seed)
    graphs = [of(nx.gnp_random_graph(int(n), 0.3, seed=int(rng.integers(1 << 30))))
              for n in rng.integers(1, 9, count)]  # fmt: skip
    two = of(nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3)))
    odd = [of(nx.cycle_graph(6)), two, *(cfi(nx.complete_graph(4), twisted=t) for t in (0, 1))]
    odd += [shuffled(g, k) for k, g in enumerate(odd)]
    return pack([*graphs, *odd, *odd])


def test_all_forms_of_a_molecule_have_one_key() -> None:
    """Ethanol and dimethyl ether as C=0, O=1, with a double bond in the third."""
    ethanol, ether, enol = [(0, 1), (1, 2)], [(0, 2), (1, 2)], [(0, 1), (1, 2)]
    packed = Graphs.from_lists(
        [3, 3, 3], [ethanol, ether, enol], [[0, 0, 1]] * 3, [[1, 1], [1, 1], [2, 1]]
    )
    keys = canonical_keys(packed)
    assert len(set(keys)) == 3
    turned = Graphs.from_lists([3], [[(0, 1), (1, 2)]], [[1, 0, 0]], [[1, 2]])
    assert canonical_keys(turned) == [keys[2]]
    assert canonical_keys(to_state(packed)) == keys
    assert canonical_keys(packed.to_networkx()) == keys
    assert canonical_keys(packed.to_networkx()[1]) == [keys[1]]
    assert len(set(canonical_keys(packed, colours=False))) == 1
    assert len(set(canonical_keys(packed.to_networkx(), colours=False))) == 1
    name, digest = keys[0].split(":")
    assert name == Canonizer().name
    assert len(digest) == 64


def test_a_key_does_not_depend_on_the_rest_of_the_set() -> None:
    """Ethane alone and beside ethanol, packed and as a state; classes that say nothing are none."""
    ethane = Graphs.from_lists([2], [[(0, 1)]], [[0, 0]], [[1]])
    ethanol = Graphs.from_lists([3], [[(0, 1), (1, 2)]], [[0, 0, 1]], [[1, 1]])
    methane = Graphs.from_lists([1], [np.zeros((0, 2))], [[0]], [[]])
    both = concat([ethane, ethanol, methane])
    keys = canonical_keys(both)
    assert len(set(keys)) == 3
    forms = [both, to_state(both), both.to_networkx()]
    for k, alone in enumerate((ethane, ethanol, methane)):
        for form in (alone, to_state(alone), alone.to_networkx()):
            assert canonical_keys(form) == [keys[k]]
            assert partition(form, *forms)[0].tolist() == [0]
            assert all(p[k] == 0 for p in partition(form, *forms)[1:])
    assert canonical_keys(both, colours=False)[::2] == keys[::2]
    assert canonical_keys(nx.path_graph(2)) == keys[:1]


@pytest.mark.parametrize("name", ["search", pytest.param("nauty", marks=NAUTY)])
def test_colours_count_unless_all_are_the_default(name: Any) -> None:
    ring = np.array(nx.cycle_graph(5).edges)
    used, plain = Canonizer(name), ColouredGraph(5, ring)
    for nodes, edges in (([0] * 5, None), (None, [1] * 5), ([0] * 5, [1] * 5)):
        graph = shuffled(ColouredGraph(5, ring, nodes, edges), 1)
        assert used.form(graph) == used.form(plain)
        assert used.labels(graph).tolist() == used.labels(graph.without_defaults()).tolist()
    others = [([1] * 5, None), (None, [2] * 5), (None, [0] * 5), ([0] * 5, [1] * 4 + [2])]
    forms = {used.form(ColouredGraph(5, ring, *colours)) for colours in others}
    assert len(forms | {used.form(plain)}) == 5


@pytest.mark.parametrize("name", ["search", pytest.param("nauty", marks=NAUTY)])
def test_edgeless_graphs_have_one_key_in_all_forms(name: Any) -> None:
    """A set may have classes of edges where this graph has no edge; networkx then finds none."""
    atoms = Graphs.from_lists([1, 3], [np.zeros((0, 2))] * 2, [[3], [2, 0, 2]], [[], []])
    used = Canonizer(name)
    keys = canonical_keys(atoms, canonizer=used)
    assert canonical_keys(atoms.to_networkx(), canonizer=used) == keys
    assert canonical_keys(to_state(atoms), canonizer=used) == keys
    assert len(set(keys)) == 2


def test_networkx_graphs_may_be_directed_and_have_any_names() -> None:
    there, back = nx.DiGraph([("a", "b"), ("b", "c")]), nx.DiGraph([("c", "b"), ("b", "a")])
    apart = nx.DiGraph([("a", "b"), ("c", "b")])
    first, second = partition([there, back], [apart, nx.path_graph(3)])
    assert first.tolist() == [0, 0]
    assert second.tolist() == [1, 2]
    assert partition([there, of(there)], colours=False)[0].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([nx.path_graph(2), nx.MultiGraph([(0, 1), (0, 1)])], "graph 1: is a MultiGraph"),
        ([nx.Graph([(0, 1), (1, 1)])], r"graph 0: edge \(1, 1\) is a self-loop"),
        ([[(0, 1)]], "graph 0: is a list, expected a ColouredGraph or a networkx graph"),
    ],
)
def test_graphs_that_are_none_are_refused(given: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        canonical_keys(given)


def test_colours_that_are_words_are_refused() -> None:
    graph = nx.path_graph(2)
    nx.set_node_attributes(graph, "C", "type")
    with pytest.raises(ArgumentError, match="graph 0: node_colour must be whole numbers"):
        canonical_keys(graph)
    state = to_state(Graphs.from_lists([2], [[(0, 1)]]))
    state.values["adj"][0, 0, 1] = 2
    with pytest.raises(DataError, match="symmetric"):
        canonical_keys(state)


@NAUTY
@pytest.mark.parametrize("seed", range(3))
def test_canonical_and_pairwise_classes_are_the_same(seed: int) -> None:
    first, second = mixed(400, seed), mixed(100, seed + 10)
    ours = isomorphism_classes(first, second, method="canonical")
    theirs = isomorphism_classes(first, second, method="pairwise")
    general = partition(first, second, canonizer=Canonizer("search"))
    for a, b, c in zip(ours, theirs, general, strict=True):
        assert a.tolist() == b.tolist() == c.tolist()
    assert ours[0].max() > 100
    found, known = judge(first, second), np.isin(theirs[0], theirs[1])
    assert found.novel.tolist() == (~known).tolist()


@NAUTY
def test_one_certificate_in_place_of_many_isomorphism_tests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """64 cubic graphs in one bucket: pairs are compared with all that came before."""
    cubic = [of(nx.random_regular_graph(3, 14, seed)) for seed in range(64)]
    graphs, asked = pack(cubic), {"pairs": 0, "labels": 0}
    compare, certify = rustworkx.is_isomorphic, backend.load().certificate

    def counted(*args: Any, **options: Any) -> bool:
        asked["pairs"] += 1
        return bool(compare(*args, **options))

    def counting(graph: Any) -> bytes:
        asked["labels"] += 1
        return bytes(certify(graph))

    monkeypatch.setattr(rustworkx, "is_isomorphic", counted)
    monkeypatch.setattr(backend.load(), "certificate", counting)
    ours = isomorphism_classes(graphs, method="canonical")[0]
    assert asked == {"pairs": 0, "labels": 64}
    theirs = isomorphism_classes(graphs, method="pairwise")[0]
    assert ours.tolist() == theirs.tolist()
    assert asked["labels"] == 64
    assert asked["pairs"] > 640
    distinct = pack([of(nx.path_graph(n)) for n in range(2, 30)])
    isomorphism_classes(distinct)
    assert asked["labels"] == 64  # graphs alone in their bucket need neither


@NAUTY
def test_large_graphs_and_missing_pynauty_go_to_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    rings = pack([of(nx.cycle_graph(validity.LARGEST + 1))] * 2 + [of(nx.cycle_graph(5))] * 2)
    asked: list[int] = []
    keep = validity.certificates
    monkeypatch.setattr(
        validity, "certificates", lambda g, rows: asked.extend(rows) or keep(g, rows)
    )
    assert isomorphism_classes(rings)[0].tolist() == [0, 0, 1, 1]
    assert asked == [2, 3]
    monkeypatch.setattr(validity, "available", lambda: False)
    assert isomorphism_classes(rings)[0].tolist() == [0, 0, 1, 1]
    assert asked == [2, 3]
    empty = Graphs(np.zeros(2, np.int64), np.zeros(3, np.int64), np.zeros((0, 2), np.int32))
    assert isomorphism_classes(concat([empty, rings[2:]]))[0].tolist() == [0, 0, 1, 1]
    with pytest.raises(ArgumentError, match="method must be auto, canonical or pairwise"):
        isomorphism_classes(rings, method="both")
