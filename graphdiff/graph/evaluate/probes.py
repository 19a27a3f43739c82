r"""Probes for leaks: does a data set, or a pipeline, tell what it must not?

* **Duplicates.** A node of the test part with a twin (equal features and the same neighbours) in
  the training part is no test of anything. Twins that are neighbours of each other count as well.
* **Same neighbours.** Pages that were copied and edited keep their links, not their words: of the
  Wikipedia graph squirrel 40 % of the test nodes have exactly the neighbours of a training node,
  and its class. Leaves of one hub share their neighbours without any leak, so what tells is that
  copying the class of the twin is (nearly) always right though no class is that frequent.
* **Labels among the features.** One column that alone predicts the test labels almost perfectly.
* **Overlap.** Parts of one split may not share nodes (a :class:`~graphdiff.data.nodes.Split`
  refuses that); but alternative splits of one graph do share: the share of one test part that is
  training data of another says why a paired test over splits must be corrected.
* **Shuffled labels.** With all labels permuted over the nodes, no pipeline that keeps away from
  test labels can be better than chance. With :math:`q` the share of the largest class, the number
  of hits of any fixed answer on :math:`n` test nodes is at most as large, in law, as
  :math:`\mathrm{Bin}(n, q)` in its upper tail (drawing without replacement only narrows it), which
  gives the p-value of what was found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.data.nodes import UNKNOWN, NodeData, Split

__all__ = [
    "Finding", "duplicates", "label_in_features", "overlap", "report", "same_neighbours",
    "shuffled_labels", "twins",
]  # fmt: skip

Method = Callable[[NodeData, Split], Tensor]
"""Logits ``[n, classes]`` of all nodes of a graph, learned on a split."""

TELLING = 0.98
FEW_VALUES = 64
TWIN_SHARE = 0.05
COPIED = 0.95
LIFT = 0.2
SIGNIFICANT = 1e-3


@dataclass(frozen=True)
class Finding:
    """What a probe found.

    Attributes:
        probe: Its name.
        value: What was measured: a share, or an accuracy.
        expected: What it would be, at most, without a leak.
        leak: Whether it is too large.
        message: In words, with counts.
        n: Nodes that were looked at.
    """

    probe: str
    value: float
    expected: float
    leak: bool
    message: str
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Flat, for a table."""
        return asdict(self)


def twins(data: NodeData, features: bool = True) -> NDArray[np.int64]:
    """Number of the group of each node ``[n]``: those with equal features and neighbours.

    Without ``features``, those with the same neighbours; isolated nodes are alone then.

    Sets of neighbours are compared by sums of random 64-bit numbers of their members, once without
    and once with the node itself (for twins that are joined); sets that differ agree by chance with
    probability :math:`2^{-64}`.
    """
    n = data.n
    mark = np.random.default_rng(0).integers(0, 2**64, n, dtype=np.uint64)
    around = np.zeros(n, np.uint64)
    u, v = data.edges.cpu().numpy()
    with np.errstate(over="ignore"):
        np.add.at(around, u, mark[v])
        np.add.at(around, v, mark[u])
        closed = around + mark
    words: dict[bytes, int] = {}
    if features:
        same = np.array([words.setdefault(row.tobytes(), k) for k, row in enumerate(_rows(data))])
    else:
        bare = data.isolated.cpu().numpy()
        same = np.zeros(n, np.int64)
        same[bare] = 1 + np.arange(len(bare))
    group = np.arange(n)
    for sums in (around, closed):
        first: dict[tuple[int, int], int] = {}
        for k in range(n):
            other = first.setdefault((int(same[k]), int(sums[k])), k)
            group[k] = min(group[k], group[other])
    found: NDArray[np.int64] = group
    return found


def _rows(data: NodeData) -> NDArray[np.float32]:
    x: NDArray[np.float32] = np.ascontiguousarray(data.features.cpu().float().numpy())
    return x + 0.0  # -0.0 is 0.0


def duplicates(data: NodeData, splits: Sequence[Split] = ()) -> Finding:
    """Share of test nodes, over all splits, that have a twin in the training part.

    Args:
        data: The graph.
        splits: Splits; those of the data by default.

    Raises:
        ArgumentError: There are none.
    """
    share, agree, n, members = _copies(data, _chosen(data, splits), twins(data))
    message = (
        f"{members} of {data.n} nodes have a twin (equal features and neighbours); {share:.1%} of "
        f"test nodes have one in training{_of_class(share, agree)}"
    )
    return Finding("duplicates", share, TWIN_SHARE, share > TWIN_SHARE, message, n)


def same_neighbours(data: NodeData, splits: Sequence[Split] = ()) -> Finding:
    """Share of test nodes, over all splits, with exactly the neighbours of a training node.

    It is a leak where they are many and nearly always of the class of that node.

    Args:
        data: The graph.
        splits: Splits; those of the data by default.

    Raises:
        ArgumentError: There are none.
    """
    share, agree, n, members = _copies(data, _chosen(data, splits), twins(data, features=False))
    y = data.labels[data.labels != UNKNOWN]
    usual = float(torch.bincount(y).max()) / max(len(y), 1)
    leak = share > TWIN_SHARE and agree >= COPIED and agree > usual + LIFT
    message = (
        f"{members} of {data.n} nodes have the neighbours of another; {share:.1%} of test nodes "
        f"have those of a training node{_of_class(share, agree)} (largest class {usual:.0%})"
    )
    return Finding("same neighbours", share, TWIN_SHARE, leak, message, n)


