"""``graphdiff fit sheaf`` and ``graphdiff predict`` on a user's own folder."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from planted import NAMES, planted, write, write_folder

FAST = ("--set", "network.hidden=8", "--set", "fit.epochs=40", "--threads", 1)


@pytest.fixture(scope="session")
def web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph like WebKB that no config names; some pages have no label."""
    edges, x, y = planted(150, 200, 5, seed=1)
    y = np.where(np.arange(150) % 15 == 4, -1, y)
    return write_folder(tmp_path_factory.mktemp("web") / "campus", edges, x, y)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_fit_and_predict_beat_the_majority(run, web, tmp_path):
    model, out = tmp_path / "model", tmp_path / "predictions.csv"
    done = run("fit", "sheaf", "--data", web, "--out", model, "--splits", 2, *FAST)
    assert "150 nodes" in done.stderr
    assert "unlabelled: 10" in done.stderr
    told = json.loads((model / "report.json").read_text())
    rows = {row["method"]: row for row in told["rows"]}
    assert set(rows) == {
        "sheaf", "identity sheaf", "majority", "label-propagation", "mlp", "gcn",
    }  # fmt: skip
    assert rows["sheaf"]["test"] > rows["majority"]["test"] + 0.15
    # Of two splits some differences may be equal by chance: then there is no test.
    assert any(row["p"] is not None for row in told["rows"])
    assert rows["sheaf"]["n"] == 2
    assert (model / "report.png").read_bytes().startswith(b"\x89PNG")
    text = (model / "report.md").read_text()
    assert "| identity sheaf |" in text
    assert "--splits 2" in text

    run("predict", model, "--data", web, "--out", out)
    found = rows_of(out)
    assert [row["id"] for row in found] == [row["id"] for row in rows_of(web / "features.csv")]
    assert list(found[0]) == ["id", "class", *(f"p_{name}" for name in NAMES)]
    truth = {row["id"]: row["label"] for row in rows_of(web / "labels.csv")}
    assert len(truth) == 140
    hits = np.mean([row["class"] == truth[row["id"]] for row in found if row["id"] in truth])
    assert hits > 0.6
    for row in found:
        shares = [float(row[f"p_{name}"]) for name in NAMES]
        assert sum(shares) == pytest.approx(1, abs=1e-4)
        assert NAMES[int(np.argmax(shares))] == row["class"]


