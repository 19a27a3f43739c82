"""Network files in the formats in which they are handed around, read without running any of them.

=================  ==============================================================================
suffix             format
=================  ==============================================================================
.txt .edges .csv   edge list: two labels a line, more columns ignored; ``#`` and ``%`` are comments
.tsv .out .mtx     the same (a first line of counts is recognised); files without a suffix, too
.graph             METIS adjacency, with or without weights
.gml               GML, nodes and edges of the first graph
.gt .gt.gz         binary format of graph-tool, properties ignored
.npz               array ``edges``, or :class:`~graphdiff.data.Graphs` (each graph is a network)
=================  ==============================================================================

Further readers for the sets of the corpus: ``planetoid`` (a pickle of lists of numbers; every
class but plain containers is refused), ``neighbours`` (line k lists the neighbours of node k,
counted from 1), ``matrix`` (a weighted adjacency matrix as text), ``triangle`` and ``weighted``
(the strongest of many weighted pairs), ``tu`` (a list of small graphs) and ``pandapower`` (JSON
tables).
"""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from gzip import BadGzipFile
from gzip import decompress as gunzip
from itertools import chain
from typing import Any

import numpy as np

from graphdiff.core.errors import DataError
from graphdiff.data.corpus.network import Network
from graphdiff.data.generic import PlainUnpickler

__all__ = ["READERS", "pick_reader", "read"]

Reader = Callable[[bytes, Mapping[str, Any]], list[Network]]


def read(data: bytes, name: str, entry: Mapping[str, Any] | None = None) -> list[Network]:
    """Reads all networks of a file.

    Args:
        data: Content of the file.
        name: Its name, which tells the format unless ``entry["reader"]`` does.
        entry: Row of the corpus table: "reader" and the options of that reader.

    Raises:
        DataError: If the file cannot be read as that format; the message names it.
    """
    options = entry or {}
    reader = options.get("reader") or pick_reader(name)
    try:
        if name.endswith(".gz"):
            data = gunzip(data)
        return READERS[reader](data, options)
    except DataError as error:
        raise DataError(f"{name} cannot be read as {reader}: {error}") from error
    except (
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        EOFError,
        OSError,
        struct.error,
        pickle.UnpicklingError,
        BadGzipFile,
    ) as error:
        raise DataError(
            f"{name} cannot be read as {reader} ({type(error).__name__}: {error}); it is damaged "
            "or of another format"
        ) from error


def pick_reader(name: str) -> str:
    """The reader of a file name, by its suffix; edge list where there is none."""
    stem = name.lower().removesuffix(".gz")
    for suffix in ("graph", "gml", "gt", "npz"):
        if stem.endswith(f".{suffix}"):
            return suffix
    return "edges"


# -- text -------------------------------------------------------------------------------------


def _edges(data: bytes, entry: Mapping[str, Any]) -> list[Network]:
    """Labels may be anything without a separator; whole numbers keep their order."""
    lines = data.decode("utf-8", "replace").splitlines()
    texts = [text for line in lines if (text := line.strip()) and text[0] not in "#%"]
    rows = [re.split(r"[\s,;]+", text)[:3] for text in texts]
    # "n m" or "n n m" above m or 2 m lines whose ids fit n nodes is a header, not an edge.
    if rows and _whole(rows[0]) and len(rows) - 1 in (int(rows[0][-1]), 2 * int(rows[0][-1])):
        rest = [label for row in rows[1:] for label in row[:2]]
        if _whole(rest) and max(map(int, rest), default=0) <= int(rows[0][0]):
            rows = rows[1:]
    rows = [row[:2] for row in rows]
    if short := [row for row in rows if len(row) < 2]:
        raise DataError(f"a line has one column only ({short[0][0][:20]!r}), expected two labels")
    if not _whole(chain.from_iterable(rows)):
        number: dict[str, int] = {}
        flat = [number.setdefault(label, len(number)) for label in chain.from_iterable(rows)]
        return [Network.of(flat)]
    return [Network.of(np.asarray(rows, dtype=np.int64))]


def _whole(labels: Iterable[str]) -> bool:
    return all(label.lstrip("-").isdecimal() for label in labels)


