r"""What a node classifier is shown of a heterogeneous graph: propagated features and labels.

**Features.** For each meta-path :math:`P_v` the propagated features :math:`P_v X`, rows of length
one, and :math:`X` itself; jointly, the mean over the meta-paths. Without features :math:`X` is the
identity and :math:`P^k X` has a column for each node. All that a classifier with a penalty on
:math:`\lVert W \rVert^2` can learn of it from training nodes :math:`T` lies in the span of their
rows (representer theorem), so that exactly the same classifier comes from the features

.. math:: Z = (\bar P^k)^\top E_T K_{TT}^{-1/2}, \qquad K_{TT} = E_T^\top \bar P^k
          (\bar P^k)^\top E_T , \qquad \bar P^k X W \;\widehat=\; \bar P^k Z W' ,

:math:`|T|` columns, with :math:`\bar P` the mean of the meta-paths (:func:`landmarks`; no label is
used). The views are :math:`P_v^k Z`. Either way all views share one latent space, the first ``d``
principal directions of all of them (:class:`Basis`), with the mean square of a coordinate brought
to one.

**Label scores.** With :math:`Y` the labels of the training nodes, each class summing to one, and
:math:`\bar P` the mean of all meta-paths, label propagation (Zhou et al., 2004) with the damping
:math:`a` gives

.. math:: F = (1 - a) \sum_{k \le K} a^k \bar P^k Y + a^{K+1} \bar P^{K+1} Y, \qquad
          s_{ic} = \log \frac{f_{ic} + \epsilon}{\sum_c f_{ic} + C\epsilon} \;\text{centred over } c

with the columns of :math:`F` scaled to one mean (class mass normalisation, Zhu et al., 2003):
:math:`f = n F / \sum_i F_i`. A training node must not see its own label: training nodes are dealt
into folds, class by class, and the score of a node in fold ``j`` comes from the labels of the other
folds (stacked generalisation, Wolpert, 1992). All folds are columns of one propagation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.data.hetero import HeteroGraph
from graphdiff.graph.diffgraph.metapath import MetaPath

__all__ = [
    "Basis",
    "LabelScores",
    "diffuse",
    "feature_views",
    "folds_of",
    "label_scores",
    "landmarks",
    "unit_rows",
    "walk",
]

EPSILON = 1e-2
"""Added to propagated scores of mean one: what a node without evidence is shown is zero."""


def diffuse(paths: Sequence[MetaPath], x: Tensor, damping: float, hops: int) -> Tensor:
    """``hops`` rounds of ``f <- (1 - a) x + a P f`` from ``f = x``, ``P`` the mean of the paths.

    Args:
        paths: Operators ``[n, n]``.
        x: ``[n, f]``.
        damping: ``a``, the chance to walk on, in [0, 1].
        hops: Number of rounds.

    Raises:
        ArgumentError: No path, or numbers out of range.
    """
    if not paths or not 0 <= damping <= 1 or hops < 0:
        raise ArgumentError(
            f"expected one path or more, a chance in [0, 1] and hops >= 0, found {len(paths)} "
            f"paths, {damping} and {hops}"
        )
    found = x
    for _ in range(hops):
        walked = paths[0](found)
        for path in paths[1:]:
            walked = walked + path(found)
        found = torch.lerp(x, walked / len(paths), damping)
    return found


def unit_rows(x: Tensor) -> Tensor:
    """Rows of length one; zero rows stay zero."""
    return torch.nn.functional.normalize(x, dim=-1, eps=1e-9)


def walk(paths: Sequence[MetaPath], x: Tensor, hops: int) -> Tensor:
    """``P^hops x`` with ``P`` the mean of the paths, for ``x`` ``[n, f]``."""
    return diffuse(paths, x, 1.0, hops)


def landmarks(paths: Sequence[MetaPath], nodes: Tensor, hops: int) -> Tensor:
    """Features ``Z`` ``[n, k]`` of a graph without features, see the module docstring.

    Args:
        paths: Operators ``[n, n]``; their mean is walked.
        nodes: Landmarks ``[k]``, such as the training nodes.
        hops: Length of the walks.
    """
    start = torch.zeros(paths[0].shape[0], len(nodes), device=paths[0].device)
    start[nodes, torch.arange(len(nodes), device=nodes.device)] = 1.0
    back = walk([path.transposed for path in paths], start, hops)
    kernel = walk(paths, back, hops)[nodes].double()
    size, axes = torch.linalg.eigh((kernel + kernel.t()) / 2)
    # landmarks whose walks end alike, or nowhere, leave directions without length
    root = torch.where(size > 1e-10 * size.max(), size.clamp(min=1e-300).rsqrt(), 0.0)
    return back @ (axes * root @ axes.t()).float()


def feature_views(
    graph: HeteroGraph, paths: Sequence[MetaPath], nodes: Tensor, hops: int
) -> tuple[Tensor, list[Tensor]]:
    """Propagated features: the joint view, and those of each meta-path (and of the node itself).

    Args:
        graph: The graph.
        paths: Its meta-paths.
        nodes: Landmarks, used where the graph has no features.
        hops: Length of the walks, there.

    Returns:
        Tensors ``[n, f]``; the last of the list are the features themselves, if there are some.
    """
    if graph.identity:
        x = landmarks(paths, nodes, hops)
        return walk(paths, x, hops), [walk([path], x, hops) for path in paths]
    x = torch.from_numpy(graph.features.toarray()).to(paths[0].device)
    x = x / x.abs().sum(1, keepdim=True).clamp(min=1e-9)
    own = [unit_rows(path(x)) for path in paths]
    return torch.stack(own).mean(0), [*own, unit_rows(x)]


@dataclass(frozen=True)
class Basis:
    """A latent space of views.

    Attributes:
        centre: ``[f]``.
        axes: Columns of length one, ``[f, d]``.
        scale: Factor that brings the mean square of a coordinate to one, 0-dim.
    """

    centre: Tensor
    axes: Tensor
    scale: Tensor

    @classmethod
    def of(cls, views: Sequence[Tensor], dim: int) -> Basis:
        """The first ``dim`` principal directions of all rows ``[n, f]`` of all views."""
        rows = torch.cat(list(views)).double()
        centre = rows.mean(0)
        rows = rows - centre
        _, axes = torch.linalg.eigh(rows.t() @ rows)
        axes = axes[:, -dim:].flip(1)
        # eigenvectors have no sign of their own: the largest entry is made positive
        signs = axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
        axes = axes * signs
        size = (rows @ axes).square().mean().sqrt().clamp(min=1e-12)
        return cls(centre.float(), axes.float(), (1 / size).float())

    def __call__(self, view: Tensor) -> Tensor:
        """Coordinates ``[n, d]`` of a view ``[n, f]``."""
        return (view - self.centre) @ self.axes * self.scale


def folds_of(labels: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Folds of training nodes with these classes ``[k]``: each class is spread evenly.

    Raises:
        ArgumentError: Fewer than two folds, or a class of a single node, whose score would come
            from no label of its class.
    """
    count = np.bincount(labels)
    if folds < 2 or count[count > 0].min() < 2:
        raise ArgumentError(
            f"{folds} folds and classes of {count.tolist()} training nodes; two of each are needed "
            "to show a node the labels of the others; give more, or use features alone, with "
            'NodeConfig(inputs=("features",))'
        )
    rng, found = np.random.default_rng(seed), np.zeros(len(labels), np.int64)
    for c in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == c))
        found[members] = np.arange(len(members)) % folds
    return found


