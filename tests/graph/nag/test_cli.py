"""``graphdiff nag search`` and ``sample --draw``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from graphdiff.cli.app import app
from graphdiff.core.errors import ArgumentError, ConfigError
from graphdiff.graph.nag.spaces import NASBench201, NASBenchMacro

RUN = CliRunner()
OWN = """
from graphdiff.graph.nag.space import SearchSpace, chain

class Little(SearchSpace):
    name = "little"
    types = ("a", "b", "c")
    choices = ((0, 1, 2),) * 4
    wiring = chain(4)

def score(arch):
    return sum(t == "c" for t in arch.types)
"""
PNG = b"\x89PNG"


def search(*words: str) -> list[str]:
    done = RUN.invoke(app, ["nag", "search", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


@pytest.mark.parametrize("method", ["random", "evolution", "local", "bananas"])
def test_an_own_space_is_searched(method: str, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    words = ("--space", f"{file}:Little", "--objective", f"{file}:score", "--method", method)
    lines = search(*words, "--budget", "30", "--out", str(tmp_path / "out"))
    assert "30 evaluated" in "\n".join(lines)
    record = json.loads((tmp_path / "out/search.json").read_text())
    assert (record["space"], record["method"], len(record["answers"])) == ("little", method, 30)
    assert all(a["value"] == a["nodes"].count("c") for a in record["answers"])
    for name in ("best.png", "curve.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(PNG)


def test_the_shipped_generator_searches(tmp_path: Path) -> None:
    """Convolutions as the objective: cells of six, in a dozen evaluations after the first ten."""
    file = tmp_path / "own.py"
    file.write_text("def score(cell):\n    return sum(t == 'nor_conv_3x3' for t in cell.types)\n")
    lines = search("--objective", f"{file}:score", "--budget", "22", "--seed", "1")
    best = float(lines[-5].split()[0])
    assert best >= 5
    space = NASBench201()
    assert space.valid(space.parse(lines[-5].split()[1]))[0]


@pytest.mark.skipif("GRAPHDIFF_DATA" not in os.environ, reason="needs the table: GRAPHDIFF_DATA")
def test_limits_are_kept(tmp_path: Path) -> None:
    words = ("--dataset", "cifar100", "--constraint", "latency:fpga<3ms", "--method", "evolution")
    search(*words, "--budget", "60", "--out", str(tmp_path))
    from graphdiff.graph.nag.space import Architectures
    from graphdiff.graph.nag.tables import load_table

    record = json.loads((tmp_path / "search.json").read_text())
    assert record["limits"] == ["latency:fpga<3"]
    table = load_table("nasbench201")
    archs = Architectures.join([table.space.read(a) for a in record["answers"]])
    assert table.value("latency:fpga", archs).max() < 3
    assert table.value("cifar100", archs).tolist() == [a["value"] for a in record["answers"]]


def refused(*words: str) -> str:
    done = RUN.invoke(app, ["nag", "search", *words])
    assert isinstance(done.exception, ArgumentError | ConfigError), done.output
    return str(done.exception)


def test_wrong_options_name_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    own = ("--space", f"{file}:Little", "--objective", f"{file}:score")
    assert "unknown method 'magic'" in refused(*own, "--method", "magic")
    assert "one of them" in refused("--space", "macro")
    assert "one of them" in refused(*own, "--dataset", "cifar10")
    assert "no generator of 'little' is shipped" in refused(*own)
    assert "the search is in 'little'" in refused(*own, "--model", "nag-nb201")
    assert "kind 'nag'" in refused(*own, "--model", "defog-qm9")
    assert "published for nasbench201 only" in refused(*own, "--method", "transfer")
    assert "has none; tables exist" in refused(*own, "--constraint", "latency<5")
    assert "budget must be at least 1" in refused(*own, "--method", "random", "--budget", "0")
    assert "unknown search space" in refused("--space", "nasbench301", "--objective", "x.py:f")


def test_samples_are_drawn_as_a_picture(tmp_path: Path) -> None:
    picture = tmp_path / "cells.png"
    words = ["sample", "nag-nb201", "-n", "4", "--draw", str(picture)]
    done = RUN.invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert picture.read_bytes().startswith(PNG)
    assert len(json.loads((tmp_path / "cells/architectures.json").read_text())) == 4
    both = RUN.invoke(app, [*words, "--picture", "x.png"])
    assert "two ways to ask" in str(both.exception)
    assert "ends in .png" in str(RUN.invoke(app, [*words[:-1], "cells.jpg"]).exception)
    assert "where to?" in str(RUN.invoke(app, words[:4]).exception)


def test_one_file_of_architectures(tmp_path: Path) -> None:
    out = tmp_path / "cells.json"
    words = ["sample", "nag-nb201", "-n", "3", "--out", str(out)]
    assert RUN.invoke(app, words, catch_exceptions=False).exit_code == 0
    space = NASBench201()
    records = json.loads(out.read_text())
    assert all(space.valid(space.read(record))[0] == record["valid"] for record in records)
    with pytest.raises(ArgumentError, match="of 'macro' with 8 nodes"):
        NASBenchMacro().read(records[0])
