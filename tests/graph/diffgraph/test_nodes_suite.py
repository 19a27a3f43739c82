"""The rows of node classification in the suite of DiffGraph, reduced."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from graphdiff.data import sources

SUITES = Path(__file__).resolve().parents[3] / "benchmarks" / "suites"


@pytest.mark.slow
def test_rows(tmp_path, monkeypatch):
    entries = sources.card("heco-aminer")["files"]
    if not all(sources.find([entry["file"]]) for entry in entries):
        pytest.skip("GRAPHDIFF_DATA holds no heco-aminer")
    monkeypatch.syspath_prepend(str(SUITES))
    import _diffgraph_nodes as nodes

    rows = nodes.rows(True, tmp_path)
    methods = [row["method"] for row in rows]
    assert methods == [
        "majority", "label propagation", "sgc", "plain", "diffusion", "DiffGraph, its paper"
    ]  # fmt: skip
    assert len({tuple(row) for row in rows}) == 1  # one table
    assert all(row["n"] == 1000 for row in rows)
    by = {row["method"]: row for row in rows}
    assert by["label propagation"]["micro"] > by["majority"]["micro"] + 0.1
    assert by["diffusion"]["over_sgc"] == pytest.approx(
        by["diffusion"]["micro"] - by["sgc"]["micro"]
    )
    assert by["sgc"]["over_sgc"] is None
    assert nodes.checks(rows, True) == []  # no bar is set for 20 labels of AMiner
    assert {path.name for path in tmp_path.iterdir()} == {"row-nodes-public-aminer-20.json"}
    # a row that is kept is not made again
    monkeypatch.setattr(nodes, "_public", None)
    assert nodes.rows(True, tmp_path) == rows
    sys.modules.pop("_diffgraph_nodes")
