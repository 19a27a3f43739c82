"""Packed graphs to PyTorch Geometric and DGL, and back; see :mod:`graphdiff.graph.convert`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.graphs import Graphs

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["classes_of", "from_dgl", "from_pyg", "parts", "to_dgl", "to_pyg", "to_pyg_batch"]


def parts(
    graphs: Graphs,
) -> Iterable[tuple[int, NDArray[Any], NDArray[Any] | None, NDArray[Any] | None]]:
    """Number of nodes, edges, node classes and edge classes of each graph."""
    nodes, edges = graphs.node_ptr.tolist(), graphs.edge_ptr.tolist()
    for g in range(len(graphs)):
        a, b, c, d = nodes[g], nodes[g + 1], edges[g], edges[g + 1]
        kinds = None if graphs.node_type is None else graphs.node_type[a:b]
        orders = None if graphs.edge_type is None else graphs.edge_type[c:d]
        yield b - a, graphs.edges[c:d], kinds, orders


def classes_of(array: NDArray[Any], what: str) -> NDArray[Any]:
    """Classes as int8; ``what`` names them in the error for values that are none."""
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
    return classes_of(array, f"the node features of {where}")


def to_pyg(graphs: Graphs) -> list[Any]:
    """``torch_geometric.data.Data`` of each graph.

    ``edge_index`` int64 ``[2, 2m]``, ``num_nodes``, and where the set has classes ``x`` int64
    ``[n, 1]`` and ``edge_attr`` int64 ``[2m]`` (the convention of PyG's ZINC set).
    """
    import torch
    from torch_geometric.data import Data

    out = []
    for n, edges, kinds, orders in parts(graphs):
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
    for n, edges, kinds, orders in parts(graphs):
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
