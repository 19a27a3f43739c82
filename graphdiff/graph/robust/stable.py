r"""STABLE: reliable representations of a poisoned graph, a mended graph, a classifier on both.

Li et al. (2022, "Reliable representations make a stronger defender", arXiv 2207.00012), in four
steps that each have their module:

1. edges between nodes of unlike words are dropped (:mod:`~graphdiff.graph.robust.refine`);
2. a contrastive encoder learns embeddings without labels from the graph that is left and two views
   with some of the dropped edges back (:mod:`~graphdiff.graph.robust.encoder`);
3. the embeddings say which further edges go and which come (:mod:`~graphdiff.graph.robust.refine`);
4. a graph convolution that trusts nodes of high degree is trained on the mended graph, with the
   embeddings as its features (:mod:`~graphdiff.graph.robust.gcn`).

No step makes anything dense in the number of nodes: 100,000 of them take less than 4 GiB. (Where a
graph has no features, the indicators that :class:`~graphdiff.data.nodes.NodeData` gives its nodes
are :math:`n^2` numbers; it refuses them above 20,000 nodes.)

``Stable(published("cora", 0.2)).fit(data)`` uses the published values for that graph and rate of
attack; ``Stable().fit(data)`` chooses on validation (:func:`choose`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.nodes import NodeData, Split
from graphdiff.graph.adjacency import Pairs, SparseOperator, adjacency, both_ways
from graphdiff.graph.node_features import compressed
from graphdiff.graph.robust.classifier import StableClassifier
from graphdiff.graph.robust.config import StableConfig
from graphdiff.graph.robust.encoder import Encoder, fit_encoder
from graphdiff.graph.robust.gcn import Fitted, check_runs, fit_gcn
from graphdiff.graph.robust.refine import likely, put_back, refine

__all__ = ["Choice", "Embedded", "Stable", "StableClassifier", "choose", "sparse_features"]

JACCARDS = (0.0, 0.03)
NEIGHBOURS = (1, 5)
ALPHAS = (-0.5, -0.1, 0.3, 0.6)
Report = Callable[[str, int, float], None]


def sparse_features(features: Tensor) -> tuple[Tensor, Tensor]:
    """Features ``[n, f]`` and their transpose, in compressed rows where most entries are zero."""
    found = compressed(features)
    if isinstance(found, Tensor):
        return features, features.T.contiguous()
    pattern, values = found.pattern, found.values
    return pattern.csr(values), pattern.transposed.csr(values[pattern.turn])


@dataclass(frozen=True, eq=False)
class Embedded:
    """Steps 1 and 2: the graph that is left, and embeddings of its nodes.

    Attributes:
        edges: Each edge once, int64 ``[2, m]``.
        dropped: How many edges are gone.
        embedding: ``[n, d]``.
        encoder: That made them.
        losses: Training loss of each epoch.
    """

    edges: NDArray[np.int64]
    dropped: int
    embedding: Tensor
    encoder: Encoder
    losses: list[float]


class Stable:
    """The defence; see the module docstring.

    Args:
        config: Settings; none means :func:`choose` on the graph that is fitted.
    """

    def __init__(self, config: StableConfig | None = None) -> None:
        self.config = config

    def fit(
        self,
        data: NodeData,
        split: Split | None = None,
        *,
        seed: int = 0,
        runs: int = 1,
        progress: Report | None = None,
    ) -> StableClassifier:
        """Mend the graph and train on it.

        Args:
            data: A graph; its test labels are not read.
            split: Where to train and select; the first of the graph by default.
            seed: Of encoder, views and classifiers.
            runs: Classifiers, trained side by side; predictions are averaged.
            progress: Called with the stage, what is done of it, and the loss (encoder).

        Raises:
            DataError: The graph has no split, the split does not fit it, or all features are zero.
            ArgumentError: ``runs`` is below 1, or ``jaccard`` or ``cosine`` would drop every edge.
        """
        check_runs(runs)
        split = split_of(data, split)
        if self.config is None:
            choice = choose(data, split, seed=seed, progress=progress)
            config, embedded = choice.config, choice.embedded
        else:
            config = self.config
            embedded = represent(data, config, seed=seed, progress=progress)
        pairs = refine(
            embedded.edges,
            embedded.embedding,
            cosine=config.cosine,
            k=config.k,
            symmetric=config.symmetric,
        )
        fitted = classify(data, split, embedded, pairs, config, runs=runs, seed=seed)
        info = {
            **replace(data, splits=(split,)).fingerprint(),
            "seed": seed,
            "dropped_by_features": embedded.dropped,
            "entries": len(pairs[0]),
            "encoder_epochs": len(embedded.losses),
            "val_accuracy": fitted.val_accuracy.tolist() if len(split.val) else None,
            "epochs": fitted.epoch.tolist(),
        }
        return StableClassifier(
            config, embedded.embedding, *pairs, embedded.encoder, fitted.stack, info
        )


def split_of(data: NodeData, split: Split | None) -> Split:
    """``split``, or the first one of the graph, on the device of its labels.

    Raises:
        DataError: There is none, or it takes nodes that the graph does not have or has no label of.
    """
    if split is None and not data.splits:
        raise DataError(
            f"{data.name}: the graph has no split to train on; pass split=, for example "
            "random_splits(data.labels)[0]"
        )
    found = data.splits[0] if split is None else split
    data.check_split(found)
    parts = (found.train, found.val, found.test)
    return Split(*(part.to(data.labels.device) for part in parts))


def represent(
    data: NodeData, config: StableConfig, *, seed: int = 0, progress: Report | None = None
) -> Embedded:
    """Steps 1 and 2: drop unlikely edges and learn embeddings. Labels are not read.

    Raises:
        DataError: All features are zero.
        ArgumentError: ``jaccard`` would drop every edge.
    """
    if not bool(data.features.any()):
        raise DataError(
            f"{data.name}: all features are zero, so that there is nothing to compare nodes by; "
            "give features, or none (NodeData.of(name, edges, None, labels) makes an indicator of "
            "each node) with jaccard=0"
        )
    edges, n = data.edges.cpu().numpy(), data.n
    keep = likely(edges, sp.csr_matrix(data.features.cpu().numpy()), config.jaccard)
    if edges.shape[1] and not keep.any():
        raise ArgumentError(
            f"{data.name}: every edge has a Jaccard similarity below {config.jaccard}; for "
            "features that are no sets of words (indicators, say) set jaccard=0"
        )
    rng = np.random.default_rng(seed)
    device = data.features.device

    def graph(kept: NDArray[np.bool_], loops: float) -> Tensor:
        made: SparseOperator = adjacency(*both_ways(edges[:, kept]), n, loops=loops)
        return made.to(device).csr()

    anchor = graph(keep, config.beta)
    views = [graph(put_back(keep, config.recover, rng), config.beta + 1) for _ in range(2)]
    features, turned = sparse_features(data.features)
    told = None if progress is None else lambda done, loss: progress("encoder", done, loss)
    encoder, losses = fit_encoder(
        features, turned, anchor, views, config.encoder, seed=seed, progress=told
    )
    embedding = encoder(anchor, features)
    return Embedded(edges[:, keep], int((~keep).sum()), embedding, encoder, losses)


def classify(
    data: NodeData,
    split: Split,
    embedded: Embedded,
    pairs: Pairs,
    config: StableConfig,
    *,
    runs: int = 1,
    seed: int = 0,
) -> Fitted:
    """Step 4: classifiers on embeddings and a mended graph, however it was mended."""
    operator = adjacency(*pairs, data.n, alpha=config.alpha).to(data.features.device)
    return fit_gcn(
        operator, embedded.embedding, data.labels, split, config.gcn, runs=runs, seed=seed
    )


@dataclass(frozen=True, eq=False)
class Choice:
    """Settings chosen on validation.

    Attributes:
        config: The best.
        embedded: Its embeddings.
        tried: Settings that were tried, with their validation accuracy.
    """

    config: StableConfig
    embedded: Embedded
    tried: list[dict[str, float]]


def choose(
    data: NodeData,
    split: Split | None = None,
    *,
    base: StableConfig | None = None,
    seed: int = 0,
    runs: int = 4,
    progress: Report | None = None,
) -> Choice:
    """Settings for a graph of which nothing is known, by accuracy on its validation nodes.

    ``jaccard``, ``k`` and ``alpha`` are chosen one after the other; the rest is that of ``base``.
    A threshold that would drop more than half of the edges is not tried: the features are then no
    sets of words. Test labels are not read.

    Args:
        data: The graph.
        split: Where to train and select; the first of the graph by default.
        base: Everything that is not chosen.
        seed: Of encoder, views and classifiers.
        runs: Classifiers whose validation accuracies are averaged.
        progress: As in :meth:`Stable.fit`.

    Raises:
        DataError: The graph has no split with validation nodes that fits it, or all features are
            zero.
        ArgumentError: ``runs`` is below 1, or ``cosine`` of ``base`` would drop every edge.
    """
    check_runs(runs)
    split = split_of(data, split)
    if not len(split.val):
        raise DataError(f"{data.name}: choosing settings needs validation nodes; give config")
    config = base or StableConfig(symmetric=True)
    words = sp.csr_matrix(data.features.cpu().numpy())
    edges = data.edges.cpu().numpy()
    embedded: dict[float, Embedded] = {}
    for jaccard in JACCARDS:
        if not jaccard or likely(edges, words, jaccard).mean() > 0.5:
            told = replace(config, jaccard=jaccard)
            embedded[jaccard] = represent(data, told, seed=seed, progress=progress)
    tried: list[dict[str, float]] = []

    def score(told: StableConfig) -> float:
        at = {"jaccard": told.jaccard, "k": told.k, "alpha": told.alpha}
        for row in tried:
            if at == {name: row[name] for name in at}:
                return row["val_accuracy"]
        held = embedded[told.jaccard]
        pairs = refine(
            held.edges, held.embedding, cosine=told.cosine, k=told.k, symmetric=told.symmetric
        )
        fitted = classify(data, split, held, pairs, told, runs=runs, seed=seed)
        tried.append({**at, "val_accuracy": float(fitted.val_accuracy.mean())})
        return tried[-1]["val_accuracy"]

    for name, values in (("jaccard", tuple(embedded)), ("k", NEIGHBOURS), ("alpha", ALPHAS)):
        config = max((replace(config, **{name: v}) for v in values), key=score)  # type: ignore[arg-type]
    return Choice(config, embedded[config.jaccard], tried)