def _metis(data: bytes, entry: Mapping[str, Any]) -> list[Network]:
    """Line k + 1 lists the neighbours of node k.

    The digits of the third number of the first line say which weights are interleaved: vertex
    sizes, vertex weights, edge weights.
    """
    lines = [line for line in data.decode("ascii").splitlines() if not line.startswith("%")]
    head = lines[0].split()
    n, m = int(head[0]), int(head[1])
    sizes, weights, edge_weights = (d == "1" for d in (head[2] if len(head) > 2 else "0").zfill(3))
    skip = int(sizes) + (int(head[3]) if len(head) > 3 else int(weights))
    rows = [line.split()[skip :: 1 + int(edge_weights)] for line in lines[1 : n + 1]]
    if len(rows) < n:
        raise DataError(f"it has {len(rows)} of {n} lines of neighbours: it is cut short")
    network = _from_rows(rows, n)
    if len(network.edges) != m:
        raise DataError(f"it has {len(network.edges)} edges, its first line says {m}")
    return [network]


def _neighbours(data: bytes, entry: Mapping[str, Any]) -> list[Network]:
    rows = [line.split() for line in data.decode("ascii").splitlines()]
    return [_from_rows(rows, len(rows))]


def _from_rows(rows: list[list[str]], n: int) -> Network:
    counts = np.asarray([len(row) for row in rows], dtype=np.int64)
    ends = np.asarray(list(chain.from_iterable(rows)), dtype=np.int64) - 1
    return Network.of(np.stack([np.repeat(np.arange(len(rows)), counts), ends], 1), n)


def _gml(data: bytes, entry: Mapping[str, Any]) -> list[Network]:
    """Only the ids of nodes and the ends of edges are looked at."""
    words = re.findall(r'"[^"]*"|\[|\]|[^\s\[\]]+', data.decode("utf-8", "replace"))
    trail: list[str] = []
    ids: list[int] = []
    ends: dict[str, list[int]] = {"source": [], "target": []}
    at = 0
    while at < len(words):
        if words[at] == "]":
            trail.pop()
            at += 1
        elif words[at + 1] == "[":
            trail.append(words[at])
            at += 2
        else:
            if trail == ["graph", "node"] and words[at] == "id":
                ids.append(int(words[at + 1]))
            if trail == ["graph", "edge"] and words[at] in ends:
                ends[words[at]].append(int(words[at + 1]))
            at += 2
    pairs = np.stack([np.asarray(ends["source"]), np.asarray(ends["target"])], 1)
    order = np.unique(np.asarray(ids, dtype=np.int64))
    if not np.isin(pairs, order).all():
        raise DataError("it has an edge to a node that is not listed")
    return [Network.of(np.searchsorted(order, pairs), len(order))]


def _matrix(data: bytes, entry: Mapping[str, Any]) -> list[Network]:
    """An edge where the weight of either direction is positive."""
    text = data.decode("ascii").replace(",", " ")
    weights = np.loadtxt(io.StringIO(text), dtype=np.float64, ndmin=2)
    if weights.shape[0] != weights.shape[1]:
        raise DataError(f"it is a matrix of shape {list(weights.shape)}, expected a square one")
    return [Network.of(np.argwhere(weights > 0), len(weights))]


def _tu(data: bytes, entry: Mapping[str, Any]) -> list[Network]:
    """The number of graphs, then all graphs.

    Each is a line (nodes, label), then for each node a line (tag, degree, neighbours from 0).
    """
    numbers = [line.split() for line in data.decode("ascii").splitlines()]
    out, at = [], 1
    for _ in range(int(numbers[0][0])):
        n = int(numbers[at][0])
        rows = numbers[at + 1 : at + 1 + n]
        pairs = [(u, int(v)) for u, row in enumerate(rows) for v in row[2 : 2 + int(row[1])]]
        if pairs:
            out.append(Network.of(pairs, n))
        at += 1 + n
    return out


# -- binary -----------------------------------------------------------------------------------

_GT_MAGIC = b"\xe2\x9b\xbe gt\x01"