def _copies(
    data: NodeData, splits: Sequence[Split], group: NDArray[np.int64]
) -> tuple[float, float, int, int]:
    """Share of test nodes with a twin in training, share of these of its class, counts."""
    y = data.labels.cpu().numpy()
    seen = hits = agree = 0
    for split in splits:
        train, test = split.train.cpu().numpy(), split.test.cpu().numpy()
        first = dict(zip(group[train][::-1].tolist(), train[::-1].tolist(), strict=True))
        pairs = [(k, first[group[k]]) for k in test if group[k] in first]
        seen, hits = seen + len(test), hits + len(pairs)
        agree += sum(int(y[a] == y[b]) for a, b in pairs)
    sizes = np.bincount(group, minlength=data.n)
    return hits / max(seen, 1), agree / max(hits, 1), seen, int(sizes[sizes > 1].sum())


def _of_class(share: float, agree: float) -> str:
    return f", of the same class in {agree:.0%}" if share else ""


def overlap(data: NodeData, splits: Sequence[Split] = ()) -> Finding:
    """Share of the test part of one split that is training data of another, on average.

    It is no leak where each split is used on its own; it says that scores of several splits are not
    independent, and settings chosen by the validation nodes of *all* splits have seen test nodes.

    Raises:
        ArgumentError: There are no splits.
    """
    chosen = _chosen(data, splits)
    shares = [
        float(torch.isin(a.test, b.train).float().mean())
        for a in chosen
        for b in chosen
        if a is not b and len(a.test)
    ]
    share = float(np.mean(shares)) if shares else 0.0
    ratio = float(np.mean([s.overlap for s in chosen]))
    message = (
        f"{len(chosen)} splits; {share:.0%} of a test part is training data of another split; "
        f"paired tests take overlap = {ratio:.2f}"
    )
    return Finding("overlap", share, 1.0, False, message, len(chosen))


def label_in_features(data: NodeData, split: Split | None = None) -> Finding:
    """The best accuracy of a single column on test nodes (on validation nodes without any).

    A column of few values answers by the most frequent class of each value in training.

    Args:
        data: The graph.
        split: A split; the first of the data by default.

    Raises:
        ArgumentError: There is none.
    """
    split = split or _chosen(data, ())[0]
    x, y, many = _rows(data), data.labels.cpu().numpy(), len(data.classes)
    held = split.test if len(split.test) else split.val
    train, test = split.train.cpu().numpy(), held.cpu().numpy()
    counts = np.bincount(y[train], minlength=many)
    plain = float((y[test] == counts.argmax()).mean())
    best, column = plain, -1
    for k in range(x.shape[1]):
        values, code = np.unique(x[:, k], return_inverse=True)
        if not 1 < len(values) <= FEW_VALUES:
            continue
        table = np.zeros((len(values), many)) + 1e-6 * counts
        np.add.at(table, (code[train], y[train]), 1)
        score = float((table.argmax(1)[code[test]] == y[test]).mean())
        if score > best:
            best, column = score, k
    leak = best >= TELLING > plain
    message = f"majority class {plain:.3f}; best single column {best:.3f}"
    message += f" (column {column})" if column >= 0 else ""
    return Finding("label in features", best, TELLING, leak, message, len(test))


def shuffled_labels(
    data: NodeData, split: Split, method: Method, seed: int = 0, rounds: int = 3
) -> Finding:
    """Accuracy of a method on test nodes when all labels are permuted over the nodes.

    Args:
        data: The graph.
        split: A split.
        method: Learns on (data, split) and gives logits of all nodes. It is handed data with
            permuted labels; one that looks at the labels of test nodes shows itself.
        seed: Of the permutations.
        rounds: Permutations.

    Raises:
        ArgumentError: The split has no test nodes.
    """
    from scipy.stats import binom

    if not len(split.test):
        raise ArgumentError("the split has no test nodes to score")
    y = data.labels.cpu()
    known = (y != UNKNOWN).nonzero()[:, 0]
    hits = 0
    for k in range(rounds):
        turn = np.random.default_rng((seed, k)).permutation(len(known))
        mixed = y.clone()
        mixed[known] = y[known][torch.from_numpy(turn)]
        told = replace(data, labels=mixed.to(data.labels.device), splits=())
        chosen = method(told, split).argmax(1).cpu()
        hits += int((chosen[split.test] == mixed[split.test]).sum())
    n = rounds * len(split.test)
    chance = float(torch.bincount(y[known]).max()) / len(known)
    p = float(binom.sf(hits - 1, n, chance))
    message = (
        f"accuracy {hits / n:.3f} on permuted labels, chance is at most {chance:.3f} "
        f"(p = {p:.2g}, {rounds} permutations of {len(split.test)} test nodes)"
    )
    return Finding("shuffled labels", hits / n, chance, p < SIGNIFICANT, message, n)


def report(
    data: NodeData, splits: Sequence[Split] = (), method: Method | None = None, seed: int = 0
) -> list[Finding]:
    """All probes.

    Args:
        data: The graph.
        splits: Splits; those of the data by default.
        method: A pipeline for :func:`shuffled_labels`; label propagation by default.
        seed: Of the permutations.

    Raises:
        ArgumentError: There are no splits.
    """
    from graphdiff.graph.evaluate.baselines import baseline

    chosen = _chosen(data, splits)
    found = [
        duplicates(data, chosen), same_neighbours(data, chosen),
        label_in_features(data, chosen[0]), overlap(data, chosen),
    ]  # fmt: skip
    if len(chosen[0].test):
        usual: Method = lambda d, s: baseline("label-propagation", d, s).logits  # noqa: E731
        found.append(shuffled_labels(data, chosen[0], method or usual, seed))
    return found


def _chosen(data: NodeData, splits: Sequence[Split]) -> Sequence[Split]:
    chosen = splits or data.splits
    if not chosen:
        raise ArgumentError(
            f"{data.name} has no splits to probe; give some, as random_splits(data.labels)"
        )
    return chosen
