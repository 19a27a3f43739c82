"""Molecules as labelled graphs, and back.

A molecule is a graph whose node classes are elements and whose edge classes are bond orders
1, 2, 3. Hydrogens are implicit and aromatic rings are kekulised, as in GDSS (Jo et al. 2022,
arXiv:2202.02514). Formal charges and stereochemistry are not part of the representation: a charge
is dropped on reading, and on building a molecule the published rule restores the common case: an
N, O or S whose explicit bond orders exceed its normal valence (3, 2, 2) by exactly one gets the
charge +1.

``valid raw`` means that the molecule as generated passes RDKit's valency check; :func:`correct`
makes any molecule pass by removing bonds, so a validity measured behind it says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphdiff.core.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from rdkit import Chem

    from graphdiff.data.graphs import Graphs

__all__ = [
    "QM9_ATOMS",
    "ZINC_ATOMS",
    "Arrays",
    "correct",
    "from_molecule",
    "from_smiles",
    "is_valid",
    "largest_fragment",
    "parse_smiles",
    "to_molecule",
    "to_molecules",
    "to_smiles",
]

QM9_ATOMS = ("C", "N", "O", "F")
ZINC_ATOMS = ("C", "N", "O", "F", "P", "S", "Cl", "Br", "I")

_CHARGED = {"N": 3, "O": 2, "S": 2}


@dataclass(frozen=True)
class Arrays:
    """One molecule in arrays.

    Attributes:
        node_type: Index of each atom's element in the atom list, ``int8 [n]``.
        edges: Bonded pairs ``u < v``, sorted, ``int32 [m, 2]``.
        edge_type: Bond orders 1, 2, 3, ``int8 [m]``.
    """

    node_type: NDArray[np.int8]
    edges: NDArray[np.int32]
    edge_type: NDArray[np.int8]


def from_molecule(mol: Chem.Mol, atoms: Sequence[str]) -> Arrays:
    """Arrays of an RDKit molecule (explicit hydrogens must have been removed).

    Args:
        mol: A sanitised molecule; it is not changed.
        atoms: Elements of the node classes, in order.

    Raises:
        DataError: If an element is not in ``atoms`` or a bond is not single, double or triple
            after kekulisation.
    """
    from rdkit import Chem

    mol = Chem.Mol(mol)
    try:
        Chem.Kekulize(mol, clearAromaticFlags=True)
    except Chem.KekulizeException as error:
        raise DataError(f"cannot be kekulised: {error}") from error
    number = {symbol: k for k, symbol in enumerate(atoms)}
    symbols = [a.GetSymbol() for a in mol.GetAtoms()]
    foreign = sorted({s for s in symbols if s not in number})
    if foreign:
        raise DataError(f"has the element {', '.join(foreign)}, not among {', '.join(atoms)}")
    bonds = []
    for bond in mol.GetBonds():
        order = bond.GetBondTypeAsDouble()
        if order not in (1.0, 2.0, 3.0):
            raise DataError(f"has a bond of type {bond.GetBondType()}, not single, double, triple")
        u, v = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        bonds.append((min(u, v), max(u, v), int(order)))
    table = np.asarray(sorted(bonds), dtype=np.int32).reshape(-1, 3)
    types = np.asarray([number[s] for s in symbols], dtype=np.int8)
    return Arrays(types, table[:, :2], table[:, 2].astype(np.int8))


def parse_smiles(text: str) -> Chem.Mol:
    """Reads one SMILES with a reason if that fails.

    Raises:
        DataError: With RDKit's reason (syntax, valence, kekulisation) and the text.
    """
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(text)
        if mol is not None and mol.GetNumAtoms():
            return mol
        if mol is not None:
            raise DataError(f"SMILES {text!r} has no atom")
        raw = Chem.MolFromSmiles(text, sanitize=False)
        reason = "it is not written correctly"
        if raw is not None:
            try:
                Chem.SanitizeMol(raw)
            except Exception as error:  # RDKit raises several unrelated classes
                reason = str(error).strip()
    raise DataError(f"SMILES {text!r} does not parse: {reason}; mend or remove it")


def from_smiles(text: str, atoms: Sequence[str]) -> Arrays:
    """Arrays of one SMILES.

    Raises:
        DataError: If it does not parse or holds an element outside ``atoms``.
    """
    mol = parse_smiles(text)
    try:
        return from_molecule(mol, atoms)
    except DataError as error:
        raise DataError(f"SMILES {text!r} {error}") from error


def to_molecule(
    node_type: ArrayLike, adj: ArrayLike, atoms: Sequence[str], *, charges: bool = True
) -> Chem.RWMol:
    """Builds an RDKit molecule, not sanitised and perhaps invalid.

    Args:
        node_type: Element of each atom, ``[n]``; negative entries are virtual nodes and left out.
        adj: Symmetric bond orders 0..3, ``[n, n]``.
        atoms: Elements of the node classes.
        charges: Give N, O, S with a valence exceeded by exactly one the formal charge +1
            (the published rule of GDSS, ``construct_mol``).

    Raises:
        ArgumentError: If the shapes differ, an entry is not a bond order, or a class has no
            element.
    """
    kinds, orders = np.asarray(node_type), np.asarray(adj)
    if orders.shape != (*kinds.shape, *kinds.shape) or kinds.ndim != 1:
        raise ArgumentError(
            f"node_type [n] and adj [n, n] disagree: found {list(kinds.shape)} and "
            f"{list(orders.shape)}; give one molecule at a time, or use to_molecules"
        )
    if kinds.size and int(kinds.max()) >= len(atoms):
        raise ArgumentError(
            f"node class {int(kinds.max())} has no element: the atom list is {', '.join(atoms)}"
        )
    keep = np.flatnonzero(kinds >= 0)
    orders = orders[np.ix_(keep, keep)]
    if not np.isin(orders, (0, 1, 2, 3)).all():
        bad = orders[~np.isin(orders, (0, 1, 2, 3))][0]
        raise ArgumentError(f"bond orders must be 0, 1, 2, 3; found {bad}: quantise first")
    u, v = np.nonzero(np.triu(orders, 1))
    pairs = np.stack([u, v], 1).tolist()
    return _build(kinds[keep].tolist(), pairs, orders[u, v].tolist(), atoms, charges)


def _build(
    kinds: list[int],
    pairs: list[list[int]],
    orders: list[int],
    atoms: Sequence[str],
    charges: bool,
) -> Chem.RWMol:
    from rdkit import Chem

    bonds = (Chem.BondType.ZERO, Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)
    mol = Chem.RWMol()
    valence = [0] * len(kinds)
    for kind in kinds:
        mol.AddAtom(Chem.Atom(atoms[kind]))
    for (u, v), order in zip(pairs, orders, strict=True):
        mol.AddBond(u, v, bonds[order])
        valence[u] += order
        valence[v] += order
    if charges:
        for i, kind in enumerate(kinds):
            if valence[i] - _CHARGED.get(atoms[kind], 99) == 1:
                mol.GetAtomWithIdx(i).SetFormalCharge(1)
    return mol


def to_molecules(graphs: Graphs, atoms: Sequence[str], *, charges: bool = True) -> list[Chem.RWMol]:
    """Builds one molecule per graph; see :func:`to_molecule`.

    Raises:
        ArgumentError: If the graphs have no node classes, or a class has no element.
    """
    if graphs.node_type is None:
        raise ArgumentError(
            "the graphs have no node classes, so their atoms are unknown: pass a set of molecules"
        )
    if len(graphs.node_type) and not 0 <= int(graphs.node_type.min()) <= int(
        graphs.node_type.max()
    ) < len(atoms):
        raise ArgumentError(
            f"node classes reach {int(graphs.node_type.max())}, but the atom list has "
            f"{len(atoms)} elements: {', '.join(atoms)}"
        )
    kinds, pairs = graphs.node_type.tolist(), graphs.edges.tolist()
    orders = [1] * len(pairs) if graphs.edge_type is None else graphs.edge_type.tolist()
    nodes, bonds = graphs.node_ptr.tolist(), graphs.edge_ptr.tolist()
    out = []
    for g in range(len(graphs)):
        of_nodes, of_bonds = slice(nodes[g], nodes[g + 1]), slice(bonds[g], bonds[g + 1])
        out.append(_build(kinds[of_nodes], pairs[of_bonds], orders[of_bonds], atoms, charges))
    return out


def is_valid(mol: Chem.Mol) -> bool:
    """The published validity check: RDKit accepts every valence (``SANITIZE_PROPERTIES``).

    "Validity without correction" of GDSS is the share of generated molecules that pass here. A
    molecule without atoms does not.
    """
    return mol.GetNumAtoms() > 0 and _offender(mol) is None


def _offender(mol: Chem.Mol) -> int | None:
    """Index of the first atom whose valence RDKit refuses, or None."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        try:
            Chem.SanitizeMol(mol, sanitizeOps=Chem.SanitizeFlags.SANITIZE_PROPERTIES)
        except Chem.AtomValenceException as error:
            return int(error.cause.GetAtomIdx())  # type: ignore[attr-defined]
    return None


