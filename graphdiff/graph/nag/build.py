r"""Processes, networks and encodings of architectures: what a config says, as parts of the core.

Types are one component, ``ops`` on :class:`Dense`; where wires are searched they are a second,
``adj`` on :class:`Upper`. Continuous types are one-hot rows scaled to :math:`\{-1, 1\}`, the blank
type being the row of all :math:`-1`; a sample's place has the type of its only positive entry and
is undecided if there are several, or none without a blank type (An et al., 2024, threshold the
unscaled entries at one half, which is the same).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from graphdiff.core.categorical import Absorbing, Marginal, Uniform
from graphdiff.core.denoiser import EDM, Denoiser, Eps, Logits, Parametrization, Subs
from graphdiff.core.errors import ConfigError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.process import Process, Product
from graphdiff.core.sampler import Sampler, Times
from graphdiff.core.schedule import VE, FlowMatching
from graphdiff.core.space import Dense, Space, Upper
from graphdiff.core.state import State
from graphdiff.graph.nag.config import CATEConfig, DAGConfig, JumpSampling, NAGConfig
from graphdiff.graph.nag.space import Architectures, SearchSpace
from graphdiff.graph.nag.spaces import find_space

__all__ = ["build_denoiser", "build_process", "build_sampler", "channels", "decode", "encode"]


def channels(space: SearchSpace) -> int:
    """Entries of a continuous row: the types, without the blank one."""
    return len(space.types) - (space.blank is not None)


def build_process(config: NAGConfig) -> Product:
    """Noise of the types, and of the wires where they are searched.

    Raises:
        ConfigError: Marginal noise before the frequencies are known.
    """
    space, noise, data = find_space(config.data.space), config.noise, config.data

    def part(classes: int, probs: tuple[float, ...], where: Space) -> Process:
        if noise.kind == "ve":
            return Gaussian(VE(noise.low, noise.high), where, noise.high, weighting="edm")
        if noise.kind == "absorbing":
            return Absorbing(FlowMatching(), classes + 1, where, "ce")
        if noise.kind == "uniform":
            return Uniform(FlowMatching(), classes, where, "ce")
        if not probs:
            raise ConfigError(
                "data.probs is empty, so marginal noise is undefined; train the model first, which "
                "fills it in, or choose noise.kind = 'uniform'"
            )
        return Marginal(FlowMatching(), probs, where, "ce")

    parts = {"ops": part(len(space.types), data.probs, Dense())}
    if space.wiring is None:
        parts["adj"] = part(2, data.wire_probs, Upper())
    return Product(parts)


def build_network(config: NAGConfig) -> nn.Module:
    """The network, initialised from torch's global generator.

    Raises:
        ConfigError: The published network for a space whose wires are searched.
    """
    space, noise = find_space(config.data.space), config.noise
    hidden = noise.kind == "absorbing"
    wide = channels(space) if noise.continuous else len(space.types) + hidden
    fixed = None if space.wiring is None else torch.from_numpy(space.wiring)
    shape = {k: v for k, v in vars(config.model).items() if k != "kind"}
    if isinstance(config.model, CATEConfig):
        from graphdiff.graph.nets.cate import CATE

        if fixed is None:
            raise ConfigError(
                f"model.kind 'cate' needs fixed wires, but those of {space.name!r} are searched; "
                "choose model.kind = 'dag'"
            )
        return CATE(fixed, wide, wide, **shape)
    from graphdiff.graph.nets.dag import DAGTransformer

    assert isinstance(config.model, DAGConfig)
    wires = 0 if fixed is not None else 1 if noise.continuous else 2 + hidden
    shape |= {"wires": wires, "wires_out": wires, "fixed": fixed}
    return DAGTransformer(space.nodes, wide, wide, **shape)


def build_denoiser(config: NAGConfig) -> Denoiser:
    """Network and process; the published network predicts noise, ours is preconditioned."""
    process = build_process(config)
    part: Parametrization = Logits()
    if config.noise.kind == "absorbing":
        part = Subs()
    elif config.noise.continuous:
        part = Eps() if isinstance(config.model, CATEConfig) else EDM()
    return Denoiser(build_network(config), process, dict.fromkeys(process.names, part))


def build_sampler(config: NAGConfig, overrides: dict[str, Any]) -> Sampler:
    """The configured sampler, with overrides of its fields."""
    sample = config.sampling(overrides)
    process = build_process(config)
    if isinstance(sample, JumpSampling):
        from graphdiff.graph.discrete import solver_of

        times = Times(sample.steps, end=0.0, distortion=sample.distortion)
        return Sampler(process, solver_of(sample), times)
    from graphdiff.graph.gdss import solver_of as solver_of_normal

    component = "ops" if sample.grid in ("log_snr", "karras") else None
    times = Times(n=sample.steps, kind=sample.grid, end=sample.end, component=component)
    return Sampler(process, solver_of_normal(sample), times)


def encode(space: SearchSpace, archs: Architectures, ids: Tensor, *, continuous: bool) -> State:
    """Architectures as a clean state.

    Args:
        space: Their space.
        archs: ``b`` of them, all decided.
        ids: Ids ``[b]``.
        continuous: Numbers in place of classes.
    """
    ops = torch.from_numpy(archs.ops.astype(np.int64))
    upper = torch.from_numpy(archs.wires)
    if continuous:
        hot = nn.functional.one_hot(ops, len(space.types)).float()
        kept = [k for k in range(len(space.types)) if k != space.blank]
        values = {"ops": 2 * hot[..., kept] - 1, "adj": 2 * upper.float() - 1}
        values["adj"] = values["adj"].triu(1)
    else:
        values = {"ops": ops, "adj": upper.long()}
    if space.wiring is not None:
        del values["adj"]
    return State(values, {}, ids)


def decode(space: SearchSpace, state: State) -> Architectures:
    """A finished state as architectures; a place that is masked or undecided has type -1.

    Class weights, as differentiable steps hold them, count by their likeliest class.
    """
    found = state["ops"].detach().cpu()
    types = len(space.types)
    if not found.is_floating_point():
        ops = torch.where(found < types, found, -1)
    elif found.shape[-1] == channels(space) and bool((found < 0).any()):
        above = found > 0
        kept = torch.tensor([k for k in range(types) if k != space.blank])
        nothing = -1 if space.blank is None else space.blank
        ops = torch.where(above.sum(-1) == 1, kept[above.int().argmax(-1)], -1)
        ops = torch.where(above.any(-1), ops, nothing)
    else:
        ops = found[..., :types].argmax(-1)
    numbers = ops.numpy().astype(np.int8)
    if space.wiring is not None:
        return space.wired(numbers)
    adj = state["adj"].detach().cpu()
    if adj.ndim == 4:
        adj = adj[..., :2].argmax(-1)
    there = adj > 0 if adj.is_floating_point() else adj == 1
    return space.wired(numbers, there.numpy())
