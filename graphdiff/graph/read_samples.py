"""Sample files of other projects: matrices, text, edge lists, GraphML, SMILES.

===================  ==============================================================================
file                 content
===================  ==============================================================================
``.npz``             packed graphs of :meth:`graphdiff.data.Graphs.save`; or one square matrix per
                     array; or one stack ``[G, n, n]``, optionally with ``num_nodes [G]`` (or a
                     ``mask [G, n]``) beside it
``.npy``             one stack ``[G, n, n]`` or one matrix
``.txt``             blocks of ``N=9``, ``X:`` (node classes), ``E:`` (matrix of edge classes), as
                     DiGress writes them; otherwise SMILES
``.smi``, ``.csv``,  SMILES, one molecule a line, in the first column; empty lines are left out
``.smiles``
``.graphml``         one graph per ``<graph>`` element, or one union whose nodes carry ``sample``
``.g6 .s6``          graph6 or sparse6, one graph a line
folder               one file per graph: edge lists (``.edges``, ``.edgelist``, ``.txt``, ``.csv``,
                     ``.tsv``: two node names a line, more columns ignored, ``#`` or ``%``
                     comments) or ``.graphml``
===================  ==============================================================================

Matrices may be 0/1, edge classes or symmetric floats; any non-zero entry off the diagonal is an
edge. Python pickles (``.pkl``, ``.pt``, object arrays) are refused, because reading one runs the
code in it.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import DataError
from graphdiff.data.graphs import Graphs, concat

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["EDGE_LISTS", "FORMATS", "read_samples"]

SMILES = (".smi", ".smiles", ".txt", ".csv")
EDGE_LISTS = (".edges", ".edgelist", ".txt", ".csv", ".tsv")
FORMATS = (".npz", ".npy", *SMILES, ".graphml", ".g6", ".s6")
"""Suffixes of sample files."""

PICKLES = (".pkl", ".pickle", ".p", ".pt", ".pth", ".joblib")


def read_samples(path: str | Path) -> Graphs | list[str]:
    """Reads generated samples.

    Args:
        path: A file or folder of the module docstring.

    Returns:
        Packed graphs, or SMILES as text (invalid and empty ones included).

    Raises:
        DataError: The file is missing, of an unknown kind, damaged, or a pickle; the message names
            the graph where there is one.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise DataError(f"no such file or folder: {path}")
    suffix = path.suffix.lower()
    if suffix in PICKLES:
        raise DataError(
            f"{path} is a Python pickle, and reading one would run the code in it; where it was "
            "made, write the matrices with numpy.savez(file, *matrices) and give the npz"
        )
    if suffix == ".npz":
        return _npz(path)
    if suffix == ".npy":
        return _matrices({"array": _array(path)}, path)
    if suffix == ".graphml":
        return _pack(_graphml(path), path)
    if suffix in (".g6", ".s6"):
        return _pack(_graph6(path), path)
    if suffix in SMILES:
        text = _text(path)
        return _blocks(text, path) if _BLOCK.match(text) else _smiles(text, suffix)
    raise DataError(
        f"{path}: unknown kind of file {path.suffix!r}; expected a folder of `graphdiff sample` or "
        f"of edge lists, or one of {', '.join(sorted(FORMATS))}"
    )


# -- matrices ---------------------------------------------------------------------------------


def _refuse_objects(path: Path, name: str) -> DataError:
    return DataError(
        f"{path}: array {name!r} holds Python objects, that is a pickle, and reading one would run "
        "the code in it; where it was made, save each matrix as an array of its own: "
        "numpy.savez(file, *matrices)"
    )


def _array(path: Path) -> NDArray[Any]:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        if "pickle" in str(error) or "object" in str(error).lower():
            raise _refuse_objects(path, path.stem) from error
        raise DataError(f"{path} is truncated or no npy file ({error})") from error


