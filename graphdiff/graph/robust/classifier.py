"""A fitted defence: predictions, the mended graph, and a folder without pickles to keep it in."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.core.errors import CheckpointError
from graphdiff.graph.adjacency import adjacency
from graphdiff.graph.robust.config import StableConfig
from graphdiff.graph.robust.encoder import Encoder
from graphdiff.graph.robust.gcn import Stack

__all__ = ["StableClassifier"]

KIND = "stable"


@dataclass(frozen=True, eq=False)
class StableClassifier:
    """A trained defence of one graph.

    Attributes:
        config: Its settings.
        embedding: Of the nodes ``[n, d]``.
        row: Rows of the refined adjacency; row ``i`` lists whom node ``i`` listens to.
        col: Its columns.
        encoder: The encoder.
        stack: The classifiers, one for each run.
        info: Name, sizes and hashes of the graph with the split that was used, validation accuracy
            (None without validation nodes), epochs.
    """

    config: StableConfig
    embedding: Tensor
    row: NDArray[np.int64]
    col: NDArray[np.int64]
    encoder: Encoder
    stack: Stack
    info: dict[str, Any]

    @property
    def graph(self) -> Any:
        """The refined adjacency, a scipy matrix in compressed rows ``[n, n]``.

        Symmetric with ``config.symmetric``; without, new neighbours do not listen back.
        """
        n = len(self.embedding)
        return sp.coo_matrix((np.ones(len(self.row)), (self.row, self.col)), shape=(n, n)).tocsr()

    def logits(self) -> Tensor:
        """Of every node and run, ``[runs, n, classes]``."""
        n = len(self.embedding)
        operator = adjacency(self.row, self.col, n, alpha=self.config.alpha)
        with torch.no_grad():
            out = self.stack.eval()(operator.to(self.embedding.device), self.embedding)
        return out.transpose(0, 1)

    def probabilities(self) -> Tensor:
        """Of every node, mean over runs, ``[n, classes]``."""
        return self.logits().softmax(2).mean(0)

    def predict(self, nodes: Tensor | None = None) -> Tensor:
        """The most likely class of ``nodes`` (all by default), int64."""
        found = self.probabilities().argmax(1)
        return found if nodes is None else found[nodes]

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write weights, embeddings and graph (safetensors) and a card (json); no pickle.

        Raises:
            CheckpointError: The folder exists, or it cannot be written.
        """
        from graphdiff.train.card import Card
        from graphdiff.train.checkpoint import save_model

        tensors = {f"encoder.{name}": v for name, v in self.encoder.state_dict().items()}
        tensors |= {f"stack.{name}": v for name, v in self.stack.state_dict().items()}
        tensors |= {"embedding": self.embedding, "row": torch.from_numpy(self.row)}
        tensors["col"] = torch.from_numpy(self.col)
        task = {"config": asdict(self.config), "runs": self.stack.runs, "info": self.info}
        save_model(
            folder,
            tensors,
            Card(KIND, task, seed=self.info["seed"], citation="Li et al., 2022, arXiv 2207.00012"),
            overwrite=overwrite,
        )

    @classmethod
    def load(cls, folder: str | Path) -> StableClassifier:
        """Read what :meth:`save` wrote.

        Raises:
            CheckpointError: It is missing, damaged or of another kind.
        """
        from graphdiff.config import validate
        from graphdiff.train.checkpoint import load_weights, read_card

        card = read_card(folder, kind=KIND)
        found = load_weights(folder, "weights")
        try:
            config = validate(StableConfig, card.task["config"], where="config")
            encoder = Encoder(*found["encoder.weight"].shape)
            encoder.load_state_dict(_below(found, "encoder."))
            features, classes = len(found["encoder.bias"]), found["stack.biases.0"].shape[1]
            if config.gcn.hidden:
                classes = found["stack.biases.1"].shape[1]
            stack = Stack(features, classes, config.gcn, card.task["runs"])
            stack.load_state_dict(_below(found, "stack."))
            row, col = found["row"].numpy(), found["col"].numpy()
            parts = (encoder.requires_grad_(False), stack.requires_grad_(False))
            return cls(config, found["embedding"], row, col, *parts, card.task["info"])
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"{folder} is no saved defence of this version: {error}; save it again"
            ) from error


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
