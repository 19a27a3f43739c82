r"""Graphs that an attacker has poisoned: Metattack on Cora, Citeseer and Polblogs.

Zügner and Günnemann (2019) change edges so that a network *trained on the changed graph* does
badly: at rate :math:`r` about :math:`r\,m` of :math:`m` edges, nearly all of them additions between
unlike nodes. The graphs are those that Jin et al. (2020, Pro-GNN) published with their split
(10/10/80 of the largest component), and the literature since compares on.

:func:`load_poisoned` reads them with the features in the same order of nodes. Rate 0, the graph
before the attack, is not among the files. For Cora and Citeseer it is found in the Planetoid files:
nodes are matched by their features, the few with equal features by their neighbours, and the match
is proved by its result (the attack at 5 % only added edges, so every clean edge is in that graph).
Polblogs has no features, and its clean graph is not at hand.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.nodes import NodeData, Split
from graphdiff.data.sources import card, checked

__all__ = ["NAMES", "RATES", "graph_of", "load_poisoned"]

NAMES = ("cora", "citeseer", "polblogs")
RATES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25)
CARD = "poisoned-graphs"
Root = str | Path | None


def load_poisoned(name: str, rate: float, root: Root = None) -> NodeData:
    """A graph poisoned by Metattack, with features, labels and the one split of Pro-GNN.

    Args:
        name: ``cora``, ``citeseer`` or ``polblogs`` (whose features are indicators of the nodes).
        rate: Share of edges that the attacker changed: 0, .05, .1, .15, .2 or .25.
        root: Folder to look into instead of the search path.

    Raises:
        ArgumentError: There is no such graph or rate.
        DataError: A file is missing, damaged or of another version, or the split overlaps.
    """
    if name not in NAMES or rate not in RATES:
        raise ArgumentError(
            f"no poisoned graph {name!r} at rate {rate!r}; there are {', '.join(NAMES)} at "
            f"{', '.join(map(str, RATES))}"
        )
    if rate == 0 and name == "polblogs":
        raise ArgumentError(
            "the clean graph of polblogs is not published with the poisoned ones, and without "
            "features it cannot be matched with another copy; take a rate from 0.05 on"
        )
    features = _matrix(_content(f"stable_features/{name}_features.npz", root))
    labels = _array(_content(f"stable_features/{name}_labels.npy", root)).astype(np.int64)
    split = _split(_content(f"prognn_attacked/splits/{name}_prognn_splits.json", root))
    file = f"prognn_attacked/meta/{name}_meta_adj_{rate or 0.05:g}.npz"
    poisoned = _matrix(_content(file, root))
    graph = _clean(name, poisoned, features, root) if rate == 0 else poisoned
    return graph_of(f"{name}-{rate:g}", graph, features, labels, (split,))


def graph_of(
    name: str,
    adjacency: Any,
    features: Any,
    labels: Any,
    splits: tuple[Split, ...] = (),
) -> NodeData:
    """A graph from a scipy adjacency; what had to be mended is in its ``notes``.

    Args:
        name: For messages.
        adjacency: Any scipy sparse ``[n, n]``; entries that are not zero are edges in both
            directions, their values are not used.
        features: Scipy sparse or dense ``[n, f]``; None gives every node its own indicator.
        labels: ``[n]``, -1 where unknown.
        splits: Splits.

    Raises:
        DataError: The matrix is not square or does not fit the labels, or as
            :class:`~graphdiff.data.nodes.NodeData` says.
    """
    matrix = sp.coo_matrix(adjacency)
    if matrix.shape != (len(labels), len(labels)):
        raise DataError(
            f"{name}: an adjacency of shape {matrix.shape} does not fit {len(labels)} labels; "
            "expected one row and one column for each node"
        )
    there = matrix.data != 0
    pairs = np.stack([matrix.row[there], matrix.col[there]]).astype(np.int64)
    mirrored = pairs[:, pairs[0] > pairs[1]][::-1]
    upper = pairs[:, pairs[0] <= pairs[1]]
    code = set((upper[0] * len(labels) + upper[1]).tolist())
    alone = [u * len(labels) + v not in code for u, v in mirrored.T.tolist()]
    pairs = np.concatenate([upper, mirrored[:, np.array(alone, bool)]], 1)
    dense = features.toarray() if sp.issparse(features) else features
    return NodeData.of(name, pairs, dense, labels, splits)


# -- files ----------------------------------------------------------------------------------------


def _content(file: str, root: Root) -> bytes:
    entry = next(e for e in card(CARD)["files"] if e["file"] == file)
    return checked(CARD, entry, root)[1]


def _array(data: bytes) -> NDArray[Any]:
    found: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    return found


def _matrix(data: bytes) -> sp.csr_matrix:
    """A matrix in compressed rows, as scipy stores it."""
    with np.load(io.BytesIO(data), allow_pickle=False) as a:
        return sp.csr_matrix((a["data"], a["indices"], a["indptr"]), shape=tuple(a["shape"]))


def _split(data: bytes) -> Split:
    parts = json.loads(data)
    return Split(*(torch.tensor(parts[f"idx_{name}"]) for name in ("train", "val", "test")))


# -- the graph before the attack ------------------------------------------------------------------


def _clean(name: str, poisoned: sp.csr_matrix, features: sp.csr_matrix, root: Root) -> Any:
    from graphdiff.data.node_sets import load_nodes

    source = load_nodes(name, root)
    place = _match(poisoned, features.toarray() != 0, source)
    whole = _square(source)
    found = whole[place][:, place]
    if found.nnz != found.multiply(poisoned != 0).sum():
        raise DataError(
            f"the Planetoid files of {name!r} do not match the poisoned graphs: they have edges "
            "that the attack at 5 % would have had to remove; check both sets of files"
        )
    return found


def _square(graph: NodeData) -> sp.csr_matrix:
    u, v = graph.edges.numpy()
    half = sp.coo_matrix((np.ones(len(u)), (u, v)), shape=(graph.n, graph.n))
    return (half + half.T).tocsr()


def _match(
    poisoned: sp.csr_matrix, features: NDArray[np.bool_], source: NodeData
) -> NDArray[np.int64]:
    """The node of ``source`` that each node is, int64 ``[n]``."""
    ours, theirs = defaultdict(list), defaultdict(list)
    for k, row in enumerate(np.packbits(features, 1)):
        ours[row.tobytes()].append(k)
    for k, row in enumerate(np.packbits(source.features.numpy() != 0, 1)):
        theirs[row.tobytes()].append(k)
    place = np.full(len(features), -1)
    for words, group in ours.items():
        if len(group) == len(theirs[words]) == 1:
            place[group] = theirs[words]
    near = _square(source)
    for words, group in ours.items():  # equal features: the order that keeps most edges
        if len(theirs[words]) < len(group) or len(theirs[words]) > 6:
            raise DataError(
                f"{len(group)} nodes of {source.name!r} with equal features have "
                f"{len(theirs[words])} counterparts in the Planetoid files; check both sets"
            )
        if place[group[0]] < 0:
            known = np.flatnonzero(place >= 0)
            kept = poisoned[group][:, known] @ near[theirs[words]][:, place[known]].T
            score = kept.toarray()
            orders = permutations(range(len(theirs[words])), len(group))
            best = max(orders, key=lambda o: score[range(len(group)), list(o)].sum())
            place[group] = np.array(theirs[words])[list(best)]
    return place
