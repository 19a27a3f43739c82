r"""GDSS: score-based generation of graphs by a system of SDEs (Jo et al., ICML 2022, 2202.02514).

Node features :math:`X` (one-hot elements or degrees) and the symmetric adjacency :math:`A` (bond
orders, or 0/1) are corrupted by two independent SDEs on one clock; two networks that see both
estimate the partial scores. In terms of the core this is a product of two Gaussian processes, one
:class:`Dense`, one :class:`Symmetric`. A VP network outputs :math:`-\sigma_t s` (that is, the
noise: :class:`Eps`), a VE network the score itself (:class:`Score`); time is not an input.

Training minimises, with one shared :math:`t \sim U[10^{-5}, 1]` (equation 5 of the paper),

.. math:: \tfrac12 \lVert \sigma_t s_X + z_X \rVert^2 + \tfrac12 \lVert \sigma_t s_A + z_A \rVert^2,

summed over the entries of the padded matrices, so that each pair counts twice.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from graphdiff.core.denoiser import Denoiser, Eps, Parametrization, Score
from graphdiff.core.errors import ConfigError, DataError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.process import Product
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler, Times
from graphdiff.core.schedule import VE, VP, Schedule, SubVP
from graphdiff.core.space import Dense, Space, Symmetric
from graphdiff.core.state import State
from graphdiff.data.graphs import Graphs
from graphdiff.graph.gdss_config import GDSSConfig, SampleConfig, SDEConfig
from graphdiff.graph.nets.encoded import node_encoding
from graphdiff.graph.nets.gdss import EdgeNetwork, GDSSNetwork, NodeNetwork, NodeNetworkGMH
from graphdiff.graph.output import GraphOutput
from graphdiff.graph.sizes import draw_sizes, given_sizes
from graphdiff.task import Data, Samples, Task

if TYPE_CHECKING:
    from graphdiff.finetune.reward import Reward

__all__ = ["GDSSData", "GDSSTask", "build_network", "build_process", "solver_of"]

ENCODED = 8
"""Channels that a positional encoding adds to the node features."""


def schedule_of(sde: SDEConfig) -> Schedule:
    """The schedule of one SDE."""
    if sde.kind == "VE":
        return VE(sde.low, sde.high)
    return (VP if sde.kind == "VP" else SubVP)(sde.low, sde.high)


def build_process(config: GDSSConfig) -> Product:
    """Both components on one clock.

    The priors are those of the paper: standard normal for VP although ``beta`` up to 1 leaves
    signal at ``t = 1``, and ``sigma(1)`` for VE.
    """

    def part(sde: SDEConfig, space: Space) -> Gaussian:
        return Gaussian(schedule_of(sde), space, prior_std=sde.high if sde.kind == "VE" else 1.0)

    return Product({"x": part(config.x, Dense()), "adj": part(config.adj, Symmetric())})


def build_network(config: GDSSConfig) -> GDSSNetwork:
    """Both score networks, initialised from torch's global generator."""
    m, f = config.model, config.data.features
    shape: dict[str, Any] = {
        "linears": m.linears,
        "channels": m.channels,
        "attention": m.attention,
        "heads": m.heads,
    }
    encoding = node_encoding(m.encoding, ENCODED)
    read = f if encoding is None else f + ENCODED
    node = (
        NodeNetwork(read, m.depth, m.hidden, f)
        if m.node == "gcn"
        else NodeNetworkGMH(read, m.depth, m.hidden, outputs=f, **shape)
    )
    edge = EdgeNetwork(read, m.layers, m.hidden, **shape)
    return GDSSNetwork(node, edge, powers=m.channels[0], encoding=encoding)


def solver_of(sample: SampleConfig) -> Any:
    """The solver that a sampling configuration names."""
    from graphdiff.core import plan
    from graphdiff.core.solver import (
        S4,
        EulerMaruyama,
        Langevin,
        PredictorCorrector,
        ReverseDiffusion,
    )

    table = sample.steps if sample.published else None
    if sample.solver == "s4":
        return S4(sample.snr, sample.scale, norm=sample.norm, discretization=table)
    if sample.solver == "pc":
        kind = EulerMaruyama if sample.predictor == "euler" else ReverseDiffusion
        predictor = kind(discretization=table)
        if sample.corrector == "none":
            return predictor
        corrector = Langevin(sample.snr, sample.scale, norm=sample.norm, discretization=table)
        return PredictorCorrector(predictor, corrector)
    factories = {
        "euler": plan.Euler,
        "heun": plan.Heun,
        "ancestral": plan.Ancestral,
        "ddim": lambda: plan.DDIM(eta=sample.eta),
        "dpmpp": lambda: plan.DPMSolverPP(order=sample.order, sde=sample.sde),
        "deis": lambda: plan.DEIS(order=sample.order),
        "unipc": lambda: plan.UniPC(order=sample.order),
    }
    return factories[sample.solver]()


