"""The suite ``spe``, small: rows, checks, picture, and what is told of what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from suites import load_suite

from graphdiff.data import sources

HELD = all(sources.find([sources.card(name)["files"][0]["file"]]) for name in ("sr25", "graph8c"))


@pytest.mark.skipif(not HELD, reason="GRAPHDIFF_DATA holds no sr25 and graph8c")
def test_a_quick_run_has_rows_checks_and_a_picture(tmp_path: Path) -> None:
    suite = load_suite("spe")
    record = suite.run(True, tmp_path)
    again = suite.run(True, tmp_path)  # from the rows that are there
    assert again == record
    assert json.loads(json.dumps(record)) == record
    assert {row["encoding"] for row in record["counting"]} == set(suite.COUNTED)
    assert record["missing"] == len(suite.ABLATION)  # made on request only
    assert record["ablation"] == []
    assert all(np.isfinite(row["nmae"]) for row in record["counting"])
    assert {row["encoding"] for row in record["trivial"]} == {
        "median of training", "boosting on degrees",
    }  # fmt: skip
    assert len(record["checks"]) == 12
    assert len({tuple(row) for row in record["table"]}) == 1
    assert suite.draw(record, tmp_path / "spe.png").stat().st_size > 10_000


def test_a_missed_bar_is_reported_as_missed() -> None:
    suite = load_suite("spe")
    errors = {"none": 0.7, "signnet": 0.3, "laplacian": 0.3, "rwpe": 0.09, "spe": 0.1}
    ratios = {"signnet": 3e3, "laplacian": 3e4, "spe": 2.0}
    apart = [("graph8c", name, {"torn": 0}) for name in ("rwpe", "light-spe", "spe")]
    apart += [("sr25", name, {"not_separated": 105}) for name in ("rwpe", "spe")]
    found = {
        "counting": [{"encoding": k, "nmae_regular": v} for k, v in errors.items()],
        "csl": [{"encoding": "spe", "accuracy": 1.0}],
        "separation": [{"graphs": g, "encoding": k, **row} for g, k, row in apart],
        "stability": [
            {"graphs": "symmetric", "encoding": k, "ratio_small_max": v} for k, v in ratios.items()
        ],
    }

    def missed() -> list[str]:
        return [check["name"] for check in suite._checks(found, False) if not check["passed"]]

    assert missed() == ["counting, regular graphs: error of rwpe over that of SPE"]
    found["counting"][3]["nmae_regular"] = 0.11
    assert missed() == []
    found["csl"][0]["accuracy"] = 0.99
    found["separation"][1]["torn"] = 1
    found["separation"][4]["not_separated"] = 104
    found["stability"][0]["ratio_small_max"] = 19.0
    assert len(missed()) == 4


def test_errors_are_normalised_by_the_deviation_of_each_half() -> None:
    suite = load_suite("_spe")
    counts = np.array([[0.0] * 4, [1] * 4, [2] * 4, [11] * 4])
    half = np.array([True, False, True, False])

    class Made:
        pass

    raw = {}
    for name in ("train", "test"):
        raw[name] = Made()
        raw[name].counts, raw[name].regular = counts, half
    row = suite.normalised(np.full((4, 4), 0.5), raw)
    assert row["nmae"] == pytest.approx(0.5)
    assert row["nmae_3_regular"] == pytest.approx(0.5 * counts.std(0)[0] / 1.0)
    assert row["nmae_irregular"] == pytest.approx(0.5 * counts.std(0)[0] / 5.0)


def test_what_a_removed_edge_is_of(tmp_path: Path) -> None:
    """Symmetric graphs: rings, tori of degree four, cubes, each with one pendant node."""
    suite = load_suite("_spe")
    graphs = suite.stability_graphs("symmetric", False)
    assert len(graphs) == 32 + 4 + 3
    for graph in graphs[np.arange(32, 36)]:
        n = int(graph.num_nodes[0])
        degree = np.bincount(graph.edges.ravel(), minlength=n)
        assert sorted(set(degree.tolist())) == [1, 4, 5]


def test_degree_features_of_a_path() -> None:
    from graphdiff.data.graphs import Graphs

    found = load_suite("_spe").degree_features(Graphs.from_lists([3], [[(0, 1), (1, 2)]]))
    assert found.tolist() == [[3, 4, 6, 10, 18, 4]]
