"""Settings of a signed temporal model."""

from __future__ import annotations

from dataclasses import dataclass

from graphdiff.core.errors import require
from graphdiff.graph.semba.stream import TASKS

__all__ = ["SembaConfig"]


@dataclass(frozen=True)
class SembaConfig:
    """Sizes, inputs and training.

    Attributes:
        task: ``sign``, ``signlink`` or ``weight``; that of the streams.
        memory: Numbers of each of the two memories.
        time: Frequencies of the clock.
        out: Numbers of an embedding.
        heads: Heads of attention; they divide ``out``.
        neighbours: Last events of a node that are attended to.
        hidden: Hidden units of the head.
        history: Whether the head is given the causal history of the pair.
        identity: Whether memories start with noise of the node's own and the head is given products
            of embeddings: needed where sides of a conflict decide; see
            :mod:`graphdiff.graph.semba.memory`.
        balance: Whether classes weigh the same in the loss, however rare.
        dropout: Of attention and head.
        lr: Learning rate of Adam.
        decay: Decoupled weight decay.
        epochs: Passes over the training stream, most.
        patience: Epochs without a better validation score after which training ends.
        online: Learning rate of one step on each batch of :meth:`SignedTemporalModel.predict`
            after it was revealed; 0 = weights stay.
        seed: Of initialisation and dropout.

    Raises:
        ConfigError: A setting is out of range.
    """

    task: str = "sign"
    memory: int = 64
    time: int = 32
    out: int = 64
    heads: int = 8
    neighbours: int = 10
    hidden: int = 64
    history: bool = True
    identity: bool = False
    balance: bool = False
    dropout: float = 0.1
    lr: float = 1e-3
    decay: float = 1e-4
    epochs: int = 10
    patience: int = 3
    online: float = 0.0
    seed: int = 0

    @property
    def identity_seed(self) -> int | None:
        """Of :meth:`graphdiff.graph.semba.memory.State.empty`."""
        return self.seed if self.identity else None

    def __post_init__(self) -> None:
        require("task", self.task in TASKS, self.task, f"one of {', '.join(TASKS)}")
        for name in (
            "memory",
            "time",
            "out",
            "heads",
            "neighbours",
            "hidden",
            "epochs",
            "patience",
        ):
            value = getattr(self, name)
            require(name, value >= 1, value, "1 or more")
        require("heads", self.out % self.heads == 0, self.heads, f"a divisor of out={self.out}")
        require("dropout", 0 <= self.dropout < 1, self.dropout, "0 <= dropout < 1")
        require("lr", self.lr > 0, self.lr, "more than 0")
        for name in ("decay", "online"):
            require(name, getattr(self, name) >= 0, getattr(self, name), "0 or more")
        require(
            "balance", not (self.balance and self.task == "weight"), self.balance,
            "false: weights have no classes",
        )  # fmt: skip
