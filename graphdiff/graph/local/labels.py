r"""Weights from noisy labels (Back de Luca, Fountoulakis and Yang, 2024, arXiv 2310.08031).

Somebody, most often a classifier that has seen a few nodes, says of each node whether it is in the
cluster: :math:`\tilde y_i \in \{0, 1\}`, right with the chances

.. math:: a_1 = \Pr[\tilde y_i = 1 \mid i \in K], \qquad
          a_0 = \Pr[\tilde y_i = 0 \mid i \notin K].

Edges between unlike labels are weakened, :math:`w_{ij} \leftarrow \epsilon\, w_{ij}`, so that a
diffusion leaves the cluster less easily: of the edges out of ``K`` a share of about
:math:`a_1 a_0 + (1 - a_1)(1 - a_0)` is weakened, of those inside only :math:`2 a_1 (1 - a_1)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.local.graph import Factor, Float, Int, LocalGraph, Reweighted

__all__ = ["classify", "label_factor", "noisy_labels", "with_labels"]

Labels = Any
Ask = Callable[[Int], NDArray[Any]]


def with_labels(
    graph: LocalGraph,
    labels: Labels,
    unlike: float = 0.05,
    known: Mapping[Any, Any] | None = None,
) -> Reweighted:
    r"""A graph whose edges between unlike labels are weakened, as they are read.

    Labels are looked up for the nodes that a query reaches, and no others.

    Args:
        graph: The graph.
        labels: Of the nodes ``[n]`` in the order of their numbers (any number of classes, numbers
            or words); a mapping from names to labels; or a function of numbers ``[m]`` to labels
            ``[m]``.
        unlike: The factor :math:`\epsilon` of edges between unlike labels, in ``[0, 1]``.
        known: Labels that are certain, by name; they replace the given ones. Seeds are in the
            cluster, so give them its label: a wrong one shuts the seed in.

    Raises:
        ArgumentError: Not one label for each node, an unknown name, a bad factor; or, once its node
            is reached, a label that is missing, or words among numbers.
    """
    if not 0 <= unlike <= 1:
        raise ArgumentError(f"the factor of unlike ends lies between 0 and 1, found {unlike}")
    return Reweighted(graph, label_factor(graph, labels, unlike, known or {}))


def label_factor(
    graph: LocalGraph, labels: Labels, unlike: float, known: Mapping[Any, Any]
) -> Factor:
    """Factors of edges from labels; arguments are those of :func:`with_labels`."""
    ask = _corrected(graph, _asked(graph, labels), known)

    def factor(left: Int, right: Int) -> Float:
        # Both ends in one question, so that both answers are of one type.
        both = ask(np.concatenate([left, right]))
        if both.dtype.kind == "f" and not np.isfinite(both).all():
            raise ArgumentError(
                "labels hold NaN or infinity; give missing ones a class of their own"
            )
        same = both[: len(left)] == both[len(left) :]
        found: Float = np.where(same, 1.0, unlike)
        return found

    return factor


def _corrected(graph: LocalGraph, ask: Ask, known: Mapping[Any, Any]) -> Ask:
    """Answers in which those that are known are replaced."""
    if not known:
        return ask
    at = np.array([int(graph.find(name)[0]) for name in known], np.int64)
    order = np.argsort(at)
    at, certain = at[order], np.asarray(list(known.values()))[order]

    def corrected(numbers: Int) -> NDArray[Any]:
        found = ask(numbers)
        place = np.minimum(np.searchsorted(at, numbers), len(at) - 1)
        hit = at[place] == numbers
        if not hit.any():
            return found
        if {_kind(found), _kind(certain)} == {"numbers", "words"}:
            raise ArgumentError(
                f"labels are {_kind(found)}, known ones {_kind(certain)} such as "
                f"{certain[place[hit]].tolist()[0]!r}: give both as the same"
            )
        # Of a type that holds both: a longer word, or a fraction, would be cut to fit.
        wide = found.astype(np.result_type(found, certain))
        wide[hit] = certain[place[hit]]
        return wide

    return corrected


def _kind(labels: NDArray[Any]) -> str:
    return {"U": "words", "S": "words", "O": "objects"}.get(labels.dtype.kind, "numbers")


def _asked(graph: LocalGraph, labels: Labels) -> Ask:
    if callable(labels):
        return _each_once(labels, "the function of labels")
    if isinstance(labels, Mapping):
        return _each_once(lambda nodes: _looked_up(graph, labels, nodes), "the mapping of labels")
    table = np.asarray(labels)
    if table.shape != (graph.nodes,):
        raise ArgumentError(
            f"found labels of the shape {list(table.shape)} for a graph of {graph.nodes:,} nodes; "
            f"expected [{graph.nodes}], in the order of the nodes"
        )
    return lambda numbers: table[numbers]


def _each_once(find: Callable[[Int], Any], who: str) -> Ask:
    """Asks about each node once, however many of its edges are read."""

    def ask(numbers: Int) -> NDArray[Any]:
        nodes, where = np.unique(numbers, return_inverse=True)
        found = np.asarray(find(nodes))
        if found.shape != nodes.shape:
            raise ArgumentError(
                f"{who} answered with the shape {list(found.shape)} for {len(nodes)} nodes; it "
                "must give one label for each"
            )
        return found[where]

    return ask


def _looked_up(graph: LocalGraph, labels: Mapping[Any, Any], nodes: Int) -> list[Any]:
    """Labels of nodes from a mapping of names."""
    names = graph.name(nodes)
    absent = [x for x in names if x not in labels]
    if absent:
        raise ArgumentError(
            f"{len(absent):,} of {len(names):,} nodes that were reached have no label, "
            f"{absent[0]!r} for one; label every node, with a class of its own for what is not "
            "known"
        )
    return [labels[x] for x in names]


def noisy_labels(
    truth: NDArray[np.bool_], a1: float, a0: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Labels that are right with the chance ``a1`` inside and ``a0`` outside of a cluster.

    Args:
        truth: Whether each node is inside, ``[n]``.
        a1: Chance of label 1 inside.
        a0: Chance of label 0 outside.
        rng: Source of noise.

    Returns:
        int64 ``[n]``, 0 or 1.

    Raises:
        ArgumentError: A chance is not between 0 and 1.
    """
    if not (0 <= a1 <= 1 and 0 <= a0 <= 1):
        raise ArgumentError(f"a1 and a0 are chances between 0 and 1, found {a1} and {a0}")
    inside = np.asarray(truth, bool)
    right = rng.random(inside.shape) < np.where(inside, a1, a0)
    found: NDArray[np.int64] = np.where(right, inside, ~inside).astype(np.int64)
    return found


