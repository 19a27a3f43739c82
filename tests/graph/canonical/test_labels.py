"""Canonical labels: complete on both backends, against networkx and published counts."""

from __future__ import annotations

import importlib
import itertools
from typing import Any

import networkx as nx
import numpy as np
import pytest
from canonical_support import cfi, graph6, of, shuffled
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.canonical import Canonizer, ColouredGraph, canonical_form, canonical_labels
from graphdiff.graph.canonical import nauty as backend
from graphdiff.graph.canonical.search import LARGEST, search

BACKENDS = ["search", pytest.param("nauty", marks=pytest.mark.skipif(
    not backend.available(), reason="needs the extra canon (pynauty)"))]  # fmt: skip


@st.composite
def coloured_graphs(draw: Any, most: int = 7) -> ColouredGraph:
    n, directed = draw(st.integers(0, most)), draw(st.booleans())
    pairs = list((itertools.permutations if directed else itertools.combinations)(range(n), 2))
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    colours = st.integers(-1, 1)
    seen = draw(st.none() | st.lists(colours, min_size=n, max_size=n))
    kinds = draw(st.none() | st.lists(st.integers(-2, 2), min_size=len(edges), max_size=len(edges)))
    return ColouredGraph(n, np.array(edges, np.int64).reshape(-1, 2), seen, kinds, directed)


def to_networkx(graph: ColouredGraph) -> nx.Graph:
    out = nx.DiGraph() if graph.directed else nx.Graph()
    colour = [0] * graph.nodes if graph.node_colour is None else graph.node_colour.tolist()
    out.add_nodes_from((v, {"c": c}) for v, c in enumerate(colour))
    kinds = [0] * len(graph.edges) if graph.edge_colour is None else graph.edge_colour.tolist()
    out.add_edges_from(
        (u, v, {"c": c}) for (u, v), c in zip(graph.edges.tolist(), kinds, strict=True)
    )
    return out


def isomorphic(a: ColouredGraph, b: ColouredGraph) -> bool:
    same = lambda x, y: x["c"] == y["c"]  # noqa: E731
    return bool(nx.is_isomorphic(to_networkx(a), to_networkx(b), node_match=same, edge_match=same))


@pytest.mark.parametrize("name", BACKENDS)
@settings(max_examples=150, deadline=None)
@given(graph=coloured_graphs(), seed=st.integers(0, 1000))
def test_renumbered_graphs_get_the_same_form(name: Any, graph: ColouredGraph, seed: int) -> None:
    copy = shuffled(graph, seed)
    labels = [canonical_labels(g, backend=name) for g in (graph, copy)]
    first, second = (g.relabelled(rho) for g, rho in zip((graph, copy), labels, strict=True))
    assert np.array_equal(first.edges, second.edges)
    for a, b in ((first.node_colour, second.node_colour), (first.edge_colour, second.edge_colour)):
        assert (a is None and b is None) or np.array_equal(a, b)
    assert canonical_form(graph, backend=name) == canonical_form(copy, backend=name)


@pytest.mark.parametrize("name", BACKENDS)
@settings(max_examples=150, deadline=None)
@given(graph=coloured_graphs(5), seed=st.integers(0, 1000), which=st.integers(0, 3))
def test_forms_are_equal_exactly_for_isomorphic_graphs(
    name: Any, graph: ColouredGraph, seed: int, which: int
) -> None:
    """A copy in which a colour of nodes or edges, an arc or an edge is changed."""
    rng = np.random.default_rng(seed)
    other = shuffled(graph, seed)
    edges, seen, kinds = other.edges.copy(), other.node_colour, other.edge_colour
    if which == 0 and seen is not None:
        seen = rng.permutation(seen)
    elif which == 1 and kinds is not None:
        kinds = rng.permutation(kinds)
    elif which == 2 and len(edges) == 1:
        edges = edges[:, ::-1]
    elif len(edges):
        u, v = rng.permutation(graph.nodes)[:2].tolist()
        code = {(a, b) if graph.directed else (min(a, b), max(a, b)) for a, b in edges.tolist()}
        if ((u, v) if graph.directed else (min(u, v), max(u, v))) not in code:
            edges[0] = (u, v)
    other = ColouredGraph(graph.nodes, edges, seen, kinds, graph.directed)
    same = canonical_form(graph, backend=name) == canonical_form(other, backend=name)
    assert same == isomorphic(graph, other)


@pytest.mark.parametrize("name", BACKENDS)
def test_all_colourings_of_edges_of_a_square(name: Any) -> None:
    """Burnside: cycles of length 4 with k colours have (k^4 + 2k + 3k^2 + 2k^3) / 8 classes."""
    for k in (1, 2, 3, 5):
        ring = [(0, 1), (1, 2), (2, 3), (3, 0)]
        found = Canonizer(name)
        each = itertools.product(range(k), repeat=4)
        forms = {found.form(ColouredGraph(4, np.array(ring), None, list(c))) for c in each}
        classes = (k**4 + 2 * k + 3 * k**2 + 2 * k**3) // 8
        assert len(forms) == classes


