r"""Graphs as categorical components: what DiGress, DeFoG and LGGM share.

A graph is ``adj``, one class for each pair of nodes (:class:`Symmetric`; class 0 is no edge), and,
where nodes have classes, ``x`` (:class:`Dense`). Both are corrupted independently on one clock by
continuous-time Markov chains, and a network that sees both predicts the clean class of each. The
loss is the cross-entropy, averaged over the tokens of a graph,

.. math:: L = \mathrm{CE}(x) + \lambda\, \mathrm{CE}(adj), \qquad \lambda = 5
    \text{ (DiGress, Vignac et al., 2023, section 3).}

Graphs of like size are computed together: a batch is cut into groups that waste at most 8 % of
their nodes on padding. A sample's noise does not depend on padding, so the loss does not either.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from graphdiff.core.ctmc import CTMC
from graphdiff.core.denoiser import Bayes, Denoiser, Logits, Parametrization, Subs
from graphdiff.core.errors import ConfigError
from graphdiff.core.jump import AncestralJump, EulerJump, TauLeaping
from graphdiff.core.process import Process, Product
from graphdiff.core.program import Solver
from graphdiff.core.rng import Key
from graphdiff.core.schedule import FlowMatching, Schedule, SquaredCosine
from graphdiff.core.space import Dense, Space, Symmetric
from graphdiff.core.state import MAX_WASTE, State, bucket_by_size
from graphdiff.core.times import distort_time
from graphdiff.data.graphs import Graphs
from graphdiff.graph.discrete_config import DiscreteConfig, JumpConfig, PairNetConfig
from graphdiff.train.memory import per_example, state_bytes

__all__ = [
    "blank",
    "build_denoiser",
    "build_network",
    "build_process",
    "cross_entropies",
    "graph_memory",
    "grouped",
    "solver_of",
    "to_graphs",
]


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


def build_denoiser(config: DiscreteConfig, net: Module) -> Denoiser:
    """``net`` with the process of the config and the meaning of its output."""
    process = build_process(config)
    part: Parametrization = Logits()
    if config.noise.kind == "absorbing":
        part = Subs()
    elif config.loss.output == "bayes":
        part = Bayes()
    return Denoiser(net, process, dict.fromkeys(process.names, part))


def cross_entropies(
    config: DiscreteConfig, denoiser: Denoiser, clean: State, key: Key
) -> dict[str, Tensor]:
    """Mean cross-entropy of the node classes and ``loss.edge`` times that of the pairs, ``[b]``.

    Values of ``clean`` that are no component are conditions of the network.
    """
    t = distort_time(key.at(stream="time").uniform(1).squeeze(1), config.loss.distortion)
    process = denoiser.process
    groups = grouped(clean)
    parts = []
    for index, state in groups:
        noisy, clock = process.corrupt(state, t[index], key.select(index)), t[index]
        cond = {name: v for name, v in state.values.items() if name not in process.parts}
        parts.append(process.loss(denoiser(noisy, clock, cond or None), state, noisy, clock))
    back = torch.argsort(torch.cat([index for index, _ in groups]))
    found = {name: torch.cat([part[name] for part in parts])[back] for name in parts[0]}
    return {**found, "adj": found["adj"] * config.loss.edge}


def grouped(clean: State) -> list[tuple[Tensor, State]]:
    """A padded batch as groups of like size, each trimmed to its largest graph."""
    mask = clean.masks["adj"]
    sizes = mask.sum(1)
    buckets = bucket_by_size(sizes.cpu(), batch=len(sizes))
    groups = []
    for bucket in buckets:
        index = bucket.index.to(mask.device)
        part = clean.select(index)
        n = bucket.size
        values = {**part.values, "adj": part["adj"][:, :n, :n]}
        if "x" in clean.values:
            values["x"] = part["x"][:, :n]
        masks = {name: m[:, :n] for name, m in part.masks.items()}
        groups.append((index, State(values, masks, part.ids)))
    return groups


def graph_memory(config: DiscreteConfig, batch: int, *, training: bool) -> int:
    """Bytes that a batch needs at most.

    Activations grow with the square of the number of nodes, so the batch costs the mean square of
    the node counts of the training set (all graphs of the largest size, if they are unknown), and
    as much more as padding may waste. The backward pass needs gradients of what it works on and
    holds fragments: half as much again (measured 1.35 to 1.45 times what autograd keeps). Without
    gradients only the layer at work keeps anything.
    """
    data, net = config.data, build_network(config)
    n = max((k for k, count in enumerate(data.sizes) if count), default=data.nodes)

    def call(net: Module, b: int) -> Any:
        values = {"adj": torch.zeros(b, n, n, dtype=torch.int64, device="meta")}
        if data.atoms:
            values["x"] = torch.zeros(b, n, dtype=torch.int64, device="meta")
        mask = torch.ones(b, n, dtype=torch.bool, device="meta")
        return net(values, torch.zeros(b, device="meta"), {"adj": mask}, None)

    state, each = state_bytes(net), per_example(net, call)
    if not training:
        return state // 5 + int(1.5 * batch * each / config.model.layers)
    total = sum(data.sizes)
    square = sum(count * k * k for k, count in enumerate(data.sizes)) / max(total, 1)
    share = min(1.0, square / (1 - MAX_WASTE) / n**2) if total else 1.0
    return state + int(1.5 * batch * each * share)


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
    kept = torch.where(adj > bonds, 0, adj).numpy()
    mask = state.mask("adj")
    real = np.ones(kept.shape[:2], bool) if mask is None else mask.cpu().numpy()
    if not atoms:
        return Graphs.from_dense(kept, real)
    kinds = state["x"].detach().cpu()
    return Graphs.from_dense(kept, real, torch.where(kinds >= atoms, 0, kinds).numpy())
