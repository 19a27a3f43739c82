"""Measured changes of protein stability by single mutations, and the structures they belong to.

Your own table is a ``.csv`` with the columns ``structure`` (name of its file without suffix),
``chain``, ``mutation`` (``A191C``: letter, residue number of the file with its insertion code,
letter) and ``ddg``. Published tables are known by name, in the folder ``sequence/stability_ddg``
of the data folder: ``s2648`` (Dehouck et al., 2009), ``fireprot`` (FireProtDB, Stourac et al.,
2021), ``s669`` (Pancotti et al., 2022), ``ssym`` and ``ssym-inverse`` (Pucci et al., 2018).
Everywhere here **positive is stabilising**, kcal/mol; FireProt has the other sign in its file.

A mutation whose structure is not in the folder, or whose letter is not found in it, is left out
and counted. Mutations that are in several tables count once, with the mean of their changes.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import DataError
from graphdiff.data.sources import find
from graphdiff.sequence.alphabet import PROTEIN
from graphdiff.sequence.structure import Backbone, sha256
from graphdiff.sequence.structure_io import SUFFIXES, read_structure

__all__ = ["Mutation", "Mutations", "read_mutations", "read_table", "structure_files"]

FOLDER = "sequence/stability_ddg"
AROUND = 6
"""Residues on either side by which FireProt's mutations are found in a structure."""
_NAME = re.compile(r"([A-Z])(-?\d+)([A-Za-z]?)([A-Z])")


@dataclass(frozen=True)
class Mutation:
    """One measured mutation.

    Attributes:
        structures: Names of structures that show the protein; the first that is there is taken.
        chain: Identifier of its chain.
        wild: Letter in the structure.
        mutant: New letter.
        ddg: Change of the folding free energy, kcal/mol, positive is stabilising.
        place: Residue number and insertion code; None if ``around`` says where.
        around: Letters of the chain before and behind the residue, ``.`` where unknown.
    """

    structures: tuple[str, ...]
    chain: str
    wild: str
    mutant: str
    ddg: float
    place: tuple[int, str] | None = None
    around: tuple[str, str] = ("", "")

    def find(self, backbone: Backbone) -> int | None:
        """Index of the residue, or None if it is not there or has another letter."""
        if self.place is not None:
            number, code = self.place
            rows = np.flatnonzero(backbone.numbers == number)
            hits = [int(i) for i in rows if backbone.insertions[i] == code]
        else:
            before, behind = self.around
            pattern = re.compile(f"(?={before}{self.wild}{behind})")
            hits = [m.start() + len(before) for m in pattern.finditer(backbone.sequence)]
        hits = [i for i in hits if backbone.sequence[i] == self.wild and backbone.mask[i]]
        return hits[0] if len(hits) == 1 else None


@dataclass(frozen=True, eq=False)
class Mutations:
    """Mutations with their structures.

    Attributes:
        backbones: Chains, one for each protein.
        protein: Index of its backbone, int64 ``[n]``.
        site: Index of the residue, int64 ``[n]``.
        wild: Class of the letter in the structure, int64 ``[n]``.
        mutant: Class of the new letter, int64 ``[n]``.
        ddg: kcal/mol, float64 ``[n]``, positive is stabilising.
        lost: Why mutations were left out, and how many.
    """

    backbones: list[Backbone]
    protein: NDArray[np.int64]
    site: NDArray[np.int64]
    wild: NDArray[np.int64]
    mutant: NDArray[np.int64]
    ddg: NDArray[np.float64]
    lost: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ddg)

    def sha256(self) -> str:
        """Hash of structures, mutations and changes."""
        digest = hashlib.sha256(sha256(self.backbones).encode())
        for array in (self.protein, self.site, self.mutant, self.ddg):
            digest.update(array.tobytes())
        return digest.hexdigest()


