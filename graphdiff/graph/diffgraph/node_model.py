r"""Node classification by latent diffusion between views: latents, diffusion, head.

Node ``i`` has a *target* view :math:`z_i`, of all meta-paths walked jointly, and a *source*
:math:`c_i`, each meta-path on its own side by side (:mod:`graphdiff.graph.diffgraph.node_inputs`
says of what: features, label scores, or both). A diffusion learns the law of the target given the
source on **all** nodes, labelled or not,

.. math:: \min_\theta \underset{i, t, \varepsilon}{\mathrm{mean}}
          \lVert D_\theta(\alpha_t z_i + \sigma_t \varepsilon, t, c_i) - z_i \rVert^2 / d ,

the cosine schedule and the sampler of the core
(:class:`~graphdiff.graph.diffgraph.denoiser.HeteroDenoiser`). Its draws, a few DDIM steps from
noise, are averaged to :math:`\hat z_i`: what the separate views would let one expect of the joint
one. A multinomial logistic regression on :math:`[z_i, \hat z_i]` (or with :math:`c_i` as well), all
classes weighing alike and :math:`\lambda \lVert W \rVert^2 / 2` added, is the classifier.

Features and scores are fixed and the head is convex, so the seed is only that of the folds and of
the diffusion. Of a training node every part that contains labels comes from labels of other folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from graphdiff.core.errors import ArgumentError
from graphdiff.core.rng import Key
from graphdiff.data.hetero import HeteroGraph
from graphdiff.graph.diffgraph.denoiser import DenoiserConfig, HeteroDenoiser
from graphdiff.graph.diffgraph.metapath import MetaPath
from graphdiff.graph.diffgraph.node_inputs import (
    Basis,
    LabelScores,
    feature_views,
    label_scores,
)

__all__ = [
    "Head",
    "Inputs",
    "Latents",
    "NodeModel",
    "draw",
    "make_latents",
    "seen",
    "train_denoiser",
]

Inputs = Literal["features", "scores", "both"]
Head = Literal["target", "all"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Latents:
    """Views of all nodes as latent vectors.

    Attributes:
        target: ``[n, d]``.
        source: ``[n, c]``.
        held: Target and source of the training nodes without their own labels, ``[k, d]`` and
            ``[k, c]``; what the head is trained on.
        basis: Of the features; None without them.
        unit: Factor of the label scores.
    """

    target: Tensor
    source: Tensor
    held: tuple[Tensor, Tensor]
    basis: Basis | None
    unit: Tensor


def make_latents(
    graph: HeteroGraph, paths: Sequence[MetaPath], train: Tensor, labels: Tensor, inputs: Inputs, *,
    walks: Sequence[tuple[float, int]], dim: int, hops: int, folds: int, seed: int = 0,
    basis: Basis | None = None, unit: Tensor | None = None,
) -> Latents:  # fmt: skip
    """Target and source of every node, see the module docstring.

    Args:
        graph: The graph.
        paths: Its meta-paths.
        train: Training nodes ``[k]``.
        labels: Their classes ``[k]``.
        inputs: What views are made of.
        walks: Chance to walk on and number of rounds, for each set of label scores.
        dim: Largest width of the features.
        hops: Length of walks, where the graph has no features.
        folds: Of the training nodes.
        seed: Of the folds.
        basis: Of the features; found anew by default.
        unit: Factor of the scores; found anew by default.

    Raises:
        ArgumentError: There is no second view.
    """
    if len(paths) < 2 and (graph.identity or inputs == "scores"):
        raise ArgumentError(
            "with one meta-path and no features there is one view only, and nothing to diffuse it "
            "from; give another meta-path, or features"
        )
    joint: list[tuple[Tensor, Tensor]] = []  # of all nodes, and of training nodes as held out
    own: list[tuple[Tensor, Tensor]] = []
    if inputs != "scores":
        together, views = feature_views(graph, paths, train, hops)
        basis = Basis.of([together, *views], dim) if basis is None else basis
        places = [basis(view) for view in (together, *views)]
        joint.append((places[0], places[0][train]))
        own += [(place, place[train]) for place in places[1:]]
    if inputs != "features":
        all_paths = _scores(graph, [list(paths)], train, labels, walks, folds, seed)
        apart = _scores(
            graph, [[path] for path in paths] if len(paths) > 1 else [],
            train, labels, walks, folds, seed,
        )  # fmt: skip
        if unit is None:
            every = torch.cat([scores.all for scores in all_paths + apart])
            unit = 1 / every.square().mean().sqrt().clamp(min=1e-12)
        joint += [(unit * scores.all, unit * scores.held) for scores in all_paths]
        own += [(unit * scores.all, unit * scores.held) for scores in apart]
    z, held_z = (torch.cat(parts, 1) for parts in zip(*joint, strict=True))
    c, held_c = (torch.cat(parts, 1) for parts in zip(*own, strict=True))
    return Latents(z, c, (held_z, held_c), basis, z.new_ones(()) if unit is None else unit)


def _scores(
    graph: HeteroGraph, sets: Sequence[Sequence[MetaPath]], train: Tensor, labels: Tensor,
    walks: Sequence[tuple[float, int]], folds: int, seed: int,
) -> list[LabelScores]:  # fmt: skip
    """Label scores of every set of meta-paths and every kind of walk."""
    return [
        label_scores(
            some, train.cpu().numpy(), labels.cpu().numpy(), len(graph.classes),
            damping=damping, hops=hops, folds=folds, seed=seed,
        )
        for some in sets
        for damping, hops in walks
    ]  # fmt: skip


def train_denoiser(
    latents: Latents, config: DenoiserConfig, *, steps: int, batch: int, lr: float, seed: int,
    progress: Progress | None = None,
) -> HeteroDenoiser:  # fmt: skip
    """Learn the law of the target given the source.

    Args:
        latents: Views of all nodes.
        config: The diffusion.
        steps: Of Adam, the rate falling to zero as a cosine.
        batch: Nodes in a step.
        lr: Rate.
        seed: Of weights, batches and noise.
        progress: Called with steps done and all.
    """
    n, d = latents.target.shape
    made = HeteroDenoiser(d, latents.source.shape[1], config, seed).to(latents.target.device)
    rule = torch.optim.Adam(made.parameters(), lr=lr)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(rule, max(steps, 1))
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout, where the configuration has some
        for step in range(1, steps + 1):
            some = rng.choice(n, min(batch, n), replace=False)
            nodes = torch.from_numpy(some).to(latents.target.device)
            key = Key(seed, nodes, step=step)
            loss = made.estimate(latents.target[nodes], latents.source[nodes], key).loss.mean()
            rule.zero_grad()
            loss.backward()
            rule.step()
            rate.step()
            if progress is not None:
                progress(step, steps)
    return made.eval()


class NodeModel(nn.Module):
    """The trained parts; everything that is needed to predict on the graph.

    Args:
        inputs: What views are made of.
        head_of: What the head sees beside the draws: the target, or all views.
        train: Training nodes ``[k]``.
        labels: Their classes ``[k]``.
        basis: Of the features; None without them.
        unit: Factor of the label scores, 0-dim.
        denoiser: The diffusion; None without one, the ablation.
        head: The classifier.
    """

    train_nodes: Tensor
    train_labels: Tensor
    unit: Tensor

    def __init__(
        self, inputs: Inputs, head_of: Head, train: Tensor, labels: Tensor, basis: Basis | None,
        unit: Tensor, denoiser: HeteroDenoiser | None, head: nn.Linear,
    ) -> None:  # fmt: skip
        super().__init__()
        self.inputs, self.head_of, self.denoiser, self.head = inputs, head_of, denoiser, head
        self.register_buffer("train_nodes", train)
        self.register_buffer("train_labels", labels)
        self.register_buffer("unit", unit)
        for name in ("centre", "axes", "scale"):
            self.register_buffer(name, None if basis is None else getattr(basis, name))

    @property
    def basis(self) -> Basis | None:
        """Of the features."""
        if self.centre is None:
            return None
        return Basis(*(self.get_buffer(name) for name in ("centre", "axes", "scale")))

    def logits(self, latents: Latents, draws: int) -> Tensor:
        """Of all nodes ``[n, C]``."""
        drawn = draw(self.denoiser, latents.source, draws)
        found: Tensor = self.head(seen(self.head_of, latents.target, latents.source, drawn))
        return found


def draw(
    denoiser: HeteroDenoiser | None, source: Tensor, draws: int, ids: Tensor | None = None
) -> Tensor | None:
    """The mean of ``draws`` targets given the source ``[m, c]``; None without a diffusion.

    Args:
        denoiser: The diffusion.
        source: Of ``m`` nodes.
        draws: Number of chains.
        ids: Numbers of the nodes, that choose their noise; by default in order.
    """
    if denoiser is None:
        return None
    with torch.no_grad():
        return torch.stack([denoiser.sample(source, seed=k, ids=ids) for k in range(draws)]).mean(0)


def seen(head_of: Head, target: Tensor, source: Tensor, drawn: Tensor | None) -> Tensor:
    """What the head sees, ``[m, w]``: the target, the source where it is asked for, the draws."""
    parts = [target, *([source] if head_of == "all" else [])]
    return torch.cat(parts if drawn is None else [*parts, drawn], 1)
