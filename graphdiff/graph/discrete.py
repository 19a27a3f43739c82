r"""Graphs as categorical components: what DiGress, DeFoG and LGGM share.

A graph is ``adj``, one class for each pair of nodes (:class:`Symmetric`; class 0 is no edge), and,
where nodes have classes, ``x`` (:class:`Dense`). Both are corrupted independently on one clock by
continuous-time Markov chains, and a network that sees both predicts the clean class of each. The
loss is the cross-entropy, averaged over the tokens of a graph,

.. math:: L = \mathrm{CE}(x) + \lambda\, \mathrm{CE}(adj), \qquad \lambda = 5
    \text{ (DiGress, Vignac et al., 2023, section 3).}

Graphs of like size are computed together: a batch is cut into groups that waste at most a fifth of
their nodes on padding. A sample's noise does not depend on padding, so the loss does not either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module, Parameter

from graphdiff.core.ctmc import CTMC
from graphdiff.core.denoiser import Bayes, Denoiser, Logits, Parametrization, Subs
from graphdiff.core.errors import ConfigError, DataError
from graphdiff.core.jump import AncestralJump, EulerJump, TauLeaping
from graphdiff.core.process import Process, Product
from graphdiff.core.program import Solver
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler, Times
from graphdiff.core.schedule import FlowMatching, Schedule, SquaredCosine
from graphdiff.core.space import Dense, Space, Symmetric
from graphdiff.core.state import State, bucket_by_size
from graphdiff.core.times import distort_time
from graphdiff.data.graphs import Graphs
from graphdiff.graph.discrete_config import DiscreteConfig, JumpConfig, PairNetConfig
from graphdiff.graph.output import GraphOutput
from graphdiff.task import Data, Samples, Task

__all__ = ["DiscreteGraphData", "DiscreteGraphTask", "build_network", "build_process"]

MAX_WASTE = 0.2
"""Largest share of padded nodes in a group that is computed together."""


def build_process(config: DiscreteConfig) -> Product:
    """The chains of ``adj`` and, if nodes have classes, ``x``.

    Raises:
        ConfigError: Marginal noise without the frequencies of the training set.
    """
    from graphdiff.core.categorical import Absorbing, Marginal, Uniform

    noise, data = config.noise, config.data
    schedule: Schedule = SquaredCosine() if noise.schedule == "cosine" else FlowMatching()

    def part(classes: int, probs: tuple[float, ...], space: Space) -> CTMC:
        if noise.kind == "uniform":
            return Uniform(schedule, classes, space, "ce")
        if noise.kind == "absorbing":
            return Absorbing(schedule, classes + 1, space, "ce")
        if not probs:
            raise ConfigError(
                "data.edge_probs (or data.node_probs) is empty, so marginal noise is undefined; "
                "train the model first, which fills it in, or choose noise.kind = 'uniform'"
            )
        return Marginal(schedule, probs, space, "ce")

    parts: dict[str, Process] = {"adj": part(data.bonds + 1, data.edge_probs, Symmetric())}
    if data.atoms:
        parts["x"] = part(len(data.atoms), data.node_probs, Dense())
    return Product(parts)


def build_network(config: DiscreteConfig, cond: int = 0) -> Module:
    """The network of the config, initialised from torch's global generator.

    Args:
        config: The configuration.
        cond: Width of a condition vector for each graph.
    """
    hidden = config.noise.kind == "absorbing"
    nodes = len(config.data.atoms) + hidden if config.data.atoms else 0
    edges = config.data.bonds + 1 + hidden
    shape = {k: v for k, v in asdict(config.model).items() if k != "kind"}
    shape |= {"largest": config.data.nodes, "cond": cond, "hidden_class": hidden}
    if isinstance(config.model, PairNetConfig):
        from graphdiff.graph.nets.pair_transformer import PairTransformer

        return PairTransformer(nodes, edges, **shape)
    from graphdiff.graph.nets.digress import DigressNetwork

    return DigressNetwork(nodes, edges, **shape)


def solver_of(sample: JumpConfig) -> Solver:
    """The solver that a sampling configuration names."""
    from graphdiff.core.flow import FlowJump
    from graphdiff.core.remask import FirstHitting, ReMDM

    makers: dict[str, Any] = {
        "flow": lambda: FlowJump(
            sample.eta, sample.omega, step="exact" if sample.exact else "euler"
        ),
        "ancestral": AncestralJump,
        "euler": EulerJump,
        "tau": TauLeaping,
        "remdm": lambda: ReMDM(eta=sample.eta),
        "first_hitting": FirstHitting,
    }
    solver: Solver = makers[sample.solver]()
    return solver


class DiscreteGraphData(Data):
    """Training graphs, packed; a batch is padded to its largest graph."""

    def __init__(
        self, graphs: Graphs, config: DiscreteConfig, fingerprint: Mapping[str, Any] | None = None
    ) -> None:
        """Check ``graphs`` and count their classes.

        Raises:
            DataError: The set is empty, or has graphs or classes that the config cannot hold.
        """
        data = config.data
        if not len(graphs):
            raise DataError(
                f"data set {data.name!r} has no graphs to train on; check data.split "
                f"({data.split!r}) and the files of the set"
            )
        _check("nodes", graphs.max_nodes, data.nodes, data.name)
        if graphs.edge_type is not None and len(graphs.edge_type):
            _check("bonds", int(graphs.edge_type.max()), data.bonds, data.name)
        if data.atoms and graphs.node_type is not None:
            _check("atoms", int(graphs.node_type.max()) + 1, len(data.atoms), data.name)
        self.graphs = graphs
        self._atoms = bool(data.atoms)
        self._fingerprint = dict(fingerprint or {})
        self.sizes = tuple(np.bincount(graphs.num_nodes, minlength=data.nodes + 1).tolist())
        self.node_probs = _frequencies(graphs.node_type, len(data.atoms))
        pairs = int((graphs.num_nodes * (graphs.num_nodes - 1) // 2).sum())
        kinds = (
            np.ones(len(graphs.edges), np.int8) if graphs.edge_type is None else graphs.edge_type
        )
        self.edge_probs = _frequencies(kinds, data.bonds + 1, zeros=pairs - len(kinds))

    def __len__(self) -> int:
        return len(self.graphs)

    def batch(self, index: Tensor) -> State:
        """Classes ``adj`` int64 ``[b, n, n]`` and ``x`` ``[b, n]`` with the mask of the nodes."""
        kinds, adj, real = self.graphs.dense(index.numpy())
        mask = torch.from_numpy(real)
        values, masks = {"adj": torch.from_numpy(adj)}, {"adj": mask}
        if self._atoms:
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


@dataclass(frozen=True)
class DiscreteGraphTask(Task):
    """A task on categorical graphs; subclasses name a method and choose its defaults."""

    config: DiscreteConfig

    @final
    def to_config(self) -> dict[str, Any]:
        """The plain mapping that :meth:`from_config` accepts."""
        return asdict(self.config)

    @final
    def build(self) -> Denoiser:
        """A freshly initialised denoiser; the global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            net = build_network(self.config)
        process = build_process(self.config)
        part: Parametrization = Logits()
        if self.config.noise.kind == "absorbing":
            part = Subs()
        elif self.config.loss.output == "bayes":
            part = Bayes()
        return Denoiser(net, process, dict.fromkeys(process.names, part))

    @final
    def data(self, root: str | Path | None = None) -> DiscreteGraphData:
        """The training split."""
        from graphdiff.data import load

        dataset = load(self.config.data.name, root)
        split = self.config.data.split
        return DiscreteGraphData(dataset.split(split), self.config, dataset.fingerprint(split))

    @final
    def prepared(self, data: Data) -> DiscreteGraphTask:
        """Carries node counts and class frequencies into the card and the noise."""
        if not isinstance(data, DiscreteGraphData):
            return self
        facts = self.config.with_facts(data.sizes, data.node_probs, data.edge_probs)
        return type(self)(facts)

    @final
    def losses(self, denoiser: Denoiser, clean: State, key: Key) -> dict[str, Tensor]:
        """Mean cross-entropy of the node classes and ``loss.edge`` times that of the pairs."""
        t = distort_time(key.at(stream="time").uniform(1).squeeze(1), self.config.loss.distortion)
        groups = grouped(clean)
        parts = []
        for index, state in groups:
            own = key.select(index)
            noisy = denoiser.process.corrupt(state, t[index], own)
            parts.append(denoiser.process.loss(denoiser(noisy, t[index]), state, noisy, t[index]))
        back = torch.argsort(torch.cat([index for index, _ in groups]))
        found = {name: torch.cat([part[name] for part in parts])[back] for name in parts[0]}
        return {**found, "adj": found["adj"] * self.config.loss.edge}

    @final
    def groups(self, denoiser: Denoiser) -> dict[str, list[Parameter]]:
        """One group."""
        return {"net": list(denoiser.net.parameters())}

    @final
    def sampler(self, **overrides: Any) -> Sampler:
        """The configured sampler; overrides are the fields of :class:`JumpConfig`."""
        sample = self.config.sample.with_overrides(overrides) if overrides else self.config.sample
        times = Times(sample.steps, end=0.0, distortion=sample.distortion)
        return Sampler(build_process(self.config), solver_of(sample), times)

    @final
    def sizes(self, ids: Tensor, seed: int) -> Tensor:
        """Node counts drawn from the histogram of the training set, one for each id."""
        return draw_sizes(self.config.data.sizes, ids, seed)

    @final
    def template(self, ids: Tensor, sizes: Tensor, *, pad: int, **cond: Any) -> State:
        """Zeros ``adj [b, pad, pad]`` and ``x [b, pad]`` with the masks of ``sizes``."""
        if cond:
            raise ConfigError(f"{self.kind} takes no condition, found {', '.join(sorted(cond))}")
        return blank(ids, sizes, pad, bool(self.config.data.atoms))

    @final
    def quantise(self, state: State) -> Graphs:
        """A finished state as graphs; every masked-in node is a node."""
        return to_graphs(state, self.config.data.bonds, len(self.config.data.atoms))

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
    def convert(self, samples: Samples, kind: str) -> Sequence[Any]:
        """Raw samples as ``"rdkit"``, ``"smiles"``, ``"networkx"``, ``"pyg"``, ``"dgl"`` …."""
        return self._output.convert(samples, kind)

    @final
    def draw(self, samples: Samples, path: Path, *, count: int = 25) -> Path:
        """A grid of molecules or graphs as PNG."""
        return self._output.draw(samples, path, count=count)

    @property
    def _output(self) -> GraphOutput:
        return GraphOutput(self.config.data.atoms)


