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
from graphdiff.graph.convert_frameworks import (
    classes_of,
    from_dgl,
    from_pyg,
    parts,
    to_dgl,
    to_pyg,
    to_pyg_batch,
)

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


# -- networkx -------------------------------------------------------------------------------


def to_networkx(graphs: Graphs) -> list[nx.Graph]:
    """One ``networkx.Graph`` per graph, nodes 0..n-1, classes in the attributes ``type``."""
    import networkx as nx

    out = []
    for n, edges, kinds, orders in parts(graphs):
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
    return [classes_of(np.asarray(row), f"{name!r} of graph {k}") for k, row in enumerate(values)]


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
