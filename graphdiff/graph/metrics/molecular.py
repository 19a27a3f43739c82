"""Measures of sets of molecules: validity, fingerprints, scaffolds, diversity, known molecules.

Definitions follow MOSES (Polykovskiy et al. 2020, arXiv:1811.12823): Morgan fingerprints of radius
2 in 1024 bits, Tanimoto similarity, Murcko scaffolds with at least two rings. Validity follows
GDSS (arXiv:2202.02514): a molecule is *valid raw* if it passes RDKit's valency check as it was
generated, before any bond is corrected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.metrics.mmd import TwoSample
from graphdiff.graph.metrics.nspdk import _mix

if TYPE_CHECKING:
    from rdkit import Chem

    from graphdiff.data import Dataset, Graphs

__all__ = [
    "Mean",
    "Molecules",
    "ScaffoldSimilarity",
    "fingerprints",
    "known",
    "labelled_graphs",
    "mean_similarity",
    "nearest_similarity",
    "scaffolds",
]

Float = NDArray[np.float64]
Tick = Callable[[float], None]


@dataclass(frozen=True)
class Molecules:
    """Generated molecules after reading.

    Attributes:
        valid: Passes the valency check as generated (SMILES: parses), ``bool [n]``.
        connected: Valid and in one piece, ``bool [n]``.
        smiles: Canonical SMILES of the largest piece after correction, None if there is none.
        corrected: Whether bonds were corrected: not for samples given as SMILES, where an invalid
            one has no graph to correct.
    """

    valid: NDArray[np.bool_]
    connected: NDArray[np.bool_]
    smiles: tuple[str | None, ...]
    corrected: bool

    def __len__(self) -> int:
        return len(self.valid)

    def population(self, kind: str) -> list[str]:
        """SMILES of the molecules that are ``valid`` raw, or of all that are ``corrected``."""
        if kind not in ("valid", "corrected"):
            raise ArgumentError(f"population must be 'valid' or 'corrected', found {kind!r}")
        keep = self.valid if kind == "valid" else np.ones(len(self), bool)
        return [s for s, ok in zip(self.smiles, keep, strict=True) if ok and s]

    @classmethod
    def read(
        cls, raw: Graphs | Sequence[str], atoms: Sequence[str] | None, tick: Tick | None = None
    ) -> Molecules:
        """Reads raw graphs (with the elements ``atoms``) or SMILES.

        Raises:
            ArgumentError: If raw graphs come without elements, or the set is empty.
        """
        if not len(raw):
            raise ArgumentError("there are no molecules to evaluate")
        from graphdiff.data.graphs import Graphs

        if isinstance(raw, Graphs):
            if atoms is None:
                raise ArgumentError("raw graphs need the elements of their node classes (atoms)")
            return cls._of_graphs(raw, atoms, tick)
        return cls._of_smiles(raw, tick)

    @classmethod
    def _of_graphs(cls, raw: Graphs, atoms: Sequence[str], tick: Tick | None) -> Molecules:
        from rdkit import Chem

        from graphdiff.graph.molecules import (
            correct,
            is_valid,
            largest_fragment,
            to_molecules,
            to_smiles,
        )

        valid, whole = np.zeros(len(raw), bool), np.zeros(len(raw), bool)
        names: list[str | None] = []
        for i, mol in enumerate(to_molecules(raw, atoms)):
            if tick is not None and i % 500 == 0:
                tick(i / len(raw))
            valid[i] = is_valid(mol)
            whole[i] = valid[i] and len(Chem.GetMolFrags(mol)) == 1
            if mol.GetNumAtoms():
                fixed = mol if valid[i] else correct(mol)
                names.append(to_smiles(fixed if whole[i] else largest_fragment(fixed)))
            else:
                names.append(None)
        return cls(valid, whole, tuple(names), True)

    @classmethod
    def _of_smiles(cls, raw: Sequence[str], tick: Tick | None) -> Molecules:
        from rdkit import Chem, rdBase

        from graphdiff.graph.molecules import largest_fragment, to_smiles

        valid, whole = np.zeros(len(raw), bool), np.zeros(len(raw), bool)
        names: list[str | None] = []
        with rdBase.BlockLogs():
            for i, text in enumerate(raw):
                if tick is not None and i % 500 == 0:
                    tick(i / len(raw))
                mol = Chem.MolFromSmiles(text) if text else None
                if mol is None or not mol.GetNumAtoms():
                    names.append(None)
                    continue
                valid[i], whole[i] = True, len(Chem.GetMolFrags(mol)) == 1
                names.append(to_smiles(largest_fragment(mol)))
        return cls(valid, whole, tuple(names), False)


def labelled_graphs(mols: Sequence[Chem.Mol]) -> Graphs:
    """Molecules as the graphs that NSPDK reads: atomic numbers, and whole bond orders.

    Aromatic bonds (order 1.5) get the label 1, as in the published evaluations.
    """
    from graphdiff.data.graphs import Graphs

    sizes, edges, kinds, orders = [], [], [], []
    for mol in mols:
        sizes.append(mol.GetNumAtoms())
        kinds.append([a.GetAtomicNum() for a in mol.GetAtoms()])
        bonds = mol.GetBonds()
        edges.append([(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in bonds])
        orders.append([int(b.GetBondTypeAsDouble()) for b in bonds])
    return Graphs.from_lists(sizes, edges, kinds, orders)


def fingerprints(mols: Sequence[Chem.Mol]) -> NDArray[np.float32]:
    """Morgan fingerprints of radius 2, ``[n, 1024]`` of zeros and ones."""
    from rdkit.Chem import rdFingerprintGenerator

    maker = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    out = np.zeros((len(mols), 1024), np.float32)
    for i, mol in enumerate(mols):
        out[i] = maker.GetFingerprintAsNumPy(mol)
    return out


def _tanimoto(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    both = x @ y.T
    either = x.sum(1)[:, None] + y.sum(1)[None] - both
    return np.divide(both, either, out=np.ones_like(both), where=either > 0)


def nearest_similarity(
    x: NDArray[np.float32], y: NDArray[np.float32], *, batch: int = 1024
) -> Float:
    """Largest Tanimoto similarity of each row of ``x`` to the rows of ``y``, ``[n]``."""
    parts = [_tanimoto(x[i : i + batch], y).max(1) for i in range(0, len(x), batch)]
    return np.concatenate(parts).astype(np.float64)


def mean_similarity(x: NDArray[np.float32], *, batch: int = 1024) -> Float:
    """Mean Tanimoto similarity of each row to all rows, itself included, ``[n]``."""
    parts = [
        _tanimoto(x[i : i + batch], x).mean(1, dtype=np.float64) for i in range(0, len(x), batch)
    ]
    return np.concatenate(parts)


def scaffolds(mols: Sequence[Chem.Mol], *, min_rings: int = 2) -> list[str | None]:
    """SMILES of the Murcko scaffold of each molecule; None below ``min_rings`` rings."""
    from rdkit import Chem
    from rdkit.Chem.Scaffolds import MurckoScaffold

    out: list[str | None] = []
    for mol in mols:
        if mol.GetRingInfo().NumRings() < min_rings:
            out.append(None)  # a scaffold has the rings of its molecule
            continue
        out.append(Chem.MolToSmiles(MurckoScaffold.GetScaffoldForMol(mol)) or None)
    return out


class Mean(TwoSample):
    """Mean of a quantity of each sample, ``scale`` times around ``origin``.

    Args:
        values: The quantity, ``[n]``.
        origin: Fixed part of the statistic.
        scale: Factor of the mean deviation; 1 and origin 0 give the plain mean.
    """

    def __init__(self, values: Float, origin: float = 0.0, scale: float = 1.0) -> None:
        self.values, self.origin, self.scale = np.asarray(values, np.float64), origin, scale
        self.n = len(self.values)
        self.weights = np.full(self.n, 1 / self.n)

    def statistic(self, counts: NDArray[Any]) -> Float:
        """See :meth:`graphdiff.graph.metrics.mmd.TwoSample.statistic`."""
        c = np.asarray(counts, np.float64)
        return self.origin + self.scale * (c @ self.values) / c.sum(1)

    @classmethod
    def pairs(cls, rows: Float) -> Mean:
        """One minus the mean over all pairs, given the mean of each row.

        Resamples are linearised (each sample's influence on a mean over pairs is twice the
        deviation of its row), because the full matrix of pairs need not be kept.
        """
        mean = float(np.mean(rows))
        return cls(rows - mean, 1.0 - mean, -2.0)


class ScaffoldSimilarity(TwoSample):
    """Cosine of the scaffold counts of two sets; NaN if one has no scaffold.

    Args:
        x: Scaffold of each molecule of the resampled set, None for none.
        y: Scaffolds of the reference.
    """

    def __init__(self, x: Sequence[str | None], y: Sequence[str | None]) -> None:
        self.n = len(x)
        distinct: Counter[str | None] = Counter(x)
        names = list(distinct)
        self.weights = np.asarray([distinct[s] for s in names]) / self.n
        table = Counter(s for s in y if s is not None)
        self.keep = np.asarray([s is not None for s in names])
        self.other = np.asarray([table[s] if s is not None else 0 for s in names], np.float64)
        self.norm = float(np.sqrt(sum(c * c for c in table.values())))

    def statistic(self, counts: NDArray[Any]) -> Float:
        """See :meth:`graphdiff.graph.metrics.mmd.TwoSample.statistic`."""
        c = np.asarray(counts, np.float64) * self.keep
        below = np.sqrt(np.square(c).sum(1)) * self.norm
        return np.divide(c @ self.other, below, out=np.full(len(c), np.nan), where=below > 0)


def _skeletons(graphs: Graphs) -> NDArray[np.uint64]:
    """A hash of each graph that ignores bond orders: equal molecules have equal hashes."""
    owner = np.repeat(np.arange(len(graphs)), graphs.num_nodes)
    start = np.repeat(graphs.node_ptr[:-1], graphs.num_edges)
    u, v = (graphs.edges[:, k].astype(np.int64) + start for k in (0, 1))
    kinds = np.zeros(len(owner), np.int64) if graphs.node_type is None else graphs.node_type
    state = _mix(kinds)
    for _ in range(3):
        near = np.zeros_like(state)
        np.add.at(near, u, state[v])
        np.add.at(near, v, state[u])
        state = _mix(state, near)
    total = np.zeros(len(graphs), np.uint64)
    np.add.at(total, owner, state)
    return total


def known(smiles: Sequence[str], dataset: Dataset, split: str = "train") -> set[str]:
    """Which of these SMILES occur in a split of a data set.

    Both sides are compared as the data set stores molecules: without stereochemistry and with
    charges by rule. Only molecules of the split whose skeleton occurs in ``smiles`` are built.
    """
    from graphdiff.data.graphs import Graphs
    from graphdiff.graph.molecules import pack_smiles, to_molecules, to_smiles

    if dataset.atoms is None:
        raise ArgumentError(f"data set {dataset.name!r} holds no molecules")
    distinct = list(dict.fromkeys(smiles))
    arrays, _ = pack_smiles(distinct, dataset.atoms)
    kept = arrays.pop("kept")
    ours = Graphs(**arrays)
    train = dataset.split(split)
    near = train[np.isin(_skeletons(train), _skeletons(ours))]
    table = {to_smiles(m) for m in to_molecules(near, dataset.atoms)}
    plain = (to_smiles(m) for m in to_molecules(ours, dataset.atoms))
    table.discard(None)
    return {distinct[int(i)] for i, s in zip(kept, plain, strict=True) if s in table}
