"""CPU seconds of the metrics at the sizes papers use.

Times are CPU seconds of one thread (``time.process_time``), so that a busy machine does not move
them. Inputs are random graphs of the right sizes; molecules come from the embedded QM9 set.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from graphdiff.data.graphs import Graphs
from graphdiff.graph.metrics import evaluate_graphs, molecular, nspdk_features, orbit_counts

TITLE = "Metrics: CPU seconds of one thread"


def _random(rng: np.random.Generator, count: int, low: int, high: int, degree: float) -> Graphs:
    """Random graphs of low..high nodes and a mean degree."""
    adj = np.triu(rng.random((count, high, high)), 1)
    sizes = rng.integers(low, high + 1, count)
    mask = np.arange(high)[None] < sizes[:, None]
    adj = (adj > 0) & (adj < (degree / (sizes - 1))[:, None, None])
    adj &= mask[:, :, None] & mask[:, None, :]
    return Graphs.from_dense((adj | adj.transpose(0, 2, 1)).astype(np.int64), mask)


def _planar(rng: np.random.Generator, count: int, n: int) -> Graphs:
    """Delaunay triangulations of random points, the recipe of the planar benchmark."""
    from scipy.spatial import Delaunay

    edges = []
    for _ in range(count):
        corners = Delaunay(rng.random((n, 2))).simplices
        pairs = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [0, 2]]])
        edges.append(np.unique(np.sort(pairs, 1), axis=0))
    return Graphs.from_lists([n] * count, edges)


def _seconds(work: Callable[[], Any]) -> float:
    begin = time.process_time()
    work()
    return round(time.process_time() - begin, 3)


def run(quick: bool, out: Path) -> dict[str, Any]:
    """Time the evaluations that the specification limits, and their parts."""
    import torch

    del out
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    small, big = (256, 500) if quick else (1024, 10_000)
    a, b, t = (_random(rng, small, 4, 9, 2.1) for _ in range(3))
    p, q, s = (_planar(rng, 40, 64) for _ in range(3))
    rows, checks = [], []

    def record(name: str, size: str, limit: float | None, work: Callable[[], Any]) -> None:
        spent = _seconds(work)
        rows.append({"what": name, "size": size, "cpu_seconds": spent, "limit": limit or ""})
        if limit is not None:
            checks.append(
                {"name": name, "value": spent, "wanted": f"< {limit}", "passed": spent < limit}
            )

    record("MMD, QM9-size graphs", f"{small} x {small}", 20.0, lambda: evaluate_graphs(a, b, t))
    record("MMD, planar graphs", "40 x 40, 64 nodes", 2.0, lambda: evaluate_graphs(p, q, s))
    dense = a.dense()[1]
    record("orbit counts, QM9-size", f"{small}", None, lambda: orbit_counts(dense))
    try:
        from graphdiff.data import load

        data = load("qm9")
        pick = rng.permutation(data.splits["train"])[:big]
        ours, test = data.graphs[np.sort(pick)], data.split("test")
        test = test[np.arange(min(len(test), big if quick else len(test)))]
        record(
            "NSPDK features", f"{len(ours)} + {len(test)} QM9 molecules", 60.0,
            lambda: (nspdk_features(ours), nspdk_features(test)),
        )  # fmt: skip
        from rdkit import Chem

        mols = [Chem.MolFromSmiles(data.smiles[int(i)]) for i in pick]
        record("Morgan fingerprints", f"{len(mols)}", None, lambda: molecular.fingerprints(mols))
        x = molecular.fingerprints(mols)
        record("internal diversity", f"{len(x)}", None, lambda: molecular.mean_similarity(x))
        from graphdiff.graph.metrics.fcd import available, chemnet

        if available():
            names = [Chem.MolToSmiles(m) for m in mols[: 100 if quick else 2000]]
            net = chemnet()
            record("ChemNet features", f"{len(names)}", None, lambda: net(names))
    finally:
        torch.set_num_threads(threads)
    return {"table": rows, "checks": checks}
