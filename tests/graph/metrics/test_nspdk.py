"""NSPDK features against the definition on explicit graphs, and against EDeN where installed."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import networkx as nx
import numpy as np
import pytest

from graphdiff.core.errors import ArgumentError
from graphdiff.data.graphs import Graphs
from graphdiff.graph.metrics import nspdk
from graphdiff.graph.metrics.mmd import compact
from graphdiff.graph.metrics.nspdk import nspdk_features

Labelled = tuple[list[int], list[tuple[int, int]], list[int]]


def gram(x: Any) -> np.ndarray:
    """All inner products; a product of very wide matrices would make room for every column."""
    (narrow,) = compact(x)
    return (narrow @ narrow.T).toarray()


def random_labelled(seed: int, n: int) -> Labelled:
    rng = np.random.default_rng(seed)
    graph = nx.gnp_random_graph(n, 1.8 / n, seed=seed)
    graph.add_edges_from((i, i + 1) for i in range(0, n - 1, 2))
    edges = [(min(e), max(e)) for e in graph.edges]
    kinds = rng.integers(0, 3, n).tolist()
    return kinds, edges, rng.integers(1, 4, len(edges)).tolist()


def pack(items: list[Labelled]) -> Graphs:
    return Graphs.from_lists(
        [len(i[0]) for i in items], [i[1] for i in items], [i[0] for i in items],
        [i[2] for i in items],
    )  # fmt: skip


def plain(item: Labelled, radius: int = 4, distance: int = 4) -> dict:
    """Features with nested tuples in place of hashes; edges are nodes of their own."""
    kinds, edges, orders = item
    graph = nx.Graph()
    for v, kind in enumerate(kinds):
        graph.add_node(v, label=("node", kind))
    for k, ((u, v), order) in enumerate(zip(edges, orders, strict=True)):
        graph.add_node(("e", k), label=("edge", order))
        graph.add_edge(("e", k), u)
        graph.add_edge(("e", k), v)
    depths = {
        v: nx.single_source_shortest_path_length(graph, v, 2 * max(radius, distance))
        for v in range(len(kinds))
    }
    around = {}
    for v, reach in depths.items():
        layers = defaultdict(list)
        for w, depth in reach.items():
            layers[depth].append((graph.nodes[w]["label"], graph.degree(w)))
        around[v] = [tuple(sorted(layers[k])) for k in range(max(layers) + 1)]
    blocks: dict = defaultdict(Counter)
    for v in depths:
        for u, depth in depths[v].items():
            if not isinstance(u, int) or depth > 2 * distance:
                continue
            for r in range(radius + 1):
                if 2 * r < min(len(around[v]), len(around[u])):
                    a, b = tuple(around[v][: 2 * r + 1]), tuple(around[u][: 2 * r + 1])
                    blocks[r, depth]["pair", *sorted([a, b])] += 1
                    blocks[r, depth]["half", b] += 1
    out = {}
    for key, counts in blocks.items():
        norm = np.sqrt(sum(c * c for c in counts.values()) * len(blocks))
        out.update({(key, f): c / norm for f, c in counts.items()})
    return out


@pytest.fixture(scope="module")
def sample() -> list[Labelled]:
    ring = ([0] * 6, [(i, i + 1) for i in range(5)] + [(0, 5)], [1] * 6)
    return [
        *(random_labelled(s, 3 + s % 11) for s in range(14)), ring, ([1], [], []),
        ([0, 0], [], []),
    ]  # fmt: skip


def test_kernel_equals_the_definition(sample: list[Labelled]) -> None:
    rows = nspdk_features(pack(sample), bits=31)
    found = gram(rows)
    items = [plain(item) for item in sample]
    want = [[sum(v * b.get(f, 0.0) for f, v in a.items()) for b in items] for a in items]
    np.testing.assert_allclose(found, want, atol=1e-12)
    assert rows.nnz == sum(map(len, items))


def test_sixteen_bits_only_add_collisions(sample: list[Labelled]) -> None:
    fine, coarse = (nspdk_features(pack(sample), bits=b) for b in (31, 16))
    difference = gram(fine) - gram(coarse)
    assert 0 < np.abs(difference).max() < 0.05


@pytest.mark.parametrize(("radius", "distance"), [(0, 0), (1, 3), (3, 1)])
def test_other_radii_and_distances(sample: list[Labelled], radius: int, distance: int) -> None:
    rows = nspdk_features(pack(sample[:6]), radius=radius, distance=distance, bits=31)
    items = [plain(item, radius, distance) for item in sample[:6]]
    want = [[sum(v * b.get(f, 0.0) for f, v in a.items()) for b in items] for a in items]
    np.testing.assert_allclose(gram(rows), want, atol=1e-12)


def test_renumbering_changes_nothing_and_labels_do(sample: list[Labelled]) -> None:
    kinds, edges, orders = sample[9]
    order = np.random.default_rng(0).permutation(len(kinds))
    moved = [0] * len(kinds)
    for old, new in enumerate(order):
        moved[new] = kinds[old]
    other = (moved, [tuple(sorted((int(order[u]), int(order[v])))) for u, v in edges], orders)
    bond = (kinds, edges, [orders[0] % 3 + 1, *orders[1:]])
    rows = nspdk_features(pack([sample[9], other, bond]), bits=31)
    similarity = gram(rows)
    assert similarity[0, 1] == pytest.approx(1.0)
    assert similarity[0, 2] < 0.99


def test_a_dropped_degree_is_noticed(
    sample: list[Labelled], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = nspdk_features(pack(sample), bits=31)
    mix = nspdk._mix

    def without_degree(*parts: Any) -> Any:
        atom = isinstance(parts[0], int) and parts[0] == 1  # the tag of node labels
        return mix(*parts[:2]) if atom else mix(*parts)

    monkeypatch.setattr(nspdk, "_mix", without_degree)
    wrong = nspdk_features(pack(sample), bits=31)
    assert np.abs(gram(right) - gram(wrong)).max() > 0.01


def test_equals_eden(sample: list[Labelled]) -> None:
    eden = pytest.importorskip("eden.graph")
    graphs = []
    for kinds, edges, orders in sample:
        graph = nx.Graph()
        for v, kind in enumerate(kinds):
            graph.add_node(v, label=f"atom{kind}")
        for (u, v), order in zip(edges, orders, strict=True):
            graph.add_edge(u, v, label=order)
        graphs.append(graph)
    theirs = eden.vectorize(graphs, complexity=4, discrete=True, nbits=30)
    ours = nspdk_features(pack(sample), bits=31)
    np.testing.assert_allclose(gram(ours), gram(theirs), atol=1e-9)


def test_bad_options() -> None:
    with pytest.raises(ArgumentError, match="8 <= bits <= 31"):
        nspdk_features(pack([([0], [], [])]), bits=40)
