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

__all__ = ["attack_row", "defence_row", "scale_row"]

ENCODER_SEEDS = (0, 1, 2)
RUNS = (4, 3, 3)  # of the classifier, for each encoder: ten in all
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


def defence_row(name: str, rate: float, quick: bool) -> dict[str, Any]:
    """Every method on one poisoned graph, under one protocol."""
    from graphdiff.data.poisoned import load_poisoned
    from graphdiff.graph.robust.baselines import BASELINES, fit_baseline
    from graphdiff.graph.robust.config import published
    from graphdiff.graph.robust.gcn import GCNConfig

    began = time.process_time()
    data = load_poisoned(name, rate)
    config = quickly(published(name, rate), quick)
    words = config.jaccard > 0 or name != "polblogs"
    told = GCNConfig(epochs=5) if quick else GCNConfig()
    found: dict[str, dict[str, Any]] = {}
    for method in BASELINES:
        if words or method in ("gcn", "svd", "labels", "sgc"):
            base = fit_baseline(method, data, runs=2 if quick else 10, config=told)
            found[method] = {"runs": base.accuracy, "val": base.val_accuracy, "chosen": base.chosen}
    found |= _defences(data, config, quick)
    return {"name": name, "rate": rate, "seconds": time.process_time() - began, "methods": found}


def _defences(data: Any, config: Any, quick: bool) -> dict[str, dict[str, Any]]:
    """The published defence, parts of it, and the diffusion of edges on the same embeddings."""
    from graphdiff.graph.robust.denoise import DenoiseConfig, fit_edge_denoiser
    from graphdiff.graph.robust.refine import both_ways, refine
    from graphdiff.graph.robust.stable import classify, represent

    split = data.splits[0]
    seeds, runs = (ENCODER_SEEDS[:1], (2,)) if quick else (ENCODER_SEEDS, RUNS)
    ways = ("stable", "stable, both ways", "embeddings only", "edge diffusion")
    found: dict[str, dict[str, Any]] = {w: {"runs": [], "encoders": [], "val": []} for w in ways}
    epochs, start = [], None
    for seed, count in zip(seeds, runs, strict=True):
        held = represent(data, config, seed=seed)
        epochs.append(len(held.losses))
        for way in ways[:1] if found["embeddings only"]["runs"] else ways[:3]:
            both = way == "stable, both ways"
            mended = refine(
                held.edges, held.embedding, cosine=config.cosine, k=config.k, symmetric=both
            )
            pairs = mended if way != "embeddings only" else both_ways(held.edges)
            fitted = classify(data, split, held, pairs, config, runs=count, seed=seed)
            _note(found[way], fitted, data, split)
        few = DenoiseConfig(steps=3, chains=2) if quick else DenoiseConfig()
        denoiser = fit_edge_denoiser(data, held.embedding, few, seed=seed)
        if start is None:  # on validation, with the first encoder
            tried = {s: _diffused(data, split, held, denoiser, config, s, 2, 0) for s in STARTS}
            start = max(tried, key=lambda s: float(tried[s].val_accuracy.mean()))
            found["edge diffusion"]["chosen"] = start
        fitted = _diffused(data, split, held, denoiser, config, start, count, seed)
        _note(found["edge diffusion"], fitted, data, split)
    found["stable"]["encoder_epochs"] = epochs
    return found


def _note(row: dict[str, Any], fitted: Any, data: Any, split: Any) -> None:
    accuracies = fitted.accuracy(data.labels, split.test)
    row["runs"] += accuracies
    row["encoders"].append(float(np.mean(accuracies)))
    row["val"].append(float(fitted.val_accuracy.mean()))


def _diffused(
    data: Any, split: Any, held: Any, denoiser: Any, config: Any, start: float, runs: int, seed: int
) -> Any:
    """The classifier of the defence, on the graph that the reverse chain ends in."""
    from graphdiff.graph.robust.gcn import adjacency, fit_gcn

    row, col, weight = denoiser.graph(denoiser.weights(start, seed=seed))
    operator = adjacency(row, col, data.n, alpha=config.alpha, weight=weight)
    told = (held.embedding, data.labels, split, config.gcn)
    return fit_gcn(operator, *told, runs=runs, seed=seed)


# -- attacks --------------------------------------------------------------------------------------


def attack_row(name: str, rate: float, quick: bool) -> dict[str, Any]:
    """Attacks on the clean graph against a plain network and against the defence, same budget.

    Each attacked graph is learnt from scratch by both (poisoning), and the trained victims are
    asked without retraining (evasion).
    """
    from graphdiff.data.poisoned import load_poisoned
    from graphdiff.graph.robust.attack import AttackConfig, attack
    from graphdiff.graph.robust.config import StableConfig
    from graphdiff.graph.robust.stable import Stable
    from graphdiff.graph.robust.victims import PlainVictim, StableVictim

    began = time.process_time()
    data = load_poisoned(name, 0.0)
    budget = int(rate * data.edges.shape[1])
    # One setting for all graphs: that of the defence for the rate in the middle of the table.
    config = quickly(StableConfig(), quick)
    how = AttackConfig(steps=3, block=500) if quick else AttackConfig(steps=150)
    gcn = _plain(data, quick)
    model = Stable(config).fit(data, runs=3)
    victims = {"gcn": PlainVictim(data, gcn.stack), "stable": StableVictim(data, model)}
    nodes = data.splits[0].test
    made = {victim: attack(data, v, nodes, budget, how) for victim, v in victims.items()}
    row: dict[str, Any] = {"name": name, "rate": rate, "budget": budget, "clean": {}, "attacks": {}}
    row["clean"] = {"gcn": gcn.accuracy(data.labels, nodes), "stable": _right(model, data)}
    for victim, found in made.items():
        seeds = (0,) if quick else (0, 1)
        fitted = [Stable(config).fit(found.data, runs=3, seed=s) for s in seeds]
        edges = found.data.edges.numpy()
        row["attacks"][victim] = {
            "added": found.added,
            "removed": found.flips.shape[1] - found.added,
            "loss": [found.before, found.after],
            "evasion": {w: _asked(v, edges, data, nodes) for w, v in victims.items()},
            "gcn": _plain(found.data, quick).accuracy(data.labels, nodes),
            "stable": [a for m in fitted for a in _right(m, data)],
        }
    return {**row, "seconds": time.process_time() - began}


def _plain(data: Any, quick: bool) -> Any:
    from graphdiff.graph.robust.gcn import GCNConfig, adjacency, fit_gcn
    from graphdiff.graph.robust.refine import both_ways
    from graphdiff.graph.robust.stable import sparse_features

    told = GCNConfig(epochs=5) if quick else GCNConfig()
    operator = adjacency(*both_ways(data.edges.numpy()), data.n)
    inputs = sparse_features(data.features)[0]
    return fit_gcn(operator, inputs, data.labels, data.splits[0], told, runs=6)


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
