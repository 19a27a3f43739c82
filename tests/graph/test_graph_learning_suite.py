"""The suite of all suites, reduced: every system runs, and a failing one is a missed check."""

from __future__ import annotations

import os

import pytest
from suites import load_suite


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("GRAPHDIFF_DATA"), reason="GRAPHDIFF_DATA names no folder of data sets"
)
def test_every_system_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_BENCH_WORK", str(tmp_path))
    suite = load_suite("graph_learning")
    record = suite.run(True, tmp_path)
    assert {row["system"] for row in record["table"]} == set(suite.SYSTEMS)
    assert not [check for check in record["checks"] if check["name"].endswith(": runs")]
    for system, kept, left in (
        ("stable", "stable", "nothing told"),
        ("diffgraph", "diffusion and source", "one step, no noise"),
        ("semba", "semba + history", "semba + history, 1,000 late"),
        ("canonization", "GC-GNN", "genes"),
    ):
        assert left in record["systems"][system]["left_out"]
        rows = record["systems"][system]["table"]
        shown = {row[key] for row in rows for key in ("method", "part") if key in row}
        assert kept in shown
        assert not [name for name in shown if left in name]
    assert suite.draw(record, tmp_path / "all.png").stat().st_size > 10_000


def test_a_suite_that_fails_is_a_missed_check(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_BENCH_WORK", str(tmp_path))
    suite = load_suite("graph_learning")
    monkeypatch.setattr(suite, "SYSTEMS", ("no-such-suite",))
    record = suite.run(True, tmp_path)
    failed = record["checks"][0]
    assert not failed["passed"]
    assert "no-such-suite" in failed["name"] + failed["value"]