def correct(mol: Chem.Mol) -> Chem.RWMol:
    """Lowers bonds until every valence is accepted; the input is not changed.

    While an atom fails, its bond of highest order is lowered by one (a single bond is removed;
    among equals the one made first goes). An atom that fails without any bond loses its charge.
    """
    from rdkit import Chem

    mol = Chem.RWMol(mol)
    lower = {Chem.BondType.TRIPLE: Chem.BondType.DOUBLE, Chem.BondType.DOUBLE: Chem.BondType.SINGLE}
    while (at := _offender(mol)) is not None:
        atom = mol.GetAtomWithIdx(at)
        bonds = list(atom.GetBonds())
        if not bonds:
            if atom.GetFormalCharge() == 0:
                raise DataError(f"atom {at} ({atom.GetSymbol()}) fails without charge or bond")
            atom.SetFormalCharge(0)
            continue
        bond = max(bonds, key=lambda b: b.GetBondTypeAsDouble())
        u, v, kind = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), bond.GetBondType()
        mol.RemoveBond(u, v)
        if kind in lower:
            mol.AddBond(u, v, lower[kind])
    return mol


def largest_fragment(mol: Chem.Mol) -> Chem.Mol:
    """The connected part with most atoms (the first among equals), its rings known."""
    from rdkit import Chem

    parts = Chem.GetMolFrags(mol, asMols=True, sanitizeFrags=False)
    found = max(parts, key=lambda m: m.GetNumAtoms(), default=mol)
    Chem.GetSymmSSSR(found)  # parts come without rings, and asking for them would be an error
    return found


