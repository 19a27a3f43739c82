"""Orbit counts against enumeration of all induced subgraphs, and against ORCA in Python."""

from __future__ import annotations

from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.metrics import orbits
from graphdiff.graph.metrics.orbits import orbit_counts, triangles

# Orbit of a node by (nodes, edges, sorted degrees) of the induced graphlet and its own degree.
ORBIT = {
    ((1, 1), 1): 0,
    ((1, 1, 2), 1): 1, ((1, 1, 2), 2): 2, ((2, 2, 2), 2): 3,
    ((1, 1, 2, 2), 1): 4, ((1, 1, 2, 2), 2): 5, ((1, 1, 1, 3), 1): 6, ((1, 1, 1, 3), 3): 7,
    ((2, 2, 2, 2), 2): 8, ((1, 2, 2, 3), 1): 9, ((1, 2, 2, 3), 2): 10, ((1, 2, 2, 3), 3): 11,
    ((2, 2, 3, 3), 2): 12, ((2, 2, 3, 3), 3): 13, ((3, 3, 3, 3), 3): 14,
}  # fmt: skip


def enumerate_orbits(adj: np.ndarray) -> np.ndarray:
    graph = nx.from_numpy_array(adj)
    out = np.zeros((len(adj), 15))
    for size in (2, 3, 4):
        for nodes in combinations(range(len(adj)), size):
            part = graph.subgraph(nodes)
            if nx.is_connected(part):
                degrees = tuple(sorted(d for _, d in part.degree()))
                for v, d in part.degree():
                    out[v, ORBIT[degrees, d]] += 1
    return out


def random_graphs(seed: int, count: int, n: int, p: float) -> np.ndarray:
    upper = np.triu(np.random.default_rng(seed).random((count, n, n)) < p, 1)
    return (upper | upper.transpose(0, 2, 1)).astype(int)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, 8), st.floats(0.1, 1.0))
def test_equals_enumeration(seed: int, n: int, p: float) -> None:
    adj = random_graphs(seed, 2, n, p)
    for found, one in zip(orbit_counts(adj), adj, strict=True):
        np.testing.assert_array_equal(found, enumerate_orbits(one))


def test_every_orbit_occurs_in_the_enumeration() -> None:
    graphs = [*random_graphs(0, 6, 8, 0.5), *random_graphs(0, 6, 8, 0.9)]
    total = sum(enumerate_orbits(a).sum(0) for a in graphs)
    assert (total > 0).all()


def test_equals_orca() -> None:
    orca = pytest.importorskip("orca.lib")
    for adj in random_graphs(3, 4, 20, 0.3):
        edges = np.argwhere(np.triu(adj, 1))
        np.testing.assert_array_equal(orbit_counts(adj[None])[0], orca.orca_nodes(edges, 20, 4))


def test_a_lost_clique_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    adj = random_graphs(1, 1, 7, 0.8)
    monkeypatch.setattr(orbits, "_cliques", lambda a, c: np.zeros(a.shape[:2]))
    assert (orbit_counts(adj)[0] != enumerate_orbits(adj[0])).any()


def test_padding_and_renumbering_change_nothing() -> None:
    adj = random_graphs(2, 3, 9, 0.5)
    plain = orbit_counts(adj)
    padded = orbit_counts(np.pad(adj, ((0, 0), (0, 4), (0, 4))))
    np.testing.assert_array_equal(padded[:, :9], plain)
    assert not padded[:, 9:].any()
    order = np.random.default_rng(0).permutation(9)
    np.testing.assert_array_equal(orbit_counts(adj[:, order][:, :, order]), plain[:, order])


def test_triangles_of_a_complete_graph() -> None:
    full = 1 - np.eye(6, dtype=int)
    assert (triangles(full[None]) == 10).all()


@pytest.mark.parametrize(
    "bad", [np.ones((1, 3, 3)), np.triu(np.ones((1, 3, 3)), 1), np.zeros((3, 3))]
)
def test_bad_matrices_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match="adj must"):
        orbit_counts(bad)
