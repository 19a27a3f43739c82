"""A small DeFoG on comm20 with a changed network, for ablations of several suites."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch


def small_defog(config: str, changes: Sequence[str], seed: int, place: Path) -> dict[str, Any]:
    """Train DeFoG on comm20 for a short time, and score its test loss and 128 samples.

    Args:
        config: Name of the configuration.
        changes: Settings in place of the configuration's, the length of the training among them.
        seed: Of training and sampling.
        place: Where the model is written.
    """
    import graphdiff
    from graphdiff.config import resolve_config, split_config
    from graphdiff.core.rng import Key
    from graphdiff.data import load
    from graphdiff.graph.defog import DefogTask
    from graphdiff.graph.discrete_task import DiscreteGraphData
    from graphdiff.graph.metrics.profiles import evaluate_dataset
    from graphdiff.train import TrainConfig, Trainer

    torch.set_num_threads(1)
    fixed = [f"seed={seed}", "train.checkpoint_every=1000000"]
    given, train = split_config(resolve_config(config, [*fixed, *changes]))
    task, began = DefogTask.from_config(given), time.process_time()
    Trainer(task, TrainConfig(**train), place, task.data()).run()
    trained = time.process_time() - began
    model, dataset = graphdiff.load(place), load("comm20")
    held = DiscreteGraphData(dataset.split("test"), model.task.config)
    batch = held.batch(torch.arange(len(held)))
    with torch.no_grad():
        losses = [
            model.task.losses(model.denoiser, batch, Key(k, batch.ids))["adj"].mean()
            for k in range(32)
        ]
    drawn = model.samples(128, seed=seed, batch_size=64, steps=100).raw
    over = {}
    for metric in evaluate_dataset(drawn, dataset).metrics:
        entry = metric.to_dict()
        if entry["name"] in ("degree", "clustering", "orbit", "spectral") and entry["floor"]:
            over[f"{entry['name']}_over_floor"] = entry["value"] / entry["floor"]
    return {
        "seed": seed, "samples": 128, "calls": 100,
        "test_loss": float(torch.stack(losses).mean()),
        "over_floor": sum(over.values()) / len(over), **over,
        "parameters": sum(p.numel() for p in model.denoiser.parameters()),
        "cpu_training": trained, "cpu": time.process_time() - began,
    }  # fmt: skip


if __name__ == "__main__":
    # python benchmarks/suites/_denoisers.py SEED train.steps=600 'model.mixing="sheaf"' ...
    import json
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        found = small_defog("defog-comm20", sys.argv[2:], int(sys.argv[1]), Path(scratch) / "model")
    print(json.dumps(found))
