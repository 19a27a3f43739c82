"""DiffGraph: recommendation and node classification by latent diffusion between relations.

``table`` is recommendation (see ``_diffgraph_recommend``), ``nodes`` is node classification (see
``_diffgraph_nodes``).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import _diffgraph_nodes
import _diffgraph_recommend
from _kept import extras, work_folder

TITLE = "Latent diffusion between relations (DiffGraph): recommendation and node classification"
EXTRA = (*_diffgraph_recommend.EXTRA, *_diffgraph_nodes.EXTRA)
SHOWN = (
    "data", "method", "seeds", "users", "calls", "updates", "recall", "recall_low", "recall_high",
    "ndcg", "ndcg_low", "ndcg_high", "recall_over", "recall_p", "ndcg_over", "ndcg_p",
    "unseen_recall", "unseen_ndcg",
)  # fmt: skip


def run(quick: bool, out: Path) -> dict[str, Any]:
    """All tables; rows that are in the work folder already are not measured again."""
    folder = out if quick else work_folder("diffgraph")
    found = _diffgraph_recommend.rows(quick, folder)
    nodes = [] if quick else _diffgraph_nodes.rows(quick, folder)
    return {
        "table": [{name: row[name] for name in SHOWN} for row in found],
        "recommendation": found,
        "nodes": nodes,
        "left_out": [] if extras() else list(EXTRA),
        "checks": [
            *_diffgraph_recommend.checks(found, quick),
            *(_diffgraph_nodes.checks(nodes, quick) if nodes else []),
        ],
        "reported": _diffgraph_recommend.REPORTED,
    }


def draw(record: dict[str, Any], path: Path) -> Path:
    """NDCG@20 of each method with its interval over users, a panel for each data set."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = record["recommendation"]
    names = list(dict.fromkeys(row["data"] for row in rows))
    height = 0.3 * max(sum(row["data"] == name for row in rows) for name in names) + 1.2
    figure, axes = plt.subplots(1, len(names), figsize=(5.6 * len(names), height), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        own = [row for row in rows if row["data"] == name][::-1]
        for k, row in enumerate(own):
            for shift, prefix, colour in ((0.12, "", "C0"), (-0.12, "unseen_", "C1")):
                ends = [row[f"{prefix}ndcg_low"], row[f"{prefix}ndcg_high"]]
                axis.plot(ends, [k + shift] * 2, color=colour, lw=1.5)
                axis.plot(row[f"{prefix}ndcg"], k + shift, "o", color=colour, ms=3.5)
        axis.set_yticks(range(len(own)), [row["method"] for row in own], fontsize=8)
        axis.set_xlabel("NDCG@20 (blue: bought masked, orange: all seen masked)", fontsize=8)
        axis.set_title(f"{name}, {own[0]['users']:,} users", fontsize=9)
        axis.set_xlim(left=0)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
