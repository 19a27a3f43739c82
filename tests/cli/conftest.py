"""Small untrained models on disk: what the command line does must not depend on their quality."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

_SUPPORT = str(Path(__file__).parents[1] / "support")
if _SUPPORT not in sys.path:
    sys.path.insert(0, _SUPPORT)


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> Callable[..., Done]:
    """The ``graphdiff`` command as its entry point runs it, but in this process: much faster."""
    from graphdiff.cli.app import main

    def call(*words: object, rc: int = 0) -> Done:
        monkeypatch.setattr(sys, "argv", ["graphdiff", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capfd.readouterr()
        assert left.value.code == rc, out + err
        return Done(rc, out, err)

    return call


def make_model(folder: Path, *, molecules: bool) -> Path:
    from graphdiff.graph.gdss import GDSSTask
    from graphdiff.train import new_card, save_model

    data = (
        {"name": "qm9", "atoms": ["C", "N", "O", "F"], "features": 4}
        if molecules
        else {"name": "community_small", "features": 3}
    )
    task = GDSSTask.from_config(
        {
            "kind": "gdss",
            "seed": 3,
            "data": {**data, "nodes": 6, "sizes": [0, 0, 0, 4, 0, 3, 3]},
            "x": {"kind": "VP", "low": 0.1, "high": 1.0},
            "adj": {"kind": "VE", "low": 0.2, "high": 1.0},
            "model": {"hidden": 8, "attention": 8, "depth": 1, "layers": 2, "linears": 1},
            "sample": {"steps": 4},
        }
    )
    card = new_card(task, data={"name": data["name"]}, citation="@misc{tiny, title={Tiny}}")
    save_model(folder, task.build().state_dict(), card)
    return folder


@pytest.fixture(scope="session")
def molecule_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny-molecules", molecules=True)


@pytest.fixture(scope="session")
def graph_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny-graphs", molecules=False)