@dataclass(frozen=True)
class LabelScores:
    """Scores of classes from the labels of training nodes.

    Attributes:
        all: From all labels, ``[n, C]``; what is shown when predicting.
        held: Of training nodes, in their order, from the labels of other folds, ``[k, C]``; what is
            shown in training.
    """

    all: Tensor
    held: Tensor


def label_scores(
    paths: Sequence[MetaPath],
    train: NDArray[np.int64],
    labels: NDArray[np.int64],
    classes: int,
    *,
    damping: float = 0.98,
    hops: int = 30,
    folds: int = 8,
    seed: int = 0,
) -> LabelScores:
    """Propagated labels, see the module docstring.

    Args:
        paths: Operators; their mean is walked.
        train: Training nodes ``[k]``.
        labels: Their classes ``[k]``.
        classes: Number ``C``.
        damping: Chance ``a`` to walk on.
        hops: Rounds ``K + 1``.
        folds: Parts that training nodes are dealt into.
        seed: Of the dealing.

    Raises:
        ArgumentError: See :func:`folds_of` and :func:`diffuse`.
    """
    n, fold = paths[0].shape[0], folds_of(labels, folds, seed)
    start = torch.zeros(n, folds + 1, classes)
    for j in range(folds + 1):  # the last column group keeps every label
        kept = fold != j
        start[train[kept], j, labels[kept]] = 1.0
    start = (start / start.sum(0).clamp(min=1.0)).to(paths[0].device)
    spread = diffuse(paths, start.reshape(n, -1), damping, hops).view(n, folds + 1, classes)
    spread = n * spread / spread.sum(0).clamp(min=1e-12)
    logs = (spread + EPSILON).log()
    scores = logs - logs.mean(-1, keepdim=True)
    return LabelScores(scores[:, folds], scores[torch.from_numpy(train), torch.from_numpy(fold)])
