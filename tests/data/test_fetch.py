from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
import zipfile

import networkx as nx
import pytest

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data import fetch as fetching
from graphdiff.data import sources
from graphdiff.data.fetch import fetch, read_networkx_pickle
from graphdiff.data.graphs import Graphs
from graphdiff.data.qm9 import from_package


def offer(monkeypatch, tmp_path, data: bytes, **entry) -> dict:
    """A card whose only file lies on this disk, at a file address."""
    source = tmp_path / "original"
    source.write_bytes(data)
    item = {"url": source.as_uri(), "sha256": hashlib.sha256(data).hexdigest(), **entry}
    monkeypatch.setattr(fetching, "card", lambda name: {"fetch": [item]})
    return item


def test_plain_file_with_progress(monkeypatch, tmp_path) -> None:
    offer(monkeypatch, tmp_path, b"abc" * 200_000, file="x/a.txt")
    seen = []
    folder = fetch(
        "grid", tmp_path / "out", progress=lambda done, total: seen.append((done, total))
    )
    assert (folder / "x/a.txt").read_bytes() == b"abc" * 200_000
    assert seen[-1] == (600_000, 600_000)
    assert len(seen) > 1


def test_wrong_checksum_leaves_no_file(monkeypatch, tmp_path) -> None:
    offer(monkeypatch, tmp_path, b"abc", file="a.txt")["sha256"] = "0" * 64
    with pytest.raises(DataError, match="wrong checksum"):
        fetch("grid", tmp_path / "out")
    assert not (tmp_path / "out" / "a.txt").exists()


def test_unreachable_address_and_unknown_name(monkeypatch, tmp_path) -> None:
    item = offer(monkeypatch, tmp_path, b"abc", file="a.txt")
    item["url"] = (tmp_path / "gone").as_uri()
    with pytest.raises(DataError, match=r"cannot download file:.*GRAPHDIFF_DATA"):
        fetch("grid", tmp_path / "out")
    with pytest.raises(ArgumentError, match="unknown data set 'x'"):
        fetch("x")


def test_tar_becomes_gz(monkeypatch, tmp_path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("zinc.txt")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"CC\n"))
    offer(monkeypatch, tmp_path, buffer.getvalue(), reader="tar", file="z.smi.gz")
    folder = fetch("zinc250k", tmp_path / "out")
    assert gzip.decompress((folder / "z.smi.gz").read_bytes()) == b"CC\n"


def test_networkx_pickle(monkeypatch, tmp_path) -> None:
    graphs = {"train": [nx.path_graph(4), nx.grid_2d_graph(2, 3)], "test": [nx.cycle_graph(5)]}
    files = {"train": "p_train.npz", "test": "p_test.npz"}
    offer(monkeypatch, tmp_path, pickle.dumps(graphs), reader="networkx", files=files)
    folder = fetch("planar", tmp_path / "out")
    for split, file in files.items():
        assert Graphs.load(folder / file) == Graphs.from_networkx(graphs[split])


class _Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_pickled_code_does_not_run(capsys) -> None:
    with pytest.raises(DataError, match=r"builtins\.print is not allowed"):
        read_networkx_pickle(pickle.dumps([_Evil()]))
    with pytest.raises(DataError, match="cannot be read safely"):
        read_networkx_pickle(pickle.dumps([nx.path_graph(4)])[:-20])
    assert capsys.readouterr().out == ""


def test_qm9_is_built_from_a_wheel(tmp_path) -> None:
    wheel = tmp_path / "qm9pack.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("qm9pack/data/qm9_part2.csv", 'XYZ_file,Index,SMILES\nb,3,"O"\n')
        archive.writestr("qm9pack/data/qm9_part1.csv", 'XYZ_file,Index,SMILES\na,1,"C"\n')
    lines = from_package(wheel).decode().split("\n")
    assert lines[:4] == ["C", "", "O", ""]
    assert len(lines) == 133_886
    wheel.write_bytes(wheel.read_bytes()[:40])
    with pytest.raises(DataError, match="not the wheel of qm9pack"):
        from_package(wheel)


def test_addresses_are_pinned_and_checked() -> None:
    for name in ("zinc250k", "ego_small", "enzymes", "planar", "tree", "sbm", "comm20", "grid"):
        for entry in sources.card(name)["fetch"]:
            assert entry["url"].startswith("https://")
            assert len(entry["sha256"]) == 64
            assert entry.get("reader", "plain") in fetching._READERS
