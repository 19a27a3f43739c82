"""Packed graphs to networkx, PyTorch Geometric, DGL, RDKit and states, and back.

Every pair of functions is a loss-free round trip: numbers of nodes (isolated nodes included),
edges, and node and edge classes survive. Where a library stores directed edges, each undirected
edge becomes both directions; on the way back the two must agree, and self-loops are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.graphs import Graphs

if TYPE_CHECKING:
    import networkx as nx
    from rdkit import Chem
    from torch import Tensor

    from graphdiff.core.state import State

__all__ = [
    "from_dgl",
    "from_networkx",
    "from_pyg",
    "from_rdkit",
    "from_state",
    "to_dgl",
    "to_networkx",
    "to_pyg",
    "to_pyg_batch",
    "to_rdkit",
    "to_state",
    "to_states",
]


def _parts(
    graphs: Graphs,
) -> Iterable[tuple[int, NDArray[Any], NDArray[Any] | None, NDArray[Any] | None]]:
    """Number of nodes, edges, node classes and edge classes of each graph."""
    nodes, edges = graphs.node_ptr.tolist(), graphs.edge_ptr.tolist()
    for g in range(len(graphs)):
        a, b, c, d = nodes[g], nodes[g + 1], edges[g], edges[g + 1]
        kinds = None if graphs.node_type is None else graphs.node_type[a:b]
        orders = None if graphs.edge_type is None else graphs.edge_type[c:d]
        yield b - a, graphs.edges[c:d], kinds, orders


# -- networkx -------------------------------------------------------------------------------


def to_networkx(graphs: Graphs) -> list[nx.Graph]:
    """One ``networkx.Graph`` per graph, nodes 0..n-1, classes in the attributes ``type``."""
    import networkx as nx

    out = []
    for n, edges, kinds, orders in _parts(graphs):
        graph = nx.empty_graph(n)
        graph.add_edges_from(edges.tolist())
        if kinds is not None:
            nx.set_node_attributes(graph, dict(enumerate(kinds.tolist())), "type")
        if orders is not None:
            pairs = map(tuple, edges.tolist())
            nx.set_edge_attributes(graph, dict(zip(pairs, orders.tolist(), strict=True)), "type")
        out.append(graph)
    return out


def from_networkx(
    graphs: Iterable[nx.Graph], *, node_attr: str = "type", edge_attr: str = "type"
) -> Graphs:
    """Packs networkx graphs; nodes are numbered in the order of ``graph.nodes``.

    Args:
        graphs: Undirected graphs.
        node_attr: Node attribute with the class; kept if every node of every graph has it.
        edge_attr: Edge attribute with the class; kept if every edge of every graph has it.

    Raises:
        DataError: For a directed graph, a multigraph, a graph without nodes or a self-loop; the
            message names the graph.
    """
    counts: list[int] = []
    edges: list[NDArray[Any]] = []
    kinds: list[list[Any]] = []
    orders: list[list[Any]] = []
    for k, graph in enumerate(graphs):
        if graph.is_directed() or graph.is_multigraph():
            raise DataError(
                f"graph {k} is a {type(graph).__name__}, expected an undirected simple graph: "
                "convert it with networkx.Graph(graph)"
            )
        number = {node: i for i, node in enumerate(graph.nodes)}
        counts.append(len(number))
        pairs = [(number[u], number[v]) for u, v in graph.edges]
        edges.append(np.asarray(pairs, dtype=np.int64).reshape(-1, 2))
        kinds.append([data.get(node_attr) for _, data in graph.nodes(data=True)])
        orders.append([data.get(edge_attr) for _, _, data in graph.edges(data=True)])
    return Graphs.from_lists(
        counts, edges, _complete(kinds, node_attr), _complete(orders, edge_attr)
    )


def _complete(values: list[list[Any]], name: str) -> list[NDArray[Any]] | None:
    """Class arrays if there is a value everywhere (and anywhere), else None."""
    if not any(values) or any(v is None for row in values for v in row):
        return None
    return [_classes(np.asarray(row), f"{name!r} of graph {k}") for k, row in enumerate(values)]


def _classes(array: NDArray[Any], what: str) -> NDArray[Any]:
    if array.size == 0:
        return np.zeros(0, np.int8)
    if array.dtype.kind not in "iub" or array.min() < -128 or array.max() > 127:
        raise DataError(
            f"{what} must hold whole numbers below 128 as classes, found {array.dtype} such as "
            f"{array.flat[0]!r}: number the classes first"
        )
    return array.astype(np.int8)


# -- tensors with both directions -------------------------------------------------------------


def _both(edges: NDArray[Any], orders: NDArray[Any] | None) -> tuple[Tensor, Tensor | None]:
    """``int64 [2, 2m]`` with the reversed edges behind the edges, and the classes twice."""
    import torch

    pairs = np.concatenate([edges, edges[:, ::-1]]).astype(np.int64).T
    index = torch.from_numpy(np.ascontiguousarray(pairs))
    if orders is None:
        return index, None
    return index, torch.from_numpy(np.concatenate([orders, orders]).astype(np.int64))


def _undirect(
    index: NDArray[Any], orders: NDArray[Any] | None, where: str
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """The edges with ``u < v`` of an edge list that holds both directions of each."""
    src, dst = index
    if (src == dst).any():
        raise DataError(f"{where} has a self-loop: remove loops first")
    keys = [src, dst] if orders is None else [src, dst, orders]
    back = [dst, src] if orders is None else [dst, src, orders]
    mine, yours = (np.stack(k, 1)[np.lexsort(k[::-1])] for k in (keys, back))
    if not np.array_equal(mine, yours):
        raise DataError(
            f"{where} is directed: some edges lack the reverse edge with the same class; make it "
            "undirected first (torch_geometric.utils.to_undirected, dgl.to_bidirected)"
        )
    up = src < dst
    return index[:, up].T, None if orders is None else orders[up]


def _node_classes(x: Any, where: str) -> NDArray[Any] | None:
    """Classes from ``[n]`` or ``[n, 1]`` whole numbers or ``[n, k]`` one-hot rows."""
    if x is None:
        return None
    array = np.asarray(x.detach().cpu())
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"{where} has NaN or infinite node features: drop or mend this graph")
    if array.ndim == 2:
        if not (np.isin(array, (0, 1)).all() and (array.sum(1) == 1).all()):
            raise DataError(
                f"{where} has node features of shape {list(array.shape)} that are not one-hot: "
                "give class numbers or one-hot rows"
            )
        array = array.argmax(1)
    if array.dtype.kind == "f" and (array == np.rint(array)).all():
        array = array.astype(np.int64)
    return _classes(array, f"the node features of {where}")


def to_pyg(graphs: Graphs) -> list[Any]:
    """``torch_geometric.data.Data`` of each graph.

    ``edge_index`` int64 ``[2, 2m]``, ``num_nodes``, and where the set has classes ``x`` int64
    ``[n, 1]`` and ``edge_attr`` int64 ``[2m]`` (the convention of PyG's ZINC set).
    """
    import torch
    from torch_geometric.data import Data

    out = []
    for n, edges, kinds, orders in _parts(graphs):
        index, attr = _both(edges, orders)
        data = Data(edge_index=index, num_nodes=n)
        if kinds is not None:
            data.x = torch.from_numpy(kinds.astype(np.int64)).unsqueeze(1)
        if attr is not None:
            data.edge_attr = attr
        out.append(data)
    return out


def to_pyg_batch(graphs: Graphs) -> Any:
    """All graphs as one ``torch_geometric.data.Batch``."""
    from torch_geometric.data import Batch

    return Batch.from_data_list(to_pyg(graphs))


def from_pyg(data: Any) -> Graphs:
    """Packs ``Data`` objects, a list of them, or a ``Batch``.

    ``x`` may be class numbers ``[n]``, ``[n, 1]`` or one-hot ``[n, k]``; ``edge_attr`` class
    numbers or one-hot rows (class of column k is k + 1).

    Raises:
        DataError: For a self-loop, a directed graph, NaN or other features; names the graph.
    """
    items = data.to_data_list() if hasattr(data, "to_data_list") else data
    items = items if isinstance(items, Sequence) else [items]
    counts, edges, kinds, orders = [], [], [], []
    for k, item in enumerate(items):
        where = f"graph {k}"
        counts.append(int(item.num_nodes))
        attr = getattr(item, "edge_attr", None)
        classes = _node_classes(attr, f"the edges of {where}")
        if attr is not None and classes is not None and attr.ndim == 2 and attr.shape[1] > 1:
            classes = classes + 1
        index = item.edge_index.detach().cpu().numpy()
        pairs, classes = _undirect(index, classes, where)
        edges.append(pairs)
        orders.append(classes)
        kinds.append(_node_classes(getattr(item, "x", None), where))
    return Graphs.from_lists(counts, edges, _all(kinds, "x"), _all(orders, "edge_attr"))


def _all(values: list[Any], name: str) -> list[Any] | None:
    missing = [k for k, v in enumerate(values) if v is None]
    if values and not missing:
        return values
    if len(missing) < len(values):
        raise DataError(f"graph {missing[0]} has no {name} but others do: add it or drop it")
    return None


def to_dgl(graphs: Graphs) -> list[Any]:
    """``dgl.DGLGraph`` of each graph, both directions, classes in ``ndata``/``edata`` ``"type"``.

    Raises:
        ArgumentError: If DGL is not installed (extra ``dgl``).
    """
    import torch

    dgl = _dgl()
    out = []
    for n, edges, kinds, orders in _parts(graphs):
        index, attr = _both(edges, orders)
        graph = dgl.graph((index[0], index[1]), num_nodes=n)
        if kinds is not None:
            graph.ndata["type"] = torch.from_numpy(kinds.astype(np.int64))
        if attr is not None:
            graph.edata["type"] = attr
        out.append(graph)
    return out


def from_dgl(graphs: Any) -> Graphs:
    """Packs DGL graphs: one, a list, or a batched graph.

    Raises:
        DataError: For a self-loop, a directed graph, or a heterogeneous graph.
        ArgumentError: If DGL is not installed.
    """
    dgl = _dgl()
    items = graphs if isinstance(graphs, Sequence) else dgl.unbatch(graphs)
    counts, edges, kinds, orders = [], [], [], []
    for k, graph in enumerate(items):
        where = f"graph {k}"
        if not graph.is_homogeneous:
            raise DataError(f"{where} has several node or edge types: use dgl.to_homogeneous first")
        counts.append(int(graph.num_nodes()))
        index = np.stack([e.cpu().numpy() for e in graph.edges(order="eid")])
        attr = _node_classes(graph.edata.get("type"), f"the edges of {where}")
        pairs, attr = _undirect(index, attr, where)
        edges.append(pairs)
        orders.append(attr)
        kinds.append(_node_classes(graph.ndata.get("type"), where))
    return Graphs.from_lists(counts, edges, _all(kinds, "type"), _all(orders, "type"))


def _dgl() -> Any:
    import os

    os.environ.setdefault("DGLBACKEND", "pytorch")  # else dgl writes a file into the home folder
    try:
        import dgl
    except ImportError as error:
        raise ArgumentError(
            f"DGL cannot be imported ({error}): install the extra, graphdiffusion[dgl] (Linux "
            "x86-64, Python 3.11)"
        ) from error
    return dgl


# -- RDKit --------------------------------------------------------------------------------


def to_rdkit(graphs: Graphs, atoms: Sequence[str], *, charges: bool = True) -> list[Chem.RWMol]:
    """RDKit molecules as generated, not sanitised; see :mod:`graphdiff.graph.molecules`."""
    from graphdiff.graph.molecules import to_molecules

    return to_molecules(graphs, atoms, charges=charges)


def from_rdkit(molecules: Iterable[Chem.Mol], atoms: Sequence[str]) -> Graphs:
    """Packs RDKit molecules (hydrogens implicit); charges and stereochemistry are dropped.

    Raises:
        DataError: If a molecule has no atom, a foreign element or bond type; names the molecule.
    """
    from graphdiff.graph.molecules import from_molecule

    arrays = []
    for k, mol in enumerate(molecules):
        try:
            arrays.append(from_molecule(mol, atoms))
        except DataError as error:
            raise DataError(f"molecule {k} {error}") from error
    return Graphs.from_lists(
        [len(a.node_type) for a in arrays],
        [a.edges for a in arrays],
        [a.node_type for a in arrays],
        [a.edge_type for a in arrays],
    )


# -- State --------------------------------------------------------------------------------


def to_state(
    graphs: Graphs,
    *,
    classes: int | None = None,
    to: int | None = None,
    ids: Tensor | None = None,
    names: tuple[str, str] = ("x", "adj"),
) -> State:
    """One padded state with all graphs.

    Args:
        graphs: The graphs.
        classes: None gives integer classes (``x`` int64 ``[b, n]``, 0 on padding; ``adj`` int64
            ``[b, n, n]``); a number gives continuous data (``x`` float one-hot ``[b, n, k]``,
            ``adj`` float).
        to: Width of the padding; None = the largest graph.
        ids: Sample ids int64 ``[b]``; None = 0, 1, 2, ...
        names: Names of the node and the edge component.

    Raises:
        DataError: If a graph has more than ``to`` nodes.
        ArgumentError: If a node class is not below ``classes``.
    """
    import torch

    from graphdiff.core.state import State

    kinds, matrix, real = graphs.dense(to=to)
    if classes is not None and kinds.size and int(kinds.max()) >= classes:
        raise ArgumentError(
            f"the graphs have node class {int(kinds.max())}, but classes={classes}: raise it"
        )
    mask = torch.from_numpy(real)
    x = torch.from_numpy(np.where(real, kinds, 0))
    adj = torch.from_numpy(matrix)
    if classes is not None:
        x = torch.nn.functional.one_hot(x, classes).to(torch.float32) * mask.unsqueeze(2)
        adj = adj.to(torch.float32)
    number = torch.arange(len(graphs)) if ids is None else ids
    node, edge = names
    return State({node: x, edge: adj}, {node: mask, edge: mask}, number)


def to_states(graphs: Graphs, **options: Any) -> list[State]:
    """One state per graph, without padding; options as in :func:`to_state`."""
    convert: Callable[..., State] = to_state
    return [convert(graph, **options) for graph in graphs]


def from_state(
    state: State, *, names: tuple[str, str] = ("x", "adj"), typed: bool | None = None
) -> Graphs:
    """Packs a state of quantised graphs.

    Args:
        state: ``x`` classes ``[b, n]`` or one-hot ``[b, n, k]``, ``adj`` ``[b, n, n]``; a state
            without the node component gives graphs without node classes.
        names: Names of the node and the edge component.
        typed: Whether to keep classes; None keeps them if they say anything (a node class other
            than 0, or an edge class other than 1).

    Raises:
        DataError: If values are NaN, not whole numbers, not one-hot, or ``adj`` is not symmetric
            or has a self-loop; the message names the graph.
    """
    node, edge = names
    adj = state[edge].detach().cpu().numpy()
    mask = state.mask(edge)
    real = np.ones(adj.shape[:2], bool) if mask is None else mask.cpu().numpy()
    kinds = None
    if node in state.values:
        x = state[node].detach().cpu().numpy()
        kinds = _one_hot_classes(x, real) if x.ndim == 3 else x
        kinds = np.where(real, kinds, 0)
    if typed is False:
        return Graphs.from_dense((adj != 0).astype(np.int64), real, edge_types=False)
    if typed is None and not ((adj > 1).any() or (kinds is not None and kinds.any())):
        return Graphs.from_dense(adj, real, edge_types=False)
    return Graphs.from_dense(adj, real, kinds, edge_types=True)


def _one_hot_classes(x: NDArray[Any], real: NDArray[np.bool_]) -> NDArray[Any]:
    good = (np.isin(x, (0, 1)).all(2) & (x.sum(2) == 1)) | ~real
    if not good.all():
        g, i = np.argwhere(~good)[0]
        raise DataError(
            f"node {i} of graph {g} is not one-hot: {x[g, i].tolist()}; quantise the state first"
        )
    return x.argmax(2)