def grouped(clean: State) -> list[tuple[Tensor, State]]:
    """A padded batch as groups of like size, each trimmed to its largest graph."""
    mask = clean.masks["adj"]
    sizes = mask.sum(1)
    buckets = bucket_by_size(sizes.cpu(), batch=len(sizes), max_waste=MAX_WASTE)
    groups = []
    for bucket in buckets:
        index = bucket.index.to(mask.device)
        part = clean.select(index)
        n = bucket.size
        values = {"adj": part["adj"][:, :n, :n]}
        if "x" in clean.values:
            values["x"] = part["x"][:, :n]
        groups.append(
            (index, State(values, {k: m[:, :n] for k, m in part.masks.items()}, part.ids))
        )
    return groups


def draw_sizes(histogram: Sequence[int], ids: Tensor, seed: int) -> Tensor:
    """A node count for each id from a histogram of counts, int64 ``[b]``.

    Raises:
        ConfigError: The histogram is empty.
    """
    counts = torch.tensor(histogram, dtype=torch.float64)
    if not len(counts):
        raise ConfigError(
            "data.sizes is empty, so the number of nodes of a sample is unknown; train or "
            "convert the model first (both fill it in), or set data.sizes"
        )
    edges = counts.cumsum(0) / counts.sum()
    u = Key(seed, ids, stream=0).at(stream="size").uniform(1, dtype=torch.float64).squeeze(1)
    return torch.searchsorted(edges.to(u.device), u, right=True).clamp(max=len(counts) - 1)


def blank(ids: Tensor, sizes: Tensor, pad: int, atoms: bool) -> State:
    """A template of classes."""
    mask = torch.arange(pad, device=ids.device) < sizes.to(ids.device).unsqueeze(1)
    values = {"adj": torch.zeros(len(ids), pad, pad, dtype=torch.int64, device=ids.device)}
    if atoms:
        values["x"] = torch.zeros(len(ids), pad, dtype=torch.int64, device=ids.device)
    return State(values, dict.fromkeys(values, mask), ids)


def to_graphs(state: State, bonds: int, atoms: int) -> Graphs:
    """Class tensors as packed graphs; a class that is still masked counts as class 0."""
    adj = state["adj"].detach().cpu()
    adj = torch.where(adj > bonds, 0, adj).numpy()
    mask = state.mask("adj")
    real = np.ones(adj.shape[:2], bool) if mask is None else mask.cpu().numpy()
    if not atoms:
        return Graphs.from_dense(adj, real)
    kinds = state["x"].detach().cpu()
    return Graphs.from_dense(adj, real, torch.where(kinds >= atoms, 0, kinds).numpy())