def to_smiles(mol: Chem.Mol) -> str | None:
    """Canonical SMILES of a molecule, or None if RDKit cannot sanitise it."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        copy = Chem.Mol(mol)
        try:
            Chem.SanitizeMol(copy)
        except Exception:  # RDKit raises several unrelated classes
            return None
        return str(Chem.MolToSmiles(copy)) or None


def pack_smiles(
    lines: Iterable[str], atoms: Sequence[str], progress: Any = None
) -> tuple[dict[str, NDArray[Any]], list[tuple[int, str]]]:
    """Arrays of many SMILES in packed form, and the list of those that failed.

    Args:
        lines: SMILES.
        atoms: Elements of the node classes.
        progress: Called with the number of lines done, now and then.

    Returns:
        ``num_nodes``, ``edge_ptr``, ``edges``, ``node_type``, ``edge_type`` as in
        :class:`graphdiff.data.graphs.Graphs`, and ``kept`` (line number of each graph, from 0);
        then (line number, reason) of each failure.
    """
    done: list[Arrays] = []
    kept: list[int] = []
    failures: list[tuple[int, str]] = []
    count = 0
    for count, text in enumerate(lines, 1):
        try:
            done.append(from_smiles(text, atoms))
            kept.append(count - 1)
        except DataError as error:
            failures.append((count - 1, str(error)))
        if progress is not None and count % 1000 == 0:
            progress(count)
    if progress is not None:
        progress(count)
    sizes = np.asarray([len(a.edges) for a in done], dtype=np.int64)
    arrays: dict[str, NDArray[Any]] = {
        "num_nodes": np.asarray([len(a.node_type) for a in done], dtype=np.int64),
        "edge_ptr": np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]),
        "edges": np.concatenate([np.zeros((0, 2), np.int32), *(a.edges for a in done)]),
        "node_type": np.concatenate([np.zeros(0, np.int8), *(a.node_type for a in done)]),
        "edge_type": np.concatenate([np.zeros(0, np.int8), *(a.edge_type for a in done)]),
        "kept": np.asarray(kept, dtype=np.int64),
    }
    return arrays, failures