@pytest.fixture(scope="session")
def model(web: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fitted") / "model"
    words = ["fit", "sheaf", "--data", web, "--out", out, "--splits", 1, "--no-baselines",
             "--split", "random:60/20/20", *FAST]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "graphdiff", *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return out


def test_another_graph_with_the_same_words(run, model, tmp_path):
    other = write_folder(tmp_path / "other", *planted(90, 200, 5, seed=2))
    done = run("predict", model, "--data", other, "--out", tmp_path / "p.csv", "--json")
    found = json.loads(done.stdout)
    assert found["nodes"] == found["labelled"] == 90
    assert sum(found["counts"].values()) == 90
    assert found["accuracy"] > 0.5
    assert "shares nodes with the training graph" in found["notes"][0]
    told = run("predict", model, "--data", other, "--out", tmp_path / "p.csv", "--force").stdout
    assert f"{found['accuracy']:.3f} (if this graph shares nodes" in told
    narrow = write_folder(tmp_path / "narrow", *planted(90, 50, 5, seed=2))
    done = run("predict", model, "--data", narrow, "--out", tmp_path / "q.csv", rc=2)
    assert "50 features, the model was trained with 200" in done.stderr
    assert not (tmp_path / "q.csv").exists()


def test_classes_that_the_model_does_not_know(run, model, tmp_path):
    other = write_folder(tmp_path / "other", *planted(90, 200, 5, seed=2))
    rows = rows_of(other / "labels.csv")

    def predicted(names: dict[str, str]) -> tuple[dict, str]:
        lines = [[row["id"], names.get(row["label"], row["label"])] for row in rows]
        write(other / "labels.csv", [["id", "label"], *lines])
        words = ("predict", model, "--data", other, "--out", tmp_path / "p.csv", "--force")
        return json.loads(run(*words, "--json").stdout), run(*words).stdout

    plain, _ = predicted({})
    some, told = predicted({"student": "pupil"})
    pupils = sum(row["label"] == "student" for row in rows)
    assert pupils > 0
    assert f"{pupils} nodes are of classes the model does not know" in told
    assert "pupil" in told
    assert some["accuracy"] <= plain["accuracy"]
    none, told = predicted({name: f"the {name}" for name in NAMES})
    assert "accuracy" not in none
    assert "no accuracy: the model knows none of the classes" in told
    assert "accuracy on the" not in told


def test_accuracy_is_not_given_on_the_very_data_of_the_training(run, model, web, tmp_path):
    words = ("--out", tmp_path / "p.csv", "--force", "--json")
    assert "accuracy" not in json.loads(run("predict", model, "--data", web, *words).stdout)
    changed = shutil.copytree(web, tmp_path / "changed")
    rows = [[row["id"], row["label"]] for row in rows_of(web / "labels.csv")]
    rows[0][1] = next(name for name in NAMES if name != rows[0][1])
    write(changed / "labels.csv", [["id", "label"], *rows])
    found = json.loads(run("predict", model, "--data", changed, *words).stdout)
    assert found["labelled"] == len(rows)
    assert "seen their labels" in found["notes"][0]


def test_pages_without_words_in_another_order(run, web, tmp_path):
    """Without features a model knows a page by its id, wherever it stands in the files."""
    bare = shutil.copytree(web, tmp_path / "bare")
    (bare / "features.csv").unlink()
    model = tmp_path / "m"
    run("fit", "sheaf", "--data", bare, "--out", model, "--splits", 1, "--no-baselines", *FAST)

    def classes(folder: Path, rc: int = 0):
        out = tmp_path / "p.csv"
        done = run("predict", model, "--data", folder, "--out", out, "--force", rc=rc)
        return done, {row["id"]: row["class"] for row in rows_of(out)}

    _, first = classes(bare)
    for name in ("edges.csv", "labels.csv"):
        lines = (bare / name).read_text().splitlines()
        (bare / name).write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")
    _, second = classes(bare)
    assert second == first
    assert list(second) != list(first)
    with (bare / "edges.csv").open("a") as file:
        file.write("new-1,new-2\n")
    done, _ = classes(bare, rc=2)
    assert "known by their ids alone; bare has other ids" in done.stderr


def test_predict_overwrites_on_request_only(run, model, web, tmp_path):
    out = tmp_path / "p.csv"
    out.write_text("mine")
    assert "--force" in run("predict", model, "--data", web, "--out", out, rc=2).stderr
    assert out.read_text() == "mine"
    run("predict", model, "--data", web, "--out", out, "--force")
    assert len(rows_of(out)) == 150
    assert "is a folder" in run("predict", model, "--data", web, "--out", tmp_path, rc=2).stderr
    (tmp_path / "notes.txt").write_text("mine")
    under = tmp_path / "notes.txt" / "p.csv"
    assert "cannot write" in run("predict", model, "--data", web, "--out", under, rc=2).stderr
    assert (tmp_path / "notes.txt").read_text() == "mine"
    warp = ("predict", tmp_path / "no-model", "--data", web, "--out", tmp_path / "q.csv")
    assert "device 'warp'" in run(*warp, "--device", "warp", rc=2).stderr


def test_card_shows_it_and_sample_refuses(run, model, tmp_path):
    card = json.loads(run("card", model, "--json").stdout)
    assert card["kind"] == "sheaf"
    assert card["task"]["classes"] == list(NAMES)
    assert card["metrics"]["test_accuracy"]["n"] > 0
    assert "test_accuracy" in run("card", model).stdout
    assert "bodnar2022sheaf" in run("card", model, "--bibtex").stdout
    done = run("sample", model, "-n", 1, "--out", tmp_path / "s", rc=2)
    assert "graphdiff predict" in done.stderr


def test_json_is_only_json(run, web, tmp_path):
    done = run(
        "fit", "sheaf", "--data", web, "--out", tmp_path / "m", "--splits", 1, "--json",
        "--no-baselines", "--tune", 1, "--set", "fit.epochs=3",
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert done.stderr == ""
    assert [row["method"] for row in found["rows"]] == ["sheaf", "sheaf, not tuned"]
    assert all(Path(file).is_file() for file in found["files"])
    assert [f["probe"] for f in found["probes"]] == [
        "duplicates", "same neighbours", "label in features", "overlap", "shuffled labels",
    ]  # fmt: skip


def test_out_is_not_overwritten(run, web, model, tmp_path):
    words = ("fit", "sheaf", "--data", web, "--splits", 1, "--no-baselines", "--set",
             "fit.epochs=2")  # fmt: skip
    copy = shutil.copytree(model, tmp_path / "copy")
    assert "--force" in run(*words, "--out", copy, rc=2).stderr
    run(*words, "--out", copy, "--force")
    assert json.loads((copy / "card.json").read_text())["train"]["epochs"] == 2
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.tex").write_text("years of work")
    assert "holds other files" in run(*words, "--out", other, "--force", rc=2).stderr
    assert (other / "chapter.tex").read_text() == "years of work"


def test_out_may_be_the_folder_one_is_in(run, web, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    done = run("fit", "sheaf", "--data", web, "--out", ".", "--splits", 1, "--no-baselines",
               "--set", "fit.epochs=2", "--json")  # fmt: skip
    files = [Path(file) for file in json.loads(done.stdout)["files"]]
    assert all(file.is_file() and file.parent == here.resolve() for file in files)
    assert {p.name for p in here.iterdir()} == {file.name for file in files}
    assert "made anew" in done.stderr


def test_the_model_is_kept_whatever_the_report_does(run, web, tmp_path, monkeypatch):
    from graphdiff.graph.sheaf.comparison import Comparison

    def broken(self):
        raise ZeroDivisionError

    monkeypatch.setattr(Comparison, "rows", broken)
    with pytest.raises(ZeroDivisionError):
        run("fit", "sheaf", "--data", web, "--out", tmp_path / "m", "--splits", 1,
            "--no-baselines", "--set", "fit.epochs=2")  # fmt: skip
    from graphdiff.graph.sheaf.classifier import SheafClassifier

    assert SheafClassifier.load(tmp_path / "m").about.classes == NAMES


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "network.stalks=4"), "did you mean 'stalk'"),
        (("--set", "network.dropout=1.5"), "less than 1"),
        (("--set", "scaling=wide"), "scaling"),
        (("--split", "public"), "comes without splits"),
        (("--split", "random:90/20/20"), "add up to 100"),
        (("--device", "warp"), "cannot move to device 'warp'"),
    ],
)
def test_mistakes_cost_one_line(run, web, tmp_path, words, message):
    done = run("fit", "sheaf", "--data", web, "--out", tmp_path / "m", *words, rc=2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "m" / "card.json").exists()


