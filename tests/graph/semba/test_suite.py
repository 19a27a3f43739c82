"""The benchmark suite, reduced."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

SUITE = Path(__file__).resolve().parents[3] / "benchmarks" / "suites" / "semba.py"


def test_suite_runs_and_draws(tmp_path) -> None:
    spec = importlib.util.spec_from_file_location("suite_semba", SUITE)
    suite = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(suite)
    record = json.loads(json.dumps(suite.run(True, tmp_path)))
    assert {row["method"] for row in record["table"]} == set(suite.METHODS)
    assert {row["task"] for row in record["tasks"]} == {"signlink", "weight"}
    for row in record["signs"]:
        assert row["n"] > 0
        assert 0 <= row["auc"] <= 1
    strict = [check for check in record["checks"] if "strict" in check["name"]]
    assert [check["value"] for check in strict] == [0.5]
    assert suite.draw(record, tmp_path / "p.png").stat().st_size > 5000
