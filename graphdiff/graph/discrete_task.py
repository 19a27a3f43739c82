"""Data and tasks of categorical graphs; the mathematics is in :mod:`graphdiff.graph.discrete`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from graphdiff.core.denoiser import Denoiser
from graphdiff.core.errors import ConfigError, DataError
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler, Times
from graphdiff.core.state import State
from graphdiff.data.graphs import Graphs
from graphdiff.graph.discrete import (
    blank,
    build_denoiser,
    build_network,
    build_process,
    cross_entropies,
    graph_memory,
    solver_of,
    to_graphs,
)
from graphdiff.graph.discrete_config import DiscreteConfig
from graphdiff.graph.output import GraphOutput
from graphdiff.graph.sizes import draw_sizes, given_sizes
from graphdiff.task import Data, Samples, Task

if TYPE_CHECKING:
    from graphdiff.finetune.reward import Reward

__all__ = ["DiscreteGraphData", "DiscreteGraphTask", "GraphTask"]


class DiscreteGraphData(Data):
    """Training graphs, packed; a batch is padded to its largest graph.

    Attributes:
        graphs: The graphs.
        facts: The data of the config with all that the graphs say about it: sizes, frequencies.
    """

    def __init__(
        self,
        graphs: Graphs,
        config: DiscreteConfig,
        fingerprint: Mapping[str, Any] | None = None,
        atoms: Sequence[str] = (),
    ) -> None:
        """Check ``graphs`` and count their classes.

        Args:
            graphs: The training graphs.
            config: What it leaves open about its data is read from the graphs.
            fingerprint: What identifies them.
            atoms: Elements of their node classes.

        Raises:
            DataError: The set is empty, or has graphs or classes that the config cannot hold.
        """
        data = config.data
        if not len(graphs):
            raise DataError(
                f"data set {data.name!r} has no graphs to train on; check data.split "
                f"({data.split!r}) and the files of the set"
            )
        kinds = (
            np.ones(len(graphs.edges), np.int8) if graphs.edge_type is None else graphs.edge_type
        )
        bonds = int(kinds.max()) if len(kinds) else 1
        data = replace(
            data,
            nodes=data.nodes or graphs.max_nodes,
            bonds=data.bonds or bonds,
            atoms=data.atoms or tuple(atoms),
        )
        _check("nodes", graphs.max_nodes, data.nodes, data.name)
        _check("bonds", bonds, data.bonds, data.name)
        if tuple(atoms) and data.atoms != tuple(atoms):
            raise DataError(
                f"data set {data.name!r} has the elements {', '.join(atoms)}, in this order, but "
                f"data.atoms is {', '.join(data.atoms)}; leave data.atoms out"
            )
        self.graphs = graphs
        self._fingerprint = dict(fingerprint or {})
        pairs = int((graphs.num_nodes * (graphs.num_nodes - 1) // 2).sum())
        self.facts = replace(
            data,
            sizes=tuple(np.bincount(graphs.num_nodes, minlength=data.nodes + 1).tolist()),
            node_probs=_frequencies(graphs.node_type, len(data.atoms)),
            edge_probs=_frequencies(kinds, data.bonds + 1, zeros=pairs - len(kinds)),
        )

    def __len__(self) -> int:
        return len(self.graphs)

    def batch(self, index: Tensor) -> State:
        """Classes ``adj`` int64 ``[b, n, n]`` and ``x`` ``[b, n]`` with the mask of the nodes."""
        kinds, adj, real = self.graphs.dense(index.numpy())
        mask = torch.from_numpy(real)
        values, masks = {"adj": torch.from_numpy(adj)}, {"adj": mask}
        if self.facts.atoms:
            values["x"] = torch.from_numpy(np.where(real, kinds, 0))
            masks["x"] = mask
        return State(values, masks, index)

    def fingerprint(self) -> dict[str, Any]:
        """Name, split, n and sha256 of the training split."""
        return self._fingerprint


def _check(what: str, found: int, allowed: int, name: str) -> None:
    if found > allowed:
        raise DataError(
            f"data set {name!r} needs data.{what} of at least {found}, found {allowed}; raise it"
        )


def _frequencies(kinds: Any, classes: int, zeros: int = 0) -> tuple[float, ...]:
    """Class frequencies; a class that never occurs counts once, so that it stays possible."""
    if not classes or kinds is None:
        return ()
    counts = np.bincount(kinds, minlength=classes).astype(np.float64)
    counts[0] += zeros
    counts = np.maximum(counts, 1.0)
    return tuple((counts / counts.sum()).tolist())


class GraphTask(Task):
    """What tasks on categorical graphs share: the chain, and what becomes of finished graphs."""

    @property
    @abstractmethod
    def discrete(self) -> DiscreteConfig:
        """Data, noise, network and sampler."""

    @final
    def to_config(self) -> dict[str, Any]:
        """The plain mapping that :meth:`from_config` accepts."""
        return asdict(self.config)

    @final
    def groups(self, denoiser: Denoiser) -> dict[str, list[Parameter]]:
        """One group."""
        return {"net": list(denoiser.net.parameters())}

    @final
    def memory(self, batch: int, *, training: bool) -> int | None:
        """Bytes for a batch of graphs with the node counts of the training set."""
        return graph_memory(self.discrete, batch, training=training)

    @final
    def sampler(self, **overrides: Any) -> Sampler:
        """The configured sampler; overrides are the fields of :class:`JumpConfig`."""
        sample = (
            self.discrete.sample.with_overrides(overrides) if overrides else self.discrete.sample
        )
        times = Times(sample.steps, end=0.0, distortion=sample.distortion)
        return Sampler(build_process(self.discrete), solver_of(sample), times)

    @final
    def quantise(self, state: State) -> Graphs:
        """A finished state as graphs; every masked-in node is a node."""
        return to_graphs(state, self.discrete.data.bonds, len(self.discrete.data.atoms))

    @final
    def scores(self) -> Mapping[str, Callable[[Any], float]]:
        """Scores of molecules or graphs, see :mod:`graphdiff.graph.rewards`."""
        return self._output.scores()

    @final
    def reward_makers(self) -> Mapping[str, Callable[[str], Reward]]:
        """``valid`` for molecules: whether a sample needs no correction."""
        return self._output.reward_makers(self.quantise)

    @final
    def item_key(self, item: Any) -> Hashable | None:
        """Canonical SMILES, or the edges of a graph."""
        return self._output.key(item)

    @final
    def decode(self, state: State) -> tuple[list[Any], Graphs]:
        """RDKit molecules (corrected, largest fragment) or networkx graphs, and the raw graphs."""
        raw = self.quantise(state)
        return self._output.items(raw), raw

    @final
    def join(self, raws: Sequence[Graphs], order: Sequence[int]) -> Graphs:
        """Concatenate packed graphs and reorder them."""
        return self._output.join(raws, order)

    @final
    def write(self, samples: Samples, out: Path) -> list[Path]:
        """``samples.smi``, ``samples.sdf`` or ``samples.graphml``, and the raw ``samples.npz``."""
        return self._output.write(samples, out)

    @final
    def formats(self) -> Mapping[str, str]:
        """Files that hold every sample, by suffix."""
        return self._output.formats()

    @final
    def convert(self, samples: Samples, kind: str) -> Sequence[Any]:
        """Raw samples as ``"rdkit"``, ``"smiles"``, ``"networkx"``, ``"pyg"``, ``"dgl"`` …."""
        return self._output.convert(samples, kind)

    @final
    def draw(self, samples: Samples, path: Path, *, count: int = 25) -> Path:
        """A grid of molecules or graphs as PNG."""
        return self._output.draw(samples, path, count=count)

    @property
    def _output(self) -> GraphOutput:
        return GraphOutput(self.discrete.data.atoms)


@dataclass(frozen=True)
class DiscreteGraphTask(GraphTask):
    """A task on categorical graphs; subclasses name a method and choose its defaults."""

    config: DiscreteConfig

    @property
    @final
    def discrete(self) -> DiscreteConfig:
        """The config itself."""
        return self.config

    @final
    def build(self) -> Denoiser:
        """A freshly initialised denoiser; the global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            net = build_network(self.config)
        return build_denoiser(self.config, net)

    @final
    def data(self, root: str | Path | None = None) -> DiscreteGraphData:
        """The training split."""
        from graphdiff.data import load, names

        data = self.config.data
        # Your own molecules are read with the elements of the model that is fine-tuned on them.
        own = {"atoms": data.atoms} if data.atoms and data.name not in names() else {}
        dataset = load(data.name, root, **own)
        fingerprint = dataset.fingerprint(data.split)
        return DiscreteGraphData(
            dataset.split(data.split), self.config, fingerprint, dataset.atoms or ()
        )

    @final
    def prepared(self, data: Data) -> DiscreteGraphTask:
        """Carries node counts and class frequencies into the card and the noise."""
        if not isinstance(data, DiscreteGraphData):
            return self
        return type(self)(replace(self.config, data=data.facts))

    @final
    def losses(self, denoiser: Denoiser, clean: State, key: Key) -> dict[str, Tensor]:
        """Mean cross-entropy of the node classes and ``loss.edge`` times that of the pairs."""
        return cross_entropies(self.config, denoiser, clean, key)

    @final
    def sizes(self, ids: Tensor, seed: int, **cond: Any) -> Tensor:
        """Node counts: ``size`` (one, or one for each id), or drawn from those of training."""
        size = cond.get("size")
        if size is not None:
            return given_sizes(size, len(ids), self.config.data.nodes)
        return draw_sizes(self.config.data.sizes, ids, seed)

    @final
    def template(self, ids: Tensor, sizes: Tensor, *, pad: int, **cond: Any) -> State:
        """Zeros ``adj [b, pad, pad]`` and ``x [b, pad]`` with the masks of ``sizes``."""
        if unknown := sorted(set(cond) - {"size"}):
            raise ConfigError(
                f"{self.kind} takes no condition but size, found {', '.join(unknown)}"
            )
        return blank(ids, sizes, pad, bool(self.config.data.atoms))
