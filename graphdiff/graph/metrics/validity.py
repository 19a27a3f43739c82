r"""Valid, unique, novel: what a generated graph is, whether it repeats, whether it is new.

The fractions are those of SPECTRE (Martinkus et al. 2022, arXiv:2204.01613) and its successors,
all over *all* :math:`n` generated graphs:

* validity: graphs that pass the rule of the data set (planar: connected and planar; tree; lobster:
  a tree that is a path once its leaves have been removed twice; sbm: see
  :mod:`graphdiff.graph.metrics.sbm`);
* uniqueness: isomorphism classes, so the first graph of each class counts;
* novelty: graphs not isomorphic to any training graph;
* V.U.N.: graphs that are all three.

Isomorphism is decided exactly. Colour refinement (Weisfeiler and Leman 1968) gives every node a
64-bit colour that only depends on its surroundings and every graph the sum of its mixed colours:
graphs with different sums are not isomorphic, whatever collides. Within a bucket of equal sums, if
pynauty is installed, graphs are looked up by the certificate of their canonical form
(:mod:`graphdiff.graph.canonical`), one labelling for each. Without it, and for graphs of more than
:data:`LARGEST` nodes, they are compared in pairs: graphs whose colours all differ have one possible
isomorphism, which is checked; others go to VF2 (Cordella et al. 2004) restricted to nodes of equal
colour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.canonical.nauty import available, certificates
from graphdiff.graph.metrics.intervals import wilson
from graphdiff.graph.metrics.power import proportion_resolution
from graphdiff.graph.metrics.report import Metric
from graphdiff.graph.metrics.sbm import is_sbm, sbm_verdicts

if TYPE_CHECKING:
    from graphdiff.data.graphs import Graphs

__all__ = [
    "RULES",
    "Verdicts",
    "isomorphism_classes",
    "is_connected",
    "is_lobster",
    "is_planar",
    "is_tree",
    "judge",
    "vun_metrics",
]

Bool = NDArray[np.bool_]
Int = NDArray[np.int64]

ROUNDS = 8  # of colour refinement; more rounds only make buckets smaller

LARGEST = 256
"""Nodes up to which nauty's dense matrices are faster than comparing pairs."""


def _ends(graphs: Graphs) -> tuple[Int, Int]:
    """Both directions of all edges of the disjoint union, as node numbers of the union."""
    owner = np.repeat(graphs.node_ptr[:-1], graphs.num_edges)
    pairs = graphs.edges.astype(np.int64) + owner[:, None]
    return np.concatenate([pairs[:, 0], pairs[:, 1]]), np.concatenate([pairs[:, 1], pairs[:, 0]])