def _graph_tool(data: bytes, entry: Mapping[str, Any]) -> list[Network]:
    """Magic, byte order, comment, directed flag, n, then the neighbours of each node.

    For each node: the number of its out-neighbours and their ids in the narrowest type for n.
    """
    if not data.startswith(_GT_MAGIC):
        raise DataError("it does not begin as a graph-tool file of version 1")
    order = ">" if data[7] else "<"
    at = 8 + 8 + struct.unpack_from(f"{order}Q", data, 8)[0] + 1
    (n,) = struct.unpack_from(f"{order}Q", data, at)
    at += 8
    width = next(w for w in (1, 2, 4, 8) if w == 8 or n < 1 << (8 * w))
    counts, parts = np.zeros(n, np.int64), []
    for node in range(n):
        (counts[node],) = struct.unpack_from(f"{order}Q", data, at)
        at += 8
        parts.append(np.frombuffer(data, f"{order}u{width}", counts[node], at).astype(np.int64))
        at += int(counts[node]) * width
    return [Network.of(np.stack([np.repeat(np.arange(n), counts), np.concatenate(parts)], 1), n)]


def _arrays(data: bytes, entry: Mapping[str, Any]) -> list[Network]:
    """Array ``entry["key"]`` (``edges`` if absent); with an ``edge_ptr`` beside it, many graphs."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        edges = arrays[entry.get("key", "edges")]
        if "edge_ptr" in arrays.files and "key" not in entry:
            cuts, sizes = arrays["edge_ptr"].tolist(), arrays["num_nodes"].tolist()
            graphs = zip(cuts[:-1], cuts[1:], sizes, strict=True)
            return [Network.of(edges[a:b], n) for a, b, n in graphs if b > a]
    return [Network.of(edges)]


def _triangle(data: bytes, entry: Mapping[str, Any]) -> list[Network]:
    """Row ``entry["row"]`` of weights ``[rows, n (n - 1) / 2]``; the share "keep" become edges."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        weights = arrays[entry["key"]][entry["row"]]
    n = int((1 + (1 + 8 * len(weights)) ** 0.5) / 2)
    return [_strongest(np.stack(np.triu_indices(n, 1), 1), weights, n, entry["keep"])]


def _weighted(data: bytes, entry: Mapping[str, Any]) -> list[Network]:
    """Lines (node, node, weight) of "nodes" nodes from 0; the share "keep" become edges."""
    table = np.loadtxt(io.StringIO(data.decode("ascii")), dtype=np.float64, ndmin=2)
    pairs = table[:, :2].astype(np.int64)
    apart = pairs[:, 0] != pairs[:, 1]
    return [_strongest(pairs[apart], table[apart, 2], entry["nodes"], entry["keep"])]


def _strongest(pairs: Any, weights: Any, n: int, keep: float) -> Network:
    """A network of the pairs whose weight is among the largest; ties at the limit are kept."""
    least = np.sort(weights)[-round(keep * n * (n - 1) / 2)]
    return Network.of(pairs[weights >= max(least, 1)], n)


def _planetoid(data: bytes, entry: Mapping[str, Any]) -> list[Network]:
    """A pickled table node -> list of neighbours; nothing but dicts, lists and numbers is read."""
    table = PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
    nodes = np.asarray(list(table), dtype=np.int64)
    counts = np.asarray([len(row) for row in table.values()], dtype=np.int64)
    ends = np.asarray(list(chain.from_iterable(table.values())), dtype=np.int64)
    return [Network.of(np.stack([np.repeat(nodes, counts), ends], 1))]


def _pandapower(data: bytes, entry: Mapping[str, Any]) -> list[Network]:
    """Buses and the branches between them: lines, two-winding transformers, impedances."""
    tables = json.loads(data)["_object"]
    number = {bus: k for k, bus in enumerate(json.loads(tables["bus"]["_object"])["index"])}
    pairs: list[tuple[int, int]] = []
    for name, first, second in (
        ("line", "from_bus", "to_bus"),
        ("trafo", "hv_bus", "lv_bus"),
        ("impedance", "from_bus", "to_bus"),
    ):
        table = json.loads(tables[name]["_object"]) if name in tables else {"data": []}
        if table["data"]:
            one, two = table["columns"].index(first), table["columns"].index(second)
            pairs += [(number[row[one]], number[row[two]]) for row in table["data"]]
    return [Network.of(pairs)]


READERS: dict[str, Reader] = {
    "edges": _edges,
    "gml": _gml,
    "graph": _metis,
    "gt": _graph_tool,
    "matrix": _matrix,
    "neighbours": _neighbours,
    "npz": _arrays,
    "pandapower": _pandapower,
    "planetoid": _planetoid,
    "triangle": _triangle,
    "tu": _tu,
    "weighted": _weighted,
}
