"""Model folders: whole or absent, and every damage is told apart in words."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from graphdiff.core.errors import CheckpointError
from graphdiff.train import Card, load_weights, read_card, save_model, update_metrics
from graphdiff.train.checkpoint import find_model, load_resume, update_card
from graphdiff.train.files import is_pickle

WEIGHTS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2])}
AVERAGE = {"a": torch.zeros(2, 3), "b": torch.tensor([1, 2])}
CARD = Card(kind="points", task={"width": 3}, data={"name": "ring", "n": 2}, seed=5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", WEIGHTS, CARD, AVERAGE)
    return tmp_path / "model"


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_round_trip(folder: Path) -> None:
    assert same(load_weights(folder, "weights"), WEIGHTS)
    assert same(load_weights(folder, "ema"), AVERAGE)
    assert same(load_weights(folder), AVERAGE)
    card = read_card(folder, kind="points")
    assert (card.task, card.data, card.seed) == (CARD.task, CARD.data, 5)
    assert card.files["weights.safetensors"].tensors == 2
    assert sorted(p.name for p in folder.iterdir()) == [
        "card.json", "ema.safetensors", "weights.safetensors",
    ]  # fmt: skip


def test_tensors_that_share_memory(tmp_path: Path) -> None:
    base = torch.arange(4.0)
    save_model(tmp_path / "m", {"x": base, "y": base[:2], "z": base.view(2, 2).T}, CARD)
    loaded = load_weights(tmp_path / "m")
    assert same(loaded, {"x": base, "y": base[:2], "z": base.view(2, 2).T})


def test_metrics_and_licence(folder: Path) -> None:
    update_metrics(folder, {"mmd": {"value": 0.1, "n": 10}})
    update_metrics(folder, {"nspdk": 1})
    update_card(folder, licence="CC0")
    card = read_card(folder)
    assert card.metrics == {"mmd": {"value": 0.1, "n": 10}, "nspdk": 1}
    assert card.licence == "CC0"
    with pytest.raises(CheckpointError, match="kind of a card cannot be changed"):
        update_card(folder, kind="other")
    with pytest.raises(CheckpointError, match="JSON"):
        update_metrics(folder, {"x": float("nan")})
    assert read_card(folder) == card


def test_existing_folder(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="exists already"):
        save_model(folder, WEIGHTS, CARD)
    save_model(folder, AVERAGE, CARD, overwrite=True)
    assert same(load_weights(folder), AVERAGE)
    assert [p.name for p in folder.parent.iterdir()] == ["model"]
    with pytest.raises(CheckpointError, match="no averaged weights"):
        load_weights(folder, "ema")
    with pytest.raises(CheckpointError, match="'best'"):
        load_weights(folder, "newest")


def test_the_current_folder_and_what_a_link_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, link = tmp_path / "here", tmp_path / "link"
    here.mkdir()
    link.symlink_to(here, target_is_directory=True)
    save_model(link, AVERAGE, CARD, overwrite=True)
    assert link.is_symlink()
    assert same(load_weights(here), AVERAGE)
    monkeypatch.chdir(here)
    save_model(".", WEIGHTS, CARD, overwrite=True)
    assert same(load_weights(here), WEIGHTS)
    assert {p.name for p in tmp_path.iterdir()} == {"here", "link"}


def test_no_parent_of_a_failed_write_is_changed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write the model folder"):
        save_model(tmp_path / "file" / "model", WEIGHTS, CARD)
    with pytest.raises(CheckpointError, match="not JSON serializable"):
        save_model(tmp_path / "model", WEIGHTS, Card(kind="k", task={"x": {1}}))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def pickled(path: Path) -> None:
    torch.save(WEIGHTS, path)


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (cut, "cut off"),
        (flip, "sha256"),
        (pickled, "pickle"),
        (Path.unlink, "missing"),
    ],
)
def test_damaged_weights(folder: Path, damage: Any, part: str) -> None:
    damage(folder / "ema.safetensors")
    with pytest.raises(CheckpointError, match=part):
        load_weights(folder)
    assert same(load_weights(folder, "weights"), WEIGHTS)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"format": "other"}, "found format 'other'"),
        ({"version": 2}, "found format version 2, expected 1"),
        ({"step": "many"}, "card.step"),
        ({"kindd": 1}, "card.kindd"),
        ({"files": {}}, "incomplete"),
        ({"files": {"../weights": {"bytes": 1, "sha256": "", "tensors": 1}}}, "card.files"),
    ],
)
def test_damaged_card(folder: Path, change: dict[str, Any], part: str) -> None:
    path = folder / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CheckpointError) as caught:
        load_weights(folder)
    assert part in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_card_that_is_no_card(folder: Path, text: str) -> None:
    (folder / "card.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"card\.json"):
        read_card(folder)


def test_wrong_places(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="found a model of kind 'points', expected 'image'"):
        read_card(folder, kind="image")
    with pytest.raises(CheckpointError, match="does not exist"):
        find_model(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="found nothing"):
        find_model(tmp_path / "empty")
    torch.save(WEIGHTS, tmp_path / "old.pth")
    with pytest.raises(CheckpointError, match="graphdiff convert"):
        load_weights(tmp_path / "old.pth")


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["weights.safetensors", "resume.pt"])
def test_code_in_a_file_is_never_run(folder: Path, tmp_path: Path, name: str) -> None:
    mark = tmp_path / "exploded"
    for dump in (pickle.dumps(Bomb(mark)), None):
        if dump is None:
            torch.save({"x": Bomb(mark)}, folder / name)
        else:
            (folder / name).write_bytes(dump)
        with pytest.raises(CheckpointError):
            load_resume(folder) if name == "resume.pt" else load_weights(folder, "weights")
    assert not mark.exists()


def test_header_lengths_that_look_like_pickles(tmp_path: Path) -> None:
    # 0x0280 bytes of header are stored as 80 02, which is also how a pickle of protocol 2 starts.
    from safetensors.torch import save_file

    seen = set()
    for pad in range(0, 1400, 8):
        save_file({"a": torch.zeros(1)}, tmp_path / "x", metadata={"pad": "x" * pad})
        seen.add((tmp_path / "x").read_bytes()[:2])
        assert not is_pickle(tmp_path / "x")
    assert {b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"} <= seen
