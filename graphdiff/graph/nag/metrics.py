r"""Validity, uniqueness and novelty of generated architectures.

``unique`` is the share of different encodings among the valid, and ``novel`` the share of the valid
whose encoding is no training example, as the literature counts them; ``unique_cells`` counts
isomorphic architectures once. The floors are what ``n`` independent uniform members of the space
would give: of ``N`` members they hold :math:`N (1 - (1 - 1/N)^n) / n` different ones, and no
generator of independent samples holds more.
"""

from __future__ import annotations

import hashlib

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.metrics.intervals import wilson
from graphdiff.graph.metrics.report import Metric, Report
from graphdiff.graph.nag.problem import names
from graphdiff.graph.nag.space import Architectures, SearchSpace

__all__ = ["architecture_metrics"]


def architecture_metrics(
    space: SearchSpace, samples: Architectures, training: Architectures | None = None
) -> Report:
    """Shares with Wilson intervals.

    Args:
        space: The space.
        samples: Generated ones, valid or not.
        training: What the generator was trained on, for novelty.

    Raises:
        ArgumentError: There are no samples.
    """
    n = len(samples)
    if not n:
        raise ArgumentError("there are no architectures to evaluate; draw some first")
    good = space.valid(samples)
    valid = samples[good]
    told, kept = names(valid), int(good.sum())
    size = space.size
    limit = None if size is None or not kept else size * (1 - (1 - 1 / size) ** kept) / kept

    def share(name: str, hits: int, of: int, population: str, floor: float | None = None) -> Metric:
        return Metric(
            name, hits / of if of else float("nan"), "higher", of, population=population,
            estimator="proportion, Wilson interval", interval=wilson(hits, of), floor=floor,
        )  # fmt: skip

    metrics = [
        share("valid", kept, n, "raw", 1.0),
        share("unique", len(set(told)), kept, "valid", limit),
        share("unique_cells", len({space.key(one) for one in valid}), kept, "valid"),
    ]
    info: dict[str, object] = {"space": space.name, "size": size}
    if training is not None:
        known = set(names(training))
        floor = None if size is None else 1 - len(known) / size
        novel = sum(name not in known for name in told)
        metrics.append(share("novel", novel, kept, "valid", floor))
        info["training_sha256"] = hashlib.sha256(b"".join(sorted(known))).hexdigest()
    return Report(f"architectures of {space.name}", tuple(metrics), info=info)