def classify(
    features: Any, inside: Int, outside: Int, *, penalty: float = 1.0, rows: Int | None = None
) -> NDArray[np.int64]:
    """Labels from attributes: logistic regression on a few nodes known to be in or out.

    Args:
        features: Attributes ``[n, f]``, dense or scipy sparse.
        inside: Numbers of some nodes of the cluster.
        outside: Numbers of some nodes that are not.
        penalty: Strength of the ridge penalty (``1 / C`` of scikit-learn).
        rows: Nodes to label; None = all.

    Returns:
        int64 ``[n]`` (or as ``rows``), 1 = in the cluster.

    Raises:
        ArgumentError: One of the two is empty, or both share a node.
    """
    from sklearn.linear_model import LogisticRegression

    known, unknown = np.asarray(inside, np.int64), np.asarray(outside, np.int64)
    if not len(known) or not len(unknown):
        raise ArgumentError("a classifier needs at least one node inside and one outside")
    both = np.intersect1d(known, unknown)
    if len(both):
        raise ArgumentError(f"node {int(both[0])} is given as inside and as outside")
    model = LogisticRegression(C=1 / penalty, max_iter=1000)
    at = np.concatenate([known, unknown])
    model.fit(features[at], np.repeat([1, 0], [len(known), len(unknown)]))
    found: NDArray[np.int64] = model.predict(features if rows is None else features[rows])
    return found.astype(np.int64)
