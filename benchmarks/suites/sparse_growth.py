"""Growth of memory and time with the number of nodes, from 100 to 5,000, for expansion models.

Every graph is grown in a process of its own, so that its peak memory is its own. A dense model of
the same width would hold at least one matrix of ``n * n`` pairs of features; its size is given
beside for scale.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TITLE = "Expansion models: memory and time from 100 to 5,000 nodes"
MODELS = ("hspectre-tree", "hspectre-planar")
SIZES = (100, 200, 500, 1000, 2000, 5000)
QUICK = (100, 300)
LIMIT_GIB = 8.0


def grow(name: str, nodes: int, steps: int | None, seed: int) -> dict[str, Any]:
    """Grow one graph here and measure it."""
    import networkx as nx
    import torch

    import graphdiff
    from graphdiff.graph.expansion.memory import batch_bytes

    torch.set_num_threads(1)
    model = graphdiff.load(name)
    # A small graph first: what torch allocates once is not part of the growth.
    model.samples(1, seed=seed, cond={"size": 20}, steps=2)
    base, began = _peak_mib(), (time.perf_counter(), time.process_time())
    samples = model.samples(1, seed=seed, cond={"size": nodes}, steps=steps)
    wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    graph = samples.items[0]
    config = model.task.config
    estimate = batch_bytes(nodes, config.data.degree, config.model)
    return {
        "model": name,
        "nodes": nodes,
        "edges": graph.number_of_edges(),
        "connected": nx.is_connected(graph),
        "tree": nx.is_tree(graph),
        "planar": nx.check_planarity(graph)[0],
        "largest_degree": max(d for _, d in graph.degree()),
        "network_calls": samples.info["network_calls"],
        "cpu_seconds": round(cpu, 2),
        "wall_seconds": round(wall, 2),
        "peak_mib": round(_peak_mib(), 1),
        "growth_mib": round(_peak_mib() - base, 1),
        "estimate_mib": round(estimate / 2**20, 1),
        "dense_pairs_mib": round(4 * config.model.pair * nodes * nodes / 2**20, 1),
    }


def run(quick: bool, out: Path) -> dict[str, Any]:
    """Grow a graph of every size with every model; ``quick`` takes two small sizes."""
    from graphdiff.model import models

    table = []
    for name in (m for m in MODELS if m in models()):
        for nodes in QUICK if quick else SIZES:
            command = [sys.executable, __file__, name, str(nodes), *(["4"] if quick else [])]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            table.append(json.loads(done.stdout.splitlines()[-1]))
            print(table[-1], file=sys.stderr, flush=True)
    return {"table": table, "checks": [*_checks(table)]}


def _checks(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    peak = max(row["peak_mib"] for row in table) / 1024
    checks = [
        {"name": "largest peak, GiB", "value": round(peak, 3), "wanted": LIMIT_GIB,
         "passed": peak <= LIMIT_GIB},
        {"name": "connected", "value": sum(row["connected"] for row in table),
         "wanted": len(table), "passed": all(row["connected"] for row in table)},
    ]  # fmt: skip
    for name in dict.fromkeys(row["model"] for row in table):
        rows = [row for row in table if row["model"] == name]
        small, large = rows[len(rows) // 2 - 1 if len(rows) > 2 else 0], rows[-1]
        slope = math.log(large["cpu_seconds"] / small["cpu_seconds"]) / math.log(
            large["nodes"] / small["nodes"]
        )
        # 2 is that of a dense model; 1.3 leaves room for what grows with the logarithm
        checks.append({"name": f"{name}: exponent of time", "value": round(slope, 3),
                       "wanted": 1.3, "passed": slope <= 1.3})  # fmt: skip
    return checks


def draw(record: dict[str, Any], path: Path) -> Path:
    """Memory and time over nodes, one line a model; ``path`` ends in .png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    for name in dict.fromkeys(row["model"] for row in record["table"]):
        rows = [row for row in record["table"] if row["model"] == name]
        nodes = [row["nodes"] for row in rows]
        (line,) = axes[0].plot(nodes, [r["peak_mib"] for r in rows], "o-", label=f"{name}, process")
        color = line.get_color()
        axes[0].plot(nodes, [max(r["growth_mib"], 0.1) for r in rows], "s--", color=color,
                     label=f"{name}, above start")  # fmt: skip
        axes[1].plot(nodes, [r["cpu_seconds"] for r in rows], "o-", color=color, label=name)
    rows = [row for row in record["table"] if row["model"] == record["table"][0]["model"]]
    nodes = [row["nodes"] for row in rows]
    axes[0].plot(nodes, [r["dense_pairs_mib"] for r in rows], ":", color="0.4",
                 label="one dense matrix of pairs")  # fmt: skip
    axes[0].axhline(1024 * LIMIT_GIB, color="0.7", linewidth=0.8)
    axes[0].text(nodes[0], 1024 * LIMIT_GIB * 0.6, "8 GiB", color="0.5", fontsize=8)
    first = rows[0]["cpu_seconds"]
    axes[1].plot(nodes, [first * n / nodes[0] for n in nodes], ":", color="0.4", label="slope 1")
    axes[0].set(ylabel="peak memory, MiB")
    axes[1].set(ylabel="CPU seconds per graph, one thread")
    for axis in axes:
        axis.set(xscale="log", yscale="log", xlabel="nodes", xticks=nodes, xticklabels=nodes)
        axis.minorticks_off()
        axis.grid(alpha=0.3, linewidth=0.5)
        axis.legend(fontsize=7, frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    first, second, *rest = sys.argv[1:]
    if first.endswith(".json"):
        draw(json.loads(Path(first).read_text("utf-8")), Path(second))
    else:
        print(json.dumps(grow(first, int(second), int(rest[0]) if rest else None, seed=0)))
