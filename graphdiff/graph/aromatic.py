"""Molecular graphs whose edge classes include the aromatic bond.

Models here have the bond orders 1, 2 and 3: molecules are kekulised. Other projects (DiGress,
MiDi) have a fourth class, the aromatic bond, so what their samples mean is only known to a
chemistry toolkit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from graphdiff.core.errors import DataError

if TYPE_CHECKING:
    from rdkit import Chem

    from graphdiff.data.graphs import Graphs

__all__ = ["AROMATIC", "has_aromatic", "to_smiles_list"]

AROMATIC = 4
"""Edge class of the aromatic bond."""


def has_aromatic(graphs: Graphs) -> bool:
    """Whether any edge is of a class beyond the triple bond."""
    return graphs.edge_type is not None and bool((graphs.edge_type > 3).any())


def to_smiles_list(graphs: Graphs, atoms: Sequence[str]) -> list[str]:
    """SMILES of each graph; an empty one where it is no valid molecule.

    Args:
        graphs: Graphs with node classes (``atoms``) and edge classes 1, 2, 3 and 4 (aromatic).
        atoms: Element of each node class.

    Raises:
        DataError: If there are no node classes, or an edge class above 4.
    """
    from rdkit import Chem, rdBase

    from graphdiff.graph.molecules import is_valid, to_molecules

    if graphs.node_type is None or graphs.edge_type is None:
        raise DataError("these graphs have no classes of nodes and edges: they are no molecules")
    if len(graphs.edge_type) and int(graphs.edge_type.max()) > AROMATIC:
        raise DataError(
            f"edge classes reach {int(graphs.edge_type.max())}; known are 1, 2, 3 (bond orders) "
            f"and {AROMATIC} (aromatic)"
        )
    owner = np.repeat(np.arange(len(graphs)), graphs.num_edges)
    marked = np.bincount(owner[graphs.edge_type == AROMATIC], minlength=len(graphs)) > 0
    out = [""] * len(graphs)
    with rdBase.BlockLogs():
        plain = np.flatnonzero(~marked)
        for i, mol in zip(plain, to_molecules(graphs[plain], atoms), strict=True):
            if is_valid(mol):
                out[i] = Chem.MolToSmiles(mol)
        for i in np.flatnonzero(marked):
            mol = _build(graphs[i], atoms)
            if Chem.SanitizeMol(mol, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE:
                out[i] = Chem.MolToSmiles(mol)
    return out


def _build(graph: Graphs, atoms: Sequence[str]) -> Chem.RWMol:
    from rdkit import Chem

    kinds = Chem.BondType
    bonds = (kinds.SINGLE, kinds.DOUBLE, kinds.TRIPLE, kinds.AROMATIC)
    mol = Chem.RWMol()
    for kind in graph.node_type if graph.node_type is not None else ():
        mol.AddAtom(Chem.Atom(atoms[int(kind)]))
    orders = graph.edge_type if graph.edge_type is not None else ()
    for (u, v), order in zip(graph.edges.tolist(), orders, strict=True):
        mol.AddBond(u, v, bonds[int(order) - 1])
    return mol
