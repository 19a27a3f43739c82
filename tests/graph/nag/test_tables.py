"""Measured tables: look-up, files and their checksums, what the published numbers say."""

from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data import fetch as fetching
from graphdiff.data import load, sources
from graphdiff.data.fetch import fetch
from graphdiff.data.registry import architecture_names
from graphdiff.graph.nag import tables
from graphdiff.graph.nag.space import Architectures
from graphdiff.graph.nag.spaces import DAG, NASBench201, NASBenchMacro
from graphdiff.graph.nag.tables import Table, load_meta, load_table, table_names

DATA = Path(os.environ.get("GRAPHDIFF_DATA", "")) / "graphgen"


def held(name: str) -> bool:
    return all(sources.find([entry["file"]]) for entry in sources.card(name)["files"])


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not held(name), reason=f"GRAPHDIFF_DATA holds no {name}")


@pytest.fixture(scope="module")
def cells() -> Table:
    return load_table("nasbench201")


@pytest.fixture
def small() -> Table:
    space = NASBenchMacro()
    archs = space.draw(20, np.random.default_rng(0))
    noise = np.random.default_rng(1).random((3, 20))
    names = ("accuracy", "latency:cpu", "latency:gpu")
    return Table(space, archs, dict(zip(names, noise, strict=True)))


# -- look-up --------------------------------------------------------------------------------------


def test_lookup_and_values(small) -> None:
    order = np.random.default_rng(2).permutation(20)
    rows = small.lookup(small.archs[order])
    assert rows.dtype == np.int64
    assert rows.tolist() == order.tolist()
    assert (
        small.value("latency:gpu", small.archs[order]) == small.metrics["latency:gpu"][order]
    ).all()
    assert small.names == ("accuracy", "latency:cpu", "latency:gpu")
    assert len(small.lookup(small.archs[:0])) == 0


def test_what_is_not_in_the_table_is_named(small) -> None:
    every = small.space.everything()
    inside = small.has(every)
    assert inside.sum() == len(small)
    first = int(np.flatnonzero(~inside)[0])
    wanted = str(small.space.describe(every[first])["nodes"])
    with pytest.raises(ArgumentError, match=r"6541 of 6561 .* \(20 rows\)") as caught:
        small.lookup(every)
    assert wanted in str(caught.value)
    other = Architectures(small.archs.ops, small.archs.wires.copy())
    other.wires[4, 0, 5] = True  # of the right types, but not of the space
    assert small.has(other).tolist() == [k != 4 for k in range(20)]
    cell = NASBench201().draw(1, np.random.default_rng(0))
    assert not small.has(cell).any()  # eight places as well
    with pytest.raises(ArgumentError, match="expected architectures of 8 places"):
        small.lookup(Architectures(cell.ops[:, :5], cell.wires[:, :5, :5]))


def test_an_unknown_metric_lists_the_closest_first(small) -> None:
    with pytest.raises(
        ArgumentError, match=r"'latency:gpus'; it has latency:gpu, latency:cpu, acc"
    ):
        small.value("latency:gpus", small.archs)
    with pytest.raises(ArgumentError, match="it has accuracy, latency"):
        small.value("acuracy", small.archs)


def test_rows_must_be_different_and_metrics_fit(small) -> None:
    twice = Architectures.join([small.archs, small.archs[3]])
    with pytest.raises(ArgumentError, match="1 architectures occur more than once"):
        Table(small.space, twice, {})
    with pytest.raises(ArgumentError, match=r"'x' has the shape \[3\], expected \[20\]"):
        Table(small.space, small.archs, {"x": np.zeros(3)})


def test_edges_count_where_they_are_searched() -> None:
    space = DAG()
    archs = space.draw(30, np.random.default_rng(0))
    archs.ops[:] = 0  # the edges alone tell them apart
    archs = archs[np.sort(np.unique(archs.wires, axis=0, return_index=True)[1])]
    table = Table(space, archs, {"edges": archs.wires.sum((1, 2)).astype(float)})
    assert table.lookup(archs[::-1]).tolist() == list(range(len(archs)))[::-1]


# -- published numbers ----------------------------------------------------------------------------


@needs("nasbench201")
def test_nasbench201(cells) -> None:
    assert len(cells) == 15_625
    assert len(cells.names) == 3 + 27
    assert all(v.dtype == np.float64 and np.isfinite(v).all() for v in cells.metrics.values())
    assert all(v.min() > 0 for v in cells.metrics.values())
    # The optima of the benchmark and their numbers in the published order.
    best = {"cifar10": (6111, 94.37), "cifar100": (9930, 73.51), "imagenet16_120": (857, 47.31)}
    for name, (row, value) in best.items():
        assert int(cells.metrics[name].argmax()) == row
        assert round(float(cells.metrics[name].max()), 2) == value
    text = cells.space.text(cells.archs[0])
    assert text.startswith("|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+")
    every = cells.space.everything()
    assert sorted(cells.lookup(every).tolist()) == list(range(15_625))
    # A cell that computes zero guesses.
    zero = cells.space.cells(np.zeros((1, 6)))
    assert cells.value("cifar10", zero) == pytest.approx(10, abs=0.1)


