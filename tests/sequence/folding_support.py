"""Backbones for tests of inverse folding: ideal helices, PDB lines, small networks."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from graphdiff.sequence.structure import Backbone

DATA = Path(os.environ.get("GRAPHDIFF_DATA", "")) / "sequence"
WEIGHTS = DATA / "mpnn_weights" / "v_48_020.pt"
TS50 = DATA / "inverse_folding" / "ts50.json"
needs_data = pytest.mark.skipif(
    not (os.environ.get("GRAPHDIFF_DATA") and WEIGHTS.is_file() and TS50.is_file()),
    reason="GRAPHDIFF_DATA holds no ProteinMPNN weights and TS50",
)

CODES = {
    "A": "ALA", "R": "ARG", "N": "ASN", "D": "ASP", "C": "CYS", "Q": "GLN", "E": "GLU",
    "G": "GLY", "H": "HIS", "I": "ILE", "L": "LEU", "K": "LYS", "M": "MET", "F": "PHE",
    "P": "PRO", "S": "SER", "T": "THR", "W": "TRP", "Y": "TYR", "V": "VAL",
}  # fmt: skip
# Radius, angle (degrees) and height of N, CA, C, O of an alpha helix, in Å.
CYLINDER = ((1.55, -28.3, -0.90), (2.29, 0.0, 0.0), (1.65, 26.6, 1.11), (1.92, 21.5, 2.31))


def helix(count: int, shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    """Coordinates ``[count, 4, 3]`` of an ideal helix: 1.5 Å and 100 degrees a residue."""
    out = np.zeros((count, 4, 3))
    for i in range(count):
        for a, (r, angle, z) in enumerate(CYLINDER):
            phi = math.radians(angle + 100 * i)
            out[i, a] = (r * math.cos(phi), r * math.sin(phi), z + 1.5 * i)
    return out + np.array(shift)


def line(
    serial: int, atom: str, residue: str, chain: str, number: int, xyz: np.ndarray, *,
    code: str = " ", alt: str = " ", occupancy: float = 1.0, record: str = "ATOM",
) -> str:  # fmt: skip
    """One atom of a PDB file."""
    x, y, z = xyz
    return (
        f"{record:<6}{serial:>5} {atom:^4}{alt}{residue:>3} {chain}{number:>4}{code}   "
        f"{x:8.3f}{y:8.3f}{z:8.3f}{occupancy:6.2f}{0.0:6.2f}          {atom[0]:>2}\n"
    )


def residue_lines(
    letter: str, chain: str, number: int, xyz: np.ndarray, *, atoms: str = "N CA C O",
    **options: object,
) -> str:  # fmt: skip
    """The atoms of a residue; ``letter`` may also be a three-letter name."""
    name = CODES.get(letter, letter)
    wanted = atoms.split()
    return "".join(
        line(a, atom, name, chain, number, xyz[a], **options)  # type: ignore[arg-type]
        for a, atom in enumerate(("N", "CA", "C", "O"))
        if atom in wanted
    )


def write_helices(path: Path, chains: dict[str, str], apart: float = 10.0) -> Path:
    """Parallel helices as a PDB file, numbered from 1."""
    text = ""
    for k, (name, sequence) in enumerate(chains.items()):
        coords = helix(len(sequence), (apart * k, 0.0, 0.0))
        for i, letter in enumerate(sequence):
            text += residue_lines(letter, name, i + 1, coords[i])
        text += "TER\n"
    path.write_text(text + "END\n")
    return path


def backbone(sequence: str, seed: int = 0, chains: int = 1, name: str = "helix") -> Backbone:
    """Helices side by side, slightly shaken; ``sequence`` is cut into equal chains."""
    n = len(sequence) // chains
    parts = [helix(n, (9.0 * k, 0.0, 0.0)) for k in range(chains)]
    noise = np.random.default_rng(seed).normal(0, 0.05, (n * chains, 4, 3))
    return Backbone(
        name=name,
        coords=(np.concatenate(parts) + noise).astype(np.float32),
        sequence=sequence,
        chain=np.repeat(np.arange(chains), n).astype(np.int64),
        chain_ids=tuple("ABCDEF"[:chains]),
        numbers=np.tile(np.arange(1, n + 1), chains).astype(np.int64),
        insertions=" " * len(sequence),
        mask=np.ones(len(sequence), np.bool_),
    )


def shaken(module: torch.nn.Module, seed: int = 0, scale: float = 0.3) -> None:
    """Random weights everywhere, biases and norms too: a fresh network hides mistakes in them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p += scale * torch.randn(p.shape, generator=generator, dtype=p.dtype)
