"""Read protein structures: PDB and mmCIF files (plain or ``.gz``), folders, JSON lists.

Only the backbone atoms N, CA, C and O of the first model are read. Of alternate locations the one
with the highest occupancy over the backbone of its residue is taken, of point mutations the
residue with the highest. Modified residues become the amino acid they are made of (selenomethionine
is M); a residue of the chain that is none of the twenty becomes X. Waters, ligands, nucleic acids
and ions are no residues. Chain identifiers, residue numbers and insertion codes are those that
authors gave.

A residue with a missing atom is dropped (its number leaves a gap) or, with ``missing="mask"``,
kept without coordinates: it is then not designed, and keeps its letter.
"""

from __future__ import annotations

import gzip
import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.sources import read_bytes
from graphdiff.sequence.alphabet import PROTEIN
from graphdiff.sequence.structure import ATOMS, Backbone, load_backbones

__all__ = ["SUFFIXES", "read_backbones", "read_json", "read_structure"]

SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif")
Missing = Literal["drop", "mask"]
BOND = 2.0
"""Longest C-N bond, Å, that joins an unknown residue to the chain (a peptide bond has 1.33)."""


def read_backbones(path: str | Path, *, missing: Missing = "drop") -> list[Backbone]:
    """All backbones of a structure file, a folder of them, a ``.json`` list or a ``.npz``.

    Args:
        path: Files of a folder are read in the order of their names; others are passed over.
        missing: What becomes of residues with missing atoms, see the module docstring.

    Raises:
        DataError: There is nothing to read, or a file is damaged or holds no protein.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        files = [p for p in sorted(path.iterdir()) if _kind(p) in SUFFIXES]
        if not files:
            raise DataError(
                f"{path} holds no structures: expected files that end in {', '.join(SUFFIXES)} "
                "(or these with .gz)"
            )
        return [read_structure(p, missing=missing) for p in files]
    if path.suffix == ".npz":
        return load_backbones(path)
    if _kind(path) == ".json":
        return read_json(path)
    return [read_structure(path, missing=missing)]


def read_structure(
    path: str | Path, *, chains: Iterable[str] | None = None, missing: Missing = "drop"
) -> Backbone:
    """The protein chains of a PDB or mmCIF file as one backbone.

    Args:
        path: A file that ends in ``.pdb``, ``.ent``, ``.cif`` or ``.mmcif``, or these with ``.gz``.
        chains: Identifiers of the chains to read; all protein chains by default, in the order of
            the file.
        missing: What becomes of residues with missing atoms: ``"drop"`` or ``"mask"``.

    Raises:
        DataError: The file is missing, damaged, or has no protein chain; or a chain has residues
            but none with a whole backbone. Says which.
        ArgumentError: ``missing`` is unknown.
    """
    if missing not in ("drop", "mask"):
        raise ArgumentError(f"missing must be 'drop' or 'mask', found {missing!r}")
    path = Path(path).expanduser()
    model = _first_model(path)
    wanted = None if chains is None else list(dict.fromkeys(chains))
    there = [chain.id for chain in model]
    if wanted is not None and (absent := [c for c in wanted if c not in there]):
        raise DataError(
            f"{path} has no chain {', '.join(absent)}; it has {', '.join(there) or 'none'}"
        )
    parts, dropped = [], 0
    for name in there if wanted is None else wanted:
        rows, left = _residues(model[name], path, missing, required=wanted is not None)
        dropped += left
        if rows:
            parts.append((name, rows))
    if not parts:
        raise DataError(f"{path} holds no protein chain; give a structure with amino acids")
    rows = [row for _, own in parts for row in own]
    chain = np.repeat(np.arange(len(parts)), [len(own) for _, own in parts]).astype(np.int64)
    return Backbone(
        name=_stem(path),
        coords=np.stack([row[3] for row in rows]).astype(np.float32),
        sequence="".join(row[2] for row in rows),
        chain=chain,
        chain_ids=tuple(name.strip() for name, _ in parts),
        numbers=np.array([row[0] for row in rows], dtype=np.int64),
        insertions="".join(row[1] for row in rows),
        mask=np.array([row[4] for row in rows], dtype=np.bool_),
        dropped=dropped,
    )


def read_json(path: str | Path) -> list[Backbone]:
    """Backbones of a JSON list of chains, the form in which TS50 is spread.

    Each entry has ``name``, ``seq`` and ``coords`` (``[L][4][3]``, Å: N, CA, C, O; null or NaN
    where unknown). Such files carry no residue numbers, so residues count from 1.

    Raises:
        DataError: The file is missing, no JSON, or an entry lacks a field or has another shape.
    """
    path = Path(path)
    try:
        entries = json.loads(read_bytes(path))
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no JSON: {error}; fetch it again") from error
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path}: expected a list of chains, found {type(entries).__name__}")
    return [_from_json(path, i, entry) for i, entry in enumerate(entries)]


def _from_json(path: Path, i: int, entry: Any) -> Backbone:
    try:
        name, sequence = str(entry["name"]), str(entry["seq"]).upper()
        # null becomes NaN
        coords = np.array(entry["coords"], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: entry {i} is no chain ({type(error).__name__}: {error}); expected name, seq "
            "and coords [L][4][3]"
        ) from error
    if coords.shape != (len(sequence), 4, 3) or not sequence:
        raise DataError(
            f"{path}: chain {name!r} has {len(sequence)} letters and coordinates of shape "
            f"{list(coords.shape)}, expected [{len(sequence)}, 4, 3]"
        )
    known: NDArray[np.bool_] = np.isfinite(coords)
    mask = np.array([row.all() for row in known])
    if not mask.any():
        raise DataError(f"{path}: chain {name!r} has no residue with a whole backbone; drop it")
    return Backbone(
        name=name,
        coords=np.where(mask[:, None, None], coords, 0).astype(np.float32),
        sequence="".join(c if c in PROTEIN.letters else "X" for c in sequence),
        chain=np.zeros(len(sequence), np.int64),
        chain_ids=("A",),
        numbers=np.arange(1, len(sequence) + 1, dtype=np.int64),
        insertions=" " * len(sequence),
        mask=mask,
    )


def _kind(path: Path) -> str:
    """The suffix without ``.gz``, in lower case."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix == ".gz" else suffix


