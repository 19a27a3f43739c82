"""What a user asks of a design: backbone, what is designed, fixed and tied; as states.

========== ==================================================================================
backbone   structure file (or a :class:`Backbone`); of several, sample ``k`` takes ``k`` modulo n
chains     identifiers of the chains that are read, the others are absent: ``A,B``
design     residues that are designed, the others keep their letters: ``A`` or ``A12-30,B5``
fixed      residues that keep their letters, in residue numbers of the file
tie        residues that take the same letter: ``A=B=C`` (by residue number), ``A1-20=B1-20``;
           several ties are separated by ``;``
omit       letters that are never used: ``C`` or ``CM``
temperature  divides the logits; 0 takes the likeliest letter
========== ==================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.core.errors import ArgumentError, ConfigError
from graphdiff.core.state import State
from graphdiff.sequence.alphabet import PROTEIN
from graphdiff.sequence.structure import UNKNOWN, Backbone, collate
from graphdiff.sequence.structure_io import read_backbones, read_structure

__all__ = ["CONDITIONS", "NAME", "Request", "given_state", "requests"]

CONDITIONS = ("backbone", "chains", "design", "fixed", "tie", "omit", "temperature")
NAME = 64
"""Bytes of the name of a backbone that travel with a sample."""

Int = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Request:
    """One backbone and what is asked of it.

    Attributes:
        backbone: The structure.
        given: Class of each residue that is not designed (20 for X), -1 for one that is, ``[L]``.
        site: Token of each residue, ``[L]``; tied residues share one.
        allowed: Letters that may be used, bool ``[20]``.
    """

    backbone: Backbone
    given: Int
    site: Int
    allowed: NDArray[np.bool_]

    @property
    def sites(self) -> int:
        """Number of tokens."""
        return int(self.site.max()) + 1

    @property
    def real(self) -> NDArray[np.bool_]:
        """Tokens that have a letter to be found or kept, ``[G]``."""
        real = np.zeros(self.sites, np.bool_)
        real[self.site[self.backbone.mask & (self.given != UNKNOWN)]] = True
        return real


def make_request(backbone: Backbone, cond: Mapping[str, Any]) -> Request:
    """Check ``cond`` and resolve its residue numbers.

    Raises:
        ArgumentError: A chain or residue is not there, ties contradict each other or what is
            fixed, nothing is left to design, or a letter is unknown.
    """
    free = np.ones(len(backbone), np.bool_)
    if cond.get("design"):
        free[:] = False
        free[backbone.select(str(cond["design"]), what="design")] = True
    if cond.get("fixed"):
        free[backbone.select(str(cond["fixed"]), what="fixed")] = False
    free &= backbone.mask
    given = np.where(free, -1, backbone.tokens)
    site = _tie(backbone, str(cond.get("tie") or ""))
    _settle(backbone, given, site)
    if not (given < 0).any():
        raise ArgumentError(
            f"nothing of {backbone.name!r} is left to design: everything is fixed or without "
            "coordinates; correct design and fixed"
        )
    allowed = np.ones(len(PROTEIN.letters), np.bool_)
    for letter in str(cond.get("omit") or "").upper().replace(",", ""):
        if letter not in PROTEIN.letters:
            raise ArgumentError(f"omit: {letter!r} is no amino acid; use {PROTEIN.letters}")
        allowed[PROTEIN.letters.index(letter)] = False
    if not allowed.any():
        raise ArgumentError("omit leaves no letter at all; omit fewer of them")
    return Request(backbone, given, site, allowed)


def _tie(backbone: Backbone, text: str) -> Int:
    """Token of each residue."""
    owner = np.arange(len(backbone))
    for clause in filter(None, (c.strip() for c in text.split(";"))):
        parts = [part.strip() for part in clause.split("=")]
        if len(parts) < 2:
            raise ArgumentError(f"tie {clause!r}: expected at least two parts, as in A=B")
        groups = [backbone.select(part, what="tie") for part in parts]
        if all(part in backbone.chain_ids for part in parts):
            groups = _matched(backbone, groups)
        if not len(groups[0]):
            raise ArgumentError(
                f"tie {clause!r}: these chains share no residue numbers; tie ranges, as in "
                "A1-20=B201-220"
            )
        if len({len(g) for g in groups}) > 1:
            sizes = ", ".join(f"{p}: {len(g)}" for p, g in zip(parts, groups, strict=True))
            raise ArgumentError(f"tie {clause!r}: the parts have unequal sizes ({sizes})")
        for first, *others in zip(*(g.tolist() for g in groups), strict=True):
            for other in others:
                old, new = sorted((owner[first], owner[other]))
                owner[owner == new] = old
    _, site = np.unique(owner, return_inverse=True)
    return site.astype(np.int64)


def _matched(backbone: Backbone, chains: Sequence[Int]) -> list[Int]:
    """The residues of whole chains that have the same number in each of them."""
    tables = [
        {(int(backbone.numbers[i]), backbone.insertions[i]): i for i in chain.tolist()}
        for chain in chains
    ]
    shared = [key for key in tables[0] if all(key in table for table in tables)]
    return [np.array([table[key] for key in shared], dtype=np.int64) for table in tables]


def _settle(backbone: Backbone, given: Int, site: Int) -> None:
    """Tied residues are kept together: where one keeps its letter, all take that; in place."""
    for token in np.flatnonzero(np.bincount(site) > 1).tolist():
        group = np.flatnonzero(site == token)
        group = group[backbone.mask[group]]
        kept = {int(k) for k in given[group] if 0 <= k < UNKNOWN}
        if len(kept) > 1:
            found = ", ".join(f"{backbone.sequence[i]}{backbone.numbers[i]}" for i in group)
            raise ArgumentError(f"tied residues keep different letters: {found}; correct fixed")
        # A residue of unknown kind has no say, unless all of them are unknown.
        if kept:
            given[group] = kept.pop()
        elif (given[group] < 0).any():
            given[group] = -1


def requests(cond: Mapping[str, Any], ids: Tensor, default: str) -> list[Request]:
    """The request of each sample; each value of ``cond`` is one for all, or one for each.

    Raises:
        ConfigError: A condition is unknown, or there is no backbone.
        ArgumentError: As :func:`make_request`.
        DataError: A structure cannot be read.
    """
    if unknown := sorted(set(cond) - set(CONDITIONS)):
        raise ConfigError(
            f"inverse folding takes {', '.join(CONDITIONS)}, found {', '.join(unknown)}"
        )
    made: dict[tuple[Any, ...], Request] = {}
    found = []
    for row, number in enumerate(ids.tolist()):
        own = {
            k: v[row] if isinstance(v, list | tuple | Tensor) and np.ndim(v) else v
            for k, v in cond.items()
            if k != "temperature"
        }
        source = own.pop("backbone", None) or default
        if not source:
            raise ConfigError(
                "which backbone? give the condition backbone (--cond backbone=FILE.pdb), or "
                "sample.backbone in the config"
            )
        chains = str(own.pop("chains", None) or "")
        choices = [source] if isinstance(source, Backbone) else _read(str(source), chains)
        backbone = choices[number % len(choices)]
        key = (id(backbone), *sorted((k, str(v)) for k, v in own.items()))
        if key not in made:
            made[key] = make_request(backbone, own)
        found.append(made[key])
    return found


def _read(source: str, chains: str) -> list[Backbone]:
    path = Path(source).expanduser()
    changed = path.stat().st_mtime_ns if path.exists() else 0
    return _read_once(source, chains, changed)


@lru_cache(maxsize=16)
def _read_once(source: str, chains: str, changed: int) -> list[Backbone]:
    """``changed`` is there so that a file which was rewritten is read again."""
    if not chains:
        return read_backbones(source)
    return [read_structure(source, chains=[c for c in re.split(r"[,\s]+", chains) if c])]


def given_state(asked: Sequence[Request], ids: Tensor, pad: int, temperature: Any) -> State:
    """A template: ``tokens`` ``[b, pad]`` and all conditions of the network.

    Args:
        asked: The request of each sample.
        ids: Sample ids.
        pad: Tokens to pad to.
        temperature: One number for all samples or one for each.

    Raises:
        ArgumentError: A temperature is negative or too small.
    """
    batch = collate([r.backbone for r in asked])
    length = batch.coords.shape[1]
    degrees = torch.as_tensor(temperature, dtype=torch.float32).expand(len(asked)).clone()
    if bool(((degrees != 0) & ~(degrees >= 1e-4)).any()):
        raise ArgumentError(f"temperature is {temperature}, expected 0 or at least 0.0001")
    given = torch.full((len(asked), length), UNKNOWN)
    site = torch.zeros(len(asked), length, dtype=torch.int64)
    mask = torch.zeros(len(asked), pad, dtype=torch.bool)
    for i, request in enumerate(asked):
        n = len(request.backbone)
        given[i, :n] = torch.from_numpy(request.given)
        site[i, :n] = torch.from_numpy(request.site)
        mask[i, : request.sites] = torch.from_numpy(request.real)
    names = [r.backbone.name.encode("utf-8", "replace")[:NAME].ljust(NAME, b"\0") for r in asked]
    values = {
        "tokens": torch.zeros(len(asked), pad, dtype=torch.int64),
        "coords": batch.coords,
        "resolved": batch.resolved,
        "position": batch.position,
        "chain": batch.chain,
        "native": batch.native,
        "given": given,
        "site": site,
        "allowed": torch.from_numpy(np.stack([r.allowed for r in asked])),
        "temperature": degrees,
        "name": torch.from_numpy(np.frombuffer(b"".join(names), np.uint8).reshape(-1, NAME).copy()),
    }
    device = ids.device
    return State({k: v.to(device) for k, v in values.items()}, {"tokens": mask.to(device)}, ids)
