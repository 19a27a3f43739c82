"""Backbones: PDB and mmCIF with all their oddities, JSON lists, selections, npz."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from folding_support import (
    DATA,
    TS50,
    backbone,
    helix,
    line,
    needs_data,
    residue_lines,
    write_helices,
)

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.sequence.structure import collate, load_backbones, save_backbones, sha256
from graphdiff.sequence.structure_io import read_backbones, read_json, read_structure

pytest.importorskip("Bio")

X = helix(8)


def put(path: Path, text: str) -> Path:
    path.write_text(text + "END\n")
    return path


def test_chains_letters_numbers_and_coordinates(tmp_path: Path) -> None:
    found = read_structure(write_helices(tmp_path / "two.pdb", {"A": "ACDEF", "B": "GHI"}))
    assert found.sequence == "ACDEFGHI"
    assert found.chain_ids == ("A", "B")
    assert found.chain.tolist() == [0] * 5 + [1] * 3
    assert found.numbers.tolist() == [1, 2, 3, 4, 5, 1, 2, 3]
    assert found.name == "two"
    assert found.breaks == 0
    np.testing.assert_allclose(found.coords[:5], helix(5), atol=6e-4)
    np.testing.assert_allclose(found.coords[5:], helix(3, (10, 0, 0)), atol=6e-4)
    only = read_structure(tmp_path / "two.pdb", chains=["B"])
    assert (only.sequence, only.chain_ids) == ("GHI", ("B",))
    with pytest.raises(DataError, match=r"two\.pdb has no chain C; it has A, B"):
        read_structure(tmp_path / "two.pdb", chains=["C"])


def test_mmcif_and_gz_hold_what_the_pdb_file_holds(tmp_path: Path) -> None:
    from Bio.PDB.mmcifio import MMCIFIO
    from Bio.PDB.PDBParser import PDBParser

    path = write_helices(tmp_path / "two.pdb", {"A": "ACDEF", "B": "GHI"})
    io = MMCIFIO()
    io.set_structure(PDBParser(QUIET=True).get_structure("x", str(path)))
    io.save(str(tmp_path / "two.cif"))
    for name in ("two.pdb", "two.cif"):
        with gzip.open(tmp_path / f"{name}.gz", "wb") as file:
            file.write((tmp_path / name).read_bytes())
    first = read_structure(path)
    for name in ("two.cif", "two.pdb.gz", "two.cif.gz"):
        assert sha256([read_structure(tmp_path / name)]) == sha256([first]), name


def test_insertion_codes_and_gaps(tmp_path: Path) -> None:
    places = [(1, " "), (2, " "), (2, "A"), (2, "B"), (3, " "), (7, " "), (8, " ")]
    text = "".join(
        residue_lines("ACDEFGH"[i], "A", n, X[i], code=c) for i, (n, c) in enumerate(places)
    )
    found = read_structure(put(tmp_path / "x.pdb", text))
    assert found.insertions == "  AB   "
    assert found.position.tolist() == [0, 1, 2, 3, 4, 8, 9]
    assert found.breaks == 1
    assert found.select("A2A-3").tolist() == [2, 3, 4]
    assert found.select("A2,A7-8").tolist() == [1, 5, 6]
    with pytest.raises(ArgumentError, match=r"chain A of 'x' has no residue 4"):
        found.select("A4-7")
    with pytest.raises(ArgumentError, match="ends before it begins"):
        found.select("A7-3")
    with pytest.raises(ArgumentError, match="has the chains A"):
        found.select("B1")


def test_negative_numbers(tmp_path: Path) -> None:
    text = "".join(residue_lines("A", "A", n, X[i]) for i, n in enumerate((-2, -1, 0, 1)))
    found = read_structure(put(tmp_path / "x.pdb", text))
    assert found.select("A-2--1").tolist() == [0, 1]
    assert found.select("A-1-1").tolist() == [1, 2, 3]
    assert found.position.tolist() == [0, 1, 2, 3]


def test_one_whole_alternate_location_is_taken(tmp_path: Path) -> None:
    """CA of A is the likelier CA, but B is the likelier conformer; mixing them would be wrong."""
    text = residue_lines("A", "A", 1, X[0])
    for alt, occupancies, shift in (
        ("A", (0.3, 0.6, 0.3, 0.3), 0.0),
        ("B", (0.7, 0.4, 0.7, 0.7), 1),
    ):
        for a, atom in enumerate(("N", "CA", "C", "O")):
            text += line(a, atom, "CYS", "A", 2, X[1, a] + shift, alt=alt, occupancy=occupancies[a])
    found = read_structure(put(tmp_path / "x.pdb", text))
    np.testing.assert_allclose(found.coords[1], X[1] + 1.0, atol=6e-4)


def test_point_mutations_take_the_likelier_residue(tmp_path: Path) -> None:
    text = residue_lines("A", "A", 1, X[0])
    text += residue_lines("S", "A", 2, X[1], alt="A", occupancy=0.4)
    text += residue_lines("W", "A", 2, X[1] + 0.5, alt="B", occupancy=0.6)
    found = read_structure(put(tmp_path / "x.pdb", text))
    assert found.sequence == "AW"
    np.testing.assert_allclose(found.coords[1], X[1] + 0.5, atol=6e-4)


def test_modified_residues_ligands_and_water(tmp_path: Path) -> None:
    het = {"record": "HETATM"}
    text = residue_lines("A", "A", 1, X[0])
    text += residue_lines("MSE", "A", 2, X[1], **het)  # selenomethionine
    text += residue_lines("QQQ", "A", 3, X[2], **het)  # nobody knows it, but it is in the chain
    text += residue_lines("K", "A", 4, X[3])
    text += residue_lines("QQQ", "A", 90, X[3] + 30, **het)  # the same, alone
    text += residue_lines("G", "A", 91, X[3] + 40, **het)  # free glycine
    text += line(1, "O", "HOH", "A", 92, X[0, 0], record="HETATM")
    text += line(1, "ZN", "ZN", "A", 93, X[0, 0], record="HETATM")
    found = read_structure(put(tmp_path / "x.pdb", text))
    assert found.sequence == "AMXK"
    assert found.tokens.tolist() == [0, 10, 20, 8]


def test_missing_atoms_are_dropped_or_masked_and_counted(tmp_path: Path) -> None:
    text = "".join(
        residue_lines("ACDE"[i], "A", i + 1, X[i], atoms="N CA C O" if i != 2 else "N CA C")
        for i in range(4)
    )
    path = put(tmp_path / "x.pdb", text)
    dropped = read_structure(path)
    assert (dropped.sequence, dropped.dropped, dropped.breaks) == ("ACE", 1, 1)
    assert dropped.numbers.tolist() == [1, 2, 4]
    masked = read_structure(path, missing="mask")
    assert (masked.sequence, masked.dropped) == ("ACDE", 0)
    assert masked.mask.tolist() == [True, True, False, True]
    assert not masked.coords[2].any()


def test_errors_name_file_and_chain(tmp_path: Path) -> None:
    trace = "".join(residue_lines("A", "B", i + 1, X[i], atoms="CA") for i in range(3))
    whole = residue_lines("A", "A", 1, X[0])
    with pytest.raises(DataError, match=r"ca\.pdb, chain B: none of its 3 residues has all of N"):
        read_structure(put(tmp_path / "ca.pdb", whole + trace))
    water = line(1, "O", "HOH", "A", 1, X[0, 0], record="HETATM")
    with pytest.raises(DataError, match=r"wet\.pdb holds no protein chain"):
        read_structure(put(tmp_path / "wet.pdb", water))
    with pytest.raises(DataError, match="no structure file"):
        read_structure(tmp_path / "none.pdb")
    with pytest.raises(DataError, match=r"cannot read .*bad\.cif"):
        read_structure(put(tmp_path / "bad.cif", "this is no cif"))
    (tmp_path / "cut.pdb.gz").write_bytes(gzip.compress(whole.encode())[:-9])
    with pytest.raises(DataError, match=r"cannot read .*cut\.pdb\.gz"):
        read_structure(tmp_path / "cut.pdb.gz")
    with pytest.raises(DataError, match="is no structure file"):
        read_structure(put(tmp_path / "x.txt", whole))
    with pytest.raises(ArgumentError, match="missing must be"):
        read_structure(tmp_path / "ca.pdb", missing="keep")  # type: ignore[arg-type]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no structures"):
        read_backbones(tmp_path / "empty")


def test_folders_are_read_in_order_of_names(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write_helices(tmp_path / f"{name}.pdb", {"A": "ACD"})
    (tmp_path / "notes.txt").write_text("nothing")
    assert [b.name for b in read_backbones(tmp_path)] == ["a", "b", "c"]


def test_json_lists(tmp_path: Path) -> None:
    coords = X[:3].tolist()
    coords[1][2] = [None, None, None]
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{"name": "p", "seq": "AZC", "coords": coords}]))
    (found,) = read_json(path)
    assert (found.name, found.sequence, found.mask.tolist()) == ("p", "AXC", [True, False, True])
    assert not found.coords[1].any()
    path.write_text(json.dumps([{"name": "p", "seq": "AC", "coords": X[:3].tolist()}]))
    with pytest.raises(DataError, match="'p' has 2 letters"):
        read_json(path)
    path.write_text(json.dumps([{"name": "p", "seq": "AC"}]))
    with pytest.raises(DataError, match="entry 0 is no chain"):
        read_json(path)
    path.write_text("[")
    with pytest.raises(DataError, match="is no JSON"):
        read_json(path)


def test_npz_round_trip(tmp_path: Path) -> None:
    sets = [backbone("ACDEFG", 1), backbone("KLMNPQRS", 2, chains=2, name="dimer")]
    path = save_backbones(tmp_path / "x.npz", sets)
    again = load_backbones(path)
    assert sha256(again) == sha256(sets)
    assert again[1].chain_ids == ("A", "B")
    assert read_backbones(path)[0].sequence == "ACDEFG"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match="truncated"):
        load_backbones(path)
    np.savez(tmp_path / "other.npz", a=np.zeros(2))
    with pytest.raises(DataError, match="holds no backbones"):
        load_backbones(tmp_path / "other.npz")


def test_hash_sees_every_field() -> None:
    first = backbone("ACDEFG", 1)
    assert sha256([first]) != sha256([backbone("ACDEFG", 2)])
    assert sha256([first]) != sha256([backbone("ACDEFH", 1)])


def test_encode_checks_length_and_chains() -> None:
    dimer = backbone("ACDEFG", chains=2)
    assert dimer.encode("acd/EFX").tolist() == [0, 1, 2, 3, 4, 20]
    assert dimer.chains("ACDEFG") == ["ACD", "EFG"]
    for wrong in ("ACDE/FG", "ACDEF", "ACDEFB"):
        with pytest.raises(ArgumentError, match="needs 3/3 letters"):
            dimer.encode(wrong)


def test_collate_pads() -> None:
    batch = collate([backbone("ACD"), backbone("ACDEF")], to=7)
    assert batch.resolved.sum(1).tolist() == [3, 5]
    assert batch.chain[0].tolist() == [0, 0, 0, -1, -1, -1, -1]
    assert not batch.coords[0, 3:].any()
    with pytest.raises(ArgumentError, match="raise `to`"):
        collate([backbone("ACDEF")], to=4)


@needs_data
def test_published_files() -> None:
    found = read_json(TS50)
    assert len(found) == 50
    assert sum(map(len, found)) == sum(len(e["seq"]) for e in json.loads(TS50.read_text()))
    assert all(b.mask.all() for b in found)
    one = read_structure(DATA / "inverse_folding" / "6MRR.pdb")
    assert (len(one), one.breaks, one.dropped) == (68, 0, 0)
    # Peptide bonds of a crystal structure are 1.33 Å long.
    gap = np.linalg.norm(one.coords[1:, 0] - one.coords[:-1, 2], axis=-1)
    assert np.all(np.abs(gap - 1.33) < 0.05)
