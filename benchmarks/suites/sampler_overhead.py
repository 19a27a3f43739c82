"""What the sampling loop costs beside the network calls it makes.

Two settings, one thread, CPU time of the process, the least of several interleaved runs, and ratios
within one run, because a shared machine makes single times meaningless:

* ``toy``: a 64 x 2 tensor and a network of one multiplication, so that everything but the loop is
  negligible. The loop is compared with DPM-Solver++(2M) and DDIM written out by hand with
  precomputed coefficients. Both start from the same prior draw.
* ``gdss-qm9``: the published predictor-corrector on QM9-size graphs, batch 1,024, against calls of
  the bare network on the same states.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graphdiff.core.gaussian import Gaussian
from graphdiff.core.plan import DDIM, DPMSolverPP, PlanSpec
from graphdiff.core.process import Product
from graphdiff.core.sampler import Sampler, Times
from graphdiff.core.schedule import VP
from graphdiff.core.state import State

TITLE = "Overhead of the sampler over bare loops and bare network calls"
TOY_LIMIT, GDSS_LIMIT = 3.0, 0.10


def best(functions: list[Callable[[], object]], repeats: int) -> list[float]:
    """Least CPU seconds of each function; runs are interleaved, the first is a warm-up."""
    least = [float("inf")] * len(functions)
    for repeat in range(repeats + 1):
        for k, function in enumerate(functions):
            begin = time.process_time()
            function()
            elapsed = time.process_time() - begin
            if repeat:
                least[k] = min(least[k], elapsed)
    return least


def _ddim(x: Tensor, times: list[Tensor], rows: list[tuple[float, float]]) -> Tensor:
    for t, (a, b) in zip(times, rows, strict=True):
        x = torch.add(x * a, _network(x, t), alpha=b)
    return x


def _dpm2m(x: Tensor, times: list[Tensor], rows: list[tuple[float, float, float]]) -> Tensor:
    old: Tensor | None = None
    for t, (a, b, c) in zip(times, rows, strict=True):
        x0 = _network(x, t)
        x = torch.add(x * a, x0, alpha=b)
        if old is not None:
            x.add_(old, alpha=c)
        old = x0
    return x


def _network(x: Tensor, t: Tensor) -> Tensor:
    return x * 0.5


def _by_hand(times: tuple[float, ...]) -> tuple[list[tuple[float, float]], list[Any]]:
    """Coefficients of DDIM (2010.02502, eq. 12) and DPM-Solver++(2M) (2211.01095, alg. 2)."""
    schedule = VP()
    grid = torch.tensor(times, dtype=torch.float64)
    alpha, sigma = schedule.alpha(grid), schedule.sigma(grid)
    h = (schedule.log_snr(grid) / 2).diff()
    ratio = sigma[1:] / sigma[:-1]
    gain = -alpha[1:] * torch.expm1(-h)
    ddim = list(zip(ratio.tolist(), gain.tolist(), strict=True))
    rows = [(*ddim[0], 0.0)]
    for i in range(1, len(h)):
        half = float(gain[i] * h[i] / (2 * h[i - 1]))
        rows.append((ddim[i][0], ddim[i][1] + half, -half))
    return ddim, rows


def _toy(solver: PlanSpec, steps: int, repeats: int) -> dict[str, Any]:
    """CPU time of a step of ours and of the loop written by hand, which must agree."""
    process = Product({"x": Gaussian(VP())})
    sampler = Sampler(process, solver, Times(steps))
    template = State({"x": torch.zeros(64, 2)}, {}, torch.arange(64))
    times = sampler.compile().times
    start = next(sampler.steps(_denoise, template, seed=0))
    clock = list(torch.tensor(times[1:-1])[:, None].expand(-1, 64).unbind(0))
    ddim, rows = _by_hand(times[1:])
    two = solver.order == 2

    def ours() -> Tensor:
        state = start.state
        with torch.no_grad():
            for step in sampler.steps(_denoise, template, seed=0, resume=start):
                state = step.state
        return state["x"]

    def hand() -> Tensor:
        x = start.state["x"]
        with torch.no_grad():
            return _dpm2m(x, clock, rows) if two else _ddim(x, clock, ddim)

    # Our second-order chain has a past from its first step on; the one by hand starts afresh.
    gap = float((ours() - hand()).abs().max())
    own, bare = best([ours, hand], repeats)
    scale = 1e6 / (steps - 1)
    return {
        "setting": f"toy 64x2, {solver.name}",
        "bare_us_per_step": bare * scale,
        "ours_us_per_step": own * scale,
        "ratio": own / bare,
        "largest_difference": gap,
    }


def _denoise(state: State, t: Tensor, cond: object) -> dict[str, Tensor]:
    return {"x": _network(state.values["x"], t)}


def _gdss(batch: int, steps: int, repeats: int) -> dict[str, Any]:
    """CPU time of published predictor-corrector steps and of their bare network calls."""
    from graphdiff.graph.gdss import GDSSTask

    text = (files("graphdiff") / "configs" / "gdss-qm9.toml").read_text("utf-8")
    config = tomllib.loads(text)
    config.pop("train")
    task = GDSSTask.from_config(config)
    denoiser = task.build().eval()
    sampler = task.sampler()
    ids = torch.arange(batch)
    # QM9 has 9 heavy atoms in five of six molecules; the others are smaller.
    sizes = torch.where(ids % 6 == 0, 8, 9)
    template = task.template(ids, sizes, pad=9)
    start = next(sampler.steps(denoiser, template, seed=0))
    end = next(islice(sampler.steps(denoiser, template, seed=0, resume=start), steps - 1, None))
    calls = end.calls - start.calls
    state, label = start.state, torch.full((batch,), start.s)

    def ours() -> None:
        for _ in islice(sampler.steps(denoiser, template, seed=0, resume=start), steps):
            pass

    def bare() -> None:
        with torch.no_grad():
            for _ in range(calls):
                denoiser.net(state.values, label, state.masks, None)

    own, network = best([ours, bare], repeats)
    return {
        "setting": f"GDSS QM9, batch {batch}, {type(sampler.solvers).__name__}",
        "bare_us_per_step": network * 1e6 / steps,
        "ours_us_per_step": own * 1e6 / steps,
        "ratio": own / network,
        "network_calls_per_step": calls / steps,
    }


def run(quick: bool, out: Path) -> dict[str, Any]:
    """Measure both settings; ``quick`` uses fewer repeats and a smaller batch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        repeats = 10 if quick else 30
        toys = [_toy(s, 200, repeats) for s in (DPMSolverPP(order=2), DDIM())]
        gdss = _gdss(256 if quick else 1024, 2, 5 if quick else 10)
    finally:
        torch.set_num_threads(threads)
    checks = [
        {
            "name": f"{row['setting']}: CPU time over the loop by hand",
            "value": row["ratio"],
            "wanted": TOY_LIMIT,
            "passed": row["ratio"] <= TOY_LIMIT,
        }
        for row in toys
    ]
    checks.append(
        {
            "name": f"{gdss['setting']}: share added to the bare network calls",
            "value": gdss["ratio"] - 1.0,
            "wanted": GDSS_LIMIT,
            "passed": gdss["ratio"] - 1.0 <= GDSS_LIMIT,
        }
    )
    return {"table": [*toys, gdss], "checks": checks, "repeats": repeats, "threads": 1}