def structure_files(folder: str | Path) -> dict[str, Path]:
    """Structure files of a folder by their name without suffix, in capitals.

    Raises:
        DataError: There is no such folder, or it holds no structure.
    """
    place = Path(folder).expanduser()
    found: dict[str, Path] = {}
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        plain = Path(path.stem) if path.suffix.lower() == ".gz" else path
        if plain.suffix.lower() in SUFFIXES:
            found.setdefault(plain.stem.upper(), path)
    if not found:
        raise DataError(
            f"no structure files in the folder {place}: expected files like 1BNI.pdb or "
            "1bni.cif.gz, named as the tables name them; entries of the Protein Data Bank can be "
            "had from https://files.rcsb.org/download/1BNI.pdb"
        )
    return found


def read_mutations(
    tables: Sequence[str],
    structures: str | Path,
    *,
    proteins: Sequence[str] = (),
    largest: float = np.inf,
    root: str | Path | None = None,
) -> Mutations:
    """Mutations of some tables, found in the structures of a folder.

    Args:
        tables: Names of published tables, or paths of your own.
        structures: Folder of structure files.
        proteins: Structures that are taken; all by default.
        largest: Larger changes are left out, kcal/mol.
        root: Data folder.

    Raises:
        DataError: A table or the folder cannot be read, a protein of ``proteins`` has no
            mutation, or nothing is left.
    """
    files, lost = structure_files(structures), Counter[str]()
    chains: dict[tuple[str, str], Backbone | None] = {}
    found: dict[tuple[str, str, int, str], list[float]] = {}
    wanted = {name.upper() for name in proteins}
    for mutation in (m for table in tables for m in read_table(table, root)):
        name = next((s for s in mutation.structures if s in files), None)
        if wanted and (name is None or name not in wanted):
            lost["of other proteins"] += 1
            continue
        if name is None:
            lost["no structure"] += 1
            continue
        key = (name, mutation.chain)
        if key not in chains:
            chains[key] = _chain(files[name], mutation.chain)
        backbone = chains[key]
        site = None if backbone is None else mutation.find(backbone)
        if site is None or mutation.mutant == mutation.wild:
            lost["not in the structure"] += 1
        elif abs(mutation.ddg) > largest:
            lost["change too large"] += 1
        else:
            found.setdefault((*key, site, mutation.mutant), []).append(mutation.ddg)
    if absent := sorted(wanted - {key[0] for key in found}):
        raise DataError(
            f"no mutation of {', '.join(absent)} is left: {dict(lost)}; put the structure files "
            f"into {structures}, or correct data.proteins"
        )
    if not found:
        raise DataError(
            f"no mutation of {', '.join(tables)} fits a structure in {structures}: {dict(lost)}; "
            "check names, chains and residue numbers"
        )
    lost["measured again"] = sum(len(v) - 1 for v in found.values())
    return _packed(found, chains, {k: v for k, v in lost.items() if v})


def _packed(
    found: dict[tuple[str, str, int, str], list[float]],
    chains: dict[tuple[str, str], Backbone | None],
    lost: dict[str, int],
) -> Mutations:
    names = sorted({key[:2] for key in found})
    backbones = [b for name in names if (b := chains[name]) is not None]
    keys = sorted(found)
    protein = np.array([names.index(key[:2]) for key in keys], np.int64)
    site = np.array([key[2] for key in keys], np.int64)
    wild = [backbones[p].tokens[s] for p, s in zip(protein, site, strict=True)]
    return Mutations(
        backbones,
        protein,
        site,
        np.array(wild, np.int64),
        np.array([PROTEIN.letters.index(key[3]) for key in keys], np.int64),
        np.array([np.mean(found[key]) for key in keys], np.float64),
        lost,
    )


def _chain(path: Path, chain: str) -> Backbone | None:
    """A chain of a file; the whole file if it has one chain of another name (a model)."""
    try:
        return read_structure(path, chains=[chain])
    except DataError:
        whole = read_structure(path)
        return whole if len(whole.chain_ids) == 1 else None


