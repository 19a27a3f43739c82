"""The command line: output, exit codes, refusals, and going on after a stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

GRAPHDIFF = [sys.executable, "-m", "graphdiff"]


def spawn(*words: object, rc: int = 0, **options) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [*GRAPHDIFF, *map(str, words)], capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == rc, done.stdout + done.stderr
    return done


def test_help_names_every_command():
    text = spawn("--help").stdout
    for name in ("train", "sample", "evaluate", "convert", "data", "bench", "card", "demo"):
        assert name in text


def test_version(run):
    import graphdiff

    assert run("--version").stdout.strip() == graphdiff.__version__


def test_unknown_option_exits_2(run):
    assert "--nonsense" in run("sample", "x", "--nonsense", rc=2).stderr


def test_sample_json_is_only_json(run, graph_model, tmp_path):
    done = run("sample", graph_model, "-n", 5, "--seed", 2, "--out", tmp_path / "s", "--json")
    found = json.loads(done.stdout)
    assert found["request"]["n"] == 5
    assert found["request"]["seed"] == 2
    assert {Path(f).name for f in found["files"]} == {"samples.npz", "samples.graphml"}
    assert all(Path(f).is_file() for f in found["files"])
    assert json.loads((tmp_path / "s" / "samples.json").read_text())["request"] == found["request"]
    assert not (tmp_path / "s" / "parts").exists()


def test_molecules_are_written_as_smiles_and_sdf(run, molecule_model, tmp_path):
    run("sample", molecule_model, "-n", 4, "--out", tmp_path, "--picture", "p.png")
    assert len((tmp_path / "samples.smi").read_text().splitlines()) == 4
    assert (tmp_path / "samples.sdf").read_text().count("$$$$") == 4
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_shards_are_the_whole(run, graph_model, tmp_path):
    from graphdiff.data import Graphs
    from graphdiff.data.graphs import concat

    whole, parts = tmp_path / "whole", [tmp_path / "a", tmp_path / "b"]
    run("sample", graph_model, "-n", 10, "--out", whole)
    run("sample", graph_model, "-n", 10, "--count", 4, "--out", parts[0])
    run("sample", graph_model, "-n", 10, "--start", 4, "--out", parts[1])
    shards = concat([Graphs.load(p / "samples.npz") for p in parts])
    assert shards == Graphs.load(whole / "samples.npz")
    assert json.loads((parts[1] / "samples.json").read_text())["request"]["start"] == 4


def test_refuses_to_overwrite(run, graph_model, tmp_path):
    run("sample", graph_model, "-n", 2, "--out", tmp_path)
    done = run("sample", graph_model, "-n", 3, "--out", tmp_path, rc=2)
    assert "--force" in done.stderr
    assert done.stderr.count("\n") == 1, "one line, no traceback"
    run("sample", graph_model, "-n", 3, "--out", tmp_path, "--force")
    assert json.loads((tmp_path / "samples.json").read_text())["request"]["n"] == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sample", "no-such-model", "-n", 1, "--out", "o"), "no model is called 'no-such-model'"),
        (("sample", "{model}", "--out", "o"), "how many samples"),
        (("sample", "{model}", "-n", -4, "--out", "o"), "-n is -4"),
        (("sample", "{model}", "-n", 4, "--start", 3, "--count", 2, "--out", "o"), "beyond the 4"),
        (("sample", "{model}", "-n", 1, "--solver", "magic", "--out", "o"), "'magic'"),
        (("sample", "{model}", "-n", 1, "--set", "x", "--out", "o"), "expected NAME=VALUE"),
        (("sample", "{model}", "-n", 1, "--device", "warp", "--out", "o"), "'warp'"),
        (("sample", "{model}", "-n", 1, "--out", "{model}/card.json"), "cannot write into"),
        (("evaluate", "nowhere", "--dataset", "qm9"), "no such file or folder: nowhere"),
        (("evaluate", "{model}", "--dataset", "qm9"), "holds no samples.json"),
        (("evaluate", "{model}/card.json", "--dataset", "qm9"), "unknown kind of file '.json'"),
        (("train", "no-such-config", "--out", "o"), "no configuration 'no-such-config'"),
        (("train", "gdss-qm9", "--out", "o", "--set", "train.lrr=1"), "lrr: unknown key"),
        (("train", "gdss-qm9", "--out", "o", "--resume"), "no checkpoint to go on from"),
        (("train", "gdss-qm9", "--out", "o", "--resume", "--fresh"), "exclude each other"),
        (("train", "gdss-qm9", "--out", "o", "--device", "warp"), "cannot move to device 'warp'"),
        (("finetune", "m", "--out", "o", "--reward", "r", "--device", "warp"), "device 'warp'"),
        (("card", "nothing"), "no model is called 'nothing'"),
        (("bench", "warp-speed"), "no benchmark is called 'warp-speed'"),
        (("convert", "gdss", "nothing.pt", "o"), "nothing.pt"),
    ],
)
def test_mistakes_exit_2_with_one_line(run, graph_model, tmp_path, monkeypatch, words, message):
    words = [str(w).replace("{model}", str(graph_model)) for w in words]
    monkeypatch.chdir(tmp_path)
    done = run(*words, rc=2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "o" / "samples.json").exists()


def test_interrupted_sampling_goes_on(run, graph_model, tmp_path):
    """Ctrl-C after the first batches: exit 130, and the same command makes only the rest."""
    from graphdiff.data import Graphs

    # Many batches, so that a busy machine does not finish them before the signal arrives.
    words = ["sample", graph_model, "-n", "60", "--steps", "40", "--batch-size", "2"]
    out = tmp_path / "s"
    command = [*GRAPHDIFF, *map(str, words), "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(list((out / "parts").glob("*.npz"))) < 2 and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "the same command goes on" in stderr
    kept = len(list((out / "parts").glob("*.npz")))
    assert 2 <= kept < 30
    assert not (out / "samples.json").exists()

    other = run(*words, "--seed", 9, "--out", out, rc=2)
    assert "differs in seed" in other.stderr
    unfinished = run("evaluate", out, "--dataset", "community_small", rc=2)
    assert "was not finished" in unfinished.stderr
    again = run(*words, "--out", out)
    assert f"{2 * kept} of 60 samples are in" in again.stderr
    run(*words, "--out", tmp_path / "whole")
    assert Graphs.load(out / "samples.npz") == Graphs.load(tmp_path / "whole" / "samples.npz")


def test_card(run, graph_model):
    found = json.loads(run("card", graph_model, "--json").stdout)
    assert found["kind"] == "gdss"
    assert "task.data.name\tcommunity_small" in run("card", graph_model).stdout
    assert "jo2022gdss" in run("card", graph_model, "--bibtex").stdout
    assert isinstance(json.loads(run("card", "--json").stdout), dict)


def test_data_list(run):
    assert "qm9" in json.loads(run("data", "list", "--json").stdout)


def test_output_into_a_closed_pipe(run, graph_model):
    command = " ".join([*GRAPHDIFF, "card", str(graph_model), "| head -n 1"])
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=120
    )
    assert "Traceback" not in done.stderr


def test_unexpected_errors_exit_1_with_a_traceback(graph_model, tmp_path):
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    (tmp_path / "sitecustomize.py").write_text(
        "import graphdiff.model\n"
        "def load(*a, **k): raise ZeroDivisionError('a bug')\n"
        "graphdiff.model.load = load\n"
    )
    done = spawn("sample", graph_model, "-n", 1, "--out", tmp_path / "s", rc=1, env=env)
    assert "Traceback" in done.stderr
    assert "a bug" in done.stderr


def test_what_a_sampler_made_sure_of_has_a_name_of_its_own(run, tmp_path):
    """Planarity that was kept is never reported as the validity that another model earned."""
    for keep in ("any", "planar"):
        out, setting = tmp_path / keep, f"keep={keep}"
        words = ("-n", 2, "--steps", 8, "--set", setting, "--cond", "size=12", "--out", out)
        run("sample", "hspectre-planar", *words)
        run("evaluate", out, "--dataset", "planar")
        found = json.loads((out / "metrics.json").read_text())
        assert ("vun" in found) == (keep == "any")
        assert ("vun_by_construction" in found) == (keep == "planar")
        assert ("validity" in found) == (keep == "any")
