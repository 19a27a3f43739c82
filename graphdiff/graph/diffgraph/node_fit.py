"""Fitting of the node classifiers, with every choice made on the validation nodes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from graphdiff.core.errors import ArgumentError
from graphdiff.core.rng import Key
from graphdiff.data.hetero import HeteroGraph, Split
from graphdiff.graph.diffgraph.denoiser import HeteroDenoiser
from graphdiff.graph.diffgraph.metapath import MetaPath
from graphdiff.graph.diffgraph.node_baselines import fit_linear, validation_score
from graphdiff.graph.diffgraph.node_inputs import Basis
from graphdiff.graph.diffgraph.node_model import (
    Inputs,
    Latents,
    NodeModel,
    draw,
    make_latents,
    seen,
    train_denoiser,
)
from graphdiff.graph.diffgraph.node_published import PublishedModel

if TYPE_CHECKING:
    from graphdiff.graph.diffgraph.nodes import NodeConfig

__all__ = ["fit_diffusion", "fit_published", "log_probs", "rebuild"]

Progress = Callable[[int, int], None] | None


Best = tuple[tuple[float, float], NodeModel, dict[str, Any]]


def fit_diffusion(
    graph: HeteroGraph, paths: Sequence[MetaPath], split: Split, config: NodeConfig, seed: int,
    progress: Progress = None,
) -> tuple[NodeModel, dict[str, Any]]:  # fmt: skip
    """Inputs are chosen with the views alone; then the diffusion is trained, and the head chosen.

    Raises:
        ArgumentError: There is one meta-path only, and no features.
    """
    train, y = _training(graph, split, paths[0].device)
    best: Best | None = None
    chosen: Latents | None = None
    basis: Basis | None = None  # the same for all inputs, and the dearest part of them
    for inputs in config.inputs:
        latents = make_latents(
            graph, paths, train, y, inputs, walks=config.walks, dim=config.dim, hops=config.hops,
            folds=config.folds, seed=seed, basis=basis,
        )  # fmt: skip
        basis = latents.basis
        found = _best_head(graph, split, config, latents, inputs, None)
        if best is None or found[0] > best[0]:
            best, chosen = found, latents
    assert best is not None
    assert chosen is not None
    if config.mode == "diffusion":
        denoiser = train_denoiser(
            chosen, config.denoiser, steps=config.steps, batch=config.batch, lr=config.lr,
            seed=seed, progress=progress,
        )  # fmt: skip
        best = _best_head(graph, split, config, chosen, best[1].inputs, denoiser)
    score, model, choice = best
    return model, {**choice, "val_accuracy": score[0]}


def _best_head(
    graph: HeteroGraph, split: Split, config: NodeConfig, latents: Latents, inputs: Inputs,
    denoiser: HeteroDenoiser | None,
) -> Best:  # fmt: skip
    """The head of the best validation score, over what it sees and its decay."""
    train, y = _training(graph, split, latents.target.device)
    held_z, held_c = latents.held
    drawn = draw(denoiser, latents.source, config.draws)
    held_drawn = draw(denoiser, held_c, config.draws, ids=train)
    widths = [latents.target.shape[1], latents.source.shape[1]]
    best: Best | None = None
    for head_of in config.heads:
        rows = seen(head_of, held_z, held_c, held_drawn)
        every = seen(head_of, latents.target, latents.source, drawn)
        for decay in config.decays:
            head = _fit_head(rows, y, len(graph.classes), decay)
            with torch.no_grad():
                found = head(every).log_softmax(-1)
            score = validation_score(found, graph.labels, split.val)
            if best is None or score > best[0]:
                model = NodeModel(
                    inputs, head_of, train, y, latents.basis, latents.unit, denoiser, head
                )
                choice = {"inputs": inputs, "head": head_of, "decay": decay, "widths": widths}
                best = score, model, choice
    assert best is not None
    return best


def _training(graph: HeteroGraph, split: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    """Training nodes and their classes."""
    train, y = torch.from_numpy(split.train), torch.from_numpy(graph.labels[split.train])
    return train.to(device), y.to(device)


def _fit_head(rows: Tensor, y: Tensor, classes: int, decay: float) -> nn.Linear:
    weight, bias = fit_linear(lambda w: rows @ w, (rows.shape[1], classes), y, decay)
    head = nn.Linear(rows.shape[1], classes, device=rows.device)
    with torch.no_grad():
        head.weight.copy_(weight.t())
        head.bias.copy_(bias)
    return head


def fit_published(
    graph: HeteroGraph, paths: Sequence[MetaPath], split: Split, config: NodeConfig, seed: int,
    progress: Progress = None,
) -> tuple[PublishedModel, dict[str, Any]]:  # fmt: skip
    """Train as published; the step of the best validation score is kept.

    Raises:
        ArgumentError: There is no auxiliary meta-path.
    """
    if len(paths) < 2:
        raise ArgumentError("DiffGraph needs a target and an auxiliary meta-path; found one")
    train, y = _training(graph, split, paths[0].device)
    x = _inputs(graph, paths[0].device)
    width = int(graph.features.shape[1])
    model = PublishedModel(
        paths, width, len(graph.classes), dim=config.dim, layers=config.layers, steps=config.chain,
        seed=seed,
    ).to(paths[0].device)  # fmt: skip
    rule = torch.optim.Adam(model.parameters(), lr=config.lr)
    best: tuple[tuple[float, float], dict[str, Tensor], int] | None = None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout
        for step in range(1, config.steps + 1):
            model.train()
            rule.zero_grad()
            model.loss(x, train, y, Key(seed, train, step=step)).backward()
            rule.step()
            if step % config.every == 0 or step == config.steps:
                model.eval()
                with torch.no_grad():
                    found = model(x).log_softmax(-1)
                score = validation_score(found, graph.labels, split.val)
                if best is None or score > best[0]:
                    best = score, copy.deepcopy(model.state_dict()), step
            if progress is not None:
                progress(step, config.steps)
    if best is None:
        raise ArgumentError("steps is 0: there is nothing to train")
    model.load_state_dict(best[1])
    return model.eval(), {"step": best[2], "val_accuracy": best[0][0]}


def _inputs(graph: HeteroGraph, device: torch.device) -> Tensor | None:
    """Features with rows of sum one, as published; None for the identity."""
    if graph.identity:
        return None
    x = torch.from_numpy(graph.features.toarray()).to(device)
    return x / x.abs().sum(1, keepdim=True).clamp(min=1e-9)


def log_probs(
    model: nn.Module, graph: HeteroGraph, paths: Sequence[MetaPath], config: NodeConfig
) -> Tensor:
    """Log-probabilities of all nodes ``[n, C]``."""
    model.to(paths[0].device).eval()
    with torch.no_grad():
        if isinstance(model, PublishedModel):
            model.paths = tuple(paths)
            found: Tensor = model(_inputs(graph, paths[0].device)).log_softmax(-1)
            return found
        assert isinstance(model, NodeModel)
        latents: Latents = make_latents(
            graph, paths, model.train_nodes, model.train_labels, model.inputs,
            walks=config.walks, dim=config.dim, hops=config.hops, folds=config.folds,
            basis=model.basis, unit=model.unit,
        )  # fmt: skip
        return model.logits(latents, config.draws).log_softmax(-1)


def rebuild(
    weights: Mapping[str, Tensor], config: NodeConfig, schema: Mapping[str, Any],
    choice: Mapping[str, Any],
) -> nn.Module:  # fmt: skip
    """A model from its weights and card.

    Raises:
        KeyError: A weight is missing.
        RuntimeError: A weight has another shape.
    """
    classes = len(schema["classes"])
    if config.mode == "published":
        width = schema["features"] or schema["sizes"][schema["target"]]
        model: nn.Module = PublishedModel(
            (), width, classes, dim=config.dim, layers=config.layers, steps=config.chain
        )
        model.load_state_dict(dict(weights))
        return model.eval()
    basis = None
    if "centre" in weights:
        basis = Basis(weights["centre"], weights["axes"], weights["scale"])
    head_width, denoiser = int(weights["head.weight"].shape[1]), None
    if config.mode == "diffusion":
        d, source = choice["widths"]
        denoiser = HeteroDenoiser(d, source, config.denoiser)
    model = NodeModel(
        choice["inputs"], choice["head"], weights["train_nodes"], weights["train_labels"], basis,
        weights["unit"], denoiser, nn.Linear(head_width, classes),
    )  # fmt: skip
    model.load_state_dict(dict(weights))
    return model.eval()
