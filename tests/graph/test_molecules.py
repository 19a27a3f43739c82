from __future__ import annotations

import numpy as np
import pytest
from rdkit import Chem

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data import Graphs
from graphdiff.graph.molecules import (
    QM9_ATOMS,
    ZINC_ATOMS,
    correct,
    from_molecule,
    from_smiles,
    is_valid,
    largest_fragment,
    pack_smiles,
    parse_smiles,
    to_molecule,
    to_molecules,
    to_smiles,
)

SMILES = ["C", "N#N", "CCO", "c1ccccc1", "c1cc[nH]c1", "O=C=O", "CC(=O)Oc1ccccc1C(=O)O", "C1CC1"]


def star(centre: str, orders: list[int]) -> Chem.RWMol:
    """An atom with carbons around it, bound with the given orders."""
    n = len(orders) + 1
    adj = np.zeros((n, n), int)
    adj[0, 1:] = adj[1:, 0] = orders
    return to_molecule([ZINC_ATOMS.index(centre)] + [0] * (n - 1), adj, ZINC_ATOMS)


@pytest.mark.parametrize("text", SMILES)
def test_smiles_round_trip(text: str) -> None:
    arrays = from_smiles(text, QM9_ATOMS)
    adj = np.zeros((len(arrays.node_type),) * 2, int)
    u, v = arrays.edges.T
    adj[u, v] = adj[v, u] = arrays.edge_type
    mol = to_molecule(arrays.node_type, adj, QM9_ATOMS)
    assert is_valid(mol)
    assert to_smiles(mol) == Chem.CanonSmiles(text)


def test_arrays_are_kekulised_and_without_hydrogen() -> None:
    arrays = from_smiles("[H]c1ccccc1", QM9_ATOMS)
    assert arrays.node_type.tolist() == [0] * 6
    assert sorted(arrays.edge_type.tolist()) == [1, 1, 1, 2, 2, 2]
    assert (arrays.edges[:, 0] < arrays.edges[:, 1]).all()
    assert arrays.edges.tolist() == sorted(arrays.edges.tolist())


def test_reading_leaves_the_molecule_alone() -> None:
    mol = Chem.MolFromSmiles("c1ccccc1")
    from_molecule(mol, QM9_ATOMS)
    assert all(b.GetIsAromatic() for b in mol.GetBonds())


@pytest.mark.parametrize(
    ("centre", "orders", "charge"),
    [
        ("N", [1, 1, 1], 0),
        ("N", [1, 1, 1, 1], 1),
        ("N", [2, 2], 1),
        ("N", [2, 2, 1], 0),
        ("O", [1, 1, 1], 1),
        ("O", [2, 1], 1),
        ("O", [2, 2], 0),
        ("S", [1, 1, 1], 1),
        ("C", [2, 2, 1], 0),
        ("F", [1, 1], 0),
        ("P", [1, 1, 1, 1], 0),
    ],
)
def test_formal_charge_rule(centre: str, orders: list[int], charge: int) -> None:
    assert star(centre, orders).GetAtomWithIdx(0).GetFormalCharge() == charge


def test_charges_can_be_switched_off() -> None:
    mol = to_molecule([1, 0, 0, 0, 0], np.eye(5, k=0) * 0, QM9_ATOMS, charges=False)
    assert all(a.GetFormalCharge() == 0 for a in mol.GetAtoms())


@pytest.mark.parametrize(
    ("centre", "orders", "valid"),
    [("C", [1] * 4, True), ("C", [1] * 5, False), ("N", [1] * 4, True), ("N", [1] * 5, False),
     ("O", [2, 2], False), ("F", [1, 1], False), ("S", [1] * 6, True)],
)  # fmt: skip
def test_valency_check(centre: str, orders: list[int], valid: bool) -> None:
    assert is_valid(star(centre, orders)) is valid


def test_correction_lowers_the_highest_bond_first() -> None:
    mol = correct(star("C", [1, 3, 2]))
    assert sorted(b.GetBondTypeAsDouble() for b in mol.GetBonds()) == [1.0, 1.0, 2.0]
    assert is_valid(mol)
    before = star("F", [1, 1, 1])
    after = correct(before)
    assert before.GetNumBonds() == 3
    assert after.GetNumBonds() == 1


def test_correction_makes_every_random_molecule_valid() -> None:
    rng = np.random.default_rng(0)
    invalid = 0
    for _ in range(200):
        adj = np.triu(rng.choice(4, size=(7, 7), p=[0.5, 0.3, 0.15, 0.05]), 1)
        mol = to_molecule(rng.integers(9, size=7), adj + adj.T, ZINC_ATOMS)
        invalid += not is_valid(mol)
        fixed = correct(mol)
        assert is_valid(fixed)
        assert fixed.GetNumAtoms() == 7
        if is_valid(mol):
            assert to_smiles(fixed) == to_smiles(mol)
    assert 0 < invalid < 200


def test_largest_fragment_and_virtual_nodes() -> None:
    adj = np.zeros((5, 5), int)
    adj[0, 1] = adj[1, 0] = adj[3, 4] = adj[4, 3] = 1
    mol = to_molecule([0, 0, -1, 2, -1], adj, QM9_ATOMS)
    assert to_smiles(mol) == "CC.O"
    assert to_smiles(largest_fragment(mol)) == "CC"
    nothing = to_molecule([-1], [[0]], QM9_ATOMS)
    assert not is_valid(nothing)
    assert to_smiles(largest_fragment(nothing)) is None


def test_unsanitisable_molecule_has_no_smiles() -> None:
    assert to_smiles(star("C", [1] * 5)) is None


def test_batch_equals_single() -> None:
    packed, failures = pack_smiles(SMILES, QM9_ATOMS)
    assert not failures
    packed.pop("kept")
    graphs = Graphs(**packed).validate()
    kinds, adj, _ = graphs.dense()
    many = to_molecules(graphs, QM9_ATOMS)
    for k, mol in enumerate(many):
        assert to_smiles(mol) == to_smiles(to_molecule(kinds[k], adj[k], QM9_ATOMS))


@pytest.mark.parametrize("text", ["C(", "xyz", "C(C)(C)(C)(C)C", "c1cccc1", ""])
def test_bad_smiles_name_the_text(text: str) -> None:
    with pytest.raises(DataError, match="SMILES") as caught:
        parse_smiles(text)
    assert repr(text) in str(caught.value)


def test_foreign_element_and_bad_arrays() -> None:
    with pytest.raises(DataError, match=r"'C\[Si\]' has the element Si, not among C, N, O, F"):
        from_smiles("C[Si]", QM9_ATOMS)
    with pytest.raises(ArgumentError, match=r"disagree: found \[2\] and \[3, 3\]"):
        to_molecule([0, 0], np.zeros((3, 3)), QM9_ATOMS)
    with pytest.raises(ArgumentError, match="node class 7 has no element"):
        to_molecule([7], [[0]], QM9_ATOMS)
    with pytest.raises(ArgumentError, match="bond orders must be 0, 1, 2, 3; found 4"):
        to_molecule([0, 0], [[0, 4], [4, 0]], QM9_ATOMS)
    with pytest.raises(ArgumentError, match="no node classes"):
        to_molecules(Graphs.from_lists([1], [[]]), QM9_ATOMS)
    with pytest.raises(ArgumentError, match="reach 5, but the atom list has 4"):
        to_molecules(Graphs.from_lists([1], [[]], [[5]]), QM9_ATOMS)