def _npz(path: Path) -> Graphs:
    try:
        archive = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is truncated or no npz file ({error})") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):  # a bare npy, or a pickle, under this name
        return _matrices({"array": archive}, path)
    with archive:
        if {"num_nodes", "edge_ptr", "edges"} <= set(archive.files):
            return Graphs.load(path)
        arrays = {}
        for name in archive.files:
            try:
                arrays[name] = archive[name]
            except (OSError, EOFError, zipfile.BadZipFile) as error:
                raise DataError(f"{path}: array {name!r} is damaged ({error})") from error
            except ValueError as error:
                raise _refuse_objects(path, name) from error
    return _matrices(arrays, path)


def _matrices(arrays: Mapping[str, NDArray[Any]], path: Path) -> Graphs:
    """One stack, with sizes if there are any, or one matrix per array."""
    square = {k: a for k, a in arrays.items() if a.ndim in (2, 3) and a.shape[-1] == a.shape[-2]}
    stacks = [k for k, a in square.items() if a.ndim == 3]
    sizes = next((arrays[k] for k in ("num_nodes", "n_nodes", "mask") if k in arrays), None)
    if stacks:
        if len(stacks) > 1:
            raise DataError(f"{path} holds several stacks of matrices: {', '.join(stacks)}")
        return _stack(square[stacks[0]], sizes, f"{path}, array {stacks[0]!r}")
    if not square or len(square) < len(arrays):
        shapes = ", ".join(f"{k} {list(a.shape)}" for k, a in list(arrays.items())[:6])
        raise DataError(
            f"{path} holds no set of adjacency matrices (found: {shapes or 'nothing'}): give one "
            "square matrix per array, or one stack [graphs, n, n]"
        )
    parts = [_stack(a[None], None, f"{path}, array {k!r}") for k, a in _natural(square)]
    return concat(parts)