@needs("nasbench201")
def test_latencies_are_in_the_order_of_the_cells(cells) -> None:
    """Convolutions take time; in another order they would not: 0.04 is five deviations of that."""
    convolutions = (cells.archs.ops[:, 1:7] == 5).sum(1)
    for name in cells.names[3:]:
        assert np.corrcoef(convolutions, cells.metrics[name])[0, 1] > 0.5, name
    with pytest.raises(ArgumentError, match="'latency:edgegpu'; it has latency:") as caught:
        cells.value("latency:edgegpu", cells.archs[:2])
    assert str(caught.value).count("latency:") == 28


@needs("nasbench-macro")
def test_macro() -> None:
    table = load_table("macro")
    assert table.names == ("cifar10", "cifar10:0", "cifar10:1", "cifar10:2", "params", "flops")
    every = table.space.everything()
    assert sorted(table.lookup(every).tolist()) == list(range(6561))
    seeds = [table.metrics[f"cifar10:{k}"] for k in range(3)]
    np.testing.assert_allclose(table.metrics["cifar10"], np.mean(seeds, 0))
    # Weights add up over layers: an identity none, and expansion 6 more than 3.
    hot = np.eye(3)[table.archs.ops][:, :, 1:].reshape(len(table), -1)
    design = np.c_[hot, np.ones(len(table))]
    weights, *_ = np.linalg.lstsq(design, table.metrics["params"], rcond=None)
    np.testing.assert_allclose(design @ weights, table.metrics["params"], atol=1e-3)
    small, large = weights[:-1].reshape(8, 2).T
    assert (small > 0).all()
    assert (large > 2 * small).all()


@needs("ofa-mobilenetv3")
def test_mobilenetv3() -> None:
    table = load_table("mobilenetv3")
    assert len(table) == 5000
    assert sum(name.startswith("latency:") for name in table.names) == 12
    assert table.space.valid(table.archs).all()
    assert set(np.unique(table.metrics["resolution"])) == set(range(128, 225, 4))
    blocks = (table.archs.ops != table.space.blank).sum(1)
    assert np.corrcoef(blocks, table.metrics["latency:v100_1"])[0, 1] > 0.8
    assert np.corrcoef(table.metrics["resolution"], table.metrics["latency:v100_64"])[0, 1] > 0.5
    assert load_table("ofa-mobilenetv3").names == table.names


@needs("nasbench201-meta")
def test_meta_triples_number_types_as_the_space_does() -> None:
    meta = load_meta()
    space = NASBench201()
    assert len(meta) == 4630
    assert space.valid(meta.archs).all()
    assert len(np.unique(meta.task)) == 3031
    # Weights: none for none, skip and pool, 9 times as many (and two for each channel of the
    # normalisation) for 3 x 3 as for 1 x 1; over the channels 16, 32, 64 of five cells each.
    kinds = np.stack([(meta.archs.ops == kind).sum(1) for kind in (3, 4, 5, 6)], 1)
    weights, *_ = np.linalg.lstsq(
        np.c_[kinds, np.ones(len(meta))], meta.costs["params"], rcond=None
    )
    skip, one, three, pool, _ = weights
    assert abs(skip) < 1e-6
    assert abs(pool) < 1e-6
    channels = np.array([16, 32, 64])
    ratio = (9 * channels**2 + 2 * channels).sum() / (channels**2 + 2 * channels).sum()
    assert three / one == pytest.approx(ratio, rel=1e-3)


@needs("nasbench201-meta")
@needs("nasbench201")
def test_meta_triples_order_places_as_the_space_does(cells) -> None:
    """Of all 720 orders of the operations this one explains the accuracies best."""
    meta = load_meta()
    code = 5 ** np.arange(6)
    row = np.empty(5**6, int)
    row[(cells.archs.ops[:, 1:7] - 2) @ code] = np.arange(5**6)
    ops = meta.archs.ops[:, 1:7].astype(int) - 2
    counts = np.stack([(ops == k).sum(1) for k in range(5)], 1).astype(float)
    basis, _ = np.linalg.qr(np.c_[counts[:, 1:], np.ones(len(ops))])

    def beyond_counts(values: np.ndarray) -> np.ndarray:
        return values - basis @ (basis.T @ values)

    target = beyond_counts(meta.accuracy)
    found = {}
    for order in itertools.permutations(range(6)):
        known = beyond_counts(cells.metrics["cifar100"][row[ops[:, order] @ code]])
        found[order] = np.corrcoef(known, target)[0, 1]
    assert max(found, key=found.get) == tuple(range(6))


# -- files ----------------------------------------------------------------------------------------


