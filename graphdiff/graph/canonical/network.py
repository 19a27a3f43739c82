r"""GC-GNN and UGC-GNN: message passing that reads a label of each node.

A network sees the features of node :math:`v` and an embedding of its label :math:`\ell(v \mid G)`,

.. math:: h_v^0 = W x_v + E_{\ell(v \mid G)} ,

then layers of GIN (Xu et al. 2019), :math:`h_v' = \mathrm{MLP}\bigl((1 + \varepsilon) h_v +
\sum_{u \sim v} h_u\bigr)`, or GCN (Kipf and Welling 2017), :math:`h_v' = \mathrm{MLP}\bigl(
\sum_{u \sim v \text{ or } u = v} h_u / \sqrt{(1 + d_u)(1 + d_v)}\bigr)`, and a sum or mean over the
nodes. What :math:`\ell` is makes the method (Dong et al. 2024, arXiv 2309.00738):

* none: plain GIN or GCN, at most as strong as colour refinement;
* canonical labels (:mod:`graphdiff.graph.canonical.labels`): GC-GNN. Isomorphic graphs give equal
  outputs, and others can be told apart, as the set of all :math:`(\ell(v), \{\ell(u) : u \sim
  v\})` is the whole graph; but one edge may move all labels;
* universal ids (:mod:`graphdiff.graph.canonical.universal`): UGC-GNN, stable and as strong, where
  nodes have names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.canonical.graph import ColouredGraph
from graphdiff.graph.sparse import Pattern

__all__ = ["Batch", "LabelledGNN", "collate"]

Int = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Batch:
    """Some graphs as one disjoint union.

    Attributes:
        features: Features of all nodes, float ``[N, f]``.
        pattern: Adjacency matrix of the union, ``[N, N]``, entry (v, u) for a message u to v.
        owner: Graph of each node, int64 ``[N]``.
        graphs: Number of graphs.
        labels: Label of each node, int64 ``[N]``, or None.
    """

    features: Tensor
    pattern: Pattern
    owner: Tensor
    graphs: int
    labels: Tensor | None = None


def collate(
    graphs: Sequence[ColouredGraph],
    labels: Sequence[Int] | None = None,
    features: Sequence[Tensor] | None = None,
) -> Batch:
    """Joins graphs to a batch.

    Args:
        graphs: Undirected graphs, or directed ones, whose arcs carry messages forward; colours of
            edges are not seen.
        labels: Labels ``[n]`` of the nodes of each graph.
        features: Float features ``[n, f]`` of the nodes of each graph; None gives all nodes a one.

    Raises:
        ArgumentError: If there is no graph, or labels or features do not fit the graphs.
    """
    if not graphs:
        raise ArgumentError("a batch needs one graph or more")
    sizes = np.array([g.nodes for g in graphs])
    for name, given in (("labels", labels), ("features", features)):
        if given is not None and [len(x) for x in given] != sizes.tolist():
            raise ArgumentError(f"{name} must have one row for each node of each graph")
    shift = np.concatenate([[0], np.cumsum(sizes)])
    parts = []
    for graph, first in zip(graphs, shift, strict=False):
        pairs = graph.edges[:, ::-1] + first
        parts += [pairs] if graph.directed else [pairs, pairs[:, ::-1]]
    total = int(shift[-1])
    code = np.sort(np.concatenate([p[:, 0] * total + p[:, 1] for p in parts]))
    row, col = torch.from_numpy(code // max(total, 1)), torch.from_numpy(code % max(total, 1))
    joined = None if labels is None else torch.from_numpy(np.concatenate(list(labels)))
    x = torch.ones(total, 1) if features is None else torch.cat(list(features))
    owner = torch.from_numpy(np.repeat(np.arange(len(graphs)), sizes))
    return Batch(x, Pattern.of(row, col, (total, total)), owner, len(graphs), joined)


class LabelledGNN(nn.Module):
    """GIN or GCN on features and, with ``labels``, an embedding of node labels.

    Args:
        features: Width of the node features.
        outputs: Width of the output of a graph.
        labels: Number of different labels (the most nodes of a graph, or the number of universal
            ids); 0 for a network that reads none.
        width: Hidden width.
        depth: Layers.
        kind: ``gin`` or ``gcn``.
        readout: ``sum`` or ``mean`` over the nodes.
        dropout: Probability, before the last layer.
        seed: Seed of the initial weights.

    Raises:
        ArgumentError: If a number is out of range or a name is unknown.
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        labels: int = 0,
        *,
        width: int = 32,
        depth: int = 3,
        kind: Literal["gin", "gcn"] = "gin",
        readout: Literal["sum", "mean"] = "sum",
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if min(features, outputs, width, depth) < 1 or labels < 0 or not 0 <= dropout < 1:
            raise ArgumentError(
                "features, outputs, width and depth must be >= 1, labels >= 0 and dropout in "
                f"[0, 1); found {features}, {outputs}, {width}, {depth}, {labels}, {dropout}"
            )
        if kind not in ("gin", "gcn") or readout not in ("sum", "mean"):
            raise ArgumentError(
                f"kind must be gin or gcn and readout sum or mean, found {kind!r}, {readout!r}"
            )
        self.kind, self.readout, self.labels = kind, readout, labels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.enter = nn.Linear(features, width)
            self.embed = nn.Embedding(labels, width) if labels else None
            self.layers = nn.ModuleList(
                nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
                for _ in range(depth)
            )
            self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
            self.epsilon = nn.Parameter(torch.zeros(depth))
            self.leave = nn.Sequential(
                nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, outputs)
            )

    def forward(self, batch: Batch) -> Tensor:
        """Outputs of the graphs, ``[graphs, outputs]``.

        Raises:
            ArgumentError: If labels are missing, not wanted, or out of range.
        """
        pattern = batch.pattern
        h = self._enter(batch)
        degree = (pattern.crow[1:] - pattern.crow[:-1]).to(h.dtype)
        own = 1 / (1 + degree)
        values = torch.ones_like(pattern.row, dtype=h.dtype)
        if self.kind == "gcn":
            values = (own[pattern.row] * own[pattern.col]).sqrt()
        for i, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            stays = (1 + self.epsilon[i]) * h if self.kind == "gin" else own[:, None] * h
            h = torch.relu(norm(layer(stays + pattern.matmul(values, h))))
        whole = h.new_zeros(batch.graphs, h.shape[1]).index_add(0, batch.owner, h)
        if self.readout == "mean":
            sizes = torch.bincount(batch.owner, minlength=batch.graphs).clamp(min=1)
            whole = whole / sizes[:, None]
        out: Tensor = self.leave(whole)
        return out

    def _enter(self, batch: Batch) -> Tensor:
        h: Tensor = self.enter(batch.features)
        if self.embed is None:
            if batch.labels is not None:
                raise ArgumentError(
                    "this network reads no labels, but the batch has some: set labels to how many "
                    "there are, or leave them out of the batch"
                )
            return h
        if batch.labels is None:
            raise ArgumentError("this network reads labels, but the batch has none: collate them")
        bad = batch.labels[(batch.labels < 0) | (batch.labels >= self.labels)]
        if len(bad):
            raise ArgumentError(
                f"the batch has label {int(bad[0])}, but the network knows 0 to {self.labels - 1}: "
                "set labels to the most nodes of a graph, or leave larger ones out"
            )
        return h + self.embed(batch.labels)