def _natural(named: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Items in the order a person would number them: arr_2 before arr_10."""

    def key(item: tuple[str, Any]) -> list[tuple[int, str]]:
        parts = re.split(r"(\d+)", item[0])
        return [(int(p), "") if p.isdigit() else (-1, p) for p in parts]

    return sorted(named.items(), key=key)


def _stack(values: NDArray[Any], sizes: NDArray[Any] | None, where: str) -> Graphs:
    if values.dtype.kind not in "biuf":
        raise DataError(f"{where}: matrices must be numbers, found {values.dtype}")
    if not np.isfinite(values).all():
        raise DataError(f"{where}: a matrix holds nan or infinite values; sample this graph again")
    b, n, _ = values.shape
    mask = None
    if sizes is not None and sizes.shape == (b, n):
        mask = sizes.astype(bool)
    elif sizes is not None and sizes.shape == (b,):
        mask = np.arange(n)[None] < sizes[:, None]
    values = np.where(np.eye(n, dtype=bool), 0, values)  # loops, as published readers drop them
    whole = values.dtype.kind != "f" or bool((values == np.rint(values)).all())
    try:
        return Graphs.from_dense(values if whole else values != 0, mask)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


# -- text -------------------------------------------------------------------------------------

_BLOCK = re.compile(r"\s*N\s*=\s*\d+")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path} as text: {error}") from error


def _smiles(text: str, suffix: str) -> list[str]:
    """First column; a header called ``smiles`` and empty lines are left out."""
    separator = "," if suffix == ".csv" else None
    words = [line.split(separator)[0].strip() for line in text.splitlines() if line.strip()]
    return words[1:] if words and words[0].lower() == "smiles" else words


def _blocks(text: str, path: Path) -> Graphs:
    """DiGress: number of nodes, node classes, matrix of edge classes."""
    sizes, nodes, pairs, kinds = [], [], [], []
    for i, block in enumerate(re.split(r"N\s*=", text)[1:]):
        try:
            head, _, rest = block.partition("X:")
            classes, _, matrix = rest.partition("E:")
            n = int(head)
            x = np.asarray(classes.split(), np.int64)
            e = np.asarray(matrix.split(), np.int64)
            if len(e) != n * n or len(x) not in (0, n):
                raise ValueError(f"{n} nodes, but {len(x)} classes and {len(e)} matrix entries")
            e = e.reshape(n, n)
            if (e != e.T).any():
                raise ValueError("the matrix is not symmetric")
        except ValueError as error:
            raise DataError(f"{path}, graph {i}: {error}; the file is damaged") from error
        u, v = np.nonzero(np.triu(e, 1))
        sizes.append(n)
        nodes.append(x if len(x) else np.zeros(n, np.int64))
        pairs.append(np.stack([u, v], 1))
        kinds.append(e[u, v])
    types = any(x.any() for x in nodes) or any((k > 1).any() for k in kinds)
    if not types:
        return Graphs.from_lists(sizes, pairs)
    return Graphs.from_lists(sizes, pairs, nodes, kinds)


# -- graph formats ----------------------------------------------------------------------------


def _graphml(path: Path) -> Iterator[nx.Graph]:
    import networkx as nx
    from networkx.readwrite.graphml import GraphMLReader

    try:
        for graph in GraphMLReader()(path=str(path)):
            owner = nx.get_node_attributes(graph, "sample")
            if len(owner) < len(graph) or not owner:
                yield graph
                continue
            groups: dict[Any, list[Any]] = {}
            for node, sample in owner.items():
                groups.setdefault(sample, []).append(node)
            yield from (graph.subgraph(nodes) for nodes in groups.values())
    except (nx.NetworkXError, SyntaxError, KeyError, ValueError, OSError) as error:
        raise DataError(f"{path} is no readable GraphML ({error})") from error


def _graph6(path: Path) -> Iterator[nx.Graph]:
    import networkx as nx

    read = nx.from_graph6_bytes if path.suffix.lower() == ".g6" else nx.from_sparse6_bytes
    for i, line in enumerate(_text(path).split()):
        try:
            yield read(line.encode("ascii"))
        except (nx.NetworkXError, ValueError, IndexError) as error:
            raise DataError(f"{path}, graph {i}: {error}") from error


def _pack(graphs: Iterable[nx.Graph], path: Path) -> Graphs:
    """Undirected graphs without loops and repetitions."""
    sizes, edges = [], []
    for graph in graphs:
        number = {v: k for k, v in enumerate(graph)}
        pairs = {tuple(sorted((number[u], number[v]))) for u, v in graph.edges() if u != v}
        sizes.append(len(number))
        edges.append(np.asarray(sorted(pairs), np.int64).reshape(-1, 2))
    if not sizes:
        raise DataError(f"{path} holds no graph")
    return Graphs.from_lists(sizes, edges)


def _edge_list(path: Path) -> nx.Graph:
    import networkx as nx

    graph = nx.Graph()
    for number, line in enumerate(_text(path).splitlines(), 1):
        words = line.replace(",", " ").split()
        if not words or words[0][0] in "#%":
            continue
        if len(words) == 1:  # an isolated node
            graph.add_node(words[0])
            continue
        graph.add_edge(words[0], words[1])
        if number == 1 and not words[0].isdigit() and words[0].lower() in ("source", "from", "u"):
            graph.clear()  # a header
    if not len(graph):
        raise DataError(f"{path} holds no edge: expected two node names a line")
    return graph


def _folder(path: Path) -> Graphs:
    files = {f.name: f for f in path.iterdir() if f.is_file() and not f.name.startswith(".")}
    lists = [f for _, f in _natural(files) if f.suffix.lower() in EDGE_LISTS]
    marked = [f for _, f in _natural(files) if f.suffix.lower() == ".graphml"]
    if lists and marked:
        raise DataError(f"{path} holds edge lists and GraphML files: give a folder with one kind")
    if lists:
        return _pack((_edge_list(f) for f in lists), path)
    if marked:
        return _pack((graph for f in marked for graph in _graphml(f)), path)
    raise DataError(
        f"{path} holds no samples.json: expected the --out folder of `graphdiff sample`, or a "
        f"folder with one edge list ({', '.join(EDGE_LISTS)}) or GraphML file per graph"
    )
