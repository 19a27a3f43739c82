"""Rows of a comparison: which intervals and tests belong to which runs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from planted import planted
from scipy.stats import binomtest

from graphdiff.core.errors import DataError
from graphdiff.data.nodes import NodeData, Split, random_splits
from graphdiff.graph.evaluate import paired, summary
from graphdiff.graph.evaluate.training import FitConfig
from graphdiff.graph.sheaf import SheafConfig
from graphdiff.graph.sheaf.comparison import SHEAF, Comparison, Run
from graphdiff.graph.sheaf.fitting import compare
from graphdiff.graph.sheaf.plan import Plan
from graphdiff.graph.sheaf.report import markdown, table_rows

FEW = Plan(SheafConfig(stalk=2, hidden=8), FitConfig(epochs=3))


def graph() -> NodeData:
    edges, x, y = planted(120, 80, 3, 0)
    return NodeData.of("planted", edges, x, y)


def run(method: str, split: int, hits: int | None, n: int = 20) -> Run:
    right = np.arange(n if hits is not None else 0) < (hits or 0)
    return Run(method, split, 0.5, None if hits is None else hits / n, right, 1, 0.1)


def by_method(found: Comparison) -> dict[str, dict]:
    return {row["method"]: row for row in found.rows()}


def test_a_method_with_one_split_of_several_is_not_tested():
    """As after Ctrl-C in the second split."""
    found = Comparison("accuracy", 0.4, [run(SHEAF, 0, 15), run("mlp", 0, 10), run("gcn", 0, 9)])
    assert all(row["low"] is not None for row in found.rows())
    assert by_method(found)["mlp"]["p"] is not None
    found.runs += [run(SHEAF, 1, 17), run("mlp", 1, 11)]
    rows = by_method(found)
    assert found.over == "splits"
    both = paired([15 / 20, 17 / 20], [10 / 20, 11 / 20], 0.4)
    assert (rows["mlp"]["p"], rows["mlp"]["p_holm"]) == pytest.approx((both.p, both.p))
    assert rows["gcn"]["difference"] == pytest.approx(6 / 20)
    empty = ("low", "high", "difference_low", "difference_high", "p", "p_holm")
    assert all(rows["gcn"][key] is None for key in empty)
    assert rows[SHEAF]["low"] == pytest.approx(summary([15 / 20, 17 / 20]).low)


@pytest.mark.parametrize("empty", [0, 1])
def test_splits_without_test_nodes_are_not_scored(empty):
    hits = [14, 14]
    hits[empty] = None
    runs = [run(name, k, h and h - less) for k, h in enumerate(hits)
            for less, name in enumerate((SHEAF, "mlp"))]  # fmt: skip
    found = Comparison("accuracy", 0.4, runs)
    row = by_method(found)["mlp"]
    assert found.over == "test nodes"
    assert row["n"] == 2
    assert row["test"] == 13 / 20
    bounds = binomtest(13, 20).proportion_ci()
    assert (row["low"], row["high"]) == pytest.approx((bounds.low, bounds.high))
    assert row["p"] == 1.0


def test_equal_differences_have_neither_interval_nor_test():
    runs = [run(name, k, h + k) for k in range(2) for name, h in ((SHEAF, 15), ("mlp", 12))]
    found = Comparison("accuracy", 0.4, runs)
    row = by_method(found)["mlp"]
    assert row["difference"] == pytest.approx(3 / 20)
    assert row["p"] is row["p_holm"] is row["difference_low"] is row["difference_high"] is None
    json.dumps(found.rows(), allow_nan=False)
    assert table_rows(found)[1][-3:] == ("", "", "")
    assert "all differences are equal" in markdown(graph(), found, [], "graphdiff fit sheaf")


def test_overlap_is_that_of_splits_with_test_nodes():
    data = graph()
    first, second = random_splits(data.labels, 2)
    bare = Split(first.train, first.val, first.test[:0])
    found = compare(data, [bare, second], FEW, baselines=False)
    assert found.overlap == pytest.approx(second.overlap)
    assert by_method(found)[SHEAF]["test"] == found.of(SHEAF)[1].test
    assert compare(data, [bare], FEW, baselines=False).overlap == 0


def test_all_splits_are_checked_before_the_first_training():
    data = graph()
    good = random_splits(data.labels, 1)[0]
    labels, seen = data.labels.clone(), []
    labels[good.val[0]] = -1
    bare = NodeData.of("bare", data.edges, data.features, labels)
    outside = Split(good.train, good.val, torch.tensor([120]))
    tell = lambda *a: seen.append(a)  # noqa: E731
    with pytest.raises(DataError, match="no label"):
        compare(bare, [good.without(good.val[:1]), good], FEW, progress=tell)
    with pytest.raises(DataError, match="node 120"):
        compare(data, [good, outside], FEW, progress=tell)
    no_two = Split(good.train, good.val[data.labels[good.val] != 2], good.test)
    area = Plan(FEW.network, FitConfig(epochs=3, select="roc_auc"))
    with pytest.raises(DataError, match="validation part of a split has no node of class 2"):
        compare(data, [good, no_two], area, progress=tell)
    assert not seen
