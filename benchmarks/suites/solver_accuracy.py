"""Error of every solver against network calls, on a density whose denoiser is known exactly.

The data are a mixture of six Gaussians in eight dimensions (standard deviation 0.25), the process
is VP with the linear rate (0.1, 20), and the chain runs from t = 1 to sigma / alpha = 0.01. For
solvers of the probability flow the error is the mean distance to the exact end of the flow, divided
by the root of the dimension; for stochastic ones it is the largest error of the standard deviation
on one-dimensional Gaussian data of four widths, whose law is computed without Monte Carlo.

More steps must never be worse. Other libraries' schedulers are measured beside ours where they are
installed, on their own integer grids and to sigma = 0 (floor about 2e-4 from the last step).
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graphdiff.core import plan
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.oracles import GaussianOracle, MixtureOracle, law_of_chain, probability_flow
from graphdiff.core.plan import PlanSpec
from graphdiff.core.rng import Key
from graphdiff.core.schedule import VP
from graphdiff.core.times import Times

TITLE = "Solver accuracy: error against network calls"

CALLS = (5, 10, 20, 50, 100, 200, 400, 500, 1000)
# Below these an error is noise: of the reference in float64, of a thousand roundings in float32.
FLOOR = {torch.float64: 1e-8, torch.float32: 2e-5}
FLOWS: tuple[tuple[PlanSpec, int], ...] = (
    (plan.Euler(), 1),
    (plan.DDIM(), 1),
    (plan.Heun(), 2),
    (plan.DPMSolverPP(2), 2),
    (plan.DPMSolverPP(3), 3),
    (plan.DEIS(2), 2),
    (plan.DEIS(3), 3),
    (plan.UniPC(1), 2),
    (plan.UniPC(2), 3),
    (plan.UniPC(2, "bh1"), 3),
    (plan.UniPC(3), 4),
)
NOISY: tuple[PlanSpec, ...] = (
    plan.DDIM(0.5),
    plan.Ancestral(),
    plan.DPMSolverPP(2, sde=True),
    plan.DPMSolverPP(3, sde=True),
    plan.DEIS(2, sde=True),
    plan.UniPC(2, sde=True),
)


def run(quick: bool, out: Path) -> dict[str, Any]:
    """Measure all solvers.

    Args:
        quick: fewer samples and at most 100 calls.
        out: folder for files; this suite leaves none.

    Returns:
        The results: ``table``, one row for each solver and dtype, and ``checks``.
    """
    calls = [n for n in CALLS if n <= 100] if quick else list(CALLS)
    samples = 16 if quick else 64
    process = Gaussian(VP())
    means = Key(7, torch.arange(6)).normal(8, torch.float64)
    oracle = MixtureOracle(process, means, 0.25)
    end = float(process.schedule.inverse(-2 * math.log(0.01)))
    x = oracle.sample(Key(1, torch.arange(samples)), 1.0)
    truth = probability_flow(oracle, x, 1.0, end, 600 if quick else 3000)

    def distance(y: Tensor, target: Tensor = truth) -> float:
        return float((y.double() - target).norm(dim=1).mean()) / math.sqrt(x.shape[1])

    rows, checks = [], []
    for spec, order in FLOWS:
        for dtype in (torch.float64, torch.float32):
            errors = _errors(spec, oracle, x.to(dtype), end, calls, distance)
            rows.append(_row(spec.name, dtype, calls, errors, order))
            checks.append(_monotone(rows[-1], errors, FLOOR[dtype]))
    for spec in NOISY:
        errors = _law_errors(spec, process, end, calls)
        rows.append(_row(spec.name, torch.float64, calls, errors, 1, "std of a Gaussian"))
        checks.append(_monotone(rows[-1], errors, FLOOR[torch.float64]))
    rows += _diffusers(oracle, x, truth, end, calls)
    return {"samples": samples, "calls": calls, "table": rows, "checks": checks}


def _times(process: Gaussian, steps: int, end: float) -> tuple[float, ...]:
    return Times(steps, "log_snr", start=1.0, end=end).grid(process)


def _errors(
    spec: PlanSpec,
    oracle: MixtureOracle,
    start: Tensor,
    end: float,
    calls: Sequence[int],
    distance: Callable[[Tensor], float],
) -> list[float]:
    errors = []
    for n in calls:
        steps = n // 2 if spec.corrector == "heun" else n
        program = spec.compile(oracle.process, _times(oracle.process, steps, end))
        x, carry, key = start, program.start(start), Key(0, torch.arange(len(start)))
        for i in range(steps):
            for stage in range(program.stages):
                t = program.evaluate_at(i, stage)
                if t is not None:
                    x0 = oracle.denoise(x, t)
                    kernel, carry = program.update(i, stage, x, x0, None, carry, key)
                    x = kernel.mean
        errors.append(distance(x))
    return errors


def _law_errors(spec: PlanSpec, process: Gaussian, end: float, calls: Sequence[int]) -> list[float]:
    # Several widths: the signed error of a single one passes through zero by accident.
    mean = torch.tensor([0.4], dtype=torch.float64)
    oracles = [GaussianOracle(process, mean, std) for std in (0.2, 0.4, 0.6, 0.8)]
    errors = []
    for n in calls:
        times = _times(process, n, end)
        program = spec.compile(process, times)
        gaps = [law_of_chain(program, o, times)[1] - float(o.std(end)) for o in oracles]
        errors.append(max(abs(gap) for gap in gaps))
    return errors


def _row(
    name: str,
    dtype: torch.dtype,
    calls: Sequence[int],
    errors: Sequence[float],
    order: int | None,
    measure: str = "distance to the flow",
) -> dict[str, Any]:
    """One line of the table; the measured order is read off the last two points."""
    last = [(n, e) for n, e in zip(calls, errors, strict=True) if e > 100 * FLOOR[dtype]][-2:]
    measured = None
    if len(last) == 2:
        measured = math.log(last[0][1] / last[1][1]) / math.log(last[1][0] / last[0][0])
    return {
        "solver": name,
        "dtype": str(dtype).removeprefix("torch."),
        "measure": measure,
        "order": order,
        "measured_order": measured,
        **{str(n): error for n, error in zip(calls, errors, strict=True)},
    }


def _monotone(row: dict[str, Any], found: Sequence[float], floor: float) -> dict[str, Any]:
    """The largest factor by which more calls made the error grow (1 is the limit)."""
    errors = [max(e, floor) for e in found]
    worst = max(b / a for a, b in itertools.pairwise(errors))
    name = f"{row['solver']} {row['dtype']}: growth of the error with more calls"
    return {"name": name, "value": worst, "wanted": 1.0, "passed": worst <= 1.0}


def _diffusers(
    oracle: MixtureOracle, x: Tensor, truth: Tensor, end: float, calls: Sequence[int]
) -> list[dict[str, Any]]:
    """DDIM and DEIS of diffusers on the same mixture, if it is installed."""
    try:
        from diffusers import DDIMScheduler, DEISMultistepScheduler
    except ImportError:
        return []
    table = {"beta_start": 1e-4, "beta_end": 0.02, "num_train_timesteps": 1000}
    # Their chain goes on to sigma = 0: so does the flow they are compared with.
    target = oracle.denoise(truth, end)
    makers: dict[str, Callable[[], Any]] = {
        "diffusers DDIM trailing": lambda: DDIMScheduler(
            **table, clip_sample=False, timestep_spacing="trailing"
        ),
        "diffusers DEIS3 karras": lambda: DEISMultistepScheduler(
            **table, solver_order=3, use_karras_sigmas=True
        ),
    }
    rows = []
    for name, make in makers.items():
        errors = []
        for n in calls:
            scheduler = make()
            scheduler.set_timesteps(n)
            errors.append(_their_error(scheduler, oracle, x, target))
        rows.append(_row(name, torch.float32, calls, errors, None, "distance to the clean end"))
    return rows


def _their_error(scheduler: Any, oracle: MixtureOracle, x: Tensor, target: Tensor) -> float:
    """Their chain, with the exact denoiser at their own noise levels."""
    schedule, y = oracle.process.schedule, x
    levels = scheduler.alphas_cumprod.double()
    logs = torch.log(levels / (1 - levels))
    for k in scheduler.timesteps:
        t = schedule.inverse(logs[int(k)])
        alpha, sigma = levels[int(k)].sqrt(), (1 - levels[int(k)]).sqrt()
        eps = (y - alpha * oracle.denoise(y, t)) / sigma
        y = scheduler.step(eps, k, y).prev_sample
    if not bool(y.isfinite().all()):
        return math.inf
    return float((y.double() - target).norm(dim=1).mean()) / math.sqrt(x.shape[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(run("--quick" in sys.argv, Path()), indent=1))
