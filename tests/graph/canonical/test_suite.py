"""The benchmark suite in its reduced form."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from suites import load_suite


@pytest.mark.skipif("GRAPHDIFF_DATA" not in os.environ, reason="needs QM9: GRAPHDIFF_DATA")
def test_the_suite_measures_and_draws(tmp_path: Path) -> None:
    suite = load_suite("canonization")
    record = suite.run(True, tmp_path)
    assert {row["part"] for row in record["table"]} >= {"complete", "stability", "apart", "genes"}
    assert all(row["copies_equal"] == 1 for row in record["complete"])
    certain = [c for c in record["checks"] if "told apart" in c["name"] or "classes" in c["name"]]
    assert certain
    assert all(check["passed"] for check in certain)
    assert suite.draw(record, tmp_path / "picture.png").stat().st_size > 10_000
