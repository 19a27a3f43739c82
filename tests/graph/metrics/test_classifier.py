"""The classifier score as an instrument: its bound, its null, its scale, and the published one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphdiff.core.errors import ArgumentError
from graphdiff.data.synthetic import planar, tree
from graphdiff.graph.metrics import evaluate_graphs
from graphdiff.graph.metrics.classifier import _Folds, discrepancy, discrepancy_test
from graphdiff.graph.metrics.pgd import (
    discrepancy_metric,
    graph_rows,
    molecule_rows,
    published_discrepancy,
)


def normal(rng: np.random.Generator, n: int, shift: float = 0.0) -> np.ndarray:
    return rng.normal(size=(n, 3)) + np.array([shift, 0, 0])


def pair(rng: np.random.Generator, n: int, shift: float = 0.0) -> dict[str, list[np.ndarray]]:
    """Two descriptors; only the second one sees the shift."""
    return {
        "blind": [rng.normal(size=(n, 4)), rng.normal(size=(n, 4))],
        "seeing": [normal(rng, n, shift), normal(rng, n)],
    }


def js_distance(shift: float) -> float:
    """Jensen-Shannon distance (bits) of two unit normals, by quadrature."""
    x = np.linspace(-12, 12 + shift, 40001)
    p, q = (np.exp(-((x - m) ** 2) / 2) / np.sqrt(2 * np.pi) for m in (0.0, shift))
    log = [np.log2(2 * f / np.maximum(p + q, 1e-300), where=f > 0, out=0 * f) for f in (p, q)]
    return float(np.sqrt(0.5 * np.trapezoid(p * log[0] + q * log[1], x)))


def tv_distance(shift: float) -> float:
    from math import erf, sqrt

    return erf(shift / 2 / sqrt(2))


@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_the_bound_is_tight_when_the_classifier_can_be_right(shift: float) -> None:
    """The log-odds of two normals are linear, so logistic regression reaches the distance."""
    rng = np.random.default_rng(0)
    rows = pair(rng, 2000, shift)
    for bound, truth in (("js", js_distance(shift)), ("tv", tv_distance(shift))):
        found = discrepancy(rows, bound=bound, subscores=False)  # type: ignore[arg-type]
        assert set(found.chosen) == {"seeing"}
        # Four standard errors of the value, from its own bootstrap, and .01 for the fit.
        error = 4 * found.bootstrap(200, rng).std() + 0.01
        assert found.value == pytest.approx(truth, abs=error)


def test_the_bound_holds_on_average() -> None:
    """The mean of the uncut bound lies below the divergence, choice of descriptor included."""
    rng = np.random.default_rng(1)
    raw = [discrepancy(pair(rng, 24, 1.0), subscores=False).raw for _ in range(25)]
    assert np.mean(raw) <= js_distance(1.0) ** 2 + 3 * np.std(raw) / np.sqrt(len(raw))


def test_equal_laws_score_zero_and_disjoint_ones_one() -> None:
    rng = np.random.default_rng(2)
    assert discrepancy(pair(rng, 400)).value < 0.12  # js .014 bits: below two per cent of a bit
    far = discrepancy(pair(rng, 100, 60.0))
    # 150 graphs are fitted to, so D stays 1/300 away from certainty: sqrt(1 + log2(1 - 1/300)).
    assert far.value == pytest.approx(np.sqrt(1 + np.log2(1 - 1 / 300)), abs=1e-9)
    assert discrepancy(pair(rng, 100, 60.0), bound="tv").value == 1.0


@pytest.mark.parametrize("classifier", ["logistic", "boosting"])
def test_monotone_in_the_share_of_foreign_graphs(classifier: str) -> None:
    rng = np.random.default_rng(3)
    n, values = 160, []
    theirs = normal(rng, n)
    ours, foreign = normal(rng, n), normal(rng, n, 4.0)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        k = round(share * n)
        rows = {"x": [np.concatenate([foreign[:k], ours[k:]]), theirs]}
        values.append(discrepancy(rows, classifier=classifier, subscores=False).value)
    assert np.all(np.diff(values) > 0)
    assert values[0] < 0.2
    assert values[-1] > 0.85  # the distance itself is .92


def test_p_values_under_the_null_are_uniform_or_larger() -> None:
    rng = np.random.default_rng(4)
    n, draws, level = 25, 9, 0.1
    found = [
        discrepancy_test({"x": [normal(rng, 10), normal(rng, 14)]}, draws, folds=3, seed=i)[0]
        for i in range(n)
    ]
    # A binomial count; 8 is exceeded with probability .0005 at level .1.
    assert sum(p <= level for p in found) <= 8
    assert np.mean(found) > 0.5 - 3.3 * np.sqrt(1 / 12 / n)
    p, null = discrepancy_test(pair(rng, 30, 2.0), 19, seed=1)
    assert p == 1 / 20
    assert null.shape == (19,)


def test_a_classifier_that_sees_what_it_is_judged_on_finds_a_difference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The mutation that cross-fitting guards against."""
    rng = np.random.default_rng(5)
    rows = {"x": [rng.normal(size=(24, 60)), rng.normal(size=(24, 60))]}
    assert discrepancy(rows).value < 0.3

    def leaking(self: _Folds, name: str, without: tuple[int, ...]) -> np.ndarray:
        x = self.rows[name]
        out = np.isin(self.fold, without)
        return self.make(x.shape[1]).fit(x, self.y).decision_function(x[out])

    monkeypatch.setattr(_Folds, "odds", leaking)
    assert discrepancy(rows).value > 0.6


