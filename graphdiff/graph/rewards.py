"""Scores of molecules and graphs by name: what ``--reward`` knows for graph models.

Molecules are scored as a user holds them: corrected to valid ones, largest fragment. Only ``valid``
looks at what the model really made: one for a sample that needs no correction, else zero.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import networkx as nx
    from rdkit import Chem
    from torch import Tensor

    from graphdiff.core.state import State
    from graphdiff.data.graphs import Graphs

__all__ = ["GRAPH_SCORES", "MOLECULE_SCORES", "Valid", "graph_key", "molecule_key"]


@dataclass(frozen=True)
class Valid:
    """Whether RDKit accepts every valence of a molecule as it was made, before any correction.

    Attributes:
        quantise: Finished states to packed graphs.
        atoms: Elements of the node classes.
    """

    quantise: Callable[[State], Graphs]
    atoms: tuple[str, ...]
    name: str = "valid"
    differentiable: bool = False

    def __call__(self, state: State) -> Tensor:
        """One or zero ``[b]``, float64."""
        import torch

        from graphdiff.graph.molecules import is_valid, to_molecules

        found = [is_valid(mol) for mol in to_molecules(self.quantise(state), self.atoms)]
        return torch.tensor(found, dtype=torch.float64, device=state.device)


def qed(mol: Chem.Mol) -> float:
    """Drug-likeness in ``[0, 1]`` (Bickerton et al., 2012)."""
    from rdkit.Chem import QED

    return float(QED.qed(_clean(mol)))


def logp(mol: Chem.Mol) -> float:
    """Octanol-water partition, Crippen's contributions (Wildman and Crippen, 1999)."""
    from rdkit.Chem import Crippen

    return float(Crippen.MolLogP(_clean(mol)))  # type: ignore[attr-defined]


def synthesis(mol: Chem.Mol) -> float:
    """Synthetic accessibility, 1 (easy) to 10 (Ertl and Schuffenhauer, 2009): lower is better."""
    return float(_scorer().calculateScore(_clean(mol)))


def weight(mol: Chem.Mol) -> float:
    """Molecular weight, g/mol."""
    from rdkit.Chem import Descriptors

    return float(Descriptors.MolWt(_clean(mol)))  # type: ignore[attr-defined]


def surface(mol: Chem.Mol) -> float:
    """Topological polar surface area, square angstrom."""
    from rdkit.Chem import rdMolDescriptors

    return float(rdMolDescriptors.CalcTPSA(_clean(mol)))


def rings(mol: Chem.Mol) -> float:
    """Number of rings."""
    from rdkit.Chem import rdMolDescriptors

    return float(rdMolDescriptors.CalcNumRings(_clean(mol)))


def atoms(mol: Chem.Mol) -> float:
    """Number of heavy atoms."""
    return float(mol.GetNumHeavyAtoms())


def _clean(mol: Chem.Mol) -> Chem.Mol:
    from rdkit import Chem

    if mol.GetNumAtoms() == 0:
        raise ValueError("an empty molecule has no score")
    clean = Chem.Mol(mol)
    Chem.SanitizeMol(clean)
    return clean


@cache
def _scorer() -> Any:
    """RDKit's contributed scorer, which is installed beside RDKit but not importable as it is."""
    from rdkit.Chem import RDConfig

    folder = str(Path(RDConfig.RDContribDir) / "SA_Score")
    sys.path.append(folder)
    try:
        return importlib.import_module("sascorer")
    finally:
        sys.path.remove(folder)


def molecule_key(mol: Chem.Mol) -> Hashable | None:
    """Canonical SMILES; None where there is none."""
    from graphdiff.graph.molecules import to_smiles

    return to_smiles(mol)


def edges(graph: nx.Graph) -> float:
    """Number of edges."""
    return float(graph.number_of_edges())


def degree(graph: nx.Graph) -> float:
    """Average degree."""
    return 2.0 * graph.number_of_edges() / max(graph.number_of_nodes(), 1)


def density(graph: nx.Graph) -> float:
    """Share of the pairs of nodes that are edges."""
    n = graph.number_of_nodes()
    return 2.0 * graph.number_of_edges() / max(n * (n - 1), 1)


def clustering(graph: nx.Graph) -> float:
    """Average clustering coefficient."""
    import networkx as nx

    return float(nx.average_clustering(graph)) if graph.number_of_nodes() else 0.0


def triangles(graph: nx.Graph) -> float:
    """Number of triangles."""
    import networkx as nx

    return sum(nx.triangles(graph).values()) / 3


def connected(graph: nx.Graph) -> float:
    """1 if the graph is connected, else 0."""
    import networkx as nx

    return float(graph.number_of_nodes() > 0 and nx.is_connected(graph))


def planar(graph: nx.Graph) -> float:
    """1 if the graph is planar, else 0."""
    import networkx as nx

    return float(nx.check_planarity(graph)[0])


def diameter(graph: nx.Graph) -> float:
    """Longest shortest path of the largest piece."""
    import networkx as nx

    pieces = sorted(nx.connected_components(graph), key=len)
    return float(nx.diameter(graph.subgraph(pieces[-1]))) if pieces else 0.0


def graph_key(graph: nx.Graph) -> Hashable | None:
    """Number of nodes and set of edges."""
    return graph.number_of_nodes(), frozenset(tuple(sorted(e)) for e in graph.edges)


MOLECULE_SCORES: dict[str, Callable[[Any], float]] = {
    "qed": qed,
    "logp": logp,
    "sa": synthesis,
    "weight": weight,
    "tpsa": surface,
    "rings": rings,
    "atoms": atoms,
}
GRAPH_SCORES: dict[str, Callable[[Any], float]] = {
    "edges": edges,
    "degree": degree,
    "density": density,
    "clustering": clustering,
    "triangles": triangles,
    "connected": connected,
    "planar": planar,
    "diameter": diameter,
}