@pytest.mark.parametrize("name", BACKENDS)
def test_directed_graphs_of_three_and_four_nodes(name: Any) -> None:
    """There are 16 and 218 digraphs on three and four nodes (OEIS A000273)."""
    for n, classes in ((3, 16), (4, 218)):
        arcs = list(itertools.permutations(range(n), 2))
        found = Canonizer(name, cache=0)
        forms = set()
        for bits in range(2 ** len(arcs)):
            chosen = [a for i, a in enumerate(arcs) if bits >> i & 1]
            edges = np.array(chosen, np.int64).reshape(-1, 2)
            forms.add(found.form(ColouredGraph(n, edges, directed=True)))
        assert len(forms) == classes


@pytest.mark.parametrize("name", BACKENDS)
def test_regular_and_symmetric_graphs(name: Any) -> None:
    found = Canonizer(name)
    graphs = [nx.petersen_graph(), nx.hypercube_graph(5), nx.complete_graph(30), nx.empty_graph(30)]
    graphs += [nx.circulant_graph(41, [1, r]) for r in (2, 3, 4, 5, 6, 9, 11, 12, 13, 16)]
    graphs += [nx.random_regular_graph(3, 20, seed) for seed in range(10)]
    graphs += [nx.disjoint_union_all([nx.cycle_graph(k)] * (12 // k)) for k in (3, 4, 6)]
    graphs += [nx.line_graph(nx.complete_bipartite_graph(4, 4)), nx.balanced_tree(2, 4)]
    ours = [of(g) for g in graphs]
    forms = [found.form(g) for g in ours]
    assert len(set(forms)) == len(graphs)
    for seed in range(3):
        assert [found.form(shuffled(g, seed)) for g in ours] == forms


@pytest.mark.parametrize("name", BACKENDS)
def test_pairs_that_refinement_of_pairs_cannot_tell_apart(name: Any) -> None:
    """CFI graphs over a base of treewidth 3: equal for 2-WL, twisted once or not."""
    found = Canonizer(name)
    for base in (nx.complete_graph(4), nx.petersen_graph()):
        straight, crossed = (cfi(base, twisted=t) for t in (False, True))
        assert found.form(straight) != found.form(crossed)
        for seed in range(2):
            assert found.form(shuffled(straight, seed)) == found.form(straight)
            assert found.form(shuffled(crossed, seed)) == found.form(crossed)


@pytest.mark.parametrize("name", BACKENDS)
def test_strongly_regular_graphs(name: Any) -> None:
    graphs, found = graph6("sr25/raw/sr251256.g6"), Canonizer(name)
    assert len({found.form(g) for g in graphs}) == 15
    assert [found.form(shuffled(g, 1)) for g in graphs] == [found.form(g) for g in graphs]


@pytest.mark.parametrize("name", BACKENDS)
def test_the_connected_graphs_of_eight_nodes(name: Any) -> None:
    """All 11,117 are told apart, and copies of every tenth are found again."""
    graphs, found = graph6("graph8c/raw/graph8c.g6"), Canonizer(name)
    forms = [found.form(g) for g in graphs]
    assert len(set(forms)) == 11_117
    assert [found.form(shuffled(g, 5)) for g in graphs[::10]] == forms[::10]


def test_backends_agree_on_the_classes() -> None:
    pytest.importorskip("pynauty", reason="needs the extra canon (pynauty)")
    rng = np.random.default_rng(0)
    graphs = []
    for _ in range(400):
        n = int(rng.integers(2, 6))
        directed = bool(rng.random() < 0.5)
        pairs = list((itertools.permutations if directed else itertools.combinations)(range(n), 2))
        kept = np.array([p for p in pairs if rng.random() < 0.5], np.int64).reshape(-1, 2)
        kinds, seen = rng.integers(0, 2, len(kept)), rng.integers(0, 2, n)
        graphs.append(ColouredGraph(n, kept, seen, kinds, directed))
    ours, theirs = ([Canonizer(b).form(g) for g in graphs] for b in ("search", "nauty"))
    pairs = set(zip(ours, theirs, strict=True))
    assert len(pairs) == len(set(ours)) == len(set(theirs)) < 400


def test_symmetry_saves_work() -> None:
    """Without automorphisms a search of the complete graph would have 30! leaves."""
    assert search(of(nx.complete_graph(30)))[1] < 500
    assert search(of(nx.circulant_graph(41, [1, 3])))[1] < 10
    for g in (nx.gnp_random_graph(60, 0.2, seed=0), nx.gnp_random_graph(200, 0.05, seed=1)):
        assert search(of(g))[1] < 5
    pairs = np.array(list(itertools.combinations(range(9), 2)))
    distinct = ColouredGraph(9, pairs, edge_colour=np.arange(len(pairs)))
    tournament = ColouredGraph(9, pairs, directed=True)
    assert [search(g)[1] for g in (distinct, tournament)] == [1, 1]  # refinement is enough


def test_work_is_bounded_and_the_message_names_the_extra() -> None:
    hard = cfi(nx.petersen_graph(), twisted=True)
    with pytest.raises(ArgumentError, match=r"more than 20 colourings.*graphdiffusion\[canon\]"):
        search(hard, 20)
    with pytest.raises(ArgumentError, match=r"up to 400 nodes, found 401.*graphdiffusion\[canon\]"):
        search(of(nx.empty_graph(LARGEST + 1)))
    with pytest.raises(ArgumentError, match="too symmetric"):
        canonical_labels(hard, backend="search", limit=20)


def test_labels_are_kept_for_graphs_that_come_again() -> None:
    canonizer = Canonizer("search", cache=2)
    graph = of(nx.petersen_graph())
    first = canonizer.labels(graph)
    first[:] = -1  # a caller may write into what it got
    again = canonizer.labels(of(nx.petersen_graph()))
    assert canonizer.computed == 1
    assert sorted(again.tolist()) == list(range(10))
    again[:] = -1
    assert sorted(canonizer.labels(graph).tolist()) == list(range(10))
    canonizer.labels(shuffled(graph, 1))
    assert canonizer.computed == 2
    canonizer.labels(of(nx.path_graph(3)))
    canonizer.labels(graph)  # was dropped as the oldest
    assert canonizer.computed == 4
    colourless = Canonizer("search")
    colourless.labels(graph)
    colourless.labels(ColouredGraph(10, graph.edges, np.zeros(10, np.int64)))  # says nothing
    assert colourless.computed == 1
    colourless.labels(ColouredGraph(10, graph.edges, np.ones(10, np.int64)))
    assert colourless.computed == 2


@pytest.mark.parametrize("nodes", [0, 1])
def test_graphs_without_edges_or_nodes(nodes: int) -> None:
    empty = ColouredGraph(nodes, np.zeros((0, 2)))
    assert canonical_labels(empty).tolist() == list(range(nodes))
    assert canonical_form(empty) == canonical_form(ColouredGraph(nodes, []))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ColouredGraph(3, [(0, 1), (2, 2)]), r"edge \(2, 2\) is a self-loop"),
        (lambda: ColouredGraph(3, [(0, 1), (1, 0)]), r"edge \(1, 0\) is there twice"),
        (lambda: ColouredGraph(3, [(0, 1), (0, 1)], directed=True), r"\(0, 1\) is there twice"),
        (lambda: ColouredGraph(3, [(0, 3)]), r"edge \(0, 3\) leads to a node that does not exist"),
        (lambda: ColouredGraph(3, [(0, -1)]), "does not exist"),
        (lambda: ColouredGraph(3, [(0, 1)], [1, 2]), r"node_colour must have shape \[3\]"),
        (lambda: ColouredGraph(3, [(0, 1)], None, [1, 2]), r"edge_colour must have shape \[1\]"),
        (lambda: ColouredGraph(2, [(0, 1)], [0.5, 1.0]), "node_colour must be whole numbers"),
        (lambda: ColouredGraph(2, [(0, 1, 2)]), r"edges must have shape \[m, 2\]"),
        (lambda: ColouredGraph(-1, []), "nodes must be a number"),
        (lambda: ColouredGraph(2, [(0, 1)]).relabelled([0, 0]), "labels must be a permutation"),
        (lambda: Canonizer("bliss"), "backend must be 'auto', 'nauty' or 'search'"),
        (lambda: Canonizer("search", limit=0), "limit must be >= 1"),
    ],
)
def test_bad_input_is_refused_by_name(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


def test_opposite_arcs_are_two_edges_of_a_directed_graph() -> None:
    both = ColouredGraph(2, [(0, 1), (1, 0)], directed=True)
    one = ColouredGraph(2, [(0, 1)], directed=True)
    assert canonical_form(both) != canonical_form(one)


def test_without_pynauty(monkeypatch: pytest.MonkeyPatch) -> None:
    find, load = importlib.util.find_spec, importlib.import_module

    def absent(name: str, package: str | None = None) -> Any:
        if name == "pynauty":
            raise ImportError(name)
        return load(name, package)

    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "pynauty" else find(n, *a)
    )
    monkeypatch.setattr(importlib, "import_module", absent)
    assert Canonizer().backend == "search"
    with pytest.raises(ArgumentError, match=r"pynauty is not installed.*graphdiffusion\[canon\]"):
        Canonizer("nauty")
