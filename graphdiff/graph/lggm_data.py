"""Training graphs of LGGM: domains in equal shares, and prompts that are embedded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.data.graphs import Graphs
from graphdiff.graph.prompts import Meaning, Terciles, meanings, variants
from graphdiff.graph.text import embed, make_encoder
from graphdiff.task import Data

if TYPE_CHECKING:
    from graphdiff.data.corpus import Corpus
    from graphdiff.graph.lggm_config import CorpusData

__all__ = ["CorpusGraphs", "PromptBank", "nearest_domain", "prompt_bank"]


class CorpusGraphs(Data):
    """Graphs of a corpus, addressed so that each domain has the same number of indices.

    Index ``k`` is a graph of domain ``k mod D``; a domain with fewer graphs than the largest is
    gone through again.

    Attributes:
        domains: Domains that have graphs.
        sizes: Histogram of node counts of each domain.
        edge_probs: Frequencies of no edge and edge, mean over domains.
        terciles: Terciles of average degree and clustering, over all graphs.
    """

    def __init__(
        self,
        graphs: Graphs,
        domain: NDArray[np.int64],
        names: Sequence[str],
        statistics: tuple[NDArray[np.float64], NDArray[np.float64]],
        *,
        nodes: int,
        fingerprint: dict[str, Any] | None = None,
    ) -> None:
        """Index ``graphs`` by domain.

        Args:
            graphs: The graphs.
            domain: Index into ``names`` of each.
            names: Names of domains.
            statistics: Average degree and clustering of each graph.
            nodes: Largest number of nodes that a model will be asked for.
            fingerprint: What identifies the graphs.

        Raises:
            DataError: There are no graphs.
        """
        if not len(graphs):
            raise DataError(
                "the chosen domains of the corpus have no graphs; check data.domains, "
                "data.holdout and data.split"
            )
        present = np.unique(domain)
        self.graphs, self.domains = graphs, tuple(names[d] for d in present.tolist())
        self._members = [np.flatnonzero(domain == d) for d in present.tolist()]
        self._rounds = max(map(len, self._members))
        degree, clustering = statistics
        cuts = Terciles.of(degree, clustering)
        self.terciles = (cuts.degree, cuts.clustering)
        self._levels = torch.from_numpy(cuts.levels(degree, clustering))
        self.sizes = tuple(
            tuple(np.bincount(graphs.num_nodes[m], minlength=nodes + 1).tolist())
            for m in self._members
        )
        pairs = graphs.num_nodes * (graphs.num_nodes - 1) / 2
        share = [graphs.num_edges[m].sum() / pairs[m].sum() for m in self._members]
        edge = float(np.mean(share))
        self.edge_probs = (1 - edge, edge)
        self._fingerprint = fingerprint or {}

    @classmethod
    def load(cls, data: CorpusData, root: str | Path | None = None) -> CorpusGraphs:
        """The graphs that a config names."""
        from graphdiff.data import load

        options: dict[str, Any] = {
            "domains": data.domains or None,
            "holdout": data.holdout,
            "nodes": (data.smallest, data.nodes),
            "counts": data.counts,
            "folder": data.folder or None,
        }
        return cls.of(load("lggm", root, **options), data)

    @classmethod
    def of(cls, corpus: Corpus, data: CorpusData) -> CorpusGraphs:
        """The chosen split of a loaded corpus, at most ``data.limit`` graphs of each domain."""
        index = corpus._index(data.split)
        if data.limit:
            rank = np.zeros(len(index), np.int64)
            for d in np.unique(corpus.domain[index]):
                here = corpus.domain[index] == d
                # In a random order: the corpus is sorted by network and by way of drawing.
                rank[here] = np.random.default_rng([0, d]).permutation(int(here.sum()))
            index = index[rank < data.limit]
        graphs = corpus.graphs[index]
        mark = {"name": "lggm", "split": data.split, "n": len(graphs), "sha256": graphs.sha256()}
        mark |= {"domains": sorted({corpus.domains[d] for d in corpus.domain[index].tolist()})}
        statistics = (corpus.average_degree[index], corpus.clustering[index])
        return cls(
            graphs, corpus.domain[index], corpus.domains, statistics,
            nodes=data.nodes, fingerprint=mark,
        )  # fmt: skip

    def __len__(self) -> int:
        return self._rounds * len(self.domains)

    def batch(self, index: Tensor) -> State:
        """``adj`` int64 ``[b, n, n]`` with its mask; ``domain`` ``[b]``, ``levels`` ``[b, 2]``."""
        domain = index % len(self.domains)
        turn = (index // len(self.domains)).tolist()
        rows = [
            int(self._members[d][k % len(self._members[d])])
            for d, k in zip(domain.tolist(), turn, strict=True)
        ]
        _, adj, real = self.graphs.dense(rows)
        values = {"adj": torch.from_numpy(adj), "domain": domain, "levels": self._levels[rows]}
        return State(values, {"adj": torch.from_numpy(real)}, index)

    def fingerprint(self) -> dict[str, Any]:
        """Name, split, domains, n and sha256."""
        return self._fingerprint


@dataclass(frozen=True)
class PromptBank:
    """Embeddings of some wordings of every meaning.

    Attributes:
        names: Domains.
        rows: First row of each meaning in ``vectors`` and how many it has.
        vectors: Embeddings, ``[wordings, dim]``.
        centres: Mean embedding of the wordings of each domain, and of none, normalised.
        encoder: Name of the encoder.
    """

    names: tuple[str, ...]
    rows: dict[Meaning, tuple[int, int]]
    vectors: Tensor
    centres: dict[str | None, NDArray[np.float32]]
    encoder: str

    def draw(
        self,
        domains: Sequence[str | None],
        levels: NDArray[np.int64],
        key: Key,
        kinds: Sequence[str],
    ) -> Tensor:
        """An embedding of a random description of each graph, ``[b, dim]``."""
        told = meanings(domains, levels, key, kinds=kinds)
        words = key.at(stream="wording").uniform(1, torch.float64).squeeze(1).tolist()
        starts = [self.rows[m] for m in told]
        place = [a + int(u * count) for (a, count), u in zip(starts, words, strict=True)]
        return self.vectors[place].float()

    def phrase(self, domain: str | Sequence[str]) -> str | list[str]:
        """Words for a domain."""
        if not isinstance(domain, str):
            return [str(self.phrase(d)) for d in domain]
        return variants(Meaning(domain))[0]


@lru_cache(maxsize=4)
def prompt_bank(encoder: str, names: tuple[str, ...], count: int) -> PromptBank:
    """Embeds ``count`` wordings, spread over all, of every meaning.

    Raises:
        ArgumentError: There is no such encoder.
    """
    make = make_encoder(encoder)
    levels = (None, 0, 1, 2)
    all_meanings = [
        Meaning(d, a, b)
        for d in (None, *names)
        for a in levels
        for b in levels
        if (d, a, b) != (None, None, None)
    ]
    texts: list[str] = []
    rows = {}
    for k, meaning in enumerate(all_meanings):
        options = variants(meaning)
        picked = np.random.default_rng([count, k]).permutation(len(options))[:count]
        rows[meaning] = (len(texts), len(picked))
        texts += [options[i] for i in picked]
    vectors = embed(make, texts)
    centres: dict[str | None, NDArray[np.float32]] = {}
    for name in (None, *names):
        mine = [slice(a, a + n) for m, (a, n) in rows.items() if m.domain == name]
        mean = np.concatenate([vectors[s] for s in mine]).mean(0)
        centres[name] = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return PromptBank(names, rows, torch.from_numpy(vectors).half(), centres, encoder)


def nearest_domain(prompt: str, bank: PromptBank) -> str | None:
    """The domain whose wordings are closest to a prompt; None where plain ones are closer.

    Raises:
        ArgumentError: The prompt is empty.
    """
    if not prompt.strip():
        raise ArgumentError("the prompt is empty: say what to generate, or leave it out")
    vector = embed(make_encoder(bank.encoder), [prompt])[0]
    scores = {name: float(centre @ vector) for name, centre in bank.centres.items()}
    return max(scores, key=lambda name: scores[name])