def test_sizes_need_not_be_equal_and_units_do_not_matter() -> None:
    rng = np.random.default_rng(6)
    rows = {"x": [normal(rng, 300, 1.5), normal(rng, 40)]}
    odd = {"x": [1e4 * r + 7 for r in rows["x"]]}
    found = discrepancy(rows)
    assert found.value == pytest.approx(discrepancy(odd).value, abs=1e-4)  # solver tolerance
    assert found.value == pytest.approx(js_distance(1.5), abs=4 * found.bootstrap(99, rng).std())
    constant = {"x": [np.ones((20, 2)), np.ones((20, 2))]}
    assert discrepancy(constant).value == 0.0


def test_mistakes_are_named() -> None:
    rows = {"x": [np.zeros((9, 1)), np.zeros((9, 1))]}
    for options, text in (
        ({"classifier": "oracle"}, "unknown classifier"),
        ({"bound": "kl"}, "bound must be"),
        ({"folds": 2}, "folds must be at least 3"),
        ({"folds": 5}, "too few for 5 folds: give at least 10"),
    ):
        with pytest.raises(ArgumentError, match=text):
            discrepancy(rows, **options)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="no descriptor"):
        discrepancy({})
    with pytest.raises(ArgumentError, match="sizes differ"):
        discrepancy({**rows, "y": [np.zeros((9, 1)), np.zeros((10, 1))]})
    metric = discrepancy_metric({"x": [np.zeros((5, 1)), np.zeros((9, 1))]})
    assert np.isnan(metric.value)
    assert "at least 8" in metric.note


def test_row_of_a_report() -> None:
    ours, theirs, train = tree(20, (12, 12), seed=0), planar(20, (12, 12), seed=1), None
    train = planar(30, (12, 12), seed=2)
    report = evaluate_graphs(ours, theirs, train, metrics=("degree", "pgd"), n_boot=20)
    metric = report["pgd"]
    assert metric.value > 0.95
    assert metric.interval is not None
    assert metric.floor is not None
    assert metric.floor < 0.5 < metric.interval[0]
    assert (metric.n, metric.n_reference) == (20, 20)
    assert "folds; alone: degree" in metric.note
    again = evaluate_graphs(ours, theirs, train, metrics=("degree", "pgd"), n_boot=20)
    assert again["pgd"] == metric


def test_molecules() -> None:
    from rdkit import Chem

    chains = [Chem.MolFromSmiles("C" * n) for n in range(2, 14)]
    rings = [Chem.MolFromSmiles("c1ccccc1" + "O" * (n % 2) + "C" * n) for n in range(12)]
    rows = molecule_rows(chains, rings, chemnet=False)
    assert set(rows) == {"fingerprint", "properties"}
    # One mistake among twelve (half a bit less two) leaves a score of .85.
    assert discrepancy(rows, folds=3).value > 0.8


def test_published_program() -> None:
    """The published program with the same classifier on the same descriptors."""
    program = pytest.importorskip("polygraph.metrics.base.polygraphdiscrepancy")
    from sklearn.linear_model import LogisticRegression

    ours, theirs = tree(30, (12, 16), seed=0), planar(30, (12, 16), seed=1)
    mixed = ours[np.arange(26)].to_networkx() + planar(4, (12, 16), seed=2).to_networkx()
    from graphdiff.data.graphs import Graphs

    names = ("degree", "clustering", "orbit")
    packed = {"ours": Graphs.from_networkx(mixed), "theirs": theirs}
    rows = graph_rows(names, packed["ours"], packed["theirs"])
    made = {name: _Table(rows[name]) for name in names}
    for bound, variant in (("js", "jsd"), ("tv", "informedness")):
        score = program.PolyGraphDiscrepancy(
            range(30), {k: v.reset() for k, v in made.items()}, variant, LogisticRegression()
        ).compute(range(30))
        value, chosen, alone = published_discrepancy(rows, LogisticRegression, bound)  # type: ignore[arg-type]
        # The solver stops at a gradient of 1e-4.
        assert value == pytest.approx(score["pgd"], abs=1e-3)
        assert alone == pytest.approx(score["subscores"], abs=1e-3)
        assert chosen == score["pgd_descriptor"]
        assert 0 < max(alone.values()) < 1  # the comparison is of something


class _Table:
    """A descriptor of the published program that looks rows up: reference first, then ours."""

    def __init__(self, rows: list[np.ndarray]) -> None:
        self.rows = rows
        self.reset()

    def reset(self) -> _Table:
        self.parts = iter([self.rows[1], self.rows[0]])
        return self

    def __call__(self, graphs: Any) -> np.ndarray:
        return next(self.parts)