def read_table(name: str, root: str | Path | None = None) -> Iterator[Mutation]:
    """Mutations of a published table or of your own ``.csv``, one after the other.

    Raises:
        DataError: There is no such table, a column is missing, or a line is wrong; says which.
    """
    if name in PUBLISHED:
        files, read = PUBLISHED[name]
        for file in files:
            path = find([f"{FOLDER}/{file}", f"stability_ddg/{file}", file], root)
            if path is None:
                raise DataError(
                    f"table {name!r}: no file {FOLDER}/{file} in the data folders; set "
                    "GRAPHDIFF_DATA to the folder that holds it, or name your own .csv"
                )
            yield from _lines(path, read)
        return
    path = Path(name).expanduser()
    if path.suffix.lower() != ".csv" or not path.is_file():
        raise DataError(
            f"no table {name!r}: expected one of {', '.join(PUBLISHED)}, or the path of a .csv "
            "with the columns structure, chain, mutation and ddg"
        )
    yield from _lines(path, _own)


def _lines(path: Path, read: Any) -> Iterator[Mutation]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                mutation: Mutation = read(row)
            except KeyError as error:
                raise DataError(f"{path} has no column {error}; it has {', '.join(row)}") from error
            except (ValueError, TypeError, IndexError) as error:
                raise DataError(f"line {number} of {path} is no mutation: {error}") from error
            yield mutation


def _made(structure: str, chain: str, mutation: str, ddg: str) -> Mutation:
    match = _NAME.fullmatch(mutation.strip())
    if match is None or {match[1], match[4]} - set(PROTEIN.letters):
        raise ValueError(f"{mutation!r}, expected letter, residue number, letter, as in A191C")
    value = float(ddg)
    if not np.isfinite(value):
        raise ValueError(f"ddg is {ddg}, expected a finite number")
    place = (int(match[2]), match[3] or " ")
    return Mutation((structure.upper(),), chain.strip(), match[1], match[4], value, place)


def _own(row: dict[str, str]) -> Mutation:
    return _made(row["structure"].strip(), row["chain"], row["mutation"], row["ddg"])


def _parts(row: dict[str, str], ddg: str) -> Mutation:
    name = row["wildtype"] + row["resseq"].strip() + row["mutation"]
    return _made(row["pdb"], row["chain"], name, row[ddg])


def _ssym(row: dict[str, str]) -> Mutation:
    return _made(row["PDB"][:4], row["PDB"][4:], row["MUT"], row["DDG"])


def _fireprot(row: dict[str, str]) -> Mutation:
    # Positions count along the chain of the file, from 0; X stands for residues without atoms.
    chain, at = row["pdb_sequence"], int(float(row["pdb_position"]))
    sides = chain[max(0, at - AROUND) : at], chain[at + 1 : at + 1 + AROUND]
    before, behind = (re.sub("[^A-Z]", "", side).replace("X", ".") for side in sides)
    names = [row["pdb_id_corrected"], *row["pdb_id"].split("|")]
    return Mutation(
        tuple(dict.fromkeys(n.strip().upper() for n in names)),
        row["chain"].strip(),
        row["wild_type"],
        row["mutation"],
        -float(row["ddG"]),
        around=(before, behind),
    )


PUBLISHED: dict[str, tuple[tuple[str, ...], Any]] = {
    "s2648": (("s2648_data.csv",), partial(_parts, ddg="ddG")),
    "s669": (("s669_data.csv",), partial(_parts, ddg="ddg")),
    "ssym": (("ssym-5fold_clean_dir.csv",), _ssym),
    "ssym-inverse": (("ssym-5fold_clean_inv.csv",), _ssym),
    "fireprot": (("fireprot_train.csv", "fireprot_val.csv", "fireprot_test.csv"), _fireprot),
}
"""Files of the published tables, and how a row of them is read."""
