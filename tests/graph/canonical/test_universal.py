"""Universal ids, and how labels move when an edge does."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from canonical_support import of

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.canonical import ColouredGraph, canonical_labels
from graphdiff.graph.canonical.universal import UniversalIds, hamming


def test_names_have_one_number_in_all_graphs() -> None:
    ids = UniversalIds.of([["TP53", "BRCA1"], ["EGFR", "TP53"]])
    assert len(ids) == 3
    assert ids(["EGFR", "BRCA1"]).tolist() == [2, 1]
    assert ids(["BRCA1", "EGFR"]).tolist() == [1, 2]
    numbers = UniversalIds(np.array([7, 3]))
    assert numbers([3]).tolist() == numbers(np.array([3], np.int32)).tolist() == [1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UniversalIds([]), "there are no names"),
        (lambda: UniversalIds(["a", "b", "a"]), "must be unique, found 'a' twice"),
        (lambda: UniversalIds(["a", None]), "names are incomplete, entry 1 is None"),
        (lambda: UniversalIds([1.0, float("nan")]), "entry 1 is nan"),
        (lambda: UniversalIds.of([["a"], ["b", "b"]]), "graph 1 must be unique, found 'b' twice"),
        (lambda: UniversalIds.of([["a"], [None]]), "names of graph 1 are incomplete"),
        (lambda: UniversalIds(["a", "b"])(["a", "a"]), "two nodes of one graph have the name 'a'"),
        (lambda: UniversalIds(["a"])(["a", "c"]), "1 of 2 nodes .* no universal id, first 'c'"),
        (lambda: UniversalIds(["a"])([None]), "this graph are incomplete"),
        (lambda: hamming([1, 2], [1]), "labels .* of the same nodes"),
        (lambda: hamming([], []), "labels .* of the same nodes"),
    ],
)
def test_ids_missing_or_repeated_are_refused_by_name(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


def test_one_edge_moves_canonical_labels_and_no_universal_id() -> None:
    assert hamming([0, 1, 2, 3], [0, 1, 3, 2]) == 0.5
    moved, names = [], [f"gene {v}" for v in range(30)]
    ids = UniversalIds(names)
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(30)
        graph = of(nx.gnm_random_graph(30, 90, seed=seed))
        less = ColouredGraph(30, graph.edges[1:])
        moved.append(hamming(*(canonical_labels(g, backend="search") for g in (graph, less))))
        # The same nodes in another order, as another graph lists them.
        assert hamming(ids(names)[order], ids([names[v] for v in order])) == 0
    assert np.mean(moved) > 0.5
