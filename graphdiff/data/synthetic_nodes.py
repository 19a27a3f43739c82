r"""Graphs with labels from a generator: the contextual block model.

Nodes have one of :math:`C` classes. Each edge joins, with probability ``homophily``, two nodes of
one class, and else a node of class :math:`c` with one of class :math:`c + 1 \bmod C` (so that
neighbours say much about a node even when they are never alike). Features are a mean of the class,
of norm ``signal``, plus standard normal noise (Deshpande et al., 2018, arXiv 1807.09596).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphdiff.core.errors import ArgumentError
from graphdiff.data.nodes import NodeData, random_splits

__all__ = ["contextual_blocks"]


def contextual_blocks(
    n: int = 400,
    classes: int = 4,
    *,
    homophily: float = 0.1,
    degree: float = 8.0,
    features: int = 16,
    signal: float = 1.0,
    seed: int = 0,
    splits: int = 5,
) -> NodeData:
    """A contextual block model with random 48/32/20 splits.

    Args:
        n: Nodes, as many of each class as can be.
        classes: Classes, 2 or more.
        homophily: Share of edges within a class.
        degree: Mean degree before repeated edges are merged.
        features: Of a node.
        signal: Norm of the mean of a class; 0 leaves noise.
        seed: Of everything.
        splits: How many.

    Raises:
        ArgumentError: Numbers that make no graph.
    """
    if classes < 2 or n < 2 * classes or not 0 <= homophily <= 1 or degree <= 0 or features < 1:
        raise ArgumentError(
            "a contextual block model needs 2 classes or more with 2 nodes each, homophily between "
            f"0 and 1, a positive degree and a feature; found n={n}, classes={classes}, "
            f"homophily={homophily}, degree={degree}, features={features}"
        )
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes)
    members = [np.flatnonzero(labels == c) for c in range(classes)]
    count = round(n * degree / 2)
    first = rng.integers(n, size=count)
    same = rng.random(count) < homophily
    goal = np.where(same, labels[first], (labels[first] + 1) % classes)
    draw = rng.random(count)
    sizes = np.array([len(m) for m in members])
    second = np.array(
        [members[c][int(u * size)] for c, u, size in zip(goal, draw, sizes[goal], strict=True)]
    )
    means = rng.standard_normal((classes, features))
    means *= signal / np.linalg.norm(means, axis=1, keepdims=True)
    x = means[labels] + rng.standard_normal((n, features))
    made = NodeData.of("contextual blocks", np.stack([first, second]), x, labels)
    parts = random_splits(made.labels, splits, seed=seed)
    return replace(made, splits=parts)
