"""GDSS on QM9: speed of the library against a plain version of the published algorithm.

Both run the published sampler (reverse-diffusion predictor, Langevin corrector with batch-mean
step sizes) on the same weights and the same noise, for the first steps of the 1,000-step loop.
Outputs must agree; the ratio is of CPU seconds of one thread, interleaved, best of several.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))

TITLE = "GDSS QM9, published sampler: library against a plain implementation"
STEPS = 1000
PUBLISHED: dict[str, Any] = {
    "solver": "pc", "predictor": "reverse", "corrector": "langevin", "snr": 0.2, "scale": 0.7,
    "steps": STEPS, "end": 1e-4, "grid": "published", "published": True, "norm": "batch",
}  # fmt: skip


def _library(model: Any, sampler: Any, template: Any, stop: int) -> dict[str, torch.Tensor]:
    for step in sampler.steps(model.denoiser, template, seed=7):
        if step.index + 1 == stop:
            return {name: step.state[name] for name in ("x", "adj")}
    raise AssertionError("the sampler ended before the requested step")


def _plain(model: Any, template: Any, stop: int) -> dict[str, torch.Tensor]:
    from _gdss_plain import sample_qm9

    from graphdiff.core.rng import Key

    mask = template.mask("x")
    process = model.denoiser.process

    def noise(stage: int, name: str) -> torch.Tensor:
        key = Key(7, template.ids, step=stage).at(stream=name)
        return process.parts[name].space.normal(key, template[name].shape, mask)

    sde = model.task.config.adj
    x, adj = sample_qm9(
        model.denoiser.state_dict(), mask.float(), noise, low=sde.low, high=sde.high,
        steps=STEPS, stop=stop, snr=PUBLISHED["snr"], scale=PUBLISHED["scale"],
    )  # fmt: skip
    return {"x": x, "adj": adj}


def _timed(function: Any, *args: Any) -> tuple[Any, float]:
    begin = time.process_time()
    out = function(*args)
    return out, time.process_time() - begin


def run(quick: bool, out: Path) -> dict[str, Any]:
    """Compare both implementations; ``quick`` uses a smaller batch and fewer steps."""
    import graphdiff

    torch.set_num_threads(1)
    model = graphdiff.load("gdss-qm9")
    batch, stop, repeats = (128, 3, 2) if quick else (1024, 10, 3)
    ids = torch.arange(batch)
    template = model.task.template(ids, model.task.sizes(ids, 7), pad=9)
    sampler = model.task.sampler(**PUBLISHED)
    sampler.compile()  # once for all 1,000 steps, of which only the first few are timed
    ours_best = plain_best = float("inf")
    for _ in range(repeats):
        ours, seconds = _timed(_library, model, sampler, template, stop)
        ours_best = min(ours_best, seconds)
        plain, seconds = _timed(_plain, model, template, stop)
        plain_best = min(plain_best, seconds)
    gap = max(float((ours[k] - plain[k]).abs().max()) for k in ours)
    per = 1000.0 / (batch * stop)
    ratio = plain_best / ours_best
    return {
        "suite": "gdss-parity-speed",
        "table": [
            {"implementation": "plain", "ms_per_molecule_step": plain_best * per},
            {"implementation": "graphdiff", "ms_per_molecule_step": ours_best * per},
        ],
        "batch": batch,
        "steps": stop,
        "repeats": repeats,
        "seconds_per_1000_step_molecule": ours_best / (batch * stop) * STEPS,
        "checks": [
            {"name": "speed ratio", "value": ratio, "wanted": 2.0, "passed": ratio >= 2.0},
            {"name": "largest difference", "value": gap, "wanted": 1e-5, "passed": gap <= 1e-5},
        ],
    }


if __name__ == "__main__":
    import json

    print(json.dumps(run("--quick" in sys.argv, Path(".")), indent=2))
