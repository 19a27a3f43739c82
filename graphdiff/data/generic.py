"""Graphs without classes: the four sets of GDSS and the four synthetic benchmark sets.

Each set has up to two variants. "published" is the exact list of graphs that papers report on,
read from packed files; "regenerated" is made here by the published recipe. Where the recipe is
random and its seed was not published, the regenerated graphs are others of the same distribution,
with a split hash of their own. ``card["variant"]`` says which one was loaded.

GDSS sets: the first 20 % are the test set, the rest is for training. Benchmark sets: planar, tree
and SBM have 128/32/40 graphs (Bergmeister et al. 2024), comm20 64/16/20 (Martinkus et al. 2022).
"""

from __future__ import annotations

import pickle
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data import synthetic
from graphdiff.data.dataset import Dataset
from graphdiff.data.graphs import Graphs, concat
from graphdiff.data.sources import card, check_sha256, find, missing, read_bytes

__all__ = ["PlainUnpickler", "load_generic"]

_RECIPES: dict[str, Callable[[int, int], Graphs]] = {
    "community_small": lambda count, seed: synthetic.community(count, seed=seed),
    "comm20": lambda count, seed: synthetic.community(count, seed=seed + 1_000_000),
    "grid": lambda count, seed: synthetic.grid(count, seed=seed),
    "planar": lambda count, seed: synthetic.planar(count, seed=seed),
    "tree": lambda count, seed: synthetic.tree(count, seed=seed),
    "sbm": lambda count, seed: synthetic.sbm(count, seed=seed),
}


def load_generic(
    name: str, root: str | Path | None = None, *, variant: str | None = None, seed: int = 0
) -> Dataset:
    """Loads one of the sets of this module.

    Args:
        name: The registered name.
        root: Folder of the files; None = the search path.
        variant: "published", "regenerated", or None: published where its files are found.
        seed: Seed of a regenerated random set.

    Raises:
        DataError: If the files of the variant are missing or damaged.
    """
    about = card(name)
    if variant not in (None, "published", "regenerated"):
        raise ArgumentError(
            f"variant must be 'published', 'regenerated' or None, found {variant!r}"
        )
    splits: dict[str, Any] = about["published"]
    paths = {split: find([entry["file"]], root) for split, entry in splits.items()}
    if variant is None:
        variant = "published" if all(paths.values()) else "regenerated"
    if variant == "published":
        lost = [splits[s]["file"] for s, path in paths.items() if path is None]
        if lost:
            raise missing(name, lost, root)
        parts = {s: _packed(path, splits[s]["graphs_sha256"]) for s, path in paths.items() if path}
        graphs = concat(list(parts.values()))
        sizes = {s: len(part) for s, part in parts.items()}
    else:
        graphs = _regenerate(name, about, root, seed)
        sizes = about.get("split_sizes", {"all": len(graphs)})
        about["seed"] = seed
    about |= {"variant": variant, "failures": []}
    return Dataset(name, graphs, _splits(about, sizes, len(graphs)), card=about)


def _packed(path: Path, sha256: str) -> Graphs:
    graphs = Graphs.load(path).canonical()
    found = graphs.sha256()
    if found != sha256:
        raise DataError(
            f"{path} has a wrong checksum: its graphs hash to {found}, expected {sha256}; the file "
            "is of another version: delete it and fetch it again"
        )
    return graphs


def _regenerate(name: str, about: dict[str, Any], root: str | Path | None, seed: int) -> Graphs:
    if name in _RECIPES:
        return _RECIPES[name](about["graphs"], seed)
    files: dict[str, Any] = about["raw"]
    data = {}
    for key, entry in files.items():
        path = find([entry["file"]], root)
        if path is None:
            raise missing(name, [e["file"] for e in files.values()], root)
        data[key] = read_bytes(path)
        check_sha256(path, data[key], entry["sha256"])
    made = _enzymes(data["edges"], data["owner"]) if name == "enzymes" else _egos(data["graph"])
    if made.sha256() != about["regenerated_sha256"]:
        raise DataError(f"{name} was built differently than recorded: report this as a bug")
    return made


def _splits(about: dict[str, Any], sizes: dict[str, int], total: int) -> dict[str, Any]:
    if "split_ids" in about:
        ids = {split: np.sort(np.asarray(v)) for split, v in about["split_ids"].items()}
        rest = np.setdiff1d(np.arange(total), np.concatenate(list(ids.values())))
        return {"train": rest, **ids}
    if set(sizes) == {"all"}:
        cut = int(0.2 * total)
        return {"train": np.arange(cut, total), "test": np.arange(cut)}
    ends = np.cumsum(list(sizes.values())).tolist()
    return {s: np.arange(end - sizes[s], end) for s, end in zip(sizes, ends, strict=True)}


def _enzymes(edges: bytes, owner: bytes) -> Graphs:
    """ENZYMES of 10 to 125 nodes from the TU text files; isolated nodes are left out first.

    Nodes keep the order of the file.
    """
    pairs = np.loadtxt(edges.decode().splitlines(), delimiter=",", dtype=np.int64) - 1
    graph = np.loadtxt(owner.decode().splitlines(), dtype=np.int64) - 1
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    linked = np.unique(pairs)
    sizes = np.bincount(graph[linked], minlength=graph.max() + 1)
    local = np.zeros(len(graph), np.int64)
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    local[linked] = np.arange(len(linked)) - first[graph[linked]]
    keep = np.flatnonzero((sizes >= 10) & (sizes <= 125))
    home = graph[pairs[:, 0]]
    return Graphs.from_lists(sizes[keep], [local[pairs[home == g]] for g in keep])


class PlainUnpickler(pickle.Unpickler):
    """Reads dicts and lists of numbers only; any other class in the file is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """The class of a name in the file: plain containers only."""
        if (module, name) == ("collections", "defaultdict"):
            return defaultdict
        if (module, name) in (("__builtin__", "list"), ("builtins", "list")):
            return list
        raise pickle.UnpicklingError(f"the class {module}.{name} is not allowed")


def _egos(raw: bytes) -> Graphs:
    """The first 200 neighbourhoods of 4 to 18 nodes in the largest part of Citeseer.

    Nodes of a neighbourhood are numbered in the order of the whole graph.
    """
    import io

    import networkx as nx

    try:
        table = PlainUnpickler(io.BytesIO(raw), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise DataError(f"ind.citeseer.graph cannot be read ({error}): fetch it again") from error
    whole = nx.from_dict_of_lists(table)
    part = nx.Graph(whole.subgraph(max(nx.connected_components(whole), key=len)))
    part.remove_edges_from(list(nx.selfloop_edges(part)))
    # the published numbering: order of appearance in the file
    part = nx.relabel_nodes(part, {v: k for k, v in enumerate(v for v in whole if v in part)})
    sizes, edges = [], []
    for centre in range(len(part)):
        nodes = sorted([centre, *part[centre]])
        if 4 <= len(nodes) <= 18:
            number = {v: k for k, v in enumerate(nodes)}
            inner = part.subgraph(nodes).edges
            sizes.append(len(nodes))
            edges.append(np.asarray([(number[u], number[v]) for u, v in inner]))
        if len(sizes) == 200:
            break
    return Graphs.from_lists(sizes, edges)
