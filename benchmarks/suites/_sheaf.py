"""One training of the sheaf suite, for a process pool: a graph, a method, a split."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from typing import Any

import torch

AUC = ("minesweeper", "tolokers")
DECAYS = (5e-4, 5e-3)  # of the MLP, the better one on validation


@cache
def data(name: str, normalise: bool) -> Any:
    """The graph, its index structures and compressed features, once for a process; and seconds."""
    from graphdiff.data.node_sets import load_nodes
    from graphdiff.graph.node_features import compressed
    from graphdiff.graph.sheaf import Topology

    torch.set_num_threads(1)
    found = load_nodes(name)
    found = found.normalised() if normalise else found
    began = time.process_time()
    topology, x = Topology.of(found.edges, found.n), compressed(found.features)
    return found, topology, x, time.process_time() - began


def method_preset(name: str, method: str) -> Any:
    """Preset of a method: its own, or that of ``diffusion`` with one thing changed."""
    from graphdiff.graph.sheaf.presets import preset

    base = preset(name, "chebyshev" if method in ("poly", "identity poly") else "diffusion")
    if method == "mlp":
        return replace(base, network=replace(base.network, layers=0))
    if method.startswith("identity"):
        return replace(base, network=replace(base.network, maps="identity"))
    if method == "plain":
        return replace(base, network=replace(base.network, adjacency=0))
    return base


def one(name: str, method: str, split: int, epochs: int | None = None) -> dict[str, Any]:
    """Train and score one split."""
    chosen = method_preset(name, method)
    fits = [chosen.fit]
    if method == "mlp":
        fits = [replace(chosen.fit, weight_decay=decay) for decay in DECAYS]
    runs = [_fit(name, chosen, fit, split, epochs) for fit in fits]
    return max(runs, key=lambda run: run["val"])


def _fit(name: str, chosen: Any, fit: Any, split: int, epochs: int | None) -> dict[str, Any]:
    from graphdiff.graph.evaluate.training import fit_nodes
    from graphdiff.graph.sheaf import SheafNetwork

    graph, topology, x, indexing = data(name, chosen.normalise)
    fit = replace(fit, epochs=min(fit.epochs, epochs)) if epochs else fit
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(split)
        net = SheafNetwork(chosen.network, graph.features.shape[1], len(graph.classes), graph.n)
        done = fit_nodes(
            net, lambda: net(x, topology), graph.labels, graph.splits[split], fit,
            groups={"maps": net.map_parameters()},
        )  # fmt: skip
    key = "roc_auc" if name in AUC else "accuracy"
    return {
        "test": done.scores["test"][key], "val": done.scores["val"][key],
        "epochs": done.epochs, "seconds": done.seconds, "indexing": indexing,
        "parameters": sum(p.numel() for p in net.parameters()),
    }  # fmt: skip


def deep(kind: str, depth: int, split: int, epochs: int) -> dict[str, Any]:
    """A GCN or a sheaf network of some depth on Cora."""
    from graphdiff.graph.evaluate.training import FitConfig, fit_nodes
    from graphdiff.graph.sheaf import SheafConfig, SheafNetwork

    graph, topology, x, _ = data("cora", True)
    fit = FitConfig(epochs, 40, 0.01, 5e-4)
    features, classes = graph.features.shape[1], len(graph.classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(split)
        if kind == "gcn":
            from graphdiff.graph.evaluate.baselines import GCN, normalised_adjacency

            hat = normalised_adjacency(graph.edges, graph.n)
            net: Any = GCN(features, classes, hidden=32, layers=depth, dropout=0.5)

            def forward() -> torch.Tensor:
                return net(x, *hat)
        else:
            net = SheafNetwork(SheafConfig(stalk=2, layers=depth, hidden=16), features, classes)

            def forward() -> torch.Tensor:
                return net(x, topology)

        done = fit_nodes(net, forward, graph.labels, graph.splits[split], fit)
    return {"test": done.test, "seconds": done.seconds}


def energies(name: str, depth: int) -> dict[str, Any]:
    """Roughness through untrained networks, mean over five seeds."""
    from graphdiff.graph.sheaf import SheafConfig
    from graphdiff.graph.sheaf.smoothing import gcn_profile, untrained

    graph, topology, _x, _ = data(name, True)
    seeds, curves = range(5), {}
    curves["gcn"] = [gcn_profile(topology, graph.features, depth, 32, s) for s in seeds]
    for maps in ("identity", "diagonal", "bundle", "general"):
        config = SheafConfig(maps, 3, layers=depth, hidden=16, identity_start=True)
        curves[f"sheaf, {maps}"] = untrained(config, topology, graph.features, seeds)
    mean = {k: [sum(c) / len(c) for c in zip(*v, strict=True)] for k, v in curves.items()}
    return {"set": name, "seeds": len(seeds), "curves": mean}


def kernel_ratio(name: str, d: int = 3, h: int = 32, repeats: int = 5) -> dict[str, Any]:
    """CPU seconds of a product and its gradients: kernel, and gather and scatter; and the index."""
    _graph, topology, _x, indexing = data(name, True)
    pattern = topology.stacked(d)
    generator = torch.Generator().manual_seed(0)
    x = torch.empty(topology.n * d, h).normal_(generator=generator).requires_grad_()
    values = torch.empty(pattern.nnz).normal_(generator=generator).requires_grad_()

    def kernel() -> torch.Tensor:
        return pattern.matmul(values, x)

    def gather() -> torch.Tensor:
        zero = torch.zeros(topology.n * d, h)
        return zero.index_add(0, pattern.row, values[:, None] * x[pattern.col])

    found: dict[str, Any] = {"set": name, "entries": pattern.nnz, "channels": h}
    grads = {}
    for label, product in (("kernel", kernel), ("gather", gather)):
        times = []
        for _ in range(repeats):
            began = time.process_time()
            grads[label] = torch.autograd.grad(product().square().sum(), (values, x))
            times.append(time.process_time() - began)
        found[label] = min(times)
    found["indexing"] = indexing
    found["largest_difference"] = max(
        float((a - b).abs().max() / b.abs().max())
        for a, b in zip(grads["kernel"], grads["gather"], strict=True)
    )
    return found
