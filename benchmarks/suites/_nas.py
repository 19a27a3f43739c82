"""What the suite ``nas`` runs in the processes of a pool, which import it by name."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

__all__ = ["MODEL", "front", "one", "tools"]

MODEL = os.environ.get("GRAPHDIFF_NAG_MODEL", "nag-nb201")


@lru_cache(maxsize=1)
def tools() -> tuple[Any, Any, Any]:
    """Table, generator and experience, once in each process."""
    import torch

    import graphdiff
    from graphdiff.graph.nag.search import Generator
    from graphdiff.graph.nag.surrogate import Experience
    from graphdiff.graph.nag.tables import load_meta, load_table

    torch.set_num_threads(1)
    table, meta = load_table("nasbench201"), load_meta()
    told = Experience.of(table.space, meta.archs, meta.accuracy)
    return table, Generator(graphdiff.load(MODEL)), told


def one(dataset: str, method: str, seed: int, budget: int) -> dict[str, Any]:
    """One search, in a process of the pool."""
    from graphdiff.graph.nag import baselines
    from graphdiff.graph.nag.problem import History, Problem
    from graphdiff.graph.nag.search import nag_search

    table, generator, told = tools()
    problem = Problem(table.space, lambda archs: table.value(dataset, archs))
    top = float(table.metrics[dataset].max())
    history = History(problem, budget, goal=top - 1e-6)
    rng, began = np.random.default_rng(seed), time.process_time()
    generator.made, generator.seconds = 0, 0.0
    if method.startswith("nag"):
        nag_search(history, rng, generator, experience=told if "meta" in method else None)
    else:
        searches: dict[str, Callable[..., None]] = {
            "random": baselines.random_search, "evolution": baselines.evolution,
            "local": baselines.local_search, "bananas": baselines.bananas,
        }  # fmt: skip
        searches[method](history, rng)
    return {
        "asked": history.reached(top - 1e-6) or budget,
        "found": history.reached(top - 1e-6) is not None,
        "curve": [round(v, 3) for v in history.best()[:1000].tolist()],
        "first": float(history.values[0]),
        "ms": 1000 * generator.seconds / max(generator.made, 1),
        "cpu": time.process_time() - began,
    }


def front(device: str, method: str, seed: int, budget: int) -> float:
    """Hypervolume that one search reaches, in units of the box of the table."""
    from graphdiff.graph.nag.baselines import nsga2, random_search
    from graphdiff.graph.nag.pareto import hypervolume
    from graphdiff.graph.nag.problem import History, Problem
    from graphdiff.graph.nag.search import nag_search

    table, generator, told = tools()
    name = f"latency:{device}"
    problem = Problem(
        table.space,
        lambda archs: table.value("cifar100", archs),
        second=lambda archs: table.value(name, archs),
    )
    history, rng = History(problem, budget), np.random.default_rng(seed)
    if method.startswith("nag"):
        nag_search(history, rng, generator, experience=told if "meta" in method else None)
    else:
        (nsga2 if method == "nsga2" else random_search)(history, rng)
    value, late = table.metrics["cifar100"], table.metrics[name]
    points = np.stack([-np.array(history.values), np.array(history.second)], 1)
    box = float((value.max() - value.min()) * (late.max() - late.min()))
    return hypervolume(points, (-float(value.min()), float(late.max()))) / box