def is_connected(graphs: Graphs) -> Bool:
    """Which graphs are connected (a graph without nodes is not), ``bool [G]``."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    total = int(graphs.num_nodes.sum())
    if not total:
        return np.zeros(len(graphs), bool)
    u, v = _ends(graphs)
    union = coo_array((np.ones(len(u), np.int8), (u, v)), shape=(total, total))
    part = connected_components(union, directed=False)[1]
    owner = np.repeat(np.arange(len(graphs)), graphs.num_nodes)
    first = np.unique(part, return_index=True)[1]
    return np.bincount(owner[first], minlength=len(graphs)) == 1


def is_planar(graphs: Graphs) -> Bool:
    """Which graphs are connected and planar, ``bool [G]``."""
    import networkx as nx

    n, m = graphs.num_nodes, graphs.num_edges
    out = is_connected(graphs) & ((n < 3) | (m <= 3 * n - 6))  # Euler's bound
    for i in np.flatnonzero(out):
        edges = graphs.edges[graphs.edge_ptr[i] : graphs.edge_ptr[i + 1]]
        out[i] = nx.check_planarity(nx.Graph(edges.tolist()))[0]
    return out


def is_tree(graphs: Graphs) -> Bool:
    """Which graphs are trees, ``bool [G]``."""
    return is_connected(graphs) & (graphs.num_edges == graphs.num_nodes - 1)


def is_lobster(graphs: Graphs) -> Bool:
    """Which graphs are trees that become a path, or nothing, when leaves are cut off twice."""
    u, v = _ends(graphs)
    total = int(graphs.num_nodes.sum())
    there = np.ones(total, bool)
    for _ in range(2):
        degree = np.bincount(u[there[u] & there[v]], minlength=total)
        there &= degree != 1
    degree = np.bincount(u[there[u] & there[v]], minlength=total)
    owner = np.repeat(np.arange(len(graphs)), graphs.num_nodes)
    branched = np.bincount(owner[degree > 2], minlength=len(graphs)) > 0
    return is_tree(graphs) & ~branched


RULES: dict[str, Callable[[Graphs], Bool]] = {
    "planar": is_planar,
    "tree": is_tree,
    "lobster": is_lobster,
    "sbm": is_sbm,
}
"""Validity rules by name."""


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele et al. 2014): a bijection that scatters all bits."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _colours(graphs: Graphs) -> NDArray[np.uint64]:
    """Refined colour of each node of the union; equal for nodes that an isomorphism maps."""
    u, v = _ends(graphs)
    order = np.argsort(u, kind="stable")
    u, v = u[order], v[order]
    total = int(graphs.num_nodes.sum())
    start = np.searchsorted(u, np.arange(total + 1))
    colour = _mix(np.diff(start).astype(np.uint64))
    for _ in range(ROUNDS):
        # Sums of mixed colours wrap around, and differences of running sums stay exact.
        running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(_mix(colour)[v])])
        colour = _mix(colour * np.uint64(3) + (running[start[1:]] - running[start[:-1]]))
    return colour


def _same(a: Graphs, b: Graphs, first: NDArray[np.uint64], second: NDArray[np.uint64]) -> bool:
    """Exact test of two single graphs with their colours."""
    if int(a.num_nodes[0]) != int(b.num_nodes[0]) or len(a.edges) != len(b.edges):
        return False
    p, q = np.argsort(first, kind="stable"), np.argsort(second, kind="stable")
    if (first[p] != second[q]).any():
        return False
    if (np.diff(first[p]) != 0).all():
        return np.array_equal(_relabel(a, p), _relabel(b, q))
    import rustworkx as rx

    pair = []
    for graph, colour in ((a, first), (b, second)):
        made = rx.PyGraph(multigraph=False)
        made.add_nodes_from(colour.tolist())
        made.add_edges_from_no_data([(x, y) for x, y in graph.edges.tolist()])
        pair.append(made)
    return bool(rx.is_isomorphic(pair[0], pair[1], node_matcher=lambda x, y: x == y))


def _relabel(graph: Graphs, order: Int) -> Int:
    """Sorted edges after the nodes have been put into an order."""
    rank = np.argsort(order)
    pairs = np.sort(rank[graph.edges], axis=1)
    return np.sort(pairs[:, 0] * len(order) + pairs[:, 1])


def isomorphism_classes(
    *sets: Graphs, method: Literal["auto", "canonical", "pairwise"] = "auto"
) -> list[Int]:
    """Numbers of the isomorphism classes of unlabelled graphs, common to all sets.

    Args:
        sets: The sets.
        method: ``canonical`` (needs pynauty), ``pairwise``, or ``auto``: canonical if pynauty is
            installed. All give the same classes; see the module.

    Returns:
        For each set ``int64 [G]``; graphs of any two sets are isomorphic exactly if their numbers
        are equal. Classes are numbered in the order of their first graph.

    Raises:
        ArgumentError: If there is no such method, or pynauty is not installed.
    """
    from graphdiff.data.graphs import Graphs, concat

    if method not in ("auto", "canonical", "pairwise"):
        raise ArgumentError(f"method must be auto, canonical or pairwise, found {method!r}")
    if method == "auto":
        method = "canonical" if available() else "pairwise"
    plain = [Graphs(g.num_nodes, g.edge_ptr, g.edges) for g in sets]
    graphs = concat(plain)
    colour = _colours(graphs)
    running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(_mix(colour))])
    sums = running[graphs.node_ptr[1:]] - running[graphs.node_ptr[:-1]]
    buckets: dict[tuple[int, int, int], list[int]] = {}
    keys = zip(sums.tolist(), graphs.num_nodes.tolist(), graphs.num_edges.tolist(), strict=True)
    for i, key in enumerate(keys):
        buckets.setdefault(key, []).append(i)
    found = np.arange(len(graphs))
    small: list[list[int]] = []
    rest: list[list[int]] = []
    for (_, nodes, _), rows in buckets.items():
        if len(rows) > 1:
            fits = method == "canonical" and 0 < nodes <= LARGEST
            (small if fits else rest).append(rows)
    _look_up(graphs, small, found)
    for rows in rest:
        _compare(graphs, rows, colour, found)
    number = np.unique(found, return_inverse=True)[1].ravel()
    return np.split(number, np.cumsum([len(g) for g in sets])[:-1])


def _look_up(graphs: Graphs, buckets: list[list[int]], found: Int) -> None:
    """Writes the first isomorphic graph of each graph of some buckets, by certificates."""
    certified = iter(certificates(graphs, [i for rows in buckets for i in rows]))
    for rows in buckets:
        known: dict[bytes, int] = {}
        for i in rows:
            found[i] = known.setdefault(next(certified), i)


def _compare(graphs: Graphs, rows: list[int], colour: NDArray[np.uint64], found: Int) -> None:
    """Writes the first isomorphic graph of each graph of a bucket, by tests of pairs."""
    known: list[int] = []
    mine = {i: colour[graphs.node_ptr[i] : graphs.node_ptr[i + 1]] for i in rows}
    for i in rows:
        for j in known:
            if _same(graphs[i], graphs[j], mine[i], mine[j]):
                found[i] = j
                break
        else:
            known.append(i)


@dataclass(frozen=True)
class Verdicts:
    """What is true of each generated graph.

    Attributes:
        unique: Whether it is the first graph of its isomorphism class, ``bool [G]``.
        novel: Whether no training graph is isomorphic to it; None without training graphs.
        valid: Whether it passes the rule; None without a rule.
    """

    unique: Bool
    novel: Bool | None = None
    valid: Bool | None = None

    @property
    def all(self) -> Bool:
        """Graphs that are unique and, as far as that is known, novel and valid."""
        out = self.unique
        for more in (self.novel, self.valid):
            out = out if more is None else out & more
        return out


def judge(generated: Graphs, train: Graphs | None = None, rule: str | None = None) -> Verdicts:
    """Valid, unique and novel graphs of a sample; node and edge classes are not looked at.

    Args:
        generated: The sample.
        train: Training graphs.
        rule: Name of a validity rule (:data:`RULES`).

    Raises:
        ArgumentError: If there is no such rule.
    """
    if rule is not None and rule not in RULES:
        raise ArgumentError(f"unknown validity rule {rule!r}; there are {', '.join(RULES)}")
    classes = isomorphism_classes(*(g for g in (generated, train) if g is not None))
    unique = np.zeros(len(generated), bool)
    unique[np.unique(classes[0], return_index=True)[1]] = True
    novel = None if train is None else ~np.isin(classes[0], classes[1])
    return Verdicts(unique, novel, None if rule is None else RULES[rule](generated))


def vun_metrics(
    generated: Graphs,
    reference: Graphs,
    train: Graphs | None = None,
    rule: str | None = None,
    sha: str = "",
) -> list[Metric]:
    """Validity, uniqueness, novelty and their conjunction, each with a Wilson interval.

    The floor is what the reference graphs get in place of the generated ones. Without a rule there
    is no validity, and the conjunction is called ``unique_novel`` and not ``vun``. Block models
    get a row more, ``validity_elementwise``, as two criteria go by one name.

    Args:
        generated: Generated graphs.
        reference: Test graphs.
        train: Training graphs; None leaves novelty and the conjunction out.
        rule: Validity rule.
        sha: Hash of the reference split.

    Raises:
        ArgumentError: If there is no such rule.
    """
    rows: list[tuple[str, Bool | None, Bool | None, str]] = []
    if rule == "sbm":
        ours, theirs = (judge(g, train) for g in (generated, reference))
        mine, base = (sbm_verdicts(g) for g in (generated, reference))
        ours, theirs = replace(ours, valid=mine["matrix"]), replace(theirs, valid=base["matrix"])
        note = "the criterion as it was meant, not as published tables compute it"
        rows.append(("validity", ours.valid, theirs.valid, f"rule {rule}"))
        rows.append(("validity_elementwise", mine["elementwise"], base["elementwise"], note))
    else:
        ours, theirs = (judge(g, train, rule) for g in (generated, reference))
        rows.append(("validity", ours.valid, theirs.valid, f"rule {rule}"))
    rows += [
        ("uniqueness", ours.unique, theirs.unique, "falls with the size of the sample"),
        ("novelty", ours.novel, theirs.novel, ""),
    ]
    if train is not None:
        rows.append(("vun" if rule else "unique_novel", ours.all, theirs.all, ""))
    return [
        share(name, flags, base, note, sha)
        for name, flags, base, note in rows
        if flags is not None and base is not None
    ]


def share(name: str, flags: Bool, base: Bool, note: str = "", sha: str = "") -> Metric:
    """A fraction of the generated graphs beside the same fraction of the reference graphs."""
    hits, n = int(flags.sum()), len(flags)
    return Metric(
        name=name, value=hits / n, direction="higher", n=n, n_reference=len(base),
        population="graphs", estimator="proportion, Wilson interval", interval=wilson(hits, n),
        floor=float(base.mean()), floor_interval=wilson(int(base.sum()), len(base)), note=note,
        split_hash=sha[:16], resolution=proportion_resolution(hits, n),
    )  # fmt: skip
