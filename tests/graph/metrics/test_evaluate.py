"""Whole evaluations: names, populations, floors, intervals, and the published anchors."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from graphdiff.core.errors import ArgumentError
from graphdiff.data.dataset import Dataset
from graphdiff.data.graphs import Graphs
from graphdiff.graph.metrics import evaluate_graphs, evaluate_molecules, molecular
from graphdiff.graph.metrics.intervals import centred, wilson
from graphdiff.graph.molecules import QM9_ATOMS, pack_smiles

SMILES = [
    "C", "N", "O", "CC", "CO", "CN", "CCO", "CCN", "C=C", "C#N", "CC=O", "NC=O", "C1CC1", "C1CO1",
    "CC(C)O", "CC(=O)N", "OCCO", "C1CCC1", "c1ccccc1", "c1cc[nH]c1", "c1ccncc1", "Cc1ccccc1",
    "C1CC2CC1C2", "C1CC2CCC1C2", "C1CC2OC2C1", "c1ccc2[nH]ccc2c1", "FC(F)F", "NCC(=O)O", "CC#CC",
    "C1CC2CC2C1", "OC1CC2CC1C2", "O=C1CCC1", "CC1CO1", "CCCC", "CCCCC", "CC(C)C", "COC", "CCOCC",
]  # fmt: skip
GENERATED = ["CCO", "CCO", "C1CC2CC1C2", "CCCCN", "c1ccccc1", "CC=O.O", "C1CC2OC2C1", "OCC(F)F"]
FAST = ("validity_raw", "connected_raw", "validity_corrected", "uniqueness", "novelty", "nspdk",
        "snn", "scaffold", "int_div")  # fmt: skip


def pack(smiles: list[str]) -> Graphs:
    arrays, failed = pack_smiles(smiles, QM9_ATOMS)
    assert not failed
    arrays.pop("kept")
    return Graphs(**arrays)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    index = np.arange(len(SMILES))
    splits = {"train": index[index % 2 == 0], "test": index[index % 2 == 1]}
    return Dataset("tiny", pack(SMILES), splits, QM9_ATOMS, SMILES)


@pytest.fixture(scope="module")
def raw() -> Graphs:
    good = pack(GENERATED)
    # A carbon with five bonds: only correction makes it a molecule.
    bad = Graphs.from_lists([3], [[(0, 1), (0, 2)]], [[0, 0, 0]], [[3, 2]])
    from graphdiff.data.graphs import concat

    return concat([good, bad])


def test_values_of_a_known_sample(raw: Graphs, dataset: Dataset) -> None:
    report = evaluate_molecules(raw, dataset, metrics=FAST, n_boot=50)
    assert report["validity_raw"].value == pytest.approx(8 / 9)
    assert report["connected_raw"].value == pytest.approx(7 / 9)
    assert report["validity_corrected"].value == 1.0
    assert report["uniqueness"].value == pytest.approx(8 / 9)
    train = set(dataset.split_smiles("train"))
    table = ["CCO", "C1CC2CC1C2", "c1ccccc1", "CC=O", "C1CC2OC2C1"]
    old = sum(s in train for s in table)
    assert report["novelty"].value == pytest.approx(1 - old / 8)
    for metric in report:
        low, high = metric.interval
        assert low <= metric.value + 1e-12
        assert metric.value <= high + 1e-12
    assert report["nspdk"].floor is not None
    assert report["nspdk"].floor_interval is not None
    assert report["nspdk"].split_hash == dataset.fingerprint("test")["sha256"][:16]
    assert any("rough" in w for w in report.warnings)


def test_valid_population_leaves_the_corrected_out(raw: Graphs, dataset: Dataset) -> None:
    report = evaluate_molecules(
        raw, dataset, metrics=("uniqueness", "snn"), population="valid", floor=False
    )
    assert report["uniqueness"].n == 8
    assert report["uniqueness"].value == pytest.approx(7 / 8)
    assert report["snn"].floor is None


def test_a_copy_of_the_reference_scores_as_one(dataset: Dataset) -> None:
    report = evaluate_molecules(dataset.split_smiles("test"), dataset, metrics=FAST, n_boot=20)
    assert report["nspdk"].value == pytest.approx(0.0, abs=1e-12)
    assert report["snn"].value == pytest.approx(1.0)
    assert report["scaffold"].value == pytest.approx(1.0)
    assert math.isnan(report["validity_corrected"].value)
    assert "SMILES" in report["validity_corrected"].note
    copy = evaluate_molecules(dataset.split_smiles("train"), dataset, metrics=("novelty",))
    assert copy["novelty"].value == 0.0


def test_fcd_and_its_score(
    raw: Graphs, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("fcd_torch")
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path))
    names = ("fcd", "fcd_score")
    first = evaluate_molecules(raw, dataset, metrics=names, n_boot=5)
    assert first["fcd_score"].value == pytest.approx(math.exp(-0.2 * first["fcd"].value))
    held = list(tmp_path.rglob("chemnet-*.npz"))
    assert len(held) == 2
    second = evaluate_molecules(raw, dataset, metrics=names, n_boot=5)
    assert second["fcd"].value == pytest.approx(first["fcd"].value, rel=1e-6)
    for path in held:
        path.write_bytes(b"damaged")
    third = evaluate_molecules(raw, dataset, metrics=names, n_boot=5)
    assert third["fcd"].value == pytest.approx(first["fcd"].value, rel=1e-6)


def test_without_the_weights_fcd_is_left_out_aloud(
    raw: Graphs, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphdiff.graph.metrics.fcd.available", lambda: False)
    report = evaluate_molecules(raw, dataset, metrics=("validity_raw", "fcd"))
    assert "fcd" not in report
    assert any("pip install fcd-torch" in w for w in report.warnings)


def test_similarities_equal_rdkit() -> None:
    from rdkit import Chem, DataStructs
    from rdkit.Chem import rdFingerprintGenerator

    mols = [Chem.MolFromSmiles(s) for s in SMILES]
    maker = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    bits = [maker.GetFingerprint(m) for m in mols]
    full = np.asarray([DataStructs.BulkTanimotoSimilarity(b, bits) for b in bits])
    x = molecular.fingerprints(mols)
    np.testing.assert_allclose(
        molecular.nearest_similarity(x[:9], x[9:], batch=4), full[:9, 9:].max(1), atol=1e-6
    )
    np.testing.assert_allclose(molecular.mean_similarity(x, batch=7), full.mean(1), atol=1e-6)


def test_skeletons_separate_and_match() -> None:
    one = molecular._skeletons(pack(["CCO", "OCC", "CCN", "C1=CC=CC=C1", "C1CCCCC1"]))
    assert one[0] == one[1] != one[2]
    assert one[3] == one[4]  # bond orders are ignored: resonance forms must not differ


def test_report_is_strict_json_and_prints(raw: Graphs, dataset: Dataset) -> None:
    report = evaluate_molecules(raw, dataset, metrics=("validity_raw", "scaffold"), n_boot=10)
    plain = json.loads(report.to_json())
    assert [m["name"] for m in plain["metrics"]] == ["validity_raw", "scaffold"]
    assert "validity_raw" in report.table()
    with pytest.raises(ArgumentError, match="no metric 'validity'"):
        report["validity"]


def test_bad_requests(raw: Graphs, dataset: Dataset) -> None:
    with pytest.raises(ArgumentError, match="unknown molecule metric 'validity'"):
        evaluate_molecules(raw, dataset, metrics=("validity",))
    with pytest.raises(ArgumentError, match="no molecules to evaluate"):
        evaluate_molecules([], dataset)
    with pytest.raises(ArgumentError, match="empty"):
        evaluate_graphs(Graphs.empty(), raw)
    with pytest.raises(ArgumentError, match="unknown kernel preset"):
        evaluate_graphs(raw, raw, kernel="tv")
    with pytest.raises(ArgumentError, match="unknown graph metric"):
        evaluate_graphs(raw, raw, metrics=("size",))


def test_graphs_against_themselves(raw: Graphs) -> None:
    report = evaluate_graphs(raw, raw, raw, isolated=True, n_boot=20)
    for metric in report:
        assert metric.value == pytest.approx(0.0, abs=1e-12)
        assert metric.floor_interval[1] > 0  # a resample of this size is not the sample


def test_matched_floor_is_the_mean_score_of_training_draws() -> None:
    rng = np.random.default_rng(0)
    import networkx as nx

    def draw(n: int) -> Graphs:
        graphs = [nx.gnp_random_graph(8, 0.4, seed=int(s)) for s in rng.integers(0, 10**6, n)]
        return Graphs.from_lists([8] * n, [list(g.edges) for g in graphs])

    train, test = draw(150), draw(60)
    report = evaluate_graphs(draw(12), test, train, metrics=("degree",), n_boot=400, isolated=True)
    floor = report["degree"]
    again = {"metrics": ("degree",), "n_boot": 1, "isolated": True}
    fresh = [evaluate_graphs(draw(12), test, **again)["degree"].value for _ in range(80)]
    error = np.std(fresh) / np.sqrt(len(fresh))
    assert abs(np.mean(fresh) - floor.floor) < 5 * error
    assert np.mean([floor.floor_interval[0] <= v <= floor.floor_interval[1] for v in fresh]) > 0.85


def test_wilson_and_centred_intervals() -> None:
    from scipy.stats import binomtest

    for k, n in ((0, 10), (3, 17), (50, 50), (949, 1000)):
        want = binomtest(k, n).proportion_ci(method="wilson")
        assert wilson(k, n) == pytest.approx((want.low, want.high), abs=1e-12)
    assert wilson(0, 0) is None
    draws = np.random.default_rng(0).normal(5.0, 1.0, 4000)
    low, high = centred(1.0, draws, low=0.0)
    assert low == 0.0
    assert high == pytest.approx(2.96, abs=0.1)


DATA = os.environ.get("GRAPHDIFF_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="GRAPHDIFF_DATA is not set")


def published(name: str) -> Graphs:
    found = sorted(Path(str(DATA)).rglob(f"{name}.npz"))
    if not found:
        pytest.skip(f"{name}.npz is not under GRAPHDIFF_DATA")
    return Graphs.load(found[0])


@needs_data
@pytest.mark.parametrize(
    ("name", "want"),
    [("community_small", (0.0034, 0.0092, 0.0010)), ("ego_small", (0.0142, 0.0273, 0.0044))],
)
def test_known_floors_of_the_gdss_splits(name: str, want: tuple[float, ...]) -> None:
    graphs = published(f"gdss_{name}")
    cut = len(graphs) // 5
    names = ("degree", "clustering", "orbit")
    report = evaluate_graphs(
        graphs[:cut], graphs[:cut], graphs[cut:], metrics=names, floor="full", n_boot=10
    )
    assert [m.floor for m in report] == pytest.approx(want, abs=6e-5)


@needs_data
def test_published_planar_numbers() -> None:
    train, test = published("planar_train"), published("planar_test")
    found = sorted(Path(str(DATA)).rglob("generated_planar_adj_matrices.npz"))
    if not found:
        pytest.skip("the published planar samples are not under GRAPHDIFF_DATA")
    with np.load(found[0]) as held:
        sample = Graphs.from_dense(np.stack([held[k] for k in held.files]))
    report = evaluate_graphs(sample, test, train, kernel="gaussian_tv", floor="full", n_boot=10)
    # Training-set rows of SPECTRE's and DiGress' tables: .0002, .0310, .0005, .0038.
    assert [m.floor for m in report] == pytest.approx((0.0002, 0.0310, 0.0005, 0.0038), abs=6e-5)
    assert report["degree"].value == pytest.approx(0.00062, abs=2e-5)


@pytest.mark.slow
@needs_data
def test_published_molecules() -> None:
    """QM9 samples of DiGress: 99.21 % valid, 96.88 % unique (its table: 99.0, 96.2)."""
    from graphdiff.data import load
    from graphdiff.graph.read_samples import read_samples

    found = sorted(Path(str(DATA)).rglob("final_smiles_qm9_noH.txt"))
    if not found:
        pytest.skip("the published molecules are not under GRAPHDIFF_DATA")
    names = ("validity_raw", "uniqueness")
    report = evaluate_molecules(read_samples(found[0]), load("qm9"), metrics=names, floor=False)
    assert report["validity_raw"].value == pytest.approx(0.9921, abs=5e-5)
    assert report["uniqueness"].value == pytest.approx(0.9688, abs=5e-5)
    assert report["validity_raw"].resolution < 0.003
