r"""Networks to a corpus of subgraphs, split so that nothing of a test network is trained on.

For each domain and split, subgraphs are drawn from the networks (or regions) of that split, half
of them neighbourhoods and half random walks, and repeated ones (equal
:func:`~graphdiff.data.corpus.statistics.hashes`) are left out. Small graphs as stars and cliques
occur in many networks; whatever was drawn for a test set is therefore left out of all validation
and training sets, and whatever was drawn for a validation set out of all training sets, over all
domains. The number of graphs wanted is shared evenly among groups, then among the networks of a
group; what small networks cannot give, the others do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.corpus.network import Network
from graphdiff.data.corpus.splitting import SPLITS, assign, cut, stream
from graphdiff.data.corpus.statistics import average_degree, clustering, hashes
from graphdiff.data.corpus.subgraphs import check_bounds, induced, neighbourhoods, walks
from graphdiff.data.corpus.table import Found
from graphdiff.data.graphs import Graphs, concat

__all__ = ["SAMPLERS", "Built", "Settings", "build", "leaks"]

Int = NDArray[np.int64]
Progress = Callable[[int, int], None]

SAMPLERS = ("neighbourhood", "walk", "whole")
"""How a graph was taken out of its network, by its number in :attr:`Built.sampler`."""
_EXTRA = 1.3  # drawn for each graph wanted, because some repeat
_PER_NODE = 4  # subgraphs of a network for each of its nodes, at most
_TRIES = 4  # rounds of drawing where many neighbourhoods or walks are too small
_SPREAD = 3.0  # no network is asked for more than this times its even part


@dataclass(frozen=True)
class Settings:
    """What determines a corpus, besides the networks.

    Attributes:
        nodes: Smallest and largest number of nodes of a graph.
        counts: Graphs of each domain in train, val and test, at most.
        split: "network" (whole networks where a domain has three groups), or "regions" (every
            network is cut).
        seed: Seed of splits and subgraphs.
    """

    nodes: tuple[int, int] = (8, 64)
    counts: tuple[int, ...] = (800, 100, 200)
    split: str = "network"
    seed: int = 0

    def __post_init__(self) -> None:
        check_bounds(self.nodes)
        if self.split not in ("network", "regions"):
            raise ArgumentError(f"split must be 'network' or 'regions', found {self.split!r}")
        if len(self.counts) != 3 or min(self.counts) < 1:
            raise ArgumentError(
                f"counts must be three positive numbers (train, val, test), found {self.counts}"
            )


@dataclass(frozen=True, eq=False)
class Built:
    """A corpus: graphs with what they were taken from.

    Attributes:
        graphs: All graphs, by domain, then split, then network.
        domain: Index into ``domains`` of each graph, ``int64 [G]``.
        network: Index into ``networks`` of each graph, ``int64 [G]``.
        split: 0, 1, 2 for train, val, test, ``int64 [G]``.
        sampler: Index into :data:`SAMPLERS`, ``int64 [G]``.
        domains: Names of domains.
        networks: Names of networks.
        report: For each domain: how it is split, its networks by split, and what was left out.
    """

    graphs: Graphs
    domain: Int
    network: Int
    split: Int
    sampler: Int
    domains: tuple[str, ...]
    networks: tuple[str, ...]
    report: dict[str, Any]


@dataclass
class _Pool:
    """Candidates of one network (or region) for one split."""

    name: str
    group: str
    graphs: Graphs
    sampler: Int
    hash: NDArray[np.uint64]

    @classmethod
    def of(cls, name: str, group: str, graphs: Graphs, sampler: Int) -> _Pool:
        return cls(name, group, graphs, sampler, hashes(graphs))

    def keep(self, index: Any) -> None:
        self.graphs, self.sampler = self.graphs[index], self.sampler[index]
        self.hash = self.hash[index]


_Pools = dict[tuple[str, str], list[_Pool]]


def build(found: Sequence[Found], settings: Settings, progress: Progress | None = None) -> Built:
    """Builds a corpus.

    Args:
        found: Files of networks.
        settings: Sizes, counts, seed.
        progress: Called with (networks done, all networks).

    Raises:
        DataError: If a file cannot be read, or no network gives a graph.
    """
    domains = sorted({f.entry.domain for f in found})
    pools: _Pools = {}
    report: dict[str, Any] = {}
    done = 0
    for domain in domains:
        mine = [f for f in found if f.entry.domain == domain]
        report[domain] = _candidates(domain, mine, settings, pools)
        done += len(mine)
        if progress is not None:
            progress(done, len(found))
    _drop_repeats(pools, report)
    for (domain, split), parts in pools.items():
        wanted = settings.counts[SPLITS.index(split)]
        quotas = _quotas([p.group for p in parts], [len(p.graphs) for p in parts], wanted)
        for pool, quota in zip(parts, quotas, strict=True):
            rng = stream(settings.seed, domain, split, pool.name, "choose")
            pool.keep(np.sort(rng.permutation(len(pool.graphs))[:quota]))
    return _join(pools, domains, report)


# -- drawing ----------------------------------------------------------------------------------


def _candidates(
    domain: str, found: Sequence[Found], settings: Settings, pools: _Pools
) -> dict[str, Any]:
    """Draws the subgraphs of a domain into ``pools``; returns how it was split."""
    lists = [f for f in found if f.entry.many]
    for one in lists:
        _whole_graphs(domain, one, settings, pools)
    single = [f for f in found if not f.entry.many]
    if not single:
        return {"split": "network" if lists else "none"}
    networks = [f.networks()[0] for f in single]
    groups, sizes = [f.entry.group for f in single], [n.num_nodes for n in networks]
    rng = stream(settings.seed, domain, "assign")
    how, sides = assign(groups, sizes, settings.nodes, rng, settings.split)
    for f, network, mine in zip(single, networks, sides, strict=True):
        name = f.entry.name
        if not mine:
            continue
        if len(mine) == 1:
            pieces = {mine[0]: network}
        else:
            pieces = cut(network, settings.nodes[1], stream(settings.seed, domain, name, "cut"))
        for split, piece in pieces.items():
            rivals = sum(split in side for side in sides)
            wanted = settings.counts[SPLITS.index(split)]
            count = int(np.ceil(_EXTRA * min(wanted, _SPREAD * wanted / rivals)))
            rng = stream(settings.seed, domain, name, split)
            graphs, sampler = _draw(piece, count, settings.nodes, rng)
            if len(graphs):
                pool = _Pool.of(name, f.entry.group, graphs, sampler)
                pools.setdefault((domain, split), []).append(pool)
    return {"split": how}


def _draw(
    network: Network, count: int, nodes: tuple[int, int], rng: np.random.Generator
) -> tuple[Graphs, Int]:
    """Half neighbourhoods of different centres, half walks; and the network itself if it fits."""
    linked = np.flatnonzero(network.degrees)
    count = min(count, _PER_NODE * len(linked))
    half = -(-count // 2)
    centres = rng.permutation(linked)
    balls: list[Int] = []
    paths: list[Int] = []
    for k in range(_TRIES):
        balls += neighbourhoods(network, centres[k * half : (k + 1) * half], nodes, rng)
        paths += walks(network, rng.choice(linked, half), nodes, rng)
        if min(len(balls), len(paths)) >= half:
            break
    balls, paths = balls[:half], paths[: count - min(half, len(balls))]
    sets, kinds = [*balls, *paths], [0] * len(balls) + [1] * len(paths)
    if nodes[0] <= len(linked) <= nodes[1]:
        whole = walks(network, linked[:1], (len(linked), len(linked)), rng)
        sets, kinds = [*sets, *whole], kinds + [2] * len(whole)
    if not sets:
        return Graphs.empty(), np.zeros(0, np.int64)
    return induced(network, sets), np.asarray(kinds, dtype=np.int64)


def _whole_graphs(domain: str, found: Found, settings: Settings, pools: _Pools) -> None:
    """A list of small graphs: each distinct graph is a network, on one side of the split."""
    low, high = settings.nodes
    networks = [n for n in found.networks() if low <= n.num_nodes <= high]
    if not networks:
        return
    graphs = Graphs.from_lists([n.num_nodes for n in networks], [n.edges for n in networks])
    _, first = np.unique(hashes(graphs), return_index=True)
    rng = stream(settings.seed, domain, found.entry.name)
    order = rng.permutation(np.sort(first))
    share = min(1.0, len(order) / sum(settings.counts))
    ends = np.cumsum([int(share * c) for c in settings.counts])
    for split, index in zip(SPLITS, np.split(order[: ends[-1]], ends[:-1]), strict=True):
        if len(index):
            part = graphs[np.sort(index)]
            pool = _Pool.of(found.entry.name, found.entry.name, part, np.full(len(part), 2))
            pools.setdefault((domain, split), []).append(pool)


# -- choosing ---------------------------------------------------------------------------------


def _drop_repeats(pools: _Pools, report: dict[str, Any]) -> None:
    """Removes repeats inside a domain's split, and graphs that a later split has, anywhere.

    The order is test, val, train: the test sets stay as they were drawn.
    """
    taken = np.zeros(0, np.uint64)
    for split in reversed(SPLITS):
        here = [taken]
        for (domain, name), parts in pools.items():
            if name != split:
                continue
            seen = np.zeros(0, np.uint64)
            counts = report[domain].setdefault("left_out", {})
            for pool in parts:
                _, first = np.unique(pool.hash, return_index=True)
                fresh = np.sort(first)
                repeated = len(pool.hash) - len(fresh)
                again = np.isin(pool.hash[fresh], seen)
                leak = np.isin(pool.hash[fresh], taken) & ~again
                pool.keep(fresh[~again & ~leak])
                seen = np.concatenate([seen, pool.hash])
                count = counts.setdefault(split, {"repeated": 0, "in_later_split": 0})
                count["repeated"] += repeated + int(again.sum())
                count["in_later_split"] += int(leak.sum())
            here.append(seen)
        taken = np.concatenate(here)


def _quotas(groups: Sequence[str], available: Sequence[int], wanted: int) -> list[int]:
    """Shares ``wanted`` among networks: evenly among groups, then within, up to what is there."""
    left = np.asarray(available, dtype=np.int64)
    out = np.zeros(len(left), np.int64)
    wanted = min(wanted, int(left.sum()))
    names = sorted(set(groups))
    while wanted > 0:
        open_groups = [g for g in names if any(left[k] > 0 for k in _members(groups, g))]
        for rank, group in enumerate(open_groups):
            part = -(-wanted // (len(open_groups) - rank))
            members = [k for k in _members(groups, group) if left[k] > 0]
            for place, k in enumerate(members):
                give = min(int(left[k]), -(-part // (len(members) - place)))
                out[k] += give
                left[k] -= give
                part -= give
                wanted -= give
    return out.tolist()


def _members(groups: Sequence[str], name: str) -> list[int]:
    return [k for k, group in enumerate(groups) if group == name]


def _join(pools: _Pools, domains: list[str], report: dict[str, Any]) -> Built:
    networks: list[str] = []
    parts: list[Graphs] = []
    columns: list[tuple[int, int, int, int, Int]] = []
    for d, domain in enumerate(domains):
        members: dict[str, list[str]] = {}
        for s, split in enumerate(SPLITS):
            for pool in pools.get((domain, split), []):
                if not len(pool.graphs):
                    continue
                if pool.name not in networks:
                    networks.append(pool.name)
                members.setdefault(split, []).append(pool.name)
                parts.append(pool.graphs)
                place = networks.index(pool.name)
                columns.append((len(pool.graphs), d, place, s, pool.sampler))
        report[domain]["networks"] = members
    if not parts:
        raise DataError("no network gave a subgraph of the sizes asked for: widen `nodes`")
    sizes = [c[0] for c in columns]
    domain_, network, split_ = (np.repeat([c[k] for c in columns], sizes) for k in (1, 2, 3))
    sampler = np.concatenate([c[4] for c in columns])
    graphs = concat(parts)
    return Built(graphs, domain_, network, split_, sampler, tuple(domains), tuple(networks), report)


# -- looking at the result --------------------------------------------------------------------


def leaks(graphs: Graphs, split: Int) -> dict[str, int]:
    """Graphs of one split that are, by their hash, isomorphic to one of another split.

    Args:
        graphs: All graphs.
        split: 0, 1, 2 for train, val, test of each graph, ``[G]``.

    Returns:
        For each pair of splits, how many graphs of the second occur in the first.
    """
    all_hashes = hashes(graphs)
    parts = [all_hashes[split == s] for s in range(3)]
    return {
        f"{SPLITS[a]}-{SPLITS[b]}": int(np.isin(parts[b], parts[a]).sum())
        for a, b in ((0, 1), (0, 2), (1, 2))
    }


def describe(built: Built, settings: Settings) -> dict[str, Any]:
    """What the card of a corpus says: counts and statistics by domain, terciles, leaks, hash."""
    degree, cluster = average_degree(built.graphs), clustering(built.graphs)
    train = built.split == 0
    rows = {}
    for d, domain in enumerate(built.domains):
        mine = built.domain == d
        if not mine.any():
            rows[domain] = dict(built.report[domain])
            continue
        counts = {s: int((mine & (built.split == k)).sum()) for k, s in enumerate(SPLITS)}
        rows[domain] = {
            **built.report[domain],
            "graphs": counts,
            "nodes": round(float(built.graphs.num_nodes[mine].mean()), 2),
            "average_degree": round(float(degree[mine].mean()), 3),
            "clustering": round(float(cluster[mine].mean()), 4),
        }
    chosen = train if train.any() else np.ones(len(train), bool)
    return {
        "settings": asdict(settings),
        "domains": rows,
        "graphs": len(built.graphs),
        "graphs_sha256": built.graphs.sha256(),
        "leaks": leaks(built.graphs, built.split),
        "terciles": {
            "degree": np.quantile(degree[chosen], [1 / 3, 2 / 3]).tolist(),
            "clustering": np.quantile(cluster[chosen], [1 / 3, 2 / 3]).tolist(),
        },
    }
