r"""Classes of nodes of a heterogeneous graph: fit, predict, save.

>>> from graphdiff.data.hetero import hetero_graph
>>> from graphdiff.graph.diffgraph.nodes import HeteroClassifier, NodeConfig

Modes (:attr:`NodeConfig.mode`):

``diffusion``
    Latent diffusion between views, :mod:`graphdiff.graph.diffgraph.node_model`.
``plain``
    The same without the diffusion, its ablation: the head sees the views alone.
``published``
    DiffGraph as published, :mod:`graphdiff.graph.diffgraph.node_published`.

Whatever is chosen (inputs, views of the head, decay; of ``published`` the epoch) is chosen on the
validation nodes, by accuracy and then by likelihood. Test nodes are not looked at.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from graphdiff.core.errors import ArgumentError, CheckpointError
from graphdiff.data.hetero import HeteroGraph, Split
from graphdiff.graph.diffgraph.denoiser import DenoiserConfig
from graphdiff.graph.diffgraph.metapath import MetaPath, Norm
from graphdiff.graph.diffgraph.node_fit import fit_diffusion, fit_published, log_probs, rebuild
from graphdiff.graph.diffgraph.node_model import Head, Inputs
from graphdiff.graph.diffgraph.steps import Step, target_paths

__all__ = ["HeteroClassifier", "NodeConfig"]

KIND = "diffgraph-nodes"
CITATION = "Li et al., DiffGraph: Heterogeneous graph diffusion model, WSDM 2025, arXiv 2501.02313"


Mode = Literal["diffusion", "plain", "published"]
Paths = tuple[tuple[Step, ...], ...]


@dataclass(frozen=True)
class NodeConfig:
    """How nodes are classified; the defaults are those of the tables in the documentation.

    Attributes:
        mode: See the module docstring.
        paths: Meta-paths in words from the target type to itself, as in ``author-paper-author``,
            the target of ``published`` first; by default those of
            :func:`~graphdiff.graph.diffgraph.steps.default_paths`.
        norm: Normalisation of the meta-paths.
        inputs: What views are made of, tried in order.
        heads: What the head sees, tried in order.
        decays: Weights of the squared norm of the head, tried in order.
        walks: Chance to walk on and number of rounds of each set of label scores.
        folds: Parts of the training nodes, see
            :func:`~graphdiff.graph.diffgraph.node_inputs.label_scores`.
        hops: Length of the walks that replace features where there are none.
        dim: Width of the latent features; of ``published`` the width of everything.
        denoiser: The diffusion of ``diffusion``.
        draws: Chains that are averaged.
        steps: Optimiser steps of the diffusion; of ``published`` those of the whole.
        batch: Nodes in a step of the diffusion.
        lr: Rate of Adam.
        layers: Propagations of ``published``.
        chain: Network calls of the chain of ``published``: 200, or 1 for the same answers.
        every: Steps between looks at the validation nodes, ``published``.
    """

    mode: Mode = "diffusion"
    paths: tuple[str, ...] | None = None
    norm: Norm = "walk"
    inputs: tuple[Inputs, ...] = ("features", "both")
    heads: tuple[Head, ...] = ("target", "all")
    decays: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0)
    walks: tuple[tuple[float, int], ...] = ((0.8, 10), (0.98, 30))
    folds: int = 8
    hops: int = 16
    dim: int = 64
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    draws: int = 2
    steps: int = 200
    batch: int = 512
    lr: float = 3e-3
    layers: int = 3
    chain: int = 1
    every: int = 5

    def __post_init__(self) -> None:
        self._check_names()
        counts = ("folds", "hops", "dim", "draws", "batch", "layers", "chain", "every")
        bad = [name for name in counts if getattr(self, name) < 1]
        if bad or self.steps < 0:
            raise ArgumentError(f"{', '.join(bad) or 'steps'} must be positive; correct the config")
        if not (self.inputs and self.heads and self.decays and self.walks):
            raise ArgumentError("inputs, heads, decays and walks need one entry or more each")
        if min(self.decays) <= 0 or self.lr <= 0:
            raise ArgumentError("decays and lr must be positive; correct the config")

    def _check_names(self) -> None:
        for name in ("paths", "inputs", "heads"):
            if isinstance(value := getattr(self, name), str):
                raise ArgumentError(f"{name} is a text, expected a tuple: write ({value!r},)")
        known = {"mode": Mode, "norm": Norm, "inputs": Inputs, "heads": Head}
        for name, choices in known.items():
            value = getattr(self, name)
            for one in value if name in ("inputs", "heads") else (value,):
                if one not in get_args(choices):
                    raise ArgumentError(
                        f"{name}: found {one!r}, expected {', '.join(get_args(choices))}"
                    )

    @classmethod
    def published(cls, paths: Sequence[str] | None = None, **changes: Any) -> NodeConfig:
        """The settings of the published method, see :mod:`.node_published` for what differs.

        Args:
            paths: Meta-paths, the target first.
            **changes: Other fields.
        """
        named: Any = paths if paths is None or isinstance(paths, str) else tuple(paths)
        settings: dict[str, Any] = {"steps": 100, **changes}
        return cls(mode="published", paths=named, norm="symmetric", **settings)


@dataclass(frozen=True)
class HeteroClassifier:
    """A fitted classifier of the nodes of one graph.

    It is transductive: it predicts on the graph it was fitted on, or on one of the same types and
    sizes whose target nodes have the same ids in the same order (edges may have changed; a relation
    that has none left says nothing). What is kept are weights, meta-paths, the training nodes and
    their labels; the graph is not.

    Attributes:
        config: How it was fitted.
        model: The trained parts.
        schema: Target, sizes, classes and features of the graph, and a checksum of the ids of its
            target nodes.
        choice: What was chosen, with its accuracy on the validation nodes.
        paths: Steps of the meta-paths, as they were found in fitting; none in a folder that was
            saved before they were kept, and then found again.
    """

    config: NodeConfig
    model: nn.Module
    schema: Mapping[str, Any]
    choice: Mapping[str, Any]
    paths: Paths = ()

    @classmethod
    def fit(
        cls, data: HeteroGraph, config: NodeConfig | None = None, *,
        split: str | int | Split | None = None, seed: int = 0, device: str | torch.device = "cpu",
        progress: Callable[[int, int], None] | None = None,
    ) -> HeteroClassifier:  # fmt: skip
        """Fit on the training nodes, choose on the validation nodes.

        Args:
            data: The graph, see :func:`graphdiff.data.hetero.hetero_graph`.
            config: How.
            split: A split, or the name of one of the graph; the only one by default.
            seed: Of folds, weights, batches and noise.
            device: Where to compute.
            progress: Called with optimiser steps done and all of the present training.

        Raises:
            ArgumentError: There is no such split or meta-path, or only one view.
            DataError: The split is none of this graph.
        """
        config = NodeConfig() if config is None else config
        parts, paths = data.split(split), target_paths(data, config.paths)
        fit = fit_published if config.mode == "published" else fit_diffusion
        made = [MetaPath.of(data, path, config.norm).to(device) for path in paths]
        model, choice = fit(data, made, parts, config, seed, progress)
        return cls(config, model, _schema(data), {**choice, "seed": seed}, paths)

    def log_probs(self, data: HeteroGraph, device: str | torch.device = "cpu") -> Tensor:
        """Log-probabilities of the classes of all target nodes, ``[n, C]``, on the CPU.

        Args:
            data: The graph.
            device: Where to compute.

        Raises:
            ArgumentError: It is not of the types, sizes and ids of the one that was fitted on, or
                lacks a relation.
        """
        self._check_schema(_schema(data))
        paths = self.paths or target_paths(data, self.config.paths)
        made = [MetaPath.of(data, path, self.config.norm).to(device) for path in paths]
        return log_probs(self.model, data, made, self.config).cpu()

    def _check_schema(self, found: Mapping[str, Any]) -> None:
        differs = [key for key, value in self.schema.items() if found[key] != value]
        if differs == ["ids"]:
            raise ArgumentError(
                f"the {found['target']!r} nodes of this graph have other ids than those that were "
                "fitted on, or another order; number them alike, with nodes= of hetero_graph"
            )
        differs = [key for key in differs if key != "ids"]
        if differs:
            raise ArgumentError(
                f"this classifier is of a graph with other {', '.join(differs)}: "
                f"{[self.schema[key] for key in differs]}, found {[found[key] for key in differs]}"
            )

    def predict(self, data: HeteroGraph) -> NDArray[np.int64]:
        """Classes of all target nodes ``[n]``; their names are ``data.classes``."""
        found: NDArray[np.int64] = self.log_probs(data).argmax(1).numpy()
        return found

    def predict_proba(self, data: HeteroGraph) -> NDArray[np.float32]:
        """Probabilities of the classes ``[n, C]``."""
        found: NDArray[np.float32] = self.log_probs(data).exp().numpy()
        return found

    def save(self, folder: str | Path, *, overwrite: bool = False, **card: Any) -> None:
        """Write a model folder: ``weights.safetensors`` and ``card.json``, no pickle.

        Args:
            folder: To make.
            overwrite: Replace a folder of that name.
            **card: Fields of :class:`graphdiff.train.card.Card`, such as ``licence`` or ``notes``.

        Raises:
            CheckpointError: The folder exists, or cannot be written.
        """
        from graphdiff.train.checkpoint import Card, save_model

        task = {
            "config": asdict(self.config), "schema": dict(self.schema), "choice": dict(self.choice),
            "paths": [[asdict(step) for step in path] for path in self.paths],
        }  # fmt: skip
        filled = {"seed": self.choice["seed"], "citation": CITATION, **card}
        save_model(folder, self.model.state_dict(), Card(KIND, task, **filled), overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | Path) -> HeteroClassifier:
        """Read a model folder; nothing in it is executed.

        Raises:
            CheckpointError: It is missing, damaged, or of another kind.
        """
        from graphdiff.config import validate
        from graphdiff.train.checkpoint import load_weights, read_card

        card = read_card(folder, kind=KIND)
        weights = load_weights(folder)
        missing = {"config", "schema", "choice"} - set(card.task)
        if missing:
            raise CheckpointError(f"{folder}: the card lacks {', '.join(sorted(missing))}")
        config = validate(NodeConfig, card.task["config"], where="card.task.config")
        schema, choice = card.task["schema"], card.task["choice"]
        kept = validate(_Kept, {"paths": card.task.get("paths", [])}, where="card.task")
        try:
            model = rebuild(weights, config, schema, choice)
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"{folder}: the weights are not those of this configuration ({error})"
            ) from error
        return cls(config, model, schema, choice, kept.paths)


@dataclass(frozen=True)
class _Kept:
    """Meta-paths, as a card has them."""

    paths: Paths


def _schema(data: HeteroGraph) -> dict[str, Any]:
    """What a graph must share with the one that was fitted on; plain values."""
    ids = data.names.get(data.target, np.arange(data.n))
    return {
        "target": data.target,
        "sizes": {kind: data.sizes[kind] for kind in sorted(data.sizes)},
        "classes": list(data.classes),
        "features": None if data.identity else int(data.features.shape[1]),
        "ids": hashlib.sha256(json.dumps([str(name) for name in ids]).encode()).hexdigest(),
    }
