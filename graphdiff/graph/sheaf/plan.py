"""Settings of a fit, and the space that tuning draws them from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from graphdiff.graph.evaluate.training import FitConfig
from graphdiff.graph.sheaf.network import SheafConfig
from graphdiff.graph.sheaf.presets import preset
from graphdiff.graph.sheaf.scaling import Scaling

__all__ = ["SPACE", "Plan", "draw_plan"]

SPACE: dict[str, dict[str, tuple[Any, ...]]] = {
    "network": {
        "filter": ("diffusion", "chebyshev"),
        "layers": (1, 2, 3, 4),
        "stalk": (1, 2, 3, 4),
        "hidden": (8, 16, 32),
        "lowpass": (False, True),
        "highpass": (False, True),
        "dropout": (0.0, 0.3, 0.5, 0.7),
        "input_dropout": (0.0, 0.2, 0.5, 0.7),
    },
    "fit": {
        "lr": (0.005, 0.01, 0.02),
        "weight_decay": (1e-4, 5e-4, 1e-3, 5e-3, 1e-2),
    },
}
"""What ``tune`` draws from, each setting on its own; everything else stays as given."""


@dataclass(frozen=True)
class Plan:
    """Settings of a fit.

    Attributes:
        network: Shape.
        fit: Training.
        scaling: Of features.
    """

    network: SheafConfig = field(default_factory=lambda: preset("").network)
    fit: FitConfig = field(default_factory=lambda: preset("").fit)
    scaling: Scaling | Literal["auto"] = "auto"


def draw_plan(plan: Plan, rng: np.random.Generator) -> Plan:
    """Settings of :data:`SPACE` at random, the rest from ``plan``."""
    drawn = {
        table: {key: values[int(rng.integers(len(values)))] for key, values in keys.items()}
        for table, keys in SPACE.items()
    }
    network = drawn["network"]
    if plan.network.maps == "connection":
        network = {k: v for k, v in network.items() if k not in ("lowpass", "highpass")}
    return replace(
        plan, network=replace(plan.network, **network), fit=replace(plan.fit, **drawn["fit"])
    )
