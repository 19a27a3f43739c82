"""Every statistic of the synthetic benchmarks against the published program, where installed.

``pip install synthetic-graph-benchmarks`` brings SPECTRE's evaluation without graph-tool. It adds
1e-6 to the sums that normalise histograms and lets rounding decide the bin of an eigenvalue on the
edge of two, hence the tolerances.
"""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest

from graphdiff.data.graphs import Graphs, concat
from graphdiff.data.synthetic import planar
from graphdiff.graph.metrics import evaluate_graphs
from graphdiff.graph.metrics.validity import is_lobster, judge

METRICS = ("degree", "clustering", "orbit", "spectral", "wavelet")


@pytest.fixture(scope="module")
def program() -> Any:
    return pytest.importorskip("synthetic_graph_benchmarks.spectre_utils")


@pytest.fixture(scope="module")
def sets() -> list[Graphs]:
    bent = [nx.gnp_random_graph(24, 0.2, seed=i) for i in range(4)]
    sample = concat([planar(6, (16, 30), seed=1), Graphs.from_networkx(bent)])
    return [sample, planar(9, (20, 26), seed=2), planar(12, (20, 26), seed=3)]


def published_score(program: Any, name: str, test: list[nx.Graph], ours: list[nx.Graph]) -> float:
    if name == "wavelet":
        (values, vectors), (mine, other) = map(program.compute_list_eigh, (test, ours))
        return program.spectral_filter_stats(vectors, values, other, mine)
    functions = {
        "degree": program.degree_stats, "clustering": program.clustering_stats,
        "orbit": program.orbit_stats_all, "spectral": program.spectral_stats,
    }  # fmt: skip
    return functions[name](test, ours)


def test_scores_and_ratio(program: Any, sets: list[Graphs]) -> None:
    plain = [g.to_networkx() for g in sets]
    report = evaluate_graphs(
        *sets, metrics=METRICS, kernel="gaussian_tv", isolated=True, ratio=True, floor="full",
        n_boot=2,
    )  # fmt: skip
    ours, base = {}, {}
    for name in METRICS:
        ours[name] = published_score(program, name, plain[1], plain[0])
        base[name] = published_score(program, name, plain[1], plain[2])
        assert report[name].value == pytest.approx(ours[name], abs=5e-5)
        assert report[name].floor == pytest.approx(base[name], abs=5e-5)
    ratio = program.compute_ratios(ours, base, list(METRICS))["average_ratio"]
    # The rounding of the denominators may differ in the fourth decimal.
    assert report["ratio"].value == pytest.approx(ratio, rel=0.02)


def test_fractions(program: Any, sets: list[Graphs]) -> None:
    sample, _, train = sets
    many = concat([sample, sample[2:5], train[:4]])
    found = judge(many, train, "planar")
    plain = many.to_networkx()
    want = program.eval_fraction_unique_non_isomorphic_valid(
        plain, train.to_networkx(), program.is_planar_graph
    )
    assert found.unique.mean() == pytest.approx(want[0])
    assert (found.unique & found.novel).mean() == pytest.approx(want[1])
    assert found.all.mean() == pytest.approx(want[2])
    assert found.valid.mean() == pytest.approx(program.eval_acc_planar_graph(plain))
    assert (~found.novel).mean() == pytest.approx(
        program.eval_fraction_isomorphic(plain, train.to_networkx())
    )


def test_lobsters(program: Any) -> None:
    rng = np.random.default_rng(0)
    trees = [nx.from_prufer_sequence(rng.integers(0, 14, 12).tolist()) for _ in range(80)]
    found = is_lobster(Graphs.from_networkx(trees))
    assert found.tolist() == [program.is_lobster_graph(t) for t in trees]
    assert 0 < found.sum() < 80
