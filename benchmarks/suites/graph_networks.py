"""Graph networks: the pair transformer against the published one, in time and memory.

``DigressNetwork`` is the published graph transformer written out plainly (ordered pairs, scores for
every feature, one softmax for each of them); ``PairTransformer`` stores each pair once and attends
per head. Both get the same number of layers and the same widths (of configurations that are
trained here, and the published ones), and the same noisy graphs. Times are CPU seconds of one
thread, taken in turns, and the best of several; only their ratio is to be trusted.

Memory is what autograd keeps for the backward pass of one graph, in MiB: counted on tensors
without content, so it is exact and needs no memory.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

TITLE = "Graph networks: pair transformer against the published one, time and memory"

WIDTHS: dict[str, dict[str, int]] = {
    "small": {"layers": 4, "dx": 64, "de": 32, "dy": 64, "heads": 4},
    "published": {"layers": 8, "dx": 256, "de": 64, "dy": 64, "heads": 8},
}
# (widths, nodes, batch, node classes, edge classes)
CASES = (
    ("small", 9, 256, 4, 4),
    ("small", 20, 64, 0, 2),
    ("small", 64, 8, 0, 2),
    ("published", 20, 4, 0, 2),
)
QUICK = (("small", 9, 32, 4, 4),)
NODES = (8, 16, 32, 64, 128, 256, 512)
STEPS = 100


def networks(widths: str, n: int, nodes: int, edges: int) -> dict[str, nn.Module]:
    """Both networks with random walks of 12 steps as features."""
    from graphdiff.graph.nets.digress import DigressNetwork
    from graphdiff.graph.nets.pair_transformer import PairTransformer

    shape = WIDTHS[widths]
    torch.manual_seed(0)
    plain = {"mlp_x": 2 * shape["dx"], "mlp_e": 2 * shape["de"], "mlp_y": 2 * shape["dy"],
             "ff_x": 2 * shape["dx"], "ff_e": 2 * shape["de"], "ff_y": 2 * shape["dy"]}  # fmt: skip
    return {
        "plain": DigressNetwork(
            nodes, edges, **shape, **plain, features="rrwp", steps=12, largest=n
        ),
        "pair": PairTransformer(nodes, edges, **shape, steps=12, largest=n),
        "pair with paths": PairTransformer(
            nodes, edges, **shape, steps=12, largest=n, triangles=8, count_cycles=True
        ),
    }


def batch(b: int, n: int, nodes: int, edges: int, device: str = "cpu") -> tuple[Any, Tensor, Any]:
    """Noisy graphs of ``n`` nodes without padding."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(0, edges, (b, n, n), generator=generator).triu(1)
    values = {"adj": (drawn + drawn.mT).to(device)}
    if nodes:
        values["x"] = torch.randint(0, nodes, (b, n), generator=generator).to(device)
    mask = torch.ones(b, n, dtype=torch.bool, device=device)
    return values, torch.rand(b, generator=generator).to(device), {"adj": mask}


def train(net: nn.Module, inputs: tuple[Any, Tensor, Any]) -> None:
    """Forward and backward pass of one batch."""
    net.zero_grad(set_to_none=True)
    sum(o.square().mean() for o in net(*inputs).values()).backward()


def evaluate(net: nn.Module, inputs: tuple[Any, Tensor, Any]) -> None:
    """One network call of a sampler."""
    with torch.no_grad():
        net(*inputs)


def best(works: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Least CPU seconds of each, taken in turns."""
    found = dict.fromkeys(works, math.inf)
    for work in works.values():  # tables and buffers are made in a first call
        work()
    for _ in range(repeats):
        for name, work in works.items():
            begin = time.process_time()
            work()
            found[name] = min(found[name], time.process_time() - begin)
    return found


def timed(case: tuple[str, int, int, int, int], repeats: int) -> list[dict[str, Any]]:
    """Milliseconds per graph of a training step and of a sample of :data:`STEPS` calls."""
    widths, n, b, nodes, edges = case
    nets, inputs = networks(widths, n, nodes, edges), batch(b, n, nodes, edges)
    step = best({k: lambda net=net: train(net, inputs) for k, net in nets.items()}, repeats)
    call = best({k: lambda net=net: evaluate(net, inputs) for k, net in nets.items()}, repeats)
    return [
        {
            "widths": widths,
            "nodes": n,
            "batch": b,
            "network": name,
            "parameters": sum(p.numel() for p in net.parameters()),
            "train_ms_per_graph": 1000 * step[name] / b,
            f"sample_ms_per_graph_{STEPS}_calls": 1000 * STEPS * call[name] / b,
            "kept_mib_per_graph": kept_mib(net, n, nodes, edges),
            "train_ratio": step["plain"] / step[name],
            "sample_ratio": call["plain"] / call[name],
        }
        for name, net in nets.items()
    ]


def kept_mib(net: nn.Module, n: int, nodes: int, edges: int) -> float:
    """What one graph more in a batch keeps for the backward pass; leaves ``net`` as it is."""
    import copy

    from graphdiff.train.memory import per_example

    def call(shadow: nn.Module, b: int) -> Any:
        return shadow(*batch(b, n, nodes, edges, "meta"))

    return per_example(copy.deepcopy(net), call) / 2**20


def memory(nodes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Memory per graph against the number of nodes, plain graphs."""
    rows = []
    for widths in WIDTHS:
        for n in nodes:
            nets = networks(widths, n, 0, 2)
            kept = {name: kept_mib(net, n, 0, 2) for name, net in nets.items()}
            rows.append({
                "widths": widths,
                "nodes": n,
                **{f"{name.replace(' ', '_')}_mib": round(v, 3) for name, v in kept.items()},
                "ratio": round(kept["plain"] / kept["pair"], 3),
                "ratio_with_paths": round(kept["plain"] / kept["pair with paths"], 3),
            })  # fmt: skip
    return rows


def run(quick: bool, out: Path) -> dict[str, Any]:
    """Both networks on every case; ``quick`` takes one small case."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        repeats = 2 if quick else 5
        table = [row for case in (QUICK if quick else CASES) for row in timed(case, repeats)]
    finally:
        torch.set_num_threads(threads)
    growth = memory(NODES[:3] if quick else NODES)
    return {"table": table, "memory": growth, "checks": checks(growth)}


def checks(growth: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Memory is exact, so it can be required; times cannot."""
    found = []
    for widths in WIDTHS:
        rows = [row for row in growth if row["widths"] == widths]
        least = min(row["ratio"] for row in rows)
        found.append({"name": f"{widths}: memory of the plain network over ours, least",
                      "value": least, "wanted": 2.0, "passed": least >= 2.0})  # fmt: skip
        first, last = rows[-2], rows[-1]
        slope = math.log2(last["pair_mib"] / first["pair_mib"])
        found.append({"name": f"{widths}: exponent of memory in the nodes", "value": slope,
                      "wanted": 2.05, "passed": slope <= 2.05})  # fmt: skip
    return found


if __name__ == "__main__":
    import json
    import sys

    print(json.dumps(run("--quick" in sys.argv, Path(".")), indent=1))