def test_data_without_labels_or_without_a_graph(run, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    write(bare / "edges.csv", [["a", "b"], ["b", "c"]])
    done = run("fit", "sheaf", "--data", bare, "--out", tmp_path / "m", rc=2)
    assert "add a labels.csv" in done.stderr
    assert "unknown graph" in run("fit", "sheaf", "--data", "web", "--out", bare, rc=2).stderr


def test_own_splits_and_a_split_without_test_nodes(run, web, tmp_path):
    names = [row["id"] for row in rows_of(web / "labels.csv")]
    parts = ["train" if k % 3 else "val" for k in range(len(names))]
    file = write(tmp_path / "mine.csv", [["id", "split"], *zip(names, parts, strict=True)])
    out = tmp_path / "m"
    run("fit", "sheaf", "--data", web, "--split", file, "--out", out, *FAST, "--set",
        "fit.epochs=5")  # fmt: skip
    rows = json.loads((out / "report.json").read_text())["rows"]
    assert all(row["test"] is None and row["val"] > 0 for row in rows)
    assert (out / "report.png").is_file()


def test_a_leak_is_told(run, web, tmp_path):
    leaky = shutil.copytree(web, tmp_path / "leaky")
    truth = {row["id"]: NAMES.index(row["label"]) for row in rows_of(web / "labels.csv")}
    with (web / "features.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    write(leaky / "features.csv", [[*row, truth.get(row[0], 0)] for row in lines])
    done = run("fit", "sheaf", "--data", leaky, "--out", tmp_path / "m", "--splits", 1,
               "--no-baselines", "--set", "fit.epochs=2")  # fmt: skip
    assert "warning: label in features" in done.stderr


def test_ctrl_c_keeps_the_best_weights(web, tmp_path):
    out = tmp_path / "m"
    words = ["fit", "sheaf", "--data", web, "--out", out, "--set", "fit.epochs=100000",
             "--set", "fit.patience=100000", "--threads", 1]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "graphdiff", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ},
    )  # fmt: skip
    for line in process.stderr:
        if line.startswith("fitting"):
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    text, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "best weights so far are kept" in errors
    assert "sheaf" in text
    told = json.loads((out / "report.json").read_text())
    assert told["stopped"]
    assert told["runs"][0]["epochs"] >= 1
    from graphdiff.graph.sheaf.classifier import SheafClassifier

    assert SheafClassifier.load(out).about.classes == NAMES