def test_unknown_names_and_missing_files(tmp_path) -> None:
    assert table_names() == ("nasbench201", "macro", "mobilenetv3")
    with pytest.raises(ArgumentError, match="there is no table 'darts': known are nasbench201"):
        load_table("darts")
    with pytest.raises(ArgumentError, match=r"call load_meta\(\)"):
        load_table("nasbench201-meta")
    for name in table_names():
        with pytest.raises(DataError, match=r"found none of .* To obtain it, .* GRAPHDIFF_DATA"):
            load_table(name, tmp_path)
    with pytest.raises(DataError, match="that graphdiff does not open"):
        load_meta(tmp_path)


@needs("nasbench-macro")
def test_a_changed_file_is_refused(tmp_path) -> None:
    entry = sources.card("nasbench-macro")["files"][0]["file"]
    data = sources.find([entry]).read_bytes()
    (tmp_path / entry).parent.mkdir()
    (tmp_path / entry).write_bytes(data.replace(b"890666", b"890667", 1))
    with pytest.raises(DataError, match=r"wrong checksum.* fetch or build it again"):
        load_table("macro", tmp_path)


def meta_like(tmp_path: Path, monkeypatch, **change) -> Path:
    """A small file of triples with its own card."""
    arrays = {
        "ops": np.array([[0, 2, 3, 4, 5, 6, 2, 1]], np.int8),
        "acc": np.array([70], np.float32),
        "task": np.array([3], np.int16),
        **{name: np.array([0.5], np.float32) for name in ("params", "flops", "latency")},
    }
    digest = hashlib.sha256(tables.array_bytes(arrays)).hexdigest()
    about = {"files": [{"file": "meta.npz", "sha256": digest}], "obtain": "make it"}
    monkeypatch.setattr(tables, "card", lambda name: about)
    np.savez(tmp_path / "meta.npz", **(arrays | change))
    return tmp_path


def test_arrays_are_checked_however_they_are_compressed(tmp_path, monkeypatch) -> None:
    root = meta_like(tmp_path, monkeypatch)
    plain = load_meta(root)
    assert plain.archs.ops.tolist() == [[0, 2, 3, 4, 5, 6, 2, 1]]
    assert plain.task.dtype == np.int64
    with np.load(root / "meta.npz") as file:
        np.savez_compressed(root / "meta.npz", **dict(file))
    assert load_meta(root).sha256 == plain.sha256
    meta_like(tmp_path, monkeypatch, acc=np.array([70.01], np.float32))
    with pytest.raises(DataError, match="wrong checksum"):
        load_meta(root)
    meta_like(tmp_path, monkeypatch, acc=np.array([70], np.float64))
    with pytest.raises(DataError, match="wrong checksum"):
        load_meta(root)


def test_pickles_and_damaged_files_are_refused(tmp_path, monkeypatch) -> None:
    root = meta_like(tmp_path, monkeypatch, ops=np.array([{}], object))
    with pytest.raises(DataError, match="holds more than plain arrays"):
        load_meta(root)
    meta_like(tmp_path, monkeypatch)
    (root / "meta.npz").write_bytes((root / "meta.npz").read_bytes()[:300])
    with pytest.raises(DataError, match=r"damaged .* obtain it again: make it"):
        load_meta(root)


def test_lists_of_numbers_are_fetched_into_one_file(tmp_path, monkeypatch) -> None:
    entries = []
    for device, values in (("a", [1.5, 2.0]), ("b", [3.0, 4.25])):
        source = tmp_path / f"{device}.pt"
        torch.save(values, source)
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        entries.append({"url": source.as_uri(), "sha256": digest, "reader": "column",
                        "file": "x/all.npz", "column": device})  # fmt: skip
    monkeypatch.setattr(fetching, "card", lambda name: {"fetch": entries})
    folder = fetch("nasbench201", tmp_path / "out")
    with np.load(folder / "x/all.npz", allow_pickle=False) as file:
        assert {key: file[key].tolist() for key in file} == {"a": [1.5, 2.0], "b": [3.0, 4.25]}
        assert file["a"].dtype == np.float32


# -- cards and commands ---------------------------------------------------------------------------


def test_cards_are_complete_and_name_their_tables() -> None:
    for name in architecture_names():
        card = sources.card(name)
        assert card["name"] == name
        assert {"title", "licence", "source", "split", "citation", "obtain", "files"} <= card.keys()
        assert ("fetch" in card) == ("graphdiff data fetch" in card["obtain"])
        with pytest.raises(ArgumentError, match=r"read it by graphdiff\.graph\.nag\.tables\.load_"):
            load(name)
    entries = sources.card("nasbench201")["fetch"]
    assert len({entry.get("column") for entry in entries}) == 28


@needs("nasbench-macro")
def test_commands_list_and_describe_tables() -> None:
    from graphdiff.cli.data import app

    listed = CliRunner().invoke(app, ["list"])
    assert all(name in listed.output for name in architecture_names())
    shown = CliRunner().invoke(app, ["info", "nasbench-macro"])
    assert shown.exit_code == 0
    assert "6561" in shown.output
    assert "metric cifar10:2" in shown.output
    assert CliRunner().invoke(app, ["info", "nasbench-macro", "--json"]).exit_code == 0