class GDSSData(Data):
    """Training graphs as padded matrices in memory (one byte an entry)."""

    def __init__(
        self, graphs: Graphs, config: GDSSConfig, fingerprint: Mapping[str, Any] | None = None
    ) -> None:
        """Pack ``graphs``.

        Raises:
            DataError: The set is empty, has a graph larger than ``data.nodes``, or node classes
                that ``data.features`` cannot hold.
        """
        if not len(graphs):
            raise DataError(
                f"data set {config.data.name!r} has no graphs to train on; check data.split "
                f"({config.data.split!r}) and the files of the set"
            )
        types, adj, mask = graphs.dense(to=config.data.nodes)
        if not config.data.atoms:  # structure only: the feature is the degree, clipped
            types = np.minimum((adj != 0).sum(-1), config.data.features - 1)
        top = int(types.max())
        if top >= config.data.features:
            raise DataError(
                f"data set {config.data.name!r} has node class {top}, but data.features is "
                f"{config.data.features}; raise it to {top + 1} or name the right data.atoms"
            )
        self.sizes = tuple(np.bincount(graphs.num_nodes, minlength=config.data.nodes + 1).tolist())
        self._features = config.data.features
        self._types = torch.from_numpy(np.where(mask, types, 0).astype(np.int8))
        self._adj = torch.from_numpy(adj.astype(np.int8))
        self._mask = torch.from_numpy(mask)
        self._fingerprint = dict(fingerprint or {})

    def __len__(self) -> int:
        return len(self._adj)

    def batch(self, index: Tensor) -> State:
        """One-hot features ``[b, n, f]`` and adjacency ``[b, n, n]`` as floats."""
        mask = self._mask[index]
        one_hot = torch.nn.functional.one_hot(self._types[index].long(), self._features)
        x = one_hot.float() * mask.unsqueeze(-1)
        return State({"x": x, "adj": self._adj[index].float()}, {"x": mask, "adj": mask}, index)

    def fingerprint(self) -> dict[str, Any]:
        """Name, split, n and sha256 of the training split."""
        return self._fingerprint


