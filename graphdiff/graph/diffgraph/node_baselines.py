r"""What every node classifier on a heterogeneous graph is compared with.

* ``majority``: the classes in proportion, the most frequent one predicted;
* ``mlp``: features of the node alone, no graph; refused where there are none;
* ``label propagation``: :func:`~graphdiff.graph.diffgraph.node_inputs.diffuse` of the training
  labels, no features (Zhou et al., 2004);
* ``sgc``: multinomial logistic regression on :math:`P^k X` (Wu et al., 2019, arXiv 1902.07153),
  of one meta-path, or of all side by side. Without features :math:`X` is the identity and
  :math:`P` the mean of the meta-paths; the regression is the exact one, on the few columns that
  :func:`~graphdiff.graph.diffgraph.node_inputs.landmarks` says are enough.

Settings are chosen on the validation nodes only: by accuracy, ties by the log-likelihood. Each
baseline answers with log-probabilities ``[n, C]`` and the setting it chose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from graphdiff.core.errors import ArgumentError
from graphdiff.data.hetero import HeteroGraph, Split
from graphdiff.graph.diffgraph.metapath import MetaPath, Norm
from graphdiff.graph.diffgraph.node_inputs import diffuse, landmarks, unit_rows, walk
from graphdiff.graph.diffgraph.steps import target_paths
from graphdiff.graph.evaluate.baselines import MLP

__all__ = ["BASELINES", "Fitted", "baseline", "fit_linear", "validation_score"]

NORMS: tuple[Norm, ...] = ("walk", "symmetric")
DAMPINGS = (0.8, 0.95, 0.99)
DECAYS = (1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class Fitted:
    """Answer of a baseline.

    Attributes:
        log_probs: ``[n, C]``.
        setting: What was chosen on validation.
        tried: Number of settings.
    """

    log_probs: Tensor
    setting: dict[str, Any]
    tried: int


def validation_score(
    log_probs: Tensor, labels: NDArray[np.int64], nodes: NDArray[np.int64]
) -> tuple[float, float]:
    """Accuracy and mean log-likelihood on some nodes: what settings are ordered by."""
    found, y = log_probs[torch.from_numpy(nodes)].cpu(), torch.from_numpy(labels[nodes])
    hit = (found.argmax(1) == y).double().mean()
    return float(hit), -float(nn.functional.nll_loss(found, y))


def fit_linear(
    logits: Callable[[Tensor], Tensor], shape: tuple[int, int], y: Tensor, decay: float,
    iterations: int = 60,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    r"""Weights and bias of a multinomial logistic regression with classes weighted alike.

    Minimises :math:`\mathrm{mean}_c \mathrm{mean}_{i \in c} \mathrm{nll}_i + \lambda/2
    \lVert W \rVert^2` (convex) by L-BFGS from zero.

    Args:
        logits: Map of weights ``[f, C]`` to logits ``[k, C]`` of the training nodes, linear.
        shape: ``(f, C)``.
        y: Classes ``[k]``.
        decay: :math:`\lambda`.
        iterations: Of L-BFGS.
    """
    weight = torch.zeros(shape, device=y.device, requires_grad=True)
    bias = torch.zeros(shape[1], device=y.device, requires_grad=True)
    count = torch.bincount(y, minlength=shape[1]).clamp(min=1)
    share = (1 / count)[y] / shape[1]
    search = torch.optim.LBFGS(
        [weight, bias], max_iter=iterations, history_size=10, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        search.zero_grad()
        nll = nn.functional.cross_entropy(logits(weight) + bias, y, reduction="none")
        found = (share * nll).sum() + 0.5 * decay * weight.square().sum()
        found.backward()
        return found

    search.step(loss)
    return weight.detach(), bias.detach()


def baseline(
    name: str, graph: HeteroGraph, split: Split, *, paths: Sequence[str] | None = None,
    seed: int = 0,
) -> Fitted:  # fmt: skip
    """A baseline with its settings chosen on validation.

    Args:
        name: One of :data:`BASELINES`.
        graph: The graph.
        split: Which nodes to train on and to choose by; the test nodes are not looked at.
        paths: Meta-paths from the target type to itself; by default those of
            :func:`~graphdiff.graph.diffgraph.steps.default_paths`.
        seed: Of networks.

    Raises:
        ArgumentError: There is no such baseline or meta-path.
        DataError: The split is none of this graph.
    """
    if name not in BASELINES:
        raise ArgumentError(f"there is no baseline {name!r}: known are {', '.join(BASELINES)}")
    split = graph.split(split)
    candidates = BASELINES[name](graph, split, paths, seed)
    best: tuple[tuple[float, float], Fitted] | None = None
    tried = 0
    for setting, log_probs in candidates:
        tried += 1
        score = validation_score(log_probs, graph.labels, split.val)
        if best is None or score > best[0]:
            best = score, Fitted(log_probs, setting, 0)
    assert best is not None
    return Fitted(best[1].log_probs, best[1].setting, tried)


Candidates = Iterable[tuple[dict[str, Any], Tensor]]


def _training(graph: HeteroGraph, split: Split) -> tuple[Tensor, Tensor, int]:
    return (
        torch.from_numpy(split.train), torch.from_numpy(graph.labels[split.train]),
        len(graph.classes),
    )  # fmt: skip


def _majority(graph: HeteroGraph, split: Split, paths: Any, seed: int) -> Candidates:
    # the training nodes are as many of each class, so the proportions are those of validation
    share = np.bincount(graph.labels[split.val], minlength=len(graph.classes)) / len(split.val)
    yield {}, torch.from_numpy(np.log(np.maximum(share, 1e-9))).float().repeat(graph.n, 1)


def _mlp(graph: HeteroGraph, split: Split, paths: Any, seed: int) -> Candidates:
    if graph.identity:
        raise ArgumentError(
            "this graph has no features, so a perceptron that sees no edges has nothing to learn "
            "from; compare with 'majority'"
        )
    train, y, classes = _training(graph, split)
    x = _features(graph)
    for dropout, decay in ((0.5, 5e-4), (0.8, 5e-3)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = MLP(x.shape[1], classes, hidden=64, dropout=dropout)
            rule = torch.optim.Adam(net.parameters(), lr=0.01, weight_decay=decay)
            rows = x[train]
            for step in range(1, 101):
                net.train()
                rule.zero_grad()
                nn.functional.cross_entropy(net(rows), y).backward()
                rule.step()
                if step % 20 == 0:
                    net.eval()
                    with torch.no_grad():
                        found = net(x).log_softmax(-1)
                    yield {"dropout": dropout, "decay": decay, "steps": step}, found


def _features(graph: HeteroGraph) -> Tensor:
    """Rows of length one, dense."""
    return unit_rows(torch.from_numpy(graph.features.toarray()))


def _path_sets(
    graph: HeteroGraph, paths: Sequence[str] | None
) -> list[tuple[Norm, list[MetaPath]]]:
    """Every path alone and all together, in each normalisation."""
    wanted = target_paths(graph, paths)
    found: list[tuple[Norm, list[MetaPath]]] = []
    for norm in NORMS:
        made = [MetaPath.of(graph, path, norm) for path in wanted]
        alone = [[path] for path in made] if len(made) > 1 else []
        found += [(norm, some) for some in [*alone, made]]
    return found


def _propagation(
    graph: HeteroGraph, split: Split, paths: Sequence[str] | None, seed: int
) -> Candidates:
    train, y, classes = _training(graph, split)
    start = torch.zeros(graph.n, classes)
    start[train, y] = 1.0
    start = start / start.sum(0).clamp(min=1)
    for norm, some in _path_sets(graph, paths):
        for damping in DAMPINGS:
            spread = diffuse(some, start, damping, 50)
            for mass in (False, True):  # class mass normalisation
                found = graph.n * (spread / spread.sum(0).clamp(min=1e-12) if mass else spread)
                found = found + 1e-6
                names = [path.name for path in some]
                setting = {"norm": norm, "paths": names, "damping": damping, "mass": mass}
                yield setting, (found / found.sum(1, keepdim=True)).log()


def _sgc(graph: HeteroGraph, split: Split, paths: Sequence[str] | None, seed: int) -> Candidates:
    train, y, classes = _training(graph, split)
    for norm, some in _path_sets(graph, paths):
        for hops in (16,) if graph.identity else (1, 2):
            rows = _propagated(graph, some, train, hops)
            rows = rows / rows.square().mean().sqrt().clamp(min=1e-12)
            here = rows[train]
            for decay in DECAYS:
                weight, bias = fit_linear(here.matmul, (rows.shape[1], classes), y, decay)
                names = [path.name for path in some]
                setting = {"norm": norm, "paths": names, "hops": hops, "decay": decay}
                yield setting, (rows @ weight + bias).log_softmax(-1)


def _propagated(graph: HeteroGraph, paths: Sequence[MetaPath], train: Tensor, hops: int) -> Tensor:
    """``P^k X``: of several meta-paths side by side, of the identity their mean, see above."""
    if graph.identity:
        return walk(paths, landmarks(paths, train, hops), hops)
    x = _features(graph)
    return torch.cat([unit_rows(walk([path], x, hops)) for path in paths], 1)


BASELINES: dict[str, Callable[[HeteroGraph, Split, Any, int], Candidates]] = {
    "majority": _majority,
    "mlp": _mlp,
    "label propagation": _propagation,
    "sgc": _sgc,
}
