"""What the suite ``stable`` measures, piece by piece; and, run as a program, its scale row."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "RUNS",
    "attack_part",
    "baseline_part",
    "diffusion_part",
    "methods",
    "retrained_part",
    "scale_row",
    "stable_part",
    "stats",
    "untold_part",
]

RUNS = (4, 3, 3)
"""Of the classifier, for each encoder: ten in all."""
STARTS = (0.2, 0.5, 0.8)


def quickly(config: Any, quick: bool) -> Any:
    """A config whose trainings are a matter of a second."""
    if not quick:
        return config
    encoder = replace(config.encoder, hidden=32, epochs=5)
    return replace(config, encoder=encoder, gcn=replace(config.gcn, epochs=5))


def stats(accuracies: Sequence[float]) -> dict[str, Any]:
    """Mean in %, 95 % interval and the values behind it."""
    from graphdiff.graph.evaluate import summary

    if len(accuracies) < 2:
        return {"accuracy": 100 * accuracies[0], "low": None, "high": None, "n": 1}
    s = summary([100 * a for a in accuracies])
    return {"accuracy": s.mean, "low": s.low, "high": s.high, "n": s.n}


def methods(name: str) -> tuple[str, ...]:
    """Baselines that apply: indicators of nodes (polblogs) are no words."""
    from graphdiff.graph.robust.baselines import BASELINES

    return ("gcn", "svd", "sgc", "labels") if name == "polblogs" else BASELINES


def baseline_part(name: str, rate: float, method: str, quick: bool) -> dict[str, Any]:
    """Ten runs of one baseline on one poisoned graph."""
    from graphdiff.data.poisoned import load_poisoned
    from graphdiff.graph.robust.baselines import fit_baseline
    from graphdiff.graph.robust.gcn import GCNConfig

    began = time.process_time()
    told = GCNConfig(epochs=5) if quick else GCNConfig()
    base = fit_baseline(method, load_poisoned(name, rate), runs=2 if quick else 10, config=told)
    found = {"runs": base.accuracy, "val": base.val_accuracy, "chosen": base.chosen}
    return {**found, "seconds": time.process_time() - began}


def _settled(name: str, rate: float, quick: bool) -> tuple[Any, Any]:
    from graphdiff.data.poisoned import load_poisoned
    from graphdiff.graph.robust.config import published

    return load_poisoned(name, rate), quickly(published(name, rate), quick)


def _embedded(folder: Path, name: str, rate: float, seed: int, quick: bool) -> Any:
    """What an encoder makes of a graph, kept in ``folder`` for the parts that share it."""
    import torch

    from graphdiff.graph.robust.stable import Embedded, represent

    path = folder / f"embedded-{name}-{rate:g}-{seed}.npz"
    data, config = _settled(name, rate, quick)
    if not path.exists():
        held = represent(data, config, seed=seed)
        fresh = path.with_suffix(".part.npz")
        np.savez(
            fresh, edges=held.edges, dropped=held.dropped, losses=held.losses,
            embedding=held.embedding.numpy(),
        )  # fmt: skip
        fresh.replace(path)
    with np.load(path, allow_pickle=False) as kept:
        embedding = torch.from_numpy(kept["embedding"])
        losses = kept["losses"].tolist()
        return Embedded(kept["edges"], int(kept["dropped"]), embedding, None, losses)  # type: ignore[arg-type]


def stable_part(folder: Path, name: str, rate: float, seed: int, quick: bool) -> dict[str, Any]:
    """The published defence with one encoder; with the first, parts of it as well."""
    from graphdiff.graph.adjacency import both_ways
    from graphdiff.graph.robust.refine import refine
    from graphdiff.graph.robust.stable import classify

    began = time.process_time()
    held = _embedded(folder, name, rate, seed, quick)
    data, config = _settled(name, rate, quick)
    found: dict[str, Any] = {"encoder_epochs": len(held.losses)}
    for way in ("stable", "stable, both ways", "embeddings only")[: 3 if seed == 0 else 1]:
        both = way == "stable, both ways"
        pairs = refine(held.edges, held.embedding, cosine=config.cosine, k=config.k, symmetric=both)
        if way == "embeddings only":
            pairs = both_ways(held.edges)
        runs = 2 if quick else RUNS[seed]
        fitted = classify(data, data.splits[0], held, pairs, config, runs=runs, seed=seed)
        found[way] = _noted(fitted, data)
    return {**found, "seconds": time.process_time() - began}


def untold_part(name: str, rate: float, seed: int, quick: bool) -> dict[str, Any]:
    """The defence that knows nothing of the attack: one encoder, settings chosen on validation."""
    from graphdiff.data.poisoned import load_poisoned
    from graphdiff.graph.robust.config import StableConfig
    from graphdiff.graph.robust.refine import refine
    from graphdiff.graph.robust.stable import choose, classify

    began = time.process_time()
    data, base = load_poisoned(name, rate), quickly(StableConfig(symmetric=True), quick)
    made = choose(data, base=base, seed=seed, runs=2 if quick else 4)
    config, held = made.config, made.embedded
    pairs = refine(held.edges, held.embedding, cosine=config.cosine, k=config.k, symmetric=True)
    runs = 2 if quick else RUNS[seed]
    fitted = classify(data, data.splits[0], held, pairs, config, runs=runs, seed=seed)
    chosen = {"jaccard": config.jaccard, "k": config.k, "alpha": config.alpha}
    found = {**_noted(fitted, data), "chosen": chosen, "tried": made.tried}
    return {**found, "seconds": time.process_time() - began}


def diffusion_part(
    folder: Path, name: str, rate: float, seed: int, start: float | None, quick: bool
) -> dict[str, Any]:
    """The diffusion of edges on the embeddings of one encoder.

    With ``start=None`` the time of the given graph is chosen on validation.
    """
    from graphdiff.graph.robust.denoise import DenoiseConfig, fit_edge_denoiser

    began = time.process_time()
    held = _embedded(folder, name, rate, seed, quick)
    data, config = _settled(name, rate, quick)
    few = DenoiseConfig(steps=3, chains=2) if quick else DenoiseConfig()
    denoiser = fit_edge_denoiser(data, held.embedding, few, seed=seed)
    told = (data, held, denoiser, config)
    if start is None:
        tried = {s: _diffused(*told, s, 2, seed).val_accuracy.mean() for s in STARTS}
        start = max(tried, key=lambda s: float(tried[s]))
    found = _noted(_diffused(*told, start, 2 if quick else RUNS[seed], seed), data)
    return {**found, "chosen": start, "seconds": time.process_time() - began}


def _noted(fitted: Any, data: Any) -> dict[str, Any]:
    runs = fitted.accuracy(data.labels, data.splits[0].test)
    return {"runs": runs, "val": float(fitted.val_accuracy.mean())}


def _diffused(
    data: Any, held: Any, denoiser: Any, config: Any, start: float, runs: int, seed: int
) -> Any:
    """The classifier of the defence, on the graph that the reverse chain ends in."""
    from graphdiff.graph.adjacency import adjacency
    from graphdiff.graph.robust.gcn import fit_gcn

    row, col, weight = denoiser.graph(denoiser.weights(start, seed=seed))
    operator = adjacency(row, col, data.n, alpha=config.alpha, weight=weight)
    told = (held.embedding, data.labels, data.splits[0], config.gcn)
    return fit_gcn(operator, *told, runs=runs, seed=seed)


# -- attacks --------------------------------------------------------------------------------------


def attack_part(folder: Path, name: str, rate: float, victim: str, quick: bool) -> dict[str, Any]:
    """The clean graph attacked with full knowledge of one victim, the plain network or the defence.

    Both victims are asked without retraining (evasion); the flips are kept in ``folder``.
    """
    from graphdiff.graph.robust.attack import AttackConfig, attack
    from graphdiff.graph.robust.stable import Stable
    from graphdiff.graph.robust.victims import PlainVictim, StableVictim

    began = time.process_time()
    data, config = _clean(name, quick)
    how = AttackConfig(steps=3, block=500) if quick else AttackConfig(steps=150)
    gcn, model = _plain(data, quick), Stable(config).fit(data, runs=3)
    victims = {"gcn": PlainVictim(data, gcn.stack), "stable": StableVictim(data, model)}
    nodes = data.splits[0].test
    found = attack(data, victims[victim], nodes, int(rate * data.edges.shape[1]), how)
    np.save(folder / f"flips-{name}-{rate:g}-{victim}.npy", found.flips)
    edges = found.data.edges.numpy()
    return {
        "added": found.added, "removed": found.flips.shape[1] - found.added,
        "loss": [found.before, found.after],
        "evasion": {w: _asked(v, edges, data, nodes) for w, v in victims.items()},
        "clean": {"gcn": gcn.accuracy(data.labels, nodes), "stable": _right(model, data)},
        "seconds": time.process_time() - began,
    }  # fmt: skip


def retrained_part(
    folder: Path, name: str, rate: float, victim: str, seed: int, quick: bool
) -> dict[str, Any]:
    """Both classifiers learnt from scratch on an attacked graph (poisoning)."""
    from graphdiff.graph.robust.attack import flip
    from graphdiff.graph.robust.stable import Stable

    began = time.process_time()
    data, config = _clean(name, quick)
    poisoned = flip(data, np.load(folder / f"flips-{name}-{rate:g}-{victim}.npy"))
    model = Stable(config).fit(poisoned, runs=3, seed=seed)
    plain = _plain(poisoned, quick, seed).accuracy(data.labels, data.splits[0].test)
    seconds = time.process_time() - began
    return {"gcn": plain, "stable": _right(model, data), "seconds": seconds}


def _clean(name: str, quick: bool) -> tuple[Any, Any]:
    """The graph before any attack, and one setting of the defence for all of them."""
    from graphdiff.data.poisoned import load_poisoned
    from graphdiff.graph.robust.config import StableConfig

    return load_poisoned(name, 0.0), quickly(StableConfig(), quick)


def _plain(data: Any, quick: bool, seed: int = 0) -> Any:
    from graphdiff.graph.adjacency import adjacency, both_ways
    from graphdiff.graph.robust.gcn import GCNConfig, fit_gcn
    from graphdiff.graph.robust.stable import sparse_features

    told = GCNConfig(epochs=5) if quick else GCNConfig()
    operator = adjacency(*both_ways(data.edges.numpy()), data.n)
    inputs = sparse_features(data.features)[0]
    return fit_gcn(operator, inputs, data.labels, data.splits[0], told, runs=3, seed=seed)


def _right(model: Any, data: Any) -> list[float]:
    test = data.splits[0].test
    hit = model.logits()[:, test].argmax(2) == data.labels[test]
    return [float(x) for x in hit.double().mean(1)]


def _asked(victim: Any, edges: Any, data: Any, nodes: Any) -> float:
    import torch

    with torch.no_grad():
        out = victim.on(edges)(torch.ones(edges.shape[1]))
    return float((out[nodes].argmax(1) == data.labels[nodes]).double().mean())


# -- scale ----------------------------------------------------------------------------------------


def scale_row(nodes: int, hidden: int) -> dict[str, Any]:
    """The whole defence on a synthetic graph, in a process of its own: times, largest memory."""
    here = Path(__file__).resolve()
    done = subprocess.run(
        [sys.executable, str(here), str(nodes), str(hidden)],
        capture_output=True, text=True, check=True, cwd=here.parents[2],
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _synthetic(nodes: int) -> Any:
    """Five classes, four edges for each node, half of them inside of its class, 300 words."""
    from graphdiff.data.nodes import NodeData, random_splits

    rng = np.random.default_rng(0)
    y = np.arange(nodes) % 5
    u = np.tile(np.arange(nodes), 4)
    v = rng.integers(0, nodes, 4 * nodes)
    v[: 2 * nodes] = v[: 2 * nodes] // 5 * 5 + y[u[: 2 * nodes]]
    words = np.zeros((nodes, 300), np.float32)
    words[np.arange(nodes)[:, None], rng.integers(0, 60, (nodes, 8)) * 5 + y[:, None]] = 1
    data = NodeData.of("synthetic", np.stack([u, v % nodes]), words, y)
    return replace(data, splits=random_splits(data.labels, 1, (0.1, 0.1)))


def _scale(nodes: int, hidden: int) -> dict[str, Any]:
    """Five epochs of encoder and classifier each, and all similar nodes; CPU seconds of each."""
    import torch

    from graphdiff.graph.robust.config import StableConfig
    from graphdiff.graph.robust.encoder import EncoderConfig
    from graphdiff.graph.robust.gcn import GCNConfig
    from graphdiff.graph.robust.refine import refine
    from graphdiff.graph.robust.stable import classify, represent

    torch.set_num_threads(1)
    encoder, gcn = EncoderConfig(hidden=hidden, epochs=5), GCNConfig(epochs=5)
    config = StableConfig(jaccard=0.01, encoder=encoder, gcn=gcn)
    data = _synthetic(nodes)
    clock = [time.process_time()]
    held = represent(data, config)
    clock.append(time.process_time())
    pairs = refine(held.edges, held.embedding, cosine=config.cosine, k=config.k)
    clock.append(time.process_time())
    classify(data, data.splits[0], held, pairs, config)
    clock.append(time.process_time())
    return {
        "nodes": nodes, "edges": data.edges.shape[1], "width": hidden,
        "encoder_s": clock[1] - clock[0], "similar_s": clock[2] - clock[1],
        "classifier_s": clock[3] - clock[2], "seconds": clock[3] - clock[0],
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }  # fmt: skip


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    print(json.dumps(_scale(int(sys.argv[1]), int(sys.argv[2]))))