@dataclass(frozen=True)
class GDSSTask(Task):
    """GDSS on one data set; see the module docstring."""

    config: GDSSConfig
    kind: ClassVar[str] = "gdss"
    title: ClassVar[str] = "GDSS: graph generation by a system of SDEs"
    citation: ClassVar[str] = """@inproceedings{jo2022gdss,
  title     = {Score-based Generative Modeling of Graphs via the System of Stochastic
               Differential Equations},
  author    = {Jo, Jaehyeong and Lee, Seul and Hwang, Sung Ju},
  booktitle = {International Conference on Machine Learning},
  year      = {2022}
}"""

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, where: str = "config") -> GDSSTask:
        """Validate a plain mapping; errors name the full path of the key."""
        from graphdiff.config import validate

        return cls(validate(GDSSConfig, config, where=where))

    def to_config(self) -> dict[str, Any]:
        """The plain mapping that :meth:`from_config` accepts."""
        return asdict(self.config)

    def build(self) -> Denoiser:
        """A freshly initialised denoiser; the global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            net = build_network(self.config)
        parts: dict[str, Parametrization] = {
            name: Score() if sde.kind == "VE" else Eps()
            for name, sde in (("x", self.config.x), ("adj", self.config.adj))
        }
        return Denoiser(net, build_process(self.config), parts)

    def data(self, root: str | Path | None = None) -> GDSSData:
        """The training split, padded to ``data.nodes``."""
        from graphdiff.data import load

        dataset = load(self.config.data.name, root)
        split = self.config.data.split
        return GDSSData(dataset.split(split), self.config, dataset.fingerprint(split))

    def losses(self, denoiser: Denoiser, clean: State, key: Key) -> dict[str, Tensor]:
        """``x`` and ``adj`` ``[b]``: half the squared noise error, summed as published."""
        process = denoiser.process
        low = self.config.t_min
        t = low + (1 - low) * key.at(stream="time").uniform(1).squeeze(1)
        noisy = process.corrupt(clean, t, key)
        guess = denoiser(noisy, t)
        found = {}
        for name, part in process.parts.items():
            assert isinstance(part, Gaussian)
            error = part.space.sum((guess[name] - clean[name]).square(), clean.mask(name))
            both_orders = 2.0 if name == "adj" else 1.0
            found[name] = 0.5 * both_orders * part.weight(t).to(error) * error
        return found

    def groups(self, denoiser: Denoiser) -> dict[str, list[Parameter]]:
        """Each network is clipped on its own, as two optimisers would; so is an encoding."""
        net = denoiser.net
        assert isinstance(net, GDSSNetwork)
        found = {"x": list(net.x.parameters()), "adj": list(net.adj.parameters())}
        return (
            found if net.encoding is None else {**found, "encoding": [*net.encoding.parameters()]}
        )

    def prepared(self, data: Data) -> GDSSTask:
        """Carries the histogram of node counts into the card."""
        return GDSSTask(self.config.with_sizes(data.sizes)) if isinstance(data, GDSSData) else self

    def sampler(self, **overrides: Any) -> Sampler:
        """The configured sampler; overrides are the fields of :class:`SampleConfig`."""
        sample = self.config.sample.with_overrides(overrides) if overrides else self.config.sample
        kind = sample.grid
        component = "adj" if kind in ("log_snr", "karras") else None
        times = Times(n=sample.steps, kind=kind, end=sample.end, component=component)
        return Sampler(build_process(self.config), solver_of(sample), times)

    def sizes(self, ids: Tensor, seed: int, **cond: Any) -> Tensor:
        """Node counts: ``size`` (one, or one for each id), or drawn from those of training."""
        size = cond.get("size")
        if size is not None:
            return given_sizes(size, len(ids), self.config.data.nodes)
        return draw_sizes(self.config.data.sizes, ids, seed)

    def template(self, ids: Tensor, sizes: Tensor, *, pad: int, **cond: Any) -> State:
        """Zeros ``x [b, pad, f]`` and ``adj [b, pad, pad]`` with the masks of ``sizes``."""
        if unknown := sorted(set(cond) - {"size"}):
            raise ConfigError(f"GDSS takes no condition but size, found {', '.join(unknown)}")
        mask = torch.arange(pad, device=ids.device) < sizes.to(ids.device).unsqueeze(1)
        x = torch.zeros(len(ids), pad, self.config.data.features, device=ids.device)
        adj = torch.zeros(len(ids), pad, pad, device=ids.device)
        return State({"x": x, "adj": adj}, {"x": mask, "adj": mask}, ids)

    # -- results ------------------------------------------------------------------------------

    @property
    def _output(self) -> GraphOutput:
        return GraphOutput(self.config.data.atoms)

    def quantise(self, state: State) -> Graphs:
        """Round a finished state to graphs (GDSS, appendix C).

        Molecules: bond orders at thresholds 0.5, 1.5, 2.5; an atom is the first feature above 0.5,
        a node without one does not exist. Other graphs: an edge where ``adj > 0.5``; nodes without
        edges are dropped.
        """
        x = state["x"].detach().cpu()
        adj = state["adj"].detach().cpu()
        mask = state.mask("x")
        real = torch.ones(x.shape[:2], dtype=torch.bool) if mask is None else mask.cpu()
        top = 3 if self.config.data.atoms else 1
        bonds = torch.floor(adj + 0.5).clamp(0, top).long()
        bonds = torch.where(real.unsqueeze(1) & real.unsqueeze(2), bonds, 0)
        if not self.config.data.atoms:
            return Graphs.from_dense(bonds.numpy(), (bonds.sum(-1) > 0).numpy())
        above = x > 0.5
        kinds = above.int().argmax(-1)
        return Graphs.from_dense(bonds.numpy(), (above.any(-1) & real).numpy(), kinds.numpy())

    def scores(self) -> Mapping[str, Callable[[Any], float]]:
        """Scores of molecules or graphs, see :mod:`graphdiff.graph.rewards`."""
        return self._output.scores()

    def reward_makers(self) -> Mapping[str, Callable[[str], Reward]]:
        """``valid`` for molecules: whether a sample needs no correction."""
        return self._output.reward_makers(self.quantise)

    def item_key(self, item: Any) -> Hashable | None:
        """Canonical SMILES, or the edges of a graph."""
        return self._output.key(item)

    def decode(self, state: State) -> tuple[list[Any], Graphs]:
        """RDKit molecules (corrected, largest fragment) or networkx graphs, and the raw graphs."""
        raw = self.quantise(state)
        return self._output.items(raw), raw

    def join(self, raws: Sequence[Graphs], order: Sequence[int]) -> Graphs:
        """Concatenate packed graphs and reorder them."""
        return self._output.join(raws, order)

    def write(self, samples: Samples, out: Path) -> list[Path]:
        """``samples.smi``, ``samples.sdf`` or ``samples.graphml``, and the raw ``samples.npz``."""
        return self._output.write(samples, out)

    def formats(self) -> Mapping[str, str]:
        """Files that hold every sample, by suffix."""
        return self._output.formats()

    def convert(self, samples: Samples, kind: str) -> Sequence[Any]:
        """Raw samples as ``"rdkit"``, ``"smiles"``, ``"networkx"``, ``"pyg"``, ``"dgl"`` …."""
        return self._output.convert(samples, kind)

    def draw(self, samples: Samples, path: Path, *, count: int = 25) -> Path:
        """A grid of molecules or graphs as PNG."""
        return self._output.draw(samples, path, count=count)
