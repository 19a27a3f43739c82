"""Graphs, training and baselines of the canonization suite."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.data import expressivity
from graphdiff.graph.canonical import Canonizer, ColouredGraph, coloured
from graphdiff.graph.canonical.network import Batch, LabelledGNN, collate
from graphdiff.graph.evaluate import summary

Int = NDArray[np.int64]
STEPS = 16  # of the random walk encoding
SETTINGS = ({"depth": 1, "rate": 5e-3}, {"depth": 3, "rate": 2e-3})
METHODS = ("GIN", "GIN + random ids", "GIN + random walks", "GC-GNN")


# -- graphs -----------------------------------------------------------------------------------


def of(graph: Any) -> ColouredGraph:
    """A networkx graph whose nodes are 0 to n - 1."""
    return ColouredGraph(len(graph), np.array(graph.edges, np.int64).reshape(-1, 2))


def shuffled(graph: ColouredGraph, rng: np.random.Generator) -> ColouredGraph:
    """A copy under other node numbers."""
    return graph.relabelled(rng.permutation(graph.nodes))


def cfi(base: Any, twisted: bool) -> ColouredGraph:
    """The graph of Cai, Fuerer and Immerman over a networkx graph of nodes 0 to n - 1."""
    return ColouredGraph(*expressivity.cfi(np.array(base.edges), len(base), twisted=twisted))


def bases(count: int) -> list[Any]:
    """Connected cubic graphs of 4 to 8 nodes, no two isomorphic (there are 1, 2 and 5)."""
    import networkx as nx

    from graphdiff.graph.canonical import canonical_form

    found: dict[bytes, Any] = {}
    for seed in range(100 * count):
        graph = nx.random_regular_graph(3, (4, 6, 8)[seed % 3], seed)
        if nx.is_connected(graph):
            found.setdefault(canonical_form(of(graph), backend="search"), graph)
        if len(found) == count:
            return list(found.values())
    raise ValueError(f"there are only {len(found)} such graphs")


def walks(graph: ColouredGraph) -> Tensor:
    """Chance that a random walk is back after 1 to :data:`STEPS` steps, ``[n, STEPS]``."""
    dense = np.zeros((graph.nodes, graph.nodes))
    u, v = graph.edges.T
    dense[u, v] = dense[v, u] = 1
    once = dense / np.maximum(dense.sum(1, keepdims=True), 1)
    power, back = np.eye(graph.nodes), []
    for _ in range(STEPS):
        power = power @ once
        back.append(np.diagonal(power))
    return torch.from_numpy(np.stack(back, 1))


def published() -> dict[str, tuple[list[ColouredGraph], int]]:
    """Sets with a known number of classes, as far as their files are there."""
    from graphdiff.core.errors import DataError
    from graphdiff.data import expressivity

    sets = {"csl": (coloured(expressivity.csl()[0]), 10)}
    for name, classes in (("sr25", 15), ("graph8c", 11_117)):
        try:
            sets[name] = (coloured(getattr(expressivity, name)()), classes)
        except DataError as error:
            print(f"without {name}: {error}", file=sys.stderr)
    return sets


def row_of(
    what: str, method: str, measure: str, values: Sequence[float], n: int, **more: Any
) -> dict[str, Any]:
    """Mean of a measure with its 95 % interval over seeds, folds or graphs."""
    s = summary(values)
    row = {"what": what, "method": method, "measure": measure, "value": s.mean, "low": s.low,
           "high": s.high, "n": n, "seeds": s.n, "each": [float(v) for v in values]}  # fmt: skip
    return {**row, **more}


# -- networks ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inputs:
    """What a method reads of graphs."""

    graphs: Sequence[ColouredGraph]
    labels: Sequence[Int] | None
    features: Sequence[Tensor] | None
    known: int
    random: bool = False

    def batch(self, rows: Int) -> Batch:
        pick = lambda x: None if x is None else [x[i] for i in rows]  # noqa: E731
        made = collate([self.graphs[i] for i in rows], pick(self.labels), pick(self.features))
        return replace(made, features=made.features.to(torch.float32))

    def net(self, outputs: int, seed: int, **options: Any) -> LabelledGNN:
        width = 1 if self.features is None else self.features[0].shape[1]
        return LabelledGNN(width, outputs, self.known, seed=seed, **options)


def inputs(method: str, graphs: Sequence[ColouredGraph]) -> Inputs:
    """The labels or encodings by which a method of :data:`METHODS` sees graphs."""
    most = max(g.nodes for g in graphs)
    if method == "GIN":
        return Inputs(graphs, None, None, 0)
    if method == "GIN + random walks":
        return Inputs(graphs, None, [walks(g) for g in graphs], 0)
    if method == "GIN + random ids":
        return Inputs(graphs, [np.arange(g.nodes) for g in graphs], None, most, random=True)
    canonizer = Canonizer()
    return Inputs(graphs, [canonizer.labels(g) for g in graphs], None, most)


def redrawn(batch: Batch, rng: np.random.Generator) -> Batch:
    """The batch with a new random numbering of each graph as labels."""
    owner = batch.owner.numpy()
    order = np.lexsort((rng.random(len(owner)), owner))
    first = np.searchsorted(owner, np.arange(batch.graphs))
    labels = np.empty(len(owner), np.int64)
    labels[order] = np.arange(len(owner)) - first[owner]
    return replace(batch, labels=torch.from_numpy(labels))


def fit(
    given: Inputs, classes: Int, parts: tuple[Int, Int, Int], *, epochs: int, seed: int,
    chunk: int = 64, rate: float = 5e-3, **options: Any,
) -> tuple[float, NDArray[np.bool_]]:  # fmt: skip
    """Validation accuracy and which test graphs are right, at the best epoch on validation.

    The best has the highest accuracy, then the lowest loss.

    Args:
        given: What the network reads.
        classes: Class of each graph.
        parts: Rows for training, validation and test.
        epochs: How many.
        seed: Of weights, order and random ids.
        chunk: Graphs of one step.
        rate: Learning rate of Adam.
        options: Of the network.
    """
    rng = np.random.default_rng(seed)
    net = given.net(int(classes.max()) + 1, seed, **options)
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)
    train, *held = parts
    pieces = np.array_split(rng.permutation(train), max(1, len(train) // chunk))
    steps = [(given.batch(p), torch.from_numpy(classes[p])) for p in pieces]
    asked = [(given.batch(p), torch.from_numpy(classes[p])) for p in held]
    see: Callable[[Batch], Batch] = lambda b: redrawn(b, rng) if given.random else b  # noqa: E731
    best, right = (-1.0, 0.0), np.zeros(len(held[1]), bool)
    for _ in range(epochs):
        net.train()
        for i in rng.permutation(len(steps)):
            batch, wanted = steps[i]
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(net(see(batch)), wanted).backward()
            optimiser.step()
        net.eval()
        with torch.no_grad():
            (valid, test), wanted = (net(see(b)) for b, _ in asked), [y for _, y in asked]
        hit = float((valid.argmax(1) == wanted[0]).float().mean())
        score = (hit, -float(torch.nn.functional.cross_entropy(valid, wanted[0])))
        if score > best:
            best = score
            right = (test.argmax(1) == wanted[1]).numpy()
    return best[0], right


def chosen(
    given: Inputs, classes: Int, parts: tuple[Int, Int, Int], epochs: int, seed: int
) -> float:
    """Test accuracy of the better, on validation, of :data:`SETTINGS`."""
    runs = [fit(given, classes, parts, epochs=epochs, seed=seed, **how) for how in SETTINGS]
    return float(max(runs, key=lambda run: run[0])[1].mean())


# -- a simulated gene network -----------------------------------------------------------------

GENES, EDGES, PATHWAY = 30, 70, 5


def patients(count: int, seed: int) -> tuple[list[ColouredGraph], Int, Tensor]:
    """Noisy networks over the same genes, classes, and flattened adjacency ``[count, pairs]``.

    A reference network has 70 random edges; each patient lacks 15 % of them and has ten others.
    Five pairs of genes, random and not in the reference, are linked with chance one half each; the
    class is whether at least three are.
    """
    rng = np.random.default_rng(seed)
    pairs = np.stack(np.triu_indices(GENES, 1), 1)
    order = rng.permutation(len(pairs))
    causes, common, others = np.split(order, [PATHWAY, PATHWAY + EDGES])
    there = np.zeros((count, len(pairs)), bool)
    there[:, common] = rng.random((count, EDGES)) > 0.15
    for row in there:
        row[rng.choice(others, 10, replace=False)] = True
    there[:, causes] = rng.random((count, PATHWAY)) < 0.5
    classes = (there[:, causes].sum(1) >= 3).astype(np.int64)
    graphs = [ColouredGraph(GENES, pairs[row]) for row in there]
    return graphs, classes, torch.from_numpy(there.astype(np.float32))


def linear(flat: Tensor, classes: Int, parts: tuple[Int, Int, Int]) -> float:
    """Test accuracy of logistic regression on the aligned adjacency, penalty by validation."""
    from sklearn.linear_model import LogisticRegression

    x = flat.numpy()
    train, valid, test = parts
    models = [
        LogisticRegression(C=c, max_iter=500).fit(x[train], classes[train])
        for c in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    ]
    best = max(models, key=lambda m: float(m.score(x[valid], classes[valid])))
    return float(best.score(x[test], classes[test]))
