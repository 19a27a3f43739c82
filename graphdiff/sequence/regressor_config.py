"""Configuration of a property head: what ``regressor-*.toml`` hold."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from graphdiff.core.errors import require

__all__ = ["RegressionLoss", "RegressorConfig", "RegressorNet", "TargetData"]


@dataclass(frozen=True)
class TargetData:
    """What is trained on.

    Attributes:
        name: A data set of sequences of :mod:`graphdiff.data`, or your own table
            (see :mod:`graphdiff.sequence.regressor_data`).
        targets: Names of the measurements that are predicted. A sequence needs one of them.
        split: The split that is trained on.
        alphabet: ``"dna"``, ``"rna"`` or ``"protein"``; empty for that of the data set. Your own
            table needs it.
        length: Longest sequence; 0 for that of the data set.
        reverse: Show every sequence as its reverse complement half of the time.
        mean: Mean of each target. Filled in by training, as is
        std: the standard deviation of each.
    """

    name: str
    targets: tuple[str, ...]
    split: str = "train"
    alphabet: Literal["", "dna", "rna", "protein"] = ""
    length: int = 0
    reverse: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.targets)
        good = 0 < count == len(set(self.targets)) and all(self.targets)
        require("data.targets", good, self.targets, "at least one name, each once")
        require("data.length", self.length >= 0, self.length, "at least 1, or 0")
        for name in ("mean", "std"):
            found = getattr(self, name)
            good = len(found) in (0, count) and all(math.isfinite(x) for x in found)
            require(f"data.{name}", good, found, f"{count} numbers, one for each target, or none")
        require("data.std", all(x > 0 for x in self.std), self.std, "positive numbers")
        require("data.mean", len(self.mean) == len(self.std), self.mean, "as many as data.std")


@dataclass(frozen=True)
class RegressorNet:
    """Shape of :class:`graphdiff.sequence.nets_regressor.PropertyNetwork`; see there.

    Attributes:
        width: Channels.
        kernel: Width of the convolutions, odd.
        dilations: Dilation of each residual block.
        hidden: Width of the MLP.
        dropout: Share of the features that training drops.
        positions: Whether the network knows where in the sequence a word stands; it then reads no
            sequence that is longer than ``data.length``.
        strands: Average over both strands, for measurements that do not know a direction.
    """

    width: int = 64
    kernel: int = 9
    dilations: tuple[int, ...] = (1, 2, 4)
    hidden: int = 128
    dropout: float = 0.1
    positions: bool = True
    strands: bool = False

    def __post_init__(self) -> None:
        for name in ("width", "kernel", "hidden"):
            value = getattr(self, name)
            require(f"model.{name}", value >= 1, value, "at least 1")
        require("model.kernel", self.kernel % 2 == 1, self.kernel, "an odd number")
        require("model.dilations", all(d >= 1 for d in self.dilations), self.dilations, "from 1")
        require("model.dropout", 0 <= self.dropout < 1, self.dropout, "a number in [0, 1)")


@dataclass(frozen=True)
class RegressionLoss:
    """What training minimises, in units of the standard deviation of each target.

    Attributes:
        kind: ``"mse"``, or ``"huber"``: half the square up to ``delta``, then linear, for
            measurements with outliers.
        delta: Where the loss becomes linear.
    """

    kind: Literal["mse", "huber"] = "mse"
    delta: float = 1.0

    def __post_init__(self) -> None:
        require("loss.delta", 0 < self.delta < math.inf, self.delta, "a positive number")


@dataclass(frozen=True)
class RegressorConfig:
    """Everything that builds and trains a property head.

    Attributes:
        data: What is trained on.
        model: Network.
        loss: What training minimises.
        kind: Always ``"regressor"``.
        seed: Seed of the initialisation.
    """

    data: TargetData
    model: RegressorNet = field(default_factory=RegressorNet)
    loss: RegressionLoss = field(default_factory=RegressionLoss)
    kind: Literal["regressor"] = "regressor"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.data.alphabet == "protein":
            for where, value in (
                ("data.reverse", self.data.reverse),
                ("model.strands", self.model.strands),
            ):
                require(where, not value, value, "false: a protein has no other strand")
