"""The corpus as a data set: ``load("lggm")``, with domains chosen, held out, and drawn evenly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.corpus.build import Built, Progress, Settings, build, describe
from graphdiff.data.corpus.splitting import SPLITS
from graphdiff.data.corpus.statistics import average_degree, clustering
from graphdiff.data.corpus.table import Found, folder_entries, locate, table
from graphdiff.data.dataset import Dataset
from graphdiff.data.graphs import Graphs
from graphdiff.data.packed import read_arrays, write_arrays
from graphdiff.data.sources import card, missing, writable_cache

__all__ = ["VERSION", "Corpus", "load_lggm"]

VERSION = 2

Int = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Corpus(Dataset):
    """A data set of subgraphs that knows the domain, network and statistics of each graph.

    Splits are "train", "val" and "test", and, where domains are held out, "holdout_train",
    "holdout_val" and "holdout_test" with the graphs of these.

    Attributes:
        domains: Names of domains.
        networks: Names of networks.
        domain: Index into ``domains`` of each graph, ``int64 [G]``.
        network: Index into ``networks`` of each graph, ``int64 [G]``.
        average_degree: Average degree of each graph, ``float64 [G]``.
        clustering: Mean local clustering coefficient of each graph, ``float64 [G]``.
    """

    domains: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    domain: Int = field(default_factory=lambda: np.zeros(0, np.int64))
    network: Int = field(default_factory=lambda: np.zeros(0, np.int64))
    average_degree: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    clustering: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def of_domain(self, domain: str, split: str = "train") -> Int:
        """Indices into ``graphs`` of one domain in one split.

        Raises:
            ArgumentError: If there is no such domain or split.
        """
        self._number(domain)
        index = self._index(split)
        return index[self.domain[index] == self._number(domain)]

    def weights(self, split: str = "train") -> NDArray[np.float64]:
        """Probabilities of the graphs of a split that make all domains equally likely.

        Returns:
            ``float64 [graphs of the split]``, summing to one.
        """
        domain = self.domain[self._index(split)]
        counts = np.bincount(domain, minlength=len(self.domains))
        return 1.0 / (counts[domain] * np.count_nonzero(counts))

    def epoch(self, size: int, *, split: str = "train", seed: int = 0, epoch: int = 0) -> Int:
        """Positions in a split for one epoch, as many of each domain as of any other.

        Domains take turns in a random order. A domain is gone through without repetition before
        it begins again, also from one epoch to the next; so no graph is seen twice while another
        of its domain was not seen.

        Args:
            size: Graphs of the epoch.
            split: Which split.
            seed: Seed of the run.
            epoch: Number of the epoch from 0; epochs do not depend on each other's having run.

        Returns:
            ``int64 [size]``, positions in ``split(name)``.
        """
        domain = self.domain[self._index(split)]
        present = np.unique(domain)
        rng = np.random.default_rng([seed, epoch])
        turns = np.concatenate([rng.permutation(present) for _ in range(-(-size // len(present)))])
        turns = turns[:size]
        out = np.empty(size, np.int64)
        # Every epoch advances each domain by the same number, so that any epoch can be computed
        # alone; a domain without a turn in the last round skips one graph.
        step = -(-size // len(present))
        for d in present.tolist():
            places, members = np.flatnonzero(turns == d), np.flatnonzero(domain == d)
            ticks = epoch * step + np.arange(len(places))
            rounds = ticks // len(members)
            for k in np.unique(rounds).tolist():
                order = np.random.default_rng([seed, d, k, 1]).permutation(members)
                out[places[rounds == k]] = order[ticks[rounds == k] % len(members)]
        return out

    def sizes(self, domain: str | None = None, split: str = "train") -> Int:
        """How many graphs have n nodes, ``int64 [largest + 1]``, of one domain or of all."""
        index = self._index(split) if domain is None else self.of_domain(domain, split)
        return np.bincount(self.graphs.num_nodes[index], minlength=self.graphs.max_nodes + 1)

    def _number(self, domain: str) -> int:
        if domain not in self.domains:
            raise ArgumentError(
                f"the corpus has no domain {domain!r}: choose from {', '.join(self.domains)}"
            )
        return self.domains.index(domain)


def load_lggm(
    name: str,
    root: str | Path | None = None,
    *,
    domains: Sequence[str] | None = None,
    holdout: str | Sequence[str] = (),
    nodes: Sequence[int] = (8, 64),
    counts: Sequence[int] = (800, 100, 200),
    split: str = "network",
    seed: int = 0,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> Corpus:
    """Loads the corpus, building it if it is not in the user cache.

    Args:
        name: "lggm".
        root: Folder of the files; None = the search path and installed packages.
        domains: Domains to keep; None = all whose networks were found.
        holdout: Domain or domains whose graphs are only in the splits ``holdout_...``.
        nodes: Smallest and largest number of nodes.
        counts: Graphs of each domain in train, val and test, at most.
        split: "network" or "regions", see :mod:`graphdiff.data.corpus.splitting`.
        seed: Seed of splits and subgraphs.
        folder: Build from ``folder/DOMAIN/FILE`` instead of the table of the package.
        progress: Called with (networks done, all networks) while building.

    Raises:
        ArgumentError: If a domain is unknown or an option makes no sense.
        DataError: If no network is found, or a file is damaged.
    """
    if len(nodes) != 2:
        raise ArgumentError(f"nodes must be (smallest, largest), found {tuple(nodes)}")
    settings = Settings((int(nodes[0]), int(nodes[1])), tuple(map(int, counts)), split, int(seed))
    entries = table() if folder is None else folder_entries(folder)
    found = [f for e in entries if (f := locate(e, root)) is not None]
    if all("networkx" in f.options for f in found):
        raise missing(name, ["the files listed in graphdiff/data/cards/lggm-networks.toml"], root)
    names = {f.entry.name for f in found}
    absent = [e.name for e in entries if e.name not in names]
    built, about = _cached(found, settings, progress)
    about = card("lggm") | about | {"missing": absent, "failures": []}
    about.pop("fetch", None)
    about["sources"] = _sources(found, built)
    if folder is not None:
        about |= {"source": f"networks of the folder {Path(folder).name}", "licence": "your own"}
    return _select(built, about, domains, [holdout] if isinstance(holdout, str) else list(holdout))


def _sources(found: Sequence[Found], built: Built) -> dict[str, dict[str, str]]:
    """Domain, licence and citation of each network that gave graphs."""
    keys = ("origin", "licence", "citation", "sha256")
    return {
        f.entry.name: {"domain": f.entry.domain}
        | {k: str(f.entry.options[k]) for k in keys if k in f.entry.options}
        for f in found
        if f.entry.name in built.networks
    }


def _cached(
    found: Sequence[Found], settings: Settings, progress: Progress | None
) -> tuple[Built, dict[str, Any]]:
    """Builds, or reads what was built from the same files with the same settings."""
    digest = hashlib.sha256(json.dumps(asdict(settings)).encode())
    for f in found:
        row = (f.entry.name, f.entry.domain, f.entry.group, sorted(f.options))
        digest.update(json.dumps(row).encode() + hashlib.sha256(f.data).digest())
    path = writable_cache() / f"lggm-{digest.hexdigest()[:20]}-v{VERSION}.npz"
    if path.exists():
        try:
            return _unpack(read_arrays(path))
        except (DataError, KeyError, ValueError):
            path.unlink(missing_ok=True)  # an interrupted copy of the cache: make it again
    built = build(found, settings, progress)
    about = describe(built, settings)
    note = {"about": about, "domains": built.domains, "networks": built.networks,
            "report": built.report}  # fmt: skip
    arrays = {k: getattr(built.graphs, k) for k in ("num_nodes", "edge_ptr", "edges")}
    arrays |= {k: getattr(built, k) for k in ("domain", "network", "split", "sampler")}
    write_arrays(path, arrays | {"note": np.frombuffer(json.dumps(note).encode(), np.uint8)})
    return _unpack(read_arrays(path))


def _unpack(arrays: dict[str, NDArray[Any]]) -> tuple[Built, dict[str, Any]]:
    note = json.loads(arrays["note"].tobytes())
    graphs = Graphs(*(arrays[k] for k in ("num_nodes", "edge_ptr", "edges")))
    built = Built(
        graphs,
        arrays["domain"],
        arrays["network"],
        arrays["split"],
        arrays["sampler"],
        tuple(note["domains"]),
        tuple(note["networks"]),
        note["report"],
    )
    return built, note["about"]


def _select(
    built: Built, about: dict[str, Any], domains: Sequence[str] | None, holdout: Sequence[str]
) -> Corpus:
    """Splits of the chosen domains; graphs of domains that were not chosen stay in no split."""
    for wanted in (*(domains or ()), *holdout):
        if wanted not in built.domains:
            raise ArgumentError(
                f"the corpus has no domain {wanted!r}: choose from {', '.join(built.domains)}"
            )
    chosen = set(domains or built.domains) - set(holdout)
    kept = np.asarray([d in chosen for d in built.domains])[built.domain]
    held = np.asarray([d in holdout for d in built.domains])[built.domain]
    splits = {s: np.flatnonzero(kept & (built.split == k)) for k, s in enumerate(SPLITS)}
    if holdout:
        splits |= {
            f"holdout_{s}": np.flatnonzero(held & (built.split == k)) for k, s in enumerate(SPLITS)
        }
    return Corpus(
        "lggm",
        built.graphs,
        splits,
        card=about | {"holdout": list(holdout)},
        domains=built.domains,
        networks=built.networks,
        domain=np.asarray(built.domain),
        network=np.asarray(built.network),
        average_degree=average_degree(built.graphs),
        clustering=clustering(built.graphs),
    )
