"""The page of an evaluation: complete, self-contained, escaped, and the same every time."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from graphdiff.cli.app import app
from graphdiff.data.dataset import Dataset
from graphdiff.data.graphs import Graphs
from graphdiff.data.synthetic import tree
from graphdiff.graph.metrics import evaluate_dataset, evaluate_molecules
from graphdiff.graph.metrics.histograms import Panel
from graphdiff.graph.metrics.page import render_page, write_page
from graphdiff.graph.metrics.report import Metric, Report, number

EVIL = '<script>alert("1")</script>'
VOID = {"meta", "img", "br", "line", "rect", "path", "circle"}


class Page(HTMLParser):
    """Collects tables, links and attributes; fails where tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def forest() -> tuple[Graphs, Dataset]:
    graphs = tree(30, (10, 14), seed=0)
    splits = {"train": np.arange(16), "test": np.arange(16, 30)}
    return tree(9, (10, 14), seed=1), Dataset("tree", graphs, splits)


@pytest.fixture(scope="module")
def made() -> tuple[Graphs, Dataset, Report, str]:
    raw, dataset = forest()
    result = evaluate_dataset(raw, dataset, metrics=("degree", "orbit", "pgd"), n_boot=20)
    request = {"model": EVIL, "seed": 7, "kind": "defog", "sampler": {"steps": 50}}
    info = {"network_calls_per_sample": 51, "torch": "2.13.0", "graphdiff": "0.1.0"}
    facts = {"n": 9, "dataset": "tree", "samples": {"request": request, "info": info}}
    return raw, dataset, result, render_page(raw, dataset, result, facts, count=4)


def test_every_metric_with_its_circumstances(made: tuple[Graphs, Dataset, Report, str]) -> None:
    _, _, result, text = made
    page = Page(text)
    assert [row[0] for row in page.rows[1:]] == [m.name for m in result]
    head = page.rows[0]
    for row, metric in zip(page.rows[1:], result, strict=True):
        cells = dict(zip(head, row, strict=True))
        assert cells["Value"] == number(metric.value)
        assert cells["Floor"] == number(metric.floor)
        assert cells["Resolves"] == number(metric.resolution)
        for name, span in (
            ("95 % interval", metric.interval),
            ("Floor interval", metric.floor_interval),
        ):
            assert cells[name] == (
                "" if span is None else f"{number(span[0])} to {number(span[1])}"
            )
        assert cells["n"] == str(metric.n or "")
        assert (cells["Kernel"], cells["Estimator"]) == (metric.kernel, metric.estimator)
        assert (cells["Split"], cells["Note"]) == (metric.split_hash, metric.note)
    assert {"degree", "pgd", "vun"} <= {m.name for m in result}
    words = "".join(page.text)
    for warning in result.warnings:
        assert warning in words
    assert result.warnings
    for fact in ("51", "torch 2.13.0", '{"steps": 50}', "defog", EVIL):
        assert fact in words


def test_nothing_is_loaded_and_nothing_runs(made: tuple[Graphs, Dataset, Report, str]) -> None:
    text = made[3]
    page = Page(text)
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object")
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("src") or "data:image/png;base64,").startswith("data:image/png;")
    assert "default-src 'none'" in text
    assert EVIL not in text
    assert len(text) < 2e6


def test_pictures_have_words(made: tuple[Graphs, Dataset, Report, str]) -> None:
    tags = Page(made[3]).tags
    images = [a for t, a in tags if t == "img"]
    assert images
    assert all("the first 4 generated graphs" in (a["alt"] or "") for a in images)
    drawings = [a for t, a in tags if t == "svg"]
    assert all(a.get("aria-label") or a.get("aria-hidden") for a in drawings)
    labels = " ".join(a.get("aria-label") or "" for a in drawings)
    for quantity in ("nodes", "edges", "degree", "clustering", "eigenvalue", "orbit counts"):
        assert quantity in labels
    assert "generated" in labels
    assert sum(t == "th" and a.get("scope") == "row" for t, a in tags) == len(made[2])
    style = made[3][: made[3].index("</style>")]
    assert "prefers-color-scheme:dark" in style
    assert "@media print" in style


def test_the_same_evaluation_gives_the_same_bytes(
    made: tuple[Graphs, Dataset, Report, str], tmp_path: Path
) -> None:
    raw, dataset, result, _ = made
    files = [write_page(tmp_path / n / "p.html", raw, dataset, result) for n in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_molecules_by_name_cannot_inject() -> None:
    smiles = ["CCO", "c1ccccc1", f"C{EVIL}", "C1CC1N", "not & a 'molecule'"]
    graphs = Graphs.from_lists(
        [2, 3], [[(0, 1)], [(0, 1), (1, 2)]], [[0, 1], [0, 0, 2]], [[1], [1, 1]]
    )
    splits = {"train": np.arange(1), "test": np.arange(1, 2)}
    dataset = Dataset("two", graphs, splits, ("C", "N", "O"), ["CN", "CCO"])
    result = evaluate_molecules(
        smiles, dataset, metrics=["validity_raw", "uniqueness"], floor=False
    )
    evil = Report(
        EVIL, (*result.metrics, Metric(EVIL, float("nan"), note=EVIL)), (EVIL,), {EVIL: 1}
    )
    text = render_page(smiles, dataset, evil)
    page = Page(text)
    assert "<script" not in text
    assert "".join(page.text).count(EVIL) >= 6
    labels = " ".join(a.get("aria-label") or "" for t, a in page.tags if t == "svg")
    for quantity in ("heavy atoms", "molecular weight", "logP", "QED", "size of a ring", "element"):
        assert quantity in labels


def test_panels_count() -> None:
    panel = Panel.of_values("x", {"generated": [1, 1, 2], "test": [3.0, np.nan]})
    assert panel.edges == [0.5, 1.5, 2.5, 3.5]
    assert panel.shares["generated"].tolist() == [2 / 3, 1 / 3, 0]
    assert panel.shares["test"].tolist() == [0, 0, 1]
    assert panel.summary() == "mean: generated 1.33, test 3"
    rows = {"train": np.eye(4)[[0, 3]]}
    merged = Panel.of_rows("x", rows, 0.0, 0.5, bins=2)
    assert merged.shares["train"].tolist() == [0.5, 0.5]
    assert merged.means["train"] == pytest.approx(1.0)  # bin centres .25 and 1.75
    assert merged.edges == [0.0, 1.0, 2.0]
    assert "NaN" not in Panel.of_values("x", {"generated": [2.0, 2.0]}).svg()


@pytest.mark.parametrize(
    ("options", "file"), [(["--report"], "report.html"), (["--report", "my.html"], "my.html")]
)
def test_command(
    options: list[str], file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    raw, dataset = forest()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("graphdiff.data.load", lambda name, root=None: dataset)
    raw.save(tmp_path / "g.npz")
    for words in ([*options, "g.npz"], ["g.npz", *options]):
        done = CliRunner().invoke(app, ["evaluate", *words, "--dataset", "tree", "--json"])
        assert done.exit_code == 0, done.output
        names = {m["name"] for m in json.loads(done.stdout)["metrics"]}
        assert "pgd" not in names
        text = Path(file).read_text("utf-8")
        assert {row[0] for row in Page(text).rows[1:]} == names
        Path(file).unlink()