def _stem(path: Path) -> str:
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


def _first_model(path: Path) -> Any:
    """The first model of a file, as Biopython reads it."""
    try:
        from Bio.PDB.MMCIFParser import MMCIFParser
        from Bio.PDB.PDBParser import PDBParser
    except ImportError:
        raise DataError(
            'reading structures needs Biopython: pip install "graphdiffusion[bio]"'
        ) from None
    kind = _kind(path)
    if kind not in SUFFIXES:
        raise DataError(
            f"{path} is no structure file: expected {', '.join(SUFFIXES)}, or these with .gz"
        )
    if not path.is_file():
        raise DataError(f"no structure file {path}: check the path")
    parser = PDBParser(QUIET=True) if kind in (".pdb", ".ent") else MMCIFParser(QUIET=True)
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with warnings.catch_warnings(), opener(path, "rt", encoding="utf-8") as file:
            warnings.simplefilter("ignore")
            structure = parser.get_structure("structure", file)
        return next(iter(structure))
    except StopIteration:
        raise DataError(f"{path} holds no atoms; give a structure file") from None
    except Exception as error:  # the parsers raise ValueError, KeyError, their own and others
        raise DataError(
            f"cannot read {path} as {kind}: {type(error).__name__}: {error}; the file is damaged "
            "or of another format"
        ) from error


Row = tuple[int, str, str, NDArray[np.float64], bool]
"""Number, insertion code, letter, coordinates ``[4, 3]``, whether these are known."""


def _residues(chain: Any, path: Path, missing: str, *, required: bool) -> tuple[list[Row], int]:
    """Residues of a chain, and how many were dropped."""
    from Bio.Data.PDBData import protein_letters_3to1
    from Bio.Data.PDBData import protein_letters_3to1_extended as letters

    rows: list[Row] = []
    unknown, incomplete = [], 0
    for entry in chain:
        residue = _likeliest(entry)
        hetero, number, code = residue.id
        letter = letters.get(residue.get_resname().strip().upper(), "")
        atoms = None if hetero == "W" else _backbone(residue)
        # With a backbone, and no letter or that of a free amino acid, it may be part of the chain.
        plain = residue.get_resname().strip().upper() in protein_letters_3to1
        if not letter or (hetero.strip() and (atoms is None or plain)):
            if atoms is None:
                continue
            unknown.append(len(rows))
        incomplete += atoms is None
        if atoms is None and missing == "drop":
            continue
        letter = letter if letter in PROTEIN.letters else "X"
        coords = np.zeros((4, 3)) if atoms is None else atoms
        rows.append((number, code, letter or "X", coords, atoms is not None))
    rows = [row for i, row in enumerate(rows) if i not in unknown or _bonded(rows, i)]
    if not any(row[4] for row in rows):
        if incomplete or required:
            raise DataError(
                f"{path}, chain {chain.id or '(unnamed)'}: none of its {incomplete} residues has "
                f"all of {', '.join(ATOMS)}; give a structure with whole backbones, or leave the "
                "chain out"
            )
        return [], 0
    return rows, incomplete if missing == "drop" else 0


def _likeliest(residue: Any) -> Any:
    """Of a point mutation the residue with the highest occupancy."""
    if residue.is_disordered() != 2:
        return residue
    kinds = [residue.child_dict[name] for name in sorted(residue.child_dict)]
    return max(kinds, key=lambda r: sum(a.get_occupancy() or 0 for a in r) / max(len(r), 1))


def _backbone(residue: Any) -> NDArray[np.float64] | None:
    """Coordinates ``[4, 3]`` of one alternate location, or None if an atom is missing."""
    if any(name not in residue for name in ATOMS):
        return None
    atoms = [residue[name] for name in ATOMS]
    places = sorted({p for a in atoms if a.is_disordered() for p in a.disordered_get_id_list()})

    def at(place: str | None) -> list[Any]:
        return [
            a.disordered_get(place) if a.is_disordered() and a.disordered_has_id(place) else a
            for a in atoms
        ]

    # All atoms of one location: mixing two conformers makes a backbone that nobody has.
    choices = [at(place) for place in places] or [atoms]
    best = max(choices, key=lambda atoms: sum(a.get_occupancy() or 0 for a in atoms))
    return np.stack([np.asarray(a.get_coord(), dtype=np.float64) for a in best])


def _bonded(rows: list[Row], i: int) -> bool:
    """Whether residue ``i`` is bonded to a neighbour in the chain."""
    before = i > 0 and np.linalg.norm(rows[i - 1][3][2] - rows[i][3][0]) < BOND
    after = i + 1 < len(rows) and np.linalg.norm(rows[i][3][2] - rows[i + 1][3][0]) < BOND
    return bool(before or after)
