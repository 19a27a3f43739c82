"""Training examples: every level of several coarsening sequences of every training graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.core.errors import DataError
from graphdiff.core.state import State
from graphdiff.data.graphs import Graphs
from graphdiff.graph.expansion.coarsen import Expansion, coarsen, expansions, low_spectrum
from graphdiff.graph.expansion.config import CoarseningConfig
from graphdiff.graph.expansion.level import Level, Packed
from graphdiff.task import Data

__all__ = ["ExpansionData", "largest_pieces", "token_classes", "unpack"]

Int = NDArray[np.int64]


def token_classes(step: Expansion) -> Int:
    """The class of every token of an expansion, int64 ``[e]``."""
    size = step.split + 1
    first = np.cumsum(size) - size
    parent = np.repeat(np.arange(len(size)), size)
    child = np.arange(len(parent)) - first[parent]
    u, v = step.fine[:, 0], step.fine[:, 1]
    outer = parent[u] != parent[v]
    u, v = u[outer], v[outer]
    key = step.coarse[:, 0] * len(size) + step.coarse[:, 1]
    edge = np.searchsorted(key, parent[u] * len(size) + parent[v])
    bits = np.bincount(edge, 1 << (2 * child[u] + child[v]), minlength=len(key)).astype(np.int64)
    open_ = size[step.coarse[:, 0]] * size[step.coarse[:, 1]] > 1
    out: Int = bits[open_] - 1
    return out


@dataclass(frozen=True)
class _Ragged:
    """Rows of unequal length in one array."""

    flat: Tensor
    ptr: Tensor

    @staticmethod
    def of(rows: list[NDArray[Any]], dtype: torch.dtype) -> _Ragged:
        lengths = torch.tensor([0, *map(len, rows)])
        flat = torch.from_numpy(np.concatenate(rows)) if rows else torch.zeros(0)
        return _Ragged(flat.to(dtype), lengths.cumsum(0))

    def padded(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Rows ``index`` as ``[b, longest, ...]`` and their mask."""
        start = self.ptr[index]
        length = self.ptr[index + 1] - start
        place = torch.arange(int(length.max()) if len(index) else 0)
        mask = place < length.unsqueeze(1)
        out = self.flat.new_zeros((*mask.shape, *self.flat.shape[1:]))
        out[mask] = self.flat[(start.unsqueeze(1) + place)[mask]]
        return out, mask


class ExpansionData(Data):
    """All levels of ``sequences`` random coarsenings of each graph, packed in memory.

    An example is one level: the coarse graph, its splits, the tokens and the next splits.
    """

    def __init__(
        self,
        graphs: Graphs,
        config: CoarseningConfig,
        *,
        modes: int = 0,
        seed: int = 0,
        fingerprint: Mapping[str, Any] | None = None,
    ) -> None:
        """Coarsen ``graphs``.

        Args:
            graphs: Connected graphs.
            config: How they are coarsened.
            modes: Laplacian eigenvectors to keep at each level.
            seed: With the number of a graph and of a sequence, chooses the sequence.
            fingerprint: What identifies the graphs.

        Raises:
            DataError: The set is empty, or a graph is not connected.
        """
        if not len(graphs):
            raise DataError("the training set has no graphs; check data.name and data.split")
        if config.pieces == "largest":
            graphs = largest_pieces(graphs)
        rows: dict[str, list[NDArray[Any]]] = {
            k: [] for k in ("coarse", "split", "e", "v", "modes")
        }
        totals = []
        for g in range(len(graphs)):
            n, edges = int(graphs.num_nodes[g]), graphs[g].edges.astype(np.int64)
            for step in _levels(g, n, edges, config, seed):
                rows["coarse"].append(step.coarse)
                rows["split"].append(step.split)
                rows["e"].append(token_classes(step))
                rows["v"].append(step.next_split)
                rows["modes"].append(low_spectrum(len(step.split), step.coarse, modes)[1])
                totals.append(n)
        self.sizes = tuple(np.bincount(graphs.num_nodes).tolist())
        self.degree = round(2 * float(graphs.num_edges.sum()) / float(graphs.num_nodes.sum()), 3)
        self._total = torch.tensor(totals, dtype=torch.int64)
        self._rows = {
            name: _Ragged.of(
                r, {"modes": torch.float32, "coarse": torch.int32}.get(name, torch.int8)
            )
            for name, r in rows.items()
        }
        facts = {"sequences": config.sequences, "levels": len(totals)}
        self._fingerprint = {**dict(fingerprint or {}), **facts}

    def __len__(self) -> int:
        return len(self._total)

    def batch(self, index: Tensor) -> State:
        """Padded levels: tokens ``e``, next splits ``v``, and what :func:`unpack` reads."""
        values, masks = {"total": self._total[index]}, {}
        for name, rows in self._rows.items():
            value, masks[name] = rows.padded(index)
            values[name] = value if name == "modes" else value.long()
        return State(values, masks, index)

    def fingerprint(self) -> dict[str, Any]:
        """Name, split, n and sha256 of the graphs, and how many levels were made of them."""
        return self._fingerprint


def largest_pieces(graphs: Graphs) -> Graphs:
    """The largest connected piece of every graph; the first of several equal ones."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    counts, lists = [], []
    for g in graphs:
        n, edges = int(g.num_nodes[0]), g.edges.astype(np.int64)
        joined = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
        piece = connected_components(joined, directed=False)[1]
        kept = piece == np.bincount(piece).argmax()
        place = np.cumsum(kept) - 1
        counts.append(int(kept.sum()))
        lists.append(place[edges[kept[edges[:, 0]]]])
    return Graphs.from_lists(counts, lists)


def unpack(clean: State) -> Level:
    """The packed level of a padded batch of :class:`ExpansionData`."""
    masks, counts = clean.masks, clean.masks["split"].sum(1)
    number = masks["coarse"].sum(1)
    owner = torch.repeat_interleave(torch.arange(len(number), device=clean.device), number)
    graphs = Packed(counts, owner, clean["coarse"][masks["coarse"]])
    target = masks["v"].sum(1) + clean["v"].sum(1)
    split, modes = clean["split"][masks["split"]], clean["modes"][masks["split"]]
    return Level.build(graphs, split, clean["total"], target, modes)


def _levels(g: int, n: int, edges: Int, config: CoarseningConfig, seed: int) -> list[Expansion]:
    """The levels of all sequences of graph ``g``; a graph of one node has none."""
    known, found = low_spectrum(n, edges, config.rank), []
    for s in range(config.sequences):
        rng = np.random.default_rng([seed, g, s])
        try:
            parents = coarsen(
                n, edges, rng, low=config.low, high=config.high, skip=config.skip, spectrum=known
            )
        except DataError as error:
            raise DataError(f"graph {g} of the training set: {error}") from error
        found += expansions(n, edges, parents)
    return found
